"""Where encoded messages come from: rosbags' typestore or ROS's own message packages."""

from __future__ import annotations

import importlib
from array import array
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ros_attn.errors import MessageError, RosAttnError


class MessageFactory(Protocol):
    """Builds messages; the codecs know fields, the factory knows the container types of one library."""

    def message(self, msgtype: str, **fields: Any) -> Any:
        """A message of ``pkg/msg/Type`` with these fields."""
        ...

    def sequence(self, values: NDArray[Any]) -> Any:
        """A field of variable length and primitive type (``uint8[]``, ``float64[]``)."""
        ...

    def byte(self, value: int) -> Any:
        """A field of type ``byte``."""
        ...


class RosbagsMessages:
    """Messages of a ``rosbags`` typestore, as its serialiser takes them."""

    def __init__(self, typestore: Any) -> None:
        self._types = typestore.types

    def message(self, msgtype: str, **fields: Any) -> Any:
        try:
            message_class = self._types[msgtype]
        except KeyError:
            raise MessageError(f"the typestore has no type {msgtype}: register its definition") from None
        return message_class(**fields)

    def sequence(self, values: NDArray[Any]) -> Any:
        return np.ascontiguousarray(values)

    def byte(self, value: int) -> Any:
        return value


class RosMessages:
    """Messages of ROS's Python packages (``sensor_msgs.msg`` and so on), imported when first used."""

    def __init__(self) -> None:
        self._classes: dict[str, Any] = {}

    def _class(self, msgtype: str) -> Any:
        if msgtype not in self._classes:
            package, _, name = msgtype.replace("/msg/", "/").partition("/")
            try:
                module = importlib.import_module(f"{package}.msg")
            except ImportError as error:
                raise RosAttnError(
                    f"the ROS package {package} cannot be imported ({error}); source a ROS 2 that has it "
                    f"(ros-jazzy-{package.replace('_', '-')}) or avoid {msgtype}"
                ) from error
            if not hasattr(module, name):
                raise RosAttnError(f"the ROS package {package} has no message {name}")
            self._classes[msgtype] = getattr(module, name)
        return self._classes[msgtype]

    def message(self, msgtype: str, **fields: Any) -> Any:
        message = self._class(msgtype)()
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def sequence(self, values: NDArray[Any]) -> Any:
        # rclpy's setters take an array.array as it is; an ndarray is checked number by number, which costs
        # 62 ms for a VGA frame.
        field = array(values.dtype.char)
        field.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
        return field

    def byte(self, value: int) -> Any:
        return bytes([value])
