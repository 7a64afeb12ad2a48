"""The launch files: read as text always, and run for real where ROS's `launch` is installed (it is not on PyPI)."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.cli import main
from ros_attn.control.shipped import shipped
from ros_attn.perception.infrared_visible_fusion.component import FusionParams, InfraredVisibleFusion

LAUNCH = Path(__file__).parents[2] / "launch"
CONFIG = LAUNCH / "config"
FILES = sorted(path.name for path in LAUNCH.glob("*.launch.py"))
REQUIRED = {
    ("component.launch.py", "component"), ("replay_evaluate.launch.py", "bagfile"),
}  # fmt: skip
EXAMPLE = re.compile(r"^ *ros2 launch ros_attn (\S+)(.*)$", re.MULTILINE)
LAUNCH_ROS = pytest.mark.skipif(
    find_spec("launch_ros") is None, reason="launch_ros comes with ROS and is not on PyPI; source ROS to run this"
)


def tree(file: str) -> ast.Module:
    return ast.parse((LAUNCH / file).read_text())


def declared(file: str) -> dict[str, dict[str, ast.expr]]:
    """The arguments that a file declares itself, with the keywords of their declaration."""
    calls = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    return {
        ast.literal_eval(call.args[0]): {each.arg: each.value for each in call.keywords if each.arg}
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "DeclareLaunchArgument"
    }


def strings(file: str) -> set[str]:
    constants = (node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_the_files_there_are() -> None:
    assert FILES == [
        "bag_and_rviz.launch.py", "component.launch.py", "environment.launch.py",
        "infrared_visible_fusion.launch.py", "perception.launch.py", "quadruped_sim.launch.py",
        "replay_evaluate.launch.py",
    ]  # fmt: skip
    assert not (LAUNCH / "__init__.py").exists(), "it would shadow ROS's own launch"


@pytest.mark.parametrize("file", FILES)
def test_every_argument_is_described_and_has_a_default(file: str) -> None:
    assert "generate_launch_description" in {node.name for node in tree(file).body if isinstance(node, ast.FunctionDef)}
    for name, keywords in declared(file).items():
        assert len(ast.literal_eval(keywords["description"])) > 8, name
        assert ("default_value" in keywords) != ((file, name) in REQUIRED), name
        if "default_value" in keywords and ast.unparse(keywords["default_value"]) in ("'true'", "'false'"):
            assert ast.literal_eval(keywords["choices"]) == ["true", "false"], name


@pytest.mark.parametrize("file", FILES)
def test_examples_name_files_and_arguments_there_are(file: str) -> None:
    for name, arguments in EXAMPLE.findall(ast.get_docstring(tree(file), clean=False) or ""):
        known = declared(name) | declared("environment.launch.py")
        given = [word.partition(":=")[0] for word in arguments.split()]
        assert name == file
        assert set(given) <= set(known)


@pytest.mark.parametrize("file", FILES)
def test_files_named_are_there(file: str) -> None:
    for text in strings(file):
        if re.fullmatch(r"\w+\.launch\.py", text):
            assert text in FILES
        elif re.fullmatch(r"[\w.]+\.(yaml|xml|rviz|json)", text):
            assert (CONFIG / text).is_file(), text


def test_python_files_import_the_standard_library_and_launch_alone() -> None:
    for file in FILES:
        imported = {node.module for node in ast.walk(tree(file)) if isinstance(node, ast.ImportFrom)}
        imported |= {each.name for node in ast.walk(tree(file)) if isinstance(node, ast.Import) for each in node.names}
        roots = {(name or "").partition(".")[0] for name in imported}
        assert roots <= {"launch", "launch_ros"} | sys.stdlib_module_names


def test_fusion_arguments_are_parameters_and_topics_of_the_component() -> None:
    [table] = [
        node.value
        for node in ast.walk(tree("infrared_visible_fusion.launch.py"))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "topics"
    ]
    assert isinstance(table, ast.Dict)
    topics = [ast.literal_eval(key) for key in table.keys if key]
    wiring = InfraredVisibleFusion(FusionParams(align="calibration")).wiring()
    assert set(topics) == {getattr(policy, "topic", None) for policy in wiring.inputs.values()} - {None}
    arguments = declared("infrared_visible_fusion.launch.py")
    known = parameters.fields_of(FusionParams)
    assert {"model", "align"} <= set(known) & set(arguments)
    described = ast.literal_eval(arguments["align"]["description"])
    assert all(choice in described for choice in known["align"].choices)
    assert "infrared_visible_fusion" in registry.built_in()


def test_node_arguments_are_parameters_of_every_node() -> None:
    pytest.importorskip("rclpy", exc_type=ImportError)
    from ros_attn.hosts.ros_parameters import HostParams

    known = parameters.fields_of(HostParams)
    assert {"qos", "autostart"} <= set(known)
    assert tuple(ast.literal_eval(declared("component.launch.py")["qos"]["choices"])) == known["qos"].choices


def test_replay_and_evaluate_know_the_options_given() -> None:
    from ros_attn.commands import replay

    assert {"out", "params_file", "remap"} <= {each.name for each in fields(replay.Options)}
    evaluate = pytest.importorskip("ros_attn.commands.evaluate")
    assert "thresholds" in {each.name for each in fields(evaluate.Options)}


def test_quadruped_arguments_are_options_and_components() -> None:
    from ros_attn.commands import robot

    file = "quadruped_sim.launch.py"
    arguments, options = declared(file), {each.name: each for each in fields(robot.Options)}
    taken = set(arguments) - {"policy", "checkpoint", "namespace"}
    assert taken <= set(options)
    assert {f"--{name}" for name in ("terrain", "step", "seed", "seconds")} <= strings(file)
    choices = get_args(get_type_hints(robot.Options)["step"])
    assert tuple(ast.literal_eval(arguments["step"]["choices"])) == choices
    policies = ast.literal_eval(arguments["policy"]["choices"])
    for name in ("safety_gate", *policies):
        assert name in strings(file) and "checkpoint" in parameters.fields_of(registry.find(name).Params)


def test_quadruped_policies_have_checkpoints_in_the_package() -> None:
    tree = ast.parse((LAUNCH / "quadruped_sim.launch.py").read_text())
    [named] = [
        ast.literal_eval(each.value) for each in tree.body
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == "CHECKPOINTS"
    ]  # fmt: skip
    assert list(named) == ast.literal_eval(declared("quadruped_sim.launch.py")["policy"]["choices"])
    assert set(named.values()) <= set(shipped())


def test_parameter_files_are_as_generated() -> None:
    assert main(["params", str(CONFIG), "--check"]) == 0
    for name in registry.built_in():
        content = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
        built = parameters.build(registry.find(name).Params, content["/**"]["ros__parameters"], name)
        assert built == registry.find(name).Params()


def test_viewers_show_topics_of_the_component() -> None:
    name = InfraredVisibleFusion.kind()
    given = [out.topic.replace("~", name) for out in InfraredVisibleFusion.outputs.values()]
    images = {"visible/image", "infrared/image", *given}
    content = yaml.safe_load((CONFIG / "perception.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    assert {each["Topic"]["Value"] for each in displays if each["Class"].endswith("/Image")} == images
    assert "rviz_default_plugins/TF" in {each["Class"] for each in displays}

    layout = json.loads((CONFIG / "perception.foxglove.json").read_text())
    panels = layout["configById"]
    assert {each["imageMode"]["imageTopic"] for each in panels.values() if "imageMode" in each} == {
        f"/{topic}" for topic in images
    }
    assert {each["topicToRender"] for each in panels.values() if "topicToRender" in each} == {"/diagnostics"}
    plotted = {path["value"] for each in panels.values() for path in each.get("paths", ())}
    assert plotted == {f"/{name}/debug/latency.data[{index}]" for index in range(3)}

    def shown(part: str | dict) -> set[str]:
        return {part} if isinstance(part, str) else shown(part["first"]) | shown(part["second"])

    assert shown(layout["layout"]) == set(panels)


def test_fast_dds_gets_32_mb_of_shared_memory() -> None:
    space = {"": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
    root = ElementTree.parse(CONFIG / "fastdds.xml").getroot()
    assert [each.text for each in root.iterfind(".//segment_size", space)] == [str(32 * 2**20)]


@pytest.mark.parametrize("place", ["installed", "checkout", "active", "none"])
def test_the_interpreter_is_that_of_the_package(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function alone: the rest of its file needs ROS's launch."""
    [function] = [node for node in tree("environment.launch.py").body if getattr(node, "name", "") == "interpreter"]
    here = tmp_path / "prefix" / "share" / "ros_attn" / "launch"
    folders = {"installed": tmp_path / "prefix", "checkout": here.parent / ".venv", "active": tmp_path / "active"}
    monkeypatch.setenv("VIRTUAL_ENV", str(folders["active"]))
    order = list(folders)
    for name in order[order.index(place) :] if place in folders else []:
        folders[name].mkdir(parents=True, exist_ok=True)
        (folders[name] / "pyvenv.cfg").touch()
    space = {"HERE": here, "Path": Path, "os": os, "sys": sys}
    exec(ast.unparse(function), space)
    wanted = str(folders[place] / "bin" / "python") if place in folders else sys.executable
    assert space["interpreter"]() == wanted


