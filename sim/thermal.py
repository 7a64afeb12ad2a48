"""Long-wave infrared image of the street: what an uncooled 8-14 um core would report.

Radiance of a pixel, with B the Planck radiance integrated over the band:
``L = tau·(eps·B(T) + (1-eps)·(f·B(T_sky) + (1-f)·B(T_air))) + (1-tau)·B(T_air)``, ``tau = exp(-a·z)``,
a = 0.0004/m + 0.03·beta_visible. Apparent temperature: the black body of the same radiance (Planck's law;
grey bodies and the path term as in Vollmer & Moellmann, Infrared Thermal Imaging, 2nd ed., ch. 2). Then
optics blur, NETD noise and a little column noise. Deviations: one emissivity for all angles, one reflected
mix a surface (its sky_view f), no sun, no scattering. That haze hardly matters holds for haze and light mist,
not for dense fog.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np

from ros_attn.sim.street import Street
from ros_attn.sim.street_geometry import AIR_K
from ros_attn.sim.street_rendering import DriveCamera, Geometry, grouped

# Low cloud, as in the visible sky: it radiates like air some ten kelvin colder than the street's.
SKY_ZENITH_K, SKY_HORIZON_K = 274.0, 282.0
REFLECTED_SKY_K = 276.0
ABSORPTION_PER_M = 0.0004
HAZE_SHARE = 0.03
KELVIN_PER_COUNT = 0.01
_C2_UM_K = 14387.769  # second radiation constant
_TABLE_START_K, _TABLE_STEP_K = 180.0, 0.25
_TABLE_K = np.arange(_TABLE_START_K, 460.0, _TABLE_STEP_K)


def _band_radiance() -> np.ndarray:
    wavelength = np.linspace(8.0, 14.0, 121)
    planck = wavelength**-5 / np.expm1(_C2_UM_K / (wavelength * _TABLE_K[:, None]))
    return (0.5 * (planck[:, 1:] + planck[:, :-1]) * np.diff(wavelength)).sum(axis=1) * 1e6


_TABLE_RADIANCE = _band_radiance()


def radiance(kelvin: np.ndarray) -> np.ndarray:
    """Black-body radiance in the band, arbitrary units, of temperatures [N] in kelvin (180 to 459)."""
    place = (np.asarray(kelvin) - _TABLE_START_K) / _TABLE_STEP_K
    below = np.floor(place).astype(int)
    return _TABLE_RADIANCE[below] + (place - below) * np.diff(_TABLE_RADIANCE)[below]


def apparent_temperature(band_radiance: np.ndarray) -> np.ndarray:
    """The inverse of :func:`radiance`."""
    return np.interp(band_radiance, _TABLE_RADIANCE, _TABLE_K)


def thermal_counts(thermal_k: np.ndarray) -> np.ndarray:
    """16-bit counts as radiometric cores deliver them in high-resolution TLinear mode: 0.01 K a count,
    uint16."""
    return np.clip(np.rint(thermal_k.astype(np.float64) / KELVIN_PER_COUNT), 0, 65535).astype(np.uint16)


class ThermalCore:
    """The thermal camera: scene radiance, optics, detector."""

    def __init__(self, street: Street, camera: DriveCamera, seed: int, netd_k: float, blur_pixels: float):
        self._street, self._camera, self._seed, self._netd_k = street, camera, seed, netd_k
        rng = np.random.default_rng([seed, 2])
        self._columns = rng.normal(0.0, 0.4 * netd_k, camera.width).astype(np.float32)
        self._waves = (rng.normal(0.0, 1.0, (4, 3)) * [[2.5], [4.5], [8.0], [14.0]]).astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, (4, street.model.ngeom)).astype(np.float32)
        reach = int(np.ceil(2.5 * blur_pixels))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(blur_pixels, 1e-3)) ** 2)
        self._kernel = (kernel / kernel.sum()).astype(np.float32)
        self._air, sky = radiance(np.array([AIR_K, REFLECTED_SKY_K]))
        self._reflected = street.sky_view * sky + (1 - street.sky_view) * self._air

    def scene_temperature(self, data: mujoco.MjData, view: Geometry, haze_beta: float) -> np.ndarray:
        """Apparent temperature [H, W] kelvin before optics and detector."""
        street, camera = self._street, self._camera
        index = street.model.camera(camera.name).id
        optical = data.cam_xmat[index].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
        direction = np.einsum("nj,ij->ni", camera.rays.reshape(-1, 3), optical.astype(np.float32))
        geom, depth = view.geom.ravel(), view.depth_m.ravel()
        hit = np.flatnonzero(geom >= 0)
        seen, z = geom[hit], depth[hit]
        offset = (data.cam_xpos[index] - data.geom_xpos[seen]).astype(np.float32) + direction[hit] * z[:, None]
        local = np.einsum("nij,ni->nj", data.geom_xmat.astype(np.float32).reshape(-1, 3, 3)[seen], offset)
        kelvin = street.temperature_k[seen] + street.mottle_k[seen] * self._mottle(seen, local, z)
        for number, members in grouped(seen):
            pattern = street.warmth.get(number)
            if pattern is not None:
                half = street.model.geom_size[number]
                rows, columns = pattern.shape
                column = ((local[members, 0] / (2 * half[0]) + 0.5) * columns).astype(int).clip(0, columns - 1)
                row = ((0.5 - local[members, 1] / (2 * half[1])) * rows).astype(int).clip(0, rows - 1)
                kelvin[members] += pattern[row, column]
        emissivity = street.emissivity[seen]
        surface = emissivity * radiance(kelvin) + (1 - emissivity) * self._reflected[seen]
        tau = np.exp(-(ABSORPTION_PER_M + HAZE_SHARE * haze_beta) * z)
        up = direction[:, 2] / np.linalg.norm(direction, axis=1)
        image = SKY_ZENITH_K + (SKY_HORIZON_K - SKY_ZENITH_K) * np.exp(-3.0 * np.clip(up, 0, 1))
        image[hit] = apparent_temperature(tau * surface + (1 - tau) * self._air)
        return image.reshape(camera.height, camera.width).astype(np.float32)

    def _mottle(self, geom: np.ndarray, local: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Variation within an object in about [-1, 1]: four waves over its own coordinates, faded when too
        fine."""
        total = np.zeros_like(z)
        for wave, phase in zip(self._waves, self._phases, strict=True):
            angle = local[:, 0] * wave[0] + local[:, 1] * wave[1] + local[:, 2] * wave[2] + phase[geom]
            finest = np.float32(np.linalg.norm(wave) * 0.5 / self._camera.K[0, 0])  # rad per pixel and metre
            total += np.sin(angle) * np.exp(-((z * finest) ** 2))
        return total * np.float32(0.5)

    def detected(self, scene_k: np.ndarray, index: int) -> np.ndarray:
        """float32 [H, W] kelvin after Gaussian optics blur, NETD noise and column noise of frame `index`."""
        rng = np.random.default_rng([self._seed, 3, index])
        image = _blurred(_blurred(scene_k, self._kernel).T, self._kernel).T
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(self._netd_k)
        return np.ascontiguousarray(image + noise + self._columns)


def _blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Along the last axis, the border repeated."""
    reach = len(kernel) // 2
    padded = np.pad(image, ((0, 0), (reach, reach)), mode="edge")
    return sum((weight * padded[:, k : k + image.shape[1]] for k, weight in enumerate(kernel)), np.zeros_like(image))
