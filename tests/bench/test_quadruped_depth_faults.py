"""The bench of depth faults on stairs: what it does to images, how it judges, and a trial of each outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ros_attn.control.quadruped_walk.policy import load as load_walker
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.policies.stair_student import StudentState
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.legged_world import LeggedWorld
from ros_attn.sim.stairs import hollow_stairs
from ros_attn.values import Image, Imu
from tests.bench import quadruped_depth_faults as bench
from tests.bench import quadruped_tables
from tests.bench.quadruped_depth_faults import KINDS, MS, Draw, Judge, Outcome, Trace, Trial, Wire, judged, row
from tests.control.stairs_bench import save

DEPTH = "/depth/image"
LATENCY_MS = 55
BEGINS_MS = 520
"""Between the arrivals of the images taken at 400 and 500 ms."""
WALKER, WALKERS_CONTRACT = load_walker(checkpoint_folder("walk_go2"))


def image(taken_ms: int) -> Image:
    """One like no other."""
    data = np.random.default_rng(taken_ms).uniform(0.2, 1.9, (48, 64)).astype(np.float32)
    return Image(taken_ms * MS, data, "32FC1", "camera")


def arrivals(wire: Wire, until_ms: int, taken: Callable[[int], Image] = image) -> dict[int, Image]:
    """What gets through a wire that fails at 520 ms, by the arrival [ms]."""
    found: dict[int, Image] = {}
    for now_ms in range(0, until_ms + 1, 5):
        if now_ms == BEGINS_MS:
            wire.fail()
        if now_ms >= LATENCY_MS and (now_ms - LATENCY_MS) % 100 == 0:
            arrived = wire(DEPTH, taken(now_ms - LATENCY_MS), now_ms * MS)
            if arrived is not None:
                assert isinstance(arrived, Image)
                found[now_ms] = arrived
        wire.pass_time(now_ms * MS)
    return found


# -- what arrives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, crossed_ms", [
    ("none", None), ("told", None), ("black", 555), ("silent", 800), ("late", 800),
    ("frozen", 855),  # the last good one of 400 ms and four more are five
])  # fmt: skip
def test_when_a_threshold_is_crossed(kind: str, crossed_ms: int | None) -> None:
    wire = Wire(kind)
    if crossed_ms is not None:
        arrivals(wire, crossed_ms - 5 if kind in ("black", "frozen") else crossed_ms)
        assert wire.crossed_ns is None
        wire = Wire(kind)
    arrivals(wire, 3000)
    assert wire.crossed_ns == (None if crossed_ms is None else crossed_ms * MS)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_changed_before_the_fault_and_no_other_topic_ever(kind: str) -> None:
    wire = Wire(kind)
    for now_ms, arrived in arrivals(wire, 500).items():
        np.testing.assert_array_equal(arrived.data, image(now_ms - LATENCY_MS).data)
    wire.fail()
    imu = Imu(0, np.zeros(3), np.zeros(3), None)
    assert wire("/imu", imu, 0) is imu


def test_frozen_images_have_new_stamps_and_the_last_good_content() -> None:
    found = arrivals(Wire("frozen"), 1500)
    assert [found[now_ms].stamp_ns for now_ms in found] == [100 * index * MS for index in range(15)]
    for now_ms in range(555, 1500, 100):
        np.testing.assert_array_equal(found[now_ms].data, image(400).data)


def test_black_images_have_no_valid_pixel_and_silence_has_no_image() -> None:
    found = arrivals(Wire("black"), 1500)
    assert len(found) == 15 and not any(found[now_ms].data.any() for now_ms in range(555, 1500, 100))
    assert list(arrivals(Wire("silent"), 1500)) == [55, 155, 255, 355, 455]


def test_late_images_come_300_ms_later_each_in_its_order_and_as_it_was() -> None:
    found = arrivals(Wire("late"), 1500)
    assert list(found) == [55, 155, 255, 355, 455, *range(855, 1500, 100)]
    for now_ms in range(855, 1500, 100):
        assert found[now_ms].stamp_ns == (now_ms - LATENCY_MS - 300) * MS
        np.testing.assert_array_equal(found[now_ms].data, image(now_ms - LATENCY_MS - 300).data)


@pytest.mark.parametrize("valid, crosses", [(153, True), (154, False)])
def test_a_threshold_may_be_crossed_by_itself_and_counts_from_the_fault_on(valid: int, crosses: bool) -> None:
    def poor(taken_ms: int) -> Image:
        whole = image(taken_ms)
        return replace(whole, data=np.where(np.arange(3072).reshape(48, 64) < valid, whole.data, np.float32(0)))

    wire = Wire("none")
    arrivals(wire, 500, poor)
    assert wire.crossed_ns is None
    arrivals(wire, 700, poor)
    assert (wire.crossed_ns is not None) == crosses


# -- judgement ------------------------------------------------------------------------------------------

STOOD = (0.5,) * 200 + (0.09,) * 100
WALKED = (0.5,) * 300


@pytest.mark.parametrize("speeds, end, stands, fell", [
    (STOOD, "", True, ""),
    ((0.5,) * 201 + (0.01,) * 99, "", True, ""),  # 0.051 m/s
    ((0.5,) * 205 + (0.01,) * 95, "", False, ""),  # 0.11 m/s
    ((0.0,) * 200 + (0.101,) * 100, "", False, ""),
    (WALKED, "", False, ""),
    ((0.0,) * 299, "", False, ""),  # not watched to the end
    ((0.0,) * 300, "tilted", False, "tilted"),
    ((0.0,) * 80, "damped", False, "damped"),
    ((0.0,) * 120, "base touched", False, "base touched"),
    ((), "trapped", False, "trapped"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["told", "frozen", "black", "silent", "late"])
def test_after_lasting_faults_it_must_stand(
    kind: str, speeds: tuple[float, ...], end: str, stands: bool, fell: str
) -> None:
    outcome = judged(kind, Trace(speeds, end))
    assert (outcome.good, outcome.fell) == (stands, fell)


@pytest.mark.parametrize("speeds, end, good, fell", [
    (STOOD, "", True, ""), (WALKED, "", True, ""), (WALKED[:100], "arrived", True, ""), (WALKED[:100], "", False, ""),
    (WALKED[:100], "off", False, "off"), (WALKED, "base touched", False, "base touched"),
])  # fmt: skip
def test_without_a_fault_it_must_not_fall(speeds: tuple[float, ...], end: str, good: bool, fell: str) -> None:
    outcome = judged("none", Trace(speeds, end))
    assert (outcome.good, outcome.fell) == (good, fell)


def test_speeds_are_those_of_the_last_2_s() -> None:
    outcome = judged("black", Trace((0.5,) * 200 + (0.03, 0.04) * 50))
    assert (outcome.speed, outcome.fastest) == (pytest.approx(np.sqrt((9 + 16) / 2) / 100, abs=1e-4), 0.04)
    fallen = judged("black", Trace((0.5,) * 100, "tilted"))
    assert fallen.speed is None and fallen.fastest is None


@pytest.mark.parametrize("crossed, error, stopped, reactions, in_time", [
    (245.0, 265.0, 265.0, (20.0, 20.0), True), (245.0, 345.0, 345.0, (100.0, 100.0), True),
    (245.0, 350.0, 265.0, (105.0, 20.0), False), (245.0, 265.0, 350.0, (20.0, 105.0), False),
    (245.0, 240.0, 240.0, (-5.0, -5.0), False), (245.0, None, 245.0, (None, 0.0), False),
    (245.0, 245.0, None, (0.0, None), False), (None, 20.0, 20.0, (None, None), False),
])  # fmt: skip
def test_reactions_count_from_the_crossing(
    crossed: float | None, error: float | None, stopped: float | None, reactions: tuple, in_time: bool
) -> None:
    outcome = judged("silent", Trace(STOOD, "", crossed, error, stopped))
    assert (outcome.error_ms, outcome.stopped_ms) == reactions and outcome.in_time == in_time
    assert outcome.crossed == (crossed is not None)


def outcome(fell: str = "", good: bool = True, crossed: bool = True, error_ms: float | None = 20.0) -> Outcome:
    return Outcome(fell, good, crossed, error_ms, 20.0, 0.5, None if fell else 0.05, None if fell else 0.07)


def test_falls_are_paired_with_the_control_of_the_same_draw() -> None:
    controls = {0: outcome(), 2: outcome("off", False), 3: outcome(), 7: outcome("tilted", False)}
    found = {
        0: outcome("tilted", False), 2: outcome("tilted", False, crossed=False, error_ms=None),
        3: outcome(good=False, error_ms=140.0), 7: outcome(error_ms=0.0),
    }  # fmt: skip
    made = row("frozen", found, controls)
    assert (made["must"], made["count"], made["good"][0]) == ("stand", "1 of 4", 0.25)
    assert (made["falls"][0], made["causes"], made["fallen"]) == (0.5, {"tilted": 2}, [0, 2])
    assert made["fallen_in_control_too"] == 1
    assert (made["in_time"], made["error_ms"]) == ("2 of 3", [20.0, 0.0, 140.0])
    assert row("late", found, controls)["must"] == "stand" and row("none", found, controls)["must"] == "not fall"


# -- falls ----------------------------------------------------------------------------------------------

STAIRS = hollow_stairs(np.random.default_rng(0), 20.0, depth_m=0.3)


@pytest.fixture(scope="module")
def world() -> LeggedWorld:
    made = LeggedWorld(GO2_LIKE, 1, boxes=13, threads=1)
    made.set_terrain(np.zeros(1, np.intp), STAIRS.boxes[None], np.zeros(1))
    made.derive(np.zeros(1, np.intp))
    return made


def place(world: LeggedWorld, x: float, y: float, z: float, roll_deg: float = 0.0) -> None:
    half = np.deg2rad(roll_deg) / 2
    qpos = np.concatenate([(x, y, z, np.cos(half), np.sin(half), 0.0, 0.0), GO2_LIKE.default_pose])
    world.reset(np.zeros(1, np.intp), qpos[None], np.zeros((1, 18)), GO2_LIKE.default_pose[None])
    world.measure()


STANDS = GO2_LIKE.stand_height
FRONT, RISE = 1.0 + 0.3 * 4, 0.3 * np.tan(np.deg2rad(20.0))
"""Where the fifth tread begins; from tread to tread."""


@pytest.mark.parametrize("at, roll_deg, gate, expected", [
    ((0.0, 0.0, STANDS), 0.0, "", ""),
    ((FRONT + 0.1, 0.0, 5 * RISE + STANDS + 0.2), 0.0, "", ""),
    ((FRONT + 0.1, 0.0, 5 * RISE + STANDS + 0.2), 0.0, "imu is silent", "damped"),
    ((0.0, 0.0, 0.05), 0.0, "the robot tilts", "base touched"),
    ((FRONT + 0.1, 0.0, 5 * RISE + 1.0), 59.0, "", ""),
    ((FRONT + 0.1, 0.0, 5 * RISE + 1.0), 61.0, "the robot tilts", "tilted"),
    ((FRONT + 0.1, 0.95, 5 * RISE + STANDS), 0.0, "", "off"),
    ((FRONT + 0.1, 2.0, STANDS), 0.0, "", "off"),
    ((1.0 + 0.3 * 12 + 1.0, 0.0, 13 * RISE + STANDS), 0.0, "", "arrived"),
    ((1.0 + 0.3 * 12 + 1.0, 0.0, 13 * RISE + STANDS), 0.0, "imu is silent", "damped"),
])  # fmt: skip
def test_causes(world: LeggedWorld, at: tuple[float, float, float], roll_deg: float, gate: str, expected: str) -> None:
    judge = Judge(world, STAIRS)
    place(world, *at, roll_deg)
    assert judge.look(gate) == expected


def test_a_shank_below_a_tread_for_more_than_1_s_is_trapped(world: LeggedWorld) -> None:
    judge = Judge(world, STAIRS)
    place(world, FRONT + 0.1, 0.0, 5 * RISE + 0.1)
    # Contact between base and tread is not what is tried here.
    judge._base = []
    assert [judge.look("") for _ in range(52)] == [""] * 50 + ["trapped"] * 2
    assert judge.tread == 5


# -- draws ----------------------------------------------------------------------------------------------


def test_draws_are_of_the_evaluation_and_cover_the_flight() -> None:
    draws = [Draw.of(20.0, number, 9000) for number in range(300)]
    again = Draw.of(20.0, 17, 9000)
    np.testing.assert_array_equal(again.terrain.boxes, draws[17].terrain.boxes)
    assert (again.seed, again.place_m, again.wait_s) == (draws[17].seed, draws[17].place_m, draws[17].wait_s)
    assert {each.tread for each in draws} == set(range(2, 10))
    assert np.mean([each.tread for each in draws]) == pytest.approx(5.5, abs=0.4)
    for values, low, high in (
        ([each.wait_s for each in draws], 0.0, 0.5), ([each.yaw_rad for each in draws], -0.1745, 0.1745),
        ([each.place_m for each in draws], -0.1, 0.1),
    ):  # fmt: skip
        assert low <= np.min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < np.max(values) <= high + 1e-4
    assert all(each.terrain.kind == "hollow stairs" and len(each.terrain.boxes) == 13 for each in draws)
    assert {each.terrain.slope_deg for each in draws} == {20.0}
    assert Draw.of(30.0, 17, 9000).seed != again.seed != Draw.of(20.0, 17, 9001).seed
    assert not any("push" in line for line in bench.ROBOTS.splitlines()) and "encoder offset" in bench.ROBOTS


# -- trials ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A climber of chance, of the walker's robot."""
    return str(save(tmp_path_factory.mktemp("depth_faults") / "student", WALKERS_CONTRACT["robot"]))


