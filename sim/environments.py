"""Gymnasium environments of legged locomotion.

``gymnasium.make("ros_attn.sim.environments:RosAttn-Walk-Go2-v0")`` is one robot; ``gymnasium.make_vec`` of the same id
with ``num_envs=512, vectorization_mode="vector_entry_point"`` is many of them in MuJoCo's batch, without a process
each. Observations are dictionaries of groups as in :mod:`ros_attn.sim.locomotion_task`, actions are offsets of joint
targets from the default pose, in units of the mapping's scale. Ended robots of a vector start anew in the same step;
``info["final_obs"]`` has what they last saw, ``info["succeeded"]`` says who reached the goal.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.locomotion_task import LocomotionTask, ObservationMapping, Observations
from ros_attn.sim.robot import Robot
from ros_attn.sim.robot_file import load_robot

ROBOTS = {"Go2": GO2_LIKE}
TASKS: Mapping[str, Callable[..., LocomotionTask]] = {"Walk": tasks.walk, "Climb": tasks.climb}
MAPPING = "ros_attn.control.locomotion"
"""The module that lays out observations and actions, for the robot's own node too: found by name, as the simulation
knows nothing of controllers."""
LARGEST_ACTION = 10.0


def default_mapping(robot: Robot) -> ObservationMapping:
    """The mapping that the robot's node uses."""
    return importlib.import_module(MAPPING).LocomotionMapping.of(robot.contract())


def _space(observations: Observations) -> gymnasium.spaces.Dict:
    boxes: dict[str, gymnasium.spaces.Space[Any]] = {
        name: gymnasium.spaces.Box(-np.inf, np.inf, rows.shape[1:]) for name, rows in observations.items()
    }
    return gymnasium.spaces.Dict(boxes)


class LeggedVectorEnv(VectorEnv):
    """Many robots. ``options`` are those of the task in :mod:`ros_attn.sim.tasks`.

    ``robot_file``: MJCF of another robot than the named one, see :mod:`ros_attn.sim.robot_file`.
    """

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self, task: str, robot: str, num_envs: int = 1, robot_file: Path | str | None = None, **options: Any
    ) -> None:
        body = ROBOTS[robot] if robot_file is None else load_robot(robot_file)
        self._make = lambda seed: TASKS[task](body, default_mapping(body), num_envs, seed=seed, **options)
        self.num_envs = num_envs
        self.task = self._make(0)
        self.single_observation_space = _space(self.task.reset())
        joints = len(self.task.world.robot.joints)
        self.single_action_space = gymnasium.spaces.Box(-LARGEST_ACTION, LARGEST_ACTION, (joints,))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """All robots start anew; the same ``seed`` gives the same robots and the same arrays."""
        if seed is not None:
            self.task.rng = np.random.default_rng(seed)
        return self.task.reset(), {}

    def step(
        self, actions: NDArray[np.floating[Any]]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One control step of 20 ms."""
        step = self.task.step(np.clip(np.asarray(actions, np.float64), -LARGEST_ACTION, LARGEST_ACTION))
        info: dict[str, Any] = {"terms": step.terms, "succeeded": step.succeeded}
        if len(step.ended):
            final = np.full(self.num_envs, None, dtype=object)
            for place, robot in enumerate(step.ended):
                final[robot] = {name: rows[place] for name, rows in step.final.items()}
            info |= {"final_obs": final, "_final_obs": step.terminated | step.truncated}
        return step.observations, step.reward, step.terminated, step.truncated, info


class LeggedEnv(gymnasium.Env):
    """One robot; see :class:`LeggedVectorEnv`."""

    metadata: ClassVar = {"render_modes": []}

    def __init__(self, task: str, robot: str, **options: Any) -> None:
        self._vector = LeggedVectorEnv(task, robot, 1, threads=1, **options)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """The robot starts anew."""
        super().reset(seed=seed)
        observations, info = self._vector.reset(seed=seed)
        return {name: rows[0] for name, rows in observations.items()}, info

    def step(self, action: NDArray[np.floating[Any]]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control step of 20 ms; after the last one of an episode what the robot saw then."""
        seen, reward, terminated, truncated, info = self._vector.step(np.asarray(action)[None])
        final = info.pop("final_obs", (None,))[0]
        info.pop("_final_obs", None)
        observations = final or {name: rows[0] for name, rows in seen.items()}
        info["succeeded"] = bool(info["succeeded"][0])
        info["terms"] = {name: float(values[0]) for name, values in info["terms"].items()}
        return observations, float(reward[0]), bool(terminated[0]), bool(truncated[0]), info


for _task in TASKS:
    for _robot in ROBOTS:
        gymnasium.register(
            f"RosAttn-{_task}-{_robot}-v0",
            entry_point=f"{__name__}:LeggedEnv",
            vector_entry_point=f"{__name__}:LeggedVectorEnv",
            kwargs={"task": _task, "robot": _robot},
        )
