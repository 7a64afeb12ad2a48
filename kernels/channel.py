"""Channel attention: every channel of a map attends to the channels of its head (transposed attention)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ros_attn.kernels.backend import choose_backend

Normaliser = Literal["softmax", "softmax1", "sigmoid"]
# Columns of a half-precision map that are widened to float32 at a time: a few hundred kB, which stay in cache.
_COLUMNS = 8192


class Passes(NamedTuple):
    """The two passes over maps [B, heads, C/h, N] that forward and backward are made of."""

    # (x, y, squares) -> x y^T [B, heads, C/h, C/h] and, if asked for, the squared row norms of x and y [B, heads, C/h].
    products: Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor | None, Tensor | None]]
    # (weights [B, heads, C/h, C/h], x, gain [B, heads, C/h] or None, y) -> weights x + gain y, in x's dtype.
    mix: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


def channel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    temperature: Tensor,
    heads: int,
    normaliser: Normaliser = "softmax",
    eps: float = 1e-6,
    backend: str | None = None,
) -> Tensor:
    """Attention between the channels of maps; its cost is linear in the number of pixels.

    With C/h channels a head and a row Q_i being one channel over all N = H*W pixels::

        A_ij  = softmax_j( temperature_h * <Q_i, K_j> / (|Q_i| |K_j|) )       [C/h, C/h]
        out_i = sum_j A_ij V_j

    Head h has the channels h*C/heads to (h+1)*C/heads - 1. ``softmax1`` is e^s / (1 + sum e^s); ``sigmoid`` is
    sigmoid(s - log(C/heads)). The norms divide the C/h x C/h products: no normalised map is written.

    Shapes: q, k, v [B, C, H, W] of one floating dtype and any strides (halves of a chunked projection and channels-last
    maps are read in place); temperature [heads]; out [B, C, H, W], contiguous, of the same dtype. Several queries
    against one k and v are several calls. float16 and bfloat16 are summed in float32. q, k, v and temperature have
    first derivatives.

    A row of Q or K not longer than ``eps`` is blank: its scores are 0 and it gets no gradient.

    Raises ValueError for shapes, dtypes or names that do not fit, BackendError where ``backend="triton"`` cannot run
    (more than 128 channels a head, float64, no Triton, no GPU). None takes Triton on CUDA where it can run.

    Source: Restormer (2111.09881, section 3.1), as in AMG-Fuse (2606.26812, ChannelFusionAttention). Deviates: they
    divide by max(|Q_i|, 1e-12), which is 0 / 0 in float16 and multiplies the gradient of a blank channel by 1e12.
    """
    _check(q, k, v, temperature, heads, normaliser)
    width = q.shape[1] // heads
    unsupported = f"{width} channels a head are more than its 128" if width > 128 else None
    if choose_backend("channel_attention", backend, q, unsupported) == "triton":
        from ros_attn.kernels.channel_triton import mix, products

        passes = Passes(products, mix)
    else:
        passes = Passes(_products, _mix)

    rows_q, rows_k, rows_v = (x.flatten(2).unflatten(1, (heads, width)) for x in (q, k, v))
    dots, squares_q, squares_k = _Products.apply(passes, rows_q, rows_k)
    inverse_q, inverse_k = (x.where(x > eps * eps, math.inf).rsqrt() for x in (squares_q, squares_k))
    scale = temperature.to(dots.dtype).view(heads, 1, 1)
    weights = _normalised(dots * inverse_q.unsqueeze(-1) * inverse_k.unsqueeze(-2) * scale, normaliser)
    return _Mix.apply(passes, weights, rows_v).view(q.shape)


def _check(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, heads: int, normaliser: str) -> None:
    if q.ndim != 4 or q.shape != k.shape or q.shape != v.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ValueError(f"channel_attention: q, k, v have shapes {shapes}; all three must be the same [B, C, H, W]")
    if not q.is_floating_point() or not (q.dtype == k.dtype == v.dtype):
        raise ValueError(
            f"channel_attention: q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; they must be one floating dtype"
        )
    if heads < 1 or q.shape[1] % heads:
        raise ValueError(f"channel_attention: {q.shape[1]} channels cannot be split into {heads} equal heads")
    if temperature.shape != (heads,):
        raise ValueError(f"channel_attention: temperature has shape {list(temperature.shape)}; it must be [{heads}]")
    if normaliser not in get_args(Normaliser):
        known = ", ".join(get_args(Normaliser))
        raise ValueError(f"channel_attention: normaliser is {normaliser!r}; it must be one of {known}")


def _normalised(scores: Tensor, normaliser: Normaliser) -> Tensor:
    if normaliser == "softmax":
        return scores.softmax(-1)
    if normaliser == "sigmoid":
        return (scores - math.log(scores.shape[-1])).sigmoid()
    return scores.softmax(-1) * scores.logsumexp(-1, keepdim=True).sigmoid()


class _Products(torch.autograd.Function):
    """Q K^T and the squared row norms of Q and K, without a temporary as large as a map."""

    @staticmethod
    def forward(ctx: Any, passes: Passes, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        ctx.passes = passes
        ctx.save_for_backward(q, k)
        return passes.products(q, k, True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dots: Tensor, squares_q: Tensor, squares_k: Tensor) -> tuple[None, Tensor, Tensor]:
        q, k = ctx.saved_tensors
        mix = ctx.passes.mix
        return None, mix(dots, k, 2 * squares_q, q), mix(dots.transpose(-1, -2), q, 2 * squares_k, k)


class _Mix(torch.autograd.Function):
    """A V, whose gradient for A is again a sum over the pixels."""

    @staticmethod
    def forward(ctx: Any, passes: Passes, weights: Tensor, v: Tensor) -> Tensor:
        ctx.passes = passes
        ctx.save_for_backward(weights, v)
        return passes.mix(weights, v, None, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        weights, v = ctx.saved_tensors
        by_weights, _, _ = ctx.passes.products(grad, v, False)
        return None, by_weights, ctx.passes.mix(weights.transpose(-1, -2), grad, None, None)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _columns(x: Tensor) -> list[slice]:
    """The parts of N that are computed at once: all of it where nothing has to be widened."""
    n = x.shape[-1]
    step = n if x.dtype == _wide(x.dtype) else _COLUMNS
    return [slice(start, min(start + step, n)) for start in range(0, n, max(step, 1))]


def _products(x: Tensor, y: Tensor, squares: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    wide = _wide(x.dtype)
    if torch.compiler.is_exporting():
        # Sums in place become a copy of the map a sample in an exported graph.
        wide_x, wide_y = x.to(wide), y.to(wide)
        dots = wide_x @ wide_y.transpose(-1, -2)
        return (dots, wide_x.square().sum(-1), wide_y.square().sum(-1)) if squares else (dots, None, None)
    out = x.new_zeros((*x.shape[:3], x.shape[2]), dtype=wide)
    # One matmul over B and heads at once would first copy every map whose batches do not follow each other. Autocast
    # leaves sums in place alone.
    for total, x_b, y_b in zip(out, x, y, strict=True):
        for part in _columns(x):
            total.baddbmm_(x_b[..., part].to(wide), y_b[..., part].to(wide).transpose(-1, -2))
    if not squares:
        return out, None, None
    xx, yy = (torch.linalg.vector_norm(z, dim=-1, dtype=wide).square() for z in (x, y))
    return out, xx, yy


def _mix(weights: Tensor, x: Tensor, gain: Tensor | None, y: Tensor | None) -> Tensor:
    wide = _wide(x.dtype)
    if torch.compiler.is_exporting():
        mixed = weights @ x.to(wide)
        return (mixed if gain is None or y is None else mixed + gain.unsqueeze(-1) * y.to(wide)).to(x.dtype)
    out = x.new_empty(x.shape)
    # Autocast would round the widened parts again.
    with torch.autocast(x.device.type, enabled=False):
        for b in range(x.shape[0]):
            whole = out[b] if x.dtype == wide else None
            for part in _columns(x):
                rows = torch.bmm(weights[b], x[b, ..., part].to(wide), out=whole)
                if gain is not None and y is not None:
                    rows.addcmul_(gain[b].unsqueeze(-1), y[b, ..., part].to(wide))
                if whole is None:
                    out[b, ..., part] = rows
    return out
