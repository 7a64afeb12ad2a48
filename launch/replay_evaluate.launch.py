"""Bag replay, then its report; no ROS graph is involved.

    ros2 launch ros_attn replay_evaluate.launch.py bagfile:=drive out:=runs/drive thresholds:=gates.yaml

Where replay or evaluation fails, or a threshold is missed, the log names the exit code and the launch ends with 1.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).parent


def processes(context: LaunchContext) -> list[Action]:
    """``ros-attn replay``, and ``ros-attn evaluate`` once it has ended well."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def option(flag: str, name: str) -> list[str]:
        return [flag, given(name)] if given(name) else []

    def verb(name: str, *arguments: str) -> ExecuteProcess:
        return ExecuteProcess(
            cmd=[given("python"), "-m", "ros_attn", name, *arguments],
            name=name,
            output="screen",
            # A report that is being written is let finish.
            sigterm_timeout="30",
        )

    remaps = [word for rule in shlex.split(given("remappings")) for word in ("--remap", rule)]
    replay = verb(
        "replay", given("bagfile"), given("component"),
        *option("--out", "out"), *option("--params-file", "params_file"), *remaps,
    )  # fmt: skip
    evaluate = verb("evaluate", given("out") or "runs/latest", *option("--thresholds", "thresholds"))

    def after(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if event.returncode:
            # launch has no other way to end with an exit code than an exception.
            raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}.")
        return [evaluate] if event.action is replay else []

    handlers = [RegisterEventHandler(OnProcessExit(target_action=each, on_exit=after)) for each in (replay, evaluate)]
    return [*handlers, replay]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        IncludeLaunchDescription(str(HERE / "environment.launch.py")),
        DeclareLaunchArgument("bagfile", description="rosbag2 folder, .mcap, .db3 or ROS 1 .bag to replay"),
        DeclareLaunchArgument(
            "component", default_value="infrared_visible_fusion",
            description="its name, module:Class, path/to/file.py:Class, or a graph.yaml",
        ),
        DeclareLaunchArgument(
            "out", default_value="", description="run folder to make; empty: runs/<time>_<component>"
        ),
        DeclareLaunchArgument("params_file", default_value="", description="ROS parameter file; empty: the defaults"),
        DeclareLaunchArgument(
            "remappings", default_value="",
            description="from:=to, separated by blanks, such as visible/image:=/cam0/image_raw",
        ),
        DeclareLaunchArgument(
            "thresholds", default_value="", description="YAML file of figures that must be kept; empty: none"
        ),
        OpaqueFunction(function=processes),
    ])  # fmt: skip
