"""The fusion rule against its formula, gain, alignment, polarity and missing cameras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ros_attn.errors import MessageError, ParameterError
from ros_attn.perception.infrared_visible_fusion import alignment, polarity, rule
from ros_attn.perception.infrared_visible_fusion.agc import PercentileGain
from ros_attn.perception.infrared_visible_fusion.component import FusionParams, InfraredVisibleFusion
from ros_attn.runtime import Runtime
from ros_attn.values import Array, CameraInfo, Image
from tests.images import scene

MS = 1_000_000
S = 1000 * MS


def planes(seed: int = 0) -> tuple[Array, Array]:
    infrared = scene(0, "mono8", seed, 120, 160).data.astype(np.float32)
    visible = scene(0, "mono8", seed + 1, 120, 160).data.astype(np.float32)
    infrared[40:60, 50:70] = 240
    return infrared, visible


def reference(infrared: Array, visible: Array) -> tuple[Array, Array]:
    """The formula word by word in float64, with scipy's Gaussian."""
    x, y = infrared.astype(np.float64), visible.astype(np.float64)

    def g(image: Array, sigma: float) -> Array:
        return gaussian_filter(image, sigma, mode="nearest", truncate=4)

    b_ir, b_vi = g(x, 5), g(y, 5)
    w = 1 / (1 + np.exp(-(b_ir - b_vi) / 20))
    d_ir, d_vi = x - b_ir, y - b_vi
    e_ir, e_vi = g(d_ir**2, 2) ** 2, g(d_vi**2, 2) ** 2
    a = e_ir / (e_ir + e_vi)
    return w * b_ir + (1 - w) * b_vi + a * d_ir + (1 - a) * d_vi, 1 - (w + a) / 2


def test_rule_is_its_formula() -> None:
    infrared, visible = planes()
    fused, trust = rule.fuse(infrared, visible)
    expected, expected_trust = reference(infrared, visible)
    assert np.abs(fused - expected).max() < 0.05
    assert np.abs(trust - expected_trust).max() < 1e-3


def test_rule_keeps_each_camera_where_the_other_is_flat() -> None:
    infrared, _ = planes()
    flat = np.full_like(infrared, 100)
    fused, trust = rule.fuse(infrared, flat)
    detail = infrared - rule.blur(infrared, 5)
    np.testing.assert_allclose((fused - rule.blur(fused, 5)).std(), detail.std(), rtol=0.1)
    swapped, swapped_trust = rule.fuse(flat, infrared)
    np.testing.assert_allclose(swapped, fused, atol=0.02)
    np.testing.assert_allclose(swapped_trust, 1 - trust, atol=1e-3)
    same, _ = rule.fuse(infrared, infrared)
    np.testing.assert_allclose(same, infrared, atol=1e-3)


def test_outside_the_infrared_sensor_the_visible_picture_stands() -> None:
    infrared, visible = planes()
    coverage = np.zeros_like(infrared)
    coverage[:, :80] = 1
    fused, trust = rule.fuse(infrared, visible, coverage)
    np.testing.assert_allclose(fused[:, 80:], visible[:, 80:], atol=1e-3)
    np.testing.assert_array_equal(trust[:, 80:], 1)
    np.testing.assert_array_equal(fused[:, :80], rule.fuse(infrared, visible)[0][:, :80])


# -- gain -------------------------------------------------------------------------------------------------


def counts(low: int, high: int, size: int = 64) -> Array:
    return np.linspace(low, high, size * size).reshape(size, size).astype(np.uint16)


def test_gain_maps_percentiles_to_black_and_white() -> None:
    gain = PercentileGain(1.0, 99.0, 1.0, 0.0, 0.0)
    levels = gain.apply(counts(7000, 8000), 0)
    assert gain.range is not None
    low, high = np.percentile(counts(7000, 8000)[::4, ::4], (1, 99))
    assert gain.range == (low, high)
    expected = np.clip((counts(7000, 8000) - low) * 255 / (high - low), 0, 255)
    np.testing.assert_allclose(levels, expected, atol=0.01)


def test_gain_follows_a_step_with_its_time_constant_whatever_the_rate() -> None:
    for rate in (9, 30):
        gain = PercentileGain(0.0, 100.0, 1.0, 0.0, 0.0)
        gain.apply(counts(1000, 2000), 0)
        for k in range(1, rate + 1):
            gain.apply(counts(3000, 4000), round(k * S / rate))
        assert gain.range is not None
        assert gain.range[0] == pytest.approx(3000 - 2000 * np.exp(-1), rel=1e-2)


