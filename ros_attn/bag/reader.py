"""Reading bags of ROS 2 and ROS 1 in log order, without ROS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache, partial
from heapq import merge
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ros_attn.bag.files import Part, damage, open_bag
from ros_attn.codecs import decode, value_type_of
from ros_attn.errors import MessageError, TopicError, listed, meant
from ros_attn.values import Value

_MOST_UNREAD = 16
_log = logging.getLogger(__name__)


class BagMessage(NamedTuple):
    """One recorded message as it lies in the bag."""

    topic: str
    msgtype: str
    arrival_ns: int
    raw: bytes


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag; of several types under one name the first (messages carry their own).

    ``offered_qos`` are rosbags' Qos objects, kept to write them into another bag unchanged.
    """

    name: str
    msgtype: str
    count: int
    transient_local: bool
    offered_qos: tuple[Any, ...] = ()

    @property
    def value_type(self) -> type[Value] | None:
        """The value class its messages decode to, None where there is no codec."""
        return value_type_of(self.msgtype)


class Definition(NamedTuple):
    """How a type is defined in a bag: its text (msg or IDL) and its RIHS01 hash."""

    text: str
    type_hash: str


@cache
def default_typestore(ros1: bool) -> Any:
    """rosbags' types of ROS 2 Jazzy, or of ROS 1 Noetic."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)


def _typestore(msgtype: str, definition: Any) -> Any:
    """A typestore for one recorded definition alone, so that definitions cannot contradict each other."""
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    types: dict[str, Any] = {}
    if definition.format == MessageDefinitionFormat.MSG:
        types.update(get_types_from_msg(definition.data, msgtype))
    else:
        separator = "=" * 80 + "\n"
        if not definition.data.startswith(f"{separator}IDL: "):
            types.update(get_types_from_idl(definition.data))
        else:
            for section in definition.data.split(separator)[1:]:
                types.update(get_types_from_idl(section.partition("\n")[2]))
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    # Here and not at the first message it shows whether every type inside is defined.
    store.get_msgdef(msgtype)
    return store


def from_cdr(store: Any, msgtype: str, raw: memoryview) -> object:
    """``Typestore.deserialize_cdr`` with up to 16 unread bytes at the end instead of 3.

    rclpy's ``serialize_message`` over Fast DDS estimates the size of a message and leaves what it did not
    need: 8 or 12 bytes on a JointState with empty arrays, so in bags that were written by rosbag2_py.
    """
    if raw[:2] not in (b"\0\0", b"\0\1"):
        raise ValueError("it does not start with a CDR header")
    definition = store.get_msgdef(msgtype)
    read = definition.deserialize_cdr_le if raw[1] else definition.deserialize_cdr_be
    message, end = read(raw[4:], 0, definition.cls, store)
    if len(raw) - 4 - end > _MOST_UNREAD:
        raise ValueError(f"{len(raw) - 4 - end} of its {len(raw)} bytes are left over")
    return message


def _topic_info(name: str, connections: list[Any], counts: dict[str, int]) -> TopicInfo:
    from rosbags.interfaces import QosDurability

    offered = [qos for each in connections for qos in getattr(each.ext, "offered_qos_profiles", ())]
    profiles = tuple({repr(qos): qos for qos in offered}.values())
    latched = any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in profiles)
    latched |= any(getattr(each.ext, "latching", 0) for each in connections)
    return TopicInfo(name, connections[0].msgtype, counts[name], latched, profiles)


class BagReader:
    """A bag: a rosbag2 directory (mcap or sqlite3, split, zstd), an .mcap or .db3 file, or a ROS 1 .bag.

    ``topics`` maps names to :class:`TopicInfo`, also for types that no codec knows; ``start_ns`` and
    ``end_ns`` are the first and last arrival (log time); ``warnings`` are sentences about what was read in
    spite of a flaw. Types without a recorded definition are those of ROS 2 Jazzy (ROS 1: Noetic). Opens at
    once; raises BagError where the bag is absent, damaged, empty or not supported, here or while reading.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        opened = open_bag(self.path, self._warn)
        self._stack = opened.stack
        self._parts = opened.parts
        self.storage = opened.storage
        self.files = opened.files
        self.message_count = sum(part.count for part in self._parts)
        filled = [part for part in self._parts if part.count]
        self.start_ns = min(part.start_ns for part in filled)
        self.end_ns = max(part.stop_ns for part in filled) - 1
        by_topic: dict[str, list[Any]] = {}
        counts: dict[str, int] = {}
        self._definitions: dict[str, Any] = {}
        for part in self._parts:
            for connection in part.connections:
                by_topic.setdefault(connection.topic, []).append(connection)
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
                self._define(connection)
        self.topics = {name: _topic_info(name, by_topic[name], counts) for name in sorted(by_topic)}
        self._readers: dict[str, Callable[[memoryview], object]] = {}

    @property
    def duration_ns(self) -> int:
        """From the first to the last arrival."""
        return self.end_ns - self.start_ns

    @property
    def is_ros1(self) -> bool:
        """Whether raw messages are in ROS 1's serialisation instead of CDR."""
        return self.storage == "ROS 1"

    def _warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        _log.warning(sentence)

    def _define(self, connection: Any) -> None:
        known = self._definitions.get(connection.msgtype)
        if known is None or known.msgdef.format.value == 0:
            self._definitions[connection.msgtype] = connection
        elif connection.msgdef.format.value and connection.msgdef != known.msgdef:
            sentence = f"{self.path} defines {connection.msgtype} in two ways; the first one is used"
            if sentence not in self.warnings:
                self._warn(sentence)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; reading is over."""
        self._stack.close()

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages with start_ns <= arrival < stop_ns in log order; equal arrivals as the file has them.

        Raises TopicError at once for a topic the bag does not have, BagError where the file is damaged.
        """
        for topic in () if topics is None else topics:
            if topic not in self.topics:
                raise TopicError(
                    f"{self.path} has no topic {topic}{meant(topic, self.topics)}; it has {listed(self.topics)}"
                )
        return self._messages(topics, start_ns, stop_ns)

    def _messages(
        self, topics: Collection[str] | None, start_ns: int | None, stop_ns: int | None
    ) -> Iterator[BagMessage]:
        def read(part: Part) -> Iterator[tuple[Any, int, Any]]:
            wanted = [each for each in part.connections if topics is None or each.topic in topics]
            try:
                if wanted:
                    yield from part.read(wanted, start_ns, stop_ns)
            except Exception as error:
                # Whatever rosbags' parsers stumble over; what a consumer raises never comes here.
                raise damage(part.path, error) from error

        parts = sorted((part for part in self._parts if part.count), key=lambda part: part.start_ns)
        if all(before.stop_ns <= after.start_ns for before, after in pairwise(parts)):
            found = chain.from_iterable(map(read, parts))
        else:
            found = merge(*(read(part) for part in self._parts), key=lambda item: item[1])
        for connection, arrival, raw in found:
            yield BagMessage(connection.topic, connection.msgtype, arrival, raw)

    def _reader(self, msgtype: str) -> Callable[[memoryview], object]:
        if msgtype not in self._readers:
            store = self.typestore(msgtype)
            if self.is_ros1:
                self._readers[msgtype] = partial(store.deserialize_ros1, typename=msgtype)
            else:
                self._readers[msgtype] = partial(from_cdr, store, msgtype)
        return self._readers[msgtype]

    def typestore(self, msgtype: str) -> Any:
        """The rosbags typestore that knows a type of this bag; MessageError where there is no definition."""
        connection = self._definitions.get(msgtype)
        if connection is None:
            raise MessageError(f"{self.path} has no messages of type {msgtype}")
        serialisation = getattr(connection.ext, "serialization_format", "cdr")
        if serialisation != "cdr":
            raise MessageError(f"{connection.topic} is serialised as {serialisation}; only cdr is read")
        if connection.msgdef.format.value:
            try:
                return _typestore(msgtype, connection.msgdef)
            except Exception as error:
                sentence = f"{self.path} defines {msgtype} in a way that cannot be used ({error!r})"
                raise MessageError(sentence) from error
        store = default_typestore(self.is_ros1)
        if msgtype not in store.fielddefs:
            raise MessageError(
                f"{self.path} does not define {msgtype} and ROS 2 Jazzy has no such type; record to mcap, "
                "which keeps definitions"
            )
        return store

    def definition(self, msgtype: str) -> Definition:
        """The definition of a type for another ROS 2 bag; MessageError where there is none."""
        store, connection = self.typestore(msgtype), self._definitions[msgtype]
        if connection.msgdef.format.value == 0:
            text = store.generate_msgdef(msgtype, ros_version=2)[0]
        elif connection.msgdef.format.name == "IDL" and not connection.msgdef.data.startswith("=" * 80):
            text = f"{'=' * 80}\nIDL: {msgtype}\n{connection.msgdef.data}"
        else:
            text = connection.msgdef.data
        return Definition(text, store.hash_rihs01(msgtype))

    def deserialize(self, message: BagMessage) -> Any:
        """The message as rosbags' object, for types without a value; MessageError where that fails."""
        read = self._readers.get(message.msgtype) or self._reader(message.msgtype)
        try:
            # rosbags cuts fields out by slicing, which copies bytes and only moves a memoryview.
            return read(memoryview(message.raw))
        except Exception as error:
            raise MessageError(
                f"{message.topic}: the message at {message.arrival_ns} ns is no {message.msgtype} ({error})"
            ) from error

    def decode(self, message: BagMessage) -> Value:
        """The message as a value; MessageError, with the topic, where it does not decode."""
        try:
            return decode(self.deserialize(message), message.msgtype, message.arrival_ns)
        except MessageError as error:
            if str(error).startswith(message.topic):
                raise
            raise MessageError(f"{message.topic}: {error}") from error
