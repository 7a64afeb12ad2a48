"""The pixels of one image topic as grey levels 0..255, and back into its messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from ros_attn.codecs.fields import byte_view
from ros_attn.convert.conversion import ConversionError
from ros_attn.errors import listed
from ros_attn.values import Array, Image

_LEVELS = ("mono8", "rgb8", "bgr8")
_COUNTS = ("mono16", "16UC1")


class GreyLevels:
    """What the levels of a topic's images are, by its first one.

    mono8, rgb8 and bgr8 are levels. Of mono16 and 16UC1 the 1st to the 99th percentile of the first image are 0 to 255,
    float32, not cut: ``level = (count - low) * 255 / (high - low)``.

    Raises ConversionError for other encodings, and for colours unless ``colour``.
    """

    def __init__(self, topic: str, first: Image, colour: bool) -> None:
        self._topic, self._first = topic, first.encoding
        self._known = (*(_LEVELS if colour else _LEVELS[:1]), *_COUNTS)
        self._counts = first.encoding in _COUNTS
        self.check(first)
        low, high = np.percentile(first.data, (1, 99)) if self._counts else (0.0, 255.0)
        self._low, self._scale = float(low), 255.0 / (float(high - low) or 1.0)

    def check(self, image: Image) -> None:
        """ConversionError where an image is not of the kind of the first."""
        if image.encoding not in self._known:
            remedy = "demosaic it by image_proc" if image.encoding.startswith("bayer_") else "convert it"
            raise ConversionError(
                f"{self._topic} is {image.encoding}, which cannot be degraded as it is; {remedy} to one of "
                f"{listed(self._known)}, record that and name its topic"
            )
        if (image.encoding in _COUNTS) != self._counts:
            raise ConversionError(
                f"{self._topic} changes from {self._first} to {image.encoding}; degrade only the time before or after"
            )

    def levels(self, image: Image) -> Array:
        """[H, W] or [H, W, 3]: uint8 as they are, counts as float32."""
        return ((image.data - self._low) * self._scale).astype(np.float32) if self._counts else image.data

    def put(self, fields: Any, levels: Array) -> None:
        """Give an image message these levels for its pixels, in its own byte order and padding."""
        if self._counts:
            counts = np.rint(levels / np.float64(self._scale) + self._low)
            levels = np.clip(counts, 0, 65535).astype(">u2" if fields.is_bigendian else "<u2")
        rows = np.ascontiguousarray(levels).view(np.uint8).reshape(len(levels), -1)
        fields.data = byte_view(fields.data).copy()
        fields.data.reshape(fields.height, fields.step)[:, : rows.shape[1]] = rows
