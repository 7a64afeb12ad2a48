"""Which backend runs a call of ``attend``, and why not the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ros_attn.errors import meant
from ros_attn.kernels.backend import TRITON, BackendError

NAMED = os.environ.get("ROS_ATTN_BACKEND", "")
"""The backend that the environment asks for, read when the package is imported; empty: chosen call by call."""
FEW = 64
"""Rows (queries times the query heads of a key head) up to which keys are split between programs."""


class Verdict(NamedTuple):
    ok: bool
    reason: str


@dataclass(frozen=True)
class Call:
    """What of a call decides on its backend."""

    device: str
    dtype: torch.dtype
    head_dims: tuple[int, int]
    rows: int
    """Queries times the query heads of a key head."""
    normaliser: str
    structured: bool
    """With a visibility, open kinds or lengths."""
    biased: bool
    wants_lse: bool
    wants_gradient: bool


def _sdpa(call: Call) -> Verdict:
    if call.structured or call.biased:
        return Verdict(False, "it takes neither visibility nor lengths nor a key bias")
    if call.normaliser != "softmax" or call.wants_lse:
        return Verdict(False, f"it gives softmax without LSE, not {'an LSE' if call.wants_lse else call.normaliser}")
    return Verdict(True, "dense softmax without structure: PyTorch's own is the fastest")


def _decode(call: Call) -> Verdict:
    if call.rows > FEW:
        return Verdict(False, f"it is for {FEW} rows of queries and heads at most, not {call.rows}")
    if call.wants_gradient:
        return Verdict(False, "it has no backward")
    return _triton(call)._replace(reason=_triton(call).reason or "few queries: the keys are split between programs")


def _triton(call: Call) -> Verdict:
    missing = _no_triton(call.device)
    if missing:
        return Verdict(False, missing)
    if call.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return Verdict(False, f"it takes float32, float16 and bfloat16, not {_name(call.dtype)}")
    if max(call.head_dims) > 256 or any(d % 8 for d in call.head_dims):
        return Verdict(False, f"it takes head dims that are multiples of 8 up to 256, not {call.head_dims}")
    if call.device == "cpu" and call.dtype == torch.bfloat16:
        return Verdict(False, "Triton's interpreter computes bfloat16 wrongly")
    return Verdict(True, "")


def _flex(call: Call) -> Verdict:
    if call.normaliser == "sigmoid":
        return Verdict(False, "FlexAttention has softmax only")
    if call.device == "cpu" and call.wants_gradient:
        return Verdict(False, "FlexAttention has no backward on the CPU")
    if call.dtype == torch.float64:
        return Verdict(False, "it takes float32, float16 and bfloat16, not float64")
    if call.device == "cuda" and any(d & (d - 1) or d < 16 for d in call.head_dims):
        return Verdict(False, f"it takes head dims that are powers of two from 16 on, not {call.head_dims}")
    return Verdict(True, "softmax over the same lists of tiles, through FlexAttention")


def _grouped(call: Call) -> Verdict:
    if call.device != "cpu":
        return Verdict(False, f"it runs on the CPU, not on {call.device}")
    if call.normaliser == "sigmoid":
        return Verdict(True, "plain products for each set of keys")
    return Verdict(True, "one call of flash attention for each set of keys")


def _reference(_: Call) -> Verdict:
    return Verdict(True, "plain PyTorch over every pair")


BACKENDS: dict[str, Callable[[Call], Verdict]] = {
    "sdpa": _sdpa,
    "decode": _decode,
    "triton": _triton,
    "grouped": _grouped,
    "flex": _flex,
    "reference": _reference,
}
"""In the order of preference."""


def verdicts(call: Call) -> dict[str, Verdict]:
    """Every backend: whether it can run the call, and why (not)."""
    return {name: judge(call) for name, judge in BACKENDS.items()}


def choose(call: Call, asked: str | None) -> str:
    """The backend for a call; a name that is asked for (argument, else ``ROS_ATTN_BACKEND``) is obeyed or refused.

    Raises ``BackendError`` where a backend asked for cannot run the call, ``ValueError`` for an unknown name.
    """
    named = asked or NAMED
    if named:
        if named not in BACKENDS:
            raise ValueError(
                f"attend: there is no backend {named!r}{meant(named, BACKENDS)}; there are {', '.join(BACKENDS)}"
            )
        ok, reason = BACKENDS[named](call)
        if not ok:
            where = "backend=" if asked else "ROS_ATTN_BACKEND="
            raise BackendError(f"attend: {where}{named} cannot run this call: {reason}; leave it out or take another.")
        return named
    if call.device == "cpu":
        # Triton's interpreter and compiled FlexAttention are never meant without being asked for.
        return "sdpa" if _sdpa(call).ok else "grouped"
    return next(name for name, judge in BACKENDS.items() if judge(call).ok)


def _no_triton(device: str) -> str:
    if not TRITON:
        return "Triton is not installed (pip install 'ros-attn[kernels]')"
    if device == "cuda":
        return ""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    return f"the tensors are on the {device}, and TRITON_INTERPRET=1, Triton's interpreter, is not set"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
