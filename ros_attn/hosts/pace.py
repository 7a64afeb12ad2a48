"""Simulated time held to the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ros_attn.grid import SECOND

SLACK_S = 0.1
REPORT_EVERY_S = 10.0
KEPT_UP = 0.98


@dataclass
class Pace:
    """A schedule: so much simulated time has passed since the start as wall time has, whatever single steps took.

    A lag above ``SLACK_S`` [s] is given up and not caught up with. ``warn`` gets a sentence with the real-time factor
    where simulated time fell behind by more than 2 %: after ``REPORT_EVERY_S`` [s] of wall time, and then as often.
    """

    warn: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _origin_s: float = field(init=False, default=0.0)
    _report: tuple[float, int] = field(init=False, default=(0.0, 0))

    def start(self, now_ns: int) -> None:
        """Simulated time ``now_ns`` is now."""
        self._origin_s = self.clock() - now_ns / SECOND
        self._report = self.clock(), now_ns

    def ahead_s(self, now_ns: int) -> float:
        """Wall time until ``now_ns`` is due, 0 where it is over; once for each step."""
        wall_s = self.clock()
        ahead_s = self._origin_s + now_ns / SECOND - wall_s
        if ahead_s < -SLACK_S:
            self._origin_s -= ahead_s
        self._judge(wall_s, now_ns)
        return max(0.0, ahead_s)

    def _judge(self, wall_s: float, now_ns: int) -> None:
        since_s, since_ns = self._report
        if wall_s - since_s < REPORT_EVERY_S:
            return
        factor = (now_ns - since_ns) / SECOND / (wall_s - since_s)
        self._report = wall_s, now_ns
        if factor < KEPT_UP:
            self.warn(
                f"This machine cannot keep up: simulated time ran at {factor:.2f} times real time. Free its cores, or "
                "choose lock step where nothing needs real time."
            )
