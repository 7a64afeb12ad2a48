"""Training of the learned presets: ``ros-attn train infrared_visible_fusion``."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ros_attn.convert.image_files import images_in, read_pixels
from ros_attn.errors import RosAttnError, listed
from ros_attn.perception.infrared_visible_fusion import presets
from ros_attn.perception.infrared_visible_fusion.fast_model import Part
from ros_attn.perception.infrared_visible_fusion.objective import Weights
from ros_attn.perception.infrared_visible_fusion.processes import Processes, processes
from ros_attn.perception.infrared_visible_fusion.training_pairs import Pair, TrainingPairs
from ros_attn.perception.infrared_visible_fusion.training_tasks import STATE, Preset, on_device, task


@dataclass(frozen=True)
class Export:
    """Make a checkpoint of a training run."""

    run: Path
    """the folder that training wrote."""
    out: Path
    """the checkpoint directory to write."""
    terms: str
    """under which terms the training data stand, for the checkpoint's config.json."""
    overwrite: bool = False
    """replace a checkpoint that is there."""


@dataclass(frozen=True)
class Options:
    """Training of a learned preset."""

    data: tuple[Path, ...]
    """folders of pairs, each with the sub-folders vi and ir; leave_out.txt in one names pairs not to train on."""
    preset: Preset = "fast"
    """fast, paper, or the restoration network that the training of paper asks for."""
    out: Path = Path("runs/infrared_visible_fusion")
    """where progress is kept; the same command goes on from there."""
    steps: int = 6000
    """batches in all."""
    batch: int = 8
    """samples a step, of all processes together."""
    side: int = 192
    """width and height of a sample, in px."""
    rate: float = 1e-3
    """largest learning rate; it falls to a hundredth along a cosine."""
    seed: int = 0
    """of weights, samples and weather."""
    leave_out: tuple[Path, ...] = ()
    """files that list pairs not to train on, one name a line."""
    save_every: int = 200
    """steps between two savings."""
    restoration: Path | None = None
    """the run of preset restoration; preset paper needs it."""
    weather: bool = True
    """train in weather, too."""
    without: tuple[Part, ...] = ()
    """parts of preset fast to leave out, for ablations."""
    weights: Weights = field(default_factory=Weights)


def read_pairs(folders: Sequence[Path], leave_out: Sequence[Path]) -> dict[str, Pair]:
    """The pairs of folders by folder and name, without those that a list leaves out.

    Raises RosAttnError for folders without pairs, images of two sizes or not of 8 bit, and a list that is not there.
    """
    for path in leave_out:
        if not path.is_file():
            raise RosAttnError(f"There is no list {path} of pairs to leave out; check --leave-out.")
    excluded = {name.strip() for path in leave_out for name in path.read_text().splitlines() if name.strip()}
    excluded |= {Path(name).stem for name in excluded}
    found: dict[str, Pair] = {}
    for folder in folders:
        if not (folder / "vi").is_dir() or not (folder / "ir").is_dir():
            raise RosAttnError(f"{folder} has no sub-folders vi and ir; name a folder of image pairs.")
        visible, infrared = images_in(folder / "vi"), images_in(folder / "ir")
        for name in visible:
            if name not in infrared or name in excluded:
                continue
            v, i = read_pixels(visible[name]), read_pixels(infrared[name])
            i = i[..., 0] if i.ndim == 3 else i
            v = np.repeat(v[..., None], 3, 2) if v.ndim == 2 else v[..., :3]
            if v.shape[:2] != i.shape or v.dtype != np.uint8 or i.dtype != np.uint8:
                raise RosAttnError(f"{visible[name]} and {infrared[name]} are not 8-bit images of one size.")
            found[f"{folder.name}/{name}"] = (np.ascontiguousarray(v), np.ascontiguousarray(i))
    if not found:
        raise RosAttnError(f"There is no pair in {listed(map(str, folders))}; training needs some.")
    return found


def train(options: Options) -> nn.Module:
    """Train or go on training; progress, state and the terms of the loss are kept in ``options.out``.

    Every ``save_every`` steps the state is written beside the old one and renamed: a kill at any moment costs at most
    those steps. A run that goes on gives the weights of one that was never stopped. Under ``torchrun`` every process
    takes its share of each batch, and the first one writes.
    """
    with processes(options.batch) as group:
        return _train(options, group)


