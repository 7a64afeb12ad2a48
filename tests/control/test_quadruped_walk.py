"""The walking component: what it feeds its policy, what it asks of the joints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_walk import policy as checkpoints
from ros_attn.control.quadruped_walk.component import QuadrupedWalk, WalkParams
from ros_attn.errors import CheckpointError, MessageError, ParameterError
from ros_attn.geometry import quaternion_from_euler, quaternion_to_matrix
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.runtime import Runtime
from ros_attn.values import Imu, JointState, Twist

MS = 1_000_000
JOINTS = tuple("abcd")
ROBOT: dict[str, Any] = {
    "joints": list(JOINTS), "default_pose": [0.1, -0.2, 0.3, -0.4], "position_limits": [[-1.0, 1.0]] * 4,
    "velocity_limits": [10.0] * 4, "torque_limits": [20.0] * 4, "kp": [40.0] * 4, "kd": [1.0] * 4,
    "frames": 3, "action_scale": 0.25,
}  # fmt: skip
COMMANDS = {"forward": [-0.6, 1.0], "left": [-0.4, 0.4], "turn": [-1.0, 1.0]}
MAPPING = LocomotionMapping.of(ROBOT)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    policy = BlindPolicy(MAPPING.size * 3, 4, (16, 8))
    policy.mean.copy_(torch.randn(MAPPING.size * 3))
    policy.std.copy_(torch.rand(MAPPING.size * 3) + 0.1)
    path = tmp_path_factory.mktemp("walk") / "checkpoint"
    checkpoints.save(policy, path, checkpoints.contract(ROBOT, COMMANDS), {"seed": 0})
    return path


def made(saved: Path, ramp_s: float = 0.0) -> Runtime:
    component = QuadrupedWalk(params=WalkParams(checkpoint=str(saved), ramp_s=ramp_s))
    component.configure()
    return Runtime(component)


ORIENTATION = quaternion_from_euler(0.1, -0.2, 0.7)


def sense(runtime: Runtime, ms: float, angle: float = 0.0, names: tuple[str, ...] = JOINTS) -> list[JointState]:
    """One moment of all sensors; what the component asks of the joints then."""
    stamp = round(ms * MS)
    place = np.array([angle + 0.01 * JOINTS.index(name) for name in names])
    imu = Imu(stamp, np.array([0.3, 0.2, 0.1]), np.array([0.0, 0.0, 9.81]), ORIENTATION)
    runtime.push("imu", imu, stamp)
    runtime.push("joint_states", JointState(stamp, names, place, 2 * place, np.empty(0)), stamp)
    asked = []
    while (work := runtime.take()) is not None:
        asked += runtime.run(work).values()
    return asked


def command(runtime: Runtime, ms: float, *asked: float) -> None:
    stamp = round(ms * MS)
    runtime.push("cmd_vel", Twist(stamp, np.array([asked[0], asked[1], 0.0]), np.array([0.0, 0.0, asked[2]])), stamp)


def expected(policy: BlindPolicy, rows: list[np.ndarray]) -> np.ndarray:
    """The action on the last frames, newest first."""
    frames = [*rows[::-1], *[rows[0]] * 3][:3]
    with torch.inference_mode():
        return policy(torch.from_numpy(np.concatenate(frames)[None]))[0].numpy().astype(float)


def test_policy_sees_the_mapping_of_the_sensors(saved: Path) -> None:
    runtime = made(saved)
    policy, _ = checkpoints.load(saved)
    gravity = quaternion_to_matrix(ORIENTATION).T @ (0, 0, -1)
    rows: list[np.ndarray] = []
    action = np.zeros(4)
    for step, ms in enumerate((0, 20, 40, 60, 80)):
        asked = sense(runtime, ms, angle=0.05 * step, names=JOINTS[::-1])
        place = 0.05 * step + 0.01 * np.arange(4)
        told = np.array([0.5, -0.1, 0.4]) if step else np.zeros(3)
        rows.append(MAPPING.observation(np.array([0.3, 0.2, 0.1]), gravity, told, place, 2 * place, action))
        action = expected(policy, rows)
        assert len(asked) == 1 and asked[0].stamp_ns == ms * MS and asked[0].names == JOINTS
        assert asked[0].position == pytest.approx(MAPPING.targets(action), abs=1e-6)
        assert not asked[0].velocity.any() and not asked[0].effort.any()
        command(runtime, ms + 15, 0.5, -0.1, 0.4)


def test_fifty_times_a_second_of_the_imu(saved: Path) -> None:
    runtime = made(saved)
    stamps = [each.stamp_ns // MS for ms in range(0, 205, 5) for each in sense(runtime, ms)]
    assert stamps == list(range(0, 205, 20))


def test_old_commands_are_none(saved: Path) -> None:
    def last(after_ms: int) -> np.ndarray:
        runtime = made(saved)
        command(runtime, 0, 0.9, 0.0, 0.0)
        return [sense(runtime, ms) for ms in range(after_ms, after_ms + 100, 20)][-1][0].position

    assert np.array_equal(last(520), last(2000))
    assert not np.array_equal(last(400), last(520))


@pytest.mark.parametrize("forward", [0.5, 0.0])
def test_silence_after_a_command_to_move_is_told_until_the_next_command(saved: Path, forward: float) -> None:
    runtime = made(saved)
    said = [""]

    def look(ms: int) -> None:
        sense(runtime, ms)
        now = runtime.component.health.snapshot().get("command", "")
        if now != said[-1]:
            said.append(now)

    look(0)
    command(runtime, 10, forward, 0.0, 0.0)
    for ms in range(20, 2000, 20):
        look(ms)
    command(runtime, 2000, 0.2, 0.0, 0.0)
    look(2000)
    sentence = "cmd_vel fell silent while it asked to move: the robot stands."
    assert said == (["", sentence, ""] if forward else [""])


def test_commands_are_cut_to_what_was_trained(saved: Path) -> None:
    def asked(*values: float) -> tuple[np.ndarray, str]:
        runtime = made(saved)
        command(runtime, 0, *values)
        position = sense(runtime, 20)[0].position
        return position, runtime.component.health.conditions.get("command", (0, ""))[1]

    cut, said = asked(3.0, -0.1, -5.0)
    same, silent = asked(1.0, -0.1, -1.0)
    assert np.array_equal(cut, same)
    assert "(3, -0.1, -5)" in said and silent == ""


def test_ramp_goes_from_the_measured_pose_to_the_default_one(saved: Path) -> None:
    runtime = made(saved, ramp_s=0.1)
    ramp = [sense(runtime, ms, angle=0.4)[0].position for ms in range(0, 100, 20)]
    measured = 0.4 + 0.01 * np.arange(4)
    for step, found in enumerate(ramp):
        share = step / 5
        assert found == pytest.approx((1 - share) * measured + share * MAPPING.default_pose)
    after = sense(runtime, 100, angle=0.4)[0].position
    assert not np.allclose(after, MAPPING.default_pose)
    runtime.request_reset("asked")
    assert sense(runtime, 120, angle=-0.3)[0].position == pytest.approx(-0.3 + 0.01 * np.arange(4))


def test_imu_without_orientation_finds_down_and_says_so(saved: Path) -> None:
    runtime = made(saved)
    imu = Imu(0, np.zeros(3), 9.81 * np.array([0.6, 0.0, 0.8]), None)
    runtime.push("imu", imu, 0)
    runtime.push("joint_states", JointState(0, JOINTS, np.zeros(4), np.zeros(4), np.empty(0)), 0)
    work = runtime.take()
    assert work is not None
    (found,) = runtime.run(work).values()
    assert isinstance(found, JointState)
    policy, _ = checkpoints.load(saved)
    row = MAPPING.observation(
        np.zeros(3), np.array([-0.6, 0.0, -0.8]), np.zeros(3), np.zeros(4), np.zeros(4), np.zeros(4)
    )
    assert found.position == pytest.approx(MAPPING.targets(expected(policy, [row])), abs=1e-6)
    assert "no orientation" in runtime.component.health.conditions["orientation"][1]


def test_missing_joints_and_velocities_are_said(saved: Path) -> None:
    runtime = made(saved)
    with pytest.raises(MessageError, match="lacks d and 0 more of the policy's 4"):
        sense(runtime, 0, names=("a", "b", "c"))
    runtime = made(saved)
    runtime.push("imu", Imu(0, np.zeros(3), np.zeros(3), ORIENTATION), 0)
    runtime.push("joint_states", JointState(0, JOINTS, np.zeros(4), np.empty(0), np.empty(0)), 0)
    work = runtime.take()
    assert work is not None
    with pytest.raises(MessageError, match="no velocities"):
        runtime.run(work)


def test_checkpoint_and_onnx_are_the_same_policy(saved: Path) -> None:
    import onnxruntime

    policy, contract = checkpoints.load(saved)
    session = onnxruntime.InferenceSession(str(saved / "model.onnx"), providers=["CPUExecutionProvider"])
    seen = np.random.default_rng(0).normal(size=(7, MAPPING.size * 3)).astype(np.float32)
    with torch.inference_mode():
        ours = policy(torch.from_numpy(seen)).numpy()
    assert session.run(None, {"observation": seen})[0] == pytest.approx(ours, abs=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["contract"]) == contract
    assert contract["robot"]["joints"] == list(JOINTS) and contract["rate_hz"] == 50


def test_checkpoint_must_be_given() -> None:
    with pytest.raises(ParameterError, match="quadruped_walk: checkpoint is empty"):
        QuadrupedWalk(params=WalkParams(checkpoint="")).configure()


def test_weights_that_do_not_fit_the_contract_are_refused(saved: Path, tmp_path: Path) -> None:
    policy, contract = checkpoints.load(saved)
    contract["robot"] = contract["robot"] | {"frames": 2}
    checkpoints.save(policy, tmp_path / "other", contract, {})
    with pytest.raises(CheckpointError, match="does not fit its contract"):
        checkpoints.load(tmp_path / "other")
