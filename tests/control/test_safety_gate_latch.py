"""The safety gate in the runtime: emergency stop, latch and reset, clamping, clocks, and no false trips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros_attn import registry
from ros_attn.control.safety_gate.component import SafetyGate
from ros_attn.values import Flag, Imu
from tests.control.gate_bench import (
    MS,
    POSE,
    ROBOT,
    WANTED,
    Bench,
    changed,
    command,
    imu,
    ns,
    off,
    state,
)

# -- emergency stop, latch, reset -------------------------------------------------------------------------


def test_emergency_stop_damps_within_20_ms_and_stays(bench: Bench) -> None:
    bench.until(1001)
    bench.push("emergency_stop", Flag(ns(1001), True))
    bench.until(1100)
    bench.push("emergency_stop", Flag(ns(1100), False))
    bench.until(2000)
    assert bench.damped_since() == 1010
    assert bench.said == {"damp": "Joints are damped until ~/reset: the emergency stop is pressed."}
    bench.reset()
    assert not bench.until(2100).damps(2100)


def test_a_pressed_emergency_stop_outlives_every_reset(bench: Bench) -> None:
    bench.push("emergency_stop", Flag(ns(1000), True))
    bench.until(1100)
    for k in range(3):
        bench.reset()
        bench.until(1200 + 100 * k)
    assert bench.damped_since() == 1010 and "emergency stop" in bench.gate.cause


def test_no_press_and_no_release_is_lost_to_a_reset_right_after_it(bench: Bench) -> None:
    """No tick lies between message and reset."""
    bench.push("emergency_stop", Flag(ns(1000), True))
    bench.reset()
    bench.until(1100)
    assert bench.damps(1100) and "emergency stop" in bench.gate.cause
    bench.push("emergency_stop", Flag(ns(1100), False))
    bench.reset()
    assert not bench.until(1200).damps(1200)


def test_a_press_right_before_the_clock_goes_back_is_not_lost(bench: Bench) -> None:
    bench.push("emergency_stop", Flag(ns(1000), True))
    bench.ms = -1
    bench.until(100)
    assert bench.damps(100) and "emergency stop" in bench.gate.cause


def test_emergency_stop_is_latched_while_waiting_too(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    publishers, made.publishers = made.publishers, {}
    made.until(5)
    made.push("emergency_stop", Flag(ns(5), True))
    made.until(50)
    made.push("emergency_stop", Flag(ns(50), False))
    made.publishers = publishers
    made.until(1000)
    assert all(made.damps(ms) for ms in made.given) and "emergency stop" in made.said["damp"]


@pytest.mark.parametrize("name", ["imu", "joint_states", "command"])
def test_only_reset_leaves_damp(bench: Bench, name: str) -> None:
    healthy = bench.publishers[name][1]
    bench.publish(name, lambda ms: None)
    bench.until(1200)
    bench.publish(name, healthy)
    bench.until(3000)
    assert bench.damped_since() < 1100
    bench.reset()
    bench.until(3100)
    assert bench.said == {} and [bench.damps(ms) for ms in (3010, 3020, 3030)] == [True, False, False]
    assert bench.gate.health.figures["state"] == "passing"


def test_reset_with_the_fault_still_there_latches_again(bench: Bench) -> None:
    bench.publish("imu", lambda ms: imu(ms, roll=1.2))
    bench.until(1200)
    bench.reset()
    assert bench.gate.cause == "" and "damp" not in bench.said
    bench.until(1300)
    assert bench.damped_since() == 1010 and "leans by 68.8 degrees" in bench.said["damp"]


def test_the_first_cause_is_kept_and_later_ones_are_counted(bench: Bench) -> None:
    bench.publish("imu", lambda ms: None)
    bench.until(1200)
    first = bench.said["damp"]
    assert bench.gate.health.figures["later_faults"] == 0
    bench.publish("command", lambda ms: command(ms, changed(0, np.nan)))
    bench.publish("joint_states", lambda ms: state(ms, changed(0, 3.0)))
    bench.until(1400)
    bench.push("emergency_stop", Flag(ns(1400), True))
    bench.until(1500)
    assert bench.said["damp"] == first and "imu is silent, its newest stamp is 50 ms old" in first
    assert bench.gate.health.figures["later_faults"] == 3
    bench.reset()
    bench.until(1510)
    assert "emergency stop" in bench.said["damp"] and bench.gate.health.figures["later_faults"] == 0


# -- limits -----------------------------------------------------------------------------------------------


def test_rate_of_a_target_counts_from_the_last_one_published(bench: Bench) -> None:
    bench.publish("command", lambda ms: command(ms, off(WANTED, 0.55, 0.3, -0.3)))
    bench.until(1060)
    # 30, 20 and 10 rad/s over the 20 ms between two commands are 0.6, 0.4 and 0.2 rad, however often the gate ticks.
    assert [bench.given[ms].position.tolist() for ms in (1010, 1020, 1030, 1040)] == [
        pytest.approx(WANTED), pytest.approx(off(WANTED, 0.55, 0.3, -0.2)),
        pytest.approx(off(WANTED, 0.55, 0.3, -0.2)), pytest.approx(off(WANTED, 0.55, 0.3, -0.3)),
    ]  # fmt: skip
    assert bench.said["clamp"] == (
        "policy/joint_commands is clamped: FL_calf_joint change of position target -0.3 rad is beyond its limit of "
        "-0.2 rad."
    )
    assert bench.gate.health.level == 1 and bench.gate.cause == ""
    bench.until(2030)
    assert "clamp" in bench.said
    assert "clamp" not in bench.until(2040).said


def test_each_kind_of_clamp_is_told_once_while_clamps_go_on(bench: Bench) -> None:
    """A jump of the calf's target every 100 ms, from 1200 ms on of the hip's beyond its own limit, too."""
    told: list[str] = []
    for begin in range(1000, 1600, 100):
        bench.publish("command", lambda ms: command(ms, off(WANTED, 0.0, 0.0, -0.3)))
        bench.until(begin + 60)
        far = 9.0 if begin >= 1200 else 0.0
        bench.publish("command", lambda ms, far=far: command(ms, off(WANTED, far, 0.0, 0.0)))
        bench.until(begin + 80)
        bench.publish("command", command)
        bench.until(begin + 99)
        told.append(bench.said["clamp"])
    assert "FL_calf_joint change of position target" in told[0] and told[0] == told[1]
    assert "FL_hip_joint position target" in told[2] and set(told[2:]) == {told[2]}


def test_after_damping_the_rate_counts_from_the_measured_pose(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    made.publish("joint_states", lambda ms: state(ms, off(POSE, -0.5, 0.0, 0.0)))
    made.publish("command", lambda ms: command(ms, off(POSE, 0.05, 0.0, 0.0)))
    made.until(20)
    assert [made.given[ms].position[0] for ms in (0, 10, 20)] == [pytest.approx(x) for x in (-0.2, -0.2, 0.05)]


def test_rate_of_a_target_is_bounded_after_a_pause_and_for_fast_policies(bench: Bench) -> None:
    """Commands 60 ms apart at most count as that; each of a policy at 100 Hz has the 10 ms since the last one."""
    bench.publish("command", lambda ms: command(ms, WANTED) if ms % 20 == 0 and ms < 1040 else None)
    bench.until(1070)
    bench.publish("command", lambda ms: command(ms, off(WANTED, 0.0, 0.0, -0.62)))
    bench.publishers["command"] = (10, bench.publishers["command"][1])
    bench.until(1100)
    assert [bench.given[ms].position[2] - WANTED[2] for ms in (1070, 1080, 1090, 1100)] == [
        pytest.approx(x) for x in (0.0, -0.6, -0.62, -0.62)
    ]  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_torque_is_predicted_with_the_gains_of_the_contract(bench: Bench, sign: int) -> None:
    bench.publish("joint_states", lambda ms: state(ms, POSE, np.array([-sign * 10.0, 0.0, 0.0])))
    effort = np.array([sign * 8.0, 0.0, 0.0])
    bench.publish("command", lambda ms: replace(command(ms, off(POSE, sign * 0.25, 0, 0)), effort=effort))
    bench.until(1020)
    # 40 * 0.25 + 1 * 10 + 8 = 28 N m; 24 are allowed, so the target gives way by 4 / 40 rad.
    assert bench.given[1020].position == pytest.approx(off(POSE, sign * 0.15, 0, 0))
    assert bench.given[1020].effort == pytest.approx(effort)
    assert "FL_hip_joint predicted torque" in bench.said["clamp"]


def test_position_targets_are_clamped_to_the_limits_of_the_contract(bench: Bench) -> None:
    bench.publish("joint_states", lambda ms: state(ms, np.array([1.1, 0.9, -2.6])))
    bench.publish("command", lambda ms: command(ms, np.array([1.3, 0.9, -2.9])))
    bench.until(1200)
    assert bench.given[1200].position == pytest.approx([1.2, 0.9, -2.7], abs=1e-12)
    assert "FL_hip_joint" in bench.said["clamp"]


def test_clamping_for_longer_than_half_a_second_damps(bench: Bench) -> None:
    bench.publish("command", lambda ms: command(ms, changed(0, 1.3)))
    bench.publish("joint_states", lambda ms: state(ms, changed(0, 1.1)))
    bench.until(1700)
    # Clamped first at 1010, where the last command still pulls at a joint that is elsewhere; for 500 ms at 1510.
    assert bench.damped_since() == 1520
    assert bench.gate.cause.startswith(
        "policy/joint_commands was beyond its limits for 510 ms, above 500 ms: FL_hip_joi"
    )
    assert "position target 1.3 rad is beyond its limit of 1.2 rad" in bench.gate.cause


def test_half_a_second_of_clamping_begins_anew_after_a_command_within_limits(bench: Bench) -> None:
    bench.publish("joint_states", lambda ms: state(ms, changed(0, 1.1)))
    bench.publish("command", lambda ms: command(ms, changed(0, 1.1 if ms % 500 == 0 else 1.3)))
    bench.until(4000)
    assert bench.gate.cause == "" and "clamp" in bench.said


def test_a_policy_that_clips_in_single_precision_at_the_limits_is_not_warned_of(bench: Bench) -> None:
    for k in (0, 1):
        limits = np.array(ROBOT["position_limits"])[:, k]
        clipped = limits.astype(np.float32).astype(np.float64)
        assert not np.array_equal(clipped, limits)
        bench.publish("joint_states", lambda ms, at=limits: state(ms, at))
        bench.reset()
        bench.publish("command", lambda ms, at=clipped: command(ms, at))
        bench.until(bench.ms + 1000)
        given = bench.given[max(bench.given)].position
        low, high = np.array(ROBOT["position_limits"]).T
        assert bench.said == {} and (low <= given).all() and (given <= high).all()


# -- clock ------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_waits_again_and_latches_nothing(bench: Bench) -> None:
    bench.until(6000)
    bench.ms = 99
    bench.given.clear()
    bench.until(400)
    assert bench.damps(100) or np.array_equal(bench.given[100].position, WANTED)
    assert bench.said == {} and not bench.damps(130) and bench.runtime.counters.resets == 1


def test_a_clock_that_goes_back_ends_no_latched_fault(bench: Bench) -> None:
    bench.push("emergency_stop", Flag(ns(1000), True))
    bench.until(1100)
    bench.push("emergency_stop", Flag(ns(1100), False))
    bench.until(6000)
    said = bench.said
    bench.ms = 99
    bench.given.clear()
    bench.until(500)
    assert bench.said == said and all(bench.damps(ms) for ms in bench.given)
    bench.reset()
    assert not bench.until(600).damps(600)


def test_a_reset_asked_for_while_the_clock_restarts_is_a_reset(bench: Bench) -> None:
    bench.publish("imu", lambda ms: None)
    bench.until(3000)
    bench.publish("imu", imu)
    bench.reset()
    bench.ms = -1
    bench.given.clear()
    assert not bench.until(200).damps(200)


def test_a_clock_that_leaps_ahead_is_silence(bench: Bench) -> None:
    bench.ms += 5000
    bench.runtime.advance(ns(bench.ms))
    bench.work()
    assert "is silent" in bench.gate.cause and bench.damps(6000)
    bench.until(7000)
    assert bench.damped_since() == 6000


# -- no false trips ---------------------------------------------------------------------------------------


def test_a_minute_of_jittery_traffic_trips_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = Bench(tmp_path)
    events: list[tuple[int, str, int]] = []
    for name, period in (("imu", 5.0), ("joint_states", 5.0), ("command", 20.0)):
        stamps = np.arange(10.0, 60_000.0, period)
        stamps = stamps + rng.uniform(-5, 5, stamps.size)
        arrivals = stamps + rng.uniform(0, 5, stamps.size)
        events += [(ns(at), name, ns(stamp)) for at, stamp in zip(arrivals, stamps, strict=True)]
    events += [(ns(ms), "", 0) for ms in range(0, 60_000, 10)]
    gait = np.array([0.2, 0.3, 0.3])
    for at, name, stamp in sorted(events):
        if not name:
            made.runtime.advance(at)
            made.work()
            continue
        ms, angle = stamp / MS, 2 * np.pi * 2.0 * stamp * 1e-9
        lean = 0.3 * np.sin(angle)
        if name == "imu":
            value = imu(ms, roll=lean, pitch=-lean)
        elif name == "joint_states":
            value = state(ms, POSE + gait * np.sin(angle - 0.3), gait * 4 * np.pi * np.cos(angle - 0.3))
        else:
            value = command(ms, POSE + gait * np.sin(angle))
        made.runtime.push(name, value, at)
        made.work()
    assert len(made.given) == 6000 and made.said == {} and made.gate.cause == ""
    assert max(ms for ms in made.given if made.damps(ms)) < 40


# -- without orientation, and set-up ----------------------------------------------------------------------


def bare(ms: float, roll: float) -> Imu:
    force = 9.81 * np.array([0.0, np.sin(roll), np.cos(roll)])
    return Imu(ns(ms), np.zeros(3), force, None)


def test_without_orientation_tilt_comes_from_gyroscope_and_gravity(bench: Bench) -> None:
    bench.publish("imu", lambda ms: bare(ms, 0.9))
    bench.until(6000)
    assert bench.gate.cause == "" and "gives no orientation" in bench.said["orientation"]
    bench.publish("imu", lambda ms: bare(ms, 1.2))
    bench.until(12_000)
    assert "degrees, above 60.0 degrees" in bench.gate.cause


def test_the_gate_is_found_by_name() -> None:
    assert registry.find("safety_gate") is SafetyGate
