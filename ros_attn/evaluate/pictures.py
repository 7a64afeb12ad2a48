"""Pictures for the report: what both cameras saw, what became of it, and whom the component trusted."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_attn.codecs import to_rgb
from ros_attn.evaluate.evaluation import Evaluation
from ros_attn.evaluate.fusion_run import RUN, FrameScore, aligned_infrared, fused_steps
from ros_attn.evaluate.grey import to_grey8
from ros_attn.evaluate.playback import PlayedStep
from ros_attn.values import Array, Image

Rgb = NDArray[np.uint8]

WIDTHS = (640, 560, 480, 400, 320, 240)
BYTES = 3_600_000
"""What all pictures of a report may take as JPEG; as text they take a third more."""

# Infrared alone is shown orange, the visible camera alone blue; both ends are readable with any colour vision.
_INFRARED, _NEITHER, _VISIBLE = (235, 123, 22), (240, 240, 240), (33, 102, 202)


@dataclass(frozen=True)
class Shown:
    """One picture of a moment; ``data_uri`` holds the JPEG, nothing where there was no picture."""

    label: str
    data_uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Moment:
    """The pictures of one step, with a title and a line below."""

    title: str
    caption: str
    pictures: Sequence[Shown]


@dataclass(frozen=True, eq=False)
class RawMoment:
    """As :class:`Moment`, before encoding; pixels are rgb [H, W, 3] or grey [H, W], 8 bit."""

    title: str
    caption: str
    pictures: Mapping[str, Array | None]


def choose(evaluation: Evaluation, spread: int = 6) -> dict[int, str]:
    """Steps worth a look, with why: some spread evenly, the worst by Q_min, the first with a missing input."""
    scored = evaluation.scored
    found: dict[int, str] = {}
    if scored:
        places = np.linspace(0, len(scored) - 1, min(spread, len(scored))).round().astype(int)
        found |= {scored[place].number: "" for place in places}
        worst = min(scored, key=lambda frame: frame.scores[RUN]["Q_min"])
        found[worst.number] = "worst Q_min"
    for name in ("infrared", "visible"):
        without = next((frame for frame in evaluation.frames if name in frame.missing), None)
        if without is not None:
            found[without.number] = f"first without {name}"
    return dict(sorted(found.items()))


def collect(evaluation: Evaluation, wanted: Mapping[int, str]) -> dict[int, RawMoment]:
    """The pictures of the steps ``wanted``, by step number; the run is played once more up to the last of them."""
    assert evaluation.stage is not None
    frames = {frame.number: frame for frame in evaluation.frames if frame.number in wanted}
    found: dict[int, RawMoment] = {}
    if not frames:
        return found
    for number, step in enumerate(fused_steps(evaluation.run, evaluation.bag, evaluation.stage)):
        aligned = aligned_infrared(step)
        if number in frames:
            frame = frames[number]
            title = " · ".join(part for part in (f"{frame.t_s:.2f} s", frame.name, wanted[number]) if part)
            levels = None if aligned is None else aligned[0]
            found[number] = RawMoment(title, _caption(frame), _pictures(step, levels))
            if len(found) == len(frames):
                break
    return found


def encode(moments: Iterable[RawMoment], budget: int = BYTES) -> list[Moment]:
    """As JPEG data URIs, at the largest of :data:`WIDTHS` with which all of them together stay within ``budget``."""
    raw = list(moments)
    found: list[Moment] = []
    for width in WIDTHS:
        found = [
            Moment(each.title, each.caption, [_shown(label, pixels, width) for label, pixels in each.pictures.items()])
            for each in raw
        ]
        if sum(len(shown.data_uri) for each in found for shown in each.pictures) * 3 / 4 <= budget:
            break
    return found


def _pictures(step: PlayedStep, infrared: Array | None) -> dict[str, Array | None]:
    visible, fused, trust = step.inputs["visible"], step.outputs.get("fused"), step.outputs.get("trust")
    found: dict[str, Array | None] = {
        "visible": _small(_rgb8(visible)) if isinstance(visible, Image) else None,
        "infrared": None if infrared is None else _small(to_grey8(infrared)),
        "fused": _small(_rgb8(fused)) if isinstance(fused, Image) else None,
    }
    if isinstance(trust, Image) and trust.data.dtype == np.uint8 and trust.data.ndim == 2:
        found["trust"] = _coloured(_small(trust.data))
    return found


def _caption(frame: FrameScore) -> str:
    if frame.missing:
        return f"{' and '.join(frame.missing)} missing: what is left passes through"
    scores = frame.scores.get(RUN, {})
    return ", ".join(f"{name} {scores[name]:.3f}" for name in ("Q_min", "VIF_min", "excess_gradient") if name in scores)


def _rgb8(image: Image) -> Rgb:
    pixels = to_rgb(image).data
    return pixels if pixels.dtype == np.uint8 else to_grey8(pixels / 257.0)


def _small(pixels: Array, width: int = WIDTHS[0]) -> Array:
    import cv2

    height = round(pixels.shape[0] * width / pixels.shape[1])
    if pixels.shape[1] <= width:
        return pixels
    return np.asarray(cv2.resize(pixels, (width, max(height, 1)), interpolation=cv2.INTER_AREA))


def _coloured(trust: Array) -> Rgb:
    """A trust map, 0 infrared alone to 255 visible alone, in colours."""
    stops = np.array([_INFRARED, _NEITHER, _VISIBLE], dtype=np.float64)
    table = np.stack([np.interp(np.arange(256), (0, 127.5, 255), stops[:, channel]) for channel in range(3)], axis=-1)
    return to_grey8(table)[trust]


def _shown(label: str, pixels: Array | None, width: int) -> Shown:
    import cv2

    if pixels is None:
        return Shown(label, "", 0, 0)
    small = _small(pixels, width)
    order = np.ascontiguousarray(small[..., ::-1]) if small.ndim == 3 else small
    done, jpeg = cv2.imencode(".jpg", order, [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert done
    text = base64.b64encode(jpeg.tobytes()).decode()
    return Shown(label, f"data:image/jpeg;base64,{text}", small.shape[1], small.shape[0])
