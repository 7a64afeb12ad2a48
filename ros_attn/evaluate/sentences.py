"""An evaluation in words, for the terminal and the head of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ros_attn.evaluate.compare import Comparison
from ros_attn.evaluate.evaluation import Difference, Evaluation
from ros_attn.evaluate.fusion_metrics import METRICS
from ros_attn.evaluate.thresholds import GateResult

RULES = {"max": "the pixelwise maximum", "average": "the average"}
# In the order in which they should be read: the minima first, what noise raises last.
READING_ORDER = (
    "Q_min", "VIF_min", "excess_gradient", "extra_clipping", "flicker", "pumping",
    "Q_ir", "Q_vi", "VIF_ir", "VIF_vi", "Qabf", "VIF", "SSIM", "SCD", "MI",
    "change_ratio", "EN", "SD", "SF", "AG",
)  # fmt: skip
FIRST = ("Q_min", "VIF_min")


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A run with what it was held against: another run, gates, both or neither."""

    evaluation: Evaluation
    comparison: Comparison | None = None
    gates: Sequence[GateResult] = ()

    @property
    def failed(self) -> list[GateResult]:
        """The gates that failed."""
        return [each for each in self.gates if not each.passed]


def title(evaluation: Evaluation) -> str:
    """``infrared_visible_fusion over msrs``."""
    return f"{joined(evaluation.run.stages)} over {evaluation.bag.name}"


def headline(item: Evaluated) -> list[str]:
    """What ran on what, what came of it, and what is worse than it should be."""
    found = [what_ran(item.evaluation), *item.evaluation.troubles, *item.evaluation.notes]
    found += [gates(item.gates)] if item.gates else []
    found += [against(item.comparison)] if item.comparison else []
    found += beside_baselines(item.evaluation)
    return found + losses(item.evaluation)


def what_ran(evaluation: Evaluation) -> str:
    """Steps, seconds of bag and latency of every stage."""
    run = evaluation.run
    parts = []
    for stage, summary in run.stages.items():
        times = evaluation.latency(stage).get("step_ms")
        latency = f", {times['p50']:.1f} ms a step in the median and {times['p99']:.1f} ms at p99" if times else ""
        parts.append(f"{stage} took {plural(summary['runs']['steps'], 'step')}{latency}")
    mode = "as deployed" if run.summary["mode"] == "as-deployed" else "every message"
    text = f"{'; '.join(parts)} ({run.summary['bag_s']:.1f} s of {evaluation.bag.name}, {mode})."
    if run.summary["interrupted"]:
        text += f" The run was cut short: {run.summary['interrupted']}."
    return text + (f" {scored(evaluation)}" if evaluation.stage else "")


def scored(evaluation: Evaluation) -> str:
    """``Of 150 fused pictures every 2nd was scored: 75.``"""
    number, total = len(evaluation.scored), sum(not frame.missing for frame in evaluation.frames)
    if evaluation.every == 1:
        return f"{plural(number, 'fused picture was', 'fused pictures were')} scored."
    return f"Of {total} fused pictures every {ordinal(evaluation.every)} was scored: {number}."


def gates(results: Sequence[GateResult]) -> str:
    """Whether the gates passed, and the sentences of those that did not."""
    failed = [each.measured for each in results if not each.passed]
    if not failed:
        return "The only gate passes." if len(results) == 1 else f"All {len(results)} gates pass."
    fail = "fails" if len(failed) == 1 else "fail"
    return f"{len(failed)} of {plural(len(results), 'gate')} {fail}: {'; '.join(failed)}."


def beside_baselines(evaluation: Evaluation) -> list[str]:
    """A sentence for each trivial rule on the same images: in what the run is better, in what worse."""
    found = []
    for rule, differences in evaluation.differences.items():
        text = split(differences)
        if text:
            found.append(f"Beside {RULES[rule]} of the same two images the run is {text}.")
    return found


def against(comparison: Comparison) -> str:
    """In what a run is better than the other, in what worse."""
    name = comparison.against_name
    same = [each for each in comparison.metrics.values() if each.low == each.high == 0.0]
    if comparison.metrics and len(same) == len(comparison.metrics):
        text = f"Its pictures score exactly as those of {name}"
    elif judged := split(comparison.metrics):
        text = f"Beside {name} on {plural(len(comparison.pairs), 'common picture')} the run is {judged}"
    elif comparison.metrics:
        text = f"On {plural(len(comparison.pairs), 'common picture')} nothing tells the run from {name}"
    else:
        text = f"Compared with {name}"
    return f"{text}. {steps_against(comparison)}".strip()


def steps_against(comparison: Comparison) -> str:
    """How long steps took beside those of the other run."""
    found = []
    for stage, each in comparison.step_ms.items():
        how = {"better": "shorter", "worse": "longer"}.get(each.verdict)
        found.append(
            f"A step of {stage} takes {abs(each.mean):.1f} ms {how}" if how else f"A step of {stage} takes as long"
        )
    if not found:
        return ""
    return "; ".join(found) + ("." if comparison.same_machine else ", but the two runs are from different machines.")


def split(differences: Mapping[str, Difference]) -> str:
    """``better in Q_min and VIF_min, worse in MI``; empty where nothing tells them apart."""
    parts = []
    for verdict in ("worse", "better"):
        names = [name for name in READING_ORDER if name in differences and differences[name].verdict == verdict]
        if names:
            parts.append(f"{verdict} in {joined(names)}")
    return ", ".join(parts)


def losses(evaluation: Evaluation) -> list[str]:
    """What did not arrive, was not used or not done."""
    found = []
    for each in evaluation.missing:
        found.append(
            f"{each.key} was missing from {each.start_s:.2f} to {each.stop_s:.2f} s ({plural(each.steps, 'step')})."
        )
    if len(found) > 4:
        total = sum(each.steps for each in evaluation.missing)
        found = [
            *found[:3],
            f"Sensors were missing {len(found) - 3} more times; {total} steps had to do without in all.",
        ]
    for stage, summary in evaluation.run.stages.items():
        runs = summary["runs"]
        for key, text in (("failed", "failed"), ("skipped_backlog", "were skipped while one was running"),
                          ("skipped_ticks", "ticks were skipped"), ("untransformed", "had no transform")):  # fmt: skip
            if runs[key]:
                found.append(f"{stage}: {runs[key]} {text if key == 'skipped_ticks' else f'steps {text}'}.")
        counters = summary["inputs"].values()
        lines = [line for line, each in zip(summary["sentences"], counters, strict=False) if unused(each)]
        found += [f"{line}." for line in lines]
    return found


def unused(counters: Mapping[str, int]) -> int:
    """Messages of an input that went to no step."""
    return sum(counters[name] for name in ("late", "dropped", "overflow", "undecodable", "lost") if name in counters)


def joined(names: Iterable[str]) -> str:
    """``a, b and c``."""
    found = list(names)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def plural(number: int, one: str, many: str = "") -> str:
    """``1 step``, ``2 steps``."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def ordinal(number: int) -> str:
    """``2nd``, ``3rd``, ``11th``."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def decimals(metric: str) -> int:
    """Decimals with which the values of a metric are shown."""
    return 2 if metric in ("EN", "SD", "SF", "AG") else 4 if metric in ("excess_gradient", "extra_clipping") else 3


def arrow(metric: str) -> str:
    """Which way is better."""
    return {"higher": "↑", "lower": "↓", "none": ""}[METRICS[metric].better]
