"""The report: one HTML file that needs nothing but itself, of one run or of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from ros_attn.errors import listed
from ros_attn.evaluate import pictures, plots
from ros_attn.evaluate.bootstrap import pooled_estimate
from ros_attn.evaluate.compare import pooled
from ros_attn.evaluate.evaluation import Difference, Estimate
from ros_attn.evaluate.fusion_metrics import METRICS
from ros_attn.evaluate.fusion_run import RUN, FrameScore
from ros_attn.evaluate.pictures import Moment, RawMoment
from ros_attn.evaluate.plots import Axis, Dot
from ros_attn.evaluate.run_view import difference_row, number, run_view, signed
from ros_attn.evaluate.sentences import FIRST, READING_ORDER, Evaluated, arrow, decimals, joined, plural, split, unused

MOST_SHOWN_RUNS = 6
_COMPARED = ("Q_min", "VIF_min", "excess_gradient", "flicker")


def render(items: Sequence[Evaluated], thresholds: str = "") -> str:
    """The page as text; ``thresholds`` names the file of the gates.

    The runs are played once more for the pictures, so their bags must still be there.
    """
    import jinja2

    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    folder = resources.files("ros_attn.evaluate")
    source = folder.joinpath("report.html").read_text(encoding="utf-8")
    style = folder.joinpath("report.css").read_text(encoding="utf-8")
    script = folder.joinpath("report.js").read_text(encoding="utf-8")
    views = [run_view(item) for item in items]
    single = len(items) == 1
    if single:
        views[0]["moments"] = moments(items[0])
    else:
        for view, found in zip(views, _moments_of_many(items), strict=True):
            view["moments"] = found
    page: dict[str, Any] = {
        "style": style,
        "script": script,
        "thresholds": thresholds,
        "runs": views,
        "overview": None if single else overview(items),
        "title": views[0]["title"] if single else plural(len(items), "run"),
    }
    return environment.from_string(source).render(page).lstrip() + "\n"


def moments(item: Evaluated) -> list[Moment]:
    """The pictures of one run, in order of time; with another run both fused pictures where they differ most."""
    evaluation = item.evaluation
    if evaluation.stage is None:
        return []
    wanted = pictures.choose(evaluation)
    extreme = _extremes(item)
    for ours, _, words in extreme:
        wanted[ours.number] = ", ".join(filter(None, (wanted.get(ours.number), words)))
    raw = pictures.collect(evaluation, dict(sorted(wanted.items())))
    if item.comparison and extreme:
        theirs = pictures.collect(item.comparison.against, {other.number: "" for _, other, _ in extreme})
        for ours, other, _ in extreme:
            raw[ours.number] = _beside(item, raw[ours.number], theirs[other.number])
    return pictures.encode(raw[each] for each in sorted(raw))


def _extremes(item: Evaluated) -> list[tuple[FrameScore, FrameScore, str]]:
    """The pictures that lost and gained most in Q_min against the other run."""
    if not item.comparison or not item.comparison.pairs:
        return []
    ordered = sorted(
        item.comparison.pairs, key=lambda pair: pair[0].scores[RUN]["Q_min"] - pair[1].scores[RUN]["Q_min"]
    )
    found = []
    for (ours, other), words in ((ordered[0], "lost most Q_min"), (ordered[-1], "gained most Q_min")):
        gain = ours.scores[RUN]["Q_min"] - other.scores[RUN]["Q_min"]
        if (gain < 0) == words.startswith("lost") and gain:
            found.append((ours, other, f"{words}: {signed(gain, 3)}"))
    return found


def _beside(item: Evaluated, ours: RawMoment, theirs: RawMoment) -> RawMoment:
    """The fused picture of the other run next to this one's, in place of the trust map."""
    assert item.comparison is not None
    kept = {name: pixels for name, pixels in ours.pictures.items() if name != "trust"}
    if "fused" in theirs.pictures:
        kept[f"fused by {item.comparison.against_name}"] = theirs.pictures["fused"]
    return RawMoment(ours.title, ours.caption, kept)


def _moments_of_many(items: Sequence[Evaluated]) -> list[list[Moment]]:
    """One moment each of the runs that need a look first: those that lost most, or have the lowest Q_min."""
    ranked = sorted(
        (each for each in range(len(items)) if items[each].evaluation.scored), key=lambda i: _need(items[i])
    )
    shown: dict[int, Moment] = {}
    raw: dict[int, RawMoment] = {}
    for index in ranked[:MOST_SHOWN_RUNS]:
        item = items[index]
        lost = [(ours, other, words) for ours, other, words in _extremes(item) if words.startswith("lost")]
        worst = min(item.evaluation.scored, key=lambda frame: frame.scores[RUN]["Q_min"])
        chosen, words = (lost[0][0], lost[0][2]) if lost else (worst, "worst Q_min")
        raw[index] = pictures.collect(item.evaluation, {chosen.number: words})[chosen.number]
        if lost and item.comparison:
            other = lost[0][1].number
            raw[index] = _beside(item, raw[index], pictures.collect(item.comparison.against, {other: ""})[other])
    shown = dict(zip(raw, pictures.encode(raw.values()), strict=True))
    return [[shown[index]] if index in shown else [] for index in range(len(items))]


