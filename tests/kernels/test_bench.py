"""The benchmarks of the kernels: rows and their file, the run of a section, contests, the command and the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ros_attn.cli import main
from ros_attn.errors import RosAttnError
from ros_attn.kernels.attention import attend
from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.bench import ceilings, contest, counters, cpu, gpu, lines, machine, origin, parallel, watch
from ros_attn.kernels.bench.accuracy import Sample
from ros_attn.kernels.bench.contest import OURS, Contest, Context
from ros_attn.kernels.bench.machine import Call, Machine, host_us
from ros_attn.kernels.bench.rows import Bar, Results, Row, Task
from ros_attn.kernels.bench.watch import Journal
from tests.bench import kernel_tables
from tests.gpu import run
from tests.kernels.bench_context import Stopwatch, context, row

ROOT = Path(__file__).parents[2]


# -- rows and their file ------------------------------------------------------------------------------------


def test_a_bar_holds_from_below_or_above_and_waits_for_its_figure() -> None:
    assert Bar("TFLOP/s", 400).judge({"TFLOP/s": 400.0})["met"] is True
    assert Bar("TFLOP/s", 400).judge({"TFLOP/s": 399.0})["met"] is False
    assert Bar("us", 12, least=False).judge({"us": 12.5})["met"] is False
    assert Bar("us", 12, least=False).judge({"us": 11.5}) == {
        "figure": "us", "bound": 12, "least": False, "value": 11.5, "met": True,
    }  # fmt: skip
    assert Bar("us", 12).judge({})["met"] is None


def test_rows_are_written_one_at_a_time_and_taken_up_again(tmp_path: Path) -> None:
    results = Results("c", tmp_path, tmp_path / "none")
    results.add(row("first"))
    results.add(row("second"))
    results.add(row("first", seconds=3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["kernels_c.json"]
    again = Results("c", tmp_path, tmp_path / "none")
    assert [each["name"] for each in again] == ["first", "second"]
    found = again.get("c/first L=8", "one", "GPU")
    assert found is not None and found["seconds"] == 3.0
    assert again.get("c/first L=8", "another", "GPU") is None
    assert again.get("c/first L=8", "one", "another GPU") is None
    assert again.get("c/first L=8") is not None and again.get("c/third L=8") is None
    again.add(row("third", code="another"))
    assert [each["name"] for each in again.of("one", "GPU")] == ["first", "second"]
    assert not list(Results("c", tmp_path, tmp_path, fresh=True))


def test_committed_rows_are_taken_up_where_the_folder_has_none(tmp_path: Path) -> None:
    Results("c", tmp_path / "committed", tmp_path).add(row("first"))
    results = Results("c", tmp_path / "new", tmp_path / "committed")
    results.add(row("second"))
    assert len(list(Results("c", tmp_path / "new", tmp_path))) == 2
    assert len(list(Results("c", tmp_path / "committed", tmp_path))) == 1


def test_the_hash_of_the_sources_follows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "SOURCES", tmp_path)
    found = set()
    for text in ("a = 1", "a = 2"):
        (tmp_path / "kernel.py").write_text(text)
        origin.code.cache_clear()
        found.add(origin.code())
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "gpu.py").write_text("b = 1")
    origin.code.cache_clear()
    found.add(origin.code())
    origin.code.cache_clear()
    assert len(found) == 2 and all(len(each) == 12 for each in found)


# -- the run of a section -----------------------------------------------------------------------------------


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``run(tasks, *flags)``: section c of those tasks, on this machine."""
    monkeypatch.setattr(gpu, "_check_machine", lambda _: None)
    monkeypatch.setattr(gpu, "_lost", lambda: False)

    def here(options: Any, where: Context, todo: list[Task]) -> int:
        """Without a process of its own."""
        with tempfile.TemporaryDirectory() as folder:
            return gpu._rows(options, where, Journal(Path(folder), [each.key for each in todo]))

    monkeypatch.setattr(gpu, "_measure", here)

    def run(tasks: list[Task], *flags: str, section: str = "c", green: bool = False) -> dict[str, Row]:
        def where(options: Any, quick: bool = False) -> Context:
            return context(green=green, end=gpu.time.monotonic() + options.limit_s)

        with monkeypatch.context() as patch:
            patch.setattr(gpu, "_context", where)
            patch.setattr(gpu, "tasks", lambda *_: tasks)
            assert gpu.run(["--section", section, "--out", str(tmp_path), *flags]) == 0
        return {each["name"]: each for each in Results(section, tmp_path, tmp_path)}

    return run


