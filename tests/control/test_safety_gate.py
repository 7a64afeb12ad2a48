"""The safety gate in the runtime: start, silence and wrong contents, each at its exact tick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros_attn.values import Flag, JointState
from tests.control.gate_bench import (
    JOINTS,
    POSE,
    WANTED,
    Bench,
    Publisher,
    changed,
    command,
    imu,
    ns,
    off,
    state,
)

# -- start ------------------------------------------------------------------------------------------------


def test_before_everything_has_come_the_gate_damps_and_says_what_it_waits_for(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    publishers, made.publishers = made.publishers, {}
    for k, name in enumerate(("joint_states", "imu", "command")):
        made.until(500 * k + 500)
        assert all(made.damps(ms) for ms in made.given) and made.gate.cause == ""
        assert set(made.said) == {"waiting"} and made.gate.health.figures["state"] == "waiting"
        topics = ["joint_states", "imu", "policy/joint_commands"]
        assert [topic in made.said["waiting"] for topic in topics] == [each >= k for each in range(3)]
        made.publishers[name] = publishers[name]
    made.until(1540)
    assert made.said == {} and made.gate.health.figures["state"] == "passing"
    assert [made.damps(ms) for ms in (1500, 1510, 1520, 1530)] == [True, True, False, False]
    assert len(made.given) == 155


def test_damping_is_no_position_and_velocity_zero_and_passed_commands_are_whole(bench: Bench) -> None:
    passed = bench.given[1000]
    assert np.array_equal(passed.position, WANTED) and passed.velocity.shape == passed.effort.shape == (3,)
    bench.push("emergency_stop", Flag(ns(1000), True))
    damped = bench.until(1010).given[1010]
    assert damped.position.shape == damped.effort.shape == (0,) and np.array_equal(damped.velocity, np.zeros(3))


def test_a_command_that_is_always_old_never_starts(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    made.publish("command", lambda ms: command(ms - 1000))
    made.until(2000)
    assert all(made.damps(ms) for ms in made.given) and made.gate.cause == ""
    assert "newest stamp is 1000 ms old, above 60 ms" in made.said["waiting"]


# -- silence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, topic, limit", [
    ("imu", "imu", 40), ("joint_states", "joint_states", 40), ("command", "policy/joint_commands", 60),
])  # fmt: skip
def test_silence_damps_at_the_first_tick_beyond_its_threshold(bench: Bench, name: str, topic: str, limit: int) -> None:
    bench.publish(name, lambda ms: None)
    bench.until(1200)
    assert bench.damped_since() == 1000 + limit + 10
    assert bench.said["damp"] == (
        f"Joints are damped until ~/reset: {topic} is silent, its newest stamp is {limit + 10} ms old, above "
        f"{limit} ms."
    )


@pytest.mark.parametrize("name, limit", [("imu", 40), ("joint_states", 40), ("command", 60)])
def test_silence_counts_from_the_stamp_to_the_nanosecond(bench: Bench, name: str, limit: int) -> None:
    message = bench.publishers[name][1]
    bench.publish(name, lambda ms: None)
    bench.until(1001)
    made = message(1000)
    assert made is not None
    bench.push(name, replace(made, stamp_ns=ns(1010) - 1))  # ahead of the clock, seen when its time has come
    bench.until(1200)
    assert bench.damped_since() == 1010 + limit


@pytest.mark.parametrize("name, delay, trips", [
    ("imu", 30, False), ("imu", 41, True), ("joint_states", 30, False), ("joint_states", 41, True),
    ("command", 40, False), ("command", 61, True),
])  # fmt: skip
def test_a_message_that_is_old_when_it_comes_is_silence(bench: Bench, name: str, delay: int, trips: bool) -> None:
    message = bench.publishers[name][1]
    bench.publish(name, lambda ms: message(ms - delay) if ms >= 1000 + delay else None)
    bench.until(2000)
    assert bool(bench.gate.cause) == trips


def test_a_command_stamped_in_the_future_is_not_passed_and_what_comes_late_is_silence(bench: Bench) -> None:
    bench.until(1001)
    bench.push("command", command(1500, POSE))
    bench.until(1700)
    assert bench.damped_since() == 1070
    assert not any(np.array_equal(each.position, POSE) for each in bench.given.values())


def test_an_older_command_that_comes_after_a_newer_one_changes_nothing(bench: Bench) -> None:
    bench.until(1001)
    bench.push("command", command(995, POSE))
    bench.until(1019)
    assert np.array_equal(bench.given[1010].position, WANTED)


# -- contents ---------------------------------------------------------------------------------------------


def swapped(message: JointState) -> JointState:
    return replace(message, names=(JOINTS[1], JOINTS[0], JOINTS[2]))


CONTENTS: dict[str, tuple[str, Publisher, str]] = {
    "imu gyro nan": ("imu", lambda ms: replace(imu(ms), angular_velocity=np.array([0, np.nan, 0])), "angular_velocity"),
    "imu force inf": ("imu", lambda ms: replace(imu(ms), linear_acceleration=np.array([np.inf, 0, 0])), "not finite"),
    "imu orientation nan": ("imu", lambda ms: replace(imu(ms), orientation=np.full(4, np.nan)), "orientation of imu"),
    "imu orientation 0": ("imu", lambda ms: replace(imu(ms), orientation=np.zeros(4)), "0 0 0 0"),
    "roll": ("imu", lambda ms: imu(ms, roll=np.deg2rad(60.5)), "leans by 60.5 degrees, above 60.0 degrees"),
    "pitch": ("imu", lambda ms: imu(ms, pitch=-np.deg2rad(60.5), yaw=2.0), "leans by 60.5 degrees, above 60.0"),
    "upside down": ("imu", lambda ms: imu(ms, roll=np.pi), "leans by 180.0 degrees"),
    "joint nan": ("joint_states", lambda ms: state(ms, changed(1, np.nan)), "position of FL_thigh_joint in joint"),
    "speed nan": ("joint_states", lambda ms: state(ms, POSE, changed(2, np.nan)), "velocity of FL_calf_joint"),
    "joint above": ("joint_states", lambda ms: state(ms, changed(1, 2.11)),
                    "FL_thigh_joint is at 2.11 rad, beyond its hard limit of 2.1 rad"),
    "joint below": ("joint_states", lambda ms: state(ms, changed(2, -2.81)), "FL_calf_joint is at -2.81 rad"),
    "joint order": ("joint_states", lambda ms: swapped(state(ms)), "names 'FL_thigh_joint' as joint 0, where"),
    "no velocity": ("joint_states", lambda ms: replace(state(ms), velocity=np.empty(0)), "0 numbers as velocity of 3"),
    "target nan": ("command", lambda ms: command(ms, changed(0, np.nan)), "position of FL_hip_joint in policy/joint"),
    "rate nan": ("command", lambda ms: replace(command(ms), velocity=np.full(3, np.nan)), "velocity of FL_hip_joint"),
    "effort inf": ("command", lambda ms: replace(command(ms), effort=changed(1, np.inf)), "effort of FL_thigh_joint"),
    "command order": ("command", lambda ms: swapped(command(ms)), "names 'FL_thigh_joint' as joint 0, where"),
    "other name": ("command", lambda ms: replace(command(ms), names=(*JOINTS[:2], "FL_knee")), "'FL_knee' as joint 2"),
    "no names": ("command", lambda ms: replace(command(ms), names=()), "names 0 joints, the contract 3"),
    "too many": ("command", lambda ms: replace(command(ms), names=(*JOINTS, "x")), "names 4 joints, the contract 3"),
    "short": ("command", lambda ms: replace(command(ms), position=WANTED[:2]), "has 2 numbers as position of 3 joints"),
    "speed alone": ("command", lambda ms: replace(command(ms), position=np.empty(0), velocity=np.ones(3)), "no com"),
    "nothing": ("command", lambda ms: replace(command(ms), position=np.empty(0), velocity=np.empty(0)), "0 numbers as"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
def test_wrong_contents_damp_at_the_next_tick(bench: Bench, case: str) -> None:
    name, publisher, sentence = CONTENTS[case]
    bench.until(1019)
    assert not bench.damps(1010)
    value = publisher(1019)
    assert value is not None
    bench.publish("joint_states", lambda ms: None if name == "joint_states" and ms == 1020 else state(ms))
    bench.publish("imu", lambda ms: None if name == "imu" and ms == 1020 else imu(ms))
    bench.publish("command", lambda ms: None if name == "command" and ms == 1020 else command(ms))
    bench.push(name, value)
    bench.until(1400)
    assert bench.damped_since() == 1020
    assert sentence in bench.gate.cause and bench.said["damp"].endswith(bench.gate.cause + ".")


@pytest.mark.parametrize("name, publisher", [
    ("imu", lambda ms: imu(ms, roll=np.deg2rad(59.5))),
    ("imu", lambda ms: imu(ms, pitch=np.deg2rad(59.5), yaw=np.pi)),
    ("imu", lambda ms: imu(ms, yaw=np.pi)),
    ("imu", lambda ms: replace(imu(ms), orientation=np.array([0, 0, 0, 0.5]))),
    ("joint_states", lambda ms: state(ms, changed(1, 2.1))),
    ("joint_states", lambda ms: state(ms, changed(2, -2.8))),
    ("joint_states", lambda ms: replace(state(ms), effort=np.empty(0))),
    ("command", lambda ms: replace(command(ms), velocity=np.empty(0), effort=np.empty(0))),
    ("command", lambda ms: replace(command(ms), names=list(JOINTS))),
])  # fmt: skip
def test_what_lies_within_the_thresholds_passes(bench: Bench, name: str, publisher: Publisher) -> None:
    bench.publish(name, publisher)
    bench.until(1300)
    assert bench.gate.cause == "" and not any(bench.damps(ms) for ms in range(1000, 1301, 10))


def test_a_policy_may_ask_for_damping_and_go_on(bench: Bench) -> None:
    bench.publish("command", lambda ms: bench.gate.contract.damping(ns(ms)))
    bench.until(1200)
    assert bench.damped_since() == 1020 and bench.gate.cause == "" and bench.said == {}
    bench.publish("joint_states", lambda ms: state(ms, off(POSE, -0.6, 0.0, 0.0)))
    bench.publish("command", command)
    bench.until(1220)
    # The joint sank meanwhile: the target comes from there, 0.3 rad a tick.
    assert bench.given[1220].position == pytest.approx([-0.3, 0.85, -1.75])
