"""The bench of detection under haze: average precision, matching, intervals, the detector's parts, a frame's truth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ros_attn.values import Array
from tests.bench import fusion_detection as bench
from tests.bench.fusion_detection import Tally, average_precision, figure, matched, mean_iou
from tests.bench.fusion_detection_grabcut import cut_out
from tests.bench.fusion_detection_hog import (
    CELL,
    MARGIN,
    WINDOWS,
    Sample,
    Window,
    example,
    features,
    mirrored,
    overlaps,
    scan,
    suppressed,
    trained,
)
from tests.bench.fusion_detection_scenes import LEAST_HEIGHT, Thing, frames

ONCE = np.ones((1, 1))
NOTHING = np.zeros((0, 4))


def tally(scores: list[float], hits: list[bool], objects: int) -> Tally:
    return Tally(scores, hits, [0.0] * objects)


def test_average_precision_by_hand() -> None:
    # Recall 1/4 at precision 1, 2/4 at 2/3, 3/4 at 3/5; the fourth object is never found.
    found = tally([0.9, 0.8, 0.7, 0.6, 0.5], [True, False, True, False, True], 4)
    assert average_precision([found], ONCE)[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # A miss before a hit of higher precision: what counts is the best precision from there on.
    found = tally([0.9, 0.8, 0.7], [False, True, True], 2)
    assert average_precision([found], ONCE)[0] == pytest.approx(2 / 3)
    assert average_precision([tally([], [], 3)], ONCE)[0] == 0
    assert average_precision([tally([1.0, 0.5], [True, True], 2)], ONCE)[0] == 1


def test_equal_scores_do_not_depend_on_their_order() -> None:
    for hits in ([True, False], [False, True]):
        assert average_precision([tally([0.5, 0.5], hits, 1)], ONCE)[0] == 0.5


def test_weight_of_a_drive_is_how_often_it_counts() -> None:
    rng = np.random.default_rng(3)
    drives = [tally(rng.random(n).tolist(), (rng.random(n) < 0.6).tolist(), n) for n in (6, 9, 4)]
    weights = np.array([[1.0, 1, 1], [2, 0, 1], [0, 3, 0]])
    drawn = [drives, [drives[0], drives[0], drives[2]], [drives[1]] * 3]
    expected = [average_precision(each, np.ones((1, len(each))))[0] for each in drawn]
    assert average_precision(drives, weights) == pytest.approx(expected)
    assert len(set(expected)) == 3


def test_mean_iou_is_over_objects_not_over_drives() -> None:
    drives = [Tally(ious=[0.2, 0.4, 0.6]), Tally(ious=[1.0])]
    assert mean_iou(drives, np.array([[1.0, 1], [0, 2], [2, 1]])) == pytest.approx([0.55, 1.0, 3.4 / 7])


def test_interval_is_of_whole_drives() -> None:
    weights = bench.draws(16)
    assert weights.shape == (1001, 16) and (weights.sum(axis=1) == 16).all() and (weights[0] == 1).all()
    # Objects of a drive that are all alike say no more than one of them.
    values = np.random.default_rng(1).normal(0.5, 0.1, 16)
    one, many = ([Tally(ious=[value] * count) for value in values] for count in (1, 50))
    value, low, high = figure(mean_iou(one, weights))
    assert figure(mean_iou(many, weights)) == [value, low, high]
    half = 1.96 * values.std() / 4
    assert (value - low, high - value) == (pytest.approx(half, rel=0.15), pytest.approx(half, rel=0.15))


def test_matching() -> None:
    wanted = np.array([[0.0, 0, 10, 20], [30, 0, 40, 20]])
    ignored = np.array([[60.0, 0, 80, 20]])
    boxes = np.array([
        [30.0, 1, 40, 21], [0, 0, 10, 20], [0, 0, 10, 19], [62, 0, 72, 10], [75, 0, 90, 20], [0, 12, 10, 32],
    ])  # fmt: skip
    scores = np.array([0.5, 0.9, 0.8, 0.7, 0.6, 0.4])
    kept, hits = matched(scores, boxes, wanted, ignored)
    # Second on one object: wrong. Inside the ignored: left out. A third inside: wrong. IoU 0.25: wrong.
    assert kept == [0.9, 0.8, 0.6, 0.5, 0.4]
    assert hits == [True, False, False, True, False]
    assert matched(scores, boxes, NOTHING, NOTHING)[1] == [False] * 6


def test_a_detection_takes_the_nearer_of_two_objects() -> None:
    wanted = np.array([[0.0, 0, 10, 20], [2, 0, 12, 20]])
    _, hits = matched(np.array([0.9, 0.8]), np.array([[2.0, 0, 12, 20], [0, 0, 10, 20]]), wanted, NOTHING)
    assert hits == [True, True]


def test_overlap_and_suppression() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    assert overlaps(boxes[0], boxes) == pytest.approx([1, 1 / 3, 0.9, 0])
    assert suppressed(np.array([0.1, 0.2, 0.9, 0.3]), boxes) == [2, 3, 1]
    assert suppressed(np.array([0.1, 0.2, 0.9, 0.3]), boxes, most=2) == [2, 3]


def test_scan_is_the_product_at_every_place() -> None:
    rng = np.random.default_rng(0)
    blocks, weights = rng.normal(size=(9, 11, 36)), rng.normal(size=(4, 3, 36))
    expected = [[(blocks[r : r + 4, c : c + 3] * weights).sum() for c in range(9)] for r in range(6)]
    assert scan(blocks, weights) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-4)
    assert scan(blocks[:3], weights).shape == (0, 9)


def ramp(degrees: float, size: int = 48) -> Array:
    """Brighter in one direction, 0 to the right and 90 down; the square root is even, as the features take it."""
    y, x = np.mgrid[:size, :size]
    along = np.cos(np.radians(degrees)) * x + np.sin(np.radians(degrees)) * y
    return (2 + 0.1 * (along - along.min())) ** 2


def test_features_tell_the_orientation_and_not_the_sign() -> None:
    bins = [features(ramp(degrees))[5, 5].reshape(4, 9).mean(axis=0).argmax() for degrees in (10, 50, 90, 170)]
    assert bins == [0, 2, 4, 8]
    # On the border of two bins both get the same; a turn by 180 degrees changes nothing.
    between = features(ramp(20))[5, 5, :9]
    assert between[0] == pytest.approx(between[1], rel=0.02)
    assert features(ramp(0))[5, 5, [0, 8]] == pytest.approx(features(ramp(180))[5, 5, [0, 8]], abs=0.02)
    assert features(ramp(50))[5, 5] == pytest.approx(features(ramp(230))[5, 5], abs=0.02)
    blocks = features(ramp(33))
    assert blocks.shape == (11, 11, 36) and np.linalg.norm(blocks[5, 5]) == pytest.approx(1.0, abs=0.01)


def test_cells_stand_where_the_picture_has_them() -> None:
    # One bright pixel in the middle of cell (6, 3): symmetric in the cells around, nothing three cells away.
    picture = np.zeros((64, 64))
    picture[6 * CELL + 1 : 6 * CELL + 3, 3 * CELL + 1 : 3 * CELL + 3] = 200
    energy = np.square(features(picture)).sum(axis=-1)
    assert energy[4:8, 1:5].min() > 0 and energy[:4].max() == 0 and energy[8:].max() == 0
    assert energy[:, :1].max() == 0 and energy[:, 5:].max() == 0
    assert energy[4:8, 1:5] == pytest.approx(energy[4:8, 1:5][::-1, ::-1], abs=1e-3)


def person(height: int, left: int, top: int) -> tuple[Array, tuple[float, float, float, float]]:
    """A picture with an ellipse that fills a box of 0.4 as wide as high."""
    y, x = np.mgrid[:160, :200]
    wide = 0.4 * height
    inside = ((x + 0.5 - left - wide / 2) / (wide / 2)) ** 2 + ((y + 0.5 - top - height / 2) / (height / 2)) ** 2 < 1
    return np.where(inside, 180, 60).astype(np.uint8), (left, top, left + wide, top + height)


def test_example_is_what_the_scan_sees() -> None:
    window = WINDOWS["person"][0]
    picture, box = person(window.rows * CELL, 10 * CELL, 12 * CELL)
    seen = features(picture)[12 - MARGIN :, 10 - MARGIN :][: window.shape[0], : window.shape[1]]
    inner = (slice(1, -1), slice(1, -1))  # at the window's border the picture goes on
    assert example(picture, box, window).reshape(window.shape)[inner] == pytest.approx(seen[inner], abs=1e-4)
    # Twice as large a box gives nearly the same.
    large, large_box = person(2 * window.rows * CELL, 40, 40)
    one, two = (
        each / np.linalg.norm(each) for each in (example(picture, box, window), example(large, large_box, window))
    )
    assert one @ two > 0.8


def test_mirrored_example_is_the_mirrored_objects() -> None:
    picture, box = person(60, 30, 50)
    sample = mirrored(Sample(picture, {"person": [box]}, {"person": []}))
    again = mirrored(sample)
    assert sample.wanted["person"][0] == (200 - box[2], 50, 200 - box[0], 110)
    assert np.array_equal(again.picture, picture) and again.wanted["person"][0] == pytest.approx(box)
    columns = np.flatnonzero((sample.picture == 180).any(axis=0))
    assert (columns[0], columns[-1] + 1) == sample.wanted["person"][0][::2]


def test_support_vector_machine_finds_the_widest_margin() -> None:
    x = np.array([[0.0, 1], [2, 3], [0, 0], [2, -4], [1, -1]])
    weights, bias = trained(x, np.array([True, True, False, False, False]), regularisation=1e4)
    # Between (0, 1) and (0, 0) the margin is the line y = 1/2, but (2, 3) leaves it as it is.
    assert weights == pytest.approx([0, 2], abs=2e-2) and bias == pytest.approx(-1, abs=2e-2)


def thing(mask: Array, kind: str = "person") -> Thing:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Thing(kind, box, mask, 10.0, True)


def test_cut_follows_what_stands_out() -> None:
    picture, _ = person(80, 60, 40)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
    of_person = thing(picture == 180)
    ious = cut_out(noisy, of_person)
    assert ious["cut"] > 0.9
    # An ellipse fills pi / 4 of its box, the box given is a quarter wider and higher.
    assert ious["box"] == pytest.approx(np.pi / 4 / 1.25**2, abs=0.02)
    assert 0.05 < ious["stroke"] < 0.3
    faint = np.clip(120 + np.random.default_rng(0).normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
    assert cut_out(faint, of_person)["cut"] < 0.65


def test_truth_and_haze_of_a_frame() -> None:
    betas = (0.0, 0.04, 0.12)
    frame = next(frames(7999, betas))
    mean = bench.picture(bench.RULES["average"], frame, 0.0)
    both = (frame.infrared[0.0].astype(float) + frame.visible[0.0]) / 2
    assert mean.dtype == np.uint8 and np.abs(mean - both).max() <= 0.5
    assert np.array_equal(bench.picture(bench.RULES["visible only"], frame, 0.0), frame.visible[0.0])

    assert {each.kind for each in frame.things} == {"person", "vehicle"}
    for each in frame.things:
        rows, columns = (np.flatnonzero(each.mask.any(axis=axis)) for axis in (1, 0))
        left, top, right, bottom = each.box
        assert left <= columns[0] and columns[-1] < right and top <= rows[0] and rows[-1] < bottom
        if each.counted:
            assert bottom - top >= LEAST_HEIGHT[each.kind] and left > 0 and right < 640
    masks = np.sum([each.mask for each in frame.things], axis=0)
    assert masks.max() == 1  # nobody shares a pixel

    # The visible camera loses contrast by exp(-beta z), the infrared one keeps nearly all.
    far = min((each for each in frame.things if each.mask.sum() > 300), key=lambda each: -each.depth_m)
    spread = {beta: float(frame.visible[beta][far.mask].std()) for beta in betas}
    assert all(spread[b] < spread[a] for a, b in pairwise(betas))
    lost = np.abs(frame.infrared[0.12][far.mask] - frame.infrared[0.0][far.mask].astype(float)).mean()
    assert lost < 25
    airlight = frame.visible[0.12][far.mask].mean()
    away = np.exp(-0.12 * far.depth_m)
    assert airlight == pytest.approx(away * frame.visible[0.0][far.mask].mean() + (1 - away) * 180, abs=4)


def test_detector_has_a_window_for_each_class() -> None:
    assert set(WINDOWS) == set(LEAST_HEIGHT)
    assert Window(10, 4).shape == (13, 7, 36)
