"""The learned presets by name, and their checkpoints: weights, contract, and the same network as ONNX."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ros_attn import checkpoint
from ros_attn.errors import CheckpointError
from ros_attn.perception.infrared_visible_fusion.fast_model import FAULTS, WEATHER, FastFusion, Part
from ros_attn.perception.infrared_visible_fusion.learned import LEAST_SIDE, ONNX, STEP
from ros_attn.perception.infrared_visible_fusion.paper_model import MaskGuidedFusion

PRESETS: dict[str, type[nn.Module]] = {"fast": FastFusion, "paper": MaskGuidedFusion}
FOR_CPU = ("fast",)
"""Presets that are also written for ONNX Runtime."""
OUTPUTS = ("fused", "mask", "weather", "faults")
LARGEST_DIFFERENCE = 1e-4
"""An exported network that differs by more, in units of the full range or of a logit, is not written."""


def contract() -> dict[str, Any]:
    """What goes in and out of every preset."""
    image = {"shape": ["B", 1, "H", "W"], "sides": f"multiples of {STEP}, from {LEAST_SIDE} px on"}
    return {
        "system": "infrared_visible_fusion",
        "inputs": {
            "visible": image | {"unit": "luma / 255 (BT.601)"},
            "infrared": image | {"unit": "grey levels / 255, white hot, in the visible camera's pixels"},
        },
        "outputs": {
            "fused": image | {"unit": "luma / 255, not clipped"},
            "mask": image | {"unit": "the visible camera's share, 0..1"},
            "weather": {"names": list(WEATHER), "unit": "logit"},
            "faults": {"cameras": ["visible", "infrared"], "names": list(FAULTS), "unit": "logit"},
        },
    }


def network(preset: str, without: Collection[Part] = ()) -> nn.Module:
    """The untrained network of a preset; ``without`` leaves parts of ``fast`` out, see :class:`.FastFusion`."""
    return FastFusion(without=without) if preset == "fast" else PRESETS[preset]()


def save(preset: str, model: nn.Module, path: Path, training: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write a checkpoint of a preset; of ``fast`` with its ONNX file, once the latter was seen to give the same.

    ``training``: data and its terms, seed, steps, command. Raises CheckpointError as :func:`ros_attn.checkpoint.save`
    does, and where the exported network differs.
    """
    model = model.cpu().eval()
    tensors = {name: np.asarray(tensor) for name, tensor in model.state_dict().items()}
    params = {"preset": preset, "without": sorted(getattr(model, "without", ()))}
    config = {"class": type(model).__name__, "params": params, "training": dict(training)}
    if preset not in FOR_CPU:
        checkpoint.save(checkpoint.Checkpoint(config, tensors, contract()), path, overwrite)
        return
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / ONNX
        export_onnx(model, exported)
        checkpoint.save(checkpoint.Checkpoint(config, tensors, contract()), path, overwrite)
        partial = path / f".{ONNX}.part"
        partial.write_bytes(exported.read_bytes())
        os.replace(partial, path / ONNX)


def load(path: Path) -> nn.Module:
    """The network of a checkpoint.

    Raises CheckpointError where it is missing or damaged, of no preset, or made under another contract.
    """
    params = checkpoint.configuration(path).get("params", {})
    if params.get("preset") not in PRESETS:
        raise CheckpointError(f"{path} holds preset {params.get('preset')!r}; this version knows {', '.join(PRESETS)}.")
    made = network(params["preset"], params.get("without", ()))
    read = checkpoint.load(path, type(made).__name__, contract())
    try:
        made.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in read.tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise CheckpointError(f"{path} does not fit {type(made).__name__} ({reason}); choose another one.") from None
    return made


class _Plain(nn.Module):
    """The network with a plain tuple as its result, which the exporter wants."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(visible, infrared))


def export_onnx(model: nn.Module, path: Path) -> None:
    """Write a network as ONNX for every height and width that are multiples of 8, the contract in its metadata.

    The file is compared with the network on two sizes before it is written. Raises CheckpointError where they differ.
    """
    import onnxruntime

    generator = torch.Generator().manual_seed(0)

    def example(height: int, width: int) -> tuple[Tensor, Tensor]:
        visible, infrared = torch.rand((2, 1, 1, height, width), generator=generator)
        return visible, infrared

    rows, columns = (torch.export.Dim(name, min=2, max=1024) for name in ("rows", "columns"))
    shape = {2: STEP * rows, 3: STEP * columns}
    with warnings.catch_warnings():
        # About names of axes, and of deprecations inside torch itself.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Plain(model.eval()), example(96, 128), dynamo=True, dynamic_shapes=(shape, shape), verbose=False,
            input_names=["visible", "infrared"], output_names=list(OUTPUTS),
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph.all_nodes():
        # Where in the source each came from: half of the file.
        node.metadata_props.clear()
    program.model.metadata_props["contract"] = json.dumps(contract())
    partial = path.with_name(f".{path.name}.part")
    program.save(str(partial))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(partial), options, providers=["CPUExecutionProvider"])
    for size in ((96, 128), (120, 88)):
        pair = example(*size)
        with torch.inference_mode():
            expected = model(*pair)
        found = session.run(None, {"visible": pair[0].numpy(), "infrared": pair[1].numpy()})
        for name, ours, theirs in zip(OUTPUTS, expected, found, strict=True):
            difference = float(np.abs(ours.numpy() - theirs).max())
            if not difference <= LARGEST_DIFFERENCE:
                partial.unlink()
                raise CheckpointError(
                    f"The exported network's {name} differs by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}; "
                    "nothing was written. Try another version of onnxscript."
                )
    os.replace(partial, path)
