"""Few queries against many keys in ring buffers, as Triton kernels: split over the keys, then combined.

``out_i = sum_j p_ij v_j`` as in ``reference``, for Lq of 1 to about 32. Nothing is planned ahead and nothing depends on
values read by the host: the kernel derives what is visible from the rules and from the frames as they lie on the
device, so a ring slot that was written in place is seen by the next call, also inside a CUDA graph.

- A block is ``TILE_K`` keys of one kind. The blocks of a sample are dealt out to ``splits`` programs like cards: of a
  window that fills part of a ring each program gets its share.
- Each program looks first: it reads the frames of its blocks and lists those in which a query may see a key, with one
  bit a key. Then it walks that list. K and V of other blocks, and of keys whose bit is clear, are never read, so they
  may hold NaN. The rows of a tile are the queries times the query heads of one key head.
- The list is what keeps the walk pipelined: with an ``if`` around the loads of K and V, or with a load in the same step
  that decides what they read, Triton no longer copies ahead of the arithmetic. The next entry is therefore read at the
  end of a step and carried over.
- Softmax: a program writes its share normalised beside its log-sum-exp (in base 2) and ``combine_kernel`` adds the
  shares up. Sigmoid: shares just add up, but ``log n_i`` must be known first; ``count_kernel`` reads the frames alone.
  Few keys take one launch for all of it.

Sums run in a fixed order: equal inputs give equal bits on equal hardware (the splits follow from the number of
multiprocessors).

Source: split over the keys after flash-decoding (Dao et al. 2023); the sigmoid 2604.27124 (TritonSigmoid), whose
split-K is a plain sum; the visibility is ours.
"""

# Kernels are written in Triton's language, which type checkers read as Python.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ros_attn.kernels.configurations import architecture, configuration
from ros_attn.kernels.layout import INFINITE, Layout
from ros_attn.kernels.scores_triton import sigmoid_parts

_INFINITE = tl.constexpr(INFINITE)
_LOG2E = tl.constexpr(1.4426950408889634)
_LOOK = tl.constexpr(32)  # blocks that are looked at in one go
_COUNTS = tl.constexpr(32)  # programs that share the counting of one tile's keys

_FEW = 4  # blocks that one program walks in less time than a second launch takes

# Sizes and strides that change from call to call: no kernel of its own for those divisible by 16 or equal to 1.
_PLAIN = [
    "length_q", "length_k", "heads", "heads_k", "blocks", "kinds", "q_b", "q_l", "q_h",
    "k_b", "k_l", "k_h", "v_b", "v_l", "v_h", "bias_b", "bias_h", "frame_q_b", "frame_k_b", "rows", "splits",
]  # fmt: skip


@triton.jit
def _interval(frame, ahead, recent, first):
    """The query frames [lo, hi) that see a key, as in ``intervals``; lo = infinity: none."""
    lo = tl.maximum(frame - ahead, 0)
    hi = tl.where(frame < first, _INFINITE, frame + recent)
    return tl.where((frame < 0) | (lo >= hi), _INFINITE, lo), hi


@triton.jit
def _pairs(frame, rules, kind, t, GQ: tl.constexpr):
    """bool [queries, keys]: which queries (their kinds and frames) see which keys of one block."""
    pairs = tl.zeros((t.shape[0], frame.shape[0]), tl.int1)
    for a in tl.static_range(GQ):
        lo, hi = _interval(frame, tl.load(rules + 3 * a), tl.load(rules + 3 * a + 1), tl.load(rules + 3 * a + 2))
        see = (lo[None, :] <= t[:, None]) & (hi[None, :] > t[:, None])
        if GQ > 1:
            see &= (kind == a)[:, None]
        pairs |= see
    return pairs


@triton.jit
def _queries(frame_q, kind_q, len_q, b, i, length_q, GQ: tl.constexpr):
    """Frame (-1: sees nothing) and kind of the queries i."""
    here = i < length_q
    if len_q is not None:
        here &= i < tl.load(len_q + b)
    t = tl.where(here, 0, -1)
    if frame_q is not None:
        t = tl.load(frame_q + i, here, -1)
    kind = tl.zeros_like(i)
    if GQ > 1:
        kind = tl.load(kind_q + i, here, -1)
    return t, kind


