"""Ground for legged robots: axis-aligned boxes above a horizontal floor, with its geometry known exactly.

World frame: x forward, y left, z up, metres. The robot starts at the origin, faces +x and walks along +x; the surface
under the start is at z = 0. What the boxes are cannot be told from a height map (an opening under a tread, the hole
between two slabs), so a terrain carries it: waypoints, regions where no foot should be, and the landing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_BOXES = 127
FAR_M = 50.0
"""Where the one waypoint of a terrain without stairs lies."""
_COORDINATE_LIMIT_M = 100.0
_LOWEST_CELL_M = 0.005

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Terrain:
    """One terrain; arrays are float64 copies that cannot be written.

    ``boxes`` [K, 6]: centre xyz and half sizes. ``floor_z``: height of the infinite floor. ``route`` [W, 3]: waypoints
    in order; on stairs the centres of the tops of the treads from bottom to top, then the centre of the landing.
    ``gaps`` [G, 6]: low xyz, high xyz of regions where no foot should be; under hollow stairs see
    :func:`ros_attn.sim.stairs.hollow_stairs`, in a field of gaps the holes below the walking surface.
    ``landing`` [6]: low xyz, high xyz of the region above the landing in which a foot counts as arrived, or ``None``.
    All in m. ``slope_deg``: of stairs, else 0.

    Raises ``ValueError`` for wrong shapes, numbers that are not finite or beyond 100 m, boxes or regions without
    extent, a box wholly below the floor, no waypoint, or more than ``MAX_BOXES`` boxes.
    """

    kind: str
    boxes: Array
    floor_z: float
    route: Array
    gaps: Array
    landing: Array | None = None
    slope_deg: float = 0.0

    def __post_init__(self) -> None:
        for field, columns in (("boxes", 6), ("route", 3), ("gaps", 6)):
            object.__setattr__(self, field, self._checked(field, getattr(self, field), columns))
        if self.landing is not None:
            object.__setattr__(self, "landing", self._checked("landing", np.atleast_2d(self.landing), 6)[0])
            self._check_regions("landing", self.landing[None])
        if not (abs(self.floor_z) <= _COORDINATE_LIMIT_M and 0 <= self.slope_deg < 90):
            raise ValueError(
                f"terrain '{self.kind}': floor_z is {self.floor_z} m and slope_deg {self.slope_deg}; "
                "give a floor within 100 m and a slope from 0 to below 90 degrees"
            )
        if len(self.boxes) > MAX_BOXES:
            raise ValueError(f"terrain '{self.kind}' has {len(self.boxes)} boxes; give at most {MAX_BOXES}")
        if not len(self.route):
            raise ValueError(f"terrain '{self.kind}' has no waypoint; give route at least one point")
        half = self.boxes[:, 3:]
        if (half <= 0).any():
            index = int(np.argmax((half <= 0).any(axis=1)))
            raise ValueError(
                f"terrain '{self.kind}': box {index} has half sizes {half[index].tolist()}; give sizes above 0 m"
            )
        sunk = self.boxes[:, 2] + half[:, 2] <= self.floor_z
        if sunk.any():
            raise ValueError(
                f"terrain '{self.kind}': box {int(np.argmax(sunk))} lies below the floor at {self.floor_z} m; "
                "raise the box or lower the floor"
            )
        self._check_regions("gaps", self.gaps)

    def _checked(self, field: str, value: Array, columns: int) -> Array:
        array = np.array(value, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != columns:
            raise ValueError(f"terrain '{self.kind}': {field} has shape {array.shape}; give [n, {columns}]")
        if not (np.abs(array) <= _COORDINATE_LIMIT_M).all():
            raise ValueError(f"terrain '{self.kind}': {field} has a number beyond 100 m or not finite; give metres")
        array.setflags(write=False)
        return array

    def _check_regions(self, field: str, regions: Array) -> None:
        if (regions[:, 3:] <= regions[:, :3]).any():
            raise ValueError(f"terrain '{self.kind}': a region of {field} ends before it begins; give low, then high")

    @property
    def name(self) -> str:
        """For tables: the kind, on stairs with the slope."""
        return f"{self.kind} {self.slope_deg:g}°" if self.slope_deg else self.kind


def between(low: Array, high: Array) -> Array:
    """Boxes [K, 6] as centre and half sizes, from their low and high corners [K, 3]."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return np.concatenate([(low + high) / 2, (high - low) / 2], axis=1)


