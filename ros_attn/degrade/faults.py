"""What goes wrong with one camera: frozen, black, saturated, noisy, dirty, shifted.

Each fault takes one image, grey levels 0..255 float32 ``[H, W] or [H, W, 3]``, and gives one of its shape; it leaves
its argument alone and does not clip. What belongs to the sensor and not to the frame (columns, dirt, shift) comes from
``fixed``, a generator that a caller seeds alike for every frame; what changes from frame to frame from ``rng``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_attn.values import Array


@dataclass(frozen=True)
class Black:
    """The shutter is closed, or the cable is loose: nothing but 0."""

    def __call__(self, image: Array, fixed: np.random.Generator, rng: np.random.Generator) -> Array:
        return np.zeros_like(image, dtype=np.float32)


@dataclass(frozen=True)
class Saturated:
    """Overexposed, or a gain that has run away: ``gain x + offset``, white beyond."""

    gain: float
    offset: float

    def __call__(self, image: Array, fixed: np.random.Generator, rng: np.random.Generator) -> Array:
        return np.minimum(image * np.float32(self.gain) + np.float32(self.offset), np.float32(255.0)).astype(np.float32)


@dataclass(frozen=True)
class Noise:
    """A noisy sensor: white noise in every frame, and columns whose offsets stay, as uncooled bolometers have them."""

    sigma: float
    """Grey levels, from frame to frame."""
    column_sigma: float
    """Grey levels, from column to column."""

    def __call__(self, image: Array, fixed: np.random.Generator, rng: np.random.Generator) -> Array:
        columns = fixed.standard_normal(image.shape[1], np.float32) * np.float32(self.column_sigma)
        white = rng.standard_normal(image.shape, np.float32) * np.float32(self.sigma)
        return (image + white + (columns[:, None] if image.ndim == 3 else columns)).astype(np.float32)


@dataclass(frozen=True)
class Dirt:
    """Mud and drops on the window: blotches that show their own grey and hide what is behind."""

    covered: float
    """Share of the picture."""
    opacity: float

    def __call__(self, image: Array, fixed: np.random.Generator, rng: np.random.Generator) -> Array:
        import cv2

        height, width = image.shape[:2]
        coarse = fixed.standard_normal((12, 16)).astype(np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        edge = np.float32(np.quantile(field, 1 - self.covered))
        cover = np.clip((field - edge) / np.float32(0.15) + np.float32(0.5), 0, 1) * np.float32(self.opacity)
        grey = np.float32(fixed.uniform(0.3, 0.6)) * np.float32(np.percentile(image, 80))
        shape = cover[..., None] if image.ndim == 3 else cover
        return (image + shape * (grey - image)).astype(np.float32)


@dataclass(frozen=True)
class Misaligned:
    """The camera has been knocked: shifted by ``shift_px`` in some direction and turned about the centre."""

    shift_px: float
    turn_deg: float

    def __call__(self, image: Array, fixed: np.random.Generator, rng: np.random.Generator) -> Array:
        import cv2

        height, width = image.shape[:2]
        towards = fixed.uniform(0, 2 * np.pi)
        turn = self.turn_deg * (1 if fixed.random() < 0.5 else -1)
        moved = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0)
        moved[:, 2] += self.shift_px * np.array([np.cos(towards), np.sin(towards)])
        return cv2.warpAffine(image, moved, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
