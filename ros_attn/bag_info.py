"""What is in a bag, as text: the answer to `ros-attn info BAG`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.bag import BagMessage, BagReader
from ros_attn.codecs import value_type_of
from ros_attn.codecs.fields import stamp_ns
from ros_attn.errors import MessageError, listed

# Arrival times and stamps come from reading messages; a bag beyond this is described by its beginning.
_MOST_BYTES = 2**30
_GAP_PERIODS = 3.0


@dataclass
class _Seen:
    """What the messages of one topic showed."""

    arrivals: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    frames: dict[str, None] = field(default_factory=dict)
    picture: str = ""
    failed: int = 0
    reason: str = ""


def _headers(message: Any) -> list[tuple[Any, str]]:
    """Headers with the frame they show: one, those of every transform, or none."""
    if hasattr(message, "transforms"):
        transforms = message.transforms
        return [(each.header, f"{each.header.frame_id}→{each.child_frame_id}") for each in transforms]
    if not hasattr(message, "header"):
        return []
    frame = message.header.frame_id
    if hasattr(message, "child_frame_id"):
        frame = f"{frame}→{message.child_frame_id}"
    return [(message.header, frame)]


def _picture(message: Any) -> str:
    if hasattr(message, "encoding") and hasattr(message, "step"):
        return f"{message.encoding} {message.width}x{message.height}"
    if hasattr(message, "format"):
        return str(message.format)
    if hasattr(message, "point_step"):
        return f"{message.width * message.height} points of {' '.join(each.name for each in message.fields)}"
    return ""


def _look(bag: BagReader, item: BagMessage, seen: _Seen) -> None:
    try:
        message = bag.deserialize(item)
    except MessageError as error:
        seen.failed += 1
        seen.reason = seen.reason or str(error)
        return
    if not seen.picture:
        seen.picture = _picture(message)
    for header, frame in _headers(message):
        seen.frames[frame] = None
        seen.offsets.append(item.arrival_ns - stamp_ns(header.stamp))


def _time(seconds: float) -> str:
    """Seconds with a unit that keeps the number short."""
    magnitude = abs(seconds)
    if magnitude < 1.0:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.2f} s" if magnitude < 1e4 else f"{seconds / 86400:.1f} d"


def _gaps(arrivals: list[int], start_ns: int) -> str:
    periods = np.diff(np.array(arrivals, np.int64)) / 1e9
    if periods.size < 3 or np.median(periods) <= 0.0:
        return "-"
    gaps = np.flatnonzero(periods > _GAP_PERIODS * np.median(periods))
    if gaps.size == 0:
        return "0"
    worst = int(gaps[np.argmax(periods[gaps])])
    return f"{gaps.size}, worst {_time(float(periods[worst]))} at {(arrivals[worst] - start_ns) / 1e9:.1f} s"


def _row(bag: BagReader, name: str, seen: _Seen) -> tuple[str, ...]:
    topic = bag.topics[name]
    span = (seen.arrivals[-1] - seen.arrivals[0]) / 1e9 if seen.arrivals else 0.0
    rate = f"{(len(seen.arrivals) - 1) / span:.1f}" if span > 0.0 else "-"
    offset = _time(float(np.median(seen.offsets)) / 1e9) if seen.offsets else "-"
    notes = [seen.picture] if seen.picture else []
    if seen.frames:
        notes.append(listed((frame or "(no frame)" for frame in seen.frames), 4))
    if topic.transient_local:
        notes.append("latched")
    if value_type_of(topic.msgtype) is None:
        notes.append("no codec")
    if seen.failed:
        notes.append(f"{seen.failed} undecodable")
    gaps = _gaps(seen.arrivals, bag.start_ns)
    return (name, topic.msgtype, str(topic.count), rate, offset, gaps, "; ".join(notes))


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    right = (2, 3, 4)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def describe(path: Path | str) -> str:
    """A bag's size, start, duration and topics.

    Per topic: type, count, mean rate [Hz], median of arrival minus stamp, gaps (periods beyond three times
    the median), the first image's encoding and size, frames, whether latched and whether a codec exists.
    Rates, offsets and gaps are from the first GiB of messages; a line says so where that is not all. Raises
    BagError where the bag cannot be read.
    """
    with BagReader(path) as bag:
        seen = {name: _Seen() for name in bag.topics}
        read, last_ns, whole = 0, bag.start_ns, True
        for item in bag.messages():
            if read > _MOST_BYTES:
                whole = False
                break
            read += len(item.raw)
            last_ns = item.arrival_ns
            seen[item.topic].arrivals.append(item.arrival_ns)
            _look(bag, item, seen[item.topic])
        start = datetime.fromtimestamp(bag.start_ns / 1e9, UTC)
        size = sum(file.stat().st_size for file in bag.files) / 1e6
        files = f"{len(bag.files)} file{'s' if len(bag.files) > 1 else ''}"
        lines = [
            f"bag       {bag.path} ({bag.storage}, {files}, {size:.1f} MB)",
            f"start     {start:%Y-%m-%d %H:%M:%S}.{bag.start_ns // 1_000_000 % 1000:03d} UTC",
            f"duration  {bag.duration_ns / 1e9:.2f} s, {bag.message_count} messages",
            *(f"warning   {sentence}" for sentence in bag.warnings),
            *(f"warning   {each.reason}" for each in seen.values() if each.reason),
        ]
        if not whole:
            lines.append(f"note      rates, offsets and gaps are of the first {(last_ns - bag.start_ns) / 1e9:.1f} s")
        head = ("topic", "type", "count", "Hz", "arrival-stamp", "gaps", "content")
        return "\n".join([*lines, "", *_table([head, *(_row(bag, name, seen[name]) for name in bag.topics)])])
