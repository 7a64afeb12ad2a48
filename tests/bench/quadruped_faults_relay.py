"""A relay between robot, policy and gate that drops or changes what passes, and keeps what it saw.

Robot and policy publish below ``/untampered``; the relay passes their messages on, as bytes, under the names that gate
and policy listen to. ``joint_commands`` go from the gate to the robot by themselves; the relay only listens.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node

from ros_attn.bag.reader import default_typestore
from ros_attn.codecs import RosbagsMessages, decode, encode, types_of
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.grid import SECOND
from ros_attn.hosts import ros_qos
from ros_attn.hosts.ros_inputs import message_class
from ros_attn.values import Imu, JointState, Value
from tests.bench.quadruped_faults import COMMANDS, MS, POLICY_COMMANDS, Fault, cut_since
from tests.bench.quadruped_faults_judgement import Instant, Recording, Sighting, damps, step_of, tilt
from tests.ros.driver import RELIABLE, Driver

UNTAMPERED = "/untampered"
RELAYED: dict[str, type[Value]] = {"/imu": Imu, "/joint_states": JointState, POLICY_COMMANDS: JointState}
KEPT_S = 20.0
GATE_NS = SECOND // 100
BEFORE_MS = 300
"""How long before a fault it is looked whether the gate cuts commands already."""
SEEN = 0.9
"""Share of the commands that must have come to say that the gate passed all; at first the relay may not hear it yet."""


@dataclass(frozen=True)
class Kept:
    """A message as it came: its stamp (ROS time), when it was written and when it arrived (wall time)."""

    stamp_ns: int
    written_ns: int
    arrival_ns: int
    raw: bytes


def stamp_of(raw: bytes) -> int:
    """The stamp [ns] of a message that begins with a header, little endian as every machine here writes it."""
    sec, nanosec = struct.unpack_from("<iI", raw, 4)
    return sec * SECOND + nanosec


def value_of(raw: bytes, kind: type[Value]) -> Value:
    """The message behind bytes."""
    msgtype = types_of(kind)[0]
    return decode(default_typestore(False).deserialize_cdr(memoryview(raw), msgtype), msgtype, 0)


def bytes_of(value: Value) -> bytes:
    """The bytes of a message."""
    store, msgtype = default_typestore(False), types_of(type(value))[0]
    return bytes(store.serialize_cdr(encode(value, RosbagsMessages(store), msgtype), msgtype))


class Relay:
    """See the module. Everything but :meth:`begin`, :meth:`end` and what reads runs in the driver's thread."""

    def __init__(self, driver: Driver) -> None:
        qos = ros_qos.outgoing("result", False)
        self.delays_ms: deque[float] = deque(maxlen=200_000)
        """From when a message was written to when the relay had passed it on."""
        self.measuring = False
        """Whether delays are kept: during walks and faults, not while the bench restarts or decodes."""
        self.commands: deque[Kept] = deque(maxlen=round(100 * KEPT_S))
        self.asked: deque[bytes] = deque(maxlen=round(50 * KEPT_S))
        """The policy's commands as they passed."""
        self.sensed: dict[str, deque[Kept]] = {
            topic: deque(maxlen=round(200 * KEPT_S)) for topic in ("/imu", "/joint_states")
        }
        self.last_good: dict[str, int] = {}
        """The newest stamp that passed, by topic."""
        self.first_bad_ns = 0
        self._fault: Fault | None = None
        self._publishers = {}
        self._subscriptions = [self._subscribe(driver.node, COMMANDS, JointState, self._listen)]
        for topic, kind in RELAYED.items():
            self._publishers[topic] = driver.node.create_publisher(message_class(types_of(kind)[0]), topic, qos)
            take = partial(self._pass, topic)
            self._subscriptions.append(self._subscribe(driver.node, UNTAMPERED + topic, kind, take))

    @property
    def now(self) -> Instant:
        """The newest time of the robot that was seen here, and the wall clock."""
        kept = self.sensed["/joint_states"]
        return Instant(kept[-1].stamp_ns if kept else 0, time.time_ns())

    def instant(self, stamp_ns: int) -> Instant:
        """Where the robot's time came to a stamp: the writing of its first joint states from then on."""
        found = next((each for each in list(self.sensed["/joint_states"]) if each.stamp_ns >= stamp_ns), None)
        if found is None:
            raise RuntimeError(f"the robot's time has not come to {stamp_ns / SECOND:.3f} s")
        return Instant(stamp_ns, found.written_ns)

    def begin(self, fault: Fault) -> None:
        """What passes on the fault's topic is changed from the next message on."""
        self.first_bad_ns, self._fault = 0, fault

    def end(self) -> None:
        """Everything passes again."""
        self._fault = None

    def forget(self) -> None:
        """Another robot begins, whose time does too."""
        for kept in (self.commands, self.asked, *self.sensed.values()):
            kept.clear()
        self.last_good.clear()

    def _subscribe(self, node: Node, topic: str, kind: type[Value], take: Callable[..., None]) -> Any:
        return node.create_subscription(message_class(types_of(kind)[0]), topic, take, RELIABLE, raw=True)

    def _listen(self, raw: bytes, info: dict[str, Any]) -> None:
        kept = Kept(stamp_of(raw), info["source_timestamp"], time.time_ns(), raw)
        self.commands.append(kept)
        self.last_good[COMMANDS] = kept.stamp_ns

    def _pass(self, topic: str, raw: bytes, info: dict[str, Any]) -> None:
        message = Kept(stamp_of(raw), info["source_timestamp"], time.time_ns(), raw)
        fault = self._fault
        if topic in self.sensed:
            self.sensed[topic].append(message)
        if fault is None or fault.topic != topic:
            self._publish(topic, raw)
            self.last_good[topic] = message.stamp_ns
            if self.measuring:
                self.delays_ms.append((time.time_ns() - message.written_ns) / 1e6)
            return
        self.first_bad_ns = self.first_bad_ns or message.stamp_ns
        value = value_of(raw, RELAYED[topic])
        changed = fault.change(value, message.stamp_ns - self.first_bad_ns)
        if changed is not None:
            self._publish(topic, raw if changed is value else bytes_of(changed))

    def _publish(self, topic: str, raw: bytes) -> None:
        self._publishers[topic].publish(raw)
        if topic == POLICY_COMMANDS:
            self.asked.append(raw)

    # -- what was seen ----------------------------------------------------------------------------------

    def passing(self, from_ns: int, to_ns: int) -> bool:
        """Whether commands came from one stamp to the other, nearly all of them, and none of them damps."""
        found = [each.raw for each in list(self.commands) if from_ns <= each.stamp_ns < to_ns]
        expected = (to_ns - from_ns) / GATE_NS
        damped = [damps(value_of(raw, JointState)) for raw in found]  # type: ignore[arg-type]
        return len(found) > SEEN * expected and not any(damped)

    def cut_since(self, from_ns: int) -> int:
        """See :func:`tests.bench.quadruped_faults.cut_since`: of what came from shortly before a stamp on."""
        asked, passed = (
            [value_of(raw, JointState) for raw in list(found) if stamp_of(raw) >= from_ns - BEFORE_MS * MS]
            for found in (self.asked, [each.raw for each in self.commands])
        )
        return cut_since(asked, passed)  # type: ignore[arg-type]

    def recording(self, since: Instant, threshold: Instant, contract: JointContract) -> Recording:
        """Everything that came after an instant."""
        commands = [
            Sighting(each.stamp_ns, each.arrival_ns, damps(value_of(each.raw, JointState)))  # type: ignore[arg-type]
            for each in list(self.commands) if each.arrival_ns >= since.wall_ns
        ]  # fmt: skip
        states, readings = (
            [(value_of(each.raw, RELAYED[topic]), each.arrival_ns) for each in list(self.sensed[topic])
             if each.stamp_ns > since.ros_ns] for topic in ("/joint_states", "/imu")
        )  # fmt: skip
        steps = [step_of(state, arrival_ns, contract) for state, arrival_ns in states]  # type: ignore[arg-type]
        speeds = [float(np.sqrt(np.square(state.velocity).mean())) for state, _ in states]  # type: ignore[union-attr]
        tilts = [tilt(reading) for reading, _ in readings]  # type: ignore[arg-type]
        return Recording(threshold, commands, steps, np.array(speeds), np.array(tilts))
