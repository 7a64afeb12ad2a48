"""Edges: how well a fused image keeps those of each source (Qabf, Q_ir, Q_vi), and how much it adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ros_attn.evaluate.grey import Grey, grey_frame

Map = NDArray[np.float32]
Outside = Literal["zero", "replicate"]

_TOLERATED_GAIN = 1.05


@dataclass(frozen=True, eq=False)
class Gradients:
    """Sobel strength ``sqrt(sx^2 + sy^2)`` [1/8 grey level per px] and angle ``arctan(-sy / sx)`` [rad], pi/2
    where ``sx = 0``; ``[H, W]`` each, x to the right and y down."""

    strength: Map
    angle: Map


def gradients(image: Grey, outside: Outside) -> Gradients:
    """Outside the image lie zeros, an edge all around it, or the outermost pixels again, which are none."""
    import cv2

    # Sobel sums of 8-bit images are integers below 2^24 even when squared, so float32 is exact here and the
    # equality that `preserved` asks for means what it says.
    border = cv2.BORDER_CONSTANT if outside == "zero" else cv2.BORDER_REPLICATE
    levels = image.astype(np.float32)
    sx = np.asarray(cv2.Sobel(levels, cv2.CV_32F, 1, 0, borderType=border), dtype=np.float32)
    sy = np.asarray(cv2.Sobel(levels, cv2.CV_32F, 0, 1, borderType=border), dtype=np.float32)
    slope = np.full_like(sx, -np.inf)
    np.divide(sy, sx, out=slope, where=sx != 0)
    angle = np.negative(np.arctan(slope, out=slope), out=slope)
    sx *= sx
    sy *= sy
    sx += sy
    return Gradients(np.sqrt(sx, out=sx), angle)


def preserved(source: Gradients, fused: Gradients) -> Map:
    """Q_AF, the preservation of every pixel's edge, ``[H, W]`` in 0..0.9753.

    ``G = min(g_A, g_F) / max(g_A, g_F)``, ``A = 1 - |angle_A - angle_F| / (pi/2)``,
    ``Q_AF = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (A - 0.8)))``.

    Source: Xydeas and Petrovic 2000, doi 10.1049/el:20000267. Deviates, as MMIF-CDDFuse's Evaluator does:
    where both strengths are equal G is that strength, not 1 (at most 0.06 % of Q for 8-bit images). Angles
    are not folded: an edge that turns across the vertical has A below 0 and counts as lost, so a mirrored
    scene can differ by 1 % in Qabf.
    """
    ratio, strong = np.minimum(source.strength, fused.strength), np.maximum(source.strength, fused.strength)
    np.divide(ratio, strong, out=ratio, where=ratio != strong)
    turned = np.subtract(source.angle, fused.angle, out=strong)
    alignment = np.subtract(1.0, np.abs(turned, out=turned) * np.float32(2.0 / np.pi), out=turned)
    lost = _one_plus_exp(ratio, -15.0, 0.5)
    lost *= _one_plus_exp(alignment, -22.0, 0.8)
    return np.divide(0.9994 * 0.9879, lost, out=lost)


def mixed_preservation(ir: Gradients, vi: Gradients, fused: Gradients) -> float:
    """``Qabf = sum(Q_ir,F g_ir + Q_vi,F g_vi) / sum(g_ir + g_vi)``; 1 where neither source has a gradient.

    The source with more gradient hides what happened to the other: see `side_preservation`.
    Published figures have zeros outside the image, so take gradients with ``outside="zero"``.
    Source: Xydeas and Petrovic 2000, weights ``g^L`` with L = 1.
    """
    kept, present = np.add(_kept_and_present(ir, fused), _kept_and_present(vi, fused))
    return float(kept / present) if present > 0.0 else 1.0


def side_preservation(source: Gradients, fused: Gradients) -> float:
    """``Q(A -> F) = sum(Q_AF g_A) / sum(g_A)``; 1 for a source without any gradient: nothing was there.

    Take gradients with ``outside="replicate"``. With zeros the rim of a bright image is an edge that every
    fusion keeps, which lifts Q_min by 0.05 on average on RoadScene and says nothing; Qabf has the rim only to
    stay comparable. Up to that rim Qabf is the mean of both sides, weighted with the sources' total strength.
    Source: Q^AF and its weight of Xydeas and Petrovic 2000, one source at a time.
    """
    kept, present = _kept_and_present(source, fused)
    return kept / present if present > 0.0 else 1.0


def _one_plus_exp(x: Map, slope: float, middle: float) -> Map:
    """``1 + exp(slope (x - middle))`` in place: on whole frames fresh memory costs more than arithmetic."""
    x -= np.float32(middle)
    x *= np.float32(slope)
    np.exp(x, out=x)
    x += np.float32(1.0)
    return x


def _kept_and_present(source: Gradients, fused: Gradients) -> tuple[float, float]:
    kept = preserved(source, fused)
    kept *= source.strength
    return float(np.sum(kept, dtype=np.float64)), float(np.sum(source.strength, dtype=np.float64))


def gradient_excess(ir: Gradients, vi: Gradients, fused: Gradients) -> float:
    """``sum(max(g_F - 1.05 max(g_ir, g_vi), 0)) / sum(max(g_ir, g_vi))``: gradient in F that neither source
    has there (halos, ringing, noise, over-sharpening), as a share of the sources' own. 0 for a copy of either
    source.

    ``g`` is the Sobel strength with ``outside="replicate"``. 5 % are forgiven, for rounding to 8 bit. The
    denominator is at least 1, so that flat sources divide. Source: ours.
    """
    most = np.maximum(ir.strength, vi.strength)
    present = float(np.sum(most, dtype=np.float64))
    most *= np.float32(_TOLERATED_GAIN)
    excess = np.subtract(fused.strength, most, out=most)
    np.maximum(excess, 0.0, out=excess)
    return float(np.sum(excess, dtype=np.float64)) / max(present, 1.0)


def q_sides(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> tuple[float, float]:
    """``(Q(ir -> F), Q(vi -> F))`` of grey images ``[H, W]``; Q_min, the source served worse, is the smaller.

    See `side_preservation`. Raises RosAttnError as `grey_frame` does.
    """
    a, b, f = (gradients(image, "replicate") for image in grey_frame(ir, vi, fused))
    return side_preservation(a, f), side_preservation(b, f)


def qabf(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> float:
    """Qabf of grey images ``[H, W]``. See `mixed_preservation`. Raises RosAttnError as `grey_frame` does."""
    a, b, f = (gradients(image, "zero") for image in grey_frame(ir, vi, fused))
    return mixed_preservation(a, b, f)


def excess_gradient(ir: NDArray[Any], vi: NDArray[Any], fused: NDArray[Any]) -> float:
    """`gradient_excess` of grey images ``[H, W]``. Raises RosAttnError as `grey_frame` does."""
    a, b, f = (gradients(image, "replicate") for image in grey_frame(ir, vi, fused))
    return gradient_excess(a, b, f)
