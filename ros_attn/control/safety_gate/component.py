"""The gate between every policy and the robot: commands are passed while all is well, else the joints are damped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ros_attn.component import Component, Hold, Out, Outputs, Timer
from ros_attn.control.safety_gate.command_limits import Exceeded, Target, clamp
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.control.safety_gate.tilt import UpFilter, tilt_of
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import ParameterError
from ros_attn.grid import SECOND, to_ns
from ros_attn.params import param
from ros_attn.values import Array, Flag, Imu, JointState

RATE_HZ = 100
COMMAND = "policy/joint_commands"
CLAMP_WARNING_S = 1.0
"""How long the warning stays after the last clamp, so that single clamps do not flicker through the log."""


@dataclass(frozen=True)
class SafetyGateParams:
    """Parameters of safety_gate."""

    checkpoint: str = param(
        "",
        "checkpoint directory, or the name of one in the package, whose contract.json names the robot's joints, "
        "limits and gains; must be given",
    )
    sensor_timeout_s: float = param(
        0.04, "imu and joint_states whose newest stamp is older damp the joints", unit="s", low=0.005, high=1.0
    )
    command_timeout_s: float = param(
        0.06, "a policy whose newest command is older damps the joints", unit="s", low=0.01, high=1.0
    )
    tilt_limit_rad: float = param(
        1.0472, "the base leaning further than this (60 degrees) damps the joints", unit="rad", low=0.1, high=3.1416
    )
    joint_margin_rad: float = param(
        0.1, "how far beyond its position limits a joint may be measured before the joints are damped: end stops give",
        unit="rad", low=0.0, high=1.0,
    )  # fmt: skip
    clamp_patience_s: float = param(
        0.5, "commands that must be clamped for longer than this damp the joints", unit="s", low=0.0, high=60.0
    )


@dataclass
class SafetyGate(Component):
    """Passes a policy's joint commands within the robot's limits, and damps the joints on any fault.

    Inputs: ``command`` (targets of N joints in the contract's order: position [rad], velocity [rad/s], effort [N m],
    [N] each, the last two zero where empty; position empty and velocity zero asks for damping), ``imu`` (axes of the
    base, REP-103), ``joint_states`` (position and velocity) and ``emergency_stop`` (true: pressed). Output, 100 times a
    second and stamped with the tick: ``joint_commands``, the command clamped as in :func:`.clamp`, or damping.

    The first command, imu and joint state are waited for, with damping. From then on a fault is latched and only
    :meth:`reset` ends it: emergency stop; a newest stamp older than ``sensor_timeout_s`` or ``command_timeout_s``; a
    number that is not finite; names other than the contract's; a joint measured beyond its limits; tilt; a command
    clamped for longer than ``clamp_patience_s``. The age of a message is the tick less its stamp, so one that was old
    when it came is silence too; one stamped ahead of the tick is not seen before its time. A position target may differ
    from the one that stood when its command came by the joint's top speed times the time between the two commands'
    stamps (one tick at least, ``command_timeout_s`` at most): a policy of 50 Hz moves its targets in steps of 20 ms.
    After damping it counts from the measured pose, one tick.

    The first cause stays in the condition ``damp``; faults that begin later are counted in the figure ``later_faults``.
    A pressed emergency stop is remembered until a message says that it is released, through any reset. A clock that
    goes back resets components, but ends no latched fault.

    Raises :class:`RosAttnError` in :meth:`configure` where the contract cannot be used. Source: ours; the semantics of
    the command as in the plant.
    """

    inputs: ClassVar = {
        "command": Hold(JointState, COMMAND),
        "imu": Hold(Imu, "imu"),
        "joint_states": Hold(JointState, "joint_states"),
        "emergency_stop": Hold(Flag, "emergency_stop", through_reset=True),
    }
    outputs: ClassVar = {"joint_commands": Out(JointState, "joint_commands")}
    trigger: ClassVar = Timer(RATE_HZ)
    Params: ClassVar = SafetyGateParams
    backlog: ClassVar = "latest"

    contract: JointContract = field(init=False)
    cause: str = field(init=False, default="")
    """Why the joints are damped, empty while no fault is latched."""
    _started: bool = field(init=False, default=False)
    _present: frozenset[str] = field(init=False, default=frozenset())
    _later: int = field(init=False, default=0)
    _previous: Array | None = field(init=False, default=None)
    _followed_ns: int = field(init=False, default=0)
    _stood: tuple[Array, float] = field(init=False)
    _clamped_since_ns: int | None = field(init=False, default=None)
    _clamped_ns: int = field(init=False, default=0)
    _clamp_kinds: set[str] = field(init=False, default_factory=set)
    _up: UpFilter = field(init=False, default_factory=UpFilter)
    _last_ns: int = field(init=False, default=0)
    _before_reset: tuple[str, int, frozenset[str]] = field(init=False, default=("", 0, frozenset()))

    def configure(self) -> None:
        if not self.params.checkpoint:
            raise ParameterError(
                f"{self.kind()}: checkpoint is empty; name the checkpoint directory of the policy that drives."
            )
        self.contract = JointContract.read(checkpoint_folder(self.params.checkpoint))
        self.health.figures["later_faults"] = 0.0

    def reset(self) -> None:
        self._before_reset = self.cause, self._later, self._present
        self.cause, self._later, self._present = "", 0, frozenset()
        self._started, self._previous, self._clamped_since_ns = False, None, None
        self._up = UpFilter()
        for key in ("damp", "waiting", "clamp", "orientation"):
            self.health.clear(key)

    def step(
        self,
        now_ns: int,
        command: JointState | None,
        imu: Imu | None,
        joint_states: JointState | None,
        emergency_stop: Flag | None,
    ) -> Outputs:
        self._keep_latch(now_ns)
        pressed = emergency_stop is not None and emergency_stop.data
        faults = {"emergency_stop": "the emergency stop is pressed"} if pressed else {}
        silences = self._silences(now_ns, command, imu, joint_states)
        if not silences:
            self._started = True
            self.health.clear("waiting")
        if self._started:
            faults |= silences | self._faults(command, imu, joint_states)
        elif not self.cause:
            self.health.warn("waiting", f"Joints are damped, waiting: {'; '.join(silences.values())}.")
        self._judge(faults)
        answer = None
        if self._started and not self.cause:
            assert command is not None and joint_states is not None
            answer = self._passed(now_ns, command, joint_states)
        if answer is None or not answer.position.size:
            self._previous = None
        state = "damped" if self.cause else "passing" if self._started else "waiting"
        self.health.figures.update(state=state, later_faults=float(self._later))
        return {"joint_commands": answer or self.contract.damping(now_ns)}

    # -- latch ------------------------------------------------------------------------------------------

    def _keep_latch(self, now_ns: int) -> None:
        """Take a latched fault up again where the reset was the clock's going back, and not somebody's wish."""
        cause, later, present = self._before_reset
        self._before_reset = "", 0, frozenset()
        if cause and now_ns < self._last_ns:
            self._latch(cause)
            self._later, self._present = later, present
        self._last_ns = now_ns

    def _latch(self, cause: str) -> None:
        self.cause = cause
        self.health.clear("waiting")
        self.health.error("damp", f"Joints are damped until ~/reset: {cause}.")

    def _judge(self, faults: dict[str, str]) -> None:
        """Latch the first fault, count those that begin later."""
        begun = [key for key in faults if key not in self._present]
        self._present = frozenset(faults)
        if begun and not self.cause:
            self._latch(faults[begun.pop(0)])
        self._later += len(begun)

    # -- faults -----------------------------------------------------------------------------------------

    def _silences(
        self, now_ns: int, command: JointState | None, imu: Imu | None, joint_states: JointState | None
    ) -> dict[str, str]:
        """Which inputs are too old, and by how much."""
        sensor_s, command_s = self.params.sensor_timeout_s, self.params.command_timeout_s
        found = {}
        for topic, value, timeout_s in (
            ("joint_states", joint_states, sensor_s), ("imu", imu, sensor_s), (COMMAND, command, command_s),
        ):  # fmt: skip
            if value is None:
                found[topic] = f"{topic} is silent, nothing stamped before now has come"
            elif now_ns - value.stamp_ns > to_ns(timeout_s):
                age_ms = (now_ns - value.stamp_ns) * 1e3 / SECOND
                found[topic] = (
                    f"{topic} is silent, its newest stamp is {age_ms:.0f} ms old, above {1e3 * timeout_s:g} ms"
                )
        return found

    def _faults(self, command: JointState | None, imu: Imu | None, joint_states: JointState | None) -> dict[str, str]:
        """What is wrong in the newest messages, however old."""
        found = {
            "joint contents": self._joint_fault(joint_states) if joint_states else "",
            "imu contents": self._imu_fault(imu) if imu else "",
            "command contents": self._command_fault(command) if command else "",
        }
        return {key: sentence for key, sentence in found.items() if sentence}

    def _joint_fault(self, joint_states: JointState) -> str:
        contents = {"position": joint_states.position, "velocity": joint_states.velocity}
        if sentence := self._contents_fault("joint_states", joint_states.names, contents):
            return sentence
        margin = self.params.joint_margin_rad
        low, high = self.contract.position_limits.T
        allowed = np.clip(joint_states.position, low - margin, high + margin)
        beyond = joint_states.position != allowed
        if not beyond.any():
            return ""
        k = int(np.argmax(beyond))
        return (
            f"{self.contract.joints[k]} is at {joint_states.position[k]:.4g} rad, beyond its hard limit of "
            f"{allowed[k]:.4g} rad"
        )

    def _imu_fault(self, imu: Imu) -> str:
        for name in ("angular_velocity", "linear_acceleration", "orientation"):
            numbers = getattr(imu, name)
            if numbers is not None and not np.isfinite(numbers).all():
                return f"{name} of imu is not finite: {numbers.tolist()}"
        if imu.orientation is None:
            self.health.warn(
                "orientation", "imu gives no orientation: tilt is the gate's own, of gyroscope and gravity."
            )
            tilt = self._up.tilt(imu)
        elif not imu.orientation.any():
            return "orientation of imu is 0 0 0 0, which is none"
        else:
            self.health.clear("orientation")
            tilt = tilt_of(imu.orientation)
        limit = self.params.tilt_limit_rad
        if tilt <= limit:
            return ""
        return f"the base leans by {np.degrees(tilt):.1f} degrees, above {np.degrees(limit):.1f} degrees"

    def _command_fault(self, command: JointState) -> str:
        given = {"position": command.position, "velocity": command.velocity, "effort": command.effort}
        needed = "position" if command.position.size else "velocity"
        contents = {name: numbers for name, numbers in given.items() if numbers.size or name == needed}
        if sentence := self._contents_fault(COMMAND, command.names, contents):
            return sentence
        if not command.position.size and command.velocity.any():
            return f"{COMMAND} has velocities without positions, which are no command"
        return ""

    def _contents_fault(self, topic: str, names: tuple[str, ...], contents: dict[str, Array]) -> str:
        """What is wrong with the names or numbers of joints, "" where nothing is."""
        joints = self.contract.joints
        if len(names) != len(joints):
            return f"{topic} names {len(names)} joints, the contract {len(joints)}"
        for k, (name, wanted) in enumerate(zip(names, joints, strict=True)):
            if name != wanted:
                return f"{topic} names {name!r} as joint {k}, where the contract has {wanted!r}"
        for what, numbers in contents.items():
            if numbers.shape != (len(joints),):
                return f"{topic} has {numbers.size} numbers as {what} of {len(joints)} joints"
            if not np.isfinite(numbers).all():
                k = int(np.argmin(np.isfinite(numbers)))
                return f"{what} of {joints[k]} in {topic} is {numbers[k]}"
        return ""

    # -- passing ----------------------------------------------------------------------------------------

    def _passed(self, now_ns: int, command: JointState, joint_states: JointState) -> JointState | None:
        """The command within its limits; None where it asks for damping, or was beyond them for too long."""
        if now_ns - self._clamped_ns > to_ns(CLAMP_WARNING_S):
            self.health.clear("clamp")
        if not command.position.size:
            self._clamped_since_ns = None
            return None
        none = np.zeros(len(self.contract.joints))
        wanted = Target(
            command.position,
            command.velocity if command.velocity.size else none,
            command.effort if command.effort.size else none,
        )
        before, stood_s = self._from_where(command, joint_states.position)
        target, exceeded = clamp(wanted, before, joint_states.position, joint_states.velocity, stood_s, self.contract)
        if exceeded is None:
            self._clamped_since_ns = None
        elif self._beyond(now_ns, exceeded):
            return None
        self._previous = target.position
        return JointState(now_ns, self.contract.joints, target.position, target.velocity, target.effort)

    def _from_where(self, command: JointState, measured: Array) -> tuple[Array, float]:
        """The target that stood when this command came, and for how long it had, s; while it stays both stay."""
        if self._previous is None:
            self._stood = measured, 1 / RATE_HZ
        elif command.stamp_ns != self._followed_ns:
            stood_s = (command.stamp_ns - self._followed_ns) / SECOND
            self._stood = self._previous, float(np.clip(stood_s, 1 / RATE_HZ, self.params.command_timeout_s))
        self._followed_ns = command.stamp_ns
        return self._stood

    def _beyond(self, now_ns: int, exceeded: Exceeded) -> bool:
        """Warn of a clamp, once of each kind while clamps go on; whether it has lasted for too long, which latches."""
        if "clamp" not in self.health.conditions:
            self._clamp_kinds.clear()
        if exceeded.kind not in self._clamp_kinds:
            self._clamp_kinds.add(exceeded.kind)
            self.health.warn("clamp", f"{COMMAND} is clamped: {exceeded.sentence}.")
        self._clamped_ns = now_ns
        if self._clamped_since_ns is None:
            self._clamped_since_ns = now_ns
        lasted_ns = now_ns - self._clamped_since_ns
        if lasted_ns <= to_ns(self.params.clamp_patience_s):
            return False
        self._latch(
            f"{COMMAND} was beyond its limits for {lasted_ns * 1e3 / SECOND:.0f} ms, above "
            f"{1e3 * self.params.clamp_patience_s:g} ms: {exceeded.sentence}"
        )
        return True
