"""``ros-attn components``: the components there are, their topics and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.codecs import types_of
from ros_attn.component import Component


@dataclass(frozen=True)
class Options:
    """List the components, or describe one."""

    component: Annotated[str, tyro.conf.Positional] = ""
    """name, module:Class or file.py:Class."""


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn components")
    if not options.component:
        for name in registry.built_in():
            first = (registry.find(name).__doc__ or "").partition("\n")[0]
            print(f"{name}\n    {first}")
        return 0
    print(describe(registry.find(options.component)))
    return 0


def describe(cls: type[Component]) -> str:
    """Topics and parameters of one component, under its defaults."""
    component = cls()
    lines = [cls.kind(), "", "inputs:"]
    wiring = component.wiring()
    for name, policy in wiring.inputs.items():
        if hasattr(policy, "topic"):
            lines.append(f"  {policy.topic}  ({name}, {type(policy).__name__}) {' or '.join(types_of(policy.type))}")  # type: ignore[union-attr]
        else:
            lines.append(f"  /tf  ({name}) {policy}")
    if wiring.trigger is not None:
        lines.append(f"  steps on {wiring.trigger}")
    lines.append("outputs:")
    lines += [f"  {out.topic}  ({name}) {types_of(out.type)[0]}" for name, out in cls.outputs.items()]
    lines.append("parameters (ros: name:=value; command line: --name value):")
    for name, field in parameters.fields_of(cls.Params).items():
        facts = ", ".join(text for text in (field.range_text, "live" if field.live else "") if text)
        lines.append(f"  {name} = {parameters.yaml_scalar(field.default)}" + (f"  [{facts}]" if facts else ""))
        lines.append(f"      {field.doc}")
    return "\n".join(lines)
