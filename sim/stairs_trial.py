"""Trials of a policy on the hollow stairs of the evaluation: one episode a robot, and how each ended.

A trial succeeds with four feet on the landing within 30 s, without a touch of base or head, a tilt beyond 60 degrees or
a shank below a tread for more than 1 s; :func:`ros_attn.sim.tasks.climb_episodes` makes its task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.climb import Climb
from ros_attn.sim.goal import End
from ros_attn.sim.locomotion_task import LocomotionTask, Observations

Act = Callable[[Observations], NDArray[np.floating[Any]]]
"""Groups of observations [E, ...] to actions [E, J]. With memory: it starts at the first call, one row a robot."""


@dataclass(frozen=True)
class Trials:
    """One entry for each of E robots: the stairs' ``slope_deg``, why it ended (:class:`End`), after how long, and how
    many steps its base had come to, the landing included (13 with 12 treads)."""

    slope_deg: NDArray[np.float64]
    end: NDArray[np.int8]
    seconds: NDArray[np.float64]
    treads: NDArray[np.intp]

    @property
    def success(self) -> NDArray[np.bool_]:
        """[E]."""
        return self.end == End.SUCCEEDED

    def counts(self) -> dict[str, int]:
        """How many ended in each way, by its name in small letters."""
        return {end.name.lower(): int((self.end == end).sum()) for end in End if end is not End.NOT}


def evaluate(task: LocomotionTask, act: Act) -> Trials:
    """The first episode of each robot of ``task``, from its reset to the last one's end.

    Robots that are done early go on in further episodes, which do not count. Raises ``ValueError`` for a task without
    climbing.
    """
    goal = task.goal
    if not isinstance(goal, Climb):
        raise ValueError("trials on stairs need a task of climbing; make one with tasks.climb_episodes")
    robots = task.world.environments
    end, treads = np.zeros(robots, np.int8), np.zeros(robots, np.intp)
    seconds, slope = np.zeros(robots), np.zeros(robots)
    observations = task.reset()
    slope[:] = task.slope_deg
    running = np.ones(robots, bool)
    for number in range(1, task.episode_steps + 1):
        step = task.step(np.asarray(act(observations), np.float64))
        done = running & (step.end != End.NOT)
        end[done], treads[done], seconds[done] = step.end[done], goal.treads[done], number * task.step_s
        running &= ~done
        observations = step.observations
        if not running.any():
            break
    return Trials(slope, end, seconds, treads)
