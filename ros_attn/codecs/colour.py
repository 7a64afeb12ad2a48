"""Colour conversion of images: demosaicing, packed YUV, channel order, grey."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.codecs.image import checked_pixels, layout
from ros_attn.errors import MessageError, RosAttnError
from ros_attn.values import Image

# OpenCV's name of each packed YUV 4:2:2 order; ROS's old name yuv422 is UYVY (image_encodings.hpp).
_YUV = {"uyvy": "UYVY", "yuv422": "UYVY", "yuyv": "YUY2", "yuv422_yuy2": "YUY2"}


def opencv() -> ModuleType:
    """The cv2 module, or a sentence how to install it."""
    try:
        import cv2
    except ImportError as error:
        raise RosAttnError(
            f"this image needs OpenCV, which cannot be imported ({error}): pip install 'ros-attn[perception]'"
        ) from error
    return cv2


def _family(encoding: str) -> str:
    """What OpenCV calls the pixels: ``GRAY``, ``BayerRGGB``, ``YUV_UYVY``, ``RGB``, ``BGRA``, …"""
    if encoding in ("mono8", "mono16", "8UC1", "16UC1"):
        return "GRAY"
    if encoding.startswith("bayer_"):
        return "Bayer" + encoding[6:10].upper()
    if encoding in _YUV:
        return _YUV[encoding]
    order = encoding.rstrip("0123456789")
    if order in ("rgb", "bgr", "rgba", "bgra"):
        return order.upper()
    raise MessageError(
        f"image encoding {encoding} does not say its colours; have the driver publish mono*, rgb*, bgr*, "
        "bayer_* or yuv422*"
    )


def _convert(image: Image, target: str, name: str) -> Image:
    family = _family(image.encoding)
    encoding = f"{name}{8 * layout(image.encoding).dtype.itemsize}"
    if family == target:
        return image if image.encoding == encoding else replace(image, encoding=encoding)
    cv2 = opencv()
    prefix = "COLOR_YUV2" if family in _YUV.values() else f"COLOR_{family}2"
    suffix = f"_{family}" if family in _YUV.values() else ""
    code = getattr(cv2, f"{prefix}{target}{suffix}")
    pixels = checked_pixels(image)
    try:
        converted: NDArray[Any] = np.asarray(cv2.cvtColor(pixels, code))
    except cv2.error as error:
        raise MessageError(
            f"image of frame {image.frame_id!r}: {image.width}x{image.height} {image.encoding} does not "
            f"convert to {encoding} ({str(error).strip().splitlines()[-1]})"
        ) from error
    return replace(image, data=converted, encoding=encoding)


def to_rgb(image: Image) -> Image:
    """The image as ``rgb8`` (``rgb16`` for 16-bit pixels); alpha is dropped, grey is repeated.

    Bayer mosaics are demosaiced bilinearly. Raises MessageError for encodings that name no colours (``8UC3``,
    ``32FC1``) and RosAttnError without OpenCV.
    """
    return _convert(image, "RGB", "rgb")


def to_grey(image: Image) -> Image:
    """The image as ``mono8`` (``mono16`` for 16-bit pixels), weights of BT.601; errors as :func:`to_rgb`."""
    return _convert(image, "GRAY", "mono")
