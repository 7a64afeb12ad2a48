"""Depth among the observations: which image is seen when, and that only those due are paid for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ros_attn.control.depth_image import preprocess
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import tasks
from ros_attn.sim.depth_sense import DepthSense
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.locomotion_task import LocomotionTask, Step

MAPPING = LocomotionMapping.of(ROBOT.contract() | {"frames": 3})


def made(robots: int, noise: float = 0.0, varied: bool = False, seed: int = 0, threads: int = 1) -> LocomotionTask:
    task = tasks.climb(
        ROBOT, MAPPING, robots, seed=seed, threads=threads, varied=varied, depth=preprocess, depth_noise=noise
    )
    task.source = lambda rng, level: tasks.episode_stairs(rng, 25.0)
    return task


def still(task: LocomotionTask, steps: int) -> list[Step]:
    return [task.step(np.zeros((task.world.environments, 12))) for _ in range(steps)]


def test_one_image_in_five_steps_and_nothing_before_the_first() -> None:
    task = made(10)
    sense = task.senses[-1]
    assert isinstance(sense, DepthSense)
    rendered: list[int] = []
    original = sense._render
    sense._render = lambda task, ids: (rendered.append(len(ids)), original(task, ids))[1]  # type: ignore[method-assign]
    first = task.reset()
    assert not first["depth"].any() and not first["valid"].any() and not first["fresh"].any()
    steps = still(task, 40)
    assert rendered == [2] * 40
    fresh = np.array([step.observations["fresh"][:, 0] for step in steps])
    assert (fresh[10:].sum(axis=0) == 6).all()
    for robot in range(10):
        arrivals = np.flatnonzero(fresh[:, robot])
        assert (np.diff(arrivals) == 5).all()
        before = steps[arrivals[0] - 1].observations if arrivals[0] else first
        assert not before["valid"][robot].any() and steps[arrivals[0]].observations["valid"][robot].all()
    for earlier, later in itertools.pairwise(steps):
        old = later.observations["fresh"][:, 0] == 0
        assert np.array_equal(earlier.observations["depth"][old], later.observations["depth"][old])


def test_images_are_what_the_camera_saw_where_the_robot_was() -> None:
    task = made(5, varied=True)
    task.reset()
    sense = task.senses[-1]
    assert isinstance(sense, DepthSense)
    mounts = sense._place, sense._tilt, sense._zoom
    camera, world, images = sense.camera, task.world, [np.empty(0, np.float32)]
    for number in range(1, 31):
        step = still(task, 1)[0]
        assert not len(step.ended)
        seen = step.observations
        image = camera.render(world.batch, None, world.base_position, world.base_quaternion, *mounts)
        images.append(preprocess(image, camera.near_m, camera.far_m).image)
        for robot in np.flatnonzero(seen["fresh"][:, 0]):
            taken = number - (number - robot) % 5  # robot e takes its images in steps k with k mod 5 = e
            assert np.array_equal(seen["depth"][robot], images[taken][robot])
    assert np.ptp(images[-1][0]) > 0.3 and not np.array_equal(images[-1], images[-2])
    assert (seen["valid"] == 1).all()


def test_robots_that_start_anew_have_no_image_and_the_others_keep_theirs() -> None:
    task = made(4)
    task.reset()
    before = still(task, 30)[-1].observations["depth"].copy()
    task.world.qpos[2, 3:7] = 0.0, 1.0, 0.0, 0.0
    step = still(task, 1)[0]
    assert step.ended.tolist() == [2]
    seen = step.observations
    assert not seen["depth"][2].any() and not seen["valid"][2].any() and not seen["fresh"][2].any()
    assert np.array_equal(step.final["depth"][0], before[2]) or step.final["fresh"][0, 0] == 1
    assert all(seen["depth"][robot].any() for robot in (0, 1, 3))


def test_an_image_under_way_does_not_outlive_its_robot() -> None:
    task = made(5)
    task.reset()
    sense = task.senses[-1]
    assert isinstance(sense, DepthSense) and sense._stream is not None
    sense._stream.latency_s[:] = 0.08
    still(task, 32)  # robot 2 has just taken an image, which would arrive in step 36
    task.world.qpos[2, 3:7] = 0.0, 1.0, 0.0, 0.0
    steps = still(task, 9)
    assert steps[0].ended.tolist() == [2]
    arrived = [bool(step.observations["valid"][2].any()) for step in steps]
    assert arrived[:5] == [False] * 5 and arrived[8]  # the next was taken in step 37


def test_cameras_differ_from_robot_to_robot_by_the_table() -> None:
    task = made(40, varied=True)
    sense = task.senses[-1]
    assert isinstance(sense, DepthSense)
    task.reset()
    for values, limit in ((sense._place, 0.01), (sense._tilt, 0.03), (sense._zoom - 1, 0.03)):
        assert 0.8 * limit < np.abs(values).max() <= limit
    tilt = sense._tilt.copy()
    sense.begin(task, np.array([3]))
    changed = (sense._tilt != tilt).any(axis=1)
    assert changed.tolist() == [robot == 3 for robot in range(40)]


def test_noise_leaves_holes() -> None:
    task = made(5, noise=1.0)
    task.reset()
    valid = still(task, 20)[-1].observations["valid"]
    assert 0.7 < valid.mean() < 0.999


def test_same_seed_same_arrays_at_any_thread_count() -> None:
    def arrays(seed: int, threads: int) -> list[np.ndarray]:
        task = tasks.climb(ROBOT, MAPPING, 8, seed=seed, threads=threads, training=True, depth=preprocess)
        task.reset()
        rng, seen = np.random.default_rng(5), []
        for number in range(40):
            step = task.step(1.5 * rng.normal(size=(8, 12)))
            if number % 10 == 7:
                task.world.qpos[number % 8, 3:7] = 0.0, 1.0, 0.0, 0.0  # someone falls
            seen += [step.reward, step.end, *step.observations.values()]
        return seen

    first = arrays(1, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, arrays(1, 2), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, arrays(2, 1), strict=True))


def test_a_task_that_is_reset_with_a_seed_repeats_itself() -> None:
    task = made(6, noise=1.0, varied=True)

    def run() -> np.ndarray:
        task.rng = np.random.default_rng(3)
        task.reset()
        return np.array([step.observations["depth"] for step in still(task, 17)])

    first = run()
    assert first.any() and np.array_equal(first, run())


@pytest.mark.parametrize("group", ["depth", "valid", "fresh"])
def test_without_preprocessing_there_is_no_camera(group: str) -> None:
    task = tasks.climb(ROBOT, MAPPING, 1, threads=1)
    assert group not in task.reset()
