"""Stairs: the figures of the evaluation episode, and openings that are open."""

from __future__ import annotations

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from ros_attn.sim.stairs import EPISODE_SLOPES_DEG, episode_stairs, hollow_stairs, solid_stairs  # noqa: E402
from ros_attn.sim.terrain import Terrain  # noqa: E402

DEPTHS = {slope: (0.24, 0.30) for slope in (15.0, 20.0, 25.0, 30.0, 37.0)} | {45.0: (0.18, 0.25), 55.0: (0.16, 0.175)}


def _corners(terrain: Terrain) -> tuple[np.ndarray, np.ndarray]:
    return terrain.boxes[:, :3] - terrain.boxes[:, 3:], terrain.boxes[:, :3] + terrain.boxes[:, 3:]


def _ray(terrain: Terrain, start: np.ndarray, direction: tuple[float, float, float]) -> float:
    """Distance to the first box or the floor, -1 for none, of a MuJoCo ray."""
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], pos=[0, 0, terrain.floor_z])
    for box in terrain.boxes:
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=box[:3], size=box[3:])
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    geom = np.zeros(1, dtype=np.int32)
    return mujoco.mj_ray(model, data, start, np.array(direction), None, 1, -1, geom)


def test_the_slopes_of_the_evaluation() -> None:
    assert tuple(DEPTHS) == EPISODE_SLOPES_DEG


@pytest.mark.parametrize("slope", DEPTHS)
def test_episode_has_the_figures_of_the_evaluation(slope: float) -> None:
    shallowest, deepest = DEPTHS[slope]
    depths, thicknesses = [], []
    for seed in range(200):
        terrain = episode_stairs(np.random.default_rng(seed), slope)
        low, high = _corners(terrain)
        assert len(low) == 13 and terrain.floor_z == 0 and terrain.slope_deg == slope
        size = high - low
        depth, thickness = size[0, 0], size[0, 2]
        rise = depth * np.tan(np.deg2rad(slope))
        np.testing.assert_allclose(size[:-1], np.tile([depth, 1.0, thickness], (12, 1)), atol=1e-12)
        np.testing.assert_allclose(low[:, 0], 1.0 + depth * np.arange(13), atol=1e-12)
        np.testing.assert_allclose(high[:, 2], rise * np.arange(1, 14), atol=1e-12)
        np.testing.assert_allclose([low[:, 1], high[:, 1]], [[-0.5] * 13, [0.5] * 13], atol=1e-12)
        assert rise <= 0.25 and size[-1, 0] >= 1.5 and thickness < rise
        depths.append(depth)
        thicknesses.append(thickness)
    for drawn, (lowest, highest) in ((depths, (shallowest, deepest)), (thicknesses, (0.03, 0.05))):
        assert lowest <= min(drawn) + 1e-12 and max(drawn) <= highest + 1e-12
        # Of 200 uniform draws the extremes come within 5 % of the ends (missed with probability 2·0.95^200 < 1e-4).
        assert np.ptp(drawn) > 0.9 * (highest - lowest)
        assert abs(np.mean(drawn) - (lowest + highest) / 2) < 0.1 * (highest - lowest)
    assert abs(np.corrcoef(depths, thicknesses)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("slope", "shallowest", "deepest"),
    [
        (41.0, 0.21, 0.275),
        (48.0, 0.174, 0.25 / np.tan(np.deg2rad(48.0))),
        (50.0, 0.17, 0.25 / np.tan(np.deg2rad(50.0))),
    ],
)
def test_between_the_named_slopes_depths_are_interpolated(slope: float, shallowest: float, deepest: float) -> None:
    depths = [2 * episode_stairs(np.random.default_rng(seed), slope).boxes[0, 3] for seed in range(200)]
    assert shallowest <= min(depths) < shallowest + 0.05 * (deepest - shallowest)
    assert deepest - 0.05 * (deepest - shallowest) < max(depths) <= deepest
    assert max(depths) * np.tan(np.deg2rad(slope)) <= 0.25 + 1e-12


