"""Rows in words: a line each as they are measured, and a table at the end of a section."""

from __future__ import annotations

from collections.abc import Sequence

from ros_attn.kernels.bench.rows import Row

SHOWN = ("TFLOP/s", "TB/s", "share of the roofline")


def line(row: Row) -> str:
    """A row in a line: our time with its quartiles, the rate, and the bars."""
    parts = [row["key"].partition("/")[2]]
    if "error" in row:
        return f"{parts[0]}: {row['error']}"
    ours = row.get("times", {}).get("ours")
    if ours is not None:
        parts.append(f"{ours['median_ms']:.4g} ms ({ours['low_ms']:.4g} to {ours['high_ms']:.4g})")
    figures = row.get("figures", {})
    shown = [name for name in SHOWN if name in figures and ours is not None]
    shown += [name for name in figures if name.startswith("speed-up")]
    if ours is None:
        shown = list(figures)
    parts += [f"{name} {figures[name]:.4g}" for name in shown]
    for bar in row["bars"]:
        verdict = {True: "met", False: "MISSED", None: "not judged"}[bar["met"]]
        value = "" if bar["value"] is None else f"{bar['value']:.4g}, "
        parts.append(f"[{_asked(bar)}: {value}{verdict}]")
    parts += [", ".join(f"{name} {value:.3g}" for name, value in each.items()) for each in row.get("table", ())]
    parts += [f"failed: {name}: {why}" for name, why in list(row.get("failures", {}).items())[:3]]
    parts += [f"without {name} ({reason})" for name, reason in row.get("absent", {}).items()]
    return "; ".join(parts)


def cpu_line(row: Row) -> str:
    if "seconds" in row:
        return f"{row['name']}: {row['seconds']:.3g} s (bar {row['bar']:g} s)"
    if not row["correct"]:
        return f"{row['name']}: differs from PyTorch's by {row['relative_error']:.2g}, so it is not timed"
    texts = []
    for way in ("forward", "forward_backward"):
        each = row[way]
        bar = "" if each["bar"] is None else f", bar {each['bar']:g}"
        texts.append(f"{way.replace('_', ' + ')} {each['ratio']['median']:.3f} of masked SDPA's time{bar}")
    return f"{row['name']}: " + "; ".join(texts)


def summary(rows: Sequence[Row], wanted: Sequence[str], *, table: bool = True) -> list[str]:
    """The rows of a section that are there, of those ``wanted``: a table, what missed its bar or failed, and counts."""
    found = {row["key"]: row for row in rows}
    there = [found[key] for key in wanted if key in found]
    lines = []
    if table and there:
        cells = [_cells(row) for row in there]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
                  for each in cells]  # fmt: skip
    bars = [(row, bar) for row in there for bar in row["bars"]]
    lines += [
        f"MISSED {row['key'].partition('/')[2]}: {_asked(bar)}: {bar['value']:.4g}"
        for row, bar in bars if bar["met"] is False
    ]  # fmt: skip
    failed = [row for row in there if "error" in row]
    lines += [f"failed {row['key'].partition('/')[2]}: {row['error'][:200]}" for row in failed]
    absent = {name: why for row in there for name, why in row.get("absent", {}).items()}
    lines += [f"absent {name}: {why[:200]}" for name, why in absent.items()]
    met = [sum(bar["met"] is verdict for _, bar in bars) for verdict in (True, False, None)]
    lines.append(
        f"{len(wanted)} rows: {len(there) - len(failed)} measured, {len(failed)} failed, {len(wanted) - len(there)} "
        f"left; bars: {met[0]} met, {met[1]} missed, {met[2]} not judged"
    )
    return lines


def _cells(row: Row) -> tuple[str, str, str, str]:
    """What, our time, of it, its bars."""
    figures, ours = row.get("figures", {}), row.get("times", {}).get("ours")
    if "error" in row:
        return row["key"].partition("/")[2], "failed", "", ""
    if ours is None:
        return row["key"].partition("/")[2], "", ", ".join(f"{k} {v:.4g}" for k, v in list(figures.items())[:4]), ""
    unit = "TB/s" if row["name"].startswith("decode") else "TFLOP/s"
    rate = [f"{figures[unit]:.4g} {unit}"] if unit in figures else []
    rate += [f"{figures[SHOWN[2]]:.0%} of the roofline"] if SHOWN[2] in figures else []
    rate += [f"{value:.3g}x {name.removeprefix('speed-up over ')}" for name, value in figures.items()
             if name.startswith("speed-up")]  # fmt: skip
    met = [bar["met"] for bar in row["bars"] if bar["met"] is not None]
    bars = f"{sum(met)} of {len(met)} bars met" if met else ""
    return row["key"].partition("/")[2], f"{ours['median_ms']:.4g} ms", ", ".join(rate), bars


def _asked(bar: dict) -> str:
    return f"{bar['figure']} {'>=' if bar['least'] else '<='} {bar['bound']:g}"
