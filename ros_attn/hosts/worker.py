"""The thread in which a live component steps, and the lock between it and the host's own thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ros_attn.component import Outputs
from ros_attn.errors import RosAttnError
from ros_attn.runtime import TF, Reset, RunCounters, Runtime, SetParams, Step
from ros_attn.values import Value


@dataclass(frozen=True)
class Snapshot:
    """A runtime's counts at one moment, taken under its lock."""

    counters: RunCounters
    idle: int
    sentences: dict[str, str]
    step_ms: dict[str, float]


@dataclass
class Worker:
    """Runs what one :class:`Runtime` has ready, in order, in a thread of its own.

    ``finished(step, outputs, seconds)``, ``refused(error)`` (a step's :class:`RosAttnError`), ``idle()``
    (whether steps may be left out now) and ``died(error)`` are called in that thread. ``died`` is the end:
    any other exception, of the component or of a callback, stops the worker.
    """

    runtime: Runtime
    finished: Callable[[Step, Outputs, float], None]
    refused: Callable[[RosAttnError], None]
    died: Callable[[BaseException], None]
    idle: Callable[[], bool] = lambda: False
    reset_done: Callable[[str], object] = lambda reason: None

    _wake: threading.Condition = field(default_factory=threading.Condition)
    _calls: deque[Callable[[], None]] = field(default_factory=deque)
    _stopping: bool = False
    _idle_steps: int = 0
    _thread: threading.Thread | None = None

    def start(self, name: str) -> None:
        """Begin to work; RosAttnError while a step from before :meth:`stop` still runs."""
        if self.running:
            raise RosAttnError(
                "A step that began before the node was deactivated still runs; try again when it is over."
            )
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"{name}-steps", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, patience_s: float) -> bool:
        """Let the step under way end; False where it did not within ``patience_s``."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(patience_s)
        return not self.running

    # -- from any thread --------------------------------------------------------------------------------

    def push(self, name: str, value: Value, arrival_ns: int) -> None:
        with self._wake:
            self.runtime.push(name, value, arrival_ns)
            self._notify()

    def advance(self, now_ns: int) -> None:
        with self._wake:
            self.runtime.advance(now_ns)
            self._notify()

    def request_reset(self, reason: str) -> None:
        with self._wake:
            self.runtime.request_reset(reason)
            self._notify()

    def request_params(self, params: Any) -> None:
        with self._wake:
            self.runtime.request_params(params)
            self._notify()

    def call(self, function: Callable[[], None]) -> None:
        """Have ``function`` called between two steps; it must not raise."""
        with self._wake:
            self._calls.append(function)
            self._wake.notify()

    def snapshot(self) -> Snapshot:
        with self._wake:
            counters = RunCounters(**self.runtime.counters.as_dict())  # type: ignore[arg-type]
            said = self.runtime.sentences()
            sentences = {f"input {name}": each for name, each in zip(self.runtime.queues, said, strict=True)}
            if self.runtime.transforms is not None:
                sentences[f"input {TF}"] = self.runtime.tf_counters.sentence("/tf and /tf_static")
            return Snapshot(counters, self._idle_steps, sentences, self.runtime.times.quantiles_ms())

    def _notify(self) -> None:
        if self.runtime.has_work:
            self._wake.notify()

    # -- the thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._once():
                pass
        except BaseException as error:
            self.died(error)

    def _once(self) -> bool:
        with self._wake:
            while not (self._stopping or self._calls or self.runtime.has_work):
                self._wake.wait()
            if self._stopping:
                return False
            call = self._calls.popleft() if self._calls else None
            work = None if call else self.runtime.take()
        if call is not None:
            call()
        elif isinstance(work, Step):
            self._step(work)
        elif work is not None:
            self._between(work)
        return True

    def _between(self, work: Reset | SetParams) -> None:
        try:
            self.runtime.run(work)
        except RosAttnError as error:
            self.refused(error)
        if isinstance(work, Reset):
            self.reset_done(work.reason)

    def _step(self, step: Step) -> None:
        if self.idle():
            self._idle_steps += 1
            return
        began = time.perf_counter()
        try:
            outputs = self.runtime.run(step)
        except RosAttnError as error:
            self.refused(error)
            return
        finally:
            seconds = time.perf_counter() - began
            with self._wake:
                self.runtime.times.add(seconds)
        self.finished(step, outputs, seconds)
