"""Haze, rain, snow and low light on a pair of images.

Every function takes and gives grey levels 0..255 as float32, ``visible [H, W] or [H, W, 3]`` and ``infrared [H, W]``
registered to it, white hot, with ``depth_m [H, W]``; it leaves its arguments alone. Display values are taken as
light, as in ``ros_attn.sim.weather``, except in ``low_light``. Nothing is clipped to whole grey levels: the caller
rounds once.

Source: Koschmieder 1924 for haze, in the form of Narasimhan & Nayar (IJCV 48, 2002); streaks as in Garg & Nayar (IJCV
75, 2007): brighter than what is behind them, blurred by their fall; noise after EMVA 1288. Numbers are ours and lie in
severities.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_attn.values import Array

INFRARED_SHARE = 0.25
"""Optical depth in the long-wave infrared over that in the visible: fog of small drops (radiation fog)."""
_GAMMA = 2.2


@dataclass(frozen=True)
class Haze:
    visibility_m: float
    """Meteorological visibility: a contrast falls to 2 %."""
    airlight: float
    """Grey level of the horizon by day; at night it follows the picture's bright parts."""

    def __call__(
        self, visible: Array, infrared: Array, depth_m: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """``I = J t + A (1 - t)``, ``t = exp(-3.912 z / visibility)``; infrared with ``t`` to a quarter of the power,
        towards the scene's median, which is the air's temperature."""
        beta = np.float32(3.912 / self.visibility_m)
        t = np.exp(-beta * depth_m)
        light = np.float32(self.airlight * _daylight(visible))
        hazed = light + (visible - light) * (t[..., None] if visible.ndim == 3 else t)
        air = np.float32(np.median(infrared))
        return hazed.astype(np.float32), (air + (infrared - air) * t ** np.float32(INFRARED_SHARE)).astype(np.float32)


@dataclass(frozen=True)
class Rain:
    streaks_per_mpx: float
    length_px: float
    """Of the nearest streaks at 480 rows; it grows with the picture."""
    opacity: float
    visibility_m: float
    """Far drops are a haze."""

    def __call__(
        self, visible: Array, infrared: Array, depth_m: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Three distances of streaks, all slanting alike, over a veil; wet surfaces lose contrast in the infrared."""
        veiled, infrared = Haze(self.visibility_m, 170.0)(visible, infrared, depth_m, rng)
        slant = np.deg2rad(rng.uniform(-15.0, 15.0))
        cover = np.zeros(infrared.shape, np.float32)
        scale = infrared.shape[0] / 480.0
        for share, size in ((0.6, 0.4), (0.3, 0.7), (0.1, 1.0)):
            count = rng.poisson(self.streaks_per_mpx * share * infrared.size / 1e6)
            cover += _streaks(infrared.shape, count, self.length_px * size * scale, slant, size, rng)
        cover = np.minimum(cover, 1.0) * np.float32(self.opacity)
        # A drop gathers the light of a wide field.
        glow = _blurred(veiled, 0.08 * infrared.shape[0]) * np.float32(1.2) + np.float32(30.0)
        wet = np.float32(np.median(infrared)) + (infrared - np.float32(np.median(infrared))) * np.float32(0.8)
        return _over(veiled, glow, cover), _over(wet, np.float32(np.median(infrared)), cover * np.float32(0.15))


@dataclass(frozen=True)
class Snow:
    flakes_per_mpx: float
    radius_px: float
    """Of a middling flake at 480 rows; it grows with the picture."""
    opacity: float
    visibility_m: float

    def __call__(
        self, visible: Array, infrared: Array, depth_m: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Flakes of four sizes, the near ones few, large and out of focus, over a veil; cold in the infrared."""
        veiled, infrared = Haze(self.visibility_m, 200.0)(visible, infrared, depth_m, rng)
        slant = np.deg2rad(rng.uniform(-35.0, 35.0))
        cover = np.zeros(infrared.shape, np.float32)
        scale = infrared.shape[0] / 480.0
        for share, size in ((0.55, 0.6), (0.30, 1.0), (0.12, 1.7), (0.03, 3.0)):
            count = rng.poisson(self.flakes_per_mpx * share * infrared.size / 1e6)
            cover += _flakes(infrared.shape, count, self.radius_px * size * scale, slant, rng)
        cover = np.minimum(cover, 1.0) * np.float32(self.opacity)
        white = np.float32(90.0 + 150.0 * _daylight(visible))
        cold = np.float32(np.percentile(infrared, 20))
        return _over(veiled, white, cover), _over(infrared, cold, cover * np.float32(0.35))


@dataclass(frozen=True)
class LowLight:
    exposure: float
    """Light left, 1 being the picture as it is."""
    electrons: float
    """Charge of a white pixel at exposure 1."""
    read_noise: float
    """Electrons, standard deviation."""

    def __call__(
        self, visible: Array, infrared: Array, depth_m: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Fewer photons with their shot noise, in linear light; the infrared camera sees as before."""
        charge = np.power(np.clip(visible, 0, 255) / np.float32(255.0), _GAMMA) * np.float32(
            self.exposure * self.electrons
        )
        noisy = charge + rng.standard_normal(charge.shape, np.float32) * np.sqrt(
            charge + np.float32(self.read_noise**2)
        )
        dark = np.power(np.clip(noisy / np.float32(self.electrons), 0, 1), 1 / _GAMMA) * np.float32(255.0)
        return dark.astype(np.float32), infrared.astype(np.float32, copy=True)


def _daylight(visible: Array) -> float:
    """0.15 at night to 1 by day, from the brightness of the brighter half of the picture."""
    return float(np.clip(np.percentile(visible, 75) / 110.0, 0.15, 1.0))


def _over(behind: Array, front: Array | np.float32, cover: Array) -> Array:
    """``front`` painted over with an opacity [H, W]; rain and snow never darken what is brighter."""
    shape = cover[..., None] if behind.ndim == 3 else cover
    return (behind + shape * (front - behind)).astype(np.float32)


def _blurred(image: Array, sigma_px: float) -> Array:
    """A wide Gaussian, at an eighth of the size."""
    import cv2

    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // 8), max(1, height // 8)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(sigma_px / 8, 0.5), borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(image.shape)


def _streaks(
    shape: tuple[int, ...], count: int, length_px: float, slant: float, size: float, rng: np.random.Generator
) -> Array:
    """Opacity [H, W] of thin lines that fade towards both ends."""
    import cv2

    height, width = shape
    drops = np.zeros(shape, np.float32)
    rows, columns = rng.integers(0, height, count), rng.integers(0, width, count)
    np.maximum.at(drops, (rows, columns), rng.uniform(0.4, 1.0, count).astype(np.float32))
    reach = max(1, round(length_px / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    dx, dy = np.sin(slant) * reach, np.cos(slant) * reach
    start, end = (round(reach - dx), round(reach - dy)), (round(reach + dx), round(reach + dy))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA)
    fade = 1 - np.abs(np.arange(-reach, reach + 1, dtype=np.float32)) / (reach + 1)
    kernel *= fade[:, None] / max(float(kernel.max()), 1e-6)
    fallen = cv2.filter2D(drops, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    return cv2.GaussianBlur(fallen, (0, 0), 0.4 + 0.5 * size)


def _flakes(shape: tuple[int, ...], count: int, radius_px: float, slant: float, rng: np.random.Generator) -> Array:
    """Opacity [H, W] of soft discs, drawn out along their fall by their own radius."""
    import cv2

    height, width = shape
    cover = np.zeros(shape, np.float32)
    for x, y, factor in zip(
        rng.uniform(0, width, count), rng.uniform(0, height, count), rng.uniform(0.6, 1.4, count), strict=True
    ):
        radius = radius_px * factor
        step = (radius * np.sin(slant), radius * np.cos(slant))
        start = (round((x - step[0] / 2) * 16), round((y - step[1] / 2) * 16))
        end = (round((x + step[0] / 2) * 16), round((y + step[1] / 2) * 16))
        cv2.line(cover, start, end, 1.0, max(1, round(1.4 * radius)), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(cover, (0, 0), max(0.5, 0.45 * radius_px))
