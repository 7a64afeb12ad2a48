"""The climbing component and bad depth: thresholds, reactions and recovery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.control.stairs_bench import ROBOT, Robot, none, save, with_valid


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("stairs") / "checkpoint", ROBOT)


@pytest.mark.parametrize("stamp_ms, good_until_ms", [(100, 500), (99, 480), (100.001, 500), (119, 500)])
def test_images_older_than_400_ms_are_not_used(saved: Path, stamp_ms: float, good_until_ms: int) -> None:
    robot = Robot(saved)
    robot.tick(80)
    robot.image(stamp_ms)
    seen = robot.ticks(120, 700)
    good = (good_until_ms - 120) // 20 + 1
    assert [each.open for each in seen] == [True] * good + [False] * (len(seen) - good)
    assert [each.command for each in seen] == [[0.5, 0, 0.4]] * good + [[0, 0, 0]] * (len(seen) - good)
    level, sentence = robot.component.health.conditions["depth"]
    assert level == 2
    assert f"not used since {(good_until_ms + 20) / 1000:.2f} s, the robot stands: depth/image is silent" in sentence
    assert f"its newest stamp is {680 - stamp_ms:.0f} ms old, above 400 ms" in sentence


def test_a_camera_that_never_speaks_is_missed_after_400_ms(saved: Path) -> None:
    robot = Robot(saved)
    seen = robot.ticks(1000, 1500)
    assert not any(each.open or each.fresh for each in seen)
    assert [each.command[0] for each in seen] == [0.5] * 21 + [0.0] * 4
    assert "depth/image is silent, none has come for 480 ms, above 400 ms" in robot.said


@pytest.mark.parametrize("holes", [0.0, np.nan])
def test_the_fifth_identical_image_is_not_used(saved: Path, holes: float) -> None:
    robot = Robot(saved)
    same = np.full((48, 64), 1.0, np.float32)
    same[:20] = holes
    almost = same.copy()
    almost[30, 5] += np.float32(1e-4)
    seen = robot.ticks(0, 600, lambda ms: almost if ms == 0 else same)
    # Of 100 to 500 ms; the fifth arrives at 500.
    assert [each.open for each in seen] == [True] * 25 + [False] * 5
    assert [each.command[0] for each in seen] == [0.5] * 25 + [0.0] * 5
    assert "since 0.50 s" in robot.said and "frozen, its last 5 images are the same" in robot.said
    seen = robot.ticks(600, 1300, lambda ms: same if ms == 600 else almost if ms == 700 else None)
    assert [each.open for each in seen] == [False] * 30 + [True] * 5 and robot.said == ""


@pytest.mark.parametrize("pixels, good", [(0, False), (151, False), (153, False), (154, True), (157, True)])
def test_images_of_which_less_than_5_percent_is_valid_are_not_used(saved: Path, pixels: int, good: bool) -> None:
    robot = Robot(saved)
    robot.ticks(0, 100, none)
    robot.image(100, with_valid(pixels))
    robot.tick(100)
    seen = robot.seen[-1]
    assert seen.open == good and seen.command[0] == (0.5 if good else 0.0) and seen.fresh == 1
    assert robot.said == "" if good else f"{100 * pixels / 3072:.1f} % of the image is valid, below 5 %" in robot.said


@pytest.mark.parametrize("data, encoding, sentence", [
    (np.ones((24, 32), np.float32), "32FC1", "depth/image has 32x24 px, but depth/camera_info is for 64x48"),
    (np.ones((48, 64, 3), np.uint8), "rgb8", "encoding 'rgb8' is not a depth"),
])  # fmt: skip
def test_images_that_cannot_be_read_are_not_used(saved: Path, data: np.ndarray, encoding: str, sentence: str) -> None:
    robot = Robot(saved)
    robot.ticks(0, 100, none)
    robot.image(100, data, encoding)
    robot.tick(100)
    seen = robot.seen[-1]
    assert not seen.open and seen.command[0] == 0.0 and not seen.fresh and sentence in robot.said
    seen = robot.ticks(200, 720, none)
    assert [each.open for each in seen] == [False] * 25 + [True] and seen[0].fresh and robot.said == ""


def test_the_robot_stands_until_images_are_good(saved: Path) -> None:
    robot = Robot(saved)
    black = np.zeros((48, 64), np.float32)
    robot.ticks(0, 200, none)
    # From 200 ms on black, from 1000 ms on none: one fault.
    seen = robot.ticks(200, 1000, lambda ms: black) + robot.ticks(1000, 3000)
    commands = [each.command for each in seen]
    assert commands == [[0, 0, 0]] * 140
    assert not any(each.open for each in seen)
    assert robot.said.startswith("Depth is not used since 0.20 s, the robot stands: depth/image is silent")
    seen = robot.ticks(3000, 3700, none)
    assert [each.command for each in seen] == [[0, 0, 0]] * 25 + [[0.5, 0, 0.4]] * 10 and robot.said == ""
    assert [each.open for each in seen] == [False] * 25 + [True] * 10


@pytest.mark.parametrize("good_ms, changes", [(300, 1), (800, 9)])
def test_a_fault_lasts_until_images_were_good_for_half_a_second(saved: Path, good_ms: int, changes: int) -> None:
    """Of every second ``good_ms`` bring good images and the others black ones: one fault, or one each second."""
    robot = Robot(saved)
    black = np.zeros((48, 64), np.float32)
    seen = robot.ticks(0, 5000, lambda ms: None if ms % 1000 < good_ms else black)
    speeds = [each.command[0] for each in seen]
    assert set(speeds) == {0.5, 0.0}
    assert np.count_nonzero(np.diff(speeds)) == changes


@pytest.mark.parametrize("asked", [(0.5, 0.0, 0.4), (-0.1, 0.0, 0.0), (0.0, 0.0, 0.7), None])
def test_nothing_is_walked_blind(saved: Path, asked: tuple[float, float, float] | None) -> None:
    robot = Robot(saved, asked=asked)
    robot.image(0, np.zeros((48, 64), np.float32))
    robot.tick(0)
    assert robot.seen[-1].command == [0.0, 0.0, 0.0]


def test_closed_tokens_change_the_action(saved: Path) -> None:
    def action(valid: bool) -> np.ndarray:
        robot = Robot(saved, asked=(0.0, 0.0, 0.0))
        robot.image(0)
        robot.tick(0)
        if not valid:
            robot.component._watch.refuse(0, "as a test wants it")
        robot.tick(20)
        return robot.seen[-1].action

    assert np.abs(action(True) - action(False)).max() > 0.02


def test_a_reset_forgets_a_fault(saved: Path) -> None:
    robot = Robot(saved)
    robot.ticks(5000, 5500, lambda ms: np.zeros((48, 64), np.float32))
    assert robot.said
    robot.runtime.request_reset("asked")
    seen = robot.ticks(5500, 6000)
    assert [each.command[0] for each in seen] == [0.5] * 21 + [0.0] * 4 and not any(each.open for each in seen)
