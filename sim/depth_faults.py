"""Depth cameras that fail during training, with what a robot's own software then does about it.

While images cannot be trusted a climber's node closes all their tokens and asks for standing still
(:mod:`ros_attn.control.quadruped_stairs.component`). A policy that never met this falls on the stairs.
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

NOTICED_AFTER_S = 0.4
"""An image that stays while the robot goes on is trusted for so long."""
EVERY_S = 15.0
"""Mean time of a robot without a fault."""
LASTS_S = 0.5, 6.0
"""From when it was noticed."""


class DepthFaults(Sense):
    """``valid`` of ``depth`` is 0 while a robot's camera is known to fail, and the task's command is 0, as on it.

    Faults begin at random, once in ``EVERY_S``, and last =U(``LASTS_S``). In every second one the last image stays for
    ``NOTICED_AFTER_S`` before that; the others are noticed at once, as black images are. List it after ``depth``, whose
    groups it replaces. The command that was asked for, or what is asked for meanwhile, holds again when a fault ends.
    """

    def __init__(self, depth: DepthSense, robots: int) -> None:
        self.depth = depth
        self._left_s, self._unnoticed_s = np.zeros((2, robots))
        self._asked, self._given = np.zeros((2, robots, 3))
        self._stays: Groups = {}

    @property
    def unnoticed(self) -> NDArray[np.bool_]:
        """[E] whether an image stays and is trusted."""
        return self._unnoticed_s > 0

    @property
    def failing(self) -> NDArray[np.bool_]:
        """[E] whether the camera is known to fail."""
        return (self._left_s > 0) & ~self.unnoticed

    def begin(self, task: LocomotionTask, ids: Ids) -> None:
        """Cameras of robots ``ids`` work."""
        self._left_s[ids] = self._unnoticed_s[ids] = 0.0
        self._asked[ids] = self._given[ids] = task.command[ids]
        if not self._stays:
            self._stays = self.depth.observe(task, np.arange(len(self._left_s)))

    def step(self, task: LocomotionTask) -> None:
        """Let faults begin and end, and robots stand meanwhile."""
        dt, count = task.step_s, len(self._left_s)
        begins = (self._left_s <= 0) & (task.rng.random(count) < dt / EVERY_S)
        unnoticed = NOTICED_AFTER_S * (task.rng.random(count) < 0.5)
        self._left_s = np.maximum(self._left_s - dt, 0.0)
        self._unnoticed_s = np.maximum(self._unnoticed_s - dt, 0.0)
        if begins.any():
            self._left_s[begins] = (task.rng.uniform(*LASTS_S, count) + unnoticed)[begins]
            self._unnoticed_s[begins] = unnoticed[begins]
            for name, newest in self.depth.observe(task, np.flatnonzero(begins)).items():
                self._stays[name][begins] = newest
        # A stopped camera's last image is new in the step in which it came, not again.
        self._stays["fresh"][~begins] = 0.0
        anew = (task.command != self._given).any(axis=1)
        self._asked[anew] = task.command[anew]
        self._given = np.where(self.failing[:, None], 0.0, self._asked)
        task.command[:] = self._given

    def observe(self, task: LocomotionTask, ids: Ids) -> Groups:
        """Groups [n, ...] of robots ``ids`` [n]."""
        groups = dict(self.depth.observe(task, ids))
        stays = self.unnoticed[ids]
        for name, image in self._stays.items():
            groups[name][stays] = image[ids[stays]]
        groups["valid"][self.failing[ids]] = 0.0
        return groups
