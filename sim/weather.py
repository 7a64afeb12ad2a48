"""Haze and low-light sensor noise for the visible camera.

Haze: ``I = J·t + A·(1 - t)``, ``t = exp(-beta·z)`` (Koschmieder 1924; the form of Narasimhan & Nayar, IJCV
48, 2002), J the clear image, A the airlight, z the depth, beta in 1/m. Meteorological visibility is ``3.912 /
beta``. Deviation: applied to display values, not to linear light, and z is the depth along the optical axis,
so a contrast of two display values at one depth falls by exactly t. The sky has no depth: its path ends at
the top of the layer.
"""

from __future__ import annotations

import numpy as np

AIRLIGHT = np.array([186.0, 178.0, 176.0], np.float32)  # display values of the horizon
LAYER_M = 45.0  # height of the haze layer above the camera
SKY_PATH_M = 500.0  # longest path through it, near the horizon


def haze_profile(points: tuple[tuple[float, float], ...], share: float) -> float:
    """beta (1/m) at a share [0, 1] of the drive: the points (share, beta) joined by half cosines."""
    shares, betas = zip(*points, strict=True)
    k = int(np.clip(np.searchsorted(shares, share, side="right"), 1, len(shares) - 1))
    part = float(np.clip((share - shares[k - 1]) / (shares[k] - shares[k - 1]), 0.0, 1.0))
    return betas[k - 1] + (betas[k] - betas[k - 1]) * 0.5 * (1 - float(np.cos(np.pi * part)))


def sky_path(elevation_sine: np.ndarray) -> np.ndarray:
    """Metres through the haze layer for directions of a given sine of elevation; never infinite."""
    return np.minimum(LAYER_M / np.maximum(elevation_sine, 1e-3), SKY_PATH_M).astype(np.float32)


def hazed(clear: np.ndarray, path_m: np.ndarray, beta: float) -> np.ndarray:
    """float32 [H, W, 3] display values of a clear image (uint8 or float) seen through haze; path_m is
    finite."""
    transmission = np.exp(np.float32(-beta) * path_m)[..., None]
    image = clear - AIRLIGHT
    image *= transmission
    image += AIRLIGHT
    return image


def exposed(image: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3]: shot and read noise of a small sensor at dusk, ``sigma = noise·sqrt(4 + I/16)``
    display values."""
    sigma = image * np.float32(noise**2 / 16)
    sigma += np.float32(4 * noise**2)
    np.sqrt(sigma, out=sigma)
    sigma *= rng.standard_normal(image.shape, dtype=np.float32)
    sigma += image
    sigma += np.float32(0.5)
    return np.clip(sigma, 0, 255, out=sigma).astype(np.uint8)
