"""States that are not finite: found at once, kept in a file, and not learnt from."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.legged_world import LeggedWorld

FOLDER = "ROS_ATTN_NON_FINITE"
"""Environment variable: where such states are written; unset, they are only counted as falls."""
_MOST_FILES = 10


def keep(world: LeggedWorld) -> NDArray[np.bool_]:
    """Which robots' states are not finite, [E]; the first of them go to ``$ROS_ATTN_NON_FINITE``, state and model.

    The state written is the one that the step left: its model is that simulation's own, with what was drawn for it.
    """
    state = np.concatenate([world.qpos, world.qvel], axis=-1)
    broken = np.logical_not(np.isfinite(state)).any(axis=-1)
    folder = os.environ.get(FOLDER)
    if folder and broken.any():
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        index = int(np.flatnonzero(broken)[0])
        number = len(list(path.glob("*.npz")))
        if number < _MOST_FILES:
            mujoco.mj_saveModel(world.batch.get_model(index), str(path / f"{number}.mjb"))
            np.savez(path / f"{number}.npz", state=world.batch.state[index], ctrl=world.batch.bind("ctrl")[index])
    return broken
