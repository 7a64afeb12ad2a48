"""Parameters: one declaration, refused by field, value and range, and written so that it reads back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import yaml

from ros_attn import params as parameters
from ros_attn.errors import ParameterError
from ros_attn.params import build, fields_of, param, ros_yaml


@dataclass(frozen=True)
class Demo:
    """A bit of everything."""

    gain: float = param(1.5, "how much", unit="dB", low=0.0, high=10.0, live=True)
    count: int = param(3, "how many", low=1)
    active: bool = param(True, "whether")
    mode: Literal["fast", "exact"] = param("fast", "which")
    pose: tuple[float, ...] = param((0.0, 1.0, 1e-7), "where", low=-1.0, high=1.0)
    name: str = param('a "b"', "what")

    def check(self) -> str | None:
        return "gain and count contradict each other." if self.gain > 9 and self.count > 9 else None


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"gain": 11}, "here: gain is 11, outside 0 to 10 dB: how much"),
        ({"gain": "loud"}, "here: gain is 'loud', but takes a number, 0 to 10 dB."),
        ({"gain": True}, "here: gain is True, but takes a number"),
        ({"gain": float("nan")}, "here: gain is nan, outside"),
        ({"count": 0}, "here: count is 0, outside 1 to inf"),
        ({"count": 1.5}, "here: count is 1.5, but takes a whole number"),
        ({"active": 1}, "here: active is 1, but takes true or false"),
        ({"mode": "fsat"}, "here: mode is 'fsat' (did you mean 'fast'?), but must be one of fast, exact"),
        ({"pose": "abc"}, "here: pose is 'abc', but takes a list of numbers"),
        ({"pose": [0, 2]}, "here: pose is 2, outside -1 to 1"),
        ({"gian": 1}, "here: there is no parameter 'gian' (did you mean 'gain'?); it takes gain, count, active"),
        ({"gain": 9.5, "count": 10}, "here: gain and count contradict each other."),
    ],
)
def test_refusals(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError) as raised:
        build(Demo, values, "here")
    assert sentence in str(raised.value)


def test_whole_numbers_serve_as_floats_and_lists_as_tuples() -> None:
    made = build(Demo, {"gain": 2, "pose": [0, 1]}, "here")
    assert made.gain == 2.0 and isinstance(made.gain, float) and made.pose == (0.0, 1.0)


def test_yaml_reads_back_with_the_same_types() -> None:
    read = yaml.safe_load(ros_yaml("demo", Demo))["/**"]["ros__parameters"]
    assert build(Demo, read, "file") == Demo()
    assert {name: type(value) for name, value in read.items()} == {
        "gain": float, "count": int, "active": bool, "mode": str, "pose": list, "name": str,
    }  # fmt: skip
    text = ros_yaml("demo", Demo)
    assert "# how much (live) [unit dB; 0 to 10 dB]" in text


def test_declarations_without_param_are_a_programming_error() -> None:
    @dataclass(frozen=True)
    class Bare:
        x: float = 1.0

    @dataclass(frozen=True)
    class Optional:
        x: float | None = param(None, "none is no ROS parameter")

    with pytest.raises(TypeError, match="declare it with param"):
        fields_of(Bare)
    with pytest.raises(TypeError):
        fields_of(Optional)


def test_table_has_every_field() -> None:
    assert parameters.markdown_table(Demo).count("\n| `") == len(fields_of(Demo))
