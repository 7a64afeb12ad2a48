"""What the rows of ``fusion_weather`` say: means with their intervals, who is better on clear pairs, how much of what
weather takes is won back, and whether a faulty camera costs more than leaving it out would.

Means are over images; [low, high] is the 95 % interval of a mean, from 2000 seeded resamplings of the images. Where two
methods are compared, both are taken on the same images, and in the same resamplings.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.evaluate.fusion_metrics import METRICS

Figures = Mapping[str, Mapping[str, float]]
"""Metrics by image."""
Rows = dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]
"""Metrics by set, condition, method, image, name."""

KEYS = [key for key, metric in METRICS.items() if metric.per == "frame"]
PANEL = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")
WORSE_SERVED = ("Q_min", "VIF_min")
BESIDE_HEALTHY = ("Q_min", "VIF_min", "Qabf", "SSIM")
MOST_EXCESS_GRADIENT = 0.04
MOST_EXTRA_CLIPPING = 0.02
"""Above either, a picture has bought its figures with halos, noise or clipping, and wins nothing."""
SHARE_TARGET = 0.30
TOLERATED_LOSS = 0.05
"""A fused picture may fall this share behind the healthy camera alone."""
_DRAWS = 2000


@cache
def _weights(count: int) -> NDArray[np.float64]:
    """How often each of ``count`` images is drawn, [draws, count], summing to 1."""
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), size=_DRAWS) / count


def _interval(draws: NDArray[np.float64]) -> list[float]:
    return [_short(value) for value in np.quantile(draws, (0.025, 0.975))]


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _column(figures: Figures, key: str, images: Iterable[str]) -> NDArray[np.float64]:
    return np.array([figures[image][key] for image in images])


def statistics(values: NDArray[np.float64]) -> list[float]:
    """Mean, standard deviation over the images, low and high end of the mean's interval."""
    return [_short(values.mean()), _short(values.std()), *_interval(_weights(len(values)) @ values)]


def summary(rows: Rows) -> dict[str, Any]:
    """By set, condition and method: the number of images and the statistics of every metric."""
    return {
        name: {
            condition: {
                method: {"n": len(figures)} | {key: statistics(_column(figures, key, figures)) for key in KEYS}
                for method, figures in methods.items()
            }
            for condition, methods in conditions.items()
        }
        for name, conditions in rows.items()
    }


Peers = Mapping[str, Mapping[str, Figures]]
"""Metrics by set, method, image, name."""


