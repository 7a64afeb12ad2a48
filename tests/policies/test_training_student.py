"""The student within rsl_rl: PPO computes again what the rollout computed, Distillation reaches its eyes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rsl_rl.algorithms import PPO, Distillation
from rsl_rl.models import MLPModel
from tensordict import TensorDict
from torch import Tensor

from ros_attn.policies.stair_student import StairStudent
from ros_attn.policies.training_imitation import Imitation
from ros_attn.policies.training_student import GROUPS, RowsModel, StudentModel

B, T, F, J = 8, 24, 45, 12


class Robots:
    """Observations of robots whose images come every fifth step and are shown until then, and whose episodes end."""

    num_envs, num_actions = B, J

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.time = torch.arange(B) % 5
        self.depth, self.valid = torch.zeros(B, 48, 64), torch.zeros(B, 6, 8)

    def observe(self, done: Tensor | None = None) -> TensorDict:
        self.time += 1
        # What was observed is stored only after this.
        self.depth, self.valid = self.depth.clone(), self.valid.clone()
        if done is not None:
            # An episode begins without an image.
            self.depth[done], self.valid[done] = 0.0, 0.0
            self.time[done] = 1 + torch.arange(B)[done] % 4
        new = self.time % 5 == 0
        self.depth[new] = torch.rand(int(new.sum()), 48, 64, generator=self.random) - 0.5
        self.valid[new] = torch.rand(int(new.sum()), 6, 8, generator=self.random)
        return TensorDict({
            "policy": 1 + 2 * torch.randn(B, F, generator=self.random), "depth": self.depth, "valid": self.valid,
            "fresh": new[:, None].float(), "heights": torch.randn(B, 7, generator=self.random),
        }, batch_size=[B])  # fmt: skip


def ppo(robots: Robots, **student: Any) -> PPO:
    torch.manual_seed(0)
    config = {
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2, "learning_rate": 1e-3},
        "actor": {
            "class_name": StudentModel, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.3},
            **student,
        },
        "critic": {"class_name": RowsModel, "hidden_dims": [16], "obs_normalization": True},
        "obs_groups": {"actor": list(GROUPS), "critic": ["policy", "heights"]},
        "num_steps_per_env": T, "multi_gpu": None,
    }  # fmt: skip
    made = PPO.construct_algorithm(robots.observe(), robots, config, "cpu")  # type: ignore[arg-type]
    made.train_mode()
    return made


def distillation(
    robots: Robots, gradient_length: int = 8, of: str | type[Distillation] = "Distillation", epochs: int = 1,
    rate: float = 1e-3, imitation: dict[str, int] | None = None, **student: Any,
) -> Distillation:  # fmt: skip
    torch.manual_seed(0)
    config = {
        "algorithm": {
            "class_name": of, "gradient_length": gradient_length, "learning_rate": rate, "max_grad_norm": 1.0,
            "num_learning_epochs": epochs, **(imitation or {}),
        },
        "student": {
            "class_name": StudentModel, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.1},
            **student,
        },
        "teacher": {"class_name": "MLPModel", "hidden_dims": [16], "obs_normalization": True},
        "obs_groups": {"student": list(GROUPS), "teacher": ["policy", "heights"]},
        "num_steps_per_env": T, "multi_gpu": None,
    }  # fmt: skip
    made = Distillation.construct_algorithm(robots.observe(), robots, config, "cpu")  # type: ignore[arg-type]
    made.train_mode()
    return made


def roll_out(algorithm: PPO | Distillation, robots: Robots, observed: TensorDict) -> TensorDict:
    with torch.inference_mode():
        for _ in range(T):
            algorithm.act(observed)
            done = torch.rand(B, generator=robots.random) < 0.06
            observed = robots.observe(done)
            algorithm.process_env_step(observed, torch.randn(B, generator=robots.random), done, {})
        algorithm.compute_returns(observed)
    return observed


@pytest.mark.parametrize("vision, gate", [("attention", True), ("attention", False), ("pooled", True), ("blind", True)])
def test_ppo_computes_the_rollout_s_log_probabilities_again(vision: str, gate: bool) -> None:
    robots = Robots()
    algorithm = ppo(robots, vision=vision, gate=gate)
    observed = robots.observe()
    before = {name: x.clone() for name, x in algorithm.actor.state_dict().items()}
    for _ in range(3):
        observed = roll_out(algorithm, robots, observed)
        assert algorithm.storage.dones[:-1].sum() >= 3
        batches = list(algorithm.storage.recurrent_mini_batch_generator(2, 1))
        for batch in batches:
            assert batch.observations is not None and batch.actions is not None and batch.values is not None
            assert batch.old_actions_log_prob is not None
            with torch.no_grad():
                algorithm.actor(batch.observations, batch.masks, batch.hidden_states[0], stochastic_output=True)
                again = algorithm.actor.get_output_log_prob(batch.actions)
                values = algorithm.critic(batch.observations, batch.masks, batch.hidden_states[1])
            assert torch.allclose(again, batch.old_actions_log_prob[..., 0], atol=1e-4)
            assert torch.allclose(values, batch.values, atol=1e-5)
        losses = algorithm.update()
        assert all(value == value for value in losses.values())
    moved = {name for name, x in algorithm.actor.state_dict().items() if not torch.equal(x, before[name])}
    assert moved == set(before)


def test_distillation_computes_the_rollout_again_and_reaches_the_eyes() -> None:
    robots = Robots()
    algorithm = distillation(robots, gradient_length=T)
    observed = robots.observe()
    for _ in range(2):
        start: Any = algorithm.student.get_hidden_state()
        observed = roll_out(algorithm, robots, observed)
        end: Any = algorithm.student.get_hidden_state()
        means, storage = [], algorithm.storage
        algorithm.student.reset(hidden_state=start)
        with torch.no_grad():
            for batch in storage.generator():
                assert batch.dones is not None
                means.append(algorithm.student(batch.observations))
                algorithm.student.reset(batch.dones.view(-1))
        again: Any = algorithm.student.get_hidden_state()
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(end, again, strict=True))
        # What was done in the rollout is the mean and 0.1 of noise.
        off = (torch.stack(means) - storage.actions) / algorithm.student.output_std
        assert 0.9 < off.std() < 1.1 and off.abs().max() < 6
        before = {name: x.clone() for name, x in algorithm.student.state_dict().items()}
        loss = algorithm.update()["behavior"]
        expected = (torch.stack(means) - storage.privileged_actions).square().mean()
        assert loss == pytest.approx(float(expected), rel=1e-4)
    moved = {name for name, x in algorithm.student.state_dict().items() if not torch.equal(x, before[name])}
    assert moved == set(before) - {"distribution.std_param"}


@pytest.mark.parametrize("vision, gate", [("attention", True), ("attention", False), ("pooled", True), ("blind", True)])
def test_imitation_of_sequences_is_rsl_rl_s_step_by_step(vision: str, gate: bool) -> None:
    found = []
    for of in (Distillation, Imitation):
        robots = Robots()
        algorithm = distillation(robots, T, of, epochs=2, vision=vision, gate=gate)
        observed, losses = robots.observe(), []
        for _ in range(3):
            observed = roll_out(algorithm, robots, observed)
            assert algorithm.storage.dones[:-1].sum() >= 3
            losses.append(algorithm.update()["behavior"])
        found.append((losses, algorithm.student.get_hidden_state(), algorithm.student.state_dict()))
    (theirs, their_state, their_weights), (ours, our_state, our_weights) = found
    assert ours == pytest.approx(theirs, rel=1e-4)
    for a, b in zip(their_state, our_state, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-4)
    for name, value in their_weights.items():
        assert torch.allclose(value, our_weights[name], atol=2e-4), name


def test_mini_batches_are_all_the_robots_of_a_rollout() -> None:
    """Where nothing is learnt, four of two robots have the loss and the memory of one of eight."""
    found = []
    for mini_batches in (1, 4):
        robots = Robots()
        algorithm = distillation(robots, T, Imitation, 2, rate=0.0, imitation={"mini_batches": mini_batches})
        observed, losses = robots.observe(), []
        for _ in range(2):
            observed = roll_out(algorithm, robots, observed)
            losses.append(algorithm.update()["behavior"])
        found.append((losses, algorithm.last_hidden_states[0]))
    (whole, state), (split, split_state) = found
    assert split == pytest.approx(whole, rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(state, split_state, strict=True))


def test_each_mini_batch_is_a_gradient_step() -> None:
    robots = Robots()
    algorithm = distillation(robots, T, Imitation, epochs=3, imitation={"mini_batches": 4})
    roll_out(algorithm, robots, robots.observe())
    algorithm.update()
    assert {int(state["step"]) for state in algorithm.optimizer.state.values()} == {12}


def test_the_teacher_hands_robots_over() -> None:
    robots = Robots()
    algorithm = distillation(robots, T, Imitation, imitation={"led_updates": 4})
    observed, shares = robots.observe(), []
    for _ in range(5):
        observed = roll_out(algorithm, robots, observed)
        storage = algorithm.storage
        led = (storage.actions == storage.privileged_actions).all(2)
        assert (led == led[0]).all()
        shares.append(float(led[0].float().mean()))
        algorithm.update()
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0], abs=1 / B) and shares[0] == 1 and shares[-1] == 0
    went_on = distillation(robots, T, Imitation, imitation={"led_updates": 4})
    went_on.load(algorithm.save(), None, strict=True)
    assert isinstance(went_on, Imitation) and not went_on.led(B).any()


@pytest.mark.parametrize("length, mini_batches, message", [
    (T // 2, 1, "gradient_length is 12, but a rollout has 24 steps"), (T, B + 1, "8 robots are fewer than 9 mini-"),
])  # fmt: skip
def test_imitation_needs_a_whole_rollout_of_enough_robots(length: int, mini_batches: int, message: str) -> None:
    robots = Robots()
    algorithm = distillation(robots, length, Imitation, imitation={"mini_batches": mini_batches})
    roll_out(algorithm, robots, robots.observe())
    with pytest.raises(ValueError, match=message):
        algorithm.update()


def test_distillation_learns_what_only_the_image_tells() -> None:
    """A teacher that acts by the brightness of the image: eyes open, the student's error falls below its variance."""
    robots = Robots()
    algorithm = distillation(robots)
    observed = robots.observe()
    losses = []
    for _ in range(12):
        observed = roll_out(algorithm, robots, observed)
        # Bright at the left or the right: which one is told by the image alone.
        side = torch.sign(algorithm.storage.observations["depth"][:, :, 0, 0])
        algorithm.storage.observations["depth"][..., :32] = 0.4 * side[..., None, None]
        algorithm.storage.privileged_actions[:] = 0.5 * side[..., None]
        losses.append(algorithm.update()["behavior"])
    assert losses[-1] < 0.5 * losses[0]


