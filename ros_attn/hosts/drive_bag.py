"""Records the simulated drive as a bag, as a robot would have: two cameras, IMU, wheels, odometry, TF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ros_attn.bag import BagWriter
from ros_attn.geometry import quaternion_from_matrix
from ros_attn.sim.drive import (
    Drive,
    DriveConfig,
    ImuSample,
    OdometrySample,
    ThermalFrame,
    VisibleFrame,
    WheelSample,
)
from ros_attn.sim.street_rendering import DriveCamera
from ros_attn.sim.thermal import thermal_counts
from ros_attn.values import Array, CameraInfo, Image, Imu, Odometry, Transform, Transforms, Twist, Value

BASE, ODOM = "base_link", "odom"
# An uncooled thermal core closes its shutter now and then to correct its offsets; pictures stop meanwhile.
SHUTTER_AT, SHUTTER_S = 0.72, 0.8
# What a driver and the network add to a frame before anybody sees it.
CAMERA_LATENCY_NS, THERMAL_LATENCY_NS = 12_000_000, 25_000_000


@dataclass(frozen=True)
class DriveRecording:
    """What was recorded: the drawing backend, why that one, and how many frames."""

    backend: str
    backend_reason: str
    visible_frames: int
    thermal_frames: int


def record_drive(
    path: Path,
    config: DriveConfig,
    backend: str | None = None,
    truth: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> DriveRecording:
    """Draw the drive of ``config`` and write it to a new bag at ``path``.

    Topics: ``/visible/image`` rgb8 with ``camera_info``, ``/infrared/image`` mono16 (0.01 K a count) with
    ``camera_info``, ``/imu/data``, ``/wheel/twist``, ``/odometry`` (truth), ``/tf``, ``/tf_static``. ``truth``
    adds ``/truth/visible`` (without weather), ``/truth/depth`` [m] and ``/truth/segmentation``.

    Raises what :class:`ros_attn.sim.drive.Drive` and :class:`ros_attn.bag.BagWriter` raise.
    """
    with Drive(config, backend) as drive, BagWriter(path) as bag:
        _write_statics(bag, drive)
        shutter_ns = config.start_ns + round(SHUTTER_AT * config.duration_s * 1e9)
        frames = {VisibleFrame: 0, ThermalFrame: 0}
        for event in drive.events():
            if isinstance(event, ThermalFrame) and 0 <= event.stamp_ns - shutter_ns < SHUTTER_S * 1e9:
                continue
            frames[type(event)] = frames.get(type(event), 0) + 1
            for topic, value, latency_ns in _messages(event, drive, truth):
                bag.write(topic, value, value.stamp_ns + latency_ns)
            if isinstance(event, VisibleFrame):
                progress((event.stamp_ns - config.start_ns) * 1e-9 / config.duration_s)
        return DriveRecording(drive.backend, drive.backend_reason, frames[VisibleFrame], frames[ThermalFrame])


def _write_statics(bag: BagWriter, drive: Drive) -> None:
    stamp = drive.config.start_ns
    cameras = (("visible", drive.visible), ("infrared", drive.thermal))
    for name, camera in cameras:
        bag.write(f"/{name}/camera_info", camera_info(camera, stamp), stamp)
    mounts = [_transform(stamp, camera.T_base_camera, BASE, camera.frame_id) for _, camera in cameras]
    bag.write("/tf_static", Transforms(stamp, tuple(mounts)), stamp)


def camera_info(camera: DriveCamera, stamp_ns: int) -> CameraInfo:
    """The calibration of a simulated camera, which has no distortion."""
    projection = np.hstack([camera.K, np.zeros((3, 1))])
    return CameraInfo(
        stamp_ns, camera.width, camera.height, camera.K, np.zeros(5), np.eye(3), projection, frame_id=camera.frame_id
    )


def _transform(stamp_ns: int, T: Array, frame_id: str, child_frame_id: str) -> Transform:
    return Transform(stamp_ns, T[:3, 3].copy(), quaternion_from_matrix(T[:3, :3]), frame_id, child_frame_id)


def _messages(event: object, drive: Drive, truth: bool) -> list[tuple[str, Value, int]]:
    if isinstance(event, VisibleFrame):
        frame = drive.visible.frame_id
        found: list[tuple[str, Value, int]] = [
            ("/visible/image", Image(event.stamp_ns, event.rgb, "rgb8", frame), CAMERA_LATENCY_NS)
        ]
        if truth:
            classes = event.segmentation.astype(np.uint8)
            found += [
                ("/truth/visible", Image(event.stamp_ns, event.rgb_clear, "rgb8", frame), CAMERA_LATENCY_NS),
                ("/truth/depth", Image(event.stamp_ns, event.depth_m, "32FC1", frame), CAMERA_LATENCY_NS),
                ("/truth/segmentation", Image(event.stamp_ns, classes, "mono8", frame), CAMERA_LATENCY_NS),
            ]
        return found
    if isinstance(event, ThermalFrame):
        counts = Image(event.stamp_ns, thermal_counts(event.thermal_k), "mono16", drive.thermal.frame_id)
        return [("/infrared/image", counts, THERMAL_LATENCY_NS)]
    if isinstance(event, ImuSample):
        return [("/imu/data", Imu(event.stamp_ns, event.angular_velocity, event.specific_force, frame_id=BASE), 0)]
    if isinstance(event, WheelSample):
        linear = np.array([event.speed_mps, 0.0, 0.0])
        return [("/wheel/twist", Twist(event.stamp_ns, linear, np.zeros(3), BASE), 0)]
    assert isinstance(event, OdometrySample)
    T = event.T_world_base
    pose = Odometry(
        event.stamp_ns, T[:3, 3].copy(), quaternion_from_matrix(T[:3, :3]),
        event.linear_velocity, event.angular_velocity, frame_id=ODOM, child_frame_id=BASE,
    )  # fmt: skip
    transforms = Transforms(event.stamp_ns, (_transform(event.stamp_ns, T, ODOM, BASE),))
    return [("/odometry", pose, 0), ("/tf", transforms, 0)]
