"""How far the base leans: from the IMU's orientation, or from gyroscope and accelerometer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ros_attn.grid import SECOND
from ros_attn.values import Array, Imu

GRAVITY = 9.81
TIME_CONSTANT_S = 1.0
"""Within which the accelerometer corrects the gyroscope's drift."""
STRANGE_SHARE = 0.5
"""Of gravity: a specific force that differs more is an impact or a fall, and says nothing of down."""


def tilt_of(orientation: Array) -> float:
    """Angle [rad] between the z axis of the base and up, of an orientation xyzw of any length but 0."""
    x, y, z, w = orientation
    up = (z * z + w * w - x * x - y * y) / (x * x + y * y + z * z + w * w)
    return float(np.arccos(np.clip(up, -1.0, 1.0)))


@dataclass
class UpFilter:
    """Up in the base frame, for an IMU without orientation: a complementary filter.

    ``u <- u - (omega x u) dt``, then ``u <- u + (a/|a| - u) dt/T`` while ``|a|`` is within half of gravity, then
    normalised; it begins with the first accelerometer reading. Angular velocity [rad/s] and specific force [m/s2] in
    the base frame. T = 1 s is ours.
    """

    up: Array | None = field(init=False, default=None)
    stamp_ns: int = field(init=False, default=0)

    def tilt(self, imu: Imu) -> float:
        """Angle [rad] between the base's z axis and up, after one more reading; one seen already changes nothing."""
        force = np.asarray(imu.linear_acceleration, np.float64)
        size = float(np.linalg.norm(force))
        trusted = abs(size - GRAVITY) <= STRANGE_SHARE * GRAVITY
        if self.up is None:
            self.up = force / size if size > 0 else np.array([0.0, 0.0, 1.0])
        elif imu.stamp_ns > self.stamp_ns:
            dt_s = (imu.stamp_ns - self.stamp_ns) / SECOND
            up = self.up - np.cross(imu.angular_velocity, self.up) * dt_s
            if trusted:
                up = up + (force / size - up) * min(dt_s / TIME_CONSTANT_S, 1.0)
            self.up = up / np.linalg.norm(up)
        self.stamp_ns = imu.stamp_ns
        return float(np.arccos(np.clip(self.up[2], -1.0, 1.0)))
