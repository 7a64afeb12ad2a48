"""Channel attention in PyTorch: against its formula in float64, at its edges, and in what it allocates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.channel import channel_attention
from tests.kernels.allocation import NewStorages
from tests.kernels.channel_formula import SHAPES, errors, formula, inputs, results

NORMALISERS = ["softmax", "softmax1", "sigmoid"]


def attention(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, **options: Any) -> Tensor:
    return channel_attention(q, k, v, temperature=temperature, heads=len(temperature), **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_output_and_gradients_are_the_formulas(
    shape: tuple[int, ...], normaliser: str, dtype: torch.dtype, bound: float
) -> None:
    leaves, grad = inputs(shape)
    exact = results(lambda q, k, v, t: formula(q, k, v, t, normaliser), leaves, grad, torch.float64)
    found = results(lambda q, k, v, t: attention(q, k, v, t, normaliser=normaliser), leaves, grad, dtype)
    assert max(errors(found, exact)) < bound


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_worse_than_the_plain_formula_in_half(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    leaves, grad = inputs(shape, dtype=dtype)
    exact = results(formula, leaves, grad, torch.float64)
    plain = errors(results(formula, leaves, grad, dtype), exact)
    ours = errors(results(attention, leaves, grad, dtype), exact)
    # The last: one number a head, of which the plain formula's error may be nothing by luck.
    assert all(a <= b for a, b in zip(ours[:4], plain[:4], strict=True)), (ours, plain)
    assert ours[4] <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_gradcheck(normaliser: Any) -> None:
    leaves, _ = inputs((1, 6, 2, 3, 5))
    torch.autograd.gradcheck(lambda q, k, v, t: attention(q, k, v, t, normaliser=normaliser), leaves)


def test_one_pixel() -> None:
    """Each normalised channel is then +1 or -1, and no longer depends on the channel's value."""
    leaves, grad = inputs((2, 6, 2, 1, 1))
    exact = results(formula, leaves, grad, torch.float64)
    found = results(attention, leaves, grad, torch.float32)
    assert errors(found, exact)[0] < 1e-6
    assert errors(found, exact)[3] < 1e-6
    for leaf, gradient in zip(leaves[:2], found[1:3], strict=True):
        assert (leaf * gradient).abs().max() < 1e-6


