"""The task: what is rewarded and seen, who starts anew, and that a seed says everything."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.locomotion_task import LocomotionTask
from ros_attn.sim.velocity_command import CommandRange

MAPPING = LocomotionMapping.of(ROBOT.contract() | {"frames": 3})


def made(count: int, seed: int = 0, varied: bool = True) -> LocomotionTask:
    return tasks.walk(ROBOT, MAPPING, count, seed=seed, threads=1, varied=varied)


def stand(task: LocomotionTask, steps: int) -> list:
    return [task.step(np.zeros((task.world.environments, 12))) for _ in range(steps)]


def test_standing_robot_sees_that_it_stands() -> None:
    task = made(2, varied=False)
    task.commands = CommandRange(standing=1.0)
    task.reset()
    last = stand(task, 100)[-1]
    row = last.observations["policy"][0].reshape(3, 45)
    assert np.array_equal(row[0, 33:45], np.zeros(12))
    assert row[0, :3] == pytest.approx(np.zeros(3), abs=0.02)
    assert row[0, 3:6] == pytest.approx([0, 0, -1], abs=0.1)
    assert row[0, 9:21] == pytest.approx(task.world.joint_position[0] - ROBOT.default_pose, abs=1e-6)
    known = last.observations["privileged"][0]
    assert known[:45] == pytest.approx(row[0])
    assert known[45:48] == pytest.approx(np.zeros(3), abs=0.01)  # velocity
    assert known[48:52].tolist() == [1, 1, 1, 1]  # feet on the ground
    assert known[52] == pytest.approx(0.247, abs=0.01)  # height
    assert known[53:57] == pytest.approx(np.zeros(4), abs=2e-3)
    assert last.terms["velocity"] == pytest.approx(np.full(2, 1.2 * 0.02), rel=0.02)
    assert last.terms["standing"] == pytest.approx(np.full(2, 2.5 * 0.02), rel=0.02)
    assert not last.terminated.any()


def test_history_is_newest_first_and_begins_with_copies() -> None:
    task = made(1, varied=False)
    first = task.reset()["policy"].reshape(3, 45)
    assert np.array_equal(first[0], first[1]) and np.array_equal(first[0], first[2])
    action = np.full((1, 12), 0.3)
    after = task.step(action).observations["policy"].reshape(3, 45)
    assert after[0, 33:] == pytest.approx(np.full(12, 0.3))
    assert np.array_equal(after[1], first[0])


def test_same_seed_same_arrays_at_any_thread_count() -> None:
    def arrays(seed: int, threads: int) -> np.ndarray:
        task = tasks.walk(ROBOT, MAPPING, 8, seed=seed, threads=threads)
        task.reset()
        rng = np.random.default_rng(5)
        seen = [task.step(1.5 * rng.normal(size=(8, 12))).observations["policy"] for _ in range(60)]
        return np.array(seen)

    first = arrays(1, 1)
    assert np.array_equal(first, arrays(1, 2))
    assert not np.array_equal(first, arrays(2, 1))


def test_targets_move_no_faster_than_the_joints_can() -> None:
    """A jump of 1 rad: the motors are asked for as much as the top speed allows in 20 ms, step by step."""
    task = made(1, varied=False)
    task.reset()
    begin = task.world._ctrl[0, :, 0].copy()
    low, high = ROBOT.position_limits.T
    wanted = np.clip(ROBOT.default_pose + 1.0, low, high)
    asked, excess = [], []
    for _ in range(4):
        moment_terms = task.step(np.full((1, 12), 4.0)).terms
        asked.append(task.world._ctrl[0, :, 0].copy())
        excess.append(-moment_terms["target excess"][0] / (3.0 * 0.02 * task.strictness))
    reach = ROBOT.velocity_limits * 0.02
    assert asked[0] == pytest.approx(np.minimum(wanted, begin + reach))
    assert asked[1] == pytest.approx(np.minimum(wanted, begin + 2 * reach))
    assert asked[3] == pytest.approx(wanted)
    assert excess[0] == pytest.approx((wanted - asked[0]).sum()) and excess[0] > 1.0
    assert excess[3] == 0.0


def test_fallen_robots_start_anew_and_the_others_go_on() -> None:
    task = made(3, varied=False)
    task.reset()
    stand(task, 5)
    upside_down = np.array([0.0, 1.0, 0.0, 0.0])
    task.world.qpos[1, 3:7] = upside_down
    before = task.world.qpos[[0, 2]].copy()
    step = stand(task, 1)[0]
    assert step.terminated.tolist() == [False, True, False] and not step.truncated.any()
    assert step.ended.tolist() == [1] and task.steps.tolist() == [6, 0, 6]
    assert step.final["policy"][0, 5] > 0.9  # gravity points up in the base
    assert step.observations["policy"][1, 5] == pytest.approx(-1)
    assert task.world.base_quaternion[1] == pytest.approx([1, 0, 0, 0])
    assert np.abs(task.world.qpos[[0, 2]] - before).max() < 0.05


def test_time_runs_out() -> None:
    task = made(2, varied=False)
    task.episode_steps = 4
    task.reset()
    steps = stand(task, 4)
    assert not any(step.truncated.any() for step in steps[:3])
    assert steps[3].truncated.all() and not steps[3].terminated.any()
    assert task.steps.tolist() == [0, 0]


def test_commands_change_every_four_seconds_and_some_are_to_stand() -> None:
    commands = CommandRange().draw(np.random.default_rng(0), 4000)
    assert (commands == 0).all(axis=1).mean() == pytest.approx(0.2, abs=0.03)
    moving = commands[(commands != 0).any(axis=1)]
    assert (np.linalg.norm(moving, axis=1) >= 0.1).all()
    assert moving.min(axis=0) == pytest.approx([-0.6, -0.4, -1.0], abs=0.02)
    assert moving.max(axis=0) == pytest.approx([1.0, 0.4, 1.0], abs=0.02)
    task = made(16)
    task.reset()
    first = task.command.copy()
    stand(task, 199)
    alive = task.steps == 199
    assert alive.any() and np.array_equal(task.command[alive], first[alive])
    stand(task, 1)
    assert (task.command[alive] != first[alive]).any(axis=1).mean() > 0.8


def test_curriculum_grows_only_while_commands_are_followed() -> None:
    task = tasks.walk(ROBOT, MAPPING, 4, threads=1, training=True)
    task.reset()
    best = {"velocity": np.full(4, 1.2 * 0.02), "turn": np.full(4, 1.0 * 0.02)}
    assert task.curriculum is not None
    for _ in range(149):
        task.curriculum.after(task, best)
    assert task.command_share == 0.0 and task.strictness == pytest.approx(0.2)
    for _ in range(2):
        task.curriculum.after(task, best)
    assert task.command_share == pytest.approx(0.05) and task.strictness == pytest.approx(0.24)
    for _ in range(600):
        task.curriculum.after(task, {name: 0.4 * values for name, values in best.items()})
    assert task.command_share == pytest.approx(0.05)


def test_first_commands_go_straight_ahead_and_grow_to_the_full_range() -> None:
    def ranges(share: float) -> list[float]:
        commands = CommandRange().draw(np.random.default_rng(0), 4000, share)
        return [*commands.min(axis=0), *commands.max(axis=0)]

    assert ranges(0.0) == pytest.approx([0.4, 0, 0, 0.7, 0, 0], abs=0.01)
    assert ranges(0.5) == pytest.approx([-0.1, -0.2, -0.5, 0.85, 0.2, 0.5], abs=0.02)
    assert ranges(1.0) == pytest.approx([-0.6, -0.4, -1, 1, 0.4, 1], abs=0.02)


def test_penalties_alone_are_lenient() -> None:
    task = made(2, varied=False)
    task.reset()
    strict = stand(task, 5)[-1].terms
    task = made(2, varied=False)
    task.reset()
    task.strictness = 0.5
    lenient = stand(task, 5)[-1].terms
    assert lenient["velocity"] == pytest.approx(strict["velocity"])
    assert (strict["torque"] < 0).all()
    assert lenient["torque"] == pytest.approx(0.5 * strict["torque"])


def test_knees_on_the_ground_cost_as_much_at_first_as_later() -> None:
    task = made(1, varied=False)
    rewards = task.rewards
    counts = {}
    for strictness in (0.2, 1.0):
        task.strictness = strictness
        counts[strictness] = {name: task._counts(each) for name, each in rewards.items()}
    assert counts[0.2]["body contacts"] == counts[1.0]["body contacts"] == pytest.approx(-4.0 * 0.02)
    assert counts[0.2]["torque"] == pytest.approx(0.2 * counts[1.0]["torque"])


def test_states_that_are_not_finite_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_ATTN_NON_FINITE", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings into the current folder
    task = made(3, varied=False)
    task.reset()
    task.world.qvel[2, 4] = np.nan
    step = stand(task, 1)[0]
    assert step.terminated.tolist() == [False, False, True]
    assert np.isfinite(step.reward).all() and np.isfinite(step.observations["privileged"]).all()
    model = mujoco.MjModel.from_binary_path(str(tmp_path / "kept/0.mjb"))
    with np.load(tmp_path / "kept/0.npz") as kept:
        assert not np.isfinite(kept["state"]).all()
        assert kept["state"].size == mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
    stand(task, 5)
    assert len(list((tmp_path / "kept").iterdir())) == 2
