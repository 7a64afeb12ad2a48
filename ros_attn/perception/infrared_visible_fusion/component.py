"""The fusion component: two cameras in, one fused picture and a trust map out."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ros_attn.codecs import to_rgb
from ros_attn.component import Component, Hold, Input, Out, Outputs, Static, Sync, Transform, Wiring
from ros_attn.errors import CheckpointError, MessageError
from ros_attn.geometry import pose_matrix
from ros_attn.perception.infrared_visible_fusion import alignment, rule
from ros_attn.perception.infrared_visible_fusion.agc import PercentileGain
from ros_attn.perception.infrared_visible_fusion.camera_watch import CAMERAS, CameraWatch
from ros_attn.perception.infrared_visible_fusion.fusion_params import FusionParams
from ros_attn.perception.infrared_visible_fusion.learned import LearnedFusion
from ros_attn.perception.infrared_visible_fusion.polarity import PolarityCheck
from ros_attn.perception.infrared_visible_fusion.temporal import TemporalFilter
from ros_attn.values import Array, CameraInfo, Image

LARGEST_LIFT = 4.0
"""Of the colours of a dark picture."""


@dataclass
class InfraredVisibleFusion(Component):
    """Fuses an infrared and a visible camera; see :mod:`.fast_model` and :mod:`.rule` for the formulas.

    Inputs: ``visible`` (colour, mono or bayer) and ``infrared`` (8-bit, or 16-bit and float counts, which go
    through :class:`.PercentileGain`). Outputs: ``fused`` rgb8 (mono8 for a mono camera; chroma from the
    visible image) and ``trust`` mono8, 255 where the visible camera alone is shown and 0 for infrared alone;
    both in the visible camera's pixels and with its stamp and frame.

    A camera that is missing arrives as None: the other passes through and a condition says so. The same happens with
    one that repeats its picture while the other goes on, or that shows nothing. While the robot stands, dirt,
    saturation and knocks that befall one camera are named; learned models also name noise, saturation and dirt, which
    they mend as far as they can, and the weather, as figures of the diagnostics.

    Source: two inputs and a mask as in AMG-Fuse (arXiv 2606.26812); the rule, watching and the filter over time are
    ours.
    """

    inputs: ClassVar = {"visible": Sync(Image, "visible/image"), "infrared": Sync(Image, "infrared/image")}
    outputs: ClassVar = {
        "fused": Out(Image, "fused/image", kind="sensor"),
        "trust": Out(Image, "~/debug/trust", kind="sensor"),
    }
    Params: ClassVar = FusionParams
    backlog: ClassVar = "latest"

    gain: PercentileGain = field(init=False)
    polarity_check: PolarityCheck = field(init=False, default_factory=PolarityCheck)
    watch: CameraWatch = field(init=False)
    filters: dict[str, TemporalFilter] = field(init=False)
    learned: LearnedFusion | None = field(init=False, default=None)
    _alignment: alignment.Alignment | None = field(init=False, default=None)
    _aligned_for: tuple[Any, ...] = field(init=False, default=())
    _in_colour: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_gain()
        self.watch = CameraWatch(self.health, self.params.frozen_after_s)
        self.filters = {camera: TemporalFilter() for camera in CAMERAS}

    def wiring(self) -> Wiring:
        p = self.params
        patience = p.missing_after_s or None
        inputs: dict[str, Input] = {"visible": Sync(Image, "visible/image", p.slop_s, patience)}
        if p.pairing == "hold":
            inputs["infrared"] = Hold(Image, "infrared/image", p.hold_s)
        else:
            inputs["infrared"] = Sync(Image, "infrared/image", p.slop_s, patience)
        if p.align == "calibration":
            inputs["visible_info"] = Static(CameraInfo, "visible/camera_info")
            inputs["infrared_info"] = Static(CameraInfo, "infrared/camera_info")
            if p.visible_frame:
                inputs["T_infrared_visible"] = Transform(p.infrared_frame, p.visible_frame)
        return Wiring(inputs)

    def configure(self) -> None:
        blank_image = np.zeros((48, 64), np.float32)
        if self.params.model == "rule":
            rule.fuse(blank_image, blank_image)
            return
        learned = self._network()
        learned.fuse(blank_image, blank_image)
        self.health.figures["backend"] = learned.backend

    def set_params(self, params: Any) -> None:
        super().set_params(params)
        held = self.gain.range, self.gain.stamp_ns
        self._make_gain()
        self.gain.range, self.gain.stamp_ns = held

    def reset(self) -> None:
        self.gain.reset()
        self.polarity_check.reset()
        for part in (self.watch, *self.filters.values()):
            part.reset()

    def step(
        self,
        now_ns: int,
        visible: Image | None,
        infrared: Image | None,
        visible_info: CameraInfo | None = None,
        infrared_info: CameraInfo | None = None,
        T_infrared_visible: Array | None = None,
    ) -> Outputs:
        self._flag("visible", visible is None, "infrared")
        self._flag("infrared", infrared is None, "visible")
        levels = None if infrared is None else self._levels(infrared, now_ns)
        if visible is None or infrared is None or levels is None:
            self.watch.pause()
            if visible is not None:
                return _visible_alone(visible)
            return {} if levels is None or infrared is None else self._infrared_alone(levels, infrared)
        colour, luma = _colour_and_luma(visible)
        self._in_colour = colour is not None
        luma = luma.astype(np.float32)
        silent = self.watch.silent({"visible": (visible, luma), "infrared": (infrared, levels)})
        if silent is not None:
            self.watch.pause()
            return _visible_alone(visible) if silent == "infrared" else self._infrared_alone(levels, infrared)
        self.watch.changed({"visible": (luma, visible.stamp_ns), "infrared": (levels, infrared.stamp_ns)})
        if self.params.denoise == "on" or (self.params.denoise == "auto" and self.params.model != "rule"):
            levels = self.filters["infrared"].apply(levels, infrared.stamp_ns)
            luma = self.filters["visible"].apply(luma, visible.stamp_ns)
        levels, coverage = self._in_visible_pixels(levels, luma.shape, visible_info, infrared_info, T_infrared_visible)
        self.watch.compare(levels, luma, visible.stamp_ns)
        noise = {camera: each.estimate for camera, each in self.filters.items()}
        if self.params.model == "rule":
            fused, trust = rule.fuse(levels, luma, coverage)
            self.watch.name(None, visible.stamp_ns, noise)
        else:
            picture = self._network().fuse(levels, luma, coverage)
            self.watch.name(picture, visible.stamp_ns, noise)
            fused, trust = picture.fused, picture.trust
            if colour is not None:
                _lift_chroma(colour, float(fused.mean()) / max(float(luma.mean()), 1.0))
        return self._answer(visible, colour, fused, cv2.convertScaleAbs(trust, alpha=255))

    def aligned_infrared(
        self,
        now_ns: int,
        visible: Image | None,
        infrared: Image | None,
        visible_info: CameraInfo | None = None,
        infrared_info: CameraInfo | None = None,
        T_infrared_visible: Array | None = None,
    ) -> tuple[Array, Array | None] | None:
        """The infrared image as :meth:`step` fuses it, for evaluation: grey levels 0..255 after the gain, in
        visible pixels, and the coverage there (None: everywhere), [H, W] each; None where infrared is missing.

        Call it for every step in order, in place of :meth:`step`: the gain follows the stream. Without a visible
        image the levels stay in infrared pixels. Raises MessageError where the step does.
        """
        if infrared is None:
            return None
        levels = self._levels(infrared, now_ns)
        if visible is None:
            return levels, None
        size = (visible.height, visible.width)
        return self._in_visible_pixels(levels, size, visible_info, infrared_info, T_infrared_visible)

    # -- parts ------------------------------------------------------------------------------------------

    def _make_gain(self) -> None:
        p = self.params
        self.gain = PercentileGain(
            p.agc_low_percent, p.agc_high_percent, p.agc_time_s, p.agc_min_span, p.agc_min_span_k
        )

    def _flag(self, name: str, missing: bool, other: str) -> None:
        if missing:
            self.health.warn(name, f"{name} is missing: {other} passes through alone.")
        else:
            self.health.clear(name)

    def _network(self) -> LearnedFusion:
        """The learned model; hosts that never configure load it with the first pair."""
        if self.learned is None:
            p = self.params
            if not p.weights and p.model == "paper":
                raise CheckpointError(
                    "model is paper, which comes without weights; train it (ros-attn train infrared_visible_fusion "
                    "--preset paper), export it and name the directory in weights."
                )
            shipped = resources.files("ros_attn.perception.infrared_visible_fusion") / "weights" / p.model
            with resources.as_file(shipped) as folder:
                self.learned = LearnedFusion(Path(p.weights) if p.weights else folder, p.backend, p.threads)
        return self.learned

    def _levels(self, infrared: Image, now_ns: int) -> Array:
        """Grey levels 0..255, white hot."""
        data = infrared.data
        if data.ndim == 3:
            data = cv2.cvtColor(to_rgb(infrared).data, cv2.COLOR_RGB2GRAY)
        automatic = self.params.agc == "auto" and data.dtype != np.uint8
        if automatic or self.params.agc == "on":
            levels = self.gain.apply(data, infrared.stamp_ns)
        elif data.dtype == np.uint8:
            levels = data.astype(np.float32)
        else:
            raise MessageError(
                f"infrared is {infrared.encoding}, which has no grey levels of its own; set agc to auto or on."
            )
        if self.params.polarity == "black_hot":
            levels = 255 - levels
        if self.polarity_check.observe(levels, now_ns):
            other = "white_hot" if self.params.polarity == "black_hot" else "black_hot"
            self.health.warn("polarity", f"infrared looks inverted; if so, set polarity to {other}.")
        else:
            self.health.clear("polarity")
        if self.gain.range is not None:
            self.health.figures.update(agc_low=self.gain.range[0], agc_high=self.gain.range[1])
        return levels

    def _in_visible_pixels(
        self, levels: Array, visible_size: tuple[int, ...], *geometry: Any
    ) -> tuple[Array, Array | None]:
        if self.params.align != "same":
            aligned = self._align(visible_size, levels.shape, *geometry)
            return aligned.warp(levels), aligned.coverage
        if levels.shape != visible_size:
            raise MessageError(
                f"infrared is {levels.shape[1]}x{levels.shape[0]} and visible {visible_size[1]}x{visible_size[0]} px; "
                "set align to calibration, homography or (same field of view) stretch."
            )
        return levels, None

    def _align(
        self,
        visible_size: tuple[int, ...],
        infrared_size: tuple[int, ...],
        visible_info: CameraInfo | None,
        infrared_info: CameraInfo | None,
        T_infrared_visible: Array | None,
    ) -> alignment.Alignment:
        where = None if T_infrared_visible is None else T_infrared_visible.tobytes()
        made_for = (visible_size, infrared_size, id(visible_info), id(infrared_info), where)
        if self._alignment is not None and made_for == self._aligned_for:
            return self._alignment
        sizes = (visible_size[0], visible_size[1]), (infrared_size[0], infrared_size[1])
        if self.params.align == "stretch":
            made = alignment.stretched(*sizes)
        elif self.params.align == "homography":
            made = alignment.by_homography(self.params.homography, *sizes)
        else:
            assert visible_info is not None and infrared_info is not None
            for name, info, size in (("visible", visible_info, sizes[0]), ("infrared", infrared_info, sizes[1])):
                if (info.height, info.width) != size:
                    raise MessageError(
                        f"{name}/camera_info is for {info.width}x{info.height} px, the image has {size[1]}x{size[0]}; "
                        "calibrate at the resolution that is streamed."
                    )
            pose = self.params.T_infrared_visible
            T = pose_matrix(pose[:3], pose[3:]) if T_infrared_visible is None else T_infrared_visible
            made = alignment.by_calibration(visible_info, infrared_info, T, self.params.depth_m)
        self._alignment, self._aligned_for = made, made_for
        self.health.figures["infrared_coverage"] = float(np.mean(made.coverage > 0))
        return made

    def _infrared_alone(self, levels: Array, infrared: Image) -> Outputs:
        if self._alignment is not None and self._alignment.source_size == levels.shape:
            levels = self._alignment.warp(levels)
        grey = cv2.convertScaleAbs(levels)
        # Subscribers keep the encoding they have seen so far.
        picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) if self._in_colour else grey
        return {
            "fused": Image(infrared.stamp_ns, picture, "rgb8" if self._in_colour else "mono8", infrared.frame_id),
            "trust": Image(infrared.stamp_ns, np.zeros_like(grey), "mono8", infrared.frame_id),
        }

    @staticmethod
    def _answer(visible: Image, colour: Array | None, fused: Array, trust: Array) -> Outputs:
        grey = np.clip(np.rint(fused), 0, 255).astype(np.uint8)
        if colour is None:
            picture, encoding = grey, "mono8"
        else:
            colour[..., 0] = grey
            picture, encoding = cv2.cvtColor(colour, cv2.COLOR_YCrCb2RGB), "rgb8"
        return {
            "fused": Image(visible.stamp_ns, picture, encoding, visible.frame_id),
            "trust": Image(visible.stamp_ns, trust, "mono8", visible.frame_id),
        }


def _lift_chroma(ycrcb: Array, brighter: float) -> None:
    """Strengthen the colours of a picture that was lifted out of the dark, as much as its brightness, in place."""
    lift = min(max(brighter, 1.0), LARGEST_LIFT)
    lifted = np.clip(np.rint((np.arange(256) - 128) * lift + 128), 0, 255).astype(np.uint8)
    ycrcb[..., 1:] = cv2.LUT(np.ascontiguousarray(ycrcb[..., 1:]), lifted)


def _visible_alone(visible: Image) -> Outputs:
    colour, luma = _colour_and_luma(visible)
    picture, encoding = (luma, "mono8") if colour is None else (to_rgb(visible).data, "rgb8")
    return {
        "fused": Image(visible.stamp_ns, picture, encoding, visible.frame_id),
        "trust": Image(visible.stamp_ns, np.full(luma.shape, 255, np.uint8), "mono8", visible.frame_id),
    }


def _colour_and_luma(visible: Image) -> tuple[Array | None, Array]:
    """YCrCb of a colour image (None for mono) and its luma, 8 bit."""
    if visible.data.ndim == 2 and not visible.encoding.startswith("bayer"):
        if visible.data.dtype == np.uint8:
            return None, visible.data
        if visible.data.dtype == np.uint16:
            return None, cv2.convertScaleAbs(visible.data, alpha=1 / 257)
        raise MessageError(
            f"visible is {visible.encoding}; a visible camera gives 8- or 16-bit mono, rgb, bgr or bayer images, "
            "so this looks like a thermal or depth topic: check --remap."
        )
    ycrcb = cv2.cvtColor(to_rgb(visible).data, cv2.COLOR_RGB2YCrCb)
    return ycrcb, np.ascontiguousarray(ycrcb[..., 0])
