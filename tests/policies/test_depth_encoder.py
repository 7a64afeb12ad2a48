"""The eyes of the stair climber: where its tokens look, and what holes and closed images do to the answers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from ros_attn.policies.depth_encoder import ENCODERS, LEAST_VALID, CrossAttention, DepthTokens, PooledDepth, runs_of

F = 45


def drawn(images: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Proprioception, depth and valid fractions."""
    at = torch.Generator().manual_seed(seed)
    return (
        torch.randn(images, F, generator=at), torch.rand(images, 48, 64, generator=at) - 0.5,
        torch.rand(images, 6, 8, generator=at) * 0.9 + 0.1,
    )  # fmt: skip


def encoder() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(F)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (2, 5), (5, 0), (5, 7)])
def test_token_stands_for_its_cell(row: int, column: int) -> None:
    torch.manual_seed(0)
    tokens = DepthTokens()
    image = (torch.rand(32, 48, 64) - 0.5).requires_grad_(True)
    tokens(image)[:, 8 * row + column].sum().backward()
    assert image.grad is not None
    seen = (image.grad != 0).any(0)
    expected = torch.zeros(48, 64, dtype=torch.bool)
    expected[max(8 * row - 3, 0) : 8 * row + 11, max(8 * column - 3, 0) : 8 * column + 11] = True
    assert torch.equal(seen, expected)


def test_tokens_know_their_place() -> None:
    torch.manual_seed(0)
    tokens = DepthTokens()
    with torch.no_grad():
        inner = tokens(torch.zeros(1, 48, 64))[0].view(6, 8, 64)[1:-1, 1:-1].flatten(0, 1)
    assert torch.cdist(inner, inner).fill_diagonal_(1).min() > 0.3


def test_half_precision_images_are_taken() -> None:
    _, depth, _ = drawn(2)
    with torch.no_grad():
        looked = encoder().look(torch.cat([depth, depth.half().float()])), encoder().look(depth.half())
    assert looked[1].dtype == torch.float32
    assert torch.allclose(looked[0][2:], looked[1], atol=1e-6)


@pytest.mark.parametrize("vision", ["attention", "pooled"])
def test_closed_images_are_not_looked_at(vision: str) -> None:
    torch.manual_seed(0)
    seeing = ENCODERS[vision](F)
    proprio, depth, valid = drawn(4)
    depth.requires_grad_(True)
    valid[1:] = 0
    proprio[2] = proprio[1]
    out = seeing(proprio, seeing.look(depth), valid)
    assert torch.isfinite(out).all()
    assert torch.equal(out[1], out[2])
    assert (out[3] - out[1]).abs().max() > 0.05
    [gradient] = torch.autograd.grad(out.square().sum(), depth)
    assert (gradient[1:] == 0).all()
    assert gradient[0].abs().max() > 1e-6


def test_answers_depend_on_the_image_and_the_asking() -> None:
    seeing = encoder()
    proprio, depth, valid = drawn(2)
    with torch.no_grad():
        first, second = seeing(proprio[[0, 0]], seeing.look(depth), valid[[0, 0]])
        maps = seeing.attention(proprio, seeing.look(depth[[0, 0]]), valid[[0, 0]])
    assert (first - second).abs().max() > 1e-3
    assert (maps[0] - maps[1]).abs().max() > 1e-4
    between = torch.cdist(maps[0].flatten(1), maps[0].flatten(1))
    assert between[~torch.eye(5, dtype=torch.bool)].min() > 1e-4


def test_key_bias_is_the_logarithm_of_the_valid_fraction() -> None:
    seeing = encoder()
    proprio, depth, valid = drawn(3)
    valid[:] = 1
    with torch.no_grad():
        held = seeing.look(depth)
        # One head alone is a softmax; their mean is not.
        before = [_of_head(seeing, proprio, held, valid, head) for head in range(4)]
        valid[:, 2, 3] = 0.25
        valid[:, 4, 4] = 0.0
        after = [_of_head(seeing, proprio, held, valid, head) for head in range(4)]
    for old, new in zip(before, after, strict=True):
        odds = (new[..., 2, 3] / new[..., 0, 0]) / (old[..., 2, 3] / old[..., 0, 0])
        assert odds.flatten().tolist() == pytest.approx([(0.25 + LEAST_VALID) / (1 + LEAST_VALID)] * 15, rel=1e-4)
        odds = (new[..., 4, 4] / new[..., 0, 0]) / (old[..., 4, 4] / old[..., 0, 0])
        assert odds.flatten().tolist() == pytest.approx([LEAST_VALID / (1 + LEAST_VALID)] * 15, rel=1e-4)


