"""A learned preset at work: a checkpoint, what runs it, and pictures in grey levels in and out."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ros_attn.errors import CheckpointError, RosAttnError
from ros_attn.values import Array

CONTRACT = "contract.json"
ONNX = "model.onnx"
STEP = 8
"""The networks take sides that are multiples of this many pixels."""
LEAST_SIDE = 16
Backend = Literal["auto", "onnxruntime", "torch"]
# visible and infrared [1, 1, H, W] in 0..1 -> fused, mask [1, 1, H, W], logits of weather [1, K], of faults [1, 2, M]
Network = Callable[[Array, Array], tuple[Array, Array, Array, Array]]


@dataclass(frozen=True)
class Picture:
    """What one pair became: ``fused [H, W]`` in grey levels, not yet clipped; ``trust [H, W]``, the visible camera's
    share, 0..1; probabilities of each weather, and of each fault by camera."""

    fused: Array
    trust: Array
    weather: Mapping[str, float]
    faults: Mapping[str, Mapping[str, float]]


class LearnedFusion:
    """The network of a checkpoint directory behind numpy.

    ``backend``: ``onnxruntime`` runs ``model.onnx`` and needs no torch, ``torch`` runs ``model.safetensors``, on a GPU
    where there is one; ``auto`` takes the first of both that is installed. ``threads`` is ONNX Runtime's number; torch
    has one of its own for the process. Both give the same picture within 0.01 grey levels.

    Raises CheckpointError for a checkpoint that is missing, damaged, or of something else, RosAttnError where no
    backend is installed.
    """

    def __init__(self, checkpoint: Path, backend: Backend = "auto", threads: int = 2) -> None:
        contract = _contract(checkpoint)
        self.weather: tuple[str, ...] = tuple(contract["outputs"]["weather"]["names"])
        self.faults: tuple[str, ...] = tuple(contract["outputs"]["faults"]["names"])
        self.cameras: tuple[str, ...] = tuple(contract["outputs"]["faults"]["cameras"])
        self.backend = _backend(backend, checkpoint)
        self.network: Network = _onnx(checkpoint, threads) if self.backend == "onnxruntime" else _torch(checkpoint)

    def fuse(self, infrared: Array, visible: Array, coverage: Array | None = None) -> Picture:
        """Fuse two registered images, [H, W] float32 in grey levels 0..255 each, from 16 px a side on.

        ``coverage`` [H, W] in 0..1 is where infrared exists at all; outside it the visible image stands.
        """
        height, width = visible.shape
        if min(height, width) < LEAST_SIDE:
            raise RosAttnError(
                f"The images are {width}x{height} px, the learned models take {LEAST_SIDE} px a side and more; "
                "send larger ones or set model to rule."
            )
        if coverage is not None:
            infrared = visible + coverage * (infrared - visible)
        fused, mask, weather, faults = self.network(_plane(visible), _plane(infrared))
        fused, trust = 255 * fused[0, 0, :height, :width], mask[0, 0, :height, :width]
        if coverage is not None:
            fused = visible + coverage * (fused - visible)
            trust = 1 - coverage * (1 - trust)
        by_camera = dict(zip(self.cameras, faults[0], strict=True))
        return Picture(
            fused, trust, _probabilities(self.weather, weather[0]),
            {camera: _probabilities(self.faults, logits) for camera, logits in by_camera.items()},
        )  # fmt: skip


def _plane(image: Array) -> Array:
    height, width = image.shape
    whole = cv2.copyMakeBorder(image, 0, -height % STEP, 0, -width % STEP, cv2.BORDER_REPLICATE)
    return np.multiply(whole, np.float32(1 / 255), dtype=np.float32)[None, None]


def _probabilities(names: tuple[str, ...], logits: Array) -> dict[str, float]:
    shares = np.exp(logits - logits.max())
    return {name: float(x) for name, x in zip(names, shares / shares.sum(), strict=True)}


def _contract(checkpoint: Path) -> dict[str, Any]:
    try:
        contract = json.loads((checkpoint / CONTRACT).read_text())
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {checkpoint} with a {CONTRACT}; check the path.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint / CONTRACT} is damaged ({error}); copy the checkpoint again.") from None
    if not isinstance(contract, dict) or contract.get("system") != "infrared_visible_fusion":
        raise CheckpointError(f"{checkpoint} is no checkpoint of infrared_visible_fusion; choose another one.")
    return contract


def _backend(asked: Backend, checkpoint: Path) -> str:
    there = {name: importlib.util.find_spec(name) is not None for name in ("onnxruntime", "torch")}
    exported = (checkpoint / ONNX).is_file()
    if asked == "auto":
        if there["onnxruntime"] and exported:
            return "onnxruntime"
        if there["torch"]:
            return "torch"
        what = "onnxruntime or torch" if exported else "torch"
        raise RosAttnError(f"A learned model needs {what}: pip install 'ros-attn[perception]', or set model to rule.")
    if not there[asked]:
        raise RosAttnError(f"backend is {asked}, which is not installed; pip install {asked}, or set backend to auto.")
    if asked == "onnxruntime" and not exported:
        raise CheckpointError(f"{checkpoint} has no {ONNX}; write it with ros-attn export, or set backend to torch.")
    return asked


def _onnx(checkpoint: Path, threads: int) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait by turning take the core from the other nodes of a robot.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    path = checkpoint / ONNX
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The runtime's own errors share no base class but Exception.
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be opened ({reason}); copy the checkpoint again.") from None

    def network(visible: Array, infrared: Array) -> tuple[Array, Array, Array, Array]:
        outputs = session.run(None, {"visible": visible, "infrared": infrared})
        fused, mask, weather, faults = (np.asarray(each) for each in outputs)
        return fused, mask, weather, faults

    return network


def _torch(checkpoint: Path) -> Network:
    import torch

    from ros_attn.perception.infrared_visible_fusion.presets import load

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load(checkpoint).to(device).eval()

    def network(visible: Array, infrared: Array) -> tuple[Array, Array, Array, Array]:
        with torch.inference_mode():
            made = model(*(torch.from_numpy(x).to(device) for x in (visible, infrared)))
        fused, mask, weather, faults = (x.float().cpu().numpy() for x in made)
        return fused, mask, weather, faults

    return network
