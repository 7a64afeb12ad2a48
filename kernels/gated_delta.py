"""The gated delta rule: a memory of constant size that overwrites what it holds under a key, and forgets."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ros_attn.kernels import gated_delta_fla
from ros_attn.kernels.backend import BackendError

_BACKENDS = ("fla", "chunked", "recurrent")
# Keys shorter than this are divided by it instead of by their norm: a zero key stays zero and writes nothing, and no
# gradient is multiplied by more than 1000.
_SHORTEST = 1e-3


def unit_norm(x: Tensor) -> Tensor:
    """``x / max(|x|, 1e-3)`` over the last dimension, in float32 (float64 for float64).

    Of norm 1 wherever ``|x| >= 1e-3``; shorter vectors, zero among them, keep their ratio to that length. The gradient
    is that of this function everywhere but on the sphere ``|x| = 1e-3``: ``1000 g`` within, ``(g - u <u, g>) / |x|``
    without, u being the result.
    """
    x = x.to(_wide(x.dtype))
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(_SHORTEST)


def gated_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_gamma: Tensor,
    *,
    state: Tensor | None = None,
    scale: float = 1.0,
    length: Tensor | None = None,
    chunk: int = 64,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Write every position into a memory M, then read it there; cost linear in N, the state of constant size.

    With ``u_t = unit_norm(k_t)`` and ``gamma_t = exp(log_gamma_t)``, per sample and head::

        M_t   = gamma_t M_{t-1} (I - beta_t u_t u_t^T) + beta_t v_t u_t^T
        out_t = scale M_t q_t

    Writing under a key first takes away what M holds under it (all of it for beta 1), so reading ``q = u`` right after
    a write with beta 1 gives v. **Unit-norm keys are mandatory**: ``I - beta u u^T`` then contracts for every beta in
    [0, 1], while a key of norm c has the factor ``1 - beta c^2``, which grows without bound over a sequence. So the
    call normalises k itself, always. q is **not** normalised; models of this kind pass ``unit_norm(q)``.

    Shapes: q, k [B, N, H, D]; v [B, N, H, Dv]; beta in [0, 1] and log_gamma <= 0 [B, N, H] (-inf: all before is
    forgotten); state [B, H, Dv, D], None for zeros; out [B, N, H, Dv] in v's dtype; the state returned is float32.
    float16 and bfloat16 are computed in float32, float64 in float64, under autocast too. A sequence passed in pieces,
    each with the state of the one before, gives what it gives at once.

    ``length`` [B], integers: positions at or beyond it neither write nor decay and read 0; what they hold (NaN, say)
    is not looked at, and their gradients are 0. All floating inputs, the state included, have gradients.

    ``backend``: ``"recurrent"`` (a loop over positions: the specification), ``"chunked"`` (a loop over chunks of
    ``chunk`` positions, plain PyTorch), ``"fla"`` (Triton kernels of the package flash-linear-attention, with its own
    chunks). None: fla where it can run the call, else chunked; ``choose_gated_delta`` says which and why. A name is
    obeyed or refused, never replaced.

    Raises ValueError for shapes, dtypes or names that do not fit, BackendError where ``"fla"`` cannot run the call.

    Source: the rule and post-write read of ATMA (repository kreasof-ai/atma; unit keys and queries, scale 1), which are
    those of Gated DeltaNet (2412.06464); the chunked form is the WY representation of DeltaNet (2406.06484). Deviates:
    scale is 1 and not ``D ** -0.5``, and ``unit_norm`` is exact above 1e-3 instead of adding 1e-6 to the square.
    """
    _check(q, k, v, beta, log_gamma, state, length)
    name, _ = choose_gated_delta(backend, q, v)
    if name == "recurrent":
        return gated_delta_recurrent(q, k, v, beta, log_gamma, state=state, scale=scale, length=length)
    if name == "chunked":
        return gated_delta_chunked(q, k, v, beta, log_gamma, state=state, scale=scale, length=length, chunk=chunk)
    x = _prepare(q, k, v, beta, log_gamma, state, length)
    return gated_delta_fla.run(*x, scale=scale, dtype=q.dtype)


