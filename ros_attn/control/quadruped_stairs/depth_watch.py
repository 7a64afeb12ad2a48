"""Whether depth images can be trusted: silence, freezing, blindness."""

from __future__ import annotations

import numpy as np

from ros_attn.control.depth_image import Depth
from ros_attn.grid import SECOND, to_ns

LARGEST_AGE_S = 0.4
FROZEN_IMAGES = 5
LEAST_VALID = 0.05
GOOD_FOR_S = 0.5


class DepthWatch:
    """Judges the images of one camera by their stamps and contents; nothing here reads a clock.

    At fault are: a newest image taken more than 0.4 s ago (before the first one: the first :meth:`judge` more than
    0.4 s ago); five images in a row of the same content; a newest image of which less than 5 % is valid, or which could
    not be read. A fault ends once nothing was at fault for 0.5 s: images that are late or blind now and then are one
    fault. Thresholds: ours.
    """

    def __init__(self) -> None:
        self.since_ns: int | None = None
        """When the fault was first seen [ns], None while there is none."""
        self.cause = ""
        """What is, or was last, at fault; empty while there is no fault."""
        self._good_since_ns: int | None = None
        self._began_ns: int | None = None
        self._taken_ns: int | None = None
        self._last: Depth | None = None
        self._alike = 0
        self._blind = ""

    def see(self, stamp_ns: int, depth_m: Depth, valid: float) -> None:
        """A new image [H, W] m, 0 where invalid, and the share of what the policy sees of it that is valid."""
        same = self._last is not None and np.array_equal(self._last, depth_m)
        self._taken_ns, self._last, self._alike = stamp_ns, depth_m, self._alike + 1 if same else 1
        self._blind = "" if valid >= LEAST_VALID else f"{100 * valid:.1f} % of the image is valid, below 5 %"

    def refuse(self, stamp_ns: int, reason: str) -> None:
        """A new image that cannot be read."""
        self._taken_ns, self._last, self._alike, self._blind = stamp_ns, None, 0, reason

    def judge(self, now_ns: int) -> str:
        """The ``cause`` now, empty where there is no fault."""
        if self._began_ns is None:
            self._began_ns = now_ns
        if found := self._silence(now_ns) or self._blind or self._freezing():
            self.cause, self._good_since_ns = found, None
            self.since_ns = now_ns if self.since_ns is None else self.since_ns
        elif self.since_ns is not None:
            self._good_since_ns = now_ns if self._good_since_ns is None else self._good_since_ns
            if now_ns - self._good_since_ns >= to_ns(GOOD_FOR_S):
                self.cause, self.since_ns = "", None
        return self.cause

    def _silence(self, now_ns: int) -> str:
        limit = f"above {1e3 * LARGEST_AGE_S:g} ms"
        if self._taken_ns is None:
            assert self._began_ns is not None
            waited_ns = now_ns - self._began_ns
            words = f"depth/image is silent, none has come for {waited_ns * 1e3 / SECOND:.0f} ms, {limit}"
        else:
            waited_ns = now_ns - self._taken_ns
            words = f"depth/image is silent, its newest stamp is {waited_ns * 1e3 / SECOND:.0f} ms old, {limit}"
        return words if waited_ns > to_ns(LARGEST_AGE_S) else ""

    def _freezing(self) -> str:
        if self._alike < FROZEN_IMAGES:
            return ""
        return f"depth/image is frozen, its last {self._alike} images are the same"
