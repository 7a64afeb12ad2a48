"""Cameras that cannot be believed: frozen, blank, or as the network says."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ros_attn.degrade.degradation import Degradation
from ros_attn.diagnostics import ERROR, WARN, Health
from ros_attn.perception.infrared_visible_fusion.camera_watch import CameraWatch, RepeatedFrames, Verdict, blank
from ros_attn.perception.infrared_visible_fusion.component import FusionParams, InfraredVisibleFusion
from ros_attn.perception.infrared_visible_fusion.learned import Picture
from ros_attn.values import Image
from tests.images import scene

MS = 1_000_000


@pytest.mark.parametrize("hz", [5, 10, 30, 60])
def test_a_frozen_camera_is_named_within_half_a_second(hz: int) -> None:
    watch, period = RepeatedFrames(0.3), round(1e9 / hz)
    image = scene(0, "mono8").data
    said = [watch.observe(image.copy(), k * period) for k in range(hz)]
    first = said.index(True)
    assert 0.3 <= first / hz <= 0.5 and all(said[first:])
    assert not watch.observe(scene(0, "mono8", 1).data, hz * period)


def test_a_slow_camera_held_by_a_fast_one_is_not_frozen() -> None:
    watch, image = RepeatedFrames(0.3), scene(0, "mono8").data
    assert not any(watch.observe(image, 0) for _ in range(60))
    # Drivers that publish a 9 Hz sensor's frames three times.
    assert not any(watch.observe(scene(0, "mono8", k // 3).data, round((k + 1) * 1e9 / 27)) for k in range(54))


def test_blank_is_what_has_no_contrast() -> None:
    rng = np.random.default_rng(0)
    for level in (0, 90, 255):
        assert blank(np.full((48, 64), level, np.float32) + rng.normal(0, 0.5, (48, 64)).astype(np.float32))
    assert not blank(rng.normal(4, 2, (48, 64)).astype(np.float32))
    assert not blank(scene(0, "mono8").data.astype(np.float32))


def test_a_verdict_wants_two_frames_and_keeps_its_name() -> None:
    verdict, names = Verdict("none"), []
    for k, share in enumerate((0.0, 1.0, 1.0, 1.0, 0.55, 0.45, 0.45, 0.0, 0.0, 0.0)):
        names.append(verdict.observe({"none": 1 - share, "dirt": share}, k * 100 * MS))
    assert names == ["", "", "dirt", "dirt", "dirt", "dirt", "dirt", "", "", ""]
    verdict.reset()
    assert verdict.observe({"none": 0.1, "dirt": 0.9}, 0) == "dirt"


def pair(k: int) -> tuple[Image, Image]:
    stamp = k * 100 * MS
    return replace(scene(stamp, "rgb8", 1 + 2 * k), stamp_ns=stamp), scene(stamp, "mono8", 2 + 2 * k)


@pytest.mark.parametrize("camera", ["visible", "infrared"])
def test_the_other_camera_passes_while_one_is_frozen(camera: str) -> None:
    component, stuck = InfraredVisibleFusion(FusionParams(model="rule")), pair(0)
    levels = []
    for k in range(8):
        visible, infrared = pair(k)
        if camera == "visible":
            visible = replace(visible, data=stuck[0].data.copy())
        else:
            infrared = replace(infrared, data=stuck[1].data.copy())
        outputs = component.step(visible.stamp_ns, visible, infrared)
        levels.append(component.health.level)
        fused, trust = outputs["fused"], outputs["trust"]
        assert isinstance(fused, Image) and isinstance(trust, Image)
        if k >= 3:
            whole, value = (visible.data, 255) if camera == "infrared" else (infrared.data[..., None], 0)
            np.testing.assert_array_equal(fused.data, np.broadcast_to(whole, fused.data.shape))
            assert (trust.data == value).all()
            assert f"{camera} repeats one picture" in component.health.snapshot()[f"{camera}_frozen"]
    assert levels == [0] * 3 + [ERROR] * 5
    visible, infrared = pair(9)
    component.step(visible.stamp_ns, visible, infrared)
    assert component.health.level == 0


def test_a_scene_that_stands_still_for_both_is_no_fault() -> None:
    component, (visible, infrared) = InfraredVisibleFusion(FusionParams(model="rule")), pair(0)
    for k in range(10):
        stamp = k * 100 * MS
        component.step(stamp, replace(visible, stamp_ns=stamp), replace(infrared, stamp_ns=stamp))
        assert component.health.level == 0


def test_a_camera_never_counts_as_frozen_where_that_is_switched_off() -> None:
    component, stuck = InfraredVisibleFusion(FusionParams(model="rule", frozen_after_s=0.0)), pair(0)[1]
    for k in range(10):
        visible, _ = pair(k)
        component.step(visible.stamp_ns, visible, replace(stuck, stamp_ns=visible.stamp_ns))
        assert component.health.level == 0


def test_a_blank_camera_is_left_out() -> None:
    component, (visible, infrared) = InfraredVisibleFusion(FusionParams(model="rule")), pair(0)
    outputs = component.step(0, visible, replace(infrared, data=np.zeros_like(infrared.data)))
    assert isinstance(outputs["fused"], Image)
    np.testing.assert_array_equal(outputs["fused"].data, visible.data)
    assert component.health.level == WARN and "infrared shows nothing" in component.health.snapshot()["infrared_blank"]
    component.step(1, visible, replace(infrared, data=np.full_like(infrared.data, 255), stamp_ns=1))
    assert "infrared is saturated all over" in component.health.snapshot()["infrared_blank"]


def test_what_the_network_sees_becomes_figures_and_conditions() -> None:
    health = Health()
    watch, plane = CameraWatch(health, 0.3), np.zeros((4, 4), np.float32)
    sound = {"none": 0.98, "dirt": 0.02}
    for k in range(4):
        picture = Picture(plane, plane, {"clear": 0.1, "haze": 0.9}, {"visible": sound, "infrared": {"none": 0.1, "dirt": 0.9}})  # fmt: skip  # noqa: E501
        watch.name(picture, k * 100 * MS)
    assert health.figures == {"weather": "haze", "visible_fault": "none", "infrared_fault": "dirt"}
    assert health.snapshot() == {"infrared_fault": "infrared looks dirty: clean its window."}


def textured(stamp_ns: int, encoding: str, seed: int) -> Image:
    """A still scene in which a shift can be seen, with noise of its own in every frame."""
    picture = scene(0, encoding, seed, 240, 320)
    rng = np.random.default_rng([seed, stamp_ns])
    blobs = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (240, 320)), (0, 0), 3)
    levels = 110 + 30 * blobs / blobs.std() + rng.normal(0, 1, (240, 320))
    data = np.clip(levels, 0, 255).astype(np.uint8)
    return replace(picture, stamp_ns=stamp_ns, data=np.stack([data] * 3, -1) if encoding == "rgb8" else data)


def test_a_knock_and_dirt_are_said_until_only_one_camera_is_left() -> None:
    """On ``model=rule``, whose node has no network to ask."""
    component = InfraredVisibleFusion(FusionParams(model="rule"))
    dirt = Degradation("dirt", "heavy", "visible", seed=1)
    for k in range(20):
        visible, infrared = textured(k * 100 * MS, "rgb8", 0), textured(k * 100 * MS, "mono8", 1)
        if k >= 6:
            infrared = replace(infrared, data=np.roll(infrared.data, (-3, 6), (0, 1)))
        if k >= 12:
            visible = replace(visible, data=dirt(visible.data, infrared.data)[0])
        component.step(visible.stamp_ns, visible, infrared)
        said = component.health.snapshot()
        assert ("registration" in said) == (k >= 8) and ("visible_fault" in said) == (k >= 14), k
    assert "infrared was knocked: its picture jumped 6 px right and 3 px up" in said["registration"]
    assert said["visible_fault"] == "visible looks dirty: clean its window."
    assert component.health.figures["visible_fault"] == "dirt"
    component.step(2000 * MS, textured(2000 * MS, "rgb8", 0), None)
    assert list(component.health.snapshot()) == ["infrared"]
    assert component.health.figures["visible_fault"] == "unknown"
