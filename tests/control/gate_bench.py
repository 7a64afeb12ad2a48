"""A safety gate in the runtime with the traffic around it, and the messages it is fed with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.geometry import quaternion_from_euler
from ros_attn.runtime import Runtime, Step
from ros_attn.values import Array, Imu, JointState, Value

MS = 1_000_000
JOINTS = ("FL_hip_joint", "FL_thigh_joint", "FL_calf_joint")
ROBOT = {
    "joints": list(JOINTS),
    "default_pose": [0.0, 0.9, -1.8],
    "position_limits": [[-1.0, 1.2], [-0.5, 2.0], [-2.7, -0.8]],
    "velocity_limits": [30.0, 20.0, 10.0],
    "torque_limits": [24.0, 24.0, 36.0],
    "kp": [40.0, 50.0, 60.0],
    "kd": [1.0, 1.5, 2.0],
}
POSE = np.array(ROBOT["default_pose"])
WANTED = POSE + np.array([0.05, -0.05, 0.05])

Publisher = Callable[[int], Value | None]


def ns(ms: float) -> int:
    return round(ms * MS)


def imu(ms: float, roll: float = 0.0, pitch: float = 0.0, yaw: float = 0.0) -> Imu:
    return Imu(ns(ms), np.zeros(3), np.array([0.0, 0.0, 9.81]), quaternion_from_euler(roll, pitch, yaw))


def state(ms: float, position: Array = POSE, velocity: Array | None = None) -> JointState:
    speed = np.zeros(3) if velocity is None else velocity
    return JointState(ns(ms), JOINTS, np.array(position), np.array(speed), np.zeros(3))


def command(ms: float, position: Array = WANTED) -> JointState:
    return JointState(ns(ms), JOINTS, np.array(position), np.zeros(3), np.zeros(3))


def off(pose: Array, *by: float) -> Array:
    return pose + np.array(by)


def changed(joint: int, value: float, of: Array = POSE) -> Array:
    return np.array([value if k == joint else number for k, number in enumerate(of)])


class Bench:
    """A gate in the runtime with sensors at 200 Hz, commands at 50 Hz, and ticks every 10 ms; times in ms."""

    def __init__(self, folder: Path, **params: Any) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "contract.json").write_text(json.dumps({"robot": ROBOT}))
        self.gate = SafetyGate(SafetyGateParams(checkpoint=str(folder), **params))
        self.gate.configure()
        self.runtime = Runtime(self.gate)
        self.publishers: dict[str, tuple[int, Publisher]] = {
            "imu": (5, imu), "joint_states": (5, state), "command": (20, command),
        }  # fmt: skip
        self.ms = -1
        self.given: dict[int, JointState] = {}

    def publish(self, name: str, publisher: Publisher) -> None:
        """What an input carries from now on, at its rate; None: nothing."""
        self.publishers[name] = (self.publishers[name][0], publisher)

    def push(self, name: str, value: Value) -> None:
        self.runtime.push(name, value, ns(self.ms))
        self.work()

    def work(self) -> None:
        while (work := self.runtime.take()) is not None:
            outputs = self.runtime.run(work)
            if isinstance(work, Step):
                given = outputs["joint_commands"]
                assert isinstance(given, JointState) and given.stamp_ns == work.now_ns and given.names == JOINTS
                assert np.array_equal(given.velocity, np.zeros(3))
                self.given[work.now_ns // MS] = given

    def until(self, ms: int) -> Bench:
        """All messages and ticks up to and including ``ms``."""
        while self.ms < ms:
            self.ms += 1
            for name, (period, publisher) in self.publishers.items():
                if self.ms % period == 0 and (value := publisher(self.ms)) is not None:
                    self.push(name, value)
            if self.ms % 10 == 0:
                self.runtime.advance(ns(self.ms))
                self.work()
        return self

    def reset(self) -> None:
        self.runtime.request_reset("~/reset was called")
        self.work()

    @property
    def said(self) -> dict[str, str]:
        return self.gate.health.snapshot()

    def damps(self, ms: int) -> bool:
        return self.given[ms].position.size == 0

    def damped_since(self) -> int:
        """The first of the unbroken ticks of damping up to the newest, which must be one."""
        assert self.damps(max(self.given))
        return min(ms for ms in self.given if all(self.damps(k) for k in self.given if k >= ms))
