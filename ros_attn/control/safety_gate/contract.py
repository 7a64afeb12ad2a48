"""What the safety gate must know of the robot, read from a checkpoint's ``contract.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.checkpoint import CONTRACT
from ros_attn.errors import CheckpointError
from ros_attn.values import Array, JointState


@dataclass(frozen=True, eq=False)
class JointContract:
    """Names, limits and gains of N joints, in the order of every command and joint state.

    ``position_limits`` [N, 2] rad (m for sliding joints); ``velocity_limits`` [N] rad/s; ``torque_limits`` [N] N m;
    ``kp`` [N] N m/rad and ``kd`` [N] N m s/rad of ``tau = kp (q* - q) + kd (qd* - qd) + tau_ff``.
    """

    joints: tuple[str, ...]
    position_limits: Array
    velocity_limits: Array
    torque_limits: Array
    kp: Array
    kd: Array

    @classmethod
    def read(cls, checkpoint: Path) -> JointContract:
        """The part ``robot`` of ``contract.json`` in a checkpoint directory; weights are neither needed nor opened.

        Keys: ``joints``, ``position_limits`` ([[low, high], ...]), ``velocity_limits``, ``torque_limits``, ``kp`` and
        ``kd``; others are left alone. Raises :class:`CheckpointError` where the file is missing or no JSON, a key is
        missing, a length differs, or a number cannot be a limit or gain.
        """
        path = checkpoint / CONTRACT
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}); name a checkpoint directory with its {CONTRACT}."
            ) from None
        robot = content.get("robot") if isinstance(content, dict) else None
        if not isinstance(robot, dict):
            raise CheckpointError(f"{path} has no part 'robot'; export the policy again with its robot's contract.")
        return cls.of(robot, str(path))

    @classmethod
    def of(cls, robot: Mapping[str, Any], where: str) -> JointContract:
        """The contract of a mapping, as :meth:`read`; ``where`` begins the sentence of a refusal."""
        joints = robot.get("joints")
        if (
            not isinstance(joints, list)
            or not joints
            or not all(isinstance(name, str) and name for name in joints)
            or len(set(joints)) != len(joints)
        ):
            raise CheckpointError(f"{where}: robot.joints is no list of different names; export the policy again.")
        limits = _numbers(robot, "position_limits", joints, where, (2,))
        if k := _first(limits[:, 0] >= limits[:, 1]):
            raise CheckpointError(
                f"{where}: robot.position_limits of {joints[k - 1]} are {limits[k - 1].tolist()}, which leave no "
                "range; write [low, high]."
            )
        positive = {
            key: _numbers(robot, key, joints, where) for key in ("velocity_limits", "torque_limits", "kp", "kd")
        }
        for key, numbers in positive.items():
            if k := _first(numbers <= 0):
                raise CheckpointError(
                    f"{where}: robot.{key} of {joints[k - 1]} is {numbers[k - 1]:g}; it must be above 0."
                )
        return cls(tuple(joints), limits, **positive)

    def damping(self, now_ns: int) -> JointState:
        """The command ``tau = -kd qd``: no position, velocity zero."""
        return JointState(now_ns, self.joints, np.empty(0), np.zeros(len(self.joints)), np.empty(0))


def _numbers(
    robot: Mapping[str, Any], key: str, joints: list[str], where: str, each: tuple[int, ...] = ()
) -> np.ndarray:
    if key not in robot:
        raise CheckpointError(f"{where} lacks robot.{key}; export the policy again.")
    try:
        numbers = np.array(robot[key], np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (len(joints), *each):
        wanted = " of a pair of numbers" * bool(each) or " of a number"
        raise CheckpointError(f"{where}: robot.{key} is no list{wanted} for each of {len(joints)} joints; mend it.")
    if not np.isfinite(numbers).all():
        raise CheckpointError(f"{where}: robot.{key} holds a number that is not finite; mend it.")
    return numbers


def _first(condition: np.ndarray) -> int:
    """The place of the first true entry, counted from 1; 0 where there is none."""
    return int(np.argmax(condition)) + 1 if condition.any() else 0
