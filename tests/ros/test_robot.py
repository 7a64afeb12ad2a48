"""The simulated robot over real DDS: robot, gate and policy as three processes, in lock step and in real time."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from ros_attn import checkpoint
from ros_attn.cli import main
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_walk.component import QuadrupedWalk, WalkParams
from ros_attn.control.quadruped_walk.policy import contract
from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_robot import SimulatedRobot
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.randomisation import WALKING
from ros_attn.values import Flag, Imu, JointState, Odometry, Twist, Value, field_bytes
from tests.ros.driver import DEADLINE_S, RELIABLE, Driver, Listener
from tests.shared_memory import mapped

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess

MS = 1_000_000
DESCRIPTION = GO2_LIKE.contract() | {"frames": 3, "action_scale": 0.25}
RAMP_S = 0.2
TOPICS: dict[str, type[Value]] = {
    "/imu": Imu, "/joint_states": JointState, "/policy/joint_commands": JointState, "/joint_commands": JointState,
}  # fmt: skip
TICKS = 240
"""Of the gate, and twice as many of the sensors."""


def saved(path: Path, size: float) -> Path:
    """A checkpoint of a random policy whose last layer is scaled by ``size``; 0 asks for the default pose."""
    torch.manual_seed(0)
    mapping = LocomotionMapping.of(DESCRIPTION)
    policy = BlindPolicy(mapping.size * mapping.frames, 12, (32, 16))
    with torch.no_grad():
        for parameter in policy.layers[-1].parameters():
            parameter *= size
    tensors = {name: np.asarray(tensor.detach()) for name, tensor in policy.state_dict().items()}
    config = {"class": "BlindPolicy", "params": {"hidden": [32, 16]}, "training": {}}
    ranges = {"forward": [-0.6, 1.0], "left": [-0.4, 0.4], "turn": [-1.0, 1.0]}
    checkpoint.save(checkpoint.Checkpoint(config, tensors, contract(DESCRIPTION, ranges)), path)
    return path


class Team:
    """Robot, gate and policy as processes."""

    def __init__(self, node_process: Callable[..., NodeProcess], path: Path, policy: str = "quadruped_walk") -> None:
        self._start, self._path, self._policy = node_process, path, policy
        self.processes: dict[str, NodeProcess] = {}

    def component(self, name: str, *parameters: str) -> None:
        given = [
            word for each in (f"checkpoint:={self._path}", "use_sim_time:=true", *parameters) for word in ("-p", each)
        ]
        self.processes[name] = self._start(name, "--torch-threads", "1", "--ros-args", *given)

    def both(self, *of_policy: str, order: int = 1) -> None:
        for name, parameters in [(self._policy, of_policy), ("safety_gate", ())][::order]:
            self.component(name, "qos:=lossless", *parameters)

    def robot(self, *args: str) -> NodeProcess:
        self.processes["robot"] = self._start(*args, verb="robot")
        return self.processes["robot"]

    def ended(self) -> str:
        """What the robot printed, once it has ended by itself and well."""
        robot = self.processes["robot"]
        assert robot.process.wait(4 * DEADLINE_S) == 0, robot.text()
        assert "Traceback" not in robot.text()
        return robot.text()

    def meet(self, driver: Driver) -> None:
        """Wait until gate and policy have found each other and the listeners of all their commands."""
        driver.meet("/safety_gate")
        for name, subscribers in (("/quadruped_walk", 2), ("/safety_gate", 1)):
            end = f"subscribers: {subscribers}"
            driver.diagnosed.wait(name, lambda _, v, e=end: v.get("topic joint_commands", "").endswith(e), end)

    def kill(self, name: str) -> None:
        """SIGKILL; it leaves shared memory behind, which nobody else of this domain needs by then."""
        process = self.processes[name].process
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)


@pytest.fixture
def shared_memory() -> Iterator[None]:
    """Removes the shared memory of processes that were killed."""
    folder = Path("/dev/shm")
    before = set(folder.glob("fastrtps_*"))
    yield
    for path in set(folder.glob("fastrtps_*")) - before:
        if path.exists() and not mapped(path):
            path.unlink(missing_ok=True)


def clock_of(driver: Driver) -> list[int]:
    """Times [ns] that /clock showed, as they come."""
    shown: list[int] = []

    def take(message: Clock) -> None:
        shown.append(message.clock.sec * 1_000_000_000 + message.clock.nanosec)
        driver.notify()

    driver.node.create_subscription(Clock, "/clock", take, RELIABLE)
    return shown


def newest_ns(listener: Listener) -> int:
    return listener.values[-1].stamp_ns if listener.values else -1


def after(listener: Listener, stamp_ns: int) -> list[Any]:
    return [value for value in listener.values if value.stamp_ns >= stamp_ns]


# -- lock step ------------------------------------------------------------------------------------------


def told(path: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Every message of an episode in the closed loop, stamps from its start on; and the joints' way."""
    passed: list[tuple[str, Value, int]] = []
    loop = ClosedLoop(
        SimulatedRobot(GO2_LIKE, seed=3, randomisation=WALKING, noise=True),
        Graph([
            Stage(QuadrupedWalk(params=WalkParams(checkpoint=str(path), ramp_s=RAMP_S)), "policy"),
            Stage(SafetyGate(params=SafetyGateParams(checkpoint=str(path))), "gate"),
        ]),
        tamper=lambda topic, value, now_ns: passed.append((topic, value, now_ns)) or value,
    )  # fmt: skip
    # As the node does at its start: one reading for the time of waiting, then a new episode.
    loop.robot.sense()
    loop.reset()
    start_ns = loop.robot.now_ns
    loop.run(TICKS * 0.01)
    return in_order([value for _, value, _ in passed], [topic for topic, *_ in passed], start_ns)


