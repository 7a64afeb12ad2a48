"""How fast many robots are simulated and trained, beside Gymnasium's environments in processes.

    python -m tests.bench.simulation_speed [--robots 512] [--repeats 5] [--out FILE]

Every robot is varied as in training and stands on stairs of 40 boxes of its own; targets deviate at random from the
default pose. One control step is four physics steps of 5 ms. ``batch`` is ``ros_attn.sim.legged_world.LeggedWorld``
on all processors; ``async`` is Gymnasium's AsyncVectorEnv over the very same models, one robot a process, with the
number of processes that is fastest of those tried; ``training`` is ``ros-attn train quadruped_walk`` end to end, from
PPO's rollout to its update. All in turn in one run; figures are control steps a second of all robots together, the
median of the repeats and their range.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv
from numpy.typing import NDArray

from ros_attn.control.quadruped_walk.train import Options, train
from ros_attn.policies.training_ppo import ROLLOUT
from ros_attn.provenance import provenance
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.legged_world import SUBSTEPS, LeggedWorld
from ros_attn.sim.randomisation import WALKING, Randomisation
from ros_attn.sim.stairs import hollow_stairs

Array = NDArray[np.float64]

BOXES = 40
PROCESSES = (2, 4, 8, 16)
DEVIATION_RAD = 0.15
FIELDS = (
    "geom_pos", "geom_size", "geom_friction", "body_mass", "body_inertia", "body_ipos", "actuator_biasprm",
    "actuator_forcerange", "actuator_delay", "dof_frictionloss", "dof_damping", "dof_armature",
)  # fmt: skip


def stairs(robots: int, threads: int, seed: int) -> tuple[LeggedWorld, Array]:
    """A world of varied robots on stairs of their own, and where they start, qpos [E, 7 + J]."""
    rng, ids = np.random.default_rng(seed), np.arange(robots)
    world = LeggedWorld(GO2_LIKE, robots, boxes=BOXES, threads=threads)
    flights = [
        hollow_stairs(rng, float(rng.uniform(15, 30)), depth_m=float(rng.uniform(0.24, 0.3)), treads=BOXES - 1)
        for _ in range(min(robots, 64))
    ]
    world.set_terrain(ids, np.stack([flights[i % len(flights)].boxes for i in ids]), np.zeros(robots))
    Randomisation(world, WALKING).draw(ids, rng)
    world.derive(ids)
    place = rng.uniform(0.0, 6.0, robots)
    under = np.zeros(robots)
    for index, flight in enumerate(flights):
        mine = ids % len(flights) == index
        front = flight.boxes[:, 0] - flight.boxes[:, 3]
        reached = (place[mine, None] + 0.3 >= front).sum(axis=1)
        under[mine] = np.concatenate([[0.0], flight.route[:, 2]])[reached]
    qpos = np.zeros((robots, 7 + len(GO2_LIKE.joints)))
    qpos[:, 0], qpos[:, 2], qpos[:, 3] = place, under + GO2_LIKE.stand_height, 1.0
    qpos[:, 7:] = GO2_LIKE.default_pose
    return world, qpos


def begin(world: LeggedWorld, qpos: Array) -> None:
    """All robots at their starts, at rest."""
    count = len(qpos)
    world.reset(np.arange(count), qpos, np.zeros((count, world.model.nv)), qpos[:, 7:])


class OneRobot(gymnasium.Env[Array, Array]):
    """One of a world's robots, stepped by ``mj_step``."""

    def __init__(self, model: mujoco.MjModel, qpos: Array) -> None:
        self.model, self.data, self.start = model, mujoco.MjData(model), qpos
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (model.nq + model.nv,), np.float64)
        self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (model.nu,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.start
        mujoco.mj_forward(self.model, self.data)
        return self._seen(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.data.ctrl.reshape(-1, 3)[:, 0] = action
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> Array:
        return np.concatenate([self.data.qpos, self.data.qvel])


def model_of(world: LeggedWorld, index: int) -> mujoco.MjModel:
    """The model of one simulation of ``world``, by itself."""
    model = LeggedWorld(GO2_LIKE, 1, boxes=BOXES, threads=1).model
    for name in FIELDS:
        getattr(model, name)[:] = world.batch.expand(name)[index].reshape(getattr(model, name).shape)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def timed(step: Callable[[], object], count: int, robots: int) -> float:
    """Control steps a second of all robots."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    return count * robots / (time.perf_counter() - began)


def batch(world: LeggedWorld, qpos: Array, seed: int, steps: int = 100) -> float:
    """The rate of MuJoCo's batch from the start."""
    begin(world, qpos)
    targets = GO2_LIKE.default_pose + np.random.default_rng(seed).normal(0, DEVIATION_RAD, (8, len(qpos), 12))
    turns = iter(range(steps))
    return timed(lambda: world.step(targets[next(turns) % 8]), steps, len(qpos))


def in_processes(vector: AsyncVectorEnv, seed: int, steps: int = 100) -> float:
    """The rate of Gymnasium's processes from the start."""
    vector.reset()
    targets = GO2_LIKE.default_pose + np.random.default_rng(seed).normal(0, DEVIATION_RAD, (8, vector.num_envs, 12))
    turns = iter(range(steps))
    return timed(lambda: vector.step(targets[next(turns) % 8]), steps, vector.num_envs)


def trained(robots: int, iterations: int) -> float:
    """The rate of training, its first two iterations apart."""
    with tempfile.TemporaryDirectory() as out:
        first = train(Options(out=Path(out), robots=robots, steps=2 * ROLLOUT * robots))
        both = train(Options(out=Path(out), robots=robots, steps=(2 + iterations) * ROLLOUT * robots))
    return (both.steps - first.steps) / (both.seconds - first.seconds)


def summary(rates: list[float]) -> dict[str, float]:
    """Median and range, steps a second."""
    return {"median": round(float(np.median(rates))), "low": round(min(rates)), "high": round(max(rates))}


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=10, help="of training, each repeat")
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/simulation_speed.json"))
    arguments = parser.parse_args(words)
    world, qpos = stairs(arguments.robots, 0, seed=0)
    rates: dict[str, list[float]] = {"batch": [], "training": []}
    vectors = {}
    for count in PROCESSES:
        models = [model_of(world, index) for index in range(count)]
        make = [lambda model=model, start=qpos[index]: OneRobot(model, start) for index, model in enumerate(models)]
        vectors[count] = AsyncVectorEnv(make)
        rates[f"async {count}"] = []
    for repeat in range(arguments.repeats):
        rates["batch"].append(batch(world, qpos, repeat))
        for count, vector in vectors.items():
            rates[f"async {count}"].append(in_processes(vector, repeat))
        rates["training"].append(trained(arguments.robots, arguments.iterations))
        print({name: round(values[-1]) for name, values in rates.items()}, flush=True)
    for vector in vectors.values():
        vector.close()
    best = max((name for name in rates if name.startswith("async")), key=lambda name: np.median(rates[name]))
    ratios = {
        "batch over async": np.array(rates["batch"]) / np.array(rates[best]),
        "training over batch": np.array(rates["training"]) / np.array(rates["batch"]),
    }
    results = {
        "robots": arguments.robots, "boxes": BOXES, "threads_of_torch": torch.get_num_threads(),
        "rates": {name: summary(values) for name, values in rates.items()}, "fastest_async": best,
        "ratios": {
            name: {"median": round(float(np.median(values)), 2), "low": round(float(values.min()), 2),
                   "high": round(float(values.max()), 2)}
            for name, values in ratios.items()
        },
        "provenance": provenance(),
    }  # fmt: skip
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
