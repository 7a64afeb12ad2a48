"""Attention with structure: ragged batches, the suite's patterns, a learned key bias, and what token order gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench import peers
from ros_attn.kernels.bench.accuracy import Parts, Sample, bit_equal
from ros_attn.kernels.bench.contest import OURS, Contest, Context, normal, task
from ros_attn.kernels.bench.dense import FLEX, SIGMOID
from ros_attn.kernels.bench.machine import Call, Machine
from ros_attn.kernels.bench.patterns import Pattern, interleaved_kinds, memory_wam, tactile_wam
from ros_attn.kernels.bench.peers import BLOCKS, Peer
from ros_attn.kernels.bench.rows import Bar, Task
from ros_attn.kernels.bench.timing import Timed
from ros_attn.kernels.configurations import architecture, configuration
from ros_attn.kernels.intervals import pair_mask
from ros_attn.kernels.plan import plans
from ros_attn.kernels.visibility import Visibility

DENSE, MASKED, ONE_BY_ONE = "own dense", "masked SDPA", "SDPA, sample by sample"
FLEX_BLOCKS = tuple(f"{FLEX}, blocks of {block}" for block in BLOCKS)
SEARCHED = 64
"""Blocks for which FlexAttention's backward has no tiles unless it searches."""
LAUNCH_US = 20.0
"""What structure may cost beside the tiles that are computed."""
PATTERNS: dict[str, tuple[Callable[[int], Pattern], float]] = {
    "Tactile-WAM": (tactile_wam, 0.9),
    "MemoryWAM": (lambda length: memory_wam(length // 128), 0.75),
}
"""By length, and how many of the computed pairs should be visible."""


@dataclass(frozen=True)
class Sizes:
    heads: int = 16
    dim: int = 128
    lengths: tuple[int, ...] = (4096, 8192, 16384)
    ragged: tuple[tuple[int, int], ...] = ((16, 4096), (8, 8192))
    """Samples and the longest length."""
    bias_length: int = 8192
    order_length: int = 8192


def tasks(context: Context, sizes: Sizes) -> list[Task]:
    return [
        *(_ragged_task(context, sizes, *each, normaliser) for each in sizes.ragged
          for normaliser in ("sigmoid", "softmax")),
        *(_pattern_task(context, sizes, name, length) for name in PATTERNS for length in sizes.lengths),
        *(_bias_task(context, sizes, name) for name in PATTERNS),
        *(_order_task(context, sizes, name) for name in ("interleaved kinds", "MemoryWAM")),
    ]  # fmt: skip


# -- ragged -------------------------------------------------------------------------------------------------


def _ragged_task(context: Context, sizes: Sizes, batch: int, length: int, normaliser: str) -> Task:
    others = (SIGMOID,) if normaliser == "sigmoid" else (ONE_BY_ONE, f"{FLEX}, blocks of 128")
    return task(
        context, f"ragged {normaliser}", {"D": sizes.dim, "L": length, "B": batch, "H": sizes.heads},
        lambda: ragged(context, normaliser, (batch, length, sizes.heads, sizes.dim), others),
        (OURS, DENSE, *others), (Bar("time / (visible share x own dense)", 1.18, least=False),), seconds=20,
    )  # fmt: skip


def ragged(
    context: Context, normaliser: str, shape: tuple[int, int, int, int], others: tuple[str, ...]
) -> Contest:  # fmt: skip
    """Self-attention of samples whose lengths are uniform from 1 to the longest."""
    batch, length, heads, dim = shape
    machine = context.machine
    q, k, v = normal(machine, *shape)
    lengths = torch.randint(1, length + 1, (batch,), generator=torch.Generator().manual_seed(0)).to(machine.device)
    ends = [int(each) for each in lengths]
    share = sum(end * end for end in ends) / (batch * length * length)

    def one_by_one() -> Call:
        calls = [peers.sdpa(*(x[b : b + 1, :end] for x in (q, k, v))).forward for b, end in enumerate(ends)]
        return lambda: Parts(call() for call in calls)

    rivals: dict[str, Callable[[], Call]] = {
        ONE_BY_ONE: one_by_one,
        f"{FLEX}, blocks of 128": lambda: (
            peers.flex_attention(q, k, v, mask=peers.flex_lists(q, k, lengths=lengths)[0]).forward
        ),
        SIGMOID: lambda: peers.triton_sigmoid(q, k, v, lengths).forward,
    }

    def own(lengths: Tensor | None) -> Call:
        return lambda: attend(
            q, k, v, len_q=lengths, len_k=lengths, normaliser=normaliser, backend=machine.backend
        )  # fmt: skip

    return Contest(
        {
            OURS: lambda: own(lengths),
            DENSE: lambda: own(None),
            **{name: rivals[name] for name in others},
        },
        flops=4.0 * heads * dim * sum(end * end for end in ends),
        bytes=4.0 * q.element_size() * heads * dim * sum(ends),
        sample=lambda: Sample(q, k, v, normaliser=normaliser, lengths=lengths),
        derived=lambda times: {
            "time / (visible share x own dense)": times[OURS].median / (share * times[DENSE].median)
        },
        facts={"visible share": share},
        beside=(DENSE,),
    )


# -- patterns -----------------------------------------------------------------------------------------------


def _pattern_task(context: Context, sizes: Sizes, name: str, length: int) -> Task:
    others = (*FLEX_BLOCKS, MASKED)
    bars = (
        Bar("visible / computed pairs", PATTERNS[name][1]),
        Bar("(time - 20 us) / (computed share x own dense)", 1.15, least=False),
        Bar(f"speed-up over {FLEX}", 1.0),
    )
    return task(
        context, name, {"D": sizes.dim, "L": length, "B": 1, "H": sizes.heads},
        lambda: pattern(context, PATTERNS[name][0](length), sizes.heads, sizes.dim),
        (OURS, DENSE, *others), bars, seconds=25,
    )  # fmt: skip


def pattern(context: Context, of: Pattern, heads: int, dim: int) -> Contest:
    """Softmax forward of one sample, tokens sorted by kind for all; FlexAttention gets the lists of each block size."""
    machine = context.machine
    seen = of.visibility.to(machine.device)
    length = seen.length_q
    q, k, v = normal(machine, 1, length, heads, dim)

    def masked() -> Peer:
        # Without frames a visibility does not know its device.
        mask = pair_mask(seen.layout, seen.frame_q, seen.frame_k, device=machine.device)
        return peers.sdpa(q, k, v, mask=mask[:, None])

    def listed(block: int) -> Peer:
        return peers.flex_attention(q, k, v, mask=peers.flex_lists(q, k, visibility=seen, block=block)[0])

    visible, computed = shares(machine, seen, dim)
    size = float(q.element_size() * q.numel())

    def derived(times: Mapping[str, Timed]) -> dict[str, float]:
        spent = times[OURS].median - LAUNCH_US / 1e3
        return {
            "(time - 20 us) / (computed share x own dense)": spent / (computed * times[DENSE].median),
            "time / own dense": times[OURS].median / times[DENSE].median,
        }

    return Contest(
        {
            OURS: lambda: lambda: attend(q, k, v, visibility=seen, backend=machine.backend),
            DENSE: lambda: lambda: attend(q, k, v, backend=machine.backend),
            **{
                name: (lambda block=block: listed(block).forward)
                for name, block in zip(FLEX_BLOCKS, BLOCKS, strict=True)
            },
            MASKED: lambda: masked().forward,
        },
        flops=4.0 * heads * dim * visible * length * length,
        bytes=4.0 * size,
        sample=lambda: Sample(q, k, v, normaliser="softmax", visibility=seen),
        derived=derived,
        facts={
            "visible share": visible, "computed share": computed, "visible / computed pairs": visible / computed,
        },
        beside=(DENSE,),
    )  # fmt: skip


def shares(machine: Machine, seen: Visibility, dim: int) -> tuple[float, float]:
    """Visible and computed pairs over all pairs, with the tiles of our forward."""
    sizes = configuration("forward", "softmax", dim, machine.dtype, architecture(machine.device))
    plan = plans.get(seen.layout, seen.frame_q, seen.frame_k, sizes.tile_q, sizes.tile_k, machine.device)
    visible, computed = plan.shares(seen.length_k).tolist()
    return visible, computed


# -- a key bias that learns ---------------------------------------------------------------------------------


def _bias_task(context: Context, sizes: Sizes, name: str) -> Task:
    bars = (Bar(f"speed-up over {FLEX}", 1.3), Bar("gradients differ between runs", 0.0, least=False))
    return task(
        context, f"learned key bias, {name}, forward + backward",
        {"D": sizes.dim, "L": sizes.bias_length, "B": 1, "H": sizes.heads},
        lambda: biased(context, PATTERNS[name][0](sizes.bias_length), sizes.heads, sizes.dim),
        # What searches is not compiled ahead: beside other processes it would take what it finds for noise.
        (OURS, *(each for each, block in zip(FLEX_BLOCKS, BLOCKS, strict=True) if block != SEARCHED)),
        bars, seconds=90,
    )  # fmt: skip


def biased(context: Context, of: Pattern, heads: int, dim: int) -> Contest:
    """Forward and backward with a bias a key that has a gradient; FlexAttention adds that gradient up atomically."""
    machine = context.machine
    seen = of.visibility.to(machine.device)
    length = seen.length_q
    q, k, v, d_out = normal(machine, 1, length, heads, dim, count=4)
    bias = normal(machine, 1, 1, length, count=1)[0]
    for x in (q, k, v, bias):
        x.requires_grad_()

    def forward() -> Tensor:
        return attend(q, k, v, visibility=seen, key_bias=bias, backend=machine.backend)

    def listed(block: int) -> Peer:
        mask, score = peers.flex_lists(q, k, visibility=seen, bias=bias, block=block)
        # Three stages of its forward's tiles and of what it reads for the rule need 256 KiB of shared memory.
        stages = 2 if seen.layout.bias_rules is not None and block != SEARCHED else None
        return peers.flex_attention(q, k, v, mask=mask, score=score, bias=bias, tune=block == SEARCHED, stages=stages)

    own = Peer(forward, [q, k, v, bias]).both(d_out)
    visible, computed = shares(machine, seen, dim)
    return Contest(
        {
            OURS: lambda: own,
            **{
                name: (lambda block=block: listed(block).both(d_out))
                for name, block in zip(FLEX_BLOCKS, BLOCKS, strict=True)
            },
        },
        flops=3.5 * 4.0 * heads * dim * visible * length * length,
        bytes=12.0 * q.element_size() * q.numel(),
        facts={
            "visible share": visible, "computed share": computed,
            "gradients differ between runs": float(not bit_equal(own)),
        },
    )  # fmt: skip


# -- token order --------------------------------------------------------------------------------------------

PRODUCED, SORTED = f"{FLEX}, as produced", f"{FLEX}, sorted by kind"


def _order_task(context: Context, sizes: Sizes, name: str) -> Task:
    return task(
        context, f"token order, {name}", {"D": sizes.dim, "L": sizes.order_length, "B": 1, "H": sizes.heads},
        lambda: ordered(context, name, sizes.order_length, sizes.heads, sizes.dim), (OURS, PRODUCED, SORTED), (),
        seconds=25,
    )  # fmt: skip


def ordered(context: Context, name: str, length: int, heads: int, dim: int) -> Contest:
    """Tokens in the order in which they come, every implementation returning them so.

    Ours sorts them by kind and back within the time; FlexAttention is timed over the produced order, and over the
    sorted one for which the sorting is a gift.
    """
    machine = context.machine
    if name == "MemoryWAM":
        of = memory_wam(length // 128)
        assert of.visibility.frame_q is not None
        # Frame by frame: its visual tokens, then its gist.
        produced = torch.argsort(of.visibility.frame_q[0], stable=True)
        place = torch.argsort(produced)
    else:
        of = interleaved_kinds(length)
        assert of.order is not None
        produced, place = of.order.inverse, of.order.index
    produced, place = produced.to(machine.device), place.to(machine.device)
    seen = of.visibility.to(machine.device)
    q, k, v = normal(machine, 1, length, heads, dim)

    def ours() -> Tensor:
        tensors = (x.index_select(1, place) for x in (q, k, v))
        return attend(*tensors, visibility=seen, backend=machine.backend).index_select(1, produced)

    def as_produced() -> Peer:
        mask = peers.produced_mask(seen, produced, 128)
        return peers.flex_attention(q, k, v, mask=mask)

    def by_kind() -> Peer:
        x = [each.index_select(1, place) for each in (q, k, v)]
        return peers.flex_attention(*x, mask=peers.flex_lists(q, k, visibility=seen)[0])

    visible, computed = shares(machine, seen, dim)
    return Contest(
        {OURS: lambda: ours, PRODUCED: lambda: as_produced().forward, SORTED: lambda: by_kind().forward},
        flops=4.0 * heads * dim * visible * length * length,
        bytes=4.0 * q.element_size() * q.numel(),
        derived=lambda times: {
            f"time / {name}": times[OURS].median / times[name].median for name in (PRODUCED, SORTED) if name in times
        },
        facts={"visible share": visible, "computed share": computed},
    )  # fmt: skip
