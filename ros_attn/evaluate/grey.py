"""Grey images as the fusion metrics take them: ``[H, W]``, grey levels 0..255.

Protocol of the comparison (the one that reproduces published per-image figures, see ``fusion_metrics``):
native size, infrared and visible luma as 8-bit images, the fused luma rounded to 8 bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.errors import RosAttnError

Grey = NDArray[np.float64]
Grey8 = NDArray[np.uint8]


def luma(rgb: NDArray[np.uint8]) -> Grey8:
    """``Y = (9798 R + 19235 G + 3735 B + 2**14) >> 15``: 8-bit ``[H, W, 3]`` in R, G, B order -> ``[H, W]``.

    This is BT.601 luma (0.299, 0.587, 0.114) in the fixed-point arithmetic of opencv's 8-bit ``BGR2GRAY``,
    bit for bit. Pillow's ``L``, opencv's YCrCb, its float path and a JPEG's own Y each differ from it by one
    grey level in some pixels. The published figures were fused from this luma and scored against the float
    path rounded; scoring against this one too moves MI by at most 6e-5, Qabf by 3e-5 and the others by 5e-6
    of their value.

    Raises RosAttnError for another type or shape.
    Source: ITU-R BT.601-7, section 2.5.1; the fixed-point weights are those of opencv 4 and 5.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise RosAttnError(
            "luma takes an 8-bit colour image [H, W, 3] in R, G, B order "
            f"but got {rgb.dtype} {list(rgb.shape)}: convert it first"
        )
    weights = np.array([9798, 19235, 3735], np.int32)
    return ((rgb.astype(np.int32) @ weights + (1 << 14)) >> 15).astype(np.uint8)


def read_luma(path: Path) -> Grey8:
    """An 8-bit image file as luma ``[H, W]``; one stored grey, as infrared images are, comes back unchanged.

    The file is decoded to colour first: a decoder asked for grey hands over a JPEG's own Y, which is another
    rounding. Raises RosAttnError for a file that is missing or no image.
    """
    import cv2

    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if bgr is None:
        raise RosAttnError(f"{path} is missing or not an image opencv can read: name a PNG or JPEG file")
    return luma(np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8))


def to_grey8(image: NDArray[Any]) -> Grey8:
    """Grey levels clipped to 0..255 and rounded to 8 bit, ties to the even level (0.5 -> 0, 1.5 -> 2)."""
    if image.dtype == np.uint8:
        return image
    levels = np.clip(image, 0.0, 255.0)
    return np.rint(levels, out=levels).astype(np.uint8)


def grey_levels(image: NDArray[Any], name: str) -> Grey:
    """The image as float64 ``[H, W]`` in grey levels; ``name`` says in a refusal which image it was.

    Raises RosAttnError unless it is a non-empty ``[H, W]`` array of uint8 or floats, finite, within 0..255.
    """
    if image.ndim != 2 or image.size == 0:
        raise RosAttnError(
            f"the {name} image has shape {list(image.shape)} "
            "but the metrics take a non-empty grey image [H, W]: pass its luma"
        )
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise RosAttnError(
            f"the {name} image is {image.dtype} but the metrics take uint8 or float grey levels 0..255: scale it first"
        )
    grey = np.ascontiguousarray(image, dtype=np.float64)
    if image.dtype == np.uint8:
        return grey
    low, high = float(grey.min()), float(grey.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RosAttnError(f"the {name} image holds NaN or infinite pixels: find what produced them before measuring")
    if low < 0.0 or high > 255.0:
        raise RosAttnError(
            f"the {name} image spans {low:g}..{high:g} but grey levels are 0..255: clip or scale it first"
        )
    return grey


def grey_frame(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any], least: int = 3) -> tuple[Grey, Grey, Grey]:
    """Infrared, visible and fused image of one moment as float64 ``[H, W]``, of one size, sides >= ``least``.

    Raises RosAttnError as `grey_levels` does, for sizes that differ and for an image that is too small.
    """
    frame = grey_levels(ir, "infrared"), grey_levels(vi, "visible"), grey_levels(fused, "fused")
    sizes = [image.shape for image in frame]
    if len(set(sizes)) > 1:
        words = ", ".join(
            f"{name} {h}x{w}" for name, (h, w) in zip(("infrared", "visible", "fused"), sizes, strict=True)
        )
        raise RosAttnError(f"the images differ in size (rows x columns: {words}): resample them to one grid first")
    if min(sizes[0]) < least:
        raise RosAttnError(
            f"the images are {sizes[0][0]}x{sizes[0][1]} "
            f"but this metric needs at least {least} rows and columns: measure at native size"
        )
    return frame


def row_strips(height: int, width: int, window: int) -> Iterator[slice]:
    """Rows to filter at a time, so that every whole window of ``window`` rows lies in exactly one strip.

    Strips of about 32 k pixels stay in the processor's cache and in memory that is already mapped: on a VGA
    frame that halves the time of SSIM and VIF.
    """
    step = max(32768 // width, window)
    for first in range(0, height - window + 1, step):
        yield slice(first, min(first + step, height - window + 1) + window - 1)
