"""What the forward and backward kernels of ``attend`` share. Their scores are in units of log 2: 2^x, not e^s."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def sigmoid_parts(x, EXACT: tl.constexpr):
    """``e = 2^-|x|`` and ``r = 1 / (1 + e)``: the sigmoid 2^x / (1 + 2^x) is r where x > 0, else e r; e r^2 its slope.

    One exponential and no division unless EXACT: r is the polynomial of degree 4 with r(0) = 1 whose largest relative
    error on [0, 1] is smallest, 3.6e-4. With -log n most weights are near 1/n: e is small there and r all but exact.
    """
    # Triton 3.6 makes 0 - |x| of a minus sign, an instruction more than the product, which becomes a modifier.
    e = tl.exp2(tl.abs(x) * -1.0)
    if EXACT:
        r = 1.0 / (1.0 + e)
    else:
        r = 1.0 + e * (-0.98880226 + e * (0.88001088 + e * (-0.55146632 + e * 0.16043502)))
    return e, r


@triton.jit
def head_rows(pointer, first, step, keep, ROWS: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PADDED: tl.constexpr):
    """Rows ``first`` to ``first + ROWS`` of a head, [ROWS, WIDTH_PADDED]: zeros where not ``keep`` (None: all)."""
    columns = tl.arange(0, WIDTH_PADDED)
    places = pointer + first.to(tl.int64) * step + (tl.arange(0, ROWS)[:, None] * step + columns[None, :])
    if keep is None:
        if WIDTH == WIDTH_PADDED:
            tile = tl.load(places)
        else:
            tile = tl.load(places, (columns < WIDTH)[None, :], 0.0)
    elif WIDTH == WIDTH_PADDED:
        tile = tl.load(places, keep[:, None], 0.0)
    else:
        tile = tl.load(places, keep[:, None] & (columns < WIDTH)[None, :], 0.0)
    return tile


@triton.jit
def some_query(lo_ptr, hi_ptr, first, TILE_K: tl.constexpr):
    """Which keys of a tile any query of the kind sees. Others are not read: padding may hold NaN, and 0 NaN is NaN."""
    columns = first + tl.arange(0, TILE_K)
    return tl.load(lo_ptr + columns) < tl.load(hi_ptr + columns)
