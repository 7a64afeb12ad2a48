"""Bags: every recorded format, log order, bytes that survive copying, interruption, a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
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
    **{f"rosbag2_{kind}_talker": {"/topic": 10, "/rosout": 10, "/parameter_events": 0} for kind in ("mcap", "sqlite3")},
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
        assert [text.data for text in texts if isinstance(text, Text)] == [f"Hello, world! {i}" for i in range(10)]


@needs_data
def test_ties_keep_the_order_of_the_files() -> None:
    expected = []
    for file in sorted((DATA / "rosbag2_sqlite3_wbag").glob("*.db3")):
        connection = sqlite3.connect(f"file:{file}?immutable=1", uri=True)
        query = "SELECT name, timestamp, data FROM messages JOIN topics ON topics.id = topic_id ORDER BY messages.id"
        expected += connection.execute(query).fetchall()
        connection.close()
    expected.sort(key=lambda row: row[1])
    for name in ("rosbag2_sqlite3_wbag", "rosbag2_mcap_wbag"):
        with BagReader(DATA / name) as bag:
            assert [(m.topic, m.arrival_ns, bytes(m.raw)) for m in bag.messages()] == expected
            some = [(m.topic, m.arrival_ns, bytes(m.raw)) for m in bag.messages(["CCC", "AAA"])]
            assert some == [row for row in expected if row[0] in ("AAA", "CCC")]


@needs_data
@pytest.mark.parametrize("name", ["nav2_turtlebot.mcap", "rosbag2_mcap_wbag", "rosbag2_sqlite3_wbag", "tf_example"])
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


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT interrupts, also where pytest was started in the background by a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("delay", [0.02, 0.05, 0.11])
def test_ctrl_c_at_any_moment_leaves_a_whole_bag(delay: float, tmp_path: Path) -> None:
    image = Image(0, np.zeros((240, 320, 3), np.uint8), "rgb8")
    timer = threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT))
    writer = BagWriter(tmp_path / "bag")
    timer.start()
    with pytest.raises(KeyboardInterrupt), writer:
        _write_until(writer, image, 3_000, AssertionError("never interrupted"))
    with BagReader(tmp_path / "bag") as bag:
        arrivals = [message.arrival_ns for message in bag.messages()]
        assert arrivals == list(range(len(arrivals))) and abs(len(arrivals) - writer.message_count) <= 1
        for message in bag.messages():
            bag.decode(message)
    assert [each.name for each in tmp_path.iterdir()] == ["bag"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_closing_still_finishes_the_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.write("/cam", _image(1), 5)
    close, struck, main = writer._writer.close, threading.Event(), threading.get_ident()

    def slow_close() -> None:
        # To the main thread itself: a signal that another thread takes does not wake it from its wait.
        signal.pthread_kill(main, signal.SIGINT)
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
