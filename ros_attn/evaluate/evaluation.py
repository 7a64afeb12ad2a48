"""The evaluation of one run: its figures, with intervals and differences to the trivial rules, as one document."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ros_attn.errors import RosAttnError
from ros_attn.evaluate.bootstrap import LEVEL, RESAMPLES, Estimate, estimate
from ros_attn.evaluate.fusion_metrics import METRICS
from ros_attn.evaluate.fusion_run import (
    BASELINES,
    RUN,
    Baseline,
    FrameScore,
    UnknownSourcesError,
    candidates,
    fusion_stage,
    pair_names,
    picture_size,
    score,
    spread,
)
from ros_attn.evaluate.playback import input_bag
from ros_attn.evaluate.recorded_run import Interval, RecordedRun, StepLine, intervals, quantiles
from ros_attn.provenance import provenance

LEAST_PAIRS = 8
"""Fewer pairs of values than this say nothing of a difference."""

Verdict = Literal["better", "worse", "no difference", "higher", "lower", "too few to say"]
Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, the first minus the second, with its 95 % interval, and what it means."""

    mean: float
    low: float
    high: float
    n: int
    verdict: Verdict


def difference(pairs: Sequence[tuple[float, float]], better: Better, seed: int) -> Difference | None:
    """Of pairs (first, second); None for no pairs. An interval that holds 0 is no difference."""
    found = estimate([first - second for first, second in pairs], seed)
    return None if found is None else judged(found, better)


