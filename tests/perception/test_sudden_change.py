"""Dirt, saturation and knocks that befall one camera of a robot that stands."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_attn.degrade.degradation import Degradation
from ros_attn.perception.infrared_visible_fusion.sudden_change import SuddenChange
from ros_attn.values import Array

MS = 1_000_000
STAND = 6
HEIGHT, WIDTH = 240, 320


def texture(seed: int) -> Array:
    """Blobs of all sizes, grey levels."""
    rng = np.random.default_rng(seed)
    picture = np.full((HEIGHT + 80, WIDTH + 80), 110, np.float32)
    for sigma, strength in ((1.5, 12), (4, 20), (14, 25)):
        blobs = cv2.GaussianBlur(rng.standard_normal(picture.shape).astype(np.float32), (0, 0), sigma)
        picture += np.float32(strength / blobs.std()) * blobs
    return np.clip(picture, 5, 235)


def view(picture: Array, x: float = 40, y: float = 40) -> Array:
    """A window into a texture whose corner is at (x, y)."""
    by = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return cv2.warpAffine(picture, by, (WIDTH, HEIGHT))


def noisy(image: Array, k: int, camera: str) -> Array:
    rng = np.random.default_rng([k, camera == "visible"])
    return np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8).astype(np.float32)


def found(frames: list[tuple[Array, Array]], period_ms: int = 100) -> list[dict[str, str]]:
    """The kinds found at each frame of (visible, infrared), by camera."""
    watch, said = SuddenChange(), []
    for k, (v, i) in enumerate(frames):
        stamp = k * period_ms * MS
        now = watch.observe({"visible": (noisy(v, k, "visible"), stamp), "infrared": (noisy(i, k, "infrared"), stamp)})
        said.append({camera: each.kind for camera, each in now.items() if each is not None})
    return said


VISIBLE, INFRARED = texture(0), texture(1)
CALM = (view(VISIBLE), view(INFRARED))


@pytest.mark.parametrize("camera", ["visible", "infrared"])
@pytest.mark.parametrize(
    ("fault", "kind"), [("dirt", "dirt"), ("saturated", "saturated"), ("misaligned", "shifted"), ("noise", None)]
)
def test_each_fault_is_told_by_its_name_within_half_a_second(fault: str, kind: str | None, camera: str) -> None:
    change = Degradation(fault, "medium", camera, seed=3)
    v, i = (plane.astype(np.uint8) for plane in CALM)
    after = tuple(plane.astype(np.float32) for plane in change(v, i))
    said = found([CALM] * STAND + [(after[0], after[1])] * 6)
    assert said[: STAND + 2] == [{}] * (STAND + 2)
    expected = {camera: kind} if kind else {}
    assert said[STAND + 2 :] == [expected] * 4


def test_the_shift_is_in_the_pixels_of_the_camera() -> None:
    watch = SuddenChange()
    moved = view(INFRARED, 40 - 5, 40 + 3)
    for k in range(STAND + 4):
        now = moved if k >= STAND else CALM[1]
        last = watch.observe({"visible": (noisy(CALM[0], k, "visible"), k * 100 * MS),
                              "infrared": (noisy(now, k, "infrared"), k * 100 * MS)})  # fmt: skip
    knocked = last["infrared"]
    assert knocked is not None and last["visible"] is None
    np.testing.assert_allclose(knocked.moved_px, (5, -3), atol=0.5)


def test_what_is_put_right_is_no_longer_said() -> None:
    v, i = CALM
    moved = view(INFRARED, 34)
    dirty = Degradation("dirt", "medium", "visible", seed=3)(v.astype(np.uint8), i.astype(np.uint8))[0]
    for wrong in ((v, moved), (dirty.astype(np.float32), i)):
        said = found([CALM] * STAND + [wrong] * 5 + [CALM] * 6)
        assert said[STAND + 4] != {} and said[-1] == {}


def test_a_robot_that_moves_or_turns_is_not_at_fault() -> None:
    driving = [(view(VISIBLE, 10 + 3 * k, 40 + k / 2), view(INFRARED, 10 + 3 * k, 40 + k / 2)) for k in range(20)]
    assert found(driving) == [{}] * 20
    started = [CALM] * STAND + [(view(VISIBLE, 40 + 4 * k), view(INFRARED, 40 + 4 * k)) for k in range(1, 10)]
    assert found(started) == [{}] * len(started)
    bumped = [CALM] * STAND + [(view(VISIBLE, 47), view(INFRARED, 47))] * 8
    assert found(bumped) == [{}] * len(bumped)


def test_what_drives_into_both_pictures_is_no_fault() -> None:
    both = []
    for k in range(20):
        v, i = (plane.copy() for plane in CALM)
        edge = max(0, min(WIDTH, 30 * (k - STAND)))
        v[60:200, :edge], i[60:200, :edge] = 90, 170
        both.append((v, i))
    assert found(both) == [{}] * 20


def test_a_lamp_that_only_one_camera_sees_is_not_dirt() -> None:
    lit = np.clip(CALM[0] * 1.25 + 10, 0, 245)
    assert found([CALM] * STAND + [(lit, CALM[1])] * 8) == [{}] * (STAND + 8)


def test_nothing_is_found_in_a_real_drive(data: Path) -> None:
    """Two cameras of a car, through the start of a city drive."""
    folder, watch = data / "ego_kitti_raw", SuddenChange()
    names = sorted(path.name for path in (folder / "image_00" / "data").iterdir())
    for k, name in enumerate(names):
        images = {}
        for camera, part in (("visible", "image_00"), ("infrared", "image_01")):
            image = cv2.imread(str(folder / part / "data" / name), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            images[camera] = (image.astype(np.float32), k * 100 * MS)
        assert [each for each in watch.observe(images).values() if each is not None] == []
    assert len(names) > 20
