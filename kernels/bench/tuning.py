"""Which block sizes are fastest: each candidate in turns with the row of the table it would replace, on three shapes.

Nothing here runs when attention does. What is found becomes the committed table by ``--apply``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ros_attn.kernels import configurations
from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench.contest import Context, normal
from ros_attn.kernels.bench.decoding import Step, ring
from ros_attn.kernels.bench.machine import Call
from ros_attn.kernels.bench.patterns import memory_wam
from ros_attn.kernels.bench.peers import Peer
from ros_attn.kernels.bench.rows import Row as Found
from ros_attn.kernels.bench.rows import Task
from ros_attn.kernels.configurations import Row, architecture
from ros_attn.kernels.visibility import Visibility

Sizes = tuple[int, int, int, int]
"""tile_q, tile_k, warps, stages."""
Made = Callable[[], tuple[Tensor, ...]]
DECODED = 8
"""Heads of decode."""
CANDIDATES: dict[str, dict[int, tuple[Sizes, ...]]] = {
    "forward": {
        64: ((128, 64, 8, 3), (128, 64, 4, 3), (128, 64, 4, 4), (128, 128, 8, 2), (128, 128, 8, 3), (64, 64, 4, 3),
             (64, 128, 4, 3), (64, 64, 4, 4)),
        128: ((128, 64, 8, 3), (128, 64, 8, 2), (128, 64, 8, 4), (128, 128, 8, 2), (64, 64, 4, 3), (64, 64, 4, 2),
              (128, 32, 8, 4)),
        256: ((128, 32, 8, 2), (128, 32, 8, 3), (128, 64, 8, 2), (64, 32, 4, 2), (64, 32, 4, 3)),
    },
    "dq": {
        64: ((64, 64, 4, 3), (64, 64, 4, 2), (128, 64, 8, 3), (128, 64, 8, 2), (64, 128, 4, 2), (64, 32, 4, 4)),
        128: ((64, 64, 4, 2), (64, 64, 4, 3), (64, 32, 4, 3), (128, 64, 8, 2), (128, 32, 8, 3), (128, 32, 8, 2)),
        256: ((128, 32, 8, 2), (64, 32, 4, 2), (64, 32, 4, 3), (32, 32, 4, 2)),
    },
    "dkv": {
        64: ((64, 64, 4, 3), (64, 64, 4, 2), (64, 128, 8, 2), (64, 128, 8, 3), (32, 128, 8, 3), (32, 64, 4, 4)),
        128: ((64, 128, 8, 2), (32, 128, 8, 2), (32, 128, 8, 3), (32, 64, 4, 3)),
        256: ((64, 32, 8, 2), (64, 32, 8, 1), (32, 32, 4, 2)),
    },
    "decode": {
        64: tuple((0, *each) for each in (
            (64, 4, 3), (64, 4, 2), (64, 4, 4), (64, 8, 3), (64, 2, 3), (32, 4, 4), (32, 2, 4), (32, 4, 3),
        )),
        128: tuple((0, *each) for each in (
            (64, 4, 3), (64, 4, 2), (64, 4, 4), (64, 8, 3), (32, 4, 4), (32, 2, 4), (32, 4, 3),
        )),
        256: tuple((0, *each) for each in ((64, 4, 3), (64, 4, 2), (32, 4, 4), (32, 2, 4), (32, 4, 3))),
    },
}  # fmt: skip
"""By operation and head dim, 8 at most. Left out is what the compile gate refuses outright: products done by several
warps at once, hundreds of bytes of stack, no copies ahead, more shared memory than there is. The rows of decode
keep their tile of queries, hence 0; below 4 warps tiles of 64 rows have no HGMMA."""
ORDER = (("sigmoid", "forward"), ("softmax", "forward"), ("softmax", "decode"), ("softmax", "dkv"), ("softmax", "dq"),
         ("sigmoid", "dkv"), ("sigmoid", "dq"), ("sigmoid", "decode"))  # fmt: skip
GAIN = 0.99
"""A candidate replaces a row if its times, geometric mean over the shapes, are below this part of the row's."""
WORST = 1.03
"""And none of them above this."""


