"""Image codecs: layouts, contradictions, compression, colour."""

from __future__ import annotations

import struct
import sys
import time
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_attn.codecs import RosbagsMessages, compress, decode, encode, to_grey, to_rgb
from ros_attn.codecs.image import layout
from ros_attn.errors import MessageError, RosAttnError
from ros_attn.values import Image, field_bytes

STAMP = 1_700_000_000_123_456_789
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def store() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="module")
def messages(store: Any) -> RosbagsMessages:
    return RosbagsMessages(store)


# ---------------------------------------------------------------- images


def _image_message(data: Any, height: int, width: int, encoding: str, step: int, bigendian: bool) -> Any:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=5), frame_id="cam")
    return SimpleNamespace(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(bigendian),
        step=step,
        data=data,
    )


ENCODINGS = (
    "mono8",
    "rgb8",
    "bgr8",
    "rgba8",
    "bgra8",
    "mono16",
    "rgb16",
    "8UC1",
    "8UC3",
    "8SC2",
    "16UC1",
    "16UC4",
    "16SC1",
    "32SC1",
    "32FC1",
    "32FC3",
    "64FC1",
    "64FC2",
    "bayer_rggb8",
    "bayer_bggr8",
    "bayer_gbrg16",
    "bayer_grbg16",
    "yuv422",
    "yuv422_yuy2",
)
CONTAINERS = {
    "ndarray": lambda raw: np.frombuffer(raw, np.uint8),
    "bytes": bytes,
    "array": lambda raw: array("B", raw),
    "list": list,
    "unaligned": lambda raw: np.frombuffer(b"." + raw, np.uint8)[1:],
}


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from(ENCODINGS),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    padding=st.integers(0, 5),
    bigendian=st.booleans(),
    container=st.sampled_from(sorted(CONTAINERS)),
    seed=st.integers(0, 2**16),
)
def test_images_of_any_layout(
    encoding: str, height: int, width: int, padding: int, bigendian: bool, container: str, seed: int
) -> None:
    dtype, channels = layout(encoding)
    shape = (height, width) if channels == 1 else (height, width, channels)
    raw = np.random.default_rng(seed).integers(0, 256, height * width * channels * dtype.itemsize, np.uint8)
    pixels = raw.view(dtype).reshape(shape)
    stored = pixels.astype(dtype.newbyteorder(">" if bigendian else "<")).tobytes()
    row = width * channels * dtype.itemsize
    rows = [stored[i * row : (i + 1) * row] + b"\xaa" * padding for i in range(height)]
    data = CONTAINERS[container](b"".join(rows))
    image = decode(_image_message(data, height, width, encoding, row + padding, bigendian), "sensor_msgs/Image", 9)
    assert isinstance(image, Image)
    assert (image.stamp_ns, image.frame_id, image.encoding) == (1_000_000_005, "cam", encoding)
    assert image.data.dtype == dtype and image.data.dtype.isnative and image.data.shape == shape
    assert image.data.flags.c_contiguous and image.data.flags.aligned and not image.data.flags.writeable
    assert image.data.tobytes() == pixels.tobytes()
    assert (image.height, image.width) == (height, width)


def test_dense_images_are_views_and_cheap(store: Any, messages: RosbagsMessages) -> None:
    pixels = RNG.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    raw = store.serialize_cdr(encode(Image(1, pixels, "rgb8"), messages), "sensor_msgs/msg/Image")
    message = store.deserialize_cdr(raw, "sensor_msgs/msg/Image")
    best = 1.0
    for _ in range(50):
        start = time.perf_counter()
        image = decode(message, "sensor_msgs/msg/Image", 0)
        best = min(best, time.perf_counter() - start)
    assert isinstance(image, Image) and np.shares_memory(image.data, message.data)
    assert best < 1e-4


