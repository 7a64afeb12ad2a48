"""A shifted camera is found by its edges, in spite of another contrast, and nothing is said where both fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ros_attn.perception.infrared_visible_fusion.registration_check import RegistrationCheck
from ros_attn.values import Array


def scenes(seed: int) -> tuple[Array, Array]:
    """Two images of the same boxes: contrasts differ box by box, some are turned over, each has noise of its own."""
    rng = np.random.default_rng(seed)
    infrared, visible = np.full((480, 640), 90, np.float32), np.full((480, 640), 110, np.float32)
    for _ in range(40):
        x, y, w, h = rng.integers(0, 600), rng.integers(0, 440), rng.integers(15, 90), rng.integers(15, 90)
        infrared[y : y + h, x : x + w] += rng.uniform(-60, 60)
        visible[y : y + h, x : x + w] += rng.uniform(-60, 60)
    infrared, visible = (cv2.GaussianBlur(x, (0, 0), s) for x, s in ((infrared, 1.5), (visible, 0.7)))
    return infrared + rng.normal(0, 2, infrared.shape).astype(np.float32), visible + rng.normal(
        0, 2, visible.shape
    ).astype(np.float32)


def moved(image: Array, right: float, down: float) -> Array:
    change = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(image, change, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("shift", [(8, 0), (-6, 10), (0, -14)])
def test_a_shift_is_found_within_half_a_second_and_forgotten_when_mended(shift: tuple[int, int]) -> None:
    check, (infrared, visible) = RegistrationCheck(), scenes(0)
    said = [check.observe(infrared, visible, k * 100_000_000) for k in range(10)]
    assert said == [None] * 10
    knocked = moved(infrared, *shift)
    found = [check.observe(knocked, visible, k * 100_000_000) for k in range(10, 20)]
    first = next(k for k, each in enumerate(found) if each is not None)
    assert first <= 4
    assert found[-1] is not None and np.abs(np.subtract(found[-1], shift)).max() <= 2
    mended = [check.observe(infrared, visible, k * 100_000_000) for k in range(20, 30)]
    assert mended[-1] is None


def test_scenes_that_fit_are_never_named_and_those_without_common_edges_seldom() -> None:
    named = 0
    for seed in range(6):
        infrared, visible = scenes(seed)
        check = RegistrationCheck()
        assert [check.observe(infrared, visible, k * 100_000_000) for k in range(5)] == [None] * 5
        other = scenes(seed + 100)[0]
        check.reset()
        named += any(check.observe(other, visible, k * 100_000_000) for k in range(5))
    assert named <= 2


def test_small_images_are_not_judged() -> None:
    infrared, visible = (np.ascontiguousarray(each[:80, :100]) for each in scenes(0))
    check = RegistrationCheck()
    assert [check.observe(moved(infrared, 8, 0), visible, k * 100_000_000) for k in range(5)] == [None] * 5
