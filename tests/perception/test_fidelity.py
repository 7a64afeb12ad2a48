"""The losses of training beside the metrics of evaluation, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ros_attn.evaluate.fusion_metrics import measure
from ros_attn.perception.infrared_visible_fusion.fidelity import (
    differences_explained,
    edges_kept,
    edges_kept_of_both,
    gradient_excess,
    information_kept,
    structure_kept,
)
from ros_attn.values import Array


def picture(seed: int, shape: tuple[int, int] = (97, 131)) -> Array:
    """Blobs, an edge and a little noise, uint8."""
    import cv2

    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, shape).astype(np.float32), (0, 0), 5)
    smooth = (smooth - smooth.mean()) * 6 + 120 + 40 * (np.arange(shape[1]) > 20 + 10 * seed)
    return np.clip(np.rint(smooth + rng.normal(0, 3, shape)), 0, 255).astype(np.uint8)


def plane(image: Array, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(image.astype(np.float32) / 255)[None, None].to(dtype)


@pytest.mark.parametrize("how", ["max", "average", "contrast", "noise", "copy"])
def test_losses_are_the_metrics(how: str) -> None:
    infrared, visible = picture(1), picture(2)
    mean = (infrared.astype(np.float64) + visible) / 2
    fused = {
        "max": np.maximum(infrared, visible),
        "average": np.rint(mean).astype(np.uint8),
        "contrast": np.clip(np.rint((mean - 128) * 1.6 + 128), 0, 255).astype(np.uint8),
        "noise": np.clip(mean + np.random.default_rng(0).normal(0, 12, mean.shape), 0, 255).astype(np.uint8),
        "copy": visible,
    }[how]
    expected = measure(infrared, visible, fused)
    i, v, f = plane(infrared), plane(visible), plane(fused)
    assert float(information_kept(i, f)) == pytest.approx(expected["VIF_ir"], abs=2e-3)
    assert float(information_kept(v, f)) == pytest.approx(expected["VIF_vi"], abs=2e-3)
    assert float(structure_kept(i, f) + structure_kept(v, f)) == pytest.approx(expected["SSIM"], abs=1e-3)
    assert float(gradient_excess(i, v, f)) == pytest.approx(expected["excess_gradient"], abs=1e-3)
    assert float(differences_explained(i, v, f)) == pytest.approx(expected["SCD"], abs=2e-3)
    sides = sorted(float(edges_kept(source, f)) for source in (i, v))
    assert sides[0] <= float(edges_kept_of_both(i, v, f)) <= sides[1]
    # The angle is folded here: never less is kept, and a few hundredths more.
    for source, key in ((i, "Q_ir"), (v, "Q_vi")):
        assert -2e-3 < float(edges_kept(source, f)) - expected[key] < 0.05


def test_each_sample_has_its_own_figure() -> None:
    a, b = plane(picture(1)), plane(picture(2))
    for measure_of in (edges_kept, information_kept, structure_kept):
        both = measure_of(torch.cat((a, b)), torch.cat((b, b)))
        assert both.shape == (2,)
        assert torch.allclose(both[0], measure_of(a, b)[0]) and torch.allclose(both[1], measure_of(b, b)[0])


def test_gradients_by_finite_differences() -> None:
    i, v = plane(picture(3, (44, 48)), torch.float64), plane(picture(4, (44, 48)), torch.float64)
    f = (0.9 * i + 0.8 * v + 0.01).requires_grad_()
    towards = torch.randn(f.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # An angle turns fast where there is hardly a gradient, hence the small step and the width for edges.
    for measure_of, width in (
        (lambda x: edges_kept(v, x), 5e-3), (lambda x: information_kept(v, x), 1e-5),
        (lambda x: structure_kept(v, x), 1e-5), (lambda x: differences_explained(i, v, x), 1e-5),
        (lambda x: edges_kept_of_both(i, v, x), 5e-3), (lambda x: gradient_excess(i, v, x), 1e-4),
    ):  # fmt: skip
        [gradient] = torch.autograd.grad(measure_of(f).sum(), f)
        step = 1e-8
        with torch.no_grad():
            slope = float(measure_of(f + step * towards) - measure_of(f - step * towards)) / (2 * step)
        assert slope != 0 and float((gradient * towards).sum()) == pytest.approx(slope, rel=width)


def test_flat_pictures_have_finite_gradients() -> None:
    flat = torch.full((1, 1, 48, 48), 0.5)
    for source in (flat, plane(picture(5, (48, 48)))):
        f = flat.clone().requires_grad_()
        total = edges_kept(source, f) + information_kept(source, f) + structure_kept(source, f)
        [gradient] = torch.autograd.grad((total + gradient_excess(source, flat, f)).sum(), f)
        assert torch.isfinite(gradient).all()
