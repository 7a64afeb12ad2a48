"""One component as an rclpy lifecycle node.

configure: parameters, weights, warm-up. activate: subscriptions and publishers. The executor's thread stamps
arrivals and pushes them; the component steps in a thread of its own (:mod:`ros_attn.hosts.worker`).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, JumpThreshold
from rclpy.clock_type import ClockType
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ros_attn.component import Outputs
from ros_attn.diagnostics import WARN, Health
from ros_attn.errors import ParameterError, RosAttnError
from ros_attn.graph import Stage, resolve
from ros_attn.grid import SECOND
from ros_attn.hosts import ros_qos
from ros_attn.hosts.replay import ADVANCE_HZ
from ros_attn.hosts.ros_diagnostics import Ages, Announcer, alike, values_of
from ros_attn.hosts.ros_inputs import Source
from ros_attn.hosts.ros_outputs import Sink
from ros_attn.hosts.ros_parameters import HostParams, InputParams, NodeParameters, SaveParams
from ros_attn.hosts.ros_services import NodeServices
from ros_attn.hosts.ros_sources import sources_of
from ros_attn.hosts.worker import Worker
from ros_attn.journal import JournalWriter
from ros_attn.runtime import TF_TOPICS, Runtime, Step
from ros_attn.values import Diagnostics, FloatArray, Text, Value

EXAMINE_HZ = 5.0
# What a step under way may still take when the node is deactivated.
PATIENCE_S = 10.0
REPEAT_S = 10.0
# Diagnostics that say a condition began do not wait for their period, but for this long after the last ones.
SOONEST_S = 0.2
CLOCK_STANDS_S = 1.0


class Surroundings(Protocol):
    """What a node needs of the process it is in."""

    def journal(self, node: ComponentNode, path: str) -> JournalWriter:
        """The journal at ``path``, with this node's stage opened in it."""
        ...

    def producer(self, topic: str) -> ComponentNode | None:
        """The node of this process that gives a topic."""
        ...

    def consumers(self, topic: str) -> Iterable[tuple[ComponentNode, str]]:
        """The active nodes of this process that take a topic, and the names of their inputs."""
        ...

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call in the executor's thread; from any thread."""
        ...


@dataclass
class Activity:
    """What exists only while a node is active."""

    sources: list[Source] = field(default_factory=list)
    sinks: dict[str, Sink] = field(default_factory=dict)
    timers: list[Any] = field(default_factory=list)
    jumps: Any = None