def judged(found: Estimate, better: Better) -> Difference:
    """A difference whose interval is known already."""
    verdict: Verdict
    if found.low == found.high == 0.0:
        verdict = "no difference"
    elif found.n < LEAST_PAIRS:
        verdict = "too few to say"
    elif found.low <= 0.0 <= found.high:
        verdict = "no difference"
    elif better == "none":
        verdict = "higher" if found.mean > 0 else "lower"
    else:
        verdict = "better" if (found.mean > 0) == (better == "higher") else "worse"
    return Difference(found.mean, found.low, found.high, found.n, verdict)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One run, evaluated. ``stage`` is the stage whose pictures were scored, None where the run fuses nothing.

    ``frames`` has an entry for every picture of that stage, ``every`` says which were scored. ``troubles`` are
    sentences about why there is nothing to look at, ``notes`` about what was left out.
    """

    run: RecordedRun
    bag: Path
    seed: int
    stage: str | None = None
    frames: Sequence[FrameScore] = ()
    every: int = 1
    baselines: Sequence[Baseline] = ()
    troubles: Sequence[str] = ()
    notes: Sequence[str] = ()
    estimates: Mapping[str, Mapping[str, Estimate]] = field(init=False)
    differences: Mapping[str, Mapping[str, Difference]] = field(init=False)
    intervals: Sequence[Interval] = field(init=False)

    def __post_init__(self) -> None:
        rules = (RUN, *self.baselines) if self.stage else ()
        estimates = {rule: self._estimates(rule) for rule in rules}
        object.__setattr__(self, "estimates", estimates)
        differences = {rule: self._differences(rule) for rule in rules if rule != RUN}
        object.__setattr__(self, "differences", differences)
        object.__setattr__(self, "intervals", list(self._intervals()))

    @property
    def scored(self) -> list[FrameScore]:
        """The pictures that have scores."""
        return [frame for frame in self.frames if frame.scores]

    def values(self, rule: str, metric: str) -> list[float]:
        """One metric over the scored pictures, in order; pictures without it are left out."""
        return [scores[metric] for frame in self.scored if metric in (scores := frame.scores[rule])]

    def _estimates(self, rule: str) -> dict[str, Estimate]:
        found = {name: estimate(self.values(rule, name), self.seed) for name in METRICS}
        return {name: each for name, each in found.items() if each is not None}

    def _differences(self, baseline: str) -> dict[str, Difference]:
        found = {}
        for name, metric in METRICS.items():
            scores = [(frame.scores[RUN], frame.scores[baseline]) for frame in self.scored]
            pairs = [(ours[name], theirs[name]) for ours, theirs in scores if name in ours]
            if (each := difference(pairs, metric.better, self.seed)) is not None:
                found[name] = each
        return found

    def _intervals(self) -> Iterable[Interval]:
        missing = {frame.number: frame.missing for frame in self.frames}

        def conditions(stage: str, number: int, line: StepLine) -> Mapping[str, str]:
            if stage != self.stage:
                return line.conditions
            return {name: f"{name} is missing." for name in missing.get(number, ())} | dict(line.conditions)

        for stage in self.run.stages:
            yield from intervals(self.run, stage, lambda number, line, of=stage: conditions(of, number, line))

    @property
    def missing(self) -> list[Interval]:
        """Stretches through which an input was missing."""
        return [each for each in self.intervals if each.missing]

    def latency(self, stage: str) -> dict[str, dict[str, float]]:
        """Quantiles of ``step_ms`` [ms, on the machine of the run] and, where a step took time, of ``age_ms``:
        from the stamp to the arrival of the outputs."""
        lines = self.run.lines_of(stage)
        found = {"step_ms": quantiles([line.step_ms for line in lines])}
        if self.run.summary["mode"] == "as-deployed":
            found["age_ms"] = quantiles([line.age_ms for line in lines if line.outputs])
        return {name: each for name, each in found.items() if each}

    def figures(self) -> dict[str, float]:
        """Every figure by the name that a threshold uses: counters of the run and of every input
        (``infrared.dropped``), quantiles (``step_ms_p99``), and of the pictures the mean of every metric
        (``Q_min``), its percentiles (``Q_min_p5``, ``Q_min_p95``) and its mean difference to a baseline
        (``Q_min.minus_max``). In a run of several stages the names begin with the stage and a slash.
        """
        found: dict[str, float] = {}
        for stage, summary in self.run.stages.items():
            of_stage: dict[str, float] = dict(_numbers(summary["runs"]))
            for name, each in self.latency(stage).items():
                of_stage |= {f"{name}_{quantile}": value for quantile, value in each.items()}
            for name, counters in summary["inputs"].items():
                of_stage |= {f"{name}.{counter}": value for counter, value in _numbers(counters).items()}
            if stage == self.stage:
                of_stage |= self._fusion_figures()
            found |= {self.prefix(stage) + name: value for name, value in of_stage.items()}
        return found

    def prefix(self, stage: str) -> str:
        """What the figures of a stage begin with."""
        return f"{stage}/" if len(self.run.stages) > 1 else ""

    def _fusion_figures(self) -> dict[str, float]:
        found: dict[str, float] = {"pictures": len(self.frames), "scored": len(self.scored)}
        for name, each in self.estimates.get(RUN, {}).items():
            found |= {name: each.mean, f"{name}_p5": each.p5, f"{name}_p95": each.p95}
        for baseline, differences in self.differences.items():
            found |= {f"{name}.minus_{baseline}": each.mean for name, each in differences.items()}
        return found

    def document(self) -> dict[str, Any]:
        """What evaluation.json holds."""
        summary = self.run.summary
        return {
            "run": str(self.run.path.resolve()),
            "bag": str(self.bag),
            "mode": summary["mode"],
            "reproducible": summary["reproducible"],
            "interrupted": summary["interrupted"],
            "components": {name: stage["component"] for name, stage in self.run.stages.items()},
            "pictures": {
                "stage": self.stage,
                "fused": len(self.frames),
                "with_both_inputs": sum(not frame.missing for frame in self.frames),
                "every": self.every,
                "scored": len(self.scored),
            },
            "troubles": list(self.troubles),
            "notes": list(self.notes),
            "metrics": {rule: _dicts(each) for rule, each in self.estimates.items()},
            "differences": {f"{RUN}-{rule}": _dicts(each) for rule, each in self.differences.items()},
            "latency": {stage: self.latency(stage) for stage in self.run.stages},
            "runs": {name: stage["runs"] for name, stage in self.run.stages.items()},
            "inputs": {name: stage["inputs"] for name, stage in self.run.stages.items()},
            "sentences": {name: stage["sentences"] for name, stage in self.run.stages.items()},
            "intervals": [asdict(each) for each in self.intervals],
            "figures": self.figures(),
            "bootstrap": {"seed": self.seed, "resamples": RESAMPLES, "level": LEVEL},
            "provenance": {"run": summary["provenance"], "evaluation": provenance()},
        }


@dataclass(frozen=True)
class Plan:
    """How runs are evaluated: every k-th picture (None: as many as take about a minute for ``runs`` runs)."""

    every: int | None = None
    baselines: Sequence[Baseline] = BASELINES
    seed: int = 0
    runs: int = 1


def evaluate_run(
    run: RecordedRun, plan: Plan, bag: Path | None = None, chosen: Sequence[int] | None = None, every: int = 1
) -> Evaluation:
    """Evaluate one run; ``bag`` is where its bag is now, ``chosen`` the steps to score where the caller knows.

    A run that fuses nothing needs no bag and gets the figures that every run has. Raises
    :class:`~ros_attn.errors.RosAttnError` as :func:`.fusion_run.score` does and where the bag is not there.
    """
    stage = fusion_stage(run)
    troubles = _troubles(run, stage)
    if stage is None or troubles:
        return Evaluation(run, bag or run.bag, plan.seed, troubles=troubles)
    bag = input_bag(run, bag)
    numbers = candidates(run, stage)
    if chosen is None:
        chosen, every = spread(numbers, picture_size(run, stage), plan.every, plan.runs)
    names = pair_names(run, bag)
    notes = ["The bag holds named image pairs: where they are no sequence, flicker and pumping mean nothing."]
    try:
        frames = score(run, bag, stage, chosen, plan.baselines, names)
    except UnknownSourcesError as error:
        return Evaluation(run, bag, plan.seed, notes=[str(error)])
    if not any(frame.scores for frame in frames):
        sentences = "; ".join(run.stages[stage]["sentences"])
        troubles = [
            f"None of the {len(frames)} fused pictures was made of both images, so none can be scored: {sentences}."
        ]
    return Evaluation(run, bag, plan.seed, stage, frames, every, plan.baselines, troubles, notes if names else ())


def _troubles(run: RecordedRun, stage: str | None) -> list[str]:
    found = []
    for name, each in run.stages.items():
        if each["runs"]["steps"]:
            if name == stage and not each["outputs"]["fused"]["count"]:
                found.append(f"{name} took {each['runs']['steps']} steps and gave no fused picture.")
        elif each["runs"]["failed"]:
            found.append(f"Every step of {name} failed; the first: {each['runs']['first_failure']}")
        else:
            found.append(f"{name} took no step: {'; '.join(each['sentences'])}.")
    return found


def write(folder: Path, document: Mapping[str, Any], frames: Sequence[FrameScore]) -> None:
    """evaluation.json and, with pictures, evaluation.jsonl."""
    write_whole(folder / "evaluation.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    if frames:
        lines = (json.dumps(frame.as_dict(), allow_nan=False) + "\n" for frame in frames)
        write_whole(folder / "evaluation.jsonl", "".join(lines))


def write_whole(path: Path, text: str) -> None:
    """Write beside, then rename, so that a file is never half; RosAttnError where that is not permitted."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise RosAttnError(f"{path} cannot be written: {error.strerror or error}; make room or permit it.") from None


def _numbers(counters: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in counters.items() if isinstance(value, int) and not isinstance(value, bool)}


def _dicts(each: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in each.items()}
