"""Training around rsl_rl: that it goes on where it was stopped, and what comes out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ros_attn.control.quadruped_walk.train import Options, learner, task, train
from ros_attn.errors import RosAttnError
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.policies.training_environment import TaskEnvironment
from ros_attn.policies.training_loop import Annealing, Schedule, run
from ros_attn.sim.curriculum import CommandCurriculum

pytestmark = pytest.mark.filterwarnings("ignore")


def options(out: Path, steps: int, **others: int) -> Options:
    return Options(out=out, steps=steps, robots=8, threads=1, hidden=(16, 8), frames=2, save_every_s=0.0, **others)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    train(options(tmp_path, 400))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [192, 384, 576]
    first = torch.load(tmp_path / "state.pt", weights_only=True)
    progress = train(options(tmp_path, 1000))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [192, 384, 576, 768, 960, 1152]
    assert progress.steps == 1152 and progress.seconds > rows[2]["seconds"]
    last = torch.load(tmp_path / "state.pt", weights_only=True)
    name = "obs_normalizer.count"
    assert [state["algorithm"]["actor_state_dict"][name].item() for state in (first, last)] == [576, 1152]
    assert not list(tmp_path.glob(".*.part"))
    with pytest.raises(RosAttnError, match="other options"):
        train(options(tmp_path, 1000, seed=1))


def test_the_rate_falls_and_exploring_ends_in_the_last_part_of_a_run(tmp_path: Path) -> None:
    rate = Annealing(2e-4, 2e-5, share=0.25)
    assert [rate(done) for done in (0.0, 0.74)] == [None, None]
    assert [rate(done) for done in (0.75, 0.875, 1.0, 1.2)] == pytest.approx([2e-4, 1.1e-4, 2e-5, 2e-5])
    environment = TaskEnvironment(task(options(tmp_path, 0)), torch.device("cpu"))
    algorithm = learner(environment, options(tmp_path, 0))
    assert isinstance(environment.task.curriculum, CommandCurriculum)
    for steps, schedule, entropy in ((192, "adaptive", 0.01), (960, "fixed", 0.0)):
        planned = Schedule(tmp_path / schedule, steps, Annealing(3e-4, 1e-4, share=0.5))
        algorithm.entropy_coef = 0.01
        run(algorithm, environment, environment.task.curriculum, planned, "")
        assert (algorithm.schedule, algorithm.entropy_coef) == (schedule, entropy)
    # The last of five rollouts begins when 0.8 of the run is done.
    assert algorithm.learning_rate == pytest.approx(3e-4 - 2e-4 * 0.6)
    assert {group["lr"] for group in algorithm.optimizer.param_groups} == {algorithm.learning_rate}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"robots": 0}, "--robots is 0"), ({"frames": 0}, "--frames is 0"), ({"hidden": ()}, "--hidden must give")],
)
def test_impossible_options_are_refused(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RosAttnError, match=sentence):
        train(Options(out=tmp_path / "run", **wrong))
    assert not (tmp_path / "run").exists()


def test_policy_is_the_mean_of_the_trained_actor() -> None:
    environment = TaskEnvironment(task(options(Path(), 0)), torch.device("cpu"))
    algorithm = learner(environment, options(Path(), 0))
    actor = algorithm.get_policy()
    for _ in range(5):
        actor.update_normalization(environment.get_observations())
        environment.step(torch.randn(8, 12))
    seen = environment.get_observations()
    policy = BlindPolicy.of_training(actor.state_dict())
    with torch.inference_mode():
        assert policy(seen["policy"]).numpy() == pytest.approx(actor(seen).numpy(), abs=1e-6)
    assert policy.std.std() > 0 and not policy.mean.requires_grad


def test_environment_hands_over_what_the_task_gave() -> None:
    environment = TaskEnvironment(task(options(Path(), 0)), torch.device("cpu"))
    environment.task.episode_steps = 3
    for step in range(3):
        seen, rewards, done, extras = environment.step(torch.zeros(8, 12))
        assert done.all() == (step == 2)
    assert extras["time_outs"].tolist() == [1.0] * 8
    assert rewards.dtype == torch.float32 and seen["policy"].shape == (8, 90)
    total = sum(extras["terms"].values())
    assert float(rewards.mean()) == pytest.approx(total, abs=1e-6) or float(rewards.min()) == 0.0
    assert np.isfinite(total)