def test_gain_starts_anew_after_a_long_gap_and_on_reset() -> None:
    gain = PercentileGain(0.0, 100.0, 1.0, 0.0, 0.0)
    for stamp in (0, 6 * S):
        gain.apply(counts(1000 + stamp // S, 2000), stamp)
    assert gain.range is not None and gain.range[0] == 1006
    gain.reset()
    gain.apply(counts(5000, 6000), 6 * S + MS)
    assert gain.range[0] == 5000


def test_gain_does_not_blow_up_the_noise_of_a_flat_scene() -> None:
    noise = (7000 + np.random.default_rng(0).normal(0, 5, (64, 64))).astype(np.uint16)
    assert PercentileGain(1, 99, 1, 300, 0.0).apply(noise, 0).std() < 6
    assert PercentileGain(1, 99, 1, 0, 0.0).apply(noise, 0).std() > 40
    assert PercentileGain(1, 99, 1, 300, 0.0).apply(noise, 0).mean() == pytest.approx(127.5, abs=3)


def test_gain_of_temperatures_has_its_own_smallest_span() -> None:
    kelvin = scene(0, "32FC1").data  # 290 to 320 K
    assert PercentileGain(1, 99, 1, 300, 3).apply(kelvin, 0).std() > 40
    flat = (293 + np.random.default_rng(0).normal(0, 0.05, (64, 64))).astype(np.float32)
    assert PercentileGain(1, 99, 1, 300, 3).apply(flat, 0).std() < 6
    constant = np.full((8, 8), 293.0, np.float32)
    assert np.isfinite(PercentileGain(1, 99, 1, 0, 0).apply(constant, 0)).all()


def test_gain_takes_nan_as_cold_and_refuses_nothing_but_nan() -> None:
    kelvin = scene(0, "32FC1").data.copy()
    kelvin[0, :3] = (np.nan, np.inf, -np.inf)
    levels = PercentileGain(1, 99, 1, 0, 0.0).apply(kelvin, 0)
    assert np.isfinite(levels).all() and levels[0, :3].tolist() == [0, 255, 0]
    with pytest.raises(MessageError, match="no finite pixel"):
        PercentileGain(1, 99, 1, 0, 0.0).apply(np.full((8, 8), np.nan, np.float32), 0)


# -- alignment --------------------------------------------------------------------------------------------


def camera(width: int, height: int, f: float, d: tuple[float, ...] = ()) -> CameraInfo:
    k = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
    return CameraInfo(0, width, height, k, np.array(d), np.eye(3), np.hstack([k, np.zeros((3, 1))]))


def test_stretch_maps_pixel_centres() -> None:
    made = alignment.stretched((480, 640), (240, 320))
    assert made.map_x[0, 1] == pytest.approx(0.25)
    assert made.map_y[479, 0] == 239
    ramp = np.tile(np.arange(320, dtype=np.float32), (240, 1))
    np.testing.assert_allclose(made.warp(ramp)[100, 2:638], (np.arange(2, 638) + 0.5) / 2 - 0.5, atol=1e-3)


def test_homography_moves_a_point_where_it_says() -> None:
    H = (2.0, 0.1, 30.0, -0.05, 1.9, 12.0, 1e-5, 0.0, 1.0)
    made = alignment.by_homography(H, (480, 640), (240, 320))
    x, y, w = np.array(H).reshape(3, 3) @ (100, 80, 1)
    u, v = round(x / w), round(y / w)
    back = np.linalg.inv(np.array(H).reshape(3, 3)) @ (u, v, 1)
    assert made.map_x[v, u] == pytest.approx(back[0] / back[2], abs=1e-3)
    assert abs(made.map_x[v, u] - 100) < 0.5 and abs(made.map_y[v, u] - 80) < 0.5
    with pytest.raises(ParameterError, match="cannot be inverted"):
        alignment.by_homography((0.0,) * 9, (480, 640), (240, 320))


def test_calibration_agrees_with_projection_of_known_points() -> None:
    """Points at the set depth land where both pinhole models, written out here, say; others by the known residual."""
    visible, infrared = camera(640, 480, 500.0), camera(320, 256, 300.0, (-0.2, 0.05, 0.001, -0.002, 0.0))
    T = np.eye(4)
    T[:3, 3] = (0.05, -0.01, 0.0)
    made = alignment.by_calibration(visible, infrared, T, 10.0)
    for u, v in ((320, 240), (250, 180), (400, 300)):
        X = 10.0 * np.array([(u - visible.k[0, 2]) / 500, (v - visible.k[1, 2]) / 500, 1.0])
        x, y, z = T[:3, :3] @ X + T[:3, 3]
        x, y = x / z, y / z
        r2 = x * x + y * y
        k1, k2, p1, p2, k3 = infrared.d
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        assert made.map_x[v, u] == pytest.approx(300 * xd + infrared.k[0, 2], abs=5e-3)
        assert made.map_y[v, u] == pytest.approx(300 * yd + infrared.k[1, 2], abs=5e-3)
    near = alignment.by_calibration(visible, replace(infrared, d=np.zeros(0)), T, 2.0)
    far = alignment.by_calibration(visible, replace(infrared, d=np.zeros(0)), T, 10.0)
    assert near.map_x[240, 320] - far.map_x[240, 320] == pytest.approx(300 * 0.05 * (1 / 2 - 1 / 10), abs=1e-3)


def test_coverage_is_zero_outside_and_feathered_inside() -> None:
    made = alignment.by_homography((1, 0, 100, 0, 1, 50, 0, 0, 1), (480, 640), (240, 320))
    assert (made.coverage[:50] == 0).all() and (made.coverage[:, :100] == 0).all()
    assert made.coverage[170, 260] == pytest.approx(1)
    edge = made.coverage[170, 100:140]
    assert edge[0] < 0.2 and (np.diff(edge) >= -1e-6).all() and edge[-1] > 0.99


def test_uncalibrated_camera_is_refused() -> None:
    with pytest.raises(MessageError, match=r"infrared/camera_info .* uncalibrated"):
        alignment.by_calibration(camera(64, 48, 50.0), camera(64, 48, 0.0), np.eye(4), 5.0)


# -- the component ----------------------------------------------------------------------------------------


def step(params: FusionParams, visible: Image | None, infrared: Image | None, **more: Any) -> tuple[dict, Any]:
    component = InfraredVisibleFusion(params)
    stamp = (visible or infrared).stamp_ns  # type: ignore[union-attr]
    return dict(component.step(stamp, visible, infrared, **more)), component


def test_colour_keeps_the_visible_chroma_and_takes_the_fused_luma() -> None:
    import cv2

    visible, infrared = scene(5, "rgb8", 1), scene(5, "mono8", 2)
    outputs, _ = step(FusionParams(model="rule"), visible, infrared)
    fused = outputs["fused"]
    assert (fused.stamp_ns, fused.encoding, fused.frame_id) == (5, "rgb8", "rgb8_frame")
    ours, theirs = (cv2.cvtColor(image.data, cv2.COLOR_RGB2YCrCb) for image in (fused, visible))
    luma, _ = rule.fuse(infrared.data.astype(np.float32), theirs[..., 0].astype(np.float32))
    inside = (fused.data > 0).all(-1) & (fused.data < 255).all(-1)
    assert np.abs(ours[..., 0][inside] - luma[inside]).max() < 2
    assert np.abs(ours[..., 1:][inside].astype(int) - theirs[..., 1:][inside]).max() <= 2


def test_mono_stays_mono_and_bgr_equals_rgb() -> None:
    infrared = scene(5, "mono8", 2)
    assert step(FusionParams(), scene(5, "mono8", 1), infrared)[0]["fused"].encoding == "mono8"
    rgb = scene(5, "rgb8", 1)
    bgr = replace(rgb, data=np.ascontiguousarray(rgb.data[..., ::-1]), encoding="bgr8")
    first, second = (step(FusionParams(), image, infrared)[0]["fused"].data for image in (rgb, bgr))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "32FC1"])
