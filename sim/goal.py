"""What an episode is for, beside following commands: where robots are to go, and when they have arrived or are lost."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask

Array = NDArray[Any]
Ids = NDArray[np.intp]


class End(IntEnum):
    """Why an episode ended with a step; ``NOT``: it goes on."""

    NOT = 0
    TIME = 1
    FELL = 2
    TRAPPED = 3
    OFF = 4
    SUCCEEDED = 5
    STUCK = 6


FAILURES = (End.FELL, End.TRAPPED, End.OFF, End.STUCK)


class Goal(Protocol):
    """What a :class:`LocomotionTask` asks once a step, of all robots."""

    def command(self, task: LocomotionTask, ids: Ids, drawn: Array) -> Array:
        """The commands [n, 3] of robots ``ids``, for which ``drawn`` [n, 3] came from the task's ranges."""
        ...

    def direction(self, task: LocomotionTask) -> Array:
        """Unit vectors [E, 2] in the world's plane from the base to where it should go; nan for robots without."""
        ...

    def judge(self, task: LocomotionTask) -> NDArray[np.int8]:
        """[E] :class:`End`, falls and time apart, which the task sees to itself."""
        ...
