"""Weather against the formulas it is made of: contrast over distance, counts of photons, streaks and flakes."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.degrade.depth import FAR_M, NEAR_M, pseudo_depth
from ros_attn.degrade.weather import INFRARED_SHARE, Haze, LowLight, Rain, Snow
from ros_attn.values import Array


def checkerboard(shape: tuple[int, int] = (120, 160), low: float = 60.0, high: float = 160.0) -> Array:
    y, x = np.indices(shape)
    return np.where((y // 8 + x // 8) % 2, high, low).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("distance", [5.0, 40.0, 160.0])
def test_haze_takes_contrast_by_distance(distance: float) -> None:
    visible, infrared = checkerboard(), checkerboard(low=20.0, high=200.0)
    depth = np.full(visible.shape, distance, np.float32)
    colour = np.repeat(visible[..., None], 3, 2)
    seen, thermal = Haze(80.0, 210.0)(colour, infrared, depth, rng())
    t = np.exp(-3.912 * distance / 80.0)
    assert np.ptp(seen[..., 0]) == pytest.approx(100.0 * t, rel=1e-3, abs=1e-4)
    assert np.ptp(thermal) == pytest.approx(180.0 * t**INFRARED_SHARE, rel=1e-3)
    assert np.array_equal(seen[..., 0], seen[..., 2])
    # A contrast of 2 % is left at the visibility, which is what the word means.
    at_visibility = Haze(distance, 210.0)(visible, infrared, depth, rng())[0]
    assert np.ptp(at_visibility) == pytest.approx(2.0, rel=0.01)


def test_haze_ends_at_the_airlight() -> None:
    visible, far = checkerboard(), np.full((120, 160), 1e4, np.float32)
    assert np.allclose(Haze(50.0, 210.0)(visible, visible, far, rng())[0], 210.0)
    # At night there is little light to scatter.
    night = visible * np.float32(0.1)
    assert Haze(50.0, 210.0)(night, visible, far, rng())[0].max() < 40.0


@pytest.mark.parametrize("exposure", [0.2, 0.05])
def test_low_light_counts_photons(exposure: float) -> None:
    visible = np.full((200, 200), 186.0, np.float32)
    seen = LowLight(exposure, 4000.0, 6.0)(visible, visible, visible, rng())[0]
    linear = (seen / 255.0) ** 2.2 * 4000.0
    charge = (186.0 / 255.0) ** 2.2 * 4000.0 * exposure
    assert linear.mean() == pytest.approx(charge, rel=0.01)
    assert linear.std() == pytest.approx(np.sqrt(charge + 36.0), rel=0.02)


def test_low_light_leaves_the_infrared_camera() -> None:
    visible = checkerboard()
    assert np.array_equal(LowLight(0.1, 4000.0, 6.0)(visible, visible, visible, rng())[1], visible)


def test_rain_slants_as_one_and_only_brightens_a_dark_scene() -> None:
    dark, depth = np.full((480, 640), 40.0, np.float32), np.full((480, 640), 5.0, np.float32)
    seen = Rain(7000.0, 32.0, 0.7, 1e6)(dark, dark, depth, rng(3))[0]
    assert seen.min() >= 40.0 - 1e-3 and 0.02 < np.mean(seen > 44.0) < 0.6
    # Streaks fall: what is seen changes far less downwards than sideways.
    down, across = np.abs(np.diff(seen, axis=0)).mean(), np.abs(np.diff(seen, axis=1)).mean()
    assert down < 0.6 * across


def test_snow_covers_what_its_flakes_cover() -> None:
    grey, depth = np.full((480, 640), 100.0, np.float32), np.full((480, 640), 1.0, np.float32)
    few = Snow(600.0, 2.0, 0.9, 1e6)(grey, grey, depth, rng(1))[0]
    many = Snow(4000.0, 2.0, 0.9, 1e6)(grey, grey, depth, rng(1))[0]
    shares = [float(np.mean(x > 120.0)) for x in (few, many)]
    assert 0.003 < shares[0] < 0.03 and 4.0 < shares[1] / shares[0] < 9.0
    assert few.min() >= 99.0 and few.max() < 240.0


@pytest.mark.parametrize("make", [Haze(80.0, 210.0), Rain(3000.0, 20.0, 0.5, 300.0), Snow(1800.0, 2.0, 0.8, 200.0)])
def test_arguments_stay_as_they_are(make: Haze | Rain | Snow) -> None:
    visible, infrared, depth = checkerboard(), checkerboard(low=0.0), np.full((120, 160), 30.0, np.float32)
    copies = [x.copy() for x in (visible, infrared, depth)]
    seen = make(visible, infrared, depth, rng())
    assert all(np.array_equal(a, b) for a, b in zip((visible, infrared, depth), copies, strict=True))
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in seen)


def test_pseudo_depth_is_that_of_flat_ground() -> None:
    depth = pseudo_depth(240, 320)
    assert depth.shape == (240, 320) and depth.dtype == np.float32
    assert depth[-1, 0] == pytest.approx(NEAR_M, rel=0.01) and (depth[:100] == FAR_M).all()
    assert (np.diff(depth[:, 160]) <= 0).all() and (depth == depth[:, :1]).all()
    # Twice as far below the horizon is half as far away.
    horizon = 0.42 * 240 - 0.5
    assert depth[round(horizon + 60), 0] * 2 == pytest.approx(depth[round(horizon + 30), 0], rel=0.02)
