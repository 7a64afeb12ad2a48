"""What pyproject.toml cannot say so that pip and colcon both understand it."""

from pathlib import Path

from setuptools import setup

SHARE = "share/ros_attn"


def shared(folder: str, *patterns: str) -> tuple[str, list[str]]:
    """Files of a folder to install under the package's share folder, where `ros2 launch` looks."""
    return f"{SHARE}/{folder}", sorted(str(path) for pattern in patterns for path in Path(folder).glob(pattern))


setup(
    license="Apache-2.0",
    python_requires=">=3.11",
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/ros_attn"]),
        (SHARE, ["package.xml"]),
        shared("launch", "*.launch.py"),
        shared("launch/config", "*.yaml", "*.xml", "*.rviz", "*.json"),
    ],
)
