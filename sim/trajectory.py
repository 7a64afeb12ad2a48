"""The drive's motion as closed formulas, and the inertial and wheel measurements that follow from it.

The path is ``y = Y(x)`` in the plane and ``x(t)`` along it, both sums of ``tanh`` and sines, so position,
velocity, acceleration and angular rate are exact derivatives of one another and an integrated IMU must return
to the pose. World frame: x along the street, y to the left, z up. Base frame: REP-103 (x forward, y left, z
up).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRAVITY = 9.80665
CRUISE_MPS = 5.0
SLOW_MPS = 1.3
LANE_Y = -1.6
_BRAKE_S = 1.1  # width of the braking manoeuvre before the crossing
_DIVE_RAD_PER_MPS2 = 0.006  # nose down under braking


@dataclass(frozen=True)
class Motion:
    """State of the base at N times: `T_world_base` [N, 4, 4]; vectors [N, 3].

    velocity and acceleration in the world (m/s, m/s^2), angular_velocity and specific_force in the base
    (rad/s, m/s^2; the specific force is what an accelerometer at the base's origin feels, +g on z at rest).
    """

    T_world_base: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    angular_velocity: np.ndarray
    specific_force: np.ndarray
    speed_mps: np.ndarray
    yaw_rate: np.ndarray


class Trajectory:
    """A drive in the right lane: brake for a crossing, speed up, swing out past a cyclist, return."""

    def __init__(self, duration_s: float, rng: np.random.Generator):
        self.duration_s = duration_s
        self.slow_t = 0.36 * duration_s
        self._phase = float(rng.uniform(0, 2 * np.pi))
        self._out_x = float(self._along(np.array(0.60 * duration_s))[0])
        # amplitude (rad, rad, m), frequency (Hz) and phase of the suspension in roll, pitch and heave
        self._shake = [
            [(a * rng.uniform(0.7, 1.3), f * rng.uniform(0.85, 1.15), rng.uniform(0, 2 * np.pi)) for a, f in modes]
            for modes in (
                ((0.0040, 0.8), (0.0018, 1.9), (0.0007, 4.7)),
                ((0.0035, 0.7), (0.0020, 1.6), (0.0008, 4.1)),
                ((0.0100, 0.9), (0.0040, 2.2), (0.0012, 5.3)),
            )
        ]

    def _along(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x and its first three derivatives: cruise minus a sech^2 dip around `slow_t`."""
        u, u0 = (t - self.slow_t) / _BRAKE_S, -self.slow_t / _BRAKE_S
        dip = CRUISE_MPS - SLOW_MPS
        th, sech2 = np.tanh(u), 1 / np.cosh(u) ** 2
        x = CRUISE_MPS * t - dip * _BRAKE_S * (th - np.tanh(u0))
        v = CRUISE_MPS - dip * sech2
        a = 2 * dip / _BRAKE_S * sech2 * th
        jerk = 2 * dip / _BRAKE_S**2 * sech2 * (sech2 - 2 * th**2)
        return x, v, a, jerk

    def _across(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Y and its first two derivatives with respect to x."""
        y, y1, y2 = LANE_Y + 0.05 * np.sin(x / 5 + self._phase), 0.01 * np.cos(x / 5 + self._phase), 0.0
        y2 = y2 - 0.002 * np.sin(x / 5 + self._phase)
        width, out = 5.0, 1.3
        for centre, sign in ((self._out_x, 1.0), (self._out_x + 20.0, -1.0)):
            th, sech2 = np.tanh((x - centre) / width), 1 / np.cosh((x - centre) / width) ** 2
            y = y + sign * out / 2 * th
            y1 = y1 + sign * out / 2 / width * sech2
            y2 = y2 - sign * out / width**2 * sech2 * th
        return y, y1, y2

    def motion(self, t: np.ndarray | float) -> Motion:
        """The state at the times `t` [N] in seconds from the start."""
        t = np.atleast_1d(np.asarray(t, float))
        x, vx, ax, jerk = self._along(t)
        y, slope, curve = self._across(x)
        yaw, yaw_rate = np.arctan(slope), curve * vx / (1 + slope**2)
        (roll, roll1, _), (pitch, pitch1, _), (z, vz, az) = (_sines(modes, t) for modes in self._shake)
        pitch, pitch1 = pitch - _DIVE_RAD_PER_MPS2 * ax, pitch1 - _DIVE_RAD_PER_MPS2 * jerk
        velocity = np.stack([vx, slope * vx, vz], axis=-1)
        acceleration = np.stack([ax, slope * ax + curve * vx**2, az], axis=-1)
        rotation = _rotation(roll, pitch, yaw)
        pose = np.tile(np.eye(4), (len(t), 1, 1))
        pose[:, :3, :3] = rotation
        pose[:, :3, 3] = np.stack([x, y, z], axis=-1)
        cr, sr, cp, sp = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
        rate = np.stack(
            [roll1 - yaw_rate * sp, pitch1 * cr + yaw_rate * cp * sr, -pitch1 * sr + yaw_rate * cp * cr],
            axis=-1,
        )
        force = np.einsum("nji,nj->ni", rotation, acceleration + np.array([0, 0, GRAVITY]))
        return Motion(pose, velocity, acceleration, rate, force, np.hypot(velocity[:, 0], velocity[:, 1]), yaw_rate)


def _sines(modes: list[tuple[float, float, float]], t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    value, first, second = np.zeros_like(t), np.zeros_like(t), np.zeros_like(t)
    for amplitude, hertz, phase in modes:
        w = 2 * np.pi * hertz
        value += amplitude * np.sin(w * t + phase)
        first += amplitude * w * np.cos(w * t + phase)
        second -= amplitude * w * w * np.sin(w * t + phase)
    return value, first, second


def _rotation(roll: np.ndarray, pitch: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """``Rz(yaw)·Ry(pitch)·Rx(roll)``, [N, 3, 3]."""
    cr, sr, cp, sp, cy, sy = (
        np.cos(roll),
        np.sin(roll),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(yaw),
        np.sin(yaw),
    )
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@dataclass(frozen=True)
class InertialNoise:
    """Noise densities (sigma of a sample is density·sqrt(rate/2)) and spreads of the constant biases.

    Orders of magnitude of a small MEMS unit: gyroscope 0.01 deg/s/sqrt(Hz), accelerometer 220 ug/sqrt(Hz).
    The wheels have a white noise in m/s a sample and a constant relative scale error.
    """

    gyro_density: float = 1.7e-4
    gyro_bias: float = 4e-4
    accelerometer_density: float = 2.1e-3
    accelerometer_bias: float = 0.012
    wheel_white: float = 0.015
    wheel_scale: float = 0.004
