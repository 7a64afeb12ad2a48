"""A policy without eyes: normaliser and a perceptron, from rows of observations to actions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class BlindPolicy(nn.Module):
    """``a = W_n elu(... elu(W_1 (o - mean) / (std + 0.01)))``: observations [B, F] to actions [B, J].

    ``mean`` and ``std`` are buffers and thus part of every checkpoint. The layers and the constant in the normaliser
    are those of rsl_rl's MLPModel, from whose training the weights come (:meth:`of_training`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], actions))

    def forward(self, observation: Tensor) -> Tensor:
        """Actions [B, J]."""
        return self.layers((observation - self.mean) / (self.std + 0.01))

    @classmethod
    def of_training(cls, state: Mapping[str, Tensor]) -> BlindPolicy:
        """The policy in the state of a trained rsl_rl actor: the mean of its distribution."""
        weights = {name.removeprefix("mlp."): value for name, value in state.items() if name.startswith("mlp.")}
        shapes = [weights[name].shape for name in weights if name.endswith(".weight")]
        policy = cls(shapes[0][1], shapes[-1][0], [shape[0] for shape in shapes[:-1]])
        policy.layers.load_state_dict(weights)
        policy.mean.copy_(state["obs_normalizer._mean"][0])
        policy.std.copy_(state["obs_normalizer._std"][0])
        return policy
