"""Training of the stair climber in three stages: ``ros-attn train quadruped_stairs --stage 1|2|3``.

1. A teacher that sees the heights around it and the way learns to climb (PPO). It begins as a walker without eyes.
2. A student that sees what the robot will see, noisy depth images and its joints, learns to act as the teacher does, in
   the states that it comes to itself (DAgger).
3. The student goes on by reward (PPO), with the same special rewards for treads, gaps and edges.

Source: arXiv 2606.25765; sizes, rewards, the curriculum and the walker at the beginning are ours.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from rsl_rl.algorithms import PPO, Distillation

from ros_attn import checkpoint
from ros_attn.control.depth_image import preprocess
from ros_attn.control.locomotion import ACTION_SCALE, LocomotionMapping
from ros_attn.control.quadruped_stairs import left_behind
from ros_attn.control.quadruped_stairs.left_behind import Left, Weights
from ros_attn.control.quadruped_stairs.policy import contract, save
from ros_attn.control.quadruped_walk import policy as walk_policy
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import RosAttnError
from ros_attn.policies.stair_student import StairStudent
from ros_attn.policies.training_environment import TaskEnvironment
from ros_attn.policies.training_loop import STATE, Annealing, Progress, Schedule, run
from ros_attn.policies.training_ppo import ANNEALING, ROLLOUT, exploring, perceptron, ppo
from ros_attn.policies.training_processes import processes, rank
from ros_attn.policies.training_start import begin_as
from ros_attn.policies.training_student import StudentModel
from ros_attn.sim import tasks
from ros_attn.sim.depth_sense import camera_of
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.locomotion_task import LocomotionTask
from ros_attn.sim.randomisation import CLIMBING
from ros_attn.sim.terrain_curriculum import TerrainCurriculum
from ros_attn.sim.velocity_command import CommandRange

Stage = Literal[1, 2, 3]

STEPS = {1: 30_000_000, 2: 9_000_000, 3: 20_000_000}
ROBOTS = {1: 512, 2: 128, 3: 192}
STANDING = {1: 1 / 4, 2: 1 / 8, 3: 1 / 8}
"""Share of the commands that are to stand; students stand while their cameras fail, too."""
TEACHER_SEES = ("policy", "heights", "waypoint")
CRITIC_SEES = ("privileged", "heights", "waypoint")
TEACHER_LAYERS = (256, 128)
WALKERS_DEVIATION = 0.4
"""Of the first actions of a teacher that begins as a walker."""
CRITIC_LAYERS = (256, 128, 128)
SPREAD = "distribution.std_param"
IMITATED, MINI_BATCH = 48, 8
"""Control steps between two updates of stage 2, through all of which errors are traced back, as hind legs step where
treads were seen a second ago; and how many robots a gradient step learns from. Each step is learnt from once: new ones
cost no more."""
LED_UPDATES = 60
"""Over which the teacher hands the robots over to a student that begins as nobody."""
IMITATION = Annealing(1e-3, 1e-4)
"""The learning rate of stage 2."""


@dataclass(frozen=True)
class Export:
    """Make a checkpoint of a student."""

    run: Path
    """the folder that training wrote; its stage 3 is taken, or its stage 2 where there is no stage 3."""
    out: Path
    """the checkpoint directory to write."""
    overwrite: bool = False
    """replace a checkpoint that is there."""


@dataclass(frozen=True)
class Options:
    """Training of the stair climber."""

    stage: Stage
    """1: teacher, 2: student that imitates it, 3: student that goes on by reward."""
    out: Path = Path("runs/quadruped_stairs")
    """each stage is kept in a folder of its own there, and begins with what the one before left."""
    steps: int | None = None
    """control steps of all robots together; by stage 30, 9 and 20 millions."""
    robots: int | None = None
    """how many are simulated side by side; by stage 512, 128 and 192."""
    threads: int = 0
    """of the simulation; 0: all processors."""
    walker: str = "walk_go2"
    """checkpoint of the walker as which stage 1 begins; empty: it learns to walk, too."""
    begin: str = ""
    """checkpoint of a climber whose teacher (stages 1, 2), student (2, 3) and critic (1, 3) a stage begins with, on
    ground of the level that they reached, where --out does not hold the stage before."""
    anew: bool = False
    """stage 2: the student begins as nobody, though the checkpoint to begin with has one."""
    frames: int = 3
    """observations of joints and IMU that are seen at once."""
    vision: Literal["attention", "pooled", "blind"] = "attention"
    """how the student looks at depth images; the others are for comparison."""
    gate: bool = True
    """whether the student's memory is gated by what it sees; without, it is an LSTM."""
    depth_noise: float = 1.0
    """size of the errors of its depth images."""
    footholds: bool = True
    """whether treads, gaps and edges count."""
    seed: int = 0
    """of weights, robots, ground and commands."""
    save_every_s: float = 60.0
    """seconds between two savings."""


