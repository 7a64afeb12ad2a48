"""Rewards and penalties of legged locomotion: plain functions of a :class:`Moment`, [E] each, before their weights.

``pitch_towards_tread``, ``feet_in_gaps`` and ``feet_near_edges`` are r_pitch, r_hollow and r_edge of StairMaster
(arXiv 2606.25765); its weights and thresholds are not published, so those are ours. The others are the field's usual
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.moment import Moment
from ros_attn.sim.robot import Robot

Array = NDArray[Any]

LONGEST_USEFUL_SWING_S = 0.25
SHORTEST_USEFUL_SWING_S = 0.08
CLEARANCE_M = 0.07
TOUCH_N = 1.0


def pace(m: Moment) -> Array:
    """``(|c| - | v . c / |c| - |c| |) / max(|c|, 0.2 m/s)``, from -1 to 1: 1 at the speed asked for, felt from afar.

    Too fast costs as much as too slow: robots that cannot tell their speed well would else rather run.
    """
    size = np.linalg.norm(m.command[:, :2], axis=-1)
    along = (m.linear_velocity[:, :2] * m.command[:, :2]).sum(axis=-1) / np.maximum(size, 1e-6)
    return np.clip(size - np.abs(along - size), -size, size) / np.maximum(size, 0.2)


def velocity_tracked(m: Moment, deviation: float = 0.2) -> Array:
    """exp(-|v_xy - c_xy|^2 / deviation^2)."""
    error = np.square(m.linear_velocity[:, :2] - m.command[:, :2]).sum(axis=-1)
    return np.exp(-error / deviation**2)


def turn_tracked(m: Moment) -> Array:
    """exp(-(w_z - c_turn)^2 / s^2), half of it with s 0.7 and half with 0.25 rad/s, times how well the pace is met.

    The product keeps robots from gathering it by standing still.
    """
    error = np.square(m.angular_velocity[:, 2] - m.command[:, 2])
    moves = np.linalg.norm(m.command[:, :2], axis=-1) > 0.2
    met = np.where(moves, np.clip(pace(m), 0.0, 1.0), 1.0)
    return met * (np.exp(-error / 0.7**2) + np.exp(-error / 0.25**2)) / 2


def vertical_velocity(m: Moment) -> Array:
    """v_z^2."""
    return np.square(m.linear_velocity[:, 2])


def roll_and_pitch_rate(m: Moment) -> Array:
    """w_x^2 + w_y^2."""
    return np.square(m.angular_velocity[:, :2]).sum(axis=-1)


def tilt(m: Moment) -> Array:
    """Horizontal part of gravity in the base, squared."""
    return np.square(m.gravity[:, :2]).sum(axis=-1)


def roll(m: Moment) -> Array:
    """Sideways part of gravity in the base, squared: on stairs pitch is free."""
    return np.square(m.gravity[:, 1])


def torque(m: Moment) -> Array:
    """Sum of squared joint torques: the motors' heat."""
    return np.square(m.torque).sum(axis=-1)


def power(m: Moment) -> Array:
    """Sum of the joints' mechanical power, unsigned, W."""
    return np.abs(m.torque * m.joint_velocity).sum(axis=-1)


def joint_acceleration(m: Moment) -> Array:
    """Sum of squared joint accelerations."""
    return np.square(m.joint_acceleration).sum(axis=-1)


def action_rate(m: Moment) -> Array:
    """Sum of squared changes of the action."""
    return np.square(m.action - m.last_action).sum(axis=-1)


def action_curvature(m: Moment) -> Array:
    """Sum of squared second differences of the action."""
    return np.square(m.action - 2 * m.last_action + m.earlier_action).sum(axis=-1)


def target_excess(m: Moment) -> Array:
    """Sum of what joint targets were asked to move beyond the joints' top speeds, rad: a safety gate cuts that off."""
    return m.target_excess.sum(axis=-1)


def body_contacts(m: Moment) -> Array:
    """Number of geoms other than feet that touch something."""
    return (m.body_force > TOUCH_N).sum(axis=-1).astype(float)


def swing(m: Moment) -> Array:
    """At each touchdown the time in the air beyond the shortest useful swing, up to the longest; only when moving.

    Never negative: while a robot has yet to learn to step, short steps must cost nothing.
    """
    useful = np.clip(m.air_time, SHORTEST_USEFUL_SWING_S, LONGEST_USEFUL_SWING_S) - SHORTEST_USEFUL_SWING_S
    return (useful * m.landed).sum(axis=-1) * m.moving


def uneven_swings(m: Moment) -> Array:
    """Variance over the feet of the times of their last swings, s^2, each at most 0.5 s; only when moving."""
    return np.minimum(m.last_swing, 0.5).var(axis=-1) * m.moving


