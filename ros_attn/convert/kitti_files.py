"""The files of a KITTI raw recording: calibration, timestamps, OXTS packets, Velodyne scans.

Source: A. Geiger, P. Lenz, C. Stiller, R. Urtasun, "Vision meets Robotics: The KITTI Dataset", IJRR 2013, and
the raw data development kit (readme.txt, dataformat.txt).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ros_attn.convert.conversion import ConversionError
from ros_attn.geometry import Float, pose_invert
from ros_attn.values import Array

SCAN = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity")])

_OXTS_NAMES = "lat lon alt roll pitch yaw vn ve vf vl vu ax ay az af al au wx wy wz wf wl wu"
_OXTS_QUALITY = "pos_accuracy vel_accuracy navstat numsats posmode velmode orimode"
OXTS_COLUMNS = (*_OXTS_NAMES.split(), *_OXTS_QUALITY.split())


@dataclass(frozen=True)
class Calibration:
    """The numbers of ``calib_*.txt`` by key (``K_00``, ``velo_to_cam R``, …)."""

    numbers: Mapping[str, Float]

    def get(self, key: str, *shape: int) -> Float | None:
        """The entry in the given shape, or None where the files do not have it."""
        entry = self.numbers.get(key)
        if entry is None:
            return None
        if entry.size != np.prod(shape):
            raise ConversionError(f"calibration entry {key} has {entry.size} numbers, not {np.prod(shape):g}")
        return entry.reshape(shape)

    def rigid(self, rotation: str, translation: str) -> Float | None:
        """A pose ``[4, 4]`` from two entries, or None where one of them is absent."""
        r, t = self.get(rotation, 3, 3), self.get(translation, 3)
        if r is None or t is None:
            return None
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = r, t
        return pose

    def camera_from_velodyne(self, camera: int, rectified: bool) -> Float | None:
        """``T_camera_velodyne``, or None where an entry is absent.

        Raw: ``[R_0i|T_0i] T_cam0_velo``. Rectified: all cameras look the way of rectified camera 0 and differ
        by ``inv(K) P[:, 3]``, ``K`` being the left 3x3 of ``P_rect_0i``.
        """
        velodyne = self.rigid("velo_to_cam R", "velo_to_cam T")
        if velodyne is None:
            return None
        if not rectified:
            camera_0 = self.rigid(f"R_{camera:02d}", f"T_{camera:02d}")
            return None if camera_0 is None else camera_0 @ velodyne
        projection, turn = self.get(f"P_rect_{camera:02d}", 3, 4), self.get("R_rect_00", 3, 3)
        if projection is None or turn is None:
            return None
        rectify = np.eye(4)
        rectify[:3, :3] = turn
        rectify[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
        return rectify @ velodyne

    def imu_from_velodyne(self) -> Float | None:
        """``T_imu_velodyne``, or None where an entry is absent."""
        pose = self.rigid("imu_to_velo R", "imu_to_velo T")
        return None if pose is None else pose_invert(pose)


def read_calibration(folder: Path) -> Calibration:
    """Every ``calib*.txt`` of the recording's folder or, where there is none, of the day's folder above it.

    The official ``calib_velo_to_cam.txt`` and ``calib_imu_to_velo.txt`` both name their entries ``R`` and
    ``T``; these become ``velo_to_cam R`` and so on, which is how a merged file spells them.
    """
    paths = sorted(folder.glob("calib*.txt")) or sorted(folder.resolve().parent.glob("calib*.txt"))
    numbers: dict[str, Float] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            key, colon, rest = line.partition(":")
            try:
                row = np.array(rest.split(), dtype=np.float64)
            except ValueError:  # calib_time is a date
                continue
            if colon and row.size:
                numbers[f"{path.stem.removeprefix('calib_')} {key}" if key in ("R", "T") else key] = row
    return Calibration(numbers)


def read_timestamps(path: Path) -> dict[int, int] | None:
    """Stamps [ns] by frame, line k (from 0) being frame k, local time taken as UTC; None without a file."""
    if not path.is_file():
        return None
    stamps = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        text = line.strip()
        if not text:
            continue
        try:
            whole, _, fraction = text.partition(".")
            moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            stamps[number] = int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0")[:9])
        except ValueError:
            raise ConversionError(
                f"{path}, line {number + 1}: {text[:40]!r} is no time such as 2011-09-26 14:05:35.500923136"
            ) from None
    return stamps


def numbered(folder: Path, *suffixes: str) -> dict[int, Path]:
    """The files ``0000000024.png`` of a folder by number, in order; empty where there is no folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = {int(p.stem): p for p in paths if p.suffix.lower() in suffixes and p.stem.isdecimal()}
    return dict(sorted(found.items()))


def read_packet(path: Path) -> dict[str, float] | None:
    """One OXTS packet by column name, or None where it has not 30 finite numbers."""
    try:
        row = np.array(path.read_text(encoding="utf-8").split(), dtype=np.float64)
    except ValueError:
        return None
    if row.size != len(OXTS_COLUMNS) or not np.isfinite(row).all():
        return None
    return dict(zip(OXTS_COLUMNS, row.tolist(), strict=True))


def read_scan(path: Path) -> Array | None:
    """A Velodyne scan ``[N]`` of :data:`SCAN` [m], from ``.bin`` or ``.txt``; None where it is cut off."""
    if path.suffix.lower() == ".bin":
        data = path.read_bytes()
        return None if len(data) % SCAN.itemsize else np.frombuffer(data, dtype=SCAN)
    try:
        numbers = np.array(path.read_text(encoding="utf-8").split(), dtype="<f4")
    except ValueError:
        return None
    return None if numbers.size % 4 else numbers.view(SCAN)


def mercator(lat: float, lon: float, scale: float) -> tuple[float, float]:
    """East and north [m] of degrees on the Mercator map of the given scale.

    ``x = s r lon pi/180``, ``y = s r ln tan((90 + lat) pi/360)`` with r = 6378137 m; ``s = cos(lat_0)`` makes
    the map true to length at lat_0. Source: raw data development kit, latlonToMercator.m and latToScale.m.
    """
    radius = 6378137.0
    return (
        scale * radius * np.deg2rad(lon).item(),
        scale * radius * float(np.log(np.tan((90.0 + lat) * np.pi / 360.0))),
    )
