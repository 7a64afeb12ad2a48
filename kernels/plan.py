"""Which tiles of the score matrix to visit: lists built once a layout, on the device, without a synchronisation.

Query tiles never cross a kind, so that what decides is per key column: an interval of query frames. Frames are
replaced by their ranks among the query frames of the sample: they fit 16 bits up to 32767 queries, whatever the frames
are (Triton 3.6 pipelines 16-bit vectors beside K and V, and 32-bit ones badly).

Source: ours, after the block lists of FlexAttention (visited, and visited without a mask).
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.intervals import closed_keys, intervals
from ros_attn.kernels.layout import Layout


@dataclass(frozen=True, eq=False)
class Tiles:
    """For each row of tiles the columns to visit: those without a predicate first, then those with two compares.

    ``full_n, part_n [B|1, R]`` and ``full_i, part_i [B|1, R, C]`` int32: ascending; beyond the counts the lists hold
    no meaning. With a bias rule an entry of ``full_i`` is ``2 * column + (the bias counts there)``.
    """

    full_n: Tensor
    full_i: Tensor
    part_n: Tensor
    part_i: Tensor
    order: Tensor
    """[R] int32: rows by the number of their tiles, over all samples, heaviest first."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The tile lists of a layout: ``rows`` by query tile, ``columns`` the same pairs by key tile.

    ``q_tile [Tq, 3]`` int32: start, end, index of the kind in ``lo``. ``rank_q [B|1, Lq]``: the rank of each query's
    frame, -1 where it sees nothing. ``lo, hi [B|1, Gq, Tk * tile_k]``: query ranks that see each key; beyond Lk
    nobody. ``bias_lo, bias_hi``: those for which its key bias counts; None without a bias rule. All of these are int16
    up to 32767 queries, else int32. ``visible [B|1, Lq]`` int32: keys that each query sees.

    A tile is skipped iff no column has ``lo <= t_max and hi > t_min``; full iff every column has ``lo <= t_min and
    hi > t_max`` and the bias counts for all pairs of the tile or for none. t is over the tile's queries that are
    within their length.
    """

    tile_q: int
    tile_k: int
    q_tile: Tensor
    rank_q: Tensor
    lo: Tensor
    hi: Tensor
    bias_lo: Tensor | None
    bias_hi: Tensor | None
    visible: Tensor
    rows: Tiles
    columns: Tiles

    def shares(self, length_k: int) -> Tensor:
        """(visible pairs, pairs in visited tiles) / (Lq Lk), float64 [2], on the device."""
        area = (self.q_tile[:, 1] - self.q_tile[:, 0]).to(torch.float64) * self.tile_k
        tiles = (self.rows.full_n + self.rows.part_n).to(torch.float64)
        pairs = float(max(self.rank_q.shape[1] * length_k, 1))
        return torch.stack((self.visible.double().sum(1).mean(), (tiles * area).sum(1).mean())) / pairs


def query_tiles(layout: Layout, tile: int, aligned: bool = False) -> list[tuple[int, int, int]]:
    """(start, end, index of the kind among those with queries): runs cut into tiles.

    ``aligned``: tiles end at multiples of their size too, as FlexAttention's blocks do.
    """
    tiles, at = [], 0
    for k, (_, count) in enumerate(layout.runs_q):
        start, end = at, at + count
        while start < end:
            stop = min((start // tile + 1) * tile if aligned else start + tile, end)
            tiles.append((start, stop, k))
            start = stop
        at = end
    return tiles


@lru_cache(maxsize=128)
def _query_tiles(layout: Layout, tile: int, device: torch.device, aligned: bool) -> tuple[Tensor, Tensor, Tensor]:
    """``q_tile``, and [Tq, tile]: the queries of each tile and which of them are real."""
    q_tile = torch.tensor(query_tiles(layout, tile, aligned), dtype=torch.int32).reshape(-1, 3)
    index = q_tile[:, :1].long() + torch.arange(tile)
    real = index < q_tile[:, 1:2]
    return q_tile.to(device), torch.where(real, index, 0).to(device), real.to(device)


def build(
    layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, tile_q: int, tile_k: int, device: torch.device, *,
    open: Tensor | None = None, len_q: Tensor | None = None, len_k: Tensor | None = None, aligned: bool = False,
) -> Plan:  # fmt: skip
    """The plan of one layout and one state of its frames; see ``Plan``, and ``query_tiles`` for ``aligned``."""
    length_q, length_k = layout.length_q, layout.length_k
    frames = torch.zeros(1, length_q, dtype=torch.int32, device=device) if frame_q is None else frame_q
    beyond = frames < 0
    if len_q is not None:
        beyond = beyond | (torch.arange(length_q, device=device)[None] >= len_q[:, None])
    ranked = torch.sort(frames, 1).values
    gone = closed_keys(layout, open, len_k, device)
    samples = max(each.shape[0] for each in (frames, beyond, frame_k, gone) if each is not None)
    narrow = torch.int16 if length_q <= 32767 else torch.int32
    rank_q = torch.where(beyond, -1, torch.searchsorted(ranked, frames)).to(narrow).expand(samples, -1).contiguous()

    tiles_k = -(-length_k // tile_k)
    padding = tiles_k * tile_k - length_k

    def ranks(bias: bool) -> tuple[Tensor, Tensor]:
        lo, hi = intervals(layout, frame_k, bias=bias, device=device)
        if gone is not None and not bias:
            lo = lo.masked_fill(gone[:, None], torch.iinfo(torch.int32).max)
            hi = hi.masked_fill(gone[:, None], torch.iinfo(torch.int32).max)
        rows = max(lo.shape[0], ranked.shape[0])
        both = torch.stack((lo, hi)).expand(2, rows, -1, -1).transpose(0, 1).reshape(rows, -1)
        both = torch.searchsorted(ranked.expand(rows, -1).contiguous(), both.contiguous()).view(rows, 2, *lo.shape[1:])
        both = torch.nn.functional.pad(both, (0, padding), value=length_q).to(narrow).expand(samples, -1, -1, -1)
        return both[:, 0].contiguous(), both[:, 1].contiguous()

    lo, hi = ranks(bias=False)
    q_tile, index, real = _query_tiles(layout, tile_q, device, aligned)
    # Which interval of ranks each tile of queries spans; an empty one meets no key.
    rank = rank_q[:, index]
    real = real & (rank >= 0)
    t_min = torch.where(real, rank, length_q).amin(2)
    t_max = torch.where(real, rank, -1).amax(2)
    kind = q_tile[:, 2].long()

    def meets(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """[samples, Tq, Tk]: some column of the tile meets some rank of it; every column holds all of them."""
        low = lo[:, kind].view(samples, -1, tiles_k, tile_k)
        high = hi[:, kind].view(samples, -1, tiles_k, tile_k)
        least, most = t_min[..., None, None], t_max[..., None, None]
        return ((low <= most) & (high > least) & (low < high)).any(3), ((low <= least) & (high > most)).all(3)

    some, every = meets(lo, hi)
    empty = (t_max < 0)[..., None]
    full, bias_lo, bias_hi, biased = every & ~empty, None, None, None
    if layout.bias_rules is not None:
        bias_lo, bias_hi = ranks(bias=True)
        touched, biased = meets(bias_lo, bias_hi)
        full = full & (biased | ~touched)
    part = some & ~full & ~empty

    visible = _visible(layout, rank_q, lo[..., :length_k], hi[..., :length_k])
    rows = _tiles(full, part, biased)
    columns = _tiles(full.transpose(1, 2), part.transpose(1, 2), None if biased is None else biased.transpose(1, 2))
    return Plan(tile_q, tile_k, q_tile, rank_q, lo, hi, bias_lo, bias_hi, visible, rows, columns)


def _tiles(full: Tensor, part: Tensor, biased: Tensor | None) -> Tiles:
    def compact(flags: Tensor) -> tuple[Tensor, Tensor]:
        columns = torch.arange(flags.shape[2], device=flags.device)
        first = torch.sort(torch.where(flags, columns, columns + flags.shape[2]), 2).values % max(flags.shape[2], 1)
        return flags.sum(2, dtype=torch.int32), first

    full_n, full_i = compact(full)
    part_n, part_i = compact(part)
    if biased is not None:
        full_i = 2 * full_i + biased.gather(2, full_i)
    order = torch.argsort((full_n + part_n).sum(0), descending=True, stable=True)
    return Tiles(
        full_n.contiguous(), full_i.int().contiguous(), part_n.contiguous(), part_i.int().contiguous(), order.int()
    )


def _visible(layout: Layout, rank_q: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Keys that each query sees: those whose interval began minus those whose interval ended, both by bisection."""
    counts, at = [], 0
    for k, (_, count) in enumerate(layout.runs_q):
        rank = rank_q[:, at : at + count].contiguous()
        at += count
        begun, ended = (
            torch.searchsorted(torch.sort(each[:, k], 1).values, rank, right=True, out_int32=True) for each in (lo, hi)
        )
        counts.append(torch.where(rank < 0, 0, begun - ended))
    return torch.cat(counts, 1)


