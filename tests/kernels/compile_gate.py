"""Compiles every row of the table of block sizes, without a GPU, and reads in the machine code what it is worth.

``python -m tests.kernels.compile_gate [--triton FOLDER] [--table FILE] [--arch sm_90 ...] [--out FILE]`` prints a line
for each kernel and ends with 1 if any of them

- keeps registers on a stack (head dims up to 128),
- lacks HGMMA, Hopper's matrix instruction, where a tile of scores has 64 rows of a 16-bit type,
- does not copy all of its two operand tiles asynchronously, in the loop, while it computes,
- takes more than one MUFU a score in sigmoid of a 16-bit type,
- needs more shared memory than the GPUs have that the row is for.

The launchers themselves are run, with tensors on the CPU and a stand-in for Triton's driver: what is compiled is what a
GPU would be given. ``--triton`` names a folder with another Triton, to be imported in place of the installed one,
``--table`` a file with rows to try in place of the committed ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from ros_attn.kernels.configurations import Configuration, Row, parse, table
from tests.kernels import sass

# Of sm_80's rows that of sm_86, sm_89 and sm_12x, which take them too.
SHARED_MEMORY = {"sm_80": 99 * 1024, "sm_90": 227 * 1024}
KERNELS = {"forward": "forward_kernel", "dq": "dq_kernel", "dkv": "dkv_kernel", "decode": "split_kernel"}
# Products of tiles in a step of the loop, each as wide as the head.
PRODUCTS = {"forward": 2, "dq": 3, "dkv": 4, "decode": 2}
LENGTH = 512


@dataclass(frozen=True)
class Finding:
    """What one kernel is made of. ``copied``: asynchronous copies of the loop over the bytes of its operand tiles."""

    triton: str
    row: Row
    kernel: str
    registers: int
    stack: int
    shared: int
    matrix: str
    copies: int
    copied: float
    mufu: float
    """MUFU a score in the loop; 0 where there is none."""
    seconds: float
    problems: list[str] = field(default_factory=list)


def problems(finding: Finding) -> list[str]:
    """Why a finding does not pass, in words; nothing if it does."""
    row, wrong = finding.row, []
    sixteen = row.dtype == "16-bit"
    height = row.tile_k if row.op == "dkv" else row.tile_q  # dkv has its scores transposed
    if finding.stack and row.head_dim <= 128:
        wrong.append(f"{finding.stack} bytes of stack")
    if finding.shared > SHARED_MEMORY[row.arch]:
        wrong.append(f"{finding.shared} bytes of shared memory, {SHARED_MEMORY[row.arch]} are there")
    if not finding.matrix:
        wrong.append("no loop that multiplies")
    elif sixteen and row.arch == "sm_90" and height >= 64 and finding.matrix != "HGMMA":
        wrong.append(f"{finding.matrix} and no HGMMA")
    elif sixteen and finding.matrix == "FFMA":
        wrong.append("no matrix instruction")
    if not finding.copies:
        wrong.append("no asynchronous copy in the loop")
    elif finding.copied < 0.95:  # FFMA of other arithmetic look like products
        wrong.append(f"only {finding.copied:.0%} of the tiles copied asynchronously")
    if sixteen and row.normaliser == "sigmoid" and finding.mufu > 1:
        wrong.append(f"{finding.mufu:.2f} MUFU a score")
    return wrong


def launch(row: Row) -> None:
    """Have the row's kernel launched, and whatever else its launcher launches, as for ragged kinds over frames."""
    import torch

    from ros_attn.kernels import decode_triton
    from ros_attn.kernels.layout import PAST, memory
    from ros_attn.kernels.visibility import Visibility

    torch.set_num_threads(1)
    dtype = torch.bfloat16 if row.dtype == "16-bit" else torch.float32
    length_q = 4 if row.op == "decode" else LENGTH
    heads, shared = 2, 1
    at_q, at_k = (torch.arange(length, dtype=torch.int32)[None] // 64 for length in (length_q, LENGTH))
    seen = Visibility(
        (("a", length_q),), (("a", LENGTH - 100), ("b", 100)), {("a", "a"): memory(4, 1), ("a", "b"): PAST}, at_q, at_k
    )
    q = torch.zeros(1, length_q, heads, row.head_dim, dtype=dtype)
    k, v = torch.zeros(2, 1, LENGTH, shared, row.head_dim, dtype=dtype)
    call: dict[str, Any] = {
        "layout": seen.layout, "frame_q": at_q, "frame_k": at_k, "open": None, "len_q": None, "len_k": None,
        "normaliser": row.normaliser, "scale": 0.1,
    }  # fmt: skip
    if row.op == "decode":
        decode_triton.decode(q, k, v, None, **call)
        return
    from ros_attn.kernels import attend_triton

    if row.op == "forward":
        attend_triton.forward(q, k, v, None, **call)
    else:
        lse = torch.zeros(0 if row.normaliser == "sigmoid" else (1, length_q, heads))
        d_lse = None if row.normaliser == "sigmoid" else torch.zeros_like(lse)
        attend_triton.backward(q, d_lse, q, k, v, q, lse, None, key_bias_grad=False, **call)


class _Driver:
    """Triton's driver as far as compiling asks it; its devices are numbered by architecture."""

    def __init__(self, arch: str) -> None:
        self._number = int(arch.removeprefix("sm_"))

    def get_current_device(self) -> int:
        return self._number

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._number, 32)


