"""Which implementation runs a call: plain PyTorch everywhere, Triton where it can."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

import torch

from ros_attn.errors import RosAttnError

TRITON = find_spec("triton") is not None
"""Looked up once: torch.compile cannot trace the search."""


class BackendError(RosAttnError):
    """An implementation asked for by name that cannot run the call."""


def choose_backend(
    operation: str, asked: str | None, tensor: torch.Tensor, unsupported: str | None = None
) -> Literal["torch", "triton"]:
    """The implementation for a call whose inputs are like ``tensor``.

    ``asked`` None: Triton for CUDA tensors where it can run the call, else PyTorch. A name is obeyed or refused, never
    replaced. ``unsupported`` says what of the call Triton's kernels do not cover, as a clause, or is None. On CPU
    tensors Triton runs only through its interpreter (``TRITON_INTERPRET=1`` before Triton is first imported).

    Raises ValueError for an unknown name and BackendError for ``"triton"`` where it cannot run.
    """
    if asked not in (None, "torch", "triton"):
        raise ValueError(f"{operation}: backend is {asked!r}; it must be None, 'torch' or 'triton'")
    if asked == "torch" or (asked is None and not tensor.is_cuda):
        return "torch"
    reason = _triton_cannot(tensor) or unsupported
    if reason is None:
        return "triton"
    if asked is None:
        return "torch"
    raise BackendError(f"{operation} cannot run on backend 'triton': {reason}; use backend='torch' or leave it out")


def _triton_cannot(tensor: torch.Tensor) -> str | None:
    if not TRITON:
        return "Triton is not installed"
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"its kernels take float32, float16 and bfloat16, not {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.is_cuda:
        return None
    if os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on {tensor.device.type!r} and TRITON_INTERPRET=1, its interpreter, is not set"
    # Seen with Triton 3.6 and 3.9: sums of bfloat16 products come out wrong without a word.
    return "Triton's interpreter computes bfloat16 wrongly" if tensor.dtype == torch.bfloat16 else None
