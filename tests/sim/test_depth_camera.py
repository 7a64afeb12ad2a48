"""The depth camera against closed forms, its coarse ray grid, and images that arrive late."""

from __future__ import annotations

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from mujoco.batch import Batch  # noqa: E402

from ros_attn.sim.depth_camera import DepthCamera, DepthStream  # noqa: E402
from ros_attn.sim.rotation import rotation_from_vector  # noqa: E402

LEVEL = np.array([[1.0, 0.0, 0.0, 0.0]])
ROBOT = """<body pos="0 0 {z}"><freejoint/>
<geom name="trunk" type="box" size="0.1 0.1 0.05" group="3" mass="5"/>
<geom name="leg" type="capsule" fromto="0.3 0 -0.3 0.3 0 0.3" size="0.03" group="3" mass="1"/></body>"""


def scene(geoms: str, simulations: int = 1, robot_z: float = 20.0) -> Batch:
    """A batch of floorless worlds with terrain geoms in group 0 and a robot in group 3."""
    xml = f"<mujoco><worldbody>{geoms}{ROBOT.format(z=robot_z)}</worldbody></mujoco>"
    return Batch(mujoco.MjModel.from_xml_string(xml), simulations, 1)


FLOOR = '<geom type="plane" size="0 0 1"/>'
WALL = '<geom name="wall" type="box" pos="2.5 0 0" size="1 9 9"/>'
"""Its face is x = 1.5."""
AHEAD = DepthCamera((0.0, 0.0, 0.0), 0.0)


def hollow_stairs(slope_deg: float = 30.0, depth: float = 0.27) -> str:
    rise = depth * np.tan(np.deg2rad(slope_deg))
    treads = [
        f'<geom type="box" pos="{1 + depth * (i + 0.5)} 0 {rise * (i + 1) - 0.02}" size="{depth / 2} 0.5 0.02"/>'
        for i in range(12)
    ]
    return FLOOR + "".join(treads)


# -- pinhole ------------------------------------------------------------------------------------------------


def test_a_pixels_ray_projects_back_onto_it() -> None:
    rays = AHEAD.rays()
    assert rays.shape == (48 * 64, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-12)
    # 32 / tan(43.5 deg) and 24 / tan(29 deg)
    fx, fy = 33.7209, 43.2971
    column, row = fx * rays[:, 0] / rays[:, 2] + 32, fy * rays[:, 1] / rays[:, 2] + 24
    np.testing.assert_allclose(column.reshape(48, 64), np.tile(np.arange(64) + 0.5, (48, 1)), atol=1e-3)
    np.testing.assert_allclose(row.reshape(48, 64), np.tile(np.arange(48)[:, None] + 0.5, (1, 64)), atol=1e-3)
    np.testing.assert_allclose(AHEAD.focal_px, (fx, fy), atol=1e-4)


def test_the_mount_looks_forward_and_down() -> None:
    rotation = DepthCamera((0.3, 0.0, 0.1), np.deg2rad(30)).base_from_optical()
    np.testing.assert_allclose(rotation @ [0, 0, 1], [np.cos(np.pi / 6), 0, -0.5], atol=1e-12)
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation @ [0, 1, 0], [-0.5, 0, -np.cos(np.pi / 6)], atol=1e-12)


# -- depth --------------------------------------------------------------------------------------------------


def test_a_wall_has_one_depth_along_the_axis() -> None:
    """Along the rays the corners would be farther by up to 49 %."""
    camera = DepthCamera((0.3, 0.0, 0.0), 0.0)
    image = camera.render(scene(WALL), None, np.array([[0.1, 0.0, 0.0]]), LEVEL)
    assert image.dtype == np.float32
    assert image.shape == (1, 48, 64)
    np.testing.assert_allclose(image, 1.1, atol=1e-6)


def test_a_floor_under_a_pitched_camera() -> None:
    pitch, height = 0.6, 0.45
    camera = DepthCamera((0.2, 0.0, 0.05), pitch)
    image = camera.render(scene(FLOOR), None, np.array([[3.0, -1.0, height - 0.05]]), LEVEL)[0]
    y = (np.arange(48) + 0.5 - 24) / 43.29714
    expected = np.clip(height / (np.sin(pitch) + y * np.cos(pitch)), 0.1, 2.0)
    assert (expected < 1.9).sum() > 30
    np.testing.assert_allclose(image, np.tile(expected[:, None], (1, 64)), atol=2e-6)


