"""RayPE: rotary embedding of the viewing ray of every token, a prologue on queries and keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ray_rope(
    x: Tensor,
    origin: Tensor,
    direction: Tensor,
    *,
    origin_period: float = 4.0,
    direction_period: float = 8.0,
    base: float = 3.0,
    channels: int | None = None,
) -> Tensor:
    """Queries or keys turned backwards by their ray, so that scores depend on differences of rays only.

    The ray is the position p = (o_x, o_y, o_z, d_x, d_y, d_z), P_c the largest period of its component c. With
    n = floor(channels / 12) frequencies, channel m pairs with channel m + channels/2 and::

        angle_m = 2 pi base^i p_c / P_c            m = 6 i + c < 6 n
        x_m + i x_(m + channels/2)   is multiplied by   exp(-i angle_m)

    Remaining pairs and channels beyond ``channels`` are kept. Called alike on q and k, <q', k'> depends on p_q - p_k,
    componentwise. In one image all origins are equal and cancel. Turning the world frame changes scores.

    Shapes: x [..., H, D], origin and direction [..., 3] with leading dimensions that broadcast to those of x, such as
    [B, 1, 1, 3] for one camera; result like x. ``channels`` is even and at least 12, by default D. Units: origin and
    ``origin_period`` in one unit of length (that of the poses RaysUp was trained with has no fixed scale), direction of
    length 1, all in one world frame. Angles are reduced in float64; x in half precision is turned in float32. x,
    origin and direction have derivatives.

    Raises ValueError for shapes that do not fit.

    Source: RaysUp (2606.22749; frequencies, order of the angles and sign from its published code, where D/2 is the
    number of pairs, hence ``channels`` = D). Deviates: a head too small for one frequency is refused, not returned.
    """
    channels = x.shape[-1] if channels is None else channels
    if channels % 2 or not 12 <= channels <= x.shape[-1]:
        raise ValueError(
            f"ray_rope: channels is {channels}; it must be even, at least 12, at most the head dimension {x.shape[-1]}"
        )
    try:
        origin, direction = torch.broadcast_tensors(origin, direction)
        fits = origin.shape[-1] == 3 and torch.broadcast_shapes(origin.shape[:-1], x.shape[:-2]) == x.shape[:-2]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"ray_rope: origin {list(origin.shape)} and direction {list(direction.shape)} must be [..., 3] and"
            f" broadcast to x {list(x.shape)} without its last two dimensions"
        )

    frequencies = channels // 12
    period = torch.tensor([origin_period] * 3 + [direction_period] * 3, dtype=torch.float64, device=x.device)
    turns = base ** torch.arange(frequencies, dtype=torch.float64, device=x.device).unsqueeze(-1) / period
    ray = torch.cat([origin, direction], -1).double()
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # A float32 angle of a place 1 km from the world's origin would be off by up to 0.004 rad.
    angle = (2 * math.pi * (ray.unsqueeze(-2) * turns).remainder(1)).flatten(-2).to(dtype).unsqueeze(-2)
    cos, sin = angle.cos(), angle.sin()

    pairs = 6 * frequencies
    first, second = slice(pairs), slice(channels // 2, channels // 2 + pairs)
    real, imaginary = x[..., first].to(dtype), x[..., second].to(dtype)
    out = x.clone(memory_format=torch.contiguous_format)
    out[..., first] = real * cos + imaginary * sin
    out[..., second] = imaginary * cos - real * sin
    return out
