"""A small network that repairs one image, the frozen judge of the ``paper`` preset's training."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ros_attn.perception.infrared_visible_fusion.fast_model import STEP, Block


class Restoration(nn.Module):
    """A degraded image to a clean one: a U-Net of three levels that adds to what it is given.

    Shapes: [B, 1, H, W] in 0..1 to the same, H and W multiples of 8.

    Source: ours, in the place of the weather-specific Restormer that AMG-Fuse (2606.26812, A1) freezes.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = (width, 2 * width, 3 * width)
        self.embed = nn.Conv2d(1, width, 3, padding=1)
        self.encoder = nn.ModuleList(nn.Sequential(Block(each), Block(each)) for each in widths)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.merge = nn.ModuleList(nn.Conv2d(fine + coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(nn.Sequential(Block(each), Block(each)) for each in widths[:-1])
        self.out = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[2] % STEP or image.shape[3] % STEP:
            raise ValueError(f"Restoration: image is {list(image.shape)}; H and W must be multiples of {STEP}")
        x, skips = self.embed(image), []
        for stage, down in zip(self.encoder[:-1], self.down, strict=True):
            x = stage(x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for stage, merge, skip in zip(reversed(self.decoder), reversed(self.merge), reversed(skips), strict=True):
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = stage(merge(torch.cat((x, skip), 1)))
        return image + self.out(x)
