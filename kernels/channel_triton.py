"""The two passes of channel attention over its maps as Triton kernels; both are bound by memory traffic."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_PROGRAMS = 1024  # to aim at
# Sizes by C/h rounded up to a power of two, fixed since the interpreter cannot autotune: large ones that, for N a
# multiple of 16, spill no registers on sm_90 (Triton 3.6 and 3.9) and take less than 99 kB of shared memory.
# (COLUMNS, warps) and (COLUMNS, ROWS, warps).
_PRODUCTS = {16: (128, 4), 32: (128, 4), 64: (64, 8), 128: (32, 8)}
_MIX_HALF = {16: (128, 16, 4), 32: (128, 32, 4), 64: (64, 64, 4), 128: (64, 32, 4)}
_MIX_FLOAT32 = {16: (128, 16, 4), 32: (128, 32, 4), 64: (32, 32, 4), 128: (32, 32, 4)}


@triton.jit
def products_kernel(
    x_ptr, y_ptr, dots_ptr, xx_ptr, yy_ptr,
    heads, width, n, per_program,
    x_b, x_h, x_c, x_n, y_b, y_h, y_c, y_n,
    SQUARES: tl.constexpr, AT: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One part of x y^T and of the squared row norms: the columns ``per_program * part`` and following."""
    part, row = tl.program_id(0), tl.program_id(1)
    b, h = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    c = tl.arange(0, WIDTH).to(AT)
    x_rows = x_ptr + b * x_b + h * x_h + c[:, None] * x_c
    y_rows = y_ptr + b * y_b + h * y_h + c[:, None] * y_c
    dots = tl.zeros((WIDTH, WIDTH), tl.float32)
    xx = tl.zeros((WIDTH,), tl.float32)
    yy = tl.zeros((WIDTH,), tl.float32)
    first = part * per_program
    for start in range(first, tl.minimum(first + per_program, n), COLUMNS):
        columns = (start + tl.arange(0, COLUMNS)).to(AT)
        inside = (c[:, None] < width) & (columns[None, :] < n)
        x = tl.load(x_rows + columns[None, :] * x_n, inside, 0.0)
        y = tl.load(y_rows + columns[None, :] * y_n, inside, 0.0)
        dots = tl.dot(x, tl.trans(y), dots, input_precision="ieee")
        if SQUARES:
            x32, y32 = x.to(tl.float32), y.to(tl.float32)
            xx += tl.sum(x32 * x32, 1)
            yy += tl.sum(y32 * y32, 1)
    to = part.to(tl.int64) * tl.num_programs(1) + row
    square = (c[:, None] < width) & (c[None, :] < width)
    tl.store(dots_ptr + to * width * width + c[:, None] * width + c[None, :], dots, square)
    if SQUARES:
        tl.store(xx_ptr + to * width + c, xx, c < width)
        tl.store(yy_ptr + to * width + c, yy, c < width)


