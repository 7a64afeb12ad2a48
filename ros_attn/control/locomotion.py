"""What a walking policy sees and what its actions mean: the one mapping for training, simulation and robot.

Observation, [B, 9 + 3 J] float32, SI units, in this order::

    angular velocity of the base [3] rad/s, in the base | gravity's direction in the base [3], (0, 0, -1) upright |
    command [3] forward, left m/s, turn rad/s | joint positions less the default pose [J] rad |
    joint velocities [J] rad/s | the last action [J]

Action ``a`` [B, J] to joint position targets: ``q* = clip(q_default + scale a, limits)``. Scaling of the observation is
the policy's own (its normaliser is part of the checkpoint). Source: arXiv 2606.25765; the ``scale`` and
the clipping to the joint limits are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros_attn.errors import CheckpointError

Array = NDArray[np.floating[Any]]

ACTION_SCALE = 0.25
"""Radians of joint target per unit of action."""


def gravity_in_base(quaternion: ArrayLike) -> Array:
    """Unit vector of gravity in the base frame, [..., 3], from the base's orientation xyzw, [..., 4].

    The third row of the rotation world from base, negated.
    """
    x, y, z, w = np.moveaxis(np.asarray(quaternion), -1, 0)
    return np.stack([-2 * (x * z - w * y), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1], axis=-1)


@dataclass(frozen=True)
class LocomotionMapping:
    """See the module. Arrays have the order of ``joints``."""

    joints: tuple[str, ...]
    default_pose: Array
    position_limits: Array
    action_scale: float = ACTION_SCALE
    frames: int = 1
    """Observations that a policy sees at once, newest first."""

    @classmethod
    def of(cls, robot: Mapping[str, Any]) -> LocomotionMapping:
        """The mapping of a contract's ``robot`` part.

        Raises :class:`CheckpointError` where a key is missing or the lengths differ.
        """
        try:
            joints = tuple(robot["joints"])
            pose, limits = np.array(robot["default_pose"], float), np.array(robot["position_limits"], float)
        except KeyError as error:
            raise CheckpointError(f"The contract's robot lacks {error}; export the policy again.") from None
        if pose.shape != (len(joints),) or limits.shape != (len(joints), 2):
            raise CheckpointError(
                f"The contract names {len(joints)} joints, but has {pose.size} default angles and {len(limits)} "
                "limits; export the policy again."
            )
        return cls(joints, pose, limits, robot.get("action_scale", ACTION_SCALE), robot.get("frames", 1))

    @property
    def size(self) -> int:
        """Numbers in an observation."""
        return 9 + 3 * len(self.joints)

    def history(self, robots: int) -> ObservationHistory:
        """Where the observations of ``robots`` robots become rows of ``frames`` frames."""
        return ObservationHistory(robots, self.size, self.frames)

    def observation(
        self, angular_velocity: Array, gravity: Array, command: Array, position: Array, velocity: Array, action: Array
    ) -> NDArray[np.float32]:
        """[B, 9 + 3 J]; see the module."""
        parts = (angular_velocity, gravity, command, position - self.default_pose, velocity, action)
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    def targets(self, action: Array) -> NDArray[np.float64]:
        """Joint position targets [B, J] rad."""
        low, high = self.position_limits.T
        return np.clip(self.default_pose + self.action_scale * np.asarray(action, np.float64), low, high)

    def action_of(self, targets: Array) -> Array:
        """The action that asks for ``targets`` [B, J]; where a controller starts from a pose that it is in."""
        return (targets - self.default_pose) / self.action_scale


class ObservationHistory:
    """The last ``frames`` observations of B robots, newest first, as one row: [B, frames * size].

    From which a policy without memory can tell velocities and delays. A robot that starts anew is given its first
    observation ``frames`` times over.
    """

    def __init__(self, robots: int, size: int, frames: int) -> None:
        self.frames = frames
        self._rows = np.zeros((robots, frames, size), np.float32)
        self._fresh = np.ones(robots, bool)

    def reset(self, ids: NDArray[np.intp] | slice = slice(None)) -> None:
        """Robots ``ids`` start anew."""
        self._fresh[ids] = True

    def push(
        self, observation: NDArray[np.float32], ids: NDArray[np.intp] | slice = slice(None)
    ) -> NDArray[np.float32]:
        """Add [n, size] to robots ``ids``; their rows [n, frames * size] are a copy, not touched by the next push."""
        rows = self._rows[ids]
        rows = np.concatenate([observation[:, None], rows[:, :-1]], axis=1)
        fresh = self._fresh[ids]
        rows[fresh] = observation[fresh, None]
        self._rows[ids], self._fresh[ids] = rows, False
        return rows.reshape(len(rows), -1)
