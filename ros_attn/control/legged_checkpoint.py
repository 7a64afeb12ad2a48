"""What the checkpoints of locomotion policies share: the contract, loading, and the ONNX file beside the weights."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ros_attn import checkpoint
from ros_attn.errors import CheckpointError

ONNX = "model.onnx"
RATE_HZ = 50
OBSERVATION = (
    "angular velocity in the base [3] rad/s", "gravity's direction in the base [3]",
    "command: forward, left m/s, turn rad/s [3]", "joint positions less the default pose [J] rad",
    "joint velocities [J] rad/s", "last action [J]",
)  # fmt: skip
LARGEST_DIFFERENCE = 1e-4
"""An exported network whose outputs differ by more is not written."""


def contract(system: str, robot: Mapping[str, Any], commands: Mapping[str, Any]) -> dict[str, Any]:
    """What goes in and out: ``robot`` as its description gives it, with ``frames`` and ``action_scale``."""
    return {
        "system": system,
        "rate_hz": RATE_HZ,
        "observation": {"one frame": list(OBSERVATION), "frames": robot["frames"], "order": "newest frame first"},
        "action": "joint targets = default pose + action_scale * action, within the position limits",
        "commands": dict(commands),
        "robot": dict(robot),
    }


def save(
    policy: nn.Module, path: Path, config: Mapping[str, Any], agreed: Mapping[str, Any],
    export: Callable[[Path], None], overwrite: bool,
) -> None:  # fmt: skip
    """Write a checkpoint with the ONNX file that ``export`` writes, once the latter was written.

    Raises CheckpointError as :func:`ros_attn.checkpoint.save` and ``export`` do; nothing is written then.
    """
    tensors = {name: np.asarray(tensor) for name, tensor in policy.cpu().eval().state_dict().items()}
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / ONNX
        export(exported)
        checkpoint.save(checkpoint.Checkpoint(dict(config), tensors, dict(agreed)), path, overwrite)
        partial = path / f".{ONNX}.part"
        partial.write_bytes(exported.read_bytes())
        os.replace(partial, path / ONNX)


def fill(policy: nn.Module, read: checkpoint.Checkpoint, path: Path) -> None:
    """Give ``policy`` the weights of a checkpoint ``read`` from ``path``. Raises CheckpointError where they differ."""
    try:
        policy.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in read.tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise CheckpointError(f"{path} does not fit its contract ({reason}); export it again.") from None


def write_onnx(
    network: nn.Module, example: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str],
    agreed: Mapping[str, Any], path: Path,
) -> None:  # fmt: skip
    """Write ``network`` as ONNX for any number of robots along the first axes, the contract in the metadata."""
    # It tells whoever exports that torchvision, which nothing here uses, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    robots = torch.export.Dim("robots", min=1, max=4096)
    with warnings.catch_warnings():
        # About deprecations inside torch itself.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, tuple(example), dynamo=True, dynamic_shapes=({0: robots},) * len(example), verbose=False,
            input_names=list(inputs), output_names=list(outputs),
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    for each in program.model.graph.inputs:
        # What a network does not use (a blind one its images) would be of the example's size.
        assert each.shape is not None
        each.shape[0] = "robots"
    program.model.metadata_props["contract"] = json.dumps(agreed)
    program.save(str(path))


def session(path: Path) -> Any:
    """An ``InferenceSession`` of ONNX Runtime for a file, on the CPU and without its warnings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def keep_where_alike(path: Path, difference: float, whose: str) -> None:
    """Remove an ONNX file and raise CheckpointError where its outputs differ by more than ``LARGEST_DIFFERENCE``."""
    if not difference <= LARGEST_DIFFERENCE:
        path.unlink()
        raise CheckpointError(
            f"The exported {whose}'s actions differ by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}; nothing "
            "was written. Try another version of onnxscript."
        )
