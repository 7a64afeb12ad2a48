"""The forward kernel of ``attend``: one program a query tile, head and sample; softmax with its LSE, or sigmoid."""

# pyright: reportArgumentType=false, reportAssignmentType=false
from __future__ import annotations

import triton
import triton.language as tl

from ros_attn.kernels.scores_triton import LN_2, head_rows, sigmoid_parts, some_query


@triton.jit
def forward_walk(
    acc, top, total, q, shift, rank, k_ptr, v_ptr, k_n, v_n, bias_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    list_ptr, count, scale,
    PARTIAL: tl.constexpr, SIGMOID: tl.constexpr, EXACT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr, DV_PADDED: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """Add the key tiles of one list to ``acc [TILE_Q, DV_PADDED]``, and for softmax to ``top, total [TILE_Q]``.

    Softmax: ``total = sum 2^(x - top)``, ``acc = sum 2^(x - top) v``. Sigmoid: ``acc = sum sigmoid(x - shift) v``.
    PARTIAL tiles compare each pair's rank with the key's intervals; in the others every query sees every key.
    """
    BIAS_RULE: tl.constexpr = bias_lo_ptr is not None
    columns = tl.arange(0, TILE_K)
    # Both are fetched a step ahead: the loop's copies wait for them.
    entry = tl.load(list_ptr, count > 0, 0)
    keep = None
    if PARTIAL:
        keep = some_query(lo_ptr, hi_ptr, entry * TILE_K, TILE_K)
    for i in range(count):
        next_entry = tl.load(list_ptr + tl.minimum(i + 1, count - 1))
        if BIAS_RULE and not PARTIAL:
            first = (entry >> 1) * TILE_K
        else:
            first = entry * TILE_K
        k = head_rows(k_ptr, first, k_n, keep, TILE_K, D, D_PADDED)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        v = head_rows(v_ptr, first, v_n, keep, TILE_K, DV, DV_PADDED)

        plain: tl.constexpr = not PARTIAL and bias_ptr is None
        if SIGMOID:
            x = s * scale - shift[:, None]
        elif not plain:
            x = s * scale
        if bias_ptr is not None:
            bias = tl.load(bias_ptr + first + columns)
            if BIAS_RULE and PARTIAL:
                lo = tl.load(bias_lo_ptr + first + columns)
                hi = tl.load(bias_hi_ptr + first + columns)
                x += tl.where((lo[None, :] <= rank[:, None]) & (hi[None, :] > rank[:, None]), bias[None, :], 0.0)
            elif BIAS_RULE:
                x += tl.where((entry & 1) != 0, bias, 0.0)[None, :]
            else:
                x += bias[None, :]
        if PARTIAL:
            lo = tl.load(lo_ptr + first + columns)
            hi = tl.load(hi_ptr + first + columns)
            x = tl.where((lo[None, :] <= rank[:, None]) & (hi[None, :] > rank[:, None]), x, float("-inf"))

        if SIGMOID:
            e, r = sigmoid_parts(x, EXACT)
            p = tl.where(x > 0, r, e * r)
        else:
            if plain:
                higher = tl.maximum(top, tl.max(s, 1) * scale)
                level = higher
                p = tl.exp2(s * scale - level[:, None])
            else:
                higher = tl.maximum(top, tl.max(x, 1))
                # A row that has met nothing but -inf yet.
                level = tl.where(higher == float("-inf"), 0.0, higher)
                p = tl.exp2(x - level[:, None])
            fade = tl.exp2(top - level)
            total = total * fade + tl.sum(p, 1)
            acc = acc * fade[:, None]
            top = higher
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        if PARTIAL:
            keep = some_query(lo_ptr, hi_ptr, next_entry * TILE_K, TILE_K)
        entry = next_entry
    return acc, top, total


@triton.jit(
    do_not_specialize=[
        "length_q", "heads", "kinds", "tiles_q", "tiles_k", "batched", "q_b", "q_n", "q_h", "k_b", "k_n",
        "k_h", "v_b", "v_n", "v_h", "bias_heads",
    ]
)  # fmt: skip
def forward_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, out_ptr, lse_ptr,
    q_tile_ptr, order_ptr, rank_ptr, visible_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    full_n_ptr, full_i_ptr, part_n_ptr, part_i_ptr,
    length_q, heads, kinds, tiles_q, tiles_k, batched,
    q_b, q_n, q_h, k_b, k_n, k_h, v_b, v_n, v_h, bias_heads, scale,
    SIGMOID: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr,
    DV_PADDED: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """``out [B, Lq, H, DV]`` and, for softmax, ``lse [B, Lq, H]``, both contiguous. See ``attend_triton.forward``.

    Strides of q, k and v are in units of 8 elements: that they are multiples of 8 is then known to the compiler.
    ``scale`` is that of the scores times log2 e, not negative for softmax; so is the bias, [B, bias heads, tiles_k *
    TILE_K] with zeros beyond Lk.
    """
    EXACT: tl.constexpr = q_ptr.dtype.element_ty == tl.float32
    pairs = tl.num_programs(0) // tiles_q
    tile = tl.load(order_ptr + tl.program_id(0) // pairs)
    pair = tl.program_id(0) % pairs
    b, h = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    sample = b * batched
    start = tl.load(q_tile_ptr + 3 * tile)
    count = tl.load(q_tile_ptr + 3 * tile + 1) - start
    kind = tl.load(q_tile_ptr + 3 * tile + 2)

    rows = tl.arange(0, TILE_Q)
    inside = rows < count
    q = head_rows(q_ptr + (b * q_b + h * q_h) * 8, start, q_n * 8, inside, TILE_Q, D, D_PADDED)
    rank = tl.load(rank_ptr + sample * length_q + start + rows, inside, -1)
    k_ptr += (b * k_b + (h // GROUP) * k_h) * 8
    v_ptr += (b * v_b + (h // GROUP) * v_h) * 8
    of_kind = (sample * kinds + kind) * tiles_k * TILE_K
    if bias_ptr is not None:
        bias_ptr += (b * bias_heads + h % bias_heads) * tiles_k * TILE_K
    if bias_lo_ptr is not None:
        bias_lo_ptr += of_kind
        bias_hi_ptr += of_kind
    row = sample * tiles_q + tile

    acc = tl.zeros((TILE_Q, DV_PADDED), tl.float32)
    top = tl.full((TILE_Q,), float("-inf"), tl.float32)
    total = tl.zeros((TILE_Q,), tl.float32)
    shift = total
    if SIGMOID:
        n = tl.load(visible_ptr + sample * length_q + start + rows, inside, 0)
        shift = tl.where(n > 0, tl.log2(tl.maximum(n, 1).to(tl.float32)), float("inf"))
    acc, top, total = forward_walk(
        acc, top, total, q, shift, rank, k_ptr, v_ptr, k_n * 8, v_n * 8, bias_ptr, lo_ptr + of_kind, hi_ptr + of_kind,
        bias_lo_ptr, bias_hi_ptr, full_i_ptr + row * tiles_k, tl.load(full_n_ptr + row), scale,
        False, SIGMOID, EXACT, D, DV, D_PADDED, DV_PADDED, TILE_K,
    )  # fmt: skip
    acc, top, total = forward_walk(
        acc, top, total, q, shift, rank, k_ptr, v_ptr, k_n * 8, v_n * 8, bias_ptr, lo_ptr + of_kind, hi_ptr + of_kind,
        bias_lo_ptr, bias_hi_ptr, part_i_ptr + row * tiles_k, tl.load(part_n_ptr + row), scale,
        True, SIGMOID, EXACT, D, DV, D_PADDED, DV_PADDED, TILE_K,
    )  # fmt: skip

    # Full tiles hold rows that see nothing, too: those beyond a sample's length.
    alive = rank >= 0
    at = (b * length_q + start + rows) * heads + h
    if not SIGMOID:
        alive = alive & (total > 0)
        total = tl.where(alive, total, 1.0)
        acc = acc / total[:, None]
        lse = tl.where(alive, (top + tl.log2(total)) * LN_2, float("-inf"))
        tl.store(lse_ptr + at, lse, inside)
    acc = tl.where(alive[:, None], acc, 0.0)
    columns = tl.arange(0, DV_PADDED)
    tl.store(
        out_ptr + at[:, None] * DV + columns[None, :], acc.to(out_ptr.dtype.element_ty),
        inside[:, None] & (columns < DV)[None, :],
    )  # fmt: skip
