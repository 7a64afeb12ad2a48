"""The worker: one thread that steps, and what ends it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from ros_attn.component import Component, Out, Outputs, Sync
from ros_attn.errors import MessageError, RosAttnError
from ros_attn.hosts.worker import Worker
from ros_attn.runtime import Runtime, Step
from ros_attn.values import FloatArray

DEADLINE_S = 20.0


@dataclass
class Slow(Component):
    """Each step waits until the test lets it go on."""

    inputs: ClassVar = {"numbers": Sync(FloatArray, "numbers")}
    outputs: ClassVar = {"last": Out(FloatArray, "last")}
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def step(self, now_ns: int, numbers: FloatArray) -> Outputs:
        self.entered.release()
        assert self.go.acquire(timeout=DEADLINE_S)
        if numbers.data[0] < 0:
            raise MessageError("negative")
        if numbers.data[0] == 13:
            raise ValueError("thirteen")
        return {"last": numbers}


@dataclass
class Latest(Slow):
    """Only the newest of what became ready meanwhile."""

    backlog: ClassVar = "latest"


class Bench:
    """A worker over a component, and what it called."""

    def __init__(self, component: Slow, idle: bool = False) -> None:
        self.component = component
        self.done: list[Any] = []
        self.happened = threading.Semaphore(0)
        self.worker = Worker(
            Runtime(component), self._finished, lambda error: self._note(str(error)), self._note, lambda: idle,
            lambda reason: self._note(f"reset: {reason}"),
        )  # fmt: skip
        self.worker.start("test")

    def _finished(self, step: Step, outputs: Outputs, seconds: float) -> None:
        assert seconds > 0
        self._note(step.now_ns)

    def _note(self, what: Any) -> None:
        self.done.append(what)
        self.happened.release()

    def push(self, stamp_ns: int, number: float = 1.0) -> None:
        self.worker.push("numbers", FloatArray(stamp_ns, np.array([number])), stamp_ns)

    def wait(self, count: int = 1) -> list[Any]:
        for _ in range(count):
            assert self.happened.acquire(timeout=DEADLINE_S)
        return self.done


def entered(component: Slow) -> None:
    assert component.entered.acquire(timeout=DEADLINE_S)


@pytest.mark.parametrize(("component", "expected"), [(Slow, [1, 2, 3, 4]), (Latest, [1, 4])])
def test_what_came_during_a_step_follows_the_backlog(component: type[Slow], expected: list[int]) -> None:
    bench = Bench(component())
    bench.push(1)
    entered(bench.component)
    for stamp_ns in (2, 3, 4):
        bench.push(stamp_ns)
    bench.component.go.release(4)
    assert bench.wait(len(expected)) == expected
    assert bench.worker.stop(DEADLINE_S)
    snapshot = bench.worker.snapshot()
    assert snapshot.counters.steps == len(expected)
    assert snapshot.counters.skipped_backlog == 4 - len(expected)
    assert snapshot.sentences == {"input numbers": "numbers: 4 received, 4 matched"}


def test_resets_calls_and_refusals_come_in_order() -> None:
    bench = Bench(Slow())
    bench.push(1)
    entered(bench.component)
    bench.push(2, -1.0)
    bench.worker.request_reset("asked")
    bench.worker.call(lambda: bench._note("called"))
    bench.component.go.release(2)
    assert bench.wait(4) == [1, "called", "negative", "reset: asked"]
    assert bench.worker.snapshot().counters.failed == 1
    bench.worker.stop(DEADLINE_S)


def test_any_other_exception_is_handed_over_and_ends_the_thread() -> None:
    bench = Bench(Slow())
    bench.component.go.release(2)
    bench.push(1, 13.0)
    [error] = bench.wait()
    assert isinstance(error, ValueError)
    bench.push(2)
    assert bench.worker.stop(DEADLINE_S)
    assert len(bench.done) == 1
    # Started again, it works off what was ready.
    bench.worker.start("again")
    assert bench.wait()[-1] == 2
    bench.worker.stop(DEADLINE_S)


def test_stop_waits_for_the_step_under_way_and_says_when_it_does_not_end() -> None:
    bench = Bench(Slow())
    bench.push(1)
    entered(bench.component)
    assert not bench.worker.stop(0.01)
    with pytest.raises(RosAttnError, match=r"^A step that began before the node was deactivated still runs"):
        bench.worker.start("beside it")
    bench.component.go.release()
    assert bench.worker.stop(DEADLINE_S)
    assert bench.wait() == [1]


def test_idle_steps_are_left_out_and_counted() -> None:
    bench = Bench(Slow(), idle=True)
    for stamp_ns in (1, 2):
        bench.push(stamp_ns)
    bench.worker.request_reset("end")
    assert bench.wait() == ["reset: end"]
    assert bench.worker.snapshot().idle == 2
    assert bench.worker.snapshot().counters.steps == 0
    bench.worker.stop(DEADLINE_S)
