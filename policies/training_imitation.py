"""rsl_rl's distillation of a student with memory, with updates that go through a rollout as sequences."""

from __future__ import annotations

from typing import cast

import torch
from rsl_rl.algorithms import Distillation
from torch import nn

from ros_attn.policies.training_student import StudentModel


class Imitation(Distillation):
    """rsl_rl's Distillation for a :class:`StudentModel` and a teacher without memory; one gradient a rollout and epoch.

    rsl_rl goes through a rollout step by step. Here all its images are encoded, and all its steps ask them, at once;
    only the memory goes from step to step. Losses and gradients are the same, an update takes two thirds of the time.
    Raises ValueError where ``gradient_length`` is not a whole rollout.
    """

    def update(self) -> dict[str, float]:
        """Learn from the rollout; the mean loss, over the epochs."""
        self.num_updates += 1
        storage, student = self.storage, cast(StudentModel, self.student)
        steps = storage.num_transitions_per_env
        if self.gradient_length != steps:
            raise ValueError(
                f"gradient_length is {self.gradient_length}, but a rollout has {steps} steps; make it that."
            )
        dones = storage.dones[..., 0] != 0
        starts = torch.zeros_like(dones)
        starts[1:] = dones[:-1]
        begun, losses = self.last_hidden_states[0], 0.0
        last = begun
        for _ in range(self.num_learning_epochs):
            actions, last = student.follow(storage.observations, starts, begun)
            loss = self.loss_fn(actions, storage.privileged_actions)
            losses += loss.item()
            self.optimizer.zero_grad()
            (steps * loss).backward()
            if self.is_multi_gpu:
                self.reduce_parameters()
            if self.max_grad_norm:
                nn.utils.clip_grad_norm_(student.parameters(), self.max_grad_norm)
            self.optimizer.step()
        assert last is not None
        kept = (~dones[-1]).to(last[0].dtype)[:, None]
        last = last[0].detach() * kept, last[1].detach() * kept
        self.last_hidden_states = last, None
        student.reset(hidden_state=last)
        student.update_normalization(storage.observations.flatten(0, 1))
        storage.clear()
        return {"behavior": losses / self.num_learning_epochs}
