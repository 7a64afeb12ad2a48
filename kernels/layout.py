"""The static half of a visibility: rules, and runs of kinds, as hashable integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

INFINITE = 2**30
"""Stands for infinity in a rule; frames lie in ``[0, 2**29)``."""
EMPTY = -1
"""The frame of a ring slot that holds nothing: never visible. Any negative frame says the same."""
MAX_KINDS = 32


class Rule(NamedTuple):
    """Which key frames a query frame sees: up to ``ahead`` frames later, the last ``recent``, and those < ``first``."""

    ahead: int
    recent: int
    first: int


ALL = Rule(INFINITE, INFINITE, 0)
NEVER = Rule(0, 0, 0)
SAME = Rule(0, 1, 0)
PAST = Rule(0, INFINITE, 0)


def memory(recent: int, first: int) -> Rule:
    """The last ``recent`` frames, the present one among them, and the ``first`` frames of all."""
    return Rule(0, recent, first)


@dataclass(frozen=True)
class Layout:
    """The static part of a ``Visibility``: runs of kinds (by number) and the rules, all of it integers and hashable."""

    runs_q: tuple[tuple[int, int], ...]
    runs_k: tuple[tuple[int, int], ...]
    rules: tuple[Rule, ...]
    """``rules[a * kinds + c]`` for query kind a and key kind c."""
    bias_rules: tuple[Rule, ...] | None
    """The same for the key bias; None: every visible key takes it."""

    @property
    def kinds(self) -> int:
        return int(len(self.rules) ** 0.5)

    @property
    def query_kinds(self) -> tuple[int, ...]:
        """Numbers of the kinds that have queries, in the order of their runs; Gq of them."""
        return tuple(kind for kind, _ in self.runs_q)

    @property
    def length_q(self) -> int:
        return sum(count for _, count in self.runs_q)

    @property
    def length_k(self) -> int:
        return sum(count for _, count in self.runs_k)

    def rule(self, query: int, key: int) -> Rule:
        return self.rules[query * self.kinds + key]

    def bias_rule(self, query: int, key: int) -> Rule:
        return ALL if self.bias_rules is None else self.bias_rules[query * self.kinds + key]

    def encode(self) -> list[int]:
        """As one list of integers, for the schema of an operator."""
        flat = [self.kinds, len(self.runs_q), len(self.runs_k), int(self.bias_rules is not None)]
        for pair in (*self.runs_q, *self.runs_k, *self.rules, *(self.bias_rules or ())):
            flat.extend(pair)
        return flat

    @staticmethod
    def decode(flat: Sequence[int]) -> Layout:
        return _decode(tuple(flat))


@lru_cache(maxsize=256)
def _decode(flat: tuple[int, ...]) -> Layout:
    kinds, queries, keys, biased = flat[:4]
    at = 4

    def take(count: int, width: int) -> list[tuple[int, ...]]:
        nonlocal at
        rows = [tuple(flat[at + width * i : at + width * (i + 1)]) for i in range(count)]
        at += width * count
        return rows

    runs_q = tuple((kind, count) for kind, count in take(queries, 2))
    runs_k = tuple((kind, count) for kind, count in take(keys, 2))
    rules = tuple(Rule(*each) for each in take(kinds * kinds, 3))
    return Layout(runs_q, runs_k, rules, tuple(Rule(*each) for each in take(kinds * kinds, 3)) if biased else None)


def dense(length_q: int, length_k: int) -> Layout:
    """The layout of a call without ``Visibility``: one kind that sees all of itself."""
    return Layout(((0, length_q),), ((0, length_k),), (ALL,), None)
