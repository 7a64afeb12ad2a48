"""Neighbourhood cross-attention as Triton kernels: windows by index arithmetic, sums in a fixed order."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
# Below every score, and finite: a row that sees nothing of a block is undone by its next maximum.
HIDDEN: tl.constexpr = tl.constexpr(-1e30)


@triton.jit
def _start(target, targets, sources, window):
    """The first source cell that a target sees along one axis."""
    centre = (2 * target + 1) * sources // (2 * targets)
    return tl.minimum(tl.maximum(centre - window // 2, 0), sources - window)


@triton.jit
def _first_target(cell, targets, sources):
    """The first target whose centre is in source cell ``cell`` or beyond it."""
    return tl.minimum((2 * cell * targets + sources - 1) // (2 * sources), targets)


@triton.jit
def _seen_by(low, high, targets, sources, window):
    """The first target that sees a source cell from ``low`` to ``high``, and the one after the last that does."""
    first = tl.where(low < window, 0, _first_target(low - window + 1 + window // 2, targets, sources))
    end = tl.where(high >= sources - window, targets, _first_target(high + 1 + window // 2, targets, sources))
    return first, end


@triton.jit
def _tile(t_rows, t_columns, s_rows, s_columns, w_rows, w_columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """A tile of targets: whether each exists, its place in the grid, its windows, and the rectangle all of them see."""
    across = tl.cdiv(t_columns, WIDTH)
    top, left = tl.program_id(0) // across * HEIGHT, tl.program_id(0) % across * WIDTH
    m = tl.arange(0, HEIGHT * WIDTH)
    y, x = top + m // WIDTH, left + m % WIDTH
    inside = (y < t_rows) & (x < t_columns)
    y, x = tl.minimum(y, t_rows - 1), tl.minimum(x, t_columns - 1)
    see_y, see_x = _start(y, t_rows, s_rows, w_rows), _start(x, t_columns, s_columns, w_columns)
    low_y, low_x = _start(top, t_rows, s_rows, w_rows), _start(left, t_columns, s_columns, w_columns)
    bottom, right = tl.minimum(top + HEIGHT, t_rows) - 1, tl.minimum(left + WIDTH, t_columns) - 1
    rows = _start(bottom, t_rows, s_rows, w_rows) + w_rows - low_y
    columns = _start(right, t_columns, s_columns, w_columns) + w_columns - low_x
    return inside, y * t_columns + x, see_y, see_x, low_y, low_x, rows * columns, columns


@triton.jit
def _cells(n, low_y, low_x, columns, see_y, see_x, w_rows, w_columns, s_columns):
    """Source cells n of a rectangle: their places in the grid, and [targets, cells] that see each other.

    Cells past the end of the rectangle lie below the windows of all its targets.
    """
    y, x = low_y + n // columns, low_x + n % columns
    after_y, after_x = y[None, :] - see_y[:, None], x[None, :] - see_x[:, None]
    visible = (after_y >= 0) & (after_y < w_rows) & (after_x >= 0) & (after_x < w_columns)
    return y * s_columns + x, visible


@triton.jit
def _load(base, places, exist, stride, dim, DIM: tl.constexpr):
    """[places, DIM] of a grid [places, H, dim] from one head on, zero where there is none."""
    d = tl.arange(0, DIM)
    return tl.load(base + places.to(tl.int64)[:, None] * stride + d[None, :], exist[:, None] & (d < dim)[None, :], 0.0)


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, scale, heads, dim_k, dim_v,
    t_rows, t_columns, s_rows, s_columns, w_rows, w_columns,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CELLS: tl.constexpr, DIM_K: tl.constexpr, DIM_V: tl.constexpr,
):  # fmt: skip
    inside, place, see_y, see_x, low_y, low_x, count, columns = _tile(
        t_rows, t_columns, s_rows, s_columns, w_rows, w_columns, HEIGHT, WIDTH
    )
    b, h = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    targets, sources = t_rows * t_columns, s_rows * s_columns
    q = _load(q_ptr + (b * targets * heads + h) * dim_k, place, inside, heads * dim_k, dim_k, DIM_K)
    k_ptr += (b * sources * heads + h) * dim_k
    v_ptr += (b * sources * heads + h) * dim_v
    highest = tl.full((HEIGHT * WIDTH,), HIDDEN, tl.float32)
    total = tl.zeros((HEIGHT * WIDTH,), tl.float32)
    out = tl.zeros((HEIGHT * WIDTH, DIM_V), tl.float32)
    for start in range(0, count, CELLS):
        n = start + tl.arange(0, CELLS)
        cell, visible = _cells(n, low_y, low_x, columns, see_y, see_x, w_rows, w_columns, s_columns)
        k = _load(k_ptr, cell, n < count, heads * dim_k, dim_k, DIM_K)
        v = _load(v_ptr, cell, n < count, heads * dim_v, dim_v, DIM_V)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
        scores = tl.where(visible, scores, HIDDEN)
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, 1)
        out = tl.dot(weights.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
        highest = higher
    tl.store(lse_ptr + (b * heads + h) * targets + place, highest + tl.log2(total), inside)
    d = tl.arange(0, DIM_V)
    to = out_ptr + (b * targets * heads + h) * dim_v + place.to(tl.int64)[:, None] * (heads * dim_v) + d[None, :]
    tl.store(to, (out / total[:, None]).to(out_ptr.dtype.element_ty), inside[:, None] & (d < dim_v)[None, :])


@triton.jit
def queries_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, grad_ptr, mean_ptr, dq_ptr, scale, heads, dim_k, dim_v,
    t_rows, t_columns, s_rows, s_columns, w_rows, w_columns,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CELLS: tl.constexpr, DIM_K: tl.constexpr, DIM_V: tl.constexpr,
):  # fmt: skip
    """dq, and the mean over its weights of each target's d weights, which ``sources_kernel`` needs as well."""
    inside, place, see_y, see_x, low_y, low_x, count, columns = _tile(
        t_rows, t_columns, s_rows, s_columns, w_rows, w_columns, HEIGHT, WIDTH
    )
    b, h = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    targets, sources = t_rows * t_columns, s_rows * s_columns
    q = _load(q_ptr + (b * targets * heads + h) * dim_k, place, inside, heads * dim_k, dim_k, DIM_K)
    grad = _load(grad_ptr + (b * targets * heads + h) * dim_v, place, inside, heads * dim_v, dim_v, DIM_V)
    out = _load(out_ptr + (b * targets * heads + h) * dim_v, place, inside, heads * dim_v, dim_v, DIM_V)
    mean = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    by_target = (b * heads + h) * targets + place
    tl.store(mean_ptr + by_target, mean, inside)
    lse = tl.load(lse_ptr + by_target, inside, 0.0)
    k_ptr += (b * sources * heads + h) * dim_k
    v_ptr += (b * sources * heads + h) * dim_v
    dq = tl.zeros((HEIGHT * WIDTH, DIM_K), tl.float32)
    for start in range(0, count, CELLS):
        n = start + tl.arange(0, CELLS)
        cell, visible = _cells(n, low_y, low_x, columns, see_y, see_x, w_rows, w_columns, s_columns)
        k = _load(k_ptr, cell, n < count, heads * dim_k, dim_k, DIM_K)
        v = _load(v_ptr, cell, n < count, heads * dim_v, dim_v, DIM_V)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
        weights = tl.where(visible, tl.exp2(scores - lse[:, None]), 0.0)
        by_weights = tl.dot(grad, tl.trans(v), input_precision="ieee")
        by_scores = weights * (by_weights - tl.expand_dims(mean, 1))
        dq = tl.dot(by_scores.to(k.dtype), k, dq, input_precision="ieee")
    d = tl.arange(0, DIM_K)
    to = dq_ptr + (b * targets * heads + h) * dim_k + place.to(tl.int64)[:, None] * (heads * dim_k) + d[None, :]
    tl.store(to, (dq * scale).to(dq_ptr.dtype.element_ty), inside[:, None] & (d < dim_k)[None, :])


