"""Image files on disk: pixels in RGB order, without any loss in either direction."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ros_attn.codecs.colour import opencv
from ros_attn.convert.conversion import ConversionError
from ros_attn.errors import listed
from ros_attn.values import Array, Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

_ENCODINGS = {
    ("uint8", 1): "mono8",
    ("uint8", 3): "rgb8",
    ("uint8", 4): "rgba8",
    ("uint16", 1): "mono16",
    ("uint16", 3): "rgb16",
    ("uint16", 4): "rgba16",
    ("float32", 1): "32FC1",
}


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which ``frame10`` comes after ``frame9``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts)


def images_in(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem, in natural order."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    paths.sort(key=lambda path: (natural(path.stem), path.name))
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise ConversionError(
                f"{folder} has both {found[path.stem].name} and {path.name}; keep one file of each name"
            )
        found[path.stem] = path
    return found


def read_pixels(path: Path) -> Array:
    """``[H, W]`` or ``[H, W, C]``, C in RGB(A) order, in the file's own depth; EXIF rotation is ignored."""
    cv2 = opencv()
    data = np.fromfile(path, dtype=np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None:
        raise ConversionError(f"{path} cannot be read as an image; is the file complete?")
    return _reversed_colours(pixels)


def is_grey(pixels: Array) -> bool:
    """One channel, or three that are the same."""
    return pixels.ndim == 2 or bool(
        pixels.shape[2] == 3
        and np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 0], pixels[..., 2])
    )


def encoding_of(pixels: Array, path: Path) -> str:
    """ROS's name for what :func:`read_pixels` gave."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    try:
        return _ENCODINGS[pixels.dtype.name, channels]
    except KeyError:
        raise ConversionError(
            f"{path} has {channels} channels of {pixels.dtype.name}, which no ROS encoding names; "
            f"save it as one of {listed(sorted(set(_ENCODINGS.values())))}"
        ) from None


def png_can_hold(image: Image) -> bool:
    """8 or 16 bits in one, three or four channels."""
    channels = image.data.shape[2] if image.data.ndim == 3 else 1
    return image.data.dtype.name in ("uint8", "uint16") and channels in (1, 3, 4)


def write_png(path: Path, image: Image) -> None:
    """Write the pixels unchanged; ``bgr*`` encodings are stored as the colours they name."""
    cv2 = opencv()
    pixels = image.data if image.encoding.startswith("bgr") else _reversed_colours(image.data)
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise ConversionError(f"{path} could not be encoded from {image.encoding} {image.data.shape}")
    path.write_bytes(data.tobytes())


def _reversed_colours(pixels: Array) -> Array:
    """BGR(A), which OpenCV reads and writes, to RGB(A) or back."""
    if pixels.ndim == 2:
        return pixels
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return np.ascontiguousarray(pixels[..., order])
