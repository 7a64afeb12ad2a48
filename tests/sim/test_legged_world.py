"""Many robots in one batch: motors, contacts, terrain and delays of each simulation on its own."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.legged_world import LeggedWorld

WEIGHT = 15.017 * 9.81


def standing(count: int, height: float = 0.0) -> np.ndarray:
    row = np.r_[0, 0, ROBOT.stand_height + height + 0.002, 1, 0, 0, 0, ROBOT.default_pose]
    return np.tile(row, (count, 1))


def begin(world: LeggedWorld, qpos: np.ndarray) -> None:
    ids = np.arange(world.environments)
    pose = np.tile(ROBOT.default_pose, (world.environments, 1))
    world.reset(ids, qpos, np.zeros((world.environments, 18)), pose)


def settle(world: LeggedWorld, steps: int = 100) -> None:
    for _ in range(steps):
        world.step(np.tile(ROBOT.default_pose, (world.environments, 1)))


def test_feet_carry_the_weight() -> None:
    world = LeggedWorld(ROBOT, 2, boxes=1, threads=1)
    begin(world, standing(2))
    settle(world)
    assert world.foot_force.sum(axis=1) == pytest.approx(np.full(2, WEIGHT), rel=0.02)
    assert (world.foot_force > 10).all() and not world.body_force.any()
    assert world.base_position[:, 2] == pytest.approx(np.full(2, 0.247), abs=0.01)


def test_motors_are_pd_within_their_limits() -> None:
    world = LeggedWorld(ROBOT, 2, boxes=0, threads=1)
    begin(world, standing(2, height=1.0))
    targets = np.tile(ROBOT.default_pose, (2, 1))
    targets[0, 1] += 0.1
    targets[1, 2] -= 0.9
    world.step(targets, substeps=1)
    assert world.torque[0] == pytest.approx(np.where(np.arange(12) == 1, 40 * 0.1, 0.0), abs=1e-9)
    assert world.torque[1] == pytest.approx(np.where(np.arange(12) == 2, -35.55, 0.0), abs=1e-9)
    world.step(targets, substeps=1)
    damped = 40 * (targets - world.joint_position) - world.joint_velocity
    before = world.torque.copy()
    world.step(targets, substeps=1)
    assert world.torque[0, 1] == pytest.approx(damped[0, 1], rel=1e-6)
    assert before[0, 1] != world.torque[0, 1]


def test_each_simulation_has_its_own_ground() -> None:
    world = LeggedWorld(ROBOT, 3, boxes=2, threads=1)
    boxes = np.zeros((2, 1, 6))
    boxes[0, 0] = (0, 0, 0.1, 1, 1, 0.1)
    boxes[1, 0] = (0, 0, 0.35, 1, 1, 0.05)
    ids = np.array([0, 2])
    world.set_terrain(ids, boxes, np.array([0.0, -0.5]))
    world.derive(ids)
    tops = np.array([0.2, 0.0, 0.4])
    qpos = standing(3)
    qpos[:, 2] += tops
    begin(world, qpos)
    settle(world)
    assert world.base_position[:, 2] - tops == pytest.approx(np.full(3, 0.247), abs=0.01)
    distance, geom = world.batch.ray(np.array([[0.6, 0.0, 3.0], [1.5, 0.0, 3.0]]), np.array([0.0, 0.0, -1.0]))
    assert distance[:, 0] == pytest.approx(3.0 - tops)
    assert distance[:, 1] == pytest.approx([3.0, 3.0, 3.5])
    assert world.model.geom(geom[2, 0]).name == "box_0" and world.model.geom(geom[1, 0]).name == "floor"
    # Smaller terrain again: what is not used is out of the way.
    world.set_terrain(np.array([2]), np.zeros((1, 0, 6)), np.zeros(1))
    world.derive(np.array([2]))
    distance, _ = world.batch.ray(np.array([0.6, 0.0, 3.0]), np.array([0.0, 0.0, -1.0]))
    assert distance[:, 0] == pytest.approx([2.8, 3.0, 3.0])


def test_command_delay_is_the_simulations_own() -> None:
    world = LeggedWorld(ROBOT, 3, boxes=0, threads=1)
    delays = np.array([0.0, 0.01, 0.04])
    world.batch.expand("actuator_delay")[:] = delays[:, None]
    begin(world, standing(3, height=1.0))
    targets = np.tile(ROBOT.default_pose + 0.1, (3, 1))
    first = np.full(3, np.nan)
    for step in range(12):
        world.step(targets, substeps=1)
        arrived = np.abs(world.torque[:, 0]) > 1.0
        first[arrived & np.isnan(first)] = step
    assert first.tolist() == [0, 2, 8]


def test_batch_is_a_loop_over_single_simulations() -> None:
    world = LeggedWorld(ROBOT, 2, boxes=0, threads=2)
    qpos = standing(2)
    qpos[1, 7:] += 0.1
    begin(world, qpos)
    rng = np.random.default_rng(0)
    actions = ROBOT.default_pose + 0.2 * rng.normal(size=(20, 2, 12))
    data = [mujoco.MjData(world.model) for _ in range(2)]
    for index, each in enumerate(data):
        each.qpos[:] = qpos[index]
        each.ctrl.reshape(12, 3)[:, 0] = ROBOT.default_pose
        mujoco.mj_forward(world.model, each)
    for targets in actions:
        world.step(targets)
        for index, each in enumerate(data):
            each.ctrl.reshape(12, 3)[:, 0] = targets[index]
            mujoco.mj_step(world.model, each, 4)
    assert np.array_equal(world.qpos, np.array([each.qpos for each in data]))


def test_too_many_boxes_are_refused() -> None:
    world = LeggedWorld(ROBOT, 1, boxes=1, threads=1)
    with pytest.raises(ValueError, match="2 boxes does not fit into 1"):
        world.set_terrain(np.array([0]), np.zeros((1, 2, 6)), np.zeros(1))


def test_a_fall_is_felt_by_the_body() -> None:
    world = LeggedWorld(ROBOT, 1, boxes=0, threads=1)
    qpos = standing(1)
    qpos[0, 2] = 0.3
    qpos[0, 3:7] = (0, 1, 0, 0)  # on its back
    begin(world, qpos)
    settle(world, 60)
    assert world.body_force[0, world.body_geoms.index("base")] > 20
    assert not world.foot_force.any()
