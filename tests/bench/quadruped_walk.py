"""How well a walking policy follows its commands, stands, and bears pushes, in the training's simulation.

    python -m tests.bench.quadruped_walk --checkpoint seed-0=DIR [seed-1=DIR ...] [--episodes 300] [--out FILE]

Episodes of 20 s, one robot each, varied as in training, commands new every 4 s from the full range. The errors are root
mean squares over all robots and times: at once, and without the first second after each change. A fall is what ends an
episode before its time. Then, each on its own: 1 m/s straight ahead, 10 s of standing, and pushes of 0.5 m/s from a
random side while walking (survived: no fall within 4 s). Rates have Wilson's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_walk.policy import load
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import CheckpointError
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.provenance import provenance
from ros_attn.sim import rotation, tasks
from ros_attn.sim.go2_like import CONTINUOUS_SHARE, GO2_LIKE
from ros_attn.sim.locomotion_task import LocomotionTask, Step
from ros_attn.sim.velocity_command import CommandRange

Array = NDArray[np.float64]
SETTLED_STEPS = 50
PUSH_MS = 0.5


def wilson(hits: int, count: int) -> list[float]:
    """Rate, low and high end of its 95 % interval."""
    z, rate = 1.959964, hits / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return [round(float(value), 4) for value in (rate, middle - half, middle + half)]


def folder(given: str) -> Path:
    """Of a checkpoint: a path, or the name of one that comes with the package. A mistake is a sentence of argparse."""
    try:
        return checkpoint_folder(given)
    except CheckpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def named_folder(given: str) -> tuple[str, Path]:
    """NAME=DIR."""
    name, equals, path = given.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{given} has no name; give NAME=DIR, as seed-0={name or 'walk_go2'}.")
    return name, folder(path)


def walk(
    policy: BlindPolicy,
    task: LocomotionTask,
    steps: int,
    each: Callable[[int, LocomotionTask, Step], None],
    before: Callable[[int, LocomotionTask], None] = lambda step, task: None,
) -> None:
    """Let the policy drive, no exploration."""
    seen = task.reset()
    for step in range(steps):
        before(step, task)
        with torch.inference_mode():
            action = policy(torch.from_numpy(seen["policy"])).numpy().astype(np.float64)
        result = task.step(action)
        each(step, task, result)
        seen = result.observations


def body_velocity(task: LocomotionTask) -> Array:
    """Forward, left [m/s] and turn [rad/s] of every robot, [E, 3]."""
    linear = rotation.into_body(task.world.base_quaternion, task.world.qvel[:, :3])
    return np.concatenate([linear[:, :2], task.world.qvel[:, 5:6]], axis=-1)


def followed(policy: BlindPolicy, task: LocomotionTask) -> dict[str, Any]:
    """Errors and falls over one episode of every robot; a fallen robot counts until it fell."""
    alive = np.ones(task.world.environments, bool)
    errors, settled, torques = [], [], []
    told = np.zeros_like(task.command)

    def before(step: int, task: LocomotionTask) -> None:
        told[:] = task.command

    def each(step: int, task: LocomotionTask, result: Step) -> None:
        alive[result.terminated] = False
        squares = np.square(body_velocity(task) - told)[alive]
        errors.append(squares)
        if step % round(task.commands.every_s * 50) >= SETTLED_STEPS:
            settled.append(squares)
        torques.append(np.square(task.world.torque[alive]).mean(axis=0))

    walk(policy, task, task.episode_steps - 1, each, before)
    falls = int((~alive).sum())
    root = np.sqrt(np.concatenate(settled).mean(axis=0))
    at_once = np.sqrt(np.concatenate(errors).mean(axis=0))
    share = np.sqrt(np.mean(torques, axis=0)) / (CONTINUOUS_SHARE * task.world.robot.torque_limits)
    return {
        "falls": wilson(falls, len(alive)),
        "error_settled": [round(float(value), 4) for value in root],
        "error_at_once": [round(float(value), 4) for value in at_once],
        "torque_share_of_continuous": round(float(share.max()), 3),
    }


def straight(policy: BlindPolicy, task: LocomotionTask) -> dict[str, Any]:
    """1 m/s ahead for 8 s: the mean speed of the last 5 s."""
    speeds = []

    def before(step: int, task: LocomotionTask) -> None:
        task.command[:] = (1.0, 0.0, 0.0)

    def each(step: int, task: LocomotionTask, result: Step) -> None:
        speeds.append(body_velocity(task)[:, 0])

    walk(policy, task, 400, each, before)
    found = np.mean(speeds[150:], axis=0)
    return {"speed": round(float(found.mean()), 4), "worst": round(float(found[np.abs(found - 1).argmax()]), 4)}


def stood(policy: BlindPolicy, task: LocomotionTask) -> dict[str, Any]:
    """Command zero: how far the base moves from the 2nd to the 12th second, and how many steps are taken."""
    places, lifted = [], np.zeros(task.world.environments)

    def before(step: int, task: LocomotionTask) -> None:
        task.command[:] = 0.0

    def each(step: int, task: LocomotionTask, result: Step) -> None:
        if step >= 100:
            places.append(task.world.base_position[:, :2].copy())
            lifted[:] += (task.world.foot_force <= 1.0).any(axis=-1)

    walk(policy, task, 600, each, before)
    drift = np.linalg.norm(places[-1] - places[0], axis=-1)
    return {
        "drift_median_m": round(float(np.median(drift)), 4), "drift_95_m": round(float(np.quantile(drift, 0.95)), 4),
        "without_lifting_a_foot": wilson(int((lifted == 0).sum()), len(lifted)),
    }  # fmt: skip


def pushed(policy: BlindPolicy, task: LocomotionTask, seed: int) -> list[float]:
    """One push of every robot at a time of its own between 4 and 8 s."""
    rng = np.random.default_rng(seed)
    count = task.world.environments
    when, angle = rng.integers(200, 400, count), rng.uniform(0, 2 * np.pi, count)
    fell = np.zeros(count, bool)
    early = np.zeros(count, bool)

    def before(step: int, task: LocomotionTask) -> None:
        now = when == step
        task.world.qvel[now, :2] += PUSH_MS * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[now]

    def each(step: int, task: LocomotionTask, result: Step) -> None:
        early[result.terminated & (step < when)] = True
        fell[result.terminated & (when <= step) & (step < when + 200)] = True

    walk(policy, task, 600, each, before)
    counted = ~early
    return wilson(int((counted & ~fell).sum()), int(counted.sum()))


def measured(checkpoint: Path, episodes: int, seed: int) -> dict[str, Any]:
    """All figures of one policy."""
    policy, contract = load(checkpoint)
    mapping = LocomotionMapping.of(contract["robot"])

    def made(number: int, count: int, calm: bool = False) -> LocomotionTask:
        task = tasks.walk(GO2_LIKE, mapping, count, seed=seed + number)
        task.randomisation.terms.pop("push", None)
        if calm:
            task.commands = CommandRange(every_s=1e6)
        return task

    return {
        "episodes": episodes,
        **followed(policy, made(0, episodes)),
        "straight": straight(policy, made(1, 100, calm=True)),
        "standing": stood(policy, made(2, 100, calm=True)),
        "pushes_survived": pushed(policy, made(3, episodes), seed),
    }


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", type=named_folder, required=True, metavar="NAME=DIR")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/quadruped_walk.json"))
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    found = {}
    for name, path in arguments.checkpoint:
        found[name] = measured(path, arguments.episodes, arguments.seed)
        print(name, json.dumps(found[name]), flush=True)
    results = {"seed": arguments.seed, "policies": found, "provenance": provenance()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