def clearance(m: Moment) -> Array:
    """How far moving feet are from swinging at the clearance height: (z - z*)^2 |v_xy|, summed over the feet."""
    speed = np.linalg.norm(m.foot_speed[..., :2], axis=-1)
    return (np.square(np.minimum(m.foot_height - CLEARANCE_M, 0)) * speed).sum(axis=-1)


def slip(m: Moment) -> Array:
    """Squared horizontal speed of the feet that stand and stood a step before."""
    return (np.square(m.foot_speed[..., :2]).sum(axis=-1) * (m.foot_contact & ~m.landed)).sum(axis=-1)


def standing(m: Moment) -> Array:
    """Asked to stand: half the share of feet on the ground, half ``1 / (1 + sum of squared joint velocities / 30)``.

    A reward and not a penalty, as a step's rewards never sum to less than 0: there robots would learn nothing from it.
    """
    still = 1 / (1 + np.square(m.joint_velocity).sum(axis=-1) / 30)
    return (m.foot_contact.mean(axis=-1) + still) / 2 * ~m.moving


def pitch_towards_tread(m: Moment) -> Array:
    """exp(-4 (pitch - pitch*)^2), pitch* the slope to the second next tread; 0 where there is none near."""
    near = np.isfinite(m.pitch_to_tread)
    return np.where(near, np.exp(-4 * np.square(m.pitch - np.where(near, m.pitch_to_tread, 0.0))), 0.0)


def feet_in_gaps(m: Moment) -> Array:
    """Number of feet where only a gap is."""
    return m.in_gap.sum(axis=-1).astype(float)


def feet_near_edges(m: Moment, safe_m: float = 0.03) -> Array:
    """Number of standing feet closer than ``safe_m`` to the edge of a tread."""
    return (m.foot_contact & (m.edge_distance < safe_m)).sum(axis=-1).astype(float)


@dataclass(frozen=True)
class DeviationFrom:
    """Sum of squared deviations from the default pose over some joints; what they are is bound to a robot."""

    default_pose: Array
    joints: NDArray[np.intp]
    only_standing: bool = False

    def __call__(self, m: Moment) -> Array:
        found = np.square(m.joint_position[:, self.joints] - self.default_pose[self.joints]).sum(axis=-1)
        return found * ~m.moving if self.only_standing else found


@dataclass(frozen=True)
class HeightBeside:
    """(height - ``wanted``)^2 of the base above the ground, m^2."""

    wanted: float

    def __call__(self, m: Moment) -> Array:
        return np.square(m.height - self.wanted)


Reward = Callable[[Moment], Array]


@dataclass(frozen=True)
class Weighted:
    """A reward and what it counts, per second; of ``lenient`` penalties a curriculum lets little count at first."""

    reward: Reward
    weight: float
    lenient: bool = True


def walking(robot: Robot) -> Mapping[str, Weighted]:
    """The rewards of walking on the level, for velocity commands."""
    hips = np.array([index for index, joint in enumerate(robot.joints) if "hip" in joint], np.intp)
    every = np.arange(len(robot.joints))
    return {
        "pace": Weighted(pace, 1.2),
        "velocity": Weighted(velocity_tracked, 1.2),
        "turn": Weighted(turn_tracked, 1.0),
        "vertical velocity": Weighted(vertical_velocity, -2.0),
        "roll and pitch rate": Weighted(roll_and_pitch_rate, -0.05),
        "tilt": Weighted(tilt, -5.0),
        "height": Weighted(HeightBeside(robot.stand_height), -200.0),
        "torque": Weighted(torque, -4.5e-4),
        "joint acceleration": Weighted(joint_acceleration, -2.5e-7),
        "action rate": Weighted(action_rate, -0.01),
        "action curvature": Weighted(action_curvature, -0.002),
        "target excess": Weighted(target_excess, -3.0),
        # Robots that may go on their knees at first hardly ever stand up again.
        "body contacts": Weighted(body_contacts, -4.0, lenient=False),
        "swing": Weighted(swing, 20.0),
        "uneven swings": Weighted(uneven_swings, -200.0),
        "clearance": Weighted(clearance, -20.0),
        "slip": Weighted(slip, -0.1),
        "hips": Weighted(DeviationFrom(robot.default_pose, hips), -0.5),
        "pose": Weighted(DeviationFrom(robot.default_pose, every), -0.05),
        "pose while standing": Weighted(DeviationFrom(robot.default_pose, every, only_standing=True), -1.0),
        "standing": Weighted(standing, 2.5),
    }
