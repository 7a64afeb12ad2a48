"""ROS parameters from declared fields: descriptors, values at the start, refusals with a reason, live changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_attn import params as parameters
from ros_attn.errors import ParameterError, listed, meant
from ros_attn.params import Field, param
from ros_attn.queues import InputOptions

# Declared by rclpy itself, by name or by prefix.
_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


@dataclass(frozen=True)
class HostParams:
    """Parameters that every node has, whatever its component."""

    qos: Literal["default", "lossless"] = param(
        "default", "default: sensor data in, results reliable; lossless: reliable with depth 100 both ways, for tests"
    )
    autostart: bool = param(True, "configure and activate at the start; false where a lifecycle manager does it")
    journal: str = param(
        "", "bag to write every call of this node to, so that replay gives the same bytes; empty: none"
    )
    diagnostics_period_s: float = param(1.0, "between two diagnostics", unit="s", low=0.05, high=60.0)
    warn_latency_ms: float = param(
        200.0, "stamp to publish above which diagnostics warn; 0: never", unit="ms", low=0.0, live=True
    )
    error_latency_ms: float = param(
        1000.0, "stamp to publish above which diagnostics say error; 0: never", unit="ms", low=0.0, live=True
    )


@dataclass(frozen=True)
class SaveParams:
    """Parameters of nodes whose component can save."""

    save_path: str = param("", "where ~/save writes; empty: <node>-<time> in the working directory", live=True)


@dataclass(frozen=True)
class InputParams:
    """Parameters that every input has: :class:`ros_attn.queues.InputOptions`."""

    time_offset_s: float = param(0.0, "added to every stamp of this input", unit="s", low=-3600.0, high=3600.0)
    max_rate_hz: float = param(0.0, "thin to this rate by stamp; 0: take all", unit="Hz", low=0.0)
    queue_s: float = param(2.0, "bound of the queue in seconds of stamps", unit="s", low=0.01, high=3600.0)

    @classmethod
    def of(cls, options: InputOptions) -> InputParams:
        return cls(**vars(options))

    @property
    def options(self) -> InputOptions:
        return InputOptions(**vars(self))


def descriptor(declared: Field) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows. Not read_only in rclpy's sense, which gives no reason when it refuses."""
    constraints = [declared.range_text] if declared.choices or declared.type is tuple else []
    constraints += [] if declared.live else ["set before the node is configured"]
    found = ParameterDescriptor(
        description=declared.doc + (f" [{declared.unit}]" if declared.unit else ""),
        additional_constraints="; ".join(text for text in constraints if text),
        # An empty list has no type that rclpy could infer.
        dynamic_typing=declared.type is tuple,
    )
    if declared.low is None and declared.high is None:
        return found
    low = -math.inf if declared.low is None else declared.low
    high = math.inf if declared.high is None else declared.high
    if declared.type is float:
        found.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif declared.type is int:
        ends = [max(-(2**63), low), min(2**63 - 1, high)]
        found.integer_range = [IntegerRange(from_value=int(ends[0]), to_value=int(ends[1]), step=1)]
    return found


@dataclass
class Group:
    """Parameters of one dataclass, under a prefix; ``value`` is its present instance."""

    prefix: str
    value: Any
    fixed: bool = False


@dataclass
class NodeParameters:
    """The parameters of one node, in groups by label; those given at the start go through ``params.build``.

    Of a ``fixed`` group (the host's own) what is not live never changes; of the others it does while the
    node is unconfigured.
    """

    node: Node
    groups: dict[str, Group] = field(default_factory=dict)

    def __getitem__(self, label: str) -> Any:
        """The present values of a group."""
        return self.groups[label].value

    @property
    def _given(self) -> dict[str, Parameter]:
        # rclpy gives no public way to what the command line and parameter files said.
        return self.node._parameter_overrides

    def _where(self, prefix: str = "") -> str:
        return self.node.get_fully_qualified_name() + (f", {prefix.rstrip('.')}" if prefix else "")

    def declare(self, label: str, default: Any, prefix: str = "", fixed: bool = False) -> None:
        """Declare a group, once; ParameterError where a value given at the start is refused."""
        if label in self.groups:
            return
        fields = parameters.fields_of(default)
        given = {name: _plain(self._given[prefix + name].value) for name in fields if prefix + name in self._given}
        values = {**parameters.as_dict(default), **given}
        built = parameters.build(type(default), values, self._where(prefix))
        self.groups[label] = Group(prefix, built, fixed)
        for name, value in parameters.as_dict(built).items():
            self.node.declare_parameter(prefix + name, value, descriptor(fields[name]), ignore_override=True)

    @property
    def names(self) -> list[str]:
        """The names of all groups' parameters."""
        return [group.prefix + name for group in self.groups.values() for name in vars(group.value)]

    def unknown(self) -> list[str]:
        """Names given at the start that this node does not have."""
        return [name for name in self._given if not (self.node.has_parameter(name) or name.startswith(_OF_RCLPY))]

    def check(self, wanted: Sequence[Parameter], configured: bool) -> tuple[list[Parameter], dict[str, Any]]:
        """What to set, and the groups that change as they would be then; ParameterError says why not."""
        changes: dict[str, dict[str, Any]] = {}
        checked = []
        for each in wanted:
            found = self._find(each.name)
            if found is None:
                if not self.node.has_parameter(each.name):
                    close = meant(each.name, self.names)
                    raise ParameterError(f"{self._where()}: there is no parameter {each.name!r}{close}.")
                checked.append(each)
                continue
            label, declared = found
            if not declared.live and (configured or self.groups[label].fixed):
                raise ParameterError(self._not_live(each.name, self.groups[label]))
            value = _typed(declared, _plain(each.value))
            changes.setdefault(label, {})[declared.name] = value
            checked.append(each if value is None else Parameter(each.name, value=value))
        built = {}
        for label, changed in changes.items():
            group = self.groups[label]
            values = {**parameters.as_dict(group.value), **changed}
            built[label] = parameters.build(type(group.value), values, self._where(group.prefix))
        return checked, built

    def adopt(self, built: Mapping[str, Any]) -> None:
        """Take over what :meth:`check` built."""
        for label, value in built.items():
            self.groups[label].value = value

    def _find(self, name: str) -> tuple[str, Field] | None:
        for label, group in self.groups.items():
            bare = name.removeprefix(group.prefix)
            if name.startswith(group.prefix) and bare in vars(group.value):
                return label, parameters.fields_of(group.value)[bare]
        return None

    def _not_live(self, name: str, group: Group) -> str:
        instead = f"restart the node with -p {name}:=VALUE"
        if not group.fixed:
            instead += ", or deactivate and clean it up, set it and configure again"
        live = [field.name for field in parameters.fields_of(group.value).values() if field.live]
        return (
            f"{self._where()}: {name} is read when the node is {'started' if group.fixed else 'configured'}, so it "
            f"cannot change now; {instead}" + (f" (live are {listed(live)})." if live else ".")
        )


def _typed(declared: Field, value: Any) -> Any:
    """Whole numbers as floats where floats are declared: ``ros2 param set slop_s 1`` gives an integer."""

    def as_float(item: Any) -> Any:
        return float(item) if isinstance(item, int) and not isinstance(item, bool) else item

    if declared.type is float:
        return as_float(value)
    if declared.type is tuple and isinstance(value, list):
        return [as_float(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """A parameter's value with lists in place of the arrays that rclpy gives."""
    return value if isinstance(value, str | bool | int | float) or value is None else list(value)
