"""Trials on the evaluation's stairs: the first episode counts, and why it ended."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.control.depth_image import preprocess
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.goal import End
from ros_attn.sim.locomotion_task import Observations
from ros_attn.sim.stairs_trial import evaluate

MAPPING = LocomotionMapping.of(ROBOT.contract())


def test_immobile_robots_fail_by_time() -> None:
    task = tasks.climb_episodes(ROBOT, MAPPING, 3, 20.0, threads=1)
    trials = evaluate(task, lambda seen: np.zeros((3, 12)))
    assert (trials.end == End.TIME).all() and not trials.success.any()
    assert trials.seconds == pytest.approx(np.full(3, 30.0)) and trials.treads.tolist() == [0, 0, 0]
    assert trials.slope_deg.tolist() == [20.0] * 3
    assert trials.counts() == {"time": 3, "fell": 0, "trapped": 0, "off": 0, "succeeded": 0, "stuck": 0}


def test_only_the_first_episode_counts() -> None:
    task = tasks.climb_episodes(ROBOT, MAPPING, 4, 30.0, threads=1, varied=False)
    task.episode_steps = 60
    calls = 0

    def act(seen: Observations) -> np.ndarray:
        """Robot 1 is put on the landing, again and again; robot 2 falls, then is put there; robot 3 onto tread 6."""
        nonlocal calls
        calls += 1
        world, landing, route = task.world, task.terrain.landing, task.terrain.route
        world.qvel[:] = 0.0
        if calls == 10:
            world.qpos[2, 3:7] = 0.0, 1.0, 0.0, 0.0
        if calls >= 20:
            for robot in (1, 2):
                world.qpos[robot, :3] = landing[robot, 0] + 0.6, 0.0, route[robot, 12, 2] + ROBOT.stand_height
        if calls == 30:
            world.qpos[3, :3] = route[3, 6, 0], 0.0, route[3, 6, 2] + 0.4
        assert seen["heights"].shape == (4, 187)
        return np.zeros((4, 12))

    trials = evaluate(task, act)
    assert trials.end[:3].tolist() == [End.TIME, End.SUCCEEDED, End.FELL] and calls == 60
    assert trials.seconds[:3] == pytest.approx([1.2, 0.4, 0.2])
    assert trials.treads.tolist()[:3] == [0, 13, 0] and trials.treads[3] == 7
    assert trials.success.tolist()[:3] == [False, True, False]


def test_stops_when_everyone_is_done() -> None:
    task = tasks.climb_episodes(ROBOT, MAPPING, 2, 15.0, threads=1, varied=False, depth=preprocess)
    calls = 0

    def act(seen: Observations) -> np.ndarray:
        nonlocal calls
        calls += 1
        assert seen["depth"].shape == (2, 48, 64)
        task.world.qpos[:, 3:7] = 0.0, 1.0, 0.0, 0.0
        return np.zeros((2, 12))

    assert (evaluate(task, act).end == End.FELL).all() and calls == 1


def test_what_cannot_be_tried() -> None:
    with pytest.raises(ValueError, match="not defined; give a slope from 15 to 55"):
        tasks.climb_episodes(ROBOT, MAPPING, 1, 60.0)
    with pytest.raises(ValueError, match="need a task of climbing"):
        evaluate(tasks.walk(ROBOT, MAPPING, 1, threads=1), lambda seen: np.zeros((1, 12)))
