"""ROS messages <-> values, duck-typed: one set of functions for rosbags' objects and rclpy's."""

from ros_attn.codecs.colour import to_grey, to_rgb
from ros_attn.codecs.compressed_image import compress
from ros_attn.codecs.factories import MessageFactory, RosbagsMessages, RosMessages
from ros_attn.codecs.registry import check_type, decode, encode, types_of, value_type_of

__all__ = [
    "MessageFactory",
    "RosMessages",
    "RosbagsMessages",
    "check_type",
    "compress",
    "decode",
    "encode",
    "to_grey",
    "to_rgb",
    "types_of",
    "value_type_of",
]