def test_left_and_up_in_the_world_are_left_and_up_in_the_image() -> None:
    box = '<geom type="box" pos="1.5 {y} {z}" size="0.5 {hy} {hz}"/>'
    left = AHEAD.render(scene(box.format(y=1, z=0, hy=1, hz=9)), None, np.zeros((1, 3)), LEVEL)[0]
    assert (left[:, :32] == 1.0).all()
    assert (left[:, 32:] == 2.0).all()
    above = AHEAD.render(scene(box.format(y=0, z=1, hy=9, hz=1)), None, np.zeros((1, 3)), LEVEL)[0]
    assert (above[:24] == 1.0).all()
    assert (above[24:] == 2.0).all()


def test_random_poses_mounts_and_fields_of_view_against_plane_geometry() -> None:
    """MuJoCo's own quaternion functions and the plane's equation, a pixel at a time."""
    rng = np.random.default_rng(5)
    n = 6
    camera = DepthCamera((0.33, 0.02, 0.05), 0.5, far_m=50.0, near_m=0.01)
    position = np.column_stack([rng.uniform(-2, 2, (n, 2)), rng.uniform(0.3, 0.6, n)])
    quaternion = np.array([1.0, 0, 0, 0]) + rng.normal(0, 0.15, (n, 4))
    place, turn = rng.normal(0, 0.02, (n, 3)), rng.normal(0, 0.1, (n, 3))
    zoom = rng.uniform(0.9, 1.1, n)
    image = camera.render(scene(FLOOR, n), None, position, quaternion, place, turn, zoom)
    checked = 0
    for env, row, column in rng.integers((0, 0, 0), (n, 48, 64), (300, 3)):
        half_x, half_y = np.deg2rad(87 / 2) * zoom[env], np.deg2rad(58 / 2) * zoom[env]
        x, y = (column + 0.5 - 32) / 32 * np.tan(half_x), (row + 0.5 - 24) / 24 * np.tan(half_y)
        ray = np.array([1.0, -x, -y])
        ray = rotate(ray, np.array([np.cos(0.25), 0, np.sin(0.25), 0]))
        angle = np.linalg.norm(turn[env])
        ray = rotate(ray, np.append(np.cos(angle / 2), np.sin(angle / 2) * turn[env] / angle))
        base = quaternion[env] / np.linalg.norm(quaternion[env])
        ray = rotate(ray, base)
        origin = position[env] + rotate(np.array([0.33, 0.02, 0.05]) + place[env], base)
        expected = -origin[2] / ray[2] if ray[2] < 0 else 50.0
        assert image[env, row, column] == pytest.approx(min(expected, 50.0), rel=3e-6)
        checked += 0.01 < expected < 50
    assert checked > 200


def rotate(vector: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, vector, quaternion)
    return turned


def test_depth_is_clipped_and_nothing_is_far() -> None:
    assert (AHEAD.render(scene(WALL), None, np.array([[1.45, 0, 0]]), LEVEL) == np.float32(0.1)).all()
    assert (AHEAD.render(scene(WALL), None, np.array([[-0.6, 0, 0]]), LEVEL) == 2.0).all()
    assert (AHEAD.render(scene(FLOOR), None, np.array([[0, 0, 500.0]]), LEVEL, stride=4) == 2.0).all()


def test_the_robot_does_not_see_itself() -> None:
    batch = scene(WALL, robot_z=0.0)
    position = np.zeros((1, 3))
    image = AHEAD.render(batch, None, position, LEVEL)
    np.testing.assert_allclose(image, 1.5, atol=1e-6)
    seen = AHEAD.render(batch, None, position, LEVEL, groups=(0, 3))
    assert seen.min() == pytest.approx(0.1)  # the camera is within the trunk
    ahead = DepthCamera((0.2, 0.0, 0.0), 0.0).render(batch, None, position, LEVEL, groups=(3,))[0]
    # the leg's axis is 0.1 m ahead, its radius 0.03 m
    assert ahead[24, 32] == pytest.approx(0.1)
    assert ahead[24, 0] == 2.0