def published(path: Path) -> Peers:
    """The peers' figures by set, method and image; nothing where there is no such file."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                figures = {key: float(value) for key, value in row.items() if key not in ("set", "image", "method")}
                found[row["set"]][row["method"]][row["image"]] = figures
    return found


def verdicts(
    rows: Rows, checkpoints: list[str], peers: Peers, weather: tuple[str, ...], on_clean: str
) -> dict[str, Any]:
    """The three questions, for each set; ``on_clean`` is the method that saw the clean pair of a degraded set.

    Weather is answered where the rule was measured on the clean pairs too.
    """
    found: dict[str, Any] = {"clear": {}, "weather": {}, "faults": {}}
    for name, conditions in rows.items():
        clear = conditions.get("clear")
        if clear:
            found["clear"][name] = _clear(clear, peers.get(name, {}), ["rule", *checkpoints])
        for condition, methods in conditions.items():
            if condition in weather:
                mark = methods.get(on_clean) or (clear or {}).get("rule")
                if mark:
                    found["weather"].setdefault(name, {})[condition] = _weather(methods, mark, checkpoints, on_clean)
            elif condition != "clear":
                # The degraded set that is no weather has its infrared images out of place.
                healthy = "infrared" if condition.startswith("visible ") else "visible"
                found["faults"].setdefault(name, {})[condition] = _fault(methods, healthy, ["rule", *checkpoints])
    return found


def _clear(methods: Mapping[str, Figures], peers: Mapping[str, Figures], contenders: list[str]) -> dict[str, Any]:
    """On how many metrics of the panel a contender's mean is above each rival's, and its least served source."""
    found = {}
    learned = set(contenders) - {"rule"}
    rivals = {other: figures for other, figures in peers.items() if other not in methods} | dict(methods)
    for own in contenders:
        excess, clipping = (_mean(methods[own], key) for key in ("excess_gradient", "extra_clipping"))
        better = {}
        for rival, figures in rivals.items():
            if rival == own or rival in learned:
                continue
            both = [image for image in figures if image in methods[own]]
            won = [key for key in PANEL if _mean(methods[own], key, both) > _mean(figures, key, both)]
            better[rival] = {"n": len(both), "better": len(won), "in": won}
        found[own] = {
            "excess_gradient": _short(excess),
            "extra_clipping": _short(clipping),
            "counts": excess <= MOST_EXCESS_GRADIENT and clipping <= MOST_EXTRA_CLIPPING,
            "rivals": better,
        } | {key: _beside_best(methods, own, key, learned) for key in WORSE_SERVED}
    return found


def _mean(figures: Figures, key: str, images: Iterable[str] | None = None) -> float:
    return float(_column(figures, key, figures if images is None else images).mean())


def _best(methods: Mapping[str, Figures], key: str, without: set[str]) -> str:
    return max((method for method in methods if method not in without), key=lambda method: _mean(methods[method], key))


def _beside_best(methods: Mapping[str, Figures], own: str, key: str, learned: set[str]) -> dict[str, Any]:
    rival = _best(methods, key, learned | {own})
    ours, theirs = (_column(methods[method], key, methods[own]) for method in (own, rival))
    ahead = ours - theirs
    return {
        "own": _short(ours.mean()),
        "best_rival": rival,
        "rival": _short(theirs.mean()),
        "ahead": [_short(ahead.mean()), *_interval(_weights(len(ahead)) @ ahead)],
    }


def _weather(methods: Mapping[str, Figures], mark: Figures, checkpoints: list[str], on_clean: str) -> dict[str, Any]:
    """What share of the gap between the best rival and the rule on the clean pair each checkpoint closes.

    ``share`` is (own - rival) / (clean - rival) of the means, with its interval; null where the rival on the degraded
    pair is not below the rule on the clean one, so that there is no gap.
    """
    found = {}
    for key in WORSE_SERVED:
        rival = _best(methods, key, {*checkpoints, on_clean})
        theirs, clean = _column(methods[rival], key, mark), _column(mark, key, mark)
        weights = _weights(len(clean))
        gap, gaps = float((clean - theirs).mean()), weights @ (clean - theirs)
        closed = {}
        for own in checkpoints:
            won = _column(methods[own], key, mark) - theirs
            # A resampling without a gap has no share; it leaves the interval of the others.
            draws = (weights @ won)[gaps > 0] / gaps[gaps > 0]
            share = _short(won.mean() / gap) if gap > 0 else None
            closed[own] = {
                "own": _short((won + theirs).mean()),
                "excess_gradient": _short(_mean(methods[own], "excess_gradient")),
                "share": share,
                "interval": _interval(draws) if share is not None else None,
                "met": share is not None and share >= SHARE_TARGET,
            }
        found[key] = {
            "best_rival": rival,
            "rival": _short(theirs.mean()),
            "rival_excess_gradient": _short(_mean(methods[rival], "excess_gradient")),
            "clean_rule": _short(clean.mean()),
            "gap": _short(gap),
            "checkpoints": closed,
        }
    return found


def _fault(methods: Mapping[str, Figures], healthy: str, contenders: list[str]) -> dict[str, Any]:
    """The fused picture beside the healthy camera's own, and how much of the healthy source it keeps."""
    alone = methods[f"{healthy} only"]
    suffix = "ir" if healthy == "infrared" else "vi"
    found: dict[str, Any] = {
        "healthy": healthy,
        "healthy_alone": {key: _short(_mean(alone, key)) for key in BESIDE_HEALTHY},
        "fused": {},
    }
    for own in contenders:
        figures = {key: _short(_mean(methods[own], key)) for key in BESIDE_HEALTHY}
        found["fused"][own] = {
            "Q_healthy": _short(_mean(methods[own], f"Q_{suffix}")),
            "VIF_healthy": _short(_mean(methods[own], f"VIF_{suffix}")),
            **figures,
            "not_worse": [
                key for key in BESIDE_HEALTHY if figures[key] >= (1 - TOLERATED_LOSS) * found["healthy_alone"][key]
            ],
        }
    return found


