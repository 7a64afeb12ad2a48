"""Checkpoints: a directory of ``config.json``, ``model.safetensors`` (normaliser inside) and ``contract.json``.

The contract says what the weights were trained for: names, order, shapes, units, rates, frames, joint order,
default pose, gains. Loading compares it with the robot, the simulation or the topics at hand and reports all
differences in one message. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn import provenance
from ros_attn.errors import CheckpointError
from ros_attn.values import Array

CONFIG, MODEL, CONTRACT = "config.json", "model.safetensors", "contract.json"
FORMAT = 1
# What Python's pickle, zip (torch.save) and gzip files begin with.
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x1f\x8b")


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name, the configuration they were trained under, and the contract they keep.

    ``config`` holds at least ``class`` (which network), ``params`` and ``training`` (data and its terms);
    :func:`save` adds format, version, commit and date.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Array]
    contract: Mapping[str, Any]


def save(checkpoint: Checkpoint, path: Path, overwrite: bool = False) -> None:
    """Write a checkpoint directory; it appears under its name only when complete.

    Raises :class:`CheckpointError` where ``path`` exists, a weight is not finite, or ``config`` lacks a key.
    """
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already and is not overwritten; choose another name or remove it.")
    for key in ("class", "params", "training"):
        if key not in checkpoint.config:
            raise CheckpointError(
                f"The configuration of {path} lacks {key!r}; a checkpoint says what it is and from what."
            )
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise CheckpointError(
                f"Weight {name!r} is not finite; {path} is not written. Look at the last training steps."
            )
    config = {**checkpoint.config, "format": FORMAT, "provenance": provenance.provenance()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        (partial / CONTRACT).write_text(json.dumps(checkpoint.contract, indent=2) + "\n")
        write_tensors(checkpoint.tensors, partial / MODEL)
        partial.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load(path: Path, of_class: str, contract: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint of ``of_class`` and compare its contract with the one at hand.

    Raises :class:`CheckpointError` where it is missing, damaged, pickled, of another class or a newer format,
    or where the contracts differ, naming every difference.
    """
    described = configuration(path)
    if described.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"{path} has format {described['format']}, newer than this version's {FORMAT}; update ros_attn."
        )
    if described.get("class") != of_class:
        raise CheckpointError(
            f"{path} holds a {described.get('class')!r}, not a {of_class!r}; choose another checkpoint."
        )
    found = _json(path / CONTRACT)
    if contract is not None and (unlike := differences(found, contract)):
        listed = "\n  ".join(unlike)
        raise CheckpointError(f"{path} was made for another robot or set-up; {len(unlike)} differences:\n  {listed}")
    return Checkpoint(described, read_tensors(path / MODEL), found)


def configuration(path: Path) -> dict[str, Any]:
    """The configuration alone, for those who must choose a class by it. Raises CheckpointError as :func:`load` does."""
    _check_presence(path)
    return _json(path / CONFIG)


def _check_presence(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4).startswith(_PICKLED):
                raise CheckpointError(
                    f"{path} is a pickled or zipped file, which could run code when opened; "
                    "export it to a checkpoint directory (safetensors) where you trust it."
                )
        raise CheckpointError(f"{path} is a file; a checkpoint is a directory with {CONFIG}, {MODEL} and {CONTRACT}.")
    if not path.is_dir():
        raise CheckpointError(f"There is no checkpoint {path}; check the path.")
    absent = [name for name in (CONFIG, MODEL, CONTRACT) if not (path / name).is_file()]
    if absent:
        raise CheckpointError(f"{path} is no complete checkpoint: {', '.join(absent)} missing; copy it again.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the checkpoint again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged (no mapping); copy the checkpoint again.")
    return content


def write_tensors(tensors: Mapping[str, Array], path: Path) -> None:
    """Write a safetensors file, beside it first and then under its name."""
    from safetensors.numpy import save_file

    partial = path.with_name(f".{path.name}.part")
    save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, partial)
    partial.chmod(0o644)
    os.replace(partial, path)


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file. Raises CheckpointError where it is damaged or pickled."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with path.open("rb") as file:
        if file.read(4).startswith(_PICKLED):
            raise CheckpointError(
                f"{path} is pickled in spite of its name and is not opened; export it to safetensors."
            )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the checkpoint again.") from None


def differences(trained: Any, at_hand: Any, where: str = "") -> list[str]:
    """Every difference between two contracts, one sentence each; numbers agree within 1e-6 relative."""
    if isinstance(trained, Mapping) and isinstance(at_hand, Mapping):
        found = []
        for key in [*trained, *(key for key in at_hand if key not in trained)]:
            name = f"{where}.{key}" if where else str(key)
            if key not in at_hand:
                found.append(f"{name}: trained with {_short(trained[key])}, absent here")
            elif key not in trained:
                found.append(f"{name}: {_short(at_hand[key])} here, unknown to the checkpoint")
            else:
                found += differences(trained[key], at_hand[key], name)
        return found
    if isinstance(trained, list | tuple) and isinstance(at_hand, list | tuple):
        if _all_text(trained) and _all_text(at_hand):
            return _of_names(list(trained), list(at_hand), where)
        if len(trained) != len(at_hand):
            return [f"{where}: {len(trained)} entries in the checkpoint, {len(at_hand)} here"]
        pairs = zip(trained, at_hand, strict=True)
        return [each for k, (a, b) in enumerate(pairs) for each in differences(a, b, f"{where}[{k}]")]
    if trained == at_hand or _close(trained, at_hand):
        return []
    return [f"{where}: {_short(trained)} in the checkpoint, {_short(at_hand)} here"]


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
        return False
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _all_text(items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, str) for item in items)


def _of_names(trained: list[str], at_hand: list[str], where: str) -> list[str]:
    if trained == at_hand:
        return []
    if sorted(trained) == sorted(at_hand):
        k = next(k for k, (a, b) in enumerate(zip(trained, at_hand, strict=True)) if a != b)
        return [
            f"{where}: the same names in another order, first at {k}: {trained[k]} in the checkpoint, {at_hand[k]} here"
        ]
    lacking = [name for name in trained if name not in at_hand]
    extra = [name for name in at_hand if name not in trained]
    parts = [f"lacking here: {', '.join(lacking)}"] * bool(lacking) + [f"only here: {', '.join(extra)}"] * bool(extra)
    return [f"{where}: {'; '.join(parts)}"]


def _short(item: Any) -> str:
    text = json.dumps(item, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
