"""What makes a task harder as robots get better at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask


class CommandCurriculum:
    """Commands that begin straight ahead and grow towards their full range while they are followed well.

    Penalties count ``lenient`` of their weights at the beginning and grow with the commands. The share grows by
    ``growth`` whenever the mean of the rewards for velocity and turn since the last change, over at least
    ``patience_s`` of every robot's time, is above ``enough`` of what perfect tracking would give. From the full range,
    or under all penalties from the start, robots learn to stand still instead.
    """

    def __init__(
        self,
        start: float = 0.0,
        growth: float = 0.05,
        enough: float = 0.5,
        patience_s: float = 3.0,
        lenient: float = 0.2,
    ) -> None:
        self.share, self.growth, self.enough, self.patience_s = start, growth, enough, patience_s
        self.lenient = lenient
        self._sum, self._steps = 0.0, 0

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs."""
        return {"share": self.share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.share = float(state["share"])

    def figures(self) -> dict[str, float]:
        """For progress and curves."""
        return {"commands": self.share}

    def after(self, task: LocomotionTask, terms: Mapping[str, NDArray[np.float64]]) -> None:
        """Look at one step's weighted rewards; sets what the task asks and how strict it is."""
        task.command_share, task.strictness = self.share, self.lenient + (1 - self.lenient) * self.share
        names = ("velocity", "turn")
        best = sum(task.rewards[name].weight for name in names) * task.step_s
        self._sum += float(sum(terms[name].mean() for name in names)) / best
        self._steps += 1
        if self._steps * task.step_s < self.patience_s:
            return
        if self._sum / self._steps > self.enough:
            self.share = min(1.0, self.share + self.growth)
        self._sum, self._steps = 0.0, 0
