"""How soon joints are damped after faults, at random phases of a walk, in the closed loop.

    python -m tests.bench.quadruped_faults --checkpoint DIR [--trials 20] [--out FILE]

A robot walks ahead at 0.5 m/s through policy and safety gate (``ros_attn.hosts.sim``, lock step); a fault begins at a
random instant of a random gait phase. ``reaction`` is the time from where a threshold is crossed to the first physics
step that damps: from the fault itself; from the age at which silence counts; from 0.5 s after the first of the
commands that the gate cuts without a break, as a stride may be cut already where the fault begins. A trial is *in
time* when that takes at most 100 ms (20 ms for the emergency stop), not less than none, and joints stay damped for a
second, whatever comes. The last rows are those that must *not* damp.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.grid import SECOND
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_policy import GATE, POLICY, policy_loop
from ros_attn.provenance import provenance
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.terrain import flat
from ros_attn.values import Flag, Imu, JointState, Value
from tests.bench.quadruped_walk import folder, wilson

MS = SECOND // 1000
Change = Callable[[Value, int], Value | None]
"""What arrives instead: the value and for how long the fault has been there [ns]."""


def _gone(value: Value, since_ns: int) -> None:
    return None


def _not_finite(value: Value, since_ns: int) -> Value:
    if isinstance(value, Imu):
        return replace(value, angular_velocity=np.full(3, np.nan))
    assert isinstance(value, JointState)
    return replace(value, position=np.full(len(value.names), np.nan))


def _beyond_limit(value: Value, since_ns: int) -> Value:
    assert isinstance(value, JointState)
    position = value.position.copy()
    position[0] = GO2_LIKE.position_limits[0, 1] + 0.2
    return replace(value, position=position)


def _tilted(value: Value, since_ns: int) -> Value:
    assert isinstance(value, Imu)
    half = np.deg2rad(70.0) / 2
    return replace(value, orientation=np.array([np.sin(half), 0.0, 0.0, np.cos(half)]))


def _renamed(value: Value, since_ns: int) -> Value:
    assert isinstance(value, JointState)
    return replace(value, names=value.names[::-1])


def _beyond_targets(value: Value, since_ns: int) -> Value:
    """A feed-forward torque beyond the limit, to and fro, so that the robot stays on its feet."""
    assert isinstance(value, JointState)
    effort = np.zeros(len(value.names))
    effort[0] = 1.1 * GO2_LIKE.torque_limits[0] * (1 if since_ns // (20 * MS) % 2 else -1)
    return replace(value, effort=effort)


def _briefly_beyond(value: Value, since_ns: int) -> Value:
    return _beyond_targets(value, since_ns) if since_ns < 300 * MS else value


@dataclass(frozen=True)
class Fault:
    """What happens on ``topic``, or which stages are killed; ``after_ms``: from the last good message, or (None) at
    once; ``cut_ms``: from the first of the commands that the gate cuts. ``damps``: whether joints must be damped."""

    topic: str = ""
    change: Change = _gone
    kills: tuple[str, ...] = ()
    after_ms: int | None = None
    cut_ms: int | None = None
    within_ms: int = 100
    damps: bool = True


POLICY_COMMANDS, COMMANDS = "/policy/joint_commands", "/joint_commands"
FAULTS = {
    "emergency stop": Fault("emergency_stop", within_ms=20),
    "imu silent": Fault("/imu", after_ms=40),
    "imu not finite": Fault("/imu", _not_finite),
    "tilt 70 degrees": Fault("/imu", _tilted),
    "joint_states silent": Fault("/joint_states", after_ms=40),
    "joint_states not finite": Fault("/joint_states", _not_finite),
    "joint beyond its limit": Fault("/joint_states", _beyond_limit),
    "policy's command silent": Fault(POLICY_COMMANDS, after_ms=60),
    "policy's command not finite": Fault(POLICY_COMMANDS, _not_finite),
    "policy's command with other names": Fault(POLICY_COMMANDS, _renamed),
    "policy's command beyond limits": Fault(POLICY_COMMANDS, _beyond_targets, cut_ms=500),
    "policy killed": Fault(POLICY_COMMANDS, kills=(POLICY,), after_ms=60),
    "gate killed": Fault(COMMANDS, kills=(GATE,), after_ms=60),
    "policy and gate killed": Fault(COMMANDS, kills=(POLICY, GATE), after_ms=60),
    "beyond limits for 0.3 s": Fault(POLICY_COMMANDS, _briefly_beyond, damps=False),
    "cmd_vel silent": Fault("/cmd_vel", damps=False),
}


ALIKE = 5e-7
"""Commands that differ by less are not cut: policies that clip in float32 miss a limit by 2.4e-7."""
LATEST = 3
"""The gate passes one of the latest so many commands, as they and its tick may cross on their way."""


def threshold(fault: Fault, last_good_ns: int, first_bad_ns: int, cut_ns: int) -> int:
    """Where a fault counts as one [ns]: some time after the last good message, after the first command that the gate
    cuts, or at the first bad message."""
    if fault.after_ms is not None:
        return last_good_ns + fault.after_ms * MS
    return first_bad_ns if fault.cut_ms is None else cut_ns + fault.cut_ms * MS


def cut_since(asked: Sequence[JointState], passed: Sequence[JointState]) -> int:
    """From which stamp on the gate passes other targets than the policy asks for, without a break until it damps, or
    to the end; 0 where it does not. Both in order of their stamps."""
    since_ns = 0
    for command in passed:
        if not command.position.size:
            break
        before = [each for each in asked if each.stamp_ns <= command.stamp_ns][-LATEST:]
        if any(_alike(command, each) for each in before):
            since_ns = 0
        elif not since_ns:
            since_ns = command.stamp_ns
    return since_ns


def _alike(passed: JointState, asked: JointState) -> bool:
    none = np.zeros(len(passed.names))
    pairs = [(passed.position, asked.position), (passed.velocity, asked.velocity), (passed.effort, asked.effort)]
    return all(np.abs((a if a.size else none) - (b if b.size else none)).max() <= ALIKE for a, b in pairs)


class Trial:
    """One fault in one walk."""

    def __init__(self, checkpoint: Path, fault: Fault, begin_ns: int, seed: int) -> None:
        self.fault, self.begin_ns = fault, begin_ns
        self.last_good_ns = self.first_bad_ns = 0
        self.asked: deque[JointState] = deque(maxlen=100)
        self.passed: deque[JointState] = deque(maxlen=100)
        self.loop: ClosedLoop = policy_loop(
            checkpoint, GO2_LIKE, flat(), lambda t_s: (0.5, 0.0, 0.0), seed=seed, tamper=self._tamper
        )

    def _tamper(self, topic: str, value: Value, now_ns: int) -> Value | None:
        seen = self._changed(topic, value, now_ns)
        heard = {POLICY_COMMANDS: self.asked, COMMANDS: self.passed}.get(topic)
        if heard is not None and isinstance(seen, JointState):
            heard.append(seen)
        return seen

    def _changed(self, topic: str, value: Value, now_ns: int) -> Value | None:
        if topic != self.fault.topic:
            return value
        if now_ns < self.begin_ns:
            self.last_good_ns = now_ns
            return value
        self.first_bad_ns = self.first_bad_ns or now_ns
        return value if self.fault.kills else self.fault.change(value, now_ns - self.begin_ns)

    def run(self) -> tuple[float | None, bool]:
        """Milliseconds from the threshold to the first step that damps, None where none came; and whether joints then
        stayed damped (without damping: whether the robot did not fall)."""
        loop, fault = self.loop, self.fault
        loop.run(self.begin_ns / SECOND)
        if loop.robot.damping:
            raise RuntimeError(f"the robot was damped before the fault: {loop.robot.damping}")
        for stage in fault.kills:
            loop.kill(stage)
        if fault.topic == "emergency_stop":
            loop.publish("emergency_stop", Flag(loop.robot.now_ns, True))
        damped_ns, cut_ns = None, 0
        for _ in range(300):
            now_ns = loop.robot.now_ns
            loop.step()
            if loop.robot.damping:
                damped_ns, cut_ns = now_ns, cut_since(self.asked, self.passed)
                break
        if damped_ns is None:
            return None, bool(loop.robot.state().truth.position[2] > 0.15)
        stayed = True
        for _ in range(200):
            loop.step()
            stayed &= bool(loop.robot.damping)
        if fault.topic == "emergency_stop":
            threshold_ns = self.begin_ns
        else:
            threshold_ns = threshold(fault, self.last_good_ns, self.first_bad_ns, cut_ns)
        return (damped_ns - threshold_ns) / MS, stayed


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=folder, required=True)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/quadruped_faults.json"))
    arguments = parser.parse_args(words)
    rng = np.random.default_rng(arguments.seed)
    rows: dict[str, Any] = {}
    for name, fault in FAULTS.items():
        found = []
        for trial in range(arguments.trials):
            begin_ns = (2500 + 5 * int(rng.integers(0, 200))) * MS
            found.append(Trial(arguments.checkpoint, fault, begin_ns, trial).run())
        reactions = [reaction for reaction, _ in found if reaction is not None]
        if fault.damps:
            good = [r is not None and 0 <= r <= fault.within_ms and stayed for r, stayed in found]
        else:
            good = [r is None and stood for r, stood in found]
        rows[name] = {
            "must": f"damp within {fault.within_ms} ms" if fault.damps else "go on",
            "good": wilson(sum(good), len(good)), "count": f"{sum(good)} of {len(good)}",
            "reaction_ms": [float(np.median(reactions)), min(reactions), max(reactions)] if reactions else None,
        }  # fmt: skip
        print(f"{name}: {rows[name]}", flush=True)
    results = {"checkpoint": arguments.checkpoint.name, "rows": rows, "provenance": provenance()}
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