FOOTHOLDS = ("pitch", "feet in gaps", "feet near edges")


def student_sees(options: Options) -> tuple[str, ...]:
    """The observation groups of the student."""
    return ("policy",) if options.vision == "blind" else ("policy", "depth", "valid", "fresh")


def folder(options: Options, stage: int) -> Path:
    """Where a stage is kept."""
    return options.out / f"stage_{stage}"


def task(options: Options) -> LocomotionTask:
    """Ground of all levels, which follow each robot's success; with images for the student."""
    mapping = LocomotionMapping.of(GO2_LIKE.contract() | {"frames": options.frames})
    sees = options.stage > 1 and options.vision != "blind"
    made = tasks.climb(
        GO2_LIKE, mapping, options.robots or ROBOTS[options.stage], seed=options.seed + 1000 * rank(),
        threads=options.threads, training=True, standing=STANDING[options.stage], depth=preprocess if sees else None,
        depth_noise=options.depth_noise, depth_stride=2,
    )  # fmt: skip
    if not options.footholds:
        made.rewards = {name: each for name, each in made.rewards.items() if name not in FOOTHOLDS}
    return made


def learner(environment: TaskEnvironment, options: Options) -> PPO | Distillation:
    """What trains a stage, with what the stage before has left.

    Raises RosAttnError where that is missing.
    """
    teacher, critic = perceptron(TEACHER_LAYERS), perceptron(CRITIC_LAYERS)
    student = {"class_name": "ros_attn.policies.training_student:StudentModel", "vision": options.vision,
               "gate": options.gate}  # fmt: skip
    rows = "ros_attn.policies.training_student:RowsModel"
    if options.stage == 1:
        groups = {"actor": TEACHER_SEES, "critic": CRITIC_SEES}
        learning = ppo(environment, exploring(teacher, 1.0), critic, groups, rate=1e-3, entropy=0.002)
        if options.begin:
            left = _of_checkpoint(options.begin)
            learning.actor.load_state_dict(_fitting(left.teacher, learning.actor, options))
            learning.critic.load_state_dict(_fitting(left.critic, learning.critic, options))
        elif options.walker:
            _begin_as_walker(learning, environment, options)
        return learning
    left = _left(options)
    if options.stage == 2:
        models = {"student": exploring(student, 0.1), "teacher": exploring(teacher | {"class_name": rows}, 1.0)}
        groups = {"student": student_sees(options), "teacher": TEACHER_SEES}
        goes_on = bool(left.student) and not options.anew
        imitating = distillation(environment, models, groups, led_updates=0 if goes_on else LED_UPDATES)
        imitating.load({"actor_state_dict": _fitting(left.teacher, imitating.teacher, options)}, None, strict=True)
        if goes_on:
            imitating.student.load_state_dict(_fitting(left.student, imitating.student, options))
        return imitating
    groups = {"actor": student_sees(options), "critic": CRITIC_SEES}
    # An update of the student costs three times its rollout: two epochs, not four.
    learning = ppo(
        environment, exploring(student, 0.3), critic | {"class_name": rows}, groups, rate=2e-4, entropy=0.001, epochs=2
    )
    learning.actor.load_state_dict(_fitting(left.student, learning.actor, options))
    learning.critic.load_state_dict(_fitting(left.critic, learning.critic, options))
    return learning


