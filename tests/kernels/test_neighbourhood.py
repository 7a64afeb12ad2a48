"""Neighbourhood cross-attention in PyTorch: its window, against brute force in float64, at its edges, in its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.neighbourhood import neighbourhood_cross_attention
from tests.kernels.allocation import NewStorages
from tests.kernels.neighbourhood_formula import CASES, Case, by_upsampling, errors, formula, inputs, results, window_of


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_output_and_gradients_are_the_formulas(case: Case, dtype: torch.dtype, bound: float) -> None:
    leaves, grad = inputs(case)
    exact = results(lambda q, k, v: formula(q, k, v, case[2]), leaves, grad, torch.float64)
    found = results(lambda q, k, v: neighbourhood_cross_attention(q, k, v, window=case[2]), leaves, grad, dtype)
    assert max(errors(found, exact)) < bound


@pytest.mark.parametrize("ratio", [(1, 1), (2, 2), (4, 4), (3, 5)])
@pytest.mark.parametrize("window", [(6, 6), (5, 5), (4, 3), (1, 2)])
def test_whole_ratios_are_dilated_attention_over_upsampled_sources(
    ratio: tuple[int, int], window: tuple[int, int]
) -> None:
    case = ((7 * ratio[0], 8 * ratio[1]), (7, 8), window)
    (q, k, v), _ = inputs(case, (1, 2, 4, 3))
    with torch.no_grad():
        found = neighbourhood_cross_attention(q, k, v, window=window)
        torch.testing.assert_close(found, by_upsampling(q, k, v, window))


@pytest.mark.parametrize("case", CASES)
def test_every_target_sees_as_many_cells_its_own_among_them(case: Case) -> None:
    """With q = 0 all weights are equal; the values tell the cells apart."""
    (t_rows, t_columns), (s_rows, s_columns), (w_rows, w_columns) = case
    cells = s_rows * s_columns
    value = torch.eye(cells, dtype=torch.float64).view(1, s_rows, s_columns, 1, cells)
    key = torch.randn(1, s_rows, s_columns, 1, 4, dtype=torch.float64)
    query = torch.zeros(1, t_rows, t_columns, 1, 4, dtype=torch.float64)
    out = neighbourhood_cross_attention(query, key, value, window=(w_rows, w_columns))
    seen = out[0, :, :, 0].view(t_rows, t_columns, s_rows, s_columns) > 0
    assert (seen.sum((2, 3)) == min(w_rows, s_rows) * min(w_columns, s_columns)).all()
    for y in range(t_rows):
        for x in range(t_columns):
            assert seen[y, x, int((y + 0.5) * s_rows / t_rows), int((x + 0.5) * s_columns / t_columns)]


def test_the_window_of_six() -> None:
    """Three cells before the target's own and two after, for every target in the cell; the border stops it."""
    assert [window_of(t, 32, 8, 6).start for t in range(32)] == [0] * 16 + [1] * 4 + [2] * 12
    value = torch.arange(8.0).view(1, 1, 8, 1, 1)
    key, query = torch.zeros(1, 1, 8, 1, 2), torch.zeros(1, 1, 32, 1, 2)
    out = neighbourhood_cross_attention(query, key, value)
    assert out.flatten().tolist() == pytest.approx([2.5] * 16 + [3.5] * 4 + [4.5] * 12)


def test_an_odd_window_is_mirrored_with_the_image() -> None:
    case = ((17, 23), (7, 9), (5, 3))
    (q, k, v), _ = inputs(case)
    found = neighbourhood_cross_attention(*(x.flip(1, 2) for x in (q, k, v)), window=(5, 3)).flip(1, 2)
    torch.testing.assert_close(found, neighbourhood_cross_attention(q, k, v, window=(5, 3)))


@pytest.mark.parametrize("case", CASES[2:])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_worse_than_the_plain_formula_in_half(case: Case, dtype: torch.dtype) -> None:
    leaves, grad = inputs(case, dtype=dtype)
    exact = results(lambda q, k, v: formula(q, k, v, case[2]), leaves, grad, torch.float64)
    plain = errors(results(lambda q, k, v: formula(q, k, v, case[2]), leaves, grad, dtype), exact)
    ours = errors(
        results(lambda q, k, v: neighbourhood_cross_attention(q, k, v, window=case[2]), leaves, grad, dtype), exact
    )
    assert all(a <= b for a, b in zip(ours, plain, strict=True)), (ours, plain)


@pytest.mark.parametrize("case", [((7, 5), (3, 4), (2, 3)), ((3, 4), (7, 5), (6, 2))])
def test_gradcheck(case: Case) -> None:
    leaves, _ = inputs(case, (1, 2, 3, 2))
    torch.autograd.gradcheck(lambda q, k, v: neighbourhood_cross_attention(q, k, v, window=case[2]), leaves)