def test_ids_choose_simulations_each_with_its_own_terrain() -> None:
    batch = scene(WALL, 5)
    wall = batch.model.geom("wall").id
    batch.expand("geom_pos")[:, wall, 0] = 2.0 + 0.2 * np.arange(5)
    batch.set_const()
    ids = np.array([1, 4])
    image = AHEAD.render(batch, ids, np.zeros((2, 3)), np.tile(LEVEL, (2, 1)))
    np.testing.assert_allclose(image[:, 7, 9], [1.2, 1.8], atol=1e-6)
    assert len(AHEAD.render(batch, np.zeros(0, np.intp), np.zeros((0, 3)), np.zeros((0, 4)))) == 0


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_coarse_ray_grid_is_exact_on_flat_faces(stride: int) -> None:
    camera = DepthCamera((0.3, 0.0, 0.05), 0.5)
    position, turned = np.array([[0.0, 0, 0.4]]), np.array([[0.98, 0.05, -0.03, 0.12]])
    for batch in (scene(FLOOR), scene(WALL)):
        zoom = np.array([1.05])
        full = camera.render(batch, None, position, turned, fov_scale=zoom)
        coarse = camera.render(batch, None, position, turned, fov_scale=zoom, stride=stride)
        assert full.std() > 0.1
        # a block half beyond the horizon takes its centre's word
        both = (full < 2) & (np.repeat(np.repeat(full[:, ::stride, ::stride], stride, 1), stride, 2) < 2)
        assert both.mean() > 0.5
        np.testing.assert_allclose(coarse[both], full[both], atol=2e-5)


