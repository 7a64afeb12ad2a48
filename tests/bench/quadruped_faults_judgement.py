"""What was seen of a fault over DDS, and whether that was right: no ROS, no clock, only what was recorded.

Two clocks. *ROS time* is the simulated robot's, which gate and policy count in: stamps. *Wall time* is the machine's
clock, which an observer outside counts in: a threshold lies where the robot wrote the sensors of that ROS time, the
reaction where the bench took the damping command. Delays of the relay and of the bench itself are therefore in the
figures, and none is subtracted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.hosts.sim_policy import GATE
from ros_attn.values import Array, Imu, JointState, Value
from tests.bench.quadruped_faults import FAULTS, MS, POLICY_COMMANDS, Fault

STEP_NS = 5 * MS
SEEN_MS = 400
"""How much of the time after a reaction must have been seen to say that joints stayed damped."""
SETTLED_MS = 500
"""The end of a trial, over which a robot that was told nothing must stand."""
STANDING_SPEED = 0.5
"""Root mean square of the joints' speeds [rad/s] below which a robot stands; it walks at 2 and more."""
FALLEN_RAD = np.deg2rad(60.0)


class Late:
    """Messages that arrive late by a while, from the first one on."""

    def __init__(self, late_ms: int) -> None:
        self.late_ns = late_ms * MS
        self._held: deque[Value] = deque()

    def __call__(self, value: Value, since_ns: int) -> Value | None:
        if since_ns == 0:
            self._held.clear()
        self._held.append(value)
        return self._held.popleft() if value.stamp_ns - self._held[0].stamp_ns >= self.late_ns else None


LIVE_FAULTS = FAULTS | {
    "imu 60 ms late": Fault("/imu", Late(60), after_ms=40),
    "policy's command 80 ms late": Fault(POLICY_COMMANDS, Late(80), after_ms=60),
}
LATCHED, WATCHED = "Joints are damped until ~/reset:", "Joints are damped from"
"""How the gate's and the robot's own sentence begin."""
SENTENCES = {
    "emergency stop": "the emergency stop is pressed",
    "imu silent": " imu is silent",
    "imu not finite": "angular_velocity of imu is not finite",
    "tilt 70 degrees": "the base leans by 70.0 degrees",
    "joint_states silent": " joint_states is silent",
    "joint_states not finite": "in joint_states is nan",
    "joint beyond its limit": "beyond its hard limit",
    "policy's command silent": "policy/joint_commands is silent",
    "policy's command not finite": "in policy/joint_commands is nan",
    "policy's command with other names": "policy/joint_commands names",
    "policy's command beyond limits": "policy/joint_commands was beyond its limits",
    "policy killed": "policy/joint_commands is silent",
    "gate killed": "the last command is older than 60 ms",
    "policy and gate killed": "the last command is older than 60 ms",
    "beyond limits for 0.3 s": "policy/joint_commands is clamped: FL_hip_joint feed-forward torque",
    "cmd_vel silent": "cmd_vel",
    "imu 60 ms late": " imu is silent",
    "policy's command 80 ms late": "policy/joint_commands is silent",
}
"""What the log must say of each fault, once."""


@dataclass(frozen=True)
class Instant:
    """One instant in both clocks [ns]."""

    ros_ns: int
    wall_ns: int


@dataclass(frozen=True)
class Sighting:
    """A joint command on its way to the robot, or a physics step of the robot as its torques tell it.

    ``stamp_ns``: of the command, or where the step began (ROS time); ``arrival_ns``: when the bench had it (wall).
    """

    stamp_ns: int
    arrival_ns: int
    damping: bool


@dataclass
class Recording:
    """A fault, from its beginning on. ``threshold``: where it counts as one; ``speeds`` [steps] rad/s: root mean square
    over the joints; ``tilts`` [rad]; ``log``: lines of all processes."""

    threshold: Instant
    commands: list[Sighting] = field(default_factory=list)
    steps: list[Sighting] = field(default_factory=list)
    speeds: Array = field(default_factory=lambda: np.empty(0))
    tilts: Array = field(default_factory=lambda: np.empty(0))
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """``wrong``: what was not as it must be, in words; empty: good. Milliseconds from the threshold to the first joint
    command that damps (where the gate is dead: to the first step that does) by stamps and by arrival, and to the first
    step that damps, by stamps; None where there was none. ``end_speed``: root mean square of the joints' speeds over
    the last 0.5 s [rad/s]. ``said``: the log said why, once. ``log``: what it said
    where something was wrong."""

    wrong: str
    stamp_ms: float | None
    arrival_ms: float | None
    step_ms: float | None
    end_speed: float
    said: bool
    log: tuple[str, ...] = ()