# -- with ROS's launch ----------------------------------------------------------------------------------------

# What stands in for the interpreter: writes its command line, Fast DDS profile and parameter files, as JSON lines.
RECORDER = """\
#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
files = [pathlib.Path(words[i + 1]).read_text() for i, word in enumerate(words) if word == "--params-file"]
line = dict(words=words, files=files, profile=os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE"))
with open({out!r}, "a") as out:
    print(json.dumps(line), file=out)
sys.exit(int(os.environ.get("EXIT_OF_" + words[2], 0)))
"""
STARTER = """\
import json, sys
from launch import LaunchDescription, LaunchService
from launch.actions import GroupAction, IncludeLaunchDescription
service = LaunchService()
service.include_launch_description(LaunchDescription([
    GroupAction([IncludeLaunchDescription(path, launch_arguments=arguments.items())])
    for path, arguments in json.loads(sys.argv[1])
]))
sys.exit(service.run())
"""


def started(folder: Path, *includes: tuple[str, dict[str, str]], code: int = 0, **environment: str) -> list[dict]:
    """Launch for real, with a recorder as the interpreter; what each process was started with."""
    recorder, out = folder / "recorder", folder / "started.jsonl"
    recorder.write_text(RECORDER.format(python=sys.executable, out=str(out)))
    recorder.chmod(0o755)
    wanted = [(str(LAUNCH / file), {**arguments, "python": str(recorder)}) for file, arguments in includes]
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_PROFILES_FILE")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", STARTER, json.dumps(wanted)],
        env={**clean, "ROS_LOG_DIR": str(folder / "log"), **environment},
        capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


