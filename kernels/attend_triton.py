"""Launchers of the Triton kernels of ``attend``: forward and backward, softmax with its LSE and sigmoid.

Tiles of the score matrix are visited by the lists of a ``Plan``: those in which every pair is visible without a
predicate, the others with two compares of 16-bit ranks. Sigmoid needs neither running maximum nor LSE and one
exponential a score.

Source: P0, ours; online softmax and its backward by recomputation after FlashAttention (2205.14135, 2307.08691), the
sigmoid's after TritonSigmoid (2604.27124, section on the backward). Deviates: sigmoid by a polynomial instead of the
hardware's tanh, whose error is as large as the weights 1/n of long keys; n by query instead of by sequence.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import triton
from torch import Tensor

from ros_attn.kernels.backward_triton import dkv_kernel, dq_kernel, terms_kernel
from ros_attn.kernels.configurations import Configuration, architecture, configuration
from ros_attn.kernels.forward_triton import forward_kernel
from ros_attn.kernels.layout import Layout
from ros_attn.kernels.plan import Plan, Tiles, plans

LOG2_E = math.log2(math.e)


def forward(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None,
    frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None, normaliser: str,
    scale: float, sizes: Configuration | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out [B, Lq, H, Dv]`` in the type of v and ``lse [B, Lq, H]`` in fp32, empty for sigmoid.

    The call of ``attend_reference`` for normaliser softmax or sigmoid: its shapes, its rule for rows that see nothing.
    q, k, v: fp32, fp16 or bf16 of one type, head dims multiples of 8 up to 256, any strides with a contiguous last
    dimension (others are copied). ``sizes``: instead of the table's. Deterministic.
    """
    batch, length_q, heads, _ = q.shape
    sigmoid = normaliser == "sigmoid"
    if not sigmoid and scale < 0:
        # The running maximum is taken of the scores before they are scaled.
        q, scale = -q, -scale
    out = torch.empty((*q.shape[:3], v.shape[3]), dtype=v.dtype, device=v.device)
    lse = torch.empty(0 if sigmoid else q.shape[:3], dtype=torch.float32, device=q.device)
    if k.shape[1] == 0:
        return out.zero_(), lse.fill_(-math.inf)
    if q.numel() == 0:
        return out, lse
    sizes = sizes or _sizes("forward", normaliser, q, v)
    layout = _without_bias_rules(layout) if key_bias is None else layout
    plan = _plan(layout, frame_q, frame_k, open, len_q, len_k, sizes, q)
    q, k, v = _readable(q), _readable(k), _readable(v)
    with _device(q):
        forward_kernel[(plan.q_tile.shape[0] * batch * heads,)](
            q, k, v, _padded_bias(key_bias, plan), out, None if sigmoid else lse,
            plan.q_tile, plan.rows.order, plan.rank_q, plan.visible if sigmoid else None,
            plan.lo, plan.hi, plan.bias_lo, plan.bias_hi, *_lists(plan.rows),
            length_q, heads, *_counts(plan), *_steps(q), *_steps(k), *_steps(v), _bias_heads(key_bias),
            scale * LOG2_E, **_constants(normaliser, q, k, v, sizes),
        )  # fmt: skip
    return out, lse


