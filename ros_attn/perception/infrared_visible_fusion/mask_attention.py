"""Mask-guided cross-modal attention between the channels of three branches: fused, visible, infrared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ros_attn.kernels.channel import channel_attention

_SHARPNESS = 5.0
_REDUCTION = 16


def allocation(fused: Tensor, visible: Tensor, infrared: Tensor, eps: float = 1e-3) -> Tensor:
    """The share m of the visible features in the fused ones: ``F = m V + (1 - m) I`` solved by place and channel.

    ``d = V - I;  m = clamp((F - I) d / (d^2 + eps), 0, 1)``, the regularised least squares. Shapes: all [B, C, H, W].

    Source: P0's section A1, ours. AMG-Fuse divides by ``V - I + F``, which is not the solution and is singular where
    ``F = I - V``.
    """
    d = visible - infrared
    return ((fused - infrared) * d / (d * d + eps)).clamp(0, 1)


def authors_allocation(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """The mask before its sharpening as AMG-Fuse has it, to compare with: ``clamp((F - I) / (V - I + F), 0, 1)``."""
    return ((fused - infrared) / (visible - infrared + fused + 1e-8)).clamp(0, 1)


class MaskGuidedBlock(nn.Module):
    """Channel attention of the fused branch, asked by the visible and by the infrared features::

        m  = sigmoid(R(sigmoid(5 (allocation - 0.5))))            R: x + conv3(relu(conv3(x)))
        Qv = P_v(m V)       Qi = P_i((1 - m) I)       K, X = P(F)      P: 1x1, then depthwise 3x3
        Ov = channel_attention(Qv, K, X)              Oi = channel_attention(Qi, K, X)
        av, ai = gate([mean Ov; mean Oi])
        F += W_f(av Ov + ai Oi)      V += W_v Ov      I += W_i Oi

    Shapes: F, V, I and m [B, C, H, W].

    ``masked`` False: m = 1/2 everywhere, the ablation of the mask. ``separable``: R works on each channel by itself
    (depthwise), which costs a fiftieth at 48 channels.

    Source: AMG-Fuse (2606.26812), ChannelFusionAttention and its mask. Deviates: the stable ``allocation``; R is
    separable unless told otherwise.
    """

    def __init__(self, channels: int, heads: int, separable: bool = True, masked: bool = True) -> None:
        super().__init__()
        self.masked = masked
        groups = channels if separable else 1

        def projection(outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, outputs, 1, bias=False),
                nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False),
            )

        self.heads = heads
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
        )  # fmt: skip
        self.query_visible, self.query_infrared = projection(channels), projection(channels)
        self.key_value = projection(2 * channels)
        self.temperature = nn.Parameter(torch.ones(heads))
        hidden = max(4, 2 * channels // _REDUCTION)
        self.gate = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 2), nn.Sigmoid())
        self.out_fused, self.out_visible, self.out_infrared = (
            nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3)
        )

    def forward(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        m = self._mask(fused, visible, infrared)
        key, value = self.key_value(fused).chunk(2, 1)
        from_visible = self._attend(self.query_visible(m * visible), key, value)
        from_infrared = self._attend(self.query_infrared((1 - m) * infrared), key, value)
        gates = self.gate(torch.cat((from_visible.mean((2, 3)), from_infrared.mean((2, 3))), 1))[:, :, None, None]
        fused = fused + self.out_fused(gates[:, :1] * from_visible + gates[:, 1:] * from_infrared)
        return fused, visible + self.out_visible(from_visible), infrared + self.out_infrared(from_infrared), m

    def _mask(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
        if not self.masked:
            return torch.full_like(fused, 0.5)
        m = torch.sigmoid(_SHARPNESS * (allocation(fused, visible, infrared) - 0.5))
        return torch.sigmoid(m + self.refine(m))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return channel_attention(query, key, value, temperature=self.temperature, heads=self.heads)
