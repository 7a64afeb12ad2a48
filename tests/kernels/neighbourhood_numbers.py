"""Neighbourhood attention's Triton kernels in numbers: a program, since TRITON_INTERPRET must be set before the import.

``python -m tests.kernels.neighbourhood_numbers OUT.json`` writes ``{name: {quantity: number}}``, as ``numbers`` gives
them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ros_attn.kernels.neighbourhood import neighbourhood_cross_attention
from tests.kernels import map_kernels
from tests.kernels.map_kernels import DTYPES, Numbers
from tests.kernels.neighbourhood_formula import Case, errors, formula, inputs, results

# Targets, sources, window; B, H, D, Dv.
CASES: dict[str, tuple[Case, tuple[int, int, int, int]]] = {
    "one cell": (((1, 1), (1, 1), (6, 6)), (1, 1, 8, 8)),
    "ratio 1": (((5, 9), (5, 9), (3, 4)), (2, 1, 8, 20)),
    "ratio 2, as images": (((14, 10), (7, 5), (4, 3)), (1, 2, 20, 8)),
    "ratio 2.5, in parts": (((20, 15), (8, 6), (6, 6)), (1, 1, 8, 8)),
    "ratio 3.3, few sources": (((23, 10), (7, 3), (6, 6)), (1, 1, 8, 6)),
    "downsampling": (((4, 3), (19, 11), (6, 5)), (1, 1, 8, 8)),
    "wide heads": (((5, 3), (3, 5), (2, 3)), (1, 1, 130, 70)),
    "scores of hundreds": (((5, 9), (5, 9), (3, 4)), (1, 1, 8, 8)),
}
QUANTITIES = ("out", "dq", "dk", "dv")


def image(grid: Tensor) -> Tensor:
    """The same values as an image [B, H, D, rows, columns] holds them."""
    return grid.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)


def before_nan(grid: Tensor) -> Tensor:
    """The same grids, followed by one of NaN that is not to be read."""
    return torch.cat([grid, torch.full_like(grid[:1], math.nan)])[:-1]


def numbers(device: str, dtypes: list[str]) -> Numbers:
    """Errors against the formula in float64; in half precision and of large scores the plain formula's as well."""
    return {f"{name}, {each}": _case(name, DTYPES[each], device) for name in CASES for each in dtypes}


def _case(name: str, dtype: torch.dtype, device: str) -> dict[str, float]:
    case, dims = CASES[name]
    window = case[2]

    def plainly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return formula(q, k, v, window)

    def by_triton(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if "images" not in name:
            q, k, v = (before_nan(x) for x in (q, k, v))
            return neighbourhood_cross_attention(q, k, v, window=window, backend="triton")
        out = neighbourhood_cross_attention(image(q), image(k), image(v), window=window, backend="triton")
        # The gradient comes back as an image as well.
        out.register_hook(image)
        return out

    leaves, grad = inputs(case, dims, dtype=dtype)
    large = "hundreds" in name
    if large:
        leaves[0] = (64 * leaves[0].detach()).requires_grad_()
    exact = results(plainly, leaves, grad, torch.float64)
    ours = results(by_triton, leaves, grad, dtype, device)
    measured: dict[str, float] = dict(zip(QUANTITIES, errors(ours, exact), strict=True))
    if dtype != torch.float32 or large:
        plain = errors(results(plainly, leaves, grad, dtype, device), exact)
        measured |= {f"plain {quantity}": error for quantity, error in zip(QUANTITIES, plain, strict=True)}
    if "parts" in name:
        again = results(by_triton, leaves, grad, dtype, device)
        measured["differing"] = sum(int((x != y).sum()) for x, y in zip(ours, again, strict=True))
    return measured


def measure(name: str) -> dict[str, float]:
    return map_kernels.measure(_case, name)


if __name__ == "__main__":
    map_kernels.write(_case, CASES)
