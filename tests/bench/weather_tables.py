"""The tables of docs/fusion.md, from what ``fusion_weather``, ``fusion_video`` and ``fusion_detection`` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
METRICS = ("Q_min", "VIF_min")
SHOWN_HAZE = ("0.0", "0.04", "0.12")
RULES = ("rule", "max", "average", "clahe+rule", "infrared only", "visible only")
LEARNED = ("SeAFusion", "SAGE", "LUT-Fuse", "U2Fusion", "IFCNN", "DenseFuse", "TarDAL")


def _load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _origin(results: dict[str, Any]) -> str:
    origin = results["provenance"]
    return f"*{origin['machine']}; {origin['date'][:10]}; commit {origin['commit']}.*"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], results: dict[str, Any]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return "\n".join([*lines, "", _origin(results)])


def _score(row: dict[str, Any], key: str) -> str:
    mean, _, low, high = row[key]
    return f"{mean:.3f} ± {(high - low) / 2:.3f}"


def _shipped(results: dict[str, Any]) -> str:
    """The checkpoint that was named first; the others are its training with other seeds."""
    return next(iter(results["checkpoints"]))


def fusion_weather() -> str:
    """Each set and condition: the model beside its best rival, and the share of the loss that it wins back."""
    results = _load("fusion_weather")
    own = _shipped(results)
    rows = []
    for name, methods in results["verdicts"]["clear"].items():
        each, measured = methods[own], results["sets"][name]["clear"][own]
        cells = [f"{name} ({measured['n']})", "clear"]
        for key in METRICS:
            rival = f"{each[key]['rival']:.3f} ({each[key]['best_rival']})"
            cells += [_score(measured, key), rival, ""]
        rows.append(tuple(cells))
        for weather, found in results["verdicts"]["weather"][name].items():
            measured = results["sets"][name][weather][own]
            cells = ["", weather.replace("_", " ")]
            for key in METRICS:
                closed = found[key]["checkpoints"][own]
                low, high = closed["interval"]
                share = f"{closed['share']:.0%} ({low:.0%} to {high:.0%})"
                cells += [
                    _score(measured, key), f"{found[key]['rival']:.3f} ({found[key]['best_rival']})",
                    share if closed["met"] else f"**{share}**",
                ]  # fmt: skip
            rows.append(tuple(cells))
    head = (
        "set (pairs)",
        "weather",
        *(f"{key}{part}" for key in METRICS for part in ("", ", best rival", ", share won back")),
    )
    return _table(head, rows, results)


def fusion_clear() -> str:
    """On how many of eight metrics the model is better than each rival on clear pairs, and whether that counts."""
    results = _load("fusion_weather")
    own = _shipped(results)
    found = {name: methods[own] for name, methods in results["verdicts"]["clear"].items()}
    rivals = list(dict.fromkeys(rival for each in found.values() for rival in each["rivals"]))
    rows = [
        (rival, *(_won(each["rivals"].get(rival)) for each in found.values()))
        for rival in rivals
    ]  # fmt: skip
    for key, limit in (("excess_gradient", "4 %"), ("extra_clipping", "2 %")):
        name = key.replace("_", " ")
        rows.append((f"*{name}, at most {limit}*", *(f"{each[key]:.1%}" for each in found.values())))
    return _table(("better than", *found), rows, results)


def _won(against: dict[str, Any] | None) -> str:
    return f"{against['better']}: {' '.join(against['in'])}" if against else ""


def fusion_seeds() -> str:
    """What another seed of the training changes, the shipped weights first."""
    results = _load("fusion_weather")
    seeds = list(results["checkpoints"])
    rows = []
    for name, methods in results["verdicts"]["clear"].items():
        won = {
            rival: " ".join(str(methods[seed]["rivals"][rival]["better"]) for seed in seeds)
            for rival in methods[seeds[0]]["rivals"] if rival in LEARNED
        }  # fmt: skip
        figures = [" ".join(f"{methods[seed][key]['own']:.3f}" for seed in seeds) for key in METRICS]
        rows.append((name, "clear", figures[0], "", figures[1], "", "; ".join(f"{k} {v}" for k, v in won.items())))
        for weather, found in results["verdicts"]["weather"][name].items():
            cells = []
            for key in METRICS:
                each = [found[key]["checkpoints"][seed] for seed in seeds]
                shares = (f"{row['share']:.0%}" if row["met"] else f"**{row['share']:.0%}**" for row in each)
                cells += [" ".join(f"{row['own']:.3f}" for row in each), " ".join(shares)]
            rows.append(("", weather.replace("_", " "), *cells, ""))
    head = ("set", "weather", *(f"{key}{part}" for key in METRICS for part in ("", ", share won back")), "better of 8")
    return _table(head, rows, results)


def fusion_ablations() -> str:
    """What a part of the network or of its training is worth; differences that exclude 0 are bold."""
    results = _load("fusion_ablations")
    groups = results["groups"]
    columns = [(group, key) for group, keys in groups.items() for key in keys]
    rows = []
    for name in groups[columns[0][0]][columns[0][1]]:
        cells = []
        for group, key in columns:
            found = groups[group][key][name]
            mean, _, low, high = found["difference"]
            change = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            cells.append(f"{found['mean']:.3f}" if name == results["whole"] else _bold(change, low > 0 or high < 0))
        rows.append((name, *cells))
    return _table(("", *(f"{group}, {key}" for group, key in columns)), rows, results)


def fusion_peers_in_faults() -> str:
    """The fused picture under each fault, every method that was run; the best of a row is bold."""
    results = _load("fusion_weather")
    faults = [
        (name, fault, results["sets"][name][fault])
        for name in results["sets"] for fault in results["verdicts"]["faults"][name]
    ]  # fmt: skip
    peers = [peer for peer in LEARNED if any(peer in methods for _, _, methods in faults)]
    shown = (_shipped(results), *RULES, *peers)
    rows = []
    for name, fault, methods in faults:
        if not any(peer in methods for peer in peers):
            continue
        for key in METRICS:
            found = {method: methods[method][key][0] for method in shown if method in methods}
            best = max(found.values())
            cells = (_bold(f"{found[each]:.3f}", found[each] == best) if each in found else "" for each in shown)
            rows.append((name, fault, key, *cells))
    return _table(("set", "fault", "metric", *shown), rows, results)


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def fusion_panel() -> str:
    """The whole panel on clear pairs, every method that was run."""
    results = _load("fusion_weather")
    keys = (
        "EN",
        "SD",
        "SF",
        "MI",
        "SCD",
        "VIF",
        "Qabf",
        "SSIM",
        "Q_min",
        "VIF_min",
        "excess_gradient",
        "extra_clipping",
    )
    rows = [
        (name, method, *(f"{row[key][0]:.3f}" for key in keys))
        for name, conditions in results["sets"].items()
        for method, row in conditions["clear"].items()
    ]
    return _table(("set", "method", *(key.replace("_", " ") for key in keys)), rows, results)


def fusion_faults() -> str:
    """Each fault of a camera: the fused picture, and the healthy camera's alone in brackets."""
    results = _load("fusion_weather")
    own = _shipped(results)
    rows = []
    for name, conditions in results["verdicts"]["faults"].items():
        for fault, found in conditions.items():
            each, alone = found["fused"][own], found["healthy_alone"]
            cells = [f"{each[key]:.3f} ({alone[key]:.3f})" for key in alone]
            cells = [
                cell if key in each["not_worse"] else f"**{cell}**" for key, cell in zip(alone, cells, strict=True)
            ]
            rows.append((name, fault, *cells, f"{each['Q_healthy']:.3f}", f"{each['VIF_healthy']:.3f}"))
    head = ("set", "fault", "Q_min", "VIF_min", "Qabf", "SSIM", "Q of the healthy", "VIF of the healthy")
    return _table(head, rows, results)


