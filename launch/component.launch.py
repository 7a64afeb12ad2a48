"""One component as a node, also one of your own; the launch files of the systems start their nodes through it.

ros2 launch ros_attn component.launch.py component:=my_package.detection:Detector namespace:=robot1
"""

from __future__ import annotations

import shlex
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, TextSubstitution
from launch_ros.actions import Node

HERE = Path(__file__).parent


def rules(text: str, argument: str) -> list[tuple[str, str]]:
    """``a:=b c:=d`` in pairs, without those whose right side is empty."""
    found = []
    for rule in shlex.split(text):
        left, separator, right = rule.partition(":=")
        if not left or not separator:
            raise RuntimeError(f"{argument}: {rule!r} is not of the form name:=value; separate rules by blanks.")
        if right:
            found.append((left, right))
    return found


def node(context: LaunchContext) -> list[Node]:
    """The node: ``<python> -m ros_attn node <component> --ros-args ...``."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # As substitutions: launch takes the type of these from YAML (true is a boolean), but leaves plain text text.
    parameters = {name: LaunchConfiguration(name) for name in ("qos", "autostart", "use_sim_time")}
    parameters |= {name: TextSubstitution(text=value) for name, value in rules(given("parameters"), "parameters")}
    file = [given("params_file")] if given("params_file") else []
    if file and not Path(file[0]).is_file():
        raise RuntimeError(f"params_file: there is no file {file[0]}.")
    return [
        Node(
            executable=given("python"),
            arguments=["-m", "ros_attn", "node", given("component")],
            exec_name=given("name") or "node",
            name=given("name") or None,
            namespace=given("namespace") or None,
            parameters=[*file, parameters],
            remappings=rules(given("remappings"), "remappings"),
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    # Deployment only: where the node runs and what it is connected to. How it works stands in the parameter file.
    return LaunchDescription([
        IncludeLaunchDescription(str(HERE / "environment.launch.py")),
        DeclareLaunchArgument("component", description="its name, module:Class or path/to/file.py:Class"),
        DeclareLaunchArgument("name", default_value="", description="name of the node; empty: the component's"),
        DeclareLaunchArgument(
            "namespace", default_value="", description="namespace of the node; two instances differ by it"
        ),
        DeclareLaunchArgument("params_file", default_value="", description="ROS parameter file; empty: the defaults"),
        DeclareLaunchArgument(
            "parameters", default_value="", description="name:=value, separated by blanks; they win over params_file"
        ),
        DeclareLaunchArgument("remappings", default_value="", description="from:=to, separated by blanks"),
        DeclareLaunchArgument(
            "qos", default_value="default", choices=["default", "lossless"],
            description="default: sensor data in, results reliable; lossless: reliable with depth 100, for evaluation",
        ),
        DeclareLaunchArgument(
            "autostart", default_value="true", choices=["true", "false"],
            description="false: stay unconfigured, a lifecycle manager does the rest",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", choices=["true", "false"],
            description="take the time from /clock: simulation, or a bag that plays",
        ),
        OpaqueFunction(function=node),
    ])  # fmt: skip
