"""Where tokens are, as a prologue of attention: what every geometry has in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

Tokens = slice | Tensor
"""Tokens by position: a slice, a 1-D tensor of indices or a 1-D boolean mask."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where queries and keys are; ``attend(..., geometry=g)`` is plain attention between two transforms::

        out = g.restore(attention(g.rotate_q(q), g.rotate_k(k), g.rotate_v(v)))

    Each transform is linear and acts on every token alone: keys may be rotated as they are written into a buffer. It
    takes and gives ``[B, L, H, D]`` of one dtype and any strides, computes in float32, or in float64 for float64, and
    has derivatives to its argument and to floating positions. torch.compile takes it without breaks.

    The fields are positions ``[B|1, L, ...]``, those of the queries and those of the keys; self-attention gives the
    same tensor twice. Tables of sines and inverse matrices are built at the first use and kept. They are built anew
    after a change of the positions in place; always, where positions need a gradient or are inference tensors; and as
    part of the graph under torch.compile. A CUDA graph captured by hand takes a kept table as a constant.

    Raises ValueError where a tensor does not fit the positions or the head size does not divide.
    """

    QUERY_FIELDS: ClassVar[tuple[str, ...]] = ()
    KEY_FIELDS: ClassVar[tuple[str, ...]] = ()
    HEAD_MULTIPLE: ClassVar[int] = 1
    """What the head size must be a multiple of; 8 serves every geometry."""

    _kept: dict[Any, tuple[tuple[int, ...], Any]] = field(default_factory=dict, init=False, repr=False)

    def rotate_q(self, q: Tensor) -> Tensor:
        """The queries ``[B, Lq, H, D]`` as the scores take them."""
        raise NotImplementedError

    def rotate_k(self, k: Tensor) -> Tensor:
        """The keys ``[B, Lk, Hkv, D]`` as the scores take them."""
        raise NotImplementedError

    def rotate_v(self, v: Tensor) -> Tensor:
        """The values ``[B, Lk, Hkv, Dv]`` as they are summed."""
        return v

    def restore(self, out: Tensor) -> Tensor:
        """The sums ``[B, Lq, H, Dv]``, brought into the frame of their queries."""
        return out

    def for_tokens(self, queries: Tokens, keys: Tokens | None = None) -> Self:
        """The geometry of some of the tokens, in the order of the index: a slice of new ones, another token order.

        ``keys`` None takes the same tokens of both sides, which then must be equally many.
        ``g.for_tokens(slice(None), keys=slice(n, n + m)).rotate_k(new)`` rotates keys as they enter a buffer.
        """
        lengths = {getattr(self, name).shape[1] for name in (*self.QUERY_FIELDS, *self.KEY_FIELDS)}
        if keys is None and len(lengths) > 1:
            raise ValueError(
                f"for_tokens with one index needs as many queries as keys, here {' and '.join(map(str, lengths))}; "
                "give keys= as well"
            )
        sides = ((self.QUERY_FIELDS, queries), (self.KEY_FIELDS, queries if keys is None else keys))
        # One tensor on both sides stays one tensor, and so does its table.
        taken: dict[tuple[int, int], Tensor] = {}
        fields: dict[str, Tensor] = {}
        for names, tokens in sides:
            for name in names:
                source = getattr(self, name)
                at = (id(source), id(tokens))
                if at not in taken:
                    taken[at] = source[:, tokens]
                fields[name] = taken[at]
        return dataclasses.replace(self, **fields)

    def _check_positions(self, **components: tuple[int, ...]) -> None:
        """Every field has its shape ``[B|1, L, *components]``, and the fields of one side agree in L."""
        for names in (self.QUERY_FIELDS, self.KEY_FIELDS):
            for name in names:
                shape = tuple(getattr(self, name).shape)
                wanted = components[name]
                if len(shape) != 2 + len(wanted) or shape[2:] != wanted:
                    form = ", ".join(["B or 1", "L", *map(str, wanted)])
                    raise ValueError(f"{type(self).__name__}.{name} must be [{form}], not {list(shape)}")
            lengths = {name: getattr(self, name).shape[1] for name in names}
            if len(set(lengths.values())) > 1:
                said = " and ".join(f"{length} in {name}" for name, length in lengths.items())
                raise ValueError(f"{type(self).__name__} was given {said}: one position a token is needed")

    def _check(self, call: str, x: Tensor, *positions: Tensor) -> None:
        """x ``[B, L, H, D]`` belongs to the tokens of ``positions [B|1, L, ...]`` and its head size divides."""
        name = f"{type(self).__name__}.{call}"
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(f"{name} takes a floating [B, L, H, D], not {x.dtype} {list(x.shape)}")
        for position in positions:
            if x.shape[1] != position.shape[1]:
                raise ValueError(f"{name} was given {x.shape[1]} tokens but positions of {position.shape[1]}")
            if position.shape[0] not in (1, x.shape[0]):
                raise ValueError(f"{name} was given a batch of {x.shape[0]} but positions of {position.shape[0]}")
        if x.shape[3] % self.HEAD_MULTIPLE:
            raise ValueError(f"{name} needs a head size that is a multiple of {self.HEAD_MULTIPLE}, not {x.shape[3]}")

    def _keep(self, key: Any, sources: tuple[Tensor, ...], build: Callable[[], Any]) -> Any:
        """``build()``, once for a key as long as the tensors it reads did not change."""
        # A kept result with a graph behind it would fail in the second backward; an inference tensor has no version.
        if torch.compiler.is_compiling() or any(each.requires_grad or each.is_inference() for each in sources):
            return build()
        key = (key, *map(id, sources))
        versions = tuple(each._version for each in sources)
        kept = self._kept.get(key)
        if kept is None or kept[0] != versions:
            with torch.inference_mode(False):  # what is built in inference mode may serve in training later
                kept = self._kept[key] = (versions, build())
        return kept[1]


def compute_dtype(x: Tensor) -> torch.dtype:
    """float32, or float64 for float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