def _train(options: Options, group: Processes) -> nn.Module:
    torch.manual_seed(options.seed)
    chosen = task(options.preset, options.weights, options.without, options.restoration)
    model = chosen.model.to(group.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.rate, total_steps=options.steps + 1, pct_start=0.05, final_div_factor=100.0
    )
    found = read_pairs(options.data, options.leave_out)
    pairs = TrainingPairs(found, options.side, options.seed, options.weather)
    options.out.mkdir(parents=True, exist_ok=True)
    step = _resume(options, model, optimiser, schedule)
    model.train()
    shared = group.shared(model)
    curves = _curves(options.out, step) if group.first else None
    bar = tqdm(total=options.steps, initial=step, unit="step", desc=f"{len(found)} pairs", disable=not group.first)
    recent: dict[str, float] = {}
    began = time.monotonic()
    while step < options.steps:
        sample = on_device(pairs.batch(group.part(step)), group.device)
        loss, terms = chosen.loss(shared(sample.visible, sample.infrared), sample)
        if not torch.isfinite(loss):
            raise RosAttnError(f"The loss is no longer finite at step {step}; go on with a smaller --rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        step += 1
        for name, value in (("loss", loss.item()), *terms.items()):
            recent[name] = value if name not in recent else 0.98 * recent[name] + 0.02 * value
        bar.update()
        if step % 10 == 0:
            bar.set_postfix({name: f"{value:.3f}" for name, value in recent.items()})
        if group.first and (step % options.save_every == 0 or step == options.steps):
            _save(options, step, model, optimiser, schedule)
            row = {"step": step, "seconds": round(time.monotonic() - began, 1), **recent}
            with (options.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            if curves is not None:
                for name, value in recent.items():
                    curves.add_scalar(name, value, step)
                curves.flush()
    bar.close()
    return model


def _curves(out: Path, step: int) -> Any:
    """A TensorBoard writer where TensorBoard is installed; a run that goes on overwrites what came after its state."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)


def export(options: Export) -> None:
    """Write the weights of a run, finished or not, as a checkpoint with its ONNX file.

    Raises RosAttnError where the run has no state, CheckpointError as ``presets.save`` does.
    """
    path = options.run / STATE
    if not path.is_file():
        raise RosAttnError(f"{options.run} holds no {STATE}; name the --out of a training run.")
    state = torch.load(path, weights_only=True)
    asked = json.loads(state["options"])
    if asked["preset"] not in presets.PRESETS:
        raise RosAttnError(f"{options.run} trained {asked['preset']}, which only serves another training.")
    model = presets.network(asked["preset"], asked["without"])
    try:
        model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state["model"].items()})
    except RuntimeError:
        raise RosAttnError(
            f"{path} is of another network than this version's; export it with the one that trained it."
        ) from None
    told = {key: asked[key] for key in ("batch", "side", "rate", "seed", "weights", "weather", "without")}
    training = told | {
        "data": [Path(folder).name for folder in asked["data"]],
        "left_out": [Path(each).name for each in asked["leave_out"]],
        "steps": state["step"], "of_steps": asked["steps"], "terms": options.terms,
    }  # fmt: skip
    presets.save(asked["preset"], model, options.out, training, options.overwrite)


def _save(options: Options, step: int, model: nn.Module, optimiser: Any, schedule: Any) -> None:
    state = {
        "step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(), "options": _identity(options),
    }  # fmt: skip
    partial = options.out / f".{STATE}.part"
    torch.save(state, partial)
    os.replace(partial, options.out / STATE)


def _resume(options: Options, model: nn.Module, optimiser: Any, schedule: Any) -> int:
    path = options.out / STATE
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["options"] != _identity(options):
        raise RosAttnError(f"{path} is of a run with other options; name another --out, or give the same options.")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])


def _identity(options: Options) -> str:
    """What must be the same for a run to go on."""
    kept = {key: value for key, value in asdict(options).items() if key not in ("out", "save_every")}
    return json.dumps(kept, default=str, sort_keys=True)
