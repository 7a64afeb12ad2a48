"""The main job on real recordings: convert, replay, evaluate, by the commands of the README."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_attn.bag import BagReader
from ros_attn.bag_info import describe
from ros_attn.cli import main
from ros_attn.perception.infrared_visible_fusion import alignment
from ros_attn.tf import TransformBuffer
from ros_attn.values import Array, CameraInfo, Transforms


@pytest.mark.parametrize("model", ["rule", "fast"])
def test_tno_from_folder_to_report(model: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through bag, component and report: the rule's published figures, and the model above the best of its rivals."""
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "pairs", str(data / "ivf_tno"), "tno"]) == 0
    assert main(["replay", "tno", "infrared_visible_fusion", "--model", model, "--out", "runs/tno"]) == 0
    assert main(["evaluate", "runs/tno"]) == 0
    means = json.loads(Path("runs/tno/evaluation.json").read_text())["metrics"]["run"]
    found = means["Q_min"]["mean"], means["VIF_min"]["mean"]
    if model == "rule":
        assert found == pytest.approx((0.353, 0.225), abs=0.001)
    else:
        # The pixelwise maximum has 0.361 and 0.252.
        assert found[0] > 0.365 and found[1] > 0.30
    assert Path("runs/tno/report.html").stat().st_size > 100_000


@pytest.mark.parametrize("folder", ["ivf_roadscene", "ivf_msrs", "ivf_m3fd", "ivf_llvip"])
def test_every_set_becomes_a_bag_and_is_fused(data: Path, tmp_path: Path, folder: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(sorted(path.stem for path in (data / folder / "vi").iterdir())[:4]))
    assert main(["convert", "pairs", str(data / folder), str(tmp_path / "bag"), "--names", str(names)]) == 0
    run = tmp_path / "run"
    assert main(["replay", str(tmp_path / "bag"), "infrared_visible_fusion", "--out", str(run)]) == 0
    count = len(names.read_text().splitlines())
    assert json.loads((run / "summary.json").read_text())["stages"]["infrared_visible_fusion"]["runs"]["steps"] == count
    named = ["--names-from", str(tmp_path / "bag")]
    assert main(["convert", "images", str(run / "outputs"), str(tmp_path / "png"), *named]) == 0
    assert sorted(path.stem for path in (tmp_path / "png" / "fused_image").iterdir()) == names.read_text().splitlines()


def test_kitti_from_folder_to_report(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor bag with calibration and /tf_static; the right camera stands in for the infrared one."""
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "kitti-raw", str(data / "ego_kitti_raw"), "kitti"]) == 0
    remaps = [
        flag
        for ours, theirs in (("visible", "left"), ("infrared", "right"))
        for topic, name in (("image", "image_raw"), ("camera_info", "camera_info"))
        for flag in ("--remap", f"{ours}/{topic}:=/kitti/camera_gray_{theirs}/{name}")
    ]
    frames = ["--visible-frame", "camera_gray_left_optical", "--infrared-frame", "camera_gray_right_optical"]
    flags = ["--align", "calibration", "--depth-m", "15", "--slop-s", "0.05", *remaps, *frames]
    assert main(["replay", "kitti", "infrared_visible_fusion", "--out", "runs/kitti", *flags]) == 0
    assert main(["evaluate", "runs/kitti", "--every", "10"]) == 0
    means = json.loads(Path("runs/kitti/evaluation.json").read_text())["metrics"]["run"]
    assert means["Q_min"]["mean"] > 0.3


BAGS = ("rosbag2_mcap_talker", "rosbag2_mcap_wbag", "rosbag2_sqlite3_talker", "rosbag2_sqlite3_wbag", "tf_example",
        "nav2_turtlebot.mcap", "jackal_imu_wheel.ros1.bag", "tilt_laser_imu_gps.ros1.bag")  # fmt: skip


@pytest.mark.parametrize("name", BAGS)
def test_every_recorded_bag_is_read_and_described(data: Path, name: str) -> None:
    text = describe(data / "bags" / name)
    with BagReader(data / "bags" / name) as bag:
        assert sum(1 for _ in bag.messages()) == bag.message_count > 0
        assert all(topic in text for topic in bag.topics)


def test_alignment_by_calibration_on_real_cameras(data: Path, tmp_path: Path) -> None:
    """KITTI's raw stereo pair: /tf_static and both distortions say where a left pixel lies in the right image.

    Matched features must differ from that along the epipolar line only; unaligned, rows differ by ten pixels.
    """
    assert main(["convert", "kitti-raw", str(data / "ego_kitti_raw"), str(tmp_path / "kitti")]) == 0
    buffer, infos, images = TransformBuffer(), {}, {}
    with BagReader(tmp_path / "kitti") as bag:
        for message in bag.messages():
            if message.topic == "/tf_static":
                value = bag.decode(message)
                assert isinstance(value, Transforms)
                buffer.add_all(value, static=True)
            elif message.topic.endswith(("image_raw", "camera_info")):
                value = bag.decode(message)
                found = infos if isinstance(value, CameraInfo) else images
                found.setdefault(message.topic.split("/")[2], value)
    left, right = infos["camera_gray_left"], infos["camera_gray_right"]
    T_right_left = buffer.lookup(right.frame_id, left.frame_id, 0)
    assert np.linalg.norm(T_right_left[:3, 3]) == pytest.approx(0.537, abs=0.001)
    in_left, in_right = matches(images["camera_gray_left"].data, images["camera_gray_right"].data)
    x, y = np.rint(in_left).astype(int).T

    def expected(depth_m: float) -> Array:
        made = alignment.by_calibration(left, right, T_right_left, depth_m)
        return np.stack([made.map_x[y, x], made.map_y[y, x]], axis=-1) + in_left - np.rint(in_left)

    at_depth, along = expected(15.0), expected(7.5) - expected(15.0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1) / np.linalg.norm(along, axis=1, keepdims=True)
    before = np.median(np.abs(in_left[:, 1] - in_right[:, 1]))
    after = np.median(np.abs(((in_right - at_depth) * across).sum(axis=1)))
    shift = in_right[:, 0] - at_depth[:, 0]
    print(f"{len(x)} features: rows differ by {before:.1f} px, aligned by {after:.2f} px across the epipolar line")
    assert len(x) > 200
    assert before > 8 and after < 0.8
    # Nearer than 15 m moves left, farther right, by at most f B / 15 m = 36 px.
    assert np.percentile(shift, 98) < 0.537 * 990 / 15 + 2


def matches(left: Array, right: Array) -> tuple[Array, Array]:
    """Pixels [N, 2] of features that are each other's best match."""
    sift = cv2.SIFT_create(2000)  # type: ignore[attr-defined]
    (a, da), (b, db) = (sift.detectAndCompute(each, None) for each in (left, right))
    pairs = cv2.BFMatcher(crossCheck=True).match(da, db)
    good = [pair for pair in pairs if pair.distance < 120]
    return np.array([a[p.queryIdx].pt for p in good]), np.array([b[p.trainIdx].pt for p in good])