def test_gradients_do_not_cross_the_ends_of_episodes() -> None:
    robots = Robots()
    model = distillation(robots).student
    first, second = robots.observe(), robots.observe()
    for each in (first, second):
        each["policy"].requires_grad_(True)
    model(first)
    model.reset(torch.tensor([1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.uint8))
    [gradient] = torch.autograd.grad(model(second).sum(), first["policy"], retain_graph=True)
    assert (gradient.abs().amax(1) > 0).tolist() == [False, True, True, True, False, True, True, True]
    model.detach_hidden_state()
    [gradient] = torch.autograd.grad(model(robots.observe()).sum(), second["policy"], allow_unused=True)
    assert gradient is None


def test_first_image_of_an_episode_is_looked_at_even_if_it_is_not_called_fresh() -> None:
    robots = Robots()
    model = distillation(robots).student
    first, second = robots.observe(), robots.observe()
    second["valid"], second["fresh"] = torch.ones(B, 6, 8), torch.zeros(B, 1)
    second["depth"] = torch.rand(B, 48, 64) - 0.5
    answers = []
    for fresh in (0.0, 1.0):
        model.reset()
        model(first)
        model.reset(torch.arange(B) < 3)
        second["fresh"][:3] = fresh
        answers.append(model(second))
    assert torch.equal(answers[0], answers[1])
    second["fresh"][3:] = 1.0
    model.reset()
    model(first)
    changed = (model(second) - answers[0]).abs().amax(1) > 0
    assert changed[3:].all()


def test_rows_model_is_rsl_rl_s() -> None:
    robots = Robots()
    observed = robots.observe()
    torch.manual_seed(1)
    ours = RowsModel(observed, {"critic": ["policy", "heights"]}, "critic", 1, [16])
    torch.manual_seed(1)
    theirs = MLPModel(observed, {"critic": ["policy", "heights"]}, "critic", 1, [16])
    assert torch.equal(ours(observed), theirs(observed))


@pytest.mark.parametrize("vision, gate", [("attention", True), ("pooled", False), ("blind", True)])
def test_student_is_the_mean_of_the_trained_actor(vision: str, gate: bool) -> None:
    robots = Robots()
    algorithm = ppo(robots, vision=vision, gate=gate, hidden_dims=[32, 16], memory=48)
    roll_out(algorithm, robots, robots.observe())
    algorithm.update()
    actor = algorithm.get_policy()
    student = StairStudent.of_training(actor.state_dict())
    assert student.params == {"vision": vision, "gate": gate, "hidden": 48, "head": [32, 16]}
    assert student.std.std() > 0 and not student.mean.requires_grad
    actor.reset()
    state = student.initial_state(B)
    with torch.inference_mode():
        for t in range(12):
            seen = robots.observe()
            fresh = seen["fresh"] if t else torch.ones(B, 1)
            action, state = student.step(state, seen["policy"], seen["depth"], seen["valid"], fresh)
            assert torch.allclose(action, actor(seen), atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "shapes", "sentence"),
    [
        (["policy", "depth"], {}, "groups are policy, depth, valid, fresh, but 'actor' has policy, depth"),
        (list(GROUPS), {"depth": (24, 32)}, "Observation 'depth' is"),
        (list(GROUPS), {"fresh": ()}, "Observation 'fresh' is"),
    ],
)
def test_other_groups_are_refused(groups: list[str], shapes: dict[str, tuple[int, ...]], sentence: str) -> None:
    observed = Robots().observe()
    for name, shape in shapes.items():
        observed[name] = torch.zeros(B, *shape)
    with pytest.raises(ValueError, match=sentence):
        StudentModel(observed, {"actor": groups}, "actor", J)
