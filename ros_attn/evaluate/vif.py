"""Visual information fidelity of a fused image, towards each source and summed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.evaluate.grey import Grey, grey_frame, row_strips

LEAST_SIDE = 41
"""Smallest image side [px] at which every scale keeps one whole window."""

_WINDOWS = (17, 9, 5, 3)
_NOISE_VARIANCE = 2.0
_TINY = 1e-10


@dataclass(frozen=True, eq=False)
class _Moments:
    """A strip of an image, and mean and variance (>= 0) of each whole window in it."""

    strip: Grey
    mean: Grey
    variance: Grey


@cache
def _gaussian(size: int) -> Grey:
    offset = np.arange(size) - (size - 1) / 2
    weight = np.exp(-0.5 * (offset / (size / 5.0)) ** 2)
    return weight / weight.sum()


def _windowed(image: Grey, size: int) -> Grey:
    """Gaussian-weighted mean of each window that lies wholly inside: ``[h - size + 1, w - size + 1]``."""
    import cv2

    weight = _gaussian(size)
    margin = size // 2
    blurred = cv2.sepFilter2D(image, cv2.CV_64F, weight, weight)
    return np.asarray(blurred, dtype=np.float64)[margin:-margin, margin:-margin]


def _moments(strip: Grey, size: int) -> _Moments:
    mean = _windowed(strip, size)
    variance = _windowed(strip * strip, size)
    variance -= mean * mean
    return _Moments(strip, mean, np.maximum(variance, 0.0, out=variance))


def _information(source: _Moments, fused: _Moments, size: int) -> tuple[float, float]:
    """The sums over one strip: information F kept, information the source has (`fidelity_sides` has the
    formula)."""
    s2_a, s2_f = source.variance, fused.variance
    cov = _windowed(source.strip * fused.strip, size)
    cov -= source.mean * fused.mean
    structured = s2_a >= _TINY
    cov[~structured | (s2_f < _TINY) | (cov < 0.0)] = 0.0
    gain = cov / (s2_a + _TINY)
    s2_v = np.maximum(s2_f - gain * cov, _TINY)
    kept = np.log(1.0 + gain * gain * s2_a / (s2_v + _NOISE_VARIANCE))
    present = np.log(1.0 + s2_a / _NOISE_VARIANCE)
    return float(kept.sum()), float(present.sum(where=structured))


def fidelity_sides(ir: Grey, vi: Grey, fused: Grey) -> tuple[float, float]:
    """``(VIFF(ir, F), VIFF(vi, F))``, each the information that F kept of the source over the information the
    source has: about 0..1, and above 1 where F raises the source's contrast.

    Per scale and pixel, with variances ``s2_A``, ``s2_F`` and covariance ``c`` in a Gaussian window:
    ``g = c / s2_A``, ``s2_v = s2_F - g c``, and over all scales and pixels
    ``VIFF = sum log(1 + g^2 s2_A / (s2_v + 2)) / sum log(1 + s2_A / 2)``.
    The visual noise has variance 2 grey levels squared. Where ``c <= 0`` or a variance is below 1e-10 nothing
    counts as kept. A source without any structure gives 1: there was nothing to keep. Scale s = 1..4 has a
    window of N = 17, 9, 5, 3 px with sigma N/5; from the second on the images are first smoothed with that
    window and every second pixel kept. Only whole windows count.

    Source: the pixel-domain form of VIF (Sheikh and Bovik 2006, doi 10.1109/TIP.2005.859378), used as fusion
    metric after Han et al. 2013 (VIFF, doi 10.1016/j.inffus.2011.08.002).
    Deviates from Han: sources are judged one by one and the scales share one sum, as MMIF-CDDFuse's Evaluator
    does; there is no choice of the stronger source per block. Compare only with figures of that kind.
    """
    kept, present = np.zeros(2), np.zeros(2)
    for scale, size in enumerate(_WINDOWS):
        if scale:
            ir, vi, fused = (np.ascontiguousarray(_windowed(x, size)[::2, ::2]) for x in (ir, vi, fused))
        for rows in row_strips(*fused.shape, window=size):
            of_fused = _moments(fused[rows], size)
            for side, source in enumerate((ir, vi)):
                sums = _information(_moments(source[rows], size), of_fused, size)
                kept[side] += sums[0]
                present[side] += sums[1]
    ir_side, vi_side = (float(k / p) if p > 0.0 else 1.0 for k, p in zip(kept, present, strict=True))
    return ir_side, vi_side


def vif_sides(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> tuple[float, float]:
    """`fidelity_sides` of grey images ``[H, W]``; VIF is the sum of both, VIF_min the smaller.

    Raises RosAttnError as `grey_frame` does, and for a side below 41 px.
    """
    return fidelity_sides(*grey_frame(ir, vi, fused, least=LEAST_SIDE))
