"""Replay: order, latency, backlog, graphs, statics first, and what a run leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ros_attn.bag import BagReader, BagWriter
from ros_attn.cli import main
from ros_attn.component import Component, Hold, Out, Static, Sync, Timer
from ros_attn.errors import RosAttnError, TopicError
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.replay import Replay, StepRecord, given_latency, measured_latency
from ros_attn.values import FloatArray, Image, Text, field_bytes
from tests.images import scene

MS = 1_000_000
T0 = 1_700_000_000 * 10**9


@dataclass
class Adder(Component):
    """Adds one; tells when it stepped."""

    inputs: ClassVar = {"number": Sync(FloatArray, "in")}
    outputs: ClassVar = {"number": Out(FloatArray, "out")}
    seen: list[float] = field(default_factory=list)

    def step(self, now_ns: int, number: FloatArray) -> dict[str, Any]:
        self.seen.append(float(number.data[0]))
        return {"number": FloatArray(now_ns, number.data + 1)}


class LatestAdder(Adder):
    backlog: ClassVar = "latest"


def numbers(path: Path, count: int = 10, period_ms: float = 100.0, topic: str = "/in") -> Path:
    with BagWriter(path) as bag:
        for k in range(count):
            stamp = T0 + round(k * period_ms * MS)
            bag.write(topic, FloatArray(stamp, np.array([float(k)])), stamp)
    return path


def replayed(bag: Path, graph: Graph, **kwargs: Any) -> list[StepRecord]:
    with BagReader(bag) as reader:
        return list(Replay(reader, graph, **kwargs).steps())


def values(records: list[StepRecord], stage: str) -> list[float]:
    return [float(record.outputs["number"].data[0]) for record in records if record.stage.name == stage]  # type: ignore[union-attr]


def test_a_graph_hands_values_on_without_a_bag_between(tmp_path: Path) -> None:
    graph = Graph([Stage(Adder(), "first"), Stage(Adder(), "second", remap={"in": "/out", "out": "/twice"})])
    records = replayed(numbers(tmp_path / "bag"), graph)
    assert values(records, "first") == [k + 1.0 for k in range(10)]
    assert values(records, "second") == [k + 2.0 for k in range(10)]


def test_order_of_stages_does_not_matter(tmp_path: Path) -> None:
    stages = [Stage(Adder(), "second", remap={"in": "/out", "out": "/twice"}), Stage(Adder(), "first")]
    assert values(replayed(numbers(tmp_path / "bag"), Graph(stages)), "second") == [k + 2.0 for k in range(10)]


@pytest.mark.parametrize(
    "cls, latency_s, expected",
    [
        (LatestAdder, 0.05, list(range(10))),
        # Begins at 0, 260, 520, 780 ms with the newest there is, and at 1040 ms with the last.
        (LatestAdder, 0.26, [0, 2, 5, 7, 9]),
        (Adder, 0.26, list(range(10))),
    ],
)
def test_as_deployed_a_step_takes_its_latency(tmp_path: Path, cls: type, latency_s: float, expected: list[int]) -> None:
    component = cls()
    records = replayed(
        numbers(tmp_path / "bag"), Graph([Stage(component, "adder")]), mode="as-deployed",
        latency=lambda stage, work, measured: latency_s,
    )  # fmt: skip
    assert component.seen == expected
    assert all(record.end_ns - record.start_ns == round(latency_s * 1e9) for record in records)
    starts = [record.start_ns for record in records]
    assert all(later - earlier >= latency_s * 1e9 for earlier, later in pairwise(starts))
    assert [record.start_ns >= record.ready_ns for record in records] == [True] * len(records)


def test_latency_table_goes_round(tmp_path: Path) -> None:
    table = given_latency({"adder": [0.01, 0.02]})
    records = replayed(
        numbers(tmp_path / "bag", 4), Graph([Stage(Adder(), "adder")]), mode="as-deployed", latency=table
    )
    assert [(record.end_ns - record.start_ns) // MS for record in records] == [10, 20, 10, 20]
    with pytest.raises(RosAttnError, match="no stage 'other'"):
        replayed(
            tmp_path / "bag", Graph([Stage(Adder(), "other")]), mode="as-deployed", latency=given_latency({"a": [1.0]})
        )


def test_a_slow_model_and_a_fast_executor(tmp_path: Path) -> None:
    """Model 0.31 s a step at 10 Hz in, executor at 50 Hz: it holds what has arrived, never what is still computed."""

    @dataclass
    class Executor(Component):
        inputs: ClassVar = {"chunk": Hold(FloatArray, "out")}
        trigger: ClassVar = Timer(50)
        held: dict[int, float] = field(default_factory=dict)

        def step(self, now_ns: int, chunk: FloatArray | None) -> dict[str, Any]:
            if chunk is not None:
                self.held[(now_ns - T0) // MS] = float(chunk.data[0])
            return {}

    executor = Executor()
    graph = Graph([Stage(LatestAdder(), "model"), Stage(executor, "executor")])
    fixed: Callable[..., float] = lambda stage, work, measured: 0.31 if stage.name == "model" else 0.0  # noqa: E731
    replayed(numbers(tmp_path / "bag"), graph, mode="as-deployed", latency=fixed)
    assert min(executor.held) == 320
    assert [executor.held[ms] for ms in (320, 600, 620, 920, 940)] == [1.0, 1.0, 4.0, 4.0, 7.0]


def test_statics_come_first_even_from_behind_the_start(tmp_path: Path) -> None:
    @dataclass
    class Calibrated(Adder):
        inputs: ClassVar = {"number": Sync(FloatArray, "in"), "scale": Static(FloatArray, "scale")}

        def step(self, now_ns: int, number: FloatArray, scale: FloatArray) -> dict[str, Any]:  # type: ignore[override]
            return {"number": FloatArray(now_ns, number.data * scale.data)}

    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/scale", FloatArray(T0, np.array([3.0])), T0)
        for k in range(10):
            stamp = T0 + k * 100 * MS
            bag.write("/in", FloatArray(stamp, np.array([float(k)])), stamp)
    records = replayed(tmp_path / "bag", Graph([Stage(Calibrated(), "c")]), start_s=0.45, duration_s=0.3)
    assert values(records, "c") == [15.0, 18.0, 21.0]


def test_absent_topic_names_those_of_the_right_type(tmp_path: Path) -> None:
    numbers(tmp_path / "bag", topic="/other/in")
    with pytest.raises(TopicError, match=r"no topic /in for input 'number'.*--remap in:=/other/in"):
        replayed(tmp_path / "bag", Graph([Stage(Adder(), "adder")]))


def test_wrong_type_is_named(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/in", Text(T0, "hello"), T0)
    with pytest.raises(
        TopicError, match="is std_msgs/msg/String, but input 'number' takes std_msgs/msg/Float64MultiArray"
    ):
        replayed(tmp_path / "bag", Graph([Stage(Adder(), "adder")]))


# -- the command ------------------------------------------------------------------------------------------


def fusion_bag(path: Path, count: int = 8, gap: range = range(0)) -> Path:
    with BagWriter(path) as bag:
        for k in range(count):
            stamp = T0 + k * 100 * MS
            bag.write("/visible/image", scene(stamp, "rgb8", seed=k), stamp)
            if k not in gap:
                bag.write("/infrared/image", scene(stamp + 2 * MS, "mono8", seed=k), stamp + 3 * MS)
    return path


def outputs_of(run: Path) -> list[tuple[str, str]]:
    with BagReader(run / "outputs") as bag:
        return [(message.topic, field_bytes(bag.decode(message))) for message in bag.messages()]


def test_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fusion_bag(tmp_path / "bag")
    assert main(["replay", "bag", "infrared_visible_fusion", "--slop-s", "0.03"]) == 0
    run = tmp_path / "runs" / "latest"
    assert run.is_symlink() and not Path(run.readlink()).is_absolute()
    summary = json.loads((run / "summary.json").read_text())
    stage = summary["stages"]["infrared_visible_fusion"]
    assert stage["inputs"]["infrared"]["matched"] == stage["runs"]["steps"] == 8
    assert stage["outputs"]["fused"] == {"topic": "/fused/image", "count": 8}
    assert summary["provenance"]["version"] and summary["reproducible"]
    assert "slop_s: 0.03" in (run / "params.yaml").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["now_ns"] for line in lines] == [T0 + k * 100 * MS for k in range(8)]
    assert [topic for topic, _ in outputs_of(run)].count("/fused/image") == 8


def test_two_runs_and_another_process_give_the_same_bytes(tmp_path: Path) -> None:
    fusion_bag(tmp_path / "bag")
    command = ["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--quiet", "--out"]
    for name in ("a", "b"):
        assert main([*command, str(tmp_path / name)]) == 0
    subprocess.run([sys.executable, "-m", "ros_attn", *command, str(tmp_path / "c")], check=True)
    assert outputs_of(tmp_path / "a") == outputs_of(tmp_path / "b") == outputs_of(tmp_path / "c")
    deployed = [*command[:-1], "--mode", "as-deployed", "--latency", "0.15", "--out"]
    for name in ("d", "e"):
        assert main([*deployed, str(tmp_path / name)]) == 0
    assert outputs_of(tmp_path / "d") == outputs_of(tmp_path / "e")
    assert len(outputs_of(tmp_path / "d")) < len(outputs_of(tmp_path / "a"))


def test_a_silent_camera_is_passed_through_and_flagged(tmp_path: Path) -> None:
    fusion_bag(tmp_path / "bag", 20, gap=range(5, 20))
    flags = ["--model", "rule", "--out", str(tmp_path / "run")]
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", *flags]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    flagged = [(line["now_ns"] - T0) // (100 * MS) for line in lines if "conditions" in line]
    # The bag ends at 1.9 s: whether infrared is missing at 1.7 s and later, it does not say.
    assert flagged == list(range(5, 17))
    assert "infrared is missing: visible passes through alone." in lines[-1]["conditions"]["infrared"]
    with BagReader(tmp_path / "run" / "outputs") as bag:
        fused = [bag.decode(message) for message in bag.messages(["/fused/image"])]
    last = fused[-1]
    assert isinstance(last, Image)
    np.testing.assert_array_equal(last.data, scene(0, "rgb8", seed=16).data)


def test_a_component_that_cannot_start_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fusion_bag(tmp_path / "bag")
    flags = ["--weights", str(tmp_path / "absent"), "--out", str(tmp_path / "run")]
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", *flags]) == 1
    assert "There is no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_existing_output_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fusion_bag(tmp_path / "bag")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--out", str(tmp_path / "run")]) == 1
    assert "exists already and is not overwritten" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["precious"]


def test_a_message_that_does_not_decode_is_counted_and_the_rest_processed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fusion_bag(tmp_path / "good")
    with BagReader(tmp_path / "good") as good, BagWriter(tmp_path / "bag") as bag:
        for k, message in enumerate(good.messages()):
            raw = bytes(message.raw)
            bag.write_raw(message.topic, message.msgtype, raw[:-100] if k == 4 else raw, message.arrival_ns, good)
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--out", str(tmp_path / "run")]) == 1
    out = capsys.readouterr().out
    assert "1 messages did not decode and were skipped" in out and "7 steps" in out


def test_failing_steps_are_reported_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(3):
            stamp = T0 + k * 100 * MS
            bag.write("/visible/image", scene(stamp, "rgb8"), stamp)
            bag.write("/infrared/image", scene(stamp, "mono8", height=24, width=32), stamp)
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--out", str(tmp_path / "run")]) == 1
    out = capsys.readouterr().out
    assert "3 steps failed" in out and "infrared is 32x24 and visible 64x48 px; set align" in out


def test_interruption_leaves_a_readable_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ros_attn.hosts import run_directory

    fusion_bag(tmp_path / "bag")
    add, number = run_directory.RunDirectory.add, iter(range(100))

    def interrupted(self: Any, record: StepRecord) -> None:
        if next(number) == 4:
            raise KeyboardInterrupt
        add(self, record)

    monkeypatch.setattr(run_directory.RunDirectory, "add", interrupted)
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--out", str(tmp_path / "run")]) == 130
    assert len(outputs_of(tmp_path / "run")) == 8
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["interrupted"] == "Ctrl-C"


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--remap", "visible/imag:=/x"], "has no topic 'visible/imag' (did you mean 'visible/image'?)"),
        (["--remap", "visible/image=/x"], "is not of the form from:=to"),
        (["--input", "thermal.queue_s=1"], "has no input 'thermal'; its inputs are visible, infrared"),
        (["--input", "infrared.queue=1"], "unknown option 'queue' (did you mean 'queue_s'?)"),
        (["--start", "99"], "is only 0.7 s long"),
        (["--latency", "soon"], "is neither measured, nor seconds, nor a table"),
        (["--slop-s", "-1"], "slop_s is -1, outside 0 to 1 s"),
        (["--params-file", "absent.yaml"], "cannot be read as a parameter file"),
    ],
)
def test_typos_get_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    fusion_bag(tmp_path / "bag")
    assert (
        main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--out", str(tmp_path / "run"), *flags]) == 1
    )
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_measured_latency_is_said_to_be_irreproducible(tmp_path: Path) -> None:
    with BagReader(numbers(tmp_path / "bag")) as bag:
        assert not Replay(bag, Graph([Stage(Adder(), "a")]), mode="as-deployed", latency=measured_latency).reproducible
        assert Replay(bag, Graph([Stage(Adder(), "a")])).reproducible
