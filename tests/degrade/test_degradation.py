"""Faults by their numbers, degradations by their names, and the same bytes for the same seed and frame."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.degrade.degradation import FAULTS, SENSORS, SEVERITIES, WEATHER, Degradation, degradation, severities
from ros_attn.degrade.faults import Dirt, Misaligned, Noise, Saturated
from ros_attn.errors import RosAttnError
from ros_attn.values import Array


def scene(seed: int = 0, shape: tuple[int, int] = (120, 160)) -> tuple[Array, Array]:
    """A smooth random colour picture and a thermal one."""
    import cv2

    rng = np.random.default_rng(seed)
    visible = cv2.GaussianBlur(rng.uniform(0, 255, (*shape, 3)).astype(np.float32), (0, 0), 4)
    infrared = cv2.GaussianBlur(rng.uniform(0, 255, shape).astype(np.float32), (0, 0), 4)
    stretched = [np.clip((x - x.mean()) * 5 + 110, 0, 255).astype(np.uint8) for x in (visible, infrared)]
    return stretched[0], stretched[1]


def generators() -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng(1), np.random.default_rng(2)


def test_every_name_has_every_severity() -> None:
    assert set(severities()) == {*WEATHER, *FAULTS}
    for name, of_name in severities().items():
        assert tuple(of_name) == SEVERITIES
        for parameters in of_name.values():
            (WEATHER | FAULTS)[name](**parameters)


@pytest.mark.parametrize(
    ("name", "sensor"), [*((x, "visible") for x in WEATHER), *((x, sensor) for x in FAULTS for sensor in SENSORS)]
)
def test_what_is_heavier_changes_more(name: str, sensor: str) -> None:
    visible, infrared = scene()
    changes = []
    for severity in SEVERITIES:
        seen = Degradation(name, severity, "" if name in WEATHER else sensor, seed=4)(visible, infrared)
        clean, changed = (visible, seen[0]) if sensor == "visible" else (infrared, seen[1])
        changes.append(float(np.abs(changed.astype(float) - clean).mean()))
        assert changed.dtype == np.uint8 and changed.shape == clean.shape
        if name in FAULTS:
            other, untouched = (infrared, seen[1]) if sensor == "visible" else (visible, seen[0])
            assert untouched is other
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("label", ["rain:heavy", "snow", "infrared noise:light", "visible dirt"])
def test_the_same_seed_and_frame_give_the_same_bytes(label: str) -> None:
    visible, infrared = scene()
    runs = []
    for _ in range(2):
        make = degradation(label, seed=7)
        runs.append([make(visible, infrared, frame) for frame in (3, 0, 3)])
    for (a, b), (c, d) in zip(*runs, strict=True):
        assert np.array_equal(a, c) and np.array_equal(b, d)
    assert np.array_equal(runs[0][0][0], runs[0][2][0]) and np.array_equal(runs[0][0][1], runs[0][2][1])
    changes_with_the_frame = any(not np.array_equal(runs[0][0][k], runs[0][1][k]) for k in (0, 1))
    assert changes_with_the_frame is ("dirt" not in label)
    other = degradation(label, seed=8)(visible, infrared, 3)
    assert any(not np.array_equal(other[k], runs[0][0][k]) for k in (0, 1))


def test_noise_is_as_strong_as_it_says_and_columns_stay() -> None:
    image = np.full((400, 500), 128.0, np.float32)
    fixed = [np.random.default_rng(1) for _ in range(2)]
    a, b = (Noise(15.0, 5.0)(image, fixed[k], np.random.default_rng(k)) for k in (0, 1))
    assert (a - b).std() == pytest.approx(15.0 * np.sqrt(2), rel=0.01)
    columns = (a + b).mean(0) / 2 - 128.0
    assert columns.std() == pytest.approx(np.sqrt(25.0 + 225.0 / 800), rel=0.1)


def test_dirt_covers_its_share_and_hides_what_is_behind() -> None:
    image = scene()[1].astype(np.float32)
    seen = Dirt(0.15, 1.0)(image, *generators())
    assert np.mean(np.abs(seen - image) > 0.5) == pytest.approx(0.15, abs=0.04)
    hidden = Dirt(0.15, 1.0)(255 - image, *generators())
    covered = (np.abs(seen - image) > 20) & (np.abs(hidden - (255 - image)) > 20)
    assert np.ptp(seen[covered]) < 0.5 * np.ptp(image[covered])


@pytest.mark.parametrize("shift", [2.0, 6.0, 16.0])
def test_misaligned_by_its_shift(shift: float) -> None:
    y, x = np.indices((240, 320))
    image = 200 * np.exp(-((x - 150.0) ** 2 + (y - 110.0) ** 2) / 800).astype(np.float32)
    seen = Misaligned(shift, 0.0)(image, *generators())
    dx, dy = (float((axis * seen).sum() / seen.sum() - (axis * image).sum() / image.sum()) for axis in (x, y))
    assert np.hypot(dx, dy) == pytest.approx(shift, abs=0.05)


def test_saturated_is_white_where_the_gain_goes_beyond() -> None:
    image = np.array([[0.0, 50.0, 100.0, 200.0]], np.float32)
    assert Saturated(2.0, 30.0)(image, *generators()).tolist() == [[30.0, 130.0, 230.0, 255.0]]


def test_black_and_frozen() -> None:
    visible, infrared = scene()
    assert not degradation("infrared black")(visible, infrared)[1].any()
    frozen = degradation("visible frozen")
    first = frozen(visible, infrared, 0)[0]
    later = scene(seed=1)
    held, passed = frozen(*later, 1)
    assert np.array_equal(held, first) and passed is later[1]


def test_true_depth_is_used() -> None:
    visible, infrared = scene()
    near = np.full(infrared.shape, 1.0, np.float32)
    seen = degradation("haze:heavy")(visible, infrared, 0, near)[0]
    assert np.abs(seen.astype(float) - visible).max() < 22
    assert np.abs(degradation("haze:heavy")(visible, infrared, 0)[0].astype(float) - visible).mean() > 40


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("fog", "There is no degradation 'fog'"),
        ("hase", "did you mean 'haze'"),
        ("rain:hevy", "did you mean 'heavy'"),
        ("noise", "concerns one camera; name it: visible or infrared"),
        ("visible rain", "concerns both cameras"),
        ("thermal noise", "is no degradation"),
        ("", "There is no degradation ''"),
    ],
)
def test_typos_are_answered(label: str, says: str) -> None:
    with pytest.raises(RosAttnError, match=says):
        degradation(label)


def test_unregistered_pairs_are_refused() -> None:
    visible, infrared = scene()
    with pytest.raises(RosAttnError, match="visible is 160x120 and infrared 80x60; register them first"):
        degradation("rain")(visible, infrared[::2, ::2])
