"""The preset ``paper``: AMG-Fuse in structure, three branches that meet at every level; for a GPU."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ros_attn.perception.infrared_visible_fusion.fast_model import FAULTS, WEATHER, Fused
from ros_attn.perception.infrared_visible_fusion.histogram_attention import HistogramBlock
from ros_attn.perception.infrared_visible_fusion.mask_attention import MaskGuidedBlock, allocation


class Branches(NamedTuple):
    """What the three branches give: the fused picture with its mask and verdicts, and both sources repaired, [B, 1, H,
    W] each."""

    fused: Fused
    visible: Tensor
    infrared: Tensor


class MaskGuidedFusion(nn.Module):
    """Fusion by three U-Nets, visible, infrared and fused, which exchange channels by ``MaskGuidedBlock``.

    ::

        V, I = embed(visible), embed(infrared)                     3x3;  F = 1x1([V; I])
        encoder, at each level:  V, I, F = blocks(V), blocks(I), blocks(F);  F, V, I = MaskGuidedBlock(F, V, I)
        pixel-unshuffle down, the last level is the latent, pixel-shuffle up; skips are joined by 1x1
        decoder, the same with weights of its own
        outputs: source + 3x3(V), source + 3x3(I);  m = allocation(F, V, I), mean over channels
                 m visible' + (1 - m) infrared' + 3x3(F), with the repaired sources

    The visible and the infrared branch share all but their embedding and their last layer, which halves the cost.

    Shapes: visible, infrared [B, 1, H, W] in 0..1, H and W multiples of 2^(levels - 1), of 8 as all presets ask for.

    Source: AMG-Fuse (2606.26812, A1): three branches, mask, channel attention at every level, histogram attention.
    Deviates: three levels of 32 channels instead of four of 48, shared weights, luma alone (the component keeps the
    chroma), the stable mask, no refinement blocks; the heads for weather and faults are ours.
    """

    def __init__(self, dim: int = 32, blocks: tuple[int, ...] = (1, 2, 2), heads: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        if len(blocks) != len(heads):
            raise ValueError(f"MaskGuidedFusion: blocks has {len(blocks)} levels and heads {len(heads)}; give as many")
        widths = [dim * 2**level for level in range(len(blocks))]
        pairs = list(pairwise(widths))

        def stage(level: int) -> nn.Sequential:
            return nn.Sequential(*(HistogramBlock(widths[level], heads[level]) for _ in range(blocks[level])))

        def twice(levels: range) -> nn.ModuleList:
            """Of each level one for both sources and one for the fused branch."""
            return nn.ModuleList(nn.ModuleList((stage(level), stage(level))) for level in levels)

        every, above = range(len(widths)), range(len(widths) - 1)
        self.embed = nn.ModuleList(nn.Conv2d(1, dim, 3, padding=1, bias=False) for _ in range(2))
        self.join = nn.Conv2d(2 * dim, dim, 1, bias=False)
        self.encoder, self.decoder = twice(every), twice(above)
        self.meet_encoder = nn.ModuleList(
            MaskGuidedBlock(widths[level], heads[level], separable=False) for level in every
        )
        self.meet_decoder = nn.ModuleList(
            MaskGuidedBlock(widths[level], heads[level], separable=False) for level in above
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse // 4, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for fine, coarse in pairs
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for fine, coarse in pairs
        )
        self.merge = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1, bias=False) for fine, _ in pairs)
        self.out = nn.ModuleList(nn.Conv2d(dim, 1, 3, padding=1) for _ in range(3))
        self.diagnosis = nn.Linear(6 * widths[-1], len(WEATHER) + 2 * len(FAULTS))

    def forward(self, visible: Tensor, infrared: Tensor) -> Fused:
        return self.branches(visible, infrared).fused

    def branches(self, visible: Tensor, infrared: Tensor) -> Branches:
        """All three branches; training asks for the repaired sources, too."""
        v, i = self.embed[0](visible), self.embed[1](infrared)
        f = self.join(torch.cat((v, i), 1))
        skips: list[tuple[Tensor, Tensor, Tensor]] = []
        for level, (stages, meet) in enumerate(zip(self.encoder, self.meet_encoder, strict=True)):
            f, v, i = _level(stages, meet, f, v, i)
            if level < len(self.down):
                skips.append((f, v, i))
                f, v, i = (self.down[level](x) for x in (f, v, i))
        pooled = torch.cat([x.mean((2, 3)) for x in (f, v, i)] + [x.std((2, 3)) for x in (f, v, i)], 1)
        verdict = self.diagnosis(pooled)
        for level in reversed(range(len(self.up))):
            f, v, i = (
                self.merge[level](torch.cat((self.up[level](x), skip), 1))
                for x, skip in zip((f, v, i), skips[level], strict=True)
            )
            f, v, i = _level(self.decoder[level], self.meet_decoder[level], f, v, i)
        mask = allocation(f, v, i).mean(1, keepdim=True)
        repaired_v, repaired_i = visible + self.out[0](v), infrared + self.out[1](i)
        fused = mask * repaired_v + (1 - mask) * repaired_i + self.out[2](f)
        faults = verdict[:, len(WEATHER) :].unflatten(1, (2, len(FAULTS)))
        return Branches(Fused(fused, mask, verdict[:, : len(WEATHER)], faults), repaired_v, repaired_i)


def _level(stages: nn.Module, meet: nn.Module, f: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One level: each branch by itself, then all three together."""
    of_sources, of_fused = stages.children()
    f, v, i, _ = meet(of_fused(f), of_sources(v), of_sources(i))
    return f, v, i