@pytest.mark.parametrize(("size", "step", "found"), [(8, 3, 24), (8, 24, 191), (8, 24, 193), (8, 25, 192), (8, 0, 0)])
def test_contradicting_images_are_message_errors(size: int, step: int, found: int) -> None:
    message = _image_message(bytes(found), size, size, "rgb8", step, False)
    with pytest.raises(MessageError, match=rf"frame 'cam': 8x8 rgb8 .* step {step} .* but {found} bytes were found"):
        decode(message, "sensor_msgs/msg/Image", 0)


@pytest.mark.parametrize("encoding", ["", "rgb", "nv21", "8UC0", "16FC1", "mono32", "RGB8"])
def test_unknown_encodings_name_the_known(encoding: str) -> None:
    message = _image_message(b"", 0, 0, encoding, 0, False)
    with pytest.raises(MessageError, match=r"unknown image encoding .* known are mono8, mono16, rgb8, .* 64FC\*"):
        decode(message, "sensor_msgs/msg/Image", 0)


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.zeros((4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 1), np.uint8), "mono8"),
        (np.zeros((4, 4, 4), np.uint8), "bgr8"),
        (np.zeros((4, 4), np.float64), "32FC1"),
        (np.zeros(4, np.uint8), "mono8"),
    ],
)
def test_pixels_that_are_not_their_encoding_are_refused(
    pixels: np.ndarray, encoding: str, messages: RosbagsMessages
) -> None:
    with pytest.raises(MessageError, match=f"{encoding} needs .* found {pixels.dtype}"):
        encode(Image(0, pixels, encoding), messages)


def test_strided_and_foreign_pixels_encode(messages: RosbagsMessages) -> None:
    pixels = np.arange(24, dtype=">u2").reshape(4, 6)[:, ::2]
    image = decode(encode(Image(0, pixels, "mono16"), messages), "sensor_msgs/msg/Image", 0)
    assert isinstance(image, Image) and image.data.tolist() == pixels.tolist()


# ---------------------------------------------------------------- compressed images


def _smooth(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ramp = (rows * 2 + columns) / (2 * shape[0] + shape[1])
    planes = [ramp, 1 - ramp, 0.3 + 0 * ramp, 0.8 * ramp][: shape[2] if len(shape) == 3 else 1]
    stacked = np.stack(planes, -1) if len(shape) == 3 else ramp
    return (stacked * np.iinfo(dtype).max * 0.9).astype(dtype)


def _compressed(data: Any, name: str) -> Any:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="cam")
    return SimpleNamespace(header=header, format=name, data=data)


COMPRESSED = "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("mono8", "mono8; jpeg compressed mono8"),
        ("rgb8", "rgb8; jpeg compressed bgr8"),
        ("bgr8", "bgr8; jpeg compressed bgr8"),
        ("rgba8", "rgba8; jpeg compressed bgr8"),
    ],
)
def test_jpeg_keeps_encoding_and_colours(encoding: str, name: str, store: Any, messages: RosbagsMessages) -> None:
    pytest.importorskip("cv2")
    dtype, channels = layout(encoding)
    pixels = _smooth((48, 64) if channels == 1 else (48, 64, channels), dtype)
    if channels == 4:
        pixels[..., 3] = 255
    message = encode(Image(STAMP, pixels, encoding, "cam"), messages, COMPRESSED)
    assert message.format == name
    message = store.deserialize_cdr(store.serialize_cdr(message, COMPRESSED), COMPRESSED)
    image = decode(message, COMPRESSED, 0)
    assert isinstance(image, Image)
    assert (image.encoding, image.stamp_ns, image.data.shape) == (encoding, STAMP, pixels.shape)
    assert np.abs(image.data.astype(int) - pixels).mean() < 2.0


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "rgb16", "bgr16", "bayer_rggb8", "bayer_gbrg16"])
def test_png_is_lossless(encoding: str, messages: RosbagsMessages) -> None:
    pytest.importorskip("cv2")
    dtype, channels = layout(encoding)
    shape = (9, 11) if channels == 1 else (9, 11, channels)
    value = Image(STAMP, RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype), encoding, "cam")
    message = encode(value, messages, COMPRESSED)
    assert message.format == f"{encoding}; png compressed {'bgr16' if channels == 3 else ''}"
    assert field_bytes(decode(message, COMPRESSED, 0)) == field_bytes(value)


