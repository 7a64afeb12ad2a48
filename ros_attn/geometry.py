"""Rotations and poses over numpy: quaternions ``xyzw`` as in ROS, poses as 4x4 matrices.

A pose matrix ``T_target_source`` maps coordinates in ``source`` to ``target``, so that
``T_a_c = T_a_b @ T_b_c``. Every function takes leading batch axes and broadcasts them; results are float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def wxyz_to_xyzw(quaternion: ArrayLike) -> Float:
    """MuJoCo's order ``[..., 4]`` to ROS's; this and its inverse are the only places that reorder."""
    return np.roll(np.asarray(quaternion, dtype=np.float64), -1, axis=-1)


def xyzw_to_wxyz(quaternion: ArrayLike) -> Float:
    """ROS's order ``[..., 4]`` to MuJoCo's."""
    return np.roll(np.asarray(quaternion, dtype=np.float64), 1, axis=-1)


def quaternion_multiply(a: ArrayLike, b: ArrayLike) -> Float:
    """Hamilton product ``a b`` of ``[..., 4]``: the rotation ``b`` first, then ``a``."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    a_xyz, a_w, b_xyz, b_w = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    xyz = a_w * b_xyz + b_w * a_xyz + np.cross(a_xyz, b_xyz)
    w = a_w * b_w - np.sum(a_xyz * b_xyz, axis=-1, keepdims=True)
    return np.concatenate([xyz, w], axis=-1)


def quaternion_conjugate(quaternion: ArrayLike) -> Float:
    """The inverse rotation of unit quaternions ``[..., 4]``."""
    return np.asarray(quaternion, dtype=np.float64) * np.array([-1.0, -1.0, -1.0, 1.0])


def quaternion_from_euler(roll: ArrayLike, pitch: ArrayLike, yaw: ArrayLike) -> Float:
    """``R = Rz(yaw) Ry(pitch) Rx(roll)`` [rad], REP-103's fixed-axis order, as ``[..., 4]``."""
    halves = [np.asarray(angle, dtype=np.float64) / 2 for angle in (roll, pitch, yaw)]
    (cr, cp, cy), (sr, sp, sy) = [np.cos(h) for h in halves], [np.sin(h) for h in halves]
    return np.stack(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ],
        axis=-1,
    )


def quaternion_to_matrix(quaternion: ArrayLike) -> Float:
    """``[..., 4]`` to ``[..., 3, 3]``; the length is divided out, so near-unit quaternions give rotations.

    A zero quaternion gives NaN.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    x, y, z, w = np.moveaxis(q, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        s = 2.0 / np.sum(q * q, axis=-1)
        rows = [
            [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
        ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_matrix(rotation: ArrayLike) -> Float:
    """``[..., 3, 3]`` to ``[..., 4]`` with ``w >= 0``.

    ``4 q q^T`` is linear in the rotation matrix; the row of its largest diagonal entry is normalised, which
    stays exact at 180 degrees. Source: S. W. Shepperd, "Quaternion from rotation matrix", 1978.
    """
    r = np.asarray(rotation, dtype=np.float64)
    outer = np.empty((*r.shape[:-2], 4, 4))
    trace = r[..., 0, 0] + r[..., 1, 1] + r[..., 2, 2]
    outer[..., 3, 3] = 1 + trace
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        outer[..., i, i] = 1 + 2 * r[..., i, i] - trace
        outer[..., i, j] = outer[..., j, i] = r[..., i, j] + r[..., j, i]
        outer[..., i, 3] = outer[..., 3, i] = r[..., k, j] - r[..., j, k]
    largest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    row = np.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    row = row / np.linalg.norm(row, axis=-1, keepdims=True)
    return np.where(row[..., 3:] < 0, -row, row)


def slerp(a: ArrayLike, b: ArrayLike, ratio: ArrayLike) -> Float:
    """From ``a`` (ratio 0) to ``b`` (ratio 1) of unit quaternions ``[..., 4]`` at constant angular speed.

    ``(sin((1-t)h) a + sin(th) b) / sin(h)``, with ``h`` the angle between them on the 3-sphere; of ``b`` and
    ``-b`` the nearer is taken. ``h = 2 atan2(|a-b|, |a+b|)`` keeps its digits for close quaternions, where
    ``acos(a.b)`` loses half of them. Source: K. Shoemake, SIGGRAPH 1985.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    t = np.asarray(ratio, dtype=np.float64)[..., None]
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=-1, keepdims=True), np.linalg.norm(a + b, axis=-1, keepdims=True))
    sine = np.sin(angle)
    same = sine == 0
    divisor = np.where(same, 1.0, sine)
    weight_a = np.where(same, 1 - t, np.sin((1 - t) * angle) / divisor)
    weight_b = np.where(same, t, np.sin(t * angle) / divisor)
    return weight_a * a + weight_b * b


def pose_matrix(translation: ArrayLike, quaternion: ArrayLike) -> Float:
    """``[..., 3]`` [m] and ``[..., 4]`` to ``[..., 4, 4]``."""
    rotation = quaternion_to_matrix(quaternion)
    position = np.asarray(translation, dtype=np.float64)
    batch = np.broadcast_shapes(rotation.shape[:-2], position.shape[:-1])
    pose = np.zeros((*batch, 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = position
    pose[..., 3, 3] = 1.0
    return pose


def pose_invert(pose: ArrayLike) -> Float:
    """``T_source_target`` of ``T_target_source`` ``[..., 4, 4]``: transpose and turn back, no solve."""
    pose = np.asarray(pose, dtype=np.float64)
    transposed = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = transposed
    inverse[..., :3, 3] = -(transposed @ pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def transform_points(pose: ArrayLike, points: ArrayLike) -> Float:
    """Points ``[..., N, 3]`` in ``source`` to ``target`` by ``T_target_source`` ``[..., 4, 4]``."""
    pose, points = np.asarray(pose, dtype=np.float64), np.asarray(points, dtype=np.float64)
    return points @ np.swapaxes(pose[..., :3, :3], -1, -2) + pose[..., None, :3, 3]
