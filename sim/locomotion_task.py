"""Legged locomotion as a task: robots over terrain that follow velocity commands, all environments in step.

Each call of :meth:`LocomotionTask.step` is one control step (20 ms): actions become joint targets by the mapping that
the robot itself will use, no faster than its joints can move, as its safety gate has it; the world moves on, rewards
are taken, and robots that fell or ran out of time start anew in the same call. The observation is a dictionary of
groups [E, ...], float32::

    policy      what a robot without eyes senses, with noise; the last frames in one row
    privileged  what only the simulation knows: the same without noise, velocity, contacts, heights of base and feet

and those of the task's senses. Randomness comes from one generator: the same seed and actions give the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim import rotation
from ros_attn.sim.goal import FAILURES, End, Goal
from ros_attn.sim.ground import TerrainBatch
from ros_attn.sim.legged_world import CONTROL_HZ, LeggedWorld
from ros_attn.sim.moment import Moment
from ros_attn.sim.non_finite import keep
from ros_attn.sim.randomisation import Randomisation
from ros_attn.sim.rewards import Weighted
from ros_attn.sim.sense import Sense
from ros_attn.sim.terrain import Terrain
from ros_attn.sim.velocity_command import CommandRange

Array = NDArray[Any]
Ids = NDArray[np.intp]
Observations = dict[str, NDArray[np.float32]]
TerrainSource = Callable[[np.random.Generator, int], Terrain]
"""A terrain of a level, 0 the easiest."""

STEP_S = 1 / CONTROL_HZ
TOUCH_N = 1.0
UPRIGHT = np.cos(np.deg2rad(60.0))
PUSH_EVERY_S = 8.0
TREAD_NEAR_M = 0.8
"""The pitch towards the second next tread counts from this far."""


class History(Protocol):
    """Rows of the last observations."""

    def push(self, observation: NDArray[np.float32], ids: Ids) -> NDArray[np.float32]: ...

    def reset(self, ids: Ids) -> None: ...


class ObservationMapping(Protocol):
    """How observations and actions are laid out; ``ros_attn.control.locomotion`` has the one that robots use."""

    def observation(
        self, angular_velocity: Array, gravity: Array, command: Array, position: Array, velocity: Array, action: Array
    ) -> NDArray[np.float32]: ...

    def targets(self, action: Array) -> Array: ...

    def history(self, robots: int) -> History: ...


class Curriculum(Protocol):
    """What makes the task harder; its state goes on with a run, its figures are for progress."""

    def after(self, task: LocomotionTask, terms: Mapping[str, Array]) -> None:
        """Look at one step's weighted rewards; robots with ``task.end`` begin anew right after."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...

    def figures(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class SensorNoise:
    """Standard deviations: of each sample, and of what stays for an episode."""

    angular_velocity: float = 0.1
    angular_velocity_bias: float = 0.03
    gravity: float = 0.02
    gravity_bias: float = 0.01
    joint_position: float = 0.01
    joint_velocity: float = 0.5


@dataclass(frozen=True)
class Start:
    """Where a robot starts, beside the terrain's origin: ranges to both sides [m, rad, m/s]."""

    place: float = 0.0
    yaw: float = np.pi
    speed: float = 0.3


@dataclass
class Step:
    """What one control step gave.

    ``terms`` are the rewards by name, weighted, [E] each; ``final`` is what robots ``ended`` [n] last saw, while
    ``observations`` have the first of their new episodes. ``end`` [E] is the :class:`End` of each.
    """

    observations: Observations
    reward: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    terms: dict[str, Array]
    ended: Ids
    final: Observations
    end: NDArray[np.int8]

    @property
    def succeeded(self) -> NDArray[np.bool_]:
        """[E] robots that reached their goal in this step."""
        return self.end == End.SUCCEEDED


class LocomotionTask:
    """See the module. A step's rewards never sum to less than 0, lest falling early pay.

    ``terrain`` gives each robot that starts anew a ground of its level; without ``noise`` observations are exact.
    Reaching the ``goal`` ends an episode as running out of time does.
    """

    step_s = STEP_S

    def __init__(
        self,
        world: LeggedWorld,
        mapping: ObservationMapping,
        rewards: Mapping[str, Weighted],
        terrain: TerrainSource,
        commands: CommandRange,
        randomisation: Randomisation,
        *,
        noise: SensorNoise | None,
        start: Start,
        curriculum: Curriculum | None = None,
        goal: Goal | None = None,
        senses: Sequence[Sense] = (),
        episode_s: float = 20.0,
        seed: int = 0,
    ) -> None:
        self.world, self.mapping, self.rewards, self.randomisation = world, mapping, rewards, randomisation
        self.source, self.commands, self.start, self.curriculum = terrain, commands, start, curriculum
        self.goal, self.senses = goal, senses
        self.noise = noise or SensorNoise(0, 0, 0, 0, 0, 0)
        self.episode_steps = round(episode_s * CONTROL_HZ)
        self.rng = np.random.default_rng(seed)
        count, joints = world.environments, len(world.robot.joints)
        self.terrain = TerrainBatch(count, max(world.boxes, 1))
        self.history = mapping.history(count)
        self.level = np.zeros(count, np.intp)
        self.slope_deg = np.zeros(count)
        self.end = np.zeros(count, np.int8)
        self.command_share = 1.0
        self.strictness = 1.0
        """What penalties count; a curriculum begins with little, lest moving be dearer than standing still."""
        self.command = np.zeros((count, 3))
        self.steps = np.zeros(count, np.intp)
        self._action = np.zeros((3, count, joints))
        self._target, self._excess = np.zeros((2, count, joints))
        self._reach = world.robot.velocity_limits * STEP_S
        self._velocity = np.zeros((count, joints))
        self._feet = np.zeros((count, len(world.robot.feet), 3))
        self._contact = np.ones(self._feet.shape[:2], bool)
        self._air = np.zeros(self._feet.shape[:2])
        self._swing = np.zeros_like(self._air)
        self._bias = np.zeros((count, 6))
        self._encoder = np.zeros((count, joints))
        self._fatal = [index for index, name in enumerate(world.body_geoms) if name in world.base_geoms]

    # -- episodes ---------------------------------------------------------------------------------------

    def reset(self) -> Observations:
        """All robots start anew."""
        everyone = np.arange(self.world.environments)
        self._begin(everyone)
        return self._observe(self._moment(), everyone)

    def _begin(self, ids: Ids) -> None:
        world, rng, count = self.world, self.rng, len(ids)
        joints = len(world.robot.joints)
        terrains = [self.source(rng, int(level)) for level in self.level[ids]]
        self.terrain.set(ids, terrains)
        self.slope_deg[ids] = [terrain.slope_deg for terrain in terrains]
        if world.boxes:
            world.set_terrain(ids, self.terrain.boxes[ids], self.terrain.floor_z[ids])
        self.randomisation.draw(ids, rng)
        world.derive(ids)
        place = rng.uniform(-self.start.place, self.start.place, (count, 2))
        yaw = rng.uniform(-self.start.yaw, self.start.yaw, count)
        pose = world.robot.default_pose + self.randomisation.value("start pose", rng, (count, joints))
        ground = self._ground(ids, place)
        height = ground + world.robot.stand_height + 0.01
        qpos = np.concatenate([place, height[:, None], rotation.from_yaw(yaw), pose], axis=-1)
        qvel = np.zeros((count, 6 + joints))
        qvel[:, :2] = rng.uniform(-self.start.speed, self.start.speed, (count, 2))
        world.reset(ids, qpos, qvel, pose)
        self._ask(ids)
        self.steps[ids] = 0
        self._action[:, ids], self._target[ids] = 0.0, pose
        self._velocity[ids] = world.joint_velocity[ids]
        self._feet[ids] = world.foot_position[ids]
        self._contact[ids], self._air[ids], self._swing[ids] = True, 0.0, 0.0
        spread = (self.noise.angular_velocity_bias,) * 3 + (self.noise.gravity_bias,) * 3
        self._bias[ids] = rng.normal(size=(count, 6)) * spread
        self._encoder[ids] = self.randomisation.value("encoder offset", rng, (count, joints))
        self.history.reset(ids)
        for sense in self.senses:
            sense.begin(self, ids)

    def _ask(self, ids: Ids) -> None:
        """New commands."""
        drawn = self.commands.draw(self.rng, len(ids), self.command_share)
        self.command[ids] = drawn if self.goal is None else self.goal.command(self, ids, drawn)

    def _ground(self, ids: Ids, place: Array) -> Array:
        """Height of the ground under ``place`` [n, 2] in environments ``ids``."""
        everywhere = np.zeros((self.world.environments, 1, 2))
        everywhere[ids, 0] = place
        return self.terrain.height(everywhere)[ids, 0].astype(np.float64)

    def step(self, action: Array) -> Step:
        """One control step of all robots; ``action`` [E, J]."""
        self._action[1:] = self._action[:-1].copy()
        self._action[0] = action
        wanted, before = self.mapping.targets(action), self._target
        self._target = np.clip(wanted, before - self._reach, before + self._reach)
        self._excess = np.abs(wanted - self._target)
        self.world.step(self._target)
        self.steps += 1
        broken = keep(self.world)
        moment = self._moment()
        terms = {name: self._counts(each) * each.reward(moment) for name, each in self.rewards.items()}
        for values in terms.values():
            values[broken] = 0.0
        reward = np.maximum(np.sum(list(terms.values()), axis=0), 0.0)
        self.end = end = self._judge(self._fallen(moment) | broken)
        terminated = np.isin(end, FAILURES)
        truncated = (end != End.NOT) & ~terminated
        if self.curriculum is not None:
            self.curriculum.after(self, terms)
        self._disturb()
        for sense in self.senses:
            sense.step(self)
        everyone = np.arange(self.world.environments)
        observations = self._observe(moment, everyone)
        ended = np.flatnonzero(terminated | truncated)
        final = {name: rows[ended] for name, rows in observations.items()}
        if len(ended):
            self._begin(ended)
            self._begun(ended, moment)
            for name, rows in self._observe(moment, ended).items():
                observations[name][ended] = rows
        return Step(observations, reward, terminated, truncated, terms, ended, final, end)

    def _counts(self, each: Weighted) -> float:
        """What a reward counts in this step."""
        return each.weight * STEP_S * (self.strictness if each.weight < 0 and each.lenient else 1.0)

    def _fallen(self, m: Moment) -> NDArray[np.bool_]:
        touched = (m.body_force[:, self._fatal] > TOUCH_N).any(axis=-1)
        return touched | (m.gravity[:, 2] > -UPRIGHT)

    def _judge(self, fallen: NDArray[np.bool_]) -> NDArray[np.int8]:
        """[E] :class:`End`; a fall comes before anything else, time last."""
        end = np.zeros(len(fallen), np.int8) if self.goal is None else self.goal.judge(self)
        end[fallen] = End.FELL
        end[(end == End.NOT) & (self.steps >= self.episode_steps)] = End.TIME
        return end

    def _disturb(self) -> None:
        """New commands and pushes, each robot in its own time."""
        every = round(self.commands.every_s * CONTROL_HZ)
        due = np.flatnonzero(self.steps % every == 0)
        if len(due):
            self._ask(due)
        due = np.flatnonzero(self.steps % round(PUSH_EVERY_S * CONTROL_HZ) == 0)
        if len(due):
            angle = self.rng.uniform(0, 2 * np.pi, len(due))
            speed = self.randomisation.value("push", self.rng, (len(due),))
            self.world.qvel[due, :2] += speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    # -- what is seen -----------------------------------------------------------------------------------

    def _moment(self) -> Moment:
        """The state after a step; remembers what the next one compares with."""
        world, terrain = self.world, self.terrain
        quaternion, place = world.base_quaternion, world.base_position
        position, velocity, feet = world.joint_position, world.joint_velocity, world.foot_position
        soles = feet - (0.0, 0.0, world.robot.foot_radius)
        contact = world.foot_force > TOUCH_N
        air = np.where(self._contact, 0.0, self._air + STEP_S)
        landed = contact & ~self._contact
        self._swing = np.where(landed, air, self._swing)
        ahead = terrain.ahead(place[:, :2])
        rise, run = ahead[:, 2] - (place[:, 2] - world.robot.stand_height), ahead[:, 0] - place[:, 0]
        near = (run > 0.05) & (run < TREAD_NEAR_M)
        yaw = rotation.yaw_of(quaternion)
        goal = np.full((len(yaw), 2), np.nan) if self.goal is None else self.goal.direction(self)
        moment = Moment(
            linear_velocity=rotation.into_body(quaternion, world.qvel[:, :3]),
            angular_velocity=world.qvel[:, 3:6].copy(),
            gravity=rotation.gravity_in_body(quaternion),
            pitch=rotation.pitch_of(quaternion),
            height=place[:, 2] - terrain.height(place[:, None, :2])[:, 0],
            command=self.command,
            joint_position=position,
            joint_velocity=velocity,
            joint_acceleration=(velocity - self._velocity) / STEP_S,
            torque=world.torque,
            action=self._action[0],
            last_action=self._action[1],
            earlier_action=self._action[2],
            foot_height=soles[..., 2] - terrain.height_below(soles),
            foot_speed=(feet - self._feet) / STEP_S,
            foot_contact=contact,
            air_time=air,
            landed=landed,
            last_swing=self._swing,
            body_force=world.body_force,
            edge_distance=terrain.edge_distance(soles),
            in_gap=terrain.in_gap(feet),
            pitch_to_tread=np.where(near, np.arctan2(rise, np.maximum(run, 0.05)), np.nan),
            level_velocity=rotation.turned(world.qvel[:, :2], -yaw),
            waypoint=rotation.turned(goal, -yaw),
            foot_push=world.foot_push,
            target_excess=self._excess,
        )
        self._velocity, self._feet = velocity, feet
        self._air, self._contact = np.where(contact, 0.0, air), contact
        return moment

    def _begun(self, ids: Ids, m: Moment) -> None:
        """Put robots that have just begun anew into a moment that others have stepped to, as far as it is observed."""
        world, quaternion = self.world, self.world.base_quaternion[ids]
        m.linear_velocity[ids] = rotation.into_body(quaternion, world.qvel[ids, :3])
        m.angular_velocity[ids] = world.qvel[ids, 3:6]
        m.gravity[ids] = rotation.gravity_in_body(quaternion)
        m.joint_position[ids], m.joint_velocity[ids] = world.joint_position[ids], world.joint_velocity[ids]
        m.height[ids], m.foot_height[ids], m.foot_contact[ids] = world.robot.stand_height, 0.0, True

    def _observe(self, m: Moment, ids: Ids) -> Observations:
        rng, noise, shape = self.rng, self.noise, (len(ids), m.joint_position.shape[1])
        rates, gravity = m.angular_velocity[ids], m.gravity[ids]
        position, velocity = m.joint_position[ids], m.joint_velocity[ids]
        command, action, bias = self.command[ids], self._action[0, ids], self._bias[ids]
        sensed = self.mapping.observation(
            rates + bias[:, :3] + noise.angular_velocity * rng.standard_normal((len(ids), 3)),
            gravity + bias[:, 3:] + noise.gravity * rng.standard_normal((len(ids), 3)),
            command,
            position + self._encoder[ids] + noise.joint_position * rng.standard_normal(shape),
            velocity + noise.joint_velocity * rng.standard_normal(shape),
            action,
        )
        exact = self.mapping.observation(rates, gravity, command, position, velocity, action)
        known = (exact, m.linear_velocity[ids], m.foot_contact[ids], m.height[ids, None], m.foot_height[ids])
        groups = {
            "policy": self.history.push(sensed, ids),
            "privileged": np.concatenate(known, axis=-1, dtype=np.float32, casting="unsafe"),
        }
        for sense in self.senses:
            groups |= sense.observe(self, ids)
        return groups