def test_bare_and_other_formats() -> None:
    cv2 = pytest.importorskip("cv2")
    colour = _smooth((16, 20, 3), np.uint8)
    png = cv2.imencode(".png", colour)[1].tobytes()
    grey16 = cv2.imencode(".png", _smooth((16, 20), np.uint16))[1].tobytes()
    alpha = cv2.imencode(".png", _smooth((16, 20, 4), np.uint8))[1].tobytes()
    mono = cv2.imencode(".jpg", _smooth((16, 20), np.uint8))[1].tobytes()

    def seen(data: bytes, name: str) -> tuple[str, np.ndarray]:
        image = decode(_compressed(list(data), name), COMPRESSED, 0)
        assert isinstance(image, Image)
        return image.encoding, image.data

    assert seen(png, "png")[0] == "bgr8" and np.array_equal(seen(png, "png")[1], colour)
    # The file's own order is BGR only where the format says so.
    assert np.array_equal(seen(png, "rgb8; png compressed bgr8")[1], colour[..., ::-1])
    assert np.array_equal(seen(png, "rgb8; png compressed rgb8")[1], colour)
    assert np.array_equal(seen(png, "rgba8; png compressed bgr8")[1][..., :3], colour[..., ::-1])
    assert seen(alpha, "png")[0] == "bgra8"
    assert seen(grey16, "png")[0] == "mono16"
    assert seen(mono, "jpeg")[0] == "mono8"
    assert seen(mono, "bayer_rggb8; jpeg compressed ")[0] == "bayer_rggb8"
    assert seen(mono, "bayer_rggb8; jpeg compressed mono8")[0] == "mono8"
    assert seen(mono, "mono16; jpeg compressed mono8")[1].max() >= 200 * 256


