"""What a training of the stair climber leaves to the stages after it, and beside a checkpoint to whoever goes on.

The file ``training.safetensors`` of a checkpoint directory has teacher, critic and student under the names that
training gives them, ``teacher.*`` and so on, which is all that a stage begins with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ros_attn import checkpoint
from ros_attn.errors import CheckpointError
from ros_attn.policies.training_loop import STATE

FILE = "training.safetensors"
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Left:
    """Weights of teacher, critic and student, empty where there is none yet, and the level that was reached."""

    teacher: Weights
    critic: Weights
    student: Weights
    level: float


NOTHING = Left({}, {}, {}, 0.0)
# Under which names the algorithms of the stages save the networks that they train.
_TRAINED = {
    1: {"teacher": "actor", "critic": "critic"}, 2: {"student": "student"}, 3: {"student": "actor", "critic": "critic"}
}  # fmt: skip


def of_run(stages: Mapping[int, Path], begun_with: Left = NOTHING) -> Left:
    """What a run has left in the folders of its stages, by number: later stages count; else what it has begun with."""
    left = begun_with
    for number, path in sorted(stages.items()):
        if (path / STATE).is_file():
            state = torch.load(path / STATE, weights_only=True)
            trained = {whose: state["algorithm"][f"{name}_state_dict"] for whose, name in _TRAINED[number].items()}
            left = replace(left, **trained, level=state["progress"]["means"]["curriculum/level"])
    return left


def save(left: Left, path: Path) -> None:
    """Write the file of the checkpoint directory ``path``."""
    tensors = {
        f"{whose}.{name}": tensor.cpu().numpy()
        for whose in ("teacher", "critic", "student") for name, tensor in getattr(left, whose).items()
    }  # fmt: skip
    checkpoint.write_tensors(tensors, path / FILE)


def load(path: Path) -> Left:
    """What lies beside a checkpoint. Raises CheckpointError where that is none of a student, or nothing lies there."""
    described = checkpoint.configuration(path)
    if described.get("class") != "StairStudent" or not (path / FILE).is_file():
        raise CheckpointError(f"{path} has no {FILE} to go on from; name a checkpoint of quadruped_stairs that has.")
    parts: dict[str, dict[str, Any]] = {"teacher": {}, "critic": {}, "student": {}}
    for name, tensor in checkpoint.read_tensors(path / FILE).items():
        whose, _, rest = name.partition(".")
        parts[whose][rest] = torch.from_numpy(tensor.copy())
    return Left(**parts, level=float(described["training"]["level"]))
