"""What a batch of terrains answers, against MuJoCo's rays and plain geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from ros_attn.sim.ground import PARKED, TerrainBatch, open_sides  # noqa: E402
from ros_attn.sim.stairs import episode_stairs, hollow_stairs, solid_stairs  # noqa: E402
from ros_attn.sim.terrain import Terrain, between, flat, gap_field, platforms, rough  # noqa: E402


def _terrains(seed: int = 0) -> list[Terrain]:
    rng = np.random.default_rng(seed)
    return [
        flat(),
        rough(rng, 0.12),
        solid_stairs(30.0, depth_m=0.27, treads=8),
        episode_stairs(rng, 15.0),
        episode_stairs(rng, 55.0),
        hollow_stairs(rng, 37.0, depth_m=0.27, nosing_m=0.03, narrower_m=0.2, shift_m=0.1),
        platforms(rng, 0.2),
        gap_field(rng, 0.3),
    ]


def _batch(terrains: list[Terrain]) -> TerrainBatch:
    batch = TerrainBatch(len(terrains))
    batch.set(np.arange(len(terrains)), terrains)
    return batch


def _corners(terrain: Terrain) -> tuple[np.ndarray, np.ndarray]:
    return terrain.boxes[:, :3] - terrain.boxes[:, 3:], terrain.boxes[:, :3] + terrain.boxes[:, 3:]


def _points(terrains: list[Terrain], count: int, seed: int, highest: float = 3.0) -> np.ndarray:
    """Random points [E, count, 3] about each terrain, half of them within 8 cm above a top."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2.0, -1.3, -0.7], [8.0, 1.3, highest], (len(terrains), count, 3))
    for row, terrain in enumerate(terrains):
        if len(terrain.boxes):
            low, high = _corners(terrain)
            chosen = rng.integers(len(low), size=count // 2)
            margin = np.array([0.03, 0.03, 0.0])
            on = rng.uniform(low[chosen] - margin, high[chosen] + margin)
            on[:, 2] = high[chosen, 2] + rng.uniform(-0.03, 0.08, count // 2)
            points[row, : count // 2] = on
    return points


def _off_the_sides(terrain: Terrain, points: np.ndarray, by: float = 2e-5) -> np.ndarray:
    """Points whose x, y and z keep away from the faces, where rounding decides."""
    low, high = _corners(terrain)
    faces = np.concatenate([low, high])
    distance = np.abs(points[:, None] - faces[None, :, : points.shape[1]])
    return np.asarray((distance > by).all(axis=(1, 2)))


class _Rays:
    """MuJoCo's own view of a terrain."""

    def __init__(self, terrain: Terrain) -> None:
        spec = mujoco.MjSpec()
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], pos=[0, 0, terrain.floor_z])
        for box in terrain.boxes:
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=box[:3], size=box[3:])
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)

    def __call__(self, start: np.ndarray, direction: tuple[float, float, float]) -> tuple[float, int]:
        geom = np.full(1, -1, dtype=np.int32)
        return mujoco.mj_ray(self.model, self.data, start, np.array(direction), None, 1, -1, geom), int(geom[0])


# -- heights -------------------------------------------------------------------------------------------------


def test_height_is_what_a_ray_from_above_meets() -> None:
    """Exact where box sides lie in different bins; with treads shifted at random, beside 1.5 mm along the sides."""
    terrains = _terrains()
    points = _points(terrains, 600, seed=1)
    found = _batch(terrains).height(points[..., :2])
    for row, terrain in enumerate(terrains):
        rays = _Rays(terrain)
        expected = np.array([20 - rays(np.array([x, y, 20.0]), (0.0, 0.0, -1.0))[0] for x, y in points[row, :, :2]])
        clear = _off_the_sides(terrain, points[row, :, :2], by=1.5e-3 if row == 5 else 2e-5)
        assert clear.mean() > 0.85
        np.testing.assert_allclose(found[row, clear], expected[clear], atol=1e-5, err_msg=terrain.name)


