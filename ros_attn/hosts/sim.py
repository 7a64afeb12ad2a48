"""Components and a simulated robot in a closed loop, in one process and in simulated time alone.

Each component has its :class:`Runtime`, as on the robot; topics join them. Nothing reads a clock: the same components,
robot and hooks give the same bytes. Within one instant of 5 ms the order is: outputs that were under way, velocity
command, sensors, components in the order of the graph until nothing is ready, timers in the same order, motors. So a
command computed from the sensors at t acts from t on, as in training.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import count

import numpy as np

from ros_attn.errors import RosAttnError, TopicError, meant
from ros_attn.graph import Graph, resolve
from ros_attn.grid import SECOND, to_ns
from ros_attn.hosts.replay import Hosted
from ros_attn.hosts.sim_robot import CAMERA_TOPICS, PERIOD_NS, SimulatedRobot
from ros_attn.runtime import Runtime, Step
from ros_attn.values import Array, Imu, JointState, Twist, Value

COMMAND_HZ = 10
JOINT_COMMANDS, VELOCITY_COMMAND = resolve("joint_commands", ""), resolve("cmd_vel", "")
SENSORS: Mapping[str, type[Value]] = {"imu": Imu, "joint_states": JointState, **CAMERA_TOPICS}

Velocities = Callable[[float], tuple[float, float, float] | None]
"""Forward, left [m/s] and turn [rad/s] at a time since the start [s]; None: nothing is published."""
Tamper = Callable[[str, Value, int], Value | None]
"""What arrives in place of a message: topic, value, arrival [ns]; None: nothing."""


class ClosedLoop:
    """See the module; the components are configured here.

    ``velocities`` is asked 10 times a second for what ``cmd_vel`` carries. ``latency_s`` [s] by stage: how long a step
    takes; the component is busy for so long and its outputs arrive that much later (absent: at once), which the others
    notice at the next instant. ``tamper`` sees every message as it arrives, under its full topic. A step that fails
    gives no outputs; ``warn`` is told, as of all that a runtime has to say. Nothing gives ``/tf``.

    Raises :class:`TopicError` where no stage gives ``/joint_commands``, or a stage takes from a topic of the loop what
    it does not carry, and :class:`RosAttnError` for a latency of an unknown stage.
    """

    def __init__(
        self,
        robot: SimulatedRobot,
        graph: Graph,
        velocities: Velocities = lambda t_s: None,
        *,
        latency_s: Mapping[str, float] | None = None,
        tamper: Tamper = lambda topic, value, now_ns: value,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.robot, self.velocities, self.tamper, self.warn = robot, velocities, tamper, warn
        self.hosted: dict[str, Hosted] = {}
        for stage in graph.stages:
            runtime = Runtime(stage.component, stage.options, warn=self._warner(stage.name))
            self.hosted[stage.name] = Hosted(stage, runtime, stage.input_topics(runtime), stage.output_topics())
        self._latency_ns = {name: to_ns(seconds) for name, seconds in (latency_s or {}).items()}
        for name in self._latency_ns:
            if name not in self.hosted:
                raise RosAttnError(f"latency_s: there is no stage {name!r}{meant(name, self.hosted)}.")
        self._check_topics()
        for stage in graph.stages:
            stage.component.configure()
        self._killed: set[str] = set()
        self._under_way: list[tuple[int, int, str, str, Value]] = []
        self._order = count()
        self._started_ns = robot.now_ns

    def _warner(self, name: str) -> Callable[[str], None]:
        return lambda sentence: self.warn(f"{name}: {sentence}")

    def _check_topics(self) -> None:
        carried = {resolve(name, ""): kind for name, kind in SENSORS.items()} | {VELOCITY_COMMAND: Twist}
        for each in self.hosted.values():
            for name, out in each.stage.component.outputs.items():
                carried[each.outputs[name]] = out.type
        if carried.get(JOINT_COMMANDS) is not JointState:
            raise TopicError(
                f"No stage publishes {JOINT_COMMANDS}, so nothing would move; add a gate, or remap a policy's commands."
            )
        absent = [] if self.robot.camera is not None else [resolve(name, "") for name in CAMERA_TOPICS]
        for each in self.hosted.values():
            for name, queue in each.runtime.queues.items():
                topic, wanted = each.inputs[name], queue.policy.type
                if carried.get(topic, wanted) is not wanted:
                    raise TopicError(
                        f"{each.stage.name}: {topic} carries {carried[topic].__name__}, but input {name!r} takes "
                        f"{wanted.__name__}; remap it to another topic."
                    )
                if topic in absent:
                    raise TopicError(f"{each.stage.name} takes {topic}, but the robot has no camera; give it one.")

    # -- what a caller does -----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Go on for ``seconds``, a whole number of physics steps."""
        for _ in range(round(to_ns(seconds) / PERIOD_NS)):
            self.step()

    def step(self) -> None:
        """One instant and the physics step that follows it."""
        now_ns = self.robot.now_ns
        while self._under_way and self._under_way[0][0] <= now_ns:
            due_ns, _, _, topic, value = heapq.heappop(self._under_way)
            self._deliver(topic, value, due_ns)
        self._work(now_ns)
        if now_ns % (SECOND // COMMAND_HZ) == 0:
            asked = self.velocities((now_ns - self._started_ns) / SECOND)
            if asked is not None:
                self._deliver(VELOCITY_COMMAND, _twist(now_ns, *asked), now_ns)
        for name, value in self.robot.sense().items():
            self._deliver(resolve(name, ""), value, now_ns)
        self._work(now_ns)
        for each in self._alive():
            each.runtime.advance(now_ns)
            self._work(now_ns)
        self.robot.advance()

    def publish(self, topic: str, value: Value) -> None:
        """A message from outside arrives now, before the next instant's sensors."""
        self._deliver(resolve(topic, ""), value, self.robot.now_ns)

    def kill(self, name: str) -> None:
        """The process of a stage ends now, in the midst of whatever it does; what it has sent stays sent."""
        if name not in self.hosted:
            raise RosAttnError(f"There is no stage {name!r} to kill{meant(name, self.hosted)}.")
        self._killed.add(name)
        self._under_way = [entry for entry in self._under_way if entry[2] != name]
        heapq.heapify(self._under_way)

    def reset(self, qpos: Array | None = None, qvel: Array | None = None) -> None:
        """A new episode: robot as in :meth:`SimulatedRobot.reset`, all components reset, killed ones back."""
        self.robot.reset(qpos, qvel)
        self._started_ns = self.robot.now_ns
        self._under_way.clear()
        self._killed.clear()
        for each in self.hosted.values():
            each.free_ns = 0
            while each.runtime.take() is not None:  # what the last episode left undone
                pass
            each.runtime.request_reset("a new episode begins")
        self._work(self.robot.now_ns)

    # -- the wire ---------------------------------------------------------------------------------------

    def _alive(self) -> list[Hosted]:
        return [each for name, each in self.hosted.items() if name not in self._killed]

    def _deliver(self, topic: str, value: Value, arrival_ns: int) -> None:
        """Hand a message to all that listen."""
        arrived = self.tamper(topic, value, arrival_ns)
        if arrived is None:
            return
        if topic == JOINT_COMMANDS:
            assert isinstance(arrived, JointState)
            self.robot.command(arrived)
        for each in self._alive():
            for name, listened in each.inputs.items():
                if listened == topic:
                    each.runtime.push(name, arrived, arrival_ns)

    def _work(self, now_ns: int) -> None:
        """Run what is ready and deliver what comes of it, until nothing is."""
        worked = True
        while worked:
            worked = False
            for each in self._alive():
                worked |= self._work_of(each, now_ns)

    def _work_of(self, each: Hosted, now_ns: int) -> bool:
        """Whether a stage had something to do."""
        worked = False
        name = each.stage.name
        while each.free_ns <= now_ns and (work := each.runtime.take()) is not None:
            worked = True
            try:
                outputs = each.runtime.run(work)
            except RosAttnError as error:
                self.warn(f"{name}: {error}")
                continue
            if not isinstance(work, Step):
                continue
            latency_ns = self._latency_ns.get(name, 0)
            each.free_ns = now_ns + latency_ns
            for output, value in outputs.items():
                if value is None:
                    continue
                if latency_ns:
                    entry = (each.free_ns, next(self._order), name, each.outputs[output], value)
                    heapq.heappush(self._under_way, entry)
                else:
                    self._deliver(each.outputs[output], value, now_ns)
        return worked


def _twist(now_ns: int, forward: float, left: float, turn: float) -> Twist:
    return Twist(now_ns, np.array([forward, left, 0.0]), np.array([0.0, 0.0, turn]))
