"""The lidar against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from mujoco.batch import Batch  # noqa: E402

from ros_attn.sim.lidar import Lidar  # noqa: E402

EXACT = Lidar((0.1, 0.0, 0.2), noise_m=0.0, dropout=0.0)
WORLD = """<mujoco><worldbody><geom type="plane" size="0 0 1"/>
<geom type="box" pos="6 0 0" size="1 50 50"/>
<body pos="0 0 0.5"><freejoint/><geom type="sphere" size="0.25" group="3" mass="1"/></body></worldbody></mujoco>"""
"""A floor, a wall whose face is x = 5, and a robot round the sensor."""


def scan(
    lidar: Lidar, position: np.ndarray, yaw: float = 0.0, seed: int = 0, groups: tuple[int, ...] = (0,)
) -> np.ndarray:
    n = len(position)
    batch = Batch(mujoco.MjModel.from_xml_string(WORLD), n, 1)
    quaternion = np.tile([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], (n, 1))
    return lidar.scan(batch, None, position, quaternion, np.random.default_rng(0), groups)


def test_rays_cover_the_beams_and_the_circle() -> None:
    rays = EXACT.rays().reshape(16, 360, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(np.rad2deg(np.arcsin(rays[:, 0, 2])), np.linspace(-15, 15, 16), atol=1e-9)
    np.testing.assert_allclose(rays[:, 90, 0], 0, atol=1e-12)
    assert (rays[:, 90, 1] > 0.9).all()


@pytest.mark.parametrize("yaw", [0.0, 0.7])
def test_floor_and_wall_against_geometry(yaw: float) -> None:
    position = np.array([[0.0, 0.0, 0.5], [1.0, 2.0, 0.3]])
    points = scan(EXACT, position, yaw)
    assert points.shape == (2, 16 * 360, 3)
    rays = EXACT.rays()
    # the wall's normal and the sensor's place, seen from the turned sensor
    forward = rays @ [np.cos(yaw), -np.sin(yaw), 0]
    for env in range(2):
        height, ahead = position[env, 2] + 0.2, 5 - position[env, 0] - 0.1 * np.cos(yaw)
        with np.errstate(divide="ignore"):
            down = np.where(rays[:, 2] < 0, -height / rays[:, 2], np.inf)
            wall = np.where(forward > 0, ahead / forward, np.inf)
        distance = np.minimum(down, wall)
        across = position[env, 1] + 0.1 * np.sin(yaw) + distance * (rays @ [np.sin(yaw), np.cos(yaw), 0])
        hit = (distance < 99) & ((down < wall) | (np.abs(across) < 49))
        np.testing.assert_allclose(points[env][hit], (rays * distance[:, None])[hit], atol=1e-6)
        upwards_back = (rays[:, 2] > 0) & (forward < 0)
        assert np.isnan(points[env][upwards_back]).all()
        assert hit.mean() > 0.5


def test_range_noise_and_lost_echoes() -> None:
    lidar = replace(EXACT, noise_m=0.05, dropout=0.2)
    position = np.tile([0.0, 0.0, 0.5], (8, 1))
    true, noisy = scan(EXACT, position), scan(lidar, position)
    hit = np.isfinite(true[..., 0])
    assert 1 - np.isfinite(noisy[..., 0])[hit].mean() == pytest.approx(0.2, rel=0.05)
    assert not np.isfinite(noisy[..., 0])[~hit].any()
    error = noisy - true
    along = (error * lidar.rays()).sum(-1)[np.isfinite(noisy[..., 0])]
    assert along.std() == pytest.approx(0.05, rel=0.02)
    across = np.linalg.norm(np.cross(error, lidar.rays()), axis=-1)
    assert np.nanmax(across) < 1e-9
    np.testing.assert_array_equal(noisy, scan(lidar, position))


def test_limits_and_groups() -> None:
    position = np.array([[0.0, 0.0, 0.5]])
    distance = np.linalg.norm(scan(replace(EXACT, nearest_m=3.0, farthest_m=6.0), position), axis=-1)
    assert 3.0 <= np.nanmin(distance) < 3.2
    assert 5.9 < np.nanmax(distance) <= 6.0
    # the sphere's surface, 0.25 m round the base, passes below the sensor 0.2 m above and 0.1 m ahead of it
    near = np.linalg.norm(scan(replace(EXACT, nearest_m=0.0), position, groups=(3,)), axis=-1)
    assert np.nanmin(near) < 0.1
    assert np.isnan(scan(replace(EXACT, nearest_m=0.0, farthest_m=0.3), position)).all()


def test_errors() -> None:
    with pytest.raises(ValueError, match="sees nothing"):
        Lidar((0, 0, 0), beams=0)
    with pytest.raises(ValueError, match="nearest_m < farthest_m"):
        Lidar((0, 0, 0), dropout=1.5)
