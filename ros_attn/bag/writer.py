"""Writing rosbag2 mcap bags that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ros_attn.bag.reader import BagReader, default_typestore
from ros_attn.codecs import RosbagsMessages, encode, types_of
from ros_attn.errors import BagError, MessageError
from ros_attn.values import Value

# ROS 2 Jazzy writes metadata version 9 and reads older ones; version 8 is also read by Humble and Iron, which
# know QoS as numbers only (rosbag2_storage: yaml.hpp; qos.cpp detects either form).
_METADATA_VERSION = 8
_BATCH_BYTES = 1 << 20
_BATCH_MESSAGES = 256
_LATCHED_DEPTH = {"/tf_static": 100}


class _Pending(NamedTuple):
    key: tuple[str, str]
    arrival_ns: int
    raw: Any


class BagWriter:
    """Writes a bag: a rosbag2 directory with one mcap file, or that file alone where ``path`` ends in .mcap.

    It is written beside the final name and renamed by :meth:`close`, which the context manager also calls
    when its body is left by an exception or Ctrl-C: the bag then holds what was written so far, and the
    exception goes on. ``latched`` topics are recorded as transient local, so that `ros2 bag play` offers them
    to late subscribers. Arrivals are ns >= 0. Raises BagError where ``path`` exists (``overwrite`` replaces a
    bag, nothing else), or cannot be written; nothing is left behind then.
    """

    def __init__(self, path: Path | str, overwrite: bool = False, latched: Collection[str] = ("/tf_static",)) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer

        self.path = Path(path)
        self.message_count = 0
        self._overwrite = overwrite
        self._check_target()
        self._latched = frozenset(latched)
        self._store = default_typestore(ros1=False)
        self._messages = RosbagsMessages(self._store)
        self._definitions: dict[tuple[str, str], dict[str, Any]] = {}
        self._hashes: dict[str, str] = {}
        self._connections: dict[tuple[str, str], Any] = {}
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._open = True
        self._failure: BaseException | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".partial", dir=self.path.parent)
        except OSError as error:
            raise self._refused(error) from error
        self._folder = Path(folder)
        bag = self._folder / (self.path.stem if self.path.suffix == ".mcap" else self.path.name)
        self._writer = Writer(bag, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        # rosbags' writer lives in a thread of its own, where Ctrl-C cannot strike in the middle of a record.
        self._thread = ThreadPoolExecutor(1, "bag-writer")
        self._step: Future[None] = self._thread.submit(self._guarded, self._writer.open)
        self._settle()

    def _check_target(self) -> None:
        if not (self.path.exists() or self.path.is_symlink()):
            return
        if not self._overwrite:
            raise BagError(f"{self.path} exists; choose another name or allow overwriting")
        single = self.path.suffix == ".mcap"
        if not (self.path.is_file() if single else (self.path / "metadata.yaml").is_file()):
            raise BagError(f"{self.path} exists and is no rosbag2 bag, so it is not overwritten; move it away")

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: object, exception: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except BagError as error:
            if exception is None:
                raise
            exception.add_note(str(error))

    def write(self, topic: str, value: Value, arrival_ns: int, msgtype: str | None = None) -> None:
        """Appends a value, by default as the first ROS type of its class.

        MessageError where it cannot be encoded, BagError where it cannot be written.
        """
        msgtype = msgtype or next(iter(types_of(type(value))), "")
        message = encode(value, self._messages, msgtype or None)
        if (topic, msgtype) not in self._definitions:
            text = self._store.generate_msgdef(msgtype, ros_version=2)[0]
            self._define(topic, msgtype, text, self._store.hash_rihs01(msgtype), ())
        try:
            raw = self._store.serialize_cdr(message, msgtype)
        except Exception as error:
            name = type(value).__name__
            raise MessageError(f"{topic}: {name} does not serialise as {msgtype} ({error})") from error
        self._append((topic, msgtype), arrival_ns, raw)

    def write_raw(self, topic: str, msgtype: str, raw: bytes, arrival_ns: int, source: BagReader) -> None:
        """Appends a message of another bag byte for byte, with that bag's definition and offered QoS.

        BagError for ROS 1 messages (their bytes are no CDR) and where two definitions of one type meet;
        MessageError where the source does not define the type.
        """
        if source.is_ros1:
            raise BagError(
                f"{topic}: messages of the ROS 1 bag {source.path} cannot be copied as bytes; convert it "
                f"first by `rosbags-convert --src {source.path} --dst NEW`"
            )
        if (topic, msgtype) not in self._definitions:
            definition, info = source.definition(msgtype), source.topics.get(topic)
            self._define(topic, msgtype, *definition, info.offered_qos if info else ())
        self._append((topic, msgtype), arrival_ns, raw)

    def _define(self, topic: str, msgtype: str, text: str, type_hash: str, qos: tuple[Any, ...]) -> None:
        if self._hashes.setdefault(msgtype, type_hash) != type_hash:
            raise BagError(
                f"{topic}: {msgtype} is defined in two ways (by an older ROS?), which one bag cannot hold; "
                "write it to a second bag"
            )
        self._definitions[topic, msgtype] = {
            "msgdef": text,
            "rihs01": type_hash,
            "offered_qos_profiles": [_transient_local(topic)] if topic in self._latched else list(qos),
        }

    def _append(self, key: tuple[str, str], arrival_ns: int, raw: Any) -> None:
        if not self._open:
            raise BagError(f"{self.path} is closed; nothing more can be written")
        if not 0 <= arrival_ns < 2**63:
            raise BagError(f"{key[0]}: arrival {arrival_ns} ns is outside a bag's time, which starts at 0")
        self._pending.append(_Pending(key, int(arrival_ns), raw))
        self.message_count += 1
        self._pending_bytes += len(raw)
        if self._pending_bytes >= _BATCH_BYTES or len(self._pending) >= _BATCH_MESSAGES:
            self._pending_bytes = 0
            self._settle()
            self._step = self._thread.submit(self._guarded, self._drain)

    def _guarded(self, step: Callable[[], None]) -> None:
        """In the writer's thread: a step, after whose failure nothing stays and no other step is done."""
        if self._failure is not None:
            raise self._failure
        try:
            step()
        except BaseException as error:
            self._failure = error
            # On a full disk closing the file fails as writing did.
            with contextlib.suppress(OSError):
                self._writer.abort()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _drain(self) -> None:
        """In the writer's thread: hands everything pending to rosbags."""
        while self._pending:
            item = self._pending[0]
            connection = self._connections.get(item.key)
            if connection is None:
                connection = self._writer.add_connection(*item.key, **self._definitions[item.key])
                self._connections[item.key] = connection
            self._writer.write(connection, item.arrival_ns, item.raw)
            self._pending.popleft()

    def _settle(self) -> None:
        """Waits for the step under way and reports what became of it."""
        try:
            self._step.result()
        except BagError:
            raise
        except Exception as error:
            self._open = False
            self._thread.shutdown(wait=False)
            if isinstance(error, OSError):
                raise self._refused(error) from error
            raise BagError(f"{self.path} could not be written ({error}); nothing was kept") from error

    def _refused(self, error: OSError) -> BagError:
        folder = self.path.parent
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free / 1e6
        return BagError(
            f"{self.path} could not be written ({error.strerror or error}; {free:.0f} MB free in {folder}) "
            "and nothing was kept; make room there or choose another path"
        )

    def close(self) -> None:
        """Writes the index and gives the bag its name; does nothing when closed already.

        Ctrl-C while it waits is raised at once; the bag is finished all the same before Python exits.
        """
        if not self._open:
            return
        self._step = self._thread.submit(self._finish)
        self._open = False
        self._thread.shutdown(wait=False)
        self._settle()

    def _finish(self) -> None:
        self._guarded(self._drain)
        self._guarded(self._writer.close)
        written, replaced = self._writer.path, self._folder / "replaced"
        if self.path.suffix == ".mcap":
            written = written / f"{written.name}.mcap"
        complete = f"{written} is complete but could not be renamed to {self.path}"
        if self.path.exists() and not self._overwrite:
            raise BagError(f"{complete}, which has come to exist meanwhile; rename it yourself")
        try:
            if self.path.exists():
                os.replace(self.path, replaced)
            os.replace(written, self.path)
        except OSError as error:
            if replaced.exists():
                os.replace(replaced, self.path)
            raise BagError(f"{complete} ({error.strerror}); rename it yourself") from error
        shutil.rmtree(self._folder, ignore_errors=True)


def _transient_local(topic: str) -> Any:
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    unset = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        _LATCHED_DEPTH.get(topic, 1),
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        unset,
        unset,
        QosLiveliness.SYSTEM_DEFAULT,
        unset,
        False,
    )
