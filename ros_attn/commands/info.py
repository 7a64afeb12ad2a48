"""``ros-attn info``: what is in a bag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ros_attn.bag_info import describe


@dataclass(frozen=True)
class Options:
    """Say what is in a bag: topics, rates, sizes, clocks."""

    bag: Annotated[Path, tyro.conf.Positional]
    """rosbag2 folder, .mcap, .db3 or ROS 1 .bag."""


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn info")
    print(describe(options.bag))
    return 0
