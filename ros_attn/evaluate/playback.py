"""A recorded run once more through the same runtimes, with the recorded outputs in place of the steps.

Matching, time offsets, rate limits, resets, backlog and missing sensors are those of the run because the same
code does them; only the steps are not computed. So evaluation sees exactly what the component saw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros_attn import graph as graphs
from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.bag import BagReader
from ros_attn.component import Component, Outputs
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.recorded_run import RecordedRun, StepLine
from ros_attn.graph import Graph, Stage
from ros_attn.hosts.replay import Replay
from ros_attn.queues import InputOptions
from ros_attn.runtime import Work
from ros_attn.values import Value


@dataclass(frozen=True, eq=False)
class PlayedStep:
    """A step of the run: its line, what the component was given, and what it gave.

    ``component`` has the run's parameters, was reset where the run's was, and was never configured nor stepped.
    """

    line: StepLine
    component: Component
    inputs: Mapping[str, Any]
    outputs: Outputs


@dataclass
class _RecordedOutputs:
    """The values of a run's outputs bag, topic by topic in the order in which they were written."""

    bag: BagReader
    _waiting: dict[str, deque[Value]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._messages = self.bag.messages()

    def next(self, topic: str) -> Value:
        waiting = self._waiting.setdefault(topic, deque())
        while not waiting:
            message = next(self._messages, None)
            if message is None:
                raise RosAttnError(
                    f"{self.bag.path} holds fewer messages of {topic} than metrics.jsonl says; replay again."
                )
            self._waiting.setdefault(message.topic, deque()).append(self.bag.decode(message))
        return waiting.popleft()


def input_bag(run: RecordedRun, instead: Path | None = None) -> Path:
    """The bag a run read, or the one given instead; RosAttnError with its former place where it is not there."""
    path = instead or run.bag
    if not path.exists():
        hint = "name the right place" if instead else "if it was moved, say where it is"
        raise RosAttnError(f"The bag of {run.path} is not at {path}; {hint} with --bag PATH.")
    return path


def play(run: RecordedRun, bag: Path) -> Iterator[PlayedStep]:
    """Every step of a run, in the order of its metrics.jsonl.

    Raises :class:`RosAttnError` where the outputs are gone, or where the bag, the graph file or this version's
    matching no longer give the steps that were recorded.
    """
    if not run.lines:
        return
    if not (run.path / "outputs").exists():
        raise RosAttnError(
            f"{run.path} has no outputs (the folder {run.path / 'outputs'} is gone); replay the bag again."
        )
    with BagReader(bag) as reader, BagReader(run.path / "outputs") as written:
        playback = _Playback(run, reader, _RecordedOutputs(written))
        yield from playback.steps()


class _Playback:
    def __init__(self, run: RecordedRun, bag: BagReader, outputs: _RecordedOutputs) -> None:
        self.run = run
        self.recorded = outputs
        self.graph = _graph(run)
        self._lines = {stage.name: iter(run.lines_of(stage.name)) for stage in self.graph.stages}
        self._line: StepLine | None = None
        self._inputs: Mapping[str, Any] = {}
        for stage in self.graph.stages:
            stage.component = self._played(stage)
        start_s, duration_s = run.summary["settings"]["start"], run.summary["settings"]["duration"]
        length_s = float("inf") if duration_s is None else duration_s
        self.replay = Replay(bag, self.graph, run.summary["mode"], self._latency, start_s, length_s)

    def steps(self) -> Iterator[PlayedStep]:
        number = 0
        for record in self.replay.steps():
            line = self._line
            assert line is not None
            if (record.now_ns, record.start_ns) != (line.now_ns, line.start_ns):
                raise self._parted(number, f"recorded is {line.now_ns} ns, now comes {record.now_ns} ns")
            yield PlayedStep(line, record.stage.component, self._inputs, record.outputs)
            number += 1
            if number == len(self.run.lines):
                # An interrupted run ends before its bag does.
                return
        raise self._parted(number, "no further step comes")

    def _played(self, stage: Stage) -> Component:
        """The stage's component, whose steps give what was recorded."""
        cls, topics = type(stage.component), stage.output_topics()

        def step(component: Component, now_ns: int, **inputs: Any) -> Outputs:
            self._line, self._inputs = next(self._lines[stage.name], None), inputs
            if self._line is None:
                raise self._parted(len(self.run.lines), f"{stage.name} has more steps than were recorded")
            return {name: self.recorded.next(topics[name]) for name in self._line.outputs}

        # No weights are loaded. The class keeps its name, from which the component's own comes.
        played = type(cls.__name__, (cls,), {"step": step, "configure": lambda component: None})
        return played(stage.component.params)

    def _latency(self, stage: Stage, work: Work, seconds: float) -> float:
        assert self._line is not None
        return (self._line.end_ns - self._line.start_ns) * 1e-9

    def _parted(self, number: int, how: str) -> RosAttnError:
        return RosAttnError(
            f"{self.run.path} cannot be followed beyond step {number + 1}: {how}; the bag or the version is not that "
            "of the run, so replay the bag again."
        )


def _graph(run: RecordedRun) -> Graph:
    settings = run.summary["settings"]
    if settings["component"].endswith((".yaml", ".yml")):
        graph = graphs.load(Path(settings["component"]))
    else:
        graph = Graph([_stage(run)])
    absent = [stage.name for stage in graph.stages if stage.name not in run.params]
    if absent:
        raise RosAttnError(
            f"{settings['component']} is not the graph of {run.path}: that run has no stage {absent[0]!r}."
        )
    for stage in graph.stages:
        stage.component = _component(run, type(stage.component), stage.name)
    return graph


def _component(run: RecordedRun, cls: type[Component], name: str) -> Component:
    return cls(parameters.build(cls.Params, run.params.get(name, {}), f"{run.path}/params.yaml"))


def _stage(run: RecordedRun) -> Stage:
    settings = run.summary["settings"]
    cls = registry.find(settings["component"])
    options: dict[str, dict[str, float]] = {}
    for rule in settings["input"]:
        key, _, number = rule.partition("=")
        name, _, option = key.partition(".")
        options.setdefault(name, {})[option] = float(number)
    return Stage(
        # The parameters decide which topics there are to remap.
        _component(run, cls, cls.kind()), cls.kind(), "", graphs.parse_remaps(settings["remap"]),
        {name: InputOptions(**each) for name, each in options.items()},
    )  # fmt: skip
