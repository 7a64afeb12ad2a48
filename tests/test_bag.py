"""Bags: every recorded format, log order, bytes that survive copying, interruption, a full disk, damage."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros_attn.bag import BagReader, BagWriter
from ros_attn.errors import BagError, MessageError, TopicError
from ros_attn.values import (
    Image,
    Imu,
    Odometry,
    Pose,
    Text,
    Transform,
    Transforms,
    Twist,
    Value,
    field_bytes,
)

DATA = Path(os.environ.get("ROS_ATTN_DATA", Path(__file__).resolve().parents[1] / "../shared/data")) / "bags"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded bags in {DATA} (ROS_ATTN_DATA)")

COUNTS = {
    "jackal_imu_wheel.ros1.bag": {"/imu/data": 3061, "/jackal_velocity_controller/odom": 3060},
    "nav2_turtlebot.mcap": {"/odom": 2639, "/tf": 5422, "/amcl_pose": 135, "/tf_static": 1},
    "tf_example": {"/tf": 517, "/tf_static": 1},
    "tilt_laser_imu_gps.ros1.bag": {
        "/imu_data": 356,
        "/position_gps": 356,
        "/scan": 178,
        "/tf": 711,
        "/velocity": 712,
        "/temperature": 712,
        "/gravity_vector": 356,
        "/info_gps": 356,
        "/magnetic_vector": 356,
    },
    **{
        f"rosbag2_{kind}_talker": {"/topic": 10, "/rosout": 10, "/parameter_events": 0}
        for kind in ("mcap", "sqlite3")
    },
    **{
        f"rosbag2_{kind}_wbag": dict(
            zip(
                ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH"],
                [804, 742, 742, 753, 804, 772, 731, 726],
                strict=True,
            )
        )
        for kind in ("mcap", "sqlite3")
    },
}


# ---------------------------------------------------------------- recorded bags


@needs_data
@pytest.mark.parametrize("name", COUNTS)
def test_recorded_bags_are_read_whole(name: str) -> None:
    with BagReader(DATA / name) as bag:
        assert {topic: info.count for topic, info in bag.topics.items()} == COUNTS[name]
        messages = list(bag.messages())
        assert len(messages) == bag.message_count == sum(COUNTS[name].values())
        assert Counter(message.topic for message in messages) == Counter(COUNTS[name])
        arrivals = [message.arrival_ns for message in messages]
        assert arrivals == sorted(arrivals)
        assert (arrivals[0], arrivals[-1]) == (bag.start_ns, bag.end_ns)
        decoded = 0
        for message in messages:
            value_type = bag.topics[message.topic].value_type
            if value_type is not None:
                assert isinstance(bag.decode(message), value_type)
                decoded += 1
        assert decoded == sum(n for topic, n in COUNTS[name].items() if bag.topics[topic].value_type)


@needs_data
def test_contents_of_recorded_bags() -> None:
    with BagReader(DATA / "jackal_imu_wheel.ros1.bag") as bag:
        assert bag.storage == "ROS 1" and bag.is_ros1
        imu = bag.decode(next(bag.messages(["/imu/data"])))
        assert isinstance(imu, Imu) and imu.frame_id == "base_link"
        assert 9.0 < np.linalg.norm(imu.linear_acceleration) < 10.6
        odometry = bag.decode(next(bag.messages(["/jackal_velocity_controller/odom"])))
        assert isinstance(odometry, Odometry) and (odometry.frame_id, odometry.child_frame_id) == (
            "odom",
            "base_link",
        )
    with BagReader(DATA / "tilt_laser_imu_gps.ros1.bag") as bag:
        transforms = bag.decode(next(bag.messages(["/tf"])))
        assert isinstance(transforms, Transforms) and isinstance(transforms.transforms[0], Transform)
        assert bag.topics["/scan"].value_type is None
        scan = bag.deserialize(next(bag.messages(["/scan"])))
        assert len(scan.ranges) == round((scan.angle_max - scan.angle_min) / scan.angle_increment) + 1
        assert isinstance(bag.decode(next(bag.messages(["/velocity"]))), Twist)
        with pytest.raises(MessageError, match="/scan: no codec for sensor_msgs/msg/LaserScan"):
            bag.decode(next(bag.messages(["/scan"])))
    with BagReader(DATA / "nav2_turtlebot.mcap") as bag:
        assert [name for name, info in bag.topics.items() if info.transient_local] == [
            "/amcl_pose",
            "/tf_static",
        ]
        static = bag.decode(next(bag.messages(["/tf_static"])))
        assert isinstance(static, Transforms) and len(static.transforms) == 29
        assert bag.topics["/amcl_pose"].msgtype == "geometry_msgs/msg/PoseWithCovarianceStamped"
    with BagReader(DATA / "rosbag2_mcap_talker") as bag:
        assert bag.topics["/rosout"].transient_local and not bag.topics["/topic"].transient_local
        texts = [bag.decode(message) for message in bag.messages(["/topic"])]
        assert [text.data for text in texts if isinstance(text, Text)] == [
            f"Hello, world! {i}" for i in range(10)
        ]


@needs_data
def test_ties_keep_the_order_of_the_files() -> None:
    expected = []
    for file in sorted((DATA / "rosbag2_sqlite3_wbag").glob("*.db3")):
        connection = sqlite3.connect(f"file:{file}?immutable=1", uri=True)
        query = (
            "SELECT name, timestamp, data FROM messages JOIN topics ON topics.id = topic_id "
            "ORDER BY messages.id"
        )
        expected += connection.execute(query).fetchall()
        connection.close()
    expected.sort(key=lambda row: row[1])
    for name in ("rosbag2_sqlite3_wbag", "rosbag2_mcap_wbag"):
        with BagReader(DATA / name) as bag:
            assert [(m.topic, m.arrival_ns, bytes(m.raw)) for m in bag.messages()] == expected
            some = [(m.topic, m.arrival_ns, bytes(m.raw)) for m in bag.messages(["CCC", "AAA"])]
            assert some == [row for row in expected if row[0] in ("AAA", "CCC")]


@needs_data
@pytest.mark.parametrize(
    "name", ["nav2_turtlebot.mcap", "rosbag2_mcap_wbag", "rosbag2_sqlite3_wbag", "tf_example"]
)
def test_copying_keeps_every_byte(name: str, tmp_path: Path) -> None:
    with BagReader(DATA / name) as source:
        with BagWriter(tmp_path / "copy") as writer:
            for message in source.messages():
                writer.write_raw(*message[:2], message.raw, message.arrival_ns, source)
            assert writer.message_count == source.message_count
        with BagReader(tmp_path / "copy") as copy:
            assert list(copy.messages()) == list(source.messages())
            assert not copy.warnings
            for topic, info in copy.topics.items():
                assert info.transient_local == (source.topics[topic].transient_local or topic == "/tf_static")
                if topic != "/tf_static":
                    assert info.offered_qos == source.topics[topic].offered_qos
            for message in copy.messages():
                copy.deserialize(message)


@needs_data
def test_ros1_bytes_are_not_copied(tmp_path: Path) -> None:
    with BagReader(DATA / "jackal_imu_wheel.ros1.bag") as source, BagWriter(tmp_path / "copy") as writer:
        message = next(source.messages())
        with pytest.raises(BagError, match=r"ROS 1 bag .* cannot be copied as bytes; convert it"):
            writer.write_raw(*message[:2], message.raw, message.arrival_ns, source)
        writer.write(message.topic, source.decode(message), message.arrival_ns)
    with BagReader(tmp_path / "copy") as bag:
        assert bag.topics["/imu/data"].msgtype == "sensor_msgs/msg/Imu"


# ---------------------------------------------------------------- written bags


def _image(index: int) -> Image:
    pixels = np.full((6, 8, 3), index % 251, np.uint8)
    return Image(index * 1000, pixels, "rgb8", f"cam{index}")


def _write(path: Path, count: int = 20, first: int = 0, topic: str = "/cam") -> Path:
    with BagWriter(path) as writer:
        for index in range(first, first + count):
            writer.write(topic, _image(index), index * 1_000_000)
    return path


def test_values_come_back(tmp_path: Path) -> None:
    _write(tmp_path / "bag", 700)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bag"]
    assert sorted(each.name for each in (tmp_path / "bag").iterdir()) == ["bag.mcap", "metadata.yaml"]
    with BagReader(tmp_path / "bag") as bag:
        assert (bag.storage, bag.message_count, bag.start_ns, bag.end_ns) == ("mcap", 700, 0, 699_000_000)
        assert bag.duration_ns == 699_000_000
        for index, message in enumerate(bag.messages()):
            assert message.arrival_ns == index * 1_000_000
            assert field_bytes(bag.decode(message)) == field_bytes(_image(index))


def test_a_part_of_the_time_and_topics(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for index in range(10):
            writer.write("/a", Text(0, str(index)), index)
            writer.write("/b", Text(0, str(index)), index)
    with BagReader(tmp_path / "bag") as bag:
        assert [m.arrival_ns for m in bag.messages(["/b"], start_ns=3, stop_ns=6)] == [3, 4, 5]
        assert [m.topic for m in bag.messages(start_ns=9)] == ["/a", "/b"]
        assert list(bag.messages(stop_ns=0)) == [] and list(bag.messages([])) == []
        with pytest.raises(TopicError, match=r"has no topic /c.*it has /a, /b"):
            bag.messages(["/c"])
        text = bag.decode(next(bag.messages(start_ns=4)))
        assert isinstance(text, Text) and (text.stamp_ns, text.data) == (4, "4")


def test_latched_topics(tmp_path: Path) -> None:
    static = Transforms(0, (Transform(5, np.zeros(3), np.array([0, 0, 0, 1.0]), "base", "cam"),))
    with BagWriter(tmp_path / "bag", latched=("/tf_static", "/info")) as writer:
        writer.write("/tf_static", static, 1)
        writer.write("/info", Text(0, "x"), 1)
        writer.write("/other", Text(0, "x"), 1)
    with BagReader(tmp_path / "bag") as bag:
        latched = {name: info.transient_local for name, info in bag.topics.items()}
        assert latched == {"/info": True, "/other": False, "/tf_static": True}
        assert bag.topics["/tf_static"].offered_qos[0].depth == 100


def test_a_single_file_is_written_where_the_name_ends_in_mcap(tmp_path: Path) -> None:
    path = _write(tmp_path / "run.mcap", 5)
    assert path.is_file() and [each.name for each in tmp_path.iterdir()] == ["run.mcap"]
    with BagReader(path) as bag:
        assert bag.message_count == 5
    with BagWriter(path, overwrite=True) as writer:
        writer.write("/t", Text(0, "new"), 0)
    with BagReader(path) as bag:
        assert list(bag.topics) == ["/t"]


def test_metadata_is_what_jazzy_and_humble_read(tmp_path: Path) -> None:
    text = (_write(tmp_path / "bag") / "metadata.yaml").read_text()
    assert "version: 8\n" in text and "storage_identifier: mcap\n" in text and "message_count: 20\n" in text
    assert "- bag.mcap\n" in text and "RIHS01_" in text


def test_an_existing_path_is_kept(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", 3)
    with pytest.raises(BagError, match=r"bag exists; choose another name or allow overwriting"):
        BagWriter(path)
    with BagWriter(path, overwrite=True) as writer:
        writer.write("/t", Text(0, "new"), 0)
        with BagReader(path) as bag:
            assert bag.message_count == 3
    with BagReader(path) as bag:
        assert list(bag.topics) == ["/t"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(BagError, match="is no rosbag2 bag, so it is not overwritten"):
        BagWriter(tmp_path / "thesis", overwrite=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bag", "thesis"]


def test_a_name_taken_meanwhile_loses_nothing(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.write("/t", Text(0, "x"), 0)
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="is complete but could not be renamed") as caught:
        writer.close()
    with BagReader(str(caught.value).partition(" is complete")[0]) as bag:
        assert bag.message_count == 1


def test_impossible_arrivals_and_values(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for arrival in (-1, 2**63):
            with pytest.raises(BagError, match=f"arrival {arrival} ns is outside"):
                writer.write("/t", Text(0, "x"), arrival)
        with pytest.raises(MessageError, match="rgb8 needs"):
            writer.write("/cam", Image(0, np.zeros((2, 2)), "rgb8"), 0)
        writer.write("/cam", _image(1), 0)
        writer.write("/pose", Pose(0, np.zeros(3)), 1)
    with pytest.raises(BagError, match="is closed"):
        writer.write("/t", Text(0, "x"), 0)
    writer.close()
    with BagReader(tmp_path / "bag") as bag:
        assert [message.topic for message in bag.messages()] == ["/cam", "/pose"]


def test_one_type_with_two_definitions_is_refused(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.MCAP) as old:
        connection = old.add_connection("/t", "std_msgs/msg/String", msgdef="int32 data\n", rihs01="RIHS01_0")
        old.write(connection, 5, b"\0\1\0\0\7\0\0\0")
    with BagReader(tmp_path / "old") as source, BagWriter(tmp_path / "new") as writer:
        message = next(source.messages())
        assert source.deserialize(message).data == 7
        writer.write_raw(*message[:2], message.raw, 0, source)
        with pytest.raises(BagError, match="std_msgs/msg/String is defined in two ways"):
            writer.write("/other", Text(0, "x"), 0)


# ---------------------------------------------------------------- interruption


def _write_until(writer: BagWriter, value: Value, count: int, end: BaseException | None = None) -> None:
    for index in range(count):
        writer.write("/cam", value, index)
    if end is not None:
        raise end


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_bag_is_readable(kind: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(kind), BagWriter(tmp_path / "bag") as writer:
        _write_until(writer, _image(1), 50, kind())
    with BagReader(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == 50 and not bag.warnings


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.11])
def test_ctrl_c_at_any_moment_leaves_a_whole_bag(delay: float, tmp_path: Path) -> None:
    image = Image(0, np.zeros((240, 320, 3), np.uint8), "rgb8")
    timer = threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT))
    writer = BagWriter(tmp_path / "bag")
    timer.start()
    with pytest.raises(KeyboardInterrupt), writer:
        _write_until(writer, image, 100_000, AssertionError("never interrupted"))
    with BagReader(tmp_path / "bag") as bag:
        arrivals = [message.arrival_ns for message in bag.messages()]
        assert arrivals == list(range(len(arrivals))) and abs(len(arrivals) - writer.message_count) <= 1
        for message in bag.messages():
            bag.decode(message)
    assert [each.name for each in tmp_path.iterdir()] == ["bag"]


def test_ctrl_c_while_closing_still_finishes_the_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.write("/cam", _image(1), 5)
    close, struck = writer._writer.close, threading.Event()

    def slow_close() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert struck.wait(10)
        close()

    monkeypatch.setattr(writer._writer, "close", slow_close)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    struck.set()
    writer._step.result(10)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.message_count == 1


def _fill_disk(writer: Any) -> None:
    """Lets the recording end at a device that is always full."""
    writer._step.result()
    storage = writer._writer.storage
    storage.bio.close()
    storage.bio = open("/dev/full", "wb")  # noqa: SIM115


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("count", [1, 400])
def test_a_full_disk_leaves_nothing(count: int, tmp_path: Path) -> None:
    image = Image(0, np.zeros((240, 320, 3), np.uint8), "rgb8")
    writer = BagWriter(tmp_path / "bag")
    _fill_disk(writer)
    sentence = r"bag could not be written \(No space left on device; \d+ MB free in .*make room"
    with pytest.raises(BagError, match=sentence), writer:
        _write_until(writer, image, count)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_does_not_hide_what_went_wrong_before(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    _fill_disk(writer)
    with pytest.raises(RuntimeError, match="first") as caught, writer:
        _write_until(writer, _image(1), 1, RuntimeError("first"))
    assert "No space left on device" in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BagError, match="could not be written"):
        BagWriter(tmp_path / "file" / "bag")


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
        assert [text.data.strip() for text in texts if isinstance(text, Text)] == [
            f"text {i}" for i in range(6)
        ]


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


def test_mcap_chunks_without_message_index_are_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_faulty_and_missing_definitions_spoil_one_topic_only(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        faulty = writer.add_connection(
            "/faulty", "a_msgs/msg/A", msgdef="no such ^ definition", rihs01="RIHS01_0"
        )
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
