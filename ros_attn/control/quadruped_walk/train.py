"""Training of the walker without eyes: ``ros-attn train quadruped_walk``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from rsl_rl.algorithms import PPO

from ros_attn.control.locomotion import ACTION_SCALE, LocomotionMapping
from ros_attn.control.quadruped_walk.policy import contract, save
from ros_attn.errors import RosAttnError
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.policies.training_environment import TaskEnvironment
from ros_attn.policies.training_loop import STATE, Progress, Schedule, run
from ros_attn.policies.training_ppo import ANNEALING, ROLLOUT, exploring, perceptron, ppo
from ros_attn.policies.training_processes import rank
from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.locomotion_task import LocomotionTask
from ros_attn.sim.randomisation import WALKING
from ros_attn.sim.velocity_command import CommandRange


@dataclass(frozen=True)
class Export:
    """Make a checkpoint of a training run."""

    run: Path
    """the folder that training wrote."""
    out: Path
    """the checkpoint directory to write."""
    overwrite: bool = False
    """replace a checkpoint that is there."""


@dataclass(frozen=True)
class Options:
    """Training of the walker without eyes."""

    out: Path = Path("runs/quadruped_walk")
    """where progress is kept; the same command goes on from there."""
    steps: int = 20_000_000
    """control steps of all robots together."""
    robots: int = 512
    """how many are simulated side by side."""
    threads: int = 0
    """of the simulation; 0: all processors."""
    frames: int = 3
    """observations that the policy sees at once."""
    hidden: tuple[int, ...] = (128, 128)
    """widths of the policy's layers; the critic has the same."""
    rate: float = 1e-3
    """first learning rate; it follows the change of the policy from update to update."""
    entropy: float = 0.002
    """what exploring counts."""
    seed: int = 0
    """of weights, robots and commands."""
    save_every_s: float = 60.0
    """seconds between two savings."""


def task(options: Options) -> LocomotionTask:
    """Robots on level ground that follow commands of the full range in the end."""
    mapping = LocomotionMapping.of(GO2_LIKE.contract() | {"frames": options.frames})
    return tasks.walk(
        GO2_LIKE, mapping, options.robots, seed=options.seed + 1000 * rank(), threads=options.threads, training=True
    )  # fmt: skip


def learner(environment: TaskEnvironment, options: Options) -> PPO:
    """PPO with a critic that sees what only the simulation knows."""
    model = perceptron(options.hidden)
    groups = {"actor": ["policy"], "critic": ["privileged"]}
    return ppo(environment, exploring(model, 1.0), model, groups, rate=options.rate, entropy=options.entropy)


def train(options: Options) -> Progress:
    """Train or go on training; see :func:`ros_attn.policies.training_loop.run`.

    Raises RosAttnError for options that no training can have.
    """
    for name, least in (("robots", 1), ("frames", 1), ("threads", 0)):
        if getattr(options, name) < least:
            raise RosAttnError(f"--{name} is {getattr(options, name)}, but must be at least {least}.")
    if not options.hidden or min(options.hidden) < 1:
        raise RosAttnError("--hidden must give the width of at least one layer, each above 0, such as 256 128 64.")
    torch.manual_seed(options.seed + rank())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = task(options)
    assert made.curriculum is not None
    environment = TaskEnvironment(made, device)
    schedule = Schedule(options.out, options.steps, ANNEALING, options.save_every_s, ROLLOUT)
    kept = {
        key: value for key, value in asdict(options).items() if key not in ("out", "save_every_s", "threads", "steps")
    }
    return run(learner(environment, options), environment, made.curriculum, schedule, json.dumps(kept, default=str))


def export(options: Export) -> None:
    """Write the policy of a run, finished or not, as a checkpoint with its ONNX file.

    Raises RosAttnError where the run has no state, CheckpointError as :func:`policy.save` does.
    """
    path = options.run / STATE
    if not path.is_file():
        raise RosAttnError(f"{options.run} holds no {STATE}; name the --out of a training run.")
    state = torch.load(path, weights_only=True)
    asked = json.loads(state["options"])
    commands = CommandRange()
    ranges = {name: list(getattr(commands, name)) for name in ("forward", "left", "turn")}
    robot = GO2_LIKE.contract() | {"frames": asked["frames"], "action_scale": ACTION_SCALE, "name": GO2_LIKE.name}
    training = asked | {
        "control_steps": state["progress"]["steps"], "seconds": round(state["progress"]["seconds"]),
        "simulation": f"MuJoCo {version('mujoco')}", "randomisation": WALKING.strip().splitlines(),
        "terms": "own simulation; no data of others",
    }  # fmt: skip
    trained = BlindPolicy.of_training(state["algorithm"]["actor_state_dict"])
    save(trained, options.out, contract(robot, ranges), training, options.overwrite)
