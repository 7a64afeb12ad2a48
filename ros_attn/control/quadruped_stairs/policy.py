"""Checkpoints of the stair climber: the student's weights with its normaliser, the contract with its robot, and ONNX.

The ONNX network is one step: ``hidden``, ``cell``, ``held``, ``observation``, ``depth``, ``valid``, ``fresh`` to
``action``, ``next_hidden``, ``next_cell``, ``next_held``. All start as zeros; the first image of an episode must be
fresh, or ``valid`` 0.
"""

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
from torch import Tensor, nn

from ros_attn import checkpoint
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_walk.policy import LARGEST_DIFFERENCE, OBSERVATION, ONNX, RATE_HZ
from ros_attn.errors import CheckpointError
from ros_attn.policies.stair_student import DEPTH_SHAPE, VALID_SHAPE, StairStudent, StudentState

IMAGE_RATE_HZ = 10
INPUTS = ("hidden", "cell", "held", "observation", "depth", "valid", "fresh")
OUTPUTS = ("action", "next_hidden", "next_cell", "next_held")
CHECKED_STEPS = 50


def contract(robot: Mapping[str, Any], commands: Mapping[str, Any], camera: Mapping[str, Any]) -> dict[str, Any]:
    """What goes in and out: ``robot`` as its description gives it, with ``frames`` and ``action_scale``.

    ``camera`` says what its images are cut to and clipped at: near and far [m], fields of view [rad].
    """
    return {
        "system": "quadruped_stairs",
        "rate_hz": RATE_HZ,
        "observation": {"one frame": list(OBSERVATION), "frames": robot["frames"], "order": "newest frame first"},
        "depth": {
            "rate_hz": IMAGE_RATE_HZ, "image": list(DEPTH_SHAPE), "valid": list(VALID_SHAPE),
            "values": "-0.5 near, 0.5 far, 0 unknown", "fresh": "1 in the step in which the image is new",
            **camera,
        },
        "action": "joint targets = default pose + action_scale * action, within the position limits",
        "commands": dict(commands),
        "robot": dict(robot),
    }  # fmt: skip


def save(
    student: StairStudent, path: Path, agreed: Mapping[str, Any], training: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a checkpoint with its ONNX file, once the latter was seen to give the same actions.

    Raises CheckpointError as :func:`ros_attn.checkpoint.save` does, and where the exported network differs.
    """
    config = {"class": "StairStudent", "params": student.params, "training": dict(training)}
    tensors = {name: np.asarray(tensor) for name, tensor in student.cpu().eval().state_dict().items()}
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / ONNX
        export_onnx(student, exported, agreed)
        checkpoint.save(checkpoint.Checkpoint(config, tensors, agreed), path, overwrite)
        partial = path / f".{ONNX}.part"
        partial.write_bytes(exported.read_bytes())
        os.replace(partial, path / ONNX)


def load(path: Path) -> tuple[StairStudent, dict[str, Any]]:
    """The student of a checkpoint, and its contract.

    Raises CheckpointError where it is missing, damaged, of another class, or its weights do not fit its contract.
    """
    read = checkpoint.load(path, "StairStudent")
    mapping = LocomotionMapping.of(read.contract.get("robot", {}))
    try:
        student = StairStudent(mapping.size * mapping.frames, len(mapping.joints), **read.config["params"])
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is of a student that this version does not know ({error}).") from None
    try:
        student.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in read.tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise CheckpointError(f"{path} does not fit its contract ({reason}); export it again.") from None
    return student.eval(), dict(read.contract)


class _Step(nn.Module):
    def __init__(self, student: StairStudent) -> None:
        super().__init__()
        self.student = student

    def forward(
        self, hidden: Tensor, cell: Tensor, held: Tensor, observation: Tensor, depth: Tensor, valid: Tensor,
        fresh: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        action, state = self.student.step(StudentState(hidden, cell, held), observation, depth, valid, fresh)
        return action, state.hidden, state.cell, state.held


def export_onnx(student: StairStudent, path: Path, agreed: Mapping[str, Any]) -> None:
    """Write one step of the student as ONNX for any number of robots, normaliser within, the contract in the metadata.

    Raises CheckpointError where ONNX Runtime's actions differ from the student's within an episode of 50 steps with an
    image every fifth.
    """
    example = tuple(student.initial_state(3)) + _inputs(student, 3, 0)
    robots = torch.export.Dim("robots", min=1, max=4096)
    with warnings.catch_warnings():
        # About deprecations inside torch itself.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Step(student), example, dynamo=True, dynamic_shapes=({0: robots},) * len(example), verbose=False,
            input_names=list(INPUTS), output_names=list(OUTPUTS),
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
    difference = max(_difference(student, path, robots) for robots in (3, 1))
    if not difference <= LARGEST_DIFFERENCE:
        path.unlink()
        raise CheckpointError(
            f"The exported student's actions differ by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}; nothing "
            "was written. Try another version of onnxscript."
        )


def _inputs(student: StairStudent, robots: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Observation, depth, valid and fresh of one step; the images of robots are new in turn."""
    at = torch.Generator().manual_seed(step)
    image = torch.Generator().manual_seed(step // 5)
    observation = torch.randn(robots, len(student.mean), generator=at) * (student.std + 0.01) + student.mean
    depth = torch.rand(robots, *DEPTH_SHAPE, generator=image) - 0.5
    valid = torch.rand(robots, *VALID_SHAPE, generator=image) * (step // 5 % 4 > 0)
    fresh = (torch.arange(robots)[:, None] + step) % 5 == 0
    return observation, depth, valid, (fresh if step else torch.ones_like(fresh)).float()


def _difference(student: StairStudent, path: Path, robots: int) -> float:
    """The largest difference of an action or of the state in an episode, each going by its own state."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    state = student.initial_state(robots)
    theirs = [tensor.numpy() for tensor in state]
    largest = 0.0
    for step in range(CHECKED_STEPS):
        inputs = _inputs(student, robots, step)
        with torch.inference_mode():
            action, state = student.step(state, *inputs)
        given = dict(zip(INPUTS, [*theirs, *(tensor.numpy() for tensor in inputs)], strict=True))
        answer, *theirs = session.run(list(OUTPUTS), given)
        pairs = zip([answer, *theirs], [action, *state], strict=True)
        largest = max(largest, *(float(np.abs(a - b.numpy()).max()) for a, b in pairs))
    return largest
