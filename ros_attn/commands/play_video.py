"""The video of ``ros-attn play``: pictures to an mp4 file that appears when it is complete, and insets in them."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.errors import RosAttnError

CODECS = ("avc1", "mp4v")
"""H.264, which browsers play too and the OpenCV of PyPI lacks; MPEG-4 part 2."""
LOOKING = ("front left", "front right", "rear left", "rear right", "body")
"""The panels of the stair climber's attention."""
SMALLEST = (320, 240)

Picture = NDArray[np.uint8]


def check(path: Path, size: str) -> tuple[int, int]:
    """Width and height of ``WxH``, once a video can be written to ``path``. Raises RosAttnError where it cannot."""
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RosAttnError(f"--size {size!r} is not of the form 640x480.")
    asked = int(width), int(height)
    if asked[0] < SMALLEST[0] or asked[1] < SMALLEST[1] or max(asked) > 4096 or asked[0] % 2 or asked[1] % 2:
        raise RosAttnError(f"--size is {size}; give even numbers from {SMALLEST[0]}x{SMALLEST[1]} to 4096.")
    if path.suffix.lower() != ".mp4":
        raise RosAttnError(f"--video {path} is no mp4 file; write {path.with_suffix('.mp4')}.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise RosAttnError(f"--video {path} {what}; name a file in one that does.")
    return asked


class Video:
    """An mp4 file, as a context: it is written beside ``path`` and renamed at the end, and goes where an error comes.

    Raises RosAttnError where OpenCV cannot write it.
    """

    def __init__(self, path: Path, width: int, height: int, hz: int) -> None:
        import cv2

        self.path, self.frames = path, 0
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
        # A codec that is not there is no error here; both libraries would say so at length.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            for codec in CODECS:
                fourcc = cv2.VideoWriter.fourcc(*codec)
                self._writer = cv2.VideoWriter(str(self._partial), fourcc, float(hz), (width, height))
                if self._writer.isOpened():
                    self.codec = codec
                    return
        finally:
            cv2.utils.logging.setLogLevel(level)
        self._partial.unlink(missing_ok=True)
        raise RosAttnError(f"OpenCV cannot write {path} (tried {' and '.join(CODECS)}); install opencv with FFmpeg.")

    def add(self, picture: Picture) -> None:
        """Append an rgb picture [height, width, 3]."""
        self._writer.write(np.ascontiguousarray(picture[..., ::-1]))
        self.frames += 1

    def __enter__(self) -> Video:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._writer.release()
        if kind is not None:
            self._partial.unlink(missing_ok=True)
            return
        if not self._partial.is_file() or not self._partial.stat().st_size:
            self._partial.unlink(missing_ok=True)
            raise RosAttnError(f"{self.path} could not be written; is the disk full?")
        os.replace(self._partial, self.path)


def with_text(picture: Picture, text: str) -> Picture:
    """A line at the upper left corner."""
    return _lettered(picture.copy(), text, (10, 22), 0.55)


def with_attention(picture: Picture, attention: Picture) -> Picture:
    """The panels [48, 5 * 64, 3] of the attention along the lower edge, as large as fits in whole pixels."""
    scale = picture.shape[1] // attention.shape[1]
    strip = attention.repeat(scale, axis=0).repeat(scale, axis=1)
    left, top = (picture.shape[1] - strip.shape[1]) // 2, picture.shape[0] - strip.shape[0]
    made = picture.copy()
    made[top:, left : left + strip.shape[1]] = strip
    each = strip.shape[1] // len(LOOKING)
    for number, name in enumerate(LOOKING):
        _lettered(made, name, (left + number * each + 4, top - 5), 0.4)
    return made


def with_depth(picture: Picture, depth_m: NDArray[np.float32], far_m: float) -> Picture:
    """A depth image [H, W] m, near bright and unknown red, at the lower left corner, a quarter of the width."""
    grey = (255 * np.clip(1 - depth_m / far_m, 0, 1)).astype(np.uint8)
    shown = np.stack([np.where(depth_m > 0, grey, 160), *2 * (np.where(depth_m > 0, grey, 0),)], axis=-1)
    scale = max(1, picture.shape[1] // 4 // depth_m.shape[1])
    inset = shown.repeat(scale, axis=0).repeat(scale, axis=1)[: picture.shape[0], : picture.shape[1]]
    made = picture.copy()
    made[-inset.shape[0] :, : inset.shape[1]] = inset
    return _lettered(made, "depth", (4, picture.shape[0] - inset.shape[0] - 5), 0.4)


def _lettered(picture: Picture, text: str, place: tuple[int, int], size: float) -> Picture:
    """Light text with a dark shadow, drawn into ``picture``."""
    import cv2

    for shift, colour in ((1, (20, 20, 20)), (0, (250, 250, 250))):
        at = place[0] + shift, place[1] + shift
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
    return picture
