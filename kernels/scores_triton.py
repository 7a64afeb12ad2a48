"""What the forward and backward kernels of ``attend`` share: visibility of a tile, key bias, the sigmoid, tiles of heads."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid_parts(x, EXACT: tl.constexpr):
    """``e, r`` with e = 2^-|x| and r = 1 / (1 + e): 2^x / (1 + 2^x) is r where x > 0, else e r; its slope is e r^2.

    One exponential and no division unless EXACT: r is a polynomial of degree 4 with the smallest largest relative
    error on [0, 1], 3.6e-4, among those that are 1 at e = 0: with -log n most weights are near 1/n, and there e is
    small.
    """
    e = tl.exp2(-tl.abs(x))
    if EXACT:
        r = 1.0 / (1.0 + e)
    else:
        r = 1.0 + e * (-0.98880226 + e * (0.88001088 + e * (-0.55146632 + e * 0.16043502)))
    return e, r


@triton.jit
def tile_rows(pointer, first, step, count, ROWS: tl.constexpr, WIDTH: tl.constexpr, WIDTH_PADDED: tl.constexpr):
    """Rows ``first`` to ``first + count`` of one head, [ROWS, WIDTH_PADDED]; zeros beyond ``count`` and WIDTH.

    ``count`` None: all ROWS are there.
    """
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH_PADDED)
    places = pointer + first.to(tl.int64) * step + (rows[:, None] * step + columns[None, :])
    if count is None:
        if WIDTH == WIDTH_PADDED:
            tile = tl.load(places)
        else:
            tile = tl.load(places, (columns < WIDTH)[None, :], 0.0)
    elif WIDTH == WIDTH_PADDED:
        tile = tl.load(places, (rows < count)[:, None], 0.0)
    else:
        tile = tl.load(places, (rows < count)[:, None] & (columns < WIDTH)[None, :], 0.0)
    return tile