def test_blank_channels_have_neither_scores_nor_gradients() -> None:
    leaves, grad = inputs((1, 6, 2, 3, 5))
    with torch.no_grad():
        leaves[0][0, 1] = 0.0
        leaves[0][0, 4] = 1e-3
        leaves[1][0, 2] = 0.0
    torch.autograd.gradcheck(lambda q, k, v, t: attention(q, k, v, t, eps=0.1), leaves)
    exact = results(lambda q, k, v, t: formula(q, k, v, t, eps=0.1), leaves, grad, torch.float64)
    found = results(lambda q, k, v, t: attention(q, k, v, t, eps=0.1), leaves, grad, torch.float64)
    for x, y in zip(found, exact, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_blank_map_gives_the_mean_of_the_values(dtype: torch.dtype) -> None:
    leaves, grad = inputs((1, 8, 2, 9, 7))
    with torch.no_grad():
        leaves[0].zero_()
    out, dq, dk, dv, dtemperature = results(attention, leaves, grad, dtype)
    values = leaves[2].detach().to(dtype).double().view(1, 2, 4, 9, 7)
    mean = values.mean(2, keepdim=True).expand(values.shape).reshape(out.shape)
    torch.testing.assert_close(out, mean, rtol=0, atol=torch.finfo(dtype).eps)
    assert not dq.any() and not dk.any() and not dtemperature.any()
    assert dv.isfinite().all() and dv.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_more_pixels_than_are_widened_at_once(dtype: torch.dtype) -> None:
    leaves, grad = inputs((2, 4, 2, 97, 101), dtype=dtype)
    exact = results(formula, leaves, grad, torch.float64)
    assert max(errors(results(attention, leaves, grad, dtype), exact)) < torch.finfo(dtype).eps


def test_products_beyond_the_range_of_float16() -> None:
    """300^2 * 851 pixels is a thousand times the largest float16."""
    leaves, grad = inputs((1, 8, 2, 37, 23), dtype=torch.float16)
    with torch.no_grad():
        for x in leaves[:2]:
            x *= 300 / x.abs().amax((2, 3), keepdim=True)
            x.copy_(x.half())
    exact = results(formula, leaves, grad, torch.float64)
    assert max(errors(results(attention, leaves, grad, torch.float16), exact)[:4]) < 1e-3


def strided(name: str, x: Tensor) -> Tensor:
    """The same values behind other strides."""
    match name:
        case "halves of a projection":
            return torch.cat([x, -x], 1).chunk(2, 1)[0]
        case "channels last":
            return x.contiguous(memory_format=torch.channels_last)
        case "transposed image":
            return x.transpose(2, 3).contiguous().transpose(2, 3)
        case _:
            return torch.stack([x, -x], -1)[..., 0]


@pytest.mark.parametrize("name", ["halves of a projection", "channels last", "transposed image", "every second"])
def test_strides_do_not_matter(name: str) -> None:
    leaves, grad = inputs((2, 12, 3, 7, 5))
    found = results(
        lambda q, k, v, t: attention(strided(name, q), strided(name, k), strided(name, v), t),
        leaves,
        grad,
        torch.float64,
    )
    exact = results(formula, leaves, grad, torch.float64)
    assert max(errors(found, exact)) < 1e-13
    q, k, v = (strided(name, x.detach()) for x in leaves[:3])
    assert attention(q, k, v, leaves[3].detach()).is_contiguous()


def test_a_gradient_without_strides() -> None:
    """As ``out.sum()`` sends it back."""
    leaves, _ = inputs((2, 12, 3, 7, 5))
    q, k, v, temperature = leaves
    [found] = torch.autograd.grad(attention(q, k, v, temperature).sum(), q)
    [exact] = torch.autograd.grad(formula(q, k, v, temperature).sum(), q)
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_twice_the_same_bits(dtype: torch.dtype) -> None:
    leaves, grad = inputs((2, 48, 4, 37, 23))
    once, again = (results(attention, leaves, grad, dtype) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_autocast_does_not_round(dtype: torch.dtype) -> None:
    leaves, grad = inputs((2, 12, 3, 7, 5))
    plain = results(attention, leaves, grad, dtype)
    with torch.autocast("cpu", torch.bfloat16):
        cast = results(attention, leaves, grad, dtype)
    assert all(torch.equal(x, y) for x, y in zip(plain, cast, strict=True))


def test_nothing_as_large_as_a_map_is_written_besides_the_results() -> None:
    # The channels of q, k, v lie within one projection, as in the model.
    projected = torch.randn(2, 3 * 16, 40, 50, requires_grad=True)
    q, k, v = (x.detach().requires_grad_() for x in projected.chunk(3, 1))
    temperature = torch.ones(4)
    with NewStorages([q, k, v], 16 * 40 * 50) as forward:
        out = attention(q, k, v, temperature)
    assert forward.count == 1
    grad = torch.randn_like(out)
    with NewStorages([q, k, v, out, grad], 16 * 40 * 50) as backward:
        torch.autograd.grad(out, (q, k, v), grad)
    assert backward.count == 3


def test_a_second_derivative_raises() -> None:
    leaves, _ = inputs((1, 4, 2, 3, 3))
    [first] = torch.autograd.grad(attention(*leaves).square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("change, sentence", [
    ({"k": torch.zeros(1, 8, 3, 4)}, r"\[1, 8, 3, 5\], \[1, 8, 3, 4\], \[1, 8, 3, 5\]; all three"),
    ({"q": torch.zeros(8, 3, 5), "k": torch.zeros(8, 3, 5), "v": torch.zeros(8, 3, 5)}, "must be the same"),
    ({"v": torch.zeros(1, 8, 3, 5).half()}, "one floating dtype"),
    ({"heads": 3, "temperature": torch.ones(3)}, "8 channels cannot be split into 3"),
    ({"temperature": torch.ones(2, 1)}, r"shape \[2, 1\]; it must be \[2\]"),
    ({"normaliser": "softmx"}, "'softmx'; it must be one of softmax, softmax1, sigmoid"),
    ({"backend": "cuda"}, "'cuda'; it must be None, 'torch' or 'triton'"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, Any], sentence: str) -> None:
    maps = {name: torch.zeros(1, 8, 3, 5) for name in "qkv"}
    call = {**maps, "temperature": torch.ones(2), "heads": 2, **change}
    with pytest.raises(ValueError, match=sentence):
        channel_attention(call.pop("q"), call.pop("k"), call.pop("v"), **call)


def test_triton_asked_for_by_name_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x = torch.zeros(1, 8, 3, 5)
    with pytest.raises(BackendError, match=r"cannot run on backend 'triton': .*; use backend='torch'"):
        attention(x, x, x, torch.ones(2), backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("ros_attn.kernels.backend.TRITON", True)
    for y, reason in ((x.double(), "not float64"), (x.bfloat16(), "computes bfloat16 wrongly")):
        with pytest.raises(BackendError, match=reason):
            attention(y, y, y, torch.ones(2), backend="triton")
    wide = torch.zeros(1, 129, 1, 1)
    with pytest.raises(BackendError, match="129 channels a head"):
        attention(wide, wide, wide, torch.ones(1), backend="triton")
    monkeypatch.setattr("ros_attn.kernels.backend.TRITON", False)
    with pytest.raises(BackendError, match="Triton is not installed"):
        attention(x, x, x, torch.ones(2), backend="triton")
