"""The climbing component: what its policy sees, what it shows and refuses, and that it is the one of training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ros_attn import checkpoint
from ros_attn.control.depth_image import field_window, metres, preprocess
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_stairs.component import QuadrupedStairs, StairsParams
from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.errors import CheckpointError, MessageError, ParameterError, RosAttnError
from ros_attn.geometry import quaternion_to_matrix
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_robot import SimulatedRobot
from ros_attn.policies.stair_student import StudentState
from ros_attn.runtime import Runtime
from ros_attn.sim import tasks
from ros_attn.sim.depth_sense import DepthSense
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.locomotion_task import Start
from ros_attn.sim.terrain import Terrain
from ros_attn.sim.velocity_command import CommandRange
from ros_attn.values import Image, Imu, JointState, Value
from tests.control.stairs_bench import (
    JOINTS,
    MS,
    OF_CAMERA,
    ORIENTATION,
    ROBOT,
    Robot,
    Seen,
    info,
    none,
    recorded,
    save,
    student_of,
    with_valid,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("stairs") / "checkpoint", ROBOT)


# -- what the policy sees -------------------------------------------------------------------------------


def test_policy_sees_sensors_and_images_and_remembers(saved: Path) -> None:
    robot = Robot(saved)
    student = student_of(saved)
    mapping = LocomotionMapping.of(ROBOT)
    gravity = quaternion_to_matrix(ORIENTATION).T @ (0, 0, -1)
    state, action, rows = student.initial_state(1), np.zeros(4), []
    image = np.zeros((48, 64), np.float32), np.zeros((6, 8), np.float32)
    arrivals = {40: 20, 120: 110, 200: 190}
    forgetful = []
    for step, ms in enumerate(range(0, 300, 20)):
        fresh = ms in arrivals
        if fresh:
            image = preprocess(robot.image(arrivals[ms]), 0.1, 2.0)
        (asked,) = robot.tick(ms, 0.05 * step).values()
        place = 0.05 * step + 0.01 * np.arange(4)
        told = np.array([0.5, 0.0, 0.4])
        rows.append(mapping.observation(np.array([0.3, 0.2, 0.1]), gravity, told, place, 2 * place, action))
        row = torch.from_numpy(np.concatenate([rows[-1], rows[max(step - 1, 0)]])[None])
        depth, valid = (torch.from_numpy(each[None]) for each in image)
        new, nothing = torch.full((1, 1), float(fresh)), student.initial_state(1)
        with torch.inference_mode():
            of_now = StudentState(nothing.hidden, nothing.cell, state.held)
            forgetful.append(student.step(of_now, row, depth, valid, new)[0])
            given, state = student.step(state, row, depth, valid, new)
        action = given[0].numpy().astype(float)
        seen = robot.seen[-1]
        assert seen.fresh == fresh and seen.open == (ms >= 40)
        assert np.array_equal(seen.depth, image[0]) and np.array_equal(seen.valid, image[1])
        assert seen.row == pytest.approx(row.numpy(), abs=1e-6)
        assert isinstance(asked, JointState) and asked.stamp_ns == ms * MS and asked.names == JOINTS
        assert asked.position == pytest.approx(mapping.targets(action), abs=1e-5)
        assert not asked.velocity.any() and not asked.effort.any()
    # Without its memory it would have answered otherwise.
    assert np.abs(forgetful[-1].numpy() - robot.seen[-1].action).max() > 0.02


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_images_of_any_camera_show_the_field_of_view_of_training(saved: Path, encoding: str) -> None:
    wide = info(160, 120, (100.0, 70.0))
    robot = Robot(saved, camera_info=wide)
    rows, columns = np.mgrid[0:120, 0:160]
    data = (0.3 + 0.008 * columns + 0.004 * rows).astype(np.float32)
    data[40:70, 50:60] = 0
    if encoding == "16UC1":
        data = np.rint(1000 * data).astype(np.uint16)
    robot.image(0, data, encoding)
    robot.tick(0)
    window = field_window(wide.k, np.deg2rad(87.0), np.deg2rad(58.0))
    expected = preprocess(metres(data, encoding), 0.1, 2.0, window)
    seen = robot.seen[-1]
    assert np.abs(seen.depth - expected.image).max() < 1e-5 and np.array_equal(seen.valid, expected.valid)
    assert 0.8 < seen.valid.mean() < 1 and np.ptp(seen.depth) > 0.3
    # Another field of view would show other things.
    assert np.abs(seen.depth - preprocess(metres(data, encoding), 0.1, 2.0).image).max() > 0.05


def test_an_image_is_shown_once_and_known_by_its_stamp(saved: Path) -> None:
    robot = Robot(saved)
    data = robot.image(10)
    robot.tick(20)
    robot.image(10, data + 0.5)
    robot.tick(40)
    robot.image(50)
    robot.tick(60)
    assert [each.fresh for each in robot.seen] == [1.0, 0.0, 1.0]
    assert np.array_equal(robot.seen[1].depth, robot.seen[0].depth)
    assert np.abs(robot.seen[2].depth - robot.seen[0].depth).max() > 0.1


def test_old_commands_are_none(saved: Path) -> None:
    robot = Robot(saved)
    robot.ticks(0, 20, none)
    robot.asked = None
    seen = robot.ticks(100, 600, none)
    # The last command is of 0 ms.
    assert [each.command for each in seen if each.command[0]] == [[0.5, 0, 0.4]] * 21


def test_image_of_the_ramp_is_new_to_the_policy_when_it_takes_over(saved: Path) -> None:
    robot = Robot(saved, {"ramp_s": 0.1})
    measured = 0.4 + 0.01 * np.arange(4)
    for step, ms in enumerate(range(0, 100, 20)):
        if ms == 40:
            robot.image(30)
        (asked,) = robot.tick(ms, 0.4).values()
        assert isinstance(asked, JointState)
        pose = (1 - step / 5) * measured + step / 5 * np.array(ROBOT["default_pose"])
        assert asked.position == pytest.approx(pose) and not robot.seen
    robot.tick(100)
    robot.tick(120)
    assert [each.fresh for each in robot.seen] == [1.0, 0.0] and robot.seen[0].open


def test_stamps_that_go_back_begin_anew(saved: Path) -> None:
    def run(robot: Robot, first_ms: int) -> np.ndarray:
        robot.images = 0
        return np.array([each.action for each in robot.ticks(first_ms, first_ms + 300, none)])

    robot = Robot(saved)
    first = run(robot, 5000)
    assert not np.allclose(run(robot, 5300), first)
    robot.ticks(5600, 6100, lambda ms: np.zeros((48, 64), np.float32))
    assert robot.said
    # More than a second back: reset. Memory, history, image and fault are gone.
    robot.runtime.push("imu", Imu(1990 * MS, np.zeros(3), np.zeros(3), ORIENTATION), 6100 * MS)
    again = run(robot, 2000)
    assert np.array_equal(again, first) and robot.said == ""


# -- what is refused ------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite_do_not_enter_the_memory(saved: Path) -> None:
    robot = Robot(saved)
    robot.ticks(0, 200, none)
    before = [each.clone() for each in robot.component._state]
    for ms in (200, 220):
        with pytest.raises(MessageError, match="not finite"):
            robot.tick(ms, np.nan if ms == 200 else 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, robot.component._state, strict=True))
    robot.tick(240)
    assert np.isfinite(robot.seen[-1].action).all()


def test_nothing_is_asked_before_the_camera_is_known(saved: Path) -> None:
    robot = Robot(saved)
    robot.runtime = Runtime(robot.component)
    assert not any(robot.tick(ms) for ms in range(0, 100, 20))
    robot.runtime.push("camera_info", info(), 0)
    assert "joint_commands" in robot.tick(100)


def test_an_uncalibrated_camera_is_refused_as_long_as_it_is(saved: Path) -> None:
    robot = Robot(saved, camera_info=replace(info(), k=np.zeros((3, 3))))
    robot.image(0)
    for ms in (0, 20):
        with pytest.raises(ParameterError, match="no focal length"):
            robot.tick(ms)
    assert not robot.seen


def refusal(path: Path, **params: Any) -> str:
    with pytest.raises(RosAttnError) as raised:
        QuadrupedStairs(params=StairsParams(checkpoint=str(path), **params)).configure()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_checkpoint_must_be_named() -> None:
    with pytest.raises(ParameterError, match="quadruped_stairs: checkpoint is empty"):
        QuadrupedStairs(params=StairsParams(checkpoint="")).configure()


def test_another_robots_contract_is_refused_with_all_differences(saved: Path, tmp_path: Path) -> None:
    def beside(name: str, robot: dict[str, Any]) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "contract.json").write_text(json.dumps({"robot": robot}))
        return str(tmp_path / name)

    order = [1, 0, 2, 3]
    reordered = {key: [ROBOT[key][k] for k in order] for key in ROBOT if isinstance(ROBOT[key], list)}
    said = refusal(saved, robot=beside("order", reordered))
    assert f"{saved} was made for another robot or set-up than {tmp_path / 'order'}: " in said
    assert "joints: the same names in another order, first at 0: a in the checkpoint, b here" in said
    assert said.count(";") == 1
    other = ROBOT | {"kp": [40.0, 41.0, 42.0, 50.0], "torque_limits": [20.0, 25.0, 20.0, 20.0]}
    said = refusal(saved, robot=beside("gains", other))
    assert "kp.d: 43.0 in the checkpoint, 50.0 here" in said
    assert "torque_limits.b: 20.0 in the checkpoint, 25.0 here" in said and said.count("in the checkpoint") == 2
    names = refusal(saved, robot=beside("names", ROBOT | {"joints": list("abce")}))
    assert "joints: lacking here: d; only here: e" in names
    assert "cannot be read" in refusal(saved, robot=str(tmp_path))
    # Another policy for the same robot is no other robot.
    same = beside("same", ROBOT | {"frames": 1, "action_scale": 0.5})
    QuadrupedStairs(params=StairsParams(checkpoint=str(saved), robot=same)).configure()


def test_a_checkpoint_of_another_layout_is_refused_with_all_differences(tmp_path: Path) -> None:
    def other(agreed: dict[str, Any]) -> None:
        agreed["rate_hz"], agreed["depth"]["image"] = 100, [24, 32]
        agreed["observation"]["one frame"] = agreed["observation"]["one frame"][::-1]
        agreed["depth"]["more"] = "is no difference"

    said = refusal(save(tmp_path / "layout", ROBOT, change=other))
    assert "rate_hz: 100 in the checkpoint, 50 here" in said and "depth.image[0]: 24 in the checkpoint, 48 here" in said
    assert "observation.one frame: the same names in another order" in said and "more" not in said
    said = refusal(save(tmp_path / "camera", ROBOT, change=lambda agreed: agreed["depth"].pop("far_m")))
    assert "the contract's depth lacks far_m; export the policy again" in said
    assert "commands lack 'left'" in refusal(
        save(tmp_path / "commands", ROBOT, change=lambda agreed: agreed["commands"].pop("left"))
    )


def test_another_class_of_policy_is_refused(saved: Path, tmp_path: Path) -> None:
    made = checkpoint.load(saved, "StairStudent")
    config = {**made.config, "class": "BlindPolicy"}
    checkpoint.save(checkpoint.Checkpoint(config, made.tensors, made.contract), tmp_path / "walk")
    with pytest.raises(CheckpointError, match="holds a 'BlindPolicy', not a 'StairStudent'"):
        QuadrupedStairs(params=StairsParams(checkpoint=str(tmp_path / "walk"))).configure()


# -- pictures -------------------------------------------------------------------------------------------


def test_pictures_of_attention_come_as_often_as_asked_for(saved: Path) -> None:
    robot = Robot(saved)
    shown: dict[int, Image] = {}
    for ms in range(0, 800, 20):
        if ms % 100 == 0:
            robot.image(ms)
        if ms == 200:
            robot.runtime.request_params(replace(robot.component.params, attention_hz=10.0))
        given = robot.tick(ms)
        if isinstance(picture := given.get("attention"), Image):
            shown[ms] = picture
    assert list(shown) == list(range(200, 800, 100))
    picture, seen = shown[700], robot.seen[35]
    assert picture.encoding == "rgb8" and picture.frame_id == "camera" and picture.stamp_ns == 700 * MS
    assert picture.data.shape == (48, 320, 3) and picture.data.dtype == np.uint8
    student = student_of(saved)
    row, depth, valid = (torch.from_numpy(each) for each in (seen.row, seen.depth[None], seen.valid[None]))
    with torch.inference_mode():
        _, state = student.step(student.initial_state(1), row, depth, valid, torch.ones(1, 1))
        maps = student.attention(state, row, valid)[0].numpy()
    assert maps.sum(axis=(1, 2)) == pytest.approx(np.ones(5), abs=1e-5)
    for k in range(5):
        panel = picture.data[:, 64 * k : 64 * (k + 1)].astype(float)
        grey = 255 * (0.5 - seen.depth)
        share = np.clip(maps[k] * 6, 0, 1).repeat(8, 0).repeat(8, 1)
        assert panel[..., 2] == pytest.approx((1 - 0.7 * share) * grey, abs=0.51)
        assert panel[..., 0] == pytest.approx((1 - 0.7 * share) * grey + 0.7 * share * 255, abs=0.51)
    assert np.ptp(maps) > 0.02


def test_closed_eyes_look_nowhere(saved: Path) -> None:
    robot = Robot(saved, {"attention_hz": 50.0})
    robot.image(0, with_valid(100))
    picture = robot.tick(0)["attention"]
    assert isinstance(picture, Image)
    assert np.array_equal(picture.data[..., 0], picture.data[..., 2]) and np.ptp(picture.data) > 3


def test_a_policy_that_does_not_attend_has_no_pictures(tmp_path: Path) -> None:
    pooled = save(tmp_path / "pooled", ROBOT, "pooled")
    assert "vision 'pooled' has no attention to show" in refusal(pooled, attention_hz=10.0)
    robot = Robot(pooled)
    robot.image(0)
    assert list(robot.tick(0)) == ["joint_commands"]
    robot.runtime.request_params(replace(robot.component.params, attention_hz=10.0))
    with pytest.raises(ParameterError, match="no attention to show"):
        robot.tick(20)


# -- parity with training -------------------------------------------------------------------------------


GROUPS = ("policy", "depth", "valid", "fresh")


@pytest.fixture(scope="module")
def climber(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("climber") / "checkpoint", GO2_LIKE.contract() | {"frames": 3})


@pytest.mark.parametrize("seed", range(5))
def test_loop_and_training_are_the_same_robot(seed: int, climber: Path) -> None:
    mapping = LocomotionMapping.of(GO2_LIKE.contract() | {"frames": 3})
    task = tasks.climb(
        GO2_LIKE, mapping, 1, seed=seed, threads=1, varied=False, depth=preprocess, depth_noise=0.0
    )  # fmt: skip
    task.start, task.commands = Start(place=0.1, yaw=0.3, speed=0.1), CommandRange(every_s=0.5)
    grounds: list[Terrain] = []
    source = task.source
    task.source = lambda rng, level: (grounds.append(source(rng, level)), grounds[-1])[1]
    observed = task.reset()
    start = task.world.qpos[0].copy(), task.world.qvel[0].copy()
    (sense,) = (each for each in task.senses if isinstance(each, DepthSense))
    assert sense._stream is not None
    latency_s = float(sense._stream.latency_s[0])
    student = student_of(climber)
    state, expected, told = student.initial_state(1), [], []
    for _ in range(100):
        told.append(task.command[0].copy())
        row, depth, valid, fresh = (torch.from_numpy(observed[name].copy()) for name in GROUPS)
        with torch.inference_mode():
            action, state = student.step(state, row, depth, valid, fresh)
        image, shares = depth[0].numpy(), valid[0].numpy()
        expected.append(Seen(row.numpy(), image, shares, float(fresh[0, 0]), action.numpy()))
        step = task.step(action.numpy().astype(np.float64))
        observed = step.observations
        assert not step.terminated.any() and not step.truncated.any()

    def tamper(topic: str, value: Value, now_ns: int) -> Value | None:
        # The camera of training takes its first image 0.1 s after the start.
        return None if topic == "/depth/image" and value.stamp_ns == 0 else value

    stairs = QuadrupedStairs(params=StairsParams(checkpoint=str(climber), robot=str(climber), ramp_s=0.0))
    gate = SafetyGate(params=SafetyGateParams(checkpoint=str(climber)))
    robot = SimulatedRobot(GO2_LIKE, grounds[0], camera=OF_CAMERA, depth_latency_s=(latency_s, latency_s))
    loop = ClosedLoop(
        robot, Graph([Stage(stairs, "policy"), Stage(gate, "gate")]),
        lambda t_s: (float(told[round(50 * t_s)][0]), 0.0, 0.0), tamper=tamper,
    )  # fmt: skip
    found = recorded(stairs)
    loop.reset(*start)
    loop.run(2.0)

    def of(name: str, steps: list[Seen]) -> np.ndarray:
        return np.array([getattr(each, name) for each in steps])

    assert len(found) == 100 and len(grounds) == 1
    assert of("fresh", found).sum() == 19 and np.array_equal(of("fresh", found), of("fresh", expected))
    for name, tolerance in (("row", 1e-6), ("depth", 1e-6), ("valid", 0.0), ("action", 1e-4)):
        assert np.abs(of(name, found) - of(name, expected)).max() <= tolerance, name
    assert np.abs(robot.world.qpos - task.world.qpos).max() <= 1e-6
    # Something is seen, done and asked for.
    assert np.ptp(of("depth", found)[10:], axis=0).max() > 0.1 and np.ptp(of("action", found), axis=0).max() > 0.2
    assert np.ptp(told, axis=0)[0] > 0.05
    assert not robot.refused and not robot.damping and not gate.health.snapshot()
