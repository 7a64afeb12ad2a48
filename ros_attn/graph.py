"""A graph of components: which topic feeds which input, with ROS's name rules and remapping.

Components of one graph hand each other values; a host adds the messages that come from outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.component import Component
from ros_attn.errors import RosAttnError, listed, meant
from ros_attn.queues import InputOptions
from ros_attn.runtime import TF_TOPICS, Runtime

_NAME = re.compile(r"^(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")
STAGE_KEYS = ("component", "name", "params", "remap", "inputs")


def resolve(topic: str, node: str, namespace: str = "") -> str:
    """A topic's full name as ROS resolves it: relative to the namespace, ``~/`` to the node."""
    prefix = "/" + namespace.strip("/") if namespace.strip("/") else ""
    if topic.startswith("/"):
        return topic
    if topic.startswith("~/"):
        return f"{prefix}/{node}/{topic[2:]}"
    return f"{prefix}/{topic}"


def parse_remaps(rules: Sequence[str]) -> dict[str, str]:
    """``from:=to`` rules as a mapping; refuses what is not of that form or no topic name."""
    found = {}
    for rule in rules:
        source, separator, target = rule.partition(":=")
        if not separator:
            raise RosAttnError(f"--remap {rule!r} is not of the form from:=to, such as visible/image:=/cam0/image_raw.")
        for name in (source, target):
            if not _NAME.match(name):
                raise RosAttnError(f"--remap {rule!r}: {name!r} is no topic name.")
        found[source] = target
    return found


@dataclass
class Stage:
    """One component in a graph, with its node name, namespace and remapping.

    ``spec`` is what was asked for (a name, module:Class, file.py:Class), so that it can be found again.
    """

    component: Component
    name: str
    namespace: str = ""
    remap: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, InputOptions] = field(default_factory=dict)
    spec: str = ""

    def topic(self, declared: str) -> str:
        """The full topic of a declared one, remapping applied to either form of the name."""
        full = resolve(declared, self.name, self.namespace)
        target = self.remap.get(declared, self.remap.get(full, declared))
        return resolve(target, self.name, self.namespace)

    def input_topics(self, runtime: Runtime) -> dict[str, str]:
        return {name: self.topic(declared) for name, declared in runtime.topics.items()}

    def output_topics(self) -> dict[str, str]:
        return {name: self.topic(out.topic) for name, out in self.component.outputs.items()}

    def check_remaps(self) -> None:
        """Refuse a remapping of a topic that this stage neither takes nor gives."""
        declared = [policy.topic for policy in self.component.wiring().inputs.values() if hasattr(policy, "topic")]  # type: ignore[union-attr]
        declared += [out.topic for out in self.component.outputs.values()] + list(TF_TOPICS.values())
        known = declared + [resolve(topic, self.name, self.namespace) for topic in declared]
        for source in self.remap:
            if source not in known:
                raise RosAttnError(
                    f"--remap {source}:={self.remap[source]}: {self.name} has no topic {source!r}"
                    f"{meant(source, known)}; its topics are {listed(declared)}."
                )


@dataclass
class Graph:
    """Stages in order; names are unique."""

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise RosAttnError(f"Two stages are called {listed(sorted(twice))}; give each its own `name`.")
        for stage in self.stages:
            stage.check_remaps()


def single(
    component: str,
    params: Mapping[str, Any] | None = None,
    remap: Mapping[str, str] | None = None,
    options: Mapping[str, InputOptions] | None = None,
    name: str | None = None,
    namespace: str = "",
) -> Graph:
    """A graph of one component by name."""
    cls = registry.find(component)
    built = cls(parameters.build(cls.Params, params or {}, cls.kind()))
    return Graph([Stage(built, name or cls.kind(), namespace, remap or {}, options or {}, component)])


def load(path: Path) -> Graph:
    """A graph from a YAML file::

        stages:
          - component: infrared_visible_fusion
            name: fusion
            params: {model: rule, slop_s: 0.05}
            remap: {visible/image: /cam0/image_raw}
            inputs: {infrared: {time_offset_s: -0.012}}

    Raises :class:`RosAttnError` naming the file, the stage and the key that is wrong.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RosAttnError(f"{path} cannot be read as a graph: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("stages"), list) or not content["stages"]:
        raise RosAttnError(f"{path}: a graph is a mapping with a list `stages`, each with a `component`.")
    stages = []
    for index, entry in enumerate(content["stages"]):
        where = f"{path}, stage {index + 1}"
        if not isinstance(entry, dict) or "component" not in entry:
            raise RosAttnError(f"{where}: it needs a `component`.")
        for key in entry:
            if key not in STAGE_KEYS:
                raise RosAttnError(
                    f"{where}: unknown key {key!r}{meant(str(key), STAGE_KEYS)}; known: {listed(STAGE_KEYS)}."
                )
        cls = registry.find(entry["component"])
        built = cls(parameters.build(cls.Params, entry.get("params") or {}, f"{where}, {cls.kind()}"))
        options = {
            name: input_options(each, f"{where}, input {name}") for name, each in (entry.get("inputs") or {}).items()
        }
        remap = entry.get("remap") or {}
        stages.append(Stage(built, entry.get("name", cls.kind()), "", remap, options, entry["component"]))
    return Graph(stages)


def input_options(values: Mapping[str, Any], where: str) -> InputOptions:
    """Options of one input from a mapping; refuses unknown names and values that are no numbers."""
    known = InputOptions.__dataclass_fields__
    for name, value in values.items():
        if name not in known:
            raise RosAttnError(f"{where}: unknown option {name!r}{meant(name, known)}; known: {listed(known)}.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RosAttnError(f"{where}: {name} is {value!r}, but takes a number.")
    return InputOptions(**{name: float(value) for name, value in values.items()})
