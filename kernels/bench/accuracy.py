"""How far outputs are from the formula in fp64, and how far plain PyTorch in the same precision is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ros_attn.kernels.intervals import close, intervals, kind_of
from ros_attn.kernels.layout import Layout, dense
from ros_attn.kernels.visibility import Visibility

QUERIES = 256
"""How many of a long sequence are looked at: their rows are exact, drawn with a fixed seed."""


class Parts(tuple[Tensor, ...]):
    """The outputs of each sample by itself, [1, its length, H, Dv]."""


class Sample:
    """Some queries of a call of ``attend``: their outputs in fp64 and as plain PyTorch gives them in the tensors' type.

    With ``d_out [B, Lq, H, Dv]`` their gradients instead. Shapes as in ``attend``, without a bias rule. Plain means:
    products in the type, the normaliser in fp32.
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, *, normaliser: str, visibility: Visibility | None = None,
        lengths: Tensor | None = None, d_out: Tensor | None = None,
    ) -> None:  # fmt: skip
        self._length = length = q.shape[1]
        chosen = torch.randperm(length, generator=torch.Generator().manual_seed(0))[: min(QUERIES, length)]
        self.index = chosen.to(q.device)
        layout = dense(length, k.shape[1]) if visibility is None else visibility.layout
        frame_q, frame_k = (None, None) if visibility is None else (visibility.frame_q, visibility.frame_k)
        seen = _seen(layout, frame_q, frame_k, lengths, self.index)

        def rows(dtype: torch.dtype) -> Tensor:
            found = []
            for b in range(q.shape[0]):
                few = q[b, self.index].to(dtype).requires_grad_(d_out is not None)
                out = _rows(few, k[b].to(dtype), v[b].to(dtype), normaliser, seen[b % seen.shape[0]])
                if d_out is not None:
                    [out] = torch.autograd.grad(out, few, d_out[b, self.index].to(dtype))
                found.append(out)
            return torch.stack(found)

        self.exact, self.plain = rows(torch.float64), rows(q.dtype)

    def error(self, found: Tensor | tuple[Tensor, ...]) -> float:
        """The largest error of an output or gradient [B, Lq, H, Dv] over the largest exact value.

        Of several tensors the first; of ``Parts`` all.
        """
        if isinstance(found, Parts):
            found = torch.cat([pad(x, (0, 0, 0, 0, 0, self._length - x.shape[1])) for x in found])
        elif isinstance(found, tuple):
            found = found[0]
        return self._distance(found[:, self.index])

    @property
    def plain_error(self) -> float:
        return self._distance(self.plain)

    def _distance(self, found: Tensor) -> float:
        return float(
            (found.detach().double() - self.exact).abs().nan_to_num(torch.inf, torch.inf).max() / self.exact.abs().max()
        )


def _seen(
    layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, lengths: Tensor | None, index: Tensor
) -> Tensor:
    """bool [B|1, Q, Lk]: the keys that the queries ``index`` see; no array of Lq x Lk, which is gigabytes at 16k."""
    device = index.device
    lo, hi = close(*intervals(layout, frame_k, device=device), layout, None, lengths)
    rows = tuple((row, count) for row, (_, count) in enumerate(layout.runs_q))
    row = kind_of(rows, device)[index]
    frame = torch.zeros(1, layout.length_q, dtype=torch.int32, device=device) if frame_q is None else frame_q
    t = frame[:, index, None]
    seen = (lo[:, row] <= t) & (hi[:, row] > t)
    return seen if lengths is None else seen & (index[None, :] < lengths[:, None])[..., None]


def _rows(q: Tensor, k: Tensor, v: Tensor, normaliser: str, seen: Tensor) -> Tensor:
    """[Q, H, Dv] of some queries [Q, H, D] of one sample; k [Lk, Hkv, D], seen [Q, Lk]."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    outs = []
    for h in range(q.shape[1]):
        g = h * k.shape[1] // q.shape[1]
        s = (q[:, h] @ k[:, g].T).to(wide) * q.shape[2] ** -0.5
        s = s.masked_fill(~seen, -torch.inf)
        n = seen.sum(-1, keepdim=True).to(wide)
        p = torch.softmax(s, -1) if normaliser == "softmax" else torch.sigmoid(s - torch.log(n))
        # A query that sees nothing: 0 / 0 in one, -inf + inf in the other.
        outs.append(torch.where(n > 0, p, 0).to(q.dtype) @ v[:, g])
    return torch.stack(outs, 1)


def bit_equal(function: Callable[[], Sequence[Tensor]], runs: int = 3) -> bool:
    """Whether runs of a function give the same bits."""
    first = function()
    return all(all(torch.equal(a, b) for a, b in zip(first, function(), strict=True)) for _ in range(runs - 1))
