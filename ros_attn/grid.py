"""The grid of stamps k/hz in whole nanoseconds, free of drift."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

SECOND = 1_000_000_000


def to_ns(seconds: float) -> int:
    """Seconds to whole nanoseconds."""
    return round(seconds * SECOND)


@dataclass(frozen=True)
class Grid:
    """Stamps ``t_k = ceil(k * 1e9 / hz)`` ns: exact for every hz that is a fraction (30000/1001 as well)."""

    hz: float

    def __post_init__(self) -> None:
        if not 0 < self.hz <= 1e6:
            raise ValueError(f"a grid of {self.hz} Hz; take 0 < hz <= 1e6")
        object.__setattr__(self, "_period", Fraction(SECOND) / Fraction(self.hz).limit_denominator(1_000_000))

    def stamp(self, k: int) -> int:
        """The stamp [ns] of tick ``k``."""
        return -((-k * self._period.numerator) // self._period.denominator)  # type: ignore[attr-defined]

    def last(self, stamp_ns: int) -> int:
        """The newest tick whose stamp is <= ``stamp_ns``."""
        return (stamp_ns * self._period.denominator) // self._period.numerator  # type: ignore[attr-defined]
