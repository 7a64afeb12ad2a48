"""``ros-attn replay``: components over a bag, deterministic, without ROS."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ros_attn.bag import BagReader
from ros_attn.commands.component_arguments import build_graph, input_settings, parse
from ros_attn.errors import RosAttnError
from ros_attn.graph import parse_remaps
from ros_attn.hosts.replay import Latency, Replay, given_latency, measured_latency
from ros_attn.hosts.run_directory import CTRL_C, RunDirectory, new_run_path
from ros_attn.journal import JournalWriter, is_journal
from ros_attn.journal import replay as replay_journal


@dataclass(frozen=True)
class Options:
    """Run a component (or a graph of them) over a bag; further flags are the component's parameters."""

    bag: Annotated[Path, tyro.conf.Positional]
    """rosbag2 folder, .mcap, .db3, ROS 1 .bag, or a journal written with --journal."""
    component: Annotated[str, tyro.conf.Positional] = ""
    """name, module:Class, file.py:Class, or graph.yaml; a journal needs none."""
    out: Path | None = None
    """run folder to make; default runs/<time>_<component>, with runs/latest pointing to it."""
    mode: Literal["every-message", "as-deployed"] = "every-message"
    """as-deployed: a step takes its latency and what became ready meanwhile follows the backlog."""
    latency: str = "measured"
    """as-deployed: seconds, or a table (JSON: stage -> list of seconds), or measured (not reproducible)."""
    remap: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """from:=to, such as visible/image:=/cam0/image_raw; may be given several times."""
    input: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """input.option=number: time_offset_s, max_rate_hz, queue_s, such as infrared.time_offset_s=-0.012."""
    params_file: Path | None = None
    """ROS parameter file; flags win over it."""
    start: float = 0.0
    """begin this many seconds into the bag."""
    duration: float = field(default=float("inf"))
    """stop after this many seconds of the bag."""
    journal: bool = False
    """also write the journal of this run, which replays to the same bytes."""
    torch_threads: int = 2
    """threads of torch and opencv; another number can change pixels."""
    quiet: bool = False
    """no progress bar, no summary."""


def run(argv: list[str]) -> int:
    """The verb."""
    options, given = parse(Options, argv, "ros-attn replay")
    if options.start < 0 or options.duration <= 0:
        raise RosAttnError(
            f"--start {options.start:g} and --duration {options.duration:g}: take start >= 0, duration > 0."
        )
    with BagReader(options.bag) as bag:
        if is_journal(bag):
            if options.component:
                raise RosAttnError(
                    f"{options.bag} is a journal and names its components itself; leave {options.component!r} out."
                )
            return _journal(options)
        if not options.component:
            raise RosAttnError(f"Which component is to run over {options.bag}? `ros-attn components` lists them.")
        return _bag(options, given, bag)


def _bag(options: Options, given: dict[str, Any], bag: BagReader) -> int:
    graph, spec = build_graph(
        options.component, given, options.params_file, parse_remaps(options.remap), input_settings(options.input)
    )
    length_s = (bag.end_ns - bag.start_ns) * 1e-9
    if options.start >= length_s > 0:
        raise RosAttnError(f"--start {options.start:g}: {options.bag} is only {length_s:.1f} s long.")
    set_threads(options.torch_threads)
    said: set[str] = set()
    replay = Replay(
        bag, graph, options.mode, _latency(options.latency), options.start, options.duration,
        warn=lambda sentence: said.add(sentence),
    )  # fmt: skip
    path = options.out or new_run_path(Path("runs"), graph.stages[0].name)
    settings = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(options).items()
        if key in Options.__dataclass_fields__
    }
    settings |= {"duration": None if options.duration == float("inf") else options.duration, "spec": spec}
    replay.configure()
    recording = RunDirectory(path, replay, settings)
    journal = JournalWriter(path / "journal", graph, spec) if options.journal else None
    if journal is not None:
        for each in replay.hosted:
            journal.observe(each.stage, each.runtime)
    began, interrupted = time.perf_counter(), ""
    try:
        for record in _progress(replay, options.quiet):
            recording.add(record)
            if journal is not None:
                journal.outputs(record.stage, record.outputs)
    except KeyboardInterrupt:
        interrupted = CTRL_C
    except BaseException as error:
        interrupted = f"{type(error).__name__}: {error}"
        raise
    finally:
        if journal is not None:
            journal.close()
        summary = recording.finish(time.perf_counter() - began, interrupted)
    for sentence in sorted(said):
        print(f"warning: {sentence}", file=sys.stderr)
    if not options.quiet:
        print(describe(summary, path))
    return 130 if interrupted else verdict(summary)


