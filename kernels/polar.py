"""Polar attention: where the matching keys point, and how many they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ros_attn.kernels.attention import attend
from ros_attn.kernels.intervals import visible_counts
from ros_attn.kernels.layout import dense
from ros_attn.kernels.visibility import Visibility


class Polar(NamedTuple):
    """``direction [B, N, H, Dv]`` of length 1, ``magnitude [B, N, H]`` in [0, 1), ``count [B, N, H]`` of matches."""

    direction: Tensor
    magnitude: Tensor
    count: Tensor


def polar_attention(
    q: Tensor, k: Tensor, v: Tensor, *, temperature: Tensor, null: Tensor, null_slope: Tensor, gain: Tensor,
    v_null: Tensor, scale: float | None = None, visibility: Visibility | None = None, open: Tensor | None = None,
    len_q: Tensor | None = None, len_k: Tensor | None = None, **options: Any,
) -> Polar:  # fmt: skip
    """A direction and a number from one attention, with a null key that takes what matches nothing.

    With n_i the keys that query i sees and ``s_ij = scale <q_i, k_j>``::

        tau_i = 1 + softplus(temperature) log n_i       nu_i = null + softplus(null_slope) sqrt(log(n_i + 1))
        w_i = softmax([tau_i s_i., tau_i nu_i])         the last one is the null key's, w_N
        direction_i = unit(sum_j w_ij v_j + w_N v_null)
        count_i = (1 - w_N) / sum_j p_ij^2              p: w without the null key, normalised
        magnitude_i = tanh(softplus(gain) log1p(count_i))

    Shapes: q ``[B, N, H, D]``, k ``[B, Lk, Hkv, D]``, v ``[B, Lk, Hkv, Dv]``; ``temperature, null, null_slope, gain
    [H]``; ``v_null [H, Dv]``. The rest as in ``attend``. A query that sees nothing points along v_null, count 0.

    Two calls of ``attend`` and no kernel of its own: ``w_N = sigmoid(tau nu - LSE(tau s))`` and
    ``sum p^2 = exp(LSE(2 tau s) - 2 LSE(tau s))``.

    Source: ATMA (repository kreasof-ai/atma). Its count is read as 1 / sum of squares over the keys without the null
    one, times their share. Gate, projections and memory of its block are the caller's.
    """
    layout = dense(q.shape[1], k.shape[1]) if visibility is None else visibility.layout
    frames = (None, None) if visibility is None else (visibility.frame_q, visibility.frame_k)
    n = visible_counts(layout, *frames, open, len_q, len_k, device=q.device).clamp_min(1)
    n = n[..., None].to(torch.float64 if q.dtype == torch.float64 else torch.float32)
    tau = 1 + softplus(temperature) * torch.log(n)
    nu = null + softplus(null_slope) * torch.sqrt(torch.log(n + 1))

    warm = q * tau[..., None].to(q.dtype)
    structure = {"scale": scale, "visibility": visibility, "open": open, "len_q": len_q, "len_k": len_k, **options}
    out, lse = attend(warm, k, v, return_lse=True, **structure)
    doubled = attend(2 * warm, k, k, return_lse=True, **structure)[1]

    some = ~torch.isneginf(lse)
    lse, doubled = (torch.where(some, x, 0) for x in (lse, doubled))
    share = torch.where(some, torch.sigmoid(lse - tau * nu), 0)
    sums = share[..., None] * out + (1 - share)[..., None] * v_null
    direction = torch.nn.functional.normalize(sums, dim=-1, eps=1e-6)
    count = share * torch.exp(2 * lse - doubled)
    return Polar(direction.to(v.dtype), torch.tanh(softplus(gain) * torch.log1p(count)), count)
