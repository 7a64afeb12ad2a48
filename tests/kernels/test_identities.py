"""Gaussian-kernel and polar attention: P0's identities against their own formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from ros_attn.kernels.gaussian import gaussian_attention
from ros_attn.kernels.layout import PAST
from ros_attn.kernels.polar import polar_attention
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import random_case


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def causal(length: int) -> Visibility:
    frame = torch.arange(length, dtype=torch.int32)[None]
    return Visibility((("a", length),), (("a", length),), {("a", "a"): PAST}, frame, frame)


@pytest.mark.parametrize("length", [1, 63, 100])
def test_gaussian_weights_are_distances(length: int) -> None:
    x, sigma = (3 + randn(2, length, 3, 5)).requires_grad_(), torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    sigma.requires_grad_()
    visibility = causal(length)
    out = gaussian_attention(x, sigma, visibility=visibility)
    distance = (x[:, :, None] - x[:, None]).square().sum(-1) / (2 * sigma**2)
    weight = torch.exp(-distance).masked_fill(~visibility.mask()[..., None], 0)
    expected = torch.einsum("bijh,bjhd->bihd", weight / weight.sum(2, keepdim=True), x)
    torch.testing.assert_close(out, expected)
    seed = randn(*out.shape, seed=1)
    one, other = (torch.autograd.grad((y * seed).sum(), (x, sigma), retain_graph=True) for y in (out, expected))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def test_gaussian_limits() -> None:
    """A narrow kernel gives the tokens back, a wide one their mean."""
    x = randn(1, 40, 1, 4)
    narrow, wide = (gaussian_attention(x, torch.tensor([s], dtype=torch.float64)) for s in (1e-2, 1e4))
    torch.testing.assert_close(narrow, x)
    torch.testing.assert_close(wide, x.mean(1, keepdim=True).expand_as(x), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="a Gaussian kernel is normalised by softmax"):
        gaussian_attention(x, torch.ones(1), normaliser="sigmoid")
    with pytest.raises(ValueError, match=r"sigma is one a head \[1\]"):
        gaussian_attention(x, torch.ones(2))


def parameters(heads: int, width: int) -> dict[str, Any]:
    names = ("temperature", "null", "null_slope", "gain")
    made = {name: randn(heads, seed=k).requires_grad_() for k, name in enumerate(names, 10)}
    return made | {"v_null": randn(heads, width, seed=20).requires_grad_()}


def test_polar_is_its_formula() -> None:
    length, heads = 37, 2
    q, k, v = (randn(2, length, heads, 8, seed=s).requires_grad_() for s in range(3))
    p = parameters(heads, 8)
    visibility = causal(length)
    found = polar_attention(q, k, v, visibility=visibility, **p)

    mask = visibility.mask()[..., None]
    n = torch.arange(1, length + 1, dtype=torch.float64)[:, None]
    tau = 1 + softplus(p["temperature"]) * torch.log(n)
    nu = p["null"] + softplus(p["null_slope"]) * torch.sqrt(torch.log(n + 1))
    s = torch.einsum("bihd,bjhd->bijh", q, k) / math.sqrt(8)
    logits = torch.cat(
        ((tau[:, None] * s).masked_fill(~mask, -torch.inf), (tau * nu)[None, :, None].expand(2, -1, -1, -1)), 2
    )
    w = torch.softmax(logits, 2)
    real, none = w[:, :, :-1], w[:, :, -1]
    direction = normalize(torch.einsum("bijh,bjhd->bihd", real, v) + none[..., None] * p["v_null"], dim=-1)
    even = real / real.sum(2, keepdim=True)
    count = (1 - none) / even.square().sum(2)
    magnitude = torch.tanh(softplus(p["gain"]) * torch.log1p(count))
    for a, b in zip(found, (direction, magnitude, count), strict=True):
        torch.testing.assert_close(a, b)

    leaves = (q, k, v, *p.values())
    losses = [
        (x * randn(*x.shape, seed=7)).sum() + (y * randn(*y.shape, seed=8)).sum()
        for x, y in ((found.direction, found.magnitude), (direction, magnitude))
    ]
    one, other = (torch.autograd.grad(loss, leaves) for loss in losses)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def test_polar_counts_matches() -> None:
    """m keys equal to the query among others far from it: the count is m, whatever the length."""
    for matches, length in ((1, 50), (4, 50), (4, 400)):
        k = torch.zeros(1, length, 1, 8, dtype=torch.float64)
        k[:, :matches, :, 0] = k[:, matches:, :, 1] = 30.0
        q = torch.tensor([3.0] + [0] * 7, dtype=torch.float64).expand(1, 1, 1, 8)
        p: dict[str, Any] = {
            name: torch.zeros(1, dtype=torch.float64) for name in ("temperature", "null", "null_slope", "gain")
        }
        found = polar_attention(q, k, k, v_null=torch.zeros(1, 8, dtype=torch.float64), **p)
        assert found.count.item() == pytest.approx(matches, rel=1e-3)


def test_polar_that_sees_nothing() -> None:
    q, k, v = (randn(1, 3, 2, 8, seed=s).requires_grad_() for s in range(3))
    p = parameters(2, 8)
    found = polar_attention(q, k, v, len_k=torch.tensor([0]), **p)
    torch.testing.assert_close(found.direction, normalize(p["v_null"], dim=-1).expand(1, 3, 2, 8))
    assert torch.equal(found.count, torch.zeros_like(found.count))
    (found.direction.sum() + found.magnitude.sum()).backward()
    assert q.grad is not None and torch.equal(q.grad, torch.zeros_like(q))


@pytest.mark.parametrize("seed", range(40))
def test_counts_are_those_of_the_mask(seed: int) -> None:
    case = random_case(seed)
    structure = (case.open, case.len_q, case.len_k)
    counts = case.visibility.counts(*structure)
    mask = case.visibility.mask(*structure)
    assert torch.equal(counts.expand(mask.shape[0], -1), mask.sum(-1))
