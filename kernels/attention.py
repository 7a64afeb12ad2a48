"""The one attention call of the suite."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ros_attn.errors import meant
from ros_attn.kernels.dispatch import Call, choose
from ros_attn.kernels.geometry import Geometry
from ros_attn.kernels.layout import dense
from ros_attn.kernels.operators import attend_op
from ros_attn.kernels.reference import attend_reference
from ros_attn.kernels.visibility import Visibility

NORMALISERS = ("softmax", "softmax1", "sigmoid")


@overload
def attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, visibility: Visibility | None = None,
    key_bias: Tensor | None = None, open: Tensor | None = None, len_q: Tensor | None = None,
    len_k: Tensor | None = None, normaliser: str = "softmax", geometry: Geometry | None = None,
    return_lse: Literal[False] = False, backend: str | None = None,
) -> Tensor: ...  # fmt: skip


@overload
def attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, visibility: Visibility | None = None,
    key_bias: Tensor | None = None, open: Tensor | None = None, len_q: Tensor | None = None,
    len_k: Tensor | None = None, normaliser: str = "softmax", geometry: Geometry | None = None,
    return_lse: Literal[True], backend: str | None = None,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, visibility: Visibility | None = None,
    key_bias: Tensor | None = None, open: Tensor | None = None, len_q: Tensor | None = None,
    len_k: Tensor | None = None, normaliser: str = "softmax", geometry: Geometry | None = None,
    return_lse: bool = False, backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """Attention in which who sees whom, how strongly and from where is data.

    ``s_ij = scale <q_i', k_j'> + bias_on_ij key_bias_j`` over the keys j that query i sees, then

    - ``softmax``:  ``p_ij = exp(s_ij) / sum_j exp(s_ij)``
    - ``softmax1``: ``p_ij = exp(s_ij) / (1 + sum_j exp(s_ij))``
    - ``sigmoid``:  ``p_ij = sigmoid(s_ij - log n_i)``, n_i the number of keys that query i sees

    and ``out_i = sum_j p_ij v_j'``. A query that sees nothing has output 0, LSE -inf and gradients 0.

    Shapes: q ``[B, Lq, H, D]``, k ``[B, Lk, Hkv, D]``, v ``[B, Lk, Hkv, Dv]``, H a multiple of Hkv; any strides.
    ``key_bias [B, 1|H, Lk]``, which may hold -inf; ``open [B, G]`` bool, columns as ``visibility.kinds``: False closes
    a kind for a sample; ``len_q, len_k [B]`` integers: what lies beyond is neither seen nor sees. ``scale`` defaults
    to ``D ** -0.5``. Returns out ``[B, Lq, H, Dv]`` and, with ``return_lse``, ``log sum_j exp(s_ij)`` as
    ``[B, Lq, H]`` in float32, with its gradient.

    ``geometry`` rotates q and k (PRoPE also v and out) before the scores; see ``Geometry``. ``backend`` (or the
    environment's ``ROS_ATTN_BACKEND``) names one of ``dispatch.BACKENDS``, which then runs the call or refuses it.

    A key that a sample's queries cannot see should hold finite numbers on a GPU: its product with a probability of 0
    is computed. On the CPU it is not read.

    Raises ``ValueError`` for shapes and types that do not fit, ``BackendError`` for a named backend that cannot run.

    Source: ours; what the papers of the suite share (Tactile-WAM 2606.26663, MemoryWAM 2606.20562, PAIWorld
    2606.18375, TritonSigmoid 2604.27124, VGTW 2606.22787, ADM-Fusion 2606.25111). TritonSigmoid's n is the length of
    the sequence; here it is counted query by query.
    """
    kind = q.device.type
    if torch.is_autocast_enabled(kind):
        q, k, v = (x.to(torch.get_autocast_dtype(kind)) for x in (q, k, v))
    _check(q, k, v, visibility, key_bias, open, len_q, len_k, normaliser, return_lse)
    if geometry is not None:
        q, k, v = geometry.rotate_q(q), geometry.rotate_k(k), geometry.rotate_v(v)
    factor = q.shape[3] ** -0.5 if scale is None else float(scale)
    structured = visibility is not None or open is not None or len_q is not None or len_k is not None
    wants_gradient = torch.is_grad_enabled() and (
        q.requires_grad or k.requires_grad or v.requires_grad or (key_bias is not None and key_bias.requires_grad)
    )
    call = Call(
        kind, q.dtype, (q.shape[3], v.shape[3]), q.shape[1] * (q.shape[2] // k.shape[2]), normaliser, structured,
        key_bias is not None, return_lse, wants_gradient,
    )  # fmt: skip
    # Exporters take operators of PyTorch's own only.
    chosen = choose(call, backend or ("reference" if torch.compiler.is_exporting() else None))

    frames = (None, None) if visibility is None else (visibility.frame_q, visibility.frame_k)
    lse: Tensor | None = None
    if chosen == "sdpa":
        out = scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=factor, enable_gqa=q.shape[2] != k.shape[2]
        ).transpose(1, 2)
    elif chosen == "reference":
        layout = dense(q.shape[1], k.shape[1]) if visibility is None else visibility.layout
        out, lse = attend_reference(
            q, k, v, key_bias, layout=layout, frame_q=frames[0], frame_k=frames[1], open=open, len_q=len_q,
            len_k=len_k, normaliser=normaliser, scale=factor,
        )  # fmt: skip
    elif chosen == "flex":
        from ros_attn.kernels.flex import attend_flex

        layout = dense(q.shape[1], k.shape[1]) if visibility is None else visibility.layout
        out, lse = attend_flex(
            q, k, v, key_bias, layout=layout, frame_q=frames[0], frame_k=frames[1], open=open, len_q=len_q,
            len_k=len_k, scale=factor,
        )  # fmt: skip
    else:
        encoded = dense(q.shape[1], k.shape[1]).encode() if visibility is None else visibility.encoded
        out, lse = attend_op(
            q, k, v, key_bias, open, len_q, len_k, *frames, list(encoded),
            "sigmoid" if normaliser == "sigmoid" else "softmax", factor, chosen,
        )  # fmt: skip
    if normaliser == "softmax1" and chosen != "reference":
        assert lse is not None
        out = (out * torch.sigmoid(lse)[..., None]).to(v.dtype)
    if geometry is not None:
        out = geometry.restore(out)
    if not return_lse:
        return out
    assert lse is not None
    return out, lse


def _check(
    q: Tensor, k: Tensor, v: Tensor, visibility: Visibility | None, key_bias: Tensor | None, open: Tensor | None,
    len_q: Tensor | None, len_k: Tensor | None, normaliser: str, return_lse: bool,
) -> None:  # fmt: skip
    if normaliser not in NORMALISERS:
        raise ValueError(
            f"attend: there is no normaliser {normaliser!r}{meant(normaliser, NORMALISERS)}; "
            f"there are {', '.join(NORMALISERS)}"
        )
    if normaliser == "sigmoid" and return_lse:
        raise ValueError("attend: sigmoid has no LSE; leave return_lse out or take softmax")
    if any(x.dim() != 4 for x in (q, k, v)):
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in (("q", q), ("k", k), ("v", v)))
        raise ValueError(f"attend: q, k and v are [B, L, H, D], but here {shapes}")
    if q.dtype != k.dtype or q.dtype != v.dtype:
        raise ValueError(f"attend: q, k and v are of one dtype, but here {q.dtype}, {k.dtype}, {v.dtype}")
    batch, length_q, heads, width = q.shape
    length_k, shared = k.shape[1], k.shape[2]
    if k.shape[0] != batch or k.shape[3] != width or v.shape[:3] != k.shape[:3]:
        raise ValueError(
            f"attend: k must be [{batch}, Lk, Hkv, {width}] and v [{batch}, Lk, Hkv, Dv] beside q {list(q.shape)}, "
            f"but they are {list(k.shape)} and {list(v.shape)}"
        )
    if shared == 0 or heads % shared:
        raise ValueError(f"attend: {heads} query heads cannot share {shared} key heads evenly")
    if visibility is not None:
        if visibility.length_q != length_q or visibility.length_k != length_k:
            raise ValueError(
                f"attend: the visibility is for {visibility.length_q} queries and {visibility.length_k} keys, "
                f"but q has {length_q} and k {length_k}"
            )
        for name, frame in (("frame_q", visibility.frame_q), ("frame_k", visibility.frame_k)):
            if frame is not None and frame.device != q.device:
                raise ValueError(
                    f"attend: visibility.{name} is on {frame.device} and q on {q.device}; take visibility.to(q.device)"
                )
            if frame is not None and frame.shape[0] not in (1, batch):
                raise ValueError(f"attend: visibility.{name} has {frame.shape[0]} samples, but q {batch}")
    if key_bias is not None and (
        key_bias.dim() != 3 or key_bias.shape[0] != batch or key_bias.shape[2] != length_k
        or key_bias.shape[1] not in (1, heads)
    ):  # fmt: skip
        raise ValueError(
            f"attend: key_bias is [{batch}, 1 or {heads}, {length_k}] (samples, heads, keys), "
            f"but here {list(key_bias.shape)}"
        )
    if open is not None:
        kinds = 1 if visibility is None else len(visibility.kinds)
        if open.dtype != torch.bool or open.shape != (batch, kinds):
            names = "" if visibility is None else f" ({', '.join(visibility.kinds)})"
            raise ValueError(
                f"attend: open is bool [{batch}, {kinds}], samples by kinds{names}, "
                f"but here {open.dtype} {list(open.shape)}"
            )
    for name, lengths in (("len_q", len_q), ("len_k", len_k)):
        if lengths is not None and (lengths.shape != (batch,) or lengths.dtype not in (torch.int32, torch.int64)):
            raise ValueError(f"attend: {name} is integers [{batch}], but here {lengths.dtype} {list(lengths.shape)}")
    for name, x in (("k", k), ("v", v), ("key_bias", key_bias), ("open", open), ("len_q", len_q), ("len_k", len_k)):
        if x is not None and x.device != q.device:
            raise ValueError(f"attend: {name} is on {x.device}, but q on {q.device}")
