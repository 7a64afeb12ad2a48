"""Gates: figures of an evaluation that must lie within limits, from a YAML file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml

from ros_attn.errors import RosAttnError, listed, meant
from ros_attn.evaluate.compare import AGAINST, Comparison
from ros_attn.evaluate.evaluation import Evaluation
from ros_attn.evaluate.fusion_metrics import METRICS
from ros_attn.evaluate.fusion_run import BASELINES

GATE_FAILED = 2
"""Exit code of ``ros-attn evaluate`` where a gate fails; 1 is an error, 0 all passed."""

LIMITS = ("min", "max")


@dataclass(frozen=True)
class Gate:
    """The limits of one figure, both inclusive; None: no limit on that side."""

    name: str
    low: float | None
    high: float | None

    @property
    def wanted(self) -> str:
        """``at least 0.35``."""
        parts = [f"at least {self.low:g}"] if self.low is not None else []
        parts += [f"at most {self.high:g}"] if self.high is not None else []
        return " and ".join(parts)


@dataclass(frozen=True)
class GateResult:
    """A gate and the figure it was held against; None was not measured, which fails."""

    gate: Gate
    value: float | None

    @property
    def passed(self) -> bool:
        """Whether the figure was measured and lies within the limits."""
        if self.value is None:
            return False
        low = -math.inf if self.gate.low is None else self.gate.low
        high = math.inf if self.gate.high is None else self.gate.high
        return low <= self.value <= high

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        return "pass" if self.passed else "fail"

    @property
    def measured(self) -> str:
        """``Q_min is 0.3102, wanted is at least 0.35``."""
        was = "was not measured in this run" if self.value is None else f"is {self.value:.4g}"
        return f"{self.gate.name} {was}, wanted is {self.gate.wanted}"

    @property
    def sentence(self) -> str:
        """``Q_min is 0.3102, wanted is at least 0.35: fail.``"""
        return f"{self.measured}: {self.verdict}."

    def as_dict(self) -> dict[str, Any]:
        gate = self.gate
        return {"name": gate.name, "min": gate.low, "max": gate.high, "value": self.value, "verdict": self.verdict}


def read_thresholds(path: Path) -> list[Gate]:
    """The gates of a YAML file such as ``{Q_min: {min: 0.35}, infrared.dropped: {max: 0}}``.

    Raises :class:`RosAttnError` with the file and the entry that is wrong; names are checked by
    :func:`check_gates`, which knows the run.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RosAttnError(f"{path} cannot be read as thresholds: {error}") from None
    if not isinstance(content, dict) or not content:
        raise RosAttnError(f"{path}: thresholds are a mapping such as Q_min: {{min: 0.35}}.")
    return [_gate(path, str(name), limits) for name, limits in content.items()]


def _gate(path: Path, name: str, limits: Any) -> Gate:
    if not isinstance(limits, dict) or not limits:
        raise RosAttnError(f"{path}: {name} takes limits such as {{min: 0.35}} or {{max: 0}}, not {limits!r}.")
    for key, value in limits.items():
        if key not in LIMITS:
            raise RosAttnError(
                f"{path}: {name} has an unknown limit {key!r}{meant(str(key), LIMITS)}; there are min and max."
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise RosAttnError(f"{path}: {name}.{key} is {value!r}, but takes a number.")
    low, high = limits.get("min"), limits.get("max")
    if low is not None and high is not None and low > high:
        raise RosAttnError(f"{path}: {name} has min {low:g} above max {high:g}, which nothing passes.")
    return Gate(name, low, high)


def check_gates(
    gates: list[Gate], evaluation: Evaluation, comparison: Comparison | None, path: Path
) -> list[GateResult]:
    """Every gate held against the figures of a run.

    Raises :class:`RosAttnError` for a name that no run of this kind has, with the nearest ones. A figure that
    exists but was not measured in this run fails its gate: what was not looked at did not pass.
    """
    figures = evaluation.figures() | (comparison.figures() if comparison else {})
    known = figures.keys() | _possible(evaluation)
    for gate in gates:
        if gate.name.endswith(f".minus_{AGAINST}") and comparison is None:
            raise RosAttnError(
                f"{path}: {gate.name} is a difference to another run; name that run with --{AGAINST} RUN."
            )
        if gate.name not in known:
            near = get_close_matches(gate.name, known, n=3, cutoff=0.5)
            hint = f"near are {listed(near)}" if near else f"there are {listed(sorted(figures), 40)}"
            raise RosAttnError(f"{path}: there is no figure {gate.name!r}; {hint}.")
    return [GateResult(gate, figures.get(gate.name)) for gate in gates]


def _possible(evaluation: Evaluation) -> set[str]:
    """Names of figures that a run of these stages can have."""
    others = (*(f".minus_{name}" for name in (*BASELINES, AGAINST)), "_p5", "_p95", "")
    names = {metric + other for metric in METRICS for other in others} | {"pictures", "scored"}
    names |= {f"{time}_{quantile}" for time in ("step_ms", "age_ms") for quantile in ("p50", "p95", "p99", "max")}
    names |= {f"{name}.minus_{AGAINST}" for name in names if "." not in name}
    return {evaluation.prefix(stage) + name for stage in evaluation.run.stages for name in names}
