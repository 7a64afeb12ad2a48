"""The goal of climbing: along the route to its landing, with four feet.

A robot is asked for a speed and steers by itself, towards a waypoint ahead on the axis of the staircase, as in Extreme
Parkour (arXiv 2309.14341). On a terrain without landing there is nothing to climb: robots there follow the task's
commands, so that walking is not forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim import rotation
from ros_attn.sim.goal import End
from ros_attn.sim.sense import Groups, Sense

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask

Array = NDArray[Any]
Flags = NDArray[np.bool_]
Ids = NDArray[np.intp]

LOOK_AHEAD_M = 0.6
TRAPPED_S = 1.0
BELOW_ROUTE_M = 0.15
"""A base that far below the step it is over has fallen off."""
BESIDE_M = 0.4
"""And so has one that far beside the landing's sides."""
FARTHEST_M = 2.0
GAINED_M = 0.1
"""A robot that comes no farther than that is stuck."""


class Climb(Sense):
    """Climbing for all robots of a task; of one task alone, as it counts for how long a shank has been below a tread.

    Ends: ``SUCCEEDED`` with the centres of all feet in the landing's region; ``TRAPPED`` when the middle of a shank was
    below a tread that covers it in plan for more than 1 s without a break; ``OFF`` when the base is 0.15 m below the
    step it is over, or 0.4 m beside the landing's sides; ``STUCK`` when it was asked to move for ``patience_s`` and
    gained no 0.1 m in x (never, if that is None). Waypoint: the first of the route at least 0.6 m ahead in x, at most
    the last.

    ``speeds`` [m/s]: commands forward are uniform in it, ``standing`` is the share of those to stand.

    Senses: ``waypoint`` [n, 3], its unit direction in the yaw frame (x ahead, y left) and its distance, at most 2, in
    m; zeros on terrain without landing.
    """

    def __init__(
        self, robots: int, speeds: tuple[float, float] = (0.3, 0.8), standing: float = 0.0,
        patience_s: float | None = None,
    ) -> None:  # fmt: skip
        self.speeds, self.standing, self.patience_s = speeds, standing, patience_s
        self.treads = np.zeros(robots, np.intp)
        """The most waypoints that each base has come to in its episode, the ended ones' until their first step."""
        self._below = np.zeros(robots, np.intp)
        self._came_to, self._tries = np.zeros(robots), np.zeros(robots, np.intp)

    @staticmethod
    def climbing(task: LocomotionTask) -> Flags:
        """[E] whether there is a landing."""
        return np.isfinite(task.terrain.landing[:, 0])

    @staticmethod
    def share(task: LocomotionTask) -> Array:
        """[E] how far each base is along x, from 0 at the start to 1 where the landing begins."""
        begins = np.maximum(task.terrain.landing[:, 0], 1e-3)
        return np.clip(task.world.base_position[:, 0] / begins, 0.0, 1.0)

    def command(self, task: LocomotionTask, ids: Ids, drawn: Array) -> Array:
        """Forward alone for those that climb; see :class:`ros_attn.sim.goal.Goal`."""
        forward = task.rng.uniform(*self.speeds, len(ids)) * (task.rng.random(len(ids)) >= self.standing)
        straight = np.stack([forward, np.zeros_like(forward), np.zeros_like(forward)], axis=-1)
        return np.where(self.climbing(task)[ids, None], straight, drawn)

    def _ahead(self, task: LocomotionTask) -> Array:
        """[E, 2] from the base to the waypoint, nan where there is no landing."""
        route, place = task.terrain.route[..., :2], task.world.base_position[:, :2]
        far = route[..., 0] - place[:, :1] >= LOOK_AHEAD_M
        chosen = np.where(far.any(axis=1), far.argmax(axis=1), route.shape[1] - 1)
        ahead = route[np.arange(len(route)), chosen] - place
        return np.where(self.climbing(task)[:, None], ahead, np.nan)

    def direction(self, task: LocomotionTask) -> Array:
        """See :class:`ros_attn.sim.goal.Goal`."""
        ahead = self._ahead(task)
        return ahead / np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True), 1e-6)

    def judge(self, task: LocomotionTask) -> NDArray[np.int8]:
        """See :class:`ros_attn.sim.goal.Goal`."""
        terrain, world = task.terrain, task.world
        place, landing, climbing = world.base_position, terrain.landing, self.climbing(task)
        first = task.steps == 1
        index = terrain.waypoint(place[:, 0])
        self.treads = np.where(first, 0, np.maximum(self.treads, index + 1))
        below = terrain.below_tread(world.shank_position).any(axis=-1)
        self._below = np.where(below, np.where(first, 0, self._below) + 1, 0)
        step = np.where(index < 0, 0.0, terrain.route[np.arange(len(index)), np.maximum(index, 0), 2])
        lost = place[:, 2] < step - BELOW_ROUTE_M
        lost |= (place[:, 1] < landing[:, 1] - BESIDE_M) | (place[:, 1] > landing[:, 4] + BESIDE_M)
        feet = world.foot_position
        arrived = ((feet >= landing[:, None, :3]) & (feet <= landing[:, None, 3:])).all(axis=(1, 2))
        end = np.zeros(len(place), np.int8)
        end[arrived] = End.SUCCEEDED
        end[self._below * task.step_s > TRAPPED_S] = End.TRAPPED
        if self.patience_s is not None:
            gained = first | (place[:, 0] >= self._came_to + GAINED_M)
            self._came_to = np.where(gained, place[:, 0], self._came_to)
            self._tries = np.where(gained, 0, self._tries + (task.command != 0).any(axis=-1))
            end[self._tries * task.step_s > self.patience_s] = End.STUCK
        end[lost] = End.OFF
        end[~climbing] = End.NOT
        return end

    def observe(self, task: LocomotionTask, ids: Ids) -> Groups:
        """Groups [n, ...] of robots ``ids`` [n]."""
        ahead = self._ahead(task)[ids]
        distance = np.linalg.norm(ahead, axis=-1, keepdims=True)
        yaw = rotation.yaw_of(task.world.base_quaternion[ids])
        direction = rotation.turned(ahead / np.maximum(distance, 1e-6), -yaw)
        seen = np.concatenate([direction, np.minimum(distance, FARTHEST_M)], axis=-1)
        return {"waypoint": np.where(np.isfinite(seen), seen, 0.0).astype(np.float32)}
