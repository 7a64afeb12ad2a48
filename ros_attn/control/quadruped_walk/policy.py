"""Checkpoints of the walker: the policy's weights with its normaliser, the contract with its robot, and ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ros_attn import checkpoint
from ros_attn.control import legged_checkpoint
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.policies.blind_policy import BlindPolicy


def contract(robot: Mapping[str, Any], commands: Mapping[str, Any]) -> dict[str, Any]:
    """See :func:`ros_attn.control.legged_checkpoint.contract`."""
    return legged_checkpoint.contract("quadruped_walk", robot, commands)


def save(
    policy: BlindPolicy, path: Path, agreed: Mapping[str, Any], training: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a checkpoint with its ONNX file, once the latter was seen to give the same actions.

    Raises CheckpointError as :func:`ros_attn.checkpoint.save` does, and where the exported network differs.
    """
    hidden = [layer.out_features for layer in policy.layers if isinstance(layer, torch.nn.Linear)][:-1]
    config = {"class": "BlindPolicy", "params": {"hidden": hidden}, "training": dict(training)}
    legged_checkpoint.save(policy, path, config, agreed, lambda onnx: export_onnx(policy, onnx, agreed), overwrite)


def load(path: Path) -> tuple[BlindPolicy, dict[str, Any]]:
    """The policy of a checkpoint, and its contract.

    Raises CheckpointError where it is missing, damaged, of another class, or its weights do not fit its contract.
    """
    read = checkpoint.load(path, "BlindPolicy")
    mapping = LocomotionMapping.of(read.contract.get("robot", {}))
    policy = BlindPolicy(mapping.size * mapping.frames, len(mapping.joints), read.config["params"].get("hidden", ()))
    legged_checkpoint.fill(policy, read, path)
    return policy.eval(), dict(read.contract)


def export_onnx(policy: BlindPolicy, path: Path, agreed: Mapping[str, Any]) -> None:
    """Write the policy as ONNX for any number of robots, normaliser within, the contract in the metadata.

    Raises CheckpointError where ONNX Runtime's actions differ from the policy's.
    """
    seen = torch.randn(5, len(policy.mean), generator=torch.Generator().manual_seed(0))
    seen = seen * (policy.std + 0.01) + policy.mean
    legged_checkpoint.write_onnx(policy, (seen,), ("observation",), ("action",), agreed, path)
    session = legged_checkpoint.session(path)
    for rows in (seen, seen[:1]):
        with torch.inference_mode():
            expected = policy(rows).numpy()
        answer = np.asarray(session.run(None, {"observation": rows.numpy()})[0])
        legged_checkpoint.keep_where_alike(path, float(np.abs(answer - expected).max()), "policy")
