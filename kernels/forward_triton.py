"""The forward kernel of ``attend``: one program a query tile, head and sample; softmax with its LSE, or sigmoid."""

from __future__ import annotations

import triton
import triton.language as tl

from ros_attn.kernels.scores_triton import sigmoid_parts, tile_rows

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)


@triton.jit
def walk(
    acc, top, total, q, shift, rank, k_ptr, v_ptr, bias_ptr, bias_low_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    list_ptr, count, k_n, v_n, length_k, scale,
    MASKED: tl.constexpr, SIGMOID: tl.constexpr, EXACT: tl.constexpr, BIAS_RULE: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr, DV_PADDED: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, TILE_K)
    entry = tl.load(list_ptr, count > 0, 0)
    for i in range(count):
        if BIAS_RULE and not MASKED:
            first = (entry >> 1) * TILE_K
        else:
            first = entry * TILE_K
        following = tl.load(list_ptr + tl.minimum(i + 1, count - 1))
        if MASKED:
            lo = tl.load(lo_ptr + first + columns)
            hi = tl.load(hi_ptr + first + columns)
            k = tile_rows(k_ptr, first, k_n, length_k - first, TILE_K, D, D_PADDED)
        else:
            k = tile_rows(k_ptr, first, k_n, None, TILE_K, D, D_PADDED)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED:
            seen = (lo[None, :] <= rank[:, None]) & (hi[None, :] > rank[:, None])
        if MASKED:
            v = tile_rows(v_ptr, first, v_n, length_k - first, TILE_K, DV, DV_PADDED)
        else:
            v = tile_rows(v_ptr, first, v_n, None, TILE_K, DV, DV_PADDED)
        if bias_ptr is not None:
            bias = tl.load(bias_ptr + first + columns).to(tl.float32)
            if bias_low_ptr is not None:
                bias += tl.load(bias_low_ptr + first + columns).to(tl.float32)
        if SIGMOID:
            x = s * scale - shift[:, None]
            if bias_ptr is not None:
                x += bias[None, :]
            e, r = sigmoid_parts(x, EXACT)
            p = tl.where(x > 0, r, e * r)
            if MASKED:
                p = tl.where(seen, p, 0.0)
        else:
            if bias_ptr is not None or MASKED:
                x = s * scale
                if bias_ptr is not None:
                    x += bias[None, :]
                if MASKED:
                    x = tl.where(seen, x, float("-inf"))
                higher = tl.maximum(top, tl.max(x, 1))
                level = tl.where(higher == float("-inf"), 0.0, higher)
                p = tl.exp2(x - level[:, None])
            else:
                higher = tl.maximum(top, tl.max(s, 1) * scale)
                level = higher
                p = tl.exp2(s * scale - level[:, None])
            fade = tl.exp2(top - level)
            total = total * fade + tl.sum(p, 1)
            acc = acc * fade[:, None]
            top = higher
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        entry = following
    return acc, top, total


@triton.jit(do_not_specialize=["length_q", "length_k", "heads", "group", "kinds", "tiles_q", "tiles_k", "batched",
    "q_b", "q_n", "q_h", "k_b", "k_n", "k_h", "v_b", "v_n", "v_h", "bias_heads"])
def forward_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, bias_low_ptr, out_ptr, lse_ptr,
    q_tile_ptr, order_ptr, rank_ptr, visible_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    full_n_ptr, full_i_ptr, part_n_ptr, part_i_ptr,
    length_q, length_k, heads, group, kinds, tiles_q, tiles_k, batched,
    q_b, q_n, q_h, k_b, k_n, k_h, v_b, v_n, v_h, bias_heads, scale,
    SIGMOID: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr, DV_PADDED: tl.constexpr,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    EXACT: tl.constexpr = q_ptr.dtype.element_ty == tl.float32
    BIAS_RULE: tl.constexpr = bias_lo_ptr is not None
    pairs = tl.num_programs(0) // tiles_q
    pair = tl.program_id(0) % pairs
    tile = tl.load(order_ptr + tl.program_id(0) // pairs)
    b = (pair // heads).to(tl.int64)
    h = pair % heads
    sample = b * batched
    start = tl.load(q_tile_ptr + 3 * tile)
    count = tl.load(q_tile_ptr + 3 * tile + 1) - start
    kind = tl.load(q_tile_ptr + 3 * tile + 2)

    rows = tl.arange(0, TILE_Q)
    q_n, k_n, v_n = q_n * 8, k_n * 8, v_n * 8
    q = tile_rows(q_ptr + b * q_b * 8 + h * q_h * 8, start, q_n, count, TILE_Q, D, D_PADDED)
    rank = tl.load(rank_ptr + sample * length_q + start + rows, rows < count, -1)
    k_ptr += b * k_b * 8 + (h // group) * k_h * 8
    v_ptr += b * v_b * 8 + (h // group) * v_h * 8
    width = tiles_k * TILE_K
    lo_ptr += (sample * kinds + kind) * width
    hi_ptr += (sample * kinds + kind) * width
    if BIAS_RULE:
        bias_lo_ptr += (sample * kinds + kind) * width
        bias_hi_ptr += (sample * kinds + kind) * width
    if bias_ptr is not None:
        bias_at = (b * bias_heads + (h if bias_heads > 1 else 0)) * width
        bias_ptr += bias_at
        if bias_low_ptr is not None:
            bias_low_ptr += bias_at
    row = sample * tiles_q + tile

    acc = tl.zeros((TILE_Q, DV_PADDED), tl.float32)
    top = tl.full((TILE_Q,), float("-inf"), tl.float32)
    total = tl.zeros((TILE_Q,), tl.float32)
    shift = total
    if SIGMOID:
        n = tl.load(visible_ptr + sample * length_q + start + rows, rows < count, 0)
        shift = tl.where(n > 0, tl.log2(n.to(tl.float32)), float("inf"))
    acc, top, total = walk(
        acc, top, total, q, shift, rank, k_ptr, v_ptr, bias_ptr, bias_low_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
        full_i_ptr + row * tiles_k, tl.load(full_n_ptr + row), k_n, v_n, length_k, scale,
        False, SIGMOID, EXACT, BIAS_RULE, D, DV, D_PADDED, DV_PADDED, TILE_K,
    )  # fmt: skip
    acc, top, total = walk(
        acc, top, total, q, shift, rank, k_ptr, v_ptr, bias_ptr, bias_low_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
        part_i_ptr + row * tiles_k, tl.load(part_n_ptr + row), k_n, v_n, length_k, scale,
        True, SIGMOID, EXACT, BIAS_RULE, D, DV, D_PADDED, DV_PADDED, TILE_K,
    )  # fmt: skip

    alive = rank >= 0
    at = (b * length_q + start + rows) * heads + h
    if not SIGMOID:
        alive = alive & (total > 0)
        total = tl.where(alive, total, 1.0)
        acc = acc / total[:, None]
        lse = tl.where(alive, (top + tl.log2(total)) * LN_2, float("-inf"))
        tl.store(lse_ptr + at, lse, rows < count)
    acc = tl.where(alive[:, None], acc, 0.0)
    columns = tl.arange(0, DV_PADDED)
    tl.store(
        out_ptr + at[:, None] * DV + columns[None, :], acc.to(out_ptr.dtype.element_ty),
        (rows < count)[:, None] & (columns < DV)[None, :],
    )  # fmt: skip
