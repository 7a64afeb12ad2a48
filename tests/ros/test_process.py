"""Nodes as processes: how they start, end, share a process, and what they leave behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition

from ros_attn import journal
from ros_attn.values import Imu
from tests.ros.driver import RELIABLE, Driver

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess

COMPONENTS = Path(__file__).with_name("components.py")
SCALE = f"{COMPONENTS}:Scale"
Start = Callable[..., "NodeProcess"]


def imu(stamp_ns: int, turn: float = 1.0) -> Imu:
    return Imu(stamp_ns, np.array([turn, 0.0, 0.0]), np.array([0.0, 0.0, 9.81]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_and_finishes_the_journal(
    driver: Driver, node: Start, tmp_path: Path, number: int
) -> None:
    """Through a reset, a live parameter and a second configuration: the journal replays to what was published."""
    scaled, speaker = driver.listener("/scaled", Imu, RELIABLE), driver.publisher("/imu", Imu, RELIABLE)
    path = tmp_path / "run.mcap"
    process = node(SCALE, "-p", "qos:=lossless", flags=["--journal", str(path)])
    driver.diagnosed.connected("/scale", ["imu"], ["scaled"])
    stamp_ns = driver.node.get_clock().now().nanoseconds

    def send(*numbers: int) -> None:
        for number in numbers:
            speaker.send(imu(stamp_ns + number))
            scaled.with_stamp(stamp_ns + number)

    send(1, 2)
    assert driver.set("/scale", factor=3.0) == [(True, "")]
    send(3)
    assert driver.trigger("/scale/reset")[0]
    send(4)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert driver.change("/scale", transition)
    assert driver.set("/scale", offset=0.5) == [(True, "")]
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert driver.change("/scale", transition)
    driver.diagnosed.wait("/scale", lambda _, v: v.get("steps") == "0", "the new configuration")
    driver.diagnosed.connected("/scale", ["imu"], ["scaled"])
    send(5)
    assert process.stop(number) == 0
    outcomes = [outcome for outcome in journal.replay(path) if outcome.outputs or outcome.noted]
    assert all(outcome.reproduced for outcome in outcomes)
    steps = [outcome.outputs["scaled"] for outcome in outcomes]
    assert [(each.frame_id, each.angular_velocity[0]) for each in steps] == [  # type: ignore[union-attr]
        ("step 1", 2.0), ("step 2", 2.0), ("step 3", 3.0), ("step 1", 3.0), ("step 1", 3.5),
    ]  # fmt: skip


GRAPH = """
stages:
  - component: {scale}
    name: first
  - component: {scale}
    name: second
    params: {{factor: 10.0}}
    remap: {{imu: scaled, scaled: twice}}
"""


def test_a_graph_hands_values_over_in_its_process(driver: Driver, node: Start, tmp_path: Path) -> None:
    graph, path = tmp_path / "graph.yaml", tmp_path / "run.mcap"
    graph.write_text(GRAPH.format(scale=SCALE))
    # (On the command line rcl's `-p first:factor:=3.0` means the node /first, in no namespace.)
    params = tmp_path / "params.yaml"
    params.write_text("/back/first:\n  ros__parameters:\n    factor: 3.0\n")
    twice, speaker = driver.listener("/back/twice", Imu, RELIABLE), driver.publisher("/back/imu", Imu, RELIABLE)
    process = node(
        str(graph), "-p", "qos:=lossless", "-r", "__ns:=/back", "--params-file", str(params),
        name="/back/first", flags=["--journal", str(path)],
    )  # fmt: skip
    driver.meet("/back/second")
    driver.diagnosed.connected("/back/first", ["imu"])
    driver.diagnosed.connected("/back/second", [], ["scaled"])
    speaker.send(imu(5))
    assert twice.with_stamp(5).angular_velocity[0] == 30.0
    _, values = driver.diagnosed.wait("/back/second", lambda _, v: v["steps"] == "1", "a step")
    assert values["topic imu"] == "/back/scaled from /back/first in this process"
    assert driver.node.count_subscribers("/back/scaled") == 0
    driver.publisher("/back/scaled", Imu, RELIABLE)
    driver.diagnosed.message(
        "/back/second",
        "/back/scaled comes from /back/first in this process; /driver, who publishes there as well, is not heard.",
    )
    assert process.stop() == 0
    outcomes = list(journal.replay(path))
    assert [outcome.stage.name for outcome in outcomes] == ["first", "second"]
    assert all(outcome.reproduced and outcome.outputs for outcome in outcomes)


def test_stages_that_do_not_fit_together(node_process: Start, tmp_path: Path) -> None:
    graph = tmp_path / "graph.yaml"
    graph.write_text(GRAPH.format(scale=SCALE))
    process = node_process(str(graph), "--ros-args", "-r", "__node:=both")
    assert process.process.wait(30) == 1
    assert process.text().splitlines()[-1] == (
        "ros-attn node: Two nodes of this process are called /both; rename one stage alone with -r STAGE:__node:=NAME."
    )
    graph.write_text(GRAPH.format(scale=SCALE).replace(f"component: {SCALE}\n    name: first", (
        f"component: {COMPONENTS}:Ticks\n    name: first\n    remap: {{ticks: scaled, imu: other}}"
    )))  # fmt: skip
    process = node_process(str(graph))
    assert process.process.wait(30) == 1
    last = process.text().splitlines()[-1]
    assert last == (
        "ros-attn node: /scaled: first gives FloatArray, but input 'imu' of second takes Imu; change a remapping."
    )


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["infrared_visible_fusoin"], "There is no component 'infrared_visible_fusoin' (did you mean"),
        (
            [SCALE, "--ros-args", "-p", "factor:=11.0"],
            "/scale: factor is 11, outside -10 to 10 1: what the angular velocity is multiplied with",
        ),
        (
            [SCALE, "--ros-args", "-p", "trouble:=configure"],
            "The weights of Scale are missing at nowhere.safetensors; train it.",
        ),
        ([SCALE, "--journal", "/dev/null/run.mcap"], "/dev/null/run.mcap could not be written"),
    ],
)
def test_a_start_that_fails_ends_with_a_sentence(node_process: Start, args: list[str], sentence: str) -> None:
    process = node_process(*args)
    assert process.process.wait(30) == 1
    last = process.text().splitlines()[-1]
    assert last.startswith(f"ros-attn node: {sentence}")
    assert "Traceback" not in process.text()


def test_without_rclpy_a_sentence_says_what_to_install() -> None:
    program = "import sys; sys.modules['rclpy'] = None; from ros_attn.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "node", "infrared_visible_fusion"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ros-attn node: rclpy cannot be imported (")
    assert done.stderr.endswith("pip install 'ros-attn[ros]'.\n")
    assert done.stderr.count("\n") == 1
