"""``attend`` as operators of ``torch.library``: opaque to torch.compile, with their gradients registered.

The layout travels as a list of integers (``Layout.encode``), frames and lengths as tensors, so that plans and groups
are looked up when the operator runs, from the frames as they are then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.layout import Layout

_OPTIONS = ("open", "len_q", "len_k", "frame_q", "frame_k")


def _module(backend: str) -> Any:
    if backend == "grouped":
        from ros_attn.kernels import grouped

        return grouped
    from ros_attn.kernels import attend_triton

    return attend_triton


def _norm_dtype(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


@torch.library.custom_op("ros_attn::attend", mutates_args=())
def attend_op(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, open: Tensor | None, len_q: Tensor | None,
    len_k: Tensor | None, frame_q: Tensor | None, frame_k: Tensor | None, layout: Sequence[int], normaliser: str,
    scale: float, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out, lse`` of one backend; ``lse`` is empty for sigmoid."""
    call = {
        "layout": Layout.decode(layout), "frame_q": frame_q, "frame_k": frame_k, "open": open, "len_q": len_q,
        "len_k": len_k, "normaliser": normaliser, "scale": scale,
    }  # fmt: skip
    if backend == "decode":
        from ros_attn.kernels.decode_triton import decode

        return decode(q, k, v, key_bias, **call)
    return _module(backend).forward(q, k, v, key_bias, **call)


@attend_op.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, open: Tensor | None, len_q: Tensor | None,
    len_k: Tensor | None, frame_q: Tensor | None, frame_k: Tensor | None, layout: Sequence[int], normaliser: str,
    scale: float, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    shape = [0] if normaliser == "sigmoid" else list(q.shape[:3])
    return q.new_empty(*q.shape[:3], v.shape[3]), q.new_empty(shape, dtype=_norm_dtype(q))


@torch.library.custom_op("ros_attn::attend_backward", mutates_args=())
def attend_backward_op(
    d_out: Tensor, d_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_bias: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None,
    frame_q: Tensor | None, frame_k: Tensor | None, layout: Sequence[int], normaliser: str, scale: float,
    backend: str, bias_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v and the key bias; the last one is empty unless asked for."""
    dq, dk, dv, d_bias = _module(backend).backward(
        d_out, d_lse, q, k, v, out, lse, key_bias, layout=Layout.decode(layout), frame_q=frame_q, frame_k=frame_k,
        open=open, len_q=len_q, len_k=len_k, normaliser=normaliser, scale=scale, key_bias_grad=bias_gradient,
    )  # fmt: skip
    return dq, dk, dv, q.new_empty(0) if d_bias is None else d_bias


@attend_backward_op.register_fake
def _(
    d_out: Tensor, d_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_bias: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None,
    frame_q: Tensor | None, frame_k: Tensor | None, layout: Sequence[int], normaliser: str, scale: float,
    backend: str, bias_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    d_bias = key_bias.new_empty(key_bias.shape) if bias_gradient and key_bias is not None else q.new_empty(0)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), d_bias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, key_bias, *options, layout, normaliser, scale, backend = inputs
    ctx.save_for_backward(q, k, v, *output, key_bias, *options)
    ctx.static = list(layout), normaliser, scale, backend
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, d_out: Tensor | None, d_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, key_bias, *options = ctx.saved_tensors
    layout, normaliser, scale, backend = ctx.static
    bias_gradient = key_bias is not None and ctx.needs_input_grad[3]
    if d_out is None:
        d_out = torch.zeros_like(out)
    # The empty LSE of sigmoid may come back with an empty gradient.
    d_lse = None if normaliser == "sigmoid" else d_lse
    dq, dk, dv, d_bias = attend_backward_op(
        d_out, d_lse, q, k, v, out, lse, key_bias, *options, layout, normaliser, scale, backend, bias_gradient
    )
    return dq, dk, dv, d_bias if bias_gradient else None, *(None,) * (len(_OPTIONS) + 4)


attend_op.register_autograd(_backward, setup_context=_setup)