def test_same_seed_same_arrays() -> None:
    def draw(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        shifted = hollow_stairs(rng, 30.0, depth_m=0.25, narrower_m=0.2, shift_m=0.1)
        episode = episode_stairs(rng, 37.0)
        return [getattr(made, field) for made in (shifted, episode) for field in ("boxes", "route", "gaps", "landing")]

    for one, other in zip(draw(1), draw(1), strict=True):
        assert one.tobytes() == other.tobytes()
    for one, different in zip(draw(1)[::4], draw(2)[::4], strict=True):
        assert not np.array_equal(one, different)


@pytest.mark.parametrize("slope", DEPTHS)
def test_hollow_stairs_are_open_between_the_treads(slope: float) -> None:
    terrain = episode_stairs(np.random.default_rng(3), slope)
    low, high = _corners(terrain)
    for step in range(13):
        below = high[step - 1, 2] if step else 0.0
        opening, tread = (below + low[step, 2]) / 2, (low[step, 2] + high[step, 2]) / 2
        assert _ray(terrain, np.array([-1.0, 0.3, opening]), (1.0, 0.0, 0.0)) == -1
        assert _ray(terrain, np.array([-1.0, 0.3, tread]), (1.0, 0.0, 0.0)) == pytest.approx(low[step, 0] + 1)


def test_solid_stairs_are_closed_and_climb_alike() -> None:
    solid = solid_stairs(30.0, depth_m=0.28)
    hollow = hollow_stairs(np.random.default_rng(0), 30.0, depth_m=0.28)
    np.testing.assert_allclose(_corners(solid)[1], _corners(hollow)[1], atol=1e-12)
    np.testing.assert_allclose(solid.route, hollow.route, atol=1e-12)
    low, high = _corners(solid)
    assert (low[:, 2] == 0).all() and len(solid.gaps) == 0
    for step in range(13):
        z = high[step, 2] - 0.01
        assert _ray(solid, np.array([-1.0, 0.3, z]), (1.0, 0.0, 0.0)) == pytest.approx(low[step, 0] + 1)


@pytest.mark.parametrize("nosing", [0.0, 0.03])
def test_route_landing_and_slope(nosing: float) -> None:
    terrain = hollow_stairs(np.random.default_rng(0), 35.0, depth_m=0.27, nosing_m=nosing, treads=9, landing_m=1.8)
    low, high = _corners(terrain)
    run, rise = 0.27 - nosing, (0.27 - nosing) * np.tan(np.deg2rad(35.0))
    middle = 1.0 + run * np.arange(9) + 0.135
    np.testing.assert_allclose(terrain.route[:9, 0], middle)
    np.testing.assert_allclose(terrain.route[:, 2], rise * np.arange(1, 11))
    np.testing.assert_allclose(terrain.route[9], [1.0 + 9 * run + 0.9, 0.0, 10 * rise])
    climbed = np.diff(np.stack([low[:, 0], high[:, 2]]), axis=1)
    np.testing.assert_allclose(np.rad2deg(np.arctan2(climbed[1], climbed[0])), 35.0)
    assert terrain.landing is not None
    np.testing.assert_allclose(terrain.landing[:2], low[-1, :2])
    np.testing.assert_allclose(terrain.landing[3:5], high[-1, :2])
    assert terrain.landing[2] < high[-1, 2] < high[-1, 2] + 0.05 < terrain.landing[5]
    assert terrain.landing[2] > high[-2, 2] + 0.1


@pytest.mark.parametrize("nosing", [0.0, 0.03])
def test_gaps_are_the_space_under_the_steps(nosing: float) -> None:
    """Against the definition: past the support of the step below, under the underside of the step above."""
    rng = np.random.default_rng(5)
    terrain = hollow_stairs(rng, 37.0, depth_m=0.27, nosing_m=nosing, narrower_m=0.3, shift_m=0.15, treads=6)
    low, high = _corners(terrain)
    points = rng.uniform([0.8, -0.7, 0.0], [5.0, 0.7, 1.8], (4000, 3))
    at = points[:, None]
    inside = np.logical_and(at >= terrain.gaps[:, :3], at <= terrain.gaps[:, 3:]).all(axis=-1)
    inside = np.asarray(inside.any(axis=-1))
    for point, found in zip(points, inside, strict=True):
        # The step whose back edge comes next: of the steps over this x, the lowest.
        over = np.flatnonzero((low[:, 0] <= point[0]) & (point[0] <= high[:, 0]))
        step = over[0] if len(over) else None
        expected = (
            step is not None
            and min(-0.5, low[step, 1]) <= point[1] <= max(0.5, high[step, 1])
            and point[2] <= low[step, 2]
        )
        assert found == expected, point
    assert 0.05 < inside.mean() < 0.95


@pytest.mark.parametrize("nosing", [0.0, 0.03])
def test_no_foot_that_stands_is_in_a_gap_and_every_poked_foot_is(nosing: float) -> None:
    terrain = hollow_stairs(np.random.default_rng(5), 37.0, depth_m=0.27, nosing_m=nosing)
    low, high = _corners(terrain)

    def in_gap(x: float, z: float) -> bool:
        point = np.array([x, 0.1, z])
        return bool(((terrain.gaps[:, :3] <= point) & (point <= terrain.gaps[:, 3:])).all(axis=1).any())

    for step in range(13):
        for x in np.linspace(low[step, 0] + 1e-6, high[step, 0] - 1e-6, 9):
            assert not in_gap(x, high[step, 2] + 1e-6) and not in_gap(x, high[step, 2] + 0.022)
    for step in range(12):
        assert in_gap(high[step, 0] + 0.02, high[step, 2] + 0.022)
        assert in_gap(high[step, 0] + 0.02, high[step, 2] - 0.15 if step else 0.0)
    assert not in_gap(0.98, 0.022) and in_gap(1.02, 0.022)


def test_side_gaps() -> None:
    terrain = hollow_stairs(
        np.random.default_rng(0), 30.0, depth_m=0.25, treads=39, narrower_m=0.2, shift_m=0.1, width_m=1.2
    )
    low, high = _corners(terrain)
    width, middle = high[:-1, 1] - low[:-1, 1], (high[:-1, 1] + low[:-1, 1]) / 2
    assert 1.0 <= width.min() < 1.04 and 1.16 < width.max() <= 1.2
    assert -0.1 <= middle.min() < -0.08 and 0.08 < middle.max() <= 0.1
    np.testing.assert_allclose([low[-1, 1], high[-1, 1]], [-0.6, 0.6])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: episode_stairs(np.random.default_rng(0), 60.0), "from 15 to 55"),
        (lambda: hollow_stairs(np.random.default_rng(0), 5.0, depth_m=0.25, thickness_m=0.04), "no opening"),
        (lambda: hollow_stairs(np.random.default_rng(0), 30.0, depth_m=0.25, nosing_m=0.25), "longer than the nosing"),
        (lambda: hollow_stairs(np.random.default_rng(0), 30.0, depth_m=0.25, narrower_m=1.0), "below the width"),
        (lambda: solid_stairs(90.0, depth_m=0.25), "between 0 and 90"),
        (lambda: solid_stairs(30.0, depth_m=0.25, treads=0), "at least one tread"),
        (lambda: solid_stairs(30.0, depth_m=0.25, treads=200), "at most 127"),
    ],
)
def test_impossible_stairs_are_refused(build, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()
