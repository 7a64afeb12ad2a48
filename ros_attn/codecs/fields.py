"""Reading and building the fields that many ROS messages share: header, vectors, arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.codecs.factories import MessageFactory
from ros_attn.errors import MessageError

NS_PER_S = 1_000_000_000


def stamp_ns(stamp: Any) -> int:
    """``builtin_interfaces/Time`` in ns."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def byte_view(data: Any) -> NDArray[np.uint8]:
    """The bytes of a ``uint8[]`` field without a copy where it is a buffer (ndarray, array, bytes)."""
    if isinstance(data, np.ndarray):
        return data if data.dtype == np.uint8 else data.view(np.uint8)
    if isinstance(data, list | tuple):
        return np.array(data, np.uint8)
    return np.frombuffer(data, np.uint8)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The array as an aligned view that cannot be written: it may share memory with the message."""
    if not array.flags.aligned:
        array = array.copy()
    view = array.view()
    view.flags.writeable = False
    return view


def floats(values: Any, what: str, lengths: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """A copy as float64 ``[N]``; MessageError where ``lengths`` are given and N is none of them."""
    array = np.array(values, np.float64).reshape(-1)
    if lengths is not None and array.size not in lengths:
        wanted = " or ".join(str(length) for length in dict.fromkeys(lengths))
        raise MessageError(f"{what} has {array.size} numbers, {wanted} expected")
    return array


def vector(message: Any) -> NDArray[np.float64]:
    """``Vector3`` or ``Point`` as ``[x, y, z]``."""
    return np.array([message.x, message.y, message.z], np.float64)


def quaternion(message: Any) -> NDArray[np.float64]:
    """``Quaternion`` as ``[x, y, z, w]``."""
    return np.array([message.x, message.y, message.z, message.w], np.float64)


def time_message(factory: MessageFactory, stamp: int) -> Any:
    """``builtin_interfaces/Time``; MessageError outside its int32 seconds."""
    sec, nanosec = divmod(int(stamp), NS_PER_S)
    if not -(2**31) <= sec < 2**31:
        raise MessageError(f"stamp_ns {stamp} does not fit a ROS time (int32 seconds, until 2038)")
    return factory.message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header_message(factory: MessageFactory, stamp: int, frame_id: str) -> Any:
    """``std_msgs/Header``."""
    return factory.message("std_msgs/msg/Header", stamp=time_message(factory, stamp), frame_id=frame_id)


def xyz_message(factory: MessageFactory, msgtype: str, values: Any, what: str) -> Any:
    """``Vector3`` or ``Point`` from ``[3]``."""
    x, y, z = floats(values, what, (3,)).tolist()
    return factory.message(msgtype, x=x, y=y, z=z)


def quaternion_message(factory: MessageFactory, values: Any, what: str) -> Any:
    """``Quaternion`` from ``[x, y, z, w]``."""
    x, y, z, w = floats(values, what, (4,)).tolist()
    return factory.message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
