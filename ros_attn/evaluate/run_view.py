"""What the report shows of one run: tables as rows of text, plots as SVG; the template only lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ros_attn.evaluate import plots
from ros_attn.evaluate.compare import AGAINST
from ros_attn.evaluate.evaluation import Difference, Evaluation
from ros_attn.evaluate.fusion_metrics import METRICS
from ros_attn.evaluate.fusion_run import RUN
from ros_attn.evaluate.origin import parameters_of, provenance_of
from ros_attn.evaluate.plots import Band, Dot, Html, Series
from ros_attn.evaluate.sentences import (
    FIRST,
    READING_ORDER,
    RULES,
    Evaluated,
    arrow,
    decimals,
    headline,
    plural,
    scored,
    title,
    unused,
)

GROUPS = (
    ("Read these first", ("Q_min", "VIF_min", "excess_gradient", "extra_clipping", "flicker", "pumping")),
    ("Each source by itself", ("Q_ir", "Q_vi", "VIF_ir", "VIF_vi")),
    ("Sums over both sources: the pixelwise maximum does well here", ("Qabf", "VIF", "SSIM", "SCD", "MI")),
    ("Reward noise, halos and clipping: no measure of quality", ("EN", "SD", "SF", "AG", "change_ratio")),
)
assert sorted(name for _, names in GROUPS for name in names) == sorted(METRICS) == sorted(READING_ORDER)

MOST_INTERVALS = 20
PLOTTED = ("Q_min", "VIF_min", "excess_gradient", "flicker")
_TAGS = {"better": "▲", "worse": "▼", "no difference": "=", "higher": "+", "lower": "−", "too few to say": "?"}


def run_view(item: Evaluated) -> dict[str, Any]:
    """Everything but the pictures."""
    evaluation = item.evaluation
    sentences = headline(item)
    return {
        "id": evaluation.run.name,
        "title": title(evaluation),
        "lead": sentences[0],
        "sentences": sentences[1:],
        "verdict": verdict(item),
        "gates": [_gate(each) for each in item.gates],
        "tiles": _tiles(item),
        "rules": [rule for rule in RULES if rule in evaluation.differences],
        "metrics": _metrics(evaluation),
        "scored": scored(evaluation) if evaluation.stage else "",
        "against": item.comparison.against_name if item.comparison else "",
        "comparison": _comparison(item),
        "plots": _plots(item),
        "latency": _latency(item),
        "latency_plots": _latency_plots(evaluation),
        "inputs": _inputs(evaluation),
        "undecodable": evaluation.run.summary["undecodable"],
        "intervals": evaluation.intervals[:MOST_INTERVALS],
        "further_intervals": max(len(evaluation.intervals) - MOST_INTERVALS, 0),
        "parameters": parameters_of(evaluation),
        "provenance": provenance_of(item),
    }


def verdict(item: Evaluated) -> tuple[str, str]:
    """A word for the head of the page and its colour."""
    if item.evaluation.troubles:
        return "nothing to score" if item.evaluation.run.lines else "no steps", "bad"
    if item.failed:
        return f"{plural(len(item.failed), 'gate')} failed", "bad"
    return ("all gates passed", "good") if item.gates else ("no gates set", "soft")


def number(value: float, digits: int) -> str:
    """A value with so many decimals; a true minus, as wide as a digit."""
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """With its sign."""
    return ("+" if value >= 0 else "−") + number(abs(value), digits)


def tag(found: Difference | None) -> dict[str, str]:
    """The sign of a verdict and its words."""
    if found is None:
        return {"sign": "", "kind": "soft", "words": ""}
    kind = {"better": "good", "worse": "bad"}.get(found.verdict, "soft")
    words = f"{found.verdict}; mean difference {found.mean:+.4g}, 95 % interval {found.low:+.4g} to {found.high:+.4g}"
    return {"sign": _TAGS[found.verdict], "kind": kind, "words": words}


def _gate(each: Any) -> dict[str, Any]:
    value = "not measured" if each.value is None else f"{each.value:.4g}"
    return {
        "name": each.gate.name,
        "value": value,
        "wanted": each.gate.wanted,
        "passed": each.passed,
        "raw": each.value,
    }


def _tiles(item: Evaluated) -> list[dict[str, Any]]:
    evaluation = item.evaluation
    found = []
    for name in PLOTTED:
        ours = evaluation.estimates.get(RUN, {}).get(name)
        if ours is None:
            continue
        others = [
            {
                "label": rule,
                "text": number(each[name].mean, decimals(name)),
                "tag": tag(evaluation.differences[rule][name]),
            }
            for rule, each in evaluation.estimates.items()
            if rule != RUN
        ]
        text = number(ours.mean, decimals(name))
        found.append(_tile(name, text, ours.mean, name, METRICS[name].meaning, arrow(name), others))
    for stage, summary in evaluation.run.stages.items():
        prefix = evaluation.prefix(stage)
        if times := evaluation.latency(stage).get("step_ms"):
            note = f"median {times['p50']:.1f} ms, longest {times['max']:.1f} ms"
            p99 = times["p99"]
            found.append(_tile(f"{prefix}step p99", f"{p99:.1f} ms", p99, f"{prefix}step_ms_p99", note))
        counters = list(summary["inputs"].values())
        lost, missing = sum(map(unused, counters)), sum(each["missing"] for each in counters)
        received = sum(each["received"] for each in counters)
        note = f"of {received} received; {plural(missing, 'step')} had to do without an input"
        found.append(_tile(f"{prefix}messages unused", str(lost), lost, "", note))
    return found


def _tile(
    label: str, text: str, raw: float, figure: str, note: str, better: str = "↓", others: Sequence[Any] = ()
) -> dict[str, Any]:
    found = {"label": label, "better": better, "text": text, "raw": raw, "figure": figure, "note": note}
    return {**found, "others": others}


def _metrics(evaluation: Evaluation) -> list[dict[str, Any]]:
    estimates = evaluation.estimates
    groups = []
    for heading, names in GROUPS:
        rows = [_metric_row(evaluation, name) for name in names if name in estimates.get(RUN, {})]
        if rows:
            groups.append({"heading": heading, "rows": rows})
    return groups


def _metric_row(evaluation: Evaluation, name: str) -> dict[str, Any]:
    digits, ours = decimals(name), evaluation.estimates[RUN][name]
    others = {rule: each[name] for rule, each in evaluation.estimates.items() if rule != RUN}
    over = plots.padded([ours.low, ours.high, *(each.mean for each in others.values())])
    dots = [Dot(rule, each.mean) for rule, each in others.items()] + [Dot(RUN, ours.mean, ours.low, ours.high)]
    return {
        "name": name,
        "better": arrow(name),
        "meaning": METRICS[name].meaning,
        "source": METRICS[name].source,
        "first": name in FIRST,
        "text": number(ours.mean, digits),
        "raw": ours.mean,
        "interval": f"{number(ours.low, digits)} – {number(ours.high, digits)}",
        "strip": plots.strip(dots, over),
        "others": [
            {
                "rule": rule,
                "text": number(each.mean, digits),
                "raw": each.mean,
                "tag": tag(evaluation.differences[rule][name]),
            }
            for rule, each in others.items()
        ],
    }


def _comparison(item: Evaluated) -> dict[str, Any] | None:
    comparison = item.comparison
    if comparison is None:
        return None
    rows = []
    for name in READING_ORDER:
        if (found := comparison.metrics.get(name)) is None:
            continue
        pairs = comparison.values(name)
        means = [sum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1)]
        rows.append(difference_row(name, found, means))
    times = []
    for stage, found in comparison.step_ms.items():
        both = [each.latency(stage)["step_ms"] for each in (comparison.run, comparison.against)]
        name = f"{comparison.run.prefix(stage)}step [ms]"
        row = {"name": name, "better": "↓", "meaning": "of steps with the same stamp", "quantiles": both}
        times.append(row | _difference(found, 1))
    counters = [{"name": name, "ours": ours, "theirs": theirs} for name, (ours, theirs) in comparison.counters.items()]
    return {
        "pairs": len(comparison.pairs),
        "rows": rows,
        "times": times,
        "counters": counters,
        "same_machine": comparison.same_machine,
    }


def difference_row(name: str, found: Difference, means: Sequence[float]) -> dict[str, Any]:
    """A row of a table of differences of one metric."""
    digits = decimals(name)
    row = {"name": name, "better": arrow(name), "meaning": METRICS[name].meaning}
    return row | {"means": [number(mean, digits) for mean in means], **_difference(found, digits + 1)}


def _difference(found: Difference, digits: int) -> dict[str, Any]:
    """The strip is scaled to this row alone."""
    over = plots.padded([found.low, found.high, -found.low, -found.high], zero=True)
    kind = {"better": "good", "worse": "bad"}.get(found.verdict, "soft")
    return {
        "text": signed(found.mean, digits),
        "raw": found.mean,
        "interval": f"{signed(found.low, digits)} … {signed(found.high, digits)}",
        "verdict": found.verdict,
        "kind": kind,
        "strip": plots.strip([Dot(kind, found.mean, found.low, found.high)], over, zero=True),
    }


def _bands(evaluation: Evaluation, stage: str) -> list[Band]:
    found = []
    for each in evaluation.intervals:
        if each.stage == stage:
            label = f"{each.key} missing" if each.missing else each.sentence.rstrip(".")
            found.append(Band(each.start_s, each.stop_s, label, f"no-{each.key}" if each.missing else ""))
    return found


def _span(evaluation: Evaluation, stage: str) -> tuple[float, float] | None:
    times = [evaluation.run.seconds(line.now_ns) for line in evaluation.run.lines_of(stage)]
    return (min(times), max(times)) if len(times) > 1 and min(times) < max(times) else None


def _plots(item: Evaluated) -> list[Html]:
    evaluation, comparison = item.evaluation, item.comparison
    stage, found = evaluation.stage, []
    if stage is None or len(evaluation.scored) < 2:
        return []
    x = [frame.t_s for frame in evaluation.scored]
    bands, span = _bands(evaluation, stage), _span(evaluation, stage)
    theirs: dict[int, Mapping[str, float]] = {}
    if comparison:
        theirs = {ours.number: other.scores[RUN] for ours, other in comparison.pairs}
    for name in PLOTTED:
        if name not in evaluation.estimates[RUN]:
            continue
        series = [
            Series(rule, rule, [frame.scores[rule].get(name) for frame in evaluation.scored])
            for rule in evaluation.differences
        ]
        if comparison and theirs:
            other = [theirs.get(frame.number, {}).get(name) for frame in evaluation.scored]
            series.append(Series(comparison.against_name, AGAINST, other))
        series.append(Series(RUN, RUN, [frame.scores[RUN].get(name) for frame in evaluation.scored], dots=True))
        note = f"{arrow(name)} {METRICS[name].meaning}"
        found.append(plots.line_plot(name, note, x, series, bands, zero=name != "VIF_min", span=span))
    if comparison and theirs:
        found += _difference_plots(item, theirs, bands, span)
    return found


def _difference_plots(
    item: Evaluated, theirs: Mapping[int, Mapping[str, float]], bands: Sequence[Band], span: tuple[float, float] | None
) -> list[Html]:
    frames = [frame for frame in item.evaluation.scored if frame.number in theirs]
    found = []
    for name in FIRST:
        y = [frame.scores[RUN][name] - theirs[frame.number][name] for frame in frames]
        note = f"run − {AGAINST}, above 0 the run is better"
        series = [Series("difference", RUN, y, dots=True)]
        text = plots.line_plot(
            f"{name}, difference", note, [frame.t_s for frame in frames], series, bands, zero=True, span=span
        )
        found.append(text)
    return found


def _latency(item: Evaluated) -> list[dict[str, Any]]:
    names = {"step_ms": "step", "age_ms": "stamp to output"}
    notes = {
        "step_ms": "time the step took on the machine of the run",
        "age_ms": "from the stamp a picture is about to its arrival: transport, waiting for partners and the step",
    }
    rows = []
    for stage in item.evaluation.run.stages:
        prefix = item.evaluation.prefix(stage)
        for name, quantiles in item.evaluation.latency(stage).items():
            cells = [
                {"figure": f"{prefix}{name}_{key}", "raw": value, "text": f"{value:.1f}"}
                for key, value in quantiles.items()
            ]
            rows.append({"name": prefix + names[name], "note": notes[name], "cells": cells})
    return rows


def _latency_plots(evaluation: Evaluation) -> list[Html]:
    found = []
    for stage in evaluation.run.stages:
        lines, prefix = evaluation.run.lines_of(stage), evaluation.prefix(stage)
        if len(lines) < 2:
            continue
        x, y = [evaluation.run.seconds(line.now_ns) for line in lines], [line.step_ms for line in lines]
        span = _span(evaluation, stage)
        if span:
            series = [Series("", RUN, y)]
            bands = _bands(evaluation, stage)
            found.append(plots.line_plot(f"{prefix}step", "↓ ms", x, series, bands, unit=" ms", zero=True, span=span))
        for name, quantiles in evaluation.latency(stage).items():
            values = y if name == "step_ms" else [line.age_ms for line in lines if line.outputs]
            words = "how long steps took" if name == "step_ms" else "from stamp to output"
            marks = [(quantiles[key], key) for key in ("p50", "p95", "p99")]
            found.append(
                plots.histogram(f"{prefix}{'step' if name == 'step_ms' else 'age'}", words, values, marks, "ms")
            )
    return found


def _inputs(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for stage, summary in evaluation.run.stages.items():
        prefix = evaluation.prefix(stage)
        for (name, counters), sentence in zip(summary["inputs"].items(), summary["sentences"], strict=False):
            cells = {
                key: value for key, value in counters.items() if isinstance(value, int) and not isinstance(value, bool)
            }
            rows.append(
                {
                    "name": prefix + name,
                    "topic": counters["topic"],
                    "sentence": sentence,
                    "cells": [
                        {"name": key, "figure": f"{prefix}{name}.{key}", "raw": value} for key, value in cells.items()
                    ],
                    "clean": not unused(counters) and not counters["missing"],
                }
            )
    return rows
