"""The checkpoints that come with the package, by name: ``weights`` folders beside the components that take them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ros_attn.errors import CheckpointError, listed, meant


def shipped() -> dict[str, Path]:
    """Name and directory of each."""
    systems = Path(str(resources.files("ros_attn.control")))
    return {folder.name: folder for folder in sorted(systems.glob("*/weights/*")) if folder.is_dir()}


def checkpoint_folder(given: str) -> Path:
    """The directory that ``given`` names: a path, or else a checkpoint that comes with the package.

    Raises CheckpointError where there is neither.
    """
    path = Path(given)
    if path.exists():
        return path
    known = shipped()
    if given in known:
        return known[given]
    beside = [other.name for other in path.absolute().parent.iterdir()] if path.absolute().parent.is_dir() else []
    raise CheckpointError(
        f"There is no checkpoint {given}{meant(path.name, [*known, *beside])}; give a directory, or one of "
        f"the package: {listed(known) or 'none'}."
    )
