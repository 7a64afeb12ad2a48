"""Channel attention's Triton kernels in numbers: a program, since TRITON_INTERPRET must be set before the import.

``python -m tests.kernels.channel_numbers OUT.json`` writes ``{name: {quantity: number}}``, as ``numbers`` gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ros_attn.kernels.channel import channel_attention
from tests.kernels import map_kernels
from tests.kernels.channel_formula import errors, formula, inputs, results
from tests.kernels.map_kernels import DTYPES, Numbers

# B, C, heads, H, W: several samples and heads; several blocks of pixels in several parts; 33 and 100 channels a head.
CASES = {
    "several": (2, 12, 3, 7, 5),
    "in parts": (1, 24, 2, 37, 23),
    "33 channels": (1, 66, 2, 5, 7),
    "100 channels": (1, 100, 1, 9, 11),
    "strided": (2, 8, 2, 5, 3),
}
QUANTITIES = ("out", "dq", "dk", "dv", "dtemperature")


def attention(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    return channel_attention(q, k, v, temperature=temperature, heads=len(temperature), backend="triton")


def strided(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Half of a projection, a channels-last map, a transposed map, and a gradient that is channels-last."""
    q, _ = torch.cat([q, k], 1).chunk(2, 1)
    k = k.contiguous(memory_format=torch.channels_last)
    v = v.transpose(2, 3).contiguous().transpose(2, 3)
    out = attention(q, k, v, temperature)
    out.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
    return out


def numbers(device: str, dtypes: list[str]) -> Numbers:
    """Errors against the formula in float64, and in half precision those of the plain formula in that precision."""
    return {f"{name}, {each}": _case(name, DTYPES[each], device) for name in CASES for each in dtypes}


def _case(name: str, dtype: torch.dtype, device: str) -> dict[str, float]:
    call = strided if name == "strided" else attention
    leaves, grad = inputs(CASES[name], dtype=dtype)
    exact = results(formula, leaves, grad, torch.float64)
    ours = results(call, leaves, grad, dtype, device)
    measured: dict[str, float] = dict(zip(QUANTITIES, errors(ours, exact), strict=True))
    if dtype != torch.float32:
        plain = errors(results(formula, leaves, grad, dtype, device), exact)
        measured |= {f"plain {quantity}": error for quantity, error in zip(QUANTITIES, plain, strict=True)}
    if "parts" in name:
        again = results(call, leaves, grad, dtype, device)
        measured["differing"] = sum(int((x != y).sum()) for x, y in zip(ours, again, strict=True))
    return measured


def measure(name: str) -> dict[str, float]:
    return map_kernels.measure(_case, name)


if __name__ == "__main__":
    map_kernels.write(_case, CASES)