def test_thermal_counts_go_through_the_gain(encoding: str) -> None:
    params = FusionParams(agc_min_span=0.0, agc_min_span_k=0.0)
    outputs, component = step(params, scene(5, "rgb8", 1), scene(5, encoding, 2))
    eight_bit, _ = step(params, scene(5, "rgb8", 1), scene(5, "mono8", 2))
    assert component.gain.range is not None
    difference = outputs["fused"].data.astype(int) - eight_bit["fused"].data
    assert np.abs(difference).mean() < 25  # the same scene, stretched
    with pytest.raises(MessageError, match="set agc to auto or on"):
        step(FusionParams(agc="off"), scene(5, "rgb8", 1), scene(5, encoding, 2))


def test_black_hot_is_turned_over() -> None:
    visible, infrared = scene(5, "rgb8", 1), scene(5, "mono8", 2)
    inverted = replace(infrared, data=255 - infrared.data)
    straight = step(FusionParams(), visible, infrared)[0]["fused"].data
    turned = step(FusionParams(polarity="black_hot"), visible, inverted)[0]["fused"].data
    np.testing.assert_array_equal(straight, turned)


def warm_scene() -> Image:
    """Cold sky above, warm ground below, a few hot people."""
    rng = np.random.default_rng(3)
    data = np.where(np.arange(120)[:, None] < 40, 30, 80) + rng.normal(0, 4, (120, 160))
    for x in (20, 60, 110):
        data[60:90, x : x + 8] = 230
    return Image(0, np.clip(data, 0, 255).astype(np.uint8), "mono8")


