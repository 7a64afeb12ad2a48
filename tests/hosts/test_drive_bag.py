"""The simulated drive as a bag: topics, clocks, calibration that fits, and fusion through all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from ros_attn.bag import BagReader
from ros_attn.graph import single
from ros_attn.hosts.drive_bag import record_drive
from ros_attn.hosts.replay import Replay
from ros_attn.sim.drive import DriveConfig
from ros_attn.tf import TransformBuffer
from ros_attn.values import CameraInfo, Image, Odometry, Transforms, field_bytes

SMALL = DriveConfig(duration_s=2.0, width=160, height=120, thermal_width=80, thermal_height=64, thermal_fovy_deg=57.0)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drive") / "bag"
    done = record_drive(path, SMALL, "rays", truth=True)
    assert (done.backend, done.visible_frames) == ("rays", 20)
    assert done.thermal_frames == 15  # the shutter was closed from 1.44 s to 2 s
    return path


def test_topics_and_arrivals(drive: Path) -> None:
    with BagReader(drive) as bag:
        counts = {topic: info.count for topic, info in bag.topics.items()}
        assert counts["/imu/data"] == 200 and counts["/wheel/twist"] == counts["/odometry"] == 100
        assert counts["/truth/depth"] == counts["/visible/image"] == 20
        for message in bag.messages(["/infrared/image"]):
            image = bag.decode(message)
            assert isinstance(image, Image) and image.encoding == "mono16"
            assert message.arrival_ns - image.stamp_ns == 25_000_000
            assert 260 < image.data.mean() * 0.01 < 310  # kelvin


def test_transforms_agree_with_odometry(drive: Path) -> None:
    buffer = TransformBuffer()
    with BagReader(drive) as bag:
        for message in bag.messages(["/tf", "/tf_static"]):
            value = bag.decode(message)
            assert isinstance(value, Transforms)
            buffer.add_all(value, static=message.topic == "/tf_static")
        [info] = [bag.decode(message) for message in bag.messages(["/visible/camera_info"])]
        assert isinstance(info, CameraInfo) and info.calibrated and (info.width, info.height) == (160, 120)
        for message in bag.messages(["/odometry"]):
            pose = bag.decode(message)
            assert isinstance(pose, Odometry)
            T = buffer.lookup("odom", info.frame_id, pose.stamp_ns)
            mount = buffer.lookup("base_link", info.frame_id, pose.stamp_ns)
            base = T @ np.linalg.inv(mount)
            np.testing.assert_allclose(base[:3, 3], pose.position, atol=1e-9)
            assert T[:3, 2] @ base[:3, 0] > 0.99  # the optical axis looks ahead


def test_fusion_by_calibration_over_it(drive: Path) -> None:
    frames = {"infrared_frame": "thermal_optical_frame", "visible_frame": "visible_optical_frame"}
    with BagReader(drive) as bag:
        replay = Replay(bag, single("infrared_visible_fusion", {"align": "calibration", **frames}))
        records = list(replay.steps())
    missing = ["infrared" in record.conditions for record in records]
    assert missing.count(False) == 15
    assert missing.count(True) == 2  # those whose patience ran out before the bag ended
    assert records[0].figures["infrared_coverage"] == pytest.approx(1.0, abs=0.01)
    fused = records[3].outputs["fused"]
    assert isinstance(fused, Image) and fused.data.shape == (120, 160, 3)


def test_the_same_seed_gives_the_same_messages(drive: Path, tmp_path: Path) -> None:
    record_drive(tmp_path / "again", SMALL, "rays", truth=True)
    digests = []
    for path in (drive, tmp_path / "again"):
        with BagReader(path) as bag:
            digests.append([(m.topic, m.arrival_ns, field_bytes(bag.decode(m))) for m in bag.messages()])
    assert digests[0] == digests[1]