def test_scale_and_default_window() -> None:
    case = ((9, 11), (8, 7), (6, 6))
    leaves, grad = inputs(case)
    for scale in (None, 0.3, -1.0):
        exact = results(lambda q, k, v, s=scale: formula(q, k, v, (6, 6), s), leaves, grad, torch.float64)
        found = results(
            lambda q, k, v, s=scale: neighbourhood_cross_attention(q, k, v, scale=s), leaves, grad, torch.float64
        )
        assert max(errors(found, exact)) < 1e-13


def test_scores_beyond_the_range_of_exp() -> None:
    case = ((9, 11), (4, 5), (3, 3))
    leaves, grad = inputs(case)
    with torch.no_grad():
        leaves[0] *= 1000
    exact = results(lambda q, k, v: formula(q, k, v, (3, 3)), leaves, grad, torch.float64)
    found = results(lambda q, k, v: neighbourhood_cross_attention(q, k, v, window=3), leaves, grad, torch.float32)
    assert all(x.isfinite().all() for x in found)
    assert max(errors(found, exact)) < 1e-3


def test_strides_do_not_matter() -> None:
    """Grids that are images [B, H * D, rows, columns], as a convolution gives them, and a gradient without strides."""
    case = ((14, 9), (5, 4), (3, 3))
    leaves, _ = inputs(case)
    images = [x.detach().permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2).requires_grad_() for x in leaves]
    assert not any(x.is_contiguous() for x in images)
    out = neighbourhood_cross_attention(*images, window=3)
    assert out.is_contiguous()
    found = torch.autograd.grad(out.sum(), images)
    q, k, v = leaves
    exact = torch.autograd.grad(formula(q, k, v, (3, 3)).sum(), leaves)
    for x, y in zip(found, exact, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_twice_the_same_bits(dtype: torch.dtype) -> None:
    leaves, grad = inputs(((37, 23), (9, 7), (6, 6)))
    once, again = (results(neighbourhood_cross_attention, leaves, grad, dtype) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))


def test_autocast_does_not_round() -> None:
    leaves, grad = inputs(((14, 9), (5, 4), (3, 3)))
    plain = results(neighbourhood_cross_attention, leaves, grad, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        cast = results(neighbourhood_cross_attention, leaves, grad, torch.float32)
    assert all(torch.equal(x, y) for x, y in zip(plain, cast, strict=True))


def test_nothing_as_large_as_a_tenth_of_the_target_is_written_besides_the_results() -> None:
    """A gathered window would be 36 times as large as the target."""
    leaves, grad = inputs(((160, 160), (20, 20), (6, 6)), (1, 1, 32, 32), dtype=torch.float32)
    q, k, v = (x.detach().requires_grad_() for x in leaves)
    with NewStorages([q, k, v], q.numel() // 10) as forward:
        out = neighbourhood_cross_attention(q, k, v)
    assert forward.count == 1
    with NewStorages([q, k, v, out, grad], q.numel() // 10) as backward:
        torch.autograd.grad(out, (q, k, v), grad)
    assert backward.count == 1


def test_a_second_derivative_raises() -> None:
    leaves, _ = inputs(((3, 3), (2, 2), (2, 2)))
    [first] = torch.autograd.grad(neighbourhood_cross_attention(*leaves).square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def grid(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize("change, sentence", [
    ({"q": grid(1, 6, 6, 8)}, r"each must be \[B, rows, columns, H, D\]"),
    ({"k": grid(1, 3, 3, 2, 4)}, "q and k in D"),
    ({"q": grid(2, 6, 6, 2, 8)}, "agree in B and H"),
    ({"v": grid(1, 3, 4, 2, 8)}, "k and v in their grid"),
    ({"q": grid(1, 0, 6, 2, 8)}, "no dimension may be empty"),
    ({"v": grid(1, 3, 3, 2, 8, dtype=torch.float64)}, "one floating dtype"),
    ({"window": (3, 0)}, r"window is \(3, 0\); it must be at least 1"),
    ({"backend": "cuda"}, "'cuda'; it must be None, 'torch' or 'triton'"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, Any], sentence: str) -> None:
    call = {"q": grid(1, 6, 6, 2, 8), "k": grid(1, 3, 3, 2, 8), "v": grid(1, 3, 3, 2, 8), **change}
    with pytest.raises(ValueError, match=sentence):
        neighbourhood_cross_attention(**call)


def test_triton_asked_for_by_name_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendError, match="neighbourhood_cross_attention cannot run on backend 'triton'"):
        neighbourhood_cross_attention(*(grid(1, 3, 3, 1, 8) for _ in range(3)), backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("ros_attn.kernels.backend.TRITON", True)
    with pytest.raises(BackendError, match="head dimension of 257"):
        neighbourhood_cross_attention(*(grid(1, 3, 3, 1, 257) for _ in range(3)), backend="triton")
