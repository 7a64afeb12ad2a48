"""One node: transitions, parameters, services, and what happens when its component fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType

from ros_attn.errors import ParameterError, RosAttnError
from ros_attn.values import FloatArray, Imu
from tests.ros.driver import BEST_EFFORT, RELIABLE, Driver

if TYPE_CHECKING:
    from ros_attn.hosts.ros import RosHost
    from tests.ros.conftest import NodeProcess

COMPONENTS = Path(__file__).with_name("components.py")
SCALE = f"{COMPONENTS}:Scale"
NODE = "/scale"
Host = Callable[..., "RosHost"]
Start = Callable[..., "NodeProcess"]


def imu(stamp_ns: int, turn: float = 1.0) -> Imu:
    return Imu(stamp_ns, np.array([turn, 0.0, 0.0]), np.array([0.0, 0.0, 9.81]))


class Bench:
    """A Scale node with somebody on both sides."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.scaled = driver.listener("/scaled", Imu, RELIABLE)
        self.imu = driver.publisher("/imu", Imu, RELIABLE)
        self.behind_ns = 0

    def connected(self) -> Bench:
        self.imu.wait_for_subscriber()
        self.scaled.wait_for_publisher()
        self.driver.diagnosed.connected(NODE, ["imu"], ["scaled"])
        return self

    def send(self, turn: float = 1.0) -> int:
        stamp_ns = self.driver.node.get_clock().now().nanoseconds - self.behind_ns
        self.imu.send(imu(stamp_ns, turn))
        return stamp_ns

    def step(self, turn: float = 1.0) -> Any:
        return self.scaled.with_stamp(self.send(turn))


@pytest.fixture
def bench(driver: Driver) -> Bench:
    return Bench(driver)


# -- transitions ----------------------------------------------------------------------------------------


def test_autostart_gives_an_active_node_that_says_it_is_ready(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE)
    assert driver.state(NODE) == "active"
    assert driver.ready(NODE).startswith("/scale ready: backend cpu, warm-up 0.0")
    assert bench.connected().step(3.0).angular_velocity[0] == 6.0


