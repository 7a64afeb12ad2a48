"""The bench of faults over DDS: what it calls good, of recordings made here, and what passes through its relay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco")

from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.values import Imu, JointState
from tests.bench.quadruped_faults import MS, cut_since, threshold
from tests.bench.quadruped_faults_judgement import (
    LATCHED,
    LIVE_FAULTS,
    SENTENCES,
    WATCHED,
    Instant,
    Late,
    Recording,
    Sighting,
    damps,
    judge,
    step_of,
    tilt,
)

AT = Instant(1000 * MS, 50_000 * MS)
CONTRACT = JointContract.of(GO2_LIKE.contract(), "the robot")
NEVER = 10**6
DAMPING = [name for name, fault in LIVE_FAULTS.items() if fault.damps]


def gate_says(name: str) -> str:
    return f"[ERROR] [1.0] [safety_gate]: {LATCHED} {SENTENCES[name]}, so and so."


def seen(command_ms: int, step_ms: int, delay_ms: float = 2.0, until_ms: int = 600, log: str = "") -> Recording:
    """Commands every 10 ms and steps every 5 ms from 60 ms before the threshold on; from when on each damps."""

    def sightings(every_ms: int, from_ms: int) -> list[Sighting]:
        return [
            Sighting(AT.ros_ns + ms * MS, AT.wall_ns + round((ms + delay_ms) * MS), ms >= from_ms)
            for ms in range(-60, until_ms, every_ms)
        ]

    steps = sightings(5, step_ms)
    speeds, tilts = np.full(len(steps), 3.0), np.full(len(steps), 0.1)
    return Recording(AT, sightings(10, command_ms), steps, speeds, tilts, [log] if log else [])


@pytest.mark.parametrize("name", [name for name in DAMPING if "gate killed" not in name])
def test_a_gate_that_damps_in_time_is_good(name: str) -> None:
    verdict = judge(name, LIVE_FAULTS[name], seen(10, 15, log=gate_says(name)))
    assert (verdict.wrong, verdict.stamp_ms, verdict.arrival_ms, verdict.step_ms) == ("", 10, 12, 15)
    assert verdict.said and verdict.end_speed == 3.0


@pytest.mark.parametrize("name", DAMPING)
def test_a_team_that_never_damps_fails(name: str) -> None:
    verdict = judge(name, LIVE_FAULTS[name], seen(NEVER, NEVER))
    assert verdict.wrong == "no joint command damped" and verdict.stamp_ms is None and not verdict.said


@pytest.mark.parametrize(
    "recording, sentence",
    [
        (seen(110, 115), "damped 110.0 ms after the threshold in ROS time"),
        (seen(10, 15, delay_ms=95.0), "damped 105.0 ms after the threshold in wall time"),
        (seen(-30, -25), "damped -30.0 ms after the threshold in ROS time"),
        (seen(10, NEVER), "the robot did not damp"),
        (seen(10, 15, until_ms=300), "less than 400 ms were seen"),
    ],
)
def test_what_is_late_early_or_not_heeded_fails(recording: Recording, sentence: str) -> None:
    assert sentence in judge("imu silent", LIVE_FAULTS["imu silent"], recording).wrong


def test_reactions_of_a_hundred_milliseconds_are_in_time_and_of_twenty_for_the_emergency_stop() -> None:
    assert not judge("imu silent", LIVE_FAULTS["imu silent"], seen(90, 95, delay_ms=10.0)).wrong
    assert not judge("emergency stop", LIVE_FAULTS["emergency stop"], seen(10, 15, delay_ms=10.0)).wrong
    assert judge("emergency stop", LIVE_FAULTS["emergency stop"], seen(20, 25)).wrong


def test_who_damps_and_moves_again_fails() -> None:
    fault, recording = LIVE_FAULTS["imu silent"], seen(10, 15)
    recording.commands[-1] = replace(recording.commands[-1], damping=False)
    assert judge("imu silent", fault, recording).wrong == "a command followed that does not damp"
    recording = seen(10, 15)
    recording.steps[-1] = replace(recording.steps[-1], damping=False)
    assert judge("imu silent", fault, recording).wrong == "the robot did not stay damped"


@pytest.mark.parametrize("name", ["gate killed", "policy and gate killed"])
def test_without_a_gate_the_robot_itself_is_looked_at(name: str) -> None:
    line = f"[WARN] [1.0] [robot]: {WATCHED} 1.000 s on: {SENTENCES[name]}."
    recording = seen(NEVER, 5, log=line)
    recording.commands = recording.commands[:1]
    verdict = judge(name, LIVE_FAULTS[name], recording)
    assert (verdict.wrong, verdict.stamp_ms, verdict.arrival_ms, verdict.said) == ("", 5, 7, True)
    recording.steps = [replace(each, damping=False) for each in recording.steps]
    assert judge(name, LIVE_FAULTS[name], recording).wrong


def test_rows_that_must_go_on() -> None:
    name = "beyond limits for 0.3 s"
    fault = LIVE_FAULTS[name]
    assert judge(name, fault, seen(NEVER, NEVER)).wrong == ""
    assert judge(name, fault, seen(500, NEVER)).wrong == "joints were damped"
    assert judge(name, fault, seen(NEVER, 500)).wrong == "joints were damped"
    fallen = seen(NEVER, NEVER)
    fallen.tilts[-1] = 1.1
    assert judge(name, fault, fallen).wrong == "the robot fell"
    assert judge(name, fault, Recording(AT)).wrong == "nothing was seen of the robot"
    walking = seen(NEVER, NEVER)
    assert judge("cmd_vel silent", LIVE_FAULTS["cmd_vel silent"], walking).wrong == "joints still move at 3.00 rad/s"
    walking.speeds[-100:] = 0.05
    assert judge("cmd_vel silent", LIVE_FAULTS["cmd_vel silent"], walking).wrong == ""


def test_the_log_must_say_why_and_once() -> None:
    name, fault = "imu silent", LIVE_FAULTS["imu silent"]

    def said(*log: str) -> bool:
        return judge(name, fault, replace(seen(10, 15), log=list(log))).said

    other = gate_says("tilt 70 degrees")
    assert said("something else", gate_says(name))
    assert not said() and not said(other)
    assert not said(gate_says(name), gate_says(name)) and not said(gate_says(name), other)


def test_damping_is_told_from_torques_and_from_commands() -> None:
    rng = np.random.default_rng(0)
    velocity, position = 40 * rng.standard_normal(12), rng.standard_normal(12)
    damped = np.clip(-CONTRACT.kd * velocity, -CONTRACT.torque_limits, CONTRACT.torque_limits)
    assert (np.abs(damped) == CONTRACT.torque_limits).any()
    state = JointState(AT.ros_ns, CONTRACT.joints, position, velocity, damped)
    assert step_of(state, 7, CONTRACT) == Sighting(AT.ros_ns - 5 * MS, 7, True)
    one = damped.copy()
    one[7] += 0.01
    assert not step_of(replace(state, effort=one), 7, CONTRACT).damping
    assert damps(CONTRACT.damping(0))
    assert not damps(replace(CONTRACT.damping(0), position=position))
    assert not damps(replace(CONTRACT.damping(0), velocity=velocity))
    assert not damps(replace(CONTRACT.damping(0), velocity=np.empty(0)))


def test_thresholds_count_from_the_last_good_or_the_first_bad_message() -> None:
    good, bad, cut = 100 * MS, 105 * MS, 80 * MS
    found = {name: threshold(fault, good, bad, cut) // MS for name, fault in LIVE_FAULTS.items()}
    assert (found["imu silent"], found["gate killed"]) == (140, 160)
    assert (found["imu not finite"], found["policy's command beyond limits"]) == (105, 580)


def test_a_cut_counts_from_the_first_command_that_is_cut_without_a_break() -> None:
    rng = np.random.default_rng(0)
    asked = [
        JointState(k * 20 * MS, CONTRACT.joints, rng.standard_normal(12), np.empty(0), np.empty(0)) for k in range(20)
    ]

    def passed(cut_ms: set[int], until_ms: int = 400) -> list[JointState]:
        found = []
        for ms in range(20, until_ms, 10):
            position = asked[(ms - 10) // 20].position + (0.01 if ms in cut_ms else 1e-7)
            found.append(JointState(ms * MS, CONTRACT.joints, position, np.zeros(12), np.zeros(12)))
        return found

    assert cut_since(asked, passed(set())) == 0
    assert cut_since(asked, passed({100, 110})) == 0
    assert cut_since(asked, passed({100, *range(200, 400, 10)})) == 200 * MS
    damped = [*passed({100, *range(200, 300, 10)}, 300), CONTRACT.damping(300 * MS), *passed(set())[-5:]]
    assert cut_since(asked, damped) == 200 * MS
    pushed = [replace(each, effort=np.full(12, 0.1)) for each in passed(set())]
    assert cut_since(asked, pushed) == 20 * MS


def test_late_messages_and_tilt() -> None:
    half = np.deg2rad(70.0) / 2
    turned = np.array([np.sin(half), 0.0, 0.0, np.cos(half)])
    readings = [Imu(k * 5 * MS, np.zeros(3), np.zeros(3), turned) for k in range(20)]
    assert np.rad2deg(tilt(readings[0])) == pytest.approx(70.0)
    late = Late(60)
    for _ in range(2):  # nothing of the fault before comes with the next one
        came = [late(each, each.stamp_ns) for each in readings]
        assert came == [None] * 12 + readings[:8]


def test_the_relay_reads_stamps_and_writes_what_it_read() -> None:
    pytest.importorskip("rclpy")
    from tests.bench.quadruped_faults_relay import bytes_of, stamp_of, value_of

    sent = CONTRACT.damping(12_345_000_000)
    assert stamp_of(bytes_of(sent)) == 12_345_000_000
    got = value_of(bytes_of(sent), JointState)
    assert isinstance(got, JointState) and damps(got) and got.names == CONTRACT.joints
