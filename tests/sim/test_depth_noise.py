"""The errors of a stereo depth camera: each one's statistics by itself, and all together."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

pytest.importorskip("mujoco")

from ros_attn.sim.depth_camera import DepthCamera
from ros_attn.sim.depth_noise import DepthErrors, DepthNoise

CAMERA = DepthCamera((0.0, 0.0, 0.0), 0.0)
NONE = replace(
    DepthErrors(),
    **{f.name: 0.0 for f in fields(DepthErrors) if f.name not in ("baseline_m", "edge_px", "grazing_cosine")},
)
"""No error at all, thresholds as they are."""


def wall(depth_m: float, images: int = 60) -> np.ndarray:
    return np.full((images, 48, 64), depth_m, np.float32)


def measured(
    errors: DepthErrors, depth: np.ndarray, scale: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    return DepthNoise(CAMERA, errors, scale).apply(depth, np.random.default_rng(seed))


def floor(height_m: float, pitch: float, images: int = 20) -> np.ndarray:
    """Depth of a floor, not clipped near, clipped at 2 m far."""
    y = (np.arange(48) + 0.5 - 24) / 24 * np.tan(np.deg2rad(29))
    inverse = np.maximum((np.sin(pitch) + y * np.cos(pitch)) / height_m, 0.5)
    return np.broadcast_to((1 / inverse)[:, None], (images, 48, 64)).astype(np.float32)


@pytest.mark.parametrize(("depth_m", "sigma_m"), [(1.0, 3.580e-3), (2.0, 14.32e-3)])
def test_white_noise_grows_with_the_square_of_depth(depth_m: float, sigma_m: float) -> None:
    """sigma = z^2 0.08 / (0.05 m x 446.8 px), 446.8 = 424 / tan(43.5 deg)."""
    noisy, valid = measured(replace(NONE, subpixel=0.08), wall(depth_m))
    assert valid.all()
    assert noisy.dtype == np.float32
    assert noisy.std() == pytest.approx(sigma_m, rel=0.02)
    assert noisy.mean() == pytest.approx(depth_m, abs=5e-4)
    assert DepthNoise(CAMERA, DepthErrors()).sigma_m(depth_m) == pytest.approx(sigma_m, rel=1e-3)
    along = np.corrcoef(noisy[:, :, 1:].ravel() - depth_m, noisy[:, :, :-1].ravel() - depth_m)[0, 1]
    assert abs(along) < 0.01
    assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.1
    twice, _ = measured(replace(NONE, subpixel=0.08), wall(depth_m), scale=2.0)
    assert twice.std() == pytest.approx(2 * sigma_m, rel=0.03)


def test_uniform_noise() -> None:
    noisy, _ = measured(replace(NONE, uniform_m=0.01), wall(1.0))
    assert noisy.std() == pytest.approx(0.01 / np.sqrt(3), rel=0.01)
    assert 0.00999 < np.abs(noisy - 1).max() < 0.010001


def test_stereo_matching_errs_smoothly() -> None:
    noisy, _ = measured(replace(NONE, matching_px=0.1), wall(1.0, 400))
    error = noisy - 1
    assert error.std() == pytest.approx(0.1 / (0.05 * 446.8), rel=0.03)
    # the same at every pixel, whether or not it lies on a knot
    assert error.std(axis=0).min() > 0.8 * error.std()
    assert error.std(axis=0).max() < 1.2 * error.std()
    assert np.mean(error[:, :, 1:] * error[:, :, :-1]) / error.var() > 0.95
    assert abs(np.mean(error[:, :, 24:] * error[:, :, :-24])) / error.var() < 0.1


def test_wrong_matches_are_rare_blocks() -> None:
    noisy, valid = measured(replace(NONE, mismatch=0.02, mismatch_px=6.0), wall(1.0, 200))
    wrong = np.abs(noisy - 1) > 1e-5
    assert valid.all()
    assert wrong.mean() == pytest.approx(0.02, rel=0.1)
    assert (wrong[:, ::4, ::4] == wrong[:, 3::4, 3::4]).all()
    disparity = 0.05 * 446.8 / noisy[wrong]
    # 22.34 px at 1 m
    assert 15 < disparity.min() < 16.6
    assert 28 < disparity.max() < 28.5


def test_a_shake_moves_a_frame_by_whole_pixels() -> None:
    plain = np.random.default_rng(9).uniform(0.5, 1.5, (1, 48, 64)).astype(np.float32)
    images = np.repeat(plain, 400, axis=0)
    shaken, _ = measured(replace(NONE, shake_px=1.5), images)
    moves = []
    for image in shaken:
        inner = image[10:-10, 10:-10]
        found = [
            (row, column)
            for row in range(-8, 9)
            for column in range(-8, 9)
            if np.abs(inner[::9, ::9] - plain[0, 10 - row : 38 - row, 10 - column : 54 - column][::9, ::9]).max() < 1e-5
        ]
        assert len(found) == 1
        moves += found
        (row, column), last = found[0], (47, 63)
        # what comes in at the border is the border
        np.testing.assert_allclose(image[0, 32], plain[0, max(-row, 0), np.clip(32 - column, 0, last[1])], rtol=1e-6)
        np.testing.assert_allclose(image[24, 0], plain[0, np.clip(24 - row, 0, last[0]), max(-column, 0)], rtol=1e-6)
    # rounding adds 1/12
    np.testing.assert_allclose(np.std(moves, axis=0), np.sqrt(1.5**2 + 1 / 12), rtol=0.12)
    assert abs(np.corrcoef(np.transpose(moves))[0, 1]) < 0.15
    assert np.isfinite(shaken).all()


def two_walls(images: int = 100) -> np.ndarray:
    image = wall(1.6, images)
    image[:, :, :32] = 0.8
    return image


def test_edges_fray_only_beside_discontinuities() -> None:
    noisy, valid = measured(replace(NONE, edge=0.3), two_walls())
    assert valid.all()
    off = np.abs(noisy - two_walls()) > 1e-4
    # one neighbour in four lies across the edge
    np.testing.assert_allclose(off[:, :, 31:33].mean(axis=(0, 1)), 0.3 / 4, rtol=0.15)
    assert not off[:, :, :31].any()
    assert not off[:, :, 33:].any()
    mixed = noisy[off]
    assert ((mixed > 0.8) & (mixed < 1.6)).all()
    assert mixed.std() > 0.15  # anywhere between the two, not one value


def test_a_steep_floor_has_no_edges() -> None:
    steep = floor(0.15, 0.15)
    steep = steep[:, (steep[0, :, 0] < 2.0).argmax() :]
    assert np.abs(np.diff(steep, 2, axis=1)).max() > 0.1
    camera = replace(CAMERA, height=steep.shape[1])
    _, valid = DepthNoise(camera, replace(NONE, edge_hole=1.0, edge_px=0.2)).apply(steep, np.random.default_rng(0))
    assert valid.all()


def test_holes_beside_edges() -> None:
    noisy, valid = measured(replace(NONE, edge_hole=0.2), two_walls(400))
    np.testing.assert_allclose(1 - valid[:, :, 31:33].mean(axis=(0, 1)), 0.2, rtol=0.08)
    assert valid[:, :, :31].all()
    assert valid[:, :, 33:].all()
    assert ((noisy == 0) == ~valid).all()


def test_single_holes() -> None:
    noisy, valid = measured(replace(NONE, pixel_hole=0.05), wall(1.0))
    assert 1 - valid.mean() == pytest.approx(0.05, rel=0.03)
    assert ((noisy == 0) == ~valid).all()


def test_blobs_cover_their_share_and_hang_together() -> None:
    _, valid = measured(replace(NONE, blob_share=0.05), wall(1.0, 1500))
    holes = ~valid
    assert holes.mean() == pytest.approx(0.05, rel=0.06)
    inner = holes[:, 1:-1, 1:-1]
    neighbours = holes[:, :-2, 1:-1] | holes[:, 2:, 1:-1] | holes[:, 1:-1, :-2] | holes[:, 1:-1, 2:]
    assert neighbours[inner].mean() > 0.97
    assert holes.mean(axis=0).min() > 0.02


def test_holes_at_grazing_angles() -> None:
    """The cosine of a floor's pixel from closed geometry; nothing is lost above the threshold."""
    height, pitch = 0.3, 0.05
    errors = replace(NONE, grazing_hole=0.6, grazing_cosine=0.5)
    image = floor(height, pitch, 2000)
    _, valid = measured(errors, image)
    x = (np.arange(64) + 0.5 - 32) / 32 * np.tan(np.deg2rad(43.5))
    y = ((np.arange(48) + 0.5 - 24) / 24 * np.tan(np.deg2rad(29)))[:, None]
    cosine = (np.sin(pitch) + y * np.cos(pitch)) / np.sqrt(1 + x**2 + y**2)
    on_floor = (image[0] < 2.0) & (np.roll(image[0], 1, axis=0) < 2.0)
    expected = 0.6 * np.maximum(1 - cosine / 0.5, 0)
    lost = 1 - valid.mean(axis=0)
    np.testing.assert_allclose(lost[on_floor], expected[on_floor], atol=0.05)
    assert expected[on_floor].max() > 0.3
    assert (lost[on_floor & (cosine > 0.501)] == 0).all()
    assert (1 - measured(errors, wall(1.0, 200))[1].mean(axis=0))[20:28, 28:36].max() == 0


