"""Where a training begins that does not begin with nothing."""

from __future__ import annotations

import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict
from torch import nn

from ros_attn.policies.blind_policy import BlindPolicy

LEAST_SPREAD = 0.15
COUNTED = 1_000_000
"""Observations that the normaliser counts as seen: those of the new task change it within as many steps."""


def begin_as(actor: MLPModel, policy: BlindPolicy, seen: TensorDict, deviation: float) -> None:
    """Let ``actor`` act as ``policy`` does, on observations of which the first are those of the policy.

    Each layer of ``actor`` must be at least as wide as the policy's; units beyond begin as they are and change nothing
    yet, but learn. The other observations, of which ``seen`` [B, ...] are examples, are normalised by the examples'
    mean and spread, which is at least ``LEAST_SPREAD``: on level ground heights hardly differ. ``deviation``: of the
    actions while exploring.

    Raises ValueError where the policy has other depth, more inputs or wider layers than the actor.
    """
    layers = [layer for layer in actor.mlp if isinstance(layer, nn.Linear)]
    smaller = [layer for layer in policy.layers if isinstance(layer, nn.Linear)]
    sizes, needed = ([(each.in_features, each.out_features) for each in some] for some in (layers, smaller))
    if len(sizes) != len(needed) or any(a < c or b < d for (a, b), (c, d) in zip(sizes, needed, strict=True)):
        raise ValueError(f"layers {needed} do not fit into layers {sizes}")
    with torch.no_grad():
        for layer, small in zip(layers, smaller, strict=True):
            # Of units that the policy has: its weights, and none from what it does not know.
            layer.weight[: small.out_features] = 0.0
            layer.weight[: small.out_features, : small.in_features] = small.weight
            layer.bias[: small.out_features] = small.bias
        normaliser, inputs = actor.obs_normalizer, len(policy.mean)
        rows = torch.cat([seen[group] for group in actor.obs_groups], dim=-1)
        mean, spread = rows.mean(0), rows.std(0).clamp_min(LEAST_SPREAD)
        mean[:inputs], spread[:inputs] = policy.mean, policy.std
        normaliser._mean.copy_(mean[None])  # type: ignore[operator, union-attr]
        normaliser._var.copy_(spread.square()[None])  # type: ignore[operator, union-attr]
        normaliser._std.copy_(spread[None])  # type: ignore[operator, union-attr]
        normaliser.count.fill_(COUNTED)  # type: ignore[operator, union-attr]
        actor.distribution.std_param.fill_(deviation)  # type: ignore[operator, union-attr]
