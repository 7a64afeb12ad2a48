"""The metrics of fusion as differentiable losses: edges kept, visual information kept, structural similarity.

Images are [B, 1, H, W] in grey levels / 255. Each function gives one figure a sample, [B], that agrees with
``ros_attn.evaluate`` to a few thousandths; tests compare both.
"""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

_TINY = 1e-6
_WINDOWS = (17, 9, 5, 3)
_NOISE_VARIANCE = 2.0
_TOLERATED_GAIN = 1.05


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel differences to the right and down, [B, 1, H, W] each; outside lie the outermost pixels again."""
    x = pad(x, (1, 1, 1, 1), mode="replicate")
    over_rows = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    over_columns = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    return over_rows[..., 2:] - over_rows[..., :-2], over_columns[:, :, 2:] - over_columns[:, :, :-2]


def strength(x: Tensor, y: Tensor) -> Tensor:
    """Length of a gradient whose own gradient is finite at 0."""
    return torch.sqrt(x * x + y * y + _TINY * _TINY)


def edges_kept(source: Tensor, fused: Tensor) -> Tensor:
    """``Q(A -> F) = sum(Q_AF g_A) / sum(g_A)`` of ``evaluate.qabf``, 0..0.9753, [B].

    Deviates: the angle between both edges is folded, ``atan2(|cross|, |dot|)``, which is differentiable.
    """
    kept, present = _edges(source, fused)
    return kept / present


def edges_kept_of_both(infrared: Tensor, visible: Tensor, fused: Tensor) -> Tensor:
    """Qabf: the same over both sources at once, so that the one with more gradient counts more, [B].

    Deviates from the published figure in the rim, which is none here, and in the folded angle.
    """
    (kept_i, present_i), (kept_v, present_v) = _edges(infrared, fused), _edges(visible, fused)
    return (kept_i + kept_v) / (present_i + present_v)


def _edges(source: Tensor, fused: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient strength that was kept and that was there, summed, [B] each."""
    ax, ay = sobel(source)
    fx, fy = sobel(fused)
    a, f = strength(ax, ay), strength(fx, fy)
    ratio = torch.minimum(a, f) / torch.maximum(a, f)
    angle = torch.atan2((ax * fy - ay * fx).abs() + _TINY, (ax * fx + ay * fy).abs() + _TINY)
    alignment = 1 - angle * (2 / torch.pi)
    kept = 0.9994 * torch.sigmoid(15 * (ratio - 0.5)) * 0.9879 * torch.sigmoid(22 * (alignment - 0.8))
    return (kept * a).sum((1, 2, 3)), a.sum((1, 2, 3))


def gradient_excess(infrared: Tensor, visible: Tensor, fused: Tensor) -> Tensor:
    """``sum(max(g_F - 1.05 max(g_ir, g_vi), 0)) / sum(max(g_ir, g_vi))`` of ``evaluate.qabf``, [B]."""
    most = torch.maximum(strength(*sobel(infrared)), strength(*sobel(visible)))
    excess = (strength(*sobel(fused)) - _TOLERATED_GAIN * most).clamp_min(0)
    return excess.sum((1, 2, 3)) / most.sum((1, 2, 3))


def differences_explained(infrared: Tensor, visible: Tensor, fused: Tensor) -> Tensor:
    """SCD ``= r(F - V, I) + r(F - I, V)`` of ``evaluate.fusion_metrics``, -2..2, [B]."""
    return _correlation(fused - visible, infrared) + _correlation(fused - infrared, visible)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    x, y = (z - z.mean((1, 2, 3), keepdim=True) for z in (x, y))
    xx, yy, xy = ((a * b).mean((1, 2, 3)) for a, b in ((x, x), (y, y), (x, y)))
    return xy * torch.rsqrt(xx * yy + _TINY * _TINY)


def information_kept(source: Tensor, fused: Tensor) -> Tensor:
    """``VIFF(A, F)`` of ``evaluate.vif`` over its four scales, [B]."""
    a, f = source * 255.0, fused * 255.0
    kept = present = a.new_zeros(a.shape[0])
    for scale, size in enumerate(_WINDOWS):
        if scale:
            a, f = _windowed(a, size, 2), _windowed(f, size, 2)
        mean_a, mean_f = _windowed(a, size), _windowed(f, size)
        var_a = (_windowed(a * a, size) - mean_a * mean_a).clamp_min(0)
        var_f = (_windowed(f * f, size) - mean_f * mean_f).clamp_min(0)
        cov = (_windowed(a * f, size) - mean_a * mean_f).clamp_min(0)
        gain = cov / (var_a + 1e-3)
        rest = (var_f - gain * cov).clamp_min(0)
        kept = kept + torch.log1p(gain * gain * var_a / (rest + _NOISE_VARIANCE)).sum((1, 2, 3))
        present = present + torch.log1p(var_a / _NOISE_VARIANCE).sum((1, 2, 3))
    return kept / present.clamp_min(_TINY)


def structure_kept(source: Tensor, fused: Tensor) -> Tensor:
    """SSIM with one source, of ``evaluate.ssim``: uniform windows of 7 px, [B]."""

    def mean(x: Tensor) -> Tensor:
        return _weighted(x, (1 / 7,) * 7)

    unbiased = 49 / 48
    mean_a, mean_f = mean(source), mean(fused)
    var_a = unbiased * (mean(source * source) - mean_a * mean_a)
    var_f = unbiased * (mean(fused * fused) - mean_f * mean_f)
    cov = unbiased * (mean(source * fused) - mean_a * mean_f)
    light = (2 * mean_a * mean_f + 0.01**2) / (mean_a**2 + mean_f**2 + 0.01**2)
    return (light * (2 * cov + 0.03**2) / (var_a + var_f + 0.03**2)).mean((1, 2, 3))


@cache
def _gaussian(size: int) -> tuple[float, ...]:
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weight = torch.exp(-0.5 * (offset / (size / 5)) ** 2)
    return tuple((weight / weight.sum()).tolist())


def _windowed(x: Tensor, size: int, step: int = 1) -> Tensor:
    """Gaussian mean, sigma size / 5, of every whole window, or of every ``step``-th."""
    return _weighted(x, _gaussian(size), step)


def _weighted(x: Tensor, weights: tuple[float, ...], step: int = 1) -> Tensor:
    """Separable windows, as products with two banded matrices: on a CPU they are differentiated faster than filters."""
    height, width = x.shape[2:]
    rows, columns = (_band(n, weights, step, x.dtype, x.device) for n in (height, width))
    return rows @ (x @ columns.T)


@lru_cache(maxsize=64)
def _band(length: int, weights: tuple[float, ...], step: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[windows, length]: a row a window."""
    starts = torch.arange(0, length - len(weights) + 1, step)
    band = torch.zeros(len(starts), length, dtype=dtype)
    for offset, weight in enumerate(weights):
        band[torch.arange(len(starts)), starts + offset] = weight
    return band.to(device)
