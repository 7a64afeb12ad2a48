"""Fusion metrics against published per-image figures, and against cases that can be worked out by hand."""

from __future__ import annotations

import csv
from math import atan, exp, log, pi, sqrt
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ros_attn.errors import RosAttnError
from ros_attn.evaluate import fusion_metrics, qabf, ssim, vif
from ros_attn.evaluate.flicker import flicker
from ros_attn.evaluate.fusion_metrics import METRICS, measure
from ros_attn.evaluate.grey import luma, read_luma, row_strips, to_grey8

FOLDERS = {"RoadScene": "ivf_roadscene", "MSRS": "ivf_msrs", "TNO": "ivf_tno"}

# Q of an edge that is kept with its strength and direction.
STRENGTH_KEPT = 0.9994
ANGLE_KEPT = 0.9879 / (1.0 + exp(-22.0 * 0.2))


def pair(data: Path, name: str, image: str) -> tuple[np.ndarray, np.ndarray]:
    folder = data / FOLDERS[name]
    return tuple(read_luma(next((folder / side).glob(image + ".*"))) for side in ("ir", "vi"))  # type: ignore


def scored_luma(data: Path, name: str, image: str) -> np.ndarray:
    """The published figures were fused from `luma` but scored against luma rounded from opencv's float
    path."""
    bgr = cv2.imread(str(next((data / FOLDERS[name] / "vi").glob(image + ".*"))))
    assert bgr is not None
    return np.rint(cv2.cvtColor(bgr.astype(np.float32), cv2.COLOR_BGR2GRAY)).astype(np.uint8)


