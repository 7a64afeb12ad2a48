"""A KITTI raw recording to a bag: cameras, Velodyne, OXTS, calibration.

Frames (REP-103, REP-105): ``base_link`` is the OXTS unit (x ahead, y left, z up), as is ``imu_link``; below
it on ``/tf_static`` hang ``velo_link`` and the optical frame of each camera (z ahead, x right, y down).
``map`` is east-north-up with its origin at the first OXTS packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from ros_attn.bag import BagWriter
from ros_attn.convert.conversion import Conversion, ConversionError, existing_folder, new_output
from ros_attn.convert.image_files import encoding_of, read_pixels
from ros_attn.convert.kitti_files import (
    mercator,
    numbered,
    read_calibration,
    read_packet,
    read_scan,
    read_timestamps,
)
from ros_attn.errors import listed
from ros_attn.geometry import (
    Float,
    pose_invert,
    quaternion_from_euler,
    quaternion_from_matrix,
    quaternion_to_matrix,
)
from ros_attn.values import (
    CameraInfo,
    Image,
    Imu,
    Odometry,
    PointCloud,
    Transform,
    Transforms,
    Twist,
    Value,
)

_CAMERAS = {0: "camera_gray_left", 1: "camera_gray_right", 2: "camera_color_left", 3: "camera_color_right"}
_OXTS_PERIOD_NS = 10_000_000
_MSGTYPES: dict[type[Value], str] = {Twist: "geometry_msgs/msg/TwistStamped"}


@dataclass(frozen=True)
class _Event:
    """A message to come; its file is read when it is written, so that a drive need not fit into memory."""

    stamp_ns: int
    topic: str
    read: Callable[[], Value | None]


def kitti_raw_to_bag(
    folder: str | Path, out: str | Path, ground_truth_tf: bool = False, scan_frame_offset: int = 0
) -> Conversion:
    """Write a KITTI raw drive (``*_extract`` or ``*_sync``) as a bag, in order of the stamps.

    Topics: ``/kitti/camera_{gray,color}_{left,right}/image_raw`` and ``camera_info``;
    ``/kitti/velo/pointcloud`` (x y z [m], intensity 0..1); ``/kitti/oxts/imu`` (specific force [m/s²],
    angular velocity [rad/s], orientation in ``map``); ``/kitti/oxts/twist``; ``/kitti/oxts/odometry``, the
    ground truth; ``/tf_static``; with ``ground_truth_tf`` also ``map`` to ``base_link`` on ``/tf``. Arrivals
    are the stamps.

    Stamps come from each sensor's ``timestamps.txt``, local time taken as UTC. Where that is absent they are
    nominal, and a remark says so: for a camera the stamp of another camera's frame of that number; for a scan
    that of the frame of its number plus ``scan_frame_offset`` (the Velodyne triggers the cameras when it
    faces ahead, but an unsynchronised recording need not count both from the same moment); for a packet of an
    unsynchronised recording that of frame 0 plus 10 ms times its number, of a synchronised one that of the
    frame of its number.

    Whether images are rectified is told by their size (``S_0i`` or ``S_rect_0i``). Raw: ``k`` and ``d`` are
    the camera's; ``r`` and ``p`` rectify to KITTI's own picture, which lies in the upper left of one of the
    raw size. Rectified: ``k`` is the left of ``p``, ``d`` zero. ``p[0, 3]`` refers to camera 0 throughout.

    Position is Mercator with the scale of the first latitude, orientation ``Rz(yaw) Ry(pitch) Rx(roll)`` with
    yaw 0 to the east. Source: convertOxtsToPose.m of the raw development kit; deviation: axes stay east and
    north, where that turns the world to the first pose. The odometry's twist is ``ve vn vu`` and ``wx wy wz``
    in ``base_link``, the derivative of the poses. The twist topic is ``vf vl vu`` and ``wf wl wu``, which are
    level, turned by roll and pitch into ``base_link``. Covariances are zero, that is unknown.

    Raises:
        ConversionError: no folder, no data in it, a calibration entry or timestamp that cannot be read, an
            output that exists.
    """
    drive = _Drive(existing_folder(folder))
    events = [*drive.cameras(), *drive.velodyne(scan_frame_offset), *drive.oxts(ground_truth_tf)]
    if not events:
        raise ConversionError(f"{folder} holds no KITTI raw data that could be written: {'; '.join(drive.remarks)}")
    events.sort(key=lambda event: event.stamp_ns)
    out, counts, damaged = Path(out), Counter[str](), Counter[str]()
    with new_output(out) as path, BagWriter(path) as bag:
        if drive.links:
            start_ns = events[0].stamp_ns
            links = tuple(replace(link, stamp_ns=start_ns) for link in drive.links)
            bag.write("/tf_static", Transforms(start_ns, links), start_ns)
            counts["/tf_static"] = 1
        for event in events:
            value = event.read()
            if value is None:
                damaged[event.topic] += 1
                continue
            bag.write(event.topic, value, event.stamp_ns, _MSGTYPES.get(type(value)))
            counts[event.topic] += 1
        if not counts.keys() - {"/tf_static"}:
            raise ConversionError(f"every file of {folder} is damaged: {damaged.total()} could not be read")
    for topic, count in damaged.items():
        drive.remarks.append(f"{topic}: {count} files are damaged and left out")
    return Conversion(out, dict(sorted(counts.items())), tuple(drive.remarks))


class _Drive:
    """The files of one recording; asked for cameras first, since their size and times tell about the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remarks: list[str] = []
        self.links: list[Transform] = []
        self.calibration = read_calibration(folder)
        self.camera_stamps = {
            camera: read_timestamps(folder / f"image_{camera:02d}" / "timestamps.txt") for camera in _CAMERAS
        }
        self.frame_stamps = next(filter(None, self.camera_stamps.values()), None)
        kinds = {"_sync": True, "_extract": False}
        self.rectified = next((value for kind, value in kinds.items() if kind in folder.resolve().name), None)
        # T_base_velodyne; without it the Velodyne is the root of what calibration there is.
        self.velodyne_pose = self.calibration.imu_from_velodyne()
        if not self.calibration.numbers:
            self.remarks.append(f"no calib*.txt in {folder} or above it: no camera_info, no /tf_static")

    def cameras(self) -> Iterator[_Event]:
        for camera, name in _CAMERAS.items():
            part = f"image_{camera:02d}"
            files = numbered(self.folder / part / "data", ".png", ".jpg")
            if not files:
                self.remarks.append(f"{part}/data has no images: no /kitti/{name}")
                continue
            frame = f"{name}_optical"
            info = self._camera_info(camera, name, frame, files.values())
            stamps = self.camera_stamps[camera] or self._camera_stamps_for(part)
            for stamp_ns, path in self._stamped(part, files, stamps):
                if info is not None:
                    read = partial(replace, info, stamp_ns=stamp_ns)
                    yield _Event(stamp_ns, f"/kitti/{name}/camera_info", read)
                yield _Event(stamp_ns, f"/kitti/{name}/image_raw", partial(_image, path, stamp_ns, frame))

    def velodyne(self, frame_offset: int) -> Iterator[_Event]:
        part = "velodyne_points"
        files = numbered(self.folder / part / "data", ".bin", ".txt")
        if not files:
            self.remarks.append(f"{part}/data has no scans: no /kitti/velo/pointcloud")
            return
        if self.velodyne_pose is not None:
            self._link("base_link", "velo_link", self.velodyne_pose)
        elif self.calibration.numbers:
            self.remarks.append("calibration lacks imu_to_velo: base_link and velo_link are not connected")
        stamps = read_timestamps(self.folder / part / "timestamps.txt")
        if not stamps and (stamps := self._camera_stamps_for(part, frame_offset)):
            stamps = {number - frame_offset: stamp for number, stamp in stamps.items()}
        for stamp_ns, path in self._stamped(part, files, stamps):
            yield _Event(stamp_ns, "/kitti/velo/pointcloud", partial(_cloud, path, stamp_ns))

    def oxts(self, ground_truth_tf: bool) -> Iterator[_Event]:
        files = numbered(self.folder / "oxts" / "data", ".txt")
        if not files:
            self.remarks.append("oxts/data has no packets: no /kitti/oxts")
            return
        packets = {path: packet for path in files.values() if (packet := read_packet(path))}
        if damaged := len(files) - len(packets):
            self.remarks.append(f"oxts: {damaged} packets have not 30 finite numbers and are left out")
        if not packets:
            return
        self._link("base_link", "imu_link", np.eye(4))
        origin = next(iter(packets.values()))
        intact = {number: path for number, path in files.items() if path in packets}
        for stamp_ns, path in self._stamped("oxts", intact, self._oxts_stamps(max(intact))):
            packet = packets[path]
            yield _Event(stamp_ns, "/kitti/oxts/imu", partial(_imu, packet, stamp_ns))
            yield _Event(stamp_ns, "/kitti/oxts/twist", partial(_twist, packet, stamp_ns))
            yield _Event(stamp_ns, "/kitti/oxts/odometry", partial(_odometry, packet, origin, stamp_ns))
            if ground_truth_tf:
                yield _Event(stamp_ns, "/tf", partial(_base_in_map, packet, origin, stamp_ns))

    def _stamped(self, part: str, files: dict[int, Path], stamps: dict[int, int] | None) -> Iterator[tuple[int, Path]]:
        """Files with the stamp of their number; what is missing or out of order becomes a remark."""
        if stamps is None:
            self.remarks.append(f"{part} has no timestamps.txt and none can stand in: {len(files)} files left out")
            return
        first, last = min(files), max(files)
        if absent := last - first + 1 - len(files):
            self.remarks.append(f"{part}: {absent} of the numbers {first} to {last} are absent")
        timed = [(stamps[number], path) for number, path in files.items() if number in stamps]
        if beyond := len(files) - len(timed):
            self.remarks.append(f"{part}: {beyond} files have a number without a stamp and are left out")
        if backwards := sum(b < a for (a, _), (b, _) in pairwise(timed)):
            self.remarks.append(f"{part}: {backwards} stamps are before that of the file before; now sorted")
        yield from timed

    def _camera_stamps_for(self, part: str, frame_offset: int = 0) -> dict[int, int] | None:
        if self.frame_stamps is not None:
            number = f"that number plus {frame_offset}" if frame_offset else "that number"
            self.remarks.append(
                f"{part} has no timestamps.txt: stamps are nominal, those of the camera frames of {number}"
            )
        return self.frame_stamps

    def _oxts_stamps(self, last: int) -> dict[int, int] | None:
        """Of the packets up to number ``last``."""
        stamps = read_timestamps(self.folder / "oxts" / "timestamps.txt")
        if stamps or self.frame_stamps is None or self.rectified is None:
            return stamps or None
        if self.rectified:
            return self._camera_stamps_for("oxts")
        start_ns = self.frame_stamps[0]
        self.remarks.append("oxts has no timestamps.txt: stamps are nominal, 10 ms a number after frame 0")
        return {number: start_ns + number * _OXTS_PERIOD_NS for number in range(last + 1)}

    def _camera_info(self, camera: int, name: str, frame: str, files: Iterable[Path]) -> CameraInfo | None:
        """The calibration by the size of the camera's first sound image; also enters the camera's link."""
        image = next((image for path in files if (image := _image(path, 0, frame))), None)
        if not self.calibration.numbers or image is None:
            return None
        size = image.width, image.height
        sizes = {
            rectified: tuple(int(n) for n in entry)
            for rectified, key in ((False, f"S_{camera:02d}"), (True, f"S_rect_{camera:02d}"))
            if (entry := self.calibration.get(key, 2)) is not None
        }
        rectified = next((kind for kind, expected in sizes.items() if expected == size), None)
        if rectified is None:
            known = listed(f"{width}x{height}" for width, height in sizes.values())
            self.remarks.append(
                f"{name}: images are {size[0]}x{size[1]}, calibration is for {known}: no camera_info, no link"
            )
            return None
        self.rectified = rectified
        pose = self.calibration.camera_from_velodyne(camera, rectified)
        if pose is None:
            self.remarks.append(f"{name}: calibration lacks its pose: no link on /tf_static")
        elif self.velodyne_pose is None:
            self._link("velo_link", frame, pose_invert(pose))
        else:
            self._link("base_link", frame, self.velodyne_pose @ pose_invert(pose))
        k, d = self.calibration.get(f"K_{camera:02d}", 3, 3), self.calibration.get(f"D_{camera:02d}", 5)
        r = self.calibration.get(f"R_rect_{camera:02d}", 3, 3)
        p = self.calibration.get(f"P_rect_{camera:02d}", 3, 4)
        if p is not None and rectified:
            k, d, r = p[:, :3], np.zeros(5), np.eye(3)
        if k is None or d is None or r is None or p is None:
            self.remarks.append(f"{name}: calibration lacks K, D, R_rect or P_rect: no camera_info")
            return None
        return CameraInfo(0, *size, k=k, d=d, r=r, p=p, frame_id=frame)

    def _link(self, parent: str, child: str, pose: Float) -> None:
        rotation = quaternion_from_matrix(pose[:3, :3])
        self.links.append(Transform(0, pose[:3, 3].copy(), rotation, parent, child))


