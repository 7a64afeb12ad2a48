"""Fixtures of the tests over real DDS: a ROS domain of their own, the other side, and nodes in processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("rclpy")

if TYPE_CHECKING:
    from ros_attn.hosts.ros import RosHost
    from tests.ros.driver import Driver

ROOT = Path(__file__).parents[2]
# Read by Fast DDS when its first participant is made.
os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "launch" / "config" / "fastdds.xml"))
DEADLINE_S = 30.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.ros)


@pytest.fixture
def domain_id() -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test on this machine has: 1 to 101 keep clear of ephemeral ports."""
    folder = Path(tempfile.gettempdir()) / "ros_attn_domains"
    folder.mkdir(exist_ok=True)
    for number in range(1 + os.getpid() % 101, 102 + os.getpid() % 101):
        domain = (number - 1) % 101 + 1
        with open(folder / str(domain), "w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    pytest.fail("all 101 ROS domains are in use by tests")


@pytest.fixture
def driver(domain_id: int) -> Iterator[Driver]:
    from tests.ros.driver import Driver

    made = Driver(domain_id)
    yield made
    made.close()


@pytest.fixture
def host(domain_id: int) -> Iterator[Callable[..., RosHost]]:
    """``host(component, *ros_args)``: a started host in this process, for what needs nobody on the other side.

    Two participants in one process do not reliably find each other (rclpy alone: 13 of 100 service calls failed).
    """
    from ros_attn.graph import single
    from ros_attn.hosts.ros import RosHost

    made: list[RosHost] = []

    def start(component: str, *ros_args: str) -> RosHost:
        graph = single(component)
        made.append(RosHost(graph, {graph.stages[0].name: component}, ros_args, domain_id=domain_id))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.close()


@dataclass
class NodeProcess:
    """``python -m ros_attn node ...``, or another verb, in a process of its own."""

    process: subprocess.Popen[str]
    log: Path

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def node_process(domain_id: int, tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    started: list[NodeProcess] = []

    def start(*args: str, verb: str = "node") -> NodeProcess:
        log = tmp_path / f"node{len(started)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ros_attn", verb, *args], stdout=stream, stderr=stream, text=True,
                cwd=ROOT, env={**os.environ, "ROS_DOMAIN_ID": str(domain_id)},
            )  # fmt: skip
        started.append(NodeProcess(process, log))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            # Not SIGKILL: it leaves 32 MB behind in /dev/shm, and whoever still sends there has crashed.
            each.send(signal.SIGCONT)
            each.send(signal.SIGINT)
            try:
                each.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                each.process.kill()
                pytest.fail(f"the node did not end within {DEADLINE_S:g} s of SIGINT: {each.text()[-2000:]}")


@pytest.fixture
def node(driver: Driver, node_process: Callable[..., NodeProcess]) -> Callable[..., NodeProcess]:
    """``node(component, *ros_args)``: a node in a process that reports ten times a second, and the driver knows it."""

    def start(component: str, *ros_args: str, name: str = "", flags: Sequence[str] = ()) -> NodeProcess:
        process = node_process(component, *flags, "--ros-args", "-p", "diagnostics_period_s:=0.1", *ros_args)
        driver.meet(name or f"/{component.rpartition(':')[2].lower()}")
        return process

    return start
