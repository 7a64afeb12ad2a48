"""Who sees whom in the papers of the suite, at any length: what the benchmarks time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ros_attn.kernels.layout import ALL, PAST, SAME, memory
from ros_attn.kernels.visibility import Order, Visibility


@dataclass(frozen=True, eq=False)
class Pattern:
    """A visibility, and where its tokens come from when they are not sorted by kind."""

    name: str
    visibility: Visibility
    order: Order | None = None
    """How tokens as they are produced become sorted; None: they are."""

    def mask(self) -> Tensor:
        """bool [Lq, Lk] in the order in which the tokens are produced."""
        mask = self.visibility.mask()[0]
        return mask if self.order is None else mask[self.order.inverse][:, self.order.inverse]


def sorted_kinds(length: int, kinds: int = 4) -> Pattern:
    """Kinds of equal size that see themselves only: 1 / kinds of the pairs."""
    runs = tuple((str(k), length // kinds) for k in range(kinds))
    rule = {(name, name): ALL for name, _ in runs}
    return Pattern(f"sorted kinds, 1/{kinds} visible", Visibility(runs, runs, rule))


def interleaved_kinds(length: int, kinds: int = 4) -> Pattern:
    """The same with the tokens of all kinds taking turns."""
    order = Visibility.order(torch.arange(length) % kinds)
    rule = {(name, name): ALL for name, _ in order.kinds}
    return Pattern(f"interleaved kinds, 1/{kinds} visible", Visibility(order.kinds, order.kinds, rule), order)


def tactile_wam(length: int) -> Pattern:
    """Video sees video and state, state sees itself and video, touch and action see everything (VideoClean).

    Tactile-WAM 2606.26663, later version; the shares of the kinds are ours: 12/16, 3/16, 1/32, 1/32.
    """
    count = {"video": 12 * length // 16, "touch": 3 * length // 16, "action": length // 32}
    count["state"] = length - sum(count.values())
    runs = tuple(count.items())
    rule = {("video", "video"): ALL, ("video", "state"): ALL, ("state", "state"): ALL, ("state", "video"): ALL}
    rule |= {(seer, kind): ALL for seer in ("touch", "action") for kind in count}
    return Pattern("Tactile-WAM", Visibility(runs, runs, rule, bias_on={("action", "touch"): SAME}))


def memory_wam(frames: int, visual: int = 120, gist: int = 8) -> Pattern:
    """Two first and four recent frames, and the gist tokens of all before; MemoryWAM 2606.20562, tokens by kind."""
    frame = torch.cat([torch.arange(frames, dtype=torch.int32).repeat_interleave(n) for n in (visual, gist)])[None]
    runs = (("visual", frames * visual), ("gist", frames * gist))
    short = memory(recent=4, first=2)
    rule = {("visual", "visual"): short, ("visual", "gist"): PAST, ("gist", "visual"): short, ("gist", "gist"): PAST}
    return Pattern(f"MemoryWAM, {frames} frames", Visibility(runs, runs, rule, frame, frame))


def causal(length: int) -> Pattern:
    """Every token a frame of its own, and what came before it."""
    frame = torch.arange(length, dtype=torch.int32)[None]
    runs = (("token", length),)
    return Pattern("causal", Visibility(runs, runs, {("token", "token"): PAST}, frame, frame))
