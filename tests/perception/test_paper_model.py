"""The paper preset: histogram attention pixel by pixel, the branches, and the loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ros_attn.perception.infrared_visible_fusion.fast_model import Fused
from ros_attn.perception.infrared_visible_fusion.fidelity import sobel, strength
from ros_attn.perception.infrared_visible_fusion.histogram_attention import HistogramAttention
from ros_attn.perception.infrared_visible_fusion.mask_attention import allocation, authors_allocation
from ros_attn.perception.infrared_visible_fusion.paper_model import Branches, MaskGuidedFusion
from ros_attn.perception.infrared_visible_fusion.paper_objective import paper_objective, pseudo_truth
from ros_attn.perception.infrared_visible_fusion.restoration import Restoration
from ros_attn.perception.infrared_visible_fusion.training_pairs import Sample


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def binned(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, heads: int, boxes: bool) -> Tensor:
    """The attention of one sample [C, N] word by word: a row for each channel and bin, heads over channels."""
    channels, pixels = v.shape
    size = math.ceil(pixels / heads)

    def rows(x: Tensor, channel: int) -> list[Tensor]:
        whole = torch.cat((x[channel], x.new_zeros(size * heads - pixels)))
        return [whole[b * size : (b + 1) * size] if boxes else whole[b::heads] for b in range(heads)]

    out = torch.zeros(channels, size * heads)
    width = channels // heads
    for head in range(heads):
        of_head = range(head * width, (head + 1) * width)
        queries, keys, values = ([row for c in of_head for row in rows(x, c)] for x in (q, k, v))
        for index, query in enumerate(queries):
            scores = [temperature[head] * (query @ key) / (query.norm() * key.norm()) for key in keys]
            total = 1 + sum(math.exp(s) for s in scores)
            made = sum(math.exp(s) / total * value for s, value in zip(scores, values, strict=True))
            channel, b = of_head[index // heads], index % heads
            if boxes:
                out[channel, b * size : (b + 1) * size] = made
            else:
                out[channel, b::heads] = made
    return out[:, :pixels]


@pytest.mark.parametrize("heads, size", [(1, (4, 6)), (2, (5, 7)), (4, (3, 5))])
def test_histogram_attention_is_its_formula(heads: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attention = HistogramAttention(8, heads).eval()
    with torch.inference_mode():
        attention.temperature.copy_(1 + torch.arange(heads))
        x = rand(1, 8, *size)
        rows_sorted, row_order = x[:, :4].sort(2)
        both_sorted, column_order = rows_sorted.sort(3)
        q1, k1, q2, k2, v = (
            each[0].flatten(1) for each in attention.expand(torch.cat((both_sorted, x[:, 4:]), 1)).chunk(5, 1)
        )
        order = v.argsort(1)
        q1, k1, q2, k2, v = (torch.stack([row[o] for row, o in zip(each, order, strict=True)]) for each in (q1, k1, q2, k2, v))  # fmt: skip  # noqa: E501
        tau = attention.temperature
        mixed = binned(q1, k1, v, tau, heads, True) * binned(q2, k2, v, tau, heads, False)
        back = torch.zeros_like(mixed)
        for channel in range(8):
            back[channel, order[channel]] = mixed[channel]
        expected = attention.project(back.view(1, 8, *size))[0]
        for channel in range(4):
            columns = torch.zeros(size)
            for row in range(size[0]):
                columns[row, column_order[0, channel, row]] = expected[channel, row]
            for column in range(size[1]):
                expected[channel, row_order[0, channel, :, column], column] = columns[:, column]
        assert torch.allclose(attention(x)[0], expected, atol=1e-5)


def test_every_weight_of_the_network_learns() -> None:
    torch.manual_seed(0)
    model = MaskGuidedFusion(dim=8, blocks=(1, 1), heads=(1, 2))
    made = model.branches(rand(2, 1, 24, 32), rand(2, 1, 24, 32, seed=1))
    assert made.fused.fused.shape == made.visible.shape == made.infrared.shape == (2, 1, 24, 32)
    assert float(made.fused.mask.detach().min()) >= 0 and float(made.fused.mask.detach().max()) <= 1
    total = sum(x.square().mean() for x in (*made.fused, made.visible, made.infrared))
    assert isinstance(total, Tensor)
    total.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []
    with pytest.raises(ValueError, match="blocks has 2 levels and heads 1"):
        MaskGuidedFusion(blocks=(1, 1), heads=(1,))


def test_the_authors_mask_is_another_one() -> None:
    """Of F = m V with I = 0 ours gives m back, theirs m / (1 + m)."""
    visible, share = rand(1, 4, 5, 6) + 0.5, rand(1, 4, 5, 6, seed=1)
    zero = torch.zeros_like(visible)
    assert torch.allclose(allocation(share * visible, visible, zero, eps=0.0), share, atol=1e-5)
    assert torch.allclose(authors_allocation(share * visible, visible, zero), share / (1 + share), atol=1e-5)


def test_the_pseudo_truth_takes_what_has_structure() -> None:
    flat, textured = torch.full((1, 1, 32, 32), 0.5), rand(1, 1, 32, 32)
    assert torch.allclose(pseudo_truth(textured, flat), textured, atol=1e-3)
    assert torch.allclose(pseudo_truth(flat, textured), textured, atol=1e-3)


def test_the_loss_is_its_terms() -> None:
    visible, infrared, shown, fused, mask = (rand(2, 1, 32, 40, seed=k) for k in range(5))
    sample = Sample(shown, infrared, visible, infrared, torch.ones(2, 2), torch.zeros(2, 3, dtype=torch.long))
    quiet = torch.zeros(2, 5), torch.zeros(2, 2, 5)
    judge = Restoration(8).eval().requires_grad_(False)
    assert judge.out.bias is not None
    torch.nn.init.constant_(judge.out.bias, 0.1)
    _, terms = paper_objective(Branches(Fused(fused, mask, *quiet), shown, infrared), sample, judge)
    assert terms["intensity"] == pytest.approx(10 * float((fused - torch.maximum(visible, infrared)).abs().mean()))
    wanted = torch.maximum(strength(*sobel(visible)), strength(*sobel(infrared)))
    assert terms["gradient"] == pytest.approx(10 * float((strength(*sobel(fused)) - wanted).abs().mean()), rel=1e-4)
    # This judge adds 0.1 everywhere.
    assert terms["restoration"] == pytest.approx(0.5, rel=1e-4)
    m = allocation(pseudo_truth(visible, infrared), visible, infrared)
    parts = (mask * shown - m * visible).abs().mean() + ((1 - mask) * infrared - (1 - m) * infrared).abs().mean()
    assert terms["consistency"] == pytest.approx(5 * float(parts), rel=1e-4)
    assert terms["labels"] == pytest.approx(0.05 * 3 * math.log(5), rel=1e-4)


def test_a_black_camera_is_replaced_by_the_other() -> None:
    infrared = rand(1, 1, 32, 40)
    counts = torch.tensor([[0.0, 1.0]])
    sample = Sample(0 * infrared, infrared, rand(1, 1, 32, 40, seed=2), infrared, counts, torch.zeros(1, 3).long())
    quiet = torch.zeros(1, 5), torch.zeros(1, 2, 5)
    made = Branches(Fused(infrared, 0 * infrared, *quiet), infrared, infrared)
    _, terms = paper_objective(made, sample, Restoration(8).eval())
    assert terms["intensity"] == terms["gradient"] == 0.0 and terms["structure"] < 1e-4
