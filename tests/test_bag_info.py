"""The text of `ros-attn info`: figures of made-up and recorded bags."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ros_attn import bag_info
from ros_attn.bag import BagWriter
from ros_attn.bag_info import describe
from ros_attn.errors import BagError
from ros_attn.values import Image, Odometry, Pose, Text

DATA = Path(os.environ.get("ROS_ATTN_DATA", Path(__file__).resolve().parents[1] / "../shared/data")) / "bags"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded bags in {DATA} (ROS_ATTN_DATA)")

START = 1_700_000_000_250_000_000
MS = 1_000_000


def _rows(text: str) -> dict[str, list[str]]:
    """The cells of each topic's line: two spaces or more lie between two columns."""
    table = text.partition("\n\n")[2].splitlines()[1:]
    return {line.split()[0]: [cell.strip() for cell in line.split("  ") if cell.strip()] for line in table}


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    pixels = np.zeros((480, 640, 3), np.uint8)
    with BagWriter(tmp_path / "drive", latched=("/note",)) as writer:
        for index in range(21):
            # 10 Hz with one missing second after message 10, stamped 12 ms before arrival.
            arrival = START + index * 100 * MS + (1000 * MS if index > 10 else 0)
            writer.write("/camera/image", Image(arrival - 12 * MS, pixels, "rgb8", "camera"), arrival)
            zeros = np.zeros(3)
            odometry = Odometry(arrival, zeros, np.array([0, 0, 0, 1.0]), zeros, zeros)
            writer.write("/odom", odometry, arrival)
        writer.write("/note", Text(0, "x"), START)
        writer.write("/pose", Pose(START, zeros), START)
    return tmp_path / "drive"


def test_figures_of_a_bag(bag: Path) -> None:
    text = describe(bag)
    head = text.partition("\n\n")[0].splitlines()
    assert head[0] == f"bag       {bag} (mcap, 1 file, {bag.joinpath('drive.mcap').stat().st_size / 1e6:.1f} MB)"
    assert head[1] == "start     2023-11-14 22:13:20.250 UTC"
    assert head[2] == "duration  3.00 s, 44 messages"
    rows = _rows(text)
    assert rows["/camera/image"] == [
        "/camera/image",
        "sensor_msgs/msg/Image",
        "21",
        "6.7",
        "12.0 ms",
        "1, worst 1.10 s at 1.0 s",
        "rgb8 640x480; camera",
    ]
    assert rows["/odom"][4:] == ["0.0 ms", "1, worst 1.10 s at 1.0 s", "odom→base_link"]
    assert rows["/note"] == ["/note", "std_msgs/msg/String", "1", "-", "-", "-", "latched"]
    assert rows["/pose"][-1] == "(no frame)"


def test_columns_are_aligned(bag: Path) -> None:
    table = describe(bag).partition("\n\n")[2].splitlines()
    at = table[0].index("type")
    assert all(line[at - 2 : at] == "  " and line[at] != " " for line in table)
    right = table[0].index("count") + len("count")
    assert all(line[right - 1].strip() and line[right] == " " for line in table)


def test_a_long_bag_is_described_by_its_beginning(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bag_info, "_MOST_BYTES", 4 * 921_000)
    text = describe(bag)
    assert "note      rates, offsets and gaps are of the first 0.3 s" in text
    assert _rows(text)["/camera/image"][2:4] == ["21", "10.0"]


def test_flaws_are_told(bag: Path, tmp_path: Path) -> None:
    (bag / "metadata.yaml").unlink()
    assert "warning   " in describe(bag) and "drive.mcap is read alone" in describe(bag)
    with pytest.raises(BagError, match="does not exist"):
        describe(tmp_path / "none")


@needs_data
def test_recorded_bags_are_described() -> None:
    rows = _rows(describe(DATA / "jackal_imu_wheel.ros1.bag"))
    assert rows["/imu/data"][1:] == ["sensor_msgs/msg/Imu", "3061", "50.0", "0.0 ms", "0", "base_link"]
    text = describe(DATA / "rosbag2_sqlite3_talker")
    # Recorded by ROS 2 Foxy, whose Log message was another one, without definitions.
    assert "warning   /rosout: the message at 1585866235112411371 ns is no rcl_interfaces/msg/Log" in text
    assert _rows(text)["/rosout"][-1] == "latched; no codec; 10 undecodable"
    assert "no codec" in _rows(describe(DATA / "tilt_laser_imu_gps.ros1.bag"))["/scan"][-1]
    assert _rows(describe(DATA / "tf_example"))["/tf"][-1] == "odom→base_footprint"
