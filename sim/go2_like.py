"""A quadruped with the published dimensions, masses, limits and motors of the Unitree Go2, made of primitive geoms.

Figures: go2_description.urdf in github.com/unitreerobotics/unitree_ros (link masses, centres of mass, inertias, joint
origins and limits, effort and velocity limits); rotor inertia and joint friction from the Go2 of MuJoCo Menagerie
(armature 0.01 kg m2, friction 0.2 N m); gains kp 40, kd 1 from StairMaster, arXiv 2606.25765.

What deviates: each leg has a capsule for the thigh, one for the calf and a sphere for the foot, and the base one box
and a sphere for the head, because every further geom costs in each contact test. The robot does not collide with
itself. Joint damping, which is not published, is 0.1 N m s/rad and randomised. Unitree publishes no continuous torque:
``CONTINUOUS_SHARE`` of the peak is our assumption.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np

from ros_attn.sim.robot import BODY_GROUP, Robot

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = tuple(f"{leg}_{part}_joint" for leg in LEGS for part in ("hip", "thigh", "calf"))
CONTINUOUS_SHARE = 1 / 3
"""Of the peak torque, what a motor of this kind bears for minutes; ours."""

_HIP_X, _HIP_Y, _THIGH_Y, _LINK = 0.1934, 0.0465, 0.0955, 0.213
_FOOT_RADIUS = 0.022
_LIMITS = {
    "hip": (-1.0472, 1.0472),
    "front_thigh": (-1.5708, 3.4907),
    "rear_thigh": (-0.5236, 4.5379),
    "calf": (-2.7227, -0.83776),
}
_TORQUE = {"hip": 23.7, "thigh": 23.7, "calf": 35.55}
_SPEED = {"hip": 30.1, "thigh": 30.1, "calf": 20.07}
_POSE = {"hip": 0.0, "thigh": 0.9, "calf": -1.8}

# Mass [kg], centre of mass [m], and ixx iyy izz ixy ixz iyz [kg m2] of the front left leg; signs mirror for the others.
_BASE = (6.921, (0.021112, 0.0, -0.005366), (0.02448, 0.098077, 0.107, 0.00012166, 0.0014849, -3.12e-05))
_HIP = (0.678, (-0.0054, 0.00194, -0.000105), (0.00048, 0.000884, 0.000596, -3.01e-06, 1.11e-06, -1.42e-06))
_THIGH = (1.152, (-0.00374, -0.0223, -0.0327), (0.00584, 0.0058, 0.00103, 8.72e-05, -0.000289, 0.000808))
_CALF = (0.154, (0.00548, -0.000975, -0.115), (0.00108, 0.0011, 3.29e-05, 3.4e-07, 1.72e-05, 8.28e-06))
_FOOT_MASS = 0.04

_Inertia = tuple[float, tuple[float, float, float], tuple[float, float, float, float, float, float]]


def _inertial(body: mujoco.MjsBody, figures: _Inertia, x: float = 1.0, y: float = 1.0) -> None:
    """Mass and inertia, mirrored by the signs ``x`` and ``y``."""
    mass, centre, (ixx, iyy, izz, ixy, ixz, iyz) = figures
    body.mass = mass
    body.ipos = [x * centre[0], y * centre[1], centre[2]]
    body.fullinertia = [ixx, iyy, izz, x * y * ixy, x * ixz, y * iyz]
    body.explicitinertial = True


def _geom(body: mujoco.MjsBody, name: str, kind: mujoco.mjtGeom, **attributes: object) -> None:
    body.add_geom(
        name=name, type=kind, mass=0, group=BODY_GROUP, contype=0, conaffinity=1, condim=3, friction=[0.8, 0.02, 0.01],
        rgba=[0.25, 0.27, 0.3, 1.0], **attributes,
    )  # fmt: skip


def specification() -> mujoco.MjSpec:
    """The robot alone, base at the origin with a free joint; geoms collide with what has contype 1."""
    spec = mujoco.MjSpec()
    spec.modelname = "go2_like"
    spec.compiler.degree = False
    # Feet become parts of the calves: a body less a leg to test for contacts.
    spec.compiler.fusestatic = True
    base = spec.worldbody.add_body(name="base", pos=[0, 0, 0])
    base.add_freejoint(name="floating_base")
    _inertial(base, _BASE)
    _geom(base, "base", mujoco.mjtGeom.mjGEOM_BOX, size=[0.1881, 0.04675, 0.057])
    _geom(base, "head", mujoco.mjtGeom.mjGEOM_SPHERE, pos=[0.29, 0.0, -0.02], size=[0.06, 0, 0])
    base.add_site(name="imu", pos=[-0.02557, 0.0, 0.04232])
    for leg in LEGS:
        _leg(base, leg)
    return spec


def _leg(base: mujoco.MjsBody, leg: str) -> None:
    front, left = leg[0] == "F", leg[1] == "L"
    x, y = (1.0 if front else -1.0), (1.0 if left else -1.0)
    hip = base.add_body(name=f"{leg}_hip", pos=[x * _HIP_X, y * _HIP_Y, 0])
    _inertial(hip, _HIP, x, y)
    _joint(hip, leg, "hip", (1, 0, 0), _LIMITS["hip"])
    thigh = hip.add_body(name=f"{leg}_thigh", pos=[0, y * _THIGH_Y, 0])
    _inertial(thigh, _THIGH, 1.0, y)
    _joint(thigh, leg, "thigh", (0, 1, 0), _LIMITS["front_thigh" if front else "rear_thigh"])
    _geom(thigh, f"{leg}_thigh", mujoco.mjtGeom.mjGEOM_CAPSULE, size=[0.017, 0, 0], fromto=[0, 0, -0.02, 0, 0, -0.19])
    calf = thigh.add_body(name=f"{leg}_calf", pos=[0, 0, -_LINK])
    _inertial(calf, _CALF, 1.0, y)
    _joint(calf, leg, "calf", (0, 1, 0), _LIMITS["calf"])
    # The published calf is bent forward: 120 mm from the knee, then 65 mm to above the foot.
    _geom(calf, f"{leg}_calf", mujoco.mjtGeom.mjGEOM_CAPSULE, size=[0.012, 0, 0], fromto=[0, 0, 0, 0.021, 0, -0.165])
    foot = calf.add_body(name=f"{leg}_foot", pos=[0, 0, -_LINK])
    sphere = 0.4 * _FOOT_MASS * _FOOT_RADIUS**2
    _inertial(foot, (_FOOT_MASS, (0.0, 0.0, 0.0), (sphere, sphere, sphere, 0.0, 0.0, 0.0)))
    _geom(foot, f"{leg}_foot", mujoco.mjtGeom.mjGEOM_SPHERE, pos=[-0.002, 0, 0], size=[_FOOT_RADIUS, 0, 0])
    foot.add_site(name=f"{leg}_foot", pos=[-0.002, 0, 0])
    calf.add_site(name=f"{leg}_shank", pos=[0.014, 0, -0.1])


def _joint(body: mujoco.MjsBody, leg: str, part: str, axis: tuple[int, int, int], limits: tuple[float, float]) -> None:
    body.add_joint(
        name=f"{leg}_{part}_joint", type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis, range=limits, limited=True,
        armature=0.01, damping=[0.1, 0, 0], frictionloss=0.2,
    )  # fmt: skip


def _each(figures: dict[str, float]) -> np.ndarray:
    return np.array([figures[joint.split("_")[1]] for joint in JOINTS])


GO2_LIKE = Robot(
    name="Go2",
    specification=specification,
    joints=JOINTS,
    default_pose=_each(_POSE),
    position_limits=np.array([
        _LIMITS[part if part != "thigh" else "front_thigh" if leg[0] == "F" else "rear_thigh"]
        for leg, part, _ in (joint.split("_") for joint in JOINTS)
    ]),
    velocity_limits=_each(_SPEED),
    torque_limits=_each(_TORQUE),
    kp=np.full(12, 40.0),
    kd=np.full(12, 1.0),
    base="base",
    feet=tuple(f"{leg}_foot" for leg in LEGS),
    shanks=tuple(f"{leg}_calf" for leg in LEGS),
    foot_radius=_FOOT_RADIUS,
    stand_height=2 * _LINK * np.cos(0.9) + _FOOT_RADIUS,
    imu=(-0.02557, 0.0, 0.04232),
    camera=(0.33, 0.0, 0.05),
    camera_pitch=np.deg2rad(30.0),
)  # fmt: skip
