"""One walking policy from the same starts in several hosts: do rehearsals say what the robot will do?

    python -m tests.bench.quadruped_paired --checkpoint DIR [--starts 300] [--menagerie PATH] [--dds N] [--out FILE]

Each start is a pose, a velocity and two commands of 4 s each, drawn once. Hosts: the training environment; the closed
loop of components, gate included (``ros_attn.hosts.sim``); the training environment with MuJoCo Menagerie's Go2; and,
for the first N starts, robot, gate and policy as processes over DDS in lock step. An episode *succeeds* when the robot
does not fall and, in the last 2 s under each command, the root mean square errors stay below 0.25 m/s and 0.35 rad/s.
Robots are nominal, sensors exact. ``difference``: of the success rates to the training environment's, by pairs, with a
95 % interval (Newcombe's method 10 for paired proportions).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_walk.component import QuadrupedWalk, WalkParams
from ros_attn.control.quadruped_walk.policy import load
from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_policy import with_gains
from ros_attn.hosts.sim_robot import SimulatedRobot
from ros_attn.provenance import provenance
from ros_attn.sim import rotation, tasks
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.legged_world import SUBSTEPS, LeggedWorld
from ros_attn.sim.locomotion_task import TOUCH_N, UPRIGHT, LocomotionTask, Start
from ros_attn.sim.randomisation import Randomisation
from ros_attn.sim.robot import Robot
from ros_attn.sim.robot_file import load_robot
from ros_attn.sim.velocity_command import CommandRange
from tests.bench.quadruped_walk import folder, wilson

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

COMMAND_S, COMMANDS, SETTLED_S = 4.0, 2, 2.0
SPEED_ERROR, TURN_ERROR = 0.25, 0.35
STEPS, EACH, SETTLED = (round(seconds * 50) for seconds in (COMMANDS * COMMAND_S, COMMAND_S, SETTLED_S))
VARIED = "start pose +U(-0.05, 0.05) rad"


@dataclass(frozen=True)
class Starts:
    """qpos [N, 7 + J], qvel [N, 6 + J] and commands [N, 2, 3]."""

    qpos: Array
    qvel: Array
    commands: Array


def made(robot: Robot, mapping: LocomotionMapping, count: int, seed: int) -> LocomotionTask:
    """A task whose robots start as drawn from ``seed``, whichever robot it is, and that draws nothing later."""
    task = tasks.walk(robot, mapping, count, seed=seed, varied=False)
    task.start, task.commands = Start(), CommandRange(every_s=1e6)
    task.randomisation = Randomisation(task.world, VARIED)
    return task


def drawn(mapping: LocomotionMapping, count: int, seed: int) -> Starts:
    """The starts."""
    task = made(GO2_LIKE, mapping, count, seed)
    task.reset()
    rng = np.random.default_rng(seed)
    commands = np.stack([CommandRange().draw(rng, count) for _ in range(COMMANDS)], axis=1)
    return Starts(task.world.qpos.copy(), task.world.qvel.copy(), commands)


def fallen(world: LeggedWorld) -> Flags:
    """[E] tilted beyond 60 degrees, or on its base."""
    base = [world.body_geoms.index(name) for name in world.base_geoms]
    touched = (world.body_force[:, base] > TOUCH_N).any(axis=-1)
    return touched | (rotation.gravity_in_body(world.base_quaternion)[:, 2] > -UPRIGHT)


def velocity(world: LeggedWorld) -> Array:
    """[E, 3] forward, left, turn in the base."""
    linear = rotation.into_body(world.base_quaternion, world.qvel[:, :3])
    return np.concatenate([linear[:, :2], world.qvel[:, 5:6]], axis=-1)


def succeeded(velocities: Array, fell: Flags, commands: Array) -> Flags:
    """[N] of velocities [steps, N, 3]."""
    good = ~fell
    for index in range(COMMANDS):
        last = velocities[(index + 1) * EACH - SETTLED : (index + 1) * EACH]
        root = np.sqrt(np.square(last - commands[:, index]).mean(axis=0))
        good &= (np.linalg.norm(root[:, :2], axis=-1) < SPEED_ERROR) & (root[:, 2] < TURN_ERROR)
    return good


def in_training(path: Path, robot: Robot, starts: Starts, seed: int) -> Flags:
    """The training environment, all starts at once."""
    policy, contract = load(path)
    mapping = LocomotionMapping.of(contract["robot"])
    task = made(with_gains(robot, contract, path), mapping, len(starts.qpos), seed)
    task.command[:] = starts.commands[:, 0]
    seen = _with_commands(task, task.reset(), starts.commands[:, 0])
    fell = np.zeros(len(starts.qpos), bool)
    velocities = []
    for step in range(STEPS):
        with torch.inference_mode():
            action = policy(torch.from_numpy(seen["policy"])).numpy().astype(np.float64)
        following = starts.commands[:, min(step + 1, STEPS - 1) // EACH]
        task.command[:] = following
        result = task.step(action)
        fell |= result.terminated
        velocities.append(velocity(task.world))
        seen = result.observations
    return succeeded(np.array(velocities), fell, starts.commands)


def _with_commands(task: LocomotionTask, seen: dict[str, Any], commands: Array) -> dict[str, Any]:
    """The first observations with the commands of the starts in the place of those drawn at the reset."""
    task.command[:] = commands
    rows = seen["policy"].reshape(len(commands), -1, task.mapping.size)  # type: ignore[attr-defined]
    rows[..., 6:9] = commands[:, None]
    ids = np.arange(len(commands))
    task.history.reset(ids)
    task.history.push(rows[:, 0].copy(), ids)
    return seen


def in_loop(path: Path, starts: Starts) -> Flags:
    """Components and gate around one robot, a start after the other."""
    _, contract = load(path)
    asked = np.zeros((COMMANDS, 3))

    def velocities(t_s: float) -> tuple[float, float, float]:
        forward, left, turn = asked[min(int(t_s / COMMAND_S), COMMANDS - 1)]
        return float(forward), float(left), float(turn)

    stages = [
        Stage(QuadrupedWalk(params=WalkParams(checkpoint=str(path), ramp_s=0.0)), "policy"),
        Stage(SafetyGate(params=SafetyGateParams(checkpoint=str(path))), "gate"),
    ]
    loop = ClosedLoop(SimulatedRobot(with_gains(GO2_LIKE, contract, path)), Graph(stages), velocities)
    good = []
    for qpos, qvel, commands in zip(starts.qpos, starts.qvel, starts.commands, strict=True):
        asked[:] = commands
        loop.reset(qpos, qvel)
        found, fell = [], False
        for _ in range(STEPS):
            loop.run(0.02)
            world = loop.robot.world
            fell |= bool(fallen(world)[0])
            found.append(velocity(world)[0])
        good.append(succeeded(np.array(found)[:, None], np.array([fell]), commands[None])[0])
    return np.array(good)


class _Episodes(SimulatedRobot):
    """A robot whose resets take one start after the other, with what an evaluation wants to know of each instant."""

    def __init__(self, robot: Robot, starts: Starts) -> None:
        self.starts, self.current = starts, 0
        self.velocities: list[Array] = []
        self.fell = False
        self.tell: Callable[[Array], None] = lambda command: None
        super().__init__(robot)

    def reset(self, qpos: Array | None = None, qvel: Array | None = None) -> None:
        super().reset(self.starts.qpos[self.current], self.starts.qvel[self.current])
        self.velocities, self.fell, self._instants = [], False, 0

    def advance(self) -> None:
        commands = self.starts.commands[self.current]
        if self._instants % (SUBSTEPS * 5) == 0:
            self.tell(commands[min(self._instants // (SUBSTEPS * EACH), COMMANDS - 1)])
        super().advance()
        self._instants += 1
        if self._instants % SUBSTEPS == 0:
            self.fell |= bool(fallen(self.world)[0])
            self.velocities.append(velocity(self.world)[0])


def over_dds(path: Path, starts: Starts) -> Flags:
    """Gate and policy as processes of their own, the robot in this one, in lock step over DDS."""
    from geometry_msgs.msg import Twist

    from ros_attn.hosts.ros_robot import STEP_NS, RobotHost

    domain = 1 + os.getpid() % 100
    robot = _Episodes(with_gains(GO2_LIKE, load(path)[1], path), starts)
    host = RobotHost(robot, "lock", domain_id=domain)
    publisher = host.node.create_publisher(Twist, "cmd_vel", 10)

    def tell(command: Array) -> None:
        message = Twist()
        message.linear.x, message.linear.y, message.angular.z = (float(value) for value in command)
        publisher.publish(message)

    robot.tell = tell
    given = ["--torch-threads", "1", "--ros-args", "-p", f"checkpoint:={path}", "-p", "use_sim_time:=true"]
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "ros_attn", "node", name, *given, "-p", "qos:=lossless", *others], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for name, others in (("safety_gate", []), ("quadruped_walk", ["-p", "ramp_s:=0.0"]))
    ]  # fmt: skip
    good = []
    try:
        for index in range(len(starts.qpos)):
            robot.current = index
            robot.reset()
            host.gate.reset()  # from the damping that a fall before has left
            host.run((host.steps * STEP_NS) / 1e9 + STEPS * 0.02)
            found = np.array(robot.velocities)[:STEPS, None]
            good.append(succeeded(found, np.array([robot.fell]), starts.commands[index : index + 1])[0])
            print(f"over DDS: {index + 1} of {len(starts.qpos)}, {sum(good)} good", file=sys.stderr, flush=True)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        host.close()
    return np.array(good)


def difference(first: Flags, second: Flags) -> list[float]:
    """``second - first`` of paired rates, with Newcombe's 95 % interval (method 10), in points of a hundred."""
    count = len(first)
    both, only_second = int((first & second).sum()), int((~first & second).sum())
    only_first, none = int((first & ~second).sum()), int((~first & ~second).sum())
    p1, low1, high1 = wilson(both + only_first, count)
    p2, low2, high2 = wilson(both + only_second, count)
    product = float(both + only_second) * (both + only_first) * (only_first + none) * (only_second + none)
    phi = 0.0 if product == 0 else (both * none - only_first * only_second) / product**0.5
    down = ((p2 - low2) ** 2 - 2 * phi * (p2 - low2) * (high1 - p1) + (high1 - p1) ** 2) ** 0.5
    up = ((high2 - p2) ** 2 - 2 * phi * (high2 - p2) * (p1 - low1) + (p1 - low1) ** 2) ** 0.5
    return [round(100 * value, 2) for value in (p2 - p1, p2 - p1 - down, p2 - p1 + up)]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=folder, required=True)
    parser.add_argument("--starts", type=int, default=300)
    parser.add_argument("--menagerie", type=Path, help="unitree_go2 of MuJoCo Menagerie; without, its row is left out")
    parser.add_argument("--dds", type=int, default=0, help="starts that are tried over DDS too")
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/quadruped_paired.json"))
    arguments = parser.parse_args(words)
    if arguments.menagerie is not None and not arguments.menagerie.exists():
        parser.error(f"--menagerie: there is no {arguments.menagerie}; give the folder unitree_go2 of MuJoCo Menagerie")
    mapping = LocomotionMapping.of(load(arguments.checkpoint)[1]["robot"])
    starts = drawn(mapping, arguments.starts, arguments.seed)
    with _one_thread():
        training = in_training(arguments.checkpoint, GO2_LIKE, starts, arguments.seed)
        hosts = {"training": training, "closed loop": in_loop(arguments.checkpoint, starts)}
        if arguments.menagerie is not None:
            other = load_robot(arguments.menagerie)
            hosts["training, Menagerie's Go2"] = in_training(arguments.checkpoint, other, starts, arguments.seed)
        if arguments.dds:
            some = slice(arguments.dds)
            few = Starts(starts.qpos[some], starts.qvel[some], starts.commands[some])
            hosts["over DDS"] = over_dds(arguments.checkpoint, few)
    rows = {
        name: {"starts": len(good), "success": wilson(int(good.sum()), len(good)),
               "difference": difference(training[: len(good)], good),
               "unlike": int((good != training[: len(good)]).sum())}
        for name, good in hosts.items()
    }  # fmt: skip
    results = {"starts": arguments.starts, "seed": arguments.seed, "hosts": rows, "provenance": provenance()}
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
