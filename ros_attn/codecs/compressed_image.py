"""``sensor_msgs/CompressedImage`` <-> :class:`ros_attn.values.Image`, by OpenCV alone.

The meaning of ``format`` follows compressed_image_transport and compressed_depth_image_transport
(ros-perception/image_transport_plugins): ``<encoding>; <jpeg|png> compressed <pixels in the file>`` and
``<encoding>; compressedDepth <png|rvl>``; a bare ``jpeg`` or ``png`` says nothing about the encoding.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.codecs.colour import opencv
from ros_attn.codecs.factories import MessageFactory
from ros_attn.codecs.fields import byte_view, header_message, read_only, stamp_ns
from ros_attn.codecs.image import checked_pixels, layout
from ros_attn.errors import MessageError
from ros_attn.values import Image

JPEG_QUALITY = 90

# compression_common.h: int32 format, float depthParam[2]
_DEPTH_HEADER = struct.Struct("<iff")
_COLOUR_ORDERS = ("rgb", "bgr", "rgba", "bgra")


def _order(encoding: str) -> str:
    """``rgb`` of ``rgb8``; empty where the encoding is no colour."""
    order = encoding.rstrip("0123456789")
    return order if order in _COLOUR_ORDERS else ""


def _what(message: Any) -> str:
    return f"compressed image of frame {message.header.frame_id!r} ({message.format!r})"


def _decompress(data: NDArray[np.uint8], what: str) -> NDArray[Any]:
    cv2 = opencv()
    # OpenCV 4 fills the missing part of a cut JPEG with grey. Entropy-coded data never contains FF D9, so a
    # file without that mark near its end is incomplete.
    if data[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in data[-1024:].tobytes():
        raise MessageError(f"{what} is a JPEG that was cut off after {data.size} bytes")
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise MessageError(f"{what} cannot be decompressed: its {data.size} bytes are damaged or no image")
    return np.asarray(pixels)


def _decode_depth(message: Any, declared: str) -> tuple[NDArray[Any], str]:
    what = _what(message)
    if message.format.split("compressedDepth", 1)[1].strip() not in ("", "png"):
        raise MessageError(f"{what}: only png depth is decoded; set the publisher's format parameter to png")
    data = byte_view(message.data)
    if data.size <= _DEPTH_HEADER.size:
        raise MessageError(f"{what} has {data.size} bytes, no image behind its 12-byte header")
    _, quantum_a, quantum_b = _DEPTH_HEADER.unpack_from(data[: _DEPTH_HEADER.size].tobytes())
    pixels = _decompress(data[_DEPTH_HEADER.size :], what)
    if declared == "32FC1" and pixels.dtype == np.uint16 and pixels.ndim == 2:
        # Inverse depth, codec.cpp: depth = A / (q - B), q = 0 where there was none.
        inverse = pixels.astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.float32(quantum_a) / (inverse - np.float32(quantum_b))
        depth[pixels == 0] = np.nan
        return depth, declared
    if declared and layout(declared) == (pixels.dtype, 1) and pixels.ndim == 2:
        return pixels, declared
    found = f"{pixels.dtype} {list(pixels.shape)}"
    raise MessageError(f"{what} holds {found}, which is not {declared or 'a depth image'}")


def _decode_colour(pixels: NDArray[Any], declared: str, in_file: str) -> tuple[NDArray[Any], str]:
    """Pixels of three or four channels in the declared channel order, else in OpenCV's."""
    cv2 = opencv()
    bits = 8 * pixels.itemsize
    order = "bgr" if pixels.shape[2] == 3 else "bgra"
    wanted = _order(declared)
    if not wanted or layout(declared).dtype != pixels.dtype:
        return pixels, f"{order}{bits}"
    # As compressed_subscriber.cpp: with a declared colour the file's order is BGR only where format says so.
    if order == "bgr" and not in_file.startswith("bgr"):
        order = "rgb"
    if order != wanted:
        pixels = np.asarray(cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{order.upper()}2{wanted.upper()}")))
    return pixels, declared


def decode_compressed_image(message: Any, arrival_ns: int) -> Image:
    """An Image from JPEG, PNG (8 and 16 bit), or compressedDepth PNG.

    The encoding is the one ``format`` declares where the file's pixels can be that, else ``mono``/``bgr``/
    ``bgra`` and the bits of the file, as in compressed_subscriber.cpp; a 16-bit declaration on a JPEG scales
    by 256 as there. Deviation: a mosaic that was turned to grey before compression (``bayer_…; jpeg
    compressed mono8``) is called ``mono8``, where ROS keeps calling it bayer. Raises MessageError for data
    that does not decompress, RosAttnError without OpenCV.
    """
    declared, _, rest = message.format.partition(";")
    declared = declared.strip() if rest else ""
    in_file = rest.partition("compressed ")[2].strip()
    header = message.header
    if "compressedDepth" in message.format:
        pixels, encoding = _decode_depth(message, declared)
        return Image(stamp_ns(header.stamp), read_only(pixels), encoding, header.frame_id)
    pixels = _decompress(byte_view(message.data), _what(message))
    known = layout(declared) if declared else None
    if known is not None and "jpeg" in rest and known.dtype == np.uint16 and pixels.dtype == np.uint8:
        pixels = pixels.astype(np.uint16) * 256
    if pixels.ndim == 3:
        pixels, encoding = _decode_colour(pixels, declared, in_file)
    else:
        encoding = "mono16" if pixels.dtype == np.uint16 else "mono8"
        demosaiced = declared.startswith("bayer") and in_file.startswith("mono")
        if known == (pixels.dtype, 1) and not demosaiced:
            encoding = declared
    if layout(encoding).dtype != pixels.dtype:
        raise MessageError(f"{_what(message)} holds {pixels.dtype} pixels; only 8 and 16 bit are decoded")
    return Image(stamp_ns(header.stamp), read_only(pixels), encoding, header.frame_id)


def compress(image: Image, quality: int = JPEG_QUALITY) -> tuple[NDArray[np.uint8], str]:
    """The bytes and ``format`` string of a CompressedImage.

    8-bit grey and colour become JPEG (lossy; alpha is dropped, as image_transport does), 16-bit pixels and
    Bayer mosaics PNG (lossless). Raises MessageError for other encodings, RosAttnError without OpenCV.
    """
    cv2 = opencv()
    encoding, pixels = image.encoding, checked_pixels(image)
    what = f"image of frame {image.frame_id!r}"
    bits = 8 * pixels.itemsize
    order = _order(encoding)
    grey = encoding in ("mono8", "mono16", "8UC1", "16UC1")
    bayer = encoding.startswith("bayer_")
    if not (grey or bayer or order) or encoding in ("rgba16", "bgra16"):
        hint = "; convert depth in metres to 16UC1 millimetres first" if encoding == "32FC1" else ""
        raise MessageError(f"{what}: {encoding} cannot be written as jpeg or png{hint}")
    if order and order != "bgr":
        pixels = np.asarray(cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{order.upper()}2BGR")))
    if bits == 8 and not bayer:
        kind, in_file, options = "jpeg", "bgr8" if order else "mono8", [cv2.IMWRITE_JPEG_QUALITY, quality]
    else:
        kind, in_file, options = "png", f"bgr{bits}" if order else "", []
    try:
        done, data = cv2.imencode(f".{kind}", pixels, options)
    except cv2.error:
        done, data = False, None
    if not done:
        raise MessageError(f"{what}: {image.width}x{image.height} {encoding} does not fit a {kind}")
    return np.asarray(data, np.uint8).reshape(-1), f"{encoding}; {kind} compressed {in_file}"


def encode_compressed_image(value: Image, factory: MessageFactory, msgtype: str) -> Any:
    """``sensor_msgs/CompressedImage`` by :func:`compress`."""
    data, name = compress(value)
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        format=name,
        data=factory.sequence(data),
    )
