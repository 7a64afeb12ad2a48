"""Kernel ridge regression as attention: against its formula, gradients, growth, and regression in context."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ros_attn.kernels.gated_delta import gated_delta, unit_norm
from ros_attn.kernels.kernel_ridge import kernel_ridge, ridge_solution

LENGTHS = (1, 63, 100, 257)


def inputs(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v for B = 2, H = 3, D = 8, Dv = 5."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, n, 3, width, generator=g, dtype=torch.float64).to(dtype) for width in (8, 8, 5)]


def written_out(q: Tensor, k: Tensor, v: Tensor, r: Tensor, ridge: Tensor, scale: float, causal: bool) -> Tensor:
    """The formula with its matrices, exponentials without a maximum, and an inverse, a sample and head at a time."""
    out = v.new_empty(q.shape[0], q.shape[1], *v.shape[2:])
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            attention = torch.exp(scale * q[b, :, h] @ k[b, :, h].T)
            kernel = torch.exp(scale * k[b, :, h] @ r[b, :, h].T)
            if causal:
                attention, kernel = attention.tril(), kernel.tril()
            attention, kernel = (x / x.sum(1, keepdim=True) for x in (attention, kernel))
            inverse = torch.linalg.inv(kernel + ridge[h] * torch.eye(len(kernel), dtype=kernel.dtype))
            out[b, :, h] = attention @ inverse @ v[b, :, h]
    return out


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", LENGTHS)
def test_it_is_the_formula(n: int, causal: bool) -> None:
    q, k, v = inputs(n)
    ridge = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    reference = k + 0.5 * inputs(n, seed=1)[1]
    expected = written_out(q, k, v, reference, ridge, 0.4, causal)
    for chunk in (1, 7, 64, 1000) if causal else (64,):
        got = kernel_ridge(q, k, v, reference=reference, ridge=ridge, scale=0.4, causal=causal, chunk=chunk)
        assert error(got, expected) < 1e-11
    shared = written_out(q, k, v, k, torch.full((3,), 0.3, dtype=torch.float64), 8**-0.5, causal)
    assert error(kernel_ridge(q, k, v, ridge=0.3, causal=causal), shared) < 1e-11


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_set_by_the_caller(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        x = [each.requires_grad_() for each in inputs(300)]
        y = kernel_ridge(*x, ridge=0.3, causal=False)
        gradients = torch.autograd.grad(y.sum(), x)
        torch.set_num_threads(1)
        q, k, v = x
        expected = written_out(q, k, v, k, torch.full((3,), 0.3, dtype=torch.float64), 8**-0.5, False)
        assert error(y.detach(), expected.detach()) < 1e-11
        for got, wanted in zip(gradients, torch.autograd.grad(expected.sum(), x), strict=True):
            assert error(got, wanted) < 1e-10
    finally:
        torch.set_num_threads(before)


def test_more_or_fewer_queries_than_keys() -> None:
    q, k, v = inputs(40)
    expected = written_out(q[:, :7], k, v, k, torch.full((3,), 0.3, dtype=torch.float64), 0.5, False)
    assert error(kernel_ridge(q[:, :7], k, v, ridge=0.3, scale=0.5, causal=False), expected) < 1e-12
    with pytest.raises(ValueError, match="7 queries for 40 keys"):
        kernel_ridge(q[:, :7], k, v, ridge=0.3)


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_by_finite_differences(causal: bool) -> None:
    x = [each[:1, :7, :2].clone().requires_grad_() for each in (*inputs(7), inputs(7, seed=1)[1])]
    ridge = torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, k, v, r, ridge: kernel_ridge(q, k, v, reference=r, ridge=ridge, causal=causal, chunk=3), (*x, ridge)
    )
    assert torch.autograd.gradcheck(
        lambda q, k, v, ridge: kernel_ridge(q, k, v, ridge=ridge, causal=causal, chunk=3), (*x[:3], ridge)
    )


@pytest.mark.parametrize("n", LENGTHS)
def test_gradients_do_not_depend_on_the_chunk(n: int) -> None:
    def gradients(chunk: int) -> tuple[Tensor, ...]:
        x = [each.requires_grad_() for each in inputs(n)]
        ridge = torch.full((3,), 0.2, dtype=torch.float64, requires_grad=True)
        weight = inputs(n, seed=5)[2]
        return torch.autograd.grad((kernel_ridge(*x, ridge=ridge, chunk=chunk) * weight).sum(), (*x, ridge))

    for got, expected in zip(gradients(64), gradients(1000), strict=True):
        assert float((got - expected).abs().max()) <= 1e-11 * float(expected.abs().max())


def test_a_row_sees_only_what_came_before_it() -> None:
    q, k, v = inputs(100)
    whole = kernel_ridge(q, k, v, ridge=0.1)
    changed = [each.clone() for each in (q, k, v)]
    for each in changed:
        each[:, 50:] += 1
    after = kernel_ridge(*changed, ridge=0.1)
    assert torch.equal(after[:, :50], whole[:, :50])
    assert float((after[:, 50] - whole[:, 50]).abs().min()) > 0
    assert error(kernel_ridge(*(each[:, :50] for each in (q, k, v)), ridge=0.1), whole[:, :50]) < 1e-13


@pytest.mark.parametrize("causal", [True, False])
def test_at_its_points_it_gives_their_values(causal: bool) -> None:
    _, k, v = inputs(63)
    k = 3 * k
    solution = ridge_solution(k, k, v, ridge=0.05, scale=8**-0.5, causal=causal)
    assert error(kernel_ridge(k, k, v, ridge=0.05, causal=causal), v - 0.05 * solution) < 1e-12
    assert error(kernel_ridge(k, k, v, ridge=1e-12, causal=causal), v) < 1e-6
    attended = k.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    attention = torch.nn.functional.scaled_dot_product_attention(*attended, is_causal=causal)
    assert error(attention.transpose(1, 2), v) > 0.3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", LENGTHS)
def test_float32(n: int, causal: bool) -> None:
    x = [each.float() for each in inputs(n)]
    expected = kernel_ridge(*(each.double() for each in x), ridge=0.05, causal=causal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = kernel_ridge(*x, ridge=0.05, causal=causal)
    print(f"n {n} causal {causal}: float32 error {error(got, expected):.1e}")
    assert got.dtype == torch.float32 and error(got, expected) < 3e-6
    half = [each.to(torch.bfloat16) for each in x]
    expected = kernel_ridge(*(each.double() for each in half), ridge=0.05, causal=causal)
    got = kernel_ridge(*half, ridge=0.05, causal=causal)
    assert got.dtype == torch.bfloat16 and error(got, expected) < torch.finfo(torch.bfloat16).eps


def test_scores_of_a_thousand_do_not_overflow() -> None:
    q, k, v = inputs(63, dtype=torch.float32)
    out = kernel_ridge(100 * q, 100 * k, v, ridge=0.1)
    assert torch.isfinite(out).all()


def test_how_large_the_solution_grows() -> None:
    """The figures of the docstring: the condition for a bound, and what an unrelated reference does."""
    _, k, v = inputs(257)
    r = inputs(257, seed=1)[1]

    def largest(rows: Tensor, columns: Tensor, ridge: float) -> float:
        return float(ridge_solution(rows, columns, v, ridge=ridge, scale=8**-0.5).abs().max())

    most = float(v.abs().max())
    assert largest(k, r, 1.5) < most / 0.5
    assert largest(k, r, 1e-4) > 1e50
    assert largest(k, r, 1e-2) > 1e15
    assert largest(k, k, 1e-4) < 1e3
    assert largest(r, 8**0.5 * unit_norm(r), 1e-4) < 1e3


def test_strides_do_not_matter() -> None:
    x = inputs(63)
    strange = [each.transpose(0, -1).contiguous().transpose(0, -1) for each in x]
    assert not any(each.is_contiguous() for each in strange)
    assert error(kernel_ridge(*strange, ridge=0.1), kernel_ridge(*x, ridge=0.1)) < 1e-13


def test_what_does_not_fit_is_refused() -> None:
    q, k, v = inputs(5)
    for ridge in (0.0, -1.0, torch.tensor([0.1, 0.0, 0.1]), torch.tensor(torch.nan)):
        with pytest.raises(ValueError, match="it must be positive"):
            kernel_ridge(q, k, v, ridge=ridge)
    with pytest.raises(ValueError, match=r"ridge has shape \[2\]; it must be a number or \[3\]"):
        kernel_ridge(q, k, v, ridge=torch.ones(2))
    with pytest.raises(ValueError, match=r"v has shape \[2, 4, 3, 5\]"):
        kernel_ridge(q, k, v[:, :4], ridge=1.0)
    with pytest.raises(ValueError, match="reference has shape"):
        kernel_ridge(q, k, v, reference=v, ridge=1.0)
    with pytest.raises(ValueError, match="one floating dtype"):
        kernel_ridge(q, k.float(), v, ridge=1.0)
    with pytest.raises(ValueError, match="q has shape"):
        kernel_ridge(q[..., :4], k, v, ridge=1.0)
    with pytest.raises(ValueError, match="chunk is 0"):
        kernel_ridge(q, k, v, ridge=1.0, chunk=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_linear_regression_in_context(seed: int) -> None:
    """64 noise-free points ``y = <w, x>``, x on the unit sphere in 8 dimensions; the error at a 65th, over 256 tasks.

    Every method sees x as key and y as value and has no parameter but the scale, each the best of a list.
    """
    g = torch.Generator().manual_seed(seed)
    x = unit_norm(torch.randn(256, 65, 1, 8, generator=g, dtype=torch.float64))
    y = (x * torch.randn(256, 1, 1, 8, generator=g, dtype=torch.float64)).sum(-1, keepdim=True)
    keys, values, points, answers = x[:, :-1], y[:, :-1], x[:, 1:], y[:, -1]
    scales = (1, 2, 4, 8, 16, 32)

    def mean_squared(predicted: Tensor) -> float:
        return float((predicted[:, -1] - answers).square().mean() / answers.square().mean())

    def nadaraya_watson(scale: float) -> Tensor:
        return ((scale * points[:, -1:, 0] @ keys[:, :, 0].mT).softmax(-1) @ values[:, :, 0])[:, :, None]

    attention = min(mean_squared(nadaraya_watson(s)) for s in scales)
    online = min(mean_squared(kernel_ridge(points, keys, values, ridge=1e-3, scale=s)) for s in scales)
    full = min(mean_squared(kernel_ridge(points, keys, values, ridge=1e-4, scale=s, causal=False)) for s in scales)
    always = torch.ones(256, 64, 1, dtype=torch.float64)
    delta = mean_squared(gated_delta(points, keys, values, always, torch.zeros_like(always))[0])
    print(
        f"seed {seed}, squared error in units of the variance: softmax attention {attention:.4f}, kernel ridge causal "
        f"{online:.4f}, full {full:.5f}, delta rule {delta:.5f}"
    )
    assert online < 0.75 * attention
    assert full < 0.03 * attention
    assert delta < full  # the answer is linear in x, which is all that the delta rule can represent
