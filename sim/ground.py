"""What many terrains answer at once: heights, edges, gaps and waypoints for E environments, without a loop over them.

Queries take points in the world frame (m, z up; E environments, P or F points) and compute in float32: 1e-6 m over the
extent of a terrain. A point that is not finite is over the floor, in no gap and near no edge. A box covers a point in
plan between its low sides (included) and its high sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros_attn.sim.terrain import Array, Terrain

PARKED = (0.0, 0.0, -50.0, 0.01, 0.01, 0.01)
"""Centre and half sizes of a box that is not in use (m)."""
STAND_ABOVE_M, STAND_BELOW_M = 0.05, 0.01
"""A point stands on a top that is at most so far below or above it: the height of a foot's centre; its sinking in."""
OVERHANG_M = 0.02
"""A foot whose centre is so far outside a box in plan, and over no other top, still rests on its edge."""
EDGE_DROP_M = 0.03
"""A surface beyond a side that is lower by more is an edge, and so is an opening higher than that."""
_JOINT_M = 0.005  # a slit between boxes that is no edge
_SAME_CUT_M = 1e-4
_BINS = 1024
_BLOCK = 16_384

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]
_Part = slice | Index
_Query = Callable[[_Part, Float], NDArray]


def open_sides(terrain: Terrain) -> Bool:
    """Which sides of each box are edges, [K, 4] in the order low x, high x, low y, high y.

    A side is none where, along its whole length, the floor or other boxes just beyond it have a surface lower by at
    most ``EDGE_DROP_M``, or are a wall that begins at most that much above the top. A side covered in part is an edge.
    """
    centre, half = terrain.boxes[:, :3], terrain.boxes[:, 3:]
    low, high = centre - half, centre + half
    sides = np.ones((len(low), 4), dtype=bool)
    top, bottom = high[:, 2], low[:, 2]
    goes_on = (top >= top[:, None] - EDGE_DROP_M) & (bottom <= top[:, None] + EDGE_DROP_M)
    for side in range(4):
        across, along = side // 2, 1 - side // 2
        if side % 2:
            probe = high[:, across, None] + _JOINT_M
        else:
            probe = low[:, across, None] - _JOINT_M
        beyond = goes_on & (low[:, across] <= probe) & (high[:, across] >= probe)
        # The union of the neighbours' extents along the side: sorted by begin, no hole wider than a joint.
        begin = np.where(beyond, low[:, along], np.inf)
        order = np.argsort(begin, axis=1)
        begin = np.take_along_axis(begin, order, axis=1)
        end = np.take_along_axis(np.where(beyond, high[:, along], -np.inf), order, axis=1)
        reached = np.maximum.accumulate(np.maximum(end, low[:, along, None]), axis=1)
        reached = np.concatenate([low[:, along, None], reached], axis=1)
        begin = np.minimum(np.concatenate([begin, np.full((len(low), 1), np.inf)], axis=1), high[:, along, None])
        sides[:, side] = (begin - reached > _JOINT_M).any(axis=1)
    return sides & (top - terrain.floor_z > EDGE_DROP_M)[:, None]


def _cuts(low: Array, high: Array) -> Array:
    """Where boxes begin or end along one axis, in order, without repetitions."""
    ordered = np.sort(np.concatenate([low, high]))
    return ordered[np.diff(ordered, prepend=-np.inf) > _SAME_CUT_M]


