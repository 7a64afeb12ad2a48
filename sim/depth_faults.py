"""Depth cameras that fail during training, with what a robot's own software then does about it.

While images cannot be trusted a climber's node closes all their tokens and asks for at most ``BLIND_MPS``, after
``STAND_AFTER_S`` for standing still (:mod:`ros_attn.control.quadruped_stairs.component`). A policy that never met this
falls on the stairs where it should stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.depth_sense import DepthSense
from ros_attn.sim.sense import Groups, Sense

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask

Ids = NDArray[np.intp]

BLIND_MPS, STAND_AFTER_S = 0.3, 2.0
EVERY_S = 20.0
"""Mean time of a robot without a fault."""
LASTS_S = 0.5, 6.0


class DepthFaults(Sense):
    """``valid`` of ``depth`` is 0 while a robot's camera fails, and the task's commands are cut as on the robot.

    Faults begin at random, once in ``EVERY_S``, and last =U(``LASTS_S``). List it after ``depth``, whose group it
    replaces. The command that was asked for, or what is asked for meanwhile, holds again when a fault ends.
    """

    def __init__(self, depth: DepthSense, robots: int) -> None:
        self.depth = depth
        self._since_s = np.zeros(robots)
        self._left_s = np.zeros(robots)
        self._asked, self._given = np.zeros((2, robots, 3))

    @property
    def failing(self) -> NDArray[np.bool_]:
        """[E]."""
        return self._left_s > 0

    def begin(self, task: LocomotionTask, ids: Ids) -> None:
        """Cameras of robots ``ids`` work."""
        self._left_s[ids] = 0.0
        self._asked[ids] = self._given[ids] = task.command[ids]

    def step(self, task: LocomotionTask) -> None:
        """Let faults begin and end, and cut the commands."""
        dt, count = task.step_s, len(self._left_s)
        begins = ~self.failing & (task.rng.random(count) < dt / EVERY_S)
        lasts = task.rng.uniform(*LASTS_S, count)
        self._left_s = np.where(begins, lasts, np.maximum(self._left_s - dt, 0.0))
        self._since_s = np.where(begins, 0.0, self._since_s + dt)
        anew = (task.command != self._given).any(axis=1)
        self._asked[anew] = task.command[anew]
        speed = np.linalg.norm(self._asked[:, :2], axis=1)
        slowed = np.minimum(1.0, BLIND_MPS / np.maximum(speed, 1e-9))
        share = np.stack([slowed, slowed, np.ones(count)], axis=1) * (self._since_s < STAND_AFTER_S)[:, None]
        self._given = np.where(self.failing[:, None], share * self._asked, self._asked)
        task.command[:] = self._given

    def observe(self, task: LocomotionTask, ids: Ids) -> Groups:
        """Groups [n, ...] of robots ``ids`` [n]."""
        valid = self.depth.observe(task, ids)["valid"]
        return {"valid": np.where(self.failing[ids, None, None], np.float32(0.0), valid)}