def test_inverted_polarity_is_said_after_a_while_and_never_corrected() -> None:
    upright, visible = warm_scene(), Image(0, np.full((120, 160), 90, np.uint8), "mono8")
    assert polarity.hotness(upright.data.astype(np.float32)) > polarity.THRESHOLD
    for data, expected in ((upright.data, False), (255 - upright.data, True)):
        component = InfraredVisibleFusion()
        said = []
        for k in range(50):
            stamp = k * 100 * MS
            component.step(stamp, replace(visible, stamp_ns=stamp), Image(stamp, data, "mono8"))
            said.append("polarity" in component.health.conditions)
        assert said[-1] is expected and not any(said[:29])


def test_missing_cameras_pass_through_and_are_flagged() -> None:
    visible, infrared = scene(5, "rgb8", 1), scene(7, "mono8", 2)
    outputs, component = step(FusionParams(model="rule"), visible, None)
    np.testing.assert_array_equal(outputs["fused"].data, visible.data)
    assert (outputs["trust"].data == 255).all()
    assert "infrared is missing" in component.health.snapshot()["infrared"]
    component.step(6, visible, infrared)
    assert component.health.snapshot() == {}
    outputs = component.step(7, None, infrared)
    np.testing.assert_array_equal(outputs["fused"].data[..., 0], infrared.data)
    assert outputs["fused"].encoding == "rgb8"  # as before: subscribers keep their encoding
    assert (outputs["trust"].data == 0).all() and outputs["fused"].stamp_ns == 7


def test_nine_hertz_beside_thirty_with_hold() -> None:
    component = InfraredVisibleFusion(FusionParams(pairing="hold", hold_s=0.2))
    made = Runtime(component)
    fused, alone = 0, 0
    thermal = [(round(k * S / 9), "infrared") for k in range(9)]
    for stamp, name in sorted(
        [(round(k * S / 30), "visible") for k in range(45)] + thermal, key=lambda e: (e[0], e[1])
    ):
        made.push(name, scene(stamp, "rgb8" if name == "visible" else "mono8"), stamp)
        while (work := made.take()) is not None:
            outputs = made.run(work)
            passed = "infrared" in component.health.conditions
            fused, alone = fused + (not passed), alone + passed
            assert outputs["fused"] is not None
    # The last infrared is at 889 ms; it serves until 1089 ms, that is frames 0 to 32.
    assert (fused, alone) == (33, 12)


def test_different_sizes_need_an_alignment() -> None:
    visible, small = scene(5, "rgb8", 1), scene(5, "mono8", 2, 24, 32)
    with pytest.raises(MessageError, match="infrared is 32x24 and visible 64x48 px; set align"):
        step(FusionParams(), visible, small)
    assert step(FusionParams(align="stretch"), visible, small)[0]["fused"].data.shape == (48, 64, 3)
    _outputs, component = step(
        FusionParams(align="calibration", depth_m=5.0), visible, small,
        visible_info=camera(64, 48, 60.0), infrared_info=camera(32, 24, 30.0),
    )  # fmt: skip
    assert component.health.figures["infrared_coverage"] == pytest.approx(1.0, abs=0.1)
    with pytest.raises(MessageError, match="camera_info is for 65x48 px, the image has 64x48"):
        step(
            FusionParams(align="calibration"), visible, small,
            visible_info=camera(65, 48, 60.0), infrared_info=camera(32, 24, 30.0),
        )  # fmt: skip


def test_a_depth_image_as_visible_is_questioned() -> None:
    with pytest.raises(MessageError, match="looks like a thermal or depth topic"):
        step(FusionParams(), scene(5, "32FC1"), scene(5, "mono8"))


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"homography": (1.0, 0.0)}, "homography has 2 numbers, but takes 9"),
        ({"infrared_frame": "ir"}, "go together"),
        ({"T_infrared_visible": (0.0,) * 6}, "takes 7"),
        ({"agc_low_percent": 60.0}, "outside 0 to 49 %"),
    ],
)
def test_contradicting_parameters(values: dict, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        InfraredVisibleFusion(FusionParams(**values))
