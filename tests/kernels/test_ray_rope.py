"""RayPE: its angles, that scores depend on differences of rays only, and what is left alone."""

from __future__ import annotations

import cmath
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ros_attn.kernels.ray_rope import ray_rope


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def formula(x: list[float], ray: list[float], channels: int) -> list[float]:
    """One head, pair by pair as complex numbers."""
    out = list(x)
    for m in range(6 * (channels // 12)):
        period = 4.0 if m % 6 < 3 else 8.0
        angle = 2 * math.pi / period * 3.0 ** (m // 6) * ray[m % 6]
        turned = complex(x[m], x[m + channels // 2]) * cmath.exp(-1j * angle)
        out[m], out[m + channels // 2] = turned.real, turned.imag
    return out


@pytest.mark.parametrize("size, channels", [(64, None), (64, 32), (12, None), (26, 24), (30, None)])
def test_angles(size: int, channels: int | None) -> None:
    x, origin, direction = draw(2, 3, size), draw(2, 3, seed=1), draw(2, 3, seed=2)
    found = ray_rope(x, origin, direction, channels=channels)
    for token in range(2):
        ray = [*origin[token].tolist(), *direction[token].tolist()]
        for head in range(3):
            expected = formula(x[token, head].tolist(), ray, channels or size)
            assert found[token, head].tolist() == pytest.approx(expected, abs=1e-12)


def test_sixty_of_sixty_four_channels_turn() -> None:
    """As in RaysUp: 32 pairs hold 5 frequencies of 6 components; pairs 30 and 31 are kept."""
    x = draw(1, 1, 64)
    kept = (ray_rope(x, draw(1, 3, seed=1), draw(1, 3, seed=2)) == x)[0, 0]
    assert kept.nonzero().flatten().tolist() == [30, 31, 62, 63]
    kept = (ray_rope(x, draw(1, 3, seed=1), draw(1, 3, seed=2), channels=32) == x)[0, 0]
    assert kept.nonzero().flatten().tolist() == [12, 13, 14, 15, *range(28, 64)]


def scores(q: Tensor, k: Tensor, rays_q: tuple[Tensor, Tensor], rays_k: tuple[Tensor, Tensor]) -> Tensor:
    return torch.einsum("ihd,jhd->hij", ray_rope(q, *rays_q), ray_rope(k, *rays_k))


def test_only_relative_positions_count() -> None:
    q, k = draw(5, 2, 64), draw(7, 2, 64, seed=1)
    rays_q = draw(5, 3, seed=2), draw(5, 3, seed=3)
    rays_k = draw(7, 3, seed=4), draw(7, 3, seed=5)
    moved = [
        (origin + torch.tensor([3.0, -1.0, 0.5]), direction + torch.tensor([0.1, 0.2, -0.3]))
        for origin, direction in (rays_q, rays_k)
    ]
    before = scores(q, k, rays_q, rays_k)
    torch.testing.assert_close(scores(q, k, *moved), before)
    # And they do count: moving one side alone, or exchanging the sides, changes the scores.
    assert (scores(q, k, moved[0], rays_k) - before).abs().max() > 1
    assert (scores(q[:5], k[:5], (rays_k[0][:5], rays_k[1][:5]), rays_q) - before[:, :, :5]).abs().max() > 1


def test_equal_rays_score_as_without() -> None:
    q, k = draw(4, 2, 24), draw(4, 2, 24, seed=1)
    ray = draw(1, 3, seed=2), draw(1, 3, seed=3)
    torch.testing.assert_close(scores(q, k, ray, ray), torch.einsum("ihd,jhd->hij", q, k))


def test_one_origin_for_a_whole_image() -> None:
    x, origin, direction = draw(2, 4, 5, 3, 24), draw(2, 1, 1, 3, seed=1), draw(1, 4, 5, 3, seed=2)
    every = ray_rope(x, origin.expand(2, 4, 5, 3), direction.expand(2, 4, 5, 3))
    assert torch.equal(ray_rope(x, origin, direction), every)


def test_gradcheck() -> None:
    x, origin, direction = draw(3, 2, 14), draw(1, 3, seed=1), draw(3, 3, seed=2)
    torch.autograd.gradcheck(ray_rope, [y.requires_grad_() for y in (x, origin, direction)])


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 5e-7), (torch.float16, 5e-4), (torch.bfloat16, 4e-3)])
def test_precision_far_from_the_origin(dtype: torch.dtype, bound: float) -> None:
    """At 1 km a float32 angle of the highest frequency would be off by 0.004 rad."""
    x = draw(50, 2, 64, dtype=dtype)
    origin = 1000 + draw(50, 3, seed=1, dtype=torch.float32)
    direction = draw(50, 3, seed=2, dtype=torch.float32)
    exact = ray_rope(x.double(), origin.double(), direction.double())
    found = ray_rope(x, origin, direction)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() < bound * exact.abs().max()


def test_strides_do_not_matter_and_the_input_is_kept() -> None:
    x = draw(2, 24, 4, 5).unflatten(1, (1, 24)).permute(0, 3, 4, 1, 2)
    before = x.clone()
    origin, direction = draw(1, 1, 1, 3, seed=1), draw(1, 5, 4, 3, seed=2).movedim(1, 2)
    found = ray_rope(x, origin, direction)
    assert torch.equal(x, before)
    assert torch.equal(found, ray_rope(x.contiguous(), origin, direction.contiguous()))


@pytest.mark.parametrize("change, sentence", [
    ({"x": torch.zeros(4, 2, 10)}, "channels is 10; it must be even, at least 12"),
    ({"channels": 26}, "at most the head dimension 24"),
    ({"channels": 13}, "must be even"),
    ({"origin": torch.zeros(4, 2)}, r"origin \[4, 2\]"),
    ({"direction": torch.zeros(5, 3)}, r"direction \[5, 3\]"),
    ({"origin": torch.zeros(3, 4, 3)}, r"broadcast to x \[4, 2, 24\]"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, Any], sentence: str) -> None:
    call = {"x": torch.zeros(4, 2, 24), "origin": torch.zeros(1, 3), "direction": torch.zeros(4, 3), **change}
    with pytest.raises(ValueError, match=sentence):
        ray_rope(**call)