def _image(path: Path, stamp_ns: int, frame: str) -> Image | None:
    try:
        pixels = read_pixels(path)
    except ConversionError:
        return None
    return Image(stamp_ns, pixels, encoding_of(pixels, path), frame)


def _cloud(path: Path, stamp_ns: int) -> PointCloud | None:
    points = read_scan(path)
    if points is None:
        return None
    dense = all(bool(np.isfinite(points[axis]).all()) for axis in "xyz")
    return PointCloud(stamp_ns, points, "velo_link", is_dense=dense)


def _numbers(packet: dict[str, float], names: str) -> Float:
    return np.array([packet[name] for name in names.split()])


def _imu(packet: dict[str, float], stamp_ns: int) -> Imu:
    return Imu(
        stamp_ns,
        angular_velocity=_numbers(packet, "wx wy wz"),
        linear_acceleration=_numbers(packet, "ax ay az"),
        orientation=quaternion_from_euler(packet["roll"], packet["pitch"], packet["yaw"]),
        frame_id="imu_link",
    )


def _twist(packet: dict[str, float], stamp_ns: int) -> Twist:
    base_from_level = quaternion_to_matrix(quaternion_from_euler(packet["roll"], packet["pitch"], 0.0)).T
    linear, angular = _numbers(packet, "vf vl vu"), _numbers(packet, "wf wl wu")
    return Twist(stamp_ns, base_from_level @ linear, base_from_level @ angular, "base_link")


def _odometry(packet: dict[str, float], origin: dict[str, float], stamp_ns: int) -> Odometry:
    scale = float(np.cos(np.deg2rad(origin["lat"])))
    east, north = mercator(packet["lat"], packet["lon"], scale)
    east_0, north_0 = mercator(origin["lat"], origin["lon"], scale)
    orientation = quaternion_from_euler(packet["roll"], packet["pitch"], packet["yaw"])
    return Odometry(
        stamp_ns,
        position=np.array([east - east_0, north - north_0, packet["alt"] - origin["alt"]]),
        orientation=orientation,
        linear=quaternion_to_matrix(orientation).T @ _numbers(packet, "ve vn vu"),
        angular=_numbers(packet, "wx wy wz"),
        frame_id="map",
        child_frame_id="base_link",
    )


def _base_in_map(packet: dict[str, float], origin: dict[str, float], stamp_ns: int) -> Transforms:
    pose = _odometry(packet, origin, stamp_ns)
    link = Transform(stamp_ns, pose.position, pose.orientation, pose.frame_id, pose.child_frame_id)
    return Transforms(stamp_ns, (link,))
