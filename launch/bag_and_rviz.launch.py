"""What may stand beside the nodes: a bag that plays, and RViz."""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import Node

HERE = Path(__file__).parent


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        IncludeLaunchDescription(str(HERE / "environment.launch.py")),
        DeclareLaunchArgument(
            "bagfile", default_value="", description="bag to play beside the nodes, which then run on its clock"
        ),
        DeclareLaunchArgument(
            "rviz", default_value="false", choices=["true", "false"], description="open RViz on the results"
        ),
        DeclareLaunchArgument(
            "rviz_config", default_value=str(HERE / "config" / "perception.rviz"), description="what RViz shows"
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes to show"),
        DeclareLaunchArgument(
            "name", default_value="infrared_visible_fusion", description="name of the fusion node, whose trust is shown"
        ),
        DeclareLaunchArgument("visible", default_value="visible/image", description="topic of the visible camera"),
        DeclareLaunchArgument("infrared", default_value="infrared/image", description="topic of the infrared camera"),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", choices=["true", "false"], description="whether RViz follows /clock"
        ),
        # The delay lets the nodes come up: what plays before is lost to them.
        ExecuteProcess(
            cmd=["ros2", "bag", "play", LaunchConfiguration("bagfile"), "--clock", "100", "--delay", "3"],
            name="bag",
            output="screen",
            condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("bagfile"), "")),
        ),
        # Topics in the RViz file are relative, so that namespace and remappings hold for it as for the nodes.
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz",
            namespace=LaunchConfiguration("namespace"),
            arguments=["-d", LaunchConfiguration("rviz_config")],
            parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
            remappings=[
                ("visible/image", LaunchConfiguration("visible")),
                ("infrared/image", LaunchConfiguration("infrared")),
                ("infrared_visible_fusion/debug/trust", [LaunchConfiguration("name"), "/debug/trust"]),
            ],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
    ])  # fmt: skip
