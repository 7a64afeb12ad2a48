"""Terrains without stairs: what the generators build and what a terrain refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ros_attn.sim.ground import TerrainBatch
from ros_attn.sim.terrain import Terrain, flat, gap_field, platforms, rough


def _corners(terrain: Terrain) -> tuple[np.ndarray, np.ndarray]:
    return terrain.boxes[:, :3] - terrain.boxes[:, 3:], terrain.boxes[:, :3] + terrain.boxes[:, 3:]


def test_flat_is_the_floor() -> None:
    terrain = flat()
    assert terrain.boxes.shape == (0, 6) and terrain.gaps.shape == (0, 6) and terrain.landing is None
    assert terrain.floor_z == 0 and terrain.slope_deg == 0 and terrain.route[-1, 0] >= 20


def test_rough_is_a_mosaic_without_joints() -> None:
    terrain = rough(np.random.default_rng(0), 0.1, max_boxes=43)
    low, high = _corners(terrain)
    assert len(low) == 40 and (low[:, 2] == 0).all()
    assert 0.005 <= high[:, 2].min() < 0.015 and 0.09 < high[:, 2].max() <= 0.1
    np.testing.assert_allclose(high[:, :2] - low[:, :2], 0.35)
    np.testing.assert_allclose(low[:, :2].min(axis=0), [0.5, -0.7])
    np.testing.assert_allclose(high[:, :2].max(axis=0), [4.0, 0.7])
    area = np.prod(high[:, :2] - low[:, :2], axis=1).sum()
    assert area == pytest.approx(3.5 * 1.4) and len(np.unique(low[:, :2].round(6), axis=0)) == 40


def test_platforms_step_by_one_height() -> None:
    ends = set()
    for seed in range(50):
        terrain = platforms(np.random.default_rng(seed), 0.15, count=6 + seed % 2)
        batch = TerrainBatch(1)
        batch.set([0], [terrain])
        x = np.linspace(-1.0, 12.0, 2601)
        heights = batch.height(np.stack([x, np.zeros_like(x)], axis=1)[None])[0]
        steps = np.diff(heights)
        np.testing.assert_allclose(np.abs(steps[np.abs(steps) > 1e-6]), 0.15, atol=1e-6)
        assert (heights[x < 0.99] == 0).all() and heights[x > 1.01][0] > 0 and heights.max() < 0.31
        stretches = np.diff(x[:-1][np.abs(steps) > 1e-6])
        assert stretches.min() > 0.59 and stretches.max() < 1.21
        ends.add(round(float(heights.max()), 2))
    assert ends == {0.15, 0.3}


def test_gap_field_has_its_gaps() -> None:
    terrain = gap_field(np.random.default_rng(0), 0.25, count=4, drop_m=0.8)
    low, high = _corners(terrain)
    assert terrain.floor_z == -0.8 and (high[:, 2] == 0).all() and low[0, 0] == -1.5 and high[0, 0] == 1.0
    np.testing.assert_allclose(low[1:, 0] - high[:-1, 0], 0.25)
    lengths = (high - low)[1:-1, 0]
    assert lengths.min() >= 0.5 and lengths.max() <= 1.0 and np.ptp(lengths) > 0.05
    np.testing.assert_allclose(terrain.gaps[:, 0], high[:-1, 0])
    np.testing.assert_allclose(terrain.gaps[:, 3], low[1:, 0])
    np.testing.assert_allclose(terrain.gaps[:, [2, 5]], np.tile([-0.8, 0.0], (4, 1)))


def test_generators_repeat_with_the_seed() -> None:
    def draw(seed: int) -> list[Terrain]:
        rng = np.random.default_rng(seed)
        return [rough(rng, 0.12), platforms(rng, 0.2), gap_field(rng, 0.3)]

    for one, same, other in zip(draw(1), draw(1), draw(2), strict=True):
        assert one.boxes.tobytes() == same.boxes.tobytes() and one.gaps.tobytes() == same.gaps.tobytes()
        assert one.boxes.tobytes() != other.boxes.tobytes()


def test_a_box_may_reach_below_the_floor() -> None:
    boxes = np.array([[1.0, 0, 0.0, 0.5, 0.5, 0.1]])
    terrain = Terrain("test", boxes, 0.0, np.zeros((1, 3)), np.empty((0, 6)))
    np.testing.assert_array_equal(terrain.boxes, boxes)


def test_arrays_of_a_terrain_are_its_own() -> None:
    boxes = np.array([[1.0, 0, 0.1, 0.5, 0.5, 0.1]])
    terrain = Terrain("test", boxes, 0.0, np.zeros((1, 3)), np.empty((0, 6)))
    boxes[:] = 7
    assert terrain.boxes[0, 0] == 1
    with pytest.raises(ValueError):
        terrain.boxes[0, 0] = 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"boxes": np.zeros((2, 5))}, r"boxes has shape \(2, 5\); give \[n, 6\]"),
        ({"boxes": [[1, 0, 0.1, 0.5, 0.5, 0.1], [1, 0, 0.1, 0.5, -0.5, 0.1]]}, "box 1 has half sizes"),
        ({"boxes": [[1, 0, np.nan, 0.5, 0.5, 0.1]]}, "not finite"),
        ({"boxes": [[1, 0, 1000.0, 0.5, 0.5, 0.1]]}, "beyond 100 m"),
        ({"boxes": [[1, 0, -0.3, 0.5, 0.5, 0.1]]}, "box 0 lies below the floor"),
        ({"boxes": np.tile([1, 0, 0.1, 0.5, 0.5, 0.1], (128, 1))}, "128 boxes; give at most 127"),
        ({"route": np.empty((0, 3))}, "no waypoint"),
        ({"gaps": [[0, 0, 0, 1, 1, 0]]}, "gaps ends before it begins"),
        ({"landing": np.array([0, 0, 0, 1, -1, 1.0])}, "landing ends before it begins"),
        ({"landing": np.zeros(5)}, "landing has shape"),
        ({"floor_z": np.nan}, "floor_z is nan"),
        ({"slope_deg": 90.0}, "slope_deg 90"),
    ],
)
def test_a_wrong_terrain_is_refused(change: dict, sentence: str) -> None:
    right = Terrain("test", np.array([[1.0, 0, 0.1, 0.5, 0.5, 0.1]]), 0.0, np.zeros((1, 3)), np.empty((0, 6)))
    with pytest.raises(ValueError, match=sentence):
        replace(right, **change)


@pytest.mark.parametrize(
    "build",
    [
        lambda rng: rough(rng, 0.001),
        lambda rng: rough(rng, 0.1, max_boxes=3),
        lambda rng: platforms(rng, 0.1, count=0),
        lambda rng: gap_field(rng, 0.0),
        lambda rng: gap_field(rng, 0.2, drop_m=-1.0),
    ],
)
def test_impossible_terrains_are_refused(build: Callable[[np.random.Generator], Terrain]) -> None:
    with pytest.raises(ValueError, match="; give"):
        build(np.random.default_rng(0))
