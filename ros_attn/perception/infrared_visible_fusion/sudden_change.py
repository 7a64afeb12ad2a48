"""What befalls one camera alone while the robot stands: its picture changes at once and stays so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from ros_attn.values import Array

Kind = Literal["dirt", "saturated", "shifted"]

WIDTH_PX, BLOCK_PX = 256, 8
TEXTURED = 3.0
"""Blocks of less deviation, in grey levels, cannot lose any."""
SAME_LEVEL, SAME_SLOPE = 5.0, 0.35
VEILED_SLOPE, VEILED_CONTRAST = 0.45, 0.5
LEAST_VEILED, MOST_VEILED = 0.02, 0.6
STILL = 0.9
"""Share of blocks that are as they were, for a picture that stands."""
WHITE, WHITER, BRIGHTER = 250.0, 0.05, 10.0
LEAST_SHIFT_PX, LARGEST_SHIFT_PX = 1.2, 24.0
EXPLAINED = 0.5
"""Share of the change that a shift may leave."""
LEAST_STAND_NS, LONGEST_GAP_NS = 300_000_000, 500_000_000
TIMES = 3
REFRESH = 0.2


@dataclass(frozen=True)
class Blocks:
    """A picture, 256 px wide, with mean and deviation of each block of 8 px."""

    picture: Array
    mean: Array
    deviation: Array

    @staticmethod
    def of(levels: Array) -> Blocks:
        """Of grey levels [H, W]."""
        height = max(2, round(levels.shape[0] * WIDTH_PX / levels.shape[1] / BLOCK_PX)) * BLOCK_PX
        picture = cv2.resize(levels.astype(np.float32, copy=False), (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
        return Blocks._described(picture)

    @staticmethod
    def _described(picture: Array) -> Blocks:
        blocks = _in_blocks(picture)
        return Blocks(picture, blocks.mean((1, 3)), blocks.std((1, 3)))

    def slope(self, before: Blocks) -> Array:
        """Of the line ``self = slope * before + constant`` by least squares, in each block."""
        product = _in_blocks(self.picture * before.picture).mean((1, 3)) - self.mean * before.mean
        return product / (before.deviation**2 + 1.0)

    def moved(self, right: float, down: float) -> Blocks:
        """The same picture moved, in its own px."""
        by = np.array([[1, 0, right], [0, 1, down]], np.float32)
        height, width = self.picture.shape
        return Blocks._described(cv2.warpAffine(self.picture, by, (width, height), borderMode=cv2.BORDER_REPLICATE))

    def toward(self, later: Blocks) -> Blocks:
        """A fifth of the way to a later picture."""
        return Blocks._described(self.picture + np.float32(REFRESH) * (later.picture - self.picture))


def _in_blocks(picture: Array) -> Array:
    height, width = picture.shape
    return picture.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)


def unchanged(before: Blocks, now: Blocks) -> Array:
    """Which blocks are as they were. [rows, columns] of bool."""
    slope = now.slope(before)
    kept = (before.deviation < TEXTURED) | (abs(slope - before.deviation**2 / (before.deviation**2 + 1)) < SAME_SLOPE)
    return kept & (abs(now.mean - before.mean) < SAME_LEVEL)


def veiled(before: Blocks, now: Blocks) -> Array:
    """Which blocks have lost their contrast without having turned black or white."""
    lost = (now.slope(before) < VEILED_SLOPE) & (now.deviation < VEILED_CONTRAST * before.deviation)
    return (before.deviation > TEXTURED) & lost & (now.mean > 8) & (now.mean < WHITE - 3)


def shift(before: Blocks, now: Blocks) -> tuple[float, float]:
    """By how much the picture moved (right, down), in px of 256 a picture's width."""
    window = cv2.createHanningWindow(before.picture.shape[::-1], cv2.CV_32F)
    # Given the window, OpenCV multiplies it into the pictures themselves where their size needs no padding.
    (right, down), _ = cv2.phaseCorrelate(before.picture * window, now.picture * window)
    return right, down


def kind_of(before: Blocks, now: Blocks) -> Kind | None:
    """What happened to a camera between two pictures of the same scene."""
    same = unchanged(before, now)
    whiter = float((now.picture >= WHITE).mean() - (before.picture >= WHITE).mean())
    if whiter >= WHITER and float(np.median(now.mean - before.mean)) >= BRIGHTER:
        return "saturated"
    right, down = shift(before, now)
    if LEAST_SHIFT_PX <= np.hypot(right, down) <= LARGEST_SHIFT_PX:
        moved = before.moved(right, down)
        if _unlike(moved, now) < EXPLAINED * _unlike(before, now):
            return "shifted"
    textured = before.deviation > TEXTURED
    lost = veiled(before, now).sum() / max(1, textured.sum())
    if LEAST_VEILED <= lost <= MOST_VEILED and same[textured].mean() > 0.3:
        return "dirt"
    return None


def _unlike(a: Blocks, b: Blocks) -> float:
    """Mean square of the difference, blurred: a turn that comes with a shift moves the corners by a pixel more."""
    return float(np.square(cv2.GaussianBlur(a.picture - b.picture, (0, 0), 1.5)[BLOCK_PX:-BLOCK_PX]).mean())


