"""The benchmarks of the kernels, section by section, row by row; needs torch and Triton, nothing else.

    python -m ros_attn.kernels.bench.gpu --section a [--out DIR]

a: what the device can do, that all kernels compile, and the correctness tests, of which a red one ends the run;
b: block sizes; c: attend beside its peers; d: profiler counters of the two worst rows of c; cpu: the CPU path.

Rows go to ``DIR/kernels_<section>.json`` one at a time. A row that is there already for the same sources of the kernels
and the same device is not measured again. No speed-up is printed or kept unless the correctness tests have passed for
these sources on this device. A process of its own measures them: where a kernel crashes or hangs, its row says so, and
the next process goes on.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import torch

from ros_attn.errors import RosAttnError
from ros_attn.kernels.bench import ceilings, counters, cpu, decoding, dense, starting, structure, tuning
from ros_attn.kernels.bench.contest import Context, said
from ros_attn.kernels.bench.lines import cpu_line, line, summary
from ros_attn.kernels.bench.machine import EventTimer, HostTimer, Machine
from ros_attn.kernels.bench.origin import code, device_name, origin
from ros_attn.kernels.bench.parallel import one_cache
from ros_attn.kernels.bench.rehearsal import MODULE, rehearse, rehearsed
from ros_attn.kernels.bench.rows import FIGURES, Results, Row, Task, key
from ros_attn.kernels.bench.watch import AGAIN, Journal, watched

SECTIONS = ("a", "b", "c", "d", "cpu")
REHEARSAL = 0.4
"""Of a section's time, at most."""
LONG = 60.0
"""Rows for which so many seconds must be left come last."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m ros_attn.kernels.bench.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--section", required=True, choices=SECTIONS)
    made.add_argument("--out", type=Path, default=FIGURES, metavar="DIR", help=f"where the figures go ({FIGURES})")
    made.add_argument("--limit-s", type=float, default=520.0, help="stop with what there is after this time (520)")
    made.add_argument("--again", action="store_true", help="measure rows that are there already, too")
    made.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds this text")
    made.add_argument("--apply", action="store_true", help="section b: write what is faster into the table itself")
    made.add_argument("--rounds", type=int, default=15, help="section cpu: how often each function is timed (15)")
    # How the program calls itself.
    made.add_argument("--rows", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    made.add_argument("--rehearse", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    made.add_argument("--row", nargs=2, metavar=("KEY", "FILE"), help=argparse.SUPPRESS)
    made.add_argument("--profile", metavar="KEY", help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 with one sentence where something must be mended first, and where a correctness test is red."""
    try:
        return run(argv)
    except RosAttnError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def run(argv: Sequence[str] | None = None) -> int:
    """The program; raises ``RosAttnError`` where the machine or the figures so far do not allow a section."""
    options = parser().parse_args(argv)
    if options.section == "cpu":
        return _cpu(options)
    _check_machine(options.section)
    if options.rehearse:
        rehearse(tasks(options.section, _context(options, quick=True), options.out), options.rehearse)
        return 0
    if options.profile:
        _profile(_named(options, _context(options, quick=True), options.profile))
        return 0
    if options.row:
        context = _context(options)
        row = _measured(_named(options, context, options.row[0]), context)
        Path(options.row[1]).write_text(json.dumps(row), encoding="utf-8")
        return 0
    if options.rows:
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1)
        return _rows(options, _context(options), Journal(options.rows))
    return _section(options, _context(options, quick=True))


def tasks(section: str, context: Context, out: Path = FIGURES) -> list[Task]:
    """All rows of a section, in the order in which they are measured."""
    if section == "a":
        return ceilings.tasks(context, Results("a", out))
    if section == "b":
        return tuning.tasks(context, tuning.Shapes())
    if section == "c":
        rows = [
            *dense.tasks(context, dense.Sizes()), *structure.tasks(context, structure.Sizes()),
            *decoding.tasks(context, decoding.Sizes()), *starting.tasks(context),
        ]  # fmt: skip
        # What searches long for its configurations comes last.
        return sorted(rows, key=lambda row: "backward" in row.name)
    compared = Results("c", out).of(code(), device_name(context.machine.device))
    return counters.tasks(compared, ["--out", str(out)])


