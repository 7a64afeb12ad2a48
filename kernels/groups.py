"""Queries that share one key set: what lets attention with structure run without a mask.

Queries of equal kind and frame see the same keys. The sets come from the interval form; equal sets are one group, and
groups too small to be worth a call of their own are merged with their neighbours, then with a mask.

Source: ours.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.intervals import close, intervals
from ros_attn.kernels.layout import Layout
from ros_attn.kernels.plan import state

# A call costs as much as this many multiply-adds more in it; a masked pair as much as this many plain ones. Measured.
CALL = 2.5e6
MASKED = 1.6
# So many runs of tokens are copied one by one; more are gathered by index.
MOST_RUNS = 24
# Beyond so many frames of a kind, neighbours share a set from the start, so that each has so many queries.
MOST_FRAMES = 256
LEAST_QUERIES = 16


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of a group along dimension 1, as a few runs or by index."""

    runs: tuple[tuple[int, int], ...]
    index: Tensor | None
    count: int

    @staticmethod
    def of(index: Tensor) -> Tokens:
        """From ascending positions."""
        breaks = torch.nonzero(index.diff() != 1).flatten() + 1
        edges = [0, *breaks.tolist(), len(index)]
        if len(edges) - 1 > MOST_RUNS:
            return Tokens((), index, len(index))
        positions = index.tolist()
        runs = tuple((positions[a], positions[b - 1] + 1) for a, b in itertools.pairwise(edges))
        return Tokens(runs, None, len(index))

    def take(self, x: Tensor, room: Tensor | None = None) -> Tensor:
        """A view where there is one run, otherwise a copy, in the rows of ``room`` where there are enough of them."""
        out = None
        if room is not None and x.shape[0] * self.count <= room.shape[0]:
            out = room[: x.shape[0] * self.count].view(x.shape[0], self.count, *x.shape[2:])
        if self.index is not None:
            return torch.index_select(x, 1, self.index, out=out)
        pieces = [x[:, start:end] for start, end in self.runs]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1, out=out)

    def put(self, x: Tensor, values: Tensor) -> None:
        if self.index is not None:
            x.index_copy_(1, self.index, values.to(x.dtype))
            return
        at = 0
        for start, end in self.runs:
            x[:, start:end] = values[:, at : at + end - start]
            at += end - start

    def add(self, x: Tensor, values: Tensor) -> None:
        if self.index is not None:
            x.index_add_(1, self.index, values.to(x.dtype))
            return
        at = 0
        for start, end in self.runs:
            x[:, start:end] += values[:, at : at + end - start]
            at += end - start


@dataclass(frozen=True, eq=False)
class Group:
    """Some samples' queries and the keys they see; with ``mask`` not all of them."""

    samples: Tensor | None
    """The samples it holds for; None: all."""
    queries: Tokens
    keys: Tokens
    visible: Tensor
    """[queries] keys that each sees."""
    mask: Tensor | None
    """bool [queries, keys]; None: every pair is visible."""
    bias_on: Tensor | None
    """bool [1 | queries, keys]: where the key bias counts; None: everywhere."""


@dataclass(eq=False)
class _Set:
    """A group in the making: queries, and what they see as bool [Lk]."""

    queries: Tensor
    least: int
    most: int
    kind: int
    any: Tensor
    size: int
    uniform: bool
    """Every query sees all of ``any`` and has the bias at the same keys."""


def groups(
    layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None,
    len_k: Tensor | None, work: float,
) -> tuple[Group, ...]:  # fmt: skip
    """The groups of a layout and its data on the CPU; ``work``: multiply-adds a pair, over heads and samples.

    Queries that see nothing are in no group.
    """
    samples = max([1, *(each.shape[0] for each in (frame_q, frame_k, open, len_q, len_k) if each is not None)])
    lo, hi = close(*intervals(layout, frame_k), layout, open, len_k)
    on = None if layout.bias_rules is None else intervals(layout, frame_k, bias=True)
    frames = torch.zeros(1, layout.length_q, dtype=torch.int32) if frame_q is None else frame_q
    if len_q is not None:
        beyond = torch.arange(layout.length_q)[None] >= len_q[:, None]
        frames = torch.where(beyond, -1, frames)

    # Samples with the same structure go together.
    alike: OrderedDict[bytes, list[int]] = OrderedDict()
    for b in range(samples):
        rows = [each[b % each.shape[0]] for each in (frames, lo, hi)]
        signature = b"".join(row.contiguous().numpy().tobytes() for row in rows) if samples > 1 else b""
        alike.setdefault(signature, []).append(b)
    found: list[Group] = []
    for members in alike.values():
        b = members[0]
        pick = None if len(members) == samples else torch.tensor(members)
        rows = [each[b % each.shape[0]] for each in (frames, lo, hi)]
        bias = None if on is None else (on[0][b % on[0].shape[0]], on[1][b % on[1].shape[0]])
        found += _of_sample(layout, rows[0], rows[1], rows[2], bias, pick, work * len(members) / samples)
    return tuple(found)


