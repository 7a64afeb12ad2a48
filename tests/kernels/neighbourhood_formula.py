"""Neighbourhood cross-attention pixel by pixel, and as RaysUp computes it: by upsampling the sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import interpolate

# (target rows and columns), (source rows and columns), (window rows and columns)
Case = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
CASES: list[Case] = [
    ((1, 1), (1, 1), (6, 6)),
    ((7, 5), (7, 5), (3, 3)),
    ((14, 10), (7, 5), (4, 3)),
    ((20, 15), (8, 6), (6, 6)),  # ratio 2.5
    ((33, 23), (10, 7), (6, 5)),  # 3.3
    ((37, 23), (9, 2), (6, 6)),  # 4.1, and sources smaller than the window
    ((7, 5), (37, 23), (6, 6)),  # downsampling
    ((2, 40), (11, 3), (1, 2)),  # both
]


def window_of(target: int, targets: int, sources: int, window: int) -> range:
    """The cells that a target sees along one axis, from its position in exact arithmetic."""
    window = min(window, sources)
    centre = math.floor(Fraction(2 * target + 1, 2 * targets) * sources)
    before, after = centre - window // 2, centre + (window - 1) // 2
    # Moved inside the grid as a whole.
    shift = max(0, -before) - max(0, after - (sources - 1))
    return range(before + shift, after + shift + 1)


def formula(q: Tensor, k: Tensor, v: Tensor, window: tuple[int, int], scale: float | None = None) -> Tensor:
    """One pixel after the other, in the dtype of the inputs throughout."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    rows = []
    for y in range(q.shape[1]):
        see_y = list(window_of(y, q.shape[1], k.shape[1], window[0]))
        pixels = []
        for x in range(q.shape[2]):
            see_x = list(window_of(x, q.shape[2], k.shape[2], window[1]))
            keys, values = (z[:, see_y][:, :, see_x].flatten(1, 2) for z in (k, v))
            weights = (torch.einsum("bhd,bjhd->bhj", q[:, y, x], keys) * scale).softmax(-1)
            pixels.append(torch.einsum("bhj,bjhd->bhd", weights, values))
        rows.append(torch.stack(pixels, 1))
    return torch.stack(rows, 1)


def by_upsampling(q: Tensor, k: Tensor, v: Tensor, window: tuple[int, int]) -> Tensor:
    """For whole ratios: keys and values upsampled to nearest neighbours, then NATTEN with dilation = ratio.

    In NATTEN a pixel p of dilation d belongs to the group p mod d, has place p // d in it, and sees the window / 2
    members before and the window / 2 - 1 (even) or window / 2 (odd) after its place, moved inside the group.
    """
    size = q.shape[1:3]

    def upsampled(z: Tensor) -> Tensor:
        images = z.permute(0, 3, 4, 1, 2).flatten(1, 2)
        return interpolate(images, size, mode="nearest-exact").unflatten(1, z.shape[3:]).permute(0, 3, 4, 1, 2)

    def members(pixel: int, length: int, dilation: int, window: int) -> list[int]:
        group = list(range(pixel % dilation, length, dilation))
        place = min(max(pixel // dilation, window // 2), len(group) - 1 - (window - 1) // 2)
        return group[place - window // 2 : place + (window - 1) // 2 + 1]

    keys, values = upsampled(k), upsampled(v)
    out = torch.empty(*q.shape[:4], v.shape[4], dtype=q.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            see_y = members(y, size[0], size[0] // k.shape[1], window[0])
            see_x = members(x, size[1], size[1] // k.shape[2], window[1])
            near_k, near_v = (z[:, see_y][:, :, see_x].flatten(1, 2) for z in (keys, values))
            weights = (torch.einsum("bhd,bjhd->bhj", q[:, y, x], near_k) / math.sqrt(q.shape[4])).softmax(-1)
            out[:, y, x] = torch.einsum("bhj,bjhd->bhd", weights, near_v)
    return out


def inputs(
    case: Case, dims: tuple[int, int, int, int] = (2, 2, 8, 6), seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], Tensor]:
    """q, k, v that need gradients and a gradient of the output: float64, exact in ``dtype``; dims are B, H, D, Dv."""
    batch, heads, d_k, d_v = dims
    targets, sources, _ = case
    draw = torch.Generator().manual_seed(seed)
    grids = [(targets, d_k), (sources, d_k), (sources, d_v), (targets, d_v)]
    q, k, v, grad = (
        torch.randn(batch, *grid, heads, d, generator=draw, dtype=torch.float64).mul(1.5).to(dtype).double()
        for grid, d in grids
    )
    return [x.requires_grad_() for x in (q, k, v)], grad


def results(
    attention: Callable[..., Tensor], leaves: list[Tensor], grad: Tensor, dtype: torch.dtype, device: str = "cpu"
) -> list[Tensor]:
    """The output and the gradients of q, k and v, computed in ``dtype``, as float64 on the CPU."""
    cast = [x.detach().to(device, dtype).requires_grad_() for x in leaves]
    out = attention(*cast)
    return [x.detach().double().cpu() for x in (out, *torch.autograd.grad(out, cast, grad.to(device, dtype)))]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Root mean square differences of output, dq, dk, dv, relative to the largest root mean square among them.

    Not to each one's own: with one visible cell dq and dk are exactly 0.
    """
    size = max(float(y.square().mean().sqrt()) for y in exact)
    return [float((x - y).square().mean().sqrt()) / size for x, y in zip(found, exact, strict=True)]