def _check_machine(section: str) -> None:
    if not torch.cuda.is_available():
        raise RosAttnError(
            f"section {section} needs a GPU, and PyTorch {torch.__version__} finds none here; "
            "--section cpu runs anywhere"
        )
    if find_spec("triton") is None:
        raise RosAttnError(f"section {section} needs Triton, which is not installed here: pip install triton")
    if section == "a":
        ceilings.check_place()
    one_cache()
    # What is printed is there when the time is over, too.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _context(options: argparse.Namespace, quick: bool = False) -> Context:
    device = torch.device("cuda", torch.cuda.current_device())
    if quick:
        timer = HostTimer(1)
    else:
        timer = EventTimer(device, 60.0, 6) if options.section == "b" else EventTimer(device)
    machine = Machine(device, "triton", "decode", torch.bfloat16, timer)
    known = Results("a", options.out)
    name = device_name(device)
    tests = known.get(key("a", ceilings.CORRECT, {}), code(), name)
    green = ceilings.green(tests)
    if green is False and options.section in ("b", "c", "d"):
        raise RosAttnError(
            "correctness tests of these kernels failed on this GPU, so nothing is timed; "
            f"see {known.path}, mend them and run --section a"
        )

    def ceiling(task: str, parameters: dict[str, int], figure: str) -> float | None:
        row = known.get(key("a", task, parameters), None, name)
        return None if row is None or "figures" not in row else row["figures"][figure]

    return Context(
        machine, bool(green), ceiling(ceilings.COPY, {"GB": 4}, "TB/s"),
        ceiling(ceilings.PRODUCT, {"size": 8192}, "TFLOP/s"), time.monotonic() + options.limit_s,
    )  # fmt: skip