def test_every_transition(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE, "-p", "autostart:=false")
    there = driver.node

    def ends() -> tuple[int, int]:
        return there.count_subscribers("/imu"), there.count_publishers("/scaled")

    def until(wanted: tuple[int, int]) -> None:
        there.create_timer(0.02, driver.notify)
        driver.wait(lambda: ends() == wanted, f"subscribers and publishers {wanted}")

    assert driver.state(NODE) == "unconfigured"
    assert driver.change(NODE, Transition.TRANSITION_CONFIGURE)
    assert driver.state(NODE) == "inactive"
    until((0, 0))
    assert driver.change(NODE, Transition.TRANSITION_ACTIVATE)
    assert driver.state(NODE) == "active"
    until((1, 1))
    assert bench.connected().step().frame_id == "step 1"
    assert bench.step().frame_id == "step 2"
    assert driver.change(NODE, Transition.TRANSITION_DEACTIVATE)
    assert driver.state(NODE) == "inactive"
    until((0, 0))
    assert driver.change(NODE, Transition.TRANSITION_ACTIVATE)
    # Active again: reset, so that nothing old is mixed with what comes now.
    assert bench.connected().step().frame_id == "step 1"
    assert driver.change(NODE, Transition.TRANSITION_DEACTIVATE)
    assert driver.change(NODE, Transition.TRANSITION_CLEANUP)
    assert driver.state(NODE) == "unconfigured"
    assert driver.set(NODE, offset=0.5) == [(True, "")]
    assert driver.change(NODE, Transition.TRANSITION_CONFIGURE)
    assert driver.change(NODE, Transition.TRANSITION_ACTIVATE)
    assert bench.connected().step().angular_velocity[0] == 2.5
    assert driver.change(NODE, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert driver.state(NODE) == "finalized"


def test_an_impossible_transition_is_refused_and_the_node_lives(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE)
    assert not driver.change(NODE, Transition.TRANSITION_CONFIGURE)
    assert not driver.change(NODE, 99)
    assert driver.state(NODE) == "active"
    assert bench.connected().step().frame_id == "step 1"


@pytest.mark.parametrize("trouble", ["configure", "configure_bug"])
def test_a_component_that_does_not_configure(driver: Driver, node: Start, trouble: str) -> None:
    node(SCALE, "-p", "autostart:=false", "-p", f"trouble:={trouble}")
    assert not driver.change(NODE, Transition.TRANSITION_CONFIGURE)
    assert driver.state(NODE) == "unconfigured"
    assert driver.set(NODE, trouble="") == [(True, "")]
    assert driver.change(NODE, Transition.TRANSITION_CONFIGURE)


def test_a_component_that_does_not_configure_at_the_start_ends_the_host(host: Host) -> None:
    with pytest.raises(RosAttnError, match=r"^The weights of Scale are missing at nowhere\.safetensors; train it\.$"):
        host(SCALE, "-p", "trouble:=configure")


def test_a_step_that_raises_is_never_silently_dead(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE, "-p", "trouble:=step_bug")
    bench.connected().send()
    status, _ = driver.diagnosed.wait(NODE, lambda _, values: values["state"] == "inactive", "inactive")
    assert status.level == b"\x02"
    assert status.message == "The component failed and the node is inactive (ValueError: a bug in step); see the log."
    assert driver.state(NODE) == "inactive"
    assert driver.set(NODE, trouble="") == [(True, "")]
    assert driver.change(NODE, Transition.TRANSITION_ACTIVATE)
    # What was ready before the failure is worked off first.
    assert bench.connected().step().angular_velocity[0] == 2.0
    driver.diagnosed.wait(NODE, lambda status, _: status.level == b"\x00", "no error any more")


def test_a_step_that_refuses_its_input_is_counted_and_the_node_goes_on(
    driver: Driver, node: Start, bench: Bench
) -> None:
    node(SCALE, "-p", "trouble:=step")
    bench.connected().send()
    message = "The last step gave nothing: imu has no angular velocity."
    _, values = driver.diagnosed.wait(NODE, lambda status, _: status.message == message, message)
    assert (values["failed"], values["steps"]) == ("1", "0")
    assert driver.set(NODE, trouble="") == [(True, "")]
    assert bench.step().frame_id == "step 1"
    driver.diagnosed.wait(NODE, lambda status, _: status.level == b"\x00", "no error any more")


def test_the_host_raises_when_its_spin_thread_dies(host: Host) -> None:
    made = host(SCALE)

    def bug() -> None:
        raise ValueError("a bug in a callback")

    made.nodes[0].create_timer(0.001, bug)
    with pytest.raises(RuntimeError, match=r"The executor's thread died") as caught:
        made.wait(30.0)
    assert str(caught.value.__cause__) == "a bug in a callback"


# -- parameters -----------------------------------------------------------------------------------------


def test_descriptors(driver: Driver, node: Start) -> None:
    node(SCALE)
    factor, count, mode, offset, queue = driver.describe(
        NODE, "factor", "count", "mode", "offset", "inputs.imu.queue_s"
    )
    assert factor.type == ParameterType.PARAMETER_DOUBLE
    assert factor.description == "what the angular velocity is multiplied with [1]"
    assert (factor.floating_point_range[0].from_value, factor.floating_point_range[0].to_value) == (-10.0, 10.0)
    assert factor.additional_constraints == ""
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (0, 5)
    assert mode.additional_constraints == "one of fast, slow; set before the node is configured"
    assert offset.additional_constraints == "set before the node is configured"
    assert queue.floating_point_range[0].from_value == 0.01


def test_live_parameters_change_between_two_steps(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE)
    bench.connected()
    assert bench.step().angular_velocity[0] == 2.0
    assert driver.set(NODE, factor=3.0, count=4) == [(True, ""), (True, "")]
    assert bench.step().angular_velocity[0] == 3.0
    # A whole number for a float, as `ros2 param set /scale factor 4` sends it.
    assert driver.set(NODE, factor=4) == [(True, "")]
    assert bench.step().angular_velocity[0] == 4.0


def test_refusals_say_why(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE)
    assert driver.set(NODE, factor=11.0) == [
        (False, "/scale: factor is 11, outside -10 to 10 1: what the angular velocity is multiplied with")
    ]
    assert driver.set(NODE, factor="much") == [(False, "/scale: factor is 'much', but takes a number, -10 to 10 1.")]
    [(ok, reason)] = driver.set(NODE, offset=0.5)
    assert not ok
    assert reason == (
        "/scale: offset is read when the node is configured, so it cannot change now; restart the node with "
        "-p offset:=VALUE, or deactivate and clean it up, set it and configure again "
        "(live are factor, count, trouble)."
    )
    [(ok, reason)] = driver.set(NODE, qos="lossless")
    assert not ok
    assert reason.startswith("/scale: qos is read when the node is started, so it cannot change now; restart the node")
    assert driver.set(NODE, inputs__imu__queue_s=1.0)[0][0] is False
    assert driver.set(NODE, faktor=1.0) == [(False, "/scale: there is no parameter 'faktor' (did you mean 'factor'?).")]
    assert bench.connected().step().angular_velocity[0] == 2.0


def test_parameters_given_at_the_start(driver: Driver, node: Start, tmp_path: Path, bench: Bench) -> None:
    """A parameter file for all nodes, one for this node, and the command line, which wins."""
    everywhere, here = tmp_path / "all.yaml", tmp_path / "scale.yaml"
    everywhere.write_text("/**:\n  ros__parameters:\n    factor: 5\n    offset: 0.25\n    weights: [1, 2]\n")
    here.write_text("scale:\n  ros__parameters:\n    factor: 6.0\n    inputs:\n      imu:\n        time_offset_s: 1\n")
    node(SCALE, "--params-file", str(everywhere), "--params-file", str(here), "-p", "offset:=0.5")
    stamp_ns = bench.connected().send()
    factor, offset, weights = driver.get(NODE, "factor", "offset", "weights")
    assert (factor, offset, list(weights)) == (6.0, 0.5, [1.0, 2.0])
    assert bench.scaled.with_stamp(stamp_ns + 1_000_000_000).angular_velocity[0] == 6.5


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("factor:=11.0", "/scale: factor is 11, outside -10 to 10 1: what the angular velocity is multiplied with"),
        ("mode:=fest", "/scale: mode is 'fest' (did you mean 'fast'?), but must be one of fast, slow."),
        ("inputs.imu.queue_s:=0.0", "/scale, inputs.imu: queue_s is 0, outside 0.01 to 3600 s: bound of the queue"),
        ("qos:=best", "/scale: qos is 'best', but must be one of default, lossless."),
        ("faktor:=1.0", "/scale: there is no parameter 'faktor' (did you mean 'factor'?); it takes "),
    ],
)
def test_a_bad_parameter_ends_the_start_with_a_sentence(host: Host, rule: str, sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        host(SCALE, "-p", rule)
    assert str(caught.value).startswith(sentence)


def test_arguments_rclpy_does_not_take(host: Host) -> None:
    with pytest.raises(RosAttnError, match=r"^rclpy does not take --ros-args -p nonsense: "):
        host(SCALE, "-p", "nonsense")


# -- services and figures -------------------------------------------------------------------------------


def test_reset_and_save(driver: Driver, node: Start, bench: Bench, tmp_path: Path) -> None:
    node(SCALE)
    bench.connected().step()
    stepped = bench.step()
    assert stepped.frame_id == "step 2"
    answered, newest = driver.trigger(f"{NODE}/newest")
    assert answered and f" {stepped.stamp_ns}" in newest and newest.startswith("/")
    assert driver.set(NODE, save_path=str(tmp_path / "map")) == [(True, "")]
    assert driver.trigger(f"{NODE}/save") == (True, f"Saved to {tmp_path / 'map'}.")
    assert (tmp_path / "map").read_text() == "2 steps"
    assert driver.trigger(f"{NODE}/reset")[0]
    assert bench.step().frame_id == "step 1"
    driver.set(NODE, save_path=str(tmp_path / "refused"))
    assert driver.trigger(f"{NODE}/save") == (
        False, f"Not saved to {tmp_path / 'refused'}: There is nothing to save yet."
    )  # fmt: skip
    assert driver.change(NODE, Transition.TRANSITION_DEACTIVATE)
    assert driver.trigger(f"{NODE}/reset") == (False, "The node is inactive: there is nothing to reset.")
    assert driver.trigger(f"{NODE}/newest") == (False, "")


def test_diagnostics_and_latency(driver: Driver, node: Start, bench: Bench) -> None:
    latency = driver.listener(f"{NODE}/debug/latency", FloatArray, BEST_EFFORT)
    node(SCALE, "-p", "warn_latency_ms:=500.0", "-p", "error_latency_ms:=5000.0")
    bench.connected()
    latency.wait_for_publisher()
    for _ in range(3):
        bench.step()
    _, values = driver.diagnosed.wait(NODE, lambda _, values: values.get("steps") == "3", "three steps")
    assert values["input imu"] == "imu: 3 received, 3 matched"
    assert float(values["step_p50_ms"]) <= float(values["step_p99_ms"]) < 1e3
    stamp_to_publish, arrival_to_publish, step = latency.wait(1)[-1].data
    assert step <= arrival_to_publish < stamp_to_publish + 100
    assert set(values) >= {"age_p50_ms", "age_p99_ms", "failed", "resets", "skipped_backlog", "state"}
    driver.trigger(f"{NODE}/reset")
    bench.behind_ns = 900_000_000
    bench.step()
    status, _ = driver.diagnosed.wait(NODE, lambda status, _: status.level == b"\x01", "a warning")
    assert "From stamp to publish" in status.message
    assert status.message.endswith("ms pass, above 500 ms.")


def test_a_condition_does_not_wait_for_the_next_report(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE, "-p", "diagnostics_period_s:=4.0")
    bench.connected()
    for turn, level in ((200.0, b"\x01"), (1.0, b"\x00")) * 2:
        bench.step(turn)
        began = time.monotonic()
        driver.diagnosed.wait(NODE, lambda status, _, level=level: status.level == level, f"level {level!r}")
        assert time.monotonic() - began < 1.0


def test_old_stamps_are_explained(driver: Driver, node: Start, bench: Bench) -> None:
    node(SCALE)
    bench.connected()
    bench.behind_ns = 48 * 3600 * 1_000_000_000
    bench.step()
    message = driver.diagnosed.message(NODE, "behind this node's clock")
    assert message == (
        "Stamps are 48 h behind this node's clock: play the bag with --clock and set use_sim_time, "
        "or set the sensor's clock."
    )


def test_a_component_without_state_rests_while_nobody_listens(driver: Driver, node: Start) -> None:
    node(f"{COMPONENTS}:Idle", "-r", "__node:=scale", name=NODE)
    speaker = driver.publisher("/imu", Imu, RELIABLE).wait_for_subscriber()
    driver.diagnosed.connected(NODE, ["imu"])
    stamp_ns = driver.node.get_clock().now().nanoseconds
    for k in range(5):
        speaker.send(imu(stamp_ns + k))
    _, values = driver.diagnosed.wait(NODE, lambda _, values: values.get("idle") == "5", "five steps left out")
    assert values["steps"] == "0"
    assert values["input imu"] == "imu: 5 received, 5 matched"
    scaled = driver.listener("/scaled", Imu, RELIABLE).wait_for_publisher()
    driver.diagnosed.connected(NODE, ["imu"], ["scaled"])
    speaker.send(imu(stamp_ns + 10))
    assert scaled.with_stamp(stamp_ns + 10).frame_id == "step 1"
