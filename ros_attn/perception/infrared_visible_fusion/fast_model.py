"""The preset ``fast``: attention at an eighth of the size decides, a pyramid at full size blends."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ros_attn.perception.infrared_visible_fusion.mask_attention import MaskGuidedBlock

Part = Literal["mask", "attention", "repair"]
LEVELS = 3
STEP = 2**LEVELS
"""Sides are multiples of this many pixels."""
WEATHER = ("clear", "haze", "rain", "snow", "low_light")
FAULTS = ("none", "noise", "saturated", "dirt", "black")
LARGEST_GAIN = 4.0
"""No gain of a source's detail is larger: at night its contrast is a third of what it is by day."""
FIRST_GAIN = math.log(0.75 / (LARGEST_GAIN - 0.75))
LARGEST_EXPOSURE = 16.0
"""A visible image in low light is lifted by at most this factor."""
FIRST_EXPOSURE = -3.0
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

        b   = m e b_vi + (1 - m) b_ir + r_3                     at 1/8; 1 <= e <= 16, one number an image
        d_l = g_l,vi e d_l,vi + g_l,ir d_l,ir + r_l             0 <= g <= 4, |r| <= 0.3; r_0 = 0

    The network sees each image as it is and with its mean and deviation taken out, so that a dark scene has structure
    too. One encoder for both cameras but for their first layer; at 1/8 three branches meet in ``MaskGuidedBlock``; a
    light decoder goes up to 1/2, where gains and repairs of the finest levels are given. The mask is m at 1/8, refined
    by the share of the gains.

    Weather and faults are read off the features of all sizes, without a say in what these become.

    ``without`` takes parts away, for ablations: the mask (1/2 everywhere), the attention between the branches, or the
    repairs and the exposure.

    Shapes: visible, infrared [B, 1, H, W] in 0..1, H and W multiples of 8 from 16 on; ValueError for others.

    Source: three branches, mask and channel attention after AMG-Fuse (2606.26812), sizes and the blend by pyramids are
    ours: the paper's network takes seconds a frame on a CPU. Blending by pyramids: Burt & Kolczynski 1993.
    """

    def __init__(
        self,
        narrow: int = 12,
        middle: int = 32,
        wide: int = 48,
        blocks: int = 2,
        heads: int = 4,
        without: Collection[Part] = (),
    ) -> None:
        super().__init__()
        self.without = frozenset(without)
        self.stems = nn.ModuleList(nn.Conv2d(2, narrow, 3, stride=2, padding=1) for _ in range(2))
        self.to_quarter = nn.Sequential(nn.ReLU(), nn.Conv2d(narrow, middle, 3, stride=2, padding=1), nn.ReLU())
        self.to_eighth = nn.Sequential(nn.Conv2d(middle, wide, 3, stride=2, padding=1), Block(wide))
        self.join = nn.Conv2d(2 * wide, wide, 1)
        self.attention = nn.ModuleList(
            MaskGuidedBlock(wide, heads, masked="mask" not in self.without) for _ in range(blocks)
        )
        self.between = nn.ModuleList(Block(wide) for _ in range(blocks))
        self.to_decoder_quarter = nn.ModuleList(nn.Conv2d(x, middle, 1) for x in (wide, middle, middle))
        self.at_quarter = Block(middle)
        self.to_decoder_half = nn.ModuleList(nn.Conv2d(x, narrow, 1) for x in (middle, narrow, narrow))
        self.at_half = nn.Sequential(nn.ReLU(), nn.Conv2d(narrow, narrow, 3, padding=1), nn.ReLU())
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, outputs, 3, padding=1) for channels, outputs in ((wide, 2), (middle, 3), (narrow, 5))
        )
        self.exposure = nn.Sequential(nn.Linear(6 * wide, wide), nn.ReLU(), nn.Linear(wide, 1))
        self.diagnosis = nn.Sequential(
            nn.Linear(4 * (narrow + middle) + 6 * wide, 2 * wide),
            nn.ReLU(),
            nn.Linear(2 * wide, len(WEATHER) + 2 * len(FAULTS)),
        )
        for head in self.heads:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.zeros_(head.bias)
            nn.init.normal_(head.weight, std=1e-3)

    def forward(self, visible: Tensor, infrared: Tensor) -> Fused:
        if visible.shape != infrared.shape or visible.shape[2] % STEP or visible.shape[3] % STEP:
            raise ValueError(
                f"FastFusion: visible and infrared are {list(visible.shape)} and {list(infrared.shape)}; they must be "
                f"[B, 1, H, W] of one size, H and W multiples of {STEP}"
            )
        halves = [stem(_described(x)) for stem, x in zip(self.stems, (visible, infrared), strict=True)]
        quarters = [self.to_quarter(x) for x in halves]
        v, i = (self.to_eighth(x) for x in quarters)
        f = self.join(torch.cat((v, i), 1))
        for attend, block in zip(self.attention, self.between, strict=True):
            if "attention" not in self.without:
                f, v, i, _ = attend(f, v, i)
            f = block(f)
        quarter = self.at_quarter(_joined(self.to_decoder_quarter, f, quarters))
        half = self.at_half(_joined(self.to_decoder_half, quarter, halves))

        pooled = _pooled(f, v, i)
        # What was learnt for the picture is read, not shaped, by the diagnosis.
        levels = torch.cat((_pooled(*halves), _pooled(*quarters), pooled), 1).detach()
        weather, faults = self.diagnosis(levels).split((len(WEATHER), 2 * len(FAULTS)), 1)
        if "repair" not in self.without:
            visible = (
                visible * LARGEST_EXPOSURE ** torch.sigmoid(self.exposure(pooled) + FIRST_EXPOSURE)[:, :, None, None]
            )

        base, middle, fine = (head(x) for head, x in zip(self.heads, (f, quarter, half), strict=True))
        (details_v, base_v), (details_i, base_i) = _laplacian(visible), _laplacian(infrared)
        share = torch.sigmoid(base[:, :1])
        fused = share * base_v + (1 - share) * base_i + self._repair(base[:, 1:])
        gains = (_gains(middle[:, :2]), _gains(fine[:, :2]), _gains(_up(fine[:, 3:])))
        repairs = (self._repair(middle[:, 2:]), self._repair(fine[:, 2:3]), None)
        for gain, repair, level in zip(gains, repairs, (2, 1, 0), strict=True):
            fused = _up(fused) + gain[:, :1] * details_v[level] + gain[:, 1:] * details_i[level]
            if repair is not None:
                fused = fused + repair
        of_details = gains[1][:, :1] / (gains[1].sum(1, keepdim=True) + 1e-3)
        mask = _up(0.5 * (_up(_up(share)) + of_details))

        faults = faults.unflatten(1, (2, len(FAULTS)))
        return Fused(fused, mask, weather, faults)

    def _repair(self, x: Tensor) -> Tensor:
        return LARGEST_REPAIR * torch.tanh(x) if "repair" not in self.without else torch.zeros_like(x)


def _described(x: Tensor) -> Tensor:
    """[B, 2, H, W]: the image about mid grey, and about its own mean in units of its own deviation."""
    mean, deviation = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)
    return torch.cat((x - 0.5, 0.25 * (x - mean) / (deviation + 0.02)), 1)


def _pooled(*maps: Tensor) -> Tensor:
    """Means and deviations of every channel, [B, 2 C]."""
    return torch.cat([x.mean((2, 3)) for x in maps] + [x.std((2, 3)) for x in maps], 1)


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
