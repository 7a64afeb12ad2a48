"""What is around every locomotion policy: sensors to observations, actions to joint commands, and the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.control.locomotion import LocomotionMapping, gravity_in_base
from ros_attn.control.safety_gate.tilt import UpFilter
from ros_attn.diagnostics import Health
from ros_attn.errors import MessageError, RosAttnError
from ros_attn.grid import SECOND
from ros_attn.values import Array, Imu, JointState, Twist

Act = Callable[[NDArray[np.float32]], Array]
"""The policy itself: the last observations [1, frames * size] to an action [J]."""


class LeggedPolicy:
    """The part of a policy's component that does not depend on the policy; see :mod:`ros_attn.control.locomotion`.

    ``contract`` is the checkpoint's: ``robot``, and ``commands`` with the ranges of ``forward``, ``left`` and ``turn``.
    Conditions ``command`` and ``orientation`` go to ``health``. At the start and after a reset the targets go straight
    from the measured pose to the default one within ``ramp_s`` [s], and the policy is not asked.

    Raises :class:`RosAttnError` where the contract lacks something. Source: arXiv 2606.25765 for observation and
    action; the ramp is ours.
    """

    def __init__(self, contract: Mapping[str, Any], ramp_s: float, health: Health) -> None:
        self.mapping = LocomotionMapping.of(contract.get("robot", {}))
        ranges = contract.get("commands", {})
        try:
            self._ranges = np.array([ranges[name] for name in ("forward", "left", "turn")], float)
        except KeyError as error:
            raise RosAttnError(f"The contract's commands lack {error}; export the policy again.") from None
        self._ramp_s, self._health = ramp_s, health
        self.reset()

    def reset(self) -> None:
        """Forget what was sensed and asked; the next step begins the ramp."""
        self._history = self.mapping.history(1)
        self._action = np.zeros(len(self.mapping.joints))
        self._from: Array | None = None
        self._since_ns = 0
        self._up = UpFilter()
        self._asked_to_move = False
        self._health.clear("command")

    def step(
        self, now_ns: int, imu: tuple[Imu, ...], joint_states: tuple[JointState, ...], command: Array, act: Act
    ) -> JointState | None:
        """Position targets [J] rad in the contract's order, velocity and effort zero; None where a sensor is silent.

        ``imu`` in the axes of the base; without orientation a complementary filter finds down. ``joint_states`` in any
        order. ``command`` [3] m/s, m/s, rad/s is what the policy is told. Raises :class:`MessageError` where joints or
        their velocities are missing.
        """
        for each in imu:
            gravity = self._gravity(each)
        if not imu or not joint_states:
            return None
        position, velocity = self._joints(joint_states[-1])
        row = self.mapping.observation(
            imu[-1].angular_velocity[None], gravity[None], command[None], position[None], velocity[None],
            self._action[None],
        )  # fmt: skip
        seen = self._history.push(row)
        if self._from is None:
            self._from, self._since_ns = position, now_ns
        passed = (now_ns - self._since_ns) / SECOND
        if passed < self._ramp_s:
            share = passed / self._ramp_s
            targets = (1 - share) * self._from + share * self.mapping.default_pose
            self._action = self.mapping.action_of(targets)
        else:
            self._action = act(seen)
            targets = self.mapping.targets(self._action)
        zero = np.zeros(len(targets))
        return JointState(now_ns, self.mapping.joints, targets, zero, zero)

    def command(self, cmd_vel: Twist | None) -> Array:
        """Forward, left m/s and turn rad/s [3], cut with a warning to what was trained; zeros where there is none.

        Silence is told where the last command asked to move: then the robot stops of itself.
        """
        if cmd_vel is None:
            if self._asked_to_move:
                self._health.warn("command", "cmd_vel fell silent while it asked to move: the robot stands.")
            return np.zeros(3)
        asked = np.array([*cmd_vel.linear[:2], cmd_vel.angular[2]], float)
        given = np.clip(asked, *self._ranges.T)
        self._asked_to_move = bool(given.any())
        if (np.abs(asked - given) > 1e-9).any():
            words = ", ".join(f"{value:g}" for value in asked)
            self._health.warn(
                "command", f"cmd_vel asks for ({words}), which is cut to what the policy was trained for."
            )
        else:
            self._health.clear("command")
        return given

    def _gravity(self, imu: Imu) -> Array:
        if imu.orientation is not None:
            self._health.clear("orientation")
            return gravity_in_base(imu.orientation)
        self._health.warn(
            "orientation", "The IMU gives no orientation; down is found from gyroscope and accelerometer."
        )
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
