"""Who may look at whom: kinds of tokens, frames, and a rule for every pair of kinds.

Rule. Key j (kind c, frame f) is visible to query i (kind a, frame t) iff ``f <= t + ahead`` and
(``f > t - recent`` or ``f < first``), with ``(ahead, recent, first) = rule[a, c]``.

Interval form. For queries of kind a, key j is seen by the query frames in ``[lo, hi)``, with ``lo = f - ahead`` and
``hi = inf`` if ``f < first``, else ``f + recent``. The element test is two compares; counts and tile lists follow
without an array of Lq x Lk (``Plan``).

Source: ours; the papers of the suite are instances of it (Tactile-WAM 2606.26663, MemoryWAM 2606.20562, PAIWorld
2606.18375, R-SWA 2606.23050).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ros_attn.kernels.intervals import pair_mask, visible_counts
from ros_attn.kernels.layout import INFINITE, MAX_KINDS, NEVER, Layout, Rule

Pairs = Mapping[tuple[str, str], tuple[float, float, float]]
Runs = tuple[tuple[str, int], ...]


class Order(NamedTuple):
    """A permutation that lays tokens of a kind together: ``x[:, index]`` is sorted, ``y[:, inverse]`` as it was."""

    index: Tensor
    inverse: Tensor
    kinds: Runs


@dataclass(frozen=True, eq=False)
class Visibility:
    """Which keys each query sees, for one layout of tokens; see the module for the rule and its interval form.

    ``kinds_q`` and ``kinds_k`` name the runs of tokens, one contiguous run a kind: ``(("video", 192), ("touch", 64))``.
    ``frame_q [B|1, Lq]`` and ``frame_k [B|1, Lk]``, int32: the moment, view or causal block of each token; without
    them every frame is 0. They are data: changed in place (a ring slot is written), nothing is rebuilt by hand.
    Negative: an empty slot, never visible, and a query that sees nothing. ``rule[query kind, key kind]`` is ``ALL``,
    ``NEVER``, ``SAME``, ``PAST``, ``memory(recent, first)`` or any ``(ahead, recent, first)`` (``math.inf`` is fine);
    a pair that is left out is ``NEVER``. ``bias_on`` has the same form and says where the key bias counts; None:
    everywhere. All heads share it.

    ``kinds``: all names, those of the keys first: the columns of ``open`` in ``attend``.

    Raises ``ValueError`` on an unknown or repeated kind, a rule out of range, and frames of the wrong shape or type.
    """

    kinds_q: Runs
    kinds_k: Runs
    rule: Pairs
    frame_q: Tensor | None = None
    frame_k: Tensor | None = None
    bias_on: Pairs | None = None
    kinds: tuple[str, ...] = field(init=False)
    layout: Layout = field(init=False)
    encoded: tuple[int, ...] = field(init=False)
    """The layout as an operator takes it."""

    def __post_init__(self) -> None:
        for side, runs in (("kinds_q", self.kinds_q), ("kinds_k", self.kinds_k)):
            names = [name for name, _ in runs]
            if len(set(names)) < len(names):
                again = next(name for name in names if names.count(name) > 1)
                raise ValueError(
                    f"{side}: kind {again!r} has two runs; lay its tokens together (Visibility.order gives the order)"
                )
            if any(count < 0 for _, count in runs):
                raise ValueError(f"{side}: a kind has a negative number of tokens: {runs}")
        kinds = tuple(dict.fromkeys(name for name, _ in (*self.kinds_k, *self.kinds_q)))
        if not 1 <= len(kinds) <= MAX_KINDS:
            raise ValueError(f"a Visibility takes 1 to {MAX_KINDS} kinds, not {len(kinds)}")
        object.__setattr__(self, "kinds", kinds)
        for name, pairs in (("rule", self.rule), ("bias_on", self.bias_on or {})):
            for pair, rule in pairs.items():
                unknown = [kind for kind in pair if kind not in kinds]
                if unknown:
                    raise ValueError(
                        f"{name}{list(pair)}: there is no kind {unknown[0]!r}; kinds are {', '.join(kinds)}"
                    )
                if len(rule) != 3 or rule[1] < 0 or rule[2] < 0:
                    raise ValueError(f"{name}{list(pair)} is {tuple(rule)}, but takes (ahead, recent >= 0, first >= 0)")
        for name, frames, length in (
            ("frame_q", self.frame_q, self.length_q), ("frame_k", self.frame_k, self.length_k),
        ):  # fmt: skip
            if frames is None:
                continue
            if frames.dtype != torch.int32 or frames.dim() != 2 or frames.shape[1] != length:
                raise ValueError(f"{name} is {frames.dtype} {list(frames.shape)}, but takes int32 [B or 1, {length}]")
        number = {name: k for k, name in enumerate(kinds)}

        def table(pairs: Pairs) -> tuple[Rule, ...]:
            return tuple(_finite(pairs.get((a, c), NEVER)) for a in kinds for c in kinds)

        layout = Layout(
            tuple((number[name], count) for name, count in self.kinds_q),
            tuple((number[name], count) for name, count in self.kinds_k),
            table(self.rule),
            None if self.bias_on is None else table(self.bias_on),
        )
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "encoded", tuple(layout.encode()))

    @property
    def length_q(self) -> int:
        return sum(count for _, count in self.kinds_q)

    @property
    def length_k(self) -> int:
        return sum(count for _, count in self.kinds_k)

    def to(self, device: torch.device | str) -> Visibility:
        """The same with its frames on another device."""
        frame_q, frame_k = (None if frame is None else frame.to(device) for frame in (self.frame_q, self.frame_k))
        return Visibility(self.kinds_q, self.kinds_k, self.rule, frame_q, frame_k, self.bias_on)

    def mask(self, open: Tensor | None = None, len_q: Tensor | None = None, len_k: Tensor | None = None) -> Tensor:
        """Every pair: bool [B|1, Lq, Lk], True where the key is visible. For reading, tests and small sizes."""
        return pair_mask(self.layout, self.frame_q, self.frame_k, open, len_q, len_k)

    def counts(self, open: Tensor | None = None, len_q: Tensor | None = None, len_k: Tensor | None = None) -> Tensor:
        """How many keys each query sees: int64 [B|1, Lq], without an array of pairs."""
        return visible_counts(self.layout, self.frame_q, self.frame_k, open, len_q, len_k)

    @staticmethod
    def order(kinds: Sequence[str] | Tensor, names: Sequence[str] | None = None) -> Order:
        """The stable permutation that lays the tokens of each kind together, kinds by first appearance.

        ``kinds [L]``: a name a token, or an integer a token with ``names`` to read it by (by default "0", "1", ...).
        Then ``Visibility(order.kinds, ..., frame_q=frame[:, order.index])``, ``attend(q[:, order.index], ...)`` and
        ``out[:, order.inverse]``.
        """
        if isinstance(kinds, Tensor):
            named = [str(names[k]) if names else str(k) for k in kinds.tolist()]
        else:
            named = [str(kind) for kind in kinds]
        number = {name: k for k, name in enumerate(dict.fromkeys(named))}
        ids = torch.tensor([number[name] for name in named], dtype=torch.int64)
        index = torch.argsort(ids, stable=True)
        inverse = torch.empty_like(index)
        inverse[index] = torch.arange(len(index))
        counts = torch.bincount(ids, minlength=len(number)).tolist()
        return Order(index, inverse, tuple(zip(number, counts, strict=True)))


def _finite(rule: Iterable[float]) -> Rule:
    return Rule(*(int(max(-INFINITE, min(INFINITE, each))) for each in rule))
