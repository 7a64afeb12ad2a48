from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ros_attn.sim import rewards
from ros_attn.sim.moment import Moment


def moment(**fields: Any) -> Moment:
    arrays = {name: np.asarray(value) for name, value in fields.items()}
    command = arrays.get("command", np.ones((1, 3)))
    return cast(Moment, SimpleNamespace(**arrays, moving=(command != 0).any(axis=-1)))


def going(velocity: list[float], command: list[float], turn: float = 0.0) -> Moment:
    return moment(linear_velocity=[[*velocity, 0.0]], angular_velocity=[[0.0, 0.0, turn]], command=[command])


def test_pace_is_felt_while_standing_and_falls_beyond_what_was_asked() -> None:
    command = [0.6, 0.0, 0.0]
    paces = [rewards.pace(going([v, 0.0], command))[0] for v in (-1.0, 0.0, 0.1, 0.6, 0.9, 2.0)]
    assert paces == pytest.approx([-1, 0, 1 / 6, 1, 0.5, -1])
    assert rewards.pace(going([0.0, 0.1], [0.0, -0.4, 0.0]))[0] == pytest.approx(-0.25)
    assert rewards.pace(going([0.5, 0.0], [0.0, 0.0, 1.0]))[0] == 0
    assert rewards.pace(going([0.5, 0.0], [0.1, 0.0, 0.0]))[0] == pytest.approx(-0.5)


def test_turn_is_not_gathered_by_standing_still() -> None:
    still = rewards.turn_tracked(going([0.0, 0.0], [0.6, 0.0, 0.0]))[0]
    half = rewards.turn_tracked(going([0.3, 0.0], [0.6, 0.0, 0.0]))[0]
    on_the_spot = rewards.turn_tracked(going([0.0, 0.0], [0.0, 0.0, 0.5], turn=0.5))[0]
    assert (still, half, on_the_spot) == pytest.approx((0.0, 0.5, 1.0))
    late = rewards.turn_tracked(going([0.0, 0.0], [0.0, 0.0, 0.5], turn=0.25))[0]
    assert late == pytest.approx((np.exp(-((0.25 / 0.7) ** 2)) + np.exp(-1.0)) / 2)


def test_swing_pays_at_touchdown_between_its_bounds_and_never_costs() -> None:
    air = [[0.02, 0.08, 0.18, 0.9]]
    landed = np.ones((1, 4), bool)
    assert rewards.swing(moment(air_time=air, landed=landed))[0] == pytest.approx(0.0 + 0.0 + 0.1 + 0.17)
    assert rewards.swing(moment(air_time=air, landed=~landed))[0] == 0
    assert rewards.swing(moment(air_time=air, landed=landed, command=np.zeros((1, 3))))[0] == 0


def test_a_foot_that_has_just_landed_does_not_slip() -> None:
    speed = np.zeros((1, 4, 3))
    speed[..., 0], speed[..., 2] = 0.5, 9.0
    contact, landed = np.array([[True, True, False, False]]), np.array([[True, False, False, False]])
    assert rewards.slip(moment(foot_speed=speed, foot_contact=contact, landed=landed))[0] == pytest.approx(0.25)


def test_standing_counts_feet_and_stillness_only_where_asked_to_stand() -> None:
    down, still = np.ones((1, 4), bool), np.zeros((1, 12))
    half = np.array([[True, True, False, False]])
    moved = np.full((1, 12), np.sqrt(30 / 12))
    stop = np.zeros((1, 3))
    assert rewards.standing(moment(foot_contact=down, joint_velocity=still, command=stop))[0] == 1
    assert rewards.standing(moment(foot_contact=half, joint_velocity=still, command=stop))[0] == 0.75
    assert rewards.standing(moment(foot_contact=down, joint_velocity=moved, command=stop))[0] == pytest.approx(0.75)
    assert rewards.standing(moment(foot_contact=down, joint_velocity=still))[0] == 0


def test_uneven_swings_are_those_of_a_limp() -> None:
    assert rewards.uneven_swings(moment(last_swing=np.full((1, 4), 0.2)))[0] == 0
    limp = moment(last_swing=[[0.2, 0.2, 0.2, 0.0]])
    assert rewards.uneven_swings(limp)[0] == pytest.approx(0.0075)
    assert rewards.uneven_swings(moment(last_swing=[[0.2, 0.2, 0.2, 0.0]], command=np.zeros((1, 3))))[0] == 0
