"""The simulated robot: what its sensors say, how it follows commands, and when it damps instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ros_attn.control.locomotion import gravity_in_base
from ros_attn.geometry import quaternion_from_euler, xyzw_to_wxyz
from ros_attn.hosts.sim_robot import SimulatedRobot
from ros_attn.sim.depth_camera import DepthCamera
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.randomisation import WALKING
from ros_attn.sim.robot import Robot
from ros_attn.sim.terrain import Terrain
from ros_attn.values import Array, CameraInfo, Image, Imu, JointState, Value, field_bytes

MS = 1_000_000
POSE = ROBOT.default_pose
NONE = np.empty(0)
CAMERA = DepthCamera(ROBOT.camera, ROBOT.camera_pitch)


def command(
    robot: SimulatedRobot, position: Array = POSE, velocity: Array = NONE, effort: Array = NONE, age_ms: float = 0.0
) -> JointState:
    return JointState(robot.now_ns - round(age_ms * MS), ROBOT.joints, position, velocity, effort)


def damp(robot: SimulatedRobot) -> JointState:
    return command(robot, NONE, np.zeros(12))


Told = Callable[[SimulatedRobot], JointState | None]


def go(robot: SimulatedRobot, ms: int, told: Told = command) -> list[dict[str, Value]]:
    """What was sensed in steps of 5 ms, under a command a step."""
    sensed = []
    for _ in range(ms // 5):
        sensed.append(robot.sense())
        if (given := told(robot)) is not None:
            robot.command(given)
        robot.advance()
    return sensed


def joints(sensed: dict[str, Value]) -> JointState:
    found = sensed["joint_states"]
    assert isinstance(found, JointState) and found.names == ROBOT.joints
    return found


def imu(sensed: dict[str, Value]) -> Imu:
    found = sensed["imu"]
    assert isinstance(found, Imu) and found.orientation is not None
    return found


def gravity(sensed: dict[str, Value]) -> Array:
    """What the IMU's orientation takes for down, in the base."""
    orientation = imu(sensed).orientation
    assert orientation is not None
    return gravity_in_base(orientation)


def start(height: float, orientation: Array | None = None) -> Array:
    quaternion = np.array([0.0, 0.0, 0.0, 1.0]) if orientation is None else orientation
    return np.concatenate([(0, 0, height), xyzw_to_wxyz(quaternion), POSE])


def torque(
    state: JointState, position: Array, velocity: Array | float = 0.0, effort: Array | float = 0.0, of: Robot = ROBOT
) -> Array:
    wanted = of.kp * (position - state.position) + of.kd * (velocity - state.velocity) + effort
    return np.clip(wanted, -ROBOT.torque_limits, ROBOT.torque_limits)


# -- sensors --------------------------------------------------------------------------------------------


def test_a_standing_robot_feels_gravity_and_sees_its_joints() -> None:
    robot = SimulatedRobot(ROBOT)
    last = go(robot, 2000)[-1]
    # It stands with its head 4 degrees up, as the rear legs yield more.
    assert imu(last).linear_acceleration == pytest.approx(-9.81 * gravity(last), abs=0.02)
    assert gravity(last) == pytest.approx([-0.065, 0, -1], abs=0.01)
    assert imu(last).angular_velocity == pytest.approx(np.zeros(3), abs=0.02)
    assert joints(last).effort == pytest.approx(torque(joints(last), POSE), abs=1e-9)
    assert imu(last).stamp_ns == joints(last).stamp_ns == 1995 * MS and robot.now_ns == 2000 * MS
    assert (imu(last).frame_id, joints(last).frame_id) == ("imu_link", "base_link")
    state = robot.state()
    assert state.damping == "" and state.truth.position[2] == pytest.approx(0.247, abs=0.01)
    assert state.foot_force.sum() == pytest.approx(15.017 * 9.81, rel=0.02) and not state.body_force.any()


def test_a_level_robot_feels_9_81_upwards() -> None:
    robot = SimulatedRobot(ROBOT)
    longer = POSE + np.array([0] * 6 + [0, -1, 2] * 2) * 0.04
    last = go(robot, 4000, lambda robot: command(robot, longer))[-1]
    assert imu(last).linear_acceleration == pytest.approx([0, 0, 9.81], abs=0.05)
    assert gravity(last) == pytest.approx([0, 0, -1], abs=0.005)


def test_a_falling_robot_feels_nothing_and_knows_its_attitude() -> None:
    robot = SimulatedRobot(ROBOT)
    orientation = quaternion_from_euler(0.3, -0.2, 2.0)
    robot.reset(start(1.0, orientation))
    robot.sense()
    robot.advance()
    found = imu(robot.sense())
    assert found.linear_acceleration == pytest.approx(np.zeros(3), abs=1e-6)
    assert found.orientation == pytest.approx(orientation, abs=1e-9)
    assert robot.state().truth.orientation == pytest.approx(orientation, abs=1e-9)


