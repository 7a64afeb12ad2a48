"""``ros-attn robot``: a simulated quadruped as a ROS 2 node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from ros_attn.errors import RosAttnError


@dataclass(frozen=True)
class Options:
    """Run a simulated quadruped as a ROS 2 node: imu, joint_states and /clock out, joint_commands in.

    It waits at its start for a safety gate that passes the commands of a policy, both with use_sim_time:=true, in lock
    step also with qos:=lossless. ~/reset begins anew, ~/truth has the true pose. What follows --ros-args is ROS's own.
    """

    terrain: str = "flat"
    """flat, rough, platforms, gaps, stairs or hollow, with a size: rough:0.05 (m), stairs:30 (degrees)."""
    step: Literal["lock", "real"] = "lock"
    """lock: each tick waits for gate and policy, the same run gives the same bytes; real: against the wall clock."""
    seconds: float | None = None
    """simulated time after which it ends; without it, until Ctrl-C."""
    subscribers: int = 0
    """subscribers besides gate and policy that each sensor topic and ~/truth must have before the first episode begins;
    1 where a bag is to have all of it."""
    seed: int = 0
    """of the terrain, of what randomisation draws and of noise."""
    randomise: bool = False
    """draw friction, masses, motors, delays and pushes as in training."""
    noise: bool = False
    """errors of IMU and encoders as in training."""
    camera: bool = False
    """publish depth/image ten times a second, late as a real camera's, and depth/camera_info."""
    depth_noise: float = 0.0
    """errors of the depth images: 1 as in training, up to 2."""


def run(argv: list[str]) -> int:
    """The verb."""
    cut = argv.index("--ros-args") if "--ros-args" in argv else len(argv)
    ours, ros_args = argv[:cut], argv[cut:]
    options = tyro.cli(Options, args=ours, prog="ros-attn robot")
    if options.seconds is not None and not options.seconds > 0:
        raise RosAttnError(f"--seconds is {options.seconds:g}; give a time above 0 s, or none.")
    if options.subscribers < 0:
        raise RosAttnError(f"--subscribers is {options.subscribers}; give a number from 0 up.")
    if not 0 <= options.depth_noise <= 2:
        raise RosAttnError(f"--depth-noise is {options.depth_noise:g}; give a factor from 0 to 2.")
    if options.depth_noise and not options.camera:
        raise RosAttnError("--depth-noise is of the camera; add --camera.")
    from ros_attn.hosts.ros_robot import run_robot
    from ros_attn.hosts.sim_robot import SimulatedRobot
    from ros_attn.hosts.sim_terrain import terrain
    from ros_attn.sim.depth_camera import DepthCamera
    from ros_attn.sim.go2_like import GO2_LIKE
    from ros_attn.sim.randomisation import NOTHING, WALKING

    robot = SimulatedRobot(
        GO2_LIKE, terrain(options.terrain, options.seed), options.seed, WALKING if options.randomise else NOTHING,
        options.noise, DepthCamera(GO2_LIKE.camera, GO2_LIKE.camera_pitch) if options.camera else None,
        depth_noise=options.depth_noise,
    )  # fmt: skip
    return run_robot(robot, options.step, options.seconds, ros_args, options.subscribers)
