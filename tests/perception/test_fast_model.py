"""The fast preset: its blend, its mask and its attention, with numbers that do not come from training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ros_attn.perception.infrared_visible_fusion.fast_model import (
    FAULTS,
    FIRST_EXPOSURE,
    FIRST_GAIN,
    LARGEST_EXPOSURE,
    LARGEST_GAIN,
    WEATHER,
    FastFusion,
)
from ros_attn.perception.infrared_visible_fusion.mask_attention import MaskGuidedBlock, allocation


def pair(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(batch, 1, height, width, generator=g), torch.rand(batch, 1, height, width, generator=g)


def decided(share: float, gain_visible: float, gain_infrared: float) -> FastFusion:
    """A network whose heads give the same everywhere, no repair, and the exposure as it is."""
    torch.manual_seed(0)
    model = FastFusion().eval()
    biases = {0: (share, 0.0), 1: (gain_visible, gain_infrared, 0.0),
              2: (gain_visible, gain_infrared, 0.0, gain_visible, gain_infrared)}  # fmt: skip
    for k, of_head in biases.items():
        head = model.heads[k]
        assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(torch.tensor(of_head))
    expose(model, 1.0)
    return model


def expose(model: FastFusion, factor: float) -> None:
    """Give every image this exposure."""
    last = model.exposure[-1]
    assert isinstance(last, torch.nn.Linear)
    share = math.log(factor) / math.log(LARGEST_EXPOSURE)
    with torch.no_grad():
        last.weight[0] = 0.0
        last.bias[0] = -60.0 if factor == 1.0 else math.log(share / (1 - share)) - FIRST_EXPOSURE


UNIT = float(torch.logit(torch.tensor(1 / LARGEST_GAIN))) - FIRST_GAIN


@pytest.mark.parametrize("size", [(64, 96), (16, 24)])
def test_one_camera_comes_through_unchanged(size: tuple[int, int]) -> None:
    visible, infrared = pair(*size)
    with torch.inference_mode():
        only_visible = decided(40.0, UNIT, -40.0)(visible, infrared)
        only_infrared = decided(-40.0, -40.0, UNIT)(visible, infrared)
    assert only_visible.fused.shape == visible.shape
    assert torch.allclose(only_visible.fused, visible, atol=2e-6)
    assert torch.allclose(only_infrared.fused, infrared, atol=2e-6)
    assert only_visible.mask.min() > 0.99 and only_infrared.mask.max() < 0.01


def test_the_exposure_lifts_the_visible_image_alone() -> None:
    visible, infrared = pair(64, 64)
    for share, gains, source, factor in ((40.0, (UNIT, -40.0), visible, 4.0), (-40.0, (-40.0, UNIT), infrared, 1.0)):
        model = decided(share, *gains)
        expose(model, 4.0)
        with torch.inference_mode():
            assert torch.allclose(model(visible, infrared).fused, factor * source, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 60), (61, 64)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        FastFusion()(*pair(*size))


def test_the_average_with_half_the_gain() -> None:
    visible, infrared = pair(64, 64)
    half = float(torch.logit(torch.tensor(0.5 / LARGEST_GAIN))) - FIRST_GAIN
    with torch.inference_mode():
        made = decided(0.0, half, half)(visible, infrared)
    assert torch.allclose(made.fused, (visible + infrared) / 2, atol=2e-6)
    assert torch.allclose(made.mask, torch.full_like(made.mask, 0.5), atol=2e-3)


def test_samples_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = FastFusion().eval()
    visible, infrared = pair(40, 56, batch=3)
    with torch.inference_mode():
        together = model(visible, infrared)
        alone = model(visible[1:2], infrared[1:2])
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a[1:2], b, atol=1e-5)
    assert together.weather.shape == (3, len(WEATHER)) and together.faults.shape == (3, 2, len(FAULTS))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    model = FastFusion()
    made = model(*pair(64, 64, batch=2))
    (made.fused.square().mean() + made.weather.square().mean() + made.faults.square().mean()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_the_diagnosis_does_not_shape_the_picture() -> None:
    model = FastFusion()
    made = model(*pair(64, 64, batch=2))
    (made.weather.square().sum() + made.faults.square().sum()).backward()
    reached = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"diagnosis"}


def test_allocation_solves_for_the_share() -> None:
    g = torch.Generator().manual_seed(1)
    visible, infrared = (torch.randn(2, 4, 5, 6, generator=g) for _ in range(2))
    infrared = torch.where((visible - infrared).abs() < 0.5, visible - 0.5, infrared)
    share = torch.rand(2, 4, 5, 6, generator=g)
    found = allocation(share * visible + (1 - share) * infrared, visible, infrared, eps=1e-9)
    assert torch.allclose(found, share, atol=1e-4)
    assert allocation(visible + 9, visible, infrared).min() >= 0.0
    # Where both cameras say the same, any share is right and none is preferred by a division by zero.
    assert torch.isfinite(allocation(visible + 1, visible, visible)).all()


def test_the_block_asks_by_the_mask() -> None:
    torch.manual_seed(0)
    block = MaskGuidedBlock(16, 4).eval()
    visible, infrared, fused = (torch.randn(1, 16, 8, 8) for _ in range(3))
    with torch.inference_mode():
        f, v, i, m = block(fused, visible, infrared)
        assert f.shape == v.shape == i.shape == m.shape == fused.shape
        assert float(m.min()) > 0 and float(m.max()) < 1
        # Only the infrared branch may change where only its query projection does.
        next(block.query_infrared.parameters()).mul_(-1.0)
        f2, v2, i2, m2 = block(fused, visible, infrared)
    assert torch.equal(v, v2) and torch.equal(m, m2)
    assert not torch.allclose(i, i2, atol=1e-4) and not torch.allclose(f, f2, atol=1e-4)
