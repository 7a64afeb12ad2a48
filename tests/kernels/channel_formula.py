"""Channel attention as its formula says, on tensors of any dtype, and the differences of an implementation from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# B, C, heads, H, W: odd sizes, sizes beyond one block, a power of two, nearly as many channels a head as pixels.
SHAPES = [(2, 12, 3, 7, 5), (1, 48, 4, 37, 23), (2, 6, 1, 16, 8), (1, 66, 2, 5, 7)]


def formula(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, normaliser: str = "softmax", eps: float = 1e-6
) -> Tensor:
    """Head by head with the maps normalised one by one; in the dtype of the inputs throughout."""
    out = []
    heads = len(temperature)
    for head in range(heads):
        width = q.shape[1] // heads
        rows_q, rows_k, rows_v = (x[:, head * width : (head + 1) * width].flatten(2) for x in (q, k, v))
        unit_q, unit_k = (unit(x, eps) for x in (rows_q, rows_k))
        scores = torch.einsum("bin,bjn->bij", unit_q, unit_k) * temperature[head]
        if normaliser == "softmax":
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        elif normaliser == "softmax1":
            weights = scores.exp() / (1 + scores.exp().sum(-1, keepdim=True))
        else:
            weights = 1 / (1 + width * (-scores).exp())
        out.append(torch.einsum("bij,bjn->bin", weights, rows_v))
    return torch.cat(out, 1).view(q.shape)


def unit(rows: Tensor, eps: float) -> Tensor:
    blank = rows.norm(dim=2, keepdim=True) <= eps
    return rows.masked_fill(blank, 0.0) / rows.masked_fill(blank, 1.0).norm(dim=2, keepdim=True)


def inputs(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """q, k, v, temperature that need gradients, and a gradient of the output; exact in ``dtype`` and held in float64.

    Rows differ in length by four orders of magnitude, since only the norms make up for it.
    """
    batch, channels, heads, height, width = shape
    draw = torch.Generator().manual_seed(seed)
    maps = torch.randn(4, batch, channels, height, width, generator=draw, dtype=torch.float64)
    lengths = 10 ** (torch.rand(2, batch, channels, 1, 1, generator=draw, dtype=torch.float64) * 4 - 2)
    maps[:2] *= lengths
    # Q like K, so that the scores are not all near 0.
    maps[0] += 2 * lengths[0] * maps[1] / lengths[1]
    temperature = 1 + torch.rand(heads, generator=draw, dtype=torch.float64)
    leaves = [x.to(dtype).double().requires_grad_() for x in (*maps[:3], temperature)]
    return leaves, maps[3].to(dtype).double()


Attention = Callable[..., Tensor]


def results(
    attention: Attention, leaves: list[Tensor], grad: Tensor, dtype: torch.dtype, device: str = "cpu"
) -> list[Tensor]:
    """The output and the gradients of q, k, v and temperature, computed in ``dtype``, as float64 on the CPU."""
    cast = [x.detach().to(device, dtype).requires_grad_() for x in leaves]
    out = attention(*cast)
    return [x.detach().double().cpu() for x in (out, *torch.autograd.grad(out, cast, grad.to(device, dtype)))]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Root mean square differences of output, dq, dk, dv, dtemperature, each relative to the exact values'.

    dq and dk are taken channel by channel relative to the channel's own, since their sizes go with 1 / |Q_i|.
    """

    def relative(x: Tensor, y: Tensor, dims: tuple[int, ...] | None) -> float:
        size = y.square().mean(dims, keepdim=True).sqrt().clamp_min(1e-12)
        return float(((x - y) / size).square().mean().sqrt())

    by_channel: list[Any] = [None, (2, 3), (2, 3), None, None]
    return [relative(x, y, dims) for x, y, dims in zip(found, exact, by_channel, strict=True)]
