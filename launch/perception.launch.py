"""The perception of one robot: every system once, in one namespace. A second robot is a second time this file,
each included in a GroupAction of its own so that the arguments of one do not reach the other.

    ros2 launch ros_attn perception.launch.py namespace:=robot1 visible:=/robot1/cam0/image_raw rviz:=true
"""

from __future__ import annotations

from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction

HERE = Path(__file__).parent
# Every perception system has a launch file of its own and one line here. What a line sets holds for that system
# alone; arguments of this file that a system knows reach it as they are.
SYSTEMS = {"infrared_visible_fusion": {"name": "infrared_visible_fusion"}}


def processes(context: LaunchContext) -> list[Action]:
    """The systems, and one bag and one RViz beside all of them."""
    given = context.launch_configurations
    clock = {"use_sim_time": "true" if given["bagfile"] else given["use_sim_time"]}
    alone = {"bagfile": "", "rviz": "false"}
    included = [(f"{name}.launch.py", {**arguments, **alone}) for name, arguments in SYSTEMS.items()]
    return [
        GroupAction([IncludeLaunchDescription(str(HERE / name), launch_arguments={**arguments, **clock}.items())])
        for name, arguments in (*included, ("bag_and_rviz.launch.py", {}))
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        IncludeLaunchDescription(str(HERE / "environment.launch.py")),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes; one a robot"),
        DeclareLaunchArgument(
            "params_file", default_value="",
            description="ROS parameter file with a section for each node; empty: the defaults",
        ),
        DeclareLaunchArgument("visible", default_value="visible/image", description="topic of the visible camera"),
        DeclareLaunchArgument("infrared", default_value="infrared/image", description="topic of the infrared camera"),
        DeclareLaunchArgument(
            "visible_info", default_value="visible/camera_info", description="calibration of the visible camera"
        ),
        DeclareLaunchArgument(
            "infrared_info", default_value="infrared/camera_info", description="calibration of the infrared camera"
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
        DeclareLaunchArgument("bagfile", default_value="", description="bag to play beside the nodes; empty: none"),
        DeclareLaunchArgument(
            "rviz", default_value="false", choices=["true", "false"], description="open RViz on the results"
        ),
        OpaqueFunction(function=processes),
    ])  # fmt: skip