@triton.jit
def _end(length_k, len_k, b):
    end = length_k
    if len_k is not None:
        end = tl.minimum(tl.load(len_k + b).to(tl.int32), length_k)
    return end


@triton.jit
def _count(table, frame_k, open, len_k, kind, t, split, splits, blocks, WIDTH: tl.constexpr, GQ: tl.constexpr,
           TILE_K: tl.constexpr):  # fmt: skip
    """How many keys in the blocks split, split + splits, ... each query sees."""
    n = tl.arange(0, TILE_K)
    counts = tl.zeros_like(t)
    for block in range(split, blocks, splits):
        entry = table + block * WIDTH
        j, end = tl.load(entry) + n, tl.minimum(tl.load(entry + 1), len_k)
        if open is not None:
            end = tl.where(tl.load(open + tl.load(entry + 2)) != 0, end, 0)
        frame = tl.where(j < end, 0, -1)
        if frame_k is not None:
            frame = tl.load(frame_k + j, j < end, -1)
        counts += tl.sum(_pairs(frame, entry + 3, kind, t, GQ).to(tl.int32), 1)
    return counts


@triton.jit
def _look(to, table, frame_k, open, len_k, least, most, split, splits, blocks, WIDTH: tl.constexpr, GQ: tl.constexpr,
          TILE_K: tl.constexpr):  # fmt: skip
    """List the blocks split, split + splits, ... with a key that some query may see; returns how many.

    An entry is the block's first key, the bits of its keys in two words, and its row of the table. A key's bit is set
    if its interval meets the frames from ``least`` to ``most`` of the queries of some kind.
    """
    c, n = tl.arange(0, _LOOK), tl.arange(0, TILE_K)
    count = 0
    for at in range(0, tl.cdiv(blocks - split, splits), _LOOK):
        block = split + splits * (at + c)
        real = block < blocks
        entry = table + block * WIDTH
        start, end = tl.load(entry, real, 0), tl.minimum(tl.load(entry + 1, real, 0), len_k)
        if open is not None:
            end = tl.where(tl.load(open + tl.load(entry + 2, real, 0)) != 0, end, 0)
        j = start[:, None] + n[None, :]
        frame = tl.where(j < end[:, None], 0, -1)
        if frame_k is not None:
            frame = tl.load(frame_k + j, j < end[:, None], -1)
        some = tl.zeros((_LOOK, TILE_K), tl.int1)
        for a in tl.static_range(GQ):
            rule = entry + 3 + 3 * a
            ahead, recent, first = tl.load(rule, real, 0), tl.load(rule + 1, real, 0), tl.load(rule + 2, real, 0)
            lo, hi = _interval(frame, ahead[:, None], recent[:, None], first[:, None])
            some |= (lo <= most[a]) & (hi > least[a])
        bits = some.to(tl.int32) << (n % 32)[None, :]
        low = tl.sum(tl.where((n < 32)[None, :], bits, 0), 1)
        high = tl.sum(tl.where((n < 32)[None, :], 0, bits), 1)
        listed = (low | high) != 0
        entry = to + 4 * (count + tl.cumsum(listed.to(tl.int32), 0) - 1)
        tl.store(entry, start, listed)
        tl.store(entry + 1, low, listed)
        tl.store(entry + 2, high, listed)
        tl.store(entry + 3, block, listed)
        count += tl.sum(listed.to(tl.int32), 0)
    tl.debug_barrier()  # the list goes through memory, from any thread of the program to all of them
    return count


