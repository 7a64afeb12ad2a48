"""Bringing the infrared image into the visible camera's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ros_attn.errors import MessageError, ParameterError
from ros_attn.values import Array, CameraInfo

FEATHER_SIGMA_PX = 6.0
NODE_DISTANCE_PX = 4


@dataclass(frozen=True, eq=False)
class Alignment:
    """For each visible pixel, where it lies in the infrared image.

    ``map_x``, ``map_y`` [H, W] float32 infrared px; ``coverage`` [H, W] float32 in [0, 1] says where infrared
    exists, feathered towards its border so that no seam shows.
    """

    map_x: Array
    map_y: Array
    coverage: Array
    source_size: tuple[int, int]

    def warp(self, infrared: Array) -> Array:
        """The infrared image [h, w] resampled into visible pixels [H, W], bilinear."""
        return cv2.remap(infrared, self.map_x, self.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _build(map_x: Array, map_y: Array, source_size: tuple[int, int]) -> Alignment:
    height, width = source_size
    inside = (map_x >= 0) & (map_x <= width - 1) & (map_y >= 0) & (map_y <= height - 1)
    solid = np.ascontiguousarray(inside, dtype=np.float32)
    # Eroded before the blur: outside the sensor the weight must be exactly 0.
    margin = round(3 * FEATHER_SIGMA_PX)
    eroded = cv2.erode(solid, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8), borderValue=1.0)
    feathered = cv2.GaussianBlur(eroded, (2 * margin + 1,) * 2, FEATHER_SIGMA_PX, borderType=cv2.BORDER_REPLICATE)
    coverage = np.where(inside, feathered, 0).astype(np.float32)
    return Alignment(map_x.astype(np.float32), map_y.astype(np.float32), coverage, source_size)


def _pixels(size: tuple[int, int]) -> Array:
    """Pixel centres [H, W, 2] as (x, y)."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    return np.stack([x, y], axis=-1)


def stretched(visible_size: tuple[int, int], infrared_size: tuple[int, int]) -> Alignment:
    """Both cameras see the same field, at different resolutions: ``x_ir = (x_vi + 1/2) w/W - 1/2``."""
    pixels = _pixels(visible_size)
    scale_x, scale_y = infrared_size[1] / visible_size[1], infrared_size[0] / visible_size[0]
    map_x = np.clip((pixels[..., 0] + 0.5) * scale_x - 0.5, 0, infrared_size[1] - 1)
    map_y = np.clip((pixels[..., 1] + 0.5) * scale_y - 0.5, 0, infrared_size[0] - 1)
    return _build(map_x, map_y, infrared_size)


def by_homography(
    H_visible_infrared: tuple[float, ...], visible_size: tuple[int, int], infrared_size: tuple[int, int]
) -> Alignment:
    """``x_vi ~ H x_ir`` (row-major 3x3, pixels), inverted for resampling.

    Raises :class:`ParameterError` where H is singular.
    """
    matrix = np.asarray(H_visible_infrared, dtype=np.float64).reshape(3, 3)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise ParameterError(f"homography {matrix.ravel().tolist()} cannot be inverted; measure it again.")
    pixels = _pixels(visible_size)
    homogeneous = np.concatenate([pixels, np.ones((*visible_size, 1))], axis=-1) @ np.linalg.inv(matrix).T
    with np.errstate(divide="ignore", invalid="ignore"):
        mapped = homogeneous[..., :2] / homogeneous[..., 2:]
    mapped = np.where(homogeneous[..., 2:] > 0, mapped, -1e6)
    return _build(mapped[..., 0], mapped[..., 1], infrared_size)


def by_calibration(visible: CameraInfo, infrared: CameraInfo, T_infrared_visible: Array, depth_m: float) -> Alignment:
    """By both calibrations, for a scene at ``depth_m`` along the visible camera's axis.

    ``x_ir = pi_ir(T_infrared_visible (depth_m * pi_vi^-1(x_vi)))`` with each camera's own distortion. The
    residual for something at depth z is ``f_ir * baseline * |1/z - 1/depth_m|`` px.

    Raises :class:`MessageError` where a camera is uncalibrated (``k[0] == 0``) or its model is not known.
    """
    for name, info in (("visible", visible), ("infrared", infrared)):
        if not info.calibrated:
            raise MessageError(
                f"{name}/camera_info ({info.frame_id or 'no frame'}) is uncalibrated (k[0] is 0); "
                "calibrate the camera, or set align:=homography."
            )
        if info.distortion_model not in ("plumb_bob", "rational_polynomial", "equidistant", ""):
            raise MessageError(
                f"{name}/camera_info has distortion model {info.distortion_model!r}; known are plumb_bob, "
                "rational_polynomial and equidistant."
            )
    rows, from_rows = _every_few(visible.height)
    columns, from_columns = _every_few(visible.width)
    nodes = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 1, 2)
    mapped = _in_infrared(nodes, visible, infrared, T_infrared_visible, depth_m).reshape(len(rows), len(columns), 2)
    map_x, map_y = (from_rows @ mapped[..., axis] @ from_columns.T for axis in (0, 1))
    return _build(map_x, map_y, (infrared.height, infrared.width))


def _every_few(size: int) -> tuple[Array, Array]:
    """Nodes along one axis, and the matrix [size, nodes] that interpolates between them linearly.

    The maps are smooth: between nodes this far apart a straight line is off by some thousandths of a pixel, and a
    sixteenth of the points keeps the first frame from waiting half a second.
    """
    nodes = np.linspace(0, size - 1, -(-(size - 1) // NODE_DISTANCE_PX) + 1)
    position = np.arange(size) / max(size - 1, 1) * (len(nodes) - 1)
    left = np.minimum(position.astype(int), max(len(nodes) - 2, 0))
    matrix = np.zeros((size, len(nodes)))
    matrix[np.arange(size), left] = 1 - (position - left)
    matrix[np.arange(size), np.minimum(left + 1, len(nodes) - 1)] += position - left
    return nodes, matrix


def _in_infrared(
    pixels: Array, visible: CameraInfo, infrared: CameraInfo, T_infrared_visible: Array, depth_m: float
) -> Array:
    """Where visible pixels [N, 1, 2] at ``depth_m`` lie in the infrared image, [N, 2]; far outside if behind it."""
    if visible.distortion_model == "equidistant":
        rays = cv2.fisheye.undistortPoints(pixels, visible.k, visible.d[:4])
    else:
        rays = cv2.undistortPoints(pixels, visible.k, visible.d if visible.d.size else None)
    points = np.concatenate([rays[:, 0], np.ones((len(rays), 1))], axis=1) * depth_m
    in_infrared = points @ T_infrared_visible[:3, :3].T + T_infrared_visible[:3, 3]
    behind = in_infrared[:, 2] <= 0
    in_infrared[behind] = (0, 0, 1)
    zero = np.zeros(3)
    if infrared.distortion_model == "equidistant":
        mapped, _ = cv2.fisheye.projectPoints(in_infrared[:, None], zero, zero, infrared.k, infrared.d[:4])
    else:
        mapped, _ = cv2.projectPoints(in_infrared, zero, zero, infrared.k, infrared.d if infrared.d.size else None)
    mapped = mapped.reshape(-1, 2)
    mapped[behind] = -1e6
    return mapped
