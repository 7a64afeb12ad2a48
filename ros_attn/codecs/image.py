"""``sensor_msgs/Image`` <-> :class:`ros_attn.values.Image`."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros_attn.codecs.factories import MessageFactory
from ros_attn.codecs.fields import byte_view, header_message, read_only, stamp_ns
from ros_attn.errors import MessageError, listed, meant
from ros_attn.values import Image

BAYER_PATTERNS = ("rggb", "bggr", "gbrg", "grbg")

# sensor_msgs/image_encodings.hpp. The packed YUV 4:2:2 formats hold one luma and one chroma byte a pixel.
_NAMED: dict[str, tuple[str, int]] = {
    "mono8": ("u1", 1),
    "mono16": ("u2", 1),
    **{f"{order}8": ("u1", len(order)) for order in ("rgb", "bgr", "rgba", "bgra")},
    **{f"{order}16": ("u2", len(order)) for order in ("rgb", "bgr", "rgba", "bgra")},
    **{f"bayer_{pattern}{bits}": (f"u{bits // 8}", 1) for bits in (8, 16) for pattern in BAYER_PATTERNS},
    "uyvy": ("u1", 2),
    "yuv422": ("u1", 2),
    "yuyv": ("u1", 2),
    "yuv422_yuy2": ("u1", 2),
}
_GENERIC = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)C([1-9]\d?)")
_GENERIC_NAMES = ("8UC*", "8SC*", "16UC*", "16SC*", "32SC*", "32FC*", "64FC*")
_KINDS = {"U": "u", "S": "i", "F": "f"}


class Layout(NamedTuple):
    """What an encoding means: the type of one number in host byte order and the numbers in a pixel."""

    dtype: np.dtype[Any]
    channels: int


@lru_cache(maxsize=256)
def layout(encoding: str) -> Layout:
    """The layout of an encoding; MessageError names the known ones."""
    if encoding in _NAMED:
        kind, channels = _NAMED[encoding]
        return Layout(np.dtype(kind), channels)
    match = _GENERIC.fullmatch(encoding)
    if match is None:
        known = (*_NAMED, *_GENERIC_NAMES)
        names = listed(known, len(known))
        raise MessageError(f"unknown image encoding {encoding!r}{meant(encoding, known)}; known are {names}")
    depth, channels = match.groups()
    return Layout(np.dtype(f"{_KINDS[depth[-1]]}{int(depth[:-1]) // 8}"), int(channels))


def _shape(height: int, width: int, channels: int) -> tuple[int, ...]:
    return (height, width) if channels == 1 else (height, width, channels)


def decode_image(message: Any, arrival_ns: int) -> Image:
    """An Image whose pixels are a read-only view of the message where its bytes allow it.

    A copy is made only for padded rows (``step`` beyond the pixels), foreign byte order and unaligned
    buffers. Raises MessageError where encoding, size, ``step`` and the bytes found contradict each other.
    """
    header = message.header
    encoding, step = message.encoding, int(message.step)
    height, width = int(message.height), int(message.width)
    dtype, channels = layout(encoding)
    buffer = byte_view(message.data)
    row = width * channels * dtype.itemsize
    if (step < row and height > 0) or buffer.size != height * step:
        raise MessageError(
            f"image of frame {header.frame_id!r}: {width}x{height} {encoding} has rows of {row} bytes and "
            f"with step {step} needs {height * max(step, row)} bytes, but {buffer.size} bytes were found"
        )
    foreign = bool(message.is_bigendian) != (sys.byteorder == "big") and dtype.itemsize > 1
    stored = dtype.newbyteorder("S") if foreign else dtype
    shape = _shape(height, width, channels)
    if step == row or buffer.size == 0:
        pixels: NDArray[Any] = buffer.view(stored).reshape(shape)
    else:
        rows = np.ascontiguousarray(buffer.reshape(height, step)[:, :row])
        pixels = rows.view(stored).reshape(shape)
    if foreign:
        pixels = pixels.astype(dtype)
    return Image(stamp_ns(header.stamp), read_only(pixels), encoding, header.frame_id)


def checked_pixels(value: Image) -> NDArray[Any]:
    """The pixels, dense and in host byte order; MessageError where dtype or shape contradict the encoding."""
    dtype, channels = layout(value.encoding)
    pixels = value.data
    native = pixels.dtype.newbyteorder("=")
    shape = _shape(pixels.shape[0], pixels.shape[1], channels) if pixels.ndim >= 2 else ()
    if native != dtype or pixels.shape != shape:
        wanted = "[H, W]" if channels == 1 else f"[H, W, {channels}]"
        raise MessageError(
            f"image of frame {value.frame_id!r}: {value.encoding} needs {dtype} {wanted}, "
            f"found {pixels.dtype} {list(pixels.shape)}"
        )
    return np.ascontiguousarray(pixels, dtype)


def encode_image(value: Image, factory: MessageFactory, msgtype: str) -> Any:
    """``sensor_msgs/Image`` without row padding, in host byte order."""
    pixels = checked_pixels(value)
    channels = layout(value.encoding).channels
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        height=value.height,
        width=value.width,
        encoding=value.encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=value.width * channels * pixels.itemsize,
        data=factory.sequence(pixels.reshape(-1).view(np.uint8)),
    )
