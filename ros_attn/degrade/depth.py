"""Depth for pictures that come without any: enough for haze to thicken with distance."""

from __future__ import annotations

import numpy as np

from ros_attn.values import Array

NEAR_M = 6.0
FAR_M = 60.0
HORIZON = 0.42
"""Share of the picture's height at which a camera on a vehicle sees the horizon."""


def pseudo_depth(height: int, width: int) -> Array:
    """A plausible depth [H, W] float32 in m: rows as a camera over flat ground sees them, the rest at ``FAR_M``.

    ``z = NEAR_M (1 - h) / (y - h)`` with y the row's share of the height and h the horizon, between ``NEAR_M`` and
    ``FAR_M``, about where a street's walls and trees stand.

    Source: ours. It is no estimate of the scene: where a figure depends on true depth use a rendered drive.
    """
    y = (np.arange(height, dtype=np.float32) + 0.5) / height
    z = np.clip(NEAR_M * (1 - HORIZON) / np.maximum(y - HORIZON, 1e-6), NEAR_M, FAR_M)
    return z.astype(np.float32)[:, None].repeat(width, 1)
