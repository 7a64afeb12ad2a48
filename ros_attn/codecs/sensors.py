"""Camera calibration, inertial and joint measurements <-> values."""

from __future__ import annotations

from typing import Any

import numpy as np

from ros_attn.codecs.factories import MessageFactory
from ros_attn.codecs.fields import (
    floats,
    header_message,
    quaternion,
    quaternion_message,
    stamp_ns,
    vector,
    xyz_message,
)
from ros_attn.errors import MessageError
from ros_attn.values import CameraInfo, Imu, JointState

_VECTOR = "geometry_msgs/msg/Vector3"


def _matrix(message: Any, name: str, rows: int, columns: int) -> Any:
    # ROS 1 spells the calibration fields D, K, R, P.
    values = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
    return floats(values, f"camera info {name}", (rows * columns,)).reshape(rows, columns)


def decode_camera_info(message: Any, arrival_ns: int) -> CameraInfo:
    """``sensor_msgs/CameraInfo`` for the image as published.

    ``roi`` and ``binning`` shift and scale ``k`` and ``p`` as in image_geometry (PinholeCameraModel::
    fromCameraInfo), so that the value's numbers belong to the pixels of the image beside it.
    """
    header, roi = message.header, message.roi
    distortion = message.d if hasattr(message, "d") else message.D
    k, p = _matrix(message, "k", 3, 3), _matrix(message, "p", 3, 4)
    binning = (max(int(message.binning_x), 1), max(int(message.binning_y), 1))
    for axis, offset in enumerate((roi.x_offset, roi.y_offset)):
        k[axis, 2] -= offset * k[2, 2]
        p[axis, 2] -= offset * p[2, 2]
        k[axis] /= binning[axis]
        p[axis] /= binning[axis]
    return CameraInfo(
        stamp_ns(header.stamp),
        (int(roi.width) or int(message.width)) // binning[0],
        (int(roi.height) or int(message.height)) // binning[1],
        k,
        floats(distortion, "camera info d"),
        _matrix(message, "r", 3, 3),
        p,
        message.distortion_model,
        header.frame_id,
    )


def encode_camera_info(value: CameraInfo, factory: MessageFactory, msgtype: str) -> Any:
    """``sensor_msgs/CameraInfo`` of a whole, unbinned image."""
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        height=int(value.height),
        width=int(value.width),
        distortion_model=value.distortion_model,
        d=factory.sequence(floats(value.d, "camera info d")),
        k=floats(value.k, "camera info k", (9,)),
        r=floats(value.r, "camera info r", (9,)),
        p=floats(value.p, "camera info p", (12,)),
        binning_x=0,
        binning_y=0,
        roi=factory.message(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def decode_imu(message: Any, arrival_ns: int) -> Imu:
    """``sensor_msgs/Imu``; orientation is None where its covariance starts with -1 (Imu.msg)."""
    header = message.header
    covariance = floats(message.orientation_covariance, "imu orientation covariance", (9,))
    return Imu(
        stamp_ns(header.stamp),
        vector(message.angular_velocity),
        vector(message.linear_acceleration),
        None if covariance[0] == -1.0 else quaternion(message.orientation),
        covariance,
        floats(message.angular_velocity_covariance, "imu angular velocity covariance", (9,)),
        floats(message.linear_acceleration_covariance, "imu linear acceleration covariance", (9,)),
        header.frame_id,
    )


def encode_imu(value: Imu, factory: MessageFactory, msgtype: str) -> Any:
    """``sensor_msgs/Imu``; without orientation its covariance is written with -1 in front."""
    covariance = floats(value.orientation_covariance, "imu orientation covariance", (9,))
    if value.orientation is None:
        covariance[0] = -1.0
    orientation = (0.0, 0.0, 0.0, 1.0) if value.orientation is None else value.orientation
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        orientation=quaternion_message(factory, orientation, "imu orientation"),
        orientation_covariance=covariance,
        angular_velocity=xyz_message(factory, _VECTOR, value.angular_velocity, "imu angular velocity"),
        angular_velocity_covariance=floats(value.angular_velocity_covariance, "imu angular velocity covariance", (9,)),
        linear_acceleration=xyz_message(factory, _VECTOR, value.linear_acceleration, "imu acceleration"),
        linear_acceleration_covariance=floats(
            value.linear_acceleration_covariance, "imu linear acceleration covariance", (9,)
        ),
    )


def decode_joint_state(message: Any, arrival_ns: int) -> JointState:
    """``sensor_msgs/JointState``; MessageError where an array is neither empty nor as long as the names."""
    names = tuple(message.name)
    lengths = (0, len(names))
    header = message.header
    return JointState(
        stamp_ns(header.stamp),
        names,
        floats(message.position, "joint state position", lengths),
        floats(message.velocity, "joint state velocity", lengths),
        floats(message.effort, "joint state effort", lengths),
        header.frame_id,
    )


def encode_joint_state(value: JointState, factory: MessageFactory, msgtype: str) -> Any:
    """``sensor_msgs/JointState``; errors as in decoding."""
    arrays: dict[str, Any] = {}
    for name in ("position", "velocity", "effort"):
        numbers = floats(getattr(value, name), f"joint state {name}", (0, len(value.names)))
        arrays[name] = factory.sequence(np.ascontiguousarray(numbers))
    if not all(isinstance(name, str) for name in value.names):
        raise MessageError(f"joint state names {value.names} are not all strings")
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        name=list(value.names),
        **arrays,
    )
