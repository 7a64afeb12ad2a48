"""The walking policy as a component: sensors and velocity commands in, joint commands for the safety gate out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ros_attn.component import Component, Every, Hold, Out, Outputs, Window
from ros_attn.control.legged_checkpoint import RATE_HZ
from ros_attn.control.legged_policy import LeggedPolicy
from ros_attn.control.quadruped_walk.policy import load
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import ParameterError
from ros_attn.params import param
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.values import Array, Imu, JointState, Twist


@dataclass(frozen=True)
class WalkParams:
    """Parameters of quadruped_walk."""

    checkpoint: str = param("walk_go2", "checkpoint directory of the policy, or the name of one in the package")
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

    _policy: BlindPolicy = field(init=False)
    _legs: LeggedPolicy = field(init=False)

    def configure(self) -> None:
        if not self.params.checkpoint:
            raise ParameterError(f"{self.kind()}: checkpoint is empty; name the checkpoint directory of a policy.")
        self._policy, contract = load(checkpoint_folder(self.params.checkpoint))
        self._legs = LeggedPolicy(contract, self.params.ramp_s, self.health)
        with torch.inference_mode():
            self._policy(torch.zeros_like(self._policy.mean)[None])

    def reset(self) -> None:
        self._legs.reset()

    def step(
        self, now_ns: int, imu: tuple[Imu, ...], joint_states: tuple[JointState, ...], cmd_vel: Twist | None
    ) -> Outputs:
        command = self._legs.command(cmd_vel)
        return {"joint_commands": self._legs.step(now_ns, imu, joint_states, command, self._act)}

    def _act(self, seen: NDArray[np.float32]) -> Array:
        with torch.inference_mode():
            return self._policy(torch.from_numpy(seen))[0].numpy().astype(np.float64)
