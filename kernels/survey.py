"""Which backend each operation would take here, and why: the kernels' part of ``ros-attn doctor``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ros_attn.kernels.backend import BackendError, choose_backend
from ros_attn.kernels.dispatch import BACKENDS, NAMED, Call, choose
from ros_attn.kernels.gated_delta import choose_gated_delta


@dataclass(frozen=True)
class Choice:
    operation: str
    device: str
    backend: str
    why: str


def survey() -> list[Choice]:
    """A line an operation, for the CPU and, where there is one, the GPU; a half-precision call on the latter."""
    choices = []
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        for name, call in _calls(device, dtype).items():
            try:
                backend = choose(call, None)
                why = BACKENDS[backend](call).reason or "our kernels, from the plan's tile lists"
            except (BackendError, ValueError) as error:
                backend, why = NAMED, str(error)
            choices.append(Choice(f"attend, {name}", device, backend, why))
        x = torch.empty(1, 128, 2, 64, device=device, dtype=dtype)
        choices.append(Choice("gated_delta", device, *choose_gated_delta(None, x, x)))
        for name in ("channel_attention", "neighbourhood_cross_attention"):
            backend = choose_backend(name, None, x)
            choices.append(Choice(name, device, backend, _triton_or_not(device, backend)))
        choices.append(Choice("kernel_ridge", device, "torch", "plain PyTorch is all there is"))
    return choices


def lines() -> list[str]:
    """The survey as a table of text."""
    rows = [("operation", "device", "backend", "why"), *((c.operation, c.device, c.backend, c.why) for c in survey())]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + " " + row[3] for row in rows
    ]


def _calls(device: str, dtype: torch.dtype) -> dict[str, Call]:
    dense = Call(
        device, dtype, (64, 64), rows=2048, normaliser="softmax", structured=False, biased=False,
        wants_lse=False, wants_gradient=True,
    )  # fmt: skip
    structured = replace(dense, structured=True)
    return {
        "dense": dense,
        "with visibility": structured,
        "with a key bias": replace(dense, biased=True),
        "sigmoid": replace(dense, normaliser="sigmoid"),
        "few queries": replace(structured, rows=8, wants_gradient=False),
    }


def _triton_or_not(device: str, backend: str) -> str:
    if backend == "triton":
        return "a CUDA device and Triton are there"
    return "the tensors are on the CPU" if device == "cpu" else "Triton is not installed"