@triton.jit
def mix_kernel(
    weights_ptr, x_ptr, gain_ptr, y_ptr, out_ptr,
    heads, width, n, per_program, w_row, w_i, w_j,
    x_b, x_h, x_c, x_n, y_b, y_h, y_c, y_n,
    GAIN: tl.constexpr, PRECISION: tl.constexpr, AT: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """``ROWS`` rows of ``weights x + gain y`` in the columns of a part; ``out`` is contiguous."""
    part, row = tl.program_id(0), tl.program_id(1)
    b, h = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    i = (tl.program_id(2) * ROWS + tl.arange(0, ROWS)).to(AT)
    j = tl.arange(0, WIDTH).to(AT)
    in_weights = (i[:, None] < width) & (j[None, :] < width)
    row = row.to(tl.int64)
    weights = tl.load(weights_ptr + row * w_row + i[:, None] * w_i + j[None, :] * w_j, in_weights, 0.0)
    x_rows = x_ptr + b * x_b + h * x_h + j[:, None] * x_c
    y_rows = y_ptr + b * y_b + h * y_h + i[:, None] * y_c
    out_rows = out_ptr + (row * width + i[:, None]) * n
    if GAIN:
        gain = tl.load(gain_ptr + row * width + i, i < width, 0.0)
    first = part * per_program
    for start in range(first, tl.minimum(first + per_program, n), COLUMNS):
        columns = (start + tl.arange(0, COLUMNS)).to(AT)
        x = tl.load(x_rows + columns[None, :] * x_n, (j[:, None] < width) & (columns[None, :] < n), 0.0)
        # Weights in the maps' own dtype would lose the gradients' small values in float16; TF32 has its mantissa
        # and float32's range, and holds float16 and bfloat16 maps exactly.
        out = tl.dot(weights, x.to(tl.float32), input_precision=PRECISION)
        inside = (i[:, None] < width) & (columns[None, :] < n)
        if GAIN:
            y = tl.load(y_rows + columns[None, :] * y_n, inside, 0.0)
            out += gain[:, None] * y.to(tl.float32)
        tl.store(out_rows + columns[None, :], out.to(out_ptr.dtype.element_ty), inside)


def products(x: Tensor, y: Tensor, squares: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x y^T [B, heads, C/h, C/h] of maps [B, heads, C/h, N] and, if asked for, the squared row norms of both.

    N is split over programs, each of which writes its own sum; the sums are added in a fixed order.
    """
    batch, heads, width, n = x.shape
    block = _block(width)
    columns, warps = _PRODUCTS[block]
    per_program = _per_program(x, columns)
    parts = max(1, triton.cdiv(n, per_program))
    dots = x.new_empty((parts, batch, heads, width, width), dtype=torch.float32)
    xx, yy = x.new_empty((2, *((parts, batch, heads, width) if squares else (1,))), dtype=torch.float32)
    _launch(
        products_kernel, (parts, batch * heads), warps,
        x, y, dots, xx, yy, heads, width, n, per_program, *x.stride(), *y.stride(), squares,
        _index(x, y), block, columns,
    )  # fmt: skip
    return dots.sum(0), xx.sum(0) if squares else None, yy.sum(0) if squares else None


def mix(weights: Tensor, x: Tensor, gain: Tensor | None, y: Tensor | None) -> Tensor:
    """weights x + gain y, contiguous.

    weights [B, heads, C/h, C/h] and gain [B, heads, C/h] are float32, x and y maps [B, heads, C/h, N] of any strides.
    """
    batch, heads, width, n = x.shape
    block = _block(width)
    exact = x.dtype == torch.float32
    columns, rows, warps = (_MIX_FLOAT32 if exact else _MIX_HALF)[block]
    per_program = _per_program(x, columns)
    weights = weights.flatten(0, 1)
    y = x if y is None else y
    out = x.new_empty(x.shape)
    _launch(
        mix_kernel, (max(1, triton.cdiv(n, per_program)), batch * heads, triton.cdiv(width, rows)), warps,
        weights, x, None if gain is None else gain.contiguous(), y, out, heads, width, n, per_program,
        *weights.stride(), *x.stride(), *y.stride(),
        gain is not None, "ieee" if exact else "tf32", _index(x, y), block, columns, rows,
    )  # fmt: skip
    return out


def _launch(kernel: Any, grid: tuple[int, ...], warps: int, *arguments: Any) -> None:
    # Triton launches on the current device, which need not be the tensors'.
    on = arguments[0].device
    with torch.cuda.device(on if on.type == "cuda" else -1):
        kernel[grid](*arguments, num_warps=warps)


def _index(*maps: Tensor) -> Any:
    """The integers that count within one head's map; 64 bits only where they must be, since they take registers."""
    long = any(size * stride >= 2**31 for x in maps for size, stride in zip(x.shape[2:], x.stride()[2:], strict=True))
    return tl.int64 if long else tl.int32


def _block(width: int) -> int:
    return max(16, triton.next_power_of_2(width))


def _per_program(x: Tensor, columns: int) -> int:
    """Columns a program sums; from the shapes alone, so that a sum is the same on every GPU."""
    batch, heads, width, n = x.shape
    # Of more parts than n / width the partial sums would outweigh the maps.
    parts = max(1, min(_PROGRAMS // (batch * heads), n // max(width, columns)))
    return max(1, triton.cdiv(triton.cdiv(n, parts), columns)) * columns
