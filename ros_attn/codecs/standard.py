"""Number arrays, text, flags and diagnostics <-> values."""

from __future__ import annotations

from typing import Any

from ros_attn.codecs.factories import MessageFactory
from ros_attn.codecs.fields import floats, header_message, stamp_ns
from ros_attn.errors import MessageError
from ros_attn.values import Diagnostics, DiagnosticStatus, Flag, FloatArray, Text


def decode_float_array(message: Any, arrival_ns: int) -> FloatArray:
    """``std_msgs/Float64MultiArray``: no header, so it is about its arrival; padding in front is cut off."""
    layout = tuple((dim.label, int(dim.size), int(dim.stride)) for dim in message.layout.dim)
    data, offset = floats(message.data, "float array"), int(message.layout.data_offset)
    if offset > data.size:
        raise MessageError(f"float array: data_offset {offset} lies beyond its {data.size} numbers")
    return FloatArray(arrival_ns, data[offset:], layout)


def encode_float_array(value: FloatArray, factory: MessageFactory, msgtype: str) -> Any:
    """``std_msgs/Float64MultiArray``."""
    dims = [
        factory.message("std_msgs/msg/MultiArrayDimension", label=label, size=int(size), stride=int(stride))
        for label, size, stride in value.layout
    ]
    return factory.message(
        msgtype,
        layout=factory.message("std_msgs/msg/MultiArrayLayout", dim=dims, data_offset=0),
        data=factory.sequence(floats(value.data, "float array")),
    )


def decode_text(message: Any, arrival_ns: int) -> Text:
    """``std_msgs/String``: no header, so it is about its arrival."""
    return Text(arrival_ns, message.data)


def encode_text(value: Text, factory: MessageFactory, msgtype: str) -> Any:
    """``std_msgs/String``."""
    return factory.message(msgtype, data=value.data)


def decode_flag(message: Any, arrival_ns: int) -> Flag:
    """``std_msgs/Bool``: no header, so it is about its arrival."""
    return Flag(arrival_ns, bool(message.data))


def encode_flag(value: Flag, factory: MessageFactory, msgtype: str) -> Any:
    """``std_msgs/Bool``."""
    return factory.message(msgtype, data=bool(value.data))


def decode_diagnostics(message: Any, arrival_ns: int) -> Diagnostics:
    """``diagnostic_msgs/DiagnosticArray``; of several values under one key the last counts."""
    statuses = []
    for status in message.status:
        # rclpy gives a field of type byte as bytes of length 1, rosbags as int.
        level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
        values = {item.key: item.value for item in status.values}
        statuses.append(DiagnosticStatus(level, status.name, status.message, status.hardware_id, values))
    return Diagnostics(stamp_ns(message.header.stamp), tuple(statuses), message.header.frame_id)


def encode_diagnostics(value: Diagnostics, factory: MessageFactory, msgtype: str) -> Any:
    """``diagnostic_msgs/DiagnosticArray``."""
    statuses = [
        factory.message(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=factory.byte(status.level),
            name=status.name,
            message=status.message,
            hardware_id=status.hardware_id,
            values=[
                factory.message("diagnostic_msgs/msg/KeyValue", key=key, value=item)
                for key, item in status.values.items()
            ],
        )
        for status in value.statuses
    ]
    return factory.message(msgtype, header=header_message(factory, value.stamp_ns, value.frame_id), status=statuses)
