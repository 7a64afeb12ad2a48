"""The walking policy as a component: sensors and velocity commands in, joint commands for the safety gate out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ros_attn.component import Component, Every, Hold, Out, Outputs, Window
from ros_attn.control.locomotion import LocomotionMapping, ObservationHistory, gravity_in_base
from ros_attn.control.quadruped_walk.policy import RATE_HZ, load
from ros_attn.control.safety_gate.tilt import UpFilter
from ros_attn.errors import MessageError, ParameterError, RosAttnError
from ros_attn.grid import SECOND
from ros_attn.params import param
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.values import Array, Imu, JointState, Twist


@dataclass(frozen=True)
class WalkParams:
    """Parameters of quadruped_walk."""

    checkpoint: str = param("", "checkpoint directory of the policy; must be given")
    ramp_s: float = param(
        1.5, "time from the pose at the start to the default pose, before the policy takes over", unit="s",
        low=0.0, high=10.0,
    )  # fmt: skip


@dataclass
class QuadrupedWalk(Component):
    """Walks by velocity commands; see :mod:`ros_attn.control.locomotion` for what the policy sees.

    Fifty times a second of the IMU's stamps: inputs ``imu`` (axes of the base; without orientation a complementary
    filter finds down), ``joint_states`` (any order, the contract's names) and ``cmd_vel`` (m/s and rad/s, zero where it
    is older than 0.5 s: the robot then stands). Output ``joint_commands``: position targets [J] rad in the contract's
    order, velocity and effort zero. Commands beyond those that were trained are cut to them, with a warning.

    At the start and after a reset the targets go straight from the measured pose to the default one within ``ramp_s``.
    Raises :class:`RosAttnError` in :meth:`configure`, :class:`MessageError` where joints are missing. Source: arXiv
    2606.25765 for observation, action and rate; the frames, the ramp and the walk without eyes are ours.
    """

    inputs: ClassVar = {
        "imu": Window(Imu, "imu"),
        "joint_states": Window(JointState, "joint_states"),
        "cmd_vel": Hold(Twist, "cmd_vel", max_age_s=0.5),
    }
    outputs: ClassVar = {"joint_commands": Out(JointState, "policy/joint_commands")}
    trigger: ClassVar = Every(RATE_HZ, by="imu")
    Params: ClassVar = WalkParams
    backlog: ClassVar = "latest"

    mapping: LocomotionMapping = field(init=False)
    _policy: BlindPolicy = field(init=False)
    _history: ObservationHistory = field(init=False)
    _commands: Array = field(init=False)
    _action: Array = field(init=False)
    _from: Array | None = field(init=False, default=None)
    _since_ns: int = field(init=False, default=0)
    _up: UpFilter = field(init=False, default_factory=UpFilter)

    def configure(self) -> None:
        if not self.params.checkpoint:
            raise ParameterError(f"{self.kind()}: checkpoint is empty; name the checkpoint directory of a policy.")
        self._policy, contract = load(Path(self.params.checkpoint))
        self.mapping = LocomotionMapping.of(contract["robot"])
        ranges = contract.get("commands", {})
        try:
            self._commands = np.array([ranges[name] for name in ("forward", "left", "turn")], float)
        except KeyError as error:
            raise RosAttnError(f"The contract's commands lack {error}; export the policy again.") from None
        self.reset()
        with torch.inference_mode():
            self._policy(torch.zeros(1, self.mapping.size * self.mapping.frames))

    def reset(self) -> None:
        self._history = self.mapping.history(1)
        self._action = np.zeros(len(self.mapping.joints))
        self._from, self._up = None, UpFilter()

    def step(
        self, now_ns: int, imu: tuple[Imu, ...], joint_states: tuple[JointState, ...], cmd_vel: Twist | None
    ) -> Outputs:
        for each in imu:
            gravity = self._gravity(each)
        if not imu or not joint_states:
            return {}
        position, velocity = self._joints(joint_states[-1])
        row = self.mapping.observation(
            imu[-1].angular_velocity[None], gravity[None], self._command(cmd_vel)[None], position[None],
            velocity[None], self._action[None],
        )  # fmt: skip
        seen = self._history.push(row)
        if self._from is None:
            self._from, self._since_ns = position, now_ns
        passed = (now_ns - self._since_ns) / SECOND
        if passed < self.params.ramp_s:
            share = passed / self.params.ramp_s
            targets = (1 - share) * self._from + share * self.mapping.default_pose
            self._action = self.mapping.action_of(targets)
        else:
            with torch.inference_mode():
                self._action = self._policy(torch.from_numpy(seen))[0].numpy().astype(np.float64)
            targets = self.mapping.targets(self._action)
        zero = np.zeros(len(targets))
        return {"joint_commands": JointState(now_ns, self.mapping.joints, targets, zero, zero)}

    def _gravity(self, imu: Imu) -> Array:
        if imu.orientation is not None:
            self.health.clear("orientation")
            return gravity_in_base(imu.orientation)
        self.health.warn("orientation", "The IMU gives no orientation; down is found from gyroscope and accelerometer.")
        self._up.tilt(imu)
        assert self._up.up is not None
        return -self._up.up

    def _joints(self, state: JointState) -> tuple[Array, Array]:
        if missing := [name for name in self.mapping.joints if name not in state.names]:
            raise MessageError(
                f"joint_states lacks {missing[0]} and {len(missing) - 1} more of the policy's "
                f"{len(self.mapping.joints)} joints; start the driver of the robot that the checkpoint is for."
            )
        order = [state.names.index(name) for name in self.mapping.joints]
        if len(state.velocity) != len(state.names):
            raise MessageError("joint_states has no velocities, which the policy needs; let the driver publish them.")
        return np.asarray(state.position, float)[order], np.asarray(state.velocity, float)[order]

    def _command(self, cmd_vel: Twist | None) -> Array:
        if cmd_vel is None:
            self.health.clear("command")
            return np.zeros(3)
        asked = np.array([*cmd_vel.linear[:2], cmd_vel.angular[2]], float)
        given = np.clip(asked, *self._commands.T)
        if (np.abs(asked - given) > 1e-9).any():
            words = ", ".join(f"{value:g}" for value in asked)
            self.health.warn("command", f"cmd_vel asks for ({words}), which is cut to what the policy was trained for.")
        else:
            self.health.clear("command")
        return given
