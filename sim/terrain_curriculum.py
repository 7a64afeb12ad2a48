"""A curriculum of levels of ground: each robot goes up and down by what it achieves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.climb import Climb
from ros_attn.sim.goal import End
from ros_attn.sim.stairs_levels import NO_GOAL, TOP

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask

FAR_ENOUGH, TOO_NEAR = 0.8, 0.4
LENIENT, STRICT_FROM_LEVEL = 0.2, 5.0
"""Penalties count so little while the mean level is 1 and below, and all of their weights from that one on."""
SLOPE_BUCKETS_DEG = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 37.0, 45.0, 55.0)
"""Upper ends; slope 0 is what has no stairs."""
REHEARSED = 0.5
_FORGET = 0.01


class TerrainCurriculum:
    """Levels of robots, changed when an episode ends; the next one is on ground of the new level.

    One level up: the landing was reached, or time ran out beyond ``FAR_ENOUGH`` of the way to it. One down: the episode
    ended before ``TOO_NEAR`` of the way. Beyond the last level: a random one, all alike (arXiv 2606.25765). Robots
    begin on levels 0 to ``first``; the first ``walkers`` of them have ground without a goal throughout.

    ``REHEARSED`` of the episodes are on a random level up to the robot's, lest it forget what it learnt there; they
    change no level. Nor do those after a run went on, or where whoever made the task began elsewhere: robots go to
    their levels with their next episode.
    """

    def __init__(self, robots: int, walkers: int = 0, first: int = 2) -> None:
        self.levels = np.arange(robots) % (first + 1)
        self.levels[:walkers] = NO_GOAL
        self._rates = np.zeros(len(SLOPE_BUCKETS_DEG) + 1)
        self._weights = np.zeros_like(self._rates)

    def spread(self, level: float) -> None:
        """Put the robots that climb on levels from 0 to ``level``, evenly: where somebody begins who can climb."""
        climbing = np.flatnonzero(self.levels != NO_GOAL)
        self.levels[climbing] = np.arange(len(climbing)) % (min(round(level), TOP) + 1)

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs, in plain lists."""
        return {
            "levels": self.levels.tolist(), "rates": self._rates.tolist(), "weights": self._weights.tolist()
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ``ValueError`` for one of another number of robots."""
        if len(state["levels"]) != len(self.levels):
            raise ValueError(
                f"the curriculum's state is of {len(state['levels'])} robots and the task has {len(self.levels)}; "
                "go on with as many robots"
            )
        self.levels[:] = state["levels"]
        self._rates[:], self._weights[:] = state["rates"], state["weights"]

    def figures(self) -> dict[str, float]:
        """Mean level of the robots that climb, and ``success N``: its rate on stairs of up to N degrees, 0 without
        stairs, over about the last hundred episodes; those not met yet are left out."""
        climbing = self.levels[self.levels != NO_GOAL]
        figures = {"level": float(climbing.mean()) if len(climbing) else 0.0}
        for name, rate, weight in zip((0.0, *SLOPE_BUCKETS_DEG), self._rates, self._weights, strict=True):
            if weight > 0:
                figures[f"success {name:g}"] = float(rate / weight)
        return figures

    def after(self, task: LocomotionTask, terms: Mapping[str, NDArray[np.float64]]) -> None:
        """Set ``task.level`` for the robots whose episodes end with this step, and how strict the task is."""
        level = self.levels[self.levels != NO_GOAL].mean() if (self.levels != NO_GOAL).any() else STRICT_FROM_LEVEL
        grown = np.clip((level - 1) / (STRICT_FROM_LEVEL - 1), 0.0, 1.0)
        task.strictness = float(LENIENT + (1 - LENIENT) * grown)
        ended = np.flatnonzero(task.end)
        if not len(ended):
            return
        climbed = ended[self.levels[ended] != NO_GOAL]
        self._count(
            np.searchsorted((0.0, *SLOPE_BUCKETS_DEG), task.slope_deg[climbed]), task.end[climbed] == End.SUCCEEDED
        )
        counted = climbed[task.level[climbed] == self.levels[climbed]]
        end, share = task.end[counted], Climb.share(task)[counted]
        succeeded = end == End.SUCCEEDED
        up = succeeded | ((end == End.TIME) & (share >= FAR_ENOUGH))
        down = ~up & (share < TOO_NEAR)
        levels = np.maximum(self.levels[counted] + up - down, 0)
        beyond = levels > TOP
        levels[beyond] = task.rng.integers(0, TOP + 1, np.count_nonzero(beyond))
        self.levels[counted] = levels
        task.level[ended] = self.levels[ended]
        rehearsing = climbed[task.rng.random(len(climbed)) < REHEARSED]
        task.level[rehearsing] = task.rng.integers(0, self.levels[rehearsing] + 1)

    def _count(self, buckets: NDArray[np.intp], succeeded: NDArray[np.bool_]) -> None:
        buckets = np.minimum(buckets, len(SLOPE_BUCKETS_DEG))
        episodes = np.bincount(buckets, minlength=len(self._rates))
        good = np.bincount(buckets, weights=succeeded, minlength=len(self._rates))
        kept = (1 - _FORGET) ** episodes
        new = np.divide(1 - kept, episodes, out=np.zeros(len(kept)), where=episodes > 0)
        self._weights = kept * self._weights + new * episodes
        self._rates = kept * self._rates + new * good