def ros_parameters(record: dict) -> dict:
    """Parameters of all files of one process, the later file winning."""
    found = {}
    for text in record["files"]:
        for section in yaml.safe_load(text).values():
            found |= section["ros__parameters"]
    return found


@LAUNCH_ROS
def test_name_namespace_parameters_and_topics_reach_the_node(tmp_path: Path) -> None:
    [record] = started(tmp_path, ("infrared_visible_fusion.launch.py", {
        "namespace": "front", "name": "fusion", "align": "stretch", "qos": "lossless", "autostart": "false",
        "visible": "/cam0/image_raw", "visible_info": "/cam0/camera_info",
    }))  # fmt: skip
    words = record["words"]
    assert words[:5] == ["-m", "ros_attn", "node", "infrared_visible_fusion", "--ros-args"]
    rules = {words[i + 1] for i, word in enumerate(words) if word == "-r"}
    assert rules == {
        "__node:=fusion", "__ns:=/front", "visible/image:=/cam0/image_raw",
        "visible/camera_info:=/cam0/camera_info",
    }  # fmt: skip
    found = ros_parameters(record)
    expected = {"align": "stretch", "qos": "lossless", "autostart": False, "use_sim_time": False, "model": "rule"}
    assert {name: found[name] for name in expected} == expected
    assert record["profile"] == str(CONFIG / "fastdds.xml")