def in_order(values: list[Any], topics: list[str], start_ns: int) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Contents by time and topic, and measured joint positions [2 * TICKS, J]."""
    table = sorted(
        ((value.stamp_ns - start_ns, topic, value) for topic, value in zip(topics, values, strict=True)),
        key=lambda row: row[:2],
    )
    contents = [
        (f"{topic} {ns // MS} ms", field_bytes(tuple(vars(replace(value, stamp_ns=ns)).values())))
        for ns, topic, value in table
    ]
    return contents, np.array([value.position for _, topic, value in table if topic == "/joint_states"])


@pytest.mark.parametrize("order", [1, -1])
def test_lock_step_gives_the_bytes_of_the_closed_loop(
    order: int, driver: Driver, node_process: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    """480 instants with noise, delays and a policy whose commands the gate must cut, which shows what the gate saw."""
    path = saved(tmp_path / "checkpoint", 6.0)
    listeners = {topic: driver.listener(topic, kind, RELIABLE) for topic, kind in TOPICS.items()}
    truth = driver.listener("/robot/truth", Odometry, RELIABLE)
    team = Team(node_process, path)
    team.both(f"ramp_s:={RAMP_S}", order=order)
    team.meet(driver)
    team.robot("--seed", "3", "--randomise", "--noise", "--seconds", f"{TICKS * 0.01}", "--subscribers", "1")
    text = team.ended()
    start_ns = round(1e9 * float(re.findall(r"An episode begins at (\S+) s", text)[-1]))
    assert "is not waited for any more" not in text
    last = {topic: start_ns + (TICKS - 2 if "policy" in topic else TICKS - 1) * 10 * MS for topic in TOPICS}
    last |= {topic: start_ns + (2 * TICKS - 1) * 5 * MS for topic in ("/imu", "/joint_states")}
    for topic, listener in listeners.items():
        listener.with_stamp(last[topic])
    pairs = [(value, topic) for topic, listener in listeners.items() for value in after(listener, start_ns)]
    contents, joints = in_order([value for value, _ in pairs], [topic for _, topic in pairs], start_ns)
    expected, _ = told(path)
    assert [row for row, _ in contents] == [row for row, _ in expected]
    assert [row for (row, content), (_, other) in zip(contents, expected, strict=True) if content != other] == []
    assert np.ptp(joints, axis=0).min() > 0.05
    truth.with_stamp(start_ns + (TICKS - 1) * 10 * MS)
    assert [value.stamp_ns for value in after(truth, start_ns)] == [start_ns + k * 10 * MS for k in range(TICKS)]
    cut = [
        command for command in after(listeners["/joint_commands"], start_ns)
        if command.position.size and not any(
            np.array_equal(command.position, asked.position) for asked in listeners["/policy/joint_commands"].values
        )
    ]  # fmt: skip
    assert len(cut) > 10


def test_an_episode_waits_for_a_released_stop_and_for_subscribers(
    driver: Driver, node_process: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    """The gate has latched a fault before the episode, and nobody but gate and policy hears the robot at first."""
    stop = driver.publisher("/emergency_stop", Flag, RELIABLE)
    team = Team(node_process, saved(tmp_path / "checkpoint", 0.0))
    team.both("ramp_s:=0.0")
    driver.meet("/safety_gate")
    stop.wait_for_subscriber().send(Flag(0, True))
    robot = team.robot("--seconds", "0.3", "--subscribers", "1")
    clock = clock_of(driver)

    def says(sentence: str) -> None:
        try:
            driver.wait(lambda: clock and sentence in robot.text(), sentence)
        except AssertionError as error:
            gate, policy = (team.processes[name].text() for name in ("safety_gate", "quadruped_walk"))
            raise AssertionError(f"{error}\n{robot.text()}\n{gate}\n{policy}\n{clock[-3:]}") from None

    says("The robot waits at its start: /joint_commands asks for damping; the gate's log says why.")
    stop.send(Flag(0, False))
    says("The robot waits at its start: /joint_states has 0 of 1 subscribers besides gate and policy.")
    kinds: dict[str, type[Value]] = {"/joint_states": JointState, "/imu": Imu, "/robot/truth": Odometry}
    listeners = {topic: driver.listener(topic, kind, RELIABLE) for topic, kind in kinds.items()}
    start_ns = round(1e9 * float(re.findall(r"An episode begins at (\S+) s", team.ended())[-1]))
    for topic, listener in listeners.items():
        period_ns = 10 * MS if "truth" in topic else 5 * MS
        listener.with_stamp(start_ns + 300 * MS - period_ns)
        stamps = [value.stamp_ns for value in after(listener, start_ns)]
        assert stamps == list(range(start_ns, start_ns + 300 * MS, period_ns))


# -- faults ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shared_memory")
def test_it_stands_and_damps_on_faults(
    driver: Driver, node_process: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    commands, joints = (driver.listener(topic, JointState, RELIABLE) for topic in ("/joint_commands", "/joint_states"))
    truth = driver.listener("/robot/truth", Odometry, RELIABLE)
    stop = driver.publisher("/emergency_stop", Flag, RELIABLE)
    driver._clients["reset"] = driver.node.create_client(Trigger, "/robot/reset")
    team = Team(node_process, saved(tmp_path / "checkpoint", 0.0))
    team.both("ramp_s:=0.0")
    driver.meet("/safety_gate")
    robot = team.robot()

    def standing_for(seconds: float) -> None:
        """From the newest episode's beginning on."""
        driver.wait(lambda: "An episode begins at" in robot.text() and truth.values, "an episode")
        start_ns = round(1e9 * float(re.findall(r"An episode begins at (\S+) s", robot.text())[-1]))
        driver.wait(lambda: newest_ns(truth) >= start_ns + seconds * 1e9, f"{seconds} s of standing")
        # The springs of the default pose give way by 4 cm under the weight.
        assert truth.values[-1].position[2] > 0.22
        assert all(command.position.size for command in after(commands, start_ns))

    def another_episode() -> None:
        episodes = robot.text().count("An episode begins")
        assert driver.trigger("reset") == (True, "A new episode begins.")
        driver.wait(lambda: robot.text().count("An episode begins") > episodes, "another episode")

    def taken_ns(topic: str) -> int:
        """Stamp of the newest message of a topic that the gate has taken, by its clock without one; -1 for none."""
        _, answer = driver.trigger("/safety_gate/newest")
        return next(int(line.split()[1]) for line in answer.splitlines() if line.startswith(f"{topic} "))

    standing_for(3.0)
    stop.wait_for_subscriber().send(Flag(0, True))
    while (pressed_ns := taken_ns("/emergency_stop")) < 0:
        pass
    driver.wait(lambda: newest_ns(commands) > pressed_ns + 100 * MS, "time going on")
    damped = [command for command in after(commands, pressed_ns) if not command.position.size]
    assert damped[0].stamp_ns - pressed_ns <= 20 * MS
    assert all(not command.position.size for command in after(commands, damped[0].stamp_ns))

    stop.send(Flag(0, False))
    while taken_ns("/emergency_stop") == pressed_ns:
        pass
    another_episode()
    standing_for(0.5)

    team.kill("safety_gate")
    said = re.compile(r"Joints are damped from (\S+) s on: the last command is older than 60 ms\.")
    driver.wait(lambda: newest_ns(joints) > newest_ns(commands) + 200 * MS, "time going on without a gate")
    driver.wait(lambda: said.search(robot.text()), "damped joints")
    # Of a killed process's messages the last one may have reached the robot and nobody else.
    assert round(1e3 * float(said.findall(robot.text())[0])) - newest_ns(commands) // MS in (65, 75)

    team.component("safety_gate", "qos:=lossless")
    driver.wait(lambda: "[robot]: /joint_commands is back" in robot.text(), "another gate")
    gate = team.processes["safety_gate"]
    # The policy may not have found this gate yet: until it has, episodes may begin damped and remain so.
    for latched in range(10):
        another_episode()
        driver.wait(
            lambda n=latched: commands.values[-1].position.size or gate.text().count("until ~/reset") > n,
            "a gate that passes or damps for good",
        )
        if gate.text().count("until ~/reset") == latched:
            break
    another_episode()
    standing_for(0.5)

    team.kill("quadruped_walk")
    driver.wait(lambda: not commands.values[-1].position.size, "damping without a policy")
    last_ns = taken_ns("/policy/joint_commands")
    assert next(each.stamp_ns for each in after(commands, last_ns) if not each.position.size) - last_ns == 70 * MS
    driver.diagnosed.message("/safety_gate", "policy/joint_commands is silent")

    assert robot.stop() == 0
    assert robot.text().count("is not waited for any more") >= 2 and "Traceback" not in robot.text()
    assert re.search(r"Simulated \S+ s in \S+ s \(\S+ times real time, \d+ steps/s\)", robot.text().splitlines()[-1])