def compiled(row: Row) -> tuple[Any, float]:
    """The row's kernel as its launcher has it compiled, and the seconds that took."""
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from ros_attn.kernels import decode_triton

    launcher: Any = decode_triton
    if row.op != "decode":
        from ros_attn.kernels import attend_triton

        launcher = attend_triton
    kernels: list[Any] = []
    plain = JITFunction.run

    def only_compile(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        if self.__name__ == KERNELS[row.op]:
            kernels.append(plain(self, *arguments, grid=grid, warmup=True, **options))

    sizes = Configuration(row.tile_q, row.tile_k, row.warps, row.stages, row.source)
    driver.set_active(_Driver(row.arch))  # pyright: ignore[reportArgumentType]
    start = time.monotonic()
    with (
        mock.patch.object(JITFunction, "run", only_compile),
        mock.patch.object(launcher, "configuration", return_value=sizes),
    ):
        launch(row)
    return kernels[0], time.monotonic() - start


def examine(row: Row) -> Finding:
    """Compile a row and read the machine code."""
    import triton

    kernel, seconds = compiled(row)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(kernel.asm["cubin"])
        usage = _output(tools / "cuobjdump", "-res-usage", binary)
        listing = _output(tools / "nvdisasm", "-c", binary)
    registers, stack = (int(each) for each in re.findall(r"(?:REG|STACK):(\d+)", usage)[:2])
    finding = Finding(
        triton.__version__, row, KERNELS[row.op], registers, stack, int(kernel.metadata.shared), seconds=seconds,
        **read(row, listing),
    )  # fmt: skip
    return replace(finding, problems=problems(finding))


def read(row: Row, listing: str) -> dict[str, Any]:
    """Of the loops that multiply, the worst of each: which matrix instruction, copies and their share, MUFU a score."""
    found = sass.loops(listing)
    bodies = sass.innermost(found, "HGMMA", "HMMA") or [
        body for body in sass.innermost(found, "FFMA") if sum(each.name == "FFMA" for each in body) >= 64
    ]
    matrix, copies, copied, mufu = "", 0, 0.0, 0.0
    for number, body in enumerate(bodies):
        names = [each.name for each in body]
        own = next(name for name in ("HMMA", "HGMMA", "FFMA") if name in names)
        bulk = names.count("UTMALDG")
        started = names.count("LDGSTS") + bulk
        scores = sass.products(body, row.warps) / (row.head_dim * PRODUCTS[row.op])
        steps = scores / (row.tile_q * row.tile_k)
        tile = row.tile_q if row.op == "dkv" else row.tile_k
        operands = 2 * tile * row.head_dim * (2 if row.dtype == "16-bit" else 4) * steps
        share = 1.0 if bulk else sass.copied_bytes(body) * 32 * row.warps / operands
        first = number == 0
        matrix = own if first else min(matrix, own, key=("FFMA", "HMMA", "HGMMA").index)
        copies = started if first else min(copies, started)
        copied = share if first else min(copied, share)
        mufu = max(mufu, names.count("MUFU") * 32 * row.warps / scores)
    return {"matrix": matrix, "copies": copies, "copied": copied, "mufu": mufu}


def _output(*command: Path | str) -> str:
    return subprocess.run([str(each) for each in command], check=True, capture_output=True, text=True).stdout


def _prepare(other: str | None, cache: str) -> None:
    """In a process of its own, before Triton is imported: which Triton, and nothing kept from earlier runs."""
    if other:
        sys.path.insert(0, other)
    os.environ |= {"TRITON_CACHE_DIR": cache, "TRITON_DISABLE_LINE_INFO": "1", "TRITON_DEFAULT_FP_FUSION": "1"}
    os.environ.pop("TRITON_INTERPRET", None)


def gate(rows: Iterable[Row], other: str | None = None, jobs: int = 2) -> list[Finding]:
    """Examine rows in ``jobs`` processes with the installed Triton, or with the one in the folder ``other``."""
    # Those that take longest first.
    order = sorted(rows, key=lambda row: (row.dtype != "fp32", -row.head_dim * row.tile_q * row.tile_k))
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare, (other, cache)) as pool,
    ):
        found = list(pool.map(examine, order))
    return sorted(found, key=lambda each: list(asdict(each.row).values())[:6])


