"""Metrics of one fused image: EN SD SF AG MI SCD VIF Qabf SSIM as MMIF-CDDFuse's Evaluator defines them, the
worse-served source's share of Qabf and VIF, and two checks against cheating them (excess gradient, extra
clipping).

No one of these numbers is quality. The pixelwise maximum of both sources beats learned methods in MI, VIF
and Qabf, and their average ties for the best SSIM: read the whole panel, and read the two minima first.

Arguments are grey images ``[H, W]`` in grey levels 0..255, uint8 or floats, in the order infrared, visible
luma, fused luma; `ros_attn.evaluate.grey` has the luma and the rounding of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ros_attn.evaluate import qabf, ssim, vif
from ros_attn.evaluate.grey import Grey, Grey8, grey_frame, grey_levels, to_grey8


def entropy(fused: NDArray[Any]) -> float:
    """EN ``= -sum p log2 p`` [bit] over the 256 grey levels, rounded to 8 bit. Source: Shannon 1948."""
    return _entropy(to_grey8(grey_levels(fused, "fused")))


def standard_deviation(fused: NDArray[Any]) -> float:
    """SD [grey levels], divided by the number of pixels."""
    return float(grey_levels(fused, "fused").std())


def spatial_frequency(fused: NDArray[Any]) -> float:
    """SF ``= sqrt(mean(dx^2) + mean(dy^2))`` [grey levels], ``dx``, ``dy`` between neighbouring pixels.

    Source: Eskicioglu and Fisher 1995, doi 10.1109/26.477498.
    """
    return _spatial_frequency(grey_levels(fused, "fused"))


def average_gradient(fused: NDArray[Any]) -> float:
    """AG ``= mean(sqrt((gx^2 + gy^2) / 2))`` [grey levels per px], differences central, at the rim one-sided.

    Source: Cui et al. 2015, doi 10.1016/j.optcom.2014.12.032.
    """
    return _average_gradient(grey_levels(fused, "fused"))


def mutual_information(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> float:
    """MI ``= I(ir; F) + I(vi; F)`` [nat] from joint histograms of the images rounded to 8 bit.

    Source: Qu et al. 2002, doi 10.1049/el:20020212; natural logarithm as in MMIF-CDDFuse's Evaluator.
    Raises RosAttnError as `grey_frame` does.
    """
    a, b, f = (to_grey8(image) for image in grey_frame(ir, vi, fused))
    return _information(a, f) + _information(b, f)


def sum_of_correlations_of_differences(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> float:
    """SCD ``= r(F - vi, ir) + r(F - ir, vi)`` with Pearson's r over all pixels, -2..2.

    Source: Aslantas and Bendes 2015, doi 10.1016/j.aeue.2015.09.004. Deviates: r with a constant image, which
    is 0/0, counts 0. Raises RosAttnError as `grey_frame` does.
    """
    return _scd(*grey_frame(ir, vi, fused))


def extra_clipping(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> float:
    """``max(c(F) - min(c(ir), c(vi)), 0)`` with ``c`` the share of pixels that are 0 or 255 once rounded to 8
    bit: what F lost to black or white beyond the source that lost less. 0..1. Source: ours.

    Raises RosAttnError as `grey_frame` does.
    """
    a, b, f = (to_grey8(image) for image in grey_frame(ir, vi, fused))
    return _extra_clipping(a, b, f)


def measure(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> dict[str, float]:
    """Every per-frame metric of `METRICS`, by name, of one infrared, visible luma and fused luma image.

    Raises RosAttnError for images that are empty, not finite, outside 0..255, of different sizes, or with a
    side below 41 px (VIF's coarsest scale).
    """
    a, b, f = grey_frame(ir, vi, fused, least=vif.LEAST_SIDE)
    a8, b8, f8 = to_grey8(ir), to_grey8(vi), to_grey8(fused)

    edges_ir, edges_vi, edges_fused = (qabf.gradients(image, "replicate") for image in (a, b, f))
    q_ir, q_vi = (qabf.side_preservation(source, edges_fused) for source in (edges_ir, edges_vi))
    vif_ir, vif_vi = vif.fidelity_sides(a, b, f)
    return {
        "EN": _entropy(f8),
        "SD": float(f.std()),
        "SF": _spatial_frequency(f),
        "AG": _average_gradient(f),
        "MI": _information(a8, f8) + _information(b8, f8),
        "SCD": _scd(a, b, f),
        "VIF": vif_ir + vif_vi,
        "Qabf": qabf.mixed_preservation(*(qabf.gradients(image, "zero") for image in (a, b, f))),
        "SSIM": ssim.similarity(a, b, f),
        "Q_ir": q_ir,
        "Q_vi": q_vi,
        "Q_min": min(q_ir, q_vi),
        "VIF_ir": vif_ir,
        "VIF_vi": vif_vi,
        "VIF_min": min(vif_ir, vif_vi),
        "excess_gradient": qabf.gradient_excess(edges_ir, edges_vi, edges_fused),
        "extra_clipping": _extra_clipping(a8, b8, f8),
    }


def _entropy(image: Grey8) -> float:
    share = np.bincount(image.ravel(), minlength=256) / image.size
    share = share[share > 0.0]
    return float(abs(np.sum(share * np.log2(share))))


def _spatial_frequency(image: Grey) -> float:
    right, down = np.diff(image, axis=1), np.diff(image, axis=0)
    return float(np.sqrt(_mean_product(right, right) + _mean_product(down, down)))


def _average_gradient(image: Grey) -> float:
    gy, gx = np.gradient(image)
    square = gx * gx
    square += gy * gy
    square *= 0.5
    return float(np.mean(np.sqrt(square)))


def _information(source: Grey8, fused: Grey8) -> float:
    pairs = source.astype(np.intp) * 256 + fused
    joint = np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256) / source.size
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    met = joint > 0.0
    return float(np.sum(joint[met] * np.log(joint[met] / independent[met])))


def _scd(ir: Grey, vi: Grey, fused: Grey) -> float:
    a, b, f = (float(image.mean()) for image in (ir, vi, fused))
    aa, bb = _mean_product(ir, ir) - a * a, _mean_product(vi, vi) - b * b
    af, bf = _mean_product(ir, fused) - a * f, _mean_product(vi, fused) - b * f
    ab, ff = _mean_product(ir, vi) - a * b, _mean_product(fused, fused) - f * f
    # cov(F - B, A) = cov(F, A) - cov(B, A), var(F - B) = var F + var B - 2 cov(F, B)
    return _correlation(af - ab, ff + bb - 2.0 * bf, aa) + _correlation(bf - ab, ff + aa - 2.0 * af, bb)


def _correlation(covariance: float, variance_a: float, variance_b: float) -> float:
    # The variance of a constant image is the rounding of its mean square, about 1e-11, not exactly 0; one
    # pixel that is a level off in a megapixel has 1e-6.
    if min(variance_a, variance_b) < 1e-8:
        return 0.0
    return covariance / float(np.sqrt(variance_a * variance_b))


def _mean_product(a: Grey, b: Grey) -> float:
    # Not a @ b: BLAS would wake all its threads for a few hundred thousand products.
    return float(np.einsum("ij,ij->", a, b)) / a.size


def _extra_clipping(ir: Grey8, vi: Grey8, fused: Grey8) -> float:
    clipped_ir, clipped_vi, clipped_fused = (float(np.mean((x == 0) | (x == 255))) for x in (ir, vi, fused))
    return max(clipped_fused - min(clipped_ir, clipped_vi), 0.0)


@dataclass(frozen=True)
class Metric:
    """How to read one metric. ``better`` is the direction of improvement, "none" where more is not better
    (noise and halos raise it) or where the figure only explains another. ``per`` says what it is measured
    on."""

    name: str
    better: Literal["higher", "lower", "none"]
    meaning: str
    source: str
    per: Literal["frame", "sequence"] = "frame"


_XYDEAS = "Xydeas and Petrovic 2000"
_HAN = "Han et al. 2013, after Sheikh and Bovik 2006"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("EN", "none", "spread of the fused grey levels, in bit; noise raises it", "Shannon 1948"),
        Metric(
            "SD",
            "none",
            "contrast of the fused image, in grey levels; clipping raises it",
            "standard deviation",
        ),
        Metric(
            "SF",
            "none",
            "difference between neighbouring pixels; noise raises it",
            "Eskicioglu and Fisher 1995",
        ),
        Metric("AG", "none", "mean gradient; noise and halos raise it", "Cui et al. 2015"),
        Metric("MI", "higher", "information shared with both sources, in nat, summed", "Qu et al. 2002"),
        Metric(
            "SCD",
            "higher",
            "what each source added agrees with that source, -2..2",
            "Aslantas and Bendes 2015",
        ),
        Metric("VIF", "higher", "visual information kept of both sources, summed", _HAN),
        Metric("Qabf", "higher", "edges kept, weighted with the sources' gradient strength, 0..0.975", _XYDEAS),
        Metric("SSIM", "higher", "structural similarity with both sources, summed, at most 2", "Wang et al. 2004"),
        Metric("Q_ir", "higher", "edges kept of the infrared image", _XYDEAS),
        Metric("Q_vi", "higher", "edges kept of the visible image", _XYDEAS),
        Metric("Q_min", "higher", "edges kept of the source served worse", _XYDEAS + "; the minimum is ours"),
        Metric("VIF_ir", "higher", "visual information kept of the infrared image", _HAN),
        Metric("VIF_vi", "higher", "visual information kept of the visible image", _HAN),
        Metric(
            "VIF_min",
            "higher",
            "visual information kept of the source served worse",
            _HAN + "; the minimum is ours",
        ),
        Metric(
            "excess_gradient",
            "lower",
            "gradient that neither source has there: halos, noise, sharpening",
            "ours",
        ),
        Metric(
            "extra_clipping",
            "lower",
            "share of pixels lost to 0 or 255 beyond the less clipped source",
            "ours",
        ),
        Metric(
            "flicker",
            "lower",
            "change between frames that neither source shows there, in grey levels",
            "ours",
            "sequence",
        ),
        Metric(
            "pumping",
            "lower",
            "jump of the mean brightness beyond the sources' own, in grey levels",
            "ours",
            "sequence",
        ),
        Metric(
            "change_ratio",
            "none",
            "change between frames over that of the livelier source",
            "ours",
            "sequence",
        ),
    )
}
"""Every figure of `measure` (per frame, in its order) and of `ros_attn.evaluate.flicker.flicker` (per
sequence)."""