def tables(results: Mapping[str, Any]) -> str:
    """The verdicts as plain text."""
    parts = []
    for title, found in (("sets", results["sets"]), ("degraded sets", results["degraded"])):
        head = ("set", "condition", "method", "n", "Q_min", "+-", "VIF_min", "+-", "Qabf", "SSIM", "excess", "clip")
        lines: list[tuple[str, ...]] = [head]
        for name, conditions in found.items():
            for condition, methods in conditions.items():
                for method, row in methods.items():
                    pairs = [
                        text for key in WORSE_SERVED for text in (_3(row[key][0]), _3((row[key][3] - row[key][2]) / 2))
                    ]
                    others = [_3(row[key][0]) for key in ("Qabf", "SSIM", "excess_gradient", "extra_clipping")]
                    lines.append((name, condition, method, str(row["n"]), *pairs, *others))
        if len(lines) > 1:
            parts.append(f"means over images, {title}; +- half the 95 % interval\n{_aligned(lines)}")
    found = results["verdicts"]
    parts += [_clear_table(found["clear"]), _weather_table(found["weather"]), _faults_table(found["faults"])]
    return "\n\n".join(part for part in parts if part)


def _clear_table(found: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = [
        ("set", "method", "counts", "excess", "clip", "Q_min", "VIF_min", "better of 8 than")
    ]
    for name, methods in found.items():
        for own, row in methods.items():
            worse = [
                f"{_3(row[key]['own'])} ({row[key]['best_rival']} {_3(row[key]['rival'])})" for key in WORSE_SERVED
            ]
            rivals = ", ".join(f"{rival} {each['better']}" for rival, each in row["rivals"].items())
            checks = ("yes" if row["counts"] else "no", _3(row["excess_gradient"]), _3(row["extra_clipping"]))
            lines.append((name, own, *checks, *worse, rivals))
    return f"clear, beside the best rival in brackets\n{_aligned(lines)}" if len(lines) > 1 else ""


def _weather_table(found: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = []
    names: list[str] = []
    for name, conditions in found.items():
        for condition, metrics in conditions.items():
            for key, row in metrics.items():
                names = list(row["checkpoints"])
                shares = [
                    "no gap"
                    if own["share"] is None
                    else f"{own['share']:.0%} [{own['interval'][0]:.0%}, {own['interval'][1]:.0%}] "
                    f"({_3(own['excess_gradient'])})"
                    for own in row["checkpoints"].values()
                ]
                rival = f"{_3(row['rival'])} ({_3(row['rival_excess_gradient'])})"
                figures = (row["best_rival"], rival, _3(row["clean_rule"]), _3(row["gap"]))
                lines.append((name, condition, key, *figures, *shares))
    head = ("set", "condition", "metric", "best rival", "rival", "rule on clean", "gap", *names)
    title = f"weather, share of the gap closed, target {SHARE_TARGET:.0%}; excess gradient in brackets"
    return f"{title}\n{_aligned([head, *lines])}" if lines else ""


def _faults_table(found: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = [
        ("set", "fault", "method", "Q, VIF of healthy", *(f"{key} (alone)" for key in BESIDE_HEALTHY), "kept")
    ]
    for name, conditions in found.items():
        for condition, row in conditions.items():
            for own, each in row["fused"].items():
                figures = [f"{_3(each[key])} ({_3(row['healthy_alone'][key])})" for key in BESIDE_HEALTHY]
                healthy = f"{_3(each['Q_healthy'])}, {_3(each['VIF_healthy'])}"
                lines.append((name, condition, own, healthy, *figures, f"{len(each['not_worse'])} of 4"))
    title = "faults, beside the healthy camera alone in brackets; kept: metrics within 5 % of it, or above"
    return f"{title}\n{_aligned(lines)}" if len(lines) > 1 else ""


def _3(value: float) -> str:
    return f"{value:.3f}"


def _aligned(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
