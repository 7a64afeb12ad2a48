"""Which ROS type decodes to which value, and the two functions that do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ros_attn import values
from ros_attn.codecs import cloud, compressed_image, geometry, image, sensors, standard
from ros_attn.codecs.factories import MessageFactory
from ros_attn.errors import MessageError, TopicError, listed, meant


class _Codec(NamedTuple):
    value_type: type[values.Value]
    decode: Callable[[Any, int], values.Value]
    encode: Callable[[Any, MessageFactory, str], Any]


# The first type of a value is what it is encoded as unless another is asked for.
_CODECS: dict[str, _Codec] = {
    "sensor_msgs/msg/Image": _Codec(values.Image, image.decode_image, image.encode_image),
    "sensor_msgs/msg/CompressedImage": _Codec(
        values.Image, compressed_image.decode_compressed_image, compressed_image.encode_compressed_image
    ),
    "sensor_msgs/msg/CameraInfo": _Codec(values.CameraInfo, sensors.decode_camera_info, sensors.encode_camera_info),
    "sensor_msgs/msg/PointCloud2": _Codec(values.PointCloud, cloud.decode_point_cloud, cloud.encode_point_cloud),
    "sensor_msgs/msg/Imu": _Codec(values.Imu, sensors.decode_imu, sensors.encode_imu),
    "sensor_msgs/msg/JointState": _Codec(values.JointState, sensors.decode_joint_state, sensors.encode_joint_state),
    "geometry_msgs/msg/PoseStamped": _Codec(values.Pose, geometry.decode_pose, geometry.encode_pose),
    "nav_msgs/msg/Path": _Codec(values.Path, geometry.decode_path, geometry.encode_path),
    "nav_msgs/msg/Odometry": _Codec(values.Odometry, geometry.decode_odometry, geometry.encode_odometry),
    "geometry_msgs/msg/Twist": _Codec(values.Twist, geometry.decode_twist, geometry.encode_twist),
    "geometry_msgs/msg/TwistStamped": _Codec(
        values.Twist, geometry.decode_twist_stamped, geometry.encode_twist_stamped
    ),
    "geometry_msgs/msg/TransformStamped": _Codec(
        values.Transform, geometry.decode_transform, geometry.encode_transform
    ),
    "tf2_msgs/msg/TFMessage": _Codec(values.Transforms, geometry.decode_transforms, geometry.encode_transforms),
    "tf/msg/tfMessage": _Codec(values.Transforms, geometry.decode_transforms, geometry.encode_transforms),
    "std_msgs/msg/Float64MultiArray": _Codec(
        values.FloatArray, standard.decode_float_array, standard.encode_float_array
    ),
    "std_msgs/msg/String": _Codec(values.Text, standard.decode_text, standard.encode_text),
    "std_msgs/msg/Bool": _Codec(values.Flag, standard.decode_flag, standard.encode_flag),
    "diagnostic_msgs/msg/DiagnosticArray": _Codec(
        values.Diagnostics, standard.decode_diagnostics, standard.encode_diagnostics
    ),
}


def full_name(msgtype: str) -> str:
    """``pkg/msg/Type`` of ``pkg/msg/Type`` or ROS 1's ``pkg/Type``."""
    package, _, name = msgtype.rpartition("/")
    return msgtype if "/" in package or not package else f"{package}/msg/{name}"


def value_type_of(msgtype: str) -> type[values.Value] | None:
    """The value class a ROS type decodes to, None where there is no codec."""
    codec = _CODECS.get(msgtype) or _CODECS.get(full_name(msgtype))
    return codec.value_type if codec else None


def types_of(value_type: type[values.Value]) -> tuple[str, ...]:
    """All ROS types that decode to a value class; the first is the default for encoding."""
    return tuple(msgtype for msgtype, codec in _CODECS.items() if codec.value_type is value_type)


def check_type(topic: str, msgtype: str, value_type: type[values.Value]) -> None:
    """TopicError where messages of a topic do not decode to the value class a component takes."""
    found = value_type_of(msgtype)
    if found is not value_type:
        gives = f"which decodes to {found.__name__}" if found else "for which there is no codec"
        raise TopicError(
            f"{topic} is {msgtype}, {gives}; {value_type.__name__} is wanted "
            f"({' or '.join(types_of(value_type)) or 'no ROS type'}), so remap to such a topic"
        )


def _codec(msgtype: str) -> _Codec:
    codec = _CODECS.get(msgtype) or _CODECS.get(full_name(msgtype))
    if codec is None:
        names = listed(_CODECS, len(_CODECS))
        raise MessageError(f"no codec for {msgtype}{meant(full_name(msgtype), _CODECS)}; known are {names}")
    return codec


def decode(message: Any, msgtype: str, arrival_ns: int) -> values.Value:
    """A message of rosbags or rclpy as a value.

    ``stamp_ns`` is the header's stamp, or ``arrival_ns`` for messages without a header. Large arrays are
    read-only views of the message. NaN and infinities pass. Raises MessageError where there is no codec,
    where the message lacks a field, or where its contents contradict themselves.
    """
    codec = _codec(msgtype)
    try:
        return codec.decode(message, arrival_ns)
    except AttributeError as error:
        raise MessageError(f"{msgtype} has no field {error.name!r}: its definition differs from ROS 2's") from error


def encode(value: values.Value, factory: MessageFactory, msgtype: str | None = None) -> Any:
    """A value as a message of the factory's library, by default of the first type in :func:`types_of`.

    Raises MessageError where the value contradicts itself or cannot be said in that type.
    """
    if msgtype is None:
        known = types_of(type(value))
        if not known:
            raise MessageError(f"no ROS type is known for {type(value).__name__}")
        msgtype = known[0]
    codec = _codec(msgtype)
    if not isinstance(value, codec.value_type):
        raise MessageError(f"{type(value).__name__} cannot be encoded as {msgtype}")
    return codec.encode(value, factory, full_name(msgtype))
