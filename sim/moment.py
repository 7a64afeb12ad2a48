"""What a reward looks at: a robot's state after a control step, for all environments at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Flags = NDArray[np.bool_]


@dataclass
class Moment:
    """Arrays [E, ...]; SI units. Velocities and gravity are in the base frame, places in the world.

    ``height`` is the base's above the ground beneath it. ``foot_speed`` is each foot's mean velocity over the last
    control step, ``air_time`` how long each foot was off the ground (at a touchdown: until then), ``landed`` whether it
    touched down in this step, ``last_swing`` each foot's time in the air before its last touchdown (s).
    ``edge_distance`` is inf where there is no edge, ``in_gap`` says that a foot is where only a gap is,
    ``pitch_to_tread`` is the slope from the base to the second next tread, nan where there is none near.
    ``level_velocity`` [E, 2] is the base's in the horizontal plane, x its heading; ``waypoint`` [E, 2] the unit vector
    in the same frame to where the robot should go, nan for robots that follow their commands alone. ``foot_push`` [E,
    feet, 3] is the contact force on each foot along the world's axes, up to its sign. ``target_excess`` [E, J] is how
    far joint targets were asked to move beyond what the joints' top speed allows in a control step, rad.
    """

    linear_velocity: Array
    angular_velocity: Array
    gravity: Array
    pitch: Array
    height: Array
    command: Array
    joint_position: Array
    joint_velocity: Array
    joint_acceleration: Array
    torque: Array
    action: Array
    last_action: Array
    earlier_action: Array
    foot_height: Array
    foot_speed: Array
    foot_contact: Flags
    air_time: Array
    landed: Flags
    last_swing: Array
    body_force: Array
    edge_distance: Array
    in_gap: Flags
    pitch_to_tread: Array
    level_velocity: Array
    waypoint: Array
    foot_push: Array
    target_excess: Array

    @property
    def moving(self) -> Flags:
        """[E] whether the robot is asked to move."""
        return (self.command != 0).any(axis=-1)
