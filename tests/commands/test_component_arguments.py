"""Options of a verb and parameters of a component on one command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros_attn.commands.component_arguments import from_ros_yaml, parse
from ros_attn.commands.replay import Options
from ros_attn.errors import ParameterError, RosAttnError


@pytest.mark.parametrize(
    "argv",
    [
        ["bag", "infrared_visible_fusion", "--slop-s", "0.1", "--mode", "as-deployed"],
        ["--slop-s", "0.1", "bag", "--mode", "as-deployed", "infrared_visible_fusion"],
        ["--mode", "as-deployed", "bag", "--slop-s=0.1", "infrared_visible_fusion"],
    ],
)
def test_flags_stand_anywhere(argv: list[str]) -> None:
    options, given = parse(Options, argv, "ros-attn replay")
    assert (options.bag, options.component, options.mode) == (Path("bag"), "infrared_visible_fusion", "as-deployed")
    assert given == {"slop_s": 0.1}


def test_tuples_and_choices() -> None:
    numbers = ["1", "0", "5", "0", "1", "6", "0", "0", "1"]
    argv = ["bag", "infrared_visible_fusion", "--align", "homography", "--homography", *numbers]
    _, given = parse(Options, argv, "ros-attn replay")
    assert given == {"align": "homography", "homography": tuple(map(float, numbers))}


@pytest.mark.parametrize(
    "argv, meant",
    [
        (["bag", "infrared_visible_fusion", "--slp-s", "0.1"], "--slop-s"),
        (["bag", "infrared_visible_fusion", "--align", "calibrtion"], "calibration"),
        (["bag", "infrared_visible_fusion", "--slop-s", "wide"], "--slop-s"),
        (["bag", "--strat", "3"], "--start"),
    ],
)
def test_typos_are_proposed(argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(Options, argv, "ros-attn replay")
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert meant in captured.out + captured.err


def test_a_misspelt_component_is_named_before_its_flags() -> None:
    with pytest.raises(RosAttnError, match="did you mean 'infrared_visible_fusion'"):
        parse(Options, ["bag", "infrared_visible_fusio", "--slop-s", "0.1"], "ros-attn replay")


def test_ros_parameter_files(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("/**:\n  ros__parameters: {slop_s: 0.1, hold_s: 1.0}\nfusion:\n  ros__parameters: {slop_s: 0.2}\n")
    assert from_ros_yaml(path, "fusion") == {"slop_s": 0.2, "hold_s": 1.0}
    assert from_ros_yaml(path, "other") == {"slop_s": 0.1, "hold_s": 1.0}
    path.write_text("fusion:\n  ros__parameters: {slop_s: 0.2}\n")
    with pytest.raises(ParameterError, match="nothing for node 'other'; it has fusion"):
        from_ros_yaml(path, "other")
    path.write_text("fusion: {slop_s: 0.2}\n")
    with pytest.raises(RosAttnError, match="no mapping ros__parameters"):
        from_ros_yaml(path, "fusion")
