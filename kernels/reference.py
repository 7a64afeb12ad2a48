"""The attention call in plain PyTorch, to be read beside its formula: the specification of every other backend."""

from __future__ import annotations

import torch
from torch import Tensor

from ros_attn.kernels.intervals import pair_mask
from ros_attn.kernels.layout import Layout


def attend_reference(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None,
    frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None, normaliser: str,
    scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out [B, Lq, H, Dv]`` in the type of v, ``lse [B, Lq, H]`` in fp32 (fp64 for fp64), by arrays of Lq x Lk.

    ``s_ij = scale <q_i, k_j> + bias_on_ij key_bias_j`` over the visible j, then

    - softmax: ``p_ij = exp(s_ij) / sum_j exp(s_ij)``
    - softmax1: ``p_ij = exp(s_ij) / (1 + sum_j exp(s_ij))``
    - sigmoid: ``p_ij = sigmoid(s_ij - log n_i)``, n_i the number of visible keys

    and ``out_i = sum_j p_ij v_j``, ``lse_i = log sum_j exp(s_ij)``. A query without visible keys: 0, -inf, gradients 0.
    Differentiable any number of times; deterministic. A key that no query sees is not read: it may hold NaN.
    """
    compute = torch.float64 if q.dtype == torch.float64 else torch.float32
    seen = pair_mask(layout, frame_q, frame_k, open, len_q, len_k, device=q.device)
    unread = ~seen.any(1)[:, :, None, None]
    groups = q.shape[2] // k.shape[2]
    keys = k.to(compute).masked_fill(unread, 0).repeat_interleave(groups, 2)
    values = v.to(compute).masked_fill(unread, 0).repeat_interleave(groups, 2)
    seen = seen[:, None]  # [B|1, 1, Lq, Lk]; scores below are [B, H, Lq, Lk]

    s = scale * torch.einsum("bihd,bjhd->bhij", q.to(compute), keys)
    if key_bias is not None:
        bias = key_bias.to(compute)[:, :, None, :]
        if layout.bias_rules is not None:
            on = pair_mask(layout, frame_q, frame_k, bias=True, device=q.device)[:, None]
            bias = torch.where(on, bias, torch.zeros((), dtype=compute, device=q.device))
        s = s + bias
    s = s.masked_fill(~seen, -torch.inf)

    most = s.detach().amax(-1, keepdim=True) if s.shape[-1] else s.new_full((*s.shape[:-1], 1), -torch.inf)
    most = torch.where(torch.isfinite(most), most, 0)
    e = torch.exp(s - most)
    total = e.sum(-1, keepdim=True)
    some = total > 0
    lse = torch.where(some, most + torch.log(torch.where(some, total, 1)), -torch.inf)

    if normaliser == "softmax":
        p = e / torch.where(some, total, 1)
    elif normaliser == "softmax1":
        # exp(s) / (1 + sum exp(s)), its terms scaled by exp(-m) with m >= 0 so that none of them overflows.
        m = most.clamp_min(0)
        e = torch.exp(s - m)
        p = e / (torch.exp(-m) + e.sum(-1, keepdim=True))
    else:
        n = seen.sum(-1, keepdim=True).clamp_min(1).to(compute)
        p = torch.where(seen, torch.sigmoid(s - torch.log(n)), 0)
    out = torch.einsum("bhij,bjhd->bihd", p, values).to(v.dtype)
    return out, lse[..., 0].transpose(1, 2)