def counted(counts: dict[str, int], name: str, error: str = "", **options: Any) -> Task:
    def measure() -> Row:
        counts[name] = counts.get(name, 0) + 1
        if error and counts[name] == 1:
            raise RuntimeError(error)
        return {"figures": {"us": 5.0}}

    return Task("c", name, {"L": 8}, measure, (Bar("us", 12, least=False),), 1.0, **options)


def test_a_section_goes_on_past_errors_and_skips_what_is_there(section: Any) -> None:
    counts: dict[str, int] = {}
    tasks = [counted(counts, "one"), counted(counts, "two", "out of\nmemory"), counted(counts, "three")]
    found = section(tasks)
    assert found["two"]["error"] == "RuntimeError: out of ... memory" and "measure" in found["two"]["traceback"]
    assert found["two"]["bars"][0]["met"] is None and found["three"]["bars"][0]["met"] is True
    assert set(found["one"]["origin"]) >= {"commit", "code", "device", "torch", "date"}
    assert counts == {"one": 1, "two": 1, "three": 1}
    assert "error" not in section(tasks)["two"]
    assert counts == {"one": 1, "two": 2, "three": 1}
    section(tasks, "--again", "--only", "three")
    assert counts == {"one": 1, "two": 2, "three": 2}


def test_rows_from_before_the_tests_passed_are_measured_anew(section: Any) -> None:
    task = Task("c", "one", {}, lambda: {"figures": {}, "green": True})
    early = replace(task, run=lambda: {"figures": {"early": 1.0}, "green": False})
    assert section([early])["one"]["figures"]
    assert section([task])["one"]["figures"]
    assert not section([task], green=True)["one"]["figures"]