def set_threads(number: int) -> None:
    """Fix the threads of the libraries whose results depend on them, where they are installed."""
    try:
        import cv2

        cv2.setNumThreads(number)
    except ModuleNotFoundError:
        print("note: opencv is not installed; components that need it will say so.", file=sys.stderr)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def _latency(text: str) -> Latency:
    if text == "measured":
        return measured_latency
    try:
        seconds = float(text)
    except ValueError:
        try:
            table = json.loads(Path(text).read_text())
            return given_latency({stage: [float(each) for each in times] for stage, times in table.items()})
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise RosAttnError(
                f"--latency {text!r} is neither measured, nor seconds, nor a table (JSON: stage -> seconds): {error}"
            ) from None
    if not 0 <= seconds < 3600:
        raise RosAttnError(f"--latency {seconds:g} s is outside 0 to 3600.")
    return lambda stage, work, measured: seconds


def _progress(replay: Replay, quiet: bool) -> Iterator[Any]:
    from tqdm import tqdm

    length_s = min((replay.bag.end_ns - replay.bag.start_ns) * 1e-9 - replay.start_s, replay.duration_s)
    form = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s of bag [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=max(length_s, 0), bar_format=form, disable=quiet or not sys.stderr.isatty()) as bar:
        for number, record in enumerate(replay.steps(), 1):
            yield record
            done_s = (replay.last_ns - replay.first_ns) * 1e-9
            bar.set_postfix_str(f"{number} steps", refresh=False)
            bar.update(max(0.0, min(done_s, length_s) - bar.n))


def verdict(summary: dict[str, Any]) -> int:
    """0 where every stage stepped and nothing failed, else 1."""
    bad = summary["undecodable"] or any(
        stage["runs"]["steps"] == 0 or stage["runs"]["failed"] for stage in summary["stages"].values()
    )
    return 1 if bad else 0


def describe(summary: dict[str, Any], path: Path) -> str:
    """The summary in a few lines."""
    lines = []
    for topic, each in summary["undecodable"].items():
        lines.append(f"{topic}: {each['count']} messages did not decode and were skipped; the first: {each['first']}")
    for name, stage in summary["stages"].items():
        lines += [f"  {sentence}" for sentence in stage["sentences"]]
        runs, times = stage["runs"], stage["step_ms"]
        steps = f"{name}: {runs['steps']} steps"
        if times:
            steps += f", {times['p50']:.1f} ms median, {times['p99']:.1f} ms p99"
        for key, text in (("skipped_backlog", "skipped while busy"), ("skipped_ticks", "ticks skipped"),
                          ("untransformed", "without a transform"), ("resets", "resets")):  # fmt: skip
            if runs[key]:
                steps += f", {runs[key]} {text}"
        lines.append(steps)
        if runs["failed"]:
            lines.append(f"  {runs['failed']} steps failed; the first: {runs['first_failure']}")
        if runs["steps"] == 0 and not runs["failed"]:
            lines.append(f"  No step was taken: see the sentences above for what {name} waited for.")
    rate = f", {summary['bag_s'] / summary['wall_s']:.1f}x real time" if summary["wall_s"] > 0 else ""
    lines.append(f"{summary['bag_s']:.1f} s of bag in {summary['wall_s']:.1f} s{rate}; written to {path}")
    if not summary["reproducible"]:
        lines.append("not reproducible: measured latencies decided what was skipped; give --latency to fix them")
    return "\n".join(lines)


def _journal(options: Options) -> int:
    set_threads(options.torch_threads)
    steps, differ = 0, 0
    with _interruptible():
        for outcome in replay_journal(options.bag):
            steps += bool(outcome.noted)
            differ += not outcome.reproduced
    print(f"{options.bag}: {steps} steps with outputs, {steps - differ} reproduced byte for byte, {differ} not.")
    return 1 if differ or not steps else 0


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise RosAttnError("interrupted before the end of the journal; nothing can be said of the rest.") from None
