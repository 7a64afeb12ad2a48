"""Keys and values of a stream in buffers of fixed size: writing a slot overwrites the oldest of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ros_attn.kernels.layout import EMPTY
from ros_attn.kernels.visibility import Pairs, Runs, Visibility


class Ring:
    """Ring buffers of several kinds side by side: ``k [B, C, Hkv, D]``, ``v [B, C, Hkv, Dv]``, ``frame [B, C]`` int32.

    ``kinds`` names the kinds and the tokens that each holds, as ``(("anchor", 240), ("recent", 480), ("gist", 4096))``:
    one contiguous run of slots a kind, C slots in all. A slot is a token. Writing sets ``frame[b, slot]`` in place, and
    a slot that holds nothing has frame ``EMPTY``; ``visibility`` hands ``frame`` itself to attention, so nothing is
    rebuilt. A write goes to the slots that were written longest ago, each sample in a cycle of its own.

    Everything stays on the device, shapes are static and the host reads nothing: ``write``, ``evict`` and ``reset`` can
    be captured in a CUDA graph. They are deterministic, and pass no gradients. The buffers begin as zeros: slots never
    written hold finite numbers.

    Raises ``ValueError`` on an unknown or repeated kind, a capacity below 1, more tokens than a kind holds, and shapes
    that do not fit.

    Source: the memory of MemoryWAM (2606.20562, anchor, recent and gist) and the window of R-SWA (2606.23050); the
    layout is ours.
    """

    def __init__(
        self, kinds: Sequence[tuple[str, int]], *, batch: int, heads: int, width: int, width_v: int | None = None,
        dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        self.kinds: Runs = tuple(kinds)
        self._runs: dict[str, tuple[int, int, int]] = {}
        at = 0
        for number, (name, capacity) in enumerate(self.kinds):
            if name in self._runs or capacity < 1:
                raise ValueError(f"Ring: kind {name!r} is named twice or holds no token; kinds are {list(self.kinds)}")
            self._runs[name] = (number, at, capacity)
            at += capacity
        self.k = torch.zeros(batch, at, heads, width, dtype=dtype, device=device)
        self.v = torch.zeros(batch, at, heads, width if width_v is None else width_v, dtype=dtype, device=device)
        self.frame = torch.full((batch, at), EMPTY, dtype=torch.int32, device=device)
        self._next = torch.zeros(batch, len(self.kinds), dtype=torch.int64, device=device)
        self._samples = torch.arange(batch, device=device)[:, None]

    @torch.no_grad()
    def write(self, kind: str, k: Tensor, v: Tensor, frame: Tensor) -> None:
        """Put n tokens ``k [B, n, Hkv, D]``, ``v [B, n, Hkv, Dv]`` of frames ``int32 [B|1, n|1]`` over the oldest n.

        A token whose frame is negative is left out, and its slot keeps what it holds: which samples (or which of two
        kinds) a step writes to may so be decided on the device. n is at most the kind's capacity.
        """
        number, start, capacity = self._run(kind)
        batch, count = k.shape[:2]
        shape, shape_v = (self.frame.shape[0], count, *self.k.shape[2:]), (batch, count, *self.v.shape[2:])
        if k.shape != shape or v.shape != shape_v or count > capacity:
            raise ValueError(
                f"Ring.write: {kind!r} takes k {list(shape)} and v {list(shape_v)} of up to {capacity} tokens, "
                f"but here {list(k.shape)} and {list(v.shape)}"
            )
        fits = frame.dim() == 2 and frame.shape[0] in (1, batch) and frame.shape[1] in (1, count)
        if frame.dtype != torch.int32 or not fits:
            raise ValueError(
                f"Ring.write: frame is int32 [{batch} or 1, {count} or 1], but here {frame.dtype} {list(frame.shape)}"
            )
        frame = frame.expand(batch, count)
        kept = frame >= 0
        # Tokens left out take the slots behind those kept: all n slots differ, and the result does not hang on order.
        total = kept.sum(1, keepdim=True)
        place = torch.where(kept, kept.cumsum(1), total + (~kept).cumsum(1)) - 1
        slot = start + (self._next[:, number, None] + place) % capacity
        at = (self._samples, slot)
        self.k[at] = torch.where(kept[:, :, None, None], k.to(self.k.dtype), self.k[at])
        self.v[at] = torch.where(kept[:, :, None, None], v.to(self.v.dtype), self.v[at])
        self.frame[at] = torch.where(kept, frame, self.frame[at])
        self._next[:, number] = (self._next[:, number] + total[:, 0]) % capacity

    @torch.no_grad()
    def evict(self, kind: str, before: int | Tensor) -> None:
        """Empty the slots of a kind whose frame is below ``before``, a number or one a sample ``[B, 1]``."""
        _, start, capacity = self._run(kind)
        frames = self.frame[:, start : start + capacity]
        frames.masked_fill_(frames < before, EMPTY)

    @torch.no_grad()
    def reset(self, samples: Tensor | None = None) -> None:
        """Empty every slot, or those of the samples marked in ``bool [B]``."""
        if samples is None:
            self.frame.fill_(EMPTY)
            self._next.zero_()
        else:
            self.frame.masked_fill_(samples[:, None], EMPTY)
            self._next.masked_fill_(samples[:, None], 0)

    def state_bytes(self) -> int:
        """Bytes of all that is kept from step to step; constant."""
        return sum(each.numel() * each.element_size() for each in (self.k, self.v, self.frame, self._next))

    def visibility(
        self, kinds_q: Runs, frame_q: Tensor | None, rule: Pairs, bias_on: Pairs | None = None
    ) -> Visibility:
        """Who of ``kinds_q`` sees what of the ring; its ``frame_k`` is the ring's own tensor, so it stays true."""
        return Visibility(kinds_q, self.kinds, rule, frame_q=frame_q, frame_k=self.frame, bias_on=bias_on)

    def _run(self, kind: str) -> tuple[int, int, int]:
        if kind not in self._runs:
            raise ValueError(f"Ring: there is no kind {kind!r}; kinds are {', '.join(self._runs)}")
        return self._runs[kind]