@LAUNCH_ROS
def test_a_launch_argument_wins_over_a_file_that_names_the_node(tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text("/infrared_visible_fusion: {ros__parameters: {align: homography, depth_m: 33.0}}\n")
    given = {"params_file": str(file), "align": "same", "use_sim_time": "true"}
    [record] = started(tmp_path, ("infrared_visible_fusion.launch.py", given))
    found = ros_parameters(record)
    assert (found["align"], found["depth_m"], found["use_sim_time"]) == ("same", 33.0, True)
    [own] = yaml.safe_load(record["files"][-1])
    assert own in ("/infrared_visible_fusion", "/**")


@LAUNCH_ROS
def test_two_robots_in_one_launch(tmp_path: Path) -> None:
    records = started(
        tmp_path,
        ("perception.launch.py", {"namespace": "front", "visible": "/cam0/image"}),
        ("perception.launch.py", {"namespace": "rear"}),
    )
    [front, rear] = sorted((" ".join(each["words"]) for each in records), key=lambda text: "__ns:=/rear" in text)
    assert "__ns:=/front" in front and "visible/image:=/cam0/image" in front
    assert "__ns:=/rear" in rear and "visible/image" not in rear


@LAUNCH_ROS
def test_a_bag_sets_the_clock_and_a_profile_already_chosen_stays(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    ros2 = tmp_path / "bin" / "ros2"
    ros2.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/ros2.txt\n')
    ros2.chmod(0o755)
    [record] = started(
        tmp_path, ("perception.launch.py", {"bagfile": "drive"}),
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", FASTRTPS_DEFAULT_PROFILES_FILE="mine.xml",
    )  # fmt: skip
    assert ros_parameters(record)["use_sim_time"] is True
    assert record["profile"] == "mine.xml"
    assert (tmp_path / "ros2.txt").read_text().split() == ["bag", "play", "drive", "--clock", "100", "--delay", "3"]


@LAUNCH_ROS
@pytest.mark.parametrize("step, qos", [("lock", "lossless"), ("real", "default")])
def test_quadruped_is_three_processes_on_one_clock(step: str, qos: str, tmp_path: Path) -> None:
    given = {"checkpoint": "a walk", "terrain": "stairs:20", "step": step, "seed": "3", "noise": "true"}
    records = started(tmp_path, ("quadruped_sim.launch.py", given))
    # The launch ends with its robot, here at once: the others may not have come so far.
    by_name = {each["words"][3] if each["words"][2] == "node" else "robot": each for each in records}
    assert {"robot"} <= set(by_name) <= {"robot", "safety_gate", "quadruped_walk"}
    words = by_name.pop("robot")["words"]
    wanted = ["--terrain", "stairs:20", "--step", step, "--seed", "3", "--noise"]
    assert words[: words.index("--ros-args")] == ["-m", "ros_attn", "robot", *wanted]
    for each in by_name.values():
        found = ros_parameters(each)
        assert (found["use_sim_time"], found["qos"], found["checkpoint"]) == (True, qos, "a walk")


@LAUNCH_ROS
def test_a_climber_has_a_camera_and_its_own_checkpoint(tmp_path: Path) -> None:
    records = started(tmp_path, ("quadruped_sim.launch.py", {"policy": "quadruped_stairs"}))
    by_name = {each["words"][3] if each["words"][2] == "node" else "robot": each for each in records}
    assert {"robot"} <= set(by_name) <= {"robot", "safety_gate", "quadruped_stairs"}
    assert "--camera" in by_name.pop("robot")["words"]
    assert {ros_parameters(each)["checkpoint"] for each in by_name.values()} <= {"stairs_go2"}


@LAUNCH_ROS
def test_replay_then_evaluation(tmp_path: Path) -> None:
    given = {"bagfile": "drive", "out": "run", "thresholds": "gates.yaml", "remappings": "visible/image:=/a b:=/c"}
    replay, evaluate = started(tmp_path, ("replay_evaluate.launch.py", given))
    assert replay["words"] == [
        "-m", "ros_attn", "replay", "drive", "infrared_visible_fusion", "--out", "run",
        "--remap", "visible/image:=/a", "--remap", "b:=/c",
    ]  # fmt: skip
    assert evaluate["words"] == ["-m", "ros_attn", "evaluate", "run", "--thresholds", "gates.yaml"]


@LAUNCH_ROS
@pytest.mark.parametrize("failing, processes", [("replay", 1), ("evaluate", 2)])
def test_a_failure_ends_the_launch_with_1(failing: str, processes: int, tmp_path: Path) -> None:
    given = {"bagfile": "drive"}
    records = started(tmp_path, ("replay_evaluate.launch.py", given), code=1, **{f"EXIT_OF_{failing}": "3"})
    assert len(records) == processes


@LAUNCH_ROS
def test_a_malformed_rule_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", STARTER, json.dumps([(str(LAUNCH / "component.launch.py"), {
            "component": "infrared_visible_fusion", "remappings": "visible/image=/cam0"})])],
        env={**os.environ, "ROS_LOG_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "remappings: 'visible/image=/cam0' is not of the form name:=value" in done.stdout + done.stderr
