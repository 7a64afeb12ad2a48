"""Neighbourhood cross-attention: every pixel of a target grid attends to a window of a source grid of any size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ros_attn.kernels.backend import choose_backend

# Target rows or columns computed at once: blocks this large outweigh the cost of a call, and stay in cache.
_LEAST, _MOST = 8, 32
# Cells by which the windows of a block may differ, so that most of a block's scores are visible ones.
_APART = 7


def neighbourhood_cross_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int | tuple[int, int] = 6,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention of each pixel of a target grid to the window of source cells around it.

    Both grids cover the same image. Along an axis with T targets and S sources, target t lies in source cell c and
    sees the w = min(window, S) cells from s on::

        c(t) = floor((2t + 1) S / (2T))          s(t) = clamp(c(t) - floor(w / 2), 0, S - w)
        out(y, x) = sum_j softmax_j( scale * <q(y, x), k_j> ) v_j
                    over j in s(y) .. s(y) + wy - 1 times s(x) .. s(x) + wx - 1

    At a border the window stops moving, so that every pixel sees as many cells as any other. T may be larger or smaller
    than S and no multiple of it.

    For T = r S with whole r this is neighbourhood attention (NATTEN) of dilation r over sources upsampled r times by
    nearest neighbour, without upsampling anything. An odd window is centred. In an even one, such as RaysUp's 6, some
    side must have one cell more: as in NATTEN it is the lower one, 3 cells before c and 2 after, for all r*r pixels of
    c alike, and not the side that the pixel is nearer to.

    Shapes: q [B, Ht, Wt, H, D], k [B, Hs, Ws, H, D], v [B, Hs, Ws, H, Dv] of one floating dtype and any strides;
    out [B, Ht, Wt, H, Dv], contiguous, of the same dtype. ``window`` is (rows, columns) or one number for both,
    ``scale`` defaults to D**-0.5. Positions enter through q and k, see :func:`ros_attn.kernels.ray_rope.ray_rope`.
    float16 and bfloat16 are summed in float32. First derivatives for q, k and v; scores are computed again for them,
    and memory beside the results is that of the source grid and one block.

    Raises ValueError for shapes or dtypes that do not fit, BackendError where ``backend="triton"`` cannot run (D or
    Dv above 256, float64, no Triton, no GPU). None takes Triton on CUDA where it can run.

    Source: RaysUp (2606.22749, local cross-attention), Neighborhood Attention (2204.07143). Deviates: for T no multiple
    of S RaysUp keeps the dilation floor(T / S), with which windows leave out or repeat cells; here they never do.
    """
    windows = _check(q, k, v, window)
    if scale is None:
        scale = q.shape[-1] ** -0.5
    widest = max(q.shape[-1], v.shape[-1])
    unsupported = f"a head dimension of {widest} is more than its 256" if widest > 256 else None
    if choose_backend("neighbourhood_cross_attention", backend, q, unsupported) == "triton":
        from ros_attn.kernels.neighbourhood_triton import NeighbourhoodTriton

        return NeighbourhoodTriton.apply(q, k, v, windows, scale)
    return _Neighbourhood.apply(q, k, v, windows, scale)


def _check(q: Tensor, k: Tensor, v: Tensor, window: int | tuple[int, int]) -> tuple[int, int]:
    """The window that is used, in rows and columns."""
    name = "neighbourhood_cross_attention"
    shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
    if not q.ndim == k.ndim == v.ndim == 5:
        raise ValueError(f"{name}: q, k, v have shapes {shapes}; each must be [B, rows, columns, H, D]")
    if k.shape[:4] != v.shape[:4] or q.shape[0] != k.shape[0] or q.shape[3:] != k.shape[3:]:
        raise ValueError(
            f"{name}: q, k, v have shapes {shapes}; they must agree in B and H, q and k in D, k and v in their grid"
        )
    if 0 in (*q.shape, *v.shape):
        raise ValueError(f"{name}: q, k, v have shapes {shapes}; no dimension may be empty")
    if not q.is_floating_point() or not (q.dtype == k.dtype == v.dtype):
        raise ValueError(f"{name}: q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; they must be one floating dtype")
    rows, columns = (window, window) if isinstance(window, int) else window
    if rows < 1 or columns < 1:
        raise ValueError(f"{name}: window is {window}; it must be at least 1 in rows and columns")
    return min(rows, k.shape[1]), min(columns, k.shape[2])


class Band(NamedTuple):
    """Consecutive targets along one axis and the sources that any of them sees."""

    targets: slice
    sources: slice
    visible: Tensor  # [targets, sources]
    whole: bool  # all of it is visible


