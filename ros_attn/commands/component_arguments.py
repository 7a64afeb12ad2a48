"""Which components a command runs, and their parameters from flags, files and remappings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from ros_attn import graph as graphs
from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.errors import ParameterError, RosAttnError, listed
from ros_attn.graph import Graph
from ros_attn.queues import InputOptions

OptionsT = TypeVar("OptionsT")


def parse(options: type[OptionsT], argv: Sequence[str], prog: str) -> tuple[OptionsT, dict[str, Any]]:
    """A verb's options together with the parameters of the component it names, in any order of flags.

    Returns the options and the parameters that were given as flags (``--slop-s 0.05``); the others stay with
    their source. ``--help`` behind a component shows both.
    """
    import tyro

    name = _component_in(argv)
    if name is None:
        parsed, unknown = tyro.cli(options, args=list(argv), prog=prog, return_unknown_args=True)
        # With unknown flags tyro fills an absent optional positional with the text "[]".
        component = getattr(parsed, "component", "")
        if component not in ("", "[]") and not component.endswith((".yaml", ".yml")):
            registry.find(component)
        return (parsed if not unknown else tyro.cli(options, args=list(argv), prog=prog)), {}
    cls = registry.find(name)
    declared = parameters.fields_of(cls.Params)
    taken = {each.name for each in dataclasses.fields(options)} & set(declared)  # type: ignore[arg-type]
    if taken:
        raise RosAttnError(
            f"{name}: its parameters {listed(sorted(taken))} are called like options of `{prog}`; rename them."
        )
    hints = get_type_hints(cls.Params)
    flags = [
        (key, _flag(hints[key], field), dataclasses.field(default=None, kw_only=True))
        for key, field in declared.items()
    ]
    combined = dataclasses.make_dataclass(options.__name__, flags, bases=(options,), frozen=True)
    combined.__doc__ = options.__doc__
    parsed = tyro.cli(combined, args=list(argv), prog=prog)
    given = {key: value for key in declared if (value := getattr(parsed, key)) is not None}
    return parsed, given


def _component_in(argv: Sequence[str]) -> str | None:
    """The word that names a component, wherever it stands among the flags."""
    known = registry.built_in()
    for word in argv:
        if word in known or (":" in word and ":=" not in word and not word.startswith("-")):
            return word
    return None


def _flag(hint: Any, field: parameters.Field) -> Any:
    import tyro

    about = field.doc + (f" [{field.range_text}]" if field.range_text else "")
    default = f"(default {parameters.yaml_scalar(field.default)})"
    return Annotated[hint | None, tyro.conf.arg(help=about, help_behavior_hint=default)]


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
    given: Mapping[str, Any],
    params_file: Path | None,
    remap: Mapping[str, str],
    inputs: Mapping[str, InputOptions],
) -> tuple[Graph, dict[str, str]]:
    """The graph a command line means, and the component each stage was asked for."""
    if component.endswith((".yaml", ".yml")):
        if given or params_file or remap or inputs:
            raise RosAttnError(f"{component} is a graph: parameters, remappings and input options stand in that file.")
        graph = graphs.load(Path(component))
    else:
        cls = registry.find(component)
        values = from_ros_yaml(params_file, cls.kind()) if params_file else {}
        graph = graphs.single(component, {**values, **given}, remap, inputs)
    return graph, {stage.name: stage.spec for stage in graph.stages}
