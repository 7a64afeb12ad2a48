"""The loss of the ``paper`` preset, AMG-Fuse's terms for luma images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss

from ros_attn.perception.infrared_visible_fusion.fidelity import sobel, strength, structure_kept
from ros_attn.perception.infrared_visible_fusion.mask_attention import allocation
from ros_attn.perception.infrared_visible_fusion.objective import label_loss
from ros_attn.perception.infrared_visible_fusion.paper_model import Branches
from ros_attn.perception.infrared_visible_fusion.training_pairs import Sample

FUSION, CONSISTENCY, RESTORATION, LABELS = 10.0, 5.0, 5.0, 0.05


def pseudo_truth(visible: Tensor, infrared: Tensor) -> Tensor:
    """``P = w V + (1 - w) I``, w the share of the visible image in the local gradient (means over 9x9 px)."""
    energy_v, energy_i = (
        avg_pool2d(strength(*sobel(x)), 9, stride=1, padding=4, count_include_pad=False) for x in (visible, infrared)
    )
    share = energy_v / (energy_v + energy_i + 1e-6)
    return share * visible + (1 - share) * infrared


def paper_objective(made: Branches, sample: Sample, restoration: nn.Module) -> tuple[Tensor, dict[str, float]]:
    """The loss to minimise and its terms.

    ::

        intensity    10 |F - max(V, I)|                  gradient  10 ||grad F| - max(|grad V|, |grad I|)|
        structure    10 (1 - w_V SSIM(V, F) - w_I SSIM(I, F)), w by the mean gradient of each source
        consistency  5 (|M V - m V'| + |(1 - M) I - (1 - m) I'|), M = allocation(P, V, I), P the pseudo-truth
        restoration  5 |R(m Vd) - m Vd|, R frozen: what the mask lets through has nothing left to repair

    V, I: the clean sources; Vd: the visible image as it was shown; V', I': the repaired ones; m: the mask. A camera
    that does not count takes no part: the other one stands in its place.

    Source: AMG-Fuse (2606.26812, A1), L_int, L_grad, L_ssim, MGLS and TDAS. Deviates: luma only, hence no L_color; a
    pseudo-truth by local gradient in place of a pretrained EMMA; R is our ``Restoration``; labels are ours.
    """
    counts = sample.weights[:, :, None, None, None]
    visible = torch.where(counts[:, 0] > 0, sample.clean_visible, sample.clean_infrared)
    infrared = torch.where(counts[:, 1] > 0, sample.clean_infrared, sample.clean_visible)
    fused, mask = made.fused.fused, made.fused.mask
    gradient_v, gradient_i, gradient_f = (strength(*sobel(x)) for x in (visible, infrared, fused))
    mean_v, mean_i = gradient_v.mean((1, 2, 3)), gradient_i.mean((1, 2, 3))
    share = mean_v / (mean_v + mean_i + 1e-6)
    structure = share * structure_kept(visible, fused) + (1 - share) * structure_kept(infrared, fused)
    wanted = allocation(pseudo_truth(visible, infrared), visible, infrared)
    of_infrared = l1_loss((1 - mask) * made.infrared, (1 - wanted) * infrared)
    let_through = mask * sample.visible
    terms = {
        "intensity": FUSION * l1_loss(fused, torch.maximum(visible, infrared)),
        "gradient": FUSION * l1_loss(gradient_f, torch.maximum(gradient_v, gradient_i)),
        "structure": FUSION * (1 - structure).mean(),
        "consistency": CONSISTENCY * (l1_loss(mask * made.visible, wanted * visible) + of_infrared),
        "restoration": RESTORATION * l1_loss(let_through, restoration(let_through)),
        "labels": LABELS * label_loss(made.fused.weather, made.fused.faults, sample.labels),
    }  # fmt: skip
    loss = torch.stack(list(terms.values())).sum()
    return loss, {name: float(term.detach()) for name, term in terms.items()}
