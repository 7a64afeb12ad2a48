"""Rotations of many bodies at once, quaternions wxyz as MuJoCo has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def into_body(quaternion: Array, vector: Array) -> Array:
    """``R(quaternion)^T vector``: world vectors [..., 3] in the frames of bodies [..., 4]."""
    scalar, axis = quaternion[..., :1], -quaternion[..., 1:]
    twice = 2 * _cross(axis, vector)
    return vector + scalar * twice + _cross(axis, twice)


def from_body(quaternion: Array, vector: Array) -> Array:
    """``R(quaternion) vector``: vectors in the frames of bodies [..., 4], in the world."""
    scalar, axis = quaternion[..., :1], quaternion[..., 1:]
    twice = 2 * _cross(axis, vector)
    return vector + scalar * twice + _cross(axis, twice)


def _cross(a: Array, b: Array) -> Array:
    # np.cross is several times slower on small last axes.
    return np.stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ],
        axis=-1,
    )


def yaw_of(quaternion: Array) -> Array:
    """Heading [...] rad of the body's x axis in the world's plane."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def pitch_of(quaternion: Array) -> Array:
    """Pitch [...] rad, positive nose up (the negative of REP-103's rotation about y)."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    return np.arcsin(np.clip(2 * (x * z - w * y), -1.0, 1.0))


def turned(vector: Array, angle: Array) -> Array:
    """Plane vectors [..., 2] turned by angles [...] rad to the left."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vector[..., 0], vector[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def from_yaw(yaw: Array) -> Array:
    """Quaternions [..., 4] of turns about z."""
    zero = np.zeros_like(yaw)
    return np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], axis=-1)


def gravity_in_body(quaternion: Array) -> Array:
    """Unit vector of gravity in the frames of bodies [..., 4]: [..., 3]."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    return np.stack([-2 * (x * z - w * y), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1], axis=-1)


def rotation_from_quaternion(quaternion: Array) -> Array:
    """Rotations [..., 3, 3] of quaternions [..., 4] wxyz; the length is divided out."""
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_from_vector(vector: Array) -> Array:
    """Rotations [..., 3, 3] about axes ``vector / |vector|`` by the angles ``|vector|`` [rad]; [..., 3]."""
    half = np.linalg.norm(vector, axis=-1, keepdims=True) / 2
    # sinc(h / pi) = sin(h) / h, finite at 0
    return rotation_from_quaternion(np.concatenate([np.cos(half), vector / 2 * np.sinc(half / np.pi)], axis=-1))
