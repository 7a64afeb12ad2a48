"""Rotations against MuJoCo's own."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from ros_attn.sim import rotation


@pytest.fixture
def quaternions() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(50, 4))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_vectors_turn_as_mujoco_turns_them(quaternions: np.ndarray) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 3))
    expected = np.zeros((50, 3))
    for out, vector, quaternion in zip(expected, vectors, quaternions, strict=True):
        mujoco.mju_rotVecQuat(out, vector, quaternion)
    assert rotation.from_body(quaternions, vectors) == pytest.approx(expected, abs=1e-12)
    assert rotation.into_body(quaternions, expected) == pytest.approx(vectors, abs=1e-12)
    down = np.tile([0.0, 0.0, -1.0], (50, 1))
    assert rotation.gravity_in_body(quaternions) == pytest.approx(rotation.into_body(quaternions, down), abs=1e-12)


def test_yaw_and_pitch() -> None:
    yaw, pitch = np.meshgrid([-3.0, -0.4, 0.0, 2.0], [-1.2, 0.0, 0.7])
    yaw, pitch = yaw.ravel(), pitch.ravel()
    half = -pitch / 2  # nose up is a negative turn about y
    nose_up = np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], axis=-1)
    both = np.zeros_like(nose_up)
    for out, a, b in zip(both, rotation.from_yaw(yaw), nose_up, strict=True):
        mujoco.mju_mulQuat(out, a, b)
    assert rotation.yaw_of(both) == pytest.approx(yaw)
    assert rotation.pitch_of(both) == pytest.approx(pitch)
    ahead = rotation.from_body(both, np.tile([1.0, 0.0, 0.0], (len(yaw), 1)))
    assert np.arcsin(ahead[:, 2]) == pytest.approx(pitch)
