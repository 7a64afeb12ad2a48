"""A training that begins as a policy that there is already."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict

from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.policies.training_ppo import exploring, perceptron
from ros_attn.policies.training_start import LEAST_SPREAD, begin_as

INPUTS, OTHERS, ACTIONS = 7, 5, 3


def observations(seed: int, robots: int = 40) -> TensorDict:
    at = torch.Generator().manual_seed(seed)
    groups = {
        "policy": torch.randn(robots, INPUTS, generator=at),
        "heights": 2 + 0.5 * torch.randn(robots, OTHERS, generator=at) * (torch.arange(OTHERS) > 0),
    }
    return TensorDict(groups, batch_size=[robots])


def actor(hidden: tuple[int, ...]) -> Any:
    config = exploring(perceptron(hidden), 1.0)
    config.pop("class_name")
    return MLPModel(observations(0), {"actor": ["policy", "heights"]}, "actor", ACTIONS, **config)


def policy(hidden: tuple[int, ...]) -> BlindPolicy:
    torch.manual_seed(1)
    made = BlindPolicy(INPUTS, ACTIONS, hidden)
    made.mean.copy_(torch.randn(INPUTS))
    made.std.copy_(0.5 + torch.rand(INPUTS))
    return made


@pytest.mark.parametrize("hidden", [(16, 8), (24, 20)])
def test_it_acts_as_the_policy_whatever_else_is_seen(hidden: tuple[int, ...]) -> None:
    learning, known = actor(hidden), policy((16, 8))
    begin_as(learning, known, observations(2), 0.4)
    seen = observations(3)
    assert torch.allclose(learning(seen), known(seen["policy"]), atol=1e-6)
    assert learning.distribution.std_param.tolist() == pytest.approx([0.4] * ACTIONS)


def test_what_it_did_not_know_can_be_learnt() -> None:
    learning = actor((24, 20))
    begin_as(learning, policy((16, 8)), observations(2), 0.4)
    learning(observations(3)).square().sum().backward()
    first, second, last = (learning.mlp[index].weight.grad for index in (0, 2, 4))
    assert (first[:16, INPUTS:] != 0).any(dim=1).all(), "known units begin to look at heights"
    assert (second[:8, 16:] != 0).any() and (last[:, 8:] != 0).any(), "and at units beyond"


def test_other_observations_are_normalised_by_their_examples() -> None:
    learning, known, seen = actor((16, 8)), policy((16, 8)), observations(2, 4000)
    begin_as(learning, known, seen, 0.4)
    mean, spread = learning.obs_normalizer._mean[0], learning.obs_normalizer._std[0]
    assert torch.equal(mean[:INPUTS], known.mean) and torch.equal(spread[:INPUTS], known.std)
    assert mean[INPUTS:].tolist() == pytest.approx([2] * OTHERS, abs=0.05)
    assert spread[INPUTS:].tolist() == pytest.approx([LEAST_SPREAD] + [0.5] * (OTHERS - 1), rel=0.05)
    learning.update_normalization(TensorDict({k: v + 1000 for k, v in seen.items()}, batch_size=[4000]))
    assert learning.obs_normalizer._mean[0, 0].item() == pytest.approx(known.mean[0].item() + 4, abs=0.1)


@pytest.mark.parametrize("hidden", [(16,), (16, 8, 8), (12, 8), (16, 6)])
def test_what_does_not_fit_is_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        begin_as(actor(hidden), policy((16, 8)), observations(2), 0.4)