# Of layouts with so many tiles a side the share of empty pairs is looked at.
LONG = 8


class PlanCache:
    """Plans by layout, tile and the state of their tensors.

    On a GPU a tensor's state is its memory and its version, which every change in place moves on; the memory is held
    while the entry lives, so that no other tensor takes its address. On the CPU it is the contents. Tensors made in
    inference mode on a GPU have no version: their plans are built anew each time. While a CUDA graph is captured plans
    are built in it, and neither taken nor kept.
    """

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._plans: OrderedDict[Any, tuple[Plan, Any]] = OrderedDict()
        self._looked_at: set[Layout] = set()
        self._pending: list[tuple[Layout, Tensor, torch.cuda.Event | None]] = []
        self.built = 0

    def get(
        self, layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, tile_q: int, tile_k: int,
        device: torch.device, *, open: Tensor | None = None, len_q: Tensor | None = None, len_k: Tensor | None = None,
        aligned: bool = False,
    ) -> Plan:  # fmt: skip
        if _capturing(device):
            # In the graph itself, so that its replays see frames that changed: a plan from outside would not, and one
            # from inside is no use before the replay. Nothing may be asked of an event now either.
            return build(
                layout, frame_q, frame_k, tile_q, tile_k, device, open=open, len_q=len_q, len_k=len_k, aligned=aligned
            )
        tensors = (frame_q, frame_k, open, len_q, len_k)
        states = [state(each) for each in tensors]
        key = None if None in states else (layout, tile_q, tile_k, device, aligned, *states)
        self._warn()
        if key is not None and key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key][0]
        self.built += 1
        plan = build(
            layout, frame_q, frame_k, tile_q, tile_k, device, open=open, len_q=len_q, len_k=len_k, aligned=aligned
        )
        if key is not None:
            self._plans[key] = (plan, tensors)
            if len(self._plans) > self._size:
                self._plans.popitem(last=False)
        self._look_at(layout, plan)
        return plan

    def _look_at(self, layout: Layout, plan: Plan) -> None:
        """Have a layout's shares copied to the host while the device goes on; once a layout, long ones only."""
        long = layout.length_q >= LONG * plan.tile_q and layout.length_k >= LONG * plan.tile_k
        if layout in self._looked_at or not long:
            return
        self._looked_at.add(layout)
        shares, event = plan.shares(layout.length_k), None
        if shares.is_cuda:
            shares = torch.empty(2, dtype=shares.dtype, pin_memory=True).copy_(shares, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._pending.append((layout, shares, event))
        self._warn()

    def _warn(self) -> None:
        """Say which layouts compute more than twice what is visible, as far as their shares have arrived."""
        for each in list(self._pending):
            layout, shares, event = each
            if event is not None and not event.query():
                continue
            self._pending.remove(each)
            visible, computed = shares.tolist()
            if visible < 0.5 * computed:
                warnings.warn(
                    f"attend: of {layout.length_q} x {layout.length_k} pairs {visible:.1%} are visible, but the tiles "
                    f"that hold them cover {computed:.1%}; lay tokens together that see alike (Visibility.order sorts "
                    f"them by kind), in the order of their frames",
                    stacklevel=2,
                )


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def state(tensor: Tensor | None) -> Any:
    """What changes when the contents may have changed; () for no tensor, None where nothing can tell."""
    if tensor is None:
        return ()
    if tensor.device.type == "cpu":
        return tuple(tensor.shape), tensor.dtype, tensor.contiguous().numpy().tobytes()
    if tensor.is_inference():
        return None
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor._version


plans = PlanCache()