def _bands(targets: int, sources: int, window: int, device: torch.device) -> list[Band]:
    """The axis cut where windows move, so that with a whole ratio the targets of a band share their window."""
    starts = [
        min(max((2 * t + 1) * sources // (2 * targets) - window // 2, 0), sources - window) for t in range(targets)
    ]
    bands = []
    first = 0
    for t in range(1, targets + 1):
        length = t - first
        if t < targets and length < _MOST:
            moves = starts[t] != starts[t - 1] and length >= _LEAST
            if not moves and starts[t] - starts[first] <= max(window, _APART):
                continue
        low, high = starts[first], starts[t - 1]
        start = torch.tensor(starts[first:t], device=device).unsqueeze(-1)
        cell = torch.arange(low, high + window, device=device)
        visible = (cell >= start) & (cell < start + window)
        bands.append(Band(slice(first, t), slice(low, high + window), visible, low == high))
        first = t
    return bands


class _Blocks:
    """The target grid cut into blocks, and the scores of one block: dense attention to the rectangle it sees."""

    def __init__(self, q: Tensor, k: Tensor, windows: tuple[int, int], scale: float) -> None:
        self.rows = _bands(q.shape[1], k.shape[1], windows[0], q.device)
        self.columns = _bands(q.shape[2], k.shape[2], windows[1], q.device)
        self.wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        self.scale = scale

    def __iter__(self) -> Iterator[tuple[Band, Band]]:
        return product(self.rows, self.columns)

    def grid(self, x: Tensor) -> Tensor:
        """A whole grid [B, rows, columns, H, D] with its heads in front, widened: [B, H, rows, columns, D]."""
        return x.permute(0, 3, 1, 2, 4).to(self.wide).contiguous()

    def targets(self, x: Tensor, rows: Band, columns: Band) -> Tensor:
        """The block's targets, heads in front, widened: [B, H, targets, D]."""
        block = x[:, rows.targets, columns.targets].permute(0, 3, 1, 2, 4)
        return block.flatten(2, 3).to(self.wide)

    def weights(self, q: Tensor, k: Tensor, rows: Band, columns: Band) -> Tensor:
        """softmax(scale q k^T) over what each target sees: [B, H, targets, sources]."""
        scores = (q * self.scale) @ k.transpose(-1, -2)
        if not (rows.whole and columns.whole):
            visible = rows.visible[:, None, :, None] & columns.visible[None, :, None, :]
            scores.masked_fill_(~visible.flatten(2, 3).flatten(0, 1), -torch.inf)
        return scores.softmax(-1)


def _put(x: Tensor, rows: Band, columns: Band, block: Tensor) -> None:
    """Writes [B, H, targets, D] into the grid [B, rows, columns, H, D]."""
    to = x[:, rows.targets, columns.targets].permute(0, 3, 1, 2, 4)
    to.copy_(block.view(to.shape))


class _Neighbourhood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, windows: tuple[int, int], scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.windows, ctx.scale = windows, scale
        blocks = _Blocks(q, k, windows, scale)
        out = q.new_empty((*q.shape[:4], v.shape[4]))
        # Autocast would round the widened blocks again.
        with torch.autocast(q.device.type, enabled=False):
            k, v = blocks.grid(k), blocks.grid(v)
            for rows, columns in blocks:
                k_part, v_part = (x[:, :, rows.sources, columns.sources].flatten(2, 3) for x in (k, v))
                weights = blocks.weights(blocks.targets(q, rows, columns), k_part, rows, columns)
                _put(out, rows, columns, weights @ v_part)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v = ctx.saved_tensors
        blocks = _Blocks(q, k, ctx.windows, ctx.scale)
        dq = torch.empty_like(q, memory_format=torch.contiguous_format)
        with torch.autocast(q.device.type, enabled=False):
            k, v = blocks.grid(k), blocks.grid(v)
            dk, dv = torch.zeros_like(k), torch.zeros_like(v)
            for rows, columns in blocks:
                k_part, v_part = (x[:, :, rows.sources, columns.sources].flatten(2, 3) for x in (k, v))
                q_part, grad_part = (blocks.targets(x, rows, columns) for x in (q, grad))
                weights = blocks.weights(q_part, k_part, rows, columns)
                by_weights = grad_part @ v_part.transpose(-1, -2)
                by_scores = weights * (by_weights - (weights * by_weights).sum(-1, keepdim=True)) * blocks.scale
                _put(dq, rows, columns, by_scores @ k_part)
                for total, part in (
                    (dk, by_scores.transpose(-1, -2) @ q_part),
                    (dv, weights.transpose(-1, -2) @ grad_part),
                ):
                    seen = total[:, :, rows.sources, columns.sources]
                    seen += part.view(seen.shape)
        dk, dv = (x.permute(0, 2, 3, 1, 4).to(q.dtype) for x in (dk, dv))
        return dq, dk, dv, None, None
