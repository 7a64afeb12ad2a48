"""Finding and opening the files a bag consists of, and saying what is wrong with one that does not open."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ros_attn.errors import BagError, listed

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_SMALLEST_MCAP = 45  # both magics and a footer
_SQLITE_MAGIC = b"SQLite format 3\0"
_ROS1_MAGIC = b"#ROSBAG V"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SUFFIXES = (".mcap", ".db3", ".bag")
_FORMATS = "a rosbag2 directory, an .mcap or .db3 file, or a ROS 1 .bag"

ReadMessages = Callable[[Collection[Any], int | None, int | None], Iterator[tuple[Any, int, "bytes | memoryview"]]]


@dataclass(frozen=True)
class Part:
    """One file of a bag: rosbags' connections and a function that reads messages of some of them."""

    path: Path
    connections: list[Any]
    count: int
    start_ns: int
    stop_ns: int
    read: ReadMessages


@dataclass(frozen=True)
class Opened:
    """The parts of a bag in the order its metadata names them, to be closed with ``stack``."""

    storage: str
    files: list[Path]
    parts: list[Part]
    stack: ExitStack


def _is_bag(path: Path) -> bool:
    return path.suffix in _SUFFIXES if path.is_file() else (path / "metadata.yaml").is_file()


def _absent(path: Path) -> BagError:
    folder = path.parent
    if not folder.is_dir():
        return BagError(f"{path} does not exist, nor does its folder {folder}")
    bags = sorted(each.name for each in folder.iterdir() if _is_bag(each))
    near = get_close_matches(path.name, bags, n=3, cutoff=0.5)
    if near:
        return BagError(f"{path} does not exist; similar names there: {listed(near)}")
    return BagError(f"{path} does not exist; bags in {folder.resolve()}: {listed(bags)}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise BagError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(_MCAP_MAGIC), 0))
        return file.read()


def _reason(error: BaseException) -> str:
    """What a library said, on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _compressed(path: Path, reason: str) -> BagError:
    return BagError(
        f"{path} uses a compression that is not supported, or is damaged ({reason}); rewrite it with "
        "`ros2 bag convert`, uncompressed or with zstd"
    )


def damage(path: Path, error: BaseException) -> BagError:
    """What is wrong with a file that rosbags did not read, and what to do."""
    size, head = path.stat().st_size, _head(path)
    reason = _reason(error)
    if size == 0:
        return BagError(f"{path} is empty (0 bytes): nothing was recorded, so pass another bag")
    if "compression" in reason.lower():
        return _compressed(path, reason)
    if head.startswith(_MCAP_MAGIC):
        recover = f"`mcap recover {path} -o {path.with_suffix('.recovered.mcap')}`"
        if size < _SMALLEST_MCAP or _tail(path) != _MCAP_MAGIC:
            return BagError(
                f"{path} was cut off (the recording was killed or the copy is incomplete); "
                f"{recover} writes what can be read"
            )
        if "Profile" in reason:
            return BagError(f"{path} is an mcap file without ROS 2 messages (its profile is not ros2)")
        return BagError(f"{path} is damaged ({reason}); {recover} writes what can be read")
    if head.startswith(_SQLITE_MAGIC):
        recover = f"`sqlite3 {path} .recover | sqlite3 NEW.db3`"
        return BagError(f"{path} is a damaged database ({reason}); {recover} writes what can be read")
    if head.startswith(_ROS1_MAGIC):
        if "index" in reason.lower() or "bytes" in reason:
            return BagError(f"{path} is cut off or not indexed ({reason}); `rosbag reindex` mends that")
        return BagError(f"{path} is damaged ({reason}); `rosbag fix` of ROS 1 may mend it")
    if head.startswith(_ZSTD_MAGIC):
        return BagError(f"{path} is compressed as a whole; pass the bag's directory or unpack it by `zstd -d`")
    return BagError(f"{path} is not a bag: {_FORMATS} is wanted")


def _part(path: Path, storage: Any, read: ReadMessages, warn: Callable[[str], None]) -> Part:
    _check_index(path, storage, warn)
    metadata = storage.metadata
    connections = list(storage.connections)
    return Part(path, connections, metadata.message_count, metadata.start_time, metadata.end_time, read)


def _check_index(path: Path, storage: Any, warn: Callable[[str], None]) -> None:
    chunks = getattr(storage, "chunks", None)
    count = storage.metadata.message_count
    if chunks is None or count == 0:
        return
    if sum(sum(chunk.channel_count.values()) for chunk in chunks) < count:
        # rosbags takes chunks that no message index describes for empty; without chunks it scans the file.
        chunks.clear()
    if not chunks:
        warn(f"{path} has no message index, so every read scans the whole file; `mcap recover` adds one")


def _open_file(path: Path, warn: Callable[[str], None]) -> Opened:
    from rosbags.rosbag1 import Reader as Ros1Reader
    from rosbags.rosbag2.storage_mcap import McapReader
    from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

    head, stack = _head(path), ExitStack()
    if head.startswith(_ROS1_MAGIC):
        ros1 = Ros1Reader(path)
        ros1.open()
        stack.callback(ros1.close)
        connections, count = list(ros1.connections), ros1.message_count
        part = Part(path, connections, count, ros1.start_time, ros1.end_time, ros1.messages)
        return Opened("ROS 1", [path], [part], stack)
    if head.startswith(_MCAP_MAGIC):
        name, storage = "mcap", McapReader(path)
    elif head.startswith(_SQLITE_MAGIC):
        name, storage = "sqlite3", Sqlite3Reader(path)
        journal = path.with_name(f"{path.name}-wal")
        if journal.is_file() and journal.stat().st_size:
            warn(f"{journal} holds messages that were never merged; `sqlite3 {path} 'PRAGMA wal_checkpoint'`")
    else:
        raise damage(path, ValueError("unknown magic"))
    storage.open()
    stack.callback(storage.close)
    return Opened(name, [path], [_part(path, storage, storage.messages, warn)], stack)


def _open_directory(path: Path, warn: Callable[[str], None]) -> Opened:
    from rosbags.rosbag2.reader import DirectoryReader

    directory, stack = DirectoryReader(path), ExitStack()
    directory.open()
    stack.callback(directory.close)
    parts = []
    for storage in directory.storages:
        # One reader a file: DirectoryReader reads its files one after the other even where they overlap in
        # time, and skips topics whose QoS in metadata.yaml differs from that in the file.
        single = copy.copy(directory)
        single.storages = [storage]
        # Where files are compressed as a whole, the storage is an unpacked copy without the last suffix.
        name = Path(getattr(storage, "path", path)).name
        file = path / name if (path / name).exists() else path / f"{name}.zstd"
        parts.append(_part(file, storage, single.messages, warn))
    mcap = all(hasattr(storage, "chunks") for storage in directory.storages)
    files = sorted(each for each in path.iterdir() if each.is_file() and each.name != "metadata.yaml")
    return Opened("mcap" if mcap else "sqlite3", files, parts, stack)


def _directory_damage(path: Path, error: Exception) -> BagError:
    """The file of a directory that does not open, else what its metadata lacks."""
    reason = _reason(error)
    for each in sorted(path.iterdir()):
        if each.suffix in _SUFFIXES:
            try:
                _open_file(each, lambda _: None).stack.close()
            except BagError as found:
                return found
            except Exception as found:
                return damage(each, found)
    if any(word in reason.lower() for word in ("compress", "zstandard")):
        return _compressed(path, reason)
    metadata = path / "metadata.yaml"
    return BagError(f"{metadata} cannot be used ({reason}); `ros2 bag reindex {path}` rewrites it")


def _single_file(path: Path) -> Path:
    """The one recording of a directory without metadata.yaml."""
    found = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and each.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        raise BagError(
            f"{path} has no metadata.yaml; `ros2 bag reindex {path}` writes it, or pass one file: "
            f"{listed(each.name for each in found)}"
        )
    bags = sorted(each.name for each in path.iterdir() if _is_bag(each))
    inside = f"; bags in it: {listed(bags)}" if bags else ""
    raise BagError(f"{path} has no metadata.yaml and no recording, so it is not a bag{inside}")


def open_bag(path: Path, warn: Callable[[str], None]) -> Opened:
    """Opens every file of a bag.

    ``warn`` is called with a sentence for what can be read but should be known. Raises BagError, and nothing
    else, where the bag is absent, damaged, unsupported or empty.
    """
    if not path.exists():
        raise _absent(path)
    if path.name == "metadata.yaml":
        path = path.parent
    directory = path.is_dir()
    if directory and not (path / "metadata.yaml").is_file():
        single = _single_file(path)
        warn(f"{path} has no metadata.yaml, so {single.name} is read alone; `ros2 bag reindex` writes it")
        path, directory = single, False
    try:
        opened = _open_directory(path, warn) if directory else _open_file(path, warn)
    except BagError:
        raise
    except Exception as error:
        # A damaged file makes rosbags raise whatever its parser stumbles over.
        raise (_directory_damage(path, error) if directory else damage(path, error)) from error
    if sum(part.count for part in opened.parts) == 0:
        opened.stack.close()
        raise BagError(f"{path} holds no messages: the recording ended before anything arrived")
    return opened