def _catch(caught: list[Tensor], _: object, inputs: tuple[Tensor, ...]) -> None:
    caught.append(inputs[0])


def _of_head(seeing: CrossAttention, proprio: Tensor, held: Tensor, valid: Tensor, head: int) -> Tensor:
    """[P, 5, 6, 8]: the attention of one head as the answers show it, by values that are 1 for one token each."""
    weights = []
    for block in range(3):
        planted = held.clone().unflatten(2, (2, 4, 16))
        planted[:, :, 1] = 0
        for i in range(16):
            planted[:, 16 * block + i, 1, head, i] = 1
        caught = []
        hook = seeing.out.register_forward_pre_hook(partial(_catch, caught))
        seeing(proprio, planted.flatten(2), valid)
        hook.remove()
        weights.append(caught[0][:, : 5 * 64].view(-1, 5, 4, 16)[:, :, head])
    return torch.cat(weights, dim=2).unflatten(2, (6, 8))


def test_shown_attention_is_that_of_the_answers() -> None:
    seeing = encoder()
    proprio, depth, valid = drawn(3)
    with torch.no_grad():
        held = seeing.look(depth)
        shown = seeing.attention(proprio, held, valid)
        heads = torch.stack([_of_head(seeing, proprio, held, valid, head) for head in range(4)])
    assert shown.shape == (3, 5, 6, 8)
    assert torch.allclose(shown, heads.mean(0), atol=1e-6)
    assert torch.allclose(shown.sum((2, 3)), torch.ones(3, 5), atol=1e-5)
    assert (seeing.attention(proprio, held, 0 * valid) == 0).all()


def test_holes_fade() -> None:
    """A hole's contents move the features a hundredth as much as those of a whole cell, or less."""
    seeing = encoder()
    proprio, depth, valid = drawn(1)
    valid[:] = 1
    moved = []
    for share in (1.0, 0.0):
        valid[:, 3, 4] = share
        with torch.no_grad():
            held = seeing.look(depth)
            other = held.clone()
            other[:, 3 * 8 + 4] += 1.0
            moved.append((seeing(proprio, other, valid) - seeing(proprio, held, valid)).abs().max())
    assert moved[1] < 0.01 * moved[0]


def test_pooled_mean_is_over_what_is_valid() -> None:
    torch.manual_seed(0)
    seeing = PooledDepth(F)
    proprio, depth, valid = drawn(1)
    valid[:] = 0
    valid[:, 1, 2] = 0.5
    with torch.no_grad():
        held = seeing.look(depth)
        alone = seeing(proprio, held[:, 10:11].expand(-1, 48, -1), torch.ones_like(valid))
        assert torch.allclose(seeing(proprio, held, valid), alone, atol=1e-6)


@pytest.mark.parametrize("vision", list(ENCODERS))
def test_steps_of_a_run_see_the_same_image(vision: str) -> None:
    torch.manual_seed(0)
    seeing = ENCODERS[vision](F)
    proprio = drawn(9, seed=1)[0]
    _, depth, valid = drawn(4)
    begins = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 1], dtype=torch.bool)
    runs, first = runs_of(begins)
    assert first.tolist() == [0, 3, 4, 8]
    assert runs.image.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 3]
    assert runs.place.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 0]
    assert runs.longest == 4
    held = seeing.look(depth)
    together = seeing(proprio, held, valid, runs)
    alone = seeing(proprio, held[runs.image], valid[runs.image])
    assert torch.allclose(together, alone, atol=1e-6)
    ways = [torch.autograd.grad(out.square().sum(), list(seeing.parameters()), allow_unused=True, retain_graph=True)
            for out in (together, alone)]  # fmt: skip
    for ours, theirs in zip(*ways, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert torch.allclose(ours, theirs, atol=1e-5)
