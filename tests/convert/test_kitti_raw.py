"""KITTI raw to a bag: stamps, calibration, frames and ground truth; on real files the geometry itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ros_attn.bag import BagReader
from ros_attn.convert.conversion import ConversionError
from ros_attn.convert.kitti_raw import kitti_raw_to_bag
from ros_attn.geometry import Float, quaternion_from_matrix, transform_points
from ros_attn.tf import TransformBuffer
from ros_attn.values import CameraInfo, Image, PointCloud
from tests.convert import kitti_recording as recording

START_NS = 1317045935 * 10**9  # 2011-09-26 14:05:35 UTC


class Bag:
    """A whole bag in memory: values by topic, and its transforms."""

    def __init__(self, path: Path) -> None:
        self.values: dict[str, list[Any]] = {}
        self.arrivals: list[int] = []
        self.transforms = TransformBuffer(cache_s=1e6)
        with BagReader(path) as reader:
            self.latched = {name for name, info in reader.topics.items() if info.transient_local}
            self.types = {name: info.msgtype for name, info in reader.topics.items()}
            for message in reader.messages():
                value: Any = reader.decode(message)
                self.values.setdefault(message.topic, []).append(value)
                self.arrivals.append(message.arrival_ns)
                if message.topic in ("/tf", "/tf_static"):
                    assert self.transforms.add_all(value, static=message.topic == "/tf_static")
                else:
                    assert value.stamp_ns == message.arrival_ns

    def __getitem__(self, topic: str) -> Sequence[Any]:
        return self.values[topic]

    def pose(self, target: str, source: str) -> Float:
        return self.transforms.lookup(target, source, 0)


def extract(folder: Path, merged: bool = True) -> Path:
    """An unsynchronised recording: two cameras, one scan of each spelling, packets of 100 Hz."""
    recording.write_calibration(folder, merged)
    for camera in (0, 1):
        recording.write_images(folder, camera, range(2, 5), recording.RAW)
    recording.write_scan(folder, 3, points=5)
    recording.write_scan(folder, 4, points=7, text=True)
    recording.write_packets(folder, [20, 21, 25])
    return folder


def test_extract(tmp_path: Path) -> None:
    result = kitti_raw_to_bag(extract(tmp_path / "drive"), tmp_path / "bag", ground_truth_tf=True)
    assert result.counts == {
        "/kitti/camera_gray_left/camera_info": 3,
        "/kitti/camera_gray_left/image_raw": 3,
        "/kitti/camera_gray_right/camera_info": 3,
        "/kitti/camera_gray_right/image_raw": 3,
        "/kitti/oxts/imu": 3,
        "/kitti/oxts/odometry": 3,
        "/kitti/oxts/twist": 3,
        "/kitti/velo/pointcloud": 2,
        "/tf": 3,
        "/tf_static": 1,
    }
    assert result.remarks == (
        "image_02/data has no images: no /kitti/camera_color_left",
        "image_03/data has no images: no /kitti/camera_color_right",
        "velodyne_points has no timestamps.txt: stamps are nominal, those of the camera frames of that number",
        "oxts has no timestamps.txt: stamps are nominal, 10 ms a number after frame 0",
        "oxts: 3 of the numbers 20 to 25 are absent",
    )
    bag = Bag(tmp_path / "bag")
    assert bag.arrivals == sorted(bag.arrivals)
    assert bag.latched == {"/tf_static"}
    assert bag.types["/kitti/oxts/twist"] == "geometry_msgs/msg/TwistStamped"
    left, right = bag["/kitti/camera_gray_left/image_raw"], bag["/kitti/camera_gray_right/image_raw"]
    assert [image.stamp_ns - START_NS for image in left] == [200_000_123, 300_000_123, 400_000_123]
    assert [image.stamp_ns - START_NS for image in right] == [200_010_123, 300_010_123, 400_010_123]
    assert [(int(image.data[0, 0]), image.encoding) for image in left] == [(k, "mono8") for k in (2, 3, 4)]
    clouds = bag["/kitti/velo/pointcloud"]
    assert [cloud.stamp_ns for cloud in clouds] == [left[1].stamp_ns, left[2].stamp_ns]
    for cloud, points in zip(clouds, (5, 7), strict=True):
        assert cloud.points.dtype.names == ("x", "y", "z", "intensity")
        np.testing.assert_array_equal(cloud.xyz, recording.scan(points)[:, :3])
        np.testing.assert_array_equal(cloud.points["intensity"], 0.25)
    imu = bag["/kitti/oxts/imu"]
    assert [each.stamp_ns - START_NS for each in imu] == [200_000_123, 210_000_123, 250_000_123]


def test_extract_calibration(tmp_path: Path) -> None:
    kitti_raw_to_bag(extract(tmp_path / "drive"), tmp_path / "bag")
    bag = Bag(tmp_path / "bag")
    info = bag["/kitti/camera_gray_right/camera_info"][0]
    assert (info.width, info.height, info.frame_id) == (16, 10, "camera_gray_right_optical")
    np.testing.assert_array_equal(info.k, [[100, 0, 8], [0, 101, 5], [0, 0, 1]])
    np.testing.assert_array_equal(info.d, [-0.3, 0.2, 0.001, 0.002, -0.05])
    np.testing.assert_array_equal(info.r, np.eye(3))
    np.testing.assert_array_equal(info.p, [[120, 0, 6, -60], [0, 120, 4, 0], [0, 0, 1, 0]])
    # By hand: a point 10 m ahead of the Velodyne, 1 m to the left and 0.5 m up.
    point = np.array([[10.0, 1.0, 0.5]])
    in_left = transform_points(bag.pose("camera_gray_left_optical", "velo_link"), point)
    np.testing.assert_allclose(in_left, [[-1.0, -0.58, 9.73]], atol=1e-12)
    in_right = transform_points(bag.pose("camera_gray_right_optical", "velo_link"), point)
    np.testing.assert_allclose(in_right, [[-1.5, -0.57, 9.75]], atol=1e-12)
    in_base = transform_points(bag.pose("base_link", "velo_link"), point)
    np.testing.assert_allclose(in_base, [[10.8, 0.7, 1.3]], atol=1e-12)
    np.testing.assert_array_equal(bag.pose("base_link", "imu_link"), np.eye(4))


def test_official_and_merged_calibration_are_one(tmp_path: Path) -> None:
    """The official three files, in the day's folder above the drive as in the downloads."""
    merged, official = extract(tmp_path / "merged"), extract(tmp_path / "2011_09_26" / "drive")
    for path in official.glob("calib*.txt"):
        path.unlink()
    recording.write_calibration(official.parent, merged=False)
    bags = []
    for folder, name in ((merged, "a"), (official, "b")):
        kitti_raw_to_bag(folder, tmp_path / name)
        bags.append(Bag(tmp_path / name))
    for frame in ("velo_link", "camera_gray_left_optical", "camera_gray_right_optical"):
        np.testing.assert_array_equal(bags[0].pose("base_link", frame), bags[1].pose("base_link", frame))
    for field in "kdrp":
        a, b = (getattr(bag["/kitti/camera_gray_left/camera_info"][0], field) for bag in bags)
        np.testing.assert_array_equal(a, b)