def test_values_belong_to_their_stamp() -> None:
    robot = SimulatedRobot(ROBOT)
    qvel = np.concatenate([(0.5, 0.1, 0.0), (0.4, -0.3, 0.8), np.full(12, 0.2)])
    robot.reset(start(1.0, quaternion_from_euler(0.0, 0.0, np.pi / 2)), qvel)
    for ms in range(0, 55, 5):
        sensed, world, truth = robot.sense(), robot.world, robot.state().truth
        assert imu(sensed).stamp_ns == joints(sensed).stamp_ns == truth.stamp_ns == robot.now_ns == ms * MS
        assert np.array_equal(imu(sensed).angular_velocity, world.qvel[0, 3:6])
        assert np.array_equal(joints(sensed).position, world.joint_position[0])
        assert np.array_equal(joints(sensed).velocity, world.joint_velocity[0])
        assert np.array_equal(truth.angular, world.qvel[0, 3:6])
        robot.advance()
    # Nothing that was handed out changes with the next step.
    sensed, state = robot.sense(), robot.state()
    before = field_bytes((sensed, state))
    robot.advance()
    assert field_bytes((sensed, state)) == before


def test_truth_has_velocities_in_the_base() -> None:
    robot = SimulatedRobot(ROBOT)
    robot.reset(start(1.0, quaternion_from_euler(0.0, 0.0, np.pi / 2)), np.array([0.5, 0.1, *np.zeros(16)]))
    assert robot.state().truth.linear == pytest.approx([0.1, -0.5, 0.0], abs=1e-12)


# -- commands -------------------------------------------------------------------------------------------


def test_commands_are_pd_targets() -> None:
    damped = replace(ROBOT, kd=np.linspace(1.5, 2.0, 12))
    robot = SimulatedRobot(damped)
    robot.reset(start(1.0))
    rng = np.random.default_rng(0)
    position, velocity, effort = POSE + 0.1 * rng.normal(size=12), rng.normal(size=12), 2 * rng.normal(size=12)
    state = joints(go(robot, 20, lambda robot: command(robot, position, velocity, effort))[-1])
    assert state.effort == pytest.approx(torque(state, position, velocity, effort, of=damped), abs=1e-9)
    state = joints(go(robot, 20, lambda robot: command(robot, position))[-1])
    assert state.effort == pytest.approx(torque(state, position, of=damped), abs=1e-9)


def test_damping_is_viscous_and_the_robot_sinks() -> None:
    robot = SimulatedRobot(ROBOT)
    go(robot, 1000)
    sunk = [joints(sensed) for sensed in go(robot, 1000, damp)][1:]
    assert robot.state().damping == "the command asks for it"
    for state in sunk:
        assert state.effort == pytest.approx(-ROBOT.kd * state.velocity, abs=1e-9)
    assert max(np.abs(state.velocity).max() for state in sunk) > 1.0
    assert robot.state().truth.position[2] < 0.12
    back = joints(go(robot, 20)[-1])
    assert back.effort == pytest.approx(torque(back, POSE), abs=1e-9)
    assert not robot.refused


def test_without_a_command_the_robot_damps_from_the_start() -> None:
    robot = SimulatedRobot(ROBOT)
    sensed = go(robot, 500, lambda robot: None)
    assert robot.state().damping == "no command has come"
    state = joints(sensed[-1])
    assert state.effort == pytest.approx(-ROBOT.kd * state.velocity, abs=1e-9)
    assert robot.state().truth.position[2] < 0.2


def test_a_delayed_motor_leaves_damping_without_a_jump() -> None:
    robot = SimulatedRobot(ROBOT, randomisation="command delay =U(0.03, 0.03)")
    go(robot, 500)
    go(robot, 500, damp)
    held = robot.world.joint_position[0]
    for sensed in go(robot, 60, lambda robot: command(robot, held))[1:]:
        assert np.abs(joints(sensed).effort).max() < 3.0


@pytest.mark.parametrize("age_ms", [0, 20])
def test_a_command_older_than_60_ms_damps(age_ms: int) -> None:
    robot = SimulatedRobot(ROBOT)
    go(robot, 500)
    # At 500 ms the last one: stamped 500 - age, it counts until its stamp is 60 ms old.
    once = [command(robot, age_ms=age_ms)]
    followed = []
    for _ in range(20):
        go(robot, 5, lambda robot: once.pop() if once else None)
        followed.append(robot.state().damping)
    counts = (60 - age_ms) // 5 + 1
    assert followed == [""] * counts + ["the last command is older than 60 ms"] * (20 - counts)
    go(robot, 5)
    assert robot.state().damping == ""