def fuse(rule: str, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    a, b = ir.astype(float), vi.astype(float)
    if rule == "max":
        return to_grey8(np.maximum(a, b))
    if rule == "average":
        return to_grey8((a + b) / 2.0)

    def blurred(x: np.ndarray, sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)

    base_a, base_b = blurred(a, 5.0), blurred(b, 5.0)
    detail_a, detail_b = a - base_a, b - base_b
    energy_a, energy_b = blurred(detail_a**2, 2.0) ** 2, blurred(detail_b**2, 2.0) ** 2
    weight = 1.0 / (1.0 + np.exp(-(base_a - base_b) / 20.0))
    share = energy_a / (energy_a + energy_b + 1e-12)
    return to_grey8(weight * base_a + (1 - weight) * base_b + share * detail_a + (1 - share) * detail_b)


def scene(seed: int = 0, height: int = 60, width: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth, different 8-bit images well inside 0..255."""
    rng = np.random.default_rng(seed)
    images = [cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 2.0) for _ in range(2)]
    ir, vi = (to_grey8(128.0 + 40.0 * x / np.abs(x).max()) for x in images)
    return ir, vi


def step(low: float, high: float, height: int = 48, width: int = 48) -> np.ndarray:
    image = np.full((height, width), low)
    image[:, width // 2 :] = high
    return image


# ---------------------------------------------------------------- published figures


@pytest.mark.parametrize("rule", ["max", "average"])
@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("RoadScene", "FLIR_00211"),
        ("RoadScene", "FLIR_00578"),
        ("RoadScene", "FLIR_00233"),
        ("MSRS", "00196D"),
        ("MSRS", "01061N"),
        ("MSRS", "00103D"),
        ("TNO", "02"),
        ("TNO", "06"),
        ("TNO", "19"),
    ],
)
def test_published_figures_of_each_image(data: Path, name: str, image: str, rule: str) -> None:
    with (data / "peers/fusion_per_image.csv").open() as table:
        key = (name, image, rule)
        (row,) = (row for row in csv.DictReader(table) if (row["set"], row["image"], row["method"]) == key)
    ir, vi = pair(data, name, image)
    fused = fuse(rule, ir, vi)
    exact = measure(ir, scored_luma(data, name, image), fused)
    ours = measure(ir, vi, fused)
    for metric in ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM"):
        published = float(row[metric])
        assert exact[metric] == pytest.approx(published, rel=2e-6, abs=1e-6), metric
        assert ours[metric] == pytest.approx(published, rel=1e-4), metric


@pytest.mark.parametrize(
    ("name", "rule", "q_min", "vif_min"),
    [("RoadScene", "max", 0.378, 0.246), ("TNO", "max", 0.361, 0.252), ("TNO", "gaussian", 0.353, 0.225)],
)
def test_published_means_of_the_worse_served_source(
    data: Path, name: str, rule: str, q_min: float, vif_min: float
) -> None:
    folder = data / FOLDERS[name]
    if name == "RoadScene":
        images = [Path(line).stem for line in (folder / "measured40.txt").read_text().split()]
    else:
        images = sorted(path.stem for path in (folder / "ir").iterdir())
    assert len(images) == {"RoadScene": 40, "TNO": 23}[name]
    edges, information = [], []
    for image in images:
        ir, vi = pair(data, name, image)
        fused = fuse(rule, ir, vi)
        edges.append(min(qabf.q_sides(ir, vi, fused)))
        information.append(min(vif.vif_sides(ir, vi, fused)))
    assert np.mean(edges) == pytest.approx(q_min, abs=6e-4)
    assert np.mean(information) == pytest.approx(vif_min, abs=6e-4)


# ---------------------------------------------------------------- one image


def test_entropy_is_in_bit_of_the_rounded_image() -> None:
    four = np.repeat([10.0, 10.4, 20.0, 30.0, 30.3, 39.8, 40.0, 20.2], 8).reshape(8, 8)
    assert fusion_metrics.entropy(four) == pytest.approx(2.0, abs=1e-12)
    assert fusion_metrics.entropy(np.full((8, 8), 77, np.uint8)) == 0.0


def test_contrast_and_gradients_of_a_plane() -> None:
    y, x = np.mgrid[:20, :30]
    plane = 3.0 * x + 1.0 * y
    assert fusion_metrics.spatial_frequency(plane) == pytest.approx(sqrt(10.0))
    assert fusion_metrics.average_gradient(plane) == pytest.approx(sqrt(5.0))
    assert fusion_metrics.standard_deviation(step(10.0, 30.0)) == pytest.approx(10.0)


def test_average_gradient_is_one_sided_at_the_border_and_central_inside() -> None:
    bump = np.zeros((1 + 2, 5))
    bump[:, 2] = 12.0
    # columns: 0, 6, 0, -6, 0 inside; both border columns see no difference
    assert fusion_metrics.average_gradient(bump) == pytest.approx((6 + 6) / 5 / sqrt(2.0))
    edge = np.zeros((3, 5))
    edge[:, 0] = 12.0
    assert fusion_metrics.average_gradient(edge) == pytest.approx((12 + 6) / 5 / sqrt(2.0))


# ---------------------------------------------------------------- information and correlation


def test_mutual_information_is_in_nat_and_summed_over_sources() -> None:
    binary = np.tile([0, 200], (10, 5)).astype(np.uint8)
    assert fusion_metrics.mutual_information(binary, binary, binary) == pytest.approx(2.0 * log(2.0), abs=1e-12)
    unrelated = np.tile([[5], [9]], (5, 10)).astype(np.uint8)
    assert fusion_metrics.mutual_information(unrelated, binary, binary) == pytest.approx(log(2.0), abs=1e-12)
    assert fusion_metrics.mutual_information(unrelated, unrelated, binary) == pytest.approx(0.0, abs=1e-12)


def test_scd_is_two_for_the_sum_and_signed() -> None:
    ir, vi = (image / 4.0 for image in scene())
    scd = fusion_metrics.sum_of_correlations_of_differences
    assert scd(ir, vi, ir + vi) == pytest.approx(2.0)
    assert scd(ir, vi, 200.0 - ir / 2.0) < 0.0
    # F = ir leaves nothing of vi, so only r(ir - vi, ir) is left
    left = np.corrcoef((ir - vi).ravel(), ir.ravel())[0, 1]
    assert scd(ir, vi, ir) == pytest.approx(left, rel=1e-9)
    flat = np.full_like(ir, 127.3)
    assert scd(flat, flat, ir) == 0.0


def test_scd_against_its_definition() -> None:
    ir, vi = scene(3)
    fused = fuse("gaussian", ir, vi)
    a, b, f = (image.astype(float) for image in (ir, vi, fused))
    expected = np.corrcoef((f - b).ravel(), a.ravel())[0, 1] + np.corrcoef((f - a).ravel(), b.ravel())[0, 1]
    assert fusion_metrics.sum_of_correlations_of_differences(ir, vi, fused) == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------- SSIM and VIF


def test_ssim_of_one_window() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 255, (2, 7, 7))
    (va, c), (_, vb) = np.cov(a.ravel(), b.ravel())
    c1, c2 = 2.55**2, 7.65**2
    ma, mb = a.mean(), b.mean()
    one = (2 * ma * mb + c1) * (2 * c + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim.ssim(a, b, b) == pytest.approx(1.0 + one, rel=1e-10)
    assert ssim.ssim(b, a, b) == pytest.approx(1.0 + one, rel=1e-10)


def test_ssim_of_copies_and_constants() -> None:
    ir, _ = scene()
    assert ssim.ssim(ir, ir, ir) == pytest.approx(2.0, abs=1e-9)
    a, b = np.full((9, 300), 40.0), np.full((9, 300), 90.0)
    assert ssim.ssim(a, a, b) == pytest.approx(2 * (2 * 3600 + 2.55**2) / (40**2 + 90**2 + 2.55**2), rel=1e-9)


def test_vif_of_copy_inverse_contrast_and_structureless_source() -> None:
    ir, vi = (image.astype(float) for image in scene())
    assert vif.vif_sides(ir, vi, ir)[0] == pytest.approx(1.0, abs=1e-9)
    assert vif.vif_sides(ir, vi, 255.0 - ir)[0] == 0.0
    stronger, _ = vif.vif_sides(ir, vi, ir * 1.4)
    weaker, _ = vif.vif_sides(ir, vi, ir * 0.5)
    assert weaker < 0.99 < 1.01 < stronger
    assert vif.vif_sides(np.full_like(ir, 60.1), vi, vi) == pytest.approx((1.0, 1.0), abs=1e-9)
    assert vif.vif_sides(ir, vi, np.full_like(ir, 60.1)) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_vif_of_half_the_contrast_from_its_formula() -> None:
    from scipy.signal import convolve2d

    ir, _ = scene(5, 53, 61)
    level = ir.astype(float)
    kept = present = 0.0
    for scale, size in enumerate((17, 9, 5, 3)):
        r = np.arange(size) - size // 2
        window = np.exp(-(r[:, None] ** 2 + r[None] ** 2) / (2.0 * (size / 5.0) ** 2))
        window /= window.sum()
        if scale:
            level = convolve2d(level, window, "valid")[::2, ::2]
        variance = convolve2d(level**2, window, "valid") - convolve2d(level, window, "valid") ** 2
        # F = ir / 2: gain 1/2 and no residue
        kept += np.log10(1.0 + 0.25 * variance / 2.0).sum()
        present += np.log10(1.0 + variance / 2.0).sum()
    assert vif.vif_sides(ir, ir, ir / 2.0) == pytest.approx((kept / present,) * 2, rel=1e-7)


@pytest.mark.parametrize(("height", "width", "window"), [(480, 640, 17), (41, 5000, 9), (7, 7, 7), (100, 40000, 3)])
def test_strips_hold_every_window_once(height: int, width: int, window: int) -> None:
    firsts: list[int] = []
    for rows in row_strips(height, width, window):
        assert rows.stop <= height
        firsts += range(rows.start, rows.stop - window + 1)
    assert firsts == list(range(height - window + 1))


# ---------------------------------------------------------------- edges


def test_gradients_of_a_plane_and_outside() -> None:
    y, x = np.mgrid[:12, :16]
    plane = (3.0 * x + 2.0 * y).astype(float)
    inside = qabf.gradients(plane, "replicate")
    assert inside.strength[5, 5] == pytest.approx(8.0 * sqrt(13.0), rel=1e-6)
    assert inside.angle[5, 5] == pytest.approx(-atan(2.0 / 3.0), rel=1e-6)
    flat = np.full((8, 8), 50.0)
    assert not qabf.gradients(flat, "replicate").strength.any()
    rim = qabf.gradients(flat, "zero").strength
    assert not rim[1:-1, 1:-1].any()
    assert rim[0, 3] == rim[3, 0] == 4 * 50.0
    assert np.all(qabf.gradients(flat, "replicate").angle == np.float32(pi / 2))


def test_sides_of_a_copy_reach_the_maximum() -> None:
    image = step(20.0, 200.0)
    assert qabf.q_sides(image, image, image) == pytest.approx((STRENGTH_KEPT * ANGLE_KEPT,) * 2, rel=1e-6)
    assert qabf.qabf(image, image, image) == pytest.approx(STRENGTH_KEPT * ANGLE_KEPT, rel=1e-6)
    assert pytest.approx(0.97533, abs=1e-5) == STRENGTH_KEPT * ANGLE_KEPT


def test_sides_of_an_edge_of_half_and_of_twice_the_strength() -> None:
    strong, weak = step(20.0, 220.0), step(20.0, 120.0)
    half = STRENGTH_KEPT / 2.0 * ANGLE_KEPT
    assert qabf.q_sides(strong, strong, weak) == pytest.approx((half, half), rel=1e-6)
    assert qabf.q_sides(weak, strong, strong) == pytest.approx((half, STRENGTH_KEPT * ANGLE_KEPT), rel=1e-6)


def test_sides_of_a_turned_edge() -> None:
    vertical = step(20.0, 220.0)
    turned = np.ascontiguousarray(vertical.T)
    diagonal = 100.0 + np.add.outer(np.arange(48.0), np.arange(48.0))
    assert max(qabf.q_sides(vertical, vertical, turned)) < 1e-4
    a, f = qabf.gradients(diagonal, "replicate"), qabf.gradients(diagonal[::-1], "replicate")
    # angles -45 and +45 degrees: alignment 0
    assert qabf.preserved(a, f)[20, 20] == pytest.approx(STRENGTH_KEPT * 0.9879 / (1 + exp(17.6)), rel=1e-4)


def test_angles_are_not_folded_and_turn_the_published_way() -> None:
    y, x = np.mgrid[:10, :10]
    upright = qabf.gradients(10.0 * y, "replicate")
    to_right, to_left = (qabf.gradients(100.0 + 10.0 * y + sign * x, "replicate") for sign in (1.0, -1.0))
    # an exactly horizontal edge counts as +90 degrees, so only one of the two neighbours is close to it
    assert qabf.preserved(upright, to_left)[5, 5] > 0.9
    assert qabf.preserved(upright, to_right)[5, 5] < 1e-6


def test_qabf_is_the_strength_weighted_mean_of_the_sides() -> None:
    strong, weak = step(0.0, 200.0), np.ascontiguousarray(step(0.0, 20.0).T)
    strong[:1] = strong[-1:] = strong[:, :1] = strong[:, -1:] = 0.0
    weak[:1] = weak[-1:] = weak[:, :1] = weak[:, -1:] = 0.0
    q_ir, q_vi = qabf.q_sides(strong, weak, strong)
    g_ir, g_vi = (qabf.gradients(x, "replicate").strength.sum() for x in (strong, weak))
    # black rims: zeros outside change nothing
    mean = (q_ir * g_ir + q_vi * g_vi) / (g_ir + g_vi)
    assert qabf.qabf(strong, weak, strong) == pytest.approx(mean, rel=1e-5)
    assert q_vi < 0.3 < 0.8 < mean < q_ir


def test_a_source_without_edges_is_never_the_worse_served() -> None:
    ir, vi = np.zeros((60, 70), np.uint8), scene()[1]
    figures = measure(ir, vi, vi)
    assert figures["Q_ir"] == figures["VIF_ir"] == 1.0
    assert figures["Q_min"] == figures["Q_vi"] == pytest.approx(STRENGTH_KEPT * ANGLE_KEPT, rel=1e-3)


def test_excess_gradient_forgives_five_percent_and_no_more() -> None:
    image = step(100.0, 150.0)
    flat = np.full_like(image, 100.0)
    excess = qabf.excess_gradient
    assert excess(image, flat, image) == excess(flat, image, image) == 0.0
    assert excess(image, flat, step(100.0, 152.0)) == 0.0
    assert excess(image, flat, step(100.0, 160.0)) == pytest.approx(1.2 - 1.05, rel=1e-5)
    assert excess(flat, flat, image) == pytest.approx(4 * 50 * 2 * 48)
    assert excess(flat, flat, flat) == 0.0


def test_excess_gradient_sees_sharpening_and_noise_but_no_selection() -> None:
    ir, vi = scene()
    a = ir.astype(float)
    sharp = to_grey8(a + 1.5 * (a - cv2.GaussianBlur(a, (0, 0), 2.0)))
    noisy = to_grey8(a + np.random.default_rng(2).normal(0, 5, a.shape))
    assert qabf.excess_gradient(ir, vi, sharp) > 0.05
    assert qabf.excess_gradient(ir, vi, noisy) > 0.1
    assert qabf.excess_gradient(ir, vi, fuse("average", ir, vi)) < 0.01


def test_extra_clipping_counts_both_ends_beyond_the_less_clipped_source() -> None:
    ir, vi, fused = (np.full((10, 10), 100.0) for _ in range(3))
    ir[0, :4], vi[0, :1] = 0.0, 255.0
    fused[0, :3], fused[1, :5] = 254.6, 0.4
    assert fusion_metrics.extra_clipping(ir, vi, fused) == pytest.approx(0.08 - 0.01)
    assert fusion_metrics.extra_clipping(ir, vi, vi) == 0.0
    assert fusion_metrics.extra_clipping(ir, ir, vi) == 0.0
    fused[:] = 100.0
    fused[0] = [1.0, 254.0] * 5
    assert fusion_metrics.extra_clipping(vi, vi, fused) == 0.0


# ---------------------------------------------------------------- the whole panel


def test_measure_agrees_with_each_metric_and_the_table() -> None:
    ir, vi = scene(7)
    fused = fuse("gaussian", ir, vi)
    figures = measure(ir, vi, fused)
    assert list(figures) == [m.name for m in METRICS.values() if m.per == "frame"]
    assert all(type(value) is float and np.isfinite(value) for value in figures.values())
    assert all(name == metric.name for name, metric in METRICS.items())
    q_ir, q_vi = qabf.q_sides(ir, vi, fused)
    vif_ir, vif_vi = vif.vif_sides(ir, vi, fused)
    assert figures == {
        "EN": fusion_metrics.entropy(fused),
        "SD": fusion_metrics.standard_deviation(fused),
        "SF": fusion_metrics.spatial_frequency(fused),
        "AG": fusion_metrics.average_gradient(fused),
        "MI": fusion_metrics.mutual_information(ir, vi, fused),
        "SCD": fusion_metrics.sum_of_correlations_of_differences(ir, vi, fused),
        "VIF": vif_ir + vif_vi,
        "Qabf": qabf.qabf(ir, vi, fused),
        "SSIM": ssim.ssim(ir, vi, fused),
        "Q_ir": q_ir,
        "Q_vi": q_vi,
        "Q_min": min(q_ir, q_vi),
        "VIF_ir": vif_ir,
        "VIF_vi": vif_vi,
        "VIF_min": min(vif_ir, vif_vi),
        "excess_gradient": qabf.excess_gradient(ir, vi, fused),
        "extra_clipping": fusion_metrics.extra_clipping(ir, vi, fused),
    }


def test_swapping_the_sources_swaps_the_sides_only() -> None:
    ir, vi = scene(8)
    fused = fuse("max", ir, vi)
    there, back = measure(ir, vi, fused), measure(vi, ir, fused)
    other = {"Q_ir": "Q_vi", "Q_vi": "Q_ir", "VIF_ir": "VIF_vi", "VIF_vi": "VIF_ir"}
    assert there["Q_ir"] != pytest.approx(there["Q_vi"], rel=1e-3)
    for name, value in there.items():
        assert back[other.get(name, name)] == pytest.approx(value, rel=1e-12), name


def test_floats_and_bytes_give_the_same_figures() -> None:
    ir, vi = scene(9)
    fused = fuse("average", ir, vi)
    as_floats = measure(ir.astype(np.float32), vi.astype(np.float64), fused.astype(np.float32))
    assert as_floats == measure(ir, vi, fused)


def test_arguments_are_left_as_they_were() -> None:
    frame = [image.astype(np.float64) for image in (*scene(1), scene(2)[0])]
    before = [image.copy() for image in frame]
    measure(*frame)
    flicker([tuple(frame), tuple(frame)])  # type: ignore[list-item]
    assert all(np.array_equal(a, b) for a, b in zip(frame, before, strict=True))


def test_black_frames_measure_without_warnings() -> None:
    black = np.zeros((50, 50), np.uint8)
    with np.errstate(all="raise", under="ignore"):
        figures = measure(black, black, black)
    assert all(np.isfinite(value) for value in figures.values())
    assert (figures["EN"], figures["MI"], figures["SSIM"], figures["excess_gradient"]) == (0.0, 0.0, 2.0, 0.0)


# ---------------------------------------------------------------- flicker


def moving_scene(count: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    ir, vi = scene(4, 60, 120)
    return [(ir[:, 7 * t : 7 * t + 80], vi[:, 7 * t : 7 * t + 80]) for t in range(count)]


@pytest.mark.parametrize("rule", ["ir", "max", "average"])
def test_pointwise_rules_do_not_flicker_in_motion(rule: str) -> None:
    frames = [(ir, vi, ir if rule == "ir" else fuse(rule, ir, vi)) for ir, vi in moving_scene()]
    figures = flicker(frames)
    assert figures["flicker"] == 0.0
    assert figures["pumping"] <= 0.05
    assert 0.5 < figures["change_ratio"] <= 1.0


def test_flicker_of_weights_that_jump() -> None:
    ir, vi = np.full((9, 9), 100.0), np.full((9, 9), 60.0)
    figures = flicker([(ir, vi, vi if t % 2 else ir) for t in range(6)])
    assert figures["flicker"] == pytest.approx(40.0 - 1.0)
    assert figures["pumping"] == pytest.approx(40.0)
    assert figures["change_ratio"] == pytest.approx(40.0 / 0.01)


def test_flicker_in_place_without_pumping_and_pumping_below_a_level() -> None:
    still = np.full((8, 8), 100.0)
    board = 10.0 * (-1.0) ** np.add.outer(np.arange(8), np.arange(8))
    swapping = flicker([(still, still, still + sign * board) for sign in (1, -1, 1)])
    assert swapping["flicker"] == pytest.approx(19.0)
    assert swapping["pumping"] == pytest.approx(0.0, abs=1e-9)
    breathing = flicker([(still, still, still + 0.5 * (t % 2)) for t in range(4)])
    assert breathing["flicker"] == 0.0
    assert breathing["pumping"] == pytest.approx(0.5)


def test_exposure_jumps_of_a_source_are_not_the_fusions() -> None:
    still = np.full((8, 8), 100.0)
    frames = [(still + 30.0 * (t % 2), still, still + 20.0 * (t % 2)) for t in range(4)]
    assert flicker(frames) == pytest.approx({"flicker": 0.0, "pumping": 0.0, "change_ratio": 20.0 / 30.0})


def test_nothing_changes() -> None:
    frame = scene()
    figures = flicker(iter([(*frame, frame[0])] * 3))
    assert figures == {"flicker": 0.0, "pumping": 0.0, "change_ratio": 1.0}
    assert list(figures) == [m.name for m in METRICS.values() if m.per == "sequence"]


# ---------------------------------------------------------------- grey


def test_luma_is_the_eight_bit_conversion_of_opencv() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert np.array_equal(luma(rgb), cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    assert luma(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)).tolist() == [
        [76, 150, 29, 255]
    ]


def test_read_luma_keeps_channel_order_and_grey_levels(tmp_path: Path) -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[..., 0] = 255
    cv2.imwrite(str(tmp_path / "red.png"), rgb[..., ::-1])
    assert np.all(read_luma(tmp_path / "red.png") == 76)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "grey.png"), ramp)
    assert np.array_equal(read_luma(tmp_path / "grey.png"), ramp)


def test_rounding_clips_and_takes_ties_to_even() -> None:
    assert to_grey8(np.array([[-3.0, 0.5, 1.5, 254.6, 300.0]])).tolist() == [[0, 0, 2, 255, 255]]


# ---------------------------------------------------------------- refusals


def with_nan() -> np.ndarray:
    image = np.full((50, 60), 10.0)
    image[3, 4] = np.nan
    return image


GOOD = np.full((50, 60), 10.0)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ((GOOD, GOOD, GOOD[:, :-1]), r"infrared 50x60, visible 50x60, fused 50x59"),
        ((GOOD, with_nan(), GOOD), r"visible image holds NaN"),
        ((GOOD, GOOD, np.full((50, 60), np.inf)), r"fused image holds NaN or infinite"),
        ((np.zeros((0, 60)), GOOD, GOOD), r"infrared image has shape \[0, 60\]"),
        ((GOOD, np.zeros((50, 60, 3), np.uint8), GOOD), r"visible image has shape \[50, 60, 3\].*luma"),
        ((GOOD.astype(np.uint16), GOOD, GOOD), r"infrared image is uint16"),
        ((GOOD, GOOD, GOOD + 246.0), r"fused image spans 256..256"),
        ((GOOD, GOOD, GOOD - 11.0), r"fused image spans -1..-1"),
        ((GOOD[:40], GOOD[:40], GOOD[:40]), r"40x60 .* at least 41"),
    ],
)
def test_measure_refuses_with_a_sentence(frame: tuple[Any, Any, Any], sentence: str) -> None:
    with pytest.raises(RosAttnError, match=sentence) as caught:
        measure(*frame)
    assert "\n" not in str(caught.value)


def test_smallest_frame_is_measured() -> None:
    small = GOOD[:41, :41]
    assert np.isfinite(measure(small, small, small)["VIF"])


def test_flicker_refuses_with_a_sentence() -> None:
    with pytest.raises(RosAttnError, match="at least two frames"):
        flicker([(GOOD, GOOD, GOOD)])
    with pytest.raises(RosAttnError, match="frame 1 is 49x60 but the one before it 50x60"):
        flicker([(GOOD, GOOD, GOOD), (GOOD[1:], GOOD[1:], GOOD[1:])])
    with pytest.raises(RosAttnError, match="visible image holds NaN"):
        flicker([(GOOD, with_nan(), GOOD)])


def test_files_and_colour_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "absent.png"):
        with pytest.raises(RosAttnError, match=f"{name} is missing or not an image"):
            read_luma(tmp_path / name)
    with pytest.raises(RosAttnError, match=r"float64 \[50, 60\]"):
        luma(GOOD)  # type: ignore[arg-type]