def test_sync(tmp_path: Path) -> None:
    """Rectified: projecting with the bag's k and frame is the readme's P_rect R_rect_00 T_cam0_velo x."""
    folder = tmp_path / "2011_09_26_drive_0001_sync"
    recording.write_calibration(folder, merged=False)
    for camera in (0, 1, 2):
        recording.write_images(folder, camera, range(3), recording.RECTIFIED)
    recording.write_scan(folder, 1, points=3)
    recording.write_times(folder / "velodyne_points", 3, offset_us=50)
    recording.write_packets(folder, [0, 2], timed=True)
    result = kitti_raw_to_bag(folder, tmp_path / "bag.mcap")
    assert [remark for remark in result.remarks if "nominal" in remark] == []
    bag = Bag(tmp_path / "bag.mcap")
    assert bag["/kitti/velo/pointcloud"][0].stamp_ns == START_NS + 100_050_123
    assert [each.stamp_ns - START_NS for each in bag["/kitti/oxts/imu"]] == [7_123, 200_007_123]
    assert bag["/kitti/camera_color_left/image_raw"][0].encoding == "rgb8"
    point = np.array([10.0, 1.0, 0.5])
    velodyne = np.array([float(n) for n in recording.VELO_TO_CAM[0].split()]).reshape(3, 3)
    in_camera_0 = velodyne @ point + [0, -0.08, -0.27]
    rectify = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for camera, name in ((0, "gray_left"), (1, "gray_right"), (2, "color_left")):
        info = bag[f"/kitti/camera_{name}/camera_info"][0]
        assert (info.width, info.height) == recording.RECTIFIED
        np.testing.assert_array_equal(info.d, np.zeros(5))
        np.testing.assert_array_equal(info.r, np.eye(3))
        projection = np.array([[120, 0, 6, float(recording.CAMERAS[camera][1])], [0, 120, 4, 0], [0, 0, 1, 0]])
        np.testing.assert_array_equal(info.p, projection)
        expected = projection @ [*(rectify @ in_camera_0), 1.0]
        pose = bag.pose(f"camera_{name}_optical", "velo_link")
        pixel = info.k @ transform_points(pose, point[None])[0]
        np.testing.assert_allclose(pixel[:2] / pixel[2], expected[:2] / expected[2], atol=1e-12)


