"""The backward kernels of ``attend``: dQ by query tiles; dK, dV and the key bias's gradient by key tiles.

With x the scores in units of log 2 and dp = dO v^T: softmax p = 2^(x - lse), ds = p (dp - delta), delta = rowsum(dO O)
- dLSE; sigmoid p = sigmoid(x - log n), ds = p (1 - p) dp. dQ = sum ds k, dK = sum ds q, both times the scale; dV = sum
p dO; dbias = sum ds. Each sum is made by one program in a fixed order: no atomics.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false
from __future__ import annotations

import triton
import triton.language as tl

from ros_attn.kernels.scores_triton import LOG2_E, head_rows, sigmoid_parts, some_query


@triton.jit
def weights(x, dp, delta, SIGMOID: tl.constexpr, EXACT: tl.constexpr):
    """``p, ds`` of a tile whose x holds -inf where a pair is not visible, lse or log n being subtracted already."""
    if SIGMOID:
        e, r = sigmoid_parts(x, EXACT)
        p = tl.where(x > 0, r, e * r)
        ds = e * r * r * dp
    else:
        p = tl.exp2(x)
        ds = p * (dp - delta)
    return p, ds


@triton.jit
def softmax_terms(out_ptr, d_out, lse_ptr, d_lse_ptr, at, d_lse_at, inside, DV: tl.constexpr, DV_PADDED: tl.constexpr):
    """``offset, delta`` of queries: log2 of the sum, +inf where it is 0 so that p = 0, and rowsum(dO O) - dLSE."""
    columns = tl.arange(0, DV_PADDED)
    out = tl.load(out_ptr + at[:, None] * DV + columns[None, :], inside[:, None] & (columns < DV)[None, :], 0.0)
    delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
    if d_lse_ptr is not None:
        delta -= tl.load(d_lse_ptr + d_lse_at, inside, 0.0)
    lse = tl.load(lse_ptr + at, inside, float("-inf"))
    return tl.where(lse == float("-inf"), float("inf"), lse * LOG2_E), delta


@triton.jit
def sigmoid_offset(visible_ptr, at, inside):
    """log2 of the number of keys that a query sees, +inf where there are none."""
    n = tl.load(visible_ptr + at, inside, 0)
    return tl.where(n > 0, tl.log2(tl.maximum(n, 1).to(tl.float32)), float("inf"))


@triton.jit
def dq_walk(
    dq, q, d_out, offset, delta, rank, k_ptr, v_ptr, k_n, v_n, bias_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    list_ptr, count, scale,
    PARTIAL: tl.constexpr, SIGMOID: tl.constexpr, EXACT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr, DV_PADDED: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """Add the key tiles of one list to ``dq [TILE_Q, D_PADDED]``. See ``forward_walk``."""
    BIAS_RULE: tl.constexpr = bias_lo_ptr is not None
    columns = tl.arange(0, TILE_K)
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
        v = head_rows(v_ptr, first, v_n, keep, TILE_K, DV, DV_PADDED)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        dp = tl.dot(d_out, tl.trans(v), input_precision="ieee")
        x = s * scale - offset[:, None]
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
            keep = some_query(lo_ptr, hi_ptr, next_entry * TILE_K, TILE_K)
        ds = weights(x, dp, delta[:, None], SIGMOID, EXACT)[1]
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
        entry = next_entry
    return dq


@triton.jit(
    do_not_specialize=[
        "length_q", "heads", "kinds", "tiles_q", "tiles_k", "batched", "q_b", "q_n", "q_h", "k_b", "k_n", "k_h", "v_b",
        "v_n", "v_h", "g_b", "g_n", "g_h", "l_b", "l_n", "l_h", "bias_heads",
    ]
)  # fmt: skip
def dq_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, out_ptr, lse_ptr, d_out_ptr, d_lse_ptr, dq_ptr,
    q_tile_ptr, order_ptr, rank_ptr, visible_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    full_n_ptr, full_i_ptr, part_n_ptr, part_i_ptr,
    length_q, heads, kinds, tiles_q, tiles_k, batched,
    q_b, q_n, q_h, k_b, k_n, k_h, v_b, v_n, v_h, g_b, g_n, g_h, l_b, l_n, l_h, bias_heads, scale, out_scale,
    SIGMOID: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr,
    DV_PADDED: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """``dq [B, Lq, H, D]``, contiguous as out and lse are. One program a query tile, head and sample.

    Strides of q, k, v and dO (``g``) in units of 8 elements, of dLSE (``l``) in elements; ``out_scale`` is that of the
    scores, the rest as in ``forward_kernel``.
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
    d_out = head_rows(d_out_ptr + (b * g_b + h * g_h) * 8, start, g_n * 8, inside, TILE_Q, DV, DV_PADDED)
    rank = tl.load(rank_ptr + sample * length_q + start + rows, inside, -1)
    at = (b * length_q + start + rows) * heads + h
    if SIGMOID:
        offset = sigmoid_offset(visible_ptr, sample * length_q + start + rows, inside)
        delta = offset
    else:
        d_lse_at = b * l_b + (start + rows).to(tl.int64) * l_n + h * l_h
        offset, delta = softmax_terms(out_ptr, d_out, lse_ptr, d_lse_ptr, at, d_lse_at, inside, DV, DV_PADDED)
    k_ptr += (b * k_b + (h // GROUP) * k_h) * 8
    v_ptr += (b * v_b + (h // GROUP) * v_h) * 8
    of_kind = (sample * kinds + kind) * tiles_k * TILE_K
    if bias_ptr is not None:
        bias_ptr += (b * bias_heads + h % bias_heads) * tiles_k * TILE_K
    if bias_lo_ptr is not None:
        bias_lo_ptr += of_kind
        bias_hi_ptr += of_kind
    row = sample * tiles_q + tile

    dq = tl.zeros((TILE_Q, D_PADDED), tl.float32)
    dq = dq_walk(
        dq, q, d_out, offset, delta, rank, k_ptr, v_ptr, k_n * 8, v_n * 8, bias_ptr, lo_ptr + of_kind, hi_ptr + of_kind,
        bias_lo_ptr, bias_hi_ptr, full_i_ptr + row * tiles_k, tl.load(full_n_ptr + row), scale,
        False, SIGMOID, EXACT, D, DV, D_PADDED, DV_PADDED, TILE_K,
    )  # fmt: skip
    dq = dq_walk(
        dq, q, d_out, offset, delta, rank, k_ptr, v_ptr, k_n * 8, v_n * 8, bias_ptr, lo_ptr + of_kind, hi_ptr + of_kind,
        bias_lo_ptr, bias_hi_ptr, part_i_ptr + row * tiles_k, tl.load(part_n_ptr + row), scale,
        True, SIGMOID, EXACT, D, DV, D_PADDED, DV_PADDED, TILE_K,
    )  # fmt: skip
    columns = tl.arange(0, D_PADDED)
    tl.store(
        dq_ptr + at[:, None] * D + columns[None, :], (dq * out_scale).to(dq_ptr.dtype.element_ty),
        inside[:, None] & (columns < D)[None, :],
    )  # fmt: skip


@triton.jit
def first_row(start, length_q, TILE_Q: tl.constexpr):
    """The row that a query tile is read from: moved up from its start where it would reach beyond the last query."""
    return tl.maximum(tl.minimum(start, length_q - TILE_Q), 0)


@triton.jit(
    do_not_specialize=["length_q", "heads", "tiles_q", "batched", "g_b", "g_n", "g_h", "l_b", "l_n", "l_h"]
)  # fmt: skip
def terms_kernel(
    out_ptr, lse_ptr, d_out_ptr, d_lse_ptr, q_tile_ptr, rank_ptr, visible_ptr, offset_ptr, delta_ptr, ranks_ptr,
    length_q, heads, tiles_q, batched, g_b, g_n, g_h, l_b, l_n, l_h,
    SIGMOID: tl.constexpr, DV: tl.constexpr, DV_PADDED: tl.constexpr, TILE_Q: tl.constexpr,
):  # fmt: skip
    """What ``dkv_kernel`` needs of every query, tile by tile as it reads them: aligned, and inert beyond a tile's end.

    ``offset, delta [B, H, tiles_q, TILE_Q]`` (sigmoid: ``offset [B|1, tiles_q, TILE_Q]``, no delta) and
    ``ranks [B|1, tiles_q, TILE_Q]``. One program a tile, head and sample; for sigmoid all heads are one.
    """
    tile = tl.program_id(0) % tiles_q
    pair = tl.program_id(0) // tiles_q
    b, h = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    start = tl.load(q_tile_ptr + 3 * tile)
    rows = first_row(start, length_q, TILE_Q) + tl.arange(0, TILE_Q)
    inside = (rows >= start) & (rows < tl.load(q_tile_ptr + 3 * tile + 1))
    slots = tile * TILE_Q + tl.arange(0, TILE_Q)
    of_pair = pair.to(tl.int64) * tiles_q * TILE_Q
    of_sample = b * batched * length_q
    if SIGMOID:
        tl.store(offset_ptr + of_pair + slots, sigmoid_offset(visible_ptr, of_sample + rows, inside))
    else:
        columns = tl.arange(0, DV_PADDED)
        places = d_out_ptr + (b * g_b + h * g_h) * 8 + rows.to(tl.int64)[:, None] * g_n * 8 + columns[None, :]
        d_out = tl.load(places, inside[:, None] & (columns < DV)[None, :], 0.0)
        at = (b * length_q + rows) * heads + h
        d_lse_at = b * l_b + rows.to(tl.int64) * l_n + h * l_h
        offset, delta = softmax_terms(out_ptr, d_out, lse_ptr, d_lse_ptr, at, d_lse_at, inside, DV, DV_PADDED)
        tl.store(offset_ptr + of_pair + slots, offset)
        tl.store(delta_ptr + of_pair + slots, delta)
    if (h == 0) & (b * batched == b):
        rank = tl.load(rank_ptr + of_sample + rows, inside, -1)
        tl.store(ranks_ptr + b * tiles_q * TILE_Q + slots, rank)


@triton.jit
def dkv_walk(
    dk, dv, d_bias, k, v, bias, q_ptr, d_out_ptr, q_n, g_n, offset_ptr, delta_ptr, ranks_ptr, q_tile_ptr,
    lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr, list_ptr, count, width, length_q, scale,
    PARTIAL: tl.constexpr, SIGMOID: tl.constexpr, EXACT: tl.constexpr, BIAS_GRAD: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr, DV_PADDED: tl.constexpr,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """Add one head's query tiles of one list to ``dk, dv [TILE_K, ...]`` and ``d_bias [TILE_K]``.

    Scores are transposed, [TILE_K, TILE_Q], so that p and ds multiply from registers. Rows of a tile beyond its end
    are those of other tiles, or the last query again; ``terms_kernel`` gives them an offset of +inf.
    """
    BIAS_RULE: tl.constexpr = bias_lo_ptr is not None
    rows = tl.arange(0, TILE_Q)
    columns = tl.arange(0, TILE_K)
    d, e = tl.arange(0, D_PADDED), tl.arange(0, DV_PADDED)
    existing = tl.minimum(rows, length_q - 1)
    q_places = q_ptr + (existing[:, None] * q_n + d[None, :])
    g_places = d_out_ptr + (existing[:, None] * g_n + e[None, :])
    entry = tl.load(list_ptr, count > 0, 0)
    tile = entry >> 1 if BIAS_RULE and not PARTIAL else entry
    start = tl.load(q_tile_ptr + 3 * tile)
    for i in range(count):
        next_entry = tl.load(list_ptr + tl.minimum(i + 1, count - 1))
        next_tile = next_entry >> 1 if BIAS_RULE and not PARTIAL else next_entry
        next_start = tl.load(q_tile_ptr + 3 * next_tile)
        first = first_row(start, length_q, TILE_Q).to(tl.int64)
        if D == D_PADDED:
            q = tl.load(q_places + first * q_n)
        else:
            q = tl.load(q_places + first * q_n, (d < D)[None, :], 0.0)
        if DV == DV_PADDED:
            d_out = tl.load(g_places + first * g_n)
        else:
            d_out = tl.load(g_places + first * g_n, (e < DV)[None, :], 0.0)
        s = tl.dot(k, tl.trans(q), input_precision="ieee")
        dp = tl.dot(v, tl.trans(d_out), input_precision="ieee")
        x = s * scale - tl.load(offset_ptr + tile * TILE_Q + rows)[None, :]
        if SIGMOID:
            delta = None
        else:
            delta = tl.load(delta_ptr + tile * TILE_Q + rows)[None, :]
        if PARTIAL:
            rank = tl.load(ranks_ptr + tile * TILE_Q + rows)
            of_kind = tl.load(q_tile_ptr + 3 * tile + 2) * width
        if bias is not None:
            if BIAS_RULE and PARTIAL:
                lo = tl.load(bias_lo_ptr + of_kind + columns)
                hi = tl.load(bias_hi_ptr + of_kind + columns)
                on = (lo[:, None] <= rank[None, :]) & (hi[:, None] > rank[None, :])
                x += tl.where(on, bias[:, None], 0.0)
            elif BIAS_RULE:
                x += tl.where((entry & 1) != 0, bias, 0.0)[:, None]
            else:
                x += bias[:, None]
        if PARTIAL:
            lo = tl.load(lo_ptr + of_kind + columns)
            hi = tl.load(hi_ptr + of_kind + columns)
            x = tl.where((lo[:, None] <= rank[None, :]) & (hi[:, None] > rank[None, :]), x, float("-inf"))
        p, ds = weights(x, dp, delta, SIGMOID, EXACT)
        dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision="ieee")
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
        if BIAS_GRAD:
            if BIAS_RULE and PARTIAL:
                d_bias += tl.sum(tl.where(on, ds, 0.0), 1)
            elif BIAS_RULE:
                d_bias += tl.where((entry & 1) != 0, tl.sum(ds, 1), 0.0)
            else:
                d_bias += tl.sum(ds, 1)
        entry, tile, start = next_entry, next_tile, next_start
    return dk, dv, d_bias


@triton.jit(
    do_not_specialize=[
        "length_q", "length_k", "heads", "kinds", "tiles_q", "tiles_k", "batched", "q_b", "q_n", "q_h", "k_b", "k_n",
        "k_h", "v_b", "v_n", "v_h", "g_b", "g_n", "g_h", "bias_heads",
    ]
)  # fmt: skip
def dkv_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, d_out_ptr, offset_ptr, delta_ptr, ranks_ptr, dk_ptr, dv_ptr, d_bias_ptr,
    q_tile_ptr, order_ptr, lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr,
    full_n_ptr, full_i_ptr, part_n_ptr, part_i_ptr,
    length_q, length_k, heads, kinds, tiles_q, tiles_k, batched,
    q_b, q_n, q_h, k_b, k_n, k_h, v_b, v_n, v_h, g_b, g_n, g_h, bias_heads, scale, out_scale,
    SIGMOID: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr,
    DV_PADDED: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """``dk [B, Lk, H / GROUP, D]``, ``dv``, ``d_bias [B, H, Lk]``, contiguous. One program a key tile and key head.

    It goes through the GROUP query heads of its key head. Arguments as in ``dq_kernel`` and ``terms_kernel``.
    """
    EXACT: tl.constexpr = q_ptr.dtype.element_ty == tl.float32
    BIAS_GRAD: tl.constexpr = d_bias_ptr is not None
    pairs = tl.num_programs(0) // tiles_k
    tile = tl.load(order_ptr + tl.program_id(0) // pairs)
    pair = tl.program_id(0) % pairs
    key_heads = heads // GROUP
    b, key_head = (pair // key_heads).to(tl.int64), (pair % key_heads).to(tl.int64)
    sample = b * batched
    first = tile * TILE_K
    columns = first + tl.arange(0, TILE_K)
    inside = columns < length_k
    width = tiles_k * TILE_K
    lo_ptr += sample * kinds * width + first
    hi_ptr += sample * kinds * width + first
    if bias_lo_ptr is not None:
        bias_lo_ptr += sample * kinds * width + first
        bias_hi_ptr += sample * kinds * width + first
    keep = inside & (columns < 0)
    for kind in range(kinds):
        keep = keep | some_query(lo_ptr + kind * width, hi_ptr + kind * width, 0, TILE_K)
    k = head_rows(k_ptr + (b * k_b + key_head * k_h) * 8, first, k_n * 8, keep, TILE_K, D, D_PADDED)
    v = head_rows(v_ptr + (b * v_b + key_head * v_h) * 8, first, v_n * 8, keep, TILE_K, DV, DV_PADDED)
    row = sample * tiles_k + tile
    full_n, part_n = tl.load(full_n_ptr + row), tl.load(part_n_ptr + row)
    ranks_ptr += sample * tiles_q * TILE_Q

    dk = tl.zeros((TILE_K, D_PADDED), tl.float32)
    dv = tl.zeros((TILE_K, DV_PADDED), tl.float32)
    for h in range(key_head * GROUP, key_head * GROUP + GROUP):
        if bias_ptr is not None:
            bias = tl.load(bias_ptr + (b * bias_heads + h % bias_heads) * width + columns)
        else:
            bias = None
        d_bias = tl.zeros((TILE_K,), tl.float32)
        q_at = q_ptr + (b * q_b + h * q_h) * 8
        g_at = d_out_ptr + (b * g_b + h * g_h) * 8
        of_pair = (b * heads + h) * tiles_q * TILE_Q
        offset_at = offset_ptr + (sample * tiles_q * TILE_Q if SIGMOID else of_pair)
        delta_at = None if SIGMOID else delta_ptr + of_pair
        dk, dv, d_bias = dkv_walk(
            dk, dv, d_bias, k, v, bias, q_at, g_at, q_n * 8, g_n * 8, offset_at, delta_at, ranks_ptr, q_tile_ptr,
            lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr, full_i_ptr + row * tiles_q, full_n, width, length_q, scale,
            False, SIGMOID, EXACT, BIAS_GRAD, D, DV, D_PADDED, DV_PADDED, TILE_Q, TILE_K,
        )  # fmt: skip
        dk, dv, d_bias = dkv_walk(
            dk, dv, d_bias, k, v, bias, q_at, g_at, q_n * 8, g_n * 8, offset_at, delta_at, ranks_ptr, q_tile_ptr,
            lo_ptr, hi_ptr, bias_lo_ptr, bias_hi_ptr, part_i_ptr + row * tiles_q, part_n, width, length_q, scale,
            True, SIGMOID, EXACT, BIAS_GRAD, D, DV, D_PADDED, DV_PADDED, TILE_Q, TILE_K,
        )  # fmt: skip
        if BIAS_GRAD:
            tl.store(d_bias_ptr + (b * heads + h) * length_k + columns, d_bias, inside)
    at = (b * length_k + columns) * key_heads + key_head
    d, e = tl.arange(0, D_PADDED), tl.arange(0, DV_PADDED)
    tl.store(
        dk_ptr + at[:, None] * D + d[None, :], (dk * out_scale).to(dk_ptr.dtype.element_ty),
        inside[:, None] & (d < D)[None, :],
    )  # fmt: skip
    tl.store(
        dv_ptr + at[:, None] * DV + e[None, :], dv.to(dv_ptr.dtype.element_ty), inside[:, None] & (e < DV)[None, :]
    )
