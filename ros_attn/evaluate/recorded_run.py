"""A run folder as a replay left it: what was asked, what became of every message, and one line a step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ros_attn.errors import RosAttnError, listed, meant


@dataclass(frozen=True)
class StepLine:
    """One line of metrics.jsonl; times in ns on the arrival clock, but ``now_ns`` is the trigger's stamp."""

    stage: str
    now_ns: int
    ready_ns: int
    start_ns: int
    end_ns: int
    step_ms: float
    outputs: tuple[str, ...]
    conditions: Mapping[str, str]
    failure: str

    @property
    def age_ms(self) -> float:
        """From the stamp the step is about to the moment its outputs were there."""
        return (self.end_ns - self.now_ns) * 1e-6


@dataclass(frozen=True)
class Interval:
    """A stretch of steps through which one condition held; seconds since the run's first step."""

    stage: str
    key: str
    sentence: str
    start_s: float
    stop_s: float
    steps: int
    missing: bool


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """What a run folder holds; see :func:`read_run`."""

    path: Path
    summary: Mapping[str, Any]
    params: Mapping[str, Mapping[str, Any]]
    lines: Sequence[StepLine]

    @property
    def bag(self) -> Path:
        """The input bag, where it was when the run was made."""
        return Path(self.summary["bag"])

    @property
    def stages(self) -> Mapping[str, Mapping[str, Any]]:
        """The summary of every stage by name."""
        return self.summary["stages"]

    @property
    def name(self) -> str:
        """The folder's own name, also where a link such as ``latest`` was given."""
        return self.path.resolve().name

    def lines_of(self, stage: str) -> list[StepLine]:
        """The steps of one stage, in order."""
        return [line for line in self.lines if line.stage == stage]

    def seconds(self, stamp_ns: int) -> float:
        """A stamp as seconds since the run's first step."""
        return (stamp_ns - self.lines[0].now_ns) * 1e-9


def read_run(path: Path) -> RecordedRun:
    """Read the folder that ``ros-attn replay`` wrote.

    Raises :class:`RosAttnError` where there is no such folder, where it is none of a run, and where a file of it
    is damaged.
    """
    if not path.is_dir():
        raise RosAttnError(_absent(path))
    if not (path / "summary.json").is_file():
        if (path / "metadata.yaml").is_file():
            raise RosAttnError(
                f"{path} is a bag, not a run; run a component over it first: ros-attn replay {path} NAME."
            )
        raise RosAttnError(f"{path} is no run: it has no summary.json; name a folder that `ros-attn replay` wrote.")
    try:
        summary = json.loads((path / "summary.json").read_text())
        params = yaml.safe_load((path / "params.yaml").read_text()) or {}
        lines = [_line(text) for text in (path / "metrics.jsonl").read_text().splitlines()]
        stages = {name: stage["runs"] for name, stage in summary["stages"].items()}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise RosAttnError(
            f"{path} is a damaged run ({type(error).__name__}: {error}); replay the bag again."
        ) from None
    unknown = {line.stage for line in lines} - set(stages)
    if unknown:
        raise RosAttnError(
            f"{path} is a damaged run: metrics.jsonl has a stage {unknown.pop()!r} that summary.json lacks."
        )
    return RecordedRun(path, summary, {name: each["ros__parameters"] for name, each in params.items()}, lines)


def _absent(path: Path) -> str:
    parent = path.parent
    runs = (
        sorted(each.name for each in parent.iterdir() if (each / "summary.json").is_file()) if parent.is_dir() else []
    )
    if not runs:
        return f"There is no run {path}; make one with: ros-attn replay BAG COMPONENT."
    return f"There is no run {path}{meant(path.name, runs)}; the runs in {parent} are {listed(runs)}."


def _line(text: str) -> StepLine:
    line = json.loads(text)
    return StepLine(
        line["stage"], line["now_ns"], line["ready_ns"], line["start_ns"], line["end_ns"], line["step_ms"],
        tuple(line["outputs"]), line.get("conditions", {}), line.get("failure", ""),
    )  # fmt: skip


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max; empty for no values."""
    if not values:
        return {}
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(max(values))}


def median_period_s(lines: Sequence[StepLine]) -> float:
    """The median time between the stamps of steps [s]; 0 for fewer than two."""
    if len(lines) < 2:
        return 0.0
    return float(np.median(np.abs(np.diff([line.now_ns for line in lines])))) * 1e-9


def intervals(
    run: RecordedRun, stage: str, conditions_of: Callable[[int, StepLine], Mapping[str, str]]
) -> list[Interval]:
    """Stretches of consecutive steps of ``stage`` through which a condition held, in order of their beginning.

    ``conditions_of(number, line)`` gives the conditions of a step by key. A key that is the name of an input says
    that this input was missing. A stretch lasts until the stamp of the last step in it, plus the median period.
    """
    lines, period_s = run.lines_of(stage), median_period_s(run.lines_of(stage))
    inputs = run.stages[stage]["inputs"]
    found: list[Interval] = []
    running: dict[str, tuple[str, int, int]] = {}

    def close(key: str, last: StepLine) -> None:
        sentence, first_ns, steps = running.pop(key)
        stop_s = run.seconds(last.now_ns) + period_s
        found.append(Interval(stage, key, sentence, run.seconds(first_ns), stop_s, steps, key in inputs))

    for number, line in enumerate(lines):
        held = conditions_of(number, line)
        for key in [key for key in running if key not in held]:
            close(key, lines[number - 1])
        for key, sentence in held.items():
            # The sentence is the first one: those of later steps often differ in a number only.
            sentence, first_ns, steps = running.get(key, (sentence, line.now_ns, 0))
            running[key] = (sentence, first_ns, steps + 1)
    for key in list(running):
        close(key, lines[-1])
    return sorted(found, key=lambda each: (each.start_s, each.key))
