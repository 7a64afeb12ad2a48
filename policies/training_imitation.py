"""rsl_rl's distillation of a student with memory, with updates that go through a rollout as sequences."""

from __future__ import annotations

from typing import Any, cast

import torch
from rsl_rl.algorithms import Distillation
from tensordict import TensorDict
from torch import Tensor, nn

from ros_attn.policies.spatial_lstm import State
from ros_attn.policies.training_student import StudentModel

GOLDEN = 0.618034
"""Shares of the robots that are taken by their multiples modulo 1 lie evenly among them."""


class Imitation(Distillation):
    """rsl_rl's Distillation for a :class:`StudentModel` and a teacher without memory, through whole rollouts.

    rsl_rl goes through a rollout step by step. Here all its images are encoded, and all its steps ask them, at once;
    only the memory goes from step to step. Losses and gradients are the same, an update takes two thirds of the time.
    ``mini_batches``: each epoch's robots are split at random into so many, with a gradient step each. ``led_updates``:
    the teacher's actions are carried out for a share of the robots that falls from 1 to 0 over so many updates, as in
    DAgger (arXiv 1011.0686), lest the first rollouts show nothing but a student's falls.

    Raises ValueError where ``gradient_length`` is not a whole rollout, or there are fewer robots than mini-batches.
    """

    def __init__(self, *args: Any, mini_batches: int = 1, led_updates: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mini_batches, self.led_updates = mini_batches, led_updates

    def led(self, robots: int) -> Tensor:
        """[robots] bool, those whose teacher acts for them in this rollout."""
        share = max(0.0, 1 - self.num_updates / self.led_updates) if self.led_updates else 0.0
        return (GOLDEN * torch.arange(robots, dtype=torch.float64) % 1 < share).to(self.device)

    def act(self, obs: TensorDict) -> Tensor:
        """The actions to carry out, of the teacher for robots that it leads."""
        actions = super().act(obs)
        assert self.transition.privileged_actions is not None
        led = self.led(len(actions))[:, None]
        self.transition.actions = torch.where(led, self.transition.privileged_actions, actions)
        return self.transition.actions

    def update(self) -> dict[str, float]:
        """Learn from the rollout; the mean loss, over epochs and mini-batches."""
        storage, student = self.storage, cast(StudentModel, self.student)
        steps, robots = storage.num_transitions_per_env, storage.num_envs
        if self.gradient_length != steps:
            raise ValueError(
                f"gradient_length is {self.gradient_length}, but a rollout has {steps} steps; make it that."
            )
        if robots < self.mini_batches:
            raise ValueError(f"{robots} robots are fewer than {self.mini_batches} mini-batches; have more robots.")
        self.num_updates += 1
        dones = storage.dones[..., 0] != 0
        starts = torch.zeros_like(dones)
        starts[1:] = dones[:-1]
        before = self.last_hidden_states[0]
        begun = (before[0][0], before[1][0]) if before else student.core.memory.initial_state(robots)
        last, losses = (torch.empty_like(begun[0]), torch.empty_like(begun[1])), 0.0
        for _ in range(self.num_learning_epochs):
            for ids in torch.randperm(robots, device=starts.device).chunk(self.mini_batches):
                loss, ended = self._learn(ids, starts[:, ids], (begun[0][ids], begun[1][ids]))
                losses += loss
                for state, of_ids in zip(last, ended, strict=True):
                    state[ids] = of_ids
        kept = (~dones[-1]).to(last[0].dtype)[:, None]
        held = (last[0] * kept)[None], (last[1] * kept)[None]
        self.last_hidden_states = held, None
        student.reset(hidden_state=held)
        student.update_normalization(storage.observations.flatten(0, 1))
        storage.clear()
        return {"behavior": losses / (self.num_learning_epochs * self.mini_batches)}

    def _learn(self, ids: Tensor, starts: Tensor, begun: State) -> tuple[float, State]:
        """A gradient step by robots ``ids``; their loss and their memory's last state."""
        storage, student = self.storage, cast(StudentModel, self.student)
        actions, (hidden, cell) = student.follow(storage.observations[:, ids], starts, begun)
        loss = self.loss_fn(actions, storage.privileged_actions[:, ids])
        self.optimizer.zero_grad()
        (len(starts) * loss).backward()
        if self.is_multi_gpu:
            self.reduce_parameters()
        if self.max_grad_norm:
            nn.utils.clip_grad_norm_(student.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return loss.item(), (hidden.detach(), cell.detach())

    def save(self) -> dict[str, Any]:
        """rsl_rl's, with the number of updates, by which the teacher leads."""
        return {**super().save(), "updates": self.num_updates}

    def load(self, loaded_dict: dict[str, Any], load_cfg: dict[str, Any] | None, strict: bool) -> bool:
        """See rsl_rl's."""
        self.num_updates = loaded_dict.get("updates", 0)
        return super().load(loaded_dict, load_cfg, strict)