def test_sync_packets_without_times_take_the_frames(tmp_path: Path) -> None:
    folder = tmp_path / "drive_sync"
    recording.write_calibration(folder, merged=True)
    recording.write_images(folder, 0, range(3), recording.RECTIFIED)
    recording.write_packets(folder, [1, 2])
    result = kitti_raw_to_bag(folder, tmp_path / "bag")
    assert any(remark.startswith("oxts has no timestamps.txt: stamps are nominal, those") for remark in result.remarks)
    stamps = [each.stamp_ns - START_NS for each in Bag(tmp_path / "bag")["/kitti/oxts/imu"]]
    assert stamps == [100_000_123, 200_000_123]


def test_scan_frame_offset_moves_nominal_stamps(tmp_path: Path) -> None:
    result = kitti_raw_to_bag(extract(tmp_path / "drive"), tmp_path / "bag", scan_frame_offset=1)
    bag = Bag(tmp_path / "bag")
    assert [cloud.stamp_ns - START_NS for cloud in bag["/kitti/velo/pointcloud"]] == [
        400_000_123,
        500_000_123,
    ]
    assert any(remark.endswith("camera frames of that number plus 1") for remark in result.remarks)


def test_oxts_values_and_frames(tmp_path: Path) -> None:
    folder = extract(tmp_path / "drive")
    moved = recording.PACKET.replace("49.0 8.4 110", "49.0001 8.4002 111").split()
    (folder / "oxts" / "data" / "0000000021.txt").write_text(" ".join(moved))
    kitti_raw_to_bag(folder, tmp_path / "bag", ground_truth_tf=True)
    bag = Bag(tmp_path / "bag")
    body = Rotation.from_euler("xyz", [0.02, -0.03, 0.5])
    imu = bag["/kitti/oxts/imu"][0]
    assert imu.frame_id == "imu_link"
    np.testing.assert_array_equal(imu.linear_acceleration, [1, 2, 9.8])
    np.testing.assert_array_equal(imu.angular_velocity, [0.01, 0.02, 0.03])
    np.testing.assert_allclose(imu.orientation, body.as_quat(), atol=1e-15)
    odometry = bag["/kitti/oxts/odometry"]
    assert (odometry[0].frame_id, odometry[0].child_frame_id) == ("map", "base_link")
    np.testing.assert_array_equal(odometry[0].position, [0, 0, 0])
    # On a sphere of 6378137 m, to first order: north r dlat, east r cos(lat) dlon.
    north, east = 6378137 * np.deg2rad(1e-4), 6378137 * np.cos(np.deg2rad(49.0)) * np.deg2rad(2e-4)
    np.testing.assert_allclose(odometry[1].position, [east, north, 1.0], rtol=2e-5)
    np.testing.assert_allclose(body.apply(odometry[0].linear), [3, 4, 0.2], atol=1e-14)  # ve vn vu
    twist = bag["/kitti/oxts/twist"][0]
    level = Rotation.from_euler("xyz", [0.02, -0.03, 0.0])
    np.testing.assert_allclose(level.apply(twist.linear), [5, 0.1, 0.2], atol=1e-14)
    np.testing.assert_allclose(level.apply(twist.angular), [0.01, 0.02, 0.03], atol=1e-14)
    assert twist.frame_id == "base_link"
    pose = bag.transforms.lookup("map", "base_link", odometry[1].stamp_ns)
    np.testing.assert_allclose(pose[:3, 3], odometry[1].position, atol=1e-12)


