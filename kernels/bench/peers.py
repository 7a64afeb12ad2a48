"""What attend is timed beside. Peers get every advantage: their own layout of memory, exact lists, constants ahead.

All take q, k, v as attend does, [B, L, H, D], and their outputs lie as attend's does.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ros_attn.kernels import flex
from ros_attn.kernels.layout import dense
from ros_attn.kernels.plan import build
from ros_attn.kernels.visibility import Visibility

BLOCKS = (64, 128, 256)
ACCURATE = {"TRITON_SIGMOID_ACCURATE": "1"}
"""The environment in which triton-sigmoid takes its accurate sigmoid; read when it is imported."""


@dataclass(frozen=True, eq=False)
class Peer:
    """A forward and the tensors that it is differentiated for. ``heads_first``: these are [B, H, L, D]."""

    forward: Callable[[], Tensor]
    leaves: list[Tensor]
    heads_first: bool = False

    def backward(self, d_out: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """The backward alone, of a forward that is done once."""
        out, given = self.forward(), self._laid(d_out)
        return lambda: self._turned(torch.autograd.grad(out, self.leaves, given, retain_graph=True))

    def both(self, d_out: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """Forward and backward."""
        given = self._laid(d_out)
        return lambda: self._turned(torch.autograd.grad(self.forward(), self.leaves, given))

    def _laid(self, d_out: Tensor) -> Tensor:
        """In memory as the leaves are."""
        return d_out.transpose(1, 2).contiguous().transpose(1, 2) if self.heads_first else d_out

    def _turned(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """With the gradient of q as the output lies."""
        dq, *rest = gradients
        return (dq.transpose(1, 2) if self.heads_first else dq), *rest


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: Any = None, mask: Tensor | None = None) -> Peer:
    """PyTorch's own; ``mask`` bool [B|1, 1, Lq, Lk]; without an ``SDPBackend`` it takes the one it thinks best.

    Query heads that share a key head become further queries: not all of its backends take a mask beside grouped heads.
    The mask is made a summand ahead, which it would make of it in every call.
    """
    batch, length, heads, width = q.shape
    group = heads // k.shape[2]
    q, k, v = _heads_first(q, k, v)
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, -torch.inf)
        mask = hidden.repeat(1, 1, group, 1)

    def forward() -> Tensor:
        rows = q.reshape(batch, heads // group, group * length, width)
        if backend is None:
            out = scaled_dot_product_attention(rows, k, v, attn_mask=mask)
        else:
            with sdpa_kernel(backend):
                out = scaled_dot_product_attention(rows, k, v, attn_mask=mask)
        return out.reshape(batch, heads, length, -1).transpose(1, 2)

    return Peer(forward, [q, k, v], heads_first=True)


def flex_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Any = None, score: Any = None, bias: Tensor | None = None,
    tune: bool = False, stages: int | None = None,
) -> Peer:  # fmt: skip
    """FlexAttention, compiled on a GPU; ``mask`` and ``score`` as ``flex_lists`` makes them, ``bias`` what learns.

    ``tune``: it searches among its own configurations, as it must for a backward over blocks of 64. ``stages``: of its
    forward, where its own choice needs more shared memory than there is.
    """
    options: dict[str, int] = {} if stages is None else {"fwd_num_stages": stages}
    if mask is not None and mask.BLOCK_SIZE[0] == 64 and not tune:
        options |= {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64, "fwd_num_warps": 4, "fwd_num_stages": 3}
    call = _flex(q.is_cuda, tune)
    q, k, v = _heads_first(q, k, v)
    shared = q.shape[1] != k.shape[1]

    def forward() -> Tensor:
        out = call(q, k, v, score_mod=score, block_mask=mask, enable_gqa=shared, kernel_options=options or None)
        return out.transpose(1, 2)

    return Peer(forward, [q, k, v, *([] if bias is None else [bias])], heads_first=True)


def flex_lists(
    q: Tensor, k: Tensor, *, visibility: Visibility | None = None, lengths: Tensor | None = None,
    bias: Tensor | None = None, block: int = 128,
) -> tuple[Any, Any]:  # fmt: skip
    """The BlockMask with the exact lists of our plan for a size of blocks, and the score_mod of a key bias."""
    layout = dense(q.shape[1], k.shape[1]) if visibility is None else visibility.layout
    if bias is None:
        # Where a bias would count makes tiles partial that are full without one.
        layout = replace(layout, bias_rules=None)
    frames = (None, None) if visibility is None else (visibility.frame_q, visibility.frame_k)
    plan = build(layout, *frames, block, block, q.device, len_q=lengths, len_k=lengths, aligned=True)
    mask = flex.block_mask(layout, plan, q.shape[1], k.shape[1], block)
    return mask, None if bias is None else flex._score(layout, plan, bias)


def produced_mask(visibility: Visibility, index: Tensor, block: int) -> Any:
    """FlexAttention's BlockMask for tokens of which the i-th is that of place ``index[i]``; lists from all pairs."""
    from torch.nn.attention.flex_attention import create_block_mask

    length = index.shape[0]
    plan = build(
        visibility.layout, visibility.frame_q, visibility.frame_k, block, block, index.device, aligned=True
    )  # fmt: skip
    row = flex._rows_of_kinds(visibility.layout, index.device)[index]
    rank, lo, hi = plan.rank_q[0, index], plan.lo[0][:, index], plan.hi[0][:, index]

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (lo[row[i], j] <= rank[i]) & (hi[row[i], j] > rank[i])

    return create_block_mask(sees, None, None, length, length, device=index.device.type, BLOCK_SIZE=block)


def triton_sigmoid(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None = None) -> Peer:
    """The package triton-sigmoid; its operators are called with their constants made ahead.

    Raises ImportError where it is not installed, RuntimeError without a GPU.
    """
    importlib.import_module("triton_sigmoid")
    operators: Any = torch.ops.myops
    scale = torch.tensor(q.shape[3] ** -0.5, dtype=torch.float32, device=q.device)
    if lengths is None:
        n = torch.full((q.shape[0],), -math.log(k.shape[1]), dtype=torch.float32, device=q.device)
        return Peer(lambda: operators.sigmoid_attention_fwd(q, k, v, n, None, scale, False), [q, k, v])
    ends, n = lengths.to(torch.int32), -torch.log(lengths.float())
    return Peer(
        lambda: operators.sigmoid_attn_padded_fwd(q, k, v, ends, ends, n, None, scale, False), [q, k, v]
    )  # fmt: skip


def _heads_first(*tensors: Tensor) -> list[Tensor]:
    """[B, L, H, D] -> [B, H, L, D] in memory too."""
    return [x.detach().transpose(1, 2).contiguous().requires_grad_(x.requires_grad) for x in tensors]


@lru_cache(maxsize=4)
def _flex(compiled: bool, tune: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    if not compiled:
        return flex_attention
    import torch._dynamo
    import torch._functorch.config

    # One compilation a row: past the usual limit of 8 it would quietly fall back to arrays of Lq x Lk.
    torch._dynamo.config.recompile_limit = 512
    torch._dynamo.config.accumulated_recompile_limit = 4096
    # A backward that is timed alone runs again and again over one forward.
    torch._functorch.config.donated_buffer = False
    return torch.compile(
        flex_attention, dynamic=False, fullgraph=True, options={"max_autotune": True} if tune else None
    )