COLUMNS = (
    "op", "normaliser", "D", "dtype", "arch", "tile", "warps", "stages", "regs", "stack", "shared", "matrix", "copies",
    "copied", "MUFU", "s",
)  # fmt: skip
LINE = "{:8}{:11}{:>4} {:7}{:6}{:>8}{:>6}{:>7}{:>5}{:>6}{:>8} {:7}{:>6}{:>8}{:>6}{:>6}"


def line(finding: Finding) -> str:
    row = finding.row
    text = LINE.format(
        row.op, row.normaliser, row.head_dim, row.dtype, row.arch, f"{row.tile_q}x{row.tile_k}", row.warps, row.stages,
        finding.registers, finding.stack, finding.shared, finding.matrix or "none", finding.copies,
        f"{finding.copied:.2f}", f"{finding.mufu:.2f}", f"{finding.seconds:.1f}",
    )  # fmt: skip
    return text + "".join(f"  ! {each}" for each in finding.problems)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="compile_gate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--triton", metavar="FOLDER", help="a folder with another Triton than the installed one")
    parser.add_argument("--table", type=Path, metavar="FILE", help="rows to try, as configurations.json has them")
    parser.add_argument("--op", nargs="*", choices=KERNELS, help="rows of these only")
    parser.add_argument("--arch", nargs="*", choices=SHARED_MEMORY, help="rows of these only")
    parser.add_argument("--dtype", nargs="*", choices=("16-bit", "fp32"), help="rows of these only")
    parser.add_argument("--jobs", type=int, default=2, help="processes that compile (2)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the findings as JSON")
    asked = parser.parse_args(arguments)
    rows = [
        row for row in (parse(asked.table.read_text(encoding="utf-8")) if asked.table else table())
        if (not asked.op or row.op in asked.op) and (not asked.arch or row.arch in asked.arch)
        and (not asked.dtype or row.dtype in asked.dtype)
    ]  # fmt: skip
    found = gate(rows, asked.triton, asked.jobs)
    print(f"Triton {found[0].triton if found else 'unused'}")
    print(LINE.format(*COLUMNS))
    for finding in found:
        print(line(finding))
    if asked.out:
        asked.out.write_text(json.dumps([asdict(each) for each in found], indent=1), encoding="utf-8")
    bad = sum(bool(each.problems) for each in found)
    print(f"{len(found)} kernels, {bad} with problems")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
