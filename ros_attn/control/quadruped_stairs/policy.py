"""Checkpoints of the stair climber: the student's weights with its normaliser, the contract with its robot, and ONNX.

The ONNX network is one step: ``hidden``, ``cell``, ``held``, ``observation``, ``depth``, ``valid``, ``fresh`` to
``action``, ``next_hidden``, ``next_cell``, ``next_held``. All start as zeros; the first image of an episode must be
fresh, or ``valid`` 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ros_attn import checkpoint
from ros_attn.control import legged_checkpoint
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.errors import CheckpointError
from ros_attn.policies.stair_student import DEPTH_SHAPE, VALID_SHAPE, StairStudent, StudentState

IMAGE_RATE_HZ = 10
INPUTS = ("hidden", "cell", "held", "observation", "depth", "valid", "fresh")
OUTPUTS = ("action", "next_hidden", "next_cell", "next_held")
CHECKED_STEPS = 50


def contract(robot: Mapping[str, Any], commands: Mapping[str, Any], camera: Mapping[str, Any]) -> dict[str, Any]:
    """See :func:`ros_attn.control.legged_checkpoint.contract`.

    ``camera`` says what its images are cut to and clipped at: near and far [m], fields of view [rad].
    """
    return legged_checkpoint.contract("quadruped_stairs", robot, commands) | {
        "depth": {
            "rate_hz": IMAGE_RATE_HZ, "image": list(DEPTH_SHAPE), "valid": list(VALID_SHAPE),
            "values": "-0.5 near, 0.5 far, 0 unknown", "fresh": "1 in the step in which the image is new",
            **camera,
        },
    }  # fmt: skip


def save(
    student: StairStudent, path: Path, agreed: Mapping[str, Any], training: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a checkpoint with its ONNX file, once the latter was seen to give the same actions.

    Raises CheckpointError as :func:`ros_attn.checkpoint.save` does, and where the exported network differs.
    """
    config = {"class": "StairStudent", "params": student.params, "training": dict(training)}
    legged_checkpoint.save(student, path, config, agreed, lambda onnx: export_onnx(student, onnx, agreed), overwrite)


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
    legged_checkpoint.fill(student, read, path)
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
    legged_checkpoint.write_onnx(_Step(student), example, INPUTS, OUTPUTS, agreed, path)
    difference = max(_difference(student, path, robots) for robots in (3, 1))
    legged_checkpoint.keep_where_alike(path, difference, "student")


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
    session = legged_checkpoint.session(path)
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
