"""Simulated time against the wall clock, on a clock that the test moves."""

from __future__ import annotations

import pytest

from ros_attn.hosts.pace import Pace

MS = 1_000_000


class Wall:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def run(wall: Wall, pace: Pace, step_s: float, steps: int, start_ns: int = 300 * MS) -> list[float]:
    """Steps of 5 ms that take ``step_s`` each; the wall time since the start at which each began."""
    pace.start(start_ns)
    began_s, found = wall.now_s, []
    for k in range(steps):
        wall.now_s += pace.ahead_s(start_ns + k * 5 * MS)
        found.append(wall.now_s - began_s)
        wall.now_s += step_s
    return found


def test_steps_begin_on_the_schedule_whatever_they_take() -> None:
    said: list[str] = []
    wall = Wall()
    began = run(wall, Pace(said.append, wall), 0.0047, 4000)
    assert began == pytest.approx([0.005 * k for k in range(4000)], abs=1e-6)
    assert said == []


def test_a_short_lag_is_caught_up_with_and_a_long_one_given_up() -> None:
    wall = Wall()
    pace = Pace(print, wall)
    for lag_s, caught_up in ((0.09, True), (0.5, False)):
        pace.start(0)
        began_s = wall.now_s
        wall.now_s += lag_s
        for k in range(100):
            wall.now_s += pace.ahead_s(k * 5 * MS)
        assert wall.now_s - began_s == pytest.approx(0.495 if caught_up else 0.495 + lag_s, abs=1e-6)


def test_a_machine_that_is_too_slow_is_told_now_and_then() -> None:
    said: list[str] = []
    wall = Wall()
    run(wall, Pace(said.append, wall), 0.01, 2500)
    assert len(said) == 2
    assert said[0].startswith("This machine cannot keep up: simulated time ran at 0.50 times real time.")
