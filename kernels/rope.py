"""Rotary position embedding: the rotation that every rotary geometry shares, and those of one and of two axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ros_attn.kernels.geometry import Geometry, compute_dtype


def slot_frequencies(slots: int, base: float, scale: float = 1.0, device: torch.device | None = None) -> Tensor:
    """``scale * base^(-m/slots)`` for slot m, in rad per unit of position: float64 ``[slots]``."""
    return scale * torch.pow(base, -torch.arange(slots, dtype=torch.float64, device=device) / slots)


def axis_angles(position: Tensor, slots: int, base: float) -> Tensor:
    """Positions ``[B|1, L, axes]`` as angles [rad] ``[B|1, L, axes, slots]``, every axis with all frequencies.

    In float64: at position 100 000 a float32 angle is off by up to 0.004 rad.
    """
    return position.double()[..., None] * slot_frequencies(slots, base, device=position.device)


def rotation_table(angles: Tensor, dtype: torch.dtype) -> Tensor:
    """Angles [rad] ``[B|1, L, parts, slots]`` as ``(cos, sin)`` for ``rotate``: ``[B|1, L, 1, parts * slots, 2]``."""
    return torch.stack((angles.cos(), angles.sin()), -1).flatten(2, 3)[:, :, None].to(dtype)


def rotate(x: Tensor, table: Tensor, *, backwards: bool = False) -> Tensor:
    """x ``[B, L, H, D]``, in the dtype of the table ``[B|1, L, 1, D/2, 2]``, with every pair of channels turned.

    Neighbours are a pair: ``x_2m + i x_(2m+1)`` is multiplied by ``exp(i angle_m)``, or divided where ``backwards``.
    """
    if torch.compiler.is_compiling():  # inductor fuses this into one pass, but has no complex numbers
        (a, b), (cos, sin) = x.unflatten(-1, (-1, 2)).unbind(-1), table.unbind(-1)
        sin = -sin if backwards else sin
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    if x.storage_offset() % 2 or x.stride(-1) != 1 or any(stride % 2 for stride in x.stride()[:-1]):
        x = x.contiguous()  # pairs are read in place as complex numbers: one pass
    turn = torch.view_as_complex(table)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * (turn.conj() if backwards else turn)
    return torch.view_as_real(turned).flatten(-2)


def patch_grid(patches: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """Column x and row y of ``(rows h, columns w)`` patches in row-major order: int64 ``[1, h * w, 2]``."""
    rows, columns = patches
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack((x, y), -1).reshape(1, rows * columns, 2)


@dataclass(frozen=True, eq=False)
class Rotary(Geometry):
    """A geometry that only turns pairs of channels, by angles from positions."""

    PARTS: ClassVar[int] = 1

    def _angles(self, slots: int, *positions: Tensor) -> Tensor:
        """The fields of one side as angles [rad] ``[B|1, L, PARTS, slots]``, float64."""
        raise NotImplementedError

    def rotate_q(self, q: Tensor) -> Tensor:
        return self._rotate("rotate_q", q, self.QUERY_FIELDS)

    def rotate_k(self, k: Tensor) -> Tensor:
        return self._rotate("rotate_k", k, self.KEY_FIELDS)

    def _rotate(self, call: str, x: Tensor, names: tuple[str, ...]) -> Tensor:
        positions = tuple(getattr(self, name) for name in names)
        self._check(call, x, *positions)
        size, dtype = x.shape[3], compute_dtype(x)

        def table() -> Tensor:
            return rotation_table(self._angles(size // (2 * self.PARTS), *positions), dtype)

        return rotate(x.to(dtype), self._keep((size, dtype), positions, table)).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Rope(Rotary):
    """Rotary embedding of one position a token, such as its frame::

        <q_i', k_j'> = Re sum_m conj(q_im) k_jm exp(i (p_j - p_i) base^(-m/n))        n = D/2 complex slots

    so that a score depends on p_j - p_i alone. Channel 2m is the real part of complex slot m, channel
    2m + 1 the imaginary part.

    Shapes: position_q ``[B|1, Lq]``, position_k ``[B|1, Lk]``, of any real dtype, exact up to 2^53 as integers; head
    size a multiple of 2. Units: frames or tokens; slot 0 turns by 1 rad a unit, the last by about 1/base.

    Raises ValueError where shapes do not fit.

    Source: RoFormer (2104.09864, section 3.2), with its pairs of neighbouring channels.
    """

    position_q: Tensor
    position_k: Tensor
    base: float = 10000.0

    QUERY_FIELDS = ("position_q",)
    KEY_FIELDS = ("position_k",)
    HEAD_MULTIPLE = 2

    def __post_init__(self) -> None:
        self._check_positions(position_q=(), position_k=())

    def _angles(self, slots: int, *positions: Tensor) -> Tensor:
        return axis_angles(positions[0][..., None], slots, self.base)


@dataclass(frozen=True, eq=False)
class Rope2d(Rotary):
    """Rotary embedding of a patch: half of the head turns with its column x, the other half with its row y.

    Each half is ``Rope`` with n = D/4 slots, so that a score depends on (x_j - x_i, y_j - y_i) alone.

    Shapes: position_q ``[B|1, Lq, 2]``, position_k ``[B|1, Lk, 2]`` as (x, y), for a whole grid from ``patch_grid``;
    head size a multiple of 4. Units: patches. Tokens that are no patches (camera, register) take one position of the
    caller's choice.

    Raises ValueError where shapes do not fit.

    Source: VGGT (2503.11651) as VGTW keeps it (2606.22787): base 100. Deviates by a permutation of channels: x has the
    first half of the head, which VGGT gives to y, and pairs are neighbours, which VGGT has n channels apart. VGGT
    counts patches from 1 and leaves 0 to its special tokens: add 1 for the same.
    """

    position_q: Tensor
    position_k: Tensor
    base: float = 100.0

    QUERY_FIELDS = ("position_q",)
    KEY_FIELDS = ("position_k",)
    HEAD_MULTIPLE = 4
    PARTS = 2

    def __post_init__(self) -> None:
        self._check_positions(position_q=(2,), position_k=(2,))

    def _angles(self, slots: int, *positions: Tensor) -> Tensor:
        return axis_angles(positions[0], slots, self.base)