def damps(command: JointState) -> bool:
    """Whether a command asks for damping."""
    return not command.position.size and command.velocity.size == len(command.names) and not command.velocity.any()


def step_of(state: JointState, arrival_ns: int, contract: JointContract) -> Sighting:
    """The step that led to a joint state; it damped where every torque is ``-kd qd`` within the torque limits."""
    limits = contract.torque_limits
    damping = np.clip(-contract.kd * state.velocity, -limits, limits)
    return Sighting(state.stamp_ns - STEP_NS, arrival_ns, bool(np.abs(state.effort - damping).max() < 1e-6))


def tilt(imu: Imu) -> float:
    """How far the base leans [rad]."""
    assert imu.orientation is not None
    x, y, _, _ = imu.orientation
    return float(np.arccos(np.clip(1 - 2 * (x * x + y * y), -1, 1)))


def judge(name: str, fault: Fault, seen: Recording) -> Verdict:
    """What a recording shows of the fault of that name."""
    sightings = seen.steps if GATE in fault.kills else seen.commands
    first, first_step = _first(sightings), _first(seen.steps)
    at = seen.threshold
    stamp_ms = (first.stamp_ns - at.ros_ns) / MS if first else None
    arrival_ms = round((first.arrival_ns - at.wall_ns) / MS, 2) if first else None
    step_ms = (first_step.stamp_ns - at.ros_ns) / MS if first_step else None
    speed = _end_speed(seen)
    wrong = _of_damping(fault, seen, stamp_ms, arrival_ms, step_ms) if fault.damps else _of_going_on(name, seen, speed)
    log = tuple(seen.log) if wrong else ()
    return Verdict(wrong, stamp_ms, arrival_ms, step_ms, speed, _said(name, fault, seen.log), log)


def _end_speed(seen: Recording) -> float:
    stamps = np.array([each.stamp_ns for each in seen.steps])
    last = seen.speeds[stamps > stamps[-1] - SETTLED_MS * MS] if len(stamps) else np.array([np.nan])
    return round(float(np.sqrt(np.square(last).mean())), 3)


def _first(sightings: Sequence[Sighting]) -> Sighting | None:
    return next((each for each in sightings if each.damping), None)


def _of_damping(
    fault: Fault, seen: Recording, stamp_ms: float | None, arrival_ms: float | None, step_ms: float | None
) -> str:
    if stamp_ms is None or arrival_ms is None:
        return "no joint command damped"
    if step_ms is None:
        return "the robot did not damp"
    for clock, ms in (("ROS time", stamp_ms), ("wall time", arrival_ms)):
        if not 0 <= ms <= fault.within_ms:
            return f"damped {ms:.1f} ms after the threshold in {clock}"
    damped_ns = seen.threshold.ros_ns + round(step_ms * MS)
    if seen.steps[-1].stamp_ns < damped_ns + SEEN_MS * MS:
        return f"less than {SEEN_MS} ms were seen of the robot after it damped"
    if not all(each.damping for each in seen.steps if each.stamp_ns >= damped_ns):
        return "the robot did not stay damped"
    reaction_ns = seen.threshold.ros_ns + round(stamp_ms * MS)
    if not all(each.damping for each in seen.commands if each.stamp_ns >= reaction_ns):
        return "a command followed that does not damp"
    return ""


def _of_going_on(name: str, seen: Recording, end_speed: float) -> str:
    if not seen.steps:
        return "nothing was seen of the robot"
    if any(each.damping for each in seen.commands + seen.steps):
        return "joints were damped"
    if seen.tilts.max() > FALLEN_RAD:
        return "the robot fell"
    if name == "cmd_vel silent" and end_speed > STANDING_SPEED:
        return f"joints still move at {end_speed:.2f} rad/s"
    return ""


def _said(name: str, fault: Fault, log: Sequence[str]) -> bool:
    """Whether one line says why, and no other one says that joints are damped by the same process."""
    begins = "" if not fault.damps else WATCHED if GATE in fault.kills else LATCHED
    lines = [line for line in log if (begins or SENTENCES[name]) in line]
    return len(lines) == 1 and SENTENCES[name] in lines[0]
