"""What a stereo depth camera makes of an exact depth image: the errors named by StairMaster (arXiv 2606.25765).

Formula, with the disparity ``d = f B / z`` [px] of the sensor's own resolution, in the order of a real camera:
1. shake: each image is shifted by a whole number of pixels, round(N(0, shake_px^2)) in x and in y;
2. stereo matching: ``d += matching_px * s``, s a smooth random field of unit variance (patches that are matched
   together err together), and rare blocks of wrong matches, ``d += U(-mismatch_px, mismatch_px)``;
3. noise: ``d += N(0, subpixel^2)``, that is ``sigma_z = z^2 subpixel / (f B)``, and ``z += U(-uniform_m, uniform_m)``;
4. edges: beside a discontinuity a pixel takes, with some probability, a value between its own and a neighbour's;
5. holes (depth 0, invalid): smooth blobs, single pixels, pixels beside discontinuities (one imager does not see what
   is behind an edge) and faces seen at grazing angles.
What follows in a real camera's pipeline, crop, clip, resizing and blur, is ``ros_attn.control.depth_image``, the same
function for simulated and real images.

Figures: ``sigma_z`` and subpixel 0.08 from "Tuning depth cameras for best performance" (Intel RealSense, rev. 2.0);
baseline 50 mm, 87 degrees over 848 columns from the D400 series data sheet (337029): 3.6 mm at 1 m, 14 mm at 2 m. The
paper gives no values; those of edges, holes, matching and shake are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.depth_camera import DepthCamera

Depth = NDArray[np.float32]
Mask = NDArray[np.bool_]
_SENSOR_COLUMNS = 848
_PATCH_PX, _BLOCK_PX = 8, 4
"""Sizes of a smooth patch and of a block of wrong matches, in pixels of the image."""


@dataclass(frozen=True)
class DepthErrors:
    """Sizes of the errors at scale 1; pixels are the sensor's (848 wide) for disparities, the image's for the shake.

    Probabilities are per pixel, or per block of 4 x 4 pixels for wrong matches. A discontinuity is where the second
    difference of the disparity exceeds ``edge_px``: on a plane the disparity is affine, however steep. Grazing: the
    cosine between ray and normal is below ``grazing_cosine``; the probability falls from ``grazing_hole`` at 0 to
    none there. ``blob_share`` is the share of an image lost to blobs.
    """

    baseline_m: float = 0.05
    subpixel: float = 0.08
    uniform_m: float = 0.002
    shake_px: float = 0.7
    matching_px: float = 0.1
    mismatch: float = 0.001
    mismatch_px: float = 6.0
    edge_px: float = 2.0
    edge: float = 0.3
    edge_hole: float = 0.15
    pixel_hole: float = 0.005
    blob_share: float = 0.02
    grazing_cosine: float = 0.2
    grazing_hole: float = 0.5


class DepthNoise:
    """The errors of the module for images of one camera; ``scale`` 0 to 2 multiplies every size and probability.

    Scale 0 leaves images as they are. ValueError for a scale outside 0 to 2 and images of another size.
    """

    def __init__(self, camera: DepthCamera, errors: DepthErrors | None = None, scale: float = 1.0) -> None:
        if not 0 <= scale <= 2:
            raise ValueError(f"the scale of depth noise must lie between 0 and 2, not {scale}")
        self.camera, self.errors, self.scale = camera, errors or DepthErrors(), scale
        focal_px = _SENSOR_COLUMNS / 2 / np.tan(camera.horizontal_fov_rad / 2)
        self.disparity_m = focal_px * self.errors.baseline_m
        """Depth times disparity [m px]."""
        x, y = camera.slopes()
        self._x, self._y = x.astype(np.float32), y.astype(np.float32)[:, None]
        self._step = (1 / np.asarray(camera.focal_px)).astype(np.float32)

    def sigma_m(self, depth_m: float) -> float:
        """``scale z^2 subpixel / (f B)``, the standard deviation of the white noise alone."""
        return self.scale * depth_m**2 * self.errors.subpixel / self.disparity_m

    def apply(self, depth: Depth, rng: np.random.Generator) -> tuple[Depth, Mask]:
        """Depth [n, H, W] in m, exact, to measured depth (0: no measurement) and the mask of valid pixels.

        The input is left alone. Pixels at the camera's far clip count as a surface there.
        """
        shape = (self.camera.height, self.camera.width)
        if depth.ndim != 3 or depth.shape[1:] != shape:
            raise ValueError(f"depth images must be [n, {shape[0]}, {shape[1]}] for this camera, not {depth.shape}")
        if self.scale == 0:
            return depth.copy(), np.ones(depth.shape, bool)
        errors, scale, n = self.errors, self.scale, len(depth)
        exact = _shifted(depth, np.rint(rng.normal(0, scale * errors.shake_px, (2, n))).astype(np.intp))
        inverse = np.reciprocal(exact)
        edges = self._discontinuities(inverse)
        dropped = self._drop_probability(inverse, edges)

        disparity_error = _smooth(n, shape, rng)
        disparity_error *= scale * errors.matching_px
        disparity_error += self._mismatches(n, rng)
        white = rng.standard_normal(depth.shape, np.float32)
        white *= scale * errors.subpixel
        disparity_error += white
        disparity_error /= self.disparity_m
        disparity_error += inverse
        # a wrong match may ask for a disparity of nothing: as far as 20 times the camera's clip
        measured = np.reciprocal(np.maximum(disparity_error, 0.05 / self.camera.far_m, out=disparity_error))
        uniform = rng.random(depth.shape, np.float32)
        uniform -= 0.5
        uniform *= 2 * scale * errors.uniform_m
        measured += uniform

        self._fray(measured, edges, rng)

        valid = rng.random(depth.shape, np.float32) >= dropped
        blob_share = min(scale * errors.blob_share, 0.5)
        if blob_share > 0:
            valid &= _smooth(n, shape, rng) < NormalDist().inv_cdf(1 - blob_share)
        valid &= measured > 0
        measured *= valid
        return measured, valid

    def _discontinuities(self, inverse: Depth) -> Mask:
        threshold = np.float32(self.errors.edge_px / self.disparity_m)
        edges = np.zeros(inverse.shape, bool)
        down = inverse[:, 2:] + inverse[:, :-2] - 2 * inverse[:, 1:-1]
        edges[:, 1:-1] = np.abs(down, out=down) > threshold
        across = inverse[:, :, 2:] + inverse[:, :, :-2] - 2 * inverse[:, :, 1:-1]
        edges[:, :, 1:-1] |= np.abs(across, out=across) > threshold
        return edges

    def _drop_probability(self, inverse: Depth, edges: Mask) -> Depth:
        """Of single pixels; the three causes are independent."""
        errors, scale = self.errors, self.scale
        # normal of the surface from the slope of the inverse depth q: (q_x, q_y, q - x q_x - y q_y)
        q_x, q_y = np.empty_like(inverse), np.empty_like(inverse)
        np.subtract(inverse[:, :, 1:], inverse[:, :, :-1], out=q_x[:, :, 1:])
        np.subtract(inverse[:, 1:], inverse[:, :-1], out=q_y[:, 1:])
        q_x[:, :, 0], q_y[:, 0] = q_x[:, :, 1], q_y[:, 1]
        q_x /= self._step[0]
        q_y /= self._step[1]
        along = inverse - self._x * q_x - self._y * q_y
        # n . d = q for the ray d = (x, y, 1)
        length = np.sqrt((q_x * q_x + q_y * q_y + along * along) * (self._x**2 + self._y**2 + 1))
        kept = np.clip(1 - inverse / length / np.float32(errors.grazing_cosine), 0, 1)
        kept[edges] = 0  # no face passes through a discontinuity
        kept *= -min(scale * errors.grazing_hole, 1.0)
        kept += 1
        kept *= 1 - min(scale * errors.pixel_hole, 1.0)
        kept[edges] *= 1 - min(scale * errors.edge_hole, 1.0)
        return 1 - kept

    def _mismatches(self, n: int, rng: np.random.Generator) -> Depth:
        height, width = self.camera.height, self.camera.width
        blocks = (n, -(-height // _BLOCK_PX), -(-width // _BLOCK_PX))
        chance = np.float32(min(self.scale * self.errors.mismatch, 1.0))
        wrong = rng.random(blocks, np.float32) < chance
        shift = (rng.random(blocks, np.float32) * 2 - 1) * np.float32(self.scale * self.errors.mismatch_px) * wrong
        return np.repeat(np.repeat(shift, _BLOCK_PX, axis=1), _BLOCK_PX, axis=2)[:, :height, :width]

    def _fray(self, measured: Depth, edges: Mask, rng: np.random.Generator) -> None:
        """Beside discontinuities, in place: towards a random one of the four neighbours by a random share."""
        image, row, column = np.nonzero(edges)
        chosen = rng.random(len(image), np.float32) < min(self.scale * self.errors.edge, 1.0)
        image, row, column = image[chosen], row[chosen], column[chosen]
        side = rng.integers(0, 4, len(image))
        share = rng.random(len(image), np.float32)
        beside_row = np.clip(row + np.array([-1, 1, 0, 0])[side], 0, self.camera.height - 1)
        beside_column = np.clip(column + np.array([0, 0, -1, 1])[side], 0, self.camera.width - 1)
        own, other = measured[image, row, column], measured[image, beside_row, beside_column]
        measured[image, row, column] = own + share * (other - own)


def _shifted(depth: Depth, shift: NDArray[np.intp]) -> Depth:
    """Images moved by ``shift`` [2, n] rows and columns, borders repeated."""
    n, height, width = depth.shape
    rows = np.clip(np.arange(height) - shift[0][:, None], 0, height - 1)
    columns = np.clip(np.arange(width) - shift[1][:, None], 0, width - 1)
    flat = (rows + np.arange(n)[:, None] * height)[:, :, None] * width + columns[:, None]
    return depth.reshape(-1).take(flat)


def _smooth(n: int, shape: tuple[int, int], rng: np.random.Generator) -> Depth:
    """Random fields [n, H, W], N(0, 1) at every pixel, smooth over patches of ``_PATCH_PX`` whose grid lies anew."""
    down, across = (_interpolation(length, float(rng.random())) for length in shape)
    knots = rng.standard_normal((n, down.shape[1], across.shape[1]), dtype=np.float32)
    return np.asarray(down @ knots @ across.T, np.float32)


def _interpolation(length: int, phase: float) -> Depth:
    """Linear interpolation [length, knots] between knots ``_PATCH_PX`` apart; each row of unit Euclidean length."""
    knots = -(-length // _PATCH_PX) + 2
    place = np.arange(length) / _PATCH_PX + phase
    weights = np.maximum(1 - np.abs(place[:, None] - np.arange(knots)), 0)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
