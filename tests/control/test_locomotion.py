"""The mapping between a policy and a robot."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.control.locomotion import LocomotionMapping, ObservationHistory, gravity_in_base
from ros_attn.errors import CheckpointError
from ros_attn.geometry import quaternion_from_euler, quaternion_to_matrix

ROBOT = {
    "joints": ["a", "b"], "default_pose": [0.1, -0.5], "position_limits": [[-1, 1], [-0.6, 0.2]], "action_scale": 0.5,
}  # fmt: skip


def test_layout_of_an_observation() -> None:
    mapping = LocomotionMapping.of(ROBOT)
    parts = [np.arange(3.0), 10 + np.arange(3.0), 20 + np.arange(3.0), np.array([1.0, 2.0]), np.array([3.0, 4.0]),
             np.array([5.0, 6.0])]  # fmt: skip
    row = mapping.observation(*(part[None] for part in parts))
    assert row.dtype == np.float32 and row.shape == (1, mapping.size) == (1, 15)
    assert row[0] == pytest.approx([0, 1, 2, 10, 11, 12, 20, 21, 22, 0.9, 2.5, 3, 4, 5, 6])


def test_targets_stay_within_the_joints_limits() -> None:
    mapping = LocomotionMapping.of(ROBOT)
    assert mapping.targets(np.array([[0.4, 1.0], [-9.0, -9.0]])) == pytest.approx(np.array([[0.3, 0.0], [-1, -0.6]]))
    assert mapping.action_of(mapping.targets(np.array([[0.4, 1.0]]))) == pytest.approx(np.array([[0.4, 1.0]]))


def test_gravity_is_the_rotated_vertical() -> None:
    rng = np.random.default_rng(0)
    for roll, pitch, yaw in rng.uniform(-3, 3, (20, 3)):
        quaternion = quaternion_from_euler(roll, pitch, yaw)
        expected = quaternion_to_matrix(quaternion).T @ (0, 0, -1)
        assert gravity_in_base(quaternion) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("key", ["joints", "default_pose", "position_limits"])
def test_incomplete_contract_is_refused(key: str) -> None:
    with pytest.raises(CheckpointError, match=key):
        LocomotionMapping.of({name: value for name, value in ROBOT.items() if name != key})


def test_contract_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(CheckpointError, match="2 joints, but has 3 default angles"):
        LocomotionMapping.of(ROBOT | {"default_pose": [0, 0, 0]})


def test_history_of_some_robots() -> None:
    history = ObservationHistory(3, 2, 2)
    first = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert history.push(first).tolist() == [[0, 1, 0, 1], [2, 3, 2, 3], [4, 5, 4, 5]]
    history.reset(np.array([1]))
    rows = history.push(first[:2] + 10, np.array([0, 1]))
    assert rows.tolist() == [[10, 11, 0, 1], [12, 13, 12, 13]]
    rows[:] = -1
    assert history.push(first)[2].tolist() == [4, 5, 4, 5]
    assert history.push(first)[0].tolist() == [0, 1, 0, 1]
