"""The same visibility through PyTorch's FlexAttention: oracle and peer of our kernels, softmax on a GPU.

The block lists are handed over (``BlockMask.from_kv_blocks``), not searched for pair by pair. Its blocks lie on a grid
and may hold several kinds, so the predicate looks the kind of a query up.

Source: PyTorch's ``torch.nn.attention.flex_attention``; the lists are those of ``Plan``. Its gradient of a learned key
bias adds atomically: not the same bits twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.intervals import kind_of
from ros_attn.kernels.layout import Layout
from ros_attn.kernels.plan import Plan, plans

BLOCK = 128


def attend_flex(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None,
    frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None, scale: float,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out [B, Lq, H, Dv]`` and ``lse [B, Lq, H]`` of softmax."""
    from torch.nn.attention.flex_attention import AuxRequest

    plan = plans.get(
        layout, frame_q, frame_k, block, block, q.device, open=open, len_q=len_q, len_k=len_k, aligned=True
    )
    call = _compiled() if q.is_cuda else _eager()
    out, aux = call(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
        score_mod=None if key_bias is None else _score(layout, plan, key_bias),
        block_mask=block_mask(layout, plan, q.shape[1], k.shape[1], block), scale=scale,
        enable_gqa=q.shape[2] != k.shape[2], return_aux=AuxRequest(lse=True),
        kernel_options=_kernel_options(q, layout, key_bias),
    )  # fmt: skip
    # Rows that see nothing: FlexAttention's answer to them has differed between its paths.
    none = (plan.visible == 0)[:, None]
    out = out.masked_fill(none[..., None], 0)
    return out.transpose(1, 2), aux.lse.masked_fill(none, -torch.inf).transpose(1, 2)


def _kernel_options(q: Tensor, layout: Layout, key_bias: Tensor | None) -> dict[str, int] | None:
    """What FlexAttention's compiled forward is told beside its own choice, which is three stages."""
    if key_bias is None or layout.bias_rules is None or q.shape[3] <= 64 or not q.is_cuda:
        return None
    # Beside K and V it stages the bounds that the rule of the bias reads: at D = 128 262 400 bytes of shared memory in
    # three stages, more than the 232 448 that an H200 has. The backward is left as it is.
    return {"fwd_num_stages": 2}


def block_mask(layout: Layout, plan: Plan, length_q: int, length_k: int, block: int) -> Any:
    """The plan's lists as FlexAttention takes them: several query tiles of one block become one row."""
    from torch.nn.attention.flex_attention import BlockMask

    device = plan.q_tile.device
    blocks, columns = -(-length_q // block), plan.lo.shape[2] // block
    owner = (plan.q_tile[:, 0] // block).long()
    samples = plan.rank_q.shape[0]

    def flags(count: Tensor, listed: Tensor) -> Tensor:
        """[samples, Tq, columns] bool from a list, whose entries beyond the count go to a column that is cut off."""
        index = listed // 2 if layout.bias_rules is not None and listed is plan.rows.full_i else listed
        beyond = torch.arange(columns, device=device) >= count[..., None]
        found = torch.zeros(*count.shape, columns + 1, dtype=torch.int32, device=device)
        return found.scatter_(2, torch.where(beyond, columns, index).long(), 1)[..., :columns]

    full, part = (flags(n, i) for n, i in ((plan.rows.full_n, plan.rows.full_i), (plan.rows.part_n, plan.rows.part_i)))
    zero = torch.zeros(samples, blocks, columns, dtype=torch.int32, device=device)
    some = zero.index_add(1, owner, full + part) > 0
    # Rows of a last block that is not whole count as full: FlexAttention cuts them off itself.
    every = zero.index_add(1, owner, full) == zero.index_add(1, owner, torch.ones_like(full))
    whole = torch.arange(columns, device=device) < length_k // block

    def lists(flags: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.argsort(flags.int(), dim=-1, descending=True, stable=True)
        return flags.sum(-1, dtype=torch.int32)[:, None], order.int()[:, None]

    full_n, full_i = lists(every & whole)
    part_n, part_i = lists(some & ~(every & whole))
    kind = _rows_of_kinds(layout, device)
    rank, lo, hi = plan.rank_q, plan.lo, plan.hi
    several = samples > 1

    def mask(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        sample = b if several else 0
        return (lo[sample, kind[i], j] <= rank[sample, i]) & (hi[sample, kind[i], j] > rank[sample, i])

    return BlockMask.from_kv_blocks(
        part_n, part_i, full_n, full_i, BLOCK_SIZE=(block, block), mask_mod=mask, seq_lengths=(length_q, length_k)
    )


def _score(layout: Layout, plan: Plan, key_bias: Tensor) -> Any:
    kind = _rows_of_kinds(layout, key_bias.device)
    rank, lo, hi = plan.rank_q, plan.bias_lo, plan.bias_hi
    several, own = plan.rank_q.shape[0] > 1, key_bias.shape[1] > 1

    def add(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        bias = key_bias[b, h if own else 0, j]
        if lo is None or hi is None:
            return score + bias
        sample = b if several else 0
        on = (lo[sample, kind[i], j] <= rank[sample, i]) & (hi[sample, kind[i], j] > rank[sample, i])
        return torch.where(on, score + bias, score)

    return add


@lru_cache(maxsize=64)
def _rows_of_kinds(layout: Layout, device: torch.device) -> Tensor:
    """[Lq]: which row of ``lo`` each query reads."""
    return kind_of(tuple((row, count) for row, (_, count) in enumerate(layout.runs_q)), device)


@lru_cache(maxsize=1)
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@lru_cache(maxsize=1)
def _eager() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention
