"""Robots from MJCF files in the style of MuJoCo Menagerie: the joints of any robot, and legged robots whole.

What a file says is taken as it is: masses, joint ranges, damping, and the contacts of feet. What belongs to the world
goes (floor, lights, cameras, other bodies, actuators, sensors, solver options), and so do geoms that touch nothing;
masses that came from those stay.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.robot import BODY_GROUP, Robot

Array = NDArray[np.float64]
Ids = NDArray[np.intp]
Warn = Callable[[str], object]

DEFAULT_KP, DEFAULT_KD = 40.0, 1.0
"""Of motors that are no servos, N m/rad and N m s/rad: those of StairMaster, arXiv 2606.25765."""
DEFAULT_SPEED = 20.0
"""Velocity limit of joints that the Go2 does not have, rad/s (m/s of sliding ones); MJCF has none."""
SAME_HEIGHT_M = 0.05
"""Feet end that near the lowest one in the default pose; arms do not."""

_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
_FREE = int(mujoco.mjtJoint.mjJNT_FREE)
_OF_JOINTS = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
# What the world's own geoms and motors would take from the defaults of the file's main class.
_GEOM_DEFAULTS = ("margin", "gap", "solref", "solimp", "solmix", "priority")
_MOTOR_DEFAULTS = ("gear", "ctrllimited", "ctrlrange", "dyntype", "dynprm", "actlimited", "actrange", "actdim")


@dataclass(frozen=True)
class Joints:
    """The joints of a robot that motors drive, J of them, in the order of the kinematic tree.

    ``default_pose`` [J] rad, ``position_limits`` [J, 2] rad, ``velocity_limits`` [J] rad/s, ``torque_limits`` [J] N m,
    ``kp`` [J] N m/rad and ``kd`` [J] N m s/rad; of sliding joints m, m/s, N, N/m and N s/m.
    """

    names: tuple[str, ...]
    default_pose: Array
    position_limits: Array
    velocity_limits: Array
    torque_limits: Array
    kp: Array
    kd: Array


def load_joints(path: Path | str, warn: Warn = lambda sentence: None) -> Joints:
    """The driven joints of an MJCF file, of arms as of legged robots.

    Joints that are driven through a tendon, such as those of the Panda's gripper, are left out. Pose: the keyframe
    ``home``, else the first one. Torque limits: the least of the actuator's ``forcerange``, the joint's
    ``actuatorfrcrange`` and, where the control is a torque, ``ctrlrange``. Gains: those of position servos, gears
    included, else ``DEFAULT_KP`` and ``DEFAULT_KD``. Velocity limits: those of the Go2 where all names are its own,
    else ``DEFAULT_SPEED``. ``warn`` is told what the file did not say.

    Raises ValueError where there is no such file, it does not compile, nothing is driven, a driven joint has no name,
    range, torque limit or two actuators, or there is no keyframe.
    """
    file = _file(path)
    model = _compiled(_parsed(file), file)
    return _joints(model, _driven(model, file), file, warn)


def load_robot(path: Path | str, warn: Warn = lambda sentence: None) -> Robot:
    """The legged robot of an MJCF file (robot or scene) or of a folder with one; joints as in :func:`load_joints`.

    ``base`` is the body with the free joint. A leg ends in a foot: the lowest collision sphere on a body that no joint
    follows, within ``SAME_HEIGHT_M`` of the lowest of all in the default pose. Its shank is the largest other
    collision geom between foot and last joint. The IMU is at the base's site whose name contains ``imu``, else at its
    origin. Camera: that of the Go2-like robot where all joints' names are the Go2's, else where :class:`Robot` has it.
    Geoms without a name get one from their body. The robot does not collide with itself.

    Raises ValueError as :func:`load_joints`, and where no body has a free joint and driven joints, a joint of the robot
    is not driven, or there is no foot or shank.
    """
    file = _file(path)
    spec = _parsed(file)
    model = _compiled(spec, file)
    base = _base(model, file)
    driven = {joint: actuator for joint, actuator in _driven(model, file).items() if _under(model, joint, base)}
    joints = _joints(model, driven, file, warn)
    _isolate(spec, model, base)
    alone = _compiled(spec, file)
    # In an isolated robot the base is the first body, and its joints are the only ones.
    pose = mujoco.MjData(alone)
    pose.qpos[:] = np.concatenate([(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0), joints.default_pose])
    mujoco.mj_kinematics(alone, pose)
    feet = _feet(alone, pose, file)
    shanks = [_shank(alone, foot, file) for foot in feet]
    names = _named(spec, alone, feet)
    radius = alone.geom_size[feet, 0]
    of_the_go2 = joints.names == GO2_LIKE.joints
    if not of_the_go2:
        warn(f"{file} does not say where its depth camera is; one in front of the base, level, is assumed.")
    made = Robot(
        name=spec.modelname, specification=spec.copy, joints=joints.names, default_pose=joints.default_pose,
        position_limits=joints.position_limits, velocity_limits=joints.velocity_limits,
        torque_limits=joints.torque_limits, kp=joints.kp, kd=joints.kd, base=spec.bodies[1].name,
        feet=tuple(names[foot] for foot in feet), shanks=tuple(names[shank] for shank in shanks),
        foot_radius=float(radius.max()), stand_height=float((radius - pose.geom_xpos[feet, 2]).max()),
        imu=_imu(alone, pose),
    )  # fmt: skip
    return replace(made, camera=GO2_LIKE.camera, camera_pitch=GO2_LIKE.camera_pitch) if of_the_go2 else made


# -- the file -------------------------------------------------------------------------------------------


def _file(path: Path | str) -> Path:
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"there is no {path}; give an MJCF file, or a folder with one")
    files = sorted(path.glob("*.xml"))
    if scene := [file for file in files if file.name == "scene.xml"]:
        return scene[0]
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "no .xml at all"
        raise ValueError(f"the folder {path} has no scene.xml but {found}; name the file of the robot")
    return files[0]


def _parsed(file: Path) -> mujoco.MjSpec:
    try:
        spec = mujoco.MjSpec.from_file(str(file))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as MJCF ({_in_a_line(error)}); mend it") from None
    # Bodies and geoms keep their places in the list, so that they can be found again in the model.
    spec.compiler.fusestatic = spec.compiler.discardvisual = False
    return spec


def _compiled(spec: mujoco.MjSpec, file: Path) -> mujoco.MjModel:
    try:
        return spec.compile()
    except ValueError as error:
        raise ValueError(f"{file} does not compile ({_in_a_line(error)}); mend it") from None


def _in_a_line(error: ValueError) -> str:
    return " ".join(str(error).split())


# -- joints ---------------------------------------------------------------------------------------------


def _driven(model: mujoco.MjModel, file: Path) -> dict[int, int]:
    """Actuators by the joints that they drive, in the order of the kinematic tree."""
    found: dict[int, int] = {}
    for actuator in range(model.nu):
        joint = int(model.actuator_trnid[actuator, 0])
        if model.actuator_trntype[actuator] not in _OF_JOINTS or model.jnt_type[joint] not in (_HINGE, _SLIDE):
            continue
        if joint in found:
            raise ValueError(f"{file}: joint {model.joint(joint).name} has two actuators; leave one")
        found[joint] = actuator
    if not found:
        raise ValueError(f"{file} has no actuator that drives a joint; add one for each joint, such as a motor")
    return dict(sorted(found.items()))


def _joints(model: mujoco.MjModel, driven: dict[int, int], file: Path, warn: Warn) -> Joints:
    ids = list(driven)
    names = tuple(model.joint(joint).name for joint in ids)
    for joint, name in zip(ids, names, strict=True):
        if not name:
            raise ValueError(f"{file}: driven joint {joint} has no name, by which it is commanded; give it one")
        if not model.jnt_limited[joint]:
            raise ValueError(f"{file}: joint {name} has no range, so nothing can keep a command within it; give it one")
    gains = np.array([_gains(model, actuator) for actuator in driven.values()])
    if not gains[:, 0].all():
        without = _some(names, gains[:, 0] == 0)
        warn(f"{file} has no position servos at {without}; kp {DEFAULT_KP:g} and kd {DEFAULT_KD:g} are assumed.")
    elif not gains[:, 1].all():
        warn(f"{file} has servos without damping at {_some(names, gains[:, 1] == 0)}; kd {DEFAULT_KD:g} is assumed.")
    known = dict(zip(GO2_LIKE.joints, GO2_LIKE.velocity_limits, strict=True))
    if set(names) == set(known):
        speeds = np.array([known[name] for name in names])
        warn(f"{file} gives no velocity limits, as MJCF has none; those of the Go2, whose joints' names it has, hold.")
    else:
        speeds = np.full(len(ids), DEFAULT_SPEED)
        warn(f"{file} gives no velocity limits, as MJCF has none; {DEFAULT_SPEED:g} rad/s is assumed.")
    return Joints(
        names, _home(model, file)[model.jnt_qposadr[ids]], model.jnt_range[ids].copy(), speeds,
        np.array([_torque(model, joint, actuator, file) for joint, actuator in driven.items()]),
        np.where(gains[:, 0] > 0, gains[:, 0], DEFAULT_KP), np.where(gains[:, 1] > 0, gains[:, 1], DEFAULT_KD),
    )  # fmt: skip


def _some(names: tuple[str, ...], which: NDArray[np.bool_]) -> str:
    """Words for some of the joints."""
    some = [name for name, chosen in zip(names, which, strict=True) if chosen]
    return some[0] if len(some) == 1 else f"{some[0]} and {len(some) - 1} more joints"


def _home(model: mujoco.MjModel, file: Path) -> Array:
    """qpos of the default pose."""
    if not model.nkey:
        raise ValueError(f"{file} has no keyframe, so its default pose is unknown; add one called home")
    names = [model.key(key).name for key in range(model.nkey)]
    return model.key_qpos[names.index("home") if "home" in names else 0].copy()


def _gains(model: mujoco.MjModel, actuator: int) -> tuple[float, float]:
    """kp and kd at the joint of a position servo, ``force = kp u - kp q - kd qd``; zeros where it is none."""
    gain, bias = model.actuator_gainprm[actuator], model.actuator_biasprm[actuator]
    affine = model.actuator_biastype[actuator] == int(mujoco.mjtBias.mjBIAS_AFFINE)
    if not affine or gain[0] <= 0 or not np.isclose(bias[1], -gain[0]):
        return 0.0, 0.0
    gear = model.actuator_gear[actuator, 0]
    return float(gear**2 * gain[0]), float(-(gear**2) * bias[2])


def _torque(model: mujoco.MjModel, joint: int, actuator: int, file: Path) -> float:
    """The most that an actuator gives in its weaker direction, at the joint."""
    gear = abs(model.actuator_gear[actuator, 0])
    limits = []
    if model.actuator_forcelimited[actuator]:
        limits.append(gear * np.abs(model.actuator_forcerange[actuator]).min())
    if model.jnt_actfrclimited[joint]:
        limits.append(np.abs(model.jnt_actfrcrange[joint]).min())
    of_control = model.actuator_biastype[actuator] == int(mujoco.mjtBias.mjBIAS_NONE)
    if of_control and model.actuator_ctrllimited[actuator]:
        limits.append(
            gear * abs(model.actuator_gainprm[actuator, 0]) * np.abs(model.actuator_ctrlrange[actuator]).min()
        )
    if not limits or not min(limits) > 0:
        raise ValueError(
            f"{file}: joint {model.joint(joint).name} has no torque limit to both sides; give its actuator a forcerange"
        )
    return float(min(limits))


# -- the body -------------------------------------------------------------------------------------------


def _base(model: mujoco.MjModel, file: Path) -> int:
    driven = _driven(model, file)
    free = [int(model.jnt_bodyid[joint]) for joint in range(model.njnt) if model.jnt_type[joint] == _FREE]
    for body in free:
        own = [joint for joint in range(model.njnt) if _under(model, joint, body) and model.jnt_type[joint] != _FREE]
        if not any(joint in driven for joint in own):
            continue
        for joint in own:
            if joint not in driven:
                raise ValueError(
                    f"{file}: joint {model.joint(joint).name or joint} has no actuator of its own, and a legged robot "
                    "needs one at every joint; add a motor or weld it"
                )
        return body
    raise ValueError(
        f"{file} is no legged robot, as no body with a free joint has joints that are driven; give a quadruped's file"
    )


def _under(model: mujoco.MjModel, joint: int, body: int) -> bool:
    return model.body_rootid[model.jnt_bodyid[joint]] == body


def _isolate(spec: mujoco.MjSpec, model: mujoco.MjModel, base: int) -> None:
    """Leave the robot alone in ``spec``, all its geoms collision geoms of ``BODY_GROUP``; ``model``: what it was."""
    bodies = list(spec.bodies)
    for index, body in enumerate(bodies):
        body.name = body.name or f"body_{index}"
        # Else a mass that came from a geom would go with it.
        if model.body_mass[index] > 0:
            body.mass, body.ipos, body.iquat = model.body_mass[index], model.body_ipos[index], model.body_iquat[index]
            body.inertia, body.fullinertia = model.body_inertia[index], np.full(6, np.nan)
            body.ialt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
            body.explicitinertial = True
    spec.compiler.inertiafromgeom = int(mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO)
    spec.compiler.settotalmass = -1.0
    world = spec.worldbody
    gone = [*spec.actuators, *spec.sensors, *spec.keys, *spec.pairs, *spec.lights, *spec.cameras, *world.geoms]
    gone += [*world.sites, *(body for body in world.bodies if body.name != bodies[base].name)]
    for element in gone:
        spec.delete(element)
    for geom in list(spec.geoms):
        if not geom.contype and not geom.conaffinity:
            spec.delete(geom)
            continue
        geom.group, geom.contype, geom.conaffinity, geom.material = BODY_GROUP, 0, 1, ""
    used = {geom.meshname for geom in spec.geoms}
    for element in [*spec.materials, *spec.textures, *(mesh for mesh in spec.meshes if mesh.name not in used)]:
        spec.delete(element)
    clean = mujoco.MjSpec()
    spec.option = clean.option
    for name in _GEOM_DEFAULTS:
        setattr(spec.default.geom, name, getattr(clean.default.geom, name))
    for name in _MOTOR_DEFAULTS:
        setattr(spec.default.actuator, name, getattr(clean.default.actuator, name))


def _chain(model: mujoco.MjModel, body: int) -> list[int]:
    """Bodies from ``body`` up to and with the first one that has a joint."""
    found = [body]
    while not model.body_jntnum[found[-1]]:
        found.append(int(model.body_parentid[found[-1]]))
    return found


def _feet(model: mujoco.MjModel, pose: mujoco.MjData, file: Path) -> list[int]:
    """Geoms of the feet, a leg each, in the order of the kinematic tree."""
    before = [int(model.body_parentid[body]) for body in range(2, model.nbody) if model.body_jntnum[body]]
    followed = {_chain(model, body)[-1] for body in before}
    bottom = pose.geom_xpos[:, 2] - model.geom_size[:, 0]
    lowest: dict[int, int] = {}
    for geom in range(model.ngeom):
        last = _chain(model, int(model.geom_bodyid[geom]))[-1]
        if last in followed or last == 1 or model.geom_type[geom] != int(mujoco.mjtGeom.mjGEOM_SPHERE):
            continue
        if last not in lowest or bottom[geom] < bottom[lowest[last]]:
            lowest[last] = geom
    if not lowest:
        raise ValueError(f"{file} has no feet, as no leg ends in a collision sphere; add one at the end of each leg")
    ground = min(bottom[geom] for geom in lowest.values())
    return [geom for _, geom in sorted(lowest.items()) if bottom[geom] - ground <= SAME_HEIGHT_M]


def _shank(model: mujoco.MjModel, foot: int, file: Path) -> int:
    chain = _chain(model, int(model.geom_bodyid[foot]))
    last = chain[-1]
    found = [geom for geom in range(model.ngeom) if geom != foot and _chain(model, model.geom_bodyid[geom])[-1] == last]
    if not found:
        raise ValueError(
            f"{file}: the leg that ends at body {model.body(chain[0]).name} has no shank that could touch something; "
            "give it a collision geom"
        )
    return max(found, key=lambda geom: float(model.geom_rbound[geom]))


def _named(spec: mujoco.MjSpec, model: mujoco.MjModel, feet: list[int]) -> list[str]:
    """Names of all geoms, given where there was none; a site of the same name at the centre of each foot."""
    geoms, sites = list(spec.geoms), {site.name for site in spec.sites}
    taken = {geom.name for geom in geoms}

    def unused(stem: str, others: set[str]) -> str:
        tries = (f"{stem}_{number}" if number else stem for number in range(len(taken) + len(others) + 1))
        return next(name for name in tries if name not in taken | others)

    for index, geom in enumerate(geoms):
        body = model.body(int(model.geom_bodyid[index]))
        if index in feet and (not geom.name or geom.name in sites):
            geom.name = unused(geom.name or f"{body.name}_foot", sites)
        geom.name = geom.name or unused(body.name, set())
        taken.add(geom.name)
        if index in feet:
            spec.body(body.name).add_site(name=geom.name, pos=model.geom_pos[index])
    return [geom.name for geom in geoms]


def _imu(model: mujoco.MjModel, pose: mujoco.MjData) -> tuple[float, float, float]:
    """Where the IMU is in the base."""
    for site in range(model.nsite):
        body = int(model.site_bodyid[site])
        if "imu" in model.site(site).name.lower() and _chain(model, body)[-1] == 1:
            x, y, z = pose.site_xpos[site]
            return float(x), float(y), float(z)
    return 0.0, 0.0, 0.0
