"""Pedestrians and a cyclist out of primitives and lofted skins, and how they move.

Movers are MuJoCo mocap bodies whose limbs hang on hinges; nothing is simulated: `pose` writes the joint
angles of an analytic gait for a time, so any frame can be drawn without the ones before it.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from ros_attn.sim.street_geometry import (
    SceneBuilder,
    SegmentationClass,
    Surface,
    ground_height,
    yaw_quaternion,
)

_SKIN = ((0.80, 0.60, 0.49), (0.62, 0.43, 0.33), (0.36, 0.25, 0.20), (0.87, 0.68, 0.57))
_HAIR = ((0.12, 0.09, 0.07), (0.30, 0.20, 0.12), (0.55, 0.44, 0.28), (0.40, 0.39, 0.38))
_COAT = (
    (0.55, 0.12, 0.12), (0.14, 0.22, 0.36), (0.60, 0.45, 0.16), (0.18, 0.18, 0.20), (0.30, 0.40, 0.30),
    (0.62, 0.58, 0.52), (0.42, 0.26, 0.40), (0.75, 0.72, 0.66),
)  # fmt: skip
_TROUSERS = ((0.13, 0.16, 0.24), (0.12, 0.12, 0.13), (0.30, 0.26, 0.20), (0.24, 0.27, 0.32))


@dataclass(frozen=True)
class Walk:
    """Straight, even motion: at time t the position is (x, y) + speed·(t - t0)·(cos heading, sin heading)."""

    x: float
    y: float
    heading: float
    speed: float
    t0: float = 0.0

    def position(self, t: float) -> tuple[float, float]:
        """Metres in the world at `t` seconds."""
        way = self.speed * (t - self.t0)
        return self.x + way * float(np.cos(self.heading)), self.y + way * float(np.sin(self.heading))


class Mover:
    """A mocap body with hinges, found in the compiled model by name."""

    joints: tuple[str, ...] = ()

    def __init__(self, builder: SceneBuilder, name: str, walk: Walk):
        self.name, self.walk = name, walk
        self.body = builder.spec.worldbody.add_body(name=name, mocap=True)
        self._mocap, self._qpos = -1, np.zeros(0, int)

    def bind(self, model: mujoco.MjModel) -> None:
        """Looks up the indices in the compiled model."""
        self._mocap = int(model.body(self.name).mocapid[0])
        names = [f"{self.name}_{joint}" for joint in self.joints]
        self._qpos = np.array([int(model.joint(joint).qposadr[0]) for joint in names], int)

    def pose(self, data: mujoco.MjData, t: float) -> None:
        """Writes the pose at `t` seconds into `data`."""
        height, angles = self.gait(t)
        x, y = self.walk.position(t)
        data.mocap_pos[self._mocap] = (x, y, ground_height(y) + height)
        data.mocap_quat[self._mocap] = yaw_quaternion(self.walk.heading)
        data.qpos[self._qpos] = angles

    def gait(self, t: float) -> tuple[float, list[float]]:
        """Height of the root above the ground in metres and the joint angles in radians."""
        return 0.0, []

    def limb(self, parent: mujoco.MjsBody, joint: str, pos: list[float]) -> mujoco.MjsBody:
        """A child body on a hinge about y: positive swings it backwards."""
        body = parent.add_body(pos=pos)
        body.add_joint(name=f"{self.name}_{joint}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0])
        return body


def _body_surfaces(kind: SegmentationClass, rng: np.random.Generator) -> dict[str, Surface]:
    warm = float(rng.normal(0.0, 0.7))
    kelvin = {"skin": 306.5, "hair": 301.0, "coat": 300.5, "trousers": 299.0, "shoes": 292.0, "bag": 289.0}
    return {part: Surface(kind, value + warm, 0.97, 0.4, 0.6) for part, value in kelvin.items()}


class Pedestrian(Mover):
    """A walking person, 1.6 to 1.9 m tall: hips, knees and shoulders on hinges."""

    joints = ("hip_l", "hip_r", "knee_l", "knee_r", "arm_l", "arm_r")

    def __init__(self, builder: SceneBuilder, name: str, walk: Walk, rng: np.random.Generator):
        super().__init__(builder, name, walk)
        self.scale = s = float(rng.uniform(0.9, 1.07))
        self._phase = float(rng.uniform(0, 2 * np.pi))
        surface = _body_surfaces(SegmentationClass.PERSON, rng)
        skin, hair = rng.choice(_SKIN), rng.choice(_HAIR)
        coat, trousers = rng.choice(_COAT), rng.choice(_TROUSERS)
        root, add = self.body, builder.add
        long_coat = rng.random() < 0.45
        hem = [(0.60, 0.0, 0.17, 0.21), (0.62, 0.0, 0.175, 0.215), (0.85, 0.0, 0.15, 0.19)]
        if not long_coat:
            hem = [(0.84, 0.0, 0.145, 0.18), (0.86, 0.0, 0.15, 0.185), (0.92, 0.0, 0.145, 0.18)]
        rings = [
            *hem, (1.05, 0.0, 0.125, 0.165), (1.22, 0.01, 0.135, 0.185), (1.36, 0.0, 0.125, 0.21),
            (1.42, -0.005, 0.105, 0.20), (1.47, -0.01, 0.085, 0.12), (1.50, 0.0, 0.06, 0.065),
        ]  # fmt: skip
        trunk = builder.loft(f"{name}_coat", s * np.array(rings))
        add(root, trunk, surface["coat"], coat)
        if not long_coat:
            add(
                root,
                "ellipsoid",
                surface["trousers"],
                trousers,
                size=_of(s, 0.125, 0.16, 0.13),
                pos=_of(s, 0, 0, 0.86),
            )
        add(root, "capsule", surface["skin"], skin, size=[0.05 * s], fromto=_of(s, 0, 0, 1.45, 0.01, 0, 1.53))
        add(
            root, "ellipsoid", surface["skin"], skin, name=f"{name}_head", size=_of(s, 0.10, 0.08, 0.125),
            pos=_of(s, 0.02, 0, 1.63),
        )  # fmt: skip
        add(
            root,
            "ellipsoid",
            surface["hair"],
            hair,
            size=_of(s, 0.103, 0.09, 0.11),
            pos=_of(s, -0.022, 0, 1.668),
        )
        add(root, "sphere", surface["skin"], skin, size=[0.02 * s], pos=_of(s, 0.122, 0, 1.625))
        if rng.random() < 0.5:
            pack = rng.choice(_COAT)
            add(
                root,
                "ellipsoid",
                surface["bag"],
                pack,
                size=_of(s, 0.09, 0.14, 0.20),
                pos=_of(s, -0.17, 0, 1.24),
            )
        for side, y in (("l", 0.095), ("r", -0.095)):
            thigh = self.limb(root, f"hip_{side}", _of(s, 0, y, 0.92))
            add(
                thigh,
                "capsule",
                surface["trousers"],
                trousers,
                size=[0.075 * s],
                fromto=_of(s, 0, 0, 0, 0, 0, -0.42),
            )
            shin = self.limb(thigh, f"knee_{side}", _of(s, 0, 0, -0.44))
            add(
                shin,
                "capsule",
                surface["trousers"],
                trousers,
                size=[0.055 * s],
                fromto=_of(s, 0, 0, 0, 0, 0, -0.38),
            )
            shoe = (0.10, 0.09, 0.08)
            add(
                shin,
                "ellipsoid",
                surface["shoes"],
                shoe,
                size=_of(s, 0.135, 0.05, 0.05),
                pos=_of(s, 0.05, 0, -0.43),
            )
            arm = self.limb(root, f"arm_{side}", _of(s, 0, 2.35 * y, 1.40))
            add(
                arm,
                "capsule",
                surface["coat"],
                coat,
                size=[0.056 * s],
                fromto=_of(s, 0, 0, 0, 0, 0.25 * y, -0.27),
            )
            add(
                arm,
                "capsule",
                surface["coat"],
                coat,
                size=[0.045 * s],
                fromto=_of(s, 0, 0.25 * y, -0.27, 0.09, 0.25 * y, -0.48),
            )
            add(arm, "sphere", surface["skin"], skin, size=[0.048 * s], pos=_of(s, 0.11, 0.25 * y, -0.53))
        builder.shadow(root, 0, 0, 0.42 * s, 0.36 * s, 0.012)

    def gait(self, t: float) -> tuple[float, list[float]]:
        """A pendulum gait: the standing foot stays on the ground, so the root bobs."""
        stride = 1.45 * self.scale
        phase = self._phase + 2 * np.pi * self.walk.speed / stride * t
        swing = 0.40 * min(1.2, self.walk.speed / 1.35)
        left, right = swing * np.sin(phase), -swing * np.sin(phase)
        bend = 0.10 + 1.6 * swing * np.clip([np.cos(phase), -np.cos(phase)], 0, None) ** 1.5
        legs = [
            0.44 * np.cos(hip) + 0.43 * np.cos(hip - knee) + 0.05 for hip, knee in zip((left, right), bend, strict=True)
        ]
        height = float(self.scale * (max(legs) - 0.92))
        return height, [-left, -right, bend[0], bend[1], 0.8 * left, 0.8 * right]


class Cyclist(Mover):
    """A rider on a bicycle, legs pedalling by two-link inverse kinematics; rider and bicycle are one
    class."""

    joints = ("hip_l", "hip_r", "knee_l", "knee_r", "crank")
    _HIP, _CRANK_CENTRE, _CRANK, _THIGH, _SHIN = (-0.20, 0.97), (0.0, 0.29), 0.17, 0.45, 0.46

    def __init__(self, builder: SceneBuilder, name: str, walk: Walk, rng: np.random.Generator):
        super().__init__(builder, name, walk)
        kind = SegmentationClass.CYCLIST
        surface = _body_surfaces(kind, rng)
        metal, rubber = Surface(kind, 283.2, 0.85, 0.5), Surface(kind, 284.5, 0.93, 0.4)
        skin, trousers, jacket = rng.choice(_SKIN), rng.choice(_TROUSERS), np.array([0.80, 0.78, 0.16])
        frame, tyre = rng.choice(_COAT), (0.06, 0.06, 0.065)
        root, add = self.body, builder.add
        wheel = builder.torus("bicycle_wheel", 0.325, 0.022)
        for x in (-0.52, 0.52):
            add(root, wheel, rubber, tyre, pos=[x, 0, 0.345], quat=[0.7071, 0.7071, 0, 0])
        bars = (
            (-0.52, 0.34, 0.0, 0.29), (0.0, 0.29, -0.17, 0.86), (-0.15, 0.80, 0.38, 0.86),
            (0.0, 0.29, 0.40, 0.78),             (-0.52, 0.34, -0.15, 0.80), (0.52, 0.34, 0.37, 0.98),
        )  # fmt: skip
        for x0, z0, x1, z1 in bars:
            add(root, "capsule", metal, frame, "glossy", size=[0.02], fromto=[x0, 0, z0, x1, 0, z1])
        add(root, "capsule", metal, tyre, size=[0.018], fromto=[0.40, -0.25, 1.02, 0.40, 0.25, 1.02])
        add(root, "ellipsoid", rubber, tyre, size=[0.13, 0.08, 0.04], pos=[-0.2, 0, 0.90])
        lamp = Surface(kind, 290.0)
        add(root, "sphere", lamp, (1.0, 0.08, 0.05), "glow", size=[0.035], pos=[-0.27, 0, 0.80])
        add(root, "sphere", lamp, (1.0, 0.97, 0.88), "glow", size=[0.04], pos=[0.47, 0, 0.96])
        torso = Surface(kind, surface["coat"].temperature_k + 1.5, 0.97, 0.4, 0.6)
        add(root, "capsule", torso, jacket, size=[0.145], fromto=[-0.15, 0, 1.05, 0.12, 0, 1.36])
        add(root, "capsule", torso, jacket, size=[0.075], fromto=[0.13, -0.16, 1.42, 0.13, 0.16, 1.42])
        add(root, "ellipsoid", surface["skin"], skin, size=[0.10, 0.08, 0.125], pos=[0.25, 0, 1.61])
        add(
            root,
            "ellipsoid",
            surface["hair"],
            (0.85, 0.86, 0.88),
            size=[0.14, 0.098, 0.085],
            pos=[0.23, 0, 1.685],
        )
        for side, y in (("l", 1), ("r", -1)):
            add(
                root,
                "capsule",
                torso,
                jacket,
                size=[0.05],
                fromto=[0.13, 0.21 * y, 1.40, 0.24, 0.26 * y, 1.17],
            )
            add(
                root,
                "capsule",
                torso,
                jacket,
                size=[0.042],
                fromto=[0.24, 0.26 * y, 1.17, 0.40, 0.23 * y, 1.05],
            )
            thigh = self.limb(root, f"hip_{side}", [self._HIP[0], 0.10 * y, self._HIP[1]])
            add(
                thigh,
                "capsule",
                surface["trousers"],
                trousers,
                size=[0.075],
                fromto=[0, 0, 0, 0, 0, -self._THIGH],
            )
            shin = self.limb(thigh, f"knee_{side}", [0, 0, -self._THIGH])
            add(
                shin,
                "capsule",
                surface["trousers"],
                trousers,
                size=[0.052],
                fromto=[0, 0, 0, 0, 0, -self._SHIN],
            )
            add(
                shin,
                "ellipsoid",
                surface["shoes"],
                tyre,
                size=[0.13, 0.045, 0.045],
                pos=[0.04, 0, -self._SHIN],
            )
        crank = self.limb(root, "crank", [self._CRANK_CENTRE[0], 0, self._CRANK_CENTRE[1]])
        for y in (0.10, -0.10):
            end = [0, y, -self._CRANK if y > 0 else self._CRANK]
            add(crank, "capsule", metal, tyre, size=[0.014], fromto=[0, y, 0, *end])
        builder.shadow(root, 0, 0, 0.95, 0.34, 0.012)

    def gait(self, t: float) -> tuple[float, list[float]]:
        """Crank turned once every 4.6 m; each leg reaches from the hip to its pedal."""
        turn = 2 * np.pi * self.walk.speed / 4.6 * t
        hips, knees = [], []
        for angle in (turn, turn + np.pi):  # 0: pedal at the bottom
            x = self._CRANK_CENTRE[0] - self._CRANK * np.sin(angle) - self._HIP[0]
            z = self._CRANK_CENTRE[1] - self._CRANK * np.cos(angle) + 0.05 - self._HIP[1]
            reach = min(float(np.hypot(x, z)), self._THIGH + self._SHIN - 1e-3)
            thigh, shin = self._THIGH, self._SHIN
            beta = np.arccos((thigh**2 + reach**2 - shin**2) / (2 * thigh * reach))
            gamma = np.arccos((shin**2 + reach**2 - thigh**2) / (2 * shin * reach))
            hips.append(-(np.arctan2(x, -z) + beta))
            knees.append(beta + gamma)
        return 0.0, [*hips, *knees, turn]


def _of(scale: float, *numbers: float) -> list[float]:
    return [scale * number for number in numbers]
