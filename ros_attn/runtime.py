"""The one runtime behind every host: queues, matching, triggers, backlog and counters of one component.

A host calls :meth:`Runtime.push` when a message has arrived and :meth:`Runtime.advance` when time has passed
though nothing came; it collects what became ready with :meth:`Runtime.take` and executes it with
:meth:`Runtime.run`. The runtime reads no clock, so the same sequence of these calls gives the same bytes.
It is not thread-safe: a host with two threads guards the first three calls with one lock; ``run`` needs none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ros_attn.component import (
    Component,
    Every,
    Input,
    Outputs,
    Static,
    Sync,
    Timer,
    Transform,
    Window,
)
from ros_attn.diagnostics import InputCounters, StepTimes
from ros_attn.errors import RosAttnError, TopicError, TransformError, listed
from ros_attn.grid import Grid, to_ns
from ros_attn.matching import Moment, Synchroniser
from ros_attn.queues import JUMP_NS, Admission, InputOptions, Queue
from ros_attn.tf import TransformBuffer
from ros_attn.values import CameraInfo, Transforms, Value, field_bytes

TF, TF_STATIC = "tf", "tf_static"
TF_TOPICS = {TF: "/tf", TF_STATIC: "/tf_static"}


@dataclass(frozen=True, eq=False)
class Step:
    """A step that is ready: the trigger's stamp, the latest arrival it waited for, and its inputs."""

    now_ns: int
    ready_ns: int
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Reset:
    """The component is to forget what it saw; ``reason`` goes to the log."""

    reason: str


@dataclass(frozen=True)
class SetParams:
    """New parameters, between two steps."""

    params: Any


Work = Step | Reset | SetParams
Observer = Callable[[str, str, Any, int], None]


@dataclass
class RunCounters:
    """What became of the triggers."""

    steps: int = 0
    failed: int = 0
    skipped_ticks: int = 0
    skipped_backlog: int = 0
    untransformed: int = 0
    resets: int = 0
    first_failure: str = ""

    def as_dict(self) -> dict[str, int | str]:
        return dict(vars(self))