def test_damaged_and_missing_pieces_are_named(tmp_path: Path) -> None:
    folder = extract(tmp_path / "drive")
    calibration = folder / "calib_2011_09_26.txt"
    calibration.write_text("\n".join(n for n in calibration.read_text().splitlines() if "imu_to_velo" not in n))
    (folder / "image_00" / "data" / "0000000002.png").write_bytes(b"\x89PNG")
    (folder / "velodyne_points" / "data" / "0000000003.bin").write_bytes(b"abc")
    (folder / "oxts" / "data" / "0000000020.txt").write_text("1 2 nan")
    (folder / "image_01" / "timestamps.txt").unlink()
    recording.write_times(folder / "image_00", 4)
    result = kitti_raw_to_bag(folder, tmp_path / "bag")
    nominal = "has no timestamps.txt: stamps are nominal, those of the camera frames of that number"
    assert result.remarks == (
        "image_00: 1 files have a number without a stamp and are left out",
        f"image_01 {nominal}",
        "image_01: 1 files have a number without a stamp and are left out",
        "image_02/data has no images: no /kitti/camera_color_left",
        "image_03/data has no images: no /kitti/camera_color_right",
        "calibration lacks imu_to_velo: base_link and velo_link are not connected",
        f"velodyne_points {nominal}",
        "velodyne_points: 1 files have a number without a stamp and are left out",
        "oxts: 1 packets have not 30 finite numbers and are left out",
        "oxts has no timestamps.txt: stamps are nominal, 10 ms a number after frame 0",
        "oxts: 3 of the numbers 21 to 25 are absent",
        "/kitti/camera_gray_left/image_raw: 1 files are damaged and left out",
        "/kitti/velo/pointcloud: 1 files are damaged and left out",
    )
    bag = Bag(tmp_path / "bag")
    assert bag.transforms.ready("camera_gray_left_optical", "velo_link", 0)
    assert not bag.transforms.ready("base_link", "velo_link", 0)


def test_without_calibration(tmp_path: Path) -> None:
    folder = tmp_path / "drive_extract"
    recording.write_images(folder, 0, range(2), recording.RAW)
    recording.write_packets(folder, [1])
    result = kitti_raw_to_bag(folder, tmp_path / "bag")
    assert result.remarks[0] == f"no calib*.txt in {folder} or above it: no camera_info, no /tf_static"
    assert "/kitti/camera_gray_left/camera_info" not in result.counts
    assert result.counts["/kitti/oxts/imu"] == 1


