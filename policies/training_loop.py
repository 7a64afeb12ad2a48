"""The loop around rsl_rl's algorithms: rollouts, updates, progress, curves, and a state that a killed run goes on from.

rsl_rl brings PPO, distillation, models and storage; its runner is replaced because it takes several processes only on
CUDA, keeps every iteration's pickle and prints a page a time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from rsl_rl.algorithms import PPO, Distillation
from tqdm import tqdm

from ros_attn.errors import RosAttnError
from ros_attn.policies.training_environment import TaskEnvironment
from ros_attn.policies.training_processes import rank

STATE = "state.pt"


class Curriculum(Protocol):
    """What makes the task harder; its state goes on with the run. The first of its figures tells how far it is."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...

    def figures(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Annealing:
    """A learning rate that falls evenly from ``first`` to ``last`` over the last ``share`` of a run.

    Meanwhile exploring counts nothing with PPO: actions deviate less and less from what will be carried out on a robot.
    """

    first: float
    last: float
    share: float = 1.0

    def __call__(self, done: float) -> float | None:
        """The rate when so much of the run is done, from 0 to 1; None before it falls."""
        fallen = 1 - (1 - done) / self.share
        return None if fallen < 0 else self.first + (self.last - self.first) * min(fallen, 1.0)


@dataclass(frozen=True)
class Schedule:
    """How long, how often the state is kept, and the learning rate where it is not the algorithm's own."""

    out: Path
    environment_steps: int
    annealing: Annealing
    save_every_s: float = 60.0
    rollout: int = 24


@dataclass
class Progress:
    """What is known of a run: means since the last update, by name."""

    steps: int = 0
    seconds: float = 0.0
    means: dict[str, float] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float], share: float = 0.1) -> None:
        """Exponential means of ``figures``."""
        for name, value in figures.items():
            self.means[name] = value if name not in self.means else (1 - share) * self.means[name] + share * value


def run(
    algorithm: PPO | Distillation,
    environment: TaskEnvironment,
    curriculum: Curriculum,
    schedule: Schedule,
    identity: str,
) -> Progress:
    """Train until ``schedule.environment_steps`` control steps of all environments together were seen.

    Of several processes (``torchrun``) the first one writes and counts the steps of all; all begin with its weights.

    ``identity`` says which options the run has; a state of other options is refused with :class:`RosAttnError`. The
    state is written beside the old one and renamed: a kill costs at most ``save_every_s``; robots then start anew.
    """
    schedule.out.mkdir(parents=True, exist_ok=True)
    progress = _resume(schedule.out, algorithm, curriculum, identity)
    together = environment.num_envs
    if algorithm.is_multi_gpu:
        algorithm.broadcast_parameters()
        together *= algorithm.gpu_world_size
    first = rank() == 0
    curves = _curves(schedule.out, progress.steps) if first else None
    algorithm.train_mode()
    observations = environment.get_observations()
    bar = tqdm(
        total=schedule.environment_steps,
        initial=progress.steps,
        unit="step",
        unit_scale=True,
        smoothing=0.05,
        disable=not first,
    )
    saved, before = time.monotonic(), progress.seconds
    began = saved
    while progress.steps < schedule.environment_steps:
        with torch.inference_mode():
            for _ in range(schedule.rollout):
                actions = algorithm.act(observations)
                observations, rewards, dones, extras = environment.step(actions)
                algorithm.process_env_step(observations, rewards, dones, extras)
                terms = {f"reward/{name}": value for name, value in extras["terms"].items()}
                progress.add({**terms, "reward/all": float(rewards.mean())}, share=0.01)
                progress.add({"falls a minute": extras["fallen"] / environment.num_envs * 50 * 60}, share=0.01)
            algorithm.compute_returns(observations)
        if (rate := schedule.annealing(progress.steps / schedule.environment_steps)) is not None:
            _anneal(algorithm, rate)
        losses = algorithm.update()
        progress.steps += schedule.rollout * together
        progress.seconds = before + time.monotonic() - began
        progress.add({f"loss/{name}": value for name, value in losses.items()})
        progress.add({f"curriculum/{name}": value for name, value in curriculum.figures().items()}, share=1.0)
        bar.update(schedule.rollout * together)
        shown = {"reward": progress.means["reward/all"], "falls/min": progress.means["falls a minute"]}
        figures = curriculum.figures()
        name = next(iter(figures))
        bar.set_postfix({key: f"{value:.3f}" for key, value in {**shown, name: figures.pop(name)}.items()})
        done = progress.steps >= schedule.environment_steps
        if first and (done or time.monotonic() - saved > schedule.save_every_s):
            saved = time.monotonic()
            if figures:
                bar.write(f"{progress.steps}: " + ", ".join(f"{key} {value:.2f}" for key, value in figures.items()))
            _save(schedule.out, algorithm, curriculum, progress, identity)
            _write(schedule.out, curves, progress)
    bar.close()
    return progress


def _anneal(algorithm: PPO | Distillation, rate: float) -> None:
    algorithm.learning_rate = rate
    for group in algorithm.optimizer.param_groups:
        group["lr"] = rate
    if isinstance(algorithm, PPO):
        algorithm.schedule, algorithm.entropy_coef = "fixed", 0.0


def _write(out: Path, curves: Any, progress: Progress) -> None:
    row = {"steps": progress.steps, "seconds": round(progress.seconds, 1), **progress.means}
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
    if curves is not None:
        for name, value in progress.means.items():
            curves.add_scalar(name, value, progress.steps)
        curves.flush()


def _curves(out: Path, steps: int) -> Any:
    """A TensorBoard writer where TensorBoard is installed; a run that goes on overwrites what came after its state."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=steps + 1 if steps else None)


def _save(out: Path, algorithm: PPO | Distillation, curriculum: Curriculum, progress: Progress, identity: str) -> None:
    state = {
        "algorithm": algorithm.save(), "learning_rate": algorithm.learning_rate, "curriculum": curriculum.state(),
        "progress": vars(progress), "options": identity,
    }  # fmt: skip
    partial = out / f".{STATE}.part"
    torch.save(state, partial)
    os.replace(partial, out / STATE)


def _resume(out: Path, algorithm: PPO | Distillation, curriculum: Curriculum, identity: str) -> Progress:
    path = out / STATE
    if not path.is_file():
        return Progress()
    state = torch.load(path, weights_only=True)
    if state["options"] != identity:
        raise RosAttnError(f"{path} is of a run with other options; name another --out, or give the same options.")
    algorithm.load(state["algorithm"], None, strict=True)
    algorithm.learning_rate = state["learning_rate"]
    curriculum.restore(state["curriculum"])
    return Progress(**state["progress"])
