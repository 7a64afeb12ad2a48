"""A tiny KITTI raw recording, written in either spelling of its calibration."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

# The shape of 2011_09_26's numbers, with small images and round values.
CAMERAS = {
    0: ("0 0 0", "0"),
    1: ("-0.5 0.01 0.02", "-60"),
    2: ("0.06 0 0", "6"),
}
VELO_TO_CAM = ("0 -1 0 0 0 -1 1 0 0", "0 -0.08 -0.27")
IMU_TO_VELO = ("1 0 0 0 1 0 0 0 1", "-0.8 0.3 -0.8")
RAW, RECTIFIED = (16, 10), (12, 8)
# lat lon alt, roll pitch yaw, vn ve vf vl vu, accelerations, rates, accuracies and modes
PACKET = "49.0 8.4 110 0.02 -0.03 0.5 4 3 5 0.1 0.2 1 2 9.8 1 2 9.8 0.01 0.02 0.03 0.01 0.02 0.03 " + (
    "0.3 0.05 4 9 4 4 0"
)


def camera_lines(camera: int) -> list[str]:
    translation, tx = CAMERAS[camera]
    c = f"{camera:02d}"
    return [
        f"S_{c}: {RAW[0]:e} {RAW[1]:e}",
        f"K_{c}: 100 0 8 0 101 5 0 0 1",
        f"D_{c}: -0.3 0.2 0.001 0.002 -0.05",
        f"R_{c}: 1 0 0 0 1 0 0 0 1",
        f"T_{c}: {translation}",
        f"S_rect_{c}: {RECTIFIED[0]:e} {RECTIFIED[1]:e}",
        f"R_rect_{c}: 0 -1 0 1 0 0 0 0 1" if camera == 0 else f"R_rect_{c}: 1 0 0 0 1 0 0 0 1",
        f"P_rect_{c}: 120 0 6 {tx} 0 120 4 0 0 0 1 0",
    ]


def write_calibration(folder: Path, merged: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cameras = [line for camera in CAMERAS for line in camera_lines(camera)]
    if merged:
        poses = [f"velo_to_cam R: {VELO_TO_CAM[0]}", f"velo_to_cam T: {VELO_TO_CAM[1]}"]
        poses += [f"imu_to_velo R: {IMU_TO_VELO[0]}", f"imu_to_velo T: {IMU_TO_VELO[1]}"]
        (folder / "calib_2011_09_26.txt").write_text("\n".join(["# printed values", *cameras, *poses]) + "\n")
        return
    date = "calib_time: 09-Jan-2012 13:57:47"
    (folder / "calib_cam_to_cam.txt").write_text("\n".join([date, "corner_dist: 9.95e-02", *cameras]) + "\n")
    for name, (r, t) in (("velo_to_cam", VELO_TO_CAM), ("imu_to_velo", IMU_TO_VELO)):
        (folder / f"calib_{name}.txt").write_text(f"{date}\nR: {r}\nT: {t}\ndelta_f: 0 0\n")


def write_times(part: Path, count: int, offset_us: int = 0) -> None:
    part.mkdir(parents=True, exist_ok=True)
    lines = [f"2011-09-26 14:05:{35 + k // 10}.{k % 10}{offset_us:05d}123" for k in range(count)]
    (part / "timestamps.txt").write_text("\r\n".join(lines) + "\r\n")


def write_images(folder: Path, camera: int, numbers: range, size: tuple[int, int], timed: bool = True) -> None:
    part = folder / f"image_{camera:02d}"
    (part / "data").mkdir(parents=True)
    shape = (size[1], size[0]) if camera < 2 else (size[1], size[0], 3)
    for number in numbers:
        pixels = np.full(shape, number, np.uint8)
        assert cv2.imwrite(str(part / "data" / f"{number:010d}.png"), pixels)
    if timed:
        write_times(part, max(numbers) + 2, offset_us=10 * camera)


def scan(points: int) -> np.ndarray:
    cloud = np.arange(4 * points, dtype="<f4").reshape(points, 4)
    cloud[:, 3] = 0.25
    return cloud


def write_scan(folder: Path, number: int, points: int, text: bool = False) -> None:
    data = folder / "velodyne_points" / "data"
    data.mkdir(parents=True, exist_ok=True)
    if text:
        np.savetxt(data / f"{number:010d}.txt", scan(points), fmt="%.3f")
    else:
        (data / f"{number:010d}.bin").write_bytes(scan(points).tobytes())


def write_packets(folder: Path, numbers: list[int], timed: bool = False) -> None:
    data = folder / "oxts" / "data"
    data.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (data / f"{number:010d}.txt").write_text(PACKET + "\n")
    if timed:
        write_times(folder / "oxts", max(numbers) + 1, offset_us=7)
