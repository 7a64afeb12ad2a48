"""Health of a component and counters of its inputs: nothing is dropped silently."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ros_attn.values import Diagnostics, DiagnosticStatus

OK, WARN, ERROR = 0, 1, 2


@dataclass
class Health:
    """What a component says of itself: conditions that hold now, and figures.

    A condition is raised with :meth:`warn` or :meth:`error` under a key and ended with :meth:`clear`.
    """

    conditions: dict[str, tuple[int, str]] = field(default_factory=dict)
    figures: dict[str, float | str] = field(default_factory=dict)

    def warn(self, key: str, sentence: str) -> None:
        self.conditions[key] = (WARN, sentence)

    def error(self, key: str, sentence: str) -> None:
        self.conditions[key] = (ERROR, sentence)

    def clear(self, key: str) -> None:
        self.conditions.pop(key, None)

    @property
    def level(self) -> int:
        return max((level for level, _ in self.conditions.values()), default=OK)

    def snapshot(self) -> dict[str, str]:
        """The conditions that hold now, by key."""
        return {key: sentence for key, (_, sentence) in self.conditions.items()}


@dataclass
class InputCounters:
    """What became of the messages of one input.

    received = matched + late + dropped + thinned + superseded + overflow + waiting, where *matched* were
    handed to a step, *dropped* found no partner, *thinned* exceeded ``max_rate_hz``, *superseded* were
    replaced by a newer one before a step held them, *overflow* fell out of the queue. Not received at all:
    *undecodable* messages and those *lost* before us. *missing* counts steps that had to do without.
    """

    received: int = 0
    matched: int = 0
    late: int = 0
    dropped: int = 0
    thinned: int = 0
    superseded: int = 0
    overflow: int = 0
    undecodable: int = 0
    missing: int = 0
    lost: int = 0
    nearest_s: float | None = None

    def near(self, difference_s: float) -> None:
        """Remember how far the nearest unmatched stamp was, for the sentence."""
        if self.nearest_s is None or difference_s < self.nearest_s:
            self.nearest_s = difference_s

    def as_dict(self) -> dict[str, int]:
        return {name: count for name, count in vars(self).items() if name != "nearest_s"}

    def sentence(self, topic: str, slop_s: float | None = None, waiting: int = 0) -> str:
        """``infrared/image: 212 received, 0 matched; nearest stamp differs by 41 ms, slop is 20 ms``.

        ``waiting``: messages still queued, such as those undecided at the end of a bag.
        """
        parts = [f"{self.received} received", f"{self.matched} matched"]
        for name in ("late", "dropped", "thinned", "superseded", "overflow", "undecodable", "lost"):
            if count := getattr(self, name):
                parts.append(f"{count} {name}")
        if waiting:
            parts.append(f"{waiting} waiting")
        if self.missing:
            parts.append(f"missing in {self.missing} steps")
        text = f"{topic}: " + ", ".join(parts)
        if self.nearest_s is not None and slop_s is not None:
            text += f"; nearest stamp differs by {1e3 * self.nearest_s:.3g} ms, slop is {1e3 * slop_s:.3g} ms"
        return text


@dataclass
class StepTimes:
    """Durations of the last steps [s] and their quantiles."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    count: int = 0

    def add(self, seconds: float) -> None:
        self.recent.append(seconds)
        self.count += 1

    def quantiles_ms(self) -> dict[str, float]:
        """p50, p95, p99 and max in ms, empty before the first step."""
        if not self.recent:
            return {}
        times = 1e3 * np.asarray(self.recent)
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(times.max())}


def summarise(
    name: str, stamp_ns: int, health: Health, values: Mapping[str, str], hardware_id: str = "ros_attn"
) -> Diagnostics:
    """One DiagnosticArray of a component: its worst condition as level, all of them as the message."""
    message = " ".join(health.snapshot().values()) or "running"
    figures = {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in health.figures.items()}
    status = DiagnosticStatus(health.level, name, message, hardware_id, {**figures, **values})
    return Diagnostics(stamp_ns=stamp_ns, statuses=(status,))