def test_rows_of_other_sources_are_measured_anew(section: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    section([counted(counts, "one")])
    monkeypatch.setattr(gpu, "code", lambda: "others")
    section([counted(counts, "one")])
    assert counts == {"one": 2}


def test_a_section_ends_in_time(section: Any, capsys: pytest.CaptureFixture[str]) -> None:
    counts: dict[str, int] = {}
    tasks = [replace(counted(counts, "long"), seconds=100.0), counted(counts, "short")]
    assert list(section(tasks, "--limit-s", "50")) == ["short"]
    said = capsys.readouterr().out
    assert "those to measure ask for 101 s and get 50 s" in said
    assert "1 rows are left, the first 'c/long L=8'" in said
    assert "2 rows: 1 measured, 0 failed, 1 left; bars: 1 met, 0 missed, 0 not judged" in said


def test_a_refusal_of_attend_is_an_error_of_its_row_alone(section: Any) -> None:
    def refused() -> Row:
        raise BackendError("no row for this head dim")

    counts: dict[str, int] = {}
    found = section([Task("c", "refused", {}, refused), counted(counts, "after")])
    assert "no row for this" in found["refused"]["error"] and counts == {"after": 1}


def test_any_time_is_spread_over_all_names() -> None:
    rows = [Task("c", name, {"L": length}, dict) for name in ("one", "two") for length in (1, 2)]
    slow = Task("c", "slow", {}, dict, seconds=gpu.LONG)
    order = [each.key for each in gpu.in_turn([slow, *rows])]
    assert order == ["c/one L=1", "c/two L=1", "c/one L=2", "c/two L=2", "c/slow"]
    settings = [Task("b", "forward", {"n": n}, dict) for n in range(3)] + [Task("b", "dq", {"n": 0}, dict)]
    assert gpu.in_turn(settings) == settings


_ROWS = """
import os, runpy, signal, sys, time
from pathlib import Path
watch = runpy.run_path(sys.argv[2])  # without torch, which takes long to import
journal, ran = watch["Journal"](Path(sys.argv[1])), Path(sys.argv[1]) / "ran"
for key in journal.left():
    journal.begin(key, 1.0 if key == "hangs" else 60.0)
    with ran.open("a") as to:
        to.write(key + "\\n")
    if key == "crashes":
        print("LLVM ERROR: no such thing", file=sys.stderr, flush=True)
        os.abort()
    if key == "hangs":
        time.sleep(60)
    journal.end(key)
    if key == "loses its context":
        sys.exit(watch["AGAIN"])
    if key == "refuses":
        sys.exit(1)
    if key == "ends between rows":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_row_that_hangs_or_crashes_is_recorded_and_the_others_follow(tmp_path: Path) -> None:
    def run(*keys: str, limit_s: float = 60.0) -> tuple[int, list[str], dict[str, str]]:
        journal, lost = Journal(tmp_path, keys), {}
        for name in ("journal.jsonl", "ran"):
            (tmp_path / name).unlink(missing_ok=True)

        def keep(key: str, why: str, wrote: str) -> None:
            lost[key] = why

        command = [sys.executable, "-c", _ROWS, str(tmp_path), watch.__file__]
        status = watch.watched(lambda _: command, journal, time.monotonic() + limit_s, keep)
        ran = tmp_path / "ran"
        return status, ran.read_text().splitlines() if ran.is_file() else [], lost

    keys = ("one", "crashes", "hangs", "loses its context", "ends between rows", "last")
    status, ran, lost = run(*keys)
    assert status == 0 and ran == list(keys) and set(lost) == {"crashes", "hangs"}
    assert lost["crashes"] == "its process was ended by SIGABRT: LLVM ERROR: no such thing"
    assert lost["hangs"].startswith("its process took longer than 1 s")
    assert run("refuses", "last")[:2] == (1, ["refuses"])
    # What the end of the section cuts off is no error of the row.
    status, ran, lost = run("hangs", "last", limit_s=-watch.GRACE)
    assert status == 0 and ran in ([], ["hangs"]) and not lost


def test_a_process_that_never_begins_is_not_started_for_ever(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; os.abort()"]
    journal = Journal(tmp_path, ["one"])
    assert watch.watched(lambda _: command, journal, time.monotonic() + 60, lambda *_: None) == 1


def test_errors_keep_their_last_words() -> None:
    assert contest.said(RuntimeError("one\n\n  two  \nthree")) == "RuntimeError: one ... three"
    assert contest.said(RuntimeError("")) == "RuntimeError: no words"
    ended = subprocess.CalledProcessError(1, "python", stderr="Traceback:\nImportError: no torch\n")
    assert contest.said(ended).endswith("... ImportError: no torch")


def test_a_section_ends_with_a_table() -> None:
    bars = [Bar("TFLOP/s", 400).judge({"TFLOP/s": 390.0}), Bar("speed-up over SDPA", 1).judge({})]
    times = {"ours": {"median_ms": 2.5, "low_ms": 2.0, "high_ms": 3.0}}
    good = row("softmax forward", times=times, bars=bars, figures={"TFLOP/s": 390.0, "speed-up over SDPA": 1.25},
               absent={"triton-sigmoid": "no such package"})  # fmt: skip
    bad = row("ragged", error="out of memory", bars=[])
    said = lines.summary([good, bad, row("of another run", bars=[])], [good["key"], bad["key"], "c/left"])
    assert said == [
        "softmax forward L=8  2.5 ms  390 TFLOP/s, 1.25x SDPA  0 of 1 bars met",
        "ragged L=8           failed",
        "MISSED softmax forward L=8: TFLOP/s >= 400: 390",
        "failed ragged L=8: out of memory",
        "absent triton-sigmoid: no such package",
        "3 rows: 1 measured, 1 failed, 1 left; bars: 0 met, 1 missed, 1 not judged",
    ]


def test_a_red_test_stops_everything(section: Any) -> None:
    counts: dict[str, int] = {}

    def correct() -> Row:
        return {
            "figures": {"passed": 3, "failed": 1, "not reached": 0, "red": 1}, "unfinished": True,
            "why": {"failed": {"test_lengths[8]": "dq is off"}, "skipped": {}}, "outcomes": {},
        }  # fmt: skip

    tasks = [Task("a", ceilings.CORRECT, {}, correct), counted(counts, "after")]
    with pytest.raises(RosAttnError, match=r"1 correctness tests failed.*test_lengths\[8\]: dq is off"):
        section(tasks, section="a")
    assert not counts


def test_what_the_tests_say_decides_on_speed_ups() -> None:
    def figures(passed: int, failed: int, missing: int) -> Row:
        red = failed + missing + int(passed == 0)
        return {"figures": {"passed": passed, "failed": failed, "not reached": missing, "red": red}}

    assert ceilings.green(figures(9, 0, 0)) is True
    assert ceilings.green(figures(9, 1, 0)) is False
    assert ceilings.green(figures(9, 0, 1)) is None and ceilings.green(figures(0, 0, 0)) is None
    assert ceilings.green(None) is None and ceilings.green({"error": "no"}) is None


# -- contests -----------------------------------------------------------------------------------------------


def toy(machine: Machine, off: float = 0.0) -> Contest:
    q, k, v = contest.normal(machine, 1, 60, 2, 16)
    exact = attend(q, k, v, normaliser="sigmoid")

    def absent() -> Call:
        raise ImportError("no such package")

    return Contest(
        {OURS: lambda: lambda: exact + off, "peer, one": lambda: lambda: exact, "peer, two": lambda: lambda: exact,
         "gone": absent, "own dense": lambda: lambda: exact},
        flops=8e9, bytes=4e9, sample=lambda: Sample(q, k, v, normaliser="sigmoid"), beside=("own dense",),
    )  # fmt: skip


def test_a_contest_gives_rates_speed_ups_and_who_was_absent() -> None:
    where = context(Stopwatch(2.0, 6.0, 5.0, 4.0), green=True, copy_tb_s=4.0, product_tflops=16.0)
    found = contest.measured(where, toy(where.machine))
    figures = found["figures"]
    assert figures["TFLOP/s"] == pytest.approx(4.0) and figures["TB/s"] == pytest.approx(2.0)
    # 0.5 ms at the rate of the product, 1 ms at that of the copy: half of 2 ms.
    assert figures["share of the roofline"] == pytest.approx(0.5)
    assert figures["speed-up over peer"] == pytest.approx(2.5)
    assert [name for name in figures if name.startswith("speed-up")] == ["speed-up over peer"]
    assert found["absent"] == {"gone": "ImportError: no such package"}
    assert found["times"]["peer, two"] == {"median_ms": 5.0, "low_ms": 5.0, "high_ms": 5.0}
    assert set(found["errors"]) == {"ours", "peer, one", "peer, two", "PyTorch"}


def test_no_speed_up_unless_the_tests_passed() -> None:
    where = context(Stopwatch(2.0, 6.0, 5.0, 4.0))
    figures = contest.measured(where, toy(where.machine))["figures"]
    assert not [name for name in figures if name.startswith("speed-up")]
    assert "share of the roofline" not in figures


def test_a_wrong_output_is_not_timed() -> None:
    where = context(Stopwatch(2.0, 6.0, 5.0, 4.0))
    with pytest.raises(ArithmeticError, match="ours is off by"):
        contest.measured(where, toy(where.machine, off=1e-3))
    with pytest.raises(ArithmeticError, match="ours is off by"):
        contest.measured(where, toy(where.machine, off=torch.nan))


def test_a_peer_that_gives_no_numbers_is_absent() -> None:
    where = context(Stopwatch(2.0, 6.0), green=True)
    q, k, v = contest.normal(where.machine, 1, 60, 2, 16)
    exact = attend(q, k, v, normaliser="sigmoid")
    made = Contest(
        {OURS: lambda: lambda: exact, "broken": lambda: lambda: exact * torch.inf, "sound": lambda: lambda: exact},
        flops=1.0, bytes=1.0, sample=lambda: Sample(q, k, v, normaliser="sigmoid"),
    )  # fmt: skip
    found = contest.measured(where, made)
    assert found["absent"] == {"broken": "its output is not finite"} and set(found["times"]) == {OURS, "sound"}


def test_several_calls_are_timed_per_call() -> None:
    where = context(Stopwatch(8.0), green=True)
    ran = []
    made = Contest({OURS: lambda: [lambda k=k: ran.append(k) for k in range(4)]}, flops=2e9, bytes=0.0)
    assert contest.measured(where, made)["figures"]["TFLOP/s"] == pytest.approx(1.0)
    assert set(ran) == {0, 1, 2, 3}


def test_a_gpu_is_timed_between_two_events_from_cold_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """With events that stand on a clock of their own: 2 ms for what empties the caches, 5 and 7 for the functions."""
    now = [0.0]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.at = -1.0

        def record(self) -> None:
            self.at = now[0]

        def elapsed_time(self, end: Any) -> float:
            return end.at - self.at

    def spend(ms: float, name: str) -> None:
        now[0] += ms
        log.append(name)

    log: list[str] = []
    monkeypatch.setattr(machine, "AHEAD_BYTES", 64)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    timer = machine.EventTimer(torch.device("cpu"), measured_ms=70.0, fewest=3)
    monkeypatch.setattr(timer, "_ahead", SimpleNamespace(zero_=lambda: spend(2.0, "empty")))
    found = timer.calls([lambda: spend(5.0, "one"), lambda: spend(7.0, "two")])
    assert [set(each.rounds) for each in found] == [{5.0}, {7.0}]
    assert len(found[0].rounds) == 10
    # Once to compile, once to see how long the host takes.
    assert log == ["one", "two", "one", "two", *["empty", "one", "empty", "two"] * 13]
    # 4.5 to 6 times a write of 2 ms, for a host that takes 6 to 8 ms.
    monkeypatch.setattr(timer, "_write_ms", 2.0)
    log.clear()
    timer.calls([lambda: (time.sleep(0.006), spend(5.0, "slow"))])
    assert log[:2] == ["slow", "slow"] and 5 <= log[2:].index("slow") <= 16


def test_the_host_is_timed() -> None:
    assert 0 < host_us(lambda: None, calls=10) < 1000


# -- compiling ahead, counters, the sigmoid's table ---------------------------------------------------------

_TAKER = """
import pathlib, runpy, sys
folder = pathlib.Path(sys.argv[1])
claims = runpy.run_path("kernels/bench/parallel.py")["claims"]  # without torch, which takes long to import
for job in claims(folder, [str(n) for n in range(200)]):
    with (folder / "done").open("a") as out:
        out.write(job + "\\n")
"""


def test_every_job_is_taken_once(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _TAKER, str(tmp_path)], cwd=ROOT) for _ in range(2)
    ]  # fmt: skip
    assert [each.wait() for each in running] == [0, 0]
    done = (tmp_path / "done").read_text().split()
    assert sorted(map(int, done)) == list(range(200))


def test_processes_are_ended_at_the_limit(tmp_path: Path) -> None:
    slow = tmp_path / "sleeper.py"
    slow.write_text("import time, sys\nprint('begun', flush=True)\ntime.sleep(float(sys.argv[1]))\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    assert parallel.spread(tmp_path, "sleeper", ["0"], 1, 20.0, environment)
    assert not parallel.spread(tmp_path, "sleeper", ["60"], 1, 1.5, environment)


def test_counters_are_read_from_what_ncu_prints() -> None:
    text = """==PROF== Connected to process 7
something the program printed
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","7","forward_kernel","GPU Speed Of Light Throughput","Duration","us","812.3"
"0","7","forward_kernel","Occupancy","Achieved Occupancy","%","12.4"
"1","7","combine_kernel","GPU Speed Of Light Throughput","Duration","us","3.1"
"""
    assert counters.parsed(text) == {
        "0 forward_kernel": {"Duration": "812.3 us", "Achieved Occupancy": "12.4 %"},
        "1 combine_kernel": {"Duration": "3.1 us"},
    }
    assert counters.parsed("==ERROR== no permission") == {}


def test_the_worst_rows_are_those_furthest_from_their_bars() -> None:
    def judged(name: str, *bars: tuple[Bar, float | None]) -> Row:
        verdicts = [bar.judge({} if value is None else {bar.figure: value}) for bar, value in bars]
        return row(name, times={}, bars=verdicts)

    rate, late = Bar("TFLOP/s", 400), Bar("us beyond K+V at 2.5 TB/s", 12, least=False)
    rows = [
        judged("good", (rate, 500.0)), judged("half", (rate, 200.0)), judged("late", (late, 40.0)),
        judged("fair", (rate, 390.0), (late, None)), judged("pairs", (Bar("visible / computed pairs", 0.9), 0.1)),
        row("failed", error="no", bars=[rate.judge({"TFLOP/s": 1.0})]), judged("unjudged", (rate, None)),
    ]  # fmt: skip
    assert [each["name"] for each in counters.worst(rows)] == ["late", "half"]


def test_the_polynomial_of_the_sigmoid(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    code = (
        "import json, sys, torch; from ros_attn.kernels.bench.sigmoid_triton import table; "
        "json.dump(table(torch.device('cpu'), 4096), open(sys.argv[1], 'w'))"
    )
    to = tmp_path / "table.json"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(to)], check=True, cwd=ROOT, env=environment)
    found = json.loads(to.read_text())
    assert [each["n"] for each in found] == [1, 64, 1024, 4096, 8192, 16384, 65536]
    assert 1e-4 < found[0]["polynomial, largest"] < 4.5e-4
    assert found[-1]["polynomial, largest"] < found[0]["polynomial, largest"]
    assert all("tanh.approx, largest" not in each for each in found)


# -- the command and the tables -----------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "kernels", "--section", "c", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("ros-attn bench: section c needs a GPU, and PyTorch") and said.count("\n") == 1
    assert gpu.main(["--section", "a", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("bench: section a needs a GPU")
    assert run.main([]) == 1 and "finds no GPU here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_cpu_section_writes_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rows(rounds: int) -> Iterator[Row]:
        asked.append(rounds)
        yield {"name": "causal", "visible_share": 0.5, "relative_error": 1.0, "correct": False}
        yield {"name": "import after torch", "seconds": 0.5, "bar": 1.5, "triton_imported": False}

    monkeypatch.setattr(cpu, "rows", rows)
    assert main(["bench", "kernels", "--section", "cpu", "--out", str(tmp_path), "--rounds", "3"]) == 0
    found = json.loads((tmp_path / "kernels_cpu.json").read_text())["rows"]
    assert [each["key"] for each in found] == ["cpu/causal", "cpu/import after torch"] and asked == [3]
    assert all("cores" in each["origin"]["device"] for each in found)


def test_tables_show_figures_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tables, "RESULTS", tmp_path)
    assert all(kernel_tables.NOT_MEASURED in table() for table in (
        kernel_tables.kernels_a, kernel_tables.kernels_tanh, kernel_tables.kernels_decode, kernel_tables.kernels_cpu
    ))  # fmt: skip
    empty = kernel_tables.kernels_dense().splitlines()
    assert len(empty) == 2 + 20 and all("| not measured |" in line for line in empty[2:])
    task = next(each for each in gpu.tasks("c", context()) if each.name == "softmax forward")
    figures = {"TFLOP/s": 412.3, "share of the roofline": 0.52}
    Results("c", tmp_path, tmp_path).add({
        **row("softmax forward"), "key": task.key, "figures": figures, "bars": [task.bars[0].judge(figures)],
        "times": {name: {"median_ms": ms, "low_ms": ms, "high_ms": ms} for name, ms in (("ours", 2.5), ("SDPA", 3.0))},
        "origin": {"device": "a GPU", "commit": "", "code": "abc", "torch": "2.11", "date": "2026-12-01T00:00:00Z"},
    })  # fmt: skip
    shown = kernel_tables.kernels_dense().splitlines()
    [line] = [line for line in shown if "412" in line]
    assert "| 2.5 (2.5 to 2.5) | 412 TFLOP/s, 52% of the roofline | SDPA: 3 (3 to 3) | " in line
    assert line.endswith("| TFLOP/s ≥ 400: 412, met |")
    assert shown[-1] == "*a GPU; torch 2.11; 2026-12-01; sources abc.*"
    assert sum("not measured" in line for line in shown) == 19