def _without_stairs(kind: str, low: list[tuple[float, ...]], high: list[tuple[float, ...]], floor_z: float = 0.0,
                    gaps: list[tuple[float, ...]] | None = None) -> Terrain:  # fmt: skip
    boxes = between(np.reshape(low, (-1, 3)), np.reshape(high, (-1, 3)))
    return Terrain(kind, boxes, floor_z, np.array([[FAR_M, 0.0, 0.0]]), np.reshape(gaps or [], (-1, 6)))


def flat() -> Terrain:
    """The floor alone."""
    return _without_stairs("flat", [], [])


def rough(
    rng: np.random.Generator, amplitude_m: float, *, cell_m: float = 0.35, width_m: float = 1.4, start_m: float = 0.5,
    max_boxes: int = 40,
) -> Terrain:  # fmt: skip
    """A mosaic of square blocks on the floor with tops =U(0.005, ``amplitude_m``) m.

    ``round(width_m / cell_m)`` blocks across, as many rows as ``max_boxes`` allows, from ``start_m`` on, around y = 0.
    Raises ``ValueError`` where no row fits into ``max_boxes`` or the amplitude is not above 0.005 m.
    """
    across = max(1, round(width_m / cell_m))
    along = max_boxes // across
    if along < 1 or not amplitude_m > _LOWEST_CELL_M:
        raise ValueError(
            f"rough terrain of amplitude {amplitude_m} m with {across} blocks across and at most {max_boxes} in all "
            f"cannot be built; give an amplitude above {_LOWEST_CELL_M} m and at least {across} blocks"
        )
    rows, columns = (index.ravel() for index in np.mgrid[:along, :across])
    x, y = start_m + rows * cell_m, (columns - across / 2) * cell_m
    top = rng.uniform(_LOWEST_CELL_M, amplitude_m, along * across)
    low = np.stack([x, y, np.zeros_like(x)], axis=1)
    boxes = between(low, np.stack([x + cell_m, y + cell_m, top], axis=1))
    return Terrain("rough", boxes, 0.0, np.array([[FAR_M, 0.0, 0.0]]), np.empty((0, 6)))


def platforms(
    rng: np.random.Generator, height_m: float, *, count: int = 6, length_m: tuple[float, float] = (0.6, 1.2),
    width_m: float = 2.0, start_m: float = 1.0, highest: int = 2,
) -> Terrain:  # fmt: skip
    """Stretches along x whose levels differ by one step of ``height_m`` up or down, at random.

    ``count`` stretches of length =U(``length_m``); levels run from 0 (the floor) to ``highest`` steps, the first is 1,
    and the last at most 1, so that no step along x is ever higher than ``height_m``. Raises ``ValueError`` for fewer
    than one stretch or one level.
    """
    if count < 1 or highest < 1:
        raise ValueError(f"platforms need count and highest of at least 1, not {count} and {highest}; give larger ones")
    low, high = [], []
    level, x = 0, start_m
    for left in range(count, 0, -1):
        options = [new for new in (level - 1, level + 1) if 0 <= new <= min(highest, left)]
        level = options[rng.integers(len(options))]
        end = x + rng.uniform(*length_m)
        if level:
            low.append((x, -width_m / 2, 0.0))
            high.append((end, width_m / 2, level * height_m))
        x = end
    return _without_stairs("platforms", low, high)


def gap_field(
    rng: np.random.Generator, gap_m: float, *, count: int = 5, length_m: tuple[float, float] = (0.5, 1.0),
    width_m: float = 1.2, drop_m: float = 0.6, run_up_m: float = 1.0, run_out_m: float = 2.0,
) -> Terrain:  # fmt: skip
    """A walkway at z = 0 with ``count`` holes of ``gap_m`` along x, over a floor ``drop_m`` lower.

    The walkway begins 1.5 m behind the start, the first hole lies ``run_up_m`` ahead of it, slabs between holes are
    =U(``length_m``) long and the last ``run_out_m``. A gap region is a hole: from the floor up to the walking surface,
    as wide as the walkway. Raises ``ValueError`` for fewer than one hole or a gap or drop not above 0.
    """
    if count < 1 or not gap_m > 0 or not drop_m > 0:
        raise ValueError(f"a field of {count} gaps of {gap_m} m, {drop_m} m deep, has no gap; give numbers above 0")
    side = width_m / 2
    low, high, gaps = [], [], []
    begin, end = -1.5, run_up_m
    for index in range(count + 1):
        low.append((begin, -side, -drop_m))
        high.append((end, side, 0.0))
        if index < count:
            gaps.append((end, -side, -drop_m, end + gap_m, side, 0.0))
            begin = end + gap_m
            end = begin + (rng.uniform(*length_m) if index < count - 1 else run_out_m)
    return _without_stairs("gaps", low, high, -drop_m, gaps)