@dataclass(frozen=True)
class Shapes:
    """``channels`` of all heads; samples and lengths of the dense shapes; length of a pattern; steps of decode."""

    channels: int = 2048
    dense: tuple[tuple[int, int], ...] = ((1, 16384), (8, 2048))
    pattern: int = 8192
    few: tuple[Step, ...] = (Step(1, 4096), Step(1, 32768), Step(8, 65536, 0.25))
    many: tuple[Step, ...] = (Step(32, 4096), Step(32, 32768), Step(32, 65536, 0.25))


TINY = Shapes(channels=512, dense=((1, 300),), pattern=256, few=(Step(1, 300),), many=(Step(32, 300),))
"""On which kernels are compiled ahead."""


def tasks(context: Context, shapes: Shapes, dims: tuple[int, ...] = (128, 64, 256)) -> list[Task]:
    """A row a candidate, those of the operations and head dims that matter most first."""
    arch = architecture(context.machine.device)
    found = []
    for dim in dims:
        for normaliser, op in ORDER:
            for row in configurations.table():
                if (row.op, row.normaliser, row.head_dim, row.dtype, row.arch) == (op, normaliser, dim, "16-bit", arch):
                    found += [_task(context, shapes, row, candidate) for candidate in candidates(row)]
    return found


def candidates(row: Row) -> Iterator[Row]:
    """The row itself, so that its figures are there, then what might replace it."""
    yield row
    for tile_q, tile_k, warps, stages in CANDIDATES[row.op].get(row.head_dim, ()):
        other = replace(row, tile_q=tile_q or row.tile_q, tile_k=tile_k, warps=warps, stages=stages)
        if other != row and not (row.op == "decode" and warps < 4 and row.tile_q >= 64):
            yield other


def _task(context: Context, shapes: Shapes, row: Row, candidate: Row) -> Task:
    parameters = {
        name: value for name, value in asdict(candidate).items() if name not in ("source", "dtype", "arch")
    }  # fmt: skip
    return Task(
        "b", f"{row.op} {row.normaliser}", {"for": row.tile_q, **parameters},
        lambda: compared(context, shapes, row, candidate), seconds=6, parts=("candidate",),
        rehearse=lambda _: launch(context, candidate),
    )  # fmt: skip


@contextmanager
def tabled(row: Row) -> Iterator[None]:
    """Within it the table has this row in place of the one for the same operation, head dim and rows of queries."""
    plain = configurations.table
    rows = tuple(row if same_place(row, each) else each for each in plain())
    configurations.table = lambda: rows  # type: ignore[assignment]
    configurations.configuration.cache_clear()
    try:
        yield
    finally:
        configurations.table = plain
        configurations.configuration.cache_clear()


def same_place(one: Row, other: Row) -> bool:
    """Whether one row of the table would replace the other."""
    place = ("op", "normaliser", "head_dim", "dtype", "arch", *(["tile_q"] if one.op == "decode" else []))
    return all(getattr(one, name) == getattr(other, name) for name in place)


def launch(context: Context, row: Row) -> None:
    """Run a row's kernel once, on little, so that it is compiled."""
    with tabled(row):
        for calls in _calls(context, TINY, row):
            calls[0]()
    if context.machine.device.type == "cuda":
        torch.cuda.synchronize()


def compared(context: Context, shapes: Shapes, row: Row, candidate: Row) -> Found:
    """Both rows' times on each shape, in turns; a candidate whose outputs differ from the row's is an error."""
    ours, theirs = [], []
    for calls in _calls(context, shapes, row):
        both = (row, candidate) if candidate != row else (row,)
        _check(*(_under(calls[0], each)() for each in (row, candidate)))
        timed = _timed(context, calls, both)
        ours.append(timed[0])
        theirs.append(timed[-1])
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    figures = {
        "time / row's, geometric mean": math.exp(sum(math.log(each) for each in ratios) / len(ratios)),
        "time / row's, worst": max(ratios),
    }  # fmt: skip
    return {"ms": theirs, "row_ms": ours, "figures": figures, "candidate": asdict(candidate)}


def _timed(context: Context, calls: Sequence[Made], rows: Sequence[Row]) -> list[float]:
    """Milliseconds of a call under each row, in turns.

    Calls without a gradient become a CUDA graph, as which row they take is settled when it is captured: looking the row
    up would cost the host more than a step of decode takes. A backward runs on its forward's stream and cannot.
    """
    graphs = rows[0].op in ("forward", "decode")
    made: list[Call] = []
    for row in rows:
        each = [_under(call, row) for call in calls]
        made.append(context.machine.timer.stream(each) if graphs else each[0])
    return [timed.median / (len(calls) if graphs else 1) for timed in context.machine.timer.calls(made)]


