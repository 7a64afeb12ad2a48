"""Structural similarity of a fused image with both sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.evaluate.grey import Grey, grey_frame, row_strips

LEAST_SIDE = 7
"""Smallest image side [px]: one window."""

_WINDOW = 7
_C1 = (0.01 * 255.0) ** 2
_C2 = (0.03 * 255.0) ** 2
_UNBIASED = _WINDOW**2 / (_WINDOW**2 - 1)


@dataclass(frozen=True, eq=False)
class _Moments:
    """A strip of an image, and mean and unbiased variance of each whole window in it."""

    strip: Grey
    mean: Grey
    variance: Grey


def _boxed(strip: Grey) -> Grey:
    import cv2

    margin = _WINDOW // 2
    mean = cv2.boxFilter(strip, cv2.CV_64F, (_WINDOW, _WINDOW))
    return np.asarray(mean, dtype=np.float64)[margin:-margin, margin:-margin]


def _moments(strip: Grey) -> _Moments:
    mean = _boxed(strip)
    return _Moments(strip, mean, _UNBIASED * (_boxed(strip * strip) - mean * mean))


def _similarity(a: _Moments, b: _Moments) -> float:
    """The sum over the strip's windows."""
    mm = a.mean * b.mean
    cov = _UNBIASED * (_boxed(a.strip * b.strip) - mm)
    luminance = (2.0 * mm + _C1) / (a.mean * a.mean + b.mean * b.mean + _C1)
    return float((luminance * (2.0 * cov + _C2) / (a.variance + b.variance + _C2)).sum())


def similarity(ir: Grey, vi: Grey, fused: Grey) -> float:
    """``ssim(ir, F) + ssim(vi, F)``, at most 2, with
    ``ssim(a, b) = mean((2 m_a m_b + C1)(2 c + C2) / ((m_a^2 + m_b^2 + C1)(v_a + v_b + C2)))``.

    Means ``m``, variances ``v`` and covariance ``c`` (divided by 48) in uniform windows of 7x7 px that lie
    wholly inside; ``C1 = (0.01 * 255)^2``, ``C2 = (0.03 * 255)^2``: data_range 255.

    Source: Wang et al. 2004, doi 10.1109/TIP.2003.819861, equation 13. Deviates: the uniform 7x7 window with
    unbiased moments that scikit-image has by default, in place of the paper's Gaussian of 11 px.
    """
    total = 0.0
    for rows in row_strips(*fused.shape, window=_WINDOW):
        of_fused = _moments(fused[rows])
        total += sum(_similarity(_moments(source[rows]), of_fused) for source in (ir, vi))
    height, width = fused.shape
    return total / ((height - _WINDOW + 1) * (width - _WINDOW + 1))


def ssim(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> float:
    """`similarity` of grey images ``[H, W]``.

    Raises RosAttnError as `grey_frame` does, and for a side below 7 px.
    """
    return similarity(*grey_frame(ir, vi, fused, least=LEAST_SIDE))