def test_images_of_a_third_size_have_no_calibration(tmp_path: Path) -> None:
    recording.write_calibration(tmp_path / "drive", merged=True)
    recording.write_images(tmp_path / "drive", 0, range(2), (20, 20))
    recording.write_packets(tmp_path / "drive", [1])
    result = kitti_raw_to_bag(tmp_path / "drive", tmp_path / "bag")
    assert (
        "camera_gray_left: images are 20x20, calibration is for 16x10, 12x8: no camera_info, no link" in result.remarks
    )
    # Neither size nor name says whether packets are of 100 Hz.
    assert "oxts has no timestamps.txt and none can stand in: 1 files left out" in result.remarks


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="drive does not exist"):
        kitti_raw_to_bag(tmp_path / "drive", tmp_path / "bag")
    (tmp_path / "drive").mkdir()
    with pytest.raises(ConversionError, match="holds no KITTI raw data that could be written: no calib"):
        kitti_raw_to_bag(tmp_path / "drive", tmp_path / "bag")
    extract(tmp_path / "drive")
    times = tmp_path / "drive" / "image_00" / "timestamps.txt"
    times.write_text("2011-09-26 14:05:35.5\nyesterday\n")
    with pytest.raises(ConversionError, match=r"timestamps\.txt, line 2: 'yesterday' is no time such as"):
        kitti_raw_to_bag(tmp_path / "drive", tmp_path / "bag")
    recording.write_times(times.parent, 5)
    calibration = tmp_path / "drive" / "calib_2011_09_26.txt"
    calibration.write_text(calibration.read_text() + "\nK_00: 1 2 3\n")
    with pytest.raises(ConversionError, match="calibration entry K_00 has 3 numbers, not 9"):
        kitti_raw_to_bag(tmp_path / "drive", tmp_path / "bag")
    (tmp_path / "bag").mkdir()
    with pytest.raises(ConversionError, match="bag exists"):
        kitti_raw_to_bag(extract(tmp_path / "other"), tmp_path / "bag")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "drive", "other"]


# Real files. Of this copy the Velodyne's timestamps are lost, and its scan k belongs to frame k + 2: with any
# other offset depth edges miss the picture's edges, as test_depth_edges_meet_image_edges shows for 0.
SCAN_FRAME_OFFSET = 2


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Bag:
    path = tmp_path_factory.mktemp("kitti") / "bag"
    result = kitti_raw_to_bag(data / "ego_kitti_raw", path, scan_frame_offset=SCAN_FRAME_OFFSET)
    assert result.counts["/kitti/camera_gray_left/image_raw"] == 26
    assert result.counts["/kitti/oxts/odometry"] == 61
    assert result.counts["/kitti/velo/pointcloud"] == 4
    return Bag(path)


