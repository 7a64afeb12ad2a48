"""Medians with their spread, of functions timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one function over the rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def row(self) -> dict[str, float]:
        """Median and quartiles, in ms."""
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return {"median_ms": self.median, "low_ms": low, "high_ms": high}


def in_turns(functions: Sequence[Callable[[], object]], rounds: int) -> list[Timed]:
    """Each function once a round, so that what else the machine does meets all of them alike; one round to warm up."""
    times: list[list[float]] = [[] for _ in functions]
    for k in range(rounds + 1):
        for each, measured in zip(functions, times, strict=True):
            start = time.perf_counter()
            each()
            if k:
                measured.append(1e3 * (time.perf_counter() - start))
    return [Timed(tuple(each)) for each in times]


def ratio(ours: Timed, theirs: Timed) -> dict[str, float]:
    """Ours / theirs: median of the rounds' ratios with its quartiles, and the ratio of the medians."""
    each = [a / b for a, b in zip(ours.rounds, theirs.rounds, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4)
    return {"of_medians": ours.median / theirs.median, "median": middle, "low": low, "high": high}
