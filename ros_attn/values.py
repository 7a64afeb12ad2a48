"""The values components exchange: frozen dataclasses over numpy, free of ROS.

Every value carries ``stamp_ns`` (the time it is about, in ns; for messages without a header the arrival)
and, where it is about a place, ``frame_id``. Quaternions are ``xyzw`` as in ROS. Lengths are metres, angles
radians, axes REP-103. :func:`field_bytes` defines what "the same bytes" means for two values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_NO_FRAME = ""


def _vector(n: int) -> Any:
    return field(default_factory=lambda: np.zeros(n))


def _identity_quaternion() -> Any:
    return field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))


@dataclass(frozen=True, eq=False)
class Value:
    """What every value has: the time it is about."""

    stamp_ns: int


@dataclass(frozen=True, eq=False)
class Image(Value):
    """Pixels ``[H, W]`` or ``[H, W, C]`` with a ROS encoding name (``mono8``, ``rgb8``, ``16UC1``, …).

    ``data`` is dense and in host byte order whatever ``step`` and ``is_bigendian`` were in the message.
    """

    data: Array
    encoding: str
    frame_id: str = _NO_FRAME

    @property
    def height(self) -> int:
        return int(self.data.shape[0])

    @property
    def width(self) -> int:
        return int(self.data.shape[1])


@dataclass(frozen=True, eq=False)
class CameraInfo(Value):
    """Pinhole calibration: ``k`` 3x3 [px], ``d`` distortion, ``r`` rectification 3x3, ``p`` projection 3x4."""

    width: int
    height: int
    k: Array
    d: Array
    r: Array
    p: Array
    distortion_model: str = "plumb_bob"
    frame_id: str = _NO_FRAME

    @property
    def calibrated(self) -> bool:
        """False where ``k[0, 0] == 0``, ROS's mark of an uncalibrated camera."""
        return bool(self.k[0, 0] != 0.0)


@dataclass(frozen=True, eq=False)
class PointCloud(Value):
    """Points as one structured array ``[N]`` whose field names are the cloud's (``x y z intensity …``)."""

    points: Array
    frame_id: str = _NO_FRAME
    height: int = 1
    is_dense: bool = True

    @property
    def xyz(self) -> NDArray[np.float32]:
        """Coordinates ``[N, 3]`` in metres."""
        return np.stack([self.points[axis].astype(np.float32, copy=False) for axis in "xyz"], axis=-1)


@dataclass(frozen=True, eq=False)
class Imu(Value):
    """Angular velocity [rad/s] and specific force [m/s²]; orientation ``xyzw`` is None where not given."""

    angular_velocity: Array
    linear_acceleration: Array
    orientation: Array | None = None
    orientation_covariance: Array = _vector(9)
    angular_velocity_covariance: Array = _vector(9)
    linear_acceleration_covariance: Array = _vector(9)
    frame_id: str = _NO_FRAME


@dataclass(frozen=True, eq=False)
class JointState(Value):
    """Joint positions [rad or m], velocities and efforts; an array may be empty, never of another length."""

    names: tuple[str, ...]
    position: Array
    velocity: Array
    effort: Array
    frame_id: str = _NO_FRAME


@dataclass(frozen=True, eq=False)
class Pose(Value):
    """A pose of something in ``frame_id``: position [m], orientation ``xyzw`` (PoseStamped)."""

    position: Array
    orientation: Array = _identity_quaternion()
    frame_id: str = _NO_FRAME


@dataclass(frozen=True, eq=False)
class Path(Value):
    """Poses in order of time."""

    poses: tuple[Pose, ...]
    frame_id: str = _NO_FRAME


@dataclass(frozen=True, eq=False)
class Odometry(Value):
    """Pose of ``child_frame_id`` in ``frame_id``; twist [m/s, rad/s] in ``child_frame_id``; 6x6 covariances."""

    position: Array
    orientation: Array
    linear: Array
    angular: Array
    pose_covariance: Array = _vector(36)
    twist_covariance: Array = _vector(36)
    frame_id: str = "odom"
    child_frame_id: str = "base_link"


@dataclass(frozen=True, eq=False)
class Twist(Value):
    """Linear [m/s] and angular [rad/s] velocity: ROS's Twist (stamp = arrival) and TwistStamped."""

    linear: Array
    angular: Array
    frame_id: str = _NO_FRAME


@dataclass(frozen=True, eq=False)
class Transform(Value):
    """``T_frame_child``: maps coordinates in ``child_frame_id`` to ``frame_id``; rotation ``xyzw``."""

    translation: Array
    rotation: Array
    frame_id: str
    child_frame_id: str


@dataclass(frozen=True, eq=False)
class Transforms(Value):
    """A TFMessage: several transforms at once."""

    transforms: tuple[Transform, ...]


@dataclass(frozen=True, eq=False)
class FloatArray(Value):
    """A Float64MultiArray: numbers with an optional layout ``(label, size, stride)``."""

    data: Array
    layout: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Text(Value):
    """A std_msgs/String."""

    data: str


@dataclass(frozen=True, eq=False)
class Flag(Value):
    """A std_msgs/Bool."""

    data: bool


@dataclass(frozen=True, eq=False)
class DiagnosticStatus:
    """One line of diagnostics; ``level`` 0 OK, 1 WARN, 2 ERROR, 3 STALE."""

    level: int
    name: str
    message: str
    hardware_id: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Diagnostics(Value):
    """A DiagnosticArray."""

    statuses: tuple[DiagnosticStatus, ...]
    frame_id: str = _NO_FRAME


def _update(digest: Any, item: Any) -> None:
    if isinstance(item, np.ndarray):
        digest.update(f"{item.dtype!r}{item.shape}".encode())
        digest.update(np.ascontiguousarray(item).tobytes())
    elif is_dataclass(item) and not isinstance(item, type):
        digest.update(type(item).__name__.encode())
        for each in fields(item):
            digest.update(each.name.encode())
            _update(digest, getattr(item, each.name))
    elif isinstance(item, Mapping):
        for key, value in item.items():
            digest.update(repr(key).encode())
            _update(digest, value)
    elif isinstance(item, tuple | list):
        digest.update(f"[{len(item)}".encode())
        for each in item:
            _update(digest, each)
    else:
        digest.update(repr(item).encode())


def field_bytes(value: Any) -> str:
    """A SHA-256 over every field of a value: names, dtypes, shapes and bytes.

    Two values are "the same bytes" iff these agree. The serialised message is not used, since CDR padding
    differs between implementations.
    """
    digest = hashlib.sha256()
    _update(digest, value)
    return digest.hexdigest()
