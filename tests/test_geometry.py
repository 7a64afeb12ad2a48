"""Rotations and poses against scipy's Rotation and Slerp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from ros_attn import geometry

RNG = np.random.default_rng(7)
ROTATIONS = Rotation.random(64, rng=RNG)


def same_rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a.b| of quaternions: 1 for the same rotation whatever the sign."""
    return np.abs(np.sum(a * b, axis=-1))


def test_matrix_and_back() -> None:
    quaternions = ROTATIONS.as_quat()
    np.testing.assert_allclose(geometry.quaternion_to_matrix(quaternions), ROTATIONS.as_matrix(), atol=1e-14)
    back = geometry.quaternion_from_matrix(ROTATIONS.as_matrix())
    np.testing.assert_allclose(same_rotation(back, quaternions), 1.0, atol=1e-14)
    assert np.all(back[:, 3] >= 0)


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0.0]])
def test_half_turns_survive_the_matrix(axis: list[float]) -> None:
    turn = Rotation.from_rotvec(np.pi * np.array(axis))
    back = geometry.quaternion_from_matrix(turn.as_matrix())
    np.testing.assert_allclose(same_rotation(back, turn.as_quat()), 1.0, atol=1e-14)


def test_length_is_divided_out() -> None:
    np.testing.assert_allclose(
        geometry.quaternion_to_matrix(3.0 * ROTATIONS.as_quat()), ROTATIONS.as_matrix(), atol=1e-14
    )
    assert np.isnan(geometry.quaternion_to_matrix(np.zeros(4))).all()


def test_product_is_the_second_rotation_first() -> None:
    a, b = ROTATIONS[:32], ROTATIONS[32:]
    product = geometry.quaternion_multiply(a.as_quat(), b.as_quat())
    np.testing.assert_allclose(same_rotation(product, (a * b).as_quat()), 1.0, atol=1e-14)
    unit = geometry.quaternion_multiply(a.as_quat(), geometry.quaternion_conjugate(a.as_quat()))
    np.testing.assert_allclose(unit, np.tile([0, 0, 0, 1.0], (32, 1)), atol=1e-15)


def test_euler_is_fixed_axis_roll_pitch_yaw() -> None:
    angles = RNG.uniform(-3, 3, size=(50, 3))
    ours = geometry.quaternion_from_euler(*angles.T)
    np.testing.assert_allclose(same_rotation(ours, Rotation.from_euler("xyz", angles).as_quat()), 1.0, atol=1e-14)


@given(angle=st.floats(1e-12, np.pi - 1e-6), ratio=st.floats(0, 1), seed=st.integers(0, 2**16), flip=st.booleans())
def test_slerp_is_scipys(angle: float, ratio: float, seed: int, flip: bool) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    start = Rotation.random(rng=rng)
    end = start * Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    ours = geometry.slerp(start.as_quat(), -end.as_quat() if flip else end.as_quat(), ratio)
    theirs = Slerp([0.0, 1.0], Rotation.concatenate([start, end]))(ratio)
    assert np.linalg.norm((Rotation.from_quat(ours) * theirs.inv()).as_rotvec()) < 1e-13
    assert np.linalg.norm(ours) == pytest.approx(1, abs=1e-14)


def test_slerp_of_equal_rotations_and_batches() -> None:
    q = ROTATIONS.as_quat()
    np.testing.assert_allclose(geometry.slerp(q, q, 0.3), q, rtol=0, atol=3e-16)
    half = geometry.slerp(q[:32], q[32:], np.full(32, 0.5))
    one_by_one = np.stack([geometry.slerp(a, b, 0.5) for a, b in zip(q[:32], q[32:], strict=True)])
    np.testing.assert_allclose(half, one_by_one, atol=1e-15)


def test_pose_inverse_and_points() -> None:
    pose = geometry.pose_matrix(RNG.normal(size=(64, 3)), ROTATIONS.as_quat())
    np.testing.assert_allclose(geometry.pose_invert(pose) @ pose, np.tile(np.eye(4), (64, 1, 1)), atol=1e-14)
    points = RNG.normal(size=(64, 5, 3))
    homogeneous = np.concatenate([points, np.ones((64, 5, 1))], axis=-1)
    np.testing.assert_allclose(
        geometry.transform_points(pose, points), np.einsum("bij,bnj->bni", pose, homogeneous)[..., :3], atol=1e-14
    )


def test_mujoco_order() -> None:
    np.testing.assert_array_equal(geometry.wxyz_to_xyzw([4, 1, 2, 3]), [1, 2, 3, 4])
    q = ROTATIONS.as_quat()
    np.testing.assert_array_equal(geometry.wxyz_to_xyzw(geometry.xyzw_to_wxyz(q)), q)
    np.testing.assert_array_equal(geometry.xyzw_to_wxyz(q), ROTATIONS.as_quat(scalar_first=True))