def _of_sample(
    layout: Layout, frame: Tensor, lo: Tensor, hi: Tensor, bias: tuple[Tensor, Tensor] | None,
    samples: Tensor | None, work: float,
) -> list[Group]:  # fmt: skip
    sets: list[_Set] = []
    at = 0
    for kind, (_, count) in enumerate(layout.runs_q):
        run = frame[at : at + count]
        order = torch.argsort(run, stable=True)
        ordered = run[order]
        order, ordered = order[ordered >= 0] + at, ordered[ordered >= 0]
        at += count
        values, counts = torch.unique_consecutive(ordered, return_counts=True)
        start = 0
        edges = _chunks(counts.tolist()) if len(counts) > MOST_FRAMES else [(k, k + 1) for k in range(len(counts))]
        for first, last in edges:
            end = start + int(counts[first:last].sum())
            least, most = int(values[first]), int(values[last - 1])
            any_ = (lo[kind] <= most) & (hi[kind] > least)
            every = (lo[kind] <= least) & (hi[kind] > most)
            uniform = bool((any_ == every).all())
            if bias is not None and uniform and last - first > 1:
                touched = (bias[0][kind] <= most) & (bias[1][kind] > least) & any_
                uniform = bool((touched == ((bias[0][kind] <= least) & (bias[1][kind] > most) & any_)).all())
            size = int(any_.sum())
            if size:
                sets.append(_Set(order[start:end], least, most, kind, any_, size, uniform))
            start = end

    found: list[Group] = []
    for members in _merge(_equal(sets, bias), work):
        queries = torch.cat([each.queries for each in members]).sort().values
        keys = torch.stack([each.any for each in members]).any(0) if len(members) > 1 else members[0].any
        index = torch.nonzero(keys).flatten()
        t = frame[queries]
        kinds = torch.empty(layout.length_q, dtype=torch.int64)
        for each in members:
            kinds[each.queries] = each.kind
        rows = kinds[queries]
        same = all(each.uniform and torch.equal(each.any, members[0].any) for each in members)
        mask = on = None
        visible = torch.full((len(queries),), len(index))
        if not same:
            mask = (lo[rows][:, index] <= t[:, None]) & (hi[rows][:, index] > t[:, None])
            visible = mask.sum(1)
            some = visible > 0
            if not bool(some.all()):
                queries, mask, visible, t, rows = queries[some], mask[some], visible[some], t[some], rows[some]
        if bias is not None:
            on = (bias[0][rows][:, index] <= t[:, None]) & (bias[1][rows][:, index] > t[:, None])
            on = on[:1] if bool((on == on[:1]).all()) else on
        if len(queries):
            found.append(Group(samples, Tokens.of(queries), Tokens.of(index), visible, mask, on))
    return found


def _chunks(counts: list[int]) -> list[tuple[int, int]]:
    """Neighbouring frames with few queries each, taken together until they have enough."""
    edges, first, held = [], 0, 0
    for k, count in enumerate(counts):
        held += count
        if held >= LEAST_QUERIES:
            edges.append((first, k + 1))
            first, held = k + 1, 0
    if first < len(counts):
        edges.append((first, len(counts)))
    return edges


def _equal(sets: list[_Set], bias: tuple[Tensor, Tensor] | None) -> list[list[_Set]]:
    """Uniform sets that see the same keys with the same bias, across kinds and frames."""
    found: OrderedDict[Any, list[_Set]] = OrderedDict()
    for each in sets:
        key: Any = id(each)
        if each.uniform:
            key = each.any.numpy().tobytes()
            if bias is not None:
                on = (bias[0][each.kind] <= each.least) & (bias[1][each.kind] > each.least) & each.any
                key += on.numpy().tobytes()
        found.setdefault(key, []).append(each)
    return list(found.values())


def _merge(sets: list[list[_Set]], work: float) -> list[list[_Set]]:
    """Neighbours merged while one masked call is cheaper than two."""
    call = CALL / max(work, 1.0)

    def cost(members: list[_Set], keys: Tensor, masked: bool) -> float:
        queries = sum(len(each.queries) for each in members)
        return call + queries * int(keys.sum()) * (MASKED if masked else 1.0)

    merged: list[tuple[list[_Set], Tensor, bool]] = []
    for members in sets:
        keys, masked = members[0].any, not members[0].uniform
        while merged:
            before, other, was = merged[-1]
            both = keys | other
            if cost([*before, *members], both, True) > cost(before, other, was) + cost(members, keys, masked):
                break
            merged.pop()
            members, keys, masked = [*before, *members], both, True
        merged.append((members, keys, masked))
    return [members for members, _, _ in merged]


class GroupCache:
    """Groups by layout and the contents of their tensors."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._groups: OrderedDict[Any, tuple[Group, ...]] = OrderedDict()

    def get(
        self, layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None,
        len_q: Tensor | None, len_k: Tensor | None, work: float,
    ) -> tuple[Group, ...]:  # fmt: skip
        key = (layout, work, *(state(each) for each in (frame_q, frame_k, open, len_q, len_k)))
        if key not in self._groups:
            self._groups[key] = groups(layout, frame_q, frame_k, open, len_q, len_k, work)
            if len(self._groups) > self._size:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


cached = GroupCache()
