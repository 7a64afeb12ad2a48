"""A simulated quadruped, its safety gate and its policy: three processes on the simulator's clock.

    ros2 launch ros_attn quadruped_sim.launch.py terrain:=rough:0.03
    ros2 launch ros_attn quadruped_sim.launch.py policy:=quadruped_stairs terrain:=hollow:30

Drive it with cmd_vel. When the simulator ends, so does the launch.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch_ros.actions import Node

HERE = Path(__file__).parent
CHECKPOINTS = {"quadruped_walk": "walk_go2", "quadruped_stairs": "stairs_go2"}
"""The policies, and those of the package's checkpoints that they run."""


def processes(context: LaunchContext) -> list[Action]:
    """The simulator, and the nodes as on the robot but for their clock."""
    given = context.launch_configurations
    policy = given["policy"]
    checkpoint = given["checkpoint"] or CHECKPOINTS[policy]
    asked = {name for name in ("randomise", "noise", "camera") if given[name] == "true"}
    if policy == "quadruped_stairs":
        asked.add("camera")
    flags = [f"--{name}" for name in ("randomise", "noise", "camera") if name in asked]
    seconds = ["--seconds", given["seconds"]] if given["seconds"] else []
    robot = Node(
        executable=given["python"],
        arguments=[
            "-m", "ros_attn", "robot", "--terrain", given["terrain"], "--step", given["step"], "--seed", given["seed"],
            *seconds, *flags,
        ],
        exec_name="robot",
        namespace=given["namespace"] or None,
        output="screen",
        on_exit=Shutdown(reason="the simulated robot ended"),
    )  # fmt: skip
    arguments = {
        "name": "",
        "params_file": "",
        "remappings": "",
        "autostart": "true",
        "parameters": f"checkpoint:={shlex.quote(checkpoint)}",
        "use_sim_time": "true",
        # In lock step a message that is lost would be waited for.
        "qos": "lossless" if given["step"] == "lock" else "default",
    }
    nodes = [
        GroupAction([
            IncludeLaunchDescription(
                str(HERE / "component.launch.py"), launch_arguments={**arguments, "component": name}.items()
            )
        ])
        for name in ("safety_gate", policy)
    ]  # fmt: skip
    return [*nodes, robot]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        IncludeLaunchDescription(str(HERE / "environment.launch.py")),
        DeclareLaunchArgument(
            "policy", default_value="quadruped_walk", choices=["quadruped_walk", "quadruped_stairs"],
            description="walks by velocity commands, or climbs by a depth camera, which the robot then has",
        ),
        DeclareLaunchArgument(
            "checkpoint", default_value="",
            description="checkpoint directory of the policy, or the name of one in the package; empty: the package's",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the three nodes"),
        DeclareLaunchArgument(
            "terrain", default_value="flat",
            description="flat, rough, platforms, gaps, stairs or hollow, with a size: rough:0.05 (m), stairs:30 (deg)",
        ),
        DeclareLaunchArgument(
            "step", default_value="real", choices=["lock", "real"],
            description="real: against the wall clock; lock: each tick waits for gate and policy",
        ),
        DeclareLaunchArgument("seed", default_value="0", description="seed of terrain, randomisation and noise"),
        DeclareLaunchArgument(
            "seconds", default_value="", description="simulated time after which it ends; empty: until Ctrl-C"
        ),
        DeclareLaunchArgument(
            "randomise", default_value="false", choices=["true", "false"],
            description="draw friction, masses, motors, delays and pushes as in training",
        ),
        DeclareLaunchArgument(
            "noise", default_value="false", choices=["true", "false"],
            description="errors of IMU and encoders as in training",
        ),
        DeclareLaunchArgument(
            "camera", default_value="false", choices=["true", "false"], description="publish depth images"
        ),
        OpaqueFunction(function=processes),
    ])  # fmt: skip
