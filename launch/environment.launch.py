"""What every launch file begins with: the interpreter of the nodes and the transports of Fast DDS."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable

HERE = Path(__file__).parent
# Fast DDS 2 (Jazzy) reads the first, Fast DDS 3 the second.
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def interpreter() -> str:
    """The Python that has ros_attn: of the environment this file lies in, of the checkout, of the active one, this."""
    installed, checkout = HERE.parents[2], HERE.parent / ".venv"
    for folder in (installed, checkout, Path(os.environ.get("VIRTUAL_ENV", "/nonexistent"))):
        if (folder / "pyvenv.cfg").is_file():
            return str(folder / "bin" / "python")
    return sys.executable


def transports(context: LaunchContext) -> list[SetEnvironmentVariable]:
    """The profiles of config/fastdds.xml, unless the user has chosen some."""
    if any(name in context.environment for name in PROFILES):
        return []
    return [SetEnvironmentVariable(name, str(HERE / "config" / "fastdds.xml")) for name in PROFILES]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        DeclareLaunchArgument(
            "python",
            default_value=interpreter(),
            description="interpreter that runs ros_attn, such as that of a virtual environment",
        ),
        OpaqueFunction(function=transports),
    ])  # fmt: skip
