"""The limits that a joint command is clamped to: position, rate and torque."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.values import Array

TOLERANCE = 1e-6
"""Policies that clip in float32 at a limit exceed it by up to 2.4e-7 of 4; that is clamped, but is no violation."""


@dataclass(frozen=True, eq=False)
class Target:
    """A PD command of N joints: position [rad], velocity [rad/s] and feed-forward torque [N m], [N] each."""

    position: Array
    velocity: Array
    effort: Array


class Exceeded(NamedTuple):
    """A limit that a command exceeded: which kind of limit, and the sentence that says by how much."""

    kind: str
    sentence: str


def predicted_torque(target: Target, position: Array, velocity: Array, contract: JointContract) -> Array:
    """``kp (q* - q) + kd (qd* - qd) + tau_ff`` [N] N m, of measured ``position`` [rad] and ``velocity`` [rad/s]."""
    return (
        contract.kp * (target.position - position) + contract.kd * (target.velocity - velocity) + target.effort
    )  # fmt: skip


def clamp(
    wanted: Target, previous: Array, position: Array, velocity: Array, dt_s: float, contract: JointContract
) -> tuple[Target, Exceeded | None]:
    """The command nearest to ``wanted`` within the limits, and the first limit that it exceeded, if any.

    Velocity targets and feed-forward torques are clipped to the joints' own limits. The position target is clipped to
    ``previous`` (the last target published) +- velocity limit * ``dt_s``, then to where the predicted torque is within
    the torque limit, then to the position limits; where these exclude each other the later one wins. All arrays [N].
    """
    speed = np.clip(wanted.velocity, -contract.velocity_limits, contract.velocity_limits)
    effort = np.clip(wanted.effort, -contract.torque_limits, contract.torque_limits)
    low, high = contract.position_limits.T
    reach = contract.velocity_limits * dt_s
    in_range = np.clip(wanted.position, low, high)
    reachable = np.clip(in_range, previous - reach, previous + reach)
    torque = predicted_torque(Target(reachable, speed, effort), position, velocity, contract)
    excess = torque - np.clip(torque, -contract.torque_limits, contract.torque_limits)
    clamped = Target(np.clip(reachable - excess / contract.kp, low, high), speed, effort)
    said = (
        _exceeded("position target", "rad", wanted.position, in_range, contract)
        or _exceeded("velocity target", "rad/s", wanted.velocity, speed, contract)
        or _exceeded("feed-forward torque", "N m", wanted.effort, effort, contract)
        or _exceeded("change of position target", "rad", in_range - previous, reachable - previous, contract)
        or _exceeded("predicted torque", "N m", torque, torque - excess, contract)
    )
    return clamped, said


def _exceeded(what: str, unit: str, wanted: Array, allowed: Array, contract: JointContract) -> Exceeded | None:
    beyond = np.abs(wanted - allowed) > TOLERANCE * np.maximum(1.0, np.abs(allowed))
    if not beyond.any():
        return None
    k = int(np.argmax(beyond))
    values = f"{wanted[k]:.4g} {unit} is beyond its limit of {allowed[k]:.4g} {unit}"
    return Exceeded(what, f"{contract.joints[k]} {what} {values}")