def fusion_detection() -> str:
    """Average precision by class, method and visibility; the best of each column is bold."""
    results = _load("fusion_detection")
    found = results["measures"]["average precision"]
    columns = [(kind, beta) for kind in found for beta in SHOWN_HAZE]
    drawn = {column: found[column[0]][column[1]]["methods"] for column in columns}
    rows = []
    for method in drawn[columns[0]]:
        cells = []
        for methods in drawn.values():
            value, low, high = methods[method]
            cell = f"{value:.2f} ({low:.2f} to {high:.2f})"
            cells.append(f"**{cell}**" if value == max(each[0] for each in methods.values()) else cell)
        rows.append((method, *cells))
    seen = {beta: f"{metres:.0f} m" if metres else "clear" for beta, metres in results["visibility_m"].items()}
    return _table(("", *(f"{kind}, {seen[beta]}" for kind, beta in columns)), rows, results)


def fusion_video() -> str:
    """Noise, a step of the temperature, and how many faults are named in time."""
    results = _load("fusion_video")
    found = results["summary"]
    rows = [
        ("noise of a still scene, fused beside the noisier input, mean (largest)",
         f"{found['noise_ratio_mean']:.2f} ({found['noise_ratio_largest']:.2f})"),
        ("a step of 20 % in the infrared levels: largest overshoot of the mean, in grey levels",
         f"{found['overshoot_largest']:.2f}"),
        ("something named in the second before, in which nothing was wrong", found["falsely_named"]),
        *((f"{fault} named within 0.5 s", count) for fault, count in found["named_within_half_a_second"].items()),
    ]  # fmt: skip
    return _table(("what", "measured"), rows, results)
