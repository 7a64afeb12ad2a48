"""``ros-attn convert``: bags from folders, folders from bags, and bags in worse weather."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ros_attn.convert.degraded_bag import degrade_bag
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


@dataclass(frozen=True)
class Degrade:
    """A copy of a bag in which a visible and an infrared camera stand in weather, or suffer from faults, for a while.

    Degradations: haze, rain, snow and low_light befall both cameras; noise, saturated, dirt, misaligned, black and
    frozen one, named before it. Severity: light, medium (default) or heavy. All but the pixels is copied as it is.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """bag to read."""
    out: Path
    """bag to make."""
    degradations: tuple[str, ...]
    """such as haze:heavy "infrared dirt:medium" "visible frozen", applied in this order."""
    visible: str
    """topic of the visible images: mono8, rgb8, bgr8, mono16 or 16UC1."""
    infrared: str
    """topic of the infrared images: mono8, mono16 or 16UC1; in 16 bits the 1st to 99th percentile of the topic's first
    image count as black to white, and what lies beyond is cut."""
    start_s: float = 0.0
    """begin this many seconds after the bag's first message."""
    end_s: float = math.inf
    """end this many seconds after the bag's first message."""
    seed: int = 0
    """the same seed gives the same pixels."""
    slop_s: float = 0.02
    """farthest stamps of one pair."""
    overwrite: bool = False
    """replace a bag of that name."""


def run(argv: list[str]) -> int:
    """The verb."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"pairs": Pairs, "images": Images, "kitti-raw": KittiRaw, "degrade": Degrade},
        args=argv,
        prog="ros-attn convert",
    )
    if isinstance(command, Pairs):
        done = pairs_to_bag(
            command.folder, command.out, command.rate_hz, command.names, command.visible, command.infrared
        )
    elif isinstance(command, Images):
        done = bag_to_pairs(command.bag, command.out, command.topic, command.names_from)
    elif isinstance(command, Degrade):
        done = degrade_bag(**vars(command))
    else:
        done = kitti_raw_to_bag(command.folder, command.out, command.ground_truth_tf, command.scan_frame_offset)
    print(done)
    return 0