@dataclass
class Found:
    """A change that stayed."""

    kind: Kind
    before: Blocks
    where: Array
    moved_px: tuple[float, float]
    """In px of the camera's own images."""

    def lasts(self, now: Blocks) -> bool:
        """Whether the picture still shows it, as far as that can be seen."""
        if float(unchanged(self.before, now).mean()) >= STILL:
            return False
        if self.kind == "dirt":
            return float(np.median(now.deviation[self.where] / self.before.deviation[self.where])) < 0.6
        if self.kind == "saturated":
            return float((now.picture >= WHITE).mean() - (self.before.picture >= WHITE).mean()) >= WHITER / 2
        return bool(np.hypot(*self.moved_px) >= LEAST_SHIFT_PX)


@dataclass
class Camera:
    """One camera's picture while nothing happened, and what is suspected or found since."""

    before: Blocks | None = None
    since_ns: int = 0
    stamp_ns: int = 0
    suspected: Kind | None = None
    times: int = 0
    found: Found | None = None

    def start(self, now: Blocks, stamp_ns: int) -> None:
        """Take this picture for the one in which nothing has happened."""
        self.before, self.since_ns, self.suspected, self.times = now, stamp_ns, None, 0


@dataclass
class SuddenChange:
    """Dirt, saturation or a knock, told by what the other camera did not see.

    A camera whose picture has stood for 0.3 s, nine tenths of its blocks unchanged, and then changes, is suspected::

        saturated:  5 % more of the picture is white, and the median block brighter by 10 grey levels
        dirt:       2 to 60 % of the blocks with texture keep less than 0.45 of it, the others are as they were
        shifted:    phase correlation finds a shift, and this explains the change

    It is named once the same was found in three frames running while the other camera's picture stood. Dirt and
    saturation last until they are gone from the picture, a shift until the picture is back or until ``reset``.

    A robot that moves shows nothing of this kind: both pictures change. Nor does dirt that was there from the start,
    or that comes by and by, nor a shift of less than half a percent of the width (6 px of 1280).

    Images [H, W] in grey levels, by camera. Source: ours; phase correlation is Kuglin & Hines 1975.
    """

    cameras: dict[str, Camera] = field(default_factory=dict)

    def reset(self) -> None:
        self.cameras = {}

    def observe(self, images: Mapping[str, tuple[Array, int]]) -> dict[str, Found | None]:
        """What has been found of each camera; ``images`` with their stamps in ns."""
        pictures = {name: Blocks.of(levels) for name, (levels, _) in images.items()}
        still = {name: self._stands(name, pictures[name], stamp) for name, (_, stamp) in images.items()}
        for name, (levels, stamp_ns) in images.items():
            camera, now = self.cameras.setdefault(name, Camera()), pictures[name]
            if camera.found is not None and not camera.found.lasts(now):
                camera.found = None
                camera.start(now, camera.since_ns)
            if camera.before is None:
                camera.start(now, stamp_ns)
            elif still[name]:
                camera.before = camera.before.toward(now)
                camera.suspected, camera.times = None, 0
            else:
                others = all(stands for other, stands in still.items() if other != name)
                height, width = now.picture.shape
                self._doubt(camera, now, stamp_ns, others, (levels.shape[1] / width, levels.shape[0] / height))
            camera.stamp_ns = stamp_ns
        return {name: self.cameras[name].found for name in images}

    def _stands(self, name: str, now: Blocks, stamp_ns: int) -> bool:
        camera = self.cameras.get(name)
        if camera is None or camera.before is None or camera.before.picture.shape != now.picture.shape:
            self.cameras[name] = Camera()
            return False
        if not 0 <= stamp_ns - camera.stamp_ns <= LONGEST_GAP_NS:
            camera.start(now, stamp_ns)
        assert camera.before is not None
        return float(unchanged(camera.before, now).mean()) >= STILL

    def _doubt(
        self, camera: Camera, now: Blocks, stamp_ns: int, others_stand: bool, scale: tuple[float, float]
    ) -> None:
        """One more frame in which this camera's picture is not what it was."""
        before = camera.before
        assert before is not None
        stood = camera.suspected is not None or camera.stamp_ns - camera.since_ns >= LEAST_STAND_NS
        kind = kind_of(before, now) if others_stand and stood else None
        if kind is None or (camera.suspected is not None and kind != camera.suspected):
            camera.start(now, stamp_ns)
            return
        camera.suspected, camera.times = kind, camera.times + (stamp_ns > camera.stamp_ns)
        if camera.times >= TIMES:
            moved = (0.0, 0.0)
            if kind == "shifted":
                # A camera that was knocked back is where it was.
                already = camera.found.moved_px if camera.found is not None else moved
                right, down = shift(before, now)
                moved = already[0] + right * scale[0], already[1] + down * scale[1]
            camera.found = Found(kind, before, veiled(before, now), moved)
            camera.start(now, camera.since_ns)
