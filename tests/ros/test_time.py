"""A node under ``use_sim_time``: its clock is /clock, from the first tick to the jump back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from ros_attn.values import FloatArray, Imu
from tests.ros.driver import BEST_EFFORT, RELIABLE, Driver

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess

COMPONENTS = Path(__file__).with_name("components.py")


class SimulatedClock:
    """Publishes a time that runs ten times as fast as ours, from ``start_s``, a hundred times a second."""

    def __init__(self, driver: Driver) -> None:
        self.now_s = 0.0
        self._publisher = driver.node.create_publisher(Clock, "/clock", 10)
        self._timer = driver.node.create_timer(0.01, self._tick)
        self._timer.cancel()

    def start(self, now_s: float) -> None:
        self.now_s = now_s
        self._timer.reset()

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        self.now_s += 0.1
        self._publisher.publish(Clock(clock=Time(nanoseconds=round(self.now_s * 1e9)).to_msg()))


def test_simulated_time(driver: Driver, node: Callable[..., NodeProcess]) -> None:
    clock = SimulatedClock(driver)
    ticks = driver.listener("/ticks", FloatArray, BEST_EFFORT)
    speaker = driver.publisher("/imu", Imu, RELIABLE)
    node(f"{COMPONENTS}:Ticks", "-p", "use_sim_time:=true")
    driver.diagnosed.connected("/ticks", ["imu"], ["ticks"])
    driver.diagnosed.message("/ticks", "use_sim_time is set and nothing came on /clock yet: no time passes")
    # This comes before /clock does, and is kept until then.
    speaker.send(Imu(99_000_000_000, np.zeros(3), np.zeros(3)))
    assert ticks.values == []
    clock.start(100.0)
    first = ticks.wait(5)[0].data
    assert 100.0 <= first[0] < 130.0
    assert first[1:].tolist() == [0.0, 1.0]
    assert all(round(10 * each.data[0], 6) % 1 == 0 for each in ticks.values), "ticks off the grid of tenths"
    # The bag begins again: reset, and messages held are forgotten.
    clock.start(50.0)
    driver.wait(lambda: ticks.values[-1].data[0] < 90.0, "ticks after the jump back")
    again = next(each.data for each in ticks.values if each.data[0] < 90.0)
    assert again[1:].tolist() == [1.0, 0.0]
    clock.stop()
    driver.diagnosed.message("/ticks", "use_sim_time is set and /clock stands at ")
