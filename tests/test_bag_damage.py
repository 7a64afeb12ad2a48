"""Bags of other recorders and damaged ones: what is read, what is refused and in which words."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ros_attn.bag import BagReader, BagWriter
from ros_attn.errors import BagError, MessageError
from ros_attn.values import Text

DATA = Path(os.environ.get("ROS_ATTN_DATA", Path(__file__).resolve().parents[1] / "../shared/data")) / "bags"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded bags in {DATA} (ROS_ATTN_DATA)")


def _write(path: Path, count: int) -> Path:
    with BagWriter(path) as writer:
        for index in range(count):
            writer.write("/t", Text(0, f"text {index}" + " " * 150), index * 1_000_000)
    return path


# ---------------------------------------------------------------- other recorders


def _rosbags_write(path: Path, plugin: str, compression: str = "", count: int = 6, first: int = 0) -> Path:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[plugin])
    if compression:
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/t", "std_msgs/msg/String", typestore=store)
        for index in range(first, first + count):
            message = store.types["std_msgs/msg/String"](data=f"text {index}" + " " * 200)
            writer.write(connection, index * 10, store.serialize_cdr(message, "std_msgs/msg/String"))
    return path


@pytest.mark.parametrize(
    ("plugin", "compression"),
    [
        *((plugin, mode) for plugin in ("MCAP", "SQLITE3") for mode in ("", "FILE", "MESSAGE")),
        ("MCAP", "STORAGE"),
    ],
)
def test_compressed_bags(plugin: str, compression: str, tmp_path: Path) -> None:
    with BagReader(_rosbags_write(tmp_path / "bag", plugin, compression)) as bag:
        texts = [bag.decode(message) for message in bag.messages()]
        assert [text.data.strip() for text in texts if isinstance(text, Text)] == [f"text {i}" for i in range(6)]


def test_split_files_that_overlap_are_merged(tmp_path: Path) -> None:
    first = _rosbags_write(tmp_path / "a", "MCAP", count=6)
    second = _rosbags_write(tmp_path / "b", "MCAP", count=6, first=3)
    shutil.copy(second / "b.mcap", first / "b.mcap")
    metadata = first / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("  - a.mcap", "  - a.mcap\n  - b.mcap"))
    with BagReader(first) as bag:
        messages = list(bag.messages())
        assert [m.arrival_ns // 10 for m in messages] == [0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8]
        assert bag.message_count == bag.topics["/t"].count == 12
        assert (bag.start_ns, bag.end_ns) == (0, 80)


def test_qos_that_differs_from_the_metadata_loses_no_topic(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with BagWriter(path, latched=("/t",)) as writer:
        writer.write("/t", Text(0, "x"), 0)
    metadata = path / "metadata.yaml"
    assert "durability: 1" in metadata.read_text()
    metadata.write_text(metadata.read_text().replace("durability: 1", "durability: 2"))
    with BagReader(path) as bag:
        assert len(list(bag.messages())) == 1


def test_unindexed_mcap_is_scanned_with_a_warning(tmp_path: Path) -> None:
    path = _write(tmp_path / "run.mcap", 30)
    data = bytearray(path.read_bytes())
    data[-28:-20] = bytes(8)  # summary_start in the footer
    path.write_bytes(data)
    with BagReader(path) as bag:
        assert len(bag.warnings) == 1 and "has no message index" in bag.warnings[0]
        assert [message.arrival_ns for message in bag.messages()] == [i * 1_000_000 for i in range(30)]


def test_mcap_chunks_without_message_index_are_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rosbags.rosbag2.storage_mcap import McapReader

    original = McapReader.read_index

    def without_message_index(self: McapReader) -> None:
        original(self)
        for chunk in self.chunks:
            chunk.channel_count.clear()

    monkeypatch.setattr(McapReader, "read_index", without_message_index)
    with BagReader(_write(tmp_path / "bag", 30)) as bag:
        assert "has no message index" in bag.warnings[0]
        assert len(list(bag.messages())) == 30


def test_a_directory_without_metadata(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", 5)
    (path / "metadata.yaml").unlink()
    with BagReader(path) as bag:
        assert bag.message_count == 5 and "has no metadata.yaml, so bag.mcap is read alone" in bag.warnings[0]
    shutil.copy(path / "bag.mcap", path / "two.mcap")
    with pytest.raises(BagError, match=r"ros2 bag reindex .*or pass one file: bag.mcap, two.mcap"):
        BagReader(path)
    _write(tmp_path / "more" / "bag", 1)
    with pytest.raises(BagError, match=r"so it is not a bag; bags in it: bag$"):
        BagReader(tmp_path / "more")
    with BagReader(_write(tmp_path / "named", 2) / "metadata.yaml") as bag:
        assert bag.message_count == 2


def test_messages_that_do_not_deserialise(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/t", Text(0, "x"), 0)
        writer._append(("/t", "std_msgs/msg/String"), 1, b"\0\1\0\0\xff\xff\0\0abc")
        writer._append(("/t", "std_msgs/msg/String"), 2, b"")
        writer.write("/t", Text(0, "y"), 3)
    read, failed = [], []
    with BagReader(tmp_path / "bag") as bag:
        for message in bag.messages():
            try:
                read.append(bag.decode(message))
            except MessageError as error:
                failed.append(str(error))
    assert [text.data for text in read] == ["x", "y"]
    assert len(failed) == 2 and all(error.startswith("/t: the message at ") for error in failed)


def test_unread_bytes_and_byte_order(tmp_path: Path) -> None:
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    text = store.types["std_msgs/msg/String"](data="x")
    big = store.serialize_cdr(text, "std_msgs/msg/String", little_endian=False)
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/t", Text(0, "x"), 0)
        # rclpy.serialization.serialize_message leaves up to 12 bytes behind what it wrote.
        for index, raw in enumerate((bytes(big), bytes(big) + bytes(12), bytes(big) + bytes(40))):
            writer._append(("/t", "std_msgs/msg/String"), index + 1, raw)
    with BagReader(tmp_path / "bag") as bag:
        *good, bad = bag.messages()
        texts = [bag.decode(message) for message in good]
        assert [text.data for text in texts if isinstance(text, Text)] == ["x", "x", "x"]
        with pytest.raises(MessageError, match="40 of its 50 bytes are left over"):
            bag.decode(bad)


def test_faulty_and_missing_definitions_spoil_one_topic_only(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        faulty = writer.add_connection("/faulty", "a_msgs/msg/A", msgdef="no such ^ definition", rihs01="RIHS01_0")
        missing = writer.add_connection("/missing", "b_msgs/msg/B", msgdef="c_msgs/C c\n", rihs01="RIHS01_0")
        good = writer.add_connection("/good", "d_msgs/msg/D", msgdef="int32 number\n", rihs01="RIHS01_0")
        for connection in (faulty, missing, good):
            writer.write(connection, 1, b"\0\1\0\0\7\0\0\0")
    with BagReader(tmp_path / "bag") as bag:
        assert {name: info.count for name, info in bag.topics.items()} == {
            "/faulty": 1,
            "/good": 1,
            "/missing": 1,
        }
        messages = {message.topic: message for message in bag.messages()}
        assert bag.deserialize(messages["/good"]).number == 7
        for topic in ("/faulty", "/missing"):
            with pytest.raises(MessageError):
                bag.deserialize(messages[topic])


# ---------------------------------------------------------------- damage


def _refused(path: Path | str, text: str) -> str:
    with pytest.raises(BagError, match=text) as caught, BagReader(path) as bag:
        list(bag.messages())
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    return str(caught.value)


def test_absent_bags_name_what_is_there(tmp_path: Path) -> None:
    _write(tmp_path / "night_drive", 1)
    (tmp_path / "notes.txt").write_text("x")
    assert _refused(tmp_path / "night_driv", "does not exist; similar names there: night_drive$")
    assert _refused(tmp_path / "zzz", r"does not exist; bags in .*: night_drive$")
    assert _refused(tmp_path / "no" / "where", "nor does its folder")


def test_files_that_are_no_bags(tmp_path: Path) -> None:
    for name in ("a.mcap", "a.db3", "a.bag", "a.txt"):
        (tmp_path / name).write_text("hello, this is no bag at all")
        _refused(tmp_path / name, rf"{name} is not a bag: a rosbag2 directory")
        (tmp_path / name).write_bytes(b"")
        _refused(tmp_path / name, rf"{name} is empty \(0 bytes\)")
    (tmp_path / "dir").mkdir()
    _refused(tmp_path / "dir", "no metadata.yaml and no recording")
    (tmp_path / "c.mcap.zstd").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(30))
    _refused(tmp_path / "c.mcap.zstd", "compressed as a whole; pass the bag's directory")


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = _write(tmp_path / "run.mcap", 4).rename(tmp_path / "run.bag")
    with BagReader(path) as bag:
        assert bag.storage == "mcap" and bag.message_count == 4


def test_truncated_mcap(tmp_path: Path) -> None:
    data = _write(tmp_path / "run.mcap", 500).read_bytes()
    for keep in (8, 9, 60, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.mcap").write_bytes(data[:keep])
        _refused(tmp_path / "cut.mcap", r"cut off .*`mcap recover .*cut.mcap -o .*cut.recovered.mcap`")
    bag = _write(tmp_path / "bag", 500)
    (bag / "bag.mcap").write_bytes(data[: len(data) // 2])
    assert "bag.mcap was cut off" in _refused(bag, "cut off")


def test_garbage_in_mcap_is_never_a_traceback(tmp_path: Path) -> None:
    data = _write(tmp_path / "run.mcap", 500).read_bytes()
    rng, refused = np.random.default_rng(3), []
    for trial in range(60):
        broken = bytearray(data)
        # Every other trial strikes the summary at the end, where counts and offsets are.
        low = 0 if trial % 2 else len(data) - 900
        for place in rng.integers(low, len(data) - 8, 8):
            broken[place] ^= int(rng.integers(1, 256))
        (tmp_path / "broken.mcap").write_bytes(broken)
        try:
            with BagReader(tmp_path / "broken.mcap") as bag:
                for message in bag.messages():
                    with contextlib.suppress(MessageError):
                        bag.decode(message)
        except BagError as error:
            refused.append(str(error))
    assert len(refused) > 10 and all("broken.mcap" in sentence for sentence in refused)


def test_unsupported_compression(tmp_path: Path) -> None:
    path = _rosbags_write(tmp_path / "bag", "MCAP", "STORAGE") / "bag.mcap"
    path.write_bytes(path.read_bytes().replace(b"\4\0\0\0zstd", b"\4\0\0\0brot"))
    _refused(path, r"bag.mcap uses a compression that is not supported.*brot.*ros2 bag convert")
    other = _rosbags_write(tmp_path / "other", "MCAP", "MESSAGE")
    metadata = other / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("compression_format: zstd", "compression_format: lzma"))
    _refused(other, "compression that is not supported.*lzma")
    whole = _rosbags_write(tmp_path / "whole", "MCAP", "FILE")
    file = next(whole.glob("*.zstd"))
    file.write_bytes(file.read_bytes()[:-20])
    _refused(whole, "whole uses a compression that is not supported, or is damaged")


def test_damaged_sqlite(tmp_path: Path) -> None:
    path = _rosbags_write(tmp_path / "bag", "SQLITE3", count=2000)
    data = (path / "bag.db3").read_bytes()
    (path / "bag.db3").write_bytes(data[:100] + b"\xa5" * 4000 + data[4100:])
    assert "bag.db3 is a damaged database" in _refused(path, r"sqlite3 .*\.recover")
    middle = len(data) // 2
    (path / "bag.db3").write_bytes(data[:middle] + b"\xa5" * (len(data) - middle))
    _refused(path / "bag.db3", "bag.db3 is a damaged database")
    sqlite3.connect(tmp_path / "other.db3").execute("CREATE TABLE t (x)").connection.close()
    _refused(tmp_path / "other.db3", "damaged database.*missing tables")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: "]][", "metadata.yaml cannot be used.*ros2 bag reindex"),
        (lambda text: "", "metadata.yaml cannot be used"),
        (
            lambda text: text.replace("message_count", "messages"),
            "metadata.yaml cannot be used.*message_count",
        ),
        (lambda text: text.replace("- bag.mcap", "- gone.mcap"), "gone.mcap"),
        (lambda text: text.replace("version: 8", "version: 99"), "version 99"),
        (lambda text: text.replace("identifier: mcap", "identifier: rdb"), "rdb"),
    ],
)
def test_damaged_metadata(change: Callable[[str], str], text: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", 3)
    metadata = path / "metadata.yaml"
    metadata.write_text(change(metadata.read_text()))
    _refused(path, text)


def test_bags_without_messages(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag"):
        pass
    _refused(tmp_path / "bag", "holds no messages")
    _refused(tmp_path / "bag" / "bag.mcap", "holds no messages")
    _refused(_rosbags_write(tmp_path / "lite", "SQLITE3", count=0), "holds no messages")


@needs_data
def test_damaged_ros1(tmp_path: Path) -> None:
    data = (DATA / "tilt_laser_imu_gps.ros1.bag").read_bytes()
    path = tmp_path / "cut.bag"
    path.write_bytes(data[: len(data) // 2])
    _refused(path, "cut.bag is (cut off or not indexed|damaged)")
    place = data.index(b"index_pos=") + len(b"index_pos=")
    path.write_bytes(data[:place] + struct.pack("<Q", 0) + data[place + 8 :])
    _refused(path, r"not indexed .*`rosbag reindex`")
    path.write_bytes(data[:5000])
    _refused(path, "cut.bag is")
