"""Depth images as a locomotion policy takes them: the one preprocessing of simulated and real cameras.

Crop to the field of view of training, clip, resize to 48 x 64, light blur, scale, and the share of valid pixels in
each cell of 8 x 8 that becomes a token. Pixels without a measurement (0, negative, NaN, infinite) take no part in any
mean. A camera that reports "beyond range" as 0 loses that knowledge here: it is a hole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros_attn.errors import MessageError, ParameterError

HEIGHT, WIDTH, CELL = 48, 64, 8
"""Rows and columns of the image a policy takes, and the side of a token's cell, in pixels."""

Depth = NDArray[np.float32]
Window = tuple[float, float, float, float]


class DepthInput(NamedTuple):
    """``image`` [..., 48, 64] from -0.5 (near) to 0.5 (far), 0 where nothing is known; ``valid`` [..., 6, 8] shares."""

    image: Depth
    valid: Depth


def metres(pixels: NDArray[np.generic], encoding: str) -> Depth:
    """Depth [..., H, W] in metres, 0 where invalid, of ``16UC1`` (millimetres) or ``32FC1`` (metres) pixels (REP-118).

    MessageError for another encoding.
    """
    if encoding == "16UC1":
        return pixels.astype(np.float32) * np.float32(1e-3)
    if encoding == "32FC1":
        depth = pixels.astype(np.float32)
        return np.where(_measured(depth), depth, np.float32(0))
    raise MessageError(f"depth image: encoding {encoding!r} is not a depth; publish 16UC1 (mm) or 32FC1 (m)")


def _measured(depth: Depth) -> NDArray[np.bool_]:
    return (depth > 0) & (depth < np.inf)


def field_window(camera_matrix: NDArray[np.float64], horizontal_fov_rad: float, vertical_fov_rad: float) -> Window:
    """The part of an image that shows a field of view: (left, top, right, bottom) in pixels, 0 at the outer border.

    ``camera_matrix`` is K [3, 3] of CameraInfo, whose (0, 0) is the centre of the first pixel. The window may reach
    beyond the image; what is there counts as invalid. ParameterError for an uncalibrated camera.
    """
    fx, fy, cx, cy = camera_matrix[0, 0], camera_matrix[1, 1], camera_matrix[0, 2], camera_matrix[1, 2]
    if not (fx > 0 and fy > 0):
        raise ParameterError("depth camera: its CameraInfo has no focal length; calibrate it or publish its intrinsics")
    half_width, half_height = fx * np.tan(horizontal_fov_rad / 2), fy * np.tan(vertical_fov_rad / 2)
    left, top = cx + 0.5 - half_width, cy + 0.5 - half_height
    return float(left), float(top), float(left + 2 * half_width), float(top + 2 * half_height)


def preprocess(depth_m: Depth, near_m: float, far_m: float, window: Window | None = None) -> DepthInput:
    """Depth [..., H, W] in metres of any size to what a policy takes.

    Each output pixel is the mean, by area, of the valid part of what it covers, clipped to [near_m, far_m], and is
    valid where at least half of that is. It holds ``(z - near) / (far - near) - 0.5``, after a 3 x 3 blur (1 2 1) of
    the valid pixels, which also fills single holes. ``window`` crops (see :func:`field_window`); None: the whole image.

    ParameterError unless 0 <= near_m < far_m, MessageError for an array that is no image.
    """
    if not 0 <= near_m < far_m:
        raise ParameterError(f"depth image: near_m {near_m} and far_m {far_m} must satisfy 0 <= near_m < far_m")
    if depth_m.ndim < 2 or 0 in depth_m.shape[-2:]:
        raise MessageError(f"depth image: an array of shape {depth_m.shape} is no image; give [..., height, width]")
    depth = depth_m.astype(np.float32)
    weight = _measured(depth)
    # scaled first, so that a hole is 0 and adds nothing to a sum
    value = np.where(weight, np.clip(depth, near_m, far_m), np.float32(near_m))
    value = (value - np.float32(near_m)) / np.float32(far_m - near_m) - np.float32(0.5)
    value *= weight
    weight = weight.astype(np.float32)
    height, width = depth.shape[-2:]
    if window is not None or (height, width) != (HEIGHT, WIDTH):
        left, top, right, bottom = window or (0.0, 0.0, float(width), float(height))
        down, across = _area_mean(height, HEIGHT, top, bottom), _area_mean(width, WIDTH, left, right).T
        value, weight = down @ value @ across, down @ weight @ across
        known = weight >= 0.5
        value = np.where(known, value / np.maximum(weight, np.float32(0.5)), np.float32(0))
        weight = known.astype(np.float32)
    cells = weight.reshape(*weight.shape[:-2], HEIGHT // CELL, CELL, WIDTH // CELL, CELL)
    blurred = _blurred(value)
    blurred /= np.maximum(_blurred(weight), np.float32(1 / 16))  # the least there is, if any pixel is valid
    return DepthInput(blurred, cells.mean(axis=(-3, -1)))


def _area_mean(source: int, target: int, start: float, stop: float) -> Depth:
    """Weights [target, source] by which equal parts of [start, stop) average pixels; rows sum to the part inside."""
    edges = np.linspace(start, stop, target + 1)
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) * (target / (stop - start))).astype(np.float32)


def _blurred(image: Depth) -> Depth:
    """(1 2 1) / 4 along rows and columns, nothing beyond the border."""
    out = image * np.float32(0.5)
    out[..., 1:, :] += 0.25 * image[..., :-1, :]
    out[..., :-1, :] += 0.25 * image[..., 1:, :]
    result = out * np.float32(0.5)
    result[..., 1:] += 0.25 * out[..., :-1]
    result[..., :-1] += 0.25 * out[..., 1:]
    return result
