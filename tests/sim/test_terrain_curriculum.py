"""Who goes up and who goes down, and that a run goes on where it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.goal import End
from ros_attn.sim.locomotion_task import LocomotionTask
from ros_attn.sim.stairs_levels import TOP
from ros_attn.sim.terrain_curriculum import TerrainCurriculum

MAPPING = LocomotionMapping.of(ROBOT.contract())


@pytest.fixture
def task() -> LocomotionTask:
    made = tasks.climb(ROBOT, MAPPING, 20, threads=1, training=True, varied=False)
    made.reset()
    return made


def curriculum_of(task: LocomotionTask) -> TerrainCurriculum:
    assert isinstance(task.curriculum, TerrainCurriculum)
    return task.curriculum


def ended(task: LocomotionTask, robot: int, end: End, share: float) -> int:
    """The robot's level after an episode of it ended so, with ``share`` of the way done."""
    task.end[:] = End.NOT
    task.end[robot] = end
    task.world.qpos[robot, 0] = share * np.nan_to_num(task.terrain.landing[robot, 0], posinf=5.0)
    task.curriculum.after(task, {})  # type: ignore[union-attr]
    return int(curriculum_of(task).levels[robot])


def at(task: LocomotionTask, robot: int, level: int) -> None:
    task.level[robot] = curriculum_of(task).levels[robot] = level


@pytest.mark.parametrize(
    ("end", "share", "change"),
    [
        (End.SUCCEEDED, 1.0, 1),
        (End.TIME, 0.85, 1),
        (End.TIME, 0.75, 0),
        (End.TIME, 0.45, 0),
        (End.TIME, 0.35, -1),
        (End.FELL, 0.85, 0),
        (End.FELL, 0.35, -1),
        (End.TRAPPED, 0.5, 0),
        (End.OFF, 0.1, -1),
        (End.STUCK, 0.95, 0),
        (End.STUCK, 0.3, -1),
    ],
)
def test_up_and_down(task: LocomotionTask, end: End, share: float, change: int) -> None:
    at(task, 5, 6)
    others = np.delete(task.level, 5)
    assert ended(task, 5, end, share) == 6 + change
    assert np.array_equal(np.delete(task.level, 5), others)


def test_lowest_level_is_kept_and_the_last_leads_anywhere(task: LocomotionTask) -> None:
    at(task, 5, 0)
    assert ended(task, 5, End.FELL, 0.0) == 0
    found = []
    for _ in range(300):
        at(task, 5, TOP)
        found.append(ended(task, 5, End.SUCCEEDED, 1.0))
    counts = np.bincount(found, minlength=TOP + 1)
    assert len(counts) == TOP + 1 and counts.min() > 5 and counts.max() < 45


def test_walkers_keep_to_level_ground(task: LocomotionTask) -> None:
    assert task.level.tolist()[:2] == [-1, -1] and (task.level[2:] >= 0).all() and task.level.max() == 2
    assert ended(task, 0, End.TIME, 0.0) == -1
    assert ended(task, 0, End.FELL, 0.0) == -1
    assert curriculum_of(task).figures()["level"] == pytest.approx(task.level[2:].mean())


def test_half_of_the_episodes_rehearse_lower_levels_and_change_none(task: LocomotionTask) -> None:
    grounds, levels = [], []
    for _ in range(1000):
        at(task, 5, 9)
        ended(task, 5, End.FELL, 0.6)
        grounds.append(int(task.level[5]))
        if grounds[-1] < 9:
            levels.append(ended(task, 5, End.FELL, 0.0))
    assert set(grounds) == set(range(10)) and set(levels) == {9}
    # 0.5 of them on one of ten levels, the robot's own included.
    assert np.mean(np.array(grounds) < 9) == pytest.approx(0.45, abs=0.05)


def test_task_changes_the_ground_with_the_level(task: LocomotionTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros_attn.sim.terrain_curriculum.REHEARSED", 0.0)
    at(task, 5, 12)
    task.episode_steps = 2
    zeros = np.zeros((20, 12))
    task.step(zeros)
    landing = task.terrain.landing[6]
    task.world.qpos[6, :3] = landing[0] + 0.6, 0.0, landing[2] + 0.01 + ROBOT.stand_height
    level = task.level[6]
    step = task.step(zeros)
    assert step.end[6] == End.SUCCEEDED and step.end[5] == End.TIME
    assert task.level[6] == level + 1 and task.level[5] == 11
    slopes = task.slope_deg[task.level == 11]
    assert ((slopes == 0) | ((slopes > 35) & (slopes <= 43))).all()


def test_success_is_counted_by_slope(task: LocomotionTask) -> None:
    curriculum = curriculum_of(task)
    task.slope_deg[5], task.slope_deg[6], task.slope_deg[7] = 36.0, 37.5, 0.0
    for number in range(300):
        at(task, 5, 6)
        at(task, 6, 6)
        ended(task, 5, End.SUCCEEDED if number % 4 else End.FELL, 0.6)
        ended(task, 6, End.TRAPPED, 0.6)
        at(task, 7, 0)
    figures = curriculum.figures()
    assert figures["success 37"] == pytest.approx(0.75, abs=0.02)
    assert figures["success 45"] == 0.0
    assert set(figures) == {"level", "success 37", "success 45"}
    at(task, 7, 0)
    ended(task, 7, End.SUCCEEDED, 1.0)
    assert curriculum.figures()["success 0"] == 1.0


def test_a_run_goes_on_at_its_levels(task: LocomotionTask) -> None:
    curriculum = curriculum_of(task)
    for robot in range(2, 20):
        at(task, robot, 4 + robot % 3)
        ended(task, robot, End.SUCCEEDED, 1.0)
    state = json.loads(json.dumps(curriculum.state()))
    again = tasks.climb(ROBOT, MAPPING, 20, threads=1, training=True, varied=False)
    again.reset()
    curriculum_of(again).restore(state)
    assert curriculum_of(again).figures() == curriculum.figures()
    # what was begun before the restoring counts for nothing; then each robot is where it was
    assert again.level[5] == 2
    assert ended(again, 5, End.FELL, 0.0) == curriculum.levels[5] == 7
    assert ended(again, 5, End.SUCCEEDED, 1.0) == 8
    with pytest.raises(ValueError, match="of 20 robots and the task has 4"):
        TerrainCurriculum(4).restore(state)


@pytest.mark.parametrize(("level", "strictness"), [(0, 0.2), (1, 0.2), (3, 0.6), (5, 1.0), (9, 1.0)])
def test_penalties_grow_with_the_levels(task: LocomotionTask, level: int, strictness: float) -> None:
    curriculum_of(task).levels[2:] = level
    task.end[:] = End.NOT
    curriculum_of(task).after(task, {})
    assert task.strictness == pytest.approx(strictness)
