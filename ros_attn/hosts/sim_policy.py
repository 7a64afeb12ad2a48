"""The policy of a checkpoint in the closed loop: its component, the safety gate, and a robot of its joints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ros_attn import checkpoint, registry
from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import CheckpointError, listed, meant
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.sim import ClosedLoop, Tamper, Velocities
from ros_attn.hosts.sim_robot import SimulatedRobot
from ros_attn.sim.depth_camera import DepthCamera
from ros_attn.sim.robot import Robot
from ros_attn.sim.terrain import Terrain

SYSTEMS = ("quadruped_walk", "quadruped_stairs")
"""What a contract's ``system`` may be: components that take a checkpoint and command joints."""
POLICY, GATE = "policy", "gate"
DEPTH_TOPIC = "depth/image"
SEEN = ("near_m", "far_m", "horizontal_fov_rad", "vertical_fov_rad")


def contract_of(path: Path) -> dict[str, Any]:
    """The contract of a policy's checkpoint. Raises CheckpointError where there is none, or of another system."""
    checkpoint.configuration(path)
    JointContract.read(path)
    found = json.loads((path / checkpoint.CONTRACT).read_text())
    system = found.get("system")
    if system not in SYSTEMS:
        near = meant(system, SYSTEMS) if isinstance(system, str) else ""
        raise CheckpointError(
            f"{path} is of the system {system!r}{near}, which drives no quadruped; give a checkpoint of "
            f"{listed(SYSTEMS)}."
        )
    return found


def with_gains(
    robot: Robot, contract: Mapping[str, Any], path: Path, warn: Callable[[str], object] = lambda sentence: None
) -> Robot:
    """``robot`` with the gains of a checkpoint's ``contract``, as a driver of the robot takes them from there.

    ``warn`` is told where pose or limits differ, which a policy may bear. Raises CheckpointError where the joints are
    others, or in another order.
    """
    agreed: Mapping[str, Any] = contract["robot"]
    here: dict[str, Any] = robot.contract()
    joints = robot.joints
    if unlike := checkpoint.differences({"joints": agreed["joints"]}, {"joints": list(joints)}):
        raise CheckpointError(f"{path} was made for another robot than {robot.name}: {unlike[0]}.")
    for key in ("default_pose", "position_limits", "velocity_limits", "torque_limits"):
        trained, at_hand = (dict(zip(joints, each[key], strict=True)) for each in (agreed, here))
        if unlike := checkpoint.differences(trained, at_hand):
            more = f", and at {len(unlike) - 1} more places" if len(unlike) > 1 else ""
            warn(f"{robot.name} has other {key.replace('_', ' ')} than {path.name}: {unlike[0]}{more}.")
    gains = JointContract.read(path)
    return replace(robot, kp=gains.kp, kd=gains.kd)


def policy_loop(
    checkpoint_or_name: Path | str,
    robot: Robot,
    terrain: Terrain,
    velocities: Velocities,
    *,
    seed: int = 0,
    attention_hz: float = 0.0,
    tamper: Tamper = lambda topic, value, now_ns: value,
    warn: Callable[[str], object] = lambda sentence: None,
) -> ClosedLoop:
    """A loop of the stages ``policy`` and ``gate`` around ``robot`` on ``terrain``, with a camera where it is needed.

    ``checkpoint_or_name``: a directory, or a checkpoint of the package. ``attention_hz``: pictures a second of where a
    policy with attention looks, on ``/policy/debug/attention``; nothing for others. ``warn`` is told what of the robot
    differs, see :func:`with_gains`.

    Raises CheckpointError where the checkpoint is no policy or for another robot.
    """
    path = checkpoint_folder(str(checkpoint_or_name))
    contract = contract_of(path)
    robot = with_gains(robot, contract, path, warn)
    kind = registry.find(contract["system"])
    settings: dict[str, Any] = {"checkpoint": str(path)}
    if attention_hz and checkpoint.configuration(path)["params"].get("vision") == "attention":
        settings["attention_hz"] = attention_hz
    policy = kind(params=kind.Params(**settings))
    gate = SafetyGate(params=SafetyGateParams(checkpoint=str(path)))
    camera = None
    if any(getattr(each, "topic", "") == DEPTH_TOPIC for each in kind.inputs.values()):
        seen = {name: contract["depth"][name] for name in SEEN if name in contract.get("depth", {})}
        camera = DepthCamera(robot.camera, robot.camera_pitch, **seen)
    simulated = SimulatedRobot(robot, terrain, seed, camera=camera)
    return ClosedLoop(simulated, Graph([Stage(policy, POLICY), Stage(gate, GATE)]), velocities, tamper=tamper)
