"""A seeded drive down a street: visible and thermal frames, inertial, wheel and odometry samples, in stamp
order.

Everything at a time follows from `DriveConfig` alone, so frames can be drawn in any order and the same
configuration gives the same bytes on one machine and backend. Frames: world x along the street, z up; base
REP-103; cameras optical (x right, y down, z forward). Nothing here knows ROS.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from types import TracebackType

import mujoco
import numpy as np

from ros_attn.errors import ParameterError
from ros_attn.sim.street import CameraMount, build_street
from ros_attn.sim.street_geometry import SegmentationClass
from ros_attn.sim.street_rendering import DriveCamera, Geometry, choose_backend, open_view
from ros_attn.sim.thermal import ThermalCore
from ros_attn.sim.trajectory import InertialNoise, Trajectory
from ros_attn.sim.weather import exposed, haze_profile, hazed, sky_path

CLASS_NAMES = {int(kind): kind.name.lower() for kind in SegmentationClass}
_OPTICAL_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0, 1.0])  # MuJoCo's cameras look along -z with y up
_CAMERA_X_M, _CAMERA_Z_M = 0.35, 1.35
_PITCH_RAD = 0.02  # downwards


@dataclass(frozen=True)
class DriveConfig:
    """What to record. Rates in Hz, lengths in metres, angles in degrees.

    haze: points (share of the drive, beta in 1/m), joined smoothly. baseline_m: thermal camera to the left
    (+) of the visible one. thermal_delay_s: thermal stamps behind the visible ones. noise: 0 is an ideal
    visible sensor. inertial_noise: factor on :class:`InertialNoise`, 0 is ideal.
    """

    duration_s: float = 10.0
    seed: int = 0
    width: int = 640
    height: int = 480
    fovy_deg: float = 50.0
    visible_hz: float = 10.0
    thermal_width: int = 320
    thermal_height: int = 256
    thermal_fovy_deg: float = 40.0
    thermal_hz: float = 10.0
    thermal_delay_s: float = 0.004
    baseline_m: float = 0.04
    netd_k: float = 0.05
    thermal_blur_pixels: float = 0.8
    noise: float = 1.0
    haze: tuple[tuple[float, float], ...] = (
        (0.0, 0.003), (0.22, 0.004), (0.42, 0.075), (0.62, 0.075), (0.80, 0.006), (1.0, 0.003),
    )  # fmt: skip
    imu_hz: float = 100.0
    wheel_hz: float = 50.0
    odometry_hz: float = 50.0
    inertial_noise: float = 1.0
    start_ns: int = 1_760_000_000_000_000_000

    def __post_init__(self) -> None:
        """Raises: ParameterError, one sentence, for a value outside its range."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ParameterError(f"DriveConfig.{name} is {value!r}: give a number from {low} to {high}")
            kind = next(field.type for field in fields(self) if field.name == name)
            if kind == "int" and not isinstance(value, int):
                raise ParameterError(f"DriveConfig.{name} is {value!r}: give a whole number")
        shares = [point[0] for point in self.haze if len(point) == 2]
        betas = [point[1] for point in self.haze if len(point) == 2]
        rising = all(a < b for a, b in pairwise(shares))
        if len(shares) < 2 or len(shares) != len(self.haze) or not rising or not all(0 <= b <= 1 for b in betas):
            raise ParameterError(
                f"DriveConfig.haze is {self.haze!r}: give two or more points (share of the drive, beta from "
                "0 to 1 per metre) with rising shares"
            )


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("duration_s", 0.1, 120.0),
    ("seed", 0, 2**31 - 1),
    ("width", 16, 4096),
    ("height", 16, 4096),
    ("fovy_deg", 5.0, 120.0),
    ("visible_hz", 0.1, 120.0),
    ("thermal_width", 16, 4096),
    ("thermal_height", 16, 4096),
    ("thermal_fovy_deg", 5.0, 120.0),
    ("thermal_hz", 0.1, 120.0),
    ("thermal_delay_s", 0.0, 1.0),
    ("baseline_m", -1.0, 1.0),
    ("netd_k", 0.0, 5.0),
    ("thermal_blur_pixels", 0.0, 10.0),
    ("noise", 0.0, 20.0),
    ("imu_hz", 1.0, 2000.0),
    ("wheel_hz", 1.0, 2000.0),
    ("odometry_hz", 1.0, 2000.0),
    ("inertial_noise", 0.0, 100.0),
    ("start_ns", 0, 2**62),
)


@dataclass(frozen=True)
class VisibleFrame:
    """One visible image and its truth.

    rgb uint8 [H, W, 3]: with haze and sensor noise. rgb_clear: without either. depth_m float32 [H, W] along
    the optical axis, inf for sky. segmentation int32 [H, W]: :class:`SegmentationClass`. T_world_camera: 4x4,
    optical frame. haze_beta: 1/m. speed_mps and yaw_rate (rad/s) of the base.
    """

    stamp_ns: int
    rgb: np.ndarray
    rgb_clear: np.ndarray
    depth_m: np.ndarray
    segmentation: np.ndarray
    T_world_camera: np.ndarray
    T_world_base: np.ndarray
    haze_beta: float
    speed_mps: float
    yaw_rate: float


