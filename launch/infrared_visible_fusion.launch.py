"""Infrared-visible fusion: its node, a bag to play beside it where one is named, RViz where it is wanted.

ros2 launch ros_attn infrared_visible_fusion.launch.py visible:=/cam0/image_raw infrared:=/flir/image_raw
ros2 launch ros_attn infrared_visible_fusion.launch.py bagfile:=drive rviz:=true
"""

from __future__ import annotations

from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction

HERE = Path(__file__).parent


def processes(context: LaunchContext) -> list[Action]:
    """The node and what stands beside it; arguments not named here reach them as they are."""
    given = context.launch_configurations
    clock = {"use_sim_time": "true" if given["bagfile"] else given["use_sim_time"]}
    topics = {
        "visible/image": given["visible"],
        "visible/camera_info": given["visible_info"],
        "infrared/image": given["infrared"],
        "infrared/camera_info": given["infrared_info"],
    }
    node = {
        "component": "infrared_visible_fusion",
        "parameters": f"model:={given['model']} align:={given['align']}",
        "remappings": " ".join(f"{name}:={topic}" for name, topic in topics.items() if name != topic),
    }
    return [
        GroupAction([IncludeLaunchDescription(str(HERE / name), launch_arguments={**arguments, **clock}.items())])
        for name, arguments in (("component.launch.py", node), ("bag_and_rviz.launch.py", {}))
    ]


def generate_launch_description() -> LaunchDescription:
    # Cameras, clock and names: these are the things to change here and nothing else. Tuning stands in params_file.
    return LaunchDescription([
        IncludeLaunchDescription(str(HERE / "environment.launch.py")),
        DeclareLaunchArgument(
            "namespace", default_value="", description="namespace of the node; two instances differ by it"
        ),
        DeclareLaunchArgument("name", default_value="infrared_visible_fusion", description="name of the node"),
        DeclareLaunchArgument(
            "params_file", default_value=str(HERE / "config" / "infrared_visible_fusion.yaml"),
            description="ROS parameter file; copy the default one and change what you need",
        ),
        DeclareLaunchArgument("visible", default_value="visible/image", description="topic of the visible camera"),
        DeclareLaunchArgument("infrared", default_value="infrared/image", description="topic of the infrared camera"),
        DeclareLaunchArgument(
            "visible_info", default_value="visible/camera_info",
            description="calibration of the visible camera; align:=calibration needs it",
        ),
        DeclareLaunchArgument(
            "infrared_info", default_value="infrared/camera_info",
            description="calibration of the infrared camera; align:=calibration needs it",
        ),
        DeclareLaunchArgument(
            "model", default_value="", description="how to fuse: fast, paper or rule; empty: as params_file says"
        ),
        DeclareLaunchArgument(
            "align", default_value="",
            description="how infrared comes into visible pixels: same, stretch, homography or calibration; "
            "empty: as params_file says",
        ),
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
            description="take the time from /clock; true in any case where bagfile is given",
        ),
        DeclareLaunchArgument("bagfile", default_value="", description="bag to play beside the node; empty: none"),
        DeclareLaunchArgument(
            "rviz", default_value="false", choices=["true", "false"], description="open RViz on the results"
        ),
        OpaqueFunction(function=processes),
    ])  # fmt: skip
