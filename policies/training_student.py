"""The stair climber's student as rsl_rl's PPO and Distillation carry it."""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.models import MLPModel
from rsl_rl.modules import HiddenState
from rsl_rl.utils import unpad_trajectories
from tensordict import TensorDict
from torch import Tensor

from ros_attn.policies.spatial_lstm import State
from ros_attn.policies.stair_student import DEPTH_SHAPE, HEAD, VALID_SHAPE, PerceptiveMemory, StudentState

GROUPS = ("policy", "depth", "valid", "fresh")


class StudentModel(MLPModel):
    """:class:`PerceptiveMemory` before rsl_rl's perceptron; groups ``policy``, ``depth``, ``valid`` and ``fresh``.

    ``depth`` holds the last image at every step, ``fresh`` is 1 in the steps in which it is new; an episode that begins
    without an image has ``valid`` 0. A blind one needs ``policy`` alone. So nothing of an image is kept in
    the rollout: h and c are, and the first image of each stored trajectory is encoded anew. What is held of images goes
    with every change of the weights.

    Raises ValueError for groups that are absent or of another shape.
    """

    is_recurrent = True

    def __init__(
        self, obs: TensorDict, obs_groups: dict[str, list[str]], obs_set: str, output_dim: int,
        hidden_dims: tuple[int, ...] | list[int] = HEAD, distribution_cfg: dict[str, Any] | None = None,
        vision: str = "attention", gate: bool = True, memory: int = 256,
    ) -> None:  # fmt: skip
        self.latent_dim, self.blind = memory, vision == "blind"
        super().__init__(
            obs, obs_groups, obs_set, output_dim, hidden_dims, obs_normalization=True, distribution_cfg=distribution_cfg
        )
        self.core = PerceptiveMemory(self.obs_dim, vision, gate, memory)
        self._state: tuple[Tensor, Tensor] | None = None
        self._held: Tensor | None = None
        self._began: Tensor | None = None

    def get_latent(self, obs: TensorDict, masks: Tensor | None = None, hidden_state: HiddenState = None) -> Tensor:
        """[B, H] of a step of the rollout, or, with ``masks`` [T, N], [T, B, H] of its padded trajectories [T, N]."""
        proprio = self.obs_normalizer(obs["policy"])
        if masks is not None:
            assert isinstance(hidden_state, tuple)
            # The weights are about to change.
            self._held = None
            hidden, cell = hidden_state
            out, _ = self.core((hidden[0], cell[0]), proprio, *self._images(obs), steps=masks)
            return unpad_trajectories(out, masks)
        hidden, cell = self._state or self.core.memory.initial_state(len(proprio))
        depth, valid, fresh = self._images(obs)
        if self._held is None:
            fresh = torch.ones_like(fresh)
        elif self._began is not None:
            fresh = torch.maximum(fresh, self._began.to(fresh.dtype))
        held = self._held if self._held is not None else proprio.new_empty(len(proprio), *self.core.encoder.held)
        self._began = None
        out, state = self.core.step(StudentState(hidden, cell, held), proprio, depth, valid, fresh)
        self._state, self._held = (state.hidden, state.cell), state.held
        return out

    def follow(self, obs: TensorDict, starts: Tensor, state: State) -> tuple[Tensor, State]:
        """Mean actions [T, B, J] of whole rollouts [T, B], and the memory's last state, with all their gradients.

        ``starts`` [T, B] bool marks the first steps of episodes; what came before is forgotten there.
        """
        depth, valid, fresh = self._images(obs)
        fresh = torch.maximum(fresh, starts[..., None].to(fresh.dtype))
        proprio = self.obs_normalizer(obs["policy"])
        latent, last = self.core(state, proprio, depth, valid, fresh, starts=starts)
        actions = self.mlp(latent)
        if self.distribution is not None:
            actions = self.distribution.deterministic_output(actions)
        return actions, last

    def _images(self, obs: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Depth, valid and fresh; of a blind student, which looks at none, nothing of no size."""
        if not self.blind:
            return obs["depth"], obs["valid"], obs["fresh"]
        none = obs["policy"].new_zeros(*obs.batch_size, 1, 1)
        return none, none, none[..., 0]

    def reset(self, dones: Tensor | None = None, hidden_state: HiddenState = None) -> None:
        """Forget all, or what robots ``dones`` [B] remember; or go on from ``hidden_state``."""
        if dones is None:
            assert not isinstance(hidden_state, Tensor)
            self._state = None if hidden_state is None else (hidden_state[0][0], hidden_state[1][0])
            self._held = None
        elif self._state is not None:
            self._began = dones.view(-1, 1) != 0
            kept = (~self._began).to(self._state[0].dtype)
            self._state = self._state[0] * kept, self._state[1] * kept

    def get_hidden_state(self) -> HiddenState:
        """h and c [1, B, H]."""
        return None if self._state is None else (self._state[0][None], self._state[1][None])

    def detach_hidden_state(self, dones: Tensor | None = None) -> None:
        """Cut the gradient of all; that of robots ``dones`` was cut when they were reset."""
        if dones is None and self._state is not None:
            self._state = self._state[0].detach(), self._state[1].detach()
            self._held = None

    def update_normalization(self, obs: TensorDict) -> None:
        """Learn the mean and the spread of proprioception; images are scaled already."""
        self.obs_normalizer.update(obs["policy"])  # type: ignore[operator]

    def _get_obs_dim(self, obs: TensorDict, obs_groups: dict[str, list[str]], obs_set: str) -> tuple[list[str], int]:
        groups = obs_groups[obs_set]
        if self.blind and "policy" in groups:
            return groups, obs["policy"].shape[1]
        if sorted(groups) != sorted(GROUPS):
            raise ValueError(f"The student's groups are {', '.join(GROUPS)}, but {obs_set!r} has {', '.join(groups)}.")
        for name, shape in (("depth", DEPTH_SHAPE), ("valid", VALID_SHAPE), ("fresh", (1,))):
            if obs[name].shape[1:] != shape:
                raise ValueError(f"Observation {name!r} is [B, {shape}], but has shape {list(obs[name].shape)}.")
        return groups, obs["policy"].shape[1]

    def _get_latent_dim(self) -> int:
        return self.latent_dim


class RowsModel(MLPModel):
    """rsl_rl's MLPModel over some of the groups: images of the others are not unpadded along with them."""

    def forward(
        self, obs: TensorDict, masks: Tensor | None = None, hidden_state: HiddenState = None,
        stochastic_output: bool = False,
    ) -> Tensor:  # fmt: skip
        """See MLPModel."""
        return super().forward(obs.select(*self.obs_groups), masks, hidden_state, stochastic_output)
