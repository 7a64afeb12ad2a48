"""What a legged robot is to the simulation: a body without a world, and what its joints are called and can do.

A :class:`Robot` is a MuJoCo specification without floor or actuators, together with the names and figures that its
motors, contract and rewards need. The joint order given here is the order of actions, observations and the contract.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

TERRAIN_GROUP = 0
"""Geoms of the ground, which rays and feet meet."""
BODY_GROUP = 3
"""Collision geoms of the robot, which its own rays do not meet."""


@dataclass(frozen=True)
class Robot:
    """A legged robot with one base and legs of equal structure.

    ``default_pose``, limits and gains have the order of ``joints``. Positions [rad], velocities [rad/s],
    torques [N m], ``kp`` [N m/rad], ``kd`` [N m s/rad]. ``stand_height`` [m] is the base's height above flat ground in
    the default pose, ``feet``, ``shanks`` and ``base`` name geoms or bodies of ``specification()``.
    """

    name: str
    specification: Callable[[], mujoco.MjSpec]
    joints: tuple[str, ...]
    default_pose: NDArray[np.float64]
    position_limits: NDArray[np.float64]
    velocity_limits: NDArray[np.float64]
    torque_limits: NDArray[np.float64]
    kp: NDArray[np.float64]
    kd: NDArray[np.float64]
    base: str
    feet: tuple[str, ...]
    shanks: tuple[str, ...]
    foot_radius: float
    stand_height: float
    imu: tuple[float, float, float] = (0.0, 0.0, 0.0)
    camera: tuple[float, float, float] = (0.3, 0.0, 0.05)
    camera_pitch: float = 0.0

    def __post_init__(self) -> None:
        for name in ("default_pose", "velocity_limits", "torque_limits", "kp", "kd"):
            if getattr(self, name).shape != (len(self.joints),):
                raise ValueError(f"robot {self.name}: {name} must have one entry for each of {len(self.joints)} joints")
        low, high = self.position_limits.T
        if not ((low < self.default_pose) & (self.default_pose < high)).all():
            raise ValueError(f"robot {self.name}: the default pose lies outside the joints' limits")

    def contract(self) -> dict[str, object]:
        """What a checkpoint must agree on with whoever moves the joints."""
        return {
            "joints": list(self.joints),
            "default_pose": _plain(self.default_pose),
            "position_limits": [_plain(pair) for pair in self.position_limits],
            "velocity_limits": _plain(self.velocity_limits),
            "torque_limits": _plain(self.torque_limits),
            "kp": _plain(self.kp),
            "kd": _plain(self.kd),
        }


def _plain(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in values]
