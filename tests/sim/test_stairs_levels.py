"""Grounds of the levels: harder and harder, within what the world has room for, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.sim.stairs import MAX_RISE_M, episode_depths, episode_stairs
from ros_attn.sim.stairs_levels import BOXES, NO_GOAL, SLOPES_DEG, TOP, StairsLevels, ground
from ros_attn.sim.terrain import Terrain

LEVELS = range(1, TOP + 1)


def grounds(level: int, count: int = 120) -> list[Terrain]:
    rng = np.random.default_rng((level, 7))
    return [ground(rng, level) for _ in range(count)]


def hollow(level: int) -> list[Terrain]:
    return [terrain for terrain in grounds(level) if terrain.kind == "hollow stairs"]


@pytest.mark.parametrize("level", range(TOP + 1))
def test_every_ground_fits_and_ends_on_a_landing(level: int) -> None:
    for terrain in grounds(level, 60):
        assert len(terrain.boxes) <= BOXES and len(terrain.route) <= 16 and len(terrain.gaps) <= 16
        assert terrain.landing is not None
        low, high = terrain.landing[:3], terrain.landing[3:]
        assert 1.0 < low[0] < 7.0 and high[0] - low[0] == pytest.approx(2.0)
        end = terrain.route[-1]
        assert (low < end).all() and (end < high).all()
        # the landing is a surface: a box's top or the floor, without anything on it
        boxes = terrain.boxes
        over = (np.abs(end[:2] - boxes[:, :2]) < boxes[:, 3:5]).all(axis=1)
        top = (boxes[:, 2] + boxes[:, 5])[over].max(initial=terrain.floor_z)
        assert top == pytest.approx(end[2])


def test_hollow_stairs_get_steeper_and_shallower() -> None:
    assert SLOPES_DEG[0] == 0 and SLOPES_DEG[1] == 5 and SLOPES_DEG[-1] == 55 and (np.diff(SLOPES_DEG) > 0).all()
    slopes = [[terrain.slope_deg for terrain in hollow(level)] for level in LEVELS]
    for level, found in zip(LEVELS, slopes, strict=True):
        assert min(found) >= SLOPES_DEG[level - 1] and max(found) <= SLOPES_DEG[level]
    assert max(slopes[-1]) > 54.5 and min(slopes[0]) >= 3
    depths = [np.mean([2 * terrain.boxes[:-1, 3].mean() for terrain in hollow(level)]) for level in LEVELS]
    assert depths[0] == pytest.approx(0.29, abs=0.015) and depths[-1] == pytest.approx(0.175, abs=0.015)
    assert (np.diff(depths) < 0.01).all()
    for level in LEVELS:
        for terrain in hollow(level):
            depth, rise = 2 * terrain.boxes[0, 3], terrain.route[1, 2] - terrain.route[0, 2]
            least, most = episode_depths(max(terrain.slope_deg, 15.0))
            assert least - 1e-9 <= depth <= max(most, 0.32) + 1e-9
            assert rise <= MAX_RISE_M + 1e-9 and 2 * terrain.boxes[0, 5] < rise
            assert 0.85 <= 2 * terrain.boxes[-1, 4] <= 1.4
            if terrain.slope_deg >= 15:
                assert depth <= most + 1e-9


def test_flights_are_narrower_and_wider_than_those_of_the_evaluation() -> None:
    evaluated = 2 * episode_stairs(np.random.default_rng(0), 20.0).boxes[-1, 4]
    for level in LEVELS:
        widths = np.array([2 * terrain.boxes[-1, 4] for terrain in hollow(level)])
        assert 0.15 < (widths < evaluated).mean() < 0.85
        assert widths.min() < evaluated - 0.1 and widths.max() > evaluated + 0.03


def test_shares_of_kinds() -> None:
    kinds = [terrain.kind for level in (3, 8, TOP) for terrain in grounds(level, 400)]
    counts = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert counts["hollow stairs"] == pytest.approx(0.75, abs=0.04)
    assert counts["solid stairs"] == pytest.approx(0.1, abs=0.03)
    assert set(counts) == {"hollow stairs", "solid stairs", "platforms", "gaps", "rough"}
    assert {terrain.kind for terrain in grounds(0)} == {"flat", "rough"}
    assert ground(np.random.default_rng(0), NO_GOAL).landing is None


def test_others_get_harder_with_the_level() -> None:
    def heights(level: int, kind: str) -> float:
        found = [terrain for terrain in grounds(level, 400) if terrain.kind == kind]
        return float(np.mean([(terrain.boxes[:, 2] + terrain.boxes[:, 5]).max() for terrain in found]))

    for kind in ("platforms", "rough"):
        assert heights(2, kind) < heights(7, kind) < heights(TOP, kind)
    holes = [
        np.mean([terrain.gaps[0, 3] - terrain.gaps[0, 0] for terrain in grounds(level, 400) if terrain.kind == "gaps"])
        for level in (1, TOP)
    ]
    assert holes == pytest.approx([0.04 + 0.2 / TOP, 0.24])


def test_store_gives_the_same_grounds_in_any_order() -> None:
    first, second = StairsLevels(seed=4), StairsLevels(seed=4)
    second(np.random.default_rng(9), 3)  # made in another order
    a = [first(np.random.default_rng(index), 6) for index in range(8)]
    b = [second(np.random.default_rng(index), 6) for index in range(8)]
    assert all(np.array_equal(x.boxes, y.boxes) for x, y in zip(a, b, strict=True))
    assert first(np.random.default_rng(0), 6) is a[0]
    other = StairsLevels(seed=5)(np.random.default_rng(0), 6)
    assert not np.array_equal(other.boxes, a[0].boxes)
    kinds = {first.any(np.random.default_rng(index), 0).name.split()[0] for index in range(60)}
    assert {"hollow", "flat"} <= kinds


def test_levels_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="no ground of level 15"):
        ground(np.random.default_rng(0), TOP + 1)
