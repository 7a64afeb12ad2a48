"""Two runs side by side: the same pictures, paired; what differs, and which is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ros_attn.errors import RosAttnError, listed
from ros_attn.evaluate.bootstrap import pooled_estimate
from ros_attn.evaluate.evaluation import Better, Difference, Evaluation, Plan, difference, evaluate_run, judged
from ros_attn.evaluate.fusion_metrics import METRICS
from ros_attn.evaluate.fusion_run import RUN, FrameScore, candidates, fusion_stage, pair_names, picture_size, spread
from ros_attn.evaluate.playback import input_bag
from ros_attn.evaluate.recorded_run import RecordedRun, StepLine

AGAINST = "against"
Key = int | str


def partners(runs: Sequence[RecordedRun], against: Sequence[RecordedRun]) -> list[RecordedRun | None]:
    """For every run the one to compare it with: that of the same bag, by path, else by the bag's name.

    One run against one other needs no common bag. Raises :class:`RosAttnError` naming a run without partner.
    """
    if not against:
        return [None] * len(runs)
    if len(runs) == len(against) == 1:
        return list(against)
    free, found = list(against), []
    for run in runs:
        fitting = [other for other in free if other.bag == run.bag] or [
            other for other in free if other.bag.name == run.bag.name
        ]
        if not fitting:
            bags = sorted({other.bag.name for other in free})
            raise RosAttnError(
                f"{run.path} is of the bag {run.bag}, of which none of the runs to compare with is left "
                f"(they are of {listed(bags)}); replay that bag with the other version too."
            )
        found.append(fitting[0])
        free.remove(fitting[0])
    if free:
        raise RosAttnError(
            f"No run is of the bag {free[0].bag}, as {free[0].path} of --against is; leave that one out."
        )
    return found


def common(
    lines: tuple[Sequence[StepLine], Sequence[StepLine]],
    numbers: tuple[Sequence[int], Sequence[int]],
    names: tuple[Mapping[int, str], Mapping[int, str]],
) -> list[tuple[int, int]]:
    """Pairs of step numbers of two runs that are of the same picture, in order of the first.

    By pair name where both bags name every picture differently, else by stamp.
    """
    keys = [_named(*each) for each in zip(lines, numbers, names, strict=True)]
    if not all(keys):
        keys = [_keyed((of[number].now_ns, number) for number in each) for of, each in zip(lines, numbers, strict=True)]
    first, second = keys
    return [(number, second[key]) for key, number in first.items() if key in second]


def _named(lines: Sequence[StepLine], numbers: Sequence[int], names: Mapping[int, str]) -> dict[Key, int]:
    found = _keyed((names.get(lines[number].now_ns, ""), number) for number in numbers)
    return found if len(found) == len(numbers) and "" not in found else {}


def _keyed(items: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for key, number in items:
        # Where a bag was looped the first time counts.
        found.setdefault(key, number)
    return found


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run against another. ``pairs`` are the scored pictures that both have."""

    run: Evaluation
    against: Evaluation
    pairs: Sequence[tuple[FrameScore, FrameScore]] = ()
    metrics: Mapping[str, Difference] = field(init=False)
    step_ms: Mapping[str, Difference] = field(init=False)
    counters: Mapping[str, tuple[float, float]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", self._metrics())
        object.__setattr__(self, "step_ms", self._step_ms())
        ours, theirs = self.run.figures(), self.against.figures()
        counters = {name: (ours[name], theirs[name]) for name in ours if name in theirs and _is_loss(name)}
        object.__setattr__(self, "counters", {name: pair for name, pair in counters.items() if any(pair)})

    @property
    def against_name(self) -> str:
        """What the other run is called, with its parent folder where both runs are called alike."""
        ours, theirs = self.run.run, self.against.run
        return f"{theirs.path.resolve().parent.name}/{theirs.name}" if ours.name == theirs.name else theirs.name

    @property
    def same_machine(self) -> bool:
        """Whether the times of both runs are of one machine, as far as its description tells."""
        first, second = (each.run.summary["provenance"]["machine"] for each in (self.run, self.against))
        return first == second

    def values(self, metric: str) -> list[tuple[float, float]]:
        """One metric of both runs over the common pictures."""
        scores = [(ours.scores[RUN], theirs.scores[RUN]) for ours, theirs in self.pairs]
        return [(ours[metric], theirs[metric]) for ours, theirs in scores if metric in ours and metric in theirs]

    def _metrics(self) -> dict[str, Difference]:
        found = {}
        for name, metric in METRICS.items():
            if (each := difference(self.values(name), metric.better, self.run.seed)) is not None:
                found[name] = each
        return found

    def _step_ms(self) -> dict[str, Difference]:
        """Of steps with the same stamp, by stage."""
        found = {}
        for stage in self.run.run.stages:
            if stage in self.against.run.stages:
                theirs = {line.now_ns: line.step_ms for line in self.against.run.lines_of(stage)}
                lines = [line for line in self.run.run.lines_of(stage) if line.now_ns in theirs]
                pairs = [(line.step_ms, theirs[line.now_ns]) for line in lines]
                if (each := difference(pairs, "lower", self.run.seed)) is not None:
                    found[stage] = each
        return found

    def figures(self) -> dict[str, float]:
        """Differences by the name that a threshold uses: ``Q_min.minus_against``, ``step_ms_p99.minus_against``."""
        ours, theirs = self.run.figures(), self.against.figures()
        found = {
            f"{name}.minus_{AGAINST}": ours[name] - theirs[name] for name in ours if name in theirs and "." not in name
        }
        prefix = self.run.prefix(self.run.stage) if self.run.stage else ""
        # Of the metrics only common pictures count.
        return found | {f"{prefix}{name}.minus_{AGAINST}": each.mean for name, each in self.metrics.items()}

    def document(self) -> dict[str, Any]:
        """What evaluation.json holds of it."""
        return {
            "run": str(self.against.run.path.resolve()),
            "commit": self.against.run.summary["provenance"]["commit"],
            "pairs": len(self.pairs),
            "metrics": {name: asdict(each) for name, each in self.metrics.items()},
            "step_ms": {name: asdict(each) for name, each in self.step_ms.items()},
            "same_machine": self.same_machine,
            "counters": {name: list(pair) for name, pair in self.counters.items()},
        }


def evaluate_pair(run: RecordedRun, against: RecordedRun, plan: Plan, bag: Path | None = None) -> Comparison:
    """Evaluate two runs on the pictures that both have, of which every k-th is scored.

    Raises :class:`RosAttnError` as :func:`.evaluation.evaluate_run` does; ``bag`` is where the bag of ``run`` is now,
    and of ``against`` too where that names the same one.
    """
    bags = bag, bag if against.bag == run.bag else None
    runs, stages = (run, against), (fusion_stage(run), fusion_stage(against))
    if not all(stages) or not all(candidates(each, str(stage)) for each, stage in zip(runs, stages, strict=True)):
        return Comparison(evaluate_run(run, plan, bags[0]), evaluate_run(against, plan, bags[1]))
    of = list(zip(runs, map(str, stages), bags, strict=True))
    lines = tuple(each.lines_of(stage) for each, stage, _ in of)
    numbers = tuple(candidates(each, stage) for each, stage, _ in of)
    names = tuple(pair_names(each, input_bag(each, place)) for each, _, place in of)
    both = common((lines[0], lines[1]), (numbers[0], numbers[1]), (names[0], names[1]))
    if not both:
        raise RosAttnError(
            f"{run.path} and {against.path} have no picture in common, neither by pair name nor by stamp; "
            "compare runs over one bag."
        )
    kept, every = spread(range(len(both)), picture_size(run, of[0][1]), plan.every, plan.runs)
    chosen = [both[index] for index in kept]
    evaluations = [
        evaluate_run(each, plan, place, [pair[side] for pair in chosen], every)
        for side, (each, _, place) in enumerate(of)
    ]
    scored = [{frame.number: frame for frame in each.scored} for each in evaluations]
    pairs = [(scored[0][a], scored[1][b]) for a, b in chosen if a in scored[0] and b in scored[1]]
    return Comparison(evaluations[0], evaluations[1], pairs)


def _is_loss(name: str) -> bool:
    """Counters of which each one is something that did not arrive or was not done."""
    word = name.rpartition("/")[2].rpartition(".")[2]
    return word in (
        "late", "dropped", "overflow", "undecodable", "missing", "lost", "superseded", "thinned",
        "failed", "skipped_ticks", "skipped_backlog", "untransformed", "resets",
    )  # fmt: skip


def pooled(comparisons: Sequence[Comparison], seed: int) -> dict[str, Difference]:
    """The differences of several pairs of runs taken together; see `pooled_estimate`."""
    found = {}
    for name, metric in METRICS.items():
        better: Better = metric.better
        groups = [[ours - theirs for ours, theirs in each.values(name)] for each in comparisons]
        if (each := pooled_estimate(groups, seed)) is not None:
            found[name] = judged(each, better)
    return found
