"""Fusion by a fixed rule: the choice without weights, and the baseline the learned models stand beside."""

from __future__ import annotations

import cv2
import numpy as np

from ros_attn.values import Array

BASE_SIGMA_PX = 5.0
ENERGY_SIGMA_PX = 2.0
BASE_SOFTNESS = 20.0
_TINY = np.float32(1e-6)


def blur(plane: Array, sigma_px: float) -> Array:
    """Gaussian of standard deviation ``sigma_px``, the border pixel continued outside."""
    return cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)


def fuse(infrared: Array, visible: Array, coverage: Array | None = None) -> tuple[Array, Array]:
    """Fuse two registered grey images; returns the fused image and the trust map.

    ::

        b = G5(x)                  d = x - b                     E = G2(d^2)
        w = sigmoid((b_ir - b_vi) / 20)        a = E_ir^2 / (E_ir^2 + E_vi^2)
        F = w b_ir + (1 - w) b_vi + a d_ir + (1 - a) d_vi
        trust = 1 - (w + a) / 2

    Shapes: ``infrared``, ``visible``, results [H, W] float32 in grey levels 0..255 (F may leave the range by
    a little; the caller clips). G: Gaussian, sigma in px. ``trust`` in [0, 1] is the visible camera's share.
    ``coverage`` [H, W] in [0, 1] is where infrared exists at all; outside it the visible image stands.

    Source: two-scale base and detail fusion as in Li, Kang & Hu, "Image fusion with guided filtering" (TIP
    2013), with fixed Gaussian weights of our own in place of the guided filter. Where neither image has
    detail, a = 0 and the visible detail (which is zero) is taken.
    """
    base_ir, base_vi = blur(infrared, BASE_SIGMA_PX), blur(visible, BASE_SIGMA_PX)
    detail_ir, detail_vi = infrared - base_ir, visible - base_vi
    weight = np.reciprocal(1 + cv2.exp((base_vi - base_ir) / BASE_SOFTNESS))
    energy_ir = np.square(blur(np.square(detail_ir), ENERGY_SIGMA_PX))
    energy_vi = np.square(blur(np.square(detail_vi), ENERGY_SIGMA_PX))
    share = energy_ir / (energy_ir + energy_vi + _TINY)
    if coverage is not None:
        weight *= coverage
        share *= coverage
    fused = base_vi + weight * (base_ir - base_vi) + detail_vi + share * (detail_ir - detail_vi)
    return fused, 1 - 0.5 * (weight + share)
