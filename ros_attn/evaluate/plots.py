"""Plots as inline SVG: the shapes are SVG that stretches, the words are HTML on top, so that both stay sharp and
readable from a phone to a wide screen. Colours come from the page's style by class name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

MOST_POINTS = 600
_SIDE = 1000.0


class Html(str):
    """Text that is HTML already, so that a template takes it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


@dataclass(frozen=True)
class Series:
    """A line over the plot's ``x``; ``kind`` names its colour, None in ``y`` breaks the line."""

    label: str
    kind: str
    y: Sequence[float | None]
    dots: bool = False


@dataclass(frozen=True)
class Band:
    """A stretch of x that is shaded, with the reason; ``kind`` names its colour."""

    start: float
    stop: float
    label: str
    kind: str = ""


@dataclass(frozen=True)
class Axis:
    """A range and its round ticks."""

    low: float
    high: float
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """Where a value lies, 0 at ``low`` and 1 at ``high``."""
        return (value - self.low) / (self.high - self.low)

    def words(self) -> list[tuple[float, str]]:
        """Ticks as (share, text), all with the digits that tell them apart."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(self.ticks[0]) or 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
        return [(self.share(tick), f"{tick:.{digits}f}") for tick in self.ticks]


def axis(values: Sequence[float], count: int = 4, zero: bool = False, tight: bool = False) -> Axis:
    """An axis over ``values`` with about ``count`` ticks at 1, 2 or 5 times a power of ten.

    ``zero`` takes 0 in; ``tight`` ends at the values instead of at ticks.
    """
    found = [*values, 0.0] if zero else list(values)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if high - low < 1e-12 * max(abs(high), 1.0):
        low, high = (
            (0.0, 1.0) if high == 0 and zero else (low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0))
        )
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    if tight:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        low, high = first * step, last * step
    return Axis(low, high, [number * step for number in range(first, last + 1)])


def _thinned(x: Sequence[float], series: Sequence[Series]) -> tuple[list[float], list[Series], bool]:
    """At most MOST_POINTS points: of each stretch the largest value, so that no spike is lost."""
    if len(x) <= MOST_POINTS:
        return list(x), list(series), False
    parts = [part.tolist() for part in np.array_split(np.arange(len(x)), MOST_POINTS)]

    def largest(y: Sequence[float | None], part: list[int]) -> float | None:
        return max((value for index in part if (value := y[index]) is not None), default=None)

    thinned = [Series(each.label, each.kind, [largest(each.y, part) for part in parts], each.dots) for each in series]
    return [x[part[len(part) // 2]] for part in parts], thinned, True


def _path(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float | None], bands: Sequence[Band]) -> str:
    """A line that is broken at missing values and where a band lies between two points."""
    parts, before = [], None
    for at, value in zip(xs, ys, strict=True):
        if value is None:
            before = None
            continue
        broken = before is None or any(before < band.start and (band.start + band.stop) / 2 < at for band in bands)
        parts.append(f"{'M' if broken else 'L'}{_SIDE * x.share(at):.1f} {_SIDE * (1 - y.share(value)):.1f}")
        before = at
    return "".join(parts)


def _dots(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float | None]) -> str:
    found = ((at, value) for at, value in zip(xs, ys, strict=True) if value is not None)
    return "".join(f"M{_SIDE * x.share(at):.1f} {_SIDE * (1 - y.share(value)):.1f}h0" for at, value in found)


def _frame(x: Axis, y: Axis, inside: str, x_label: str, data: dict[str, object] | None, words: str = "") -> str:
    lines = "".join(f'<path class="grid" d="M0 {_SIDE * (1 - share):.1f}h{_SIDE:g}"/>' for share, _ in y.words())
    if y.low < 0 < y.high:
        lines += f'<path class="zero" d="M0 {_SIDE * (1 - y.share(0)):.1f}h{_SIDE:g}"/>'
    y_words = "".join(f'<span style="top:{100 * (1 - share):.2f}%">{word}</span>' for share, word in y.words())
    # The last tick makes room for the unit.
    x_words = "".join(
        f'<span style="left:{100 * share:.2f}%">{word}</span>' for share, word in x.words() if share < 0.96
    )
    attribute = f' data-plot="{escape(json.dumps(data))}"' if data else ""
    box = f'viewBox="0 0 {_SIDE:g} {_SIDE:g}" preserveAspectRatio="none" aria-hidden="true"'
    return (
        f'<div class="plot-body"><div class="y-words">{y_words}</div>'
        f'<div class="plot-area"{attribute}><svg {box}>{lines}{inside}</svg>{words}</div>'
        f'<div class="x-words">{x_words}<em>{escape(x_label)}</em></div></div>'
    )


def _caption(title: str, note: str, legend: Sequence[tuple[str, str]]) -> str:
    keys = "".join(f'<span class="key {kind}">{escape(label)}</span>' for label, kind in legend)
    return (
        f'<figcaption><b>{escape(title)}</b> <span class="note">{escape(note)}</span>'
        f'<span class="legend">{keys}</span></figcaption>'
    )


def _figure(caption: str, body: str) -> Html:
    return Html(f'<figure class="plot">{caption}{body}</figure>')


def line_plot(
    title: str,
    note: str,
    x: Sequence[float],
    series: Sequence[Series],
    bands: Sequence[Band] = (),
    unit: str = "",
    zero: bool = False,
    x_label: str = "s",
    span: tuple[float, float] | None = None,
) -> Html:
    """Lines over time with shaded bands; values show under the pointer. ``span``: the range of x."""
    xs, drawn, thinned = _thinned(x, series)
    values = [value for each in drawn for value in each.y if value is not None]
    across = axis(span or xs, 6, tight=True)
    up = axis(values, 4, zero=zero)
    shapes = []
    for band in bands:
        left, right = (min(max(across.share(at), 0.0), 1.0) for at in (band.start, band.stop))
        width = max(right - left, 0.003)
        shapes.append(
            f'<rect class="band {band.kind}" x="{_SIDE * left:.1f}" y="0" width="{_SIDE * width:.1f}" '
            f'height="{_SIDE:g}"><title>{escape(band.label)}</title></rect>'
        )
    for each in drawn:
        shapes.append(f'<path class="line {each.kind}" d="{_path(across, up, xs, each.y, bands)}"/>')
        if each.dots and len(xs) <= 60:
            shapes.append(f'<path class="dot {each.kind}" d="{_dots(across, up, xs, each.y)}"/>')
    legend = [(each.label, each.kind) for each in drawn if each.label]
    legend += dict.fromkeys((band.label, f"band {band.kind}".strip()) for band in bands)
    data = {
        "x": [round(at, 3) for at in xs],
        "low": across.low,
        "high": across.high,
        "unit": unit,
        "series": [{"label": each.label, "y": [None if v is None else _short(v) for v in each.y]} for each in drawn],
    }
    note += "; the largest of each stretch" if thinned else ""
    return _figure(_caption(title, note, legend), _frame(across, up, "".join(shapes), x_label, data))


def histogram(title: str, note: str, values: Sequence[float], marks: Sequence[tuple[float, str]], unit: str) -> Html:
    """How often what occurred; ``marks`` are values with a name, drawn as lines. Rare far values share the last bar."""
    sample = np.asarray(values, dtype=np.float64)
    most = min(float(sample.max()), 1.5 * float(np.percentile(sample, 99)))
    across = axis([float(sample.min()), most], 6)
    bins = min(40, max(8, math.isqrt(len(sample)) * 2))
    counts, edges = np.histogram(np.clip(sample, across.low, across.high), bins, (across.low, across.high))
    up = axis([0.0, float(counts.max())], 3, zero=True)
    shapes = []
    for count, (left, right) in zip(counts.tolist(), pairwise(edges.tolist()), strict=True):
        start, height = _SIDE * across.share(left), _SIDE * up.share(count)
        width = _SIDE * across.share(right) - start
        shapes.append(
            f'<rect class="bar" x="{start + 0.08 * width:.1f}" y="{_SIDE - height:.1f}" width="{0.84 * width:.1f}" '
            f'height="{height:.1f}"><title>{count} from {left:.3g} to {right:.3g} {escape(unit)}</title></rect>'
        )
    words = ""
    for row, (value, name) in enumerate(marks):
        share = min(across.share(value), 1.0)
        shapes.append(f'<path class="mark" d="M{_SIDE * share:.1f} 0v{_SIDE:g}"/>')
        side = f"left:{100 * share:.2f}%" if share < 0.7 else f"right:{100 * (1 - share):.2f}%"
        words += f'<span class="mark-word" style="{side};top:{15 * row}px">{escape(name)} {value:.3g}</span>'
    beyond = int((sample > across.high).sum())
    note += f"; {beyond} beyond {across.high:g} {unit} in the last bar" if beyond else ""
    return _figure(_caption(title, note, ()), _frame(across, up, "".join(shapes), unit, None, words))


@dataclass(frozen=True)
class Dot:
    """A value on a strip, with its interval where it has one."""

    kind: str
    value: float
    low: float | None = None
    high: float | None = None


def strip(dots: Sequence[Dot], over: Axis, zero: bool = False) -> Html:
    """Values beside each other on one scale, for a cell of a table."""
    shapes = []
    if zero and over.low <= 0 <= over.high:
        shapes.append(f'<path class="zero" d="M{_SIDE * over.share(0):.1f} 0v{_SIDE:g}"/>')
    for each in dots:
        at = _SIDE * over.share(each.value)
        if each.low is not None and each.high is not None:
            left, right = (_SIDE * over.share(value) for value in (each.low, each.high))
            shapes.append(f'<path class="whisker {each.kind}" d="M{left:.1f} 500H{right:.1f}"/>')
            shapes.append(f'<path class="dot {each.kind}" d="M{at:.1f} 500h0"/>')
        else:
            shapes.append(f'<path class="tick {each.kind}" d="M{at:.1f} 150v700"/>')
    body = "".join(shapes)
    box = 'viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true"'
    return Html(f'<svg class="strip" {box}>{body}</svg>')


def padded(values: Sequence[float], zero: bool = False) -> Axis:
    """A range around ``values`` with a margin, for strips."""
    found = [*values, 0.0] if zero else list(values)
    low, high = min(found), max(found)
    margin = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    return Axis(low - margin, high + margin, ())


def _short(value: float) -> float:
    return float(f"{value:.4g}")
