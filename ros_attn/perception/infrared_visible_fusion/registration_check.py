"""Whether both cameras still look through the same pixels: a correlation of their edges."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ros_attn.values import Array

WIDTH_PX = 320
"""Images are compared at this width."""
RADIUS_PX = 12
PERIOD_S, SMOOTHING_S = 0.09, 0.2
SHIFTED_FROM, SHIFTED_UNTIL = 3.0, 2.0
LEAST_SIDE_PX = 120
TIMES = 2


def edge_map(image: Array) -> Array:
    """Edge strength relative to its surroundings, tapered towards the rim. [H, W] float32 to the same."""
    strength = cv2.magnitude(cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1))
    relative = strength / (cv2.GaussianBlur(strength, (0, 0), 8) + 4)
    relative -= cv2.GaussianBlur(relative, (0, 0), 8)
    height, width = image.shape
    return relative * np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)


def correlation(a: Array, b: Array) -> Array:
    """Normalised correlation of two maps for shifts of up to 12 px, [25, 25]; the middle is no shift."""
    spectrum = np.fft.rfft2(a) * np.conj(np.fft.rfft2(b))
    whole = np.fft.irfft2(spectrum, a.shape) / math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)) + 1e-12)
    size = 2 * RADIUS_PX + 1
    return np.roll(whole, (RADIUS_PX, RADIUS_PX), (0, 1))[:size, :size].astype(np.float32)


class RegistrationCheck:
    """Finds out that one camera was knocked, from the correlation of edges, averaged over 0.2 s of stamps.

    ``z = (max c - max of c within 1 px of the middle) / (1.48 MAD of c)``; shifted from z > 3 seen twice, until z < 2.
    At 320 px of width 1 px is 2 px of a VGA image: shifts of less than about 4 px are not seen, those of more than 24
    neither.

    Source: ours. Edges relative to their surroundings are what infrared and visible images have most in common.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.shift_px: tuple[float, float] | None = None
        self._mean: Array | None = None
        self._stamp_ns = 0
        self._seen = 0

    def observe(self, infrared: Array, visible: Array, stamp_ns: int) -> tuple[float, float] | None:
        """The shift of infrared, (right, down) in px of the images [H, W], or None where they fit or it is unclear."""
        passed_s = (stamp_ns - self._stamp_ns) / 1e9
        if self._mean is not None and 0 <= passed_s < PERIOD_S:
            return self.shift_px
        self._stamp_ns = stamp_ns
        height, width = visible.shape
        scale = min(1.0, WIDTH_PX / width)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        if min(size) < LEAST_SIDE_PX:
            return None
        maps = (edge_map(cv2.resize(x, size, interpolation=cv2.INTER_AREA)) for x in (infrared, visible))
        now = correlation(*maps)
        new = 1.0 if self._mean is None or passed_s < 0 else 1 - math.exp(-passed_s / SMOOTHING_S)
        self._mean = now if self._mean is None else self._mean + np.float32(new) * (now - self._mean)
        middle = slice(RADIUS_PX - 1, RADIUS_PX + 2)
        spread = 1.48 * float(np.median(np.abs(self._mean - np.median(self._mean)))) + 1e-6
        z = float(self._mean.max() - self._mean[middle, middle].max()) / spread
        self._seen = self._seen + 1 if z > SHIFTED_FROM else 0
        if z < SHIFTED_UNTIL:
            self.shift_px = None
        elif self._seen >= TIMES or (self.shift_px is not None and z > SHIFTED_FROM):
            down, right = np.unravel_index(int(self._mean.argmax()), self._mean.shape)
            self.shift_px = (float(right) - RADIUS_PX) / scale, (float(down) - RADIUS_PX) / scale
        return self.shift_px
