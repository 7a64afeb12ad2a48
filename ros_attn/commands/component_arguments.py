"""Which components a command runs, and their parameters from flags, files and remappings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from ros_attn import graph as graphs
from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.errors import ParameterError, RosAttnError, listed
from ros_attn.graph import Graph
from ros_attn.queues import InputOptions


def parameter_flags(cls: type, argv: Sequence[str], prog: str) -> dict[str, Any]:
    """The parameters of ``cls`` that are given as flags (``--slop-s 0.05``); the others stay with their source."""
    import tyro

    declared = parameters.fields_of(cls)
    hints = {each.name: each for each in dataclasses.fields(cls)}
    flags = dataclasses.make_dataclass(
        cls.__name__,
        [
            (
                name,
                Annotated[
                    _hint(cls, name) | None,  # type: ignore[operator]
                    tyro.conf.arg(
                        help=_help(field), help_behavior_hint=f"(default {parameters.yaml_scalar(field.default)})"
                    ),
                ],
                dataclasses.field(default=None),
            )
            for name, field in declared.items()
            if name in hints
        ],
    )
    parsed = tyro.cli(flags, args=list(argv), prog=prog, description=cls.__doc__ or "")
    return {name: value for name in declared if (value := getattr(parsed, name)) is not None}


def _hint(cls: type, name: str) -> Any:
    from typing import get_type_hints

    return get_type_hints(cls)[name]


def _help(field: parameters.Field) -> str:
    return field.doc + (f" [{field.range_text}]" if field.range_text else "")


def from_ros_yaml(path: Path, node: str) -> dict[str, Any]:
    """The ``ros__parameters`` of a node from a ROS parameter file, wildcards (``/**``) first.

    Raises :class:`RosAttnError` where the file is not of that form.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RosAttnError(f"{path} cannot be read as a parameter file: {error}") from None
    if not isinstance(content, dict):
        raise RosAttnError(f"{path} is no parameter file: it begins with a node's name or /**, then ros__parameters.")
    found: dict[str, Any] = {}
    for key in ("/**", node, f"/{node}"):
        block = content.get(key)
        if block is None:
            continue
        if not isinstance(block, dict) or not isinstance(block.get("ros__parameters"), dict):
            raise RosAttnError(f"{path}: below {key!r} stands no mapping ros__parameters.")
        found.update(block["ros__parameters"])
    if not found:
        raise ParameterError(f"{path} has nothing for node {node!r}; it has {listed(map(str, content))}.")
    return found


def input_settings(rules: Sequence[str]) -> dict[str, InputOptions]:
    """``infrared.time_offset_s=-0.012`` rules as options by input."""
    grouped: dict[str, dict[str, Any]] = {}
    for rule in rules:
        key, separator, text = rule.partition("=")
        name, dot, option = key.partition(".")
        try:
            number = float(text)
        except ValueError:
            separator = ""
            number = 0.0
        if not separator or not dot:
            raise RosAttnError(
                f"--input {rule!r} is not of the form input.option=number, such as infrared.time_offset_s=-0.012."
            )
        grouped.setdefault(name, {})[option] = number
    return {name: graphs.input_options(each, f"--input {name}") for name, each in grouped.items()}


def build_graph(
    component: str,
    flags: Sequence[str],
    params_file: Path | None,
    remap: Mapping[str, str],
    inputs: Mapping[str, InputOptions],
    prog: str,
) -> tuple[Graph, dict[str, str]]:
    """The graph a command line means, and the component each stage was asked for."""
    if component.endswith((".yaml", ".yml")):
        if flags or params_file or remap or inputs:
            raise RosAttnError(f"{component} is a graph: parameters, remappings and input options stand in that file.")
        import yaml

        graph = graphs.load(Path(component))
        entries = yaml.safe_load(Path(component).read_text())["stages"]
        return graph, {stage.name: entry["component"] for stage, entry in zip(graph.stages, entries, strict=True)}
    cls = registry.find(component)
    values = from_ros_yaml(params_file, cls.kind()) if params_file else {}
    values |= parameter_flags(cls.Params, flags, prog)
    graph = graphs.single(component, values, remap, inputs)
    return graph, {graph.stages[0].name: component}