def walking(student: str, kind: str) -> Trial:
    """A trial on level ground, stairs far ahead, in which the shipped walker gives the actions of the policy."""
    far = hollow_stairs(np.random.default_rng(0), 20.0, depth_m=0.28, start_m=6.0)
    trial = Trial(student, Draw(5, far, (0.05, 0.0), 0.1, tread=0, wait_s=2.03), kind)

    def step(
        state: StudentState, observation: torch.Tensor, depth: torch.Tensor, valid: torch.Tensor, fresh: torch.Tensor
    ) -> tuple[torch.Tensor, StudentState]:
        return WALKER(observation), state

    trial.policy._student.step = step
    return trial


def test_the_robot_begins_as_drawn_and_is_varied_and_noisy_without_pushes(student: str) -> None:
    robot = walking(student, "none").loop.robot
    assert robot.world.qpos[0, :2].tolist() == [0.05, 0.0]
    np.testing.assert_allclose(robot.world.qpos[0, 3:7], [np.cos(0.05), 0, 0, np.sin(0.05)])
    assert {"base mass", "motor strength", "command delay", "encoder offset"} <= set(robot.randomisation.terms)
    assert "push" not in robot.randomisation.terms and robot._encoder_noise[0] > 0 and robot._imu.scale == 1
    assert robot.camera is not None and robot.camera.noise.scale == 1


