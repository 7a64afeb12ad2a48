"""Poses, paths, odometry, twists and transforms <-> values."""

from __future__ import annotations

from typing import Any

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
from ros_attn.values import Odometry, Path, Pose, Transform, Transforms, Twist

_POINT = "geometry_msgs/msg/Point"
_VECTOR = "geometry_msgs/msg/Vector3"


def decode_pose(message: Any, arrival_ns: int) -> Pose:
    """``PoseStamped``."""
    header, pose = message.header, message.pose
    return Pose(stamp_ns(header.stamp), vector(pose.position), quaternion(pose.orientation), header.frame_id)


def _pose_message(factory: MessageFactory, position: Any, orientation: Any, what: str) -> Any:
    return factory.message(
        "geometry_msgs/msg/Pose",
        position=xyz_message(factory, _POINT, position, f"{what} position"),
        orientation=quaternion_message(factory, orientation, f"{what} orientation"),
    )


def encode_pose(value: Pose, factory: MessageFactory, msgtype: str) -> Any:
    """``PoseStamped``."""
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        pose=_pose_message(factory, value.position, value.orientation, "pose"),
    )


def decode_path(message: Any, arrival_ns: int) -> Path:
    """``nav_msgs/Path``; each pose keeps its own stamp and frame."""
    poses = tuple(decode_pose(pose, arrival_ns) for pose in message.poses)
    return Path(stamp_ns(message.header.stamp), poses, message.header.frame_id)


def encode_path(value: Path, factory: MessageFactory, msgtype: str) -> Any:
    """``nav_msgs/Path``."""
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        poses=[encode_pose(pose, factory, "geometry_msgs/msg/PoseStamped") for pose in value.poses],
    )


def _twist_message(factory: MessageFactory, linear: Any, angular: Any, what: str) -> Any:
    return factory.message(
        "geometry_msgs/msg/Twist",
        linear=xyz_message(factory, _VECTOR, linear, f"{what} linear velocity"),
        angular=xyz_message(factory, _VECTOR, angular, f"{what} angular velocity"),
    )


def decode_odometry(message: Any, arrival_ns: int) -> Odometry:
    """``nav_msgs/Odometry``."""
    header, pose, twist = message.header, message.pose.pose, message.twist.twist
    return Odometry(
        stamp_ns(header.stamp),
        vector(pose.position),
        quaternion(pose.orientation),
        vector(twist.linear),
        vector(twist.angular),
        floats(message.pose.covariance, "odometry pose covariance", (36,)),
        floats(message.twist.covariance, "odometry twist covariance", (36,)),
        header.frame_id,
        message.child_frame_id,
    )


def encode_odometry(value: Odometry, factory: MessageFactory, msgtype: str) -> Any:
    """``nav_msgs/Odometry``."""
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        child_frame_id=value.child_frame_id,
        pose=factory.message(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=_pose_message(factory, value.position, value.orientation, "odometry"),
            covariance=floats(value.pose_covariance, "odometry pose covariance", (36,)),
        ),
        twist=factory.message(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=_twist_message(factory, value.linear, value.angular, "odometry"),
            covariance=floats(value.twist_covariance, "odometry twist covariance", (36,)),
        ),
    )


def decode_twist(message: Any, arrival_ns: int) -> Twist:
    """``geometry_msgs/Twist``: no header, so it is about its arrival."""
    return Twist(arrival_ns, vector(message.linear), vector(message.angular))


def encode_twist(value: Twist, factory: MessageFactory, msgtype: str) -> Any:
    """``geometry_msgs/Twist``: stamp and frame have no place in it."""
    return _twist_message(factory, value.linear, value.angular, "twist")


def decode_twist_stamped(message: Any, arrival_ns: int) -> Twist:
    """``geometry_msgs/TwistStamped``."""
    header, twist = message.header, message.twist
    return Twist(stamp_ns(header.stamp), vector(twist.linear), vector(twist.angular), header.frame_id)


def encode_twist_stamped(value: Twist, factory: MessageFactory, msgtype: str) -> Any:
    """``geometry_msgs/TwistStamped``."""
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        twist=_twist_message(factory, value.linear, value.angular, "twist"),
    )


def decode_transform(message: Any, arrival_ns: int) -> Transform:
    """``geometry_msgs/TransformStamped``."""
    header, transform = message.header, message.transform
    return Transform(
        stamp_ns(header.stamp),
        vector(transform.translation),
        quaternion(transform.rotation),
        header.frame_id,
        message.child_frame_id,
    )


def encode_transform(value: Transform, factory: MessageFactory, msgtype: str) -> Any:
    """``geometry_msgs/TransformStamped``."""
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        child_frame_id=value.child_frame_id,
        transform=factory.message(
            "geometry_msgs/msg/Transform",
            translation=xyz_message(factory, _VECTOR, value.translation, "transform translation"),
            rotation=quaternion_message(factory, value.rotation, "transform rotation"),
        ),
    )


def decode_transforms(message: Any, arrival_ns: int) -> Transforms:
    """``TFMessage``: no header of its own, so it is about its arrival; each transform has its stamp."""
    return Transforms(arrival_ns, tuple(decode_transform(each, arrival_ns) for each in message.transforms))


def encode_transforms(value: Transforms, factory: MessageFactory, msgtype: str) -> Any:
    """``TFMessage``."""
    stamped = "geometry_msgs/msg/TransformStamped"
    return factory.message(msgtype, transforms=[encode_transform(each, factory, stamped) for each in value.transforms])