@pytest.mark.parametrize("change, reason", [
    (lambda each: JointState(each.stamp_ns, ROBOT.joints[::-1], each.position, NONE, NONE), "another order"),
    (lambda each: JointState(each.stamp_ns, tuple("abcdefghijkl"), each.position, NONE, NONE), "joints other than"),
    (lambda each: JointState(each.stamp_ns, ROBOT.joints, each.position[:3], NONE, NONE), "one number for each joint"),
    (lambda each: JointState(each.stamp_ns, ROBOT.joints, each.position, NONE, np.ones(4)), "one number for each"),
    (lambda each: JointState(each.stamp_ns, ROBOT.joints, each.position * np.nan, NONE, NONE), "not finite"),
    (lambda each: JointState(each.stamp_ns, ROBOT.joints, each.position, np.full(12, np.inf), NONE), "not finite"),
    (lambda each: JointState(each.stamp_ns, ROBOT.joints, NONE, np.ones(12), NONE), "velocities without positions"),
    (lambda each: JointState(each.stamp_ns, ROBOT.joints, NONE, NONE, np.ones(12)), "neither positions nor"),
])  # fmt: skip
def test_what_cannot_be_followed_damps_and_is_counted(change: Callable[[JointState], JointState], reason: str) -> None:
    robot = SimulatedRobot(ROBOT)
    go(robot, 100)
    go(robot, 15, lambda robot: change(command(robot)))
    [(counted, number)] = robot.refused.items()
    assert reason in counted and number == 3
    assert robot.state().damping == f"a command was refused: {counted}"
    state = joints(robot.sense())
    assert state.effort == pytest.approx(-ROBOT.kd * state.velocity, abs=1e-9)
    robot.command(command(robot))
    robot.advance()
    assert robot.state().damping == ""


# -- depth ----------------------------------------------------------------------------------------------


def test_depth_images_are_stamped_when_taken_and_arrive_late() -> None:
    robot = SimulatedRobot(ROBOT, camera=CAMERA, depth_latency_s=(0.033, 0.033))
    sensed = go(robot, 300)
    arrivals = {
        imu(each).stamp_ns // MS: image for each in sensed if isinstance(image := each.get("depth/image"), Image)
    }
    assert [(ms, image.stamp_ns / MS) for ms, image in arrivals.items()] == [(35, 0), (135, 100), (235, 200)]
    described = [each["depth/camera_info"] for each in sensed if "depth/camera_info" in each]
    assert len(described) == 1 and "depth/camera_info" in sensed[0]
    [info] = described
    image = arrivals[35]
    assert isinstance(info, CameraInfo) and info.calibrated and info.frame_id == image.frame_id
    assert image.encoding == "32FC1" and image.data.shape == (info.height, info.width) == (48, 64)
    # Level ground as it was seen at 0 ms, before the robot dropped: z = h / (sin p + y cos p).
    height = ROBOT.stand_height + 0.01 + ROBOT.camera[2]
    y = (np.arange(48) - info.k[1, 2]) / info.k[1, 1]
    depth = height / np.maximum(np.sin(ROBOT.camera_pitch) + y * np.cos(ROBOT.camera_pitch), 1e-3)
    assert image.data == pytest.approx(np.tile(np.clip(depth, 0.1, 2.0)[:, None], 64), abs=1e-4)
    assert np.abs(arrivals[235].data - image.data).max() > 5e-3


def test_depth_has_the_errors_that_are_asked_for() -> None:
    def image(scale: float) -> Array:
        robot = SimulatedRobot(ROBOT, camera=CAMERA, depth_latency_s=(0.0, 0.0), depth_noise=scale)
        found = robot.sense()["depth/image"]
        assert isinstance(found, Image)
        return found.data

    exact, noisy = image(0.0), image(2.0)
    assert (exact > 0).all() and 0.005 < (noisy == 0).mean() < 0.4
    assert 5e-4 < np.median(np.abs(noisy - exact)[(noisy > 0) & (exact < 1.0)]) < 0.02


def test_terrain_is_under_the_robot() -> None:
    block = np.array([[1.0, 0.0, 0.1, 0.5, 2.0, 0.1]])
    robot = SimulatedRobot(ROBOT, Terrain("block", block, 0.0, np.array([[5.0, 0, 0]]), np.empty((0, 6))))
    distance, _ = robot.world.batch.ray(np.array([[1.0, 0.0, 3.0], [2.0, 0.0, 3.0]]), np.array([0.0, 0.0, -1.0]))
    assert distance[0] == pytest.approx([2.8, 3.0])
    assert robot.state().truth.position == pytest.approx([0, 0, ROBOT.stand_height + 0.01])


