"""Parameters, one truth: a frozen dataclass whose fields carry default, unit, range and a sentence.

From it come the command line flags, the ROS parameter descriptors, ``launch/config/<node>.yaml`` and the
table in the documentation. A bad value is refused with the field, the value and the range.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ros_attn.errors import ParameterError, listed, meant


@dataclass(frozen=True)
class Field:
    """What is declared of one parameter; ``type`` is bool, int, float, str or tuple (of numbers)."""

    name: str
    type: type
    default: Any
    doc: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    @property
    def range_text(self) -> str:
        """The permitted values in words, empty where anything of the type goes."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.low is None and self.high is None:
            return ""
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{low} to {high}" + (f" {self.unit}" if self.unit else "")


def param(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    live: bool = False,
) -> Any:
    """Declare a parameter. ``live``: may be set while the node runs, between two steps.

    A ``Literal[...]`` annotation gives the choices; ``low`` and ``high`` are inclusive and, for a tuple,
    hold for each element.
    """
    metadata = {"doc": doc, "unit": unit, "low": low, "high": high, "live": live}
    return dataclasses.field(default=default, metadata=metadata)


def _plain_type(name: str, annotation: Any) -> tuple[type, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return str, tuple(str(choice) for choice in get_args(annotation))
    if origin is tuple:
        return tuple, ()
    if origin in (Union, UnionType):
        raise TypeError(f"parameter {name!r}: ROS parameters cannot be None; use an explicit value instead")
    if annotation in (bool, int, float, str):
        return annotation, ()
    raise TypeError(f"parameter {name!r}: {annotation!r} has no ROS parameter type")


def fields_of(params: type | Any) -> dict[str, Field]:
    """The declared parameters of a ``Params`` class, in order."""
    cls = params if isinstance(params, type) else type(params)
    hints = get_type_hints(cls)
    found = {}
    for each in dataclasses.fields(cls):
        kind, choices = _plain_type(each.name, hints[each.name])
        if each.default is MISSING or "doc" not in each.metadata:
            raise TypeError(f"{cls.__name__}.{each.name}: declare it with param(default, doc, ...)")
        found[each.name] = Field(each.name, kind, each.default, choices=choices, **each.metadata)
    return found


def _coerce(field: Field, value: Any, where: str) -> Any:
    kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list of numbers"}
    wrong = ParameterError(
        f"{where}: {field.name} is {value!r}, but takes {kind[field.type]}"
        + (f", {field.range_text}" if field.range_text else "")
        + "."
    )
    if field.type is bool:
        if not isinstance(value, bool):
            raise wrong
        return value
    if field.type is str:
        if not isinstance(value, str):
            raise wrong
        return value
    if field.type is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise wrong
        items = tuple(value)
        if any(isinstance(item, bool) or not isinstance(item, int | float) for item in items):
            raise wrong
        return tuple(float(item) for item in items)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong
    if field.type is int and value != int(value):
        raise wrong
    return field.type(value)


def _check_range(field: Field, value: Any, where: str) -> None:
    if field.choices and value not in field.choices:
        raise ParameterError(
            f"{where}: {field.name} is {value!r}{meant(str(value), field.choices)}, but must be {field.range_text}."
        )
    if field.type in (int, float, tuple):
        for item in value if field.type is tuple else (value,):
            low = -math.inf if field.low is None else field.low
            high = math.inf if field.high is None else field.high
            if not low <= item <= high:
                raise ParameterError(f"{where}: {field.name} is {item:g}, outside {field.range_text}: {field.doc}")


def build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A ``Params`` from a mapping; ``where`` (a file, a node) begins the sentence of a refusal.

    Raises :class:`ParameterError` for an unknown name, a wrong type or a value outside its range.
    """
    declared = fields_of(cls)
    for name in values:
        if name not in declared:
            raise ParameterError(
                f"{where}: there is no parameter {name!r}{meant(name, declared)}; it takes {listed(declared, 40)}."
            )
    checked = {name: _coerce(declared[name], value, where) for name, value in values.items()}
    built = cls(**checked)
    validate(built, where)
    return built


def validate(params: Any, where: str) -> None:
    """Check every field against its declaration, then ``params.check()`` where the class has one.

    ``check`` returns a sentence about fields that contradict each other, or None.
    """
    for name, field in fields_of(params).items():
        value = _coerce(field, getattr(params, name), where)
        _check_range(field, value, where)
    check = getattr(params, "check", None)
    if check is not None and (sentence := check()):
        raise ParameterError(f"{where}: {sentence}")


def as_dict(params: Any) -> dict[str, Any]:
    """The parameters as plain values that YAML and JSON can hold."""
    return {
        name: list(value) if isinstance(value := getattr(params, name), tuple) else value for name in fields_of(params)
    }


def yaml_scalar(value: Any) -> str:
    """One value as YAML, so that it reads back with the same type in ROS's own parser as well."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return repr(value).replace("inf", ".inf").replace("nan", ".nan")
        # YAML 1.1 reads 1e-07 as text: the mantissa needs its point.
        mantissa, exponent, power = repr(value).partition("e")
        return (mantissa if "." in mantissa else mantissa + ".0") + exponent + power
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_scalar(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def ros_yaml(node: str, cls: type) -> str:
    """The text of ``launch/config/<node>.yaml``: every parameter with its sentence, unit and range above it."""
    lines = [
        f"# Parameters of {node}: the defaults, generated from {cls.__name__} by `ros-attn params`.",
        "# Fields marked live can be set while the node runs.",
        "/**:",
        "  ros__parameters:",
    ]
    for name, field in fields_of(cls).items():
        facts = "; ".join(text for text in (field.unit and f"unit {field.unit}", field.range_text) if text)
        live = " (live)" if field.live else ""
        lines.append(f"    # {field.doc}{live}" + (f" [{facts}]" if facts else ""))
        lines.append(f"    {name}: {yaml_scalar(field.default)}")
    return "\n".join(lines) + "\n"


def markdown_table(cls: type) -> str:
    """The parameters as a table for the documentation."""
    rows = ["| parameter | default | range | live | meaning |", "|---|---|---|---|---|"]
    for name, field in fields_of(cls).items():
        default = yaml_scalar(field.default) + (f" {field.unit}" if field.unit else "")
        rows.append(f"| `{name}` | {default} | {field.range_text} | {'yes' if field.live else 'no'} | {field.doc} |")
    return "\n".join(rows) + "\n"