class ComponentNode(LifecycleNode):
    """Hosts one :class:`ros_attn.graph.Stage`; see the module.

    Names and topics are those after ``--ros-args``; ``stage`` is brought in line with them. A component that
    raises anything but RosAttnError in a step is deactivated: the log has the traceback, and diagnostics say
    ERROR until it is activated again. ``failure`` is what made the last transition fail.
    """

    def __init__(self, stage: Stage, context: Context, around: Surroundings, defaults: HostParams) -> None:
        super().__init__(stage.name, namespace=stage.namespace or None, context=context)
        self.around = around
        self.failure: BaseException | None = None
        self.worker: Worker | None = None
        self.activity: Activity | None = None
        self._journal: JournalWriter | None = None
        self._ages = Ages()
        self._conditions = Health()
        self._connections = Health()
        self._activated_before = False
        self._warmup_s = 0.0
        self._clock_ns, self._clock_since_s = -1, 0.0
        self._warned_s: dict[str, float] = {}
        self._reported: dict[str, int] = {}
        self._reported_s = 0.0
        self._remap = dict(stage.remap)
        self._graph_name, self._graph_namespace = stage.name, stage.namespace
        stage.name, stage.namespace = self.get_name(), self.get_namespace().strip("/")
        self.stage = stage
        self.settings = NodeParameters(self)
        self.settings.declare("host", defaults, fixed=True)
        if hasattr(stage.component, "save"):
            self.settings.declare("save", SaveParams())
        self.settings.declare("component", stage.component.params)
        self._build()
        self._answers = NodeServices(self)
        log = self.get_logger()
        self._announcer = Announcer(self.get_fully_qualified_name(), log.warning, log.error)
        self._diagnostics = Sink(self, "/diagnostics", Diagnostics, ros_qos.outgoing("result", False))
        self._ready = Sink(self, "~/ready", Text, ros_qos.latched())
        self._latency = Sink(self, "~/debug/latency", FloatArray, ros_qos.outgoing("sensor", False))
        # Steady timers: they go on where /clock does not.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self.settings["host"].diagnostics_period_s, self.report, clock=steady)
        self.create_timer(1.0 / EXAMINE_HZ, self._examine_waiting, clock=steady)
        self.create_timer(1.0, self.examine, clock=steady)

    # -- names ------------------------------------------------------------------------------------------

    def asked(self, declared: str) -> str:
        """A declared topic as the graph names it; ``--ros-args`` remaps that further."""
        full = resolve(declared, self._graph_name, self._graph_namespace)
        return self._remap.get(declared, self._remap.get(full, declared))

    @property
    def output_topics(self) -> dict[str, str]:
        """Full topic of every output."""
        return {
            name: self.resolve_topic_name(self.asked(out.topic)) for name, out in self.stage.component.outputs.items()
        }

    def now_ns(self) -> int:
        """The node's ROS clock, 0 while ``use_sim_time`` waits for /clock."""
        return self.get_clock().now().nanoseconds

    @property
    def state(self) -> str:
        """The lifecycle state: unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]

    # -- transitions ------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._activate, undo=self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._clean_up)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._clean_up()
        return TransitionCallbackReturn.SUCCESS

    def _transition(
        self, change: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        """Make a change; a RosAttnError is logged as a sentence, anything else with its traceback."""
        self.failure = None
        try:
            change()
            return TransitionCallbackReturn.SUCCESS
        except RosAttnError as error:
            self.failure = error
            self.get_logger().error(str(error))
            undo()
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.failure = error
            self.get_logger().error(traceback.format_exc())
            undo()
            return TransitionCallbackReturn.ERROR

    def _build(self) -> None:
        """The component with the present parameters, and the parameters of its inputs."""
        component = type(self.stage.component)(self.settings["component"])
        wiring = component.wiring().inputs
        queued = [name for name, policy in wiring.items() if hasattr(policy, "topic")]
        given = self.stage.options
        for name in queued:
            default = InputParams.of(given[name]) if name in given else InputParams()
            self.settings.declare(f"input {name}", default, prefix=f"inputs.{name}.")
        topics = [wiring[name].topic for name in queued]  # type: ignore[union-attr]
        topics += [out.topic for out in component.outputs.values()] + list(TF_TOPICS.values())
        self.stage.component = component
        self.stage.remap = {topic: self.resolve_topic_name(self.asked(topic)) for topic in topics}
        self.stage.options = {name: self.settings[f"input {name}"].options for name in queued}

    def _configure(self) -> None:
        self._build()
        component = self.stage.component
        began = time.perf_counter()
        component.configure()
        self._warmup_s = time.perf_counter() - began
        runtime = Runtime(component, self.stage.options, warn=self._warn)
        path = self.settings["host"].journal
        self._journal = self.around.journal(self, path) if path else None
        if self._journal is not None:
            self._journal.observe(self.stage, runtime)
        self._ages, self._activated_before = Ages(), False
        self.worker = Worker(
            runtime, self._finished, self._refused, self._died, self._idle,
            lambda reason: self.get_logger().info(f"Reset: {reason}."),
        )  # fmt: skip

    def _activate(self) -> None:
        assert self.worker is not None
        self._conditions, self._connections = Health(), Health()
        self.activity = activity = Activity()
        lossless = self.settings["host"].qos == "lossless"
        for name, out in self.stage.component.outputs.items():
            profile = ros_qos.outgoing(out.kind, lossless)
            activity.sinks[name] = Sink(self, self.asked(out.topic), out.type, profile, True, self.examine)
        if self._activated_before:
            self.worker.request_reset("the node was activated again")
        self._activated_before = True
        self.worker.start(self.get_name())
        activity.sources = sources_of(self, self.worker.runtime, lossless)
        for source in activity.sources:
            source.examine()
        activity.timers = [self.create_timer(1.0 / ADVANCE_HZ, self._advance)]
        jumped = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        activity.jumps = self.get_clock().create_jump_callback(jumped, post_callback=lambda jump: self._advance())
        backend = self.stage.component.health.figures.get("backend", "cpu")
        ready = f"{self.get_fully_qualified_name()} ready: backend {backend}, warm-up {self._warmup_s:.3f} s"
        self.get_logger().info(ready)
        self._ready.publish(Text(self.now_ns(), ready))

    def _deactivate(self) -> None:
        activity, self.activity = self.activity, None
        if activity is None:
            return
        if activity.jumps is not None:
            activity.jumps.unregister()
        for timer in activity.timers:
            self.destroy_timer(timer)
        for source in activity.sources:
            source.close()
        assert self.worker is not None
        if not self.worker.stop(PATIENCE_S):
            self.get_logger().error(f"A step still runs {PATIENCE_S:g} s after the node was deactivated.")
        for sink in activity.sinks.values():
            sink.close()
        self._connections = Health()

    def _warn(self, sentence: str) -> None:
        """Log what the runtime says, the same thing with other numbers at most every ``REPEAT_S``."""
        kind, now_s = alike(sentence), time.monotonic()
        if now_s - self._warned_s.get(kind, -REPEAT_S) >= REPEAT_S:
            self._warned_s[kind] = now_s
            self.get_logger().warning(sentence)

    def _clean_up(self) -> None:
        self._deactivate()
        self.worker = None

    # -- in the executor's thread -----------------------------------------------------------------------

    def _advance(self) -> None:
        now_ns = self.now_ns()
        if now_ns == 0 or self.activity is None or self.worker is None:
            return
        for source in self.activity.sources:
            source.release(now_ns)
        self.worker.advance(now_ns)
        levels = self._levels()
        if levels != self._reported and time.monotonic() - self._reported_s >= SOONEST_S:
            self.report()

    def _levels(self) -> dict[str, int]:
        """The levels of what the component itself says now, by condition."""
        if self.worker is None:
            return {}
        conditions = self.worker.runtime.component.health.conditions.copy()
        return {key: level for key, (level, _) in conditions.items()}

    def _examine_waiting(self) -> None:
        if self.activity is not None and not all(source.connected for source in self.activity.sources):
            self.examine()

    def examine(self) -> None:
        """Look at who publishes and subscribes: connect, and note what is wrong."""
        if self.activity is None:
            return
        found: dict[str, str] = {}
        try:
            for source in self.activity.sources:
                found |= source.examine()
            for sink in self.activity.sinks.values():
                found |= sink.examine()
        except RosAttnError as error:
            self._conditions.error("stopped", f"The node is inactive: {error}")
            self._deactivate_failed()
            return
        self._connections = Health({key: (WARN, sentence) for key, sentence in found.items()})

    def report(self) -> None:
        """Publish the diagnostics of this moment and log what began."""
        self._reported, self._reported_s = self._levels(), time.monotonic()
        host, now_ns = self.settings["host"], self.now_ns()
        parts, values = [self._conditions, self._connections], {}
        if self.worker is not None:
            self._ages.judge(self._conditions, host.warn_latency_ms, host.error_latency_ms)
            self._watch_clock(now_ns)
            active = self.activity or Activity()
            values = values_of(self.worker.snapshot(), active.sources, active.sinks, self._ages)
            parts.append(self.worker.runtime.component.health)
        built = self._announcer.report(now_ns, parts, self.state, values)
        if self._diagnostics.listened:
            self._diagnostics.publish(built)

    def _watch_clock(self, now_ns: int) -> None:
        steady_s = time.monotonic()
        if now_ns != self._clock_ns:
            self._clock_ns, self._clock_since_s = now_ns, steady_s
            self._conditions.clear("clock")
        elif steady_s - self._clock_since_s > CLOCK_STANDS_S:
            since = "nothing came on /clock yet" if now_ns == 0 else f"/clock stands at {now_ns / SECOND:.3f} s"
            self._conditions.warn("clock", f"use_sim_time is set and {since}: no time passes for this node.")

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> SetParametersResult:
        """As rclpy's, but refusals say why, and live parameters reach the component between two steps."""
        try:
            wanted, groups = self.settings.check(parameter_list, configured=self.worker is not None)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        result = super().set_parameters_atomically(wanted)
        if result.successful:
            self.settings.adopt(groups)
            if "component" in groups and self.worker is not None:
                self.worker.request_params(groups["component"])
        return result

    # -- in the component's thread ----------------------------------------------------------------------

    def feed(self, name: str, value: Value) -> None:
        """A value from another node of this process."""
        worker = self.worker
        if self.activity is not None and worker is not None:
            worker.push(name, value, self.now_ns())

    def _finished(self, step: Step, outputs: Outputs, seconds: float) -> None:
        activity = self.activity
        if self._journal is not None:
            self._journal.outputs(self.stage, outputs)
        if activity is None:
            return
        try:
            for name, value in outputs.items():
                if value is not None:
                    self._give(activity.sinks[name], value)
        except RosAttnError as error:
            self._refused(error)
            return
        self._conditions.clear("step")
        now_ns = self.now_ns()
        age_s = (now_ns - step.now_ns) / SECOND
        self._ages.add(age_s)
        if self._latency.listened:
            figures = np.array([1e3 * age_s, (now_ns - step.ready_ns) / 1e6, 1e3 * seconds])
            layout = (("stamp to publish, arrival of the last input to publish, step [ms]", 3, 3),)
            self._latency.publish(FloatArray(now_ns, figures, layout))

    def _give(self, sink: Sink, value: Value) -> None:
        for node, name in self.around.consumers(sink.topic):
            node.feed(name, value)
        if sink.listened:
            sink.publish(value)

    def _refused(self, error: RosAttnError) -> None:
        self._conditions.error("step", f"The last step gave nothing: {error}")

    def _idle(self) -> bool:
        """Whether a step would be for nobody; a journal keeps every step."""
        activity = self.activity
        if not self.stage.component.stateless or self._journal is not None or activity is None:
            return False
        return not any(sink.listened or any(self.around.consumers(sink.topic)) for sink in activity.sinks.values())

    def _died(self, error: BaseException) -> None:
        self.get_logger().error("".join(traceback.format_exception(error)))
        what = f"{type(error).__name__}: {error}"
        self._conditions.error("stopped", f"The component failed and the node is inactive ({what}); see the log.")
        self.around.call_soon(self._deactivate_failed)

    def _deactivate_failed(self) -> None:
        if self.state == "active":
            self.trigger_deactivate()
        self.report()
