"""Functions that compute the same thing, ours first: timed in turns, and what follows from their times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ros_attn.kernels.bench.accuracy import Sample
from ros_attn.kernels.bench.machine import Call, Machine
from ros_attn.kernels.bench.rows import Bar, Row, Task
from ros_attn.kernels.bench.timing import Timed

OURS = "ours"
WRONG = 10.0
"""Times plain PyTorch's error; beyond it there is nothing to time."""


@dataclass(frozen=True)
class Context:
    """What rows are measured with. ``green``: the correctness tests passed for this code on this device."""

    machine: Machine
    green: bool = False
    copy_tb_s: float | None = None
    """The device's bandwidth, read and written bytes together, as a copy reaches it."""
    product_tflops: float | None = None
    """The rate of a large matrix product."""
    end: float = math.inf
    """When the section must be over, by ``time.monotonic``."""


@dataclass(eq=False)
class Contest:
    """``makers`` make the functions, by name; several calls of one function are timed as one stream, per call.

    A name may end in a variant after a comma: of ``FlexAttention, blocks of 64`` and ``FlexAttention, blocks of 128``
    the faster one counts as FlexAttention. ``beside``: functions of ours that are timed for comparison alone.
    """

    makers: Mapping[str, Callable[[], Call | list[Call]]]
    flops: float
    bytes: float
    """Read and written at least."""
    sample: Callable[[], Sample] | None = None
    """Against which outputs (of backward: the gradient of q) are held."""
    derived: Callable[[Mapping[str, Timed]], Mapping[str, float]] | None = None
    """Figures of a contest's own from the times."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Figures that need no time."""
    beside: tuple[str, ...] = ()


def task(
    context: Context, name: str, parameters: Mapping[str, str | int | float], build: Callable[[], Contest],
    parts: tuple[str, ...], bars: tuple[Bar, ...] = (), *, seconds: float = 12.0,
    environment: Mapping[str, str] | None = None,
) -> Task:  # fmt: skip
    """A row of section c: ``parts`` are the names of the contest's functions."""

    def call(part: str) -> Call:
        made = build().makers[part]()
        return made[0] if isinstance(made, list) else made

    return Task(
        "c", name, parameters, lambda: measured(context, build()), bars, seconds, parts, lambda part: call(part)(),
        lambda: call(OURS), environment or {},
    )  # fmt: skip


def measured(context: Context, contest: Contest) -> Row:
    """Times of all functions in turns, errors, and figures; a peer that cannot run is named in ``absent``."""
    calls: dict[str, Call] = {}
    count: dict[str, int] = {}
    absent: dict[str, str] = {}
    errors: dict[str, float] = {}
    sample = None if contest.sample is None else contest.sample()
    for name, make in contest.makers.items():
        try:
            made = make()
            each = made if isinstance(made, list) else [made]
            found = each[0]()
            calls[name], count[name] = context.machine.timer.stream(each) if len(each) > 1 else each[0], len(each)
        except Exception as error:  # whatever a peer raises: it is not ours to mend, and the others are measured
            if name == OURS or name in contest.beside:
                raise
            absent[name] = said(error)
            continue
        if sample is not None and name not in contest.beside:
            assert isinstance(found, Tensor | tuple)
            errors[name] = sample.error(found)
    if sample is not None:
        errors["PyTorch"] = sample.plain_error
        if not errors[OURS] <= WRONG * errors["PyTorch"] + 1e-6:
            raise ArithmeticError(f"ours is off by {errors[OURS]:.2g}, plain PyTorch by {errors['PyTorch']:.2g}")
        for name in [name for name in calls if not math.isfinite(errors.get(name, 0.0))]:
            absent[name] = "its output is not finite"
            del errors[name], calls[name]
    timed = zip(calls, context.machine.timer.calls(list(calls.values())), strict=True)
    times = {name: Timed(tuple(ms / count[name] for ms in each.rounds)) for name, each in timed}
    figures = {**contest.facts, **paced(context, times[OURS].median, contest.flops, contest.bytes)}
    if sample is not None:
        figures["error / PyTorch's"] = errors[OURS] / max(errors["PyTorch"], 1e-30)
    if contest.derived is not None:
        figures |= contest.derived(times)
    if context.green:
        figures |= speed_ups(times, contest.beside)
    row: Row = {
        "times": {name: timed.row() for name, timed in times.items()}, "figures": figures, "green": context.green,
    }  # fmt: skip
    if errors:
        row["errors"] = errors
    if absent:
        row["absent"] = absent
    return row


def paced(context: Context, median_ms: float, flops: float, moved: float) -> dict[str, float]:
    """What a time means: the rate, and the share of what the device can do in arithmetic or traffic."""
    figures = {"TFLOP/s": flops / median_ms / 1e9, "TB/s": moved / median_ms / 1e9}
    if context.copy_tb_s is not None and context.product_tflops is not None:
        floor_ms = max(flops / context.product_tflops, moved / context.copy_tb_s) / 1e9
        figures["share of the roofline"] = floor_ms / median_ms
    return figures


def speed_ups(times: Mapping[str, Timed], beside: tuple[str, ...] = ()) -> dict[str, float]:
    """Peer's median over ours, of the fastest variant of each peer."""
    fastest: dict[str, float] = {}
    for name, timed in times.items():
        peer = name.partition(",")[0]
        if name != OURS and name not in beside:
            fastest[peer] = min(timed.median, fastest.get(peer, timed.median))
    return {f"speed-up over {peer}": median / times[OURS].median for peer, median in fastest.items()}


def said(error: BaseException) -> str:
    """An error in a line: its first and its last words, of which a compiler's are mostly the last."""
    wrote = getattr(error, "stderr", None)  # that of a process
    lines = [line.strip() for line in f"{error}\n{wrote or ''}".splitlines() if line.strip()] or ["no words"]
    text = lines[0][:300] if len(lines) == 1 else f"{lines[0][:150]} ... {lines[-1][:250]}"
    return f"{type(error).__name__}: {text}"


def normal(machine: Machine, *shape: int, count: int = 3) -> list[Tensor]:
    """Random tensors with a fixed seed."""
    generator = torch.Generator(machine.device).manual_seed(0)
    return [
        torch.randn(*shape, dtype=torch.float32, device=machine.device, generator=generator).to(machine.dtype)
        for _ in range(count)
    ]
