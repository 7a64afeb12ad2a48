"""The CPU rows: attend beside ``scaled_dot_product_attention`` with a mask, in one run, in turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench.patterns import Pattern, causal, interleaved_kinds, memory_wam, sorted_kinds, tactile_wam
from ros_attn.kernels.bench.timing import in_turns, ratio

LENGTH, HEADS, WIDTH = 2048, 8, 64
# What is asked of the ratios: forward, forward + backward.
BARS = {
    "sorted kinds, 1/4 visible": (0.30, 0.36),
    "interleaved kinds, 1/4 visible": (0.38, None),
    "MemoryWAM, 16 frames": (0.42, 0.65),
    "learned key bias, dense": (None, 0.75),
}
ALLOWED_ERROR = 2e-5


def patterns() -> list[Pattern]:
    return [
        sorted_kinds(LENGTH), interleaved_kinds(LENGTH), memory_wam(LENGTH // 128), tactile_wam(LENGTH), causal(LENGTH),
    ]  # fmt: skip


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    """A row a pattern, then the learned key bias and the time of the import.

    A row whose outputs or gradients differ from PyTorch's by more than ``ALLOWED_ERROR`` has no times.
    """
    torch.manual_seed(0)
    tensors = [torch.randn(1, LENGTH, HEADS, WIDTH) for _ in range(4)]
    for pattern in patterns():
        yield _pattern_row(pattern, tensors, rounds)
    yield _bias_row(tensors, rounds)
    yield _import_row()


def _pattern_row(pattern: Pattern, tensors: list[Tensor], rounds: int) -> dict[str, Any]:
    mask = pattern.mask()
    visibility, order = pattern.visibility, pattern.order

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if order is None:
            return attend(q, k, v, visibility=visibility)
        q, k, v = (x.index_select(1, order.index) for x in (q, k, v))
        return attend(q, k, v, visibility=visibility).index_select(1, order.inverse)

    def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

    row = {"name": pattern.name, "visible_share": float(mask.float().mean())}
    return row | _compared(pattern.name, [ours, masked], tensors, rounds)


def _bias_row(tensors: list[Tensor], rounds: int) -> dict[str, Any]:
    """A bias per key that learns: PyTorch's takes it as a mask with a gradient, of Lq x Lk."""

    def ours(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return attend(q, k, v, key_bias=bias)

    def masked(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mask = bias[:, :, None, :].expand(-1, -1, q.shape[2], -1)
        return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

    name = "learned key bias, dense"
    *inputs, d_out = tensors
    return {"name": name, "visible_share": 1.0} | _compared(
        name, [ours, masked], [*inputs, torch.randn(1, 1, LENGTH), d_out], rounds
    )


def _compared(name: str, functions: list[Callable[..., Tensor]], tensors: list[Tensor], rounds: int) -> dict[str, Any]:
    *inputs, d_out = tensors

    def both(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = function(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, d_out)]

    answers = [both(function) for function in functions]
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*answers, strict=True))
    row: dict[str, Any] = {"relative_error": error, "correct": error <= ALLOWED_ERROR}
    if not row["correct"]:
        return row
    for way, bar, timed in (
        ("forward", BARS.get(name, (None, None))[0], [_quiet(f, inputs) for f in functions]),
        ("forward_backward", BARS.get(name, (None, None))[1], [lambda f=f: both(f) for f in functions]),
    ):
        ours, theirs = in_turns(timed, rounds)
        row[way] = {"ours": ours.row(), "sdpa_masked": theirs.row(), "ratio": ratio(ours, theirs), "bar": bar}
    return row


def _quiet(function: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad():
            return function(*inputs)

    return run


def _import_row() -> dict[str, Any]:
    """Seconds that ``from ros_attn.kernels import attend`` takes once torch is there, and whether Triton came along."""
    code = (
        "import torch, time, sys; t = time.perf_counter(); from ros_attn.kernels import attend; "
        "print(time.perf_counter() - t, 'triton' in sys.modules)"
    )
    results = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "123"]
    seconds = sorted(float(each.stdout.split()[0]) for each in results)
    triton = any(each.stdout.split()[1] == "True" for each in results)
    return {"name": "import after torch", "seconds": seconds[1], "bar": 1.5, "triton_imported": triton}