def _need(item: Evaluated) -> float:
    if item.comparison and "Q_min" in item.comparison.metrics:
        return item.comparison.metrics["Q_min"].mean
    return item.evaluation.estimates[RUN]["Q_min"].mean


def overview(items: Sequence[Evaluated]) -> dict[str, Any]:
    """Of many runs: sentences, totals over all, and a row for each."""
    seed = items[0].evaluation.seed
    comparisons = [item.comparison for item in items if item.comparison]
    differences = pooled(comparisons, seed)
    totals = []
    for name in READING_ORDER:
        groups = [item.evaluation.values(RUN, name) for item in items if item.evaluation.scored]
        if (found := pooled_estimate(groups, seed)) is None:
            continue
        digits = decimals(name)
        row: dict[str, Any] = {
            "name": name,
            "better": arrow(name),
            "meaning": METRICS[name].meaning,
            "first": name in FIRST,
            "text": number(found.mean, digits),
            "raw": found.mean,
            "interval": f"{number(found.low, digits)} – {number(found.high, digits)}",
            "difference": None,
        }
        if name in differences:
            row["difference"] = difference_row(name, differences[name], ())
        totals.append(row)
    compared = bool(differences)
    names = [name for name in _COMPARED if any(_shown(item, name, compared) for item in items)]
    return {
        "sentences": _sentences(items, differences),
        "totals": totals,
        "columns": names,
        "compared": compared,
        "rows": _rows(items, names, compared),
        "failed": sum(bool(item.failed) for item in items),
        "gated": any(item.gates for item in items),
    }


def _sentences(items: Sequence[Evaluated], differences: Mapping[str, Difference]) -> list[str]:
    steps = sum(each["runs"]["steps"] for item in items for each in item.evaluation.run.stages.values())
    scored = plural(sum(len(item.evaluation.scored) for item in items), "picture")
    seconds = sum(item.evaluation.run.summary["bag_s"] for item in items)
    found = [f"{len(items)} runs, {plural(steps, 'step')} over {seconds:.0f} s of bags, {scored} scored."]
    others = [item.comparison.against_name for item in items if item.comparison]
    if others:
        found.append(f"Each is compared with a run of the same bag: {listed(others, 6)}.")
    if differences:
        text = split(differences)
        found.append(
            f"Over all bags the runs are {text}." if text else "Over all bags nothing tells the versions apart."
        )
    for name in FIRST if differences else ():
        each = [item.comparison.metrics for item in items if item.comparison]
        counts = Counter(metrics[name].verdict for metrics in each if name in metrics)
        found.append(f"{name}: {joined(f'{count} {verdict}' for verdict, count in counts.most_common())}.")
    gated = [item for item in items if item.gates]
    failed = [item.evaluation.run.name for item in gated if item.failed]
    if failed:
        found.append(f"Gates fail in {len(failed)} of {plural(len(gated), 'run')}: {listed(failed)}.")
    troubled = [item.evaluation.run.name for item in items if item.evaluation.troubles]
    return found + ([f"Nothing could be scored in {listed(troubled)}."] if troubled else [])


def _rows(items: Sequence[Evaluated], names: Sequence[str], compared: bool) -> list[dict[str, Any]]:
    scales = {name: _scale(items, name, compared) for name in names}
    rows = []
    for item in items:
        evaluation = item.evaluation
        times = [each["step_ms"]["p99"] for stage in evaluation.run.stages if (each := evaluation.latency(stage))]
        lost = sum(unused(each) for stage in evaluation.run.stages.values() for each in stage["inputs"].values())
        rows.append(
            {
                "name": evaluation.run.name,
                "bag": evaluation.bag.name,
                "scored": len(evaluation.scored),
                "cells": [_cell(item, name, scales[name], compared) for name in names],
                "step_p99": max(times, default=None),
                "lost": lost,
                "gates": "" if not item.gates else "fail" if item.failed else "pass",
                "words": " ".join(each.sentence for each in item.failed),
            }
        )
    return rows


def _scale(items: Sequence[Evaluated], name: str, compared: bool) -> Axis:
    """One scale for all rows."""
    found: list[float] = []
    for item in items:
        each = _shown(item, name, compared)
        found += [each.low, each.high] if each else []
    return plots.padded(found or [0.0, 1.0], zero=compared)


def _shown(item: Evaluated, name: str, compared: bool) -> Estimate | Difference | None:
    if not compared:
        return item.evaluation.estimates.get(RUN, {}).get(name)
    return item.comparison.metrics.get(name) if item.comparison else None


def _cell(item: Evaluated, name: str, scale: Axis, compared: bool) -> dict[str, Any]:
    found, digits = _shown(item, name, compared), decimals(name)
    if found is None:
        return {"text": "–", "raw": "", "kind": "soft", "strip": ""}
    verdict = found.verdict if isinstance(found, Difference) else RUN
    kind = {"better": "good", "worse": "bad", RUN: RUN}.get(verdict, "soft")
    text = signed(found.mean, digits + 1) if compared else number(found.mean, digits)
    strip = plots.strip([Dot(kind, found.mean, found.low, found.high)], scale, zero=compared)
    return {"text": text, "raw": found.mean, "kind": kind, "strip": strip}
