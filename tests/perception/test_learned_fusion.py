"""Checkpoints of the learned presets: both backends, any size, and sentences for what cannot be loaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from ros_attn.errors import CheckpointError, RosAttnError
from ros_attn.perception.infrared_visible_fusion import presets
from ros_attn.perception.infrared_visible_fusion.component import FusionParams, InfraredVisibleFusion
from ros_attn.perception.infrared_visible_fusion.fast_model import FastFusion
from ros_attn.perception.infrared_visible_fusion.learned import LearnedFusion
from ros_attn.values import Array, Image
from tests.images import scene


@pytest.fixture(scope="module")
def shipped() -> Path:
    return Path(str(resources.files("ros_attn.perception.infrared_visible_fusion") / "weights" / "fast"))


def planes(height: int, width: int) -> tuple[Array, Array]:
    infrared, visible = (scene(0, "mono8", seed, height, width).data.astype(np.float32) for seed in (1, 2))
    return infrared, visible


@pytest.mark.parametrize("size", [(120, 160), (61, 83), (16, 17)])
def test_both_backends_give_the_same_picture(shipped: Path, size: tuple[int, int]) -> None:
    ours, theirs = (LearnedFusion(shipped, backend).fuse(*planes(*size)) for backend in ("onnxruntime", "torch"))
    assert ours.fused.shape == ours.trust.shape == size
    assert np.abs(ours.fused - theirs.fused).max() < 0.01
    assert np.abs(ours.trust - theirs.trust).max() < 1e-4
    assert sum(ours.weather.values()) == pytest.approx(1) and ours.weather == pytest.approx(theirs.weather, abs=1e-4)
    for camera in ("visible", "infrared"):
        assert sum(ours.faults[camera].values()) == pytest.approx(1)


def test_one_or_two_threads_give_the_same_bytes(shipped: Path) -> None:
    one, two = (LearnedFusion(shipped, "onnxruntime", threads).fuse(*planes(240, 320)) for threads in (1, 2))
    np.testing.assert_array_equal(one.fused, two.fused)


def test_both_cameras_are_in_the_picture(shipped: Path) -> None:
    """What only one camera sees is seen in the fused picture, with its sign."""
    net = LearnedFusion(shipped)
    rng = np.random.default_rng(0)
    base = scene(0, "mono8", 3, 160, 200).data.astype(np.float32) * 0.5 + 60
    plain = net.fuse(base, base).fused
    for camera in (0, 1):
        pair = [base.copy(), base.copy()]
        pair[camera][60:100, 80:120] += 60 + rng.normal(0, 1, (40, 40)).astype(np.float32)
        change = net.fuse(*pair).fused - plain
        assert change[65:95, 85:115].mean() > 15
        assert abs(change[:40].mean()) < 8


def test_outside_the_infrared_sensor_the_visible_picture_stands(shipped: Path) -> None:
    infrared, visible = planes(96, 128)
    coverage = np.zeros_like(visible)
    coverage[:, :64] = 1
    made = LearnedFusion(shipped).fuse(infrared, visible, coverage)
    np.testing.assert_allclose(made.fused[:, 64:], visible[:, 64:], atol=1e-4)
    np.testing.assert_allclose(made.trust[:, 64:], 1)
    assert np.abs(made.fused[:, :60] - visible[:, :60]).mean() > 2


def test_too_small_is_a_sentence(shipped: Path) -> None:
    with pytest.raises(RosAttnError, match="images are 64x8 px, the learned models take 16 px"):
        LearnedFusion(shipped).fuse(*planes(8, 64))


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = FastFusion().eval()
    presets.save("fast", model, tmp_path / "made", {"data": ["none"], "terms": "none"})
    loaded = presets.load(tmp_path / "made")
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    ours, theirs = (LearnedFusion(tmp_path / "made", b).fuse(*planes(64, 72)) for b in ("onnxruntime", "torch"))
    assert np.abs(ours.fused - theirs.fused).max() < 0.01
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "config.json", "contract.json", "model.onnx", "model.safetensors",
    }  # fmt: skip


def test_paper_runs_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = presets.network("paper").eval()
    presets.save("paper", model, tmp_path / "paper", {"data": [], "terms": "none"})
    component = InfraredVisibleFusion(FusionParams(model="paper", weights=str(tmp_path / "paper"), denoise="off"))
    visible, infrared = scene(0, "mono8", 1, 48, 64), scene(0, "mono8", 2, 48, 64)
    fused = component.step(0, visible, infrared)["fused"]
    assert isinstance(fused, Image)
    with torch.inference_mode():
        pair = (torch.from_numpy(x.data * np.float32(1 / 255))[None, None] for x in (visible, infrared))
        expected = 255 * model(*pair).fused[0, 0].numpy()
    assert np.abs(fused.data - np.clip(expected, 0, 255)).max() <= 1


@pytest.mark.slow
def test_a_network_that_exports_to_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wavering(FastFusion):
        """Adds something that differs between the export and the comparison."""

        def forward(self, visible: torch.Tensor, infrared: torch.Tensor):  # type: ignore[no-untyped-def]
            made = super().forward(visible, infrared)
            return made if torch.compiler.is_exporting() else made._replace(fused=made.fused + 0.01)

    with pytest.raises(CheckpointError, match=r"exported network's fused differs by 0\.01"):
        presets.save("fast", Wavering(), tmp_path / "made", {"data": [], "terms": ""})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copied(shipped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "copied"))


def test_what_cannot_be_loaded_is_said(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        LearnedFusion(tmp_path / "absent")
    (copied / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"model\.onnx cannot be opened"):
        LearnedFusion(copied)
    (copied / "model.onnx").unlink()
    assert LearnedFusion(copied).backend == "torch"
    with pytest.raises(CheckpointError, match=r"has no model\.onnx"):
        LearnedFusion(copied, "onnxruntime")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"params": {"preset": "swift"}}))
    with pytest.raises(CheckpointError, match="preset 'swift'; this version knows fast"):
        LearnedFusion(copied)
    (copied / "contract.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no checkpoint of infrared_visible_fusion"):
        LearnedFusion(copied)


def test_without_a_backend_a_sentence_says_what_to_install(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RosAttnError, match=r"onnxruntime or torch: pip install 'ros-attn\[perception\]'"):
        LearnedFusion(shipped)
    with pytest.raises(RosAttnError, match="backend is torch, which is not installed"):
        LearnedFusion(shipped, "torch")


def test_the_component_names_its_backend_and_wants_weights_for_paper() -> None:
    component = InfraredVisibleFusion()
    component.configure()
    assert component.health.figures["backend"] == "onnxruntime"
    with pytest.raises(CheckpointError, match="model is paper, which comes without weights"):
        InfraredVisibleFusion(FusionParams(model="paper")).configure()


def test_colours_are_lifted_with_a_dark_picture_and_left_alone_in_the_light() -> None:
    import cv2

    component = InfraredVisibleFusion(FusionParams(denoise="off"))
    day, infrared = scene(0, "rgb8", 1, 120, 160), scene(0, "mono8", 2, 120, 160)
    day = replace(day, data=cv2.GaussianBlur(day.data, (0, 0), 4))
    for light, least, most in ((1.0, 0.9, 1.3), (0.1, 2.0, 4.1)):
        visible = replace(day, data=np.rint(day.data * light).astype(np.uint8))
        fused = component.step(0, visible, infrared)["fused"]
        assert isinstance(fused, Image)
        theirs, ours = (
            cv2.cvtColor(each.data, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(float) - 128 for each in (visible, fused)
        )
        lift = float((ours * theirs).sum() / (theirs * theirs).sum())
        assert least < lift < most
