"""Scores of runs: what the component saw is what is scored, a sensor that dropped out, and refusals in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ros_attn.bag import BagReader
from ros_attn.cli import main
from ros_attn.component import Component, Out, Sync
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.evaluation import Plan, evaluate_run
from ros_attn.evaluate.flicker import flicker
from ros_attn.evaluate.fusion_metrics import measure
from ros_attn.evaluate.fusion_run import (
    FusionFrame,
    aligned_infrared,
    candidates,
    fused_steps,
    fusion_stage,
    picture_size,
    sources,
    spread,
)
from ros_attn.evaluate.grey import luma
from ros_attn.evaluate.playback import play
from ros_attn.evaluate.recorded_run import RecordedRun, read_run
from ros_attn.perception.infrared_visible_fusion import rule
from ros_attn.values import Image
from tests.evaluate.recordings import PERIOD_NS, T0, drive, replayed

STAGE = "infrared_visible_fusion"


@pytest.fixture(scope="module")
def dropout(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """Infrared is silent from 1.0 to 2.0 s of 4 s."""
    folder = tmp_path_factory.mktemp("dropout")
    return read_run(replayed(drive(folder / "bag", 40, lambda k: 10 <= k < 20), folder / "run"))


# ---------------------------------------------------------------- what is scored


def test_dropout_of_a_sensor_is_found_and_not_scored(dropout: RecordedRun) -> None:
    """Ten pictures of 10 Hz, patience 0.3 s: the first eight pass through alone, the last two found the next pair."""
    evaluation = evaluate_run(dropout, Plan(every=1))
    assert [frame.number for frame in evaluation.frames if frame.missing] == list(range(10, 18))
    assert all(frame.missing == ("infrared",) and not frame.scores for frame in evaluation.frames[10:18])
    assert len(evaluation.scored) == 30
    (interval,) = evaluation.missing
    assert (interval.key, interval.steps) == ("infrared", 8)
    assert (interval.start_s, interval.stop_s) == pytest.approx((1.0, 1.8))
    figures = evaluation.figures()
    assert (figures["infrared.missing"], figures["visible.dropped"], figures["steps"]) == (8, 2, 38)
    assert (figures["pictures"], figures["scored"]) == (38, 30)


def test_flicker_is_taken_over_neighbours_that_both_had_both_images(dropout: RecordedRun) -> None:
    frames = evaluate_run(dropout, Plan(every=1)).frames
    without = [frame.number for frame in frames if frame.scores and "flicker" not in frame.scores["run"]]
    assert without == [0, 18]


def test_scores_are_those_of_the_images_in_the_bags(dropout: RecordedRun) -> None:
    with BagReader(dropout.bag) as bag, BagReader(dropout.path / "outputs") as outputs:
        seen = {
            (message.topic, image.stamp_ns): image.data
            for reader in (bag, outputs)
            for message in reader.messages()
            if isinstance(image := reader.decode(message), Image)
        }
    for frame in evaluate_run(dropout, Plan(every=7)).scored:
        at, before = (
            (seen["/infrared/image", t], luma(seen["/visible/image", t]), luma(seen["/fused/image", t]))
            for t in (frame.stamp_ns, max(frame.stamp_ns - PERIOD_NS, T0))
        )
        expected = measure(*at) | ({} if frame.number == 0 else flicker([before, at]))
        assert frame.scores["run"] == expected
        assert frame.scores["max"]["MI"] == measure(*at[:2], np.maximum(*at[:2]))["MI"]


def test_baselines_are_rounded_as_the_protocol_says() -> None:
    infrared, visible = np.array([[1, 2, 255]], np.uint8), np.array([[2, 5, 255]], np.uint8)
    frame = FusionFrame(infrared, visible, infrared)
    assert frame.by("max").tolist() == [[2, 5, 255]]
    assert frame.by("average").tolist() == [[2, 4, 255]]  # 1.5 and 3.5, ties to the even level
    assert frame.by("run") is infrared


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="every message"),
        pytest.param(("--mode", "as-deployed", "--latency", "0.23"), id="as deployed"),
        pytest.param(("--mode", "as-deployed"), id="as deployed, measured"),
        pytest.param(("--input", "infrared.time_offset_s=-0.05", "--slop-s", "0.01"), id="time offset"),
        pytest.param(("--input", "visible.max_rate_hz=4", "--pairing", "hold"), id="hold"),
        pytest.param(("--start", "1.15", "--duration", "1.2"), id="part of the bag"),
        pytest.param(("--polarity", "black_hot", "--agc-time-s", "0.2"), id="gain and polarity"),
    ],
)
def test_evaluation_sees_exactly_what_the_component_fused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """The rule over the played sources gives the recorded picture to the bit, gain over time included."""
    late = 50_000_000 if "time_offset" in str(flags) else 0
    bag = drive(tmp_path / "bag", 30, lambda k: 12 <= k < 17, counts=True, grey=True, infrared_late_ns=late)
    run = read_run(replayed(bag, tmp_path / "run", "--model", "rule", *flags))
    steps = both = 0
    for step in fused_steps(run, bag, STAGE):
        steps += 1
        aligned = aligned_infrared(step)
        if aligned is None or step.inputs["visible"] is None:
            continue
        both += 1
        fused, _ = rule.fuse(aligned[0], step.inputs["visible"].data.astype(np.float32))
        assert np.array_equal(np.clip(np.rint(fused), 0, 255), step.outputs["fused"].data)  # type: ignore[union-attr]
    assert steps == run.stages[STAGE]["runs"]["steps"] > 0
    assert both >= 5


def test_bag_whose_stamps_jump_back(tmp_path: Path) -> None:
    """The runtime resets, the gain with it; the picture is that of the rule again, and a report can be written."""
    bag = drive(tmp_path / "bag", 24, counts=True, grey=True, back_at=12)
    run = read_run(replayed(bag, tmp_path / "run", "--model", "rule"))
    assert run.stages[STAGE]["runs"]["resets"] == 1
    for step in fused_steps(run, bag, STAGE):
        aligned = aligned_infrared(step)
        assert aligned is not None
        fused, _ = rule.fuse(aligned[0], step.inputs["visible"].data.astype(np.float32))
        assert np.array_equal(np.clip(np.rint(fused), 0, 255), step.outputs["fused"].data)  # type: ignore[union-attr]
    assert main(["evaluate", str(run.path)]) == 0


def test_uncovered_parts_are_left_out(tmp_path: Path) -> None:
    """Infrared lies 20 px to the right and 6 px down in the visible image: 44 x 42 px are seen by both."""
    bag = drive(tmp_path / "bag", 3)
    shift = map(str, (1, 0, 20, 0, 1, 6, 0, 0, 1))
    run = read_run(replayed(bag, tmp_path / "run", "--align", "homography", "--homography", *shift))
    step = next(fused_steps(run, bag, STAGE))
    aligned = aligned_infrared(step)
    frame = sources(step, aligned)
    assert frame is not None and aligned is not None and aligned[1] is not None
    covered = aligned[1] > 0
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    assert frame.fused.shape == (len(rows), len(columns)) == (42, 44)
    assert (rows[0], columns[0]) == (6, 20)
    assert np.array_equal(frame.infrared, step.inputs["infrared"].data[:42, :44])


# ---------------------------------------------------------------- which are scored


def test_spread() -> None:
    vga = (640, 480)
    assert spread(range(150), vga) == (list(range(0, 150, 2)), 2)
    assert spread(range(100), vga)[1] == 1
    assert len(spread(range(18000), vga)[0]) == 100
    assert len(spread(range(1000), (1280, 1024))[0]) == 23
    assert len(spread(range(1000), vga, runs=50)[0]) == 12
    assert spread(range(10), vga, every=4) == ([0, 4, 8], 4)
    assert spread([], vga) == ([], 1)


def test_candidates_go_by_the_recorded_conditions(dropout: RecordedRun) -> None:
    assert fusion_stage(dropout) == STAGE
    assert candidates(dropout, STAGE) == [*range(10), *range(18, 38)]
    assert picture_size(dropout, STAGE) == (64, 48)


# ---------------------------------------------------------------- other runs


class Brighten(Component):
    """Thirty levels up, as a stage before the fusion."""

    inputs: ClassVar = {"image": Sync(Image, "raw")}
    outputs: ClassVar = {"image": Out(Image, "bright")}

    def step(self, now_ns: int, image: Image) -> dict[str, Any]:
        return {"image": Image(now_ns, np.minimum(image.data, 225) + np.uint8(30), image.encoding, image.frame_id)}


class Average(Component):
    """A fusion that does not say what it fuses."""

    inputs: ClassVar = {"visible": Sync(Image, "visible/image"), "infrared": Sync(Image, "infrared/image")}
    outputs: ClassVar = {"fused": Out(Image, "fused/image")}

    def step(self, now_ns: int, visible: Image, infrared: Image) -> dict[str, Any]:
        return {"fused": Image(now_ns, visible.data // 2 + infrared.data // 2, "mono8")}


def test_images_made_by_another_stage(tmp_path: Path) -> None:
    """The infrared image of the fusion is that of the stage before it, taken from the outputs of the run."""
    graph = tmp_path / "graph.yaml"
    graph.write_text(
        f"stages:\n  - {{component: '{__file__}:Brighten', name: bright, remap: {{raw: /infrared/image}}}}\n"
        "  - {component: infrared_visible_fusion, name: fusion, remap: {infrared/image: /bright}}\n"
    )
    bag = drive(tmp_path / "bag", 6)
    run = read_run(replayed(bag, tmp_path / "run", component=str(graph)))
    assert fusion_stage(run) == "fusion"
    evaluation = evaluate_run(run, Plan())
    assert len(evaluation.scored) == 6
    levels = [aligned_infrared(step) for step in fused_steps(run, bag, "fusion")]
    with BagReader(bag) as reader:
        raw = [reader.decode(message) for message in reader.messages(["/infrared/image"])]
    for found, image in zip(levels, raw, strict=True):
        assert found is not None and isinstance(image, Image)
        assert np.array_equal(found[0], np.minimum(image.data, 225) + 30)
    assert {"bright/steps", "fusion/steps", "fusion/Q_min"} <= evaluation.figures().keys()


def test_component_that_cannot_be_scored_gets_the_general_figures(tmp_path: Path) -> None:
    bag = drive(tmp_path / "bag", 6, grey=True)
    run = read_run(replayed(bag, tmp_path / "run", component=f"{__file__}:Average"))
    evaluation = evaluate_run(run, Plan())
    assert "aligned_infrared" in evaluation.notes[0]
    assert not evaluation.frames and not evaluation.troubles
    assert evaluation.figures()["steps"] == 6
    assert "Q_min" not in evaluation.figures()


def test_interrupted_run_is_played_as_far_as_it_went(dropout: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(dropout.path, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines[:25]))
    run = read_run(tmp_path / "run")
    assert sum(1 for _ in play(run, run.bag)) == 25
    assert len(evaluate_run(run, Plan()).scored) == 17


def test_nothing_in_common(tmp_path: Path) -> None:
    """Infrared only begins when the visible camera is done: pictures there are, but none to score."""
    bag = drive(tmp_path / "bag", 30, lambda k: k < 20, lambda k: k >= 10)
    run = read_run(replayed(bag, tmp_path / "run"))
    (trouble,) = evaluate_run(run, Plan()).troubles
    # The last three infrared images are still waiting for the visible camera when the bag ends.
    assert "None of the 17 fused pictures" in trouble and "infrared/image: 10 received" in trouble


# ---------------------------------------------------------------- refusals


def test_no_such_run(dropout: RecordedRun, tmp_path: Path) -> None:
    with pytest.raises(
        RosAttnError, match=r"There is no run .*/rum \(did you mean 'run'\?\); the runs in .* are latest, run"
    ):
        read_run(dropout.path.with_name("rum"))
    with pytest.raises(RosAttnError, match=r"make one with: ros-attn replay BAG COMPONENT"):
        read_run(tmp_path / "none")
    with pytest.raises(RosAttnError, match="is a bag, not a run"):
        read_run(dropout.bag)
    with pytest.raises(RosAttnError, match=r"is no run: it has no summary\.json"):
        read_run(tmp_path)


def test_damaged_run(dropout: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(dropout.path, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"stage": "infra')
    with pytest.raises(RosAttnError, match="is a damaged run"):
        read_run(tmp_path / "run")


def test_moved_bag(dropout: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(dropout.path, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").write_text(json.dumps({**summary, "bag": "/gone/street"}))
    run = read_run(tmp_path / "run")
    with pytest.raises(RosAttnError, match=r"not at /gone/street; if it was moved, say where it is with --bag PATH"):
        evaluate_run(run, Plan())
    assert len(evaluate_run(run, Plan(every=5), dropout.bag).scored) == 6


def test_other_bag_in_its_place(dropout: RecordedRun, tmp_path: Path) -> None:
    other = drive(tmp_path / "bag", 20, lambda k: 3 <= k < 14)
    with pytest.raises(RosAttnError, match=r"cannot be followed beyond step 4.*replay the bag again"):
        evaluate_run(dropout, Plan(), other)


def test_outputs_gone(dropout: RecordedRun, tmp_path: Path) -> None:
    shutil.copytree(dropout.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "outputs")
    with pytest.raises(RosAttnError, match=r"has no outputs .*replay the bag again"):
        evaluate_run(read_run(tmp_path / "run"), Plan())
