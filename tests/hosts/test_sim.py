"""The closed loop: parity with training, faults at exact times, latencies, and that nothing is left to chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ros_attn import checkpoint
from ros_attn.component import Component, Every, Hold, Out, Outputs, Static, Window
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_walk.component import QuadrupedWalk, WalkParams
from ros_attn.control.quadruped_walk.policy import contract
from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.errors import MessageError, RosAttnError, TopicError
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_robot import SimulatedRobot
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.sim import tasks
from ros_attn.sim.depth_camera import DepthCamera
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.locomotion_task import Start
from ros_attn.sim.randomisation import WALKING, Randomisation
from ros_attn.sim.velocity_command import CommandRange
from ros_attn.values import Array, CameraInfo, Flag, Image, Imu, JointState, Twist, Value, field_bytes

MS = 1_000_000
DESCRIPTION = ROBOT.contract() | {"frames": 3, "action_scale": 0.25}
MAPPING = LocomotionMapping.of(DESCRIPTION)
RANGES = {"forward": [-0.6, 1.0], "left": [-0.4, 0.4], "turn": [-1.0, 1.0]}


def saved(path: Path, size: float) -> Path:
    """A checkpoint of a random policy whose last layer is scaled by ``size``."""
    torch.manual_seed(0)
    policy = BlindPolicy(MAPPING.size * MAPPING.frames, 12, (32, 16))
    with torch.no_grad():
        for parameter in policy.layers[-1].parameters():
            parameter *= size
    tensors = {name: np.asarray(tensor.detach()) for name, tensor in policy.state_dict().items()}
    config = {"class": "BlindPolicy", "params": {"hidden": [32, 16]}, "training": {}}
    checkpoint.save(checkpoint.Checkpoint(config, tensors, contract(DESCRIPTION, RANGES)), path)
    return path


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that moves the legs by what it sees, and not so fast that the gate would cut its targets' rates."""
    return saved(tmp_path_factory.mktemp("restless") / "checkpoint", 2.0)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that asks for the default pose."""
    return saved(tmp_path_factory.mktemp("standing") / "checkpoint", 0.0)


def graph(path: Path, ramp_s: float = 0.0) -> Graph:
    walk = QuadrupedWalk(params=WalkParams(checkpoint=str(path), ramp_s=ramp_s))
    return Graph([Stage(walk, "policy"), Stage(SafetyGate(params=SafetyGateParams(checkpoint=str(path))), "gate")])


class Tape:
    """A hook that keeps what passes; ``change`` does to a message what a test wants."""

    def __init__(self, change: Any = lambda topic, value, now_ns: value) -> None:
        self.change, self.passed = change, []

    def __call__(self, topic: str, value: Value, now_ns: int) -> Value | None:
        arrived = self.change(topic, value, now_ns)
        if arrived is not None:
            self.passed.append((topic, arrived, now_ns))
        return arrived

    def of(self, topic: str) -> list[tuple[Any, int]]:
        return [(value, now_ns) for name, value, now_ns in self.passed if name == topic]


def first_damped_ms(loop: ClosedLoop) -> int:
    """When the first physics step begins that damps; the loop has made it."""
    while not loop.robot.damping:
        loop.step()
        assert loop.robot.now_ns < 60_000 * MS
    return loop.robot.now_ns // MS - 5


def until(loop: ClosedLoop, ms: int) -> ClosedLoop:
    """All physics steps that begin before ``ms``."""
    loop.run(ms * 1e-3 - loop.robot.now_ns * 1e-9)
    return loop


# -- parity with training -------------------------------------------------------------------------------

NOMINAL = ""
OTHER = """
foot friction   =U(0.6, 0.6)
base mass       +U(1.5, 1.5)
link masses     *U(0.9, 0.9)
motor strength  *U(0.9, 0.9)
joint damping   =U(1.0, 1.0)
command delay   =U(0.013, 0.013)
encoder offset  =U(0.02, 0.02)
"""


@pytest.mark.parametrize("seed, table", [(0, NOMINAL), (1, NOMINAL), (2, OTHER)])
def test_loop_and_training_are_the_same_robot(seed: int, table: str, restless: Path) -> None:
    task = tasks.walk(ROBOT, MAPPING, 1, seed=seed, threads=1, varied=False)
    task.start, task.commands = Start(), CommandRange(every_s=0.5)
    task.randomisation = Randomisation(task.world, table)
    seen = task.reset()["policy"]
    start = task.world.qpos[0].copy(), task.world.qvel[0].copy()

    told: list[Array] = []
    loop = ClosedLoop(
        SimulatedRobot(ROBOT, randomisation=table), graph(restless),
        lambda t_s: (float(told[k][0]), float(told[k][1]), float(told[k][2])) if (k := round(50 * t_s)) >= 0 else None,
        tamper=(tape := Tape()),
    )  # fmt: skip
    walk = loop.hosted["policy"].stage.component
    assert isinstance(walk, QuadrupedWalk)
    rows: list[Array] = []
    walk._policy.register_forward_pre_hook(lambda module, given: rows.append(given[0].numpy().copy()))
    answers: list[Array] = []
    walk._policy.register_forward_hook(lambda module, given, answer: answers.append(answer.numpy().copy()))

    expected_rows, expected_actions = [], []
    for _ in range(200):
        told.append(task.command[0].copy())
        expected_rows.append(seen)
        with torch.inference_mode():
            action = walk._policy(torch.from_numpy(seen)).numpy().astype(np.float64)
        expected_actions.append(action)
        step = task.step(action)
        seen = step.observations["policy"]
        assert not step.terminated.any()
    rows.clear()
    answers.clear()

    loop.reset(*start)
    loop.run(4.0)
    assert len(rows) == 200
    assert np.ptp(expected_actions, axis=0).max() > 0.2 and np.ptp(told, axis=0).min() > 0.2
    assert np.abs(np.array(rows) - np.array(expected_rows)).max() <= 1e-6
    assert np.abs(np.array(answers) - np.array(expected_actions)).max() <= 1e-4
    assert np.abs(loop.robot.world.qpos - task.world.qpos).max() <= 1e-6
    # The gate let every command through as it was.
    asked = {value.stamp_ns: value.position for value, _ in tape.of("/policy/joint_commands")}
    for value, now_ns in tape.of("/joint_commands"):
        assert np.array_equal(value.position, asked[now_ns - now_ns % (20 * MS)])
    assert not loop.robot.refused and not loop.robot.damping


# -- faults ---------------------------------------------------------------------------------------------


def test_emergency_stop_damps_within_20_ms(standing: Path) -> None:
    for ms in (200, 205, 210, 215):
        loop = until(ClosedLoop(SimulatedRobot(ROBOT), graph(standing)), ms)
        loop.publish("emergency_stop", Flag(loop.robot.now_ns, True))
        assert first_damped_ms(loop) - ms == (0 if ms % 10 == 0 else 5)
        assert loop.robot.damping == "the command asks for it"


@pytest.mark.parametrize("killed", [200, 205, 210, 215])
def test_death_of_the_policy_damps_by_the_gate(killed: int, standing: Path) -> None:
    loop = until(ClosedLoop(SimulatedRobot(ROBOT), graph(standing)), killed)
    loop.kill("policy")
    last_ms = (killed - 1) // 20 * 20
    assert first_damped_ms(loop) == last_ms + 70 <= killed + 70
    assert loop.robot.damping == "the command asks for it"
    gate = loop.hosted["gate"].stage.component
    assert "policy/joint_commands is silent" in gate.health.snapshot()["damp"]


@pytest.mark.parametrize("dead", [("gate",), ("policy", "gate")])
@pytest.mark.parametrize("killed", [200, 205, 210, 215])
def test_death_of_the_gate_damps_by_the_robot(killed: int, dead: tuple[str, ...], standing: Path) -> None:
    loop = until(ClosedLoop(SimulatedRobot(ROBOT), graph(standing)), killed)
    for name in dead:
        loop.kill(name)
    last_ms = (killed - 1) // 10 * 10
    assert first_damped_ms(loop) == last_ms + 65
    assert loop.robot.damping == "the last command is older than 60 ms"


def test_what_a_killed_stage_had_not_sent_is_lost(standing: Path) -> None:
    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), latency_s={"policy": 0.01}, tamper=(tape := Tape()))
    until(loop, 205)
    loop.kill("policy")
    until(loop, 300)
    assert tape.of("/policy/joint_commands")[-1][1] == 190 * MS


def test_silent_sensors_damp(standing: Path) -> None:
    silent = Tape(lambda topic, value, now_ns: None if topic == "/imu" and now_ns >= 200 * MS else value)
    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), tamper=silent)
    # The newest imu is of 195 ms; at 240 it is 45 ms old.
    assert first_damped_ms(until(loop, 200)) == 240


def test_wrong_names_damp_at_the_gate_or_at_the_robot(standing: Path) -> None:
    def renamed(at: str) -> Tape:
        def change(topic: str, value: Value, now_ns: int) -> Value:
            if topic != at or now_ns < 200 * MS:
                return value
            assert isinstance(value, JointState)
            return replace(value, names=value.names[::-1])

        return Tape(change)

    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), tamper=renamed("/policy/joint_commands"))
    assert first_damped_ms(until(loop, 200)) == 200 and not loop.robot.refused
    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), tamper=renamed("/joint_commands"))
    assert first_damped_ms(until(loop, 200)) == 200
    until(loop, 300)
    assert loop.robot.refused.total() == 10 and "another order" in loop.robot.damping


def test_a_step_that_fails_is_said_and_the_gate_damps(standing: Path) -> None:
    def change(topic: str, value: Value, now_ns: int) -> Value:
        if topic != "/joint_states" or now_ns < 200 * MS:
            return value
        assert isinstance(value, JointState)
        return replace(value, names=value.names[1:], position=value.position[1:], velocity=value.velocity[1:])

    said: list[str] = []
    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), tamper=Tape(change), warn=said.append)
    assert first_damped_ms(until(loop, 200)) == 200
    assert said and said[0].startswith("policy: joint_states lacks FL_hip_joint")


# -- times ----------------------------------------------------------------------------------------------


def test_a_latency_delays_what_a_stage_gives(standing: Path) -> None:
    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), latency_s={"policy": 0.012}, tamper=(tape := Tape()))
    loop.run(0.5)
    arrived = [(value.stamp_ns // MS, now_ns // MS) for value, now_ns in tape.of("/policy/joint_commands")]
    assert arrived == [(ms, ms + 12) for ms in range(0, 500, 20)]
    # The gate's next tick passes it: the robot is damped before the first one.
    moved = [now_ns // MS for value, now_ns in tape.of("/joint_commands") if value.position.size]
    assert moved == list(range(20, 500, 10))


def test_a_stage_that_is_busy_skips_what_it_cannot_do(standing: Path) -> None:
    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), latency_s={"policy": 0.03}, tamper=(tape := Tape()))
    loop.run(0.5)
    arrived = [(value.stamp_ns // MS, now_ns // MS) for value, now_ns in tape.of("/policy/joint_commands")]
    # Begun at 0, 30, 60 ms and so on with the newest tick that was there before; one in three is left out.
    assert arrived[:6] == [(0, 30), (20, 60), (40, 90), (80, 120), (100, 150), (140, 180)]
    assert loop.hosted["policy"].runtime.counters.skipped_backlog >= 7


def test_velocity_commands_come_ten_times_a_second(standing: Path) -> None:
    def velocities(t_s: float) -> tuple[float, float, float] | None:
        return (0.5, -0.1, t_s) if t_s < 0.35 else None

    loop = ClosedLoop(SimulatedRobot(ROBOT), graph(standing), velocities, tamper=(tape := Tape()))
    loop.run(0.6)
    found = [
        (now_ns // MS, value.stamp_ns // MS, *value.linear, *value.angular) for value, now_ns in tape.of("/cmd_vel")
    ]
    assert found == [(ms, ms, 0.5, -0.1, 0.0, 0.0, 0.0, pytest.approx(ms / 1000)) for ms in (0, 100, 200, 300)]
    assert all(isinstance(value, Twist) for value, _ in tape.of("/cmd_vel"))


class Watcher(Component):
    """Sees depth, and asks for damping."""

    inputs: ClassVar = {
        "imu": Window(Imu, "imu"),
        "info": Static(CameraInfo, "depth/camera_info"),
        "depth": Hold(Image, "depth/image"),
    }
    outputs: ClassVar = {"joint_commands": Out(JointState, "joint_commands")}
    trigger: ClassVar = Every(50, by="imu")

    def configure(self) -> None:
        self.ages: dict[int, int | None] = {}

    def step(self, now_ns: int, imu: tuple[Imu, ...], info: CameraInfo, depth: Image | None) -> Outputs:
        if now_ns == 200 * MS:
            raise MessageError("a depth image that cannot be used")
        self.ages[now_ns // MS] = None if depth is None else (now_ns - depth.stamp_ns) // MS
        return {}


def test_depth_arrives_late_at_who_listens() -> None:
    camera = DepthCamera(ROBOT.camera, ROBOT.camera_pitch)
    robot = SimulatedRobot(ROBOT, camera=camera, depth_latency_s=(0.04, 0.04))
    said: list[str] = []
    loop = ClosedLoop(robot, Graph([Stage(watcher := Watcher(), "watcher")]), warn=said.append)
    loop.run(0.3)
    ages = {**{ms: None for ms in (0, 20)}, **{ms: ms for ms in range(40, 140, 20)}}
    ages |= {140: 40, 160: 60, 180: 80, 220: 120, 240: 40, 260: 60, 280: 80}
    assert watcher.ages == ages
    assert said == ["watcher: a depth image that cannot be used"]


# -- order, chance and refusals -------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_bytes(restless: Path) -> None:
    def run(seed: int) -> str:
        robot = SimulatedRobot(
            ROBOT, seed=seed, randomisation=WALKING, noise=True, depth_noise=1.0,
            camera=DepthCamera(ROBOT.camera, ROBOT.camera_pitch),
        )  # fmt: skip
        loop = ClosedLoop(
            robot, graph(restless, ramp_s=0.2), lambda t_s: (0.5, 0.0, t_s),
            latency_s={"policy": 0.007}, tamper=(tape := Tape()),
        )  # fmt: skip
        loop.run(1.0)
        assert {topic for topic, *_ in tape.passed} == {
            "/imu", "/joint_states", "/cmd_vel", "/depth/camera_info", "/depth/image", "/policy/joint_commands",
            "/joint_commands",
        }  # fmt: skip
        return field_bytes((tape.passed, robot.state()))

    assert run(1) == run(1) != run(2)


def test_timers_tick_after_what_is_ready_whatever_the_order_of_the_graph(restless: Path) -> None:
    def run(order: int) -> str:
        stages = graph(restless).stages[::order]
        loop = ClosedLoop(SimulatedRobot(ROBOT), Graph(stages), tamper=(tape := Tape()))
        loop.run(0.2)
        return field_bytes((tape.of("/joint_commands"), loop.robot.state()))

    assert run(1) == run(-1)


# The longer latency leaves steps undone at the end, and the gate damps for it; with the shorter one the robot moves.
@pytest.mark.parametrize("latency_s, end_ms, moves", [(0.01, 1205, True), (0.03, 1217, False)])
def test_a_new_episode_is_like_the_first(latency_s: float, end_ms: int, moves: bool, restless: Path) -> None:
    loop = ClosedLoop(
        SimulatedRobot(ROBOT), graph(restless, ramp_s=0.1), lambda t_s: (0.5, 0.0, t_s),
        latency_s={"policy": latency_s}, tamper=(tape := Tape()),
    )  # fmt: skip
    start = loop.robot.world.qpos[0].copy()

    def episode() -> Array:
        places = []
        for _ in range(100):
            loop.step()
            places.append(loop.robot.world.qpos[0].copy())
        return np.array(places)

    first = episode()
    assert (loop.robot.damping == "") == moves
    loop.kill("gate")
    until(loop, end_ms)
    assert loop.robot.damping
    loop.reset(start)
    assert loop.robot.now_ns == 1300 * MS
    tape.passed.clear()
    assert np.array_equal(episode(), first)
    # Nothing of the last episode arrives in this one.
    assert min(value.stamp_ns for _, value, _ in tape.passed) == 1300 * MS


def test_what_cannot_work_is_refused(standing: Path) -> None:
    robot = SimulatedRobot(ROBOT)
    walk, gate = graph(standing).stages
    with pytest.raises(TopicError, match="No stage publishes /joint_commands"):
        ClosedLoop(robot, Graph([walk]))
    with pytest.raises(TopicError, match="watcher takes /depth/camera_info, but the robot has no camera"):
        ClosedLoop(robot, Graph([Stage(Watcher(), "watcher")]))
    crossed = Stage(gate.component, "gate", remap={"imu": "joint_states"})
    with pytest.raises(TopicError, match="gate: /joint_states carries JointState, but input 'imu' takes Imu"):
        ClosedLoop(robot, Graph([walk, crossed]))
    with pytest.raises(RosAttnError, match=r"no stage 'polisy'.*'policy'"):
        ClosedLoop(robot, Graph([walk, gate]), latency_s={"polisy": 0.1})
    with pytest.raises(RosAttnError, match="no stage 'walk'"):
        ClosedLoop(robot, Graph([walk, gate])).kill("walk")
