"""``ros-attn bench kernels``: the figures of the attention kernels, row by row, beside their peers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """Measure the kernels: ceilings and correctness (a), block sizes (b), peers (c), counters (d), the CPU path (cpu).

    a to d need a GPU. Rows that are there for the same kernels and device are kept; see docs/kernels.md.
    """

    what: Annotated[Literal["kernels"], tyro.conf.Positional]
    section: Literal["a", "b", "c", "d", "cpu"]
    out: Path = Path("tests/bench/results")
    """folder for kernels_<section>.json."""
    limit_s: float = 520.0
    """stop with what there is after this time."""
    again: bool = False
    """measure rows that are there already, too."""
    only: str = ""
    """rows whose name holds this text."""
    apply: bool = False
    """section b: write what is faster into the table of block sizes itself."""
    rounds: int = 15
    """section cpu: how often each function is timed."""


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn bench")
    from ros_attn.kernels.bench import gpu

    flags = [f"--{name}" for name in ("again", "apply") if getattr(options, name)]
    return gpu.run([
        "--section", options.section, "--out", str(options.out), "--limit-s", str(options.limit_s),
        "--only", options.only, "--rounds", str(options.rounds), *flags,
    ])  # fmt: skip