def test_height_just_beside_a_side() -> None:
    terrain = hollow_stairs(np.random.default_rng(0), 30.0, depth_m=0.25, nosing_m=0.02)
    low, high = _corners(terrain)
    rise = high[0, 2]
    x = np.concatenate([low[:, 0] - 1e-4, low[:, 0] + 1e-4, high[:, 0][-1:] - 1e-4, high[:, 0][-1:] + 1e-4])
    found = _batch([terrain]).height(np.stack([x, np.zeros_like(x)], axis=1)[None])[0]
    expected = np.concatenate([np.arange(13), np.arange(1, 14), [13, 0]]) * rise
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_height_of_many_environments_is_that_of_each_alone() -> None:
    """Blocks of environments do not mix."""
    rng = np.random.default_rng(0)
    terrains = [
        replace(platforms(rng, 0.1 + 0.001 * index, count=3), floor_z=-0.01 * (index % 7)) for index in range(300)
    ]
    batch = _batch(terrains)
    points = rng.uniform([-1, -1.2, -0.1], [5, 1.2, 0.6], (300, 187, 3))
    found = batch.height(points[..., :2]), batch.height_below(points), batch.edge_distance(points)
    for index in (0, 1, 86, 87, 88, 174, 299):
        alone = _batch([terrains[index]])
        one = points[index : index + 1]
        expected = alone.height(one[..., :2]), alone.height_below(one), alone.edge_distance(one)
        for of_all, of_one in zip(found, expected, strict=True):
            np.testing.assert_array_equal(of_all[index], of_one[0])


def test_height_below_is_what_a_ray_from_the_point_meets() -> None:
    terrains = _terrains()
    points = _points(terrains, 600, seed=2)
    points[..., 2] = np.maximum(points[..., 2], 0.02)
    found = _batch(terrains).height_below(points)
    compared = 0
    for row, terrain in enumerate(terrains):
        rays = _Rays(terrain)
        low, high = _corners(terrain)
        start = points[row] + [0, 0, 0.01]
        inside = ((start[:, None] >= low) & (start[:, None] <= high)).all(axis=2).any(axis=1)
        clear = _off_the_sides(terrain, points[row, :, :2]) & _off_the_sides(terrain, start) & ~inside
        expected = np.array([point[2] - rays(point, (0.0, 0.0, -1.0))[0] for point in start[clear]])
        np.testing.assert_allclose(found[row, clear], expected, atol=1e-5, err_msg=terrain.name)
        compared += int(clear.sum())
    assert compared > 3000


def test_height_below_a_tread_is_the_floor() -> None:
    terrain = episode_stairs(np.random.default_rng(0), 30.0)
    low, high = _corners(terrain)
    x, y = terrain.route[5, :2]
    top, bottom = high[5, 2], low[5, 2]
    points = np.array([[x, y, z] for z in (top + 0.02, top - 0.005, top - 0.015, bottom - 0.05, -0.3)])[None]
    np.testing.assert_allclose(_batch([terrain]).height_below(points)[0], [top, top, 0, 0, 0], atol=1e-6)
    assert _batch([terrain]).height(points[..., :2])[0] == pytest.approx(top)


# -- edges ---------------------------------------------------------------------------------------------------


def _open_by_sampling(terrain: Terrain) -> np.ndarray:
    """The definition of an edge, looked at every few millimetres along each side."""
    low, high = _corners(terrain)
    answer = np.zeros((len(low), 4), dtype=bool)
    for box in range(len(low)):
        top = high[box, 2]
        for side in range(4):
            across, along = side // 2, 1 - side // 2
            place = high[box, across] + 0.004 if side % 2 else low[box, across] - 0.004
            for at in np.linspace(low[box, along] + 0.004, high[box, along] - 0.004, 150):
                point = np.array([place, at] if across == 0 else [at, place])
                over = ((low[:, :2] <= point) & (point <= high[:, :2])).all(axis=1)
                held = (over & (high[:, 2] >= top - 0.03) & (low[:, 2] <= top + 0.03)).any()
                answer[box, side] |= not held and top > terrain.floor_z + 0.03
    return answer


def test_edges_are_where_the_surface_ends() -> None:
    for terrain in _terrains():
        np.testing.assert_array_equal(open_sides(terrain), _open_by_sampling(terrain), err_msg=terrain.name)


