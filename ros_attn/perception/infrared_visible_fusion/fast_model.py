"""The preset ``fast``: attention at an eighth of the size decides, a pyramid at full size blends."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from ros_attn.perception.infrared_visible_fusion.mask_attention import MaskGuidedBlock

LEVELS = 3
STEP = 2**LEVELS
"""Sizes are padded to multiples of this many pixels."""
WEATHER = ("clear", "haze", "rain", "snow", "low_light")
FAULTS = ("none", "noise", "saturated", "dirt", "black")
LARGEST_GAIN = 4.0
"""No gain of a source's detail is larger: at night its contrast is a third of what it is by day."""
FIRST_GAIN = math.log(0.75 / (LARGEST_GAIN - 0.75))
LARGEST_REPAIR = 0.3
"""No repair adds more to a level of the pyramid, in units of the full range."""


class Fused(NamedTuple):
    """``fused [B, 1, H, W]``, not clipped; ``mask [B, 1, H, W]``, the visible camera's share; logits of the weather
    [B, 5] and of each camera's fault, visible first [B, 2, 5]."""

    fused: Tensor
    mask: Tensor
    weather: Tensor
    faults: Tensor


class Block(nn.Module):
    """x + W2 relu(W1 (depthwise 5x5 of x)): a receptive field for few products."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.expand = nn.Conv2d(channels, expansion * channels, 1)
        self.project = nn.Conv2d(expansion * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(nn.functional.relu(self.expand(self.depthwise(x))))


class FastFusion(nn.Module):
    """Fuses registered luma images, and repairs them as far as the other camera or the picture itself allows.

    Both images become Laplacian pyramids ``x = sum_l up(d_l) + up(b)`` of three levels of detail and a base at 1/8 of
    the size, means of 2x2 pixels going down and bilinear interpolation up. With weights that the network gives at each
    place::

        b   = m b_vi + (1 - m) b_ir + r_3                       at 1/8
        d_l = g_l,vi d_l,vi + g_l,ir d_l,ir + r_l               0 <= g <= 4, |r| <= 0.3; r_0 = 0

    One encoder for both cameras but for their first layer; at 1/8 three branches meet in ``MaskGuidedBlock``; a light
    decoder goes up to 1/2, where gains and repairs of the finest levels are given. The mask is m at 1/8, refined by
    the share of the gains.

    Shapes: visible, infrared [B, 1, H, W] in 0..1, any H and W from 16 on.

    Source: three branches, mask and channel attention after AMG-Fuse (2606.26812), sizes and the blend by pyramids are
    ours: the paper's network takes seconds a frame on a CPU. Blending by pyramids: Burt & Kolczynski 1993.
    """

    def __init__(self, narrow: int = 12, middle: int = 32, wide: int = 48, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.stems = nn.ModuleList(nn.Conv2d(1, narrow, 3, stride=2, padding=1) for _ in range(2))
        self.to_quarter = nn.Sequential(nn.ReLU(), nn.Conv2d(narrow, middle, 3, stride=2, padding=1), nn.ReLU())
        self.to_eighth = nn.Sequential(nn.Conv2d(middle, wide, 3, stride=2, padding=1), Block(wide))
        self.join = nn.Conv2d(2 * wide, wide, 1)
        self.attention = nn.ModuleList(MaskGuidedBlock(wide, heads) for _ in range(blocks))
        self.between = nn.ModuleList(Block(wide) for _ in range(blocks))
        self.to_decoder_quarter = nn.ModuleList(nn.Conv2d(x, middle, 1) for x in (wide, middle, middle))
        self.at_quarter = Block(middle)
        self.to_decoder_half = nn.ModuleList(nn.Conv2d(x, narrow, 1) for x in (middle, narrow, narrow))
        self.at_half = nn.Sequential(nn.ReLU(), nn.Conv2d(narrow, narrow, 3, padding=1), nn.ReLU())
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, outputs, 3, padding=1) for channels, outputs in ((wide, 2), (middle, 3), (narrow, 5))
        )
        self.diagnosis = nn.Sequential(
            nn.Linear(6 * wide, wide), nn.ReLU(), nn.Linear(wide, len(WEATHER) + 2 * len(FAULTS))
        )
        for head in self.heads:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.zeros_(head.bias)
            nn.init.normal_(head.weight, std=1e-3)

    def forward(self, visible: Tensor, infrared: Tensor) -> Fused:
        height, width = visible.shape[2:]
        short = (0, -width % STEP, 0, -height % STEP)
        visible, infrared = pad(visible, short, mode="replicate"), pad(infrared, short, mode="replicate")

        halves = [stem(x - 0.5) for stem, x in zip(self.stems, (visible, infrared), strict=True)]
        quarters = [self.to_quarter(x) for x in halves]
        v, i = (self.to_eighth(x) for x in quarters)
        f = self.join(torch.cat((v, i), 1))
        for attend, block in zip(self.attention, self.between, strict=True):
            f, v, i, _ = attend(f, v, i)
            f = block(f)
        quarter = self.at_quarter(_joined(self.to_decoder_quarter, f, quarters))
        half = self.at_half(_joined(self.to_decoder_half, quarter, halves))

        base, middle, fine = (head(x) for head, x in zip(self.heads, (f, quarter, half), strict=True))
        (details_v, base_v), (details_i, base_i) = _laplacian(visible), _laplacian(infrared)
        share = torch.sigmoid(base[:, :1])
        fused = share * base_v + (1 - share) * base_i + _repair(base[:, 1:])
        gains = (_gains(middle[:, :2]), _gains(fine[:, :2]), _gains(_up(fine[:, 3:])))
        repairs = (_repair(middle[:, 2:]), _repair(fine[:, 2:3]), None)
        for gain, repair, level in zip(gains, repairs, (2, 1, 0), strict=True):
            fused = _up(fused) + gain[:, :1] * details_v[level] + gain[:, 1:] * details_i[level]
            if repair is not None:
                fused = fused + repair
        of_details = gains[1][:, :1] / (gains[1].sum(1, keepdim=True) + 1e-3)
        mask = _up(0.5 * (_up(_up(share)) + of_details))

        pooled = torch.cat([x.mean((2, 3)) for x in (f, v, i)] + [x.std((2, 3)) for x in (f, v, i)], 1)
        verdict = self.diagnosis(pooled)
        faults = verdict[:, len(WEATHER) :].unflatten(1, (2, len(FAULTS)))
        return Fused(fused[..., :height, :width], mask[..., :height, :width], verdict[:, : len(WEATHER)], faults)


def _joined(layers: nn.ModuleList, coarse: Tensor, skipped: list[Tensor]) -> Tensor:
    """A 1x1 convolution of the coarse map, brought up, and of the cameras' maps, side by side."""
    from_coarse, *from_skipped = layers
    joined = _up(from_coarse(coarse))
    for layer, x in zip(from_skipped, skipped, strict=True):
        joined = joined + layer(x)
    return joined


def _gains(x: Tensor) -> Tensor:
    """0 to LARGEST_GAIN, 0.75 at 0: so much of each is close to what both sources want."""
    return LARGEST_GAIN * torch.sigmoid(x + FIRST_GAIN)


def _repair(x: Tensor) -> Tensor:
    return LARGEST_REPAIR * torch.tanh(x)


def _up(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _laplacian(x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Details, finest first, and the base."""
    details = []
    for _ in range(LEVELS):
        coarse = avg_pool2d(x, 2)
        details.append(x - _up(coarse))
        x = coarse
    return details, x
