"""Straight flights of stairs along +x: solid ones, hollow ones (treads without risers), and the evaluation episode.

A flight has N treads and a landing. Tread i = 0..N-1 has its front edge at ``start + i·run``, its back edge ``depth``
further and its top at ``(i + 1)·rise``. The landing is one more step: its front edge at ``start + N·run`` and its top
one rise above the last tread, so that a robot climbs N + 1 equal rises. ``run = depth - nosing`` (nosing: how far a
tread reaches over the one below) and ``rise = run·tan(slope)``: the slope is that of the line of the front edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ros_attn.sim.terrain import Array, Terrain, between

EPISODE_TREADS = 12
EPISODE_WIDTH_M = 1.0
EPISODE_THICKNESS_M = (0.03, 0.05)
EPISODE_SLOPES_DEG = (15.0, 20.0, 25.0, 30.0, 37.0, 45.0, 55.0)
MAX_RISE_M = 0.25
_DEPTH_SLOPES_DEG = (15.0, 37.0, 45.0, 55.0)
_SHALLOWEST_M = (0.24, 0.24, 0.18, 0.16)
_DEEPEST_M = (0.30, 0.30, 0.25, 0.175)
_ARRIVED_BELOW_M, _ARRIVED_ABOVE_M = 0.01, 0.30


@dataclass(frozen=True)
class _Flight:
    """x and z of the treads and, last, of the landing, [N + 1] each."""

    front: Array
    back: Array
    top: Array
    rise: float

    @classmethod
    def of(
        cls, slope_deg: float, depth_m: float, nosing_m: float, treads: int, start_m: float, landing_m: float
    ) -> _Flight:
        if treads < 1 or not 0 < slope_deg < 90 or not 0 <= nosing_m < depth_m or not landing_m > nosing_m:
            raise ValueError(
                f"stairs of {treads} treads, {slope_deg} degrees, depth {depth_m} m, nosing {nosing_m} m and a landing "
                f"of {landing_m} m cannot be built; give at least one tread, a slope between 0 and 90 degrees, and a "
                "depth and a landing longer than the nosing"
            )
        run = depth_m - nosing_m
        rise = run * float(np.tan(np.deg2rad(slope_deg)))
        front = start_m + run * np.arange(treads + 1, dtype=np.float64)
        back = front + np.append(np.full(treads, depth_m), landing_m)
        return cls(front, back, rise * np.arange(1, treads + 2, dtype=np.float64), rise)

    def terrain(self, kind: str, slope_deg: float, right: Array, left: Array, bottom: Array, gaps: Array) -> Terrain:
        boxes = between(
            np.stack([self.front, right, bottom], axis=1), np.stack([self.back, left, self.top], axis=1)
        )  # fmt: skip
        route = np.stack([boxes[:, 0], boxes[:, 1], self.top], axis=1)
        landing = np.array([
            self.front[-1], right[-1], self.top[-1] - _ARRIVED_BELOW_M,
            self.back[-1], left[-1], self.top[-1] + _ARRIVED_ABOVE_M,
        ])  # fmt: skip
        return Terrain(kind, boxes, 0.0, route, gaps, landing, slope_deg)


def solid_stairs(
    slope_deg: float, *, depth_m: float, treads: int = 12, width_m: float = 1.0, start_m: float = 1.0,
    landing_m: float = 2.0,
) -> Terrain:  # fmt: skip
    """Stairs of blocks that stand on the floor, without gaps. Raises ``ValueError`` where no flight results."""
    flight = _Flight.of(slope_deg, depth_m, 0.0, treads, start_m, landing_m)
    side = np.full(treads + 1, width_m / 2)
    return flight.terrain("solid stairs", slope_deg, -side, side, np.zeros(treads + 1), np.empty((0, 6)))


def hollow_stairs(
    rng: np.random.Generator, slope_deg: float, *, depth_m: float, thickness_m: float = 0.04, treads: int = 12,
    width_m: float = 1.0, nosing_m: float = 0.0, narrower_m: float = 0.0, shift_m: float = 0.0, start_m: float = 1.0,
    landing_m: float = 2.0,
) -> Terrain:  # fmt: skip
    """Slabs without risers, and a slab as landing, all ``thickness_m`` thick.

    Each tread is narrower than ``width_m`` by =U(0, ``narrower_m``) and shifted sideways by =U(-``shift_m``,
    ``shift_m``); the landing is neither.

    Gap i is what a foot enters when it is poked through below step i (N treads and the landing: N + 1 gaps). In plan it
    runs from the back edge of the step below, where the support ends (without nosing that is the front edge of step i;
    for the first tread its own front edge), to the back edge of step i, and as wide as the staircase and the tread
    together, side gaps included. In height it runs from the floor to the underside of step i: a foot that sank deeper
    is no better off. So the gaps together are all the space under the steps, also a foot on the floor under the first
    tread, and no foot that stands on a step is in one. Raises ``ValueError`` where no flight results or the treads are
    as thick as the rise, which leaves no opening.
    """
    flight = _Flight.of(slope_deg, depth_m, nosing_m, treads, start_m, landing_m)
    if not width_m > 0:
        raise ValueError(f"stairs cannot be {width_m} m wide; give a width above 0")
    if not 0 < thickness_m < flight.rise:
        raise ValueError(
            f"hollow stairs with a rise of {flight.rise:.3f} m and treads {thickness_m} m thick have no opening; "
            "give thinner or deeper treads or a steeper slope"
        )
    if not 0 <= narrower_m < width_m or shift_m < 0:
        raise ValueError(
            f"treads narrower by up to {narrower_m} m and shifted by up to {shift_m} m do not make stairs {width_m} m "
            "wide; give amounts from 0 to below the width"
        )
    half = (width_m - np.append(rng.uniform(0.0, narrower_m, treads), 0.0)) / 2
    shift = np.append(rng.uniform(-shift_m, shift_m, treads), 0.0)
    right, left, bottom = shift - half, shift + half, flight.top - thickness_m
    low = [np.append(flight.front[0], flight.back[:-1]), np.minimum(right, -width_m / 2), np.zeros(treads + 1)]
    high = [flight.back, np.maximum(left, width_m / 2), bottom]
    return flight.terrain("hollow stairs", slope_deg, right, left, bottom, np.stack([*low, *high], axis=1))


def episode_depths(slope_deg: float) -> tuple[float, float]:
    """Least and greatest tread depth [m] of :func:`episode_stairs`. Raises ``ValueError`` for other slopes."""
    if not _DEPTH_SLOPES_DEG[0] <= slope_deg <= _DEPTH_SLOPES_DEG[-1]:
        raise ValueError(f"evaluation stairs of {slope_deg} degrees are not defined; give a slope from 15 to 55")
    deepest = np.interp(slope_deg, _DEPTH_SLOPES_DEG, _DEEPEST_M)
    deepest = min(deepest, MAX_RISE_M / np.tan(np.deg2rad(slope_deg)))
    return float(np.interp(slope_deg, _DEPTH_SLOPES_DEG, _SHALLOWEST_M)), float(deepest)


def episode_stairs(rng: np.random.Generator, slope_deg: float, width_m: float = EPISODE_WIDTH_M) -> Terrain:
    """The hollow stairs of one evaluation episode, ``slope_deg`` from 15 to 55.

    12 treads, ``width_m`` wide, thickness =U(0.03, 0.05) m, depth =U(0.24, 0.30) m up to 37 degrees, =U(0.18, 0.25)
    at 45, =U(0.16, 0.175) at 55, the limits interpolated linearly in between and the upper one lowered where the rise
    would exceed 0.25 m (between 45 and 55 degrees). The first tread begins 1 m ahead of the start; the landing is 2 m
    long. Depth and thickness are drawn once a flight. Raises ``ValueError`` for other slopes.
    """
    depth, thickness = float(rng.uniform(*episode_depths(slope_deg))), float(rng.uniform(*EPISODE_THICKNESS_M))
    return hollow_stairs(rng, slope_deg, depth_m=depth, thickness_m=thickness, treads=EPISODE_TREADS, width_m=width_m)