def test_edges_of_stairs() -> None:
    """Order: front, back, right, left. The last step is the landing."""
    solid = open_sides(solid_stairs(30.0, depth_m=0.27, treads=4))
    np.testing.assert_array_equal(solid, [[1, 0, 1, 1]] * 4 + [[1, 1, 1, 1]])
    hollow = open_sides(hollow_stairs(np.random.default_rng(0), 30.0, depth_m=0.27, treads=4))
    assert hollow.all()
    # A rise of 67 mm with 40 mm thick treads leaves 27 mm: too low to be an edge.
    low = open_sides(hollow_stairs(np.random.default_rng(0), 15.0, depth_m=0.25, treads=4))
    np.testing.assert_array_equal(low, [[1, 0, 1, 1]] * 4 + [[1, 1, 1, 1]])


def test_a_side_covered_in_part_is_an_edge() -> None:
    low = np.array([[0.0, 0, 0], [0.3, 0, 0], [0.3, 0.153, 0], [-0.3, 0.02, 0]])
    high = np.array([[0.3, 0.3, 0.2], [0.6, 0.15, 0.2], [0.6, 0.3, 0.18], [0.0, 0.3, 0.2]])
    terrain = Terrain("test", between(low, high), 0.0, np.zeros((1, 3)), np.empty((0, 6)))
    np.testing.assert_array_equal(
        open_sides(terrain), [[1, 0, 1, 1], [0, 1, 1, 0], [0, 1, 0, 1], [1, 0, 1, 1]]
    )  # the low x side of box 0 is bare for 2 cm; 3 mm between boxes 1 and 2 is a joint


def test_edge_distance_on_one_tread() -> None:
    tread = between(np.array([[1.0, -0.5, 0.16]]), np.array([[1.3, 0.5, 0.2]]))
    terrain = Terrain("test", tread, 0.0, np.zeros((1, 3)), np.empty((0, 6)))
    cases = [
        ((1.04, 0.0, 0.222), 0.04),  # front
        ((1.28, 0.0, 0.222), 0.02),  # back
        ((1.15, -0.47, 0.222), 0.03),  # right
        ((1.15, 0.49, 0.222), 0.01),  # left
        ((1.15, 0.0, 0.195), 0.15),  # sunk in by 5 mm
        ((0.985, 0.0, 0.21), 0.0),  # resting on the front edge
        ((0.975, 0.0, 0.21), np.inf),  # beside it
        ((1.15, 0.0, 0.255), np.inf),  # in the air
        ((1.15, 0.0, 0.185), np.inf),  # inside
        ((1.15, 0.0, 0.02), np.inf),  # on the floor under it
    ]
    found = _batch([terrain]).edge_distance(np.array([point for point, _ in cases])[None])[0]
    np.testing.assert_allclose(found, [distance for _, distance in cases], atol=1e-6)


def test_edge_distance_is_that_of_the_higher_of_two_boxes() -> None:
    plate = between(np.array([[0.0, -1.0, 0.0], [0.5, -0.1, 0.0]]), np.array([[2.0, 1.0, 0.2], [0.7, 0.1, 0.235]]))
    terrain = Terrain("test", plate, 0.0, np.zeros((1, 3)), np.empty((0, 6)))
    found = _batch([terrain]).edge_distance(np.array([[[0.54, 0.0, 0.24], [0.45, 0.0, 0.24]]]))
    np.testing.assert_allclose(found, [[0.04, 0.45]], atol=1e-6)


def test_edge_distance_against_the_definition() -> None:
    terrains = _terrains()
    points = _points(terrains, 500, seed=3)
    found = _batch(terrains).edge_distance(points)
    finite = 0
    for row, terrain in enumerate(terrains):
        low, high = _corners(terrain)
        sides = _open_by_sampling(terrain)
        clear = _off_the_sides(terrain, points[row])
        for point, distance in zip(points[row][clear], found[row][clear], strict=True):
            below = point[2] - high[:, 2]
            reach = np.linalg.norm(np.maximum(np.maximum(low - point, point - high), 0)[:, :2], ord=np.inf, axis=1)
            holding = [box for box in range(len(low)) if -0.01 <= below[box] <= 0.05 and reach[box] <= 0.02]
            expected = np.inf
            if holding:
                nearest = min(reach[box] for box in holding)
                box = max((box for box in holding if reach[box] == nearest), key=lambda index: high[index, 2])
                to_sides = [
                    point[0] - low[box, 0],
                    high[box, 0] - point[0],
                    point[1] - low[box, 1],
                    high[box, 1] - point[1],
                ]
                expected = max(
                    0.0, min([to for to, edge in zip(to_sides, sides[box], strict=True) if edge] or [np.inf])
                )
            assert distance == pytest.approx(expected, abs=1e-5), (terrain.name, point)
            finite += np.isfinite(distance)
    assert finite > 400