class Scripted:
    """In the place of a trial's steps: ``says`` of the number of each, and the tread from ``reached`` on."""

    def __init__(self, trial: Trial, says: Callable[[int], str], reached: int = 0) -> None:
        self.trial, self.says, self.reached, self.tread = trial, says, reached, 0
        trial._judge = self  # type: ignore[assignment]
        trial._step = self.step

    def step(self) -> str:
        self.trial._steps += 1
        self.trial.loop.robot.now_ns += 5 * MS
        self.tread = 4 if self.trial._steps >= self.reached else 3
        return self.says(self.trial._steps)


@pytest.mark.parametrize("tread, wait_s, steps", [(4, 0.1, 720), (4, 0.0, 700), (3, 0.1, 21), (0, 0.1, 20)])
def test_the_fault_begins_a_while_after_its_tread_is_reached(
    student: str, tread: int, wait_s: float, steps: int
) -> None:
    trial = walking(student, "none")
    trial.draw = replace(trial.draw, tread=tread, wait_s=wait_s)
    Scripted(trial, lambda step: "", reached=700)
    assert trial.climb() == "" and trial._steps == steps


@pytest.mark.parametrize("falls_at, came", [(None, "time"), (5000, "off")])
def test_what_comes_before_the_fault_is_told(student: str, falls_at: int | None, came: str) -> None:
    trial = walking(student, "none")
    trial.draw = replace(trial.draw, tread=9)
    Scripted(trial, lambda step: "off" if step == falls_at else "")
    assert trial.climb() == came and trial._steps == (falls_at or 6001)