def choose_gated_delta(asked: str | None, q: Tensor, v: Tensor) -> tuple[str, str]:
    """``(backend, why)`` for a call of ``gated_delta`` with such q and v; raises as it does."""
    if asked not in (None, *_BACKENDS):
        raise ValueError(f"gated_delta: backend is {asked!r}; it must be None or one of {', '.join(_BACKENDS)}")
    if asked in ("chunked", "recurrent"):
        return asked, "asked for by name"
    ok, reason = gated_delta_fla.usable(q, v)
    if ok:
        return "fla", reason
    if asked is None:
        return "chunked", f"fla cannot run: {reason}"
    raise BackendError(f"gated_delta cannot run on backend 'fla': {reason}; use backend='chunked' or leave it out")


def gated_delta_step(
    state: Tensor | None, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One position of ``gated_delta``: q, k [B, H, D], v [B, H, Dv], beta, log_gamma [B, H] -> out [B, H, Dv], state.

    The state [B, H, Dv, D] given is not changed. Raises ValueError as ``gated_delta`` does.
    """
    inputs = [x.unsqueeze(1) for x in (q, k, v, beta, log_gamma)]
    out, state = gated_delta_recurrent(*inputs, state=state, scale=scale)
    return out.squeeze(1), state


def gated_delta_recurrent(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, *,
    state: Tensor | None = None, scale: float = 1.0, length: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``gated_delta`` position by position: the specification of the other two."""
    _check(q, k, v, beta, log_gamma, state, length)
    x = _prepare(q, k, v, beta, log_gamma, state, length)
    memory, reads = x.state, []
    with torch.autocast(q.device.type, enabled=False):
        for t in range(q.shape[1]):
            key, query = x.k[:, t, :, :, None], x.q[:, t, :, :, None]
            memory = x.log_gamma[:, t, :, None, None].exp() * memory
            change = x.beta[:, t, :, None, None] * (x.v[:, t, :, :, None] - memory @ key)
            memory = memory + change @ key.transpose(-1, -2)
            reads.append(scale * (memory @ query).squeeze(-1))
    out = torch.stack(reads, 1) if reads else torch.zeros_like(x.v)
    return out.to(v.dtype), memory


def gated_delta_chunked(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, *,
    state: Tensor | None = None, scale: float = 1.0, length: Tensor | None = None, chunk: int = 64,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``gated_delta`` chunk by chunk.

    Within a chunk that starts from M, ``D_ij = gamma_{j+1} .. gamma_i`` for j <= i and ``g_i = gamma_1 .. gamma_i``.
    Position j adds ``w_j u_j^T``, where w solves a unit lower triangular system::

        w_i + beta_i sum_{j<i} D_ij <u_i, u_j> w_j = beta_i (v_i - g_i M u_i)
        out_i = scale (g_i M q_i + sum_{j<=i} D_ij <q_i, u_j> w_j)
        M    <- g_C M + sum_j D_Cj w_j u_j^T

    The system is solved for ``beta v`` and for ``beta g u`` in all chunks at once; only w and M go from chunk to chunk.
    """
    _check(q, k, v, beta, log_gamma, state, length)
    if chunk < 1:
        raise ValueError(f"gated_delta: chunk is {chunk}; it must be at least 1")
    n = q.shape[1]
    x = _prepare(q, k, v, beta, log_gamma, state, length)
    if n == 0:
        return v.new_zeros(v.shape), x.state
    with torch.autocast(q.device.type, enabled=False):
        size = min(chunk, n)
        queries, keys, values, betas, log_gammas = (_chunks(each, size) for each in x[:5])
        decay = _decay(log_gammas)
        since_start = log_gammas.cumsum(-1).exp().unsqueeze(-1)
        betas = betas.unsqueeze(-1)

        overlap = betas * decay * (keys @ keys.transpose(-1, -2))
        right = torch.cat((betas * values, betas * since_start * keys), -1)
        solved = torch.linalg.solve_triangular(overlap, right, upper=False, unitriangular=True)
        own, taken = solved.split((v.shape[-1], q.shape[-1]), -1)

        kept = since_start[..., -1:, :].unbind(2)
        last = (decay[..., -1, :].unsqueeze(-1) * keys).unbind(2)
        memory, memories, changes = x.state, [], []
        for c, (own_c, taken_c) in enumerate(zip(own.unbind(2), taken.unbind(2), strict=True)):
            memories.append(memory)
            changes.append(own_c - taken_c @ memory.transpose(-1, -2))
            memory = kept[c] * memory + changes[c].transpose(-1, -2) @ last[c]

        from_before = since_start * (queries @ torch.stack(memories, 2).transpose(-1, -2))
        within = (decay * (queries @ keys.transpose(-1, -2))) @ torch.stack(changes, 2)
        out = scale * (from_before + within)
    return out.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :n].to(v.dtype), memory


class _Inputs(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    log_gamma: Tensor
    state: Tensor


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, state: Tensor | None, length: Tensor | None
) -> _Inputs:
    """The inputs in the dtype of the computation, keys of unit norm, positions beyond the length without effect."""
    wide = _wide(q.dtype)
    if length is not None:
        beyond = torch.arange(q.shape[1], device=q.device) >= length.to(q.device)[:, None]
        q, k, v = (x.masked_fill(beyond[:, :, None, None], 0) for x in (q, k, v))
        beta, log_gamma = (x.masked_fill(beyond[:, :, None], 0) for x in (beta, log_gamma))
    if state is None:
        state = q.new_zeros((q.shape[0], *v.shape[2:], q.shape[-1]), dtype=wide)
    q, v, beta, log_gamma, state = (x.to(wide) for x in (q, v, beta, log_gamma, state))
    return _Inputs(q, unit_norm(k), v, beta, log_gamma, state)


def _chunks(x: Tensor, size: int) -> Tensor:
    """[B, N, H, ...] -> [B, H, chunks, size, ...], filled up with zeros: positions that do nothing."""
    x = x.movedim(2, 1)
    x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, -x.shape[2] % size))
    return x.unflatten(2, (-1, size))


def _decay(log_gamma: Tensor) -> Tensor:
    """[..., C] -> [..., C, C]: ``gamma_{j+1} .. gamma_i`` for j <= i, 0 above the diagonal.

    Each exponent is a sum of the terms it is made of. The usual difference of two cumulative sums loses the small terms
    beside a strong decay (gamma of 1e-6 over a chunk adds up to -884), and is NaN for a gamma of 0.
    """
    size = log_gamma.shape[-1]
    below = torch.ones(size, size, dtype=torch.bool, device=log_gamma.device).tril(-1)
    terms = log_gamma.unsqueeze(-1).masked_fill(~below, 0)
    return terms.cumsum(-2).masked_fill(below.T, -torch.inf).exp()


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, state: Tensor | None, length: Tensor | None
) -> None:
    if q.ndim != 4 or q.shape != k.shape:
        raise ValueError(
            f"gated_delta: q and k have shapes {list(q.shape)} and {list(k.shape)}; both must be the same [B, N, H, D]"
        )
    if v.ndim != 4 or v.shape[:3] != q.shape[:3]:
        raise ValueError(f"gated_delta: v has shape {list(v.shape)}; it must be {[*q.shape[:3], 'Dv']}")
    if not q.is_floating_point() or not (q.dtype == k.dtype == v.dtype):
        raise ValueError(f"gated_delta: q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; they must be one floating dtype")
    for name, x, shape in (
        ("beta", beta, q.shape[:3]),
        ("log_gamma", log_gamma, q.shape[:3]),
        ("state", state, (q.shape[0], *v.shape[2:], q.shape[-1])),
        ("length", length, q.shape[:1]),
    ):
        if x is not None and x.shape != tuple(shape):
            raise ValueError(f"gated_delta: {name} has shape {list(x.shape)}; it must be {list(shape)}")
    if length is not None and (length.is_floating_point() or length.dtype == torch.bool):
        raise ValueError(f"gated_delta: length is {length.dtype}; it must be integers, one a sample")
