"""What becomes of a robot in a closed loop: how far and fast it went, falls, torques, and why joints were damped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ros_attn.control.safety_gate.component import SafetyGate
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_policy import GATE, POLICY
from ros_attn.sim import rotation
from ros_attn.sim.legged_world import PHYSICS_HZ, SUBSTEPS, LeggedWorld
from ros_attn.sim.locomotion_task import TOUCH_N, UPRIGHT
from ros_attn.values import Array

SETTLED_S = 0.5
"""After the ramp at the start; from then on speeds and torques count."""
LYING_S = 1.0
"""A robot that fell lies so long and then begins anew."""
RESTING_S = 1.0
"""A robot that arrived goes on so long."""


@dataclass
class Rollout:
    """A run of ``loop``, as :func:`ros_attn.hosts.sim_policy.policy_loop` makes it.

    A fall is a tilt beyond 60 degrees or a touch of the base; the robot then lies for 1 s, and all begins anew at the
    start. On a terrain with a landing the run is ``done`` 1 s after all feet were on it.
    """

    loop: ClosedLoop
    falls: list[float] = field(default_factory=list)
    """When, s of the run; so are the others."""
    damped: list[tuple[float, str]] = field(default_factory=list)
    """When the gate latched and why, the first time of each beginning."""
    arrived_s: float | None = None
    said: dict[str, str] = field(default_factory=dict)
    """The first sentence of each condition of a component, and of what failed."""
    _steps: int = field(init=False, default=0)
    _begun: int = field(init=False, default=0)
    _fallen: int | None = field(init=False, default=None)
    _travelled_m: float = field(init=False, default=0.0)
    _speeds: list[Array] = field(init=False, default_factory=list)
    _torques: list[Array] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        policy, gate = (self.loop.hosted[name].stage.component for name in (POLICY, GATE))
        assert isinstance(gate, SafetyGate)
        self._gate, self._ramp_s = gate, float(policy.params.ramp_s)
        self._first = self._place()
        self._base = [self._world.body_geoms.index(name) for name in self._world.base_geoms]
        self.loop.warn = self._hear

    def _hear(self, sentence: str) -> None:
        self.said.setdefault(sentence.partition(":")[0], sentence)

    @property
    def _world(self) -> LeggedWorld:
        return self.loop.robot.world

    def _place(self) -> Array:
        return self._world.base_position[0, :2].copy()

    @property
    def seconds(self) -> float:
        """Of the run, so far."""
        return self._steps / PHYSICS_HZ

    @property
    def done(self) -> bool:
        """Whether the robot has arrived and rested."""
        return self.arrived_s is not None and self.seconds >= self.arrived_s + RESTING_S

    def step(self) -> None:
        """One physics step of 5 ms; a fallen robot that lay long enough begins anew before it."""
        if self._fallen is not None and self._steps - self._fallen >= LYING_S * PHYSICS_HZ:
            self._end_episode()
            self.loop.reset()
            self._first, self._begun, self._fallen = self._place(), self._steps, None
        self.loop.step()
        self._steps += 1
        settled = self._fallen is None and (self._steps - self._begun) / PHYSICS_HZ > self._ramp_s + SETTLED_S
        if settled and not self._gate.cause:
            self._torques.append(self._world.torque[0].copy())
        if self._steps % SUBSTEPS == 0:
            self._look(settled)

    def _end_episode(self) -> None:
        self._travelled_m += float(np.linalg.norm(self._place() - self._first))

    def _look(self, settled: bool) -> None:
        world, cause = self._world, self._gate.cause
        quaternion = world.base_quaternion
        if settled and not cause:
            linear = rotation.into_body(quaternion, world.qvel[:, :3])[0]
            self._speeds.append(np.array([linear[0], linear[1], world.qvel[0, 5]]))
        if cause and (not self.damped or self.damped[-1][0] < self._begun / PHYSICS_HZ):
            self.damped.append((self.seconds, cause))
        if self._fallen is None:
            touched = (world.body_force[0, self._base] > TOUCH_N).any()
            if touched or rotation.gravity_in_body(quaternion)[0, 2] > -UPRIGHT:
                self._fallen = self._steps
                self.falls.append(self.seconds)
        landing = self.loop.robot.terrain.landing
        if landing is not None and self.arrived_s is None and self._fallen is None:
            feet = world.foot_position[0]
            if ((feet >= landing[:3]) & (feet <= landing[3:])).all():
                self.arrived_s = self.seconds
        for name, hosted in self.loop.hosted.items():
            for key, sentence in hosted.stage.component.health.snapshot().items():
                if key not in ("waiting", "damp"):  # of every start; in ``damped``
                    self.said.setdefault(f"{name} {key}", f"{name}: {sentence}")

    def figures(self) -> dict[str, float | list[float]]:
        """``seconds``; ``distance_m``, straight from start to end, the sum where it began anew.

        ``speed``, the mean of forward, left [m/s] and turn [rad/s] in the base, and ``torque_rms`` and ``torque_peak``
        [J] N m: while the policy drove, all without the start; empty where it never did.
        """
        travelled = self._travelled_m + float(np.linalg.norm(self._place() - self._first))
        torques = np.array(self._torques)
        driven = bool(len(torques))
        return {
            "seconds": self.seconds,
            "distance_m": travelled,
            "speed": np.mean(self._speeds, axis=0).tolist() if self._speeds else [],
            "torque_rms": np.sqrt(np.square(torques).mean(axis=0)).tolist() if driven else [],
            "torque_peak": np.abs(torques).max(axis=0).tolist() if driven else [],
        }

    def headline(self) -> str:
        """Time, speed over the ground, and what is wrong, in a few words."""
        speed = float(np.linalg.norm(self._world.qvel[0, :2]))
        state = "  fallen" if self._fallen is not None else "  damped" if self._gate.cause else ""
        return f"{self.seconds:5.2f} s  {speed:.2f} m/s{state}"

    def summary(self, asked: Sequence[float]) -> str:
        """The figures in words; ``asked``: the velocity command."""
        figures, robot = self.figures(), self.loop.robot.robot
        speed, rms, peak = (np.array(figures[key]) for key in ("speed", "torque_rms", "torque_peak"))
        lines = [f"distance  {figures['distance_m']:.2f} m in {self.seconds:.1f} s"]
        if len(speed):
            lines.append(
                f"speed     {speed[0]:.2f} forward, {speed[1]:.2f} left m/s, {speed[2]:.2f} rad/s turn on average, "
                f"asked for {asked[0]:g}, {asked[1]:g}, {asked[2]:g}"
            )
        lines.append(f"falls     {', '.join(f'at {at:.2f} s' for at in self.falls) or 'none'}")
        if self.loop.robot.terrain.landing is not None:
            arrived = "not reached" if self.arrived_s is None else f"reached with all feet after {self.arrived_s:.2f} s"
            lines.append(f"landing   {arrived}")
        if len(rms):
            most = int(np.argmax(rms / robot.torque_limits))
            lines.append(
                f"torque    {np.sqrt(np.square(rms).mean()):.1f} N m RMS over all joints; most used "
                f"{robot.joints[most]}: {rms[most]:.1f} RMS, {peak[most]:.1f} peak of {robot.torque_limits[most]:g} N m"
            )
        reasons = [f"damped at {at:.2f} s: {cause}" for at, cause in self.damped]
        reasons += [f"the robot refused {count} commands: {why}" for why, count in self.loop.robot.refused.items()]
        lines.append(f"gate      {'; '.join(reasons) or 'never damped'}")
        return "\n".join([*lines, *(f"note: {sentence}" for sentence in self.said.values())])