def test_a_discontinuity_is_no_grazing_face() -> None:
    _, valid = measured(replace(NONE, grazing_hole=1.0), two_walls())
    assert valid.all()


def test_scale_zero_changes_nothing_and_the_input_is_left_alone() -> None:
    image = np.random.default_rng(6).uniform(0.1, 2, (4, 48, 64)).astype(np.float32)
    noisy, valid = measured(DepthErrors(), image, scale=0.0)
    np.testing.assert_array_equal(noisy, image)
    assert noisy is not image
    assert valid.all()
    before = image.copy()
    measured(DepthErrors(), image)
    np.testing.assert_array_equal(image, before)


def test_the_same_seed_gives_the_same_image() -> None:
    first, again, other = (measured(DepthErrors(), two_walls(3), seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).mean() > 0.9


def test_everything_together_grows_with_scale() -> None:
    """At 1 m: white 3.58 mm, uniform 1.15 mm and matching 4.48 mm add up to 5.85 mm."""
    spread, lost = [], []
    for scale in (1.0, 2.0):
        noisy, valid = measured(DepthErrors(), wall(1.0, 400), scale)
        error = noisy[valid] - 1
        spread.append(np.diff(np.quantile(error, [0.1587, 0.8413]))[0] / 2)  # of the normal part, without wrong matches
        lost.append(1 - valid.mean())
    assert spread[0] == pytest.approx(5.85e-3, rel=0.03)
    assert spread[1] == pytest.approx(2 * spread[0], rel=0.03)
    # 2 % in blobs, 0.5 % single
    assert lost[0] == pytest.approx(0.025, rel=0.15)
    assert lost[1] == pytest.approx(0.05, rel=0.15)


def test_errors() -> None:
    with pytest.raises(ValueError, match="between 0 and 2, not 3"):
        DepthNoise(CAMERA, scale=3)
    with pytest.raises(ValueError, match=r"must be \[n, 48, 64\]"):
        DepthNoise(CAMERA).apply(np.ones((48, 64), np.float32), np.random.default_rng(0))