@dataclass(frozen=True)
class ThermalFrame:
    """One thermal image and its truth: thermal_k float32 [H, W] apparent kelvin; the rest as in VisibleFrame.

    `ros_attn.sim.thermal.thermal_counts(frame.thermal_k)` gives the 16-bit counts of a real core.
    """

    stamp_ns: int
    thermal_k: np.ndarray
    depth_m: np.ndarray
    segmentation: np.ndarray
    T_world_camera: np.ndarray
    T_world_base: np.ndarray
    haze_beta: float


@dataclass(frozen=True)
class ImuSample:
    """Angular velocity [3] rad/s and specific force [3] m/s^2 in the base, with seeded noise and bias."""

    stamp_ns: int
    angular_velocity: np.ndarray
    specific_force: np.ndarray


@dataclass(frozen=True)
class WheelSample:
    """Forward speed from the wheels, m/s, with seeded noise and a constant scale error."""

    stamp_ns: int
    speed_mps: float


@dataclass(frozen=True)
class OdometrySample:
    """The truth: the base's pose in the world; velocity (m/s) and angular velocity (rad/s) in the base."""

    stamp_ns: int
    T_world_base: np.ndarray
    linear_velocity: np.ndarray
    angular_velocity: np.ndarray


Event = VisibleFrame | ThermalFrame | ImuSample | WheelSample | OdometrySample


