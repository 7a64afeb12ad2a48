"""Ground for learning to climb, in levels: level ground first, hollow stairs of 5 degrees next, of 55 at last.

Level k >= 1 has hollow stairs of =U(``SLOPES_DEG[k - 1]``, ``SLOPES_DEG[k]``) degrees. Up to 15 degrees treads are
deeper than in the evaluation (:func:`ros_attn.sim.stairs.episode_stairs`), from there on of its depths; flights are
wider while they are easy. Half of them have a nosing, half treads of different widths that are shifted sideways.
A quarter of each level is other ground of about the same difficulty, lest robots know hollow stairs alone: solid
stairs, platforms, gaps and rough ground. Every ground has a landing at the end of its route. The slopes, shares and
sizes are ours; a curriculum from level ground to 55 degrees with shrinking treads is StairMaster's (arXiv 2606.25765).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ros_attn.sim.stairs import EPISODE_THICKNESS_M, episode_depths, hollow_stairs, solid_stairs
from ros_attn.sim.terrain import Terrain, flat, gap_field, platforms, rough

SLOPES_DEG = (0.0, 5.0, 8.0, 11.0, 15.0, 19.0, 23.0, 27.0, 31.0, 35.0, 39.0, 43.0, 47.0, 51.0, 55.0)
"""The steepest stairs of each level."""
TOP = len(SLOPES_DEG) - 1
NO_GOAL = -1
"""The level of ground without a landing, where robots follow their commands."""
BOXES = 16
"""The most that any of them needs."""
HOLLOW_SHARE, SOLID_SHARE = 0.75, 0.1
_TREADS = (4, 12)
"""Most falls are at the first three treads and at the landing: short flights have more of those in as much time."""
_EVALUATED_FROM_DEG = 15.0
_EASY_DEPTHS_M = (0.28, 0.32)
_LANDING_M = 2.0
_NARROWEST_M = 0.85
"""Narrower than any that robots are judged on: what is beside the treads is seen, and at the very edge of what they had
trained on, 1.0 m, a teacher fell on every third flight of 20 degrees, on none of 1.2 m."""


def _depth(rng: np.random.Generator, slope_deg: float) -> float:
    shallow, deep = episode_depths(max(slope_deg, _EVALUATED_FROM_DEG))
    easy = max(0.0, 1 - slope_deg / _EVALUATED_FROM_DEG)
    return float(rng.uniform(shallow + easy * (_EASY_DEPTHS_M[0] - shallow), deep + easy * (_EASY_DEPTHS_M[1] - deep)))


def _width(rng: np.random.Generator, slope_deg: float) -> float:
    return float(rng.uniform(_NARROWEST_M, np.interp(slope_deg, (5.0, 55.0), (1.4, 1.05))))


def _hollow(rng: np.random.Generator, slope_deg: float) -> Terrain:
    depth, width = _depth(rng, slope_deg), _width(rng, slope_deg)
    nosing = float(rng.uniform(0.0, 0.03)) * (rng.random() < 0.5)
    rise = (depth - nosing) * float(np.tan(np.deg2rad(slope_deg)))
    uneven = rng.random() < 0.5
    return hollow_stairs(
        rng, slope_deg, depth_m=depth, nosing_m=nosing, thickness_m=min(float(rng.uniform(*EPISODE_THICKNESS_M)),
        0.6 * rise), treads=int(rng.integers(_TREADS[0], _TREADS[1] + 1)), width_m=width,
        narrower_m=0.1 * uneven, shift_m=0.05 * uneven, landing_m=_LANDING_M,
    )  # fmt: skip


def _solid(rng: np.random.Generator, slope_deg: float) -> Terrain:
    treads = int(rng.integers(_TREADS[0], _TREADS[1] + 1))
    depth, width = _depth(rng, slope_deg), _width(rng, slope_deg)
    return solid_stairs(slope_deg, depth_m=depth, treads=treads, width_m=width, landing_m=_LANDING_M)


def _with_landing(terrain: Terrain, begin_m: float, top_m: float = 0.0, side_m: float = 1.0) -> Terrain:
    """``terrain`` whose route ends on ground at ``top_m`` that begins at ``begin_m``."""
    end = begin_m + _LANDING_M
    landing = np.array([begin_m, -side_m, top_m - 0.01, end, side_m, top_m + 0.3])
    return replace(terrain, route=np.array([[(begin_m + end) / 2, 0.0, top_m]]), landing=landing)


def _beyond(terrain: Terrain) -> Terrain:
    """With a landing on the floor after the last box."""
    return _with_landing(terrain, float((terrain.boxes[:, 0] + terrain.boxes[:, 3]).max()) + 0.1)


def _platforms(rng: np.random.Generator, difficulty: float) -> Terrain:
    return _beyond(platforms(rng, 0.03 + 0.17 * difficulty, count=5, start_m=1.0))


def _gaps(rng: np.random.Generator, difficulty: float) -> Terrain:
    terrain = gap_field(rng, 0.04 + 0.2 * difficulty, count=4, run_out_m=_LANDING_M)
    last = terrain.boxes[-1]
    return _with_landing(terrain, float(last[0] - last[3]), side_m=float(last[4]))


def _rough(rng: np.random.Generator, difficulty: float) -> Terrain:
    return _beyond(rough(rng, 0.02 + 0.1 * difficulty, cell_m=0.4, width_m=0.8, max_boxes=BOXES))


def _level_ground(rng: np.random.Generator) -> Terrain:
    return _rough(rng, 0.0) if rng.random() < 0.5 else _with_landing(flat(), 3.0)


_OTHERS: tuple[Callable[[np.random.Generator, float], Terrain], ...] = (_platforms, _gaps, _rough)


def ground(rng: np.random.Generator, level: int) -> Terrain:
    """A ground of ``level``, :data:`NO_GOAL` or 0 to :data:`TOP`. Raises ``ValueError`` for others."""
    if not NO_GOAL <= level <= TOP:
        raise ValueError(f"there is no ground of level {level}; give one from {NO_GOAL} to {TOP}")
    if level == NO_GOAL:
        return flat()
    if level == 0:
        return _level_ground(rng)
    slope = float(rng.uniform(max(SLOPES_DEG[level - 1], 3.0), SLOPES_DEG[level]))
    kind = rng.random()
    if kind < HOLLOW_SHARE:
        return _hollow(rng, slope)
    if kind < HOLLOW_SHARE + SOLID_SHARE:
        return _solid(rng, slope)
    return _OTHERS[rng.integers(len(_OTHERS))](rng, level / TOP)


class StairsLevels:
    """Grounds of all levels from a store: making one anew for each episode costs more than stepping its robot.

    ``variety`` grounds a level, each made when first asked for, from ``seed``, level and number alone.
    """

    def __init__(self, seed: int = 0, variety: int = 64) -> None:
        self.seed, self.variety = seed, variety
        self._made: dict[tuple[int, int], Terrain] = {}

    def __call__(self, rng: np.random.Generator, level: int) -> Terrain:
        """One of the grounds of ``level``."""
        key = level, int(rng.integers(self.variety)) if level != NO_GOAL else 0
        if key not in self._made:
            self._made[key] = ground(np.random.default_rng((self.seed, level - NO_GOAL, key[1])), level)
        return self._made[key]

    def any(self, rng: np.random.Generator, level: int) -> Terrain:
        """One of the grounds of any level from 0; ``level`` is not looked at."""
        return self(rng, int(rng.integers(TOP + 1)))
