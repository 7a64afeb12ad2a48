"""A :class:`LocomotionTask` as rsl_rl's algorithms want it: torch tensors, one TensorDict of observation groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from ros_attn.sim.locomotion_task import LocomotionTask, Observations


class TaskEnvironment(VecEnv):
    """Observations, rewards and ends of ``task`` as float32 tensors on ``device``.

    ``extras`` of a step: ``time_outs`` [E], and ``terms``, the mean of each weighted reward over the environments.
    """

    def __init__(self, task: LocomotionTask, device: torch.device) -> None:
        self.task, self.device, self.cfg = task, device, {}
        self.num_envs = task.world.environments
        self.num_actions = len(task.world.robot.joints)
        self.max_episode_length = task.episode_steps
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)
        self._observations = self._tensors(task.reset())

    def _tensors(self, observations: Observations) -> TensorDict:
        groups = {name: torch.from_numpy(rows).to(self.device) for name, rows in observations.items()}
        return TensorDict(groups, batch_size=[self.num_envs], device=self.device)

    def get_observations(self) -> TensorDict:
        """Those of the last step."""
        return self._observations

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """One control step of all environments; those that ended have begun anew in what is returned."""
        step = self.task.step(actions.detach().cpu().numpy().astype(np.float64))
        self._observations = self._tensors(step.observations)
        self.episode_length_buf = torch.from_numpy(self.task.steps)
        reward = torch.from_numpy(step.reward).float().to(self.device)
        done = torch.from_numpy(step.terminated | step.truncated).to(self.device)
        extras = {
            "time_outs": torch.from_numpy(step.truncated).float().to(self.device),
            "terms": {name: float(values.mean()) for name, values in step.terms.items()},
            "fallen": float(step.terminated.sum()), "ended": float(done.sum()),
        }  # fmt: skip
        return self._observations, reward, done, extras
