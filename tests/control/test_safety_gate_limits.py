"""The parts of the safety gate by themselves: clamping, tilt, and the robot's own watch over its commands."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.control.safety_gate.command_limits import Target, clamp, predicted_torque
from ros_attn.control.safety_gate.command_watch import CommandWatch
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.control.safety_gate.tilt import UpFilter, tilt_of
from ros_attn.geometry import quaternion_from_euler, quaternion_to_matrix
from ros_attn.values import Array, Imu, JointState

MS = 1_000_000
CONTRACT = JointContract(
    ("a", "b"),
    np.array([[-1.0, 1.0], [0.0, 2.0]]),
    np.array([10.0, 20.0]),
    np.array([20.0, 30.0]),
    np.array([50.0, 60.0]),
    np.array([1.0, 2.0]),
)
DT = 0.01


def target(
    position: list[float], velocity: tuple[float, float] = (0, 0), effort: tuple[float, float] = (0, 0)
) -> Target:
    return Target(np.array(position), np.array(velocity, float), np.array(effort, float))


def test_torque_is_that_of_the_plant() -> None:
    torque = predicted_torque(
        target([0.3, 1.2], (1.0, 0.0), (2.0, -3.0)), np.array([0.1, 1.0]), np.array([0.5, 2.0]), CONTRACT
    )
    assert torque == pytest.approx([50 * 0.2 + 0.5 + 2, 60 * 0.2 - 4 - 3])


@pytest.mark.parametrize("wanted, previous, position, velocity, given, said", [
    # Within every limit, and exactly on each.
    (target([0.1, 1.0]), (0.1, 1.0), (0, 1), (0, 0), (0.1, 1.0), ""),
    (target([0.1, 1.2]), (0.0, 1.0), (0, 1), (0, 0), (0.1, 1.2), ""),
    (target([0.4, 1.5]), (0.4, 1.5), (0, 1), (0, 0), (0.4, 1.5), ""),
    (target([1.0, 0.0]), (1.0, 0.0), (1, 0), (0, 0), (1.0, 0.0), ""),
    # Position.
    (target([1.1, 1.0]), (1.0, 1.0), (1, 1), (0, 0), (1.0, 1.0),
     "a position target 1.1 rad is beyond its limit of 1 rad"),
    (target([0.0, -0.2]), (0, 0), (0, 0), (0, 0), (0.0, 0.0),
     "b position target -0.2 rad is beyond its limit of 0 rad"),
    # Rate: 0.1 and 0.2 rad a tick.
    (target([0.3, 1.0]), (0, 1), (0, 1), (0, 0), (0.1, 1.0),
     "a change of position target 0.3 rad is beyond its limit of 0.1 rad"),
    (target([0.0, 0.5]), (0, 1), (0, 1), (0, 0), (0.0, 0.8),
     "b change of position target -0.5 rad is beyond its limit of -0.2 rad"),
    # Torque: 50 * 0.5 = 25 of 20 N m; 60 * -0.6 = -36 of 30 N m.
    (target([0.5, 1.0]), (0.5, 1), (0, 1), (0, 0), (0.4, 1.0),
     "a predicted torque 25 N m is beyond its limit of 20 N m"),
    (target([0.0, 0.4]), (0, 0.4), (0, 1), (0, 0), (0.0, 0.5),
     "b predicted torque -36 N m is beyond its limit of -30 N m"),
    # Torque from the joint's own speed: -(-12) * 1 + 50 * 0.2 = 22.
    (target([0.2, 1.0]), (0.2, 1), (0, 1), (-12, 0), (0.16, 1.0), "a predicted torque 22 N m"),
])  # fmt: skip
def test_position_targets_by_hand(
    wanted: Target, previous: Array, position: Array, velocity: Array, given: Array, said: str
) -> None:
    measured = np.array(position, float), np.array(velocity, float)
    clamped, exceeded = clamp(wanted, np.array(previous, float), *measured, DT, CONTRACT)
    assert clamped.position == pytest.approx(np.array(given), abs=1e-12)
    assert (exceeded is not None) == bool(said)
    assert exceeded is None or exceeded.sentence.startswith(said)


def test_velocity_and_feed_forward_are_clipped_to_the_joints_limits() -> None:
    still = np.array([0.0, 1.0])
    clamped, said = clamp(target([0, 1], (12.0, -25.0), (0, 0)), still, still, np.array([10.0, -20.0]), DT, CONTRACT)
    assert clamped.velocity.tolist() == [10.0, -20.0] and said is not None
    assert said.kind == "velocity target" and said.sentence.startswith("a velocity target 12 rad/s")
    clamped, said = clamp(target([0, 1], effort=(-21.0, 31.0)), still, still, np.zeros(2), DT, CONTRACT)
    assert clamped.effort.tolist() == [-20.0, 30.0] and said is not None
    assert said.kind == "feed-forward torque" and said.sentence.startswith("a feed-forward torque -21 N m")
    assert clamped.position == pytest.approx(still)


def test_clamped_commands_are_within_the_limits_that_can_be_met_and_the_nearest_there() -> None:
    rng = np.random.default_rng(3)
    low, high = CONTRACT.position_limits.T
    changed = torque_met = 0
    for _ in range(2000):
        position, velocity = rng.uniform(low, high), rng.uniform(-1, 1, 2) * CONTRACT.velocity_limits
        previous = np.clip(position + rng.normal(0, 0.2, 2), low, high)
        wanted = Target(position + rng.normal(0, 0.5, 2), rng.normal(0, 8, 2), rng.normal(0, 10, 2))
        clamped, said = clamp(wanted, previous, position, velocity, DT, CONTRACT)
        assert (low <= clamped.position).all() and (clamped.position <= high).all()
        damping = CONTRACT.kd * (clamped.velocity - velocity) + clamped.effort
        torque_low = position + (-CONTRACT.torque_limits - damping) / CONTRACT.kp
        torque_high = position + (CONTRACT.torque_limits - damping) / CONTRACT.kp
        feasible = np.maximum(torque_low, low) <= np.minimum(torque_high, high) + 1e-12
        torque = predicted_torque(clamped, position, velocity, CONTRACT)
        assert (np.abs(torque) <= CONTRACT.torque_limits + 1e-9)[feasible].all()
        reach = CONTRACT.velocity_limits * DT
        lowest = np.max([low, torque_low, previous - reach], axis=0)
        highest = np.min([high, torque_high, previous + reach], axis=0)
        together = lowest <= highest
        assert clamped.position[together] == pytest.approx(
            np.clip(wanted.position, lowest, highest)[together], abs=1e-9
        )
        same = np.allclose(clamped.position, wanted.position, atol=1e-6) and np.allclose(clamped.effort, wanted.effort)
        assert same or said
        changed += bool(said)
        torque_met += int(feasible.sum())
    assert 500 < changed < 2000 and torque_met > 3000


@pytest.mark.parametrize(
    "roll, pitch, yaw", [(0, 0, 0), (1.0, 0, 2.0), (0, -1.0, 1.0), (0.7, 0.8, -3.0), (3.0, 0.1, 0)]
)
def test_tilt_is_the_angle_between_the_bases_z_axis_and_up(roll: float, pitch: float, yaw: float) -> None:
    quaternion = quaternion_from_euler(roll, pitch, yaw)
    expected = np.arccos(quaternion_to_matrix(quaternion)[2, 2])
    assert tilt_of(quaternion) == pytest.approx(expected, abs=1e-7)
    assert tilt_of(-0.5 * quaternion) == pytest.approx(expected, abs=1e-7)


def test_up_follows_the_gyroscope_at_once_and_gravity_in_time() -> None:
    """A roll of 1.2 rad in 0.4 s under 3 m/s2 of sideways shaking, then at rest with a gyroscope that drifts."""
    rng = np.random.default_rng(1)
    up, roll, worst = UpFilter(), 0.0, 0.0
    for k in range(2000):
        rate = 3.0 if 100 <= k < 140 else 0.0
        roll += rate * 0.01
        force = 9.81 * np.array([0.0, np.sin(roll), np.cos(roll)]) + rng.normal(0, 3.0, 3) * (k > 0)
        gyroscope = np.array([rate + 0.02, 0.0, 0.0])
        tilt = up.tilt(Imu(k * 10 * MS, gyroscope, force))
        worst = max(worst, abs(tilt - roll))
    assert roll == pytest.approx(1.2) and worst < 0.15


def test_an_impact_says_nothing_of_up() -> None:
    up = UpFilter()
    up.tilt(Imu(0, np.zeros(3), np.array([0.0, 0.0, 9.81])))
    for k in range(1, 50):
        assert up.tilt(Imu(10 * k * MS, np.zeros(3), np.array([0.0, 80.0, 0.0]))) == 0.0
        # One that is no newer changes nothing.
        assert up.tilt(Imu((10 * k - 1500) * MS, np.ones(3), np.array([0.0, 9.81, 0.0]))) == 0.0


# -- the robot's own watch --------------------------------------------------------------------------------


def given(ms: float) -> JointState:
    return JointState(round(ms * MS), CONTRACT.joints, np.array([0.1, 1.0]), np.zeros(2), np.zeros(2))


def damps(watch: CommandWatch, ms: float) -> bool:
    found = watch.active(round(ms * MS))
    assert found.names == CONTRACT.joints and np.array_equal(found.velocity, np.zeros(2))
    return found.position.size == 0


def test_the_robot_damps_when_its_last_command_is_older_than_60_ms() -> None:
    watch = CommandWatch(CONTRACT)
    assert damps(watch, 0)
    watch.accept(given(100), 100 * MS)
    assert [damps(watch, ms) for ms in (100, 130, 160, 160.001, 1000)] == [False, False, False, True, True]
    watch.accept(given(1000), 1000 * MS)
    assert not damps(watch, 1010)


@pytest.mark.parametrize("stamp, arrival, now, expected", [
    (100, 150, 160, False), (100, 150, 161, True),  # late on its way: the stamp counts
    (150, 100, 160, False), (150, 100, 161, True),  # stamped ahead: the arrival counts
    (1000, 100, 101, True),  # stamped far ahead
    (1000, 1000, 995, True),  # the clock went back
])  # fmt: skip
def test_stamp_and_arrival_both_count(stamp: float, arrival: float, now: float, expected: bool) -> None:
    watch = CommandWatch(CONTRACT)
    watch.accept(given(stamp), round(arrival * MS))
    assert damps(watch, now) == expected
