"""Dynamic-range histogram self-attention and its transformer block, the trunk of the ``paper`` preset."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from ros_attn.kernels.channel import channel_attention


class HistogramAttention(nn.Module):
    """Attention between bins of pixels of like brightness, wherever they lie.

    ::

        x[:C/2] sorted along H, then along W
        q1, k1, q2, k2, v = chunk(depthwise 3x3(1x1(x)));  v sorted over all H W pixels, q and k in v's order
        A(q, k, v): the H W pixels as `factor` bins, each (channel, bin) a row; rows of a head attend to each other:
                    softmax1(tau_h <q_i, k_j> / (|q_i| |k_j|)) v_j
        y  = A_box(q1, k1, v) * A_interleaved(q2, k2, v);  1x1;  both sortings undone

    A box is H W / factor pixels that follow each other in v's order, an interleaved bin every factor-th of them. factor
    is the number of heads.

    Shapes: x and y [B, C, H, W], C even and a multiple of the heads.

    Source: Histoformer (Sun et al., ECCV 2024), as in AMG-Fuse (2606.26812, A1); the attention itself is
    ``kernels.channel_attention``.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.expand = nn.Sequential(
            nn.Conv2d(channels, 5 * channels, 1, bias=False),
            nn.Conv2d(5 * channels, 5 * channels, 3, padding=1, groups=5 * channels, bias=False),
        )
        self.project = nn.Conv2d(channels, channels, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads))

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        by_rows, row_order = x[:, :half].sort(dim=-2, stable=True)
        by_columns, column_order = by_rows.sort(dim=-1, stable=True)
        q1, k1, q2, k2, v = (
            each.flatten(2) for each in self.expand(torch.cat((by_columns, x[:, half:]), 1)).chunk(5, 1)
        )
        v, order = v.sort(dim=-1, stable=True)
        q1, k1, q2, k2 = (each.gather(-1, order) for each in (q1, k1, q2, k2))
        mixed = self._binned(q1, k1, v, boxes=True) * self._binned(q2, k2, v, boxes=False)
        out = self.project(torch.empty_like(mixed).scatter(-1, order, mixed).view(x.shape))
        restored = torch.empty_like(by_rows).scatter(-1, column_order, out[:, :half])
        restored = torch.empty_like(by_rows).scatter(-2, row_order, restored)
        return torch.cat((restored, out[:, half:]), 1)

    def _binned(self, q: Tensor, k: Tensor, v: Tensor, boxes: bool) -> Tensor:
        pixels, factor = v.shape[-1], self.heads
        # What is added is blank in q and k, and is cut away from the result.
        q, k, v = (self._bins(pad(each, (0, -pixels % factor)), boxes) for each in (q, k, v))
        out = channel_attention(q, k, v, temperature=self.temperature, heads=self.heads, normaliser="softmax1").squeeze(
            2
        )
        channels, size = out.shape[1] // factor, out.shape[2]
        out = out.view(-1, channels, factor, size)
        whole = out if boxes else out.transpose(-1, -2)
        return whole.reshape(-1, channels, factor * size)[..., :pixels]

    def _bins(self, x: Tensor, boxes: bool) -> Tensor:
        """[B, C, N] -> [B, C factor, 1, N / factor]."""
        batch, channels, pixels = x.shape
        size = pixels // self.heads
        rows = x.view(batch, channels, self.heads, size) if boxes else x.view(batch, channels, size, -1).transpose(2, 3)
        return rows.reshape(batch, channels * self.heads, 1, size)


class TwoRangeFeedForward(nn.Module):
    """1x1 to 2h channels, depthwise 3x3 on one half and 5x5 on the other, halves exchanged, both again, 1x1.

    Source: after AMG-Fuse's (2606.26812, A1), of which the exact order of the exchange is not known.
    """

    def __init__(self, channels: int, expansion: float = 2.66) -> None:
        super().__init__()
        hidden = 2 * round(channels * expansion / 2)

        def depthwise(size: int) -> nn.Conv2d:
            return nn.Conv2d(hidden, hidden, size, padding=size // 2, groups=hidden, bias=False)

        self.expand = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.near, self.far, self.near_again, self.far_again = (depthwise(size) for size in (3, 5, 3, 5))
        self.project = nn.Conv2d(2 * hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        near, far = self.expand(x).chunk(2, 1)
        near, far = relu(self.near(near)), relu(self.far(far))
        (near_a, near_b), (far_a, far_b) = near.chunk(2, 1), far.chunk(2, 1)
        near, far = torch.cat((near_a, far_a), 1), torch.cat((near_b, far_b), 1)
        return self.project(torch.cat((relu(self.near_again(near)), relu(self.far_again(far))), 1))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel. Shapes: [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class HistogramBlock(nn.Module):
    """``x += attention(norm(x));  x += feed forward(norm(x))``."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed_forward = ChannelNorm(channels), ChannelNorm(channels)
        self.attention, self.feed_forward = HistogramAttention(channels, heads), TwoRangeFeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.feed_forward(self.norm_feed_forward(x))