def _fitting(weights: Weights, network: torch.nn.Module, options: Options) -> Weights:
    """``weights``, with the deviation of the actions of ``network`` where a student begins: how far it explores is the
    stage's own. Raises RosAttnError for those of another network."""
    own = network.state_dict()
    # A checkpoint keeps scalars as rows of one.
    if _shapes(own) != _shapes(weights):
        raise RosAttnError(
            f"Stage {options.stage} cannot begin with what {options.begin or options.out} has, which sees other "
            "--frames or looks at images otherwise; give its --frames, --vision and --gate, or, for another student, "
            "--stage 2 --anew."
        )
    return {**weights, SPREAD: own[SPREAD]} if isinstance(network, StudentModel) else weights


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: value.squeeze().shape for name, value in weights.items()}


def _begin_as_walker(learning: PPO, environment: TaskEnvironment, options: Options) -> None:
    path = checkpoint_folder(options.walker)
    walker, contract = walk_policy.load(path)
    robot, agreed = contract["robot"], GO2_LIKE.contract() | {"action_scale": ACTION_SCALE}
    if robot["frames"] != options.frames:
        raise RosAttnError(
            f"--walker {path} sees {robot['frames']} frames of observations and the teacher --frames {options.frames}; "
            f"give --frames {robot['frames']}, or --walker ''."
        )
    if other := [name for name, value in agreed.items() if robot.get(name) != value]:
        raise RosAttnError(
            f"--walker {path} is of another robot ({', '.join(other)}); give one of {GO2_LIKE.name}, or --walker ''."
        )
    try:
        begin_as(learning.actor, walker, environment.get_observations(), WALKERS_DEVIATION)
    except ValueError as error:
        raise RosAttnError(f"--walker {path} cannot become the teacher: {error}. Give --walker ''.") from None