def test_a_coarse_ray_grid_on_hollow_stairs() -> None:
    """Only pixels whose block straddles an edge are wrong: 6 % at stride 2, 12 % at stride 4."""
    rng = np.random.default_rng(1)
    n = 40
    camera = DepthCamera((0.33, 0.0, 0.05), np.deg2rad(30))
    batch = scene(hollow_stairs(), n)
    x = rng.uniform(0, 3, n)
    position = np.column_stack([x, rng.uniform(-0.1, 0.1, n), 0.33 + np.maximum(0, x - 0.9) * np.tan(np.deg2rad(30))])
    tilt = rotation_vectors(np.column_stack([np.zeros(n), -0.5 * (x > 0.8), rng.uniform(-0.17, 0.17, n)]))
    full = camera.render(batch, None, position, tilt)
    share = {}
    for stride in (2, 4):
        error = np.abs(camera.render(batch, None, position, tilt, stride=stride) - full)
        share[stride] = (error > 0.05).mean()
        coarse = DepthCamera(camera.position_m, camera.pitch_rad, 64 // stride, 48 // stride)
        nearest = coarse.render(batch, None, position, tilt).repeat(stride, 1).repeat(stride, 2)
        assert (error > 0.01).mean() < 0.45 * (np.abs(nearest - full) > 0.01).mean()
        assert share[stride] < (np.abs(nearest - full) > 0.05).mean()
    assert 0 < share[2] < 0.08
    assert share[2] < share[4] < 0.15


def rotation_vectors(vector: np.ndarray) -> np.ndarray:
    """Quaternions wxyz of rotation vectors [n, 3]."""
    angle = np.linalg.norm(vector, axis=1, keepdims=True)
    return np.concatenate([np.cos(angle / 2), 0.5 * np.sinc(angle / 2 / np.pi) * vector], axis=1)


def test_rotation_vectors() -> None:
    turn = rotation_from_vector(np.array([[0, 0, np.pi / 2], [0, 0, 0]]))
    np.testing.assert_allclose(turn[0] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_array_equal(turn[1], np.eye(3))


def test_what_no_camera_can_be_is_refused() -> None:
    with pytest.raises(ValueError, match="given in degrees"):
        DepthCamera((0, 0, 0), 0.0, horizontal_fov_rad=87.0)
    with pytest.raises(ValueError, match="near_m < far_m"):
        DepthCamera((0, 0, 0), 0.0, near_m=2.0, far_m=1.0)
    with pytest.raises(ValueError, match="at least 1"):
        DepthCamera((0, 0, 0), 0.0, width=0)
    with pytest.raises(ValueError, match="stride 3 does not divide 64 x 48"):
        AHEAD.render(scene(WALL), None, np.zeros((1, 3)), LEVEL, stride=3)
    with pytest.raises(ValueError, match="fov_scale has 2 rows and base_position 1"):
        AHEAD.render(scene(WALL), None, np.zeros((1, 3)), LEVEL, fov_scale=np.ones(2))


# -- images that arrive late --------------------------------------------------------------------------------


def code(ids: np.ndarray, step: int) -> np.ndarray:
    """An image that tells its environment and its step."""
    return np.broadcast_to((1000.0 * ids + step)[:, None, None], (len(ids), 2, 3)).astype(np.float32)


@pytest.mark.parametrize("latency", [(0.02, 0.08), (0.0, 0.0), (0.04, 0.04), (0.15, 0.37)])
def test_staggering_and_latency_step_by_step(latency: tuple[float, float]) -> None:
    environments = 13
    stream = DepthStream(environments, (2, 3), np.random.default_rng(2), latency)
    assert ((latency[0] <= stream.latency_s) & (stream.latency_s <= latency[1])).all()
    begun = np.zeros(environments, int)
    resets = {31: np.array([0, 4, 7]), 52: np.array([4])}
    for step in range(100):
        if step in resets:
            stream.reset(resets[step])
            begun[resets[step]] = step
        asked: list[np.ndarray] = []

        def render(ids: np.ndarray, step: int = step, asked: list[np.ndarray] = asked) -> np.ndarray:
            asked.append(ids)
            return code(ids, step)

        frames = stream.step(0.02 * step, render)
        np.testing.assert_array_equal(asked, [[e for e in range(environments) if e % 5 == step % 5]])
        for env in range(environments):
            late = stream.latency_s[env] * 50 - 1e-6
            arrived = [k for k in range(begun[env], step + 1) if k % 5 == env % 5 and k + late <= step]
            if not arrived:
                assert frames.age_s[env] == np.inf
                assert (frames.depth[env] == 0).all()
                assert not frames.new[env]
                continue
            assert (frames.depth[env] == 1000 * env + arrived[-1]).all()
            assert frames.age_s[env] == pytest.approx(0.02 * (step - arrived[-1]), abs=1e-9)
            assert frames.new[env] == (arrived[-1] + late > step - 1)


def test_latencies_are_drawn_anew_at_reset_and_spread() -> None:
    stream = DepthStream(4000, (1, 1), np.random.default_rng(0))
    before = stream.latency_s.copy()
    assert before.mean() == pytest.approx(0.05, abs=0.001)
    assert before.std() == pytest.approx(0.06 / np.sqrt(12), rel=0.03)
    stream.reset(np.arange(2000))
    assert (stream.latency_s[:2000] != before[:2000]).all()
    np.testing.assert_array_equal(stream.latency_s[2000:], before[2000:])


def test_a_fifth_renders_each_step_and_rates_are_free() -> None:
    stream = DepthStream(512, (1, 1), np.random.default_rng(0))
    assert {len(stream.due(0.02 * k)) for k in range(20)} == {102, 103}
    quick = DepthStream(8, (1, 1), np.random.default_rng(0), control_hz=100, image_hz=50)
    assert [len(quick.due(0.01 * k)) for k in range(4)] == [4, 4, 4, 4]


def test_stream_errors() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no multiple"):
        DepthStream(4, (1, 1), rng, image_hz=15)
    with pytest.raises(ValueError, match="latency_s"):
        DepthStream(4, (1, 1), rng, latency_s=(0.08, 0.02))
    stream = DepthStream(4, (1, 1), rng)
    stream.step(0.1, lambda ids: np.zeros((len(ids), 1, 1), np.float32))
    with pytest.raises(ValueError, match="is not after the step before"):
        stream.step(0.1, lambda ids: np.zeros((len(ids), 1, 1), np.float32))
