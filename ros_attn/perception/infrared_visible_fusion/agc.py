"""Automatic gain control of thermal counts: 14- or 16-bit (or kelvin) to grey levels, steady over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ros_attn.errors import MessageError
from ros_attn.values import Array

# Every fourth pixel in both directions tells the percentiles to within the noise of a frame.
_STRIDE = 4
# A gap this long means another scene: the range starts anew instead of creeping there.
_FORGET_S = 5.0


@dataclass
class PercentileGain:
    """``y = 255 (x - lo) / max(hi - lo, min_span)``, clipped; lo, hi percentiles smoothed over time.

    ``lo += (1 - exp(-dt / time_constant_s)) (lo_frame - lo)`` and likewise hi, dt from stamps [ns]. x [H, W]
    counts (whole numbers) or temperatures (float, K or degrees C), y [H, W] float32 grey levels. ``min_span``
    (counts) or ``min_span_k`` (kelvin, of float images) keeps the noise of a flat scene from filling the range,
    which is then centred on the scene.
    """

    low_percent: float
    high_percent: float
    time_constant_s: float
    min_span: float
    min_span_k: float
    range: tuple[float, float] | None = None
    stamp_ns: int = 0

    def apply(self, counts: Array, stamp_ns: int) -> Array:
        """Grey levels of one frame. NaN and Inf become 0; a frame with no finite pixel is a MessageError."""
        sample = counts[::_STRIDE, ::_STRIDE]
        finite_sample = sample[np.isfinite(sample)] if counts.dtype.kind == "f" else sample
        if finite_sample.size == 0:
            raise MessageError(
                "The infrared image has no finite pixel; check the thermal driver's output "
                "(NaN everywhere usually means a shutter or calibration failure)."
            )
        low, high = np.percentile(finite_sample, (self.low_percent, self.high_percent))
        self._follow(float(low), float(high), stamp_ns)
        assert self.range is not None
        low, high = self.range
        span, least = high - low, self.min_span_k if counts.dtype.kind == "f" else self.min_span
        if span < least:
            low -= 0.5 * (least - span)
            span = least
        levels = (counts.astype(np.float32) - np.float32(low)) * np.float32(255 / max(span, 1e-6))
        if counts.dtype.kind == "f":
            levels = np.nan_to_num(levels, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        return np.clip(levels, 0, 255, out=levels)

    def _follow(self, low: float, high: float, stamp_ns: int) -> None:
        elapsed_s = (stamp_ns - self.stamp_ns) * 1e-9
        if self.range is None or not 0 <= elapsed_s < _FORGET_S:
            self.range = (low, high)
        else:
            share = 1 - math.exp(-elapsed_s / self.time_constant_s) if self.time_constant_s > 0 else 1.0
            self.range = (
                self.range[0] + share * (low - self.range[0]),
                self.range[1] + share * (high - self.range[1]),
            )
        self.stamp_ns = stamp_ns

    def reset(self) -> None:
        """Forget the range."""
        self.range = None
