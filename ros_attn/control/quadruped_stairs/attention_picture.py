"""Where a stair climber looks, as a picture: its depth image once for each leg and the body, attention in red."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros_attn.control.depth_image import CELL, Depth

FULL_AT = 8.0
"""Times the even share of a cell at which its red is full."""
_RED = np.array([255.0, 32.0, 0.0], np.float32)


def attention_picture(depth: Depth, maps: Depth) -> NDArray[np.uint8]:
    """rgb [48, M * 64, 3] of a depth image [48, 64] (-0.5 near, bright, to 0.5 far, dark) and maps [M, 6, 8].

    The maps' sums are 1, or 0 where the image is not looked at; they lie side by side in their order. The colour of a
    cell does not depend on the others, so that pictures of different times compare.
    """
    grey = (255 * np.clip(0.5 - depth, 0, 1))[..., None]
    share = np.clip(maps * maps[0].size / FULL_AT, 0, 1).repeat(CELL, axis=1).repeat(CELL, axis=2)
    panels = grey + 0.7 * share[..., None] * (_RED - grey)
    return np.rint(np.concatenate(list(panels), axis=1)).astype(np.uint8)
