"""``ros-attn params``: the generated files, written from the parameter classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.errors import RosAttnError


@dataclass(frozen=True)
class Options:
    """Write <folder>/<component>.yaml for every component, or compare with --check."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("launch/config")
    """where the files go."""
    check: bool = False
    """write nothing; fail where a file differs from what would be written."""


def generated() -> dict[str, str]:
    """File names and texts of all generated parameter files."""
    return {f"{name}.yaml": parameters.ros_yaml(name, registry.find(name).Params) for name in registry.built_in()}


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn params")
    if not options.folder.is_dir():
        raise RosAttnError(f"There is no folder {options.folder}; run this in the repository, or name a folder.")
    for name, text in generated().items():
        path = options.folder / name
        if path.is_file() and path.read_text() == text:
            continue
        if options.check:
            raise RosAttnError(f"{path} differs from its parameter class; run `ros-attn params`.")
        path.write_text(text)
        print(f"wrote {path}")
    return 0
