"""What is trained: a network and its loss on a batch, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ros_attn.errors import RosAttnError
from ros_attn.perception.infrared_visible_fusion.fast_model import FastFusion, Part
from ros_attn.perception.infrared_visible_fusion.objective import Weights, objective
from ros_attn.perception.infrared_visible_fusion.paper_model import MaskGuidedFusion
from ros_attn.perception.infrared_visible_fusion.paper_objective import paper_objective
from ros_attn.perception.infrared_visible_fusion.restoration import Restoration
from ros_attn.perception.infrared_visible_fusion.training_pairs import Sample

Preset = Literal["fast", "paper", "restoration"]
Losses = tuple[Tensor, dict[str, float]]
STATE = "state.pt"


@dataclass(frozen=True)
class Task:
    """A network that maps a pair of images to ``made``, and the loss of that."""

    model: nn.Module
    loss: Callable[[object, Sample], Losses]


class _Branched(nn.Module):
    """MaskGuidedFusion with all its branches as the result."""

    def __init__(self, model: MaskGuidedFusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, visible: Tensor, infrared: Tensor) -> object:
        return self.model.branches(visible, infrared)


class _VisibleAlone(nn.Module):
    def __init__(self, model: Restoration) -> None:
        super().__init__()
        self.model = model

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.model(visible)


def task(preset: Preset, weights: Weights, without: Collection[Part], restoration: Path | None) -> Task:
    """The task of a preset.

    ``weights`` and ``without`` are those of ``fast``; ``restoration`` is the run of that preset which ``paper`` needs.
    Raises RosAttnError where it is absent.
    """
    if without and preset != "fast":
        raise RosAttnError(f"Only preset fast can be trained without {', '.join(without)}; leave that out.")
    if preset == "fast":
        return Task(
            FastFusion(without=without).to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
            lambda made, sample: objective(made, sample, weights),  # pyright: ignore[reportArgumentType]
        )
    if preset == "restoration":
        return Task(_VisibleAlone(Restoration()), _restoration_loss)
    judge = _frozen(restoration)
    return Task(
        _Branched(MaskGuidedFusion()),
        lambda made, sample: paper_objective(made, sample, judge.to(sample.visible.device)),  # pyright: ignore[reportArgumentType]
    )


def _restoration_loss(made: object, sample: Sample) -> Losses:
    assert isinstance(made, Tensor)
    # A black camera cannot be repaired from itself.
    loss = (sample.weights[:, 0] * (made - sample.clean_visible).abs().mean((1, 2, 3))).mean()
    return loss, {"l1": float(loss.detach()), "l1_before": float(l1_loss(sample.visible, sample.clean_visible))}


def _frozen(run: Path | None) -> Restoration:
    if run is None or not (run / STATE).is_file():
        raise RosAttnError(
            "Preset paper wants --restoration, the folder of a run of preset restoration"
            + (f"; {run} holds no {STATE}." if run else ".")
        )
    state = torch.load(run / STATE, weights_only=True)
    judge = _VisibleAlone(Restoration())
    try:
        judge.load_state_dict(state["model"])
    except RuntimeError:
        raise RosAttnError(f"{run} is no run of preset restoration; train one and name its folder.") from None
    return judge.model.eval().requires_grad_(False)


def on_device(sample: Sample, device: torch.device) -> Sample:
    """The sample's tensors where the network is."""
    return Sample(*(getattr(sample, each.name).to(device, non_blocking=True) for each in fields(sample)))
