"""Cameras that fail in training: what the policy is shown and told meanwhile, and afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.control.depth_image import preprocess
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import depth_faults, tasks
from ros_attn.sim.climb import Climb
from ros_attn.sim.depth_faults import DepthFaults
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.locomotion_task import LocomotionTask

MAPPING = LocomotionMapping.of(ROBOT.contract())
STILL = np.zeros((4, 12))


def made(training: bool = True) -> LocomotionTask:
    task = tasks.climb(ROBOT, MAPPING, 4, threads=1, training=training, varied=False, depth=preprocess)
    assert isinstance(task.goal, Climb)
    task.goal.patience_s = None  # robots here stand still, whatever they are asked
    task.reset()
    return task


def faults_of(task: LocomotionTask) -> DepthFaults:
    (found,) = (each for each in task.senses if isinstance(each, DepthFaults))
    return found


def test_only_cameras_of_training_fail() -> None:
    assert not any(isinstance(each, DepthFaults) for each in made(training=False).senses)


def test_a_fault_closes_the_tokens_and_stands_and_then_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_faults, "EVERY_S", np.inf)
    task = made()
    faults = faults_of(task)
    task.command[:] = [[0.6, 0.0, 0.0], [0.3, 0.4, -0.5], [0.2, 0.0, 0.0], [0.8, 0.0, 0.0]]
    for _ in range(10):
        step = task.step(STILL)
    assert step.observations["valid"].max(axis=(1, 2)).min() > 0
    faults._left_s[:3] = 3.0
    asked = task.command.copy()
    shown, told = [], []
    for _ in range(152):
        step = task.step(STILL)
        shown.append(step.observations["valid"].max(axis=(1, 2)) > 0)
        told.append(task.command.copy())
    blind = ~np.array(shown)
    assert blind[:149, :3].all() and not blind[150:].any() and not blind[:, 3].any()
    assert all(not each[:3].any() and each[3, 0] == 0.8 for each in told[:149])
    assert np.array_equal(told[-1], asked)


def test_an_image_that_stays_is_noticed_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_faults, "EVERY_S", np.inf)
    task = made()
    faults = faults_of(task)
    task.command[:] = (0.6, 0.0, 0.0)
    for _ in range(20):
        task.step(STILL)
    monkeypatch.setattr(depth_faults, "EVERY_S", 1e-9)
    kept = None
    while kept is None or not faults.unnoticed[0]:
        task.command[0] = (0.6, 0.0, 0.0)
        faults.begin(task, np.array([0]))
        kept = task.step(STILL).observations
    monkeypatch.setattr(depth_faults, "EVERY_S", np.inf)
    assert np.array_equal(kept["depth"][0], faults.depth.observe(task, np.arange(4))["depth"][0])
    for _ in range(19):
        shown = task.step(STILL).observations
        assert np.array_equal(shown["depth"][0], kept["depth"][0]) and shown["valid"][0].any()
        assert shown["fresh"][0] == 0 and task.command[0, 0] == 0.6
    assert not np.array_equal(shown["depth"][0], faults.depth.observe(task, np.arange(4))["depth"][0])
    shown = task.step(STILL).observations
    assert not shown["valid"][0].any() and task.command[0, 0] == 0.0


def test_what_is_asked_for_meanwhile_holds_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_faults, "EVERY_S", np.inf)
    task = made()
    faults = faults_of(task)
    task.command[:] = (0.6, 0.0, 0.0)
    task.step(STILL)
    faults._left_s[0] = 0.1
    task.step(STILL)
    assert task.command[0, 0] == 0.0
    task.command[0] = (0.5, 0.0, 0.0)
    task.step(STILL)
    assert task.command[0, 0] == 0.0
    for _ in range(5):
        task.step(STILL)
    assert task.command[0, 0] == 0.5


def test_faults_come_as_often_as_they_say_and_end_with_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_faults, "EVERY_S", 2.0)
    monkeypatch.setattr(depth_faults, "LASTS_S", (2.0, 2.0))
    task = made()
    faults = faults_of(task)
    failing = []
    for _ in range(3000):
        faults.step(task)
        failing.append(faults.failing.copy())
    assert np.mean(failing) == pytest.approx(0.5, abs=0.1)
    faults._left_s[:], faults._unnoticed_s[:] = 1.0, 0.0
    faults.begin(task, np.array([1]))
    assert faults.failing.tolist() == [True, False, True, True]