def test_compressed_depth(store: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    millimetres = RNG.integers(0, 5000, (6, 8), dtype=np.uint16)
    png = cv2.imencode(".png", millimetres)[1].tobytes()
    header = struct.pack("<iff", 0, 0.0, 0.0)
    for name in ("16UC1; compressedDepth", "16UC1; compressedDepth png"):
        image = decode(_compressed(np.frombuffer(header + png, np.uint8), name), COMPRESSED, 0)
        assert isinstance(image, Image) and image.encoding == "16UC1"
        assert np.array_equal(image.data, millimetres)
    # Encoder of codec.cpp with depth_quantization 100 and depth_max 10.
    depth = np.array([[0.5, 1.0, 2.0], [4.0, 9.0, np.nan]], np.float32)
    a = np.float32(100 * 101)
    b = np.float32(1 - a / 10)
    inverse = np.where(depth < 10, a / depth + b, 0).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + cv2.imencode(".png", inverse)[1].tobytes()
    image = decode(_compressed(data, "32FC1; compressedDepth png"), COMPRESSED, 0)
    assert isinstance(image, Image) and image.encoding == "32FC1"
    np.testing.assert_allclose(image.data, depth, rtol=1e-2)
    with pytest.raises(MessageError, match="only png depth"):
        decode(_compressed(data, "32FC1; compressedDepth rvl"), COMPRESSED, 0)
    with pytest.raises(MessageError, match="12-byte header"):
        decode(_compressed(b"123", "32FC1; compressedDepth png"), COMPRESSED, 0)
    colour = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(MessageError, match="which is not 32FC1"):
        decode(_compressed(header + colour, "32FC1; compressedDepth png"), COMPRESSED, 0)


def test_corrupt_compressed_images_are_message_errors() -> None:
    cv2 = pytest.importorskip("cv2")
    jpeg = cv2.imencode(".jpg", _smooth((48, 64, 3), np.uint8))[1].tobytes()
    png = cv2.imencode(".png", _smooth((48, 64, 3), np.uint8))[1].tobytes()
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    for data in (b"", b"no image", jpeg[: len(jpeg) // 2], jpeg[:-2], png[: len(png) // 2], bytes(flipped)):
        with pytest.raises(MessageError, match="frame 'cam'"):
            decode(_compressed(data, "rgb8; jpeg compressed bgr8"), COMPRESSED, 0)


def test_what_cannot_be_compressed_says_so() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(MessageError, match="32FC1 cannot be written as jpeg or png; convert depth in metres"):
        compress(Image(0, np.zeros((4, 4), np.float32), "32FC1"))
    with pytest.raises(MessageError, match="8UC3 cannot"):
        compress(Image(0, np.zeros((4, 4, 3), np.uint8), "8UC3"))


def test_without_opencv_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RosAttnError, match=r"pip install 'ros-attn\[perception\]'") as caught:
        to_rgb(Image(0, np.zeros((4, 4), np.uint8), "bayer_rggb8"))
    # No MessageError: those are counted and passed over.
    assert not isinstance(caught.value, MessageError)
    with pytest.raises(RosAttnError, match="perception"):
        decode(_compressed(b"\xff\xd8", "jpeg"), COMPRESSED, 0)


# ---------------------------------------------------------------- colour


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_demosaicing_gives_the_colour_back(pattern: str, bits: int) -> None:
    pytest.importorskip("cv2")
    scale = 1 if bits == 8 else 257
    colour = {"r": 200 * scale, "g": 90 * scale, "b": 30 * scale}
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]])
    mosaic = np.tile(tile, (4, 5)).astype(f"u{bits // 8}")
    image = to_rgb(Image(3, mosaic, f"bayer_{pattern}{bits}", "cam"))
    assert (image.encoding, image.frame_id, image.stamp_ns) == (f"rgb{bits}", "cam", 3)
    assert np.all(image.data == list(colour.values()))
    grey = to_grey(Image(3, mosaic, f"bayer_{pattern}{bits}"))
    expected = 0.299 * colour["r"] + 0.587 * colour["g"] + 0.114 * colour["b"]
    assert grey.encoding == f"mono{bits}" and np.abs(grey.data - expected).max() <= scale


def test_other_encodings_to_rgb_and_grey() -> None:
    pytest.importorskip("cv2")
    bgra = np.full((2, 2, 4), (10, 20, 200, 7), np.uint8)
    assert to_rgb(Image(0, bgra, "bgra8")).data[0, 0].tolist() == [200, 20, 10]
    assert to_grey(Image(0, bgra, "bgra8")).data[0, 0] == round(0.299 * 200 + 0.587 * 20 + 0.114 * 10)
    grey = np.full((2, 2), 9, np.uint16)
    assert to_rgb(Image(0, grey, "mono16")).data[1, 1].tolist() == [9, 9, 9]
    assert to_grey(Image(0, grey, "16UC1")).encoding == "mono16"
    same = Image(0, np.zeros((2, 2, 3), np.uint8), "rgb8")
    assert to_rgb(same) is same
    # Luma 81, chroma (90, 240) is red in BT.601; the two orders differ in which byte comes first.
    uyvy = np.array([[[90, 81], [240, 81]]], np.uint8)
    for encoding, pixels in (("uyvy", uyvy), ("yuv422", uyvy), ("yuv422_yuy2", uyvy[..., ::-1].copy())):
        red = to_rgb(Image(0, pixels, encoding)).data[0, 0]
        assert red[0] > 250 and red[1] < 5 and red[2] < 5
        assert abs(int(to_grey(Image(0, pixels, encoding)).data[0, 0]) - 81) <= 1
    for encoding, pixels in (("8UC3", same.data), ("32FC1", np.zeros((2, 2), np.float32))):
        with pytest.raises(MessageError, match=f"{encoding} does not say its colours"):
            to_rgb(Image(0, pixels, encoding))
    with pytest.raises(MessageError, match="does not convert to rgb8"):
        to_rgb(Image(0, np.zeros((3, 3, 2), np.uint8), "uyvy"))
