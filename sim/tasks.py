"""The tasks by name: which world, ground, commands and rewards make one."""

from __future__ import annotations

import numpy as np

from ros_attn.sim.climb import Climb
from ros_attn.sim.climbing_rewards import climbing
from ros_attn.sim.curriculum import CommandCurriculum
from ros_attn.sim.depth_faults import DepthFaults
from ros_attn.sim.depth_sense import DepthSense, Preprocessing, camera_of
from ros_attn.sim.legged_world import LeggedWorld
from ros_attn.sim.locomotion_task import LocomotionTask, ObservationMapping, SensorNoise, Start
from ros_attn.sim.randomisation import CLIMBING, NOTHING, WALKING, Randomisation
from ros_attn.sim.rewards import walking
from ros_attn.sim.robot import Robot
from ros_attn.sim.sense import HeightScan, Sense
from ros_attn.sim.stairs import EPISODE_TREADS, EPISODE_WIDTH_M, episode_depths, episode_stairs
from ros_attn.sim.stairs_levels import BOXES, StairsLevels
from ros_attn.sim.terrain import flat
from ros_attn.sim.terrain_curriculum import TerrainCurriculum
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


WALKERS_SHARE = 0.1
"""Of the robots in training to climb, those that follow velocity commands on level ground."""
PATIENCE_S = 3.0
"""Robots in training that come no farther for so long begin anew, as after a fall: those whose legs hang in a staircase
would wait there for most of their episodes, and be none the worse for it."""


def climb(
    robot: Robot,
    mapping: ObservationMapping,
    environments: int,
    *,
    seed: int = 0,
    threads: int = 0,
    training: bool = False,
    standing: float = 0.25,
    varied: bool = True,
    depth: Preprocessing | None = None,
    depth_noise: float = 1.0,
    depth_stride: int = 1,
) -> LocomotionTask:
    """Hollow stairs and other ground of all levels, forward at =U(0.3, 0.8) m/s, 20 s an episode.

    Groups beside those of walking: ``heights`` and ``waypoint``, privileged; with ``depth``, which prepares images,
    also ``depth``, ``valid`` and ``fresh``. ``training``: levels begin low and follow each robot's success, one robot
    in ten walks on level ground, a share ``standing`` of the commands is to stand, episodes of robots that are stuck
    end, and depth cameras fail now and then (:class:`.DepthFaults`); else each episode is on a random level.
    ``varied``: as in :func:`walk`, by :data:`CLIMBING`.
    """
    walkers = round(WALKERS_SHARE * environments) if training else 0
    curriculum = TerrainCurriculum(environments, walkers) if training else None
    levels = StairsLevels()
    goal = Climb(environments, standing=standing, patience_s=PATIENCE_S) if training else Climb(environments)
    start = Start(place=0.1, yaw=float(np.deg2rad(20.0)), speed=0.1) if varied else Start(yaw=0.0, speed=0.0)
    world = LeggedWorld(robot, environments, boxes=BOXES, threads=threads)
    task = LocomotionTask(
        world, mapping, climbing(robot), levels if training else levels.any, CommandRange(),
        Randomisation(world, CLIMBING if varied else NOTHING), noise=SensorNoise() if varied else None, start=start,
        curriculum=curriculum, goal=goal, seed=seed,
        senses=_senses(robot, goal, environments, depth, depth_noise, depth_stride, failing=training),
    )  # fmt: skip
    if curriculum is not None:
        task.level[:] = curriculum.levels
    return task


def climb_episodes(
    robot: Robot,
    mapping: ObservationMapping,
    environments: int,
    slope_deg: float,
    *,
    width_m: float = EPISODE_WIDTH_M,
    seed: int = 0,
    threads: int = 0,
    varied: bool = True,
    depth: Preprocessing | None = None,
    depth_noise: float = 1.0,
) -> LocomotionTask:
    """The hollow stairs of the evaluation at one slope, 15 to 55 degrees; see :mod:`ros_attn.sim.stairs_trial`.

    12 treads of ``width_m``, start 1 m before the first one within 0.1 m and 10 degrees, 0.5 m/s forward, 30 s, no
    pushes. Raises ``ValueError`` for other slopes.
    """
    episode_depths(slope_deg)  # refuses what is not defined, before anything is built
    goal = Climb(environments, speeds=(0.5, 0.5))
    start = Start(place=0.1, yaw=float(np.deg2rad(10.0)), speed=0.0) if varied else Start(yaw=0.0, speed=0.0)
    world = LeggedWorld(robot, environments, boxes=EPISODE_TREADS + 1, threads=threads)
    randomisation = Randomisation(world, CLIMBING if varied else NOTHING)
    randomisation.terms.pop("push", None)
    return LocomotionTask(
        world, mapping, climbing(robot), lambda rng, level: episode_stairs(rng, slope_deg, width_m), CommandRange(),
        randomisation, noise=SensorNoise() if varied else None, start=start,
        goal=goal, senses=_senses(robot, goal, environments, depth, depth_noise, 1), episode_s=30.0, seed=seed,
    )  # fmt: skip


def _senses(
    robot: Robot, goal: Climb, environments: int, depth: Preprocessing | None, noise: float, stride: int,
    failing: bool = False,
) -> list[Sense]:  # fmt: skip
    senses: list[Sense] = [HeightScan(), goal]
    if depth is not None:
        camera = DepthSense(camera_of(robot), depth, environments, noise=noise, stride=stride)
        senses += [camera, DepthFaults(camera, environments)] if failing else [camera]
    return senses
