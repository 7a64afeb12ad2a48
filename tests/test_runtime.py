"""Every policy of the runtime by hand-computed cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from ros_attn.component import Component, Every, Hold, Out, Static, Sync, Timer, Transform, Window, Wiring
from ros_attn.errors import RosAttnError, TopicError
from ros_attn.queues import InputOptions
from ros_attn.runtime import Reset, Runtime, Step
from ros_attn.values import FloatArray, Text, Transforms
from ros_attn.values import Transform as TransformValue

MS = 1_000_000
S = 1000 * MS


def message(ms: float, number: float = 0.0) -> FloatArray:
    return FloatArray(round(ms * MS), np.array([number]))


def transforms(ms: float, x: float) -> Transforms:
    each = TransformValue(round(ms * MS), np.array([x, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]), "odom", "base")
    return Transforms(each.stamp_ns, (each,))


@dataclass
class Recorder(Component):
    """Keeps what each step was given."""

    outputs: ClassVar = {"out": Out(Text, "out")}
    wired: Wiring = field(default_factory=lambda: Wiring({"a": Sync(FloatArray, "a")}))
    seen: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    resets: int = 0

    def wiring(self) -> Wiring:
        return self.wired

    def step(self, now_ns: int, **inputs: Any) -> dict[str, Any]:
        self.seen.append((now_ns, inputs))
        return {}

    def reset(self) -> None:
        self.resets += 1


class Latest(Recorder):
    backlog: ClassVar = "latest"


def runtime(inputs: dict, trigger: Any = None, options: dict | None = None, cls: type = Recorder) -> Runtime:
    return Runtime(cls(wired=Wiring(inputs, trigger)), options or {})


def run(made: Runtime) -> list[tuple[int, dict[str, Any]]]:
    """Run what is ready; stamps in ms."""
    before = len(made.component.seen)  # type: ignore[attr-defined]
    while (work := made.take()) is not None:
        made.run(work)
    return [(now // MS, inputs) for now, inputs in made.component.seen[before:]]  # type: ignore[attr-defined]


def stamps(value: Any) -> Any:
    if value is None:
        return None
    return [each.stamp_ns // MS for each in value] if isinstance(value, tuple) else value.stamp_ns // MS


def pairs(made: Runtime) -> list[tuple[Any, ...]]:
    return [tuple(stamps(value) for value in inputs.values()) for _, inputs in run(made)]


def two(slop_s: float = 0.02, **kwargs: Any) -> dict[str, Any]:
    return {"a": Sync(FloatArray, "a", slop_s, **kwargs), "b": Sync(FloatArray, "b", slop_s, **kwargs)}


def test_sync_takes_the_nearest_once_a_stamp_at_or_after_was_seen() -> None:
    made = runtime(two())
    made.push("a", message(100), 0)
    made.push("b", message(90), 0)
    assert pairs(made) == []  # 95 could still come
    made.push("b", message(103), 0)
    assert pairs(made) == [(100, 103)]
    counters = made.queues["b"].counters
    assert (counters.received, counters.matched, counters.dropped) == (2, 1, 1)


def test_sync_tie_goes_to_the_older_and_each_is_used_once() -> None:
    made = runtime(two())
    for ms in (90, 110):
        made.push("b", message(ms), 0)
    made.push("a", message(100), 0)
    made.push("a", message(101), 0)
    assert pairs(made) == [(100, 90), (101, 110)]


def test_sync_beyond_slop_is_counted_and_said() -> None:
    made = runtime(two())
    made.push("a", message(100), 0)
    made.push("b", message(141), 0)
    assert pairs(made) == []
    assert made.queues["a"].counters.dropped == 1
    assert made.queues["b"].counters.sentence("infrared/image", 0.02) == (
        "infrared/image: 1 received, 0 matched; nearest stamp differs by 41 ms, slop is 20 ms"
    )


def test_sync_slop_is_inclusive() -> None:
    made = runtime(two())
    made.push("a", message(100), 0)
    made.push("b", message(120), 0)
    assert pairs(made) == [(100, 120)]


def test_missing_sensor_arrives_as_none_after_its_patience_only() -> None:
    made = runtime(two(missing_after_s=0.1))
    made.push("a", message(0), 1000 * MS)
    made.advance(1099 * MS)
    assert pairs(made) == []
    made.advance(1100 * MS)
    assert pairs(made) == [(0, None)]
    assert made.queues["b"].counters.missing == 1


def test_missing_takes_a_partner_within_slop_that_had_come() -> None:
    made = runtime(two(missing_after_s=0.1))
    made.push("b", message(95), 95 * MS)
    made.push("a", message(100), 100 * MS)
    made.advance(200 * MS)
    assert pairs(made) == [(100, 95)]


def test_slow_partner_is_not_missing() -> None:
    """9 Hz beside 30 Hz: pairs at 9 Hz, the rest counted, and never a None."""
    made = runtime(two(missing_after_s=0.3))
    events = [(ms, "a") for ms in np.arange(0, 1000, 1000 / 30)] + [(ms, "b") for ms in np.arange(3, 1000, 1000 / 9)]
    found = []
    for ms, name in sorted(events):
        made.push(name, message(ms), round(ms * MS))
        found += pairs(made)
    assert len(found) == 8  # the ninth, at 892 ms, waits for a thermal stamp after the frame at 900 ms
    assert all(b is not None and abs(a - b) <= 17 for a, b in found)


def test_reference_may_be_missing_where_declared() -> None:
    made = runtime(two(missing_after_s=0.1))
    for ms in (0, 50):
        made.push("b", message(ms), ms * MS)
    made.advance(99 * MS)
    assert pairs(made) == []
    made.advance(150 * MS)
    assert pairs(made) == [(None, 0), (None, 50)]
    made.push("a", message(40), 160 * MS)  # a moment already decided
    assert pairs(made) == []
    assert made.queues["a"].counters.late == 1
    made.push("a", message(200), 200 * MS)
    made.push("b", message(201), 201 * MS)
    assert pairs(made) == [(200, 201)]


def test_window_tiles_time_and_completes_at_a_stamp_equal_to_the_trigger() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "w": Window(FloatArray, "w")})
    for ms in (1, 5, 9):
        made.push("w", message(ms), 0)
    made.push("a", message(10), 0)
    assert pairs(made) == []
    made.push("w", message(10), 0)
    assert pairs(made) == [(10, [1, 5, 9, 10])]
    made.push("w", message(25), 0)
    made.push("a", message(20), 0)
    assert pairs(made) == [(20, [])]


def test_hold_gives_the_newest_not_after_the_trigger_within_its_age() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "h": Hold(FloatArray, "h", max_age_s=0.05)})
    made.push("a", message(5), 0)
    for ms in (10, 20, 40):
        made.push("h", message(ms), 0)
    for ms in (30, 85, 95):
        made.push("a", message(ms), 0)
    assert pairs(made) == [(5, None), (30, 20), (85, 40), (95, None)]
    counters = made.queues["h"].counters
    assert (counters.matched, counters.superseded, counters.missing) == (2, 1, 2)


def test_hold_through_a_reset_stands_at_any_time_until_a_later_message_is_held() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "h": Hold(FloatArray, "h", through_reset=True)})
    for ms in (40, 900):
        made.push("h", message(ms), 0)
    made.request_reset("asked")
    made.push("h", message(30), 0)
    for ms in (20, 30):
        made.push("a", message(ms), 0)
    assert pairs(made) == [(20, 900), (30, 30)]
    counters = made.queues["h"].counters
    assert (counters.matched, counters.dropped, counters.superseded, counters.missing) == (2, 1, 0, 0)


def test_static_holds_the_first_and_warns_of_another() -> None:
    said: list[str] = []
    made = Runtime(Recorder(wired=Wiring({"a": Sync(FloatArray, "a"), "s": Static(FloatArray, "s")})), warn=said.append)
    made.push("a", message(1), 0)
    assert pairs(made) == []
    made.push("s", message(0, 7.0), 0)
    assert pairs(made) == [(1, 0)]
    made.push("s", message(50, 7.0), 0)
    assert said == []
    made.push("s", message(60, 8.0), 0)
    assert len(said) == 1 and "differs" in said[0]


def test_transform_interpolates_at_the_trigger_and_waits() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "T": Transform("odom", "base", wait_s=0.1)})
    made.push("a", message(150), 0)
    made.push("tf", transforms(100, 1.0), 0)
    assert run(made) == []
    made.push("tf", transforms(200, 3.0), 0)
    [(_, inputs)] = run(made)
    assert inputs["T"][0, 3] == pytest.approx(2.0)
    assert inputs["T"].shape == (4, 4)


def test_transform_that_never_comes_gives_no_step_and_names_the_link() -> None:
    said: list[str] = []
    wiring = Wiring({"a": Sync(FloatArray, "a"), "T": Transform("odom", "base", wait_s=0.1)})
    made = Runtime(Recorder(wired=wiring), warn=said.append)
    made.push("tf", transforms(100, 1.0), 0)
    made.push("a", message(150), 0)
    made.advance(100 * MS)
    assert run(made) == []
    assert made.counters.untransformed == 1
    assert "base" in said[0] and "odom" in said[0]


def test_every_fires_on_the_grid_of_the_named_input_and_counts_skipped_ticks() -> None:
    made = runtime({"i": Window(FloatArray, "i")}, Every(50, by="i"))
    for ms in (5, 19, 20, 38, 41, 99):
        made.push("i", message(ms), 0)
    assert [(now, stamps(inputs["i"])) for now, inputs in run(made)] == [
        (20, [5, 19, 20]),
        (40, [38]),
        (80, [41]),
    ]
    assert made.counters.skipped_ticks == 1


def test_every_fires_at_once_when_the_first_stamp_lies_on_the_grid() -> None:
    made = runtime({"i": Hold(FloatArray, "i")}, Every(50, by="i"))
    made.push("i", message(40), 0)
    assert [now for now, _ in run(made)] == [40]


def test_timer_fires_though_nothing_arrives() -> None:
    made = runtime({"h": Hold(FloatArray, "h", max_age_s=0.04)}, Timer(100))
    for ms in range(5, 60, 10):
        made.advance(ms * MS)
    assert [(now, inputs["h"]) for now, inputs in run(made)] == [(ms, None) for ms in (10, 20, 30, 40, 50)]


def test_late_is_counted_and_dropped() -> None:
    made = runtime({"a": Sync(FloatArray, "a")})
    for ms in (5000, 4900, 5100):
        made.push("a", message(ms), 0)
    assert pairs(made) == [(5000,), (5100,)]
    assert made.queues["a"].counters.late == 1
    assert made.component.resets == 0  # type: ignore[attr-defined]


def test_a_jump_back_of_a_second_on_the_reference_resets_in_order() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "w": Window(FloatArray, "w")})
    made.push("w", message(5000), 0)
    made.push("a", message(5000), 0)
    made.push("w", message(5010), 0)
    made.push("a", message(4000), 0)
    works = [made.take() for _ in range(3)]
    assert isinstance(works[0], Step) and isinstance(works[1], Reset) and works[2] is None
    made.push("w", message(4000), 0)
    assert pairs(made) == [(4000, [4000])]


def test_a_jump_back_elsewhere_starts_that_queue_anew() -> None:
    made = runtime(two())
    made.push("b", message(5000), 0)
    made.push("b", message(3000), 0)
    made.push("a", message(3001), 0)
    made.push("b", message(3050), 0)
    assert pairs(made) == [(3001, 3000)]
    assert made.component.resets == 0  # type: ignore[attr-defined]


def test_clock_going_back_resets() -> None:
    made = runtime({"h": Hold(FloatArray, "h")}, Timer(10))
    made.advance(10 * S)
    run(made)
    made.advance(5 * S)
    run(made)
    assert made.component.resets == 1  # type: ignore[attr-defined]
    made.advance(5 * S + 100 * MS)
    assert [now for now, _ in run(made)] == [5100]


def test_queues_are_bounded_in_seconds_of_stamps() -> None:
    made = runtime(two(), options={"b": InputOptions(queue_s=0.5)})
    for ms in range(0, 1001, 100):
        made.push("b", message(ms), 0)
    counters = made.queues["b"].counters
    assert len(made.queues["b"].entries) == 6
    assert counters.overflow == 5


def test_waiting_for_a_static_is_bounded_and_said() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "s": Static(FloatArray, "visible/camera_info")})
    for ms in range(0, 4001, 100):
        made.push("a", message(ms), 0)
    assert made.queues["a"].counters.overflow == 20
    assert "visible/camera_info" in made.component.health.snapshot()["waiting"]


def test_time_offset_and_rate_limit() -> None:
    options = {"b": InputOptions(time_offset_s=-0.1), "a": InputOptions(max_rate_hz=10.0)}
    made = runtime(two(slop_s=0.001), options=options)
    for ms in range(0, 301, 33):
        made.push("a", message(ms), 0)
        made.push("b", message(ms + 100), 0)
    assert pairs(made) == [(0, 0), (99, 99), (198, 198), (297, 297)]
    assert made.queues["a"].counters.thinned == 6


def test_backlog_latest_skips_older_steps_and_hands_their_windows_on() -> None:
    made = runtime({"a": Sync(FloatArray, "a"), "w": Window(FloatArray, "w")}, cls=Latest)
    for ms in (10, 20, 30):
        made.push("w", message(ms), 0)
        made.push("a", message(ms), 0)
    assert pairs(made) == [(30, [10, 20, 30])]
    assert made.counters.skipped_backlog == 2


def test_backlog_all_keeps_every_step() -> None:
    made = runtime({"a": Sync(FloatArray, "a")})
    for ms in (10, 20, 30):
        made.push("a", message(ms), 0)
    assert pairs(made) == [(10,), (20,), (30,)]


def test_parameters_change_between_steps_in_order() -> None:
    made = runtime({"a": Sync(FloatArray, "a")})
    made.push("a", message(10), 0)
    made.request_params(made.component.params)
    made.push("a", message(20), 0)
    kinds = [type(made.take()).__name__ for _ in range(3)]
    assert kinds == ["Step", "SetParams", "Step"]


def test_unknown_input_is_named() -> None:
    made = runtime(two())
    with pytest.raises(TopicError, match="no input 'c'; its inputs are a, b"):
        made.push("c", message(0), 0)
    with pytest.raises(TopicError, match="no input 'c'"):
        runtime(two(), options={"c": InputOptions()})


def test_a_failing_step_is_counted_and_its_sentence_kept() -> None:
    class Failing(Recorder):
        def step(self, now_ns: int, **inputs: Any) -> dict[str, Any]:
            raise RosAttnError("no.")

    made = runtime({"a": Sync(FloatArray, "a")}, cls=Failing)
    made.push("a", message(1), 0)
    work = made.take()
    assert work is not None
    with pytest.raises(RosAttnError):
        made.run(work)
    assert (made.counters.failed, made.counters.steps, made.counters.first_failure) == (1, 0, "no.")


@pytest.mark.parametrize(
    "inputs, trigger",
    [
        ({"h": Hold(FloatArray, "h")}, None),
        ({"a": Sync(FloatArray, "a")}, Timer(1)),
        ({"a": Hold(FloatArray, "a")}, Every(10, by="b")),
    ],
)
def test_contradicting_declarations_are_refused(inputs: dict, trigger: Any) -> None:
    with pytest.raises(TypeError):
        Wiring(inputs, trigger)
