"""Small seeded pictures for tests."""

from __future__ import annotations

import numpy as np

from ros_attn.values import Image


def scene(stamp_ns: int, encoding: str, seed: int = 0, height: int = 48, width: int = 64) -> Image:
    """Smooth structure plus noise, in the range an encoding usually has."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = 0.5 + 0.3 * np.sin(x / 9 + seed) * np.cos(y / 7) + 0.05 * rng.standard_normal((height, width))
    base = np.clip(base, 0, 1)
    if encoding == "rgb8":
        data = np.stack([255 * base, 255 * base[::-1], 128 + 0 * base], -1).astype(np.uint8)
    elif encoding == "mono8":
        data = (255 * base).astype(np.uint8)
    elif encoding in ("mono16", "16UC1"):
        data = (7000 + 1500 * base).astype(np.uint16)
    elif encoding == "32FC1":
        data = (290 + 30 * base).astype(np.float32)
    else:
        raise ValueError(encoding)
    return Image(stamp_ns, data, encoding, f"{encoding}_frame")