class TerrainBatch:
    """Terrains of E environments in padded arrays, and questions about them.

    ``boxes`` [E, K, 6] (unused ones ``PARKED``), ``floor_z`` [E], ``route`` [E, W, 3] (the last waypoint repeated),
    ``lengths`` [E] (waypoints in use), ``gaps`` [E, G, 6] and ``landing`` [E, 6] (unused ones empty: low +inf, high
    -inf). All are float64 and to be read only; :meth:`set` changes them. Every environment begins flat.
    """

    def __init__(self, environments: int, boxes: int = 40, waypoints: int = 16, gaps: int = 16) -> None:
        if min(environments, boxes, waypoints, gaps) < 1:
            raise ValueError(
                f"{environments} environments with room for {boxes} boxes, {waypoints} waypoints and {gaps} gaps; "
                "give at least 1 of each"
            )
        self.environments = environments
        self.boxes = np.tile(np.array(PARKED), (environments, boxes, 1))
        self.floor_z = np.zeros(environments)
        self.route = np.zeros((environments, waypoints, 3))
        self.lengths = np.ones(environments, dtype=np.intp)
        self.gaps = np.tile(np.repeat([np.inf, -np.inf], 3), (environments, gaps, 1))
        self.landing = np.tile(np.repeat([np.inf, -np.inf], 3), (environments, 1))
        # Sides of the boxes [E, 6, K]: low x y z, high x y z; and the same where the side is an edge, else infinite.
        self._sides = np.zeros((environments, 6, boxes), dtype=np.float32)
        self._edges = np.zeros((environments, boxes, 4), dtype=np.float32)
        self._gap_sides = np.zeros((environments, 6, gaps), dtype=np.float32)
        self._begins = np.zeros((environments, waypoints), dtype=np.float32)
        # The sides cut the plane into at most (2K + 1)² rectangles of one height each. The rectangle of a point is
        # found from a table of bins over the extent, corrected by one comparison with the next cut.
        cuts = 2 * boxes
        self._cut = np.zeros((2, environments, cuts + 1), dtype=np.float32)
        self._bin = np.zeros((2, environments, _BINS), dtype=np.int32)
        self._bin_origin = np.zeros((2, environments, 1), dtype=np.float32)
        self._bin_rate = np.zeros((2, environments, 1), dtype=np.float32)
        self._heights = np.zeros((environments, cuts + 1, cuts + 1), dtype=np.float32)
        self._given: list[Terrain | None] = [None] * environments
        # What terrains in use come to, as many environments and episodes may share one.
        self._known: WeakKeyDictionary[Terrain, list[NDArray]] = WeakKeyDictionary()
        everywhere = np.arange(environments)
        self._bin_row = (everywhere[:, None] * _BINS).astype(np.int32)
        self._cut_row = everywhere[:, None] * (cuts + 1)
        flat = Terrain("flat", np.empty((0, 6)), 0.0, np.zeros((1, 3)), np.empty((0, 6)))
        self.set(everywhere, [flat] * environments)

    def set(self, ids: ArrayLike, terrains: Sequence[Terrain]) -> None:
        """Give environments ``ids`` [n] the n ``terrains``. Raises ``ValueError`` where one does not fit."""
        ids = np.atleast_1d(np.asarray(ids, dtype=np.intp))
        if len(ids) != len(terrains):
            raise ValueError(f"{len(terrains)} terrains for {len(ids)} environments; give one for each")
        for terrain in terrains:
            for what, used, room in (
                ("boxes", len(terrain.boxes), self.boxes.shape[1]),
                ("waypoints", len(terrain.route), self.route.shape[1]),
                ("gaps", len(terrain.gaps), self.gaps.shape[1]),
            ):
                if used > room:
                    raise ValueError(
                        f"terrain '{terrain.name}' has {used} {what} and the batch has room for {room}; "
                        f"make the batch with more {what}"
                    )
        for index, terrain in zip(ids, terrains, strict=True):
            if self._given[index] is terrain:
                continue
            known = self._known.get(terrain)
            if known is None:
                self._set(index, terrain)
                self._known[terrain] = [row.copy() for row in self._rows(index)]
            else:
                for row, values in zip(self._rows(index), known, strict=True):
                    row[...] = values
            self._given[index] = terrain

    def _rows(self, index: np.intp) -> list[NDArray]:
        """Views of all that :meth:`_set` writes of an environment."""
        one = slice(index, index + 1)
        first = (
            self.boxes, self.floor_z, self.route, self.lengths, self.gaps, self.landing, self._sides, self._edges,
            self._gap_sides, self._begins, self._heights,
        )  # fmt: skip
        second = (self._cut, self._bin, self._bin_origin, self._bin_rate)
        return [array[one] for array in first] + [array[:, one] for array in second]

    def _set(self, index: np.intp, terrain: Terrain) -> None:
        boxes, waypoints, gaps = len(terrain.boxes), len(terrain.route), len(terrain.gaps)
        self.boxes[index, :boxes], self.boxes[index, boxes:] = terrain.boxes, PARKED
        self.floor_z[index] = terrain.floor_z
        self.route[index, :waypoints], self.route[index, waypoints:] = terrain.route, terrain.route[-1]
        self.lengths[index] = waypoints
        nowhere = np.repeat([np.inf, -np.inf], 3)
        self.gaps[index, :gaps], self.gaps[index, gaps:] = terrain.gaps, nowhere
        self._gap_sides[index] = self.gaps[index].T
        self.landing[index] = nowhere if terrain.landing is None else terrain.landing

        low, high = terrain.boxes[:, :3] - terrain.boxes[:, 3:], terrain.boxes[:, :3] + terrain.boxes[:, 3:]
        self._sides[index, :3, :boxes], self._sides[index, 3:, :boxes] = low.T, high.T
        self._sides[index, :3, boxes:], self._sides[index, 3:, boxes:] = np.inf, -np.inf
        self._sides[index, 2, :boxes][low[:, 2] <= terrain.floor_z] = -np.inf  # it stands on the floor: no underside
        plan = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
        self._edges[index, :boxes] = np.where(open_sides(terrain), plan, [-np.inf, np.inf, -np.inf, np.inf])

        self._begins[index, waypoints:] = np.inf
        for order, (x, y, z) in enumerate(terrain.route):
            under = (low[:, 0] <= x) & (x <= high[:, 0]) & (low[:, 1] <= y) & (y <= high[:, 1])
            under &= np.abs(high[:, 2] - z) <= STAND_BELOW_M
            self._begins[index, order] = low[under, 0].min() if under.any() else x
        self._map_heights(index, low, high, terrain.floor_z)

    def _map_heights(self, index: np.intp, low: Array, high: Array, floor_z: float) -> None:
        middles = []
        for axis in range(2):
            cuts = _cuts(low[:, axis], high[:, axis])
            self._cut[axis, index] = np.inf
            self._cut[axis, index, : len(cuts)] = cuts
            # The last bin begins at the last cut; the first holds whatever lies before the first one.
            extent = np.ptp(cuts) if len(cuts) else 1.0
            begin = cuts[0] if len(cuts) else 0.0
            edges = begin + extent * np.arange(_BINS) / (_BINS - 1)
            self._bin[axis, index] = np.searchsorted(cuts, edges, side="left")
            self._bin_origin[axis, index], self._bin_rate[axis, index] = begin, (_BINS - 1) / extent
            middles.append((cuts[1:] + cuts[:-1]) / 2)
        x, y = middles
        self._heights[index] = floor_z
        if len(x):
            over_x = (low[:, 0] < x[:, None]) & (x[:, None] < high[:, 0])
            over_y = (low[:, 1] < y[:, None]) & (y[:, None] < high[:, 1])
            tops = np.where(over_x[:, None] & over_y[None], high[:, 2], floor_z).max(axis=-1)
            self._heights[index, 1 : len(x) + 1, 1 : len(y) + 1] = np.maximum(tops, floor_z)

    # -- queries ----------------------------------------------------------------------------------------

    def height(self, xy: ArrayLike, ids: Index | None = None) -> Float:
        """Height of the highest surface, box or floor, under or over each point ``xy`` [E, P, 2]; [E, P] m.

        ``ids`` [n]: of these environments alone, points [n, P, 2].

        Exact but where two cuts lie in one bin, 1/1023 of the terrain's extent (under 1 cm for 10 m): there a side may
        be misplaced by that much.
        """
        return self._in_blocks(self._height_of, xy, np.float32, axes=2, ids=ids)

    def height_below(self, xyz: ArrayLike) -> Float:
        """Height of the highest surface at or below each point ``xyz`` [E, P, 3]; [E, P] m.

        A top up to ``STAND_BELOW_M`` above the point counts; a point under a tread gets what is below the tread. Costs
        a comparison a box.
        """
        return self._in_blocks(self._height_below_of, xyz, np.float32, each=self.boxes.shape[1])

    def edge_distance(self, points: ArrayLike) -> Float:
        """Horizontal distance [E, F] m from each of ``points`` [E, F, 3] to the nearest edge of the box it stands on.

        A point stands on the highest top that covers it in plan and lies at most ``STAND_ABOVE_M`` below or
        ``STAND_BELOW_M`` above it; where there is none, on the nearest box with such a top whose side is at most
        ``OVERHANG_M`` away, at distance 0. Which sides are edges: :func:`open_sides`. +inf over the floor and in the
        air, and on boxes without edges. Edges of a neighbour that continues the surface are not looked at.
        """
        return self._in_blocks(self._edge_distance_of, points, np.float32, each=self.boxes.shape[1])

    def in_gap(self, points: ArrayLike) -> Bool:
        """Whether each of ``points`` [E, F, 3] is in a gap; [E, F]."""
        return self._in_blocks(self._in_gap_of, points, np.bool_, each=self.gaps.shape[1])

    def below_tread(self, points: ArrayLike) -> Bool:
        """Whether each of ``points`` [E, F, 3] lies under the underside of a box that covers it in plan; [E, F].

        A box that stands on the floor has no underside.
        """
        return self._in_blocks(self._below_tread_of, points, np.bool_, each=self.boxes.shape[1])

    def waypoint(self, x: ArrayLike) -> Index:
        """Index into ``route`` [E] of the tread (or landing) that a base at ``x`` [E] m is over, -1 before the first.

        A waypoint begins where the box does whose top it lies on, without such a box at its own x. Beyond the end the
        last index.
        """
        return np.count_nonzero(self._begins <= np.asarray(x, dtype=np.float32)[:, None], axis=1) - 1

    def ahead(self, xy: ArrayLike, steps: int = 2) -> Array:
        """The waypoint [E, 3] m that is ``steps`` after the one a base at ``xy`` [E, 2] is over, at most the last."""
        index = np.clip(self.waypoint(np.asarray(xy)[:, 0]) + steps, 0, self.lengths - 1)
        return self.route[np.arange(self.environments), index]

    # -- the same for a block of environments -----------------------------------------------------------

    def _in_blocks(
        self, query: _Query, points: ArrayLike, dtype: type[np.generic], each: int = 1, axes: int = 3,
        ids: Index | None = None,
    ) -> NDArray:  # fmt: skip
        """``query`` on all environments, a block at a time: its temporary arrays stay in the cache, and small enough
        that the allocator hands out the same pages again (whole batches cost twice as much, in page faults).
        ``each``: elements that a point takes; ``axes``: coordinates that it has."""
        points = np.asarray(points)
        count = self.environments if ids is None else len(ids)
        if points.ndim != 3 or points.shape[0] != count or points.shape[2] != axes:
            raise ValueError(f"points of shape {points.shape} in {count} environments; give [{count}, points, {axes}]")
        answers = np.empty(points.shape[:2], dtype=dtype)
        block = max(1, _BLOCK // (max(1, points.shape[1]) * each))
        for begin in range(0, count, block):
            part = slice(begin, begin + block)
            coordinates = np.moveaxis(points[part], -1, 0).astype(np.float32, order="C")
            answers[part] = query(part if ids is None else ids[part], coordinates)
        return answers

    def _height_of(self, part: _Part, points: Float) -> Float:
        cells = []
        for axis in range(2):
            place = (points[axis] - self._bin_origin[axis, part]) * self._bin_rate[axis, part]
            np.fmin(np.fmax(place, 0.0, out=place), _BINS - 1.0, out=place)
            before = self._bin[axis].take(place.astype(np.int32) + self._bin_row[part], mode="clip")
            before += points[axis] >= self._cut[axis].take(before + self._cut_row[part], mode="clip")
            cells.append(before)
        side = self._heights.shape[-1]
        return self._heights.take((self._cut_row[part] + cells[0]) * side + cells[1], mode="clip")

    def _covered(self, part: _Part, x: Float, y: Float) -> Bool:
        """[E, F, K]: the box covers the point [E, F, 1] in plan."""
        low_x, low_y, _, high_x, high_y, _ = self._box_sides(part)
        return (low_x <= x) & (x < high_x) & (low_y <= y) & (y < high_y)

    def _box_sides(self, part: _Part) -> list[Float]:
        return [self._sides[part, None, side] for side in range(6)]

    def _height_below_of(self, part: _Part, points: Float) -> Float:
        x, y, z = points[..., None]
        top = self._box_sides(part)[5]
        below = self._covered(part, x, y) & (top <= z + np.float32(STAND_BELOW_M))
        surface = np.where(below, top, -np.inf).max(axis=-1)
        return np.maximum(surface, self.floor_z[part, None])

    def _edge_distance_of(self, part: _Part, points: Float) -> Float:
        x, y, z = points[..., None]
        low_x, low_y, _, high_x, high_y, top = self._box_sides(part)
        outside = np.maximum(np.maximum(low_x - x, x - high_x), np.maximum(low_y - y, y - high_y))
        np.maximum(outside, 0, out=outside)
        height = z - top
        near = (outside <= OVERHANG_M) & (height <= STAND_ABOVE_M) & (height >= -STAND_BELOW_M)
        # Boxes that cover the point come before any that do not, then the nearer, then the higher one.
        rank = np.where(near, top - np.float32(1e4) * outside, -np.inf)
        box = rank.argmax(axis=-1)[..., None]
        stands = np.take_along_axis(near, box, axis=-1)[..., 0]
        low_x, high_x, low_y, high_y = np.moveaxis(np.take_along_axis(self._edges[part], box, axis=1), -1, 0)
        x, y, _ = points
        distance = np.minimum(np.minimum(x - low_x, high_x - x), np.minimum(y - low_y, high_y - y))
        return np.where(stands, np.maximum(distance, 0), np.inf)

    def _in_gap_of(self, part: _Part, points: Float) -> Bool:
        low_x, low_y, low_z, high_x, high_y, high_z = (self._gap_sides[part, None, side] for side in range(6))
        x, y, z = points[..., None]
        inside = (low_x <= x) & (x <= high_x) & (low_y <= y) & (y <= high_y) & (low_z <= z) & (z <= high_z)
        return inside.any(axis=-1)

    def _below_tread_of(self, part: _Part, points: Float) -> Bool:
        x, y, z = points[..., None]
        return (self._covered(part, x, y) & (z < self._box_sides(part)[2])).any(axis=-1)