# -- real time ------------------------------------------------------------------------------------------


def test_real_time_is_no_faster_than_the_wall_clock(
    driver: Driver, node_process: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    """And a second robot finds the gate and the policy of the first one, though the clock begins anew."""
    clock, joints = clock_of(driver), driver.listener("/joint_states", JointState, RELIABLE)
    team = Team(node_process, saved(tmp_path / "checkpoint", 0.0))
    team.both("ramp_s:=0.0")
    team.robot("--seconds", "0.2")
    team.ended()
    first = clock[-1]
    clock.clear()
    joints.values.clear()
    team.robot("--step", "real", "--seconds", "1")
    text = team.ended()
    wall_s = float(re.search(r"Simulated 1.00 s in (\S+) s", text).group(1))  # type: ignore[union-attr]
    assert wall_s >= 0.9  # The last step begins at 0.995 s, and the schedule before the count.
    assert clock[0] < first
    start_ns = round(1e9 * float(re.findall(r"An episode begins at (\S+) s", text)[-1]))
    shown = [ns for ns in clock if ns >= start_ns]
    assert shown == [start_ns + k * 10 * MS for k in range(len(shown))]
    assert len(shown) >= 95


# -- refusals and the command line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--terrain", "stiars:30"], "There is no terrain 'stiars' (did you mean 'stairs'?)"),
        (["--terrain", "hollow:80"], "The terrain 'hollow:80' cannot be built"),
        (["--seconds", "0"], "--seconds is 0; give a time above 0 s, or none."),
        (["--depth-noise", "1"], "--depth-noise is of the camera; add --camera."),
        (["--subscribers", "-1"], "--subscribers is -1; give a number from 0 up."),
        (["--ros-args", "-r", "nonsense"], "rclpy does not take --ros-args -r nonsense"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    args: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robot", *args]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"ros-attn robot: {sentence}") and said.count("\n") == 1


def test_alone_it_says_what_it_waits_for_and_ends_in_a_sentence(
    driver: Driver, node_process: Callable[..., NodeProcess]
) -> None:
    clock = clock_of(driver)
    robot = node_process("--camera", verb="robot")
    began_s = time.monotonic()
    driver.wait(
        lambda: clock and time.monotonic() - began_s > 0.1 and "waits at its start" in robot.text(), "what it waits for"
    )
    assert "nobody publishes /joint_commands; start the safety gate with use_sim_time:=true." in robot.text()
    assert robot.stop() == 0
    assert robot.text().splitlines()[-1] == "Ended before an episode began."


# -- walking --------------------------------------------------------------------------------------------


def place_after(team: Team, driver: Driver, *of_robot: str) -> np.ndarray:
    """Where the robot ends that is asked for 0.5 m/s ahead; the first 1.5 s it takes to stand."""
    truth = driver.listener("/robot/truth", Odometry, RELIABLE)
    clock, speaker = clock_of(driver), driver.publisher("/cmd_vel", Twist, RELIABLE)
    team.both()
    robot = team.robot(*of_robot)
    while robot.process.poll() is None:
        due_ns = clock[-1] + 50 * MS if clock else 0
        driver.wait(lambda ns=due_ns: robot.process.poll() is not None or (clock and clock[-1] >= ns), "time going on")
        speaker.send(Twist(0, np.array([0.5, 0.0, 0.0]), np.zeros(3)))
    team.ended()
    return truth.values[-1].position


def test_the_shipped_policy_walks(driver: Driver, node_process: Callable[..., NodeProcess]) -> None:
    team = Team(node_process, checkpoint_folder("walk_go2"))
    place = place_after(team, driver, "--seconds", "6")
    assert 1.2 < place[0] < 3.2 and abs(place[1]) < 0.5 and place[2] > 0.2


def test_the_shipped_climber_climbs(driver: Driver, node_process: Callable[..., NodeProcess]) -> None:
    """Hollow stairs of 20 degrees, by depth images: after 7 s it is on a tread, upright, well above the floor."""
    team = Team(node_process, checkpoint_folder("stairs_go2"), "quadruped_stairs")
    place = place_after(team, driver, "--seconds", "7", "--camera", "--terrain", "hollow:20")
    assert place[0] > 2.0 and abs(place[1]) < 0.5
    # The stairs begin at 1 m and rise by tan(20 degrees); the base is a quarter of a metre above its feet.
    assert place[2] > 0.2 + np.tan(np.deg2rad(20)) * (place[0] - 1.3)