# -- what differs from robot to robot -------------------------------------------------------------------


def test_noise_is_that_of_the_sensors() -> None:
    def sampled(noise: bool) -> list[Array]:
        robot = SimulatedRobot(ROBOT, noise=noise)
        go(robot, 1000)
        sensed = go(robot, 4000)
        units, encoders = [imu(each) for each in sensed], [joints(each) for each in sensed]
        return [
            np.array([unit.angular_velocity for unit in units]), np.array([unit.linear_acceleration for unit in units]),
            np.array([gravity(each)[:2] for each in sensed]), np.array([each.position for each in encoders]),
            np.array([each.velocity for each in encoders]),
        ]  # fmt: skip

    # The same robot under the same commands: what differs is noise alone.
    errors = [noisy - exact for exact, noisy in zip(sampled(False), sampled(True), strict=True)]
    gyro, force, tilt, position, velocity = (values.std(axis=0) for values in errors)
    assert gyro == pytest.approx(np.full(3, np.deg2rad(0.014) * np.sqrt(116)), rel=0.1)
    assert force == pytest.approx(np.full(3, 150e-6 * 9.80665 * np.sqrt(116)), rel=0.1)
    assert tilt == pytest.approx(np.full(2, np.deg2rad(0.2)), rel=0.1)
    assert position == pytest.approx(np.full(12, 0.01), rel=0.1)
    assert velocity == pytest.approx(np.full(12, 0.5), rel=0.1)
    bias = [np.abs(values.mean(axis=0)).max() for values in errors[:3]]
    assert 1e-4 < bias[0] < 0.02 and 1e-2 < bias[1] < 0.8 and 1e-3 < bias[2] < 0.03


def test_the_same_seed_is_the_same_robot() -> None:
    def run(seed: int, noise: bool = False) -> tuple[str, Array]:
        camera = CAMERA if noise else None
        robot = SimulatedRobot(ROBOT, None, seed, WALKING, noise, camera, depth_noise=float(noise))
        sensed = field_bytes((go(robot, 200), robot.state()))
        robot.reset()
        return sensed, robot.world.batch.expand("actuator_biasprm").copy()

    assert run(3)[0] == run(3)[0] != run(4)[0]
    with_noise = run(3, noise=True)
    assert with_noise[0] == run(3, noise=True)[0] != run(3)[0]
    assert np.array_equal(with_noise[1], run(3)[1]) and not np.array_equal(run(4)[1], run(3)[1])


def test_drawn_robots_keep_their_gains_through_damping_and_get_new_ones_at_a_reset() -> None:
    robot = SimulatedRobot(ROBOT, randomisation="motor strength *U(0.8, 0.9)\nencoder offset =U(0.02, 0.02)")
    gains = robot.world.batch.expand("actuator_biasprm")
    first = gains[0, :, 1].copy()
    assert ((-first / ROBOT.kp > 0.8) & (-first / ROBOT.kp < 0.9)).all()
    go(robot, 20, damp)
    assert not gains[0, :, 1].any() and np.array_equal(gains[0, :, 2], -ROBOT.kd)
    state = joints(go(robot, 20)[-1])
    assert np.array_equal(gains[0, :, 1], first)
    assert state.effort == pytest.approx(-first * (POSE + 0.02 - state.position) - state.velocity, abs=1e-9)
    go(robot, 20, damp)
    robot.reset()
    go(robot, 5)
    assert ((-gains[0, :, 1] / ROBOT.kp > 0.8) & (-gains[0, :, 1] / ROBOT.kp < 0.9)).all()
    assert not np.array_equal(gains[0, :, 1], first)


def test_pushes_come_every_eight_seconds() -> None:
    robot = SimulatedRobot(ROBOT, randomisation="push =U(0.5, 0.5)")
    go(robot, 7995)
    assert np.linalg.norm(robot.world.qvel[0, :2]) < 0.01
    go(robot, 5)
    assert np.linalg.norm(robot.world.qvel[0, :2]) == pytest.approx(0.5, abs=0.01)


def test_a_new_episode_begins_on_the_grid_and_forgets_commands() -> None:
    robot = SimulatedRobot(ROBOT, camera=CAMERA, depth_latency_s=(0.08, 0.08))
    go(robot, 275)
    robot.reset()
    assert robot.now_ns == 300 * MS and np.array_equal(robot.world.joint_position[0], POSE)
    assert robot.state().truth.position == pytest.approx([0, 0, ROBOT.stand_height + 0.01])
    sensed = go(robot, 5, lambda robot: None)
    assert robot.state().damping == "no command has come"
    sensed += go(robot, 95, lambda robot: None)
    images = [image for each in sensed if isinstance(image := each.get("depth/image"), Image)]
    assert [image.stamp_ns // MS for image in images] == [300]
