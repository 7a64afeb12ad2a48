"""Checkpoints of the walker: the policy's weights with its normaliser, the contract with its robot, and ONNX."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ros_attn import checkpoint
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.errors import CheckpointError
from ros_attn.policies.blind_policy import BlindPolicy

ONNX = "model.onnx"
RATE_HZ = 50
OBSERVATION = (
    "angular velocity in the base [3] rad/s", "gravity's direction in the base [3]",
    "command: forward, left m/s, turn rad/s [3]", "joint positions less the default pose [J] rad",
    "joint velocities [J] rad/s", "last action [J]",
)  # fmt: skip
LARGEST_DIFFERENCE = 1e-4
"""An exported network whose actions differ by more is not written."""


def contract(robot: Mapping[str, Any], commands: Mapping[str, Any]) -> dict[str, Any]:
    """What goes in and out: ``robot`` as its description gives it, with ``frames`` and ``action_scale``."""
    return {
        "system": "quadruped_walk",
        "rate_hz": RATE_HZ,
        "observation": {"one frame": list(OBSERVATION), "frames": robot["frames"], "order": "newest frame first"},
        "action": "joint targets = default pose + action_scale * action, within the position limits",
        "commands": dict(commands),
        "robot": dict(robot),
    }


def save(
    policy: BlindPolicy, path: Path, agreed: Mapping[str, Any], training: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a checkpoint with its ONNX file, once the latter was seen to give the same actions.

    Raises CheckpointError as :func:`ros_attn.checkpoint.save` does, and where the exported network differs.
    """
    hidden = [layer.out_features for layer in policy.layers if isinstance(layer, torch.nn.Linear)][:-1]
    config = {"class": "BlindPolicy", "params": {"hidden": hidden}, "training": dict(training)}
    tensors = {name: np.asarray(tensor) for name, tensor in policy.cpu().eval().state_dict().items()}
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / ONNX
        export_onnx(policy, exported, agreed)
        checkpoint.save(checkpoint.Checkpoint(config, tensors, agreed), path, overwrite)
        partial = path / f".{ONNX}.part"
        partial.write_bytes(exported.read_bytes())
        os.replace(partial, path / ONNX)


def load(path: Path) -> tuple[BlindPolicy, dict[str, Any]]:
    """The policy of a checkpoint, and its contract.

    Raises CheckpointError where it is missing, damaged, of another class, or its weights do not fit its contract.
    """
    read = checkpoint.load(path, "BlindPolicy")
    mapping = LocomotionMapping.of(read.contract.get("robot", {}))
    policy = BlindPolicy(mapping.size * mapping.frames, len(mapping.joints), read.config["params"].get("hidden", ()))
    try:
        policy.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in read.tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise CheckpointError(f"{path} does not fit its contract ({reason}); export it again.") from None
    return policy.eval(), dict(read.contract)


def export_onnx(policy: BlindPolicy, path: Path, agreed: Mapping[str, Any]) -> None:
    """Write the policy as ONNX for any number of robots, normaliser within, the contract in the metadata.

    Raises CheckpointError where ONNX Runtime's actions differ from the policy's.
    """
    import onnxruntime

    inputs = len(policy.mean)
    seen = torch.randn(5, inputs, generator=torch.Generator().manual_seed(0)) * (policy.std + 0.01) + policy.mean
    with warnings.catch_warnings():
        # About deprecations inside torch itself.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            policy, (seen,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("robots", min=1, max=4096)},),
            verbose=False, input_names=["observation"], output_names=["action"],
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.model.metadata_props["contract"] = json.dumps(agreed)
    program.save(str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for rows in (seen, seen[:1]):
        with torch.inference_mode():
            expected = policy(rows).numpy()
        difference = float(np.abs(session.run(None, {"observation": rows.numpy()})[0] - expected).max())
        if not difference <= LARGEST_DIFFERENCE:
            path.unlink()
            raise CheckpointError(
                f"The exported policy's actions differ by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}; nothing "
                "was written. Try another version of onnxscript."
            )
