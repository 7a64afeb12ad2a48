"""The filter over time: how much noise it takes away, and that what changes comes through at once."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.perception.infrared_visible_fusion.temporal import TemporalFilter, noise_deviation
from ros_attn.values import Array
from tests.images import scene

FRAME_NS = 100_000_000


def still(seed: int = 0) -> Array:
    return np.clip(scene(0, "mono8", seed, 240, 320).data.astype(np.float32), 40, 200)


def noisy(image: Array, deviation: float, seed: int) -> Array:
    return image + np.random.default_rng(seed).normal(0, deviation, image.shape).astype(np.float32)


@pytest.mark.parametrize("deviation", [1.0, 3.0, 10.0])
def test_noise_is_estimated_in_spite_of_texture(deviation: float) -> None:
    ramp = np.add.outer(np.linspace(0, 200, 240), np.linspace(0, 50, 320)).astype(np.float32)
    assert noise_deviation(noisy(ramp, deviation, 0)) == pytest.approx(deviation, rel=0.1)
    assert noise_deviation(ramp) < 0.01
    textured = ramp.copy()
    textured[:, 160:] += 60 * (np.indices((240, 160)).sum(0) % 2)
    assert noise_deviation(noisy(textured, deviation, 0)) == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("deviation", [1.5, 6.0])
def test_a_still_scene_loses_the_noise_the_formula_says(deviation: float) -> None:
    filtered, image, kept = TemporalFilter(), still(), []
    for k in range(30):
        kept.append(filtered.apply(noisy(image, deviation, k), k * FRAME_NS))
    settled = np.stack(kept[10:])
    # A recursive mean with 0.4 new in each frame: sqrt(0.4 / 1.6), and from frame to frame 0.4 sqrt(1.25) / sqrt(2).
    assert (settled - image).std() / deviation == pytest.approx(0.5, abs=0.05)
    assert np.diff(settled, axis=0).std() / (deviation * 2**0.5) == pytest.approx(0.316, abs=0.04)
    assert np.abs(settled.mean(0) - image).mean() < 0.5 * deviation


def test_what_moves_leaves_no_trail() -> None:
    filtered = TemporalFilter()
    background = np.full((120, 160), 80, np.float32)
    for k in range(6):
        image = background.copy()
        image[40:80, 20 * k : 20 * k + 15] = 200
        made = filtered.apply(noisy(image, 3.0, k), k * FRAME_NS)
        assert abs(float(made[45:75, 20 * k + 3 : 20 * k + 12].mean()) - 200) < 1.0
        if k:
            assert abs(float(made[45:75, 20 * k - 17 : 20 * k - 8].mean()) - 80) < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_the_scene_is_taken_at_once_and_never_overshoots(seed: int) -> None:
    filtered, image = TemporalFilter(), still(seed)
    for k in range(10):
        filtered.apply(noisy(image, 2.0, k), k * FRAME_NS)
    for k in range(10, 14):
        made = filtered.apply(noisy(1.2 * image, 2.0, k), k * FRAME_NS)
        assert float(made.mean()) == pytest.approx(1.2 * float(image.mean()), rel=0.003)


def test_the_same_frame_again_is_not_averaged_twice() -> None:
    filtered, image = TemporalFilter(), still()
    filtered.apply(noisy(image, 3.0, 0), 0)
    once = filtered.apply(noisy(image, 3.0, 1), FRAME_NS)
    assert filtered.apply(noisy(image, 3.0, 1), FRAME_NS) is once


@pytest.mark.parametrize("stamp_ns", [-FRAME_NS, 6 * FRAME_NS])
def test_a_gap_or_a_jump_back_starts_anew(stamp_ns: int) -> None:
    filtered, image = TemporalFilter(), still()
    filtered.apply(image + 1, 0)
    later = image + 2
    assert filtered.apply(later, stamp_ns) is later
    small = np.ascontiguousarray(image[:100])
    assert filtered.apply(small, stamp_ns + FRAME_NS) is small
    filtered.reset()
    assert filtered.apply(small, stamp_ns + 2 * FRAME_NS) is small


def test_noise_that_begins_is_seen_at_once() -> None:
    filtered, ramp = TemporalFilter(), np.add.outer(np.linspace(0, 200, 240), np.zeros(320)).astype(np.float32)
    for k in range(6):
        filtered.apply(noisy(ramp, 1.0 if k < 4 else 12.0, k), k * FRAME_NS)
        assert filtered.estimate == pytest.approx(1.0 if k < 4 else 12.0, rel=0.35)
    assert filtered.noise < 2.0
