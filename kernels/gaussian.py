"""Gaussian-kernel attention: tokens averaged by their distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.attention import attend


def gaussian_attention(x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
    """``A_ij = exp(-|x_i - x_j|^2 / (2 sigma_h^2)) / sum_j ...`` over the visible j, ``out_i = sum_j A_ij x_j``.

    ``x [B, N, H, D]`` are queries, keys and values at once; ``sigma [H]`` > 0 is in the units of x, one a head.
    Returns ``[B, N, H, D]``. ``options`` are those of ``attend``, but for the key bias and the scale: ``visibility``,
    ``len_k``, ``backend``, ...

    It is ``attend`` with ``q = k = x / sigma``, scale 1 and the key bias ``-|x_j|^2 / (2 sigma^2)`` a head: what is
    missing of the square, ``-|x_i|^2``, is the same for all keys of a query and falls out of the softmax. With
    ``normaliser="sigmoid"`` it does not fall out, so that is refused.

    Raises ``ValueError`` for sigmoid, and where sigma is not [H].

    Source: Gaussian Kernel Attention (2605.02144), known to us from third-party notes. Its one output projection is the
    caller's; it has none for queries, keys and values.
    """
    if options.get("normaliser", "softmax") != "softmax":
        raise ValueError("gaussian_attention: a Gaussian kernel is normalised by softmax; leave the normaliser out")
    if sigma.shape != x.shape[2:3]:
        raise ValueError(f"gaussian_attention: sigma is one a head [{x.shape[2]}], but here {list(sigma.shape)}")
    scaled = x / sigma[:, None].to(x.dtype)
    # In full precision: the bias is a difference's large part.
    wide = scaled if x.dtype == torch.float64 else scaled.float()
    bias = -0.5 * wide.square().sum(-1).transpose(1, 2)
    return attend(scaled, scaled, x, scale=1.0, key_bias=bias, **options)
