"""What comes before any figure: what the device can do, that everything compiles, and that everything is correct."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ros_attn.errors import RosAttnError
from ros_attn.kernels.bench import tuning
from ros_attn.kernels.bench.contest import Context, normal
from ros_attn.kernels.bench.origin import code, device_name
from ros_attn.kernels.bench.parallel import cores
from ros_attn.kernels.bench.rehearsal import rehearsed
from ros_attn.kernels.bench.rows import Bar, Results, Row, Task, key
from ros_attn.kernels.configurations import architecture, table

COPY, PRODUCT, CORRECT = "copy", "matrix product", "correctness"
COMPILE_S = 200.0


def tasks(context: Context, results: Results | None = None) -> list[Task]:
    """Section a. ``results``: where an unfinished run of the tests is taken up."""
    machine = context.machine

    def copy(count: int = 2**31) -> Row:
        one, other = (torch.ones(count, dtype=torch.int16, device=machine.device) for _ in range(2))
        [timed] = machine.timer.calls([lambda: other.copy_(one)])
        return {"times": {"copy": timed.row()}, "figures": {"TB/s": 2 * 2 * count / timed.median / 1e9}}

    def product(size: int = 8192) -> Row:
        one, other = normal(machine, size, size, count=2)
        [timed] = machine.timer.calls([lambda: one @ other])
        return {"times": {"product": timed.row()}, "figures": {"TFLOP/s": 2 * size**3 / timed.median / 1e9}}

    def smallest() -> Row:
        """A kernel of next to no work, in a graph of 100."""
        one = torch.zeros(1, device=machine.device)
        stream = machine.timer.stream([lambda: one.add_(1)] * 100)
        [timed] = machine.timer.calls([stream])
        return {"figures": {"us": 10 * timed.median}}

    arch = architecture(machine.device)
    rows = {f"{row.op} {row.normaliser} {row.head_dim} {row.dtype} {tuning.sizes(row)}": row
            for row in table() if row.arch == arch}  # fmt: skip

    def compiled() -> Row:
        """Every row of the table for this architecture, compiled and run once, in parallel."""
        start = time.monotonic()
        outcomes = rehearsed("a", [(compiling.key, part) for part in rows], COMPILE_S)
        failed = {each["part"]: each["error"] for each in outcomes if each["error"]}
        seconds = sorted(each["seconds"] for each in outcomes)
        figures = {
            "rows": len(rows), "compiled": len(outcomes) - len(failed), "missing": len(rows) - len(outcomes),
            "failed": len(failed), "seconds": time.monotonic() - start,
            "seconds of the slowest": seconds[-1] if seconds else 0.0,
        }  # fmt: skip
        return {"figures": figures, "failures": failed}

    def tanh() -> Row:
        from ros_attn.kernels.bench.sigmoid_triton import table as errors

        return {"table": errors(machine.device)}

    compiling = Task(
        "a", "compile", {"rows": len(rows)}, compiled, (Bar("failed", 0, least=False), Bar("missing", 0, least=False)),
        60, tuple(rows), lambda part: tuning.launch(context, rows[part]), longest=COMPILE_S + 40,
    )  # fmt: skip
    return [
        Task("a", COPY, {"GB": 4}, copy, seconds=5),
        Task("a", PRODUCT, {"size": 8192}, product, seconds=5),
        Task("a", "smallest kernel in a graph", {}, smallest, seconds=5),
        compiling,
        Task("a", "tanh.approx", {}, tanh, seconds=10),
        # As long as the section has.
        Task("a", CORRECT, {}, lambda: correctness(context, results), (Bar("red", 0, least=False),), 120, longest=1e4),
    ]


def correctness(context: Context, results: Results | None) -> Row:
    """``python -m tests.gpu.run``: which tests passed, failed, were skipped or not reached.

    Those that an unfinished run of the same code passed are not run again.
    """
    row = None if results is None else results.get(key("a", CORRECT, {}), code(), device_name(context.machine.device))
    earlier = {} if row is None else row.get("outcomes", {})
    passed = [name for name, outcome in earlier.items() if outcome == "passed"]
    with tempfile.TemporaryDirectory() as folder:
        out, skip = Path(folder) / "outcomes.json", Path(folder) / "passed.json"
        skip.write_text(json.dumps(passed), encoding="utf-8")
        left = max(20.0, min(1e6, context.end - time.monotonic() - 15))
        subprocess.run(
            [sys.executable, "-m", "tests.gpu.run", "--jobs", str(max(1, min(14, cores() - 1))),
             "--limit-s", f"{left:.0f}", "--passed", str(skip), "--out", str(out)],
            check=False, timeout=left + 60,
        )  # fmt: skip
        if not out.is_file():
            raise RuntimeError("tests.gpu.run wrote nothing")
        found = json.loads(out.read_text(encoding="utf-8"))
    outcomes = {name: "passed" for name in passed} | {each["test"]: each["outcome"] for each in found}
    count = {kind: list(outcomes.values()).count(kind) for kind in ("passed", "failed", "skipped", "not reached")}
    red = count["failed"] + count["not reached"] + int(count["passed"] == 0)
    why = {kind: {each["test"]: each["why"] for each in found if each["outcome"] == kind}
           for kind in ("failed", "skipped")}  # fmt: skip
    traces = {each["test"]: each["traceback"] for each in found if each.get("traceback")}
    return {"figures": {**count, "red": red}, "unfinished": red > 0, "why": why, "traces": traces, "outcomes": outcomes}


def check_place() -> None:
    """Raises ``RosAttnError`` where the correctness tests are not."""
    if not Path("tests/gpu/run.py").is_file():
        raise RosAttnError("the correctness tests are in tests/gpu of a checkout; run this from its root")


def green(row: Row | None) -> bool | None:
    """Whether all tests passed; None where they have not all been run."""
    if row is None or "figures" not in row:
        return None
    figures = row["figures"]
    if figures["failed"]:
        return False
    return True if figures["red"] == 0 else None
