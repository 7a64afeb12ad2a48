"""Velocity commands for many robots: what they are asked to do, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CommandRange:
    """Commands are uniform in these ranges [m/s, m/s, rad/s], new every ``every_s``; a share of them is to stand.

    Where ``|command|`` falls below ``smallest`` it becomes zero, so that no robot is asked to creep.
    """

    forward: tuple[float, float] = (-0.6, 1.0)
    left: tuple[float, float] = (-0.4, 0.4)
    turn: tuple[float, float] = (-1.0, 1.0)
    standing: float = 0.15
    every_s: float = 4.0
    smallest: float = 0.1

    def draw(self, rng: np.random.Generator, count: int, share: float = 1.0) -> Array:
        """[count, 3] from the ranges shrunk to ``share`` of their width towards zero."""
        ranges = np.array([self.forward, self.left, self.turn]) * share
        commands = rng.uniform(ranges[:, 0], ranges[:, 1], (count, 3))
        idle = np.linalg.norm(commands, axis=-1) < self.smallest
        commands[idle | (rng.random(count) < self.standing)] = 0.0
        return commands