class Drive:
    """The drive of one configuration.

    `backend`: 'egl', 'osmesa' or 'rays'; None takes the first that works. Attributes: config, backend,
    backend_reason (a sentence), visible and thermal (:class:`DriveCamera`), street, trajectory.

    A GL context belongs to its thread: draw in the thread that made the drive, and close it, or use `with`.
    One geometry pass serves both cameras where they see the same rays at the same stamp (baseline 0, equal
    size and field of view, no delay); else each camera has its own.

    Raises: RosAttnError where a backend asked for does not work.
    """

    def __init__(self, config: DriveConfig | None = None, backend: str | None = None):
        self.config = config = config or DriveConfig()
        self.backend, self.backend_reason = choose_backend(backend)
        self.trajectory = Trajectory(config.duration_s, np.random.default_rng([config.seed, 0]))
        self.visible, visible_mount = _camera("visible", config.width, config.height, config.fovy_deg, 0.0)
        self.thermal, thermal_mount = _camera(
            "thermal", config.thermal_width, config.thermal_height, config.thermal_fovy_deg, config.baseline_m
        )
        largest = max(config.width, config.thermal_width), max(config.height, config.thermal_height)
        self.street = build_street(self.trajectory, config.seed, (visible_mount, thermal_mount), largest)
        self._data = mujoco.MjData(self.street.model)
        self._view = open_view(self.street, self.backend)
        self._core = ThermalCore(self.street, self.thermal, config.seed, config.netd_k, config.thermal_blur_pixels)
        kinds = np.append(self.street.kind, SegmentationClass.SKY)  # geom -1 is the last
        self._kinds = kinds.astype(np.int32)
        self._posed_ns: int | None = None
        # the latest visible geometry with its stamp, for an aligned thermal camera
        self._drawn: tuple[int, Geometry] | None = None

    def __enter__(self) -> Drive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees what the backend holds."""
        self._view.close()

    def stamps(self, rate_hz: float, delay_s: float = 0.0) -> list[int]:
        """Stamps of a stream: start + delay + k/rate for as long as the drive lasts."""
        count = int(np.floor((self.config.duration_s - delay_s) * rate_hz + 1e-9))
        return [self.config.start_ns + round(delay_s * 1e9) + round(k * 1e9 / rate_hz) for k in range(max(0, count))]

    @property
    def visible_stamps(self) -> list[int]:
        """Stamps of the visible frames."""
        return self.stamps(self.config.visible_hz)

    @property
    def thermal_stamps(self) -> list[int]:
        """Stamps of the thermal frames."""
        return self.stamps(self.config.thermal_hz, self.config.thermal_delay_s)

    def visible_frame(self, index: int) -> VisibleFrame:
        """Draws visible frame `index`."""
        stamp_ns = self.visible_stamps[index]
        T_world_base, speed, yaw_rate = self._pose(stamp_ns)
        T_world_camera = T_world_base @ self.visible.T_base_camera
        clear, view = self._view.picture(self._data, self.visible)
        self._drawn = stamp_ns, view
        beta = self._haze(stamp_ns)
        path = view.depth_m.copy()
        sky = self.visible.rays[view.geom < 0]
        path[view.geom < 0] = sky_path(np.einsum("nj,j->n", sky, T_world_camera[2, :3]) / np.linalg.norm(sky, axis=1))
        rng = np.random.default_rng([self.config.seed, 4, index])
        rgb = exposed(hazed(clear, path, beta), self.config.noise, rng)
        return VisibleFrame(
            stamp_ns,
            rgb,
            clear,
            view.depth_m,
            self._kinds[view.geom],
            T_world_camera,
            T_world_base,
            beta,
            speed,
            yaw_rate,
        )

    def thermal_frame(self, index: int) -> ThermalFrame:
        """Draws thermal frame `index`."""
        stamp_ns = self.thermal_stamps[index]
        T_world_base, _, _ = self._pose(stamp_ns)
        shared = self._drawn is not None and self._drawn[0] == stamp_ns and self.thermal.same_view(self.visible)
        view = self._drawn[1] if shared and self._drawn else self._view.geometry(self._data, self.thermal)
        beta = self._haze(stamp_ns)
        image = self._core.detected(self._core.scene_temperature(self._data, view, beta), index)
        T_world_camera = T_world_base @ self.thermal.T_base_camera
        return ThermalFrame(stamp_ns, image, view.depth_m, self._kinds[view.geom], T_world_camera, T_world_base, beta)

    def imu_samples(self) -> Iterator[ImuSample]:
        """The inertial stream in stamp order."""
        noise, factor = InertialNoise(), self.config.inertial_noise
        stamps = self.stamps(self.config.imu_hz)
        truth = self.trajectory.motion(self._seconds(stamps))
        rng = np.random.default_rng([self.config.seed, 5])
        band = np.sqrt(self.config.imu_hz / 2)
        white, shape = rng.standard_normal((2, len(stamps), 3)) * band, (1, 3)
        rate_error = rng.normal(0, noise.gyro_bias, shape) + noise.gyro_density * white[0]
        force_error = rng.normal(0, noise.accelerometer_bias, shape) + noise.accelerometer_density * white[1]
        rate = truth.angular_velocity + factor * rate_error
        force = truth.specific_force + factor * force_error
        yield from map(ImuSample, stamps, rate, force)

    def wheel_samples(self) -> Iterator[WheelSample]:
        """The wheel-speed stream in stamp order."""
        noise, factor = InertialNoise(), self.config.inertial_noise
        stamps = self.stamps(self.config.wheel_hz)
        rng = np.random.default_rng([self.config.seed, 6])
        speed = self.trajectory.motion(self._seconds(stamps)).speed_mps
        speed = speed * (1 + factor * rng.normal(0, noise.wheel_scale))
        speed = speed + factor * rng.normal(0, noise.wheel_white, len(stamps))
        yield from map(WheelSample, stamps, speed.tolist())

    def odometry_samples(self) -> Iterator[OdometrySample]:
        """The true motion in stamp order."""
        stamps = self.stamps(self.config.odometry_hz)
        truth = self.trajectory.motion(self._seconds(stamps))
        velocity = np.einsum("nji,nj->ni", truth.T_world_base[:, :3, :3], truth.velocity)
        yield from map(OdometrySample, stamps, truth.T_world_base, velocity, truth.angular_velocity)

    def events(self) -> Iterator[Event]:
        """Every sample and frame in stamp order; frames are drawn as they are reached, one ahead.

        Of equal stamps: odometry, IMU, wheels, visible, thermal.
        """
        streams = (
            self.odometry_samples(),
            self.imu_samples(),
            self.wheel_samples(),
            map(self.visible_frame, range(len(self.visible_stamps))),
            map(self.thermal_frame, range(len(self.thermal_stamps))),
        )
        return heapq.merge(*streams, key=lambda event: event.stamp_ns)

    def _seconds(self, stamps: list[int]) -> np.ndarray:
        return (np.array(stamps, np.int64) - self.config.start_ns) * 1e-9

    def _haze(self, stamp_ns: int) -> float:
        return haze_profile(self.config.haze, (stamp_ns - self.config.start_ns) * 1e-9 / self.config.duration_s)

    def _pose(self, stamp_ns: int) -> tuple[np.ndarray, float, float]:
        t = (stamp_ns - self.config.start_ns) * 1e-9
        motion = self.trajectory.motion(t)
        T_world_base = motion.T_world_base[0]
        if self._posed_ns != stamp_ns:
            self.street.pose(self._data, t, T_world_base)
            self._posed_ns = stamp_ns
        return T_world_base, float(motion.speed_mps[0]), float(motion.yaw_rate[0])


def _camera(name: str, width: int, height: int, fovy_deg: float, left_m: float) -> tuple[DriveCamera, CameraMount]:
    focal = height / 2 / np.tan(np.radians(fovy_deg) / 2)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    c, s = np.cos(_PITCH_RAD), np.sin(_PITCH_RAD)
    # columns: camera x (right), y (down) and z (forward) in the base
    rotation = np.array([[0, -s, c], [-1, 0, 0], [0, -c, -s]])
    T_base_camera = np.eye(4)
    T_base_camera[:3, :3] = rotation
    T_base_camera[:3, 3] = (_CAMERA_X_M, left_m, _CAMERA_Z_M)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, (T_base_camera @ _OPTICAL_FROM_MUJOCO)[:3, :3].ravel())
    x, y, z = (float(value) for value in T_base_camera[:3, 3])
    w, a, b, d = (float(value) for value in quat)
    mount = CameraMount(name, fovy_deg, (x, y, z), (w, a, b, d))
    return DriveCamera(name, f"{name}_optical_frame", width, height, K, T_base_camera), mount