def _under(call: Made, row: Row) -> Made:
    def run() -> tuple[Tensor, ...]:
        with tabled(row):
            return call()

    return run


def _check(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> None:
    for a, b in zip(expected, found, strict=True):
        off = float((a.float() - b.float()).abs().max() / a.float().abs().max().clamp_min(1e-30))
        if not off < 0.02:
            raise ArithmeticError(f"its output differs from the row's by {off:.2g}")


def _calls(context: Context, shapes: Shapes, row: Row) -> Iterator[list[Made]]:
    """For each shape what is timed: decode, the forward, or the backward in which only the row's kernel changes.

    Of decode as many calls on keys and values of their own as together overflow the L2, of the others one.
    """
    machine = context.machine
    if row.dtype == "fp32":
        machine = replace(machine, dtype=torch.float32)
    heads = max(1, shapes.channels // row.head_dim)
    if row.op == "decode":
        for step in shapes.few if row.tile_q < 32 else shapes.many:
            seen = ring(step, machine.device)
            [q] = normal(machine, 1, step.queries, DECODED, row.head_dim, count=1)
            first = normal(machine, 1, step.keys, DECODED, row.head_dim, count=2)
            visible = 2 * step.keys * step.window * DECODED * row.head_dim * q.element_size()
            copies = min(16, math.ceil(2.5 * machine.l2_bytes / visible))
            buffers = [first, *([x.clone() for x in first] for _ in range(copies - 1))]
            yield [_call(q, k, v, seen, row.normaliser, machine.decode) for k, v in buffers]
        return
    seen = memory_wam(max(2, shapes.pattern // 128)).visibility.to(machine.device)
    for batch, length, visibility in (
        *((*each, None) for each in shapes.dense), (1, seen.length_q, seen),
    ):  # fmt: skip
        q, k, v, d_out = normal(machine, batch, length, heads, row.head_dim, count=4)
        if row.op == "forward":
            yield [_call(q, k, v, visibility, row.normaliser, machine.backend)]
            continue
        for x in (q, k, v):
            x.requires_grad_()
        call = _call(q, k, v, visibility, row.normaliser, machine.backend)
        yield [Peer(lambda call=call: call()[0], [q, k, v]).backward(d_out)]


def _call(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility | None, normaliser: str, backend: str) -> Made:
    return lambda: (attend(q, k, v, visibility=visibility, normaliser=normaliser, backend=backend),)


def proposed(found: Iterable[Found], table: Iterable[Row] | None = None) -> tuple[list[Row], list[str]]:
    """The table with the fastest candidates in it, and a line for each row that was measured."""
    table = list(configurations.table() if table is None else table)
    lines = []
    found = [each for each in found if "error" not in each]
    for number, row in enumerate(table):
        mine = [
            each for each in found
            if same_place(Row(**each["candidate"]), row) and each["parameters"]["for"] == row.tile_q
        ]  # fmt: skip
        better = [
            each for each in mine
            if each["figures"]["time / row's, geometric mean"] < GAIN and each["figures"]["time / row's, worst"] < WORST
        ]  # fmt: skip
        if not mine:
            continue
        best = min(better, key=lambda each: each["figures"]["time / row's, geometric mean"], default=None)
        origin = (best or mine[0])["origin"]
        source = f"measured {origin['date'][:10]}, commit {origin['commit'] or origin['code']}, {origin['device']}"
        table[number] = replace(row if best is None else Row(**best["candidate"]), source=source)
        gain = 1.0 if best is None else best["figures"]["time / row's, geometric mean"]
        lines.append(
            f"{row.op} {row.normaliser} D={row.head_dim}: "
            f"{'stays' if best is None else f'{gain:.3f} of the time with'} {sizes(table[number])}"
        )
    return table, lines


def sizes(row: Row) -> str:
    return f"{row.tile_q}x{row.tile_k}, {row.warps} warps, {row.stages} stages"


def written(rows: Iterable[Row]) -> str:
    """The table as it is committed: a row a line."""
    return '{\n  "rows": [\n' + ",\n".join(f"    {json.dumps(asdict(row))}" for row in rows) + "\n  ]\n}\n"