def distillation(
    environment: TaskEnvironment, models: Mapping[str, Any], groups: Mapping[str, Sequence[str]], led_updates: int
) -> Distillation:
    """rsl_rl's distillation of the ``teacher`` among ``models`` into the ``student``, by the student's own rollouts.

    ``led_updates``: see :class:`.Imitation`.
    """
    config = {
        "algorithm": {
            "class_name": "ros_attn.policies.training_imitation:Imitation", "gradient_length": IMITATED,
            "learning_rate": IMITATION.first, "max_grad_norm": 1.0,
            "mini_batches": max(1, environment.num_envs // MINI_BATCH), "led_updates": led_updates,
        },
        **models, "obs_groups": {name: list(names) for name, names in groups.items()},
        "num_steps_per_env": IMITATED, "multi_gpu": processes(),
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        return Distillation.construct_algorithm(
            environment.get_observations(), environment, config, str(environment.device)
        )


def _left(options: Options) -> Left:
    """What stage 2 or 3 begins with: of the stages before it in its folder, else of the checkpoint to begin with."""
    before = {stage: folder(options, stage) for stage in range(1, options.stage)}
    left = left_behind.of_run(before, _of_checkpoint(options.begin))
    missing = 1 if not left.teacher else 2 if options.stage == 3 and not left.student else None
    if missing is not None:
        raise RosAttnError(
            f"Stage {options.stage} begins with what stage {missing} left, but there is no "
            f"{before[missing] / STATE}; run --stage {missing} --out {options.out} first, or name a checkpoint with "
            "--begin."
        )
    return left


def _of_checkpoint(begin: str) -> Left:
    return left_behind.load(checkpoint_folder(begin)) if begin else left_behind.NOTHING


def _before(begin: str) -> list[dict[str, Any]]:
    """The trainings that went before one that began with a checkpoint, the first one first."""
    if not begin:
        return []
    described = checkpoint.configuration(checkpoint_folder(begin))
    training = described["training"]
    last = {name: training[name] for name in ("seed", "stages", "level")}
    return [*training.get("before", []), {"commit": described["provenance"]["commit"], **last}]


def train(options: Options) -> Progress:
    """Train a stage or go on training; see :func:`ros_attn.policies.training_loop.run`.

    Raises RosAttnError for options that no training can have, and where the stage before is missing.
    """
    for name, least in (("robots", 1), ("steps", 1), ("frames", 1), ("threads", 0)):
        given = getattr(options, name)
        if given is not None and given < least:
            raise RosAttnError(f"--{name} is {given}, but must be at least {least}.")
    if options.anew and options.stage != 2:
        raise RosAttnError(
            f"--anew is for stage 2, which trains a student, not for stage {options.stage}; leave it out."
        )
    level = _level(options)
    torch.manual_seed(options.seed + rank())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = task(options)
    assert isinstance(made.curriculum, TerrainCurriculum)
    if level is not None:
        made.curriculum.spread(level)
        made.level[:] = made.curriculum.levels
    environment = TaskEnvironment(made, device)
    steps = options.steps or STEPS[options.stage]
    rollout, annealing = (IMITATED, IMITATION) if options.stage == 2 else (ROLLOUT, ANNEALING)
    schedule = Schedule(folder(options, options.stage), steps, annealing, options.save_every_s, rollout)
    kept = {
        key: value for key, value in asdict(options).items() if key not in ("out", "save_every_s", "threads", "steps")
    }
    return run(learner(environment, options), environment, made.curriculum, schedule, json.dumps(kept, default=str))


def _level(options: Options) -> float | None:
    """The level that was reached by what a stage begins with; None where nobody climbs yet."""
    if options.stage > 1:
        return _left(options).level
    return _of_checkpoint(options.begin).level if options.begin else None


def export(options: Export) -> None:
    """Write the student of a run, finished or not, as a checkpoint with its ONNX file and what training goes on with.

    Raises RosAttnError where the run has none, CheckpointError as :func:`.policy.save` does.
    """
    stages = [stage for stage in (3, 2) if (options.run / f"stage_{stage}" / STATE).is_file()]
    if not stages:
        raise RosAttnError(f"{options.run} holds no student; name the --out of a training of stage 2 or 3.")
    asked = json.loads(torch.load(options.run / f"stage_{stages[0]}" / STATE, weights_only=True)["options"])
    folders = {stage: options.run / f"stage_{stage}" for stage in (1, 2, 3)}
    left = left_behind.of_run(folders, _of_checkpoint(asked["begin"]))
    trained = StairStudent.of_training(left.student)
    commands = CommandRange()
    ranges = {name: list(getattr(commands, name)) for name in ("forward", "left", "turn")}
    robot = GO2_LIKE.contract() | {"frames": asked["frames"], "action_scale": ACTION_SCALE, "name": GO2_LIKE.name}
    camera = camera_of(GO2_LIKE)
    seen = {
        name: getattr(camera, name) for name in ("near_m", "far_m", "horizontal_fov_rad", "vertical_fov_rad")
    }  # fmt: skip
    steps = {}
    for stage in (1, 2, 3):
        if (path := options.run / f"stage_{stage}" / STATE).is_file():
            progress = torch.load(path, weights_only=True)["progress"]
            steps[f"stage {stage}"] = {"control_steps": progress["steps"], "seconds": round(progress["seconds"])}
    training = asked | {
        "stages": steps, "before": _before(asked["begin"]), "level": left.level,
        "simulation": f"MuJoCo {version('mujoco')}",
        "randomisation": CLIMBING.strip().splitlines(),
        "terms": "own simulation; no data of others",
    }  # fmt: skip
    save(trained, options.out, contract(robot, ranges, seen), training, options.overwrite)
    left_behind.save(left, options.out)
