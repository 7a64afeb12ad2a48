"""``sensor_msgs/PointCloud2`` <-> :class:`ros_attn.values.PointCloud`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.codecs.factories import MessageFactory
from ros_attn.codecs.fields import byte_view, header_message, read_only, stamp_ns
from ros_attn.errors import MessageError
from ros_attn.values import PointCloud

# sensor_msgs/PointField: INT8 = 1 … FLOAT64 = 8
_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_NUMBERS = {np.dtype(kind): number for number, kind in _DATATYPES.items()}


def _point_dtype(message: Any, what: str) -> np.dtype[Any]:
    order = ">" if message.is_bigendian else "<"
    names, formats, offsets = [], [], []
    for field in message.fields:
        if field.datatype not in _DATATYPES:
            raise MessageError(f"{what}: field {field.name!r} has datatype {field.datatype}, not 1 to 8")
        kind = order + _DATATYPES[field.datatype]
        # Some drivers leave count at 0 and mean 1.
        formats.append((kind, (field.count,)) if field.count > 1 else kind)
        names.append(field.name)
        offsets.append(field.offset)
        if field.offset + np.dtype(formats[-1]).itemsize > message.point_step:
            raise MessageError(
                f"{what}: field {field.name!r} at offset {field.offset} ends beyond point_step {message.point_step}"
            )
    if "" in names or len(set(names)) != len(names):
        raise MessageError(f"{what}: field names {names} are not distinct names")
    itemsize = int(message.point_step)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})


def decode_point_cloud(message: Any, arrival_ns: int) -> PointCloud:
    """A PointCloud whose points are a read-only view of the message where its bytes allow it.

    The dtype keeps every field with its name, count, offset and padding, so that encoding gives the same
    points back; NaN stays. A copy is made only for padded rows, foreign byte order and unaligned buffers.
    Raises MessageError where sizes, steps, fields and the bytes found contradict each other.
    """
    header = message.header
    height, width = int(message.height), int(message.width)
    point_step, row_step = int(message.point_step), int(message.row_step)
    what = f"point cloud of frame {header.frame_id!r}, {width}x{height}"
    dtype = _point_dtype(message, what)
    buffer = byte_view(message.data)
    row = width * point_step
    fits = buffer.size == height * row_step and (row_step >= row or height == 0)
    if not fits or (width * height > 0 and not dtype.names):
        raise MessageError(
            f"{what}: point_step {point_step} and row_step {row_step} need {height * max(row_step, row)} "
            f"bytes and at least one field, found {buffer.size} bytes and {len(message.fields)} fields"
        )
    native = dtype.newbyteorder("=")
    if width * height == 0:
        points: NDArray[Any] = np.empty(0, native)
    else:
        if row_step != row:
            buffer = np.ascontiguousarray(buffer.reshape(height, row_step)[:, :row]).reshape(-1)
        points = buffer.view(dtype)
        if bool(message.is_bigendian) != (sys.byteorder == "big"):
            points = points.astype(native)
    is_dense = bool(message.is_dense)
    return PointCloud(stamp_ns(header.stamp), read_only(points), header.frame_id, height, is_dense)


def encode_point_cloud(value: PointCloud, factory: MessageFactory, msgtype: str) -> Any:
    """``sensor_msgs/PointCloud2`` in host byte order, without row padding; MessageError on other points."""
    what = f"point cloud of frame {value.frame_id!r}"
    if value.points.ndim != 1 or value.points.dtype.names is None:
        found = f"{value.points.dtype} {list(value.points.shape)}"
        raise MessageError(f"{what}: points must be a structured array [N], found {found}")
    points = np.ascontiguousarray(value.points, value.points.dtype.newbyteorder("="))
    if (value.height < 1 and points.size) or (value.height > 0 and points.size % value.height):
        raise MessageError(f"{what}: {points.size} points do not fill {value.height} rows")
    fields = []
    for name, (kind, offset, *_) in (points.dtype.fields or {}).items():
        base, shape = kind.subdtype or (kind, ())
        if base not in _NUMBERS or len(shape) > 1:
            raise MessageError(f"{what}: field {name!r} is {kind}, which no PointField can say")
        fields.append(
            factory.message(
                "sensor_msgs/msg/PointField",
                name=name,
                offset=int(offset),
                datatype=_NUMBERS[base],
                count=int(shape[0]) if shape else 1,
            )
        )
    width = points.size // value.height if value.height else 0
    return factory.message(
        msgtype,
        header=header_message(factory, value.stamp_ns, value.frame_id),
        height=int(value.height),
        width=int(width),
        fields=fields,
        is_bigendian=sys.byteorder == "big",
        point_step=points.dtype.itemsize,
        row_step=int(width) * points.dtype.itemsize,
        data=factory.sequence(points.view(np.uint8) if points.size else np.empty(0, np.uint8)),
        is_dense=bool(value.is_dense),
    )