def backward(
    d_out: Tensor, d_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None,
    len_q: Tensor | None, len_k: Tensor | None, normaliser: str, scale: float, key_bias_grad: bool,
    sizes: tuple[Configuration, Configuration] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Gradients of q, k, v and, where asked for, of the key bias, in their shapes and types.

    ``out`` and ``lse`` are those of ``forward``; ``d_lse`` None: nothing came back through the LSE. ``sizes``: for dQ
    and for dK, dV instead of the table's. Deterministic.
    """
    sigmoid = normaliser == "sigmoid"
    batch, length_q, heads, _ = q.shape
    length_k, key_heads = k.shape[1:3]
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    d_bias = None
    if key_bias is not None and key_bias_grad:
        d_bias = torch.empty((batch, heads, length_k), dtype=torch.float32, device=q.device)
    if q.numel() == 0 or k.numel() == 0:
        zeros = None if d_bias is None or key_bias is None else torch.zeros_like(key_bias)
        return dq.zero_(), dk.zero_(), dv.zero_(), zeros
    layout = _without_bias_rules(layout) if key_bias is None else layout
    sizes_q, sizes_k = sizes or (_sizes("dq", normaliser, q, v), _sizes("dkv", normaliser, q, v))
    rows = _plan(layout, frame_q, frame_k, open, len_q, len_k, sizes_q, q)
    columns = _plan(layout, frame_q, frame_k, open, len_q, len_k, sizes_k, q)
    q, k, v, d_out = _readable(q), _readable(k), _readable(v), _readable(d_out.to(v.dtype))
    steps = *_steps(q), *_steps(k), *_steps(v), *_steps(d_out)
    # What comes back through the outputs: sigmoid needs none of it.
    came = (None, None, d_out, None) if sigmoid else (out.contiguous(), lse.contiguous(), d_out, d_lse)
    steps_l = (0, 0, 0) if sigmoid or d_lse is None else (d_lse.stride(0), d_lse.stride(1), d_lse.stride(2))

    tiles = columns.q_tile.shape[0]
    samples = columns.rank_q.shape[0]
    pairs = (samples, 1) if sigmoid else (batch, heads)
    offset = torch.empty((*pairs, tiles, sizes_k.tile_q), dtype=torch.float32, device=q.device)
    delta = None if sigmoid else torch.empty(offset.shape, dtype=torch.float32, device=q.device)
    ranks = torch.empty((samples, tiles, sizes_k.tile_q), dtype=columns.rank_q.dtype, device=q.device)
    constants = _constants(normaliser, q, k, v, sizes_k)
    with _device(q):
        terms_kernel[(tiles * pairs[0] * pairs[1],)](
            *came, columns.q_tile, columns.rank_q, columns.visible if sigmoid else None, offset, delta, ranks,
            length_q, pairs[1], tiles, int(samples > 1), *_steps(d_out), *steps_l,
            **{name: constants[name] for name in ("SIGMOID", "DV", "DV_PADDED", "TILE_Q", "enable_fp_fusion")},
        )  # fmt: skip
        dkv_kernel[(columns.columns.order.shape[0] * batch * key_heads,)](
            q, k, v, _padded_bias(key_bias, columns), d_out, offset, delta, ranks, dk, dv, d_bias,
            columns.q_tile, columns.columns.order, columns.lo, columns.hi, columns.bias_lo, columns.bias_hi,
            *_lists(columns.columns), length_q, length_k, heads, *_counts(columns), *steps, _bias_heads(key_bias),
            scale * LOG2_E, scale, **constants,
        )  # fmt: skip
        dq_kernel[(rows.q_tile.shape[0] * batch * heads,)](
            q, k, v, _padded_bias(key_bias, rows), *came, dq,
            rows.q_tile, rows.rows.order, rows.rank_q, rows.visible if sigmoid else None,
            rows.lo, rows.hi, rows.bias_lo, rows.bias_hi, *_lists(rows.rows),
            length_q, heads, *_counts(rows), *steps, *steps_l, _bias_heads(key_bias), scale * LOG2_E, scale,
            **_constants(normaliser, q, k, v, sizes_q),
        )  # fmt: skip
    if d_bias is not None and key_bias is not None:
        d_bias = d_bias.sum_to_size(key_bias.shape).to(key_bias.dtype)
    return dq, dk, dv, d_bias


def _sizes(op: str, normaliser: str, q: Tensor, v: Tensor) -> Configuration:
    return configuration(op, normaliser, max(q.shape[3], v.shape[3]), q.dtype, architecture(q.device))


def _without_bias_rules(layout: Layout) -> Layout:
    return layout if layout.bias_rules is None else replace(layout, bias_rules=None)


def _plan(
    layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None,
    len_k: Tensor | None, sizes: Configuration, q: Tensor,
) -> Plan:  # fmt: skip
    return plans.get(
        layout, frame_q, frame_k, sizes.tile_q, sizes.tile_k, q.device, open=open, len_q=len_q, len_k=len_k
    )


def _readable(x: Tensor) -> Tensor:
    """``x`` or a copy whose rows begin at multiples of 16 bytes, as the kernels' copies do."""
    by_eights = all(step % 8 == 0 for size, step in zip(x.shape[:3], x.stride()[:3], strict=True) if size > 1)
    readable = x.stride(3) == 1 and by_eights and x.data_ptr() % 16 == 0
    return x if readable else x.clone(memory_format=torch.contiguous_format)


def _steps(x: Tensor) -> tuple[int, int, int]:
    b, n, h, _ = x.stride()
    return b // 8, n // 8, h // 8


def _padded_bias(key_bias: Tensor | None, plan: Plan) -> Tensor | None:
    """The bias in units of log 2, fp32 [B, 1|H, tiles_k * tile_k], zeros beyond Lk."""
    if key_bias is None:
        return None
    return torch.nn.functional.pad(key_bias.float() * LOG2_E, (0, plan.lo.shape[2] - key_bias.shape[2]))


def _bias_heads(key_bias: Tensor | None) -> int:
    return 1 if key_bias is None else key_bias.shape[1]


def _lists(tiles: Tiles) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tiles.full_n, tiles.full_i, tiles.part_n, tiles.part_i


def _counts(plan: Plan) -> tuple[int, int, int, int]:
    """Kinds with queries, tiles of queries and of keys, and the step from one sample's plan to the next."""
    samples, kinds, width = plan.lo.shape
    return kinds, plan.q_tile.shape[0], width // plan.tile_k, int(samples > 1)


def _constants(normaliser: str, q: Tensor, k: Tensor, v: Tensor, sizes: Configuration) -> dict[str, Any]:
    d, dv = q.shape[3], v.shape[3]
    return {
        "SIGMOID": normaliser == "sigmoid", "GROUP": q.shape[2] // k.shape[2], "D": d, "DV": dv,
        "D_PADDED": max(16, triton.next_power_of_2(d)), "DV_PADDED": max(16, triton.next_power_of_2(dv)),
        "TILE_Q": sizes.tile_q, "TILE_K": sizes.tile_k, "num_warps": sizes.warps, "num_stages": sizes.stages,
        "enable_fp_fusion": True,
    }  # fmt: skip


def _device(x: Tensor) -> torch.cuda.device:
    """Triton launches on the current device, which need not be the tensors'."""
    return torch.cuda.device(x.device if x.is_cuda else -1)
