"""The tables of docs/kernels.md. The rows are those the benchmarks have; one without a figure says "not measured"."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NOT_MEASURED = "not measured"
TIMES = ("median_ms", "low_ms", "high_ms")
Row = dict[str, Any]


def _rows(section: str) -> dict[str, Row]:
    path = RESULTS / f"kernels_{section}.json"
    found = json.loads(path.read_text())["rows"] if path.is_file() else []
    return {row["key"]: row for row in found}


def _origin(rows: list[Row]) -> str:
    """Where the figures of a table are from; nothing where there are none."""
    texts = []
    for row in rows:
        origin = row["origin"]
        software = [f"{name} {origin[name]}" for name in ("driver", "torch", "triton") if name in origin]
        commit = f"commit {origin['commit']}" if origin["commit"] else f"sources {origin['code']}"
        texts.append("; ".join([origin["device"], *software, origin["date"][:10], commit]))
    return "\n".join(f"*{text}.*" for text in dict.fromkeys(texts))


def _table(heads: list[str], lines: list[list[str]], rows: list[Row]) -> str:
    text = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *("| " + " | ".join(x) + " |" for x in lines)]
    return "\n".join([*text, *(["", _origin(rows)] if rows else [])])


def _spread(times: dict[str, float]) -> str:
    median, low, high = (f"{times[x]:.0f}" if times[x] >= 1000 else f"{times[x]:.3g}" for x in TIMES)
    return f"{median} ({low} to {high})"


def kernels_cpu() -> str:
    """The CPU path beside SDPA with a mask."""
    found = _rows("cpu")
    lines = []
    for row in found.values():
        if "seconds" in row:
            continue
        if not row["correct"]:
            lines.append([row["name"], f"{row['visible_share']:.0%}", "differs from PyTorch's", "", "", ""])
            continue
        for way in ("forward", "forward_backward"):
            each = row[way]
            ratio = each["ratio"]
            lines.append([
                row["name"], f"{row['visible_share']:.0%}", way.replace("_", " + "), _spread(each["ours"]),
                _spread(each["sdpa_masked"]), f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
                "" if each["bar"] is None else f"≤ {each['bar']:g}",
            ])  # fmt: skip
    heads = ["pairs seen", "share", "", "attend, ms", "SDPA with a mask, ms", "attend / SDPA", "asked for"]
    text = _table(heads, lines or [["", "", "", NOT_MEASURED, "", "", ""]], list(found.values()))
    seconds = [row for row in found.values() if "seconds" in row]
    for row in seconds:
        text += (
            f"\n\nImporting `attend` once torch is there takes {row['seconds']:.2f} s (asked for: at most "
            f"{row['bar']:g} s); Triton is {'' if row['triton_imported'] else 'not '}imported by it."
        )
    return text


def kernels_a() -> str:
    """What the device can do, and whether everything is correct on it."""
    found = _rows("a")

    def figure(start: str, name: str, form: str) -> str:
        row = next((row for key, row in found.items() if key.startswith(f"a/{start}")), None)
        if row is None:
            return NOT_MEASURED
        return row["error"] if "error" in row else form.format(row["figures"][name])

    lines = [
        ["copy, read and written", figure("copy", "TB/s", "{:.2f} TB/s")],
        ["matrix product 8192³ in bfloat16", figure("matrix product", "TFLOP/s", "{:.0f} TFLOP/s")],
        ["smallest kernel in a CUDA graph", figure("smallest", "us", "{:.1f} µs")],
        ["block sizes of the table that compile and run", figure("compile", "compiled", "{}")],
        ["correctness tests passed", figure("correctness", "passed", "{}")],
        ["correctness tests failed", figure("correctness", "failed", "{}")],
    ]
    return _table(["what", "on the GPU"], lines, list(found.values()))


def kernels_tanh() -> str:
    """The sigmoid by a polynomial beside the hardware's tanh, by the number of keys."""
    row = next((row for key, row in _rows("a").items() if key.startswith("a/tanh")), None)
    columns = ("polynomial, largest", "polynomial, mean", "tanh.approx, largest", "tanh.approx, mean")
    lines = [["", *[NOT_MEASURED] * 4]]
    if row is not None and "table" in row:
        lines = [[str(each["n"]), *(f"{each[name]:.1e}" if name in each else "" for name in columns)]
                 for each in row["table"]]  # fmt: skip
    return _table(["keys n", *columns], lines, [] if row is None else [row])


def kernels_c(*starts: str) -> str:
    """Rows of section c whose names begin so (none given: all)."""
    import torch

    from ros_attn.kernels.bench import gpu
    from ros_attn.kernels.bench.contest import Context
    from ros_attn.kernels.bench.machine import HostTimer, Machine

    anywhere = Machine(torch.device("cpu"), "triton", "decode", torch.bfloat16, HostTimer(1))
    found = _rows("c")
    lines, measured = [], []
    for task in gpu.tasks("c", Context(anywhere)):
        if starts and not task.name.startswith(starts):
            continue
        row = found.get(task.key)
        size = ", ".join(f"{name}={value}" for name, value in task.parameters.items())
        if row is None or "error" in row:
            why = NOT_MEASURED if row is None else row["error"]
            asked = [f"{_asked(asdict(bar))}: {NOT_MEASURED}" for bar in task.bars]
            lines.append([task.name, size, why, "", "", "; ".join(asked)])
            continue
        measured.append(row)
        figures = row["figures"]
        times = row.get("times", {})
        ours = _spread(times["ours"]) if "ours" in times else ", ".join(f"{k} {v:.3g}" for k, v in figures.items())
        rate = [f"{figures[unit]:.3g} {unit}" for unit in _units(task.name) if unit in figures and "ours" in times]
        if "share of the roofline" in figures:
            rate.append(f"{figures['share of the roofline']:.0%} of the roofline")
        beside = [f"{name}: {_spread(each)}" for name, each in times.items() if name != "ours"]
        beside += [f"{name}: absent, {why}" for name, why in row.get("absent", {}).items()]
        lines.append([
            task.name, size, ours, ", ".join([*rate, *_facts(row)]), "; ".join(beside),
            "; ".join(_judged(bar) for bar in row["bars"]),
        ])  # fmt: skip
    return _table(["what", "size", "attend, ms", "of it", "beside it, ms", "asked for"], lines, measured)


def _units(name: str) -> tuple[str, ...]:
    return ("TB/s",) if name.startswith("decode") else ("TFLOP/s",)


def _facts(row: Row) -> list[str]:
    """Errors and shares of tiles, which stand beside every time that they explain."""
    figures = row["figures"]
    texts = []
    if "computed share" in figures:
        texts.append(f"{figures['visible share']:.1%} of the pairs visible, {figures['computed share']:.1%} computed")
    if "errors" in row:
        texts.append("largest error " + ", ".join(f"{name} {value:.1e}" for name, value in row["errors"].items()))
    return texts


def _asked(bar: dict[str, Any]) -> str:
    return f"{bar['figure']} {'≥' if bar['least'] else '≤'} {bar['bound']:g}"


def _judged(bar: dict[str, Any]) -> str:
    if bar["value"] is None:
        return f"{_asked(bar)}: not judged"
    return f"{_asked(bar)}: {bar['value']:.3g}, {'met' if bar['met'] else '**missed**'}"


def kernels_dense() -> str:
    return kernels_c("softmax", "sigmoid")


def kernels_structure() -> str:
    return kernels_c("ragged", "Tactile-WAM", "MemoryWAM", "learned", "token order")


def kernels_decode() -> str:
    return kernels_c("decode")


def kernels_start() -> str:
    return kernels_c("first call", "host")