# -- gaps, treads, waypoints ---------------------------------------------------------------------------------


def test_in_gap_and_below_tread() -> None:
    terrains = _terrains()
    points = _points(terrains, 500, seed=4)
    batch = _batch(terrains)
    in_gap, below = batch.in_gap(points), batch.below_tread(points)
    for row, terrain in enumerate(terrains):
        rays = _Rays(terrain)
        low, high = _corners(terrain)
        clear = _off_the_sides(terrain, points[row])
        for point, gap, tread in zip(points[row][clear], in_gap[row][clear], below[row][clear], strict=True):
            assert gap == any((region[:3] <= point).all() and (point <= region[3:]).all() for region in terrain.gaps)
            inside = ((low <= point) & (point <= high)).all(axis=1).any()
            if not inside and point[2] > terrain.floor_z:
                assert tread == (rays(point, (0.0, 0.0, 1.0))[0] >= 0), (terrain.name, point)
    assert in_gap[[3, 4, 5, 7]].any(axis=1).all() and not in_gap[[0, 1, 2, 6]].any()
    assert below[[3, 4, 5]].any(axis=1).all() and not below[[0, 1, 2, 6, 7]].any()


@pytest.mark.parametrize("nosing", [0.0, 0.03])
def test_waypoints_of_stairs(nosing: float) -> None:
    terrain = hollow_stairs(np.random.default_rng(0), 30.0, depth_m=0.25, nosing_m=nosing, treads=6)
    batch = _batch([terrain, flat()])
    low, _ = _corners(terrain)

    def at(x: float) -> int:
        return int(batch.waypoint(np.array([x, x]))[0])

    for step in range(7):
        assert at(low[step, 0] - 1e-4) == step - 1 and at(low[step, 0] + 1e-4) == step
    assert at(-1.0) == -1 and at(low[6, 0] + 1.9) == 6 and at(30.0) == 6
    for x, expected in ((0.0, 1), (low[0, 0] + 0.01, 2), (low[3, 0] + 0.01, 5), (low[5, 0] + 0.01, 6), (30.0, 6)):
        ahead = batch.ahead(np.array([[x, 0.2], [x, 0.2]]))
        np.testing.assert_array_equal(ahead[0], terrain.route[expected])
        np.testing.assert_array_equal(ahead[1], flat().route[0])
    np.testing.assert_array_equal(batch.ahead(np.array([[0.0, 0], [0, 0]]), steps=4)[0], terrain.route[3])


# -- the batch -----------------------------------------------------------------------------------------------


def test_set_changes_what_it_is_told_and_nothing_remains() -> None:
    terrains = _terrains()
    batch = _batch(terrains)
    moved = [3, 5]
    batch.set(np.array(moved), [gap_field(np.random.default_rng(9), 0.2), flat()])
    now = list(terrains)
    now[3], now[5] = gap_field(np.random.default_rng(9), 0.2), flat()
    fresh = _batch(now)
    points = _points(terrains, 400, seed=5)
    for query in ("height_below", "edge_distance", "in_gap", "below_tread"):
        np.testing.assert_array_equal(getattr(batch, query)(points), getattr(fresh, query)(points), err_msg=query)
    np.testing.assert_array_equal(batch.height(points[..., :2]), fresh.height(points[..., :2]))
    np.testing.assert_array_equal(batch.ahead(points[:, 0, :2]), fresh.ahead(points[:, 0, :2]))
    for field in ("boxes", "floor_z", "route", "lengths", "gaps", "landing"):
        np.testing.assert_array_equal(getattr(batch, field), getattr(fresh, field), err_msg=field)
    assert (batch.boxes[5] == PARKED).all() and (batch.boxes[3, :6] != PARKED).any()


