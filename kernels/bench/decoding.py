"""Few queries against many keys, in CUDA graphs: as a policy or a world model in a robot's loop calls attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench import peers
from ros_attn.kernels.bench.accuracy import Sample
from ros_attn.kernels.bench.contest import OURS, Contest, Context, normal, task
from ros_attn.kernels.bench.dense import FLEX
from ros_attn.kernels.bench.machine import Call
from ros_attn.kernels.bench.rows import Bar, Task
from ros_attn.kernels.bench.timing import Timed
from ros_attn.kernels.layout import PAST, memory
from ros_attn.kernels.visibility import Visibility

MASKED, GATHERED = "masked SDPA", "SDPA on gathered keys"
LARGE_BYTES = 128e6
"""Of visible keys and values; from here on the share of the bandwidth is asked for, below it the time."""
FRAME = 128
"""Tokens a frame."""


@dataclass(frozen=True)
class Step:
    """One step of a stream. ``window``: the part of the keys that is visible; ``group``: query heads a key head."""

    queries: int
    keys: int
    window: float = 1.0
    group: int = 1


@dataclass(frozen=True)
class Sizes:
    heads: int = 8
    dim: int = 128
    steps: tuple[Step, ...] = (
        Step(1, 1024), Step(1, 8192), Step(1, 32768), Step(8, 32768), Step(32, 8192), Step(32, 32768),
        Step(1, 32768, group=4), Step(1, 65536, 0.25), Step(8, 65536, 0.25), Step(8, 131072, 0.5),
    )  # fmt: skip


def tasks(context: Context, sizes: Sizes) -> list[Task]:
    return [_task(context, sizes, step, normaliser) for normaliser in ("softmax", "sigmoid") for step in sizes.steps]


def _task(context: Context, sizes: Sizes, step: Step, normaliser: str) -> Task:
    others = (MASKED, GATHERED, FLEX) if normaliser == "softmax" else ()
    large = step.keys * step.window * sizes.heads * sizes.dim * 4 >= LARGE_BYTES
    bars = [
        Bar("share of the copy bandwidth", 0.6) if large else Bar("us beyond K+V at 2.5 TB/s", 12.0, least=False),
        *([] if normaliser == "sigmoid" else [
            Bar(f"speed-up over {MASKED}", 2.0), Bar(f"speed-up over {FLEX}", 1.0),
            Bar(f"speed-up over {GATHERED}", 1.0),
        ]),
    ]  # fmt: skip
    return task(
        context, f"decode {normaliser}",
        {"Lq": step.queries, "Lk": step.keys, "visible": step.window, "H": sizes.heads * step.group, "D": sizes.dim},
        lambda: contest(context, step, sizes.heads, sizes.dim, normaliser), (OURS, *others), tuple(bars), seconds=15,
    )  # fmt: skip


def ring(step: Step, device: torch.device) -> Visibility:
    """A ring that has wrapped round: its oldest frame lies in the middle, and the queries see a window of the last."""
    frames = max(1, step.keys // FRAME)
    ages = torch.roll(torch.arange(frames, dtype=torch.int32), frames // 3)
    frame_k = ages.repeat_interleave(math.ceil(step.keys / frames))[None, : step.keys]
    rule = PAST if step.window >= 1 else memory(recent=max(1, round(frames * step.window)), first=0)
    now = torch.full((1, step.queries), frames - 1, dtype=torch.int32)
    runs_q, runs_k = (("now", step.queries),), (("recent", step.keys),)
    return Visibility(runs_q, runs_k, {("now", "recent"): rule}, now, frame_k).to(device)


def contest(context: Context, step: Step, heads: int, dim: int, normaliser: str) -> Contest:
    """One sample; as many buffers of keys and values in turn as overflow the L2, so that each call finds it cold."""
    machine = context.machine
    seen = ring(step, machine.device)
    mask = seen.mask()
    visible = int(mask[0, 0].sum())
    [q] = normal(machine, 1, step.queries, heads * step.group, dim, count=1)
    moved = 2.0 * visible * heads * dim * q.element_size()
    copies = min(64, max(4, math.ceil(2.5 * machine.l2_bytes / moved)))
    first = normal(machine, 1, step.keys, heads, dim, count=2)
    buffers = [first, *([x.clone() for x in first] for _ in range(copies - 1))]
    index = mask[0, 0].nonzero()[:, 0]

    def ours() -> list[Call]:
        return [
            lambda k=k, v=v: attend(q, k, v, visibility=seen, normaliser=normaliser, backend=machine.decode)
            for k, v in buffers
        ]

    def masked() -> list[Call]:
        return [peers.sdpa(q, k, v, mask=mask[:, None]).forward for k, v in buffers]

    def gathered() -> list[Call]:
        return [peers.sdpa(q, k[:, index], v[:, index]).forward for k, v in buffers]

    def flex() -> list[Call]:
        mask, _ = peers.flex_lists(q, first[0], visibility=seen)
        return [peers.flex_attention(q, k, v, mask=mask).forward for k, v in buffers]

    def derived(times: Mapping[str, Timed]) -> dict[str, float]:
        median = times[OURS].median
        found = {"us": 1e3 * median, "us beyond K+V at 2.5 TB/s": 1e3 * median - moved / 2.5e6}
        if context.copy_tb_s is not None:
            found["share of the copy bandwidth"] = moved / median / 1e9 / context.copy_tb_s
        return found

    def sample() -> Sample:
        k, v = first
        return Sample(q, k, v, normaliser=normaliser, visibility=seen)

    rivals = {} if normaliser == "sigmoid" else {MASKED: masked, GATHERED: gathered, FLEX: flex}
    return Contest(
        {OURS: ours, **rivals}, flops=4.0 * step.queries * heads * step.group * dim * visible, bytes=moved,
        sample=sample, derived=derived, facts={"K+V, MB": moved / 1e6},
    )  # fmt: skip
