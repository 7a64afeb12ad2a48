"""What the hardware's tanh costs in accuracy where it stands for a sigmoid: a table by the number of keys."""

# Kernels are written in Triton's language, which type checkers read as Python.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ros_attn.kernels.scores_triton import sigmoid_parts

LENGTHS = (1, 64, 1024, 4096, 8192, 16384, 65536)
SPREAD = 4.0
"""Scores are taken from -4 to 4 about the shift -log n."""
LOG2_E = math.log2(math.e)


@triton.jit
def sigmoid_kernel(x_ptr, ours_ptr, tanh_ptr, count, log2_e, TANH: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, at < count, 0.0)
    e, r = sigmoid_parts(x * log2_e, False)
    tl.store(ours_ptr + at, tl.where(x > 0, r, e * r), at < count)
    if TANH:
        t = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5], tl.float32, True, 1)
        tl.store(tanh_ptr + at, 0.5 + 0.5 * t, at < count)


def sigmoids(x: Tensor) -> tuple[Tensor, Tensor]:
    """The kernels' sigmoid of fp32 [n], and ``0.5 + 0.5 tanh.approx(x / 2)``; the latter NaN without a GPU."""
    ours, tanh = torch.empty_like(x), torch.full_like(x, math.nan)
    sigmoid_kernel[(triton.cdiv(x.numel(), 1024),)](
        x, ours, tanh, x.numel(), LOG2_E, TANH=x.is_cuda, BLOCK=1024
    )  # fmt: skip
    return ours, tanh


def table(device: torch.device, points: int = 2**20) -> list[dict[str, float]]:
    """By n: the largest relative error of both, and the mean error of tanh's over the mean weight.

    The largest is that of one weight. The mean does not average out: it scales the whole output.
    """
    rows = []
    for n in LENGTHS:
        x = torch.linspace(-SPREAD, SPREAD, points, device=device) - math.log(n)
        exact = torch.sigmoid(x.double())
        ours, tanh = sigmoids(x)
        row: dict[str, float] = {"n": n}
        for name, found in (("polynomial", ours), ("tanh.approx", tanh)):
            if bool(found.isnan().any()):
                continue
            off = found.double() - exact
            row[f"{name}, largest"] = float((off / exact).abs().max())
            row[f"{name}, mean"] = float(off.mean().abs() / exact.mean())
        rows.append(row)
    return rows
