"""Rows of a benchmark: what is to be measured, the bars it is held against, and the file the figures go to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""``key, section, name, parameters``, then what was found, ``bars``, ``seconds`` and ``origin``; or ``error``."""
FIGURES = Path("tests/bench/results")
"""Where the committed figures lie, seen from the root of a checkout."""


@dataclass(frozen=True)
class Bar:
    """What is asked of one figure of a row."""

    figure: str
    bound: float
    least: bool = True
    """False: the figure may be at most the bound."""

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.least else '<='} {self.bound:g}"

    def judge(self, figures: Mapping[str, float]) -> dict[str, Any]:
        """The bar beside what was measured; ``met`` is None where it was not."""
        value = figures.get(self.figure)
        met = None if value is None else (value >= self.bound if self.least else value <= self.bound)
        return {**asdict(self), "value": value, "met": met}


@dataclass(frozen=True, eq=False)
class Task:
    """One row to be: what it is called and how it is found."""

    section: str
    name: str
    parameters: Mapping[str, str | int | float]
    run: Callable[[], Row]
    """What was found, ``figures`` among it: the numbers that bars are for."""
    bars: tuple[Bar, ...] = ()
    seconds: float = 10.0
    """It is not begun where less is left."""
    parts: tuple[str, ...] = ()
    """What can be compiled ahead, each by itself."""
    rehearse: Callable[[str], object] | None = None
    """Runs a part once, so that what it compiles is on disk."""
    once: Callable[[], Callable[[], object]] | None = None
    """Makes the call that a profiler looks at."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The row is measured in a process of its own in which these variables are set."""
    longest: float = 0.0
    """Seconds after which it is given up; 0: a minute, and three times ``seconds``."""

    @property
    def key(self) -> str:
        return key(self.section, self.name, self.parameters)

    @property
    def patience(self) -> float:
        """Seconds after which it is given up."""
        return self.longest or 60 + 3 * self.seconds


def key(section: str, name: str, parameters: Mapping[str, str | int | float]) -> str:
    """The row's name in the file, its parameters in their order."""
    return " ".join([f"{section}/{name}", *(f"{k}={v}" for k, v in parameters.items())])


class Results:
    """The rows of one section in ``kernels_<section>.json``, which is replaced as a whole after every row.

    Rows that lie in ``folder`` are taken up; where it has none, those in ``earlier`` are. ``fresh``: none of them.
    """

    def __init__(self, section: str, folder: Path, earlier: Path = FIGURES, *, fresh: bool = False) -> None:
        self.path = folder / f"kernels_{section}.json"
        found = next((path for path in (self.path, earlier / self.path.name) if path.is_file()), None)
        self._rows: dict[str, Row] = {}
        if found is not None and not fresh:
            self._rows = {row["key"]: row for row in json.loads(found.read_text(encoding="utf-8"))["rows"]}

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, key: str, code: str | None = None, device: str | None = None) -> Row | None:
        """The row, if it is of this code and device (None: of any)."""
        row = self._rows.get(key)
        if row is None:
            return None
        origin = row["origin"]
        ours = code in (None, origin["code"]) and device in (None, origin["device"])
        return row if ours else None

    def of(self, code: str, device: str) -> list[Row]:
        """The rows of this code and device."""
        return [row for row in self if self.get(row["key"], code, device) is not None]

    def add(self, row: Row) -> None:
        self._rows[row["key"]] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.part")
        beside.write_text(json.dumps({"rows": list(self)}, indent=1) + "\n", encoding="utf-8")
        beside.replace(self.path)
