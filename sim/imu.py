"""Errors of an inertial measurement unit on many robots at once.

Formula, per axis: ``m = (1 + s) x + b(t) + n`` with white noise ``n ~ N(0, density^2 bandwidth)``, a bias that begins
at ``b(0) ~ N(0, bias^2)`` and walks, ``b(t + dt) = b(t) + walk sqrt(dt) N(0, 1)``, and a scale error ``s`` that lasts
an episode. The sample's noise follows from the sensor's own filter and not from ``dt``, so that training at 50 Hz and
a robot that reads at 200 Hz see samples of the same noise.

Figures: noise densities 0.014 deg/s/sqrt(Hz) and 150 ug/sqrt(Hz), temperature drifts 0.015 deg/s/K and 1 mg/K and the
116 Hz filter from the data sheet of the Bosch BMI055, which is in the RealSense D435i (BST-BMI055-DS000). Walks
2.2e-6 rad/s^2/sqrt(Hz) and 8.6e-5 m/s^3/sqrt(Hz) as measured on a BMI160 (TUM VI, arXiv 1804.06120). Ours: biases
are those of 15 K since calibration at rest, scale errors 1 %, and the errors of the attitude filter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_GRAVITY = 9.80665


@dataclass(frozen=True)
class ImuErrors:
    """Sizes of the errors at scale 1, as standard deviations, SI units; see the module.

    ``tilt_bias_rad`` lasts an episode and ``tilt_rad`` is white; both are rotations of the projected gravity, about
    each horizontal axis.
    """

    gyro_density: float = float(np.deg2rad(0.014))
    gyro_bias: float = float(np.deg2rad(0.015 * 15))
    gyro_walk: float = 2.2e-6
    gyro_scale: float = 0.01
    accelerometer_density: float = 150e-6 * _GRAVITY
    accelerometer_bias: float = 15e-3 * _GRAVITY
    accelerometer_walk: float = 8.6e-5
    accelerometer_scale: float = 0.01
    bandwidth_hz: float = 116.0
    tilt_bias_rad: float = float(np.deg2rad(0.5))
    tilt_rad: float = float(np.deg2rad(0.2))


@dataclass(frozen=True)
class ImuSamples:
    """Measured ``angular_velocity`` [E, 3] rad/s and ``specific_force`` [E, 3] m/s^2 in the sensor's frame."""

    angular_velocity: Array
    specific_force: Array


class Imu:
    """Inertial units of E environments; ``scale`` multiplies every error, 0 measures exactly.

    Until :meth:`reset` a unit has no bias and no scale error. ValueError for a negative scale.
    """

    def __init__(self, environments: int, errors: ImuErrors | None = None, scale: float = 1.0) -> None:
        if scale < 0:
            raise ValueError(f"the scale of inertial noise must not be negative, but is {scale}")
        self.errors, self.scale = errors or ImuErrors(), scale
        self.gyro_bias, self.accelerometer_bias, self.tilt_bias = np.zeros((3, environments, 3))
        self._gyro_gain, self._accelerometer_gain = np.ones((2, environments, 3))

    def reset(self, ids: NDArray[np.intp], rng: np.random.Generator) -> None:
        """Draw initial biases and scale errors of environments ``ids`` anew."""
        errors, scale = self.errors, self.scale
        draw = rng.standard_normal((5, len(ids), 3)) * scale
        self.gyro_bias[ids] = draw[0] * errors.gyro_bias
        self.accelerometer_bias[ids] = draw[1] * errors.accelerometer_bias
        self._gyro_gain[ids] = 1 + draw[2] * errors.gyro_scale
        self._accelerometer_gain[ids] = 1 + draw[3] * errors.accelerometer_scale
        self.tilt_bias[ids] = draw[4] * errors.tilt_bias_rad

    def measure(
        self, angular_velocity: Array, specific_force: Array, dt: float, rng: np.random.Generator
    ) -> ImuSamples:
        """One sample of all environments, ``dt`` [s] after the one before.

        True ``angular_velocity`` [E, 3] rad/s and ``specific_force`` [E, 3] m/s^2 (gravity's reaction included: +g
        upwards at rest), both in the sensor's frame.
        """
        errors, scale = self.errors, self.scale
        draw = rng.standard_normal((4, *self.gyro_bias.shape)) * scale
        self.gyro_bias += draw[0] * (errors.gyro_walk * np.sqrt(dt))
        self.accelerometer_bias += draw[1] * (errors.accelerometer_walk * np.sqrt(dt))
        band = np.sqrt(errors.bandwidth_hz)
        return ImuSamples(
            self._gyro_gain * angular_velocity + self.gyro_bias + draw[2] * (errors.gyro_density * band),
            self._accelerometer_gain * specific_force
            + self.accelerometer_bias
            + draw[3] * (errors.accelerometer_density * band),
        )

    def measure_gravity(self, projected_gravity: Array, rng: np.random.Generator) -> Array:
        """Unit vectors [E, 3] of gravity in the base frame as an attitude filter would report them.

        The true ones ``g`` turned by small rotations ``r`` [rad]: ``g - r x g``, of length 1 again. The part of r along
        g, a yaw error, drops out.
        """
        rotation = self.tilt_bias + rng.standard_normal(self.tilt_bias.shape) * (self.scale * self.errors.tilt_rad)
        turned = projected_gravity - np.cross(rotation, projected_gravity)
        return turned / np.linalg.norm(turned, axis=-1, keepdims=True)