@dataclass
class Runtime:
    """Hosts one component; see the module."""

    component: Component
    options: Mapping[str, InputOptions] = field(default_factory=dict)
    every_step: bool = False
    observer: Observer | None = None
    warn: Callable[[str], None] = lambda sentence: None

    counters: RunCounters = field(default_factory=RunCounters)
    times: StepTimes = field(default_factory=StepTimes)

    def __post_init__(self) -> None:
        wiring = self.component.wiring()
        self.inputs: Mapping[str, Input] = wiring.inputs
        self.trigger = wiring.trigger
        unknown = [name for name in self.options if name not in self.inputs]
        if unknown:
            raise TopicError(
                f"{self.component.kind()} has no input {unknown[0]!r}; its inputs are {listed(self.inputs)}."
            )
        self.queues = {
            name: Queue(name, policy, self.options.get(name, InputOptions()))
            for name, policy in self.inputs.items()
            if not isinstance(policy, Transform)
        }
        self.sync = Synchroniser([queue for queue in self.queues.values() if isinstance(queue.policy, Sync)])
        self.statics: dict[str, Value] = {}
        self._statics_replaceable: set[str] = set()
        self.transforms = TransformBuffer() if self._of(Transform) else None
        self.tf_counters = InputCounters()
        self._grid = Grid(self.trigger.hz) if self.trigger is not None else None
        self._tick: int | None = None
        self._moments: deque[Moment] = deque()
        self._backlog: deque[Work] = deque()
        self._carried: dict[str, tuple[Value, ...]] = {}
        self._now_ns: int | None = None
        self.pace = self._pacing_input()

    def _of(self, kind: type) -> dict[str, Any]:
        return {name: policy for name, policy in self.inputs.items() if isinstance(policy, kind)}

    def _pacing_input(self) -> str | None:
        if isinstance(self.trigger, Every):
            return self.trigger.by
        return self.sync.reference.name if self.sync.reference else None

    @property
    def topics(self) -> dict[str, str]:
        """Topic of every input, TF included where a Transform is declared."""
        found = {name: queue.policy.topic for name, queue in self.queues.items()}
        return {**found, **(TF_TOPICS if self.transforms is not None else {})}

    @property
    def static_inputs(self) -> frozenset[str]:
        """Inputs whose messages a replay pushes before everything else."""
        return frozenset(self._of(Static)) | ({TF_STATIC} if self.transforms is not None else set())

    @property
    def has_work(self) -> bool:
        """Whether :meth:`take` would give something."""
        return bool(self._backlog)

    # -- what a host calls ------------------------------------------------------------------------------

    def push(self, name: str, value: Value, arrival_ns: int) -> None:
        """A message of input ``name`` arrived."""
        if self.observer is not None:
            self.observer("push", name, value, arrival_ns)
        if name in TF_TOPICS and self.transforms is not None:
            self._push_transforms(name, value)
        else:
            queue = self.queues.get(name)
            if queue is None:
                raise TopicError(
                    f"{self.component.kind()} has no input {name!r}; its inputs are {listed(self.topics)}."
                )
            self._admit(queue, value, arrival_ns)
        self._pass_time(arrival_ns)
        self._collect(arrival_ns)

    def advance(self, now_ns: int) -> None:
        """Time has passed: ``now_ns`` on the arrival clock. Deadlines and Timer ticks are looked at."""
        if self.observer is not None:
            self.observer("advance", "", None, now_ns)
        if self._now_ns is not None and now_ns <= self._now_ns - JUMP_NS:
            self._reset(f"the clock went back by {(self._now_ns - now_ns) * 1e-9:.3g} s")
            self._now_ns = None
        if isinstance(self.trigger, Timer) and self._grid is not None:
            self._tick_to(now_ns, now_ns)
        self._pass_time(now_ns)
        self._collect(now_ns)

    def take(self) -> Work | None:
        """The next piece of work, or None. With backlog "latest" older ready steps are counted as skipped."""
        if self.observer is not None and self._backlog:
            self.observer("take", "", None, self._now_ns or 0)
        if not self._backlog:
            return None
        if self.component.backlog == "latest" and not self.every_step:
            self._skip_older()
        work = self._backlog.popleft()
        if isinstance(work, Step) and self._carried:
            inputs = {**work.inputs, **{name: early + work.inputs[name] for name, early in self._carried.items()}}
            self._carried = {}
            return Step(work.now_ns, work.ready_ns, inputs)
        return work

    def run(self, work: Work) -> Outputs:
        """Execute one piece of work; a Reset or SetParams gives no outputs.

        A :class:`RosAttnError` of the component is counted and raised again for the host to report.
        """
        if isinstance(work, Reset):
            self.component.reset()
            return {}
        if isinstance(work, SetParams):
            self.component.set_params(work.params)
            return {}
        try:
            outputs = self.component.step(work.now_ns, **work.inputs)
        except RosAttnError as error:
            self.counters.failed += 1
            self.counters.first_failure = self.counters.first_failure or str(error)
            raise
        self.counters.steps += 1
        return outputs

    def request_reset(self, reason: str) -> None:
        """Reset on somebody's request, after the work that is already ready."""
        if self.observer is not None:
            self.observer("reset", reason, None, self._now_ns or 0)
        self._reset(reason)

    def request_params(self, params: Any) -> None:
        """Swap parameters between two steps, after the work that is already ready."""
        if self.observer is not None:
            self.observer("params", "", params, self._now_ns or 0)
        self._backlog.append(SetParams(params))

    # -- arrival ----------------------------------------------------------------------------------------

    def _push_transforms(self, name: str, value: Value) -> None:
        assert isinstance(value, Transforms) and self.transforms is not None
        known = len(self.transforms.problems())
        self.tf_counters.received += len(value.transforms)
        accepted = self.transforms.add_all(value, static=name == TF_STATIC)
        self.tf_counters.dropped += len(value.transforms) - accepted
        for problem in self.transforms.problems()[known:]:
            self.warn(problem)

    def _admit(self, queue: Queue, value: Value, arrival_ns: int) -> None:
        if isinstance(queue.policy, Static):
            self._hold_static(queue, value)
            return
        admitted = queue.admit(value, arrival_ns)
        if admitted is Admission.JUMPED:
            queue.counters.received -= 1
            behind = ((queue.newest_ns or 0) - value.stamp_ns) * 1e-9
            if queue.name == self.pace:
                self._reset(f"{queue.name}: stamps went back by {behind:.3g} s")
            else:
                queue.clear()
                self.warn(f"{queue.name}: stamps went back by {behind:.3g} s; its queue starts anew.")
            admitted = queue.admit(value, arrival_ns)
        if admitted is Admission.QUEUED and isinstance(self.trigger, Every) and queue.name == self.trigger.by:
            self._tick_to(queue.entries[-1].stamp_ns, arrival_ns)

    def _hold_static(self, queue: Queue, value: Value) -> None:
        queue.counters.received += 1
        held = self.statics.get(queue.name)
        if held is None or queue.name in self._statics_replaceable:
            self.statics[queue.name] = value
            self._statics_replaceable.discard(queue.name)
            queue.counters.matched += 1
            return
        if _contents(held) == _contents(value):
            queue.counters.matched += 1
        else:
            queue.counters.dropped += 1
            self.warn(f"{queue.name}: a later message differs from the one held since the start; it is ignored.")

    def _tick_to(self, stamp_ns: int, arrival_ns: int) -> None:
        assert self._grid is not None
        newest = self._grid.last(stamp_ns)
        if self._tick is None:
            # The grid begins at the first tick not before the first stamp.
            self._tick = newest if self._grid.stamp(newest) < stamp_ns else newest - 1
        if newest > self._tick:
            self.counters.skipped_ticks += newest - self._tick - 1
            self._tick = newest
            self._moments.append(Moment(self._grid.stamp(newest), arrival_ns, {}))

    # -- readiness --------------------------------------------------------------------------------------

    def _pass_time(self, now_ns: int) -> None:
        self._now_ns = now_ns if self._now_ns is None else max(self._now_ns, now_ns)

    def _collect(self, now_ns: int) -> None:
        self._moments.extend(self.sync.decide(self._now_ns or now_ns))
        while self._moments:
            moment = self._moments[0]
            waits = self._waits(moment)
            if waits is None:
                self._moments.popleft()
                self.counters.untransformed += 1
            elif waits:
                break
            else:
                self._moments.popleft()
                self._backlog.append(Step(moment.stamp_ns, self._now_ns or now_ns, self._gather(moment)))
        self._bound()

    def _waits(self, moment: Moment) -> bool | None:
        """Whether a moment must wait; None: it waited in vain for a transform and is given up."""
        if any(name not in self.statics for name in self._of(Static)):
            return True
        if any(not self.queues[name].shown(moment.stamp_ns) for name in self._of(Window)):
            return True
        for policy in self._of(Transform).values():
            assert self.transforms is not None
            if not self.transforms.ready(policy.target, policy.source, moment.stamp_ns):
                if (self._now_ns or 0) < moment.arrival_ns + to_ns(policy.wait_s):
                    return True
                self._explain(policy, moment.stamp_ns)
                return None
        return False

    def _explain(self, policy: Transform, stamp_ns: int) -> None:
        assert self.transforms is not None
        try:
            self.transforms.lookup(policy.target, policy.source, stamp_ns)
        except TransformError as error:
            self.component.health.error("tf", str(error))
            self.warn(f"No step at {stamp_ns * 1e-9:.3f} s: {error}")

    def _gather(self, moment: Moment) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for name, policy in self.inputs.items():
            if isinstance(policy, Sync):
                inputs[name] = moment.values[name]
            elif isinstance(policy, Static):
                inputs[name] = self.statics[name]
            elif isinstance(policy, Transform):
                assert self.transforms is not None
                inputs[name] = self.transforms.lookup(policy.target, policy.source, moment.stamp_ns)
                self.component.health.clear("tf")
            elif isinstance(policy, Window):
                inputs[name] = self.queues[name].take_until(moment.stamp_ns)
            else:
                inputs[name] = self.queues[name].held(moment.stamp_ns, policy.max_age_s)
        return inputs

    def _bound(self) -> None:
        for queue in self.queues.values():
            queue.bound(queue.options.queue_s)
        if self.pace is None:
            return
        pace = self.queues[self.pace]
        if pace.newest_ns is not None:
            oldest = pace.newest_ns - to_ns(pace.options.queue_s)
            while self._moments and self._moments[0].stamp_ns < oldest:
                self._moments.popleft()
                pace.counters.overflow += 1
                self._say_what_is_waited_for(pace)

    def _say_what_is_waited_for(self, pace: Queue) -> None:
        absent = [policy.topic for name, policy in self._of(Static).items() if name not in self.statics]
        behind = [policy.topic for policy in self._of(Window).values()]
        on = f"no message on {listed(absent)}" if absent else f"the windows of {listed(behind)} never completed"
        self.component.health.error("waiting", f"{pace.name} waited {pace.options.queue_s:g} s in vain: {on}.")

    # -- backlog ----------------------------------------------------------------------------------------

    def _skip_older(self) -> None:
        newest = next((work for work in reversed(self._backlog) if isinstance(work, Step)), None)
        kept: deque[Work] = deque()
        for work in self._backlog:
            if not isinstance(work, Step) or work is newest:
                kept.append(work)
                self._carried = {} if isinstance(work, Reset) else self._carried
                continue
            self.counters.skipped_backlog += 1
            for name in self._of(Window):
                # Windows tile time: what a skipped step would have seen goes to the next one.
                self._carried[name] = self._carried.get(name, ()) + work.inputs[name]
        self._backlog = kept

    def _reset(self, reason: str) -> None:
        self.counters.resets += 1
        for queue in self.queues.values():
            if not isinstance(queue.policy, Static):
                queue.clear()
        self._statics_replaceable = set(self.statics)
        if self.transforms is not None:
            self.transforms.clear_dynamic()
        self._moments.clear()
        self._carried = {}
        self._tick = None
        self._backlog.append(Reset(reason))

    def sentences(self) -> list[str]:
        """One sentence per input: what became of its messages."""
        found = []
        for queue in self.queues.values():
            slop = queue.policy.slop_s if isinstance(queue.policy, Sync) else None
            found.append(queue.counters.sentence(queue.policy.topic, slop, len(queue.entries)))
        return found


def _contents(value: Value) -> str:
    """A value's bytes without its stamp: whether two calibrations are the same calibration."""
    if isinstance(value, CameraInfo):
        return field_bytes((value.width, value.height, value.k, value.d, value.r, value.p, value.distortion_model))
    return field_bytes(tuple(item for name, item in vars(value).items() if name != "stamp_ns"))
