"""Rewards of climbing, beside those of :mod:`ros_attn.sim.rewards`.

``progress`` and ``heading`` have the form of Extreme Parkour's (arXiv 2309.14341); r_pitch, r_hollow and r_edge are
StairMaster's (arXiv 2606.25765). Weights are ours, in the scale of ``walking``. Robots climb faster than asked, as
more speed than that is neither rewarded nor minded. Tried: -3 for each m/s by which the mean over a gait is beyond the
command and 0.1 more. In 12 M steps, with twice the commands to stand, the way to the landing took 5 % longer, and a
teacher's success at 37 degrees fell from 95 to 83 %; in 6 M steps with those commands alone, to 90 %. Progress by the
mean over a gait: in 5 M steps nothing changed, 0.8 m/s on 30 degrees for commands from 0.3 to 0.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim import rewards
from ros_attn.sim.moment import Moment
from ros_attn.sim.rewards import DeviationFrom, HeightBeside, Reward, Weighted
from ros_attn.sim.robot import Robot

Array = NDArray[Any]

STILL_MPS = 0.15


def _goal(m: Moment) -> NDArray[np.bool_]:
    return np.isfinite(m.waypoint[:, 0])


def progress(m: Moment) -> Array:
    """``min(v . d, c) / c`` along the horizontal direction d to the waypoint, c the speed asked for, at least -1.

    Asked to stand: ``exp(-|v|^2 / 0.15^2)``. 0 for robots without a waypoint.
    """
    goal, speed = _goal(m), m.command[:, 0]
    asked = np.where(speed > 0, speed, 1.0)
    along = (m.level_velocity * np.where(goal[:, None], m.waypoint, 0.0)).sum(axis=-1)
    still = np.exp(-np.square(m.level_velocity).sum(axis=-1) / STILL_MPS**2)
    return np.where(m.moving, np.clip(along / asked, -1.0, 1.0), still) * goal


def heading(m: Moment) -> Array:
    """``exp(-|angle|)`` between the robot's heading and the waypoint, times its progress; 0 for robots without one.

    The product keeps robots from gathering it by standing still.
    """
    x, y = np.where(_goal(m)[:, None], m.waypoint, 0.0).T
    return np.exp(-np.abs(np.arctan2(y, x))) * np.maximum(progress(m), 0.0)


def stumble(m: Moment) -> Array:
    """Number of feet that push sideways harder than downwards."""
    sideways = np.linalg.norm(m.foot_push[..., :2], axis=-1)
    return (m.foot_contact & (sideways > np.abs(m.foot_push[..., 2]))).sum(axis=-1).astype(float)


@dataclass(frozen=True)
class WithoutWaypoint:
    """A reward that only robots which follow their commands are given."""

    reward: Reward

    def __call__(self, m: Moment) -> Array:
        return self.reward(m) * ~_goal(m)


def climbing(robot: Robot) -> Mapping[str, Weighted]:
    """The rewards of climbing, and of walking for the robots without a waypoint."""
    hips = np.array([index for index, joint in enumerate(robot.joints) if "hip" in joint], np.intp)
    every = np.arange(len(robot.joints))
    return {
        "progress": Weighted(progress, 2.0),
        "heading": Weighted(heading, 0.5),
        "pitch": Weighted(rewards.pitch_towards_tread, 0.3),
        "feet in gaps": Weighted(rewards.feet_in_gaps, -0.5),
        "feet near edges": Weighted(rewards.feet_near_edges, -0.2),
        "stumble": Weighted(stumble, -0.3),
        "pace": Weighted(WithoutWaypoint(rewards.pace), 1.2),
        "velocity": Weighted(WithoutWaypoint(rewards.velocity_tracked), 1.2),
        "turn": Weighted(WithoutWaypoint(rewards.turn_tracked), 1.0),
        "tilt": Weighted(WithoutWaypoint(rewards.tilt), -2.0),
        "height": Weighted(WithoutWaypoint(HeightBeside(robot.stand_height)), -20.0),
        "roll": Weighted(rewards.roll, -2.0),
        "vertical velocity": Weighted(rewards.vertical_velocity, -0.5),
        "roll and pitch rate": Weighted(rewards.roll_and_pitch_rate, -0.05),
        "torque": Weighted(rewards.torque, -1e-4),
        "joint acceleration": Weighted(rewards.joint_acceleration, -2.5e-7),
        "action rate": Weighted(rewards.action_rate, -0.01),
        "action curvature": Weighted(rewards.action_curvature, -0.002),
        "target excess": Weighted(rewards.target_excess, -3.0),
        "body contacts": Weighted(rewards.body_contacts, -1.0),
        "swing": Weighted(rewards.swing, 16.0),
        "clearance": Weighted(rewards.clearance, -10.0),
        "slip": Weighted(rewards.slip, -0.1),
        "hips": Weighted(DeviationFrom(robot.default_pose, hips), -0.5),
        "pose": Weighted(DeviationFrom(robot.default_pose, every), -0.02),
        "pose while standing": Weighted(
            WithoutWaypoint(DeviationFrom(robot.default_pose, every, only_standing=True)), -1.0
        ),
        "standing": Weighted(rewards.standing, 2.5),
    }
