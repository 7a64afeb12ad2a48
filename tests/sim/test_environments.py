"""The Gymnasium ids, as Gymnasium's own checker and a user meet them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ros_attn.sim.environments import LeggedVectorEnv  # registers the ids

WALK = "RosAttn-Walk-Go2-v0"
CLIMB = "RosAttn-Climb-Go2-v0"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [WALK, CLIMB])
def test_gymnasiums_checker_finds_nothing(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped, skip_render_check=True)


def test_vector_of_many_in_one_process() -> None:
    vector = gymnasium.make_vec(WALK, num_envs=6, vectorization_mode="vector_entry_point")
    assert vector.single_action_space.shape == (12,)
    seen, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(seen)
    ended = 0
    for _ in range(150):
        seen, reward, terminated, truncated, info = vector.step(np.full((6, 12), 6.0))
        assert reward.shape == (6,) and (reward >= 0).all()
        for index in np.flatnonzero(terminated | truncated):
            ended += 1
            assert info["_final_obs"][index]
            assert not np.array_equal(info["final_obs"][index]["policy"], seen["policy"][index])
    assert ended > 0


def test_single_robot_gives_what_it_last_saw() -> None:
    env = gymnasium.make(WALK, varied=False)
    env.reset(seed=0)
    for _ in range(200):
        seen, _, terminated, _, _ = env.step(np.full(12, 8.0, np.float32))
        if terminated:
            break
    assert terminated
    assert np.abs(seen["policy"][33:45]).max() == 8.0  # the action, not the zeros of a fresh start


def test_reaching_the_landing_is_said() -> None:
    vector = gymnasium.make_vec(CLIMB, num_envs=2, vectorization_mode="vector_entry_point")
    assert isinstance(vector, LeggedVectorEnv)
    seen, _ = vector.reset(seed=1)
    assert set(seen) == {"policy", "privileged", "heights", "waypoint"}
    task = vector.task
    landing = task.terrain.landing[1]
    task.world.qpos[1, :3] = landing[0] + 0.6, 0.0, landing[2] + 0.01 + 0.287
    *_, terminated, truncated, info = vector.step(np.zeros((2, 12)))
    assert info["succeeded"].tolist() == [False, True]
    assert truncated.tolist() == [False, True] and not terminated.any()
