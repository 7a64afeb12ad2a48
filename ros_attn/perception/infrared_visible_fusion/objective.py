"""What training asks of a fused picture, always against the clean sources."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy

from ros_attn.perception.infrared_visible_fusion.fast_model import Fused
from ros_attn.perception.infrared_visible_fusion.fidelity import (
    differences_explained,
    edges_kept,
    edges_kept_of_both,
    gradient_excess,
    information_kept,
    structure_kept,
)
from ros_attn.perception.infrared_visible_fusion.training_pairs import Sample

_MARGIN = 2 / 255
"""So near to black or white, rounding to 8 bit clips."""


@dataclass(frozen=True)
class Weights:
    """How much each term counts."""

    edges: float = 2.5
    information: float = 2.0
    structure: float = 2.0
    worse: float = 0.6
    """Of the source served worse, beside the mean of both, for edges and information, on a clear pair."""
    worse_degraded: float = 1.5
    """The same where weather or a fault took something away: else the weaker source is given up."""
    both_edges: float = 5.0
    differences: float = 0.5
    contrast: float = 2.0
    intensity: float = 1.0
    excess: float = 4.0
    clipping: float = 50.0
    labels: float = 0.5
    """Of the diagnosis, whose loss reaches no other weights."""


def objective(made: Fused, sample: Sample, weights: Weights) -> tuple[Tensor, dict[str, float]]:
    """The loss to minimise and its terms, means over the batch.

    ::

        edges, information, structure:  1 - mean of both sides, and for the first two `worse` (1 - the smaller one)
        both_edges: 1 - Qabf;  differences: 1 - SCD / 2;  where both sources count
        intensity:  |mean_8x8 F - P| with P = max(V, I) of the means, where both count, else the one that does
        contrast:   1 - deviation of F / the larger one of both sources, where it is smaller, on clear pairs
        excess:     gradient that neither clean source has
        clipping:   mean of what leaves 2/255..253/255, where neither source is there

    A side whose weight is 0 (a black camera) is left out. Sources are the clean ones, whatever the network was shown.
    """
    fused, visible, infrared = made.fused, sample.clean_visible, sample.clean_infrared
    inside = fused.clamp(0, 1)
    counts = sample.weights
    both = counts.min(1).values
    clear = (sample.labels == 0).all(1)
    worse = torch.where(clear, weights.worse, weights.worse_degraded)
    terms: dict[str, Tensor] = {}
    for name, measure in (("edges", edges_kept), ("information", information_kept), ("structure", structure_kept)):
        sides = torch.stack((measure(visible, inside), measure(infrared, inside)), 1)
        mean = (counts * sides).sum(1) / counts.sum(1)
        term = 1 - mean
        if name != "structure":
            # A source that has nothing to keep must not decide which one is worse.
            term = term + worse * both * (mean - sides.min(1).values)
        terms[name] = term.mean()
    terms["both_edges"] = (both * (1 - edges_kept_of_both(infrared, visible, inside))).mean()
    terms["differences"] = (both * (1 - differences_explained(infrared, visible, inside) / 2)).mean()
    coarse_v, coarse_i = avg_pool2d(visible, 8), avg_pool2d(infrared, 8)
    only = counts[:, :, None, None, None]
    wanted = torch.maximum(coarse_v * only[:, 0], coarse_i * only[:, 1])
    terms["intensity"] = (avg_pool2d(fused, 8) - wanted).abs().mean()
    terms["contrast"] = (clear * _contrast_lost(inside, visible, infrared)).mean()
    terms["excess"] = gradient_excess(infrared, visible, inside).mean()
    terms["clipping"] = _beyond(fused, visible, infrared).mean()
    terms["labels"] = label_loss(made.weather, made.faults, sample.labels)
    loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    return loss, {name: float(term.detach()) for name, term in terms.items()}


def label_loss(weather: Tensor, faults: Tensor, labels: Tensor) -> Tensor:
    """Cross entropies of the weather and of both cameras' faults, summed. Shapes: [B, K], [B, 2, M], [B, 3]."""
    losses = [cross_entropy(weather, labels[:, 0])]
    losses += [cross_entropy(faults[:, camera], labels[:, 1 + camera]) for camera in (0, 1)]
    return torch.stack(losses).sum()


def _contrast_lost(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """By what share the picture's deviation is below that of the source with more of it, [B]."""
    of_fused, *of_sources = (x.std((1, 2, 3)) for x in (fused, visible, infrared))
    return (1 - of_fused / (torch.maximum(*of_sources) + 0.01)).clamp_min(0)


def _beyond(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """How far the picture goes into black or white, or beyond what the more extreme source shows."""
    lowest = torch.minimum(visible, infrared).clamp_max(_MARGIN)
    highest = torch.maximum(visible, infrared).clamp_min(1 - _MARGIN)
    return (lowest - fused).clamp_min(0) + (fused - highest).clamp_min(0)
