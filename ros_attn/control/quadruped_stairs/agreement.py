"""Whether a stair climber's checkpoint is for this component, and for the robot that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ros_attn.checkpoint import differences
from ros_attn.control.quadruped_stairs.policy import contract as contract_of
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import CheckpointError

CAMERA = ("near_m", "far_m", "horizontal_fov_rad", "vertical_fov_rad")
"""What the contract's ``depth`` says of the images that the policy was trained with."""


def agree(contract: Mapping[str, Any], path: str, robot: str) -> dict[str, float]:
    """The camera of a checkpoint's ``contract``, once it was seen to fit.

    It must lay out observation, images and actions as this version does, and where ``robot`` names another checkpoint
    directory, be for its joints: names, order, limits and gains. Raises CheckpointError with all differences in one
    sentence, and where a contract cannot be read. ``path`` is the checkpoint's, for the sentence.
    """
    depth = contract.get("depth", {})
    if missing := [name for name in CAMERA if not isinstance(depth.get(name), int | float)]:
        raise CheckpointError(f"{path}: the contract's depth lacks {', '.join(missing)}; export the policy again.")
    unlike = _of_layout(contract)
    if robot:
        ours = JointContract.of(contract["robot"], path)
        unlike += differences(_by_joint(ours), _by_joint(JointContract.read(checkpoint_folder(robot))))
    if unlike:
        raise CheckpointError(
            f"{path} was made for another {'robot or set-up than ' + robot if robot else 'set-up'}: "
            f"{'; '.join(unlike)}; choose the checkpoint that was made for this one."
        )
    return {name: float(depth[name]) for name in CAMERA}


def _of_layout(contract: Mapping[str, Any]) -> list[str]:
    """What differs in the parts that follow from the version; the rest is the checkpoint's own."""
    here = contract_of(contract["robot"], {}, {})
    del here["robot"], here["commands"]
    trained = {key: contract[key] for key in here if key in contract}
    trained["depth"] = {key: value for key, value in contract["depth"].items() if key in here["depth"]}
    return differences(trained, here)


def _by_joint(robot: JointContract) -> dict[str, Any]:
    """By name, so that another order is one difference, and not one in every list as well."""
    numbers = {
        "position_limits": robot.position_limits.tolist(), "velocity_limits": robot.velocity_limits.tolist(),
        "torque_limits": robot.torque_limits.tolist(), "kp": robot.kp.tolist(), "kd": robot.kd.tolist(),
    }  # fmt: skip
    named = {key: dict(zip(robot.joints, values, strict=True)) for key, values in numbers.items()}
    return {"joints": list(robot.joints), **named}
