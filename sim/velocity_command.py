"""Velocity commands for many robots: what they are asked to do, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CommandRange:
    """Commands are uniform in these ranges [m/s, m/s, rad/s], new every ``every_s``; a share of them is to stand.

    Where ``|command|`` falls below ``smallest`` it becomes zero, so that no robot is asked to creep. A curriculum
    begins with ``first``, straight ahead at speeds that standing still does not come near.
    """

    forward: tuple[float, float] = (-0.6, 1.0)
    left: tuple[float, float] = (-0.4, 0.4)
    turn: tuple[float, float] = (-1.0, 1.0)
    standing: float = 0.2
    every_s: float = 4.0
    smallest: float = 0.1
    first: tuple[float, float] = (0.4, 0.7)

    def draw(self, rng: np.random.Generator, count: int, share: float = 1.0) -> Array:
        """[count, 3]; the ends of the ranges have come ``share`` of the way from ``first``, and none stands at 0."""
        full, first = np.array([self.forward, self.left, self.turn]), np.array([self.first, (0.0, 0.0), (0.0, 0.0)])
        ranges = first + share * (full - first)
        commands = rng.uniform(ranges[:, 0], ranges[:, 1], (count, 3))
        idle = np.linalg.norm(commands, axis=-1) < self.smallest
        commands[idle | (rng.random(count) < self.standing * share)] = 0.0
        return commands