def test_what_is_unused_is_empty() -> None:
    stairs = solid_stairs(20.0, depth_m=0.3, treads=3)
    batch = _batch([stairs, flat()])
    assert batch.boxes.shape == (2, 40, 6) and (batch.boxes[0, 4:] == PARKED).all() and PARKED[2] < -10
    assert batch.lengths.tolist() == [4, 1]
    np.testing.assert_array_equal(batch.route[0, 3:], np.tile(stairs.route[3], (13, 1)))
    np.testing.assert_array_equal(batch.landing[0], stairs.landing)
    anywhere = np.random.default_rng(0).uniform(-60, 60, (1000, 3))
    for low, high in ((batch.landing[1, :3], batch.landing[1, 3:]), (batch.gaps[0, 0, :3], batch.gaps[0, 0, 3:])):
        assert not ((low <= anywhere) & (anywhere <= high)).all(axis=1).any()
    under_the_floor = np.array([[[0.0, 0.0, -50.5], [0.0, 0.0, -49.98]]] * 2)
    assert not batch.below_tread(under_the_floor).any() and np.isinf(batch.edge_distance(under_the_floor)).all()


def test_a_point_that_is_not_finite_harms_nobody() -> None:
    terrains = _terrains()
    batch = _batch(terrains)
    points = _points(terrains, 4, seed=6)
    clean = batch.height(points[..., :2])
    spoilt = points.copy()
    spoilt[7, 1], spoilt[4, 2], spoilt[5, 3] = np.nan, np.inf, -np.inf
    touched = np.zeros(clean.shape, dtype=bool)
    touched[7, 1] = touched[4, 2] = touched[5, 3] = True
    with np.errstate(invalid="ignore"):
        heights = batch.height(spoilt[..., :2])
        assert not batch.in_gap(spoilt)[touched].any() and not batch.below_tread(spoilt)[touched].any()
        assert np.isinf(batch.edge_distance(spoilt)[touched]).all()
    np.testing.assert_array_equal(heights[~touched], clean[~touched])
    np.testing.assert_array_equal(heights[touched], np.array([0.0, 0.0, -0.6], dtype=np.float32))


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    batch = TerrainBatch(2, boxes=10, gaps=4)
    with pytest.raises(ValueError, match=r"hollow stairs 30°' has 13 boxes and the batch has room for 10"):
        batch.set(
            [0, 1], [gap_field(np.random.default_rng(0), 0.2, count=2), episode_stairs(np.random.default_rng(0), 30)]
        )
    with pytest.raises(ValueError, match="has 5 gaps and the batch has room for 4"):
        batch.set([0], [gap_field(np.random.default_rng(0), 0.2)])
    with pytest.raises(ValueError, match="2 terrains for 1 environments"):
        batch.set([0], [flat(), flat()])
    with pytest.raises(ValueError, match=r"shape \(3, 5, 3\) in 2 environments; give \[2, points, 3\]"):
        batch.in_gap(np.zeros((3, 5, 3)))
    with pytest.raises(ValueError, match="at least 1"):
        TerrainBatch(0)
    assert (batch.boxes == PARKED).all() and (batch.floor_z == 0).all()


def test_terrain_given_twice_comes_to_the_same() -> None:
    stairs = [episode_stairs(np.random.default_rng(seed), 30.0) for seed in range(2)]
    shared, apart = TerrainBatch(4, 16), TerrainBatch(4, 16)
    shared.set([0, 1], stairs)
    shared.set([3, 1, 0], [stairs[0], flat(), stairs[1]])
    for index, terrain in ((0, 1), (3, 0)):
        apart.set([index], [episode_stairs(np.random.default_rng(terrain), 30.0)])
    for one, other in zip(shared._rows(np.intp(0)) + shared._rows(np.intp(3)),
                          apart._rows(np.intp(0)) + apart._rows(np.intp(3)), strict=True):  # fmt: skip
        assert np.array_equal(one, other)
    points = np.random.default_rng(1).uniform(-1, 5, (4, 50, 2))
    assert np.array_equal(shared.height(points), apart.height(points))
    some = np.array([3, 0])
    assert np.array_equal(shared.height(points[some], some), shared.height(points)[some])
    with pytest.raises(ValueError, match=r"give \[2, points, 2\]"):
        shared.height(points, some)
