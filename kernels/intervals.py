"""The visibility of every pair, and its interval form: which query frames see a key."""

from __future__ import annotations

import torch
from torch import Tensor

from ros_attn.kernels.layout import ALL, INFINITE, Layout


def kind_of(runs: tuple[tuple[int, int], ...], device: torch.device | None = None) -> Tensor:
    """The kind of every token, int64 [L]."""
    return torch.cat(
        [torch.full((count,), kind, dtype=torch.int64, device=device) for kind, count in runs]
        or [torch.empty(0, dtype=torch.int64, device=device)]
    )


def intervals(
    layout: Layout, frame_k: Tensor | None, *, bias: bool = False, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """``lo, hi [B|1, Gq, Lk]`` int32: the query frames of each query kind that see each key are ``[lo, hi)``.

    ``bias``: those for which its key bias counts. An empty slot has ``lo = hi = INFINITE``. ``lo >= 0``: a query
    whose frame is negative sees nothing.
    """
    if frame_k is None:
        frame_k = torch.zeros(1, layout.length_k, dtype=torch.int32, device=device)
    of = layout.bias_rule if bias else layout.rule
    lows, highs = [], []
    for query in layout.query_kinds:
        low, high, at = [], [], 0
        for kind, count in layout.runs_k:
            ahead, recent, first = of(query, kind)
            frames = frame_k[:, at : at + count]
            at += count
            lo = (frames - ahead).clamp_min(0)
            hi = torch.full_like(frames, INFINITE) if recent >= INFINITE else frames + recent
            if first > 0:
                hi = torch.where(frames < first, INFINITE, hi)
            # Also where nothing is left between them, as for NEVER: with lo <= hi everywhere counts are differences.
            nothing = (frames < 0) | (lo >= hi)
            low.append(torch.where(nothing, INFINITE, lo))
            high.append(torch.where(nothing, INFINITE, hi))
        lows.append(torch.cat(low, 1))
        highs.append(torch.cat(high, 1))
    return torch.stack(lows, 1), torch.stack(highs, 1)


def close(lo: Tensor, hi: Tensor, layout: Layout, open: Tensor | None, len_k: Tensor | None) -> tuple[Tensor, Tensor]:
    """The intervals ``[B, Gq, Lk]`` of each sample once its closed kinds and the keys beyond its length are gone."""
    gone = closed_keys(layout, open, len_k, lo.device)
    if gone is None:
        return lo, hi
    gone = gone[:, None, :]
    return torch.where(gone, INFINITE, lo), torch.where(gone, INFINITE, hi)


def closed_keys(layout: Layout, open: Tensor | None, len_k: Tensor | None, device: torch.device) -> Tensor | None:
    """bool [B, Lk]: keys of kinds that are closed for a sample, and keys beyond its length; None if there are none."""
    gone = None
    if open is not None:
        gone = ~open.to(device)[:, kind_of(layout.runs_k, device)]
    if len_k is not None:
        beyond = torch.arange(layout.length_k, device=device)[None, :] >= len_k.to(device)[:, None]
        gone = beyond if gone is None else gone | beyond
    return gone


def pair_mask(
    layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None = None,
    len_q: Tensor | None = None, len_k: Tensor | None = None, *, bias: bool = False, device: torch.device | None = None,
) -> Tensor:  # fmt: skip
    """bool [B|1, Lq, Lk] straight from the rule, not from its interval form; ``bias``: where the key bias counts."""
    for each in (frame_q, frame_k, open, len_q, len_k):
        device = each.device if each is not None and device is None else device
    kind_q, kind_k = kind_of(layout.runs_q, device), kind_of(layout.runs_k, device)
    rules = layout.rules if not bias or layout.bias_rules is not None else (ALL,) * layout.kinds**2
    table = torch.tensor(layout.bias_rules if bias and layout.bias_rules is not None else rules, device=device)
    ahead, recent, first = table.view(layout.kinds, layout.kinds, 3)[kind_q[:, None], kind_k[None, :]].unbind(-1)
    t = torch.zeros(1, layout.length_q, device=device) if frame_q is None else frame_q
    f = torch.zeros(1, layout.length_k, device=device) if frame_k is None else frame_k
    t, f = t.long()[:, :, None], f.long()[:, None, :]
    seen = (f >= 0) & (t >= 0) & (f <= t + ahead) & ((f > t - recent) | (f < first))
    gone = closed_keys(layout, open, len_k, seen.device)
    if gone is not None:
        seen = seen & ~gone[:, None, :]
    if len_q is not None:
        seen = seen & (torch.arange(layout.length_q, device=device)[None, :] < len_q[:, None])[:, :, None]
    return seen


def visible_counts(
    layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None = None,
    len_q: Tensor | None = None, len_k: Tensor | None = None, *, device: torch.device | None = None,
) -> Tensor:  # fmt: skip
    """How many keys each query sees, int64 [B|1, Lq]: intervals that began minus those that ended, by bisection."""
    lo, hi = close(*intervals(layout, frame_k, device=device), layout, open, len_k)
    frames = torch.zeros(1, layout.length_q, dtype=torch.int32, device=lo.device) if frame_q is None else frame_q
    samples = max(lo.shape[0], frames.shape[0])
    counts, at = [], 0
    for k, (_, count) in enumerate(layout.runs_q):
        run = frames[:, at : at + count].expand(samples, -1).contiguous()
        at += count
        begun, ended = (
            torch.searchsorted(torch.sort(x[:, k], 1).values.expand(samples, -1).contiguous(), run, right=True)
            for x in (lo, hi)
        )
        counts.append(begun - ended)
    found = torch.cat(counts, 1)
    if len_q is not None:
        found = found * (torch.arange(layout.length_q, device=lo.device)[None] < len_q[:, None])
    return found