def project(bag: Bag, cloud: PointCloud, camera: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, points in the camera's frame and their numbers, of the points within its field of view."""
    info: CameraInfo = bag[f"/kitti/{camera}/camera_info"][0]
    points = transform_points(bag.pose(info.frame_id, cloud.frame_id), cloud.xyz)
    # Beyond 33 degrees the distortion polynomial folds over and would put points back into the picture.
    ahead = np.flatnonzero((points[:, 2] > 1) & (np.abs(points[:, 0]) < 0.65 * points[:, 2]))
    pixels = cv2.projectPoints(points[ahead], np.zeros(3), np.zeros(3), info.k, info.d)[0][:, 0]
    inside = ((pixels > 5) & (pixels < [info.width - 6, info.height - 6])).all(axis=1)
    return pixels[inside], points[ahead][inside], ahead[inside]


def frame_of(bag: Bag, camera: str, stamp_ns: int) -> Image:
    return min(bag[f"/kitti/{camera}/image_raw"], key=lambda image: abs(image.stamp_ns - stamp_ns))


def test_points_ahead_fall_into_the_picture(drive: Bag) -> None:
    for cloud in drive["/kitti/velo/pointcloud"]:
        pixels, points, _ = project(drive, cloud, "camera_gray_left")
        assert 14_000 < len(pixels) < 20_000
        # The road 0.93 m below the OXTS unit, as KITTI's sensor drawing says.
        road = points[(np.abs(points[:, 0]) < 1.5) & (points[:, 1] > 1) & (points[:, 2] < 15)]
        in_base = transform_points(drive.pose("base_link", "camera_gray_left_optical"), road)
        assert np.median(in_base[:, 2]) == pytest.approx(-0.93, abs=0.1)


def test_baseline(drive: Bag) -> None:
    pose = drive.pose("camera_gray_left_optical", "camera_gray_right_optical")
    assert np.linalg.norm(pose[:3, 3]) == pytest.approx(0.537, abs=5e-4)
    assert pose[0, 3] == pytest.approx(0.537, abs=2e-3)  # the right camera lies to the right


def test_rectified_rows_agree(drive: Bag) -> None:
    """Through frames, r and p of both cameras a point has one row and a disparity of fx 0.5372 / z."""
    points = np.array([[x, y, z] for x in (-4.0, 0, 5) for y in (-1.0, 1.5) for z in (4.0, 12, 40)])
    rectified = []
    for camera in ("camera_gray_left", "camera_gray_right"):
        info: CameraInfo = drive[f"/kitti/{camera}/camera_info"][0]
        pose = drive.pose(info.frame_id, "camera_gray_left_optical")
        turned = transform_points(pose, points) @ info.r.T
        pixels = turned @ info.p[:, :3].T
        rectified.append(pixels[:, :2] / pixels[:, 2:])
        depth = turned[:, 2]
    assert np.abs(rectified[0][:, 1] - rectified[1][:, 1]).max() < 0.02
    info = drive["/kitti/camera_gray_right/camera_info"][0]
    disparity = rectified[0][:, 0] - rectified[1][:, 0]
    np.testing.assert_allclose(disparity, -info.p[0, 3] / depth, atol=0.03)
    assert -info.p[0, 3] / info.p[0, 0] == pytest.approx(0.5372, abs=1e-4)


def test_laser_depth_is_stereo_depth(drive: Bag) -> None:
    """Where the patch around a point is found again in the right image, against where the point falls."""
    rng = np.random.default_rng(0)
    half, reach = 9, 12
    errors = []
    for cloud in drive["/kitti/velo/pointcloud"]:
        left = frame_of(drive, "camera_gray_left", cloud.stamp_ns).data
        right = frame_of(drive, "camera_gray_right", cloud.stamp_ns).data
        pixels, points, numbers = project(drive, cloud, "camera_gray_left")
        in_right, _, also = project(drive, cloud, "camera_gray_right")
        _, a, b = np.intersect1d(numbers, also, return_indices=True)
        for at, to in rng.permutation(np.stack([a, b], axis=1))[:600]:
            x, y = np.round(pixels[at]).astype(int)
            expected = in_right[to] + ((x, y) - pixels[at])
            u, v = np.round(expected).astype(int)
            patch = left[y - half : y + half + 1, x - half : x + half + 1]
            window = right[v - half - reach : v + half + reach + 1, u - half - reach : u + half + reach + 1]
            if points[at, 2] > 30 or window.shape != (2 * (half + reach) + 1,) * 2 or patch.shape[0] < 2 * half + 1:
                continue
            if patch.shape[1] < 2 * half + 1 or patch.std() < 15:
                continue
            score = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
            _, best, _, (dx, dy) = cv2.minMaxLoc(score)
            if best > 0.9:
                errors.append(np.array([u + dx - reach, v + dy - reach]) - expected)
    assert len(errors) > 200
    assert np.abs(np.median(errors, axis=0)).max() < 1.0


def edge_agreement(bag: Bag, frames_earlier: int) -> np.ndarray:
    """How close to image edges laser silhouettes lie (1 on an edge), by columns shifted: -8, -6, …, 8 px."""
    shifts = np.arange(-8, 9, 2)
    total, count = np.zeros(len(shifts)), 0
    images = [image.stamp_ns for image in bag["/kitti/camera_gray_left/image_raw"]]
    for cloud in bag["/kitti/velo/pointcloud"]:
        at = images[images.index(cloud.stamp_ns) - frames_earlier]
        picture = cv2.GaussianBlur(frame_of(bag, "camera_gray_left", at).data, (0, 0), 1.0)
        distance = cv2.distanceTransform(255 - cv2.Canny(picture, 80, 200), cv2.DIST_L2, 3)
        pixels, points, numbers = project(bag, cloud, "camera_gray_left")
        reach = np.linalg.norm(points, axis=1)
        step = np.abs(np.diff(pixels, axis=0))
        neighbours = (np.diff(numbers) == 1) & (step[:, 0] < 15) & (step[:, 1] < 4)
        jump = np.flatnonzero(neighbours & (np.abs(np.diff(reach)) > 1.5))
        nearer = np.where(reach[jump] < reach[jump + 1], jump, jump + 1)
        nearer = nearer[(reach[nearer] < 30) & (points[nearer, 1] < 1.3)]
        columns, rows = np.round(pixels[nearer]).astype(int).T
        for k, shift in enumerate(shifts):
            x = np.clip(columns + shift, 0, picture.shape[1] - 1)
            total[k] += np.exp(-distance[rows, x] / 3).sum()
        count += len(nearer)
    assert count > 250
    return total / count


def test_depth_edges_meet_image_edges(drive: Bag) -> None:
    agreement = edge_agreement(drive, frames_earlier=0)
    assert abs(int(np.argmax(agreement)) - 4) <= 1  # best unshifted, to 2 px
    assert agreement[4] > 1.1 * max(agreement[0], agreement[-1])
    assert edge_agreement(drive, frames_earlier=2).max() < 0.9 * agreement.max()


def test_positions_are_the_integral_of_the_speeds(drive: Bag) -> None:
    odometry = drive["/kitti/oxts/odometry"]
    stamps = np.array([each.stamp_ns for each in odometry]) / 1e9
    positions = np.array([each.position for each in odometry])
    turn = Rotation.from_quat([each.orientation for each in odometry])
    speeds = turn.apply([each.linear for each in odometry])
    steps = np.diff(positions, axis=0)
    expected = (speeds[1:] + speeds[:-1]) / 2 * np.diff(stamps)[:, None]
    assert np.abs(steps - expected)[:, :2].max() < 0.02  # m, over steps of up to 0.2 s at 9 m/s
    ahead = np.array([each.linear[0] for each in drive["/kitti/oxts/twist"]])
    travelled = float(np.sum((ahead[1:] + ahead[:-1]) / 2 * np.diff(stamps)))
    assert np.linalg.norm(steps[:, :2], axis=1).sum() == pytest.approx(travelled, rel=0.01)
    yaw = np.unwrap(turn.as_euler("ZYX")[:, 0])
    rates = np.array([each.angular_velocity[2] for each in drive["/kitti/oxts/imu"]])
    turned = (rates[1:] + rates[:-1]) / 2 * np.diff(stamps)
    np.testing.assert_allclose(np.diff(yaw), turned, atol=0.004)


def test_imu_measures_gravity_in_its_own_frame(drive: Bag) -> None:
    for imu in drive["/kitti/oxts/imu"][::20]:
        assert Rotation.from_quat(imu.orientation).apply(imu.linear_acceleration)[2] == pytest.approx(9.8, abs=1.5)


def test_twist_is_turned_from_level_to_body(drive: Bag) -> None:
    """Level rates turned by roll and pitch are the body rates, which the packet gives too."""
    level = np.array([each.angular for each in drive["/kitti/oxts/twist"]])
    body = np.array([each.angular_velocity for each in drive["/kitti/oxts/imu"]])
    assert np.abs(level - body).max() < 1e-3


def test_rotations_of_the_calibration_are_rotations(drive: Bag) -> None:
    for link in drive["/tf_static"][0].transforms:
        pose = drive.pose(link.frame_id, link.child_frame_id)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.abs(quaternion_from_matrix(pose[:3, :3]) @ link.rotation), 1.0, atol=1e-12)
