"""Noise of one camera, averaged over time where nothing moves."""

from __future__ import annotations

import cv2
import numpy as np

from ros_attn.values import Array

LARGEST_MEMORY = 0.6
"""Share of the last estimate in the new one where the picture stands still."""
STILL, MOVED = 1.5, 3.0
"""Differences, in deviations of the noise, up to which a place counts as still and from which as moved."""
LEAST_NOISE = 0.5
NOISE_RISE = 1.1
"""The noise of a sensor changes slowly: by no more than this factor a frame is it taken to grow."""
WINDOW_PX = 5
LONGEST_GAP_NS = 500_000_000
_BLOCK_PX = 16


def noise_deviation(image: Array) -> float:
    """Standard deviation of white noise in an image [H, W], in its units, from the flattest fifth of its blocks.

    ``sqrt(pi/2) / 6 mean |x * N|`` over blocks of 16 px, N the difference of two Laplacians, which is blind to ramps;
    then the 20th percentile of the blocks, so that texture does not count as noise.

    Source: Immerkaer, Fast noise variance estimation, CVIU 1996. Deviates: by blocks.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
    height, width = image.shape
    blocks = max(1, height // _BLOCK_PX), max(1, width // _BLOCK_PX)
    means = cv2.resize(np.abs(response), blocks[::-1], interpolation=cv2.INTER_AREA)
    return float(np.sqrt(np.pi / 2) / 6 * np.percentile(means, 20))


class TemporalFilter:
    """A recursive mean over time that lets go wherever the picture changes.

    ::

        d  = mean_5x5 |x - y'|              y' the last estimate, s the deviation of the noise in x
        s  = min(spatial estimate, median |x - x'| / 0.954, 1.1 s')      x' the last frame, s' its s
        w  = 0.6 clamp((3 s - d) / (1.5 s), 0, 1)
        y  = x + w (y' - x)

    On a still scene the noise falls to 0.50 of its deviation and its change from frame to frame to 0.32; what moves is
    taken as it is. A gap of more than 0.5 s, a stamp that goes back or another size starts anew.

    Shapes: x, y [H, W] float32 in grey levels. Source: motion-adaptive temporal filtering, as Dubois & Sabri 1984 (IEEE
    Trans. Commun. 32) describe it; numbers ours.
    """

    def __init__(self) -> None:
        self._last: Array | None = None
        self._frame: Array | None = None
        self.noise = 0.0
        """Deviation of the noise in the last frame, in grey levels, as far as it is believed."""
        self.estimate = 0.0
        """The same, not held back by the frames before."""
        self._stamp_ns = 0

    def reset(self) -> None:
        self._last = None

    def apply(self, image: Array, stamp_ns: int) -> Array:
        """The estimate for this frame; the same frame again, by its stamp, gives the same estimate."""
        last, passed_ns = self._last, stamp_ns - self._stamp_ns
        if last is not None and passed_ns == 0 and last.shape == image.shape:
            return last
        self._stamp_ns = stamp_ns
        before, self._frame = self._frame, image
        self.estimate = noise = noise_deviation(image)
        if last is None or before is None or last.shape != image.shape or not 0 < passed_ns <= LONGEST_GAP_NS:
            self._last, self.noise = image, max(noise, LEAST_NOISE)
            return image
        # The median of |N(0, 2 s^2)|. Texture raises one estimate, motion and a change of the light the other.
        between = float(np.median(cv2.absdiff(image, before)[::4, ::4])) / 0.954
        self.estimate = min(noise, between)
        self.noise = noise = max(min(self.estimate, NOISE_RISE * self.noise), LEAST_NOISE)
        change = cv2.boxFilter(cv2.absdiff(image, last), -1, (WINDOW_PX, WINDOW_PX), borderType=cv2.BORDER_REFLECT_101)
        slope = LARGEST_MEMORY / ((MOVED - STILL) * noise)
        memory = np.clip(np.float32(slope * MOVED * noise) - np.float32(slope) * change, 0, np.float32(LARGEST_MEMORY))
        self._last = image + memory * (last - image)
        return self._last
