"""The journal: the sequence of calls a host made to its runtimes, as a bag that replays to the same bytes.

A journal is a rosbag2 mcap. Every message that was pushed stands on its own topic, so any viewer shows it;
the topic ``/ros_attn/journal`` (std_msgs/String, one JSON object each) holds the order of the calls::

    {"do": "open", "stage": "fusion", "component": "infrared_visible_fusion", "params": {...}, ...}
    {"do": "push", "stage": "fusion", "of": "visible", "topic": "/visible/image", "ns": 1700000000000000000}
    {"do": "advance" | "reset" | "params", ...}
    {"do": "take", "stage": "fusion", "n": 17, "ns": ...}
    {"do": "out", "stage": "fusion", "n": 17, "of": "fused", "digest": "5f1c…"}

``out`` carries the SHA-256 over the fields of what the step gave (:func:`ros_attn.values.field_bytes`), so a
replay of the journal can say whether it reproduced every output.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.bag import BagMessage, BagReader, BagWriter
from ros_attn.component import Component
from ros_attn.errors import BagError, RosAttnError
from ros_attn.graph import Graph, Stage
from ros_attn.queues import InputOptions
from ros_attn.runtime import Runtime
from ros_attn.values import Text, Twist, Value, field_bytes

if TYPE_CHECKING:
    from ros_attn.component import Outputs

TOPIC = "/ros_attn/journal"
FORMAT = 1
# A stamp of its own must survive: where ROS has a type with and one without header, the one with.
STAMPED: Mapping[type[Value], str] = {Twist: "geometry_msgs/msg/TwistStamped"}


class JournalWriter:
    """Writes what the runtimes of one process were told. One lock: two threads tell it."""

    def __init__(self, path: Path, graph: Graph, spec: Mapping[str, str]) -> None:
        """``spec``: the component of each stage as it was asked for, so that a replay finds it again."""
        self._bag = BagWriter(path)
        self._lock = threading.Lock()
        self._log_ns = 0
        self._taken: dict[str, int] = {}
        for stage in graph.stages:
            self.open(stage, spec[stage.name])

    def open(self, stage: Stage, component: str) -> None:
        """Begin a stage, or begin it anew: from here its calls go to a runtime of these parameters."""
        self._event(
            {
                "do": "open",
                "format": FORMAT,
                "stage": stage.name,
                "namespace": stage.namespace,
                "component": component,
                "params": parameters.as_dict(stage.component.params),
                "remap": dict(stage.remap),
                "options": {name: dataclasses.asdict(each) for name, each in stage.options.items()},
            },
            0,
        )

    def observe(self, stage: Stage, runtime: Runtime) -> None:
        """Write every call to ``runtime`` from now on."""
        topics = stage.input_topics(runtime)

        def observer(do: str, of: str, value: Any, ns: int) -> None:
            event: dict[str, Any] = {"do": do, "stage": stage.name, "ns": ns}
            if do == "params":
                event["params"] = parameters.as_dict(value)
            elif do == "push":
                event |= {"of": of, "topic": f"/journal/{stage.name}{topics[of]}"}
            elif do == "take":
                event["n"] = self._taken[stage.name] = self._taken.get(stage.name, -1) + 1
            elif do == "reset":
                event["of"] = of
            self._event(event, ns, value if do == "push" else None)

        runtime.observer = observer

    def outputs(self, stage: Stage, outputs: Outputs) -> None:
        """Note the digests of what the work last taken from this stage gave."""
        event = {"do": "out", "stage": stage.name, "n": self._taken[stage.name]}
        for name, value in outputs.items():
            if value is not None:
                self._event({**event, "of": name, "digest": field_bytes(value)}, 0)

    def _event(self, event: dict[str, Any], ns: int, value: Value | None = None) -> None:
        with self._lock:
            # Strictly increasing log times keep the order whatever tool copies the bag.
            self._log_ns = max(self._log_ns + 1, ns)
            self._bag.write(TOPIC, Text(self._log_ns, json.dumps(event)), self._log_ns)
            if value is not None:
                self._log_ns += 1
                self._bag.write(event["topic"], value, self._log_ns, STAMPED.get(type(value)))

    def close(self) -> None:
        with self._lock:
            self._bag.close()


def is_journal(bag: BagReader) -> bool:
    """Whether a bag is a journal."""
    return TOPIC in bag.topics


@dataclasses.dataclass
class Outcome:
    """One step of a replayed journal: what it gave, and the digests the host noted."""

    stage: Stage
    outputs: Outputs
    noted: Mapping[str, str]

    @property
    def reproduced(self) -> bool:
        """Whether every output has the digest that was noted."""
        given = {name: field_bytes(value) for name, value in self.outputs.items() if value is not None}
        return given == dict(self.noted)


def replay(path: Path) -> Iterator[Outcome]:
    """Make the recorded calls again and yield each step's outputs beside the noted digests.

    Raises :class:`BagError` where the bag is no journal, or one of a newer format.
    """
    with BagReader(path) as bag:
        if not is_journal(bag):
            raise BagError(f"{path} is no journal: it has no topic {TOPIC}; replay it as a bag with a component.")
        noted = _noted_digests(bag)
        stages: dict[str, tuple[Stage, Runtime]] = {}
        awaited: dict[str, Any] | None = None
        for message in bag.messages():
            if message.topic != TOPIC:
                assert awaited is not None
                value = _with_arrival(bag.decode(message), message.arrival_ns, awaited["ns"])
                stages[awaited["stage"]][1].push(awaited["of"], value, awaited["ns"])
                awaited = None
                continue
            event = _event_of(bag, message)
            if event["do"] == "open":
                stages[event["stage"]] = _opened(event, path)
            elif event["do"] == "push":
                awaited = event
            elif event["do"] == "take":
                stage, runtime = stages[event["stage"]]
                yield Outcome(stage, _run(runtime), noted.get((stage.name, event["n"]), {}))
            elif event["do"] != "out":
                _repeat(event, *stages[event["stage"]])


def _event_of(bag: BagReader, message: BagMessage) -> dict[str, Any]:
    text = bag.decode(message)
    assert isinstance(text, Text)
    return json.loads(text.data)


def _noted_digests(bag: BagReader) -> dict[tuple[str, int], dict[str, str]]:
    """Digests by stage and number of the work; they are written later than the work was taken."""
    noted: dict[tuple[str, int], dict[str, str]] = {}
    for message in bag.messages([TOPIC]):
        event = _event_of(bag, message)
        if event["do"] == "out":
            noted.setdefault((event["stage"], event["n"]), {})[event["of"]] = event["digest"]
    return noted


def _run(runtime: Runtime) -> Outputs:
    work = runtime.take()
    if work is None:
        return {}
    try:
        return runtime.run(work)
    except RosAttnError:
        # The recorded step failed in the same way and gave nothing; the runtime has counted it.
        return {}


def _opened(event: Mapping[str, Any], path: Path) -> tuple[Stage, Runtime]:
    if event["format"] > FORMAT:
        raise BagError(
            f"{path} is a journal of format {event['format']}, newer than this version's {FORMAT}; update ros_attn."
        )
    cls = registry.find(event["component"])
    component: Component = cls(parameters.build(cls.Params, event["params"], f"{path}, {event['stage']}"))
    options = {name: InputOptions(**each) for name, each in event["options"].items()}
    stage = Stage(component, event["stage"], event["namespace"], event["remap"], options)
    component.configure()
    return stage, Runtime(component, options)


def _repeat(event: Mapping[str, Any], stage: Stage, runtime: Runtime) -> None:
    if event["do"] == "advance":
        runtime.advance(event["ns"])
    elif event["do"] == "reset":
        runtime.request_reset(event["of"])
    elif event["do"] == "params":
        where = f"{stage.name} in the journal"
        runtime.request_params(parameters.build(stage.component.Params, event["params"], where))


def _with_arrival(value: Value, logged_ns: int, arrival_ns: int) -> Value:
    """A message without header takes its arrival as stamp: the true one, not the journal's log time."""
    return dataclasses.replace(value, stamp_ns=arrival_ns) if value.stamp_ns == logged_ns else value
