"""Block sizes of the Triton kernels: a committed table by operation, normaliser, head dim, dtype and architecture.

Nothing is tuned at run time: results and start-up time would vary, and Triton's interpreter cannot. Each row of
``configurations.json`` says where it comes from: ``compile gate`` (it compiles without spilling and copies ahead, see
tests/kernels/compile_gate.py) or ``measured``, with date, commit and device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

import torch

from ros_attn.errors import meant
from ros_attn.kernels.backend import BackendError

OPERATIONS = ("forward", "dq", "dkv", "decode")
SIXTEEN = (torch.float16, torch.bfloat16)
# Whose rows a GPU without rows of its own takes. Those of sm_80 fit the 99 KiB of shared memory of sm_86, sm_89 and
# sm_12x; sm_10x and sm_11x have at least what sm_90 has.
_STANDS_IN = {8: "sm_80", 9: "sm_90", 10: "sm_90", 11: "sm_90", 12: "sm_80"}


@dataclass(frozen=True)
class Configuration:
    """Rows and columns of a score tile, warps a program, and how many tiles of the loop are in flight."""

    tile_q: int
    tile_k: int
    warps: int
    stages: int
    source: str = field(compare=False)
    """Where the row comes from and, for an architecture without rows of its own, whose it is."""


@dataclass(frozen=True)
class Row:
    """One row of the table. ``head_dim`` is the largest it is for; ``dtype`` is ``16-bit`` or ``fp32``."""

    op: str
    normaliser: str
    head_dim: int
    dtype: str
    arch: str
    tile_q: int
    tile_k: int
    warps: int
    stages: int
    source: str


@lru_cache(maxsize=1)
def table() -> tuple[Row, ...]:
    """The committed rows."""
    return parse((resources.files("ros_attn.kernels") / "configurations.json").read_text(encoding="utf-8"))


def parse(text: str) -> tuple[Row, ...]:
    """The rows of a table in JSON."""
    return tuple(Row(**row) for row in json.loads(text)["rows"])


@lru_cache(maxsize=512)
def configuration(
    op: str, normaliser: str, head_dim: int, dtype: torch.dtype, arch: str, *, rows: int | None = None
) -> Configuration:
    """The sizes for a kernel: those of the smallest tabled head dim that holds ``head_dim``.

    op: forward, dq, dkv or decode. normaliser: softmax or sigmoid. arch: ``sm_90`` and the like, see ``architecture``.
    rows: for decode the rows of queries and heads; the smallest tile that holds them, else the largest.

    Raises ``ValueError`` for an unknown op, ``BackendError`` where the table has no row.
    """
    if op not in OPERATIONS:
        raise ValueError(f"there is no operation {op!r}{meant(op, OPERATIONS)}; there are {', '.join(OPERATIONS)}")
    kind = "16-bit" if dtype in SIXTEEN else str(dtype).removeprefix("torch.").replace("float", "fp")
    own = any(row.arch == arch for row in table())
    of = arch if own else _STANDS_IN.get(_number(arch) // 10, arch)
    fitting = [
        row for row in table()
        if (row.op, row.normaliser, row.dtype, row.arch) == (op, normaliser, kind, of) and row.head_dim >= head_dim
    ]  # fmt: skip
    if not fitting:
        raise BackendError(
            f"the table of Triton's block sizes has no row for {op} with {normaliser}, head dim {head_dim}, {kind} on "
            f"{arch}; take another backend of attend"
        )
    width = min(row.head_dim for row in fitting)
    tiles = sorted((row for row in fitting if row.head_dim == width), key=lambda row: row.tile_q)
    row = next((row for row in tiles if rows is not None and row.tile_q >= rows), tiles[-1])
    borrowed = "" if own else f"the row of {of}, as there is none for {arch}; "
    return Configuration(row.tile_q, row.tile_k, row.warps, row.stages, borrowed + row.source)


@lru_cache(maxsize=16)
def architecture(device: torch.device) -> str:
    """``sm_90`` and the like of a CUDA device; ``sm_90`` for others, where Triton's interpreter runs."""
    if device.type != "cuda":
        return "sm_90"
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def _number(arch: str) -> int:
    digits = arch.removeprefix("sm_").rstrip("af")
    return int(digits) if digits.isdigit() else 0
