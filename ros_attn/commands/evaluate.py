"""``ros-attn evaluate``: scores of runs, gates, comparisons and the HTML report."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ros_attn.errors import RosAttnError
from ros_attn.evaluate import report, sentences
from ros_attn.evaluate.compare import evaluate_pair, partners
from ros_attn.evaluate.evaluation import Plan, evaluate_run, write, write_whole
from ros_attn.evaluate.fusion_run import RUN, Baseline
from ros_attn.evaluate.recorded_run import RecordedRun, read_run
from ros_attn.evaluate.sentences import Evaluated
from ros_attn.evaluate.thresholds import GATE_FAILED, Gate, check_gates, read_thresholds


@dataclass(frozen=True)
class Options:
    """Score runs that ``ros-attn replay`` wrote, and write one report; exit code 2 where a gate fails."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders, such as runs/latest."""
    against: tuple[Path, ...] = ()
    """run folders to compare with, one for each run: of the same bags, with another version or other parameters."""
    thresholds: Path | None = None
    """YAML file of gates, such as launch/config/thresholds_fusion.yaml."""
    every: int | None = None
    """score every k-th picture; the default takes about a minute: 100 VGA pictures in all, at least 12 a run."""
    baselines: tuple[Baseline, ...] = ("max", "average")
    """trivial rules that stand beside the run, on the same images."""
    bag: Path | None = None
    """where the bag of a run is now, if it was moved."""
    out: Path | None = None
    """the report; default report.html in the run folder, or of several runs in their parent folder."""
    seed: int = 0
    """of the bootstrap intervals."""
    open: Literal["yes", "no"] = "no"
    """open the report in a browser."""


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn evaluate")
    _check(options)
    gates = read_thresholds(options.thresholds) if options.thresholds else []
    runs = [read_run(path) for path in options.runs]
    others = partners(runs, [read_run(path) for path in options.against])
    plan = Plan(options.every, options.baselines, options.seed, len(runs) + len(options.against))
    items = []
    for number, (each, other) in enumerate(zip(runs, others, strict=True), 1):
        if len(runs) > 1:
            print(f"{number}/{len(runs)} {each.path}", file=sys.stderr)
        items.append(_evaluated(each, other, plan, options, gates))
    out = options.out or _default_out(runs)
    write_whole(out, report.render(items, str(options.thresholds or "")))
    print(describe(items))
    print(f"The report: {out}")
    if options.open == "yes":
        webbrowser.open(out.resolve().as_uri())
    if any(item.failed for item in items):
        return GATE_FAILED
    return 1 if any(item.evaluation.troubles for item in items) else 0


def _check(options: Options) -> None:
    if not options.runs:
        raise RosAttnError("Which run is to be evaluated? Name its folder, such as runs/latest.")
    if options.every is not None and options.every < 1:
        raise RosAttnError(f"--every {options.every}: take 1 for every picture, 2 for every second, and so on.")
    if options.bag and len(options.runs) > 1:
        raise RosAttnError("--bag says where the bag of one run is; evaluate runs with moved bags one by one.")
    if options.out and options.out.is_dir():
        raise RosAttnError(f"--out {options.out} is a folder; name the file, such as {options.out / 'report.html'}.")


def _evaluated(
    each: RecordedRun, other: RecordedRun | None, plan: Plan, options: Options, gates: list[Gate]
) -> Evaluated:
    """Evaluate a run and leave its figures in its folder."""
    comparison = evaluate_pair(each, other, plan, options.bag) if other else None
    evaluation = comparison.run if comparison else evaluate_run(each, plan, options.bag)
    results = check_gates(gates, evaluation, comparison, options.thresholds or Path()) if gates else []
    document = evaluation.document()
    document |= {"against": comparison.document()} if comparison else {}
    document |= {"gates": [result.as_dict() for result in results]} if results else {}
    write(each.path, document, evaluation.frames)
    return Evaluated(evaluation, comparison, results)


def _default_out(runs: Sequence[RecordedRun]) -> Path:
    if len(runs) == 1:
        return runs[0].path / "report.html"
    parents = {each.path.resolve().parent for each in runs}
    return (parents.pop() if len(parents) == 1 else Path()) / "report.html"


def describe(items: Sequence[Evaluated]) -> str:
    """The evaluations in a few lines each."""
    lines = []
    for item in items:
        lines.append(str(item.evaluation.run.path))
        lines += [f"  {sentence}" for sentence in sentences.headline(item)]
        lines += [f"  {line}" for line in _table(item)]
    return "\n".join(lines)


def _table(item: Evaluated) -> list[str]:
    """The metrics to read first, of the run and of the rules."""
    estimates = item.evaluation.estimates
    if not estimates.get(RUN):
        return []
    lines = [f"{'':<18}" + "".join(f"{rule:>10}" for rule in estimates)]
    for name in sentences.READING_ORDER[:6]:
        if name in estimates[RUN]:
            cells = "".join(f"{each[name].mean:>10.4f}" for each in estimates.values())
            lines.append(f"{name + ' ' + sentences.arrow(name):<18}{cells}")
    return lines
