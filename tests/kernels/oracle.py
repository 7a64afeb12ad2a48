"""An independent answer in fp64, query by query from the words of the rule, and cases to ask it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.layout import ALL, NEVER, PAST, SAME, memory
from ros_attn.kernels.visibility import Visibility


def sees(rule: tuple[float, float, float], t: int, f: int) -> bool:
    ahead, recent, first = rule
    return t >= 0 and f >= 0 and f <= t + ahead and (f > t - recent or f < first)


@dataclass
class Case:
    """One call of attend, its inputs in fp64."""

    q: Tensor
    k: Tensor
    v: Tensor
    visibility: Visibility
    key_bias: Tensor | None
    normaliser: str
    scale: float
    open: Tensor | None = None
    len_q: Tensor | None = None
    len_k: Tensor | None = None
    d_out: Tensor = field(init=False)
    d_lse: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.d_out = torch.randn(*self.q.shape[:3], self.v.shape[3], dtype=self.q.dtype)
        self.d_lse = torch.randn(self.q.shape[:3], dtype=self.q.dtype)

    def leaves(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        inputs = [self.q, self.k, self.v, *([] if self.key_bias is None else [self.key_bias])]
        return [x.detach().to(dtype).requires_grad_() for x in inputs]

    def options(self) -> dict[str, Any]:
        return {
            "scale": self.scale, "visibility": self.visibility, "open": self.open, "len_q": self.len_q,
            "len_k": self.len_k, "normaliser": self.normaliser,
        }  # fmt: skip


Answer = tuple[Tensor, ...]
"""Output, LSE (not for sigmoid) and the gradients of q, k, v and the key bias; -inf of the LSE stands as -1e9."""


def collect(case: Case, leaves: list[Tensor], out: Tensor, lse: Tensor | None) -> Answer:
    """The answer of one implementation: gradients of ``<out, d_out> + <lse, d_lse>`` where the LSE is finite."""
    # Where nothing is visible, the oracle's output does not hang on its inputs.
    loss = (out * case.d_out.to(out.dtype)).sum() + 0 * leaves[0].sum()
    norms: tuple[Tensor, ...] = ()
    if lse is not None:
        some = ~torch.isneginf(lse)
        loss = loss + (torch.where(some, lse, 0) * case.d_lse.to(lse.dtype)).sum()
        norms = (torch.where(some, lse, -1e9).detach(),)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)]
    return (out.detach(), *norms, *filled)


def oracle(case: Case) -> Answer:
    leaves = case.leaves()
    q, k, v, *rest = leaves
    bias = rest[0] if rest else None
    vis = case.visibility
    kinds_q = [name for name, count in vis.kinds_q for _ in range(count)]
    kinds_k = [name for name, count in vis.kinds_k for _ in range(count)]
    rows, norms = [], []
    for b in range(q.shape[0]):
        t = [0] * len(kinds_q) if vis.frame_q is None else vis.frame_q[b % vis.frame_q.shape[0]].tolist()
        f = [0] * len(kinds_k) if vis.frame_k is None else vis.frame_k[b % vis.frame_k.shape[0]].tolist()
        for i, kind in enumerate(kinds_q):
            seen = [
                j
                for j, other in enumerate(kinds_k)
                if sees(vis.rule.get((kind, other), NEVER), t[i], f[j])
                and (case.open is None or bool(case.open[b, vis.kinds.index(other)]))
                and (case.len_k is None or j < int(case.len_k[b]))
                and (case.len_q is None or i < int(case.len_q[b]))
            ]
            on = [vis.bias_on is None or sees(vis.bias_on.get((kind, kinds_k[j]), NEVER), t[i], f[j]) for j in seen]
            for h in range(q.shape[2]):
                g = h // (q.shape[2] // k.shape[2])
                s = case.scale * (k[b, seen, g] @ q[b, i, h])
                if bias is not None:
                    s = s + torch.where(torch.tensor(on, dtype=torch.bool), bias[b, h % bias.shape[1], seen], 0)
                alive = bool(len(seen)) and not bool(torch.isneginf(s).all())
                norm = torch.logsumexp(s, 0) if alive else torch.tensor(-math.inf, dtype=q.dtype)
                if not alive:
                    rows.append(torch.zeros(v.shape[3], dtype=q.dtype))
                elif case.normaliser == "sigmoid":
                    rows.append(torch.sigmoid(s - math.log(len(seen))) @ v[b, seen, g])
                else:
                    total = norm if case.normaliser == "softmax" else torch.logaddexp(norm, torch.zeros_like(norm))
                    rows.append(torch.exp(s - total) @ v[b, seen, g])
                norms.append(norm)
    out = torch.stack(rows).view(*q.shape[:3], v.shape[3])
    lse = None if case.normaliser == "sigmoid" else torch.stack(norms).view(q.shape[:3])
    return collect(case, leaves, out, lse)


def random_case(seed: int, normaliser: str | None = None) -> Case:
    """Kinds whose boundary lies within a tile, frames out of order, empty slots, closed kinds, ragged lengths."""
    torch.manual_seed(seed)
    pick = random.Random(seed)
    batch, heads = pick.choice([1, 2, 3]), 4
    shared = pick.choice([1, 2, 4])
    width, values = pick.choice([(8, 8), (16, 8), (8, 24)])
    first, second, third = pick.choice([(9, 5, 7), (17, 1, 15), (3, 14, 6)])
    frames = pick.choice([1, 4, 30])
    kinds_q, kinds_k = (("a", first), ("b", second)), (("a", first), ("c", third))
    length_q, length_k = first + second, first + third

    def moments(length: int) -> Tensor | None:
        rows = pick.choice([0, 1, batch])
        return torch.randint(-1, frames, (rows, length), dtype=torch.int32) if rows else None

    rules = [ALL, PAST, SAME, memory(3, 2), (math.inf, 2, 1), (-1, 5, 0), (2, 1, 3)]
    visibility = Visibility(
        kinds_q, kinds_k,
        {("a", "a"): pick.choice(rules), ("a", "c"): pick.choice(rules), ("b", "a"): pick.choice(rules)},
        moments(length_q), moments(length_k),
        bias_on=pick.choice([None, {("a", "c"): SAME, ("b", "a"): ALL}, {("a", "a"): PAST}]),
    )  # fmt: skip
    bias = None
    if pick.random() < 0.7:
        bias = torch.randn(batch, pick.choice([1, heads]), length_k, dtype=torch.float64)
        bias[torch.rand_like(bias) < 0.15] = -math.inf
        if pick.random() < 0.3:
            bias[0] = -math.inf
    ragged = pick.random() < 0.4
    return Case(
        torch.randn(batch, length_q, heads, width, dtype=torch.float64),
        torch.randn(batch, length_k, shared, width, dtype=torch.float64),
        torch.randn(batch, length_k, shared, values, dtype=torch.float64),
        visibility, bias, normaliser or pick.choice(["softmax", "softmax1", "sigmoid"]),
        scale=pick.choice([width**-0.5, 1.0]),
        open=torch.rand(batch, 3) < 0.7 if pick.random() < 0.4 else None,
        len_q=torch.randint(0, length_q + 1, (batch,)) if ragged else None,
        len_k=torch.randint(0, length_k + 1, (batch,)) if ragged else None,
    )  # fmt: skip


Implementation = Callable[..., Any]


def answer(case: Case, attend: Implementation, dtype: torch.dtype = torch.float64, **options: Any) -> Answer:
    """What an implementation of attend says to a case."""
    leaves = case.leaves(dtype)
    q, k, v, *bias = leaves
    wants_lse = case.normaliser != "sigmoid"
    found = attend(q, k, v, key_bias=bias[0] if bias else None, return_lse=wants_lse, **case.options(), **options)
    out, lse = found if wants_lse else (found, None)
    return collect(case, leaves, out, lse)


def distance(one: Answer, other: Answer) -> float:
    """The largest difference; infinite where one is not a number."""
    assert len(one) == len(other)
    differences = [(a.double() - b.double()).abs().nan_to_num(math.inf) for a, b in zip(one, other, strict=True)]
    return max(float(each.max()) if each.numel() else 0.0 for each in differences)
