"""How many hollow stairs policies climb, by slope, in the training's simulation.

    python -m tests.bench.quadruped_stairs [--student NAME=DIR ...] [--teacher NAME=DIR ...] [--walker NAME=DIR ...]
        [--slopes 15 20 25 30 37 45 55] [--depth-noise 1.0 ...] [--widths 1.0 ...] [--episodes 200] [--out FILE]

One episode a robot on stairs of its own (``ros_attn.sim.tasks.climb_episodes``), robots varied as in training, with
sensor noise and depth noise, without pushes. DIR is a checkpoint, or the name of one that comes with the package;
``--teacher`` takes the one that lies beside a student, or the ``stage_1`` folder of a training run. Rates have Wilson's
95 % interval. Rows are added to those in the file; those of the same policy, slope, noise and width are replaced.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ros_attn import checkpoint
from ros_attn.control.depth_image import preprocess
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_stairs import left_behind
from ros_attn.control.quadruped_stairs import policy as stairs_policy
from ros_attn.control.quadruped_stairs.train import TEACHER_SEES
from ros_attn.control.quadruped_walk import policy as walk_policy
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import RosAttnError
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.policies.training_loop import STATE
from ros_attn.provenance import provenance
from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.locomotion_task import Observations
from ros_attn.sim.stairs import EPISODE_SLOPES_DEG, EPISODE_TREADS, EPISODE_WIDTH_M, episode_stairs
from ros_attn.sim.stairs_trial import Act, evaluate
from tests.bench.quadruped_walk import wilson

Maker = Callable[[], Act]


def student(path: Path) -> tuple[Maker, LocomotionMapping, bool]:
    """A student's checkpoint; its memory starts with each maker's call."""
    network, contract = stairs_policy.load(path)

    def made() -> Act:
        state = None

        def act(seen: Observations) -> np.ndarray:
            nonlocal state
            groups = [torch.from_numpy(seen[name]) for name in ("policy", "depth", "valid", "fresh")]
            with torch.inference_mode():
                state = state or network.initial_state(len(groups[0]))
                action, state = network.step(state, *groups)
            return action.numpy()

        return act

    return made, LocomotionMapping.of(contract["robot"]), True


def rows(network: BlindPolicy, names: tuple[str, ...]) -> Act:
    """A policy without memory, of the groups it sees."""

    def act(seen: Observations) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(np.concatenate([seen[name] for name in names], axis=1))).numpy()

    return act


def teacher(path: Path) -> tuple[Maker, LocomotionMapping, bool]:
    """The teacher of a training run, or beside a student's checkpoint."""
    if (path / STATE).is_file():
        state = torch.load(path / STATE, weights_only=True)
        weights, frames = state["algorithm"]["actor_state_dict"], json.loads(state["options"])["frames"]
    else:
        weights, frames = left_behind.load(path).teacher, checkpoint.configuration(path)["training"]["frames"]
    network = BlindPolicy.of_training(weights).eval()
    return lambda: rows(network, TEACHER_SEES), LocomotionMapping.of(GO2_LIKE.contract() | {"frames": frames}), False


def walker(path: Path) -> tuple[Maker, LocomotionMapping, bool]:
    """A checkpoint of a walker without eyes."""
    network, contract = walk_policy.load(path)
    return lambda: rows(network, ("policy",)), LocomotionMapping.of(contract["robot"]), False


KINDS = {"student": student, "teacher": teacher, "walker": walker}


def tried(
    made: Maker, mapping: LocomotionMapping, sees: bool, slope_deg: float, noise: float, width_m: float, episodes: int,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """One row of the table."""
    began = time.monotonic()
    task = tasks.climb_episodes(
        GO2_LIKE, mapping, episodes, slope_deg, width_m=width_m, seed=seed, depth=preprocess if sees else None,
        depth_noise=noise,
    )  # fmt: skip
    trials = evaluate(task, made())
    climbed = trials.success
    return {
        "success": wilson(int(climbed.sum()), episodes),
        "treads": round(float(np.minimum(trials.treads, EPISODE_TREADS).mean()), 2),
        "seconds": round(float(trials.seconds[climbed].mean()), 1) if climbed.any() else None,
        "ends": trials.counts(), "episodes": episodes, "seed": seed, "wall_s": round(time.monotonic() - began, 1),
    }  # fmt: skip


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="+", default=[], metavar="NAME=DIR")
    parser.add_argument("--slopes", nargs="+", type=float, default=list(EPISODE_SLOPES_DEG))
    parser.add_argument("--depth-noise", nargs="+", type=float, default=[1.0], help="of students; 1 as in training")
    parser.add_argument("--widths", nargs="+", type=float, default=[EPISODE_WIDTH_M], help="of the treads, m")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/quadruped_stairs.json"))
    arguments = parser.parse_args(words)
    try:
        for slope in arguments.slopes:
            for width in arguments.widths:
                episode_stairs(np.random.default_rng(0), slope, width)
    except ValueError as error:
        parser.error(str(error))
    try:
        _try(arguments)
    except RosAttnError as error:
        parser.error(str(error))


def _try(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    results = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {"policies": {}}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for kind, make in KINDS.items():
        for text in getattr(arguments, kind):
            name, separator, path = text.partition("=")
            if not separator:
                raise RosAttnError(f"--{kind} {text} has no name; give NAME=DIR, as {text}={text}.")
            made, mapping, sees = make(checkpoint_folder(path))
            entry = results["policies"].setdefault(name, {"kind": kind, "rows": {}})
            noises = arguments.depth_noise if sees else [1.0]
            for width, noise, slope in product(arguments.widths, noises, arguments.slopes):
                seed = arguments.seed + round(slope)
                row = tried(made, mapping, sees, slope, noise, width, arguments.episodes, seed)
                conditions = f"{slope:g} deg, noise {noise:g}, width {width:g} m"
                entry["rows"][conditions] = row
                print(name, f"{conditions}:", json.dumps(row), flush=True)
                results["provenance"] = provenance()
                arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
