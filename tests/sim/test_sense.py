"""The height scan against rays from above, and how it turns with the robot."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np
import pytest

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import rotation, tasks
from ros_attn.sim.depth_camera import group_mask
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.locomotion_task import LocomotionTask
from ros_attn.sim.robot import TERRAIN_GROUP
from ros_attn.sim.sense import HeightScan

MAPPING = LocomotionMapping.of(ROBOT.contract() | {"frames": 3})


def made(robots: int, seed: int = 0) -> LocomotionTask:
    task = tasks.climb(ROBOT, MAPPING, robots, seed=seed, threads=1, varied=False)
    task.reset()
    return task


def put(task: LocomotionTask, place: np.ndarray, yaw: np.ndarray) -> None:
    world = task.world
    world.qpos[:, :3], world.qpos[:, 3:7] = place, rotation.from_yaw(yaw)


def test_heights_equal_rays_from_above() -> None:
    robots, rng = 30, np.random.default_rng(0)
    task = made(robots)
    place = np.stack([rng.uniform(0, 4, robots), rng.uniform(-0.4, 0.4, robots), rng.uniform(0.2, 1, robots)], axis=1)
    yaw = rng.uniform(-np.pi, np.pi, robots)
    put(task, place, yaw)
    # pitch and roll leave the scan where it is
    lean = rotation.from_yaw(yaw)
    lean[:, 1:3] += 0.15 * np.stack([-np.sin(yaw / 2), np.cos(yaw / 2)], axis=1)
    lean /= np.linalg.norm(lean, axis=1, keepdims=True)
    yaw = rotation.yaw_of(lean)
    task.world.qpos[:, 3:7] = lean
    seen = HeightScan().observe(task, np.arange(robots))["heights"]
    assert seen.shape == (robots, 187) and seen.dtype == np.float32
    x, y = np.meshgrid(np.arange(17) * 0.1 - 0.5, np.arange(11) * 0.1 - 0.5, indexing="ij")
    origin = np.empty((robots, 187, 3))
    for index in range(robots):
        cos, sin = np.cos(yaw[index]), np.sin(yaw[index])
        origin[index, :, 0] = place[index, 0] + (cos * x - sin * y).ravel()
        origin[index, :, 1] = place[index, 1] + (sin * x + cos * y).ravel()
    origin[..., 2] = 20.0
    down = np.broadcast_to((0.0, 0.0, -1.0), origin.shape).copy()
    hit = task.world.batch.ray(origin, down, group_mask([TERRAIN_GROUP]))
    ground = 20.0 - hit[0]
    wanted = np.clip(place[:, 2:] - ROBOT.stand_height - ground, -1, 0.5)
    same = np.abs(seen - wanted) < 1e-4
    assert same.mean() > 0.99  # the others lie within millimetres of an edge
    assert np.abs(wanted).std() > 0.1  # there was something to see


def test_heights_of_some_robots_are_those_of_all() -> None:
    task = made(20)
    put(task, np.random.default_rng(1).uniform(0, 2, (20, 3)), np.linspace(-3, 3, 20))
    scan = HeightScan()
    every = scan.observe(task, np.arange(20))["heights"]
    some = np.array([17, 3, 4])
    assert np.array_equal(scan.observe(task, some)["heights"], every[some])


def test_heights_turn_with_the_robot() -> None:
    task = made(1)
    task.source = lambda rng, level: tasks.episode_stairs(np.random.default_rng(0), 30.0)
    task.reset()
    scan, one = HeightScan(), np.arange(1)

    def seen(yaw: float) -> np.ndarray:
        put(task, np.array([[1.53, 0.013, 0.8]]), np.array([yaw]))
        return scan.observe(task, one)["heights"].reshape(17, 11)

    ahead = seen(0.0)
    assert ahead[-1, 5] < ahead[5, 5] < ahead[0, 5]  # ground rises ahead: the base is less far above it
    assert seen(np.pi)[:11] == pytest.approx(ahead[:11][::-1, ::-1])
    left = seen(np.pi / 2)  # looks to the left: the stairs rise to the right, y < 0
    assert left[5, 0] < left[5, 5] < left[5, 10]
    assert left[5] == pytest.approx(ahead[:11, 5][::-1])


def test_level_ground_is_nought_and_far_ground_is_as_far_as_is_told_apart() -> None:
    task = tasks.climb(ROBOT, MAPPING, 3, threads=1, training=True, varied=False)
    task.level[:] = -1
    task.reset()
    put(task, np.array([[0.0, 0.0, ROBOT.stand_height], [0.0, 0.0, 5.0], [0.0, 0.0, -5.0]]), np.zeros(3))
    seen = HeightScan().observe(task, np.arange(3))["heights"]
    assert seen[0] == pytest.approx(np.zeros(187), abs=1e-6)
    assert (seen[1] == 0.5).all() and (seen[2] == -1.0).all()
