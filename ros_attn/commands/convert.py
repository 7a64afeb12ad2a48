"""``ros-attn convert``: bags from folders, and folders from bags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ros_attn.convert.image_pairs import bag_to_pairs, pairs_to_bag
from ros_attn.convert.kitti_raw import kitti_raw_to_bag


@dataclass(frozen=True)
class Pairs:
    """A folder of image pairs (sub-folders vi and ir) to a bag."""

    folder: Annotated[Path, tyro.conf.Positional]
    """folder with the two sub-folders."""
    out: Annotated[Path, tyro.conf.Positional]
    """bag to make."""
    rate_hz: float = 10.0
    """pairs a second of bag time."""
    names: Path | None = None
    """file that lists the pairs to take, one a line."""
    visible: str = "vi"
    """sub-folder of the visible images."""
    infrared: str = "ir"
    """sub-folder of the infrared images."""


@dataclass(frozen=True)
class Images:
    """The images of a bag to folders of PNG, one folder a topic."""

    bag: Annotated[Path, tyro.conf.Positional]
    """bag to read."""
    out: Annotated[Path, tyro.conf.Positional]
    """folder to make."""
    topic: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """topic to write; may be given several times; without any, all images."""
    names_from: Path | None = None
    """bag whose /pair_name names the files: the one that was replayed."""


@dataclass(frozen=True)
class KittiRaw:
    """A KITTI raw drive (extract or sync) to a bag: cameras, LiDAR, IMU, twist, calibration, /tf_static."""

    folder: Annotated[Path, tyro.conf.Positional]
    """folder with image_00, velodyne_points, oxts and the calibration."""
    out: Annotated[Path, tyro.conf.Positional]
    """bag to make."""
    ground_truth_tf: bool = False
    """also write map to base_link on /tf."""
    scan_frame_offset: int = 0
    """scan n belongs to frame n plus this, where scans have no timestamps."""


def run(argv: list[str]) -> int:
    """The verb."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"pairs": Pairs, "images": Images, "kitti-raw": KittiRaw}, args=argv, prog="ros-attn convert"
    )
    if isinstance(command, Pairs):
        done = pairs_to_bag(
            command.folder, command.out, command.rate_hz, command.names, command.visible, command.infrared
        )
    elif isinstance(command, Images):
        done = bag_to_pairs(command.bag, command.out, command.topic, command.names_from)
    else:
        done = kitti_raw_to_bag(command.folder, command.out, command.ground_truth_tf, command.scan_frame_offset)
    print(done)
    return 0