def _section(options: argparse.Namespace, context: Context) -> int:
    """Say what is to be done, compile it, have it measured, and say what was found."""
    # The processes have limits of their own; this is for what nobody has thought of.
    faulthandler.dump_traceback_later(options.limit_s + 60, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        return _whole(options, context)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _whole(options: argparse.Namespace, context: Context) -> int:
    results, name = Results(options.section, options.out), device_name(context.machine.device)
    wanted = [each for each in tasks(options.section, context, options.out) if options.only in each.key]
    if not wanted:
        raise RosAttnError(_nothing(options))
    there = {each.key for each in wanted if _there(context, results.get(each.key, code(), name))}
    todo = in_turn([each for each in wanted if options.again or each.key not in there])
    asked = sum(each.seconds for each in todo)
    print(
        f"section {options.section} on {name}: {len(wanted)} rows, {len(wanted) - len(todo)} of them there already; "
        f"those to measure ask for {asked:.0f} s and get {options.limit_s:.0f} s; what does not fit is left for the "
        "next run"
    )
    if options.section in ("c", "d") and not context.green:
        print("The correctness tests have not passed for these kernels on this GPU (section a): no speed-ups.")
    if options.section in ("b", "c"):
        _rehearse(options, todo)
    status = _measure(options, context, todo) if todo else 0
    results = Results(options.section, options.out)
    if options.section == "b":
        _propose(options, results, name)
    print("\n".join(
        summary(results.of(code(), name), [each.key for each in wanted], table=options.section != "b")
    ))  # fmt: skip
    print(f"figures: {results.path}")
    return status


def in_turn(rows: Sequence[Task]) -> list[Task]:
    """The first row of each name, then the second of each, and what takes long last: any time is spread over all."""
    before: dict[str, int] = {}
    places = []
    for row in rows:
        before[row.name] = before.get(row.name, -1) + 1
        places.append((row.section == "c" and row.seconds >= LONG, before[row.name] if row.section == "c" else 0))
    order = sorted(range(len(rows)), key=lambda number: places[number])
    return [rows[number] for number in order]


def _measure(options: argparse.Namespace, context: Context, todo: Sequence[Task]) -> int:
    """The rows in a process of its own, and in a further one after each that it did not survive."""
    known = {each.key: each for each in todo}

    def command(left: float) -> list[str]:
        return [
            sys.executable, "-u", "-m", MODULE, "--section", options.section, "--out", str(options.out),
            "--limit-s", f"{max(left, 1):.0f}", "--rows", folder,
        ]  # fmt: skip

    def lost(name: str, why: str, wrote: str) -> None:
        row = _row(known[name]) | {"error": why, "traceback": wrote[-3000:], "seconds": 0.0}
        row["bars"] = [bar.judge({}) for bar in known[name].bars]
        Results(options.section, options.out).add(row | {"origin": origin(context.machine.device)})
        print(line(row), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        return watched(command, Journal(Path(folder), list(known)), context.end, lost)


def _rows(options: argparse.Namespace, context: Context, journal: Journal) -> int:
    """That process: 0; 1 after a red test; ``AGAIN`` where it has lost its CUDA context."""
    results = Results(options.section, options.out)
    known = {each.key: each for each in tasks(options.section, context, options.out)}
    left = []
    for name in journal.left():
        task = known[name]
        if context.end - time.monotonic() < task.seconds:
            left.append(name)
            continue
        journal.begin(name, task.patience)
        row = _apart(options, task, context) if task.environment else _measured(task, context)
        results.add(row)
        journal.end(name)
        print(line(row), flush=True)
        if row.get("unfinished"):
            raise RosAttnError(_red(row))
        if "error" in row and _lost():
            print("the GPU's context is lost; going on in a new process", flush=True)
            return AGAIN
    if left:
        print(f"{len(left)} rows are left, the first {left[0]!r}; run the section again for them")
    return 0


def _there(context: Context, row: Row | None) -> bool:
    """Whether a row of these sources and this device needs no measuring."""
    if row is None or row.get("unfinished") or "error" in row:
        return False
    # A row without its speed-ups, since the tests had not passed then.
    return not (context.green and row.get("green") is False)


def _nothing(options: argparse.Namespace) -> str:
    if options.section == "d":
        return f"section d looks at rows of section c for these kernels, and {options.out} has none; run --section c"
    return f"no row of section {options.section} has {options.only!r} in its name"


def _red(row: Row) -> str:
    figures, failed = row["figures"], row["why"]["failed"]
    if not failed:
        return f"{figures['not reached']} correctness tests were not reached; run --section a again for them"
    first = "; ".join(f"{test}: {why}" for test, why in list(failed.items())[:3])
    return f"{len(failed)} correctness tests failed, so nothing is timed; the first: {first}"


def _rehearse(options: argparse.Namespace, todo: Sequence[Task]) -> None:
    """Everything that the rows compile, compiled by many processes at once; those of one environment together."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[str, str]]] = {}
    for task in todo:
        if task.rehearse is not None:
            jobs = groups.setdefault(tuple(sorted(task.environment.items())), [])
            jobs += [(task.key, part) for part in task.parts]
    if not groups:
        return
    start, jobs = time.monotonic(), sum(map(len, groups.values()))
    with ThreadPoolExecutor(len(groups)) as pool:
        running = [
            # What has an environment of its own searches long for its configurations, few though its rows are.
            pool.submit(rehearsed, options.section, mine, REHEARSAL * options.limit_s, dict(environment),
                        1.0 if len(groups) == 1 else 0.3 if environment else 0.7)
            for environment, mine in groups.items()
        ]  # fmt: skip
        outcomes = [each for future in running for each in future.result()]
    wrong = sum(bool(each["error"]) for each in outcomes)
    print(
        f"  {len(outcomes)} of {jobs} parts compiled ahead in {time.monotonic() - start:.0f} s, {wrong} with errors",
        flush=True,
    )


def _row(task: Task) -> Row:
    return {"key": task.key, "section": task.section, "name": task.name, "parameters": dict(task.parameters)}


def _measured(task: Task, context: Context) -> Row:
    """A row, or what went wrong in one."""
    start = time.monotonic()
    row = _row(task)
    try:
        gc.collect()
        if context.machine.device.type == "cuda":
            torch.cuda.empty_cache()
        if task.section == "c":
            # What was compiled for one row is of no use to the next.
            torch.compiler.reset()
        row |= task.run()
    except Exception as error:  # of whatever kind: the rows after it are measured
        row |= {"error": said(error), "traceback": traceback.format_exc()[-3000:]}
    row["bars"] = [bar.judge(row.get("figures", {})) for bar in task.bars]
    return row | {"seconds": time.monotonic() - start, "origin": origin(context.machine.device)}


def _apart(options: argparse.Namespace, task: Task, context: Context) -> Row:
    """A row that needs an environment of its own, measured in a process that has it."""

    def child() -> Row:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "row.json"
            found = subprocess.run(
                [sys.executable, "-m", MODULE, "--section", task.section, "--out", str(options.out),
                 "--row", task.key, str(out)],
                capture_output=True, text=True, timeout=task.patience - 5, env=os.environ | dict(task.environment),
            )  # fmt: skip
            if not out.is_file():
                raise RuntimeError(f"its process ended without a row: {found.stderr.strip()[-300:]}")
            return json.loads(out.read_text(encoding="utf-8"))

    return _measured(replace(task, run=child), context)


def _named(options: argparse.Namespace, context: Context, name: str) -> Task:
    found = next((each for each in tasks(options.section, context, options.out) if each.key == name), None)
    if found is None:
        raise RosAttnError(f"section {options.section} has no row {name!r}")
    return found


def _profile(task: Task) -> None:
    """One call of the row's own function between the profiler's marks, after it has run before."""
    assert task.once is not None
    call = task.once()
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    call()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


def _lost() -> bool:
    """Whether an error has taken the CUDA context with it: every later call would fail too."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _propose(options: argparse.Namespace, results: Results, device: str) -> None:
    """The table with what is faster in it, beside the figures or in the place of the committed one."""
    rows, lines = tuning.proposed(results.of(code(), device))
    for each in lines:
        print(f"  {each}")
    path = options.out / "configurations.json"
    if options.apply:
        path = Path(str(resources.files("ros_attn.kernels") / "configurations.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tuning.written(rows), encoding="utf-8")
    print(f"the table as measured: {path}")
    if options.apply:
        print("section a, --only correctness, runs the tests with it: without them there are no speed-ups")


def _cpu(options: argparse.Namespace) -> int:
    """The rows of the CPU path; all of them each time, for they share one run."""
    results = Results("cpu", options.out, fresh=True)
    device = torch.device("cpu")
    for found in cpu.rows(options.rounds):
        row: Row = {
            "key": key("cpu", found["name"], {}), "section": "cpu", "parameters": {}, **found,
            "origin": origin(device),
        }  # fmt: skip
        results.add(row)
        print(cpu_line(row), flush=True)
    print(f"figures: {results.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