@triton.jit(do_not_specialize=_PLAIN)
def split_kernel(
    q_ptr, k_ptr, v_ptr, bias_ptr, frame_q_ptr, frame_k_ptr, open_ptr, len_q_ptr, len_k_ptr, table_ptr, kind_q_ptr,
    count_ptr, list_ptr, out_ptr, lse_ptr,
    length_q, length_k, heads, heads_k, blocks, kinds, scale,
    q_b, q_l, q_h, k_b, k_l, k_h, v_b, v_l, v_h, bias_b, bias_h, frame_q_b, frame_k_b,
    SIGMOID: tl.constexpr, PARTIAL: tl.constexpr, GQ: tl.constexpr, WIDTH: tl.constexpr, BIAS_RULE: tl.constexpr,
    BIAS_HEADS: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, D_PADDED: tl.constexpr, DV_PADDED: tl.constexpr,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """One tile of rows against the keys of one split. Strides of q, k and v count 8 elements."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    b, head_k = (tl.program_id(0) // heads_k).to(tl.int64), tl.program_id(0) % heads_k
    group = heads // heads_k
    r = tl.program_id(2) * TILE_Q + tl.arange(0, TILE_Q)
    i, h = r // group, head_k * group + r % group
    valid = i < length_q
    row = (b * length_q + i) * heads + h
    d, dv, n = tl.arange(0, D_PADDED), tl.arange(0, DV_PADDED), tl.arange(0, TILE_K)
    q = tl.load(
        q_ptr + b * q_b * 8 + i.to(tl.int64)[:, None] * q_l * 8 + h.to(tl.int64)[:, None] * q_h * 8 + d[None, :],
        valid[:, None] & (d[None, :] < D), 0.0,
    )  # fmt: skip

    frame_q, frame_k, open = frame_q_ptr, frame_k_ptr, open_ptr
    if frame_q_ptr is not None:
        frame_q = frame_q_ptr + b * frame_q_b
    if frame_k_ptr is not None:
        frame_k = frame_k_ptr + b * frame_k_b
    if open_ptr is not None:
        open = open_ptr + b * kinds
    end = _end(length_k, len_k_ptr, b)
    t, kind = _queries(frame_q, kind_q_ptr, len_q_ptr, b, i, length_q, GQ)
    least, most = (), ()
    for a in tl.static_range(GQ):
        mine = (kind == a) & (t >= 0)
        least = least + (tl.min(tl.where(mine, t, _INFINITE), 0),)  # noqa: RUF005
        most = most + (tl.max(tl.where(mine, t, -1), 0),)  # noqa: RUF005
    # Of one kind and one frame, queries see the same keys, and the bits of the list say all.
    alike = (GQ == 1) & (least[0] == most[0])

    program = (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)) * splits + split
    entry = list_ptr + program.to(tl.int64) * (tl.cdiv(blocks, splits) + 1) * 4
    count = _look(entry, table_ptr, frame_k, open, end, least, most, split, splits, blocks, WIDTH, GQ, TILE_K)

    top = tl.full((TILE_Q,), -float("inf"), tl.float32)
    total = tl.zeros((TILE_Q,), tl.float32)
    out = tl.zeros((TILE_Q, DV_PADDED), tl.float32)
    shift = tl.zeros((TILE_Q,), tl.float32)
    if SIGMOID:
        if count_ptr is not None:
            shares = count_ptr + (b * _COUNTS + tl.arange(0, _COUNTS))[:, None] * length_q + i[None, :]
            seen = tl.sum(tl.load(shares, valid[None, :], 0), 0)
        else:
            seen = _count(table_ptr, frame_k, open, end, kind, t, 0, 1, blocks, WIDTH, GQ, TILE_K)
        shift = tl.log2(tl.maximum(seen, 1).to(tl.float32))

    # A head of a cache that lies heads first begins where 32 bits may no longer count.
    k_ptr += b * k_b * 8 + head_k.to(tl.int64) * 8 * k_h
    v_ptr += b * v_b * 8 + head_k.to(tl.int64) * 8 * v_h
    if bias_ptr is not None:
        bias_ptr += b * bias_b
        if not BIAS_HEADS:
            bias_h = 0
    start, low, high, block = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2), tl.load(entry + 3)
    for _ in range(count):
        some = ((tl.where(n < 32, low, high) >> (n % 32)) & 1) != 0
        k_at, v_at = k_ptr + start.to(tl.int64) * k_l * 8, v_ptr + start.to(tl.int64) * v_l * 8
        k = tl.load(k_at + n[None, :] * (k_l * 8) + d[:, None], some[None, :] & (d[:, None] < D), 0.0)
        v = tl.load(v_at + n[:, None] * (v_l * 8) + dv[None, :], some[:, None] & (dv[None, :] < DV), 0.0)
        s = tl.dot(q, k, input_precision="ieee") * scale
        if BIAS_RULE:
            frame = tl.where(some, 0, -1)
            if frame_k is not None:
                frame = tl.load(frame_k + start + n, some, -1)
        if bias_ptr is not None:
            if BIAS_HEADS:
                to = h.to(tl.int64)[:, None] * bias_h + start + n[None, :]
                bias = tl.load(bias_ptr + to, valid[:, None] & some[None, :], 0.0)
            else:
                bias = tl.load(bias_ptr + start + n, some, 0.0)[None, :]
            bias = bias.to(tl.float32) * _LOG2E
            if BIAS_RULE:
                bias = tl.where(_pairs(frame, table_ptr + block * WIDTH + 3 + 3 * GQ, kind, t, GQ), bias, 0.0)
            s += bias
        if alike:
            s = tl.where(some[None, :] & (t >= 0)[:, None], s, -float("inf"))
        else:
            frame = tl.where(some, 0, -1)
            if frame_k is not None:
                frame = tl.load(frame_k + start + n, some, -1)
            s = tl.where(_pairs(frame, table_ptr + block * WIDTH + 3, kind, t, GQ), s, -float("inf"))
        if SIGMOID:
            x = s - shift[:, None]
            e, ratio = sigmoid_parts(x, v.dtype == tl.float32)
            p = tl.where(x > 0, ratio, e * ratio)
        else:
            higher = tl.maximum(top, tl.max(s, 1))
            base = tl.where(higher == -float("inf"), 0.0, higher)
            p = tl.exp2(s - base[:, None])
            less = tl.exp2(top - base)
            total = total * less + tl.sum(p, 1)
            out *= less[:, None]
            top = higher
        out = tl.dot(p.to(v.dtype), v, out, input_precision="ieee")
        entry += 4
        start, low, high, block = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2), tl.load(entry + 3)

    inside = valid[:, None] & (dv[None, :] < DV)
    if not SIGMOID:
        seen = total > 0
        lse = top + tl.log2(tl.where(seen, total, 1.0))
        out = out / tl.where(seen, total, 1.0)[:, None]
    if PARTIAL:
        share = split * tl.num_programs(0).to(tl.int64) * group * length_q + row
        if not SIGMOID:
            tl.store(lse_ptr + share, lse, valid)
            inside &= seen[:, None]  # what a row did not see is neither written nor read again
        tl.store(out_ptr + share[:, None] * DV + dv[None, :], out, inside)
    else:
        if not SIGMOID:
            tl.store(lse_ptr + row, lse / _LOG2E, valid)
        tl.store(out_ptr + row[:, None] * DV + dv[None, :], out.to(out_ptr.dtype.element_ty), inside)


@triton.jit(do_not_specialize=_PLAIN)
def count_kernel(
    frame_q_ptr, frame_k_ptr, open_ptr, len_q_ptr, len_k_ptr, table_ptr, kind_q_ptr, count_ptr,
    length_q, length_k, blocks, kinds, frame_q_b, frame_k_b,
    GQ: tl.constexpr, WIDTH: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """``count [B, _COUNTS, Lq]``: the keys that each query sees, in as many shares as there are programs."""
    b, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.program_id(2) * TILE_Q + tl.arange(0, TILE_Q)
    frame_q, frame_k, open = frame_q_ptr, frame_k_ptr, open_ptr
    if frame_q_ptr is not None:
        frame_q = frame_q_ptr + b * frame_q_b
    if frame_k_ptr is not None:
        frame_k = frame_k_ptr + b * frame_k_b
    if open_ptr is not None:
        open = open_ptr + b * kinds
    t, kind = _queries(frame_q, kind_q_ptr, len_q_ptr, b, i, length_q, GQ)
    end = _end(length_k, len_k_ptr, b)
    counts = _count(table_ptr, frame_k, open, end, kind, t, split, _COUNTS, blocks, WIDTH, GQ, TILE_K)
    tl.store(count_ptr + (b * _COUNTS + split) * length_q + i, counts, i < length_q)


@triton.jit(do_not_specialize=_PLAIN)
def combine_kernel(
    share_ptr, share_lse_ptr, out_ptr, lse_ptr, splits, rows,
    SIGMOID: tl.constexpr, DV: tl.constexpr, DV_PADDED: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """The shares of one row added up: as they are, or each weighted by the exponentials that it stands for."""
    row, s, dv = tl.program_id(0).to(tl.int64), tl.arange(0, SPLITS), tl.arange(0, DV_PADDED)
    top = -float("inf")
    if not SIGMOID:
        for at in range(0, splits, SPLITS):
            lse = tl.load(share_lse_ptr + (at + s) * rows.to(tl.int64) + row, at + s < splits, -float("inf"))
            top = tl.maximum(top, tl.max(lse, 0))
    base = tl.where(top == -float("inf"), 0.0, top)
    total = 0.0
    out = tl.zeros((DV_PADDED,), tl.float32)
    for at in range(0, splits, SPLITS):
        share = (at + s) * rows.to(tl.int64) + row
        inside = (at + s < splits)[:, None] & (dv < DV)[None, :]
        if not SIGMOID:
            weight = tl.exp2(tl.load(share_lse_ptr + share, at + s < splits, -float("inf")) - base)
            total += tl.sum(weight, 0)
            inside &= (weight > 0)[:, None]
        part = tl.load(share_ptr + share[:, None] * DV + dv[None, :], inside, 0.0)
        if not SIGMOID:
            part *= weight[:, None]
        out += tl.sum(part, 0)
    if not SIGMOID:
        out = out / tl.where(total > 0, total, 1.0)
        tl.store(lse_ptr + row, (top + tl.log2(tl.where(total > 0, total, 1.0))) / _LOG2E)
    tl.store(out_ptr + row * DV + dv, out.to(out_ptr.dtype.element_ty), dv < DV)


def decode(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None,
    frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None, normaliser: str,
    scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out [B, Lq, H, Dv]`` in the type of v and ``lse [B, Lq, H]`` in fp32, empty for sigmoid; no gradients.

    The arguments and their meaning are those of ``attend_reference``, with ``normaliser`` softmax or sigmoid: q
    [B, Lq, H, D], k [B, Lk, Hkv, D], v [B, Lk, Hkv, Dv] of one type among fp32, fp16 and bf16, D and Dv multiples of 8
    up to 256, key_bias [B, 1|H, Lk], frames int32 [B|1, L], open bool [B, kinds], lengths int [B], all on one device.

    No synchronisation, and the launches depend on sizes alone; but the first call with a layout copies its table to
    the device, and Triton compiles: make one call before a CUDA graph is captured.

    In sigmoid of 16-bit types the reciprocal is a polynomial (relative error 3e-4), in fp32 it is exact.
    """
    batch, length_q, heads, width = q.shape
    length_k, heads_k, width_v = v.shape[1:]
    rows = length_q * (heads // heads_k)
    sizes = configuration("decode", normaliser, max(width, width_v), q.dtype, architecture(q.device), rows=rows)
    table, kind_q = _table(layout, sizes.tile_k, q.device)
    blocks, sigmoid = table.shape[0], normaliser == "sigmoid"
    q, k, v = (_in_eights(each) for each in (q, k, v))
    key_bias, frame_q, frame_k = (_in_rows(each) for each in (key_bias, frame_q, frame_k))
    open = None if open is None else open.contiguous().view(torch.uint8)

    out = torch.empty(batch, length_q, heads, width_v, dtype=v.dtype, device=v.device)
    lse = torch.empty((0,) if sigmoid else out.shape[:3], dtype=torch.float32, device=v.device)
    if out.numel() == 0:
        return out, lse
    tiles = triton.cdiv(rows, sizes.tile_q)
    splits = _splits(blocks, batch * heads_k * tiles, _multiprocessors(q.device))
    counts, to, to_lse = None, out, lse
    if splits > 1:
        to = torch.empty(splits, batch, length_q, heads, width_v, dtype=torch.float32, device=v.device)
        to_lse = lse if sigmoid else torch.empty(to.shape[:4], dtype=torch.float32, device=v.device)
    entries = batch * heads_k * tiles * splits * (triton.cdiv(blocks, splits) + 1)
    lists = torch.empty(entries, 4, dtype=torch.int32, device=v.device)
    static = {"GQ": len(layout.runs_q), "WIDTH": table.shape[1], "TILE_K": sizes.tile_k}
    frames = (_batch_stride(frame_q), _batch_stride(frame_k))
    with torch.cuda.device(q.device if q.is_cuda else -1):
        if sigmoid and blocks > _FEW:
            counts = torch.empty(batch, _COUNTS.value, length_q, dtype=torch.int32, device=v.device)
            tile = min(64, max(16, triton.next_power_of_2(length_q)))
            count_kernel[(batch, _COUNTS.value, triton.cdiv(length_q, tile))](
                frame_q, frame_k, open, len_q, len_k, table, kind_q, counts,
                length_q, length_k, blocks, layout.kinds, *frames, **static, TILE_Q=tile, enable_fp_fusion=True,
            )  # fmt: skip
        split_kernel[(batch * heads_k, splits, tiles)](
            q, k, v, key_bias, frame_q, frame_k, open, len_q, len_k, table, kind_q, counts, lists, to, to_lse,
            length_q, length_k, heads, heads_k, blocks, layout.kinds, scale * _LOG2E.value,
            *(stride // 8 for each in (q, k, v) for stride in each.stride()[:3]),
            _batch_stride(key_bias), 0 if key_bias is None else key_bias.stride(1), *frames, **static,
            SIGMOID=sigmoid, PARTIAL=splits > 1, BIAS_RULE=key_bias is not None and layout.bias_rules is not None,
            BIAS_HEADS=key_bias is not None and key_bias.shape[1] > 1, D=width, DV=width_v, D_PADDED=_padded(width),
            DV_PADDED=_padded(width_v), TILE_Q=sizes.tile_q, num_warps=sizes.warps, num_stages=sizes.stages,
            enable_fp_fusion=True,
        )  # fmt: skip
        if splits > 1:
            combine_kernel[(batch * length_q * heads,)](
                to, to_lse, out, lse, splits, batch * length_q * heads,
                SIGMOID=sigmoid, DV=width_v, DV_PADDED=_padded(width_v), SPLITS=min(64, triton.next_power_of_2(splits)),
                enable_fp_fusion=True,
            )  # fmt: skip
    return out, lse


@lru_cache(maxsize=128)
def _table(layout: Layout, tile_k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A row a block: first key, end, kind, then the rule of each query kind, then its bias rule; kind index a query."""
    rows, at = [], 0
    for kind, count in layout.runs_k:
        rules = [each for query in layout.query_kinds for each in layout.rule(query, kind)]
        if layout.bias_rules is not None:
            rules += [each for query in layout.query_kinds for each in layout.bias_rule(query, kind)]
        rows += [[start, min(start + tile_k, at + count), kind, *rules] for start in range(at, at + count, tile_k)]
        at += count
    width = 3 + 3 * len(layout.runs_q) * (1 if layout.bias_rules is None else 2)
    kind_q = [index for index, (_, count) in enumerate(layout.runs_q) for _ in range(count)]
    with torch.inference_mode(False):
        table = torch.tensor(rows, dtype=torch.int32).reshape(-1, width)
        return table.to(device), torch.tensor(kind_q, dtype=torch.int32).to(device)


def _splits(blocks: int, programs: int, multiprocessors: int) -> int:
    """Splits of the keys, so that all programs together are about two a multiprocessor."""
    if blocks <= _FEW:
        return 1
    splits = max(1, min(blocks, 2 * multiprocessors // programs))
    return triton.cdiv(blocks, triton.cdiv(blocks, splits))


@lru_cache
def _multiprocessors(device: torch.device) -> int:
    """Those of the GPU; of an H100 or H200 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def _padded(width: int) -> int:
    return max(16, triton.next_power_of_2(width))


def _in_eights(x: Tensor) -> Tensor:
    """Rows of 8 elements: the kernel counts strides in them, and so knows that 16 bytes can be read at once."""
    ready = x.stride(3) == 1 and not any(stride % 8 for stride in x.stride()[:3])
    return x if ready else x.contiguous()


def _in_rows(x: Tensor | None) -> Tensor | None:
    return x if x is None or x.stride(-1) == 1 else x.contiguous()


def _batch_stride(x: Tensor | None) -> int:
    return 0 if x is None or x.shape[0] == 1 else x.stride(0)
