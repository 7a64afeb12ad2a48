"""The tasks by name: which world, ground, commands and rewards make one."""

from __future__ import annotations

from ros_attn.sim.curriculum import CommandCurriculum
from ros_attn.sim.legged_world import LeggedWorld
from ros_attn.sim.locomotion_task import LocomotionTask, ObservationMapping, SensorNoise, Start
from ros_attn.sim.randomisation import NOTHING, WALKING, Randomisation
from ros_attn.sim.rewards import walking
from ros_attn.sim.robot import Robot
from ros_attn.sim.terrain import flat
from ros_attn.sim.velocity_command import CommandRange


def walk(
    robot: Robot,
    mapping: ObservationMapping,
    environments: int,
    *,
    seed: int = 0,
    threads: int = 0,
    training: bool = False,
    varied: bool = True,
) -> LocomotionTask:
    """Level ground, velocity commands that change every 4 s, 20 s an episode.

    ``training``: commands begin small and grow as they are followed. ``varied``: robots, sensors and starts differ as
    :data:`WALKING` says; else every robot is the nominal one and sees exactly.
    """
    world, level_ground = LeggedWorld(robot, environments, boxes=0, threads=threads), flat()
    return LocomotionTask(
        world, mapping, walking(robot), lambda rng, level: level_ground, CommandRange(),
        Randomisation(world, WALKING if varied else NOTHING), noise=SensorNoise() if varied else None,
        start=Start() if varied else Start(yaw=0.0, speed=0.0),
        curriculum=CommandCurriculum() if training else None, seed=seed,
    )  # fmt: skip
