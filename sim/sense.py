"""Senses beyond proprioception: each adds groups to the observations of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim import rotation

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask

Array = NDArray[Any]
Ids = NDArray[np.intp]
Groups = dict[str, NDArray[np.float32]]

SCAN_X_M = np.linspace(-0.5, 1.1, 17)
SCAN_Y_M = np.linspace(-0.5, 0.5, 11)
_ABOVE_M, _BELOW_M = 1.0, 0.5
"""How far above and below ground is told apart. Beyond the sides of stairs there is nothing to step on, however deep:
where that was as much as 1 m, teachers that were told to stand went on, or fell, on narrow flights alone."""


class Sense:
    """One that keeps nothing from step to step has only :meth:`observe`."""

    def begin(self, task: LocomotionTask, ids: Ids) -> None:
        """Robots ``ids`` [n] start anew."""

    def step(self, task: LocomotionTask) -> None:
        """All robots have done a control step; those that ended have not begun anew yet."""

    def observe(self, task: LocomotionTask, ids: Ids) -> Groups:
        """Groups [n, ...] of robots ``ids`` [n]."""
        raise NotImplementedError


class HeightScan(Sense):
    """``heights`` [n, 187]: exact heights around the base, as the teacher sees the ground.

    ``clip(base z - stand height - ground z, -1, 0.5)`` m: 0 on level ground, below 0 where the ground is higher. A grid
    of 17 x 11 points 0.1 m apart, x from -0.5 to 1.1 m ahead and y from -0.5 to 0.5 m (left) in the frame of the base
    turned upright, row by row in x. Ground is the highest surface: an opening under a tread does not show.
    """

    def __init__(self) -> None:
        x, y = np.meshgrid(SCAN_X_M, SCAN_Y_M, indexing="ij")
        self.grid = np.stack([x.ravel(), y.ravel()])
        """[2, 187] x and y in the yaw frame, m."""

    def observe(self, task: LocomotionTask, ids: Ids) -> Groups:
        """Groups [n, ...] of robots ``ids`` [n]."""
        place = task.world.base_position[ids]
        yaw = rotation.yaw_of(task.world.base_quaternion[ids])[:, None]
        cos, sin = np.cos(yaw), np.sin(yaw)
        x, y = self.grid
        points = np.empty((len(ids), len(x), 2), np.float32)
        points[..., 0] = place[:, :1] + cos * x - sin * y
        points[..., 1] = place[:, 1:2] + sin * x + cos * y
        ground = task.terrain.height(points, ids)
        level = (place[:, 2:] - task.world.robot.stand_height).astype(np.float32)
        return {"heights": np.clip(level - ground, -_ABOVE_M, _BELOW_M)}
