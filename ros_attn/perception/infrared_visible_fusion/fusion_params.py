"""The parameters of the fusion component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ros_attn.params import param


@dataclass(frozen=True)
class FusionParams:
    """Parameters of infrared_visible_fusion."""

    model: Literal["fast", "paper", "rule"] = param(
        "fast", "how to fuse: fast is learned, for CPUs; paper is AMG-Fuse's network, for a GPU and with weights of "
        "your own; rule is the fixed two-scale rule, without weights",
    )  # fmt: skip
    weights: str = param("", "checkpoint directory of a learned model; empty: the one that comes with it")
    backend: Literal["auto", "onnxruntime", "torch"] = param(
        "auto", "what runs a learned model: auto takes onnxruntime where it is installed, else torch"
    )
    threads: int = param(2, "threads of onnxruntime; torch has a number for the whole process", low=1, high=64)
    denoise: Literal["auto", "on", "off"] = param(
        "auto", "average each camera over time where nothing moves: auto does so for learned models", live=True
    )
    frozen_after_s: float = param(
        0.3, "a camera that repeats one picture this long while the other does not is left out; 0: never, for "
        "simulated cameras without noise", unit="s", low=0.0, high=60.0,
    )  # fmt: skip
    slop_s: float = param(0.02, "farthest stamps of one pair", unit="s", low=0.0, high=1.0)
    missing_after_s: float = param(
        0.3, "a camera silent this long is taken as missing, the other passes through; 0: wait for ever",
        unit="s", low=0.0, high=60.0,
    )  # fmt: skip
    pairing: Literal["sync", "hold"] = param(
        "sync", "sync: a picture per pair; hold: one per visible frame with the newest infrared (30 Hz beside 9 Hz)"
    )
    hold_s: float = param(0.25, "oldest infrared that pairing=hold still uses", unit="s", low=0.0, high=10.0)
    align: Literal["same", "stretch", "homography", "calibration"] = param(
        "same", "how infrared comes into visible pixels: same (registered), stretch (same field), or as named"
    )
    homography: tuple[float, ...] = param(
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), "visible px from infrared px, 3x3 row by row", unit="px"
    )
    T_infrared_visible: tuple[float, ...] = param(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "visible camera in the infrared camera's optical frame: x y z qx qy qz qw; used where no frames are named",
    )
    infrared_frame: str = param("", "TF frame of the infrared camera; with visible_frame the extrinsics come from TF")
    visible_frame: str = param("", "TF frame of the visible camera")
    depth_m: float = param(
        20.0, "distance at which align=calibration is exact; nearer and farther things keep parallax",
        unit="m", low=0.1, high=10000.0,
    )  # fmt: skip
    agc: Literal["auto", "on", "off"] = param(
        "auto", "percentile gain of the infrared image: auto takes it for 16-bit and float images", live=True
    )
    agc_low_percent: float = param(1.0, "percentile that becomes black", unit="%", low=0.0, high=49.0, live=True)
    agc_high_percent: float = param(99.5, "percentile that becomes white", unit="%", low=51.0, high=100.0, live=True)
    agc_time_s: float = param(1.0, "time constant of the gain", unit="s", low=0.0, high=60.0, live=True)
    agc_min_span: float = param(
        300.0, "smallest span of counts that fills the range; keeps noise down in flat scenes",
        unit="counts", low=0.0, high=65535.0, live=True,
    )  # fmt: skip
    agc_min_span_k: float = param(
        3.0, "the same for float images, which hold temperatures", unit="K", low=0.0, high=1000.0, live=True
    )
    polarity: Literal["white_hot", "black_hot"] = param(
        "white_hot", "what the infrared camera shows bright; a warning says when it looks the other way", live=True
    )

    def check(self) -> str | None:
        if len(self.homography) != 9:
            return f"homography has {len(self.homography)} numbers, but takes 9 (3x3 row by row)."
        if len(self.T_infrared_visible) != 7:
            return f"T_infrared_visible has {len(self.T_infrared_visible)} numbers, but takes 7 (x y z qx qy qz qw)."
        if bool(self.infrared_frame) != bool(self.visible_frame):
            return "infrared_frame and visible_frame go together: give both, or neither."
        return None
