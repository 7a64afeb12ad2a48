"""Deterministic replay of a bag through a graph of components, with no ROS installed.

Two modes. *every message*: each step that becomes ready is run at once and takes no time, so nothing is
skipped. *as deployed*: a component is busy for its latency after a step began, its outputs arrive that much
later, and what became ready meanwhile follows its ``backlog``. Messages are pushed in log order, never in
stamp order, after the whole bag's ``Static`` messages; ``advance`` comes from a fixed grid of arrival times.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from ros_attn.bag import BagMessage, BagReader
from ros_attn.codecs import types_of
from ros_attn.component import Outputs
from ros_attn.errors import MessageError, RosAttnError, TopicError, listed, meant
from ros_attn.graph import Graph, Stage
from ros_attn.grid import Grid, to_ns
from ros_attn.runtime import TF, TF_STATIC, Runtime, Step, Work
from ros_attn.values import Value

ADVANCE_HZ = 100.0

Latency = Callable[[Stage, Work, float], float]


def measured_latency(stage: Stage, work: Work, seconds: float) -> float:
    """As long as the step took here; runs that use it are not reproducible."""
    return seconds


def given_latency(table: Mapping[str, list[float]]) -> Latency:
    """From a table of seconds by stage name; longer runs go round the table again."""
    turns = {name: 0 for name in table}

    def latency(stage: Stage, work: Work, seconds: float) -> float:
        if stage.name not in table:
            raise RosAttnError(f"The latency table has no stage {stage.name!r}{meant(stage.name, table)}.")
        turns[stage.name] += 1
        return table[stage.name][(turns[stage.name] - 1) % len(table[stage.name])]

    return latency


@dataclass(frozen=True)
class StepRecord:
    """One step as replay saw it; times in ns on the arrival clock, ``seconds`` of this machine."""

    stage: Stage
    now_ns: int
    ready_ns: int
    start_ns: int
    end_ns: int
    seconds: float
    outputs: Outputs
    conditions: Mapping[str, str]
    figures: Mapping[str, float | str]
    failure: str = ""


@dataclass
class Hosted:
    """A stage with its runtime and the topics it takes and gives."""

    stage: Stage
    runtime: Runtime
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    free_ns: int = 0


@dataclass
class Replay:
    """Replays one bag through one graph; iterate :meth:`steps`."""

    bag: BagReader
    graph: Graph
    mode: Literal["every-message", "as-deployed"] = "every-message"
    latency: Latency = measured_latency
    start_s: float = 0.0
    duration_s: float = float("inf")
    warn: Callable[[str], None] = lambda sentence: None

    hosted: list[Hosted] = field(init=False)
    decoded: int = field(default=0, init=False)
    first_ns: int = field(default=0, init=False)
    last_ns: int = field(default=0, init=False)
    undecodable: dict[str, tuple[int, str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._configured = False
        self.hosted = []
        for stage in self.graph.stages:
            runtime = Runtime(
                stage.component, stage.options, every_step=self.mode == "every-message", warn=self._warner(stage)
            )
            self.hosted.append(Hosted(stage, runtime, stage.input_topics(runtime), stage.output_topics()))
        self._consumers: dict[str, list[tuple[Hosted, str]]] = {}
        for each in self.hosted:
            for name, topic in each.inputs.items():
                self._consumers.setdefault(topic, []).append((each, name))
        self._internal = {topic for each in self.hosted for topic in each.outputs.values()}
        self._check_topics()

    def _warner(self, stage: Stage) -> Callable[[str], None]:
        return lambda sentence: self.warn(f"{stage.name}: {sentence}")

    def _check_topics(self) -> None:
        for each in self.hosted:
            for name, topic in each.inputs.items():
                if topic in self._internal or name in (TF, TF_STATIC):
                    continue
                wanted = types_of(each.runtime.queues[name].policy.type)
                if topic not in self.bag.topics:
                    self._refuse_absent(each.stage, name, topic, wanted)
                found = self.bag.topics[topic].msgtype
                if found not in wanted:
                    raise TopicError(
                        f"{each.stage.name}: {topic} in {self.bag.path} is {found}, but input {name!r} takes "
                        f"{' or '.join(wanted)}; choose another topic with --remap."
                    )

    def _refuse_absent(self, stage: Stage, name: str, topic: str, wanted: tuple[str, ...]) -> None:
        fitting = sorted(found.name for found in self.bag.topics.values() if found.msgtype in wanted)
        declared = stage.component.wiring().inputs[name].topic  # type: ignore[union-attr]
        if fitting:
            hint = f"of the right type there are {listed(fitting)}: --remap {declared}:={_closest(topic, fitting)}"
        else:
            hint = f"none of its topics is {' or '.join(wanted)}; it has {listed(sorted(self.bag.topics))}"
        raise TopicError(f"{stage.name}: {self.bag.path} has no topic {topic} for input {name!r}; {hint}.")

    @property
    def reproducible(self) -> bool:
        """Whether another run gives the same bytes: not where measured times decide what is skipped."""
        return self.mode == "every-message" or self.latency is not measured_latency

    # -- the run ----------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load weights and warm up, once; before anything is written, so that what is missing leaves nothing behind."""
        if not self._configured:
            for each in self.hosted:
                each.stage.component.configure()
            self._configured = True

    def steps(self) -> Iterator[StepRecord]:
        """Run the bag; yields every step in the order in which its outputs come to be."""
        self.configure()
        start_ns = self.bag.start_ns + to_ns(self.start_s)
        stop_ns = None if self.duration_s == float("inf") else start_ns + to_ns(self.duration_s)
        self._push_statics(start_ns)
        grid = Grid(ADVANCE_HZ)
        tick = grid.last(start_ns)
        later: list[tuple[int, int, str, Value]] = []
        order = count()
        static_topics = {
            topic for each in self.hosted for name, topic in each.inputs.items() if name in each.runtime.static_inputs
        }
        topics = [topic for topic in self._consumers if topic in self.bag.topics and topic not in static_topics]
        self.first_ns = self.last_ns = start_ns
        for message in self.bag.messages(topics, start_ns, stop_ns) if topics else ():
            yield from self._until(message.arrival_ns, grid, tick, later, order)
            tick = grid.last(message.arrival_ns)
            self.last_ns = message.arrival_ns
            value = self._decode(message)
            if value is not None:
                yield from self._deliver(message.topic, value, message.arrival_ns, later, order)
        # The recording has ended and says nothing of later silence: no deadline strikes any more, but busy
        # components finish and their outputs arrive.
        now_ns = self.last_ns
        while (due_ns := self._due(later)) is not None:
            yield from self._until(due_ns, grid, grid.last(now_ns), later, order)
            now_ns = due_ns

    def _push_statics(self, start_ns: int) -> None:
        for each in self.hosted:
            for name in each.runtime.static_inputs:
                topic = each.inputs[name]
                if topic not in self.bag.topics:
                    continue
                for message in self.bag.messages([topic]):
                    value = self._decode(message)
                    if value is not None:
                        each.runtime.push(name, value, start_ns)

    def _until(self, arrival_ns: int, grid: Grid, tick: int, later: list, order: Iterator[int]) -> Iterator[StepRecord]:
        """Everything due up to ``arrival_ns``: ticks of the grid, outputs under way, components free again."""
        for k in range(tick + 1, grid.last(arrival_ns) + 1):
            yield from self._arrive(grid.stamp(k), later, order)
            for each in self.hosted:
                each.runtime.advance(grid.stamp(k))
            yield from self._work(grid.stamp(k), later, order)
        yield from self._arrive(arrival_ns, later, order)

    def _arrive(self, now_ns: int, later: list, order: Iterator[int]) -> Iterator[StepRecord]:
        """Outputs whose arrival has come, and steps of components that became free before ``now_ns``."""
        while True:
            next_ns = self._due(later)
            if next_ns is None or next_ns > now_ns:
                return
            if later and later[0][0] <= next_ns:
                due_ns, _, topic, value = heapq.heappop(later)
                yield from self._deliver(topic, value, due_ns, later, order)
            else:
                yield from self._work(next_ns, later, order)

    def _due(self, later: list) -> int | None:
        """When the next output arrives or a busy component with work becomes free."""
        free = [each.free_ns for each in self.hosted if each.runtime.has_work]
        return min([*free, *(entry[0] for entry in later[:1])], default=None)

    def _deliver(
        self, topic: str, value: Value, arrival_ns: int, later: list, order: Iterator[int]
    ) -> Iterator[StepRecord]:
        for each, name in self._consumers.get(topic, ()):
            each.runtime.push(name, value, arrival_ns)
        yield from self._work(arrival_ns, later, order)

    def _work(self, now_ns: int, later: list, order: Iterator[int]) -> Iterator[StepRecord]:
        for each in self.hosted:
            while each.free_ns <= now_ns and (work := each.runtime.take()) is not None:
                record = self._run(each, work, max(now_ns, each.free_ns))
                if record is None:
                    continue
                each.free_ns = record.end_ns
                yield record
                for name, value in record.outputs.items():
                    if value is not None and each.outputs[name] in self._consumers:
                        heapq.heappush(later, (record.end_ns, next(order), each.outputs[name], value))
        if later and later[0][0] <= now_ns:
            yield from self._arrive(now_ns, later, order)

    def _run(self, each: Hosted, work: Work, start_ns: int) -> StepRecord | None:
        health = each.stage.component.health
        began = time.perf_counter()
        failure, outputs = "", {}
        try:
            outputs = each.runtime.run(work)
        except RosAttnError as error:
            failure = str(error)
        seconds = time.perf_counter() - began
        if not isinstance(work, Step):
            return None
        each.runtime.times.add(seconds)
        latency_s = 0.0 if self.mode == "every-message" else self.latency(each.stage, work, seconds)
        return StepRecord(
            each.stage, work.now_ns, work.ready_ns, start_ns, start_ns + to_ns(latency_s), seconds,
            outputs, health.snapshot(), dict(health.figures), failure,
        )  # fmt: skip

    def _decode(self, message: BagMessage) -> Value | None:
        try:
            value = self.bag.decode(message)
        except MessageError as error:
            number, first = self.undecodable.get(message.topic, (0, str(error)))
            self.undecodable[message.topic] = (number + 1, first)
            for each, name in self._consumers[message.topic]:
                if name in each.runtime.queues:
                    each.runtime.queues[name].counters.undecodable += 1
            return None
        self.decoded += 1
        return value


def _closest(topic: str, fitting: list[str]) -> str:
    """The fitting topic that shares most words with the wanted one."""
    words = set(topic.strip("/").split("/"))
    return max(fitting, key=lambda name: len(words & set(name.strip("/").replace("_", "/").split("/"))))