@triton.jit
def sources_kernel(
    q_ptr, k_ptr, v_ptr, lse_ptr, grad_ptr, mean_ptr, dk_ptr, dv_ptr, scale, heads, dim_k, dim_v,
    t_rows, t_columns, s_rows, s_columns, w_rows, w_columns,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, TARGETS: tl.constexpr, DIM_K: tl.constexpr, DIM_V: tl.constexpr,
):  # fmt: skip
    """dk and dv of a tile of source cells, from one part of the targets that see any of them."""
    across = tl.cdiv(s_columns, WIDTH)
    top, left = tl.program_id(0) // across * HEIGHT, tl.program_id(0) % across * WIDTH
    n = tl.arange(0, HEIGHT * WIDTH)
    y, x = top + n // WIDTH, left + n % WIDTH
    inside = (y < s_rows) & (x < s_columns)
    cell = y * s_columns + x
    b, h = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    targets, sources = t_rows * t_columns, s_rows * s_columns
    k = _load(k_ptr + (b * sources * heads + h) * dim_k, cell, inside, heads * dim_k, dim_k, DIM_K)
    v = _load(v_ptr + (b * sources * heads + h) * dim_v, cell, inside, heads * dim_v, dim_v, DIM_V)
    q_ptr += (b * targets * heads + h) * dim_k
    grad_ptr += (b * targets * heads + h) * dim_v
    lse_ptr += (b * heads + h) * targets
    mean_ptr += (b * heads + h) * targets

    low_y, end_y = _seen_by(top, tl.minimum(top + HEIGHT, s_rows) - 1, t_rows, s_rows, w_rows)
    low_x, end_x = _seen_by(left, tl.minimum(left + WIDTH, s_columns) - 1, t_columns, s_columns, w_columns)
    columns = end_x - low_x
    count = (end_y - low_y) * columns
    part = tl.program_id(2)
    share = tl.cdiv(tl.cdiv(count, TARGETS), tl.num_programs(2)) * TARGETS
    dk = tl.zeros((HEIGHT * WIDTH, DIM_K), tl.float32)
    dv = tl.zeros((HEIGHT * WIDTH, DIM_V), tl.float32)
    for start in range(part * share, tl.minimum((part + 1) * share, count), TARGETS):
        m = start + tl.arange(0, TARGETS)
        exist = m < count
        target_y, target_x = low_y + m // columns, low_x + m % columns
        place = target_y * t_columns + target_x
        after_y = y[:, None] - _start(target_y, t_rows, s_rows, w_rows)[None, :]
        after_x = x[:, None] - _start(target_x, t_columns, s_columns, w_columns)[None, :]
        # Targets past the end add nothing, whatever they see: what is read of them is 0.
        visible = (after_y >= 0) & (after_y < w_rows) & (after_x >= 0) & (after_x < w_columns)
        q = _load(q_ptr, place, exist, heads * dim_k, dim_k, DIM_K)
        grad = _load(grad_ptr, place, exist, heads * dim_v, dim_v, DIM_V)
        lse = tl.load(lse_ptr + place, exist, 0.0)
        mean = tl.load(mean_ptr + place, exist, 0.0)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee") * (scale * LOG2_E)
        weights = tl.where(visible, tl.exp2(scores - lse[None, :]), 0.0)
        by_weights = tl.dot(v, tl.trans(grad), input_precision="ieee")
        by_scores = weights * (by_weights - mean[None, :])
        dv = tl.dot(weights.to(grad.dtype), grad, dv, input_precision="ieee")
        dk = tl.dot(by_scores.to(q.dtype), q, dk, input_precision="ieee")
    row = ((part * tl.num_programs(1) // heads + b) * sources + cell) * heads + h
    d_k, d_v = tl.arange(0, DIM_K), tl.arange(0, DIM_V)
    tl.store(dk_ptr + row[:, None] * dim_k + d_k[None, :], dk * scale, inside[:, None] & (d_k < dim_k)[None, :])
    tl.store(dv_ptr + row[:, None] * dim_v + d_v[None, :], dv, inside[:, None] & (d_v < dim_v)[None, :])


class NeighbourhoodTriton(torch.autograd.Function):
    """The kernels read contiguous grids: another layout is copied first."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, windows: tuple[int, int], scale: float) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = q.new_empty((*q.shape[:4], v.shape[4]))
        lse = q.new_empty((q.shape[0], q.shape[3], *q.shape[1:3]), dtype=torch.float32)
        call = _Call(q, k, v, windows, scale)
        call.launch(forward_kernel, q, call.target_tile, q, k, v, out, lse)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.call = call
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, out, lse = ctx.saved_tensors
        call: _Call = ctx.call
        grad = grad.contiguous()
        mean = torch.empty_like(lse)
        dq = torch.empty_like(q)
        call.launch(queries_kernel, q, call.target_tile, q, k, v, out, lse, grad, mean, dq)
        dk, dv = (x.new_empty((call.parts, *x.shape), dtype=torch.float32) for x in (k, v))
        call.launch(sources_kernel, k, call.source_tile, q, k, v, lse, grad, mean, dk, dv, parts=call.parts)
        return dq, dk.sum(0).to(k.dtype), dv.sum(0).to(v.dtype), None, None


class Tile(NamedTuple):
    """What one program covers of its grid, how much of the other grid it takes at a time, and its warps."""

    height: int
    width: int
    step: int
    warps: int


# Of targets and of sources, by the larger of D and Dv rounded up; fixed, since the interpreter cannot autotune: large
# ones that spill at most three registers on sm_90 (Triton 3.6 and 3.9) and take less than 99 kB of shared memory.
_HALF = {
    64: (Tile(8, 8, 64, 4), Tile(4, 4, 64, 4)),
    128: (Tile(8, 8, 32, 4), Tile(4, 4, 64, 4)),
    256: (Tile(8, 4, 32, 4), Tile(4, 4, 32, 4)),
}
_FLOAT32 = {
    64: (Tile(8, 4, 16, 4), Tile(4, 4, 32, 4)),
    128: (Tile(4, 4, 16, 4), Tile(4, 4, 32, 4)),
    256: (Tile(4, 4, 16, 8), Tile(4, 4, 16, 8)),
}
_PROGRAMS = 1024  # to aim at


class _Call:
    """The numbers that the kernels take, and the sizes chosen by them."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, windows: tuple[int, int], scale: float) -> None:
        self.numbers = (scale, q.shape[3], q.shape[4], v.shape[4])
        self.grids = (*q.shape[1:3], *k.shape[1:3], *windows)
        self.dims = tuple(max(16, triton.next_power_of_2(x.shape[4])) for x in (k, v))
        by_dim = _FLOAT32 if q.dtype == torch.float32 else _HALF
        self.target_tile, self.source_tile = by_dim[max(64, *self.dims)]
        # Where there are few tiles of sources, the targets that see one are shared out between programs. By the shapes
        # alone, so that a sum is the same on every GPU.
        programs = self._tiles(k, self.source_tile) * q.shape[0] * q.shape[3]
        seen_by = 1
        for window, targets, sources in zip(windows, q.shape[1:3], k.shape[1:3], strict=True):
            seen_by *= triton.cdiv((window + self.source_tile.height) * targets, sources)
        self.parts = max(1, min(triton.cdiv(_PROGRAMS, programs), seen_by // (4 * self.source_tile.step), 16))

    @staticmethod
    def _tiles(grid: Tensor, tile: Tile) -> int:
        return triton.cdiv(grid.shape[1], tile.height) * triton.cdiv(grid.shape[2], tile.width)

    def launch(self, kernel: Any, grid: Tensor, tile: Tile, *tensors: Tensor, parts: int = 1) -> None:
        # Triton launches on the current device, which need not be the tensors'.
        with torch.cuda.device(grid.device if grid.is_cuda else -1):
            kernel[(self._tiles(grid, tile), grid.shape[0] * grid.shape[3], parts)](
                *tensors, *self.numbers, *self.grids, tile.height, tile.width, tile.step, *self.dims,
                num_warps=tile.warps,
            )  # fmt: skip