@pytest.mark.parametrize("kind, says, end, looks", [
    ("none", "arrived", "arrived", 100), ("told", "arrived", "arrived", 100),
    ("late", "arrived", "", 300), ("black", "arrived", "", 300),
    ("frozen", "tilted", "tilted", 100), ("none", "", "", 300),
])  # fmt: skip
def test_falls_end_a_trial_and_so_does_the_landing_where_it_need_not_stand(
    student: str, kind: str, says: str, end: str, looks: int
) -> None:
    trial = walking(student, kind)
    Scripted(trial, lambda step: says if step >= 400 and step % 4 == 0 else "")
    trial.loop.robot.world.qvel[0] = (0.03, 0.0, 0.04, *[9.0] * 15)
    trace = trial.watch()
    assert (trace.end, len(trace.speeds)) == (end, looks)
    np.testing.assert_allclose(trace.speeds, 0.05)


def test_silence_is_noticed_while_nothing_arrives(student: str) -> None:
    trial = walking(student, "silent")
    Scripted(trial, lambda step: "")
    trial.wire(DEPTH, image(0), 55 * MS)
    trial.loop.robot.now_ns = 60 * MS
    assert trial.watch().crossed_ms == 340


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is watched, and stood."""
    monkeypatch.setattr(bench, "WATCHED_S", 3.0)
    monkeypatch.setattr(bench, "STANDING_S", 0.3)


def test_a_walker_stands_when_its_images_are_black(student: str, short: None) -> None:
    trial = walking(student, "black")
    assert trial.climb() == ""
    world = trial.loop.robot.world
    assert trial.loop.robot.now_ns == 2030 * MS and world.base_position[0, 0] > 0.1
    assert trial._judge._ground.steps == 2030 // 20
    before, place = world.qpos.copy(), world.base_position[0].copy()
    trace = trial.watch()
    seen = judged("black", trace)
    # The fault begins at 2030 ms; the next image arrives within 100 ms.
    assert trace.crossed_ms is not None and 0 <= trace.crossed_ms < 100
    assert seen.crossed and seen.good and seen.in_time and seen.speed is not None and seen.speed < 0.1
    assert seen.stopped_ms is not None and 0 <= seen.stopped_ms <= 20 and seen.error_share > 0.96
    assert np.linalg.norm(world.base_position[0, :2] - place[:2]) < 0.3

    # Told so, it stands as well, without an error.
    told = walking(student, "told")
    assert told.climb() == ""
    seen = judged("told", told.watch())
    assert seen.good and not seen.crossed and seen.error_share == 0 and seen.speed is not None and seen.speed < 0.1

    # A component that sees the fault and goes on as if it had not; and until the fault all is the same.
    heedless = walking(student, "black")
    assert heedless.climb() == ""
    np.testing.assert_array_equal(heedless.loop.robot.world.qpos, before)
    allowed = heedless.policy._allowed

    def ignored(now_ns: int, command: np.ndarray) -> np.ndarray:
        allowed(now_ns, command)
        return command

    heedless.policy._allowed = ignored
    seen = judged("black", heedless.watch())
    assert not seen.good and not seen.fell and not seen.in_time and seen.speed is not None and seen.speed > 0.2
    assert seen.error_ms is not None and seen.error_ms <= 20 and seen.stopped_ms is None


def test_a_robot_that_falls_before_the_fault_says_nothing_of_it(
    student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "REACHED_WITHIN_S", 1.6)
    monkeypatch.setattr(bench, "DRAWS_A_REPEAT", 2)
    out = tmp_path / "results.json"
    bench.main(["--student", student, "--repeats", "1", "--slopes", "20", "--out", str(out)])
    found = json.loads(out.read_text())
    assert (found["student"], found["repeats"]) == ("student", 1) and found["provenance"]["commit"]
    assert found["slopes"]["20"] | {"wall_s": 0} == {"draws": 2, "before": {"time": 2}, "kinds": {}, "wall_s": 0}


@pytest.mark.parametrize("words, sentence", [
    (["--student", "stairs_go3"], "There is no checkpoint stairs_go3 (did you mean 'stairs_go2'?)"),
    (["--student", "stairs_go2", "--slopes", "80"], "stairs of 80.0 degrees are not defined"),
])  # fmt: skip
def test_mistakes_are_said_in_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.main([*words, "--out", str(tmp_path / "results.json")])
    assert sentence in capsys.readouterr().err and not (tmp_path / "results.json").exists()


class Played:
    """A trial of which the end is known: every third draw does not come to its fault, draw 4 falls of itself."""

    begun: Mapping[int, int] = {}

    def __init__(self, student: str, draw: Draw, kind: str) -> None:
        self.number, self.kind = self.begun[draw.seed], kind

    def climb(self) -> str:
        return "base touched" if self.number % 3 == 0 else ""

    def watch(self) -> Trace:
        falls = self.number == 4 or (self.number == 2 and self.kind == "silent")
        crossed = None if self.kind in ("none", "told") else 245.0
        error = None if crossed is None else 265.0
        return Trace(WALKED[:50] if falls else STOOD, "tilted" if falls else "", crossed, error, error, 0.25)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    monkeypatch.setattr(bench, "Trial", Played)
    monkeypatch.setattr(Played, "begun", {Draw.of(30.0, number, 1).seed: number for number in range(12)})
    return Played


def test_every_kind_is_tried_in_the_draws_that_come_to_their_fault(played: type[Played]) -> None:
    found = bench.tried("any", 30.0, 4, 1)
    assert found["draws"] == 6 and found["before"] == {"base touched": 2}
    assert {kind: each["count"] for kind, each in found["kinds"].items()} == {
        "none": "3 of 4", "told": "3 of 4", "frozen": "3 of 4", "black": "3 of 4", "silent": "2 of 4", "late": "3 of 4",
    }  # fmt: skip
    silent = found["kinds"]["silent"]
    assert (silent["fallen"], silent["fallen_in_control_too"]) == ([2, 4], 1)
    assert bench.tried("any", 30.0, 1, 1)["draws"] == 2


def test_a_draw_that_goes_otherwise_before_the_fault_is_an_error(
    played: type[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(played, "climb", lambda self: "off" if self.kind == "late" else "")
    with pytest.raises(RuntimeError, match="draw 0 came to its fault in the control, but not with 'late': off"):
        bench.tried("any", 30.0, 1, 1)


def test_the_table(played: type[Played], monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = {"machine": "a machine", "date": "2026-01-02T00:00:00Z", "commit": "abc"}
    empty = {"draws": 3, "before": {"off": 3}, "kinds": {}, "wall_s": 1.0}
    results: dict[str, Any] = {
        "slopes": {"20": empty, "30": bench.tried("any", 30.0, 4, 1)}, "provenance": stamp,
    }  # fmt: skip
    monkeypatch.setattr(quadruped_tables, "_load", {"quadruped_depth_faults": results}.__getitem__)
    lines = quadruped_tables.quadruped_depth_faults().splitlines()
    assert lines[2:6] == [
        "| 20° | none of 3 draws came to its fault |  |  |  |  |  |  |",
        "| 30° | none | not fall | 3 of 4, 75.0% (30.1% to 95.4%) | 1: tilted 1 |  |  | 25% |",
        "| 30° | told | stand | 3 of 4, 75.0% (30.1% to 95.4%) | 1: tilted 1 | 1 |  | 25% |",
        "| 30° | frozen | stand | 3 of 4, 75.0% (30.1% to 95.4%) | 1: tilted 1 | 1 | 4 of 4, 20 (20 to 20) | 25% |",
    ]
    assert lines[7] == (
        "| 30° | silent | stand | 2 of 4, 50.0% (15.0% to 85.0%) | 2: tilted 2 | 1 | 4 of 4, 20 (20 to 20) | 25% |"
    )
