"""What a node says of itself: one DiagnosticArray a period, and a log line when a condition begins or ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ros_attn.diagnostics import ERROR, WARN, Health, StepTimes, summarise
from ros_attn.hosts.ros_inputs import Source
from ros_attn.hosts.ros_outputs import Sink
from ros_attn.hosts.worker import Snapshot
from ros_attn.runtime import TF, TF_TOPICS
from ros_attn.values import Diagnostics

# Beyond this a stamp is not late, but of another clock.
OTHER_CLOCK_MS = 3.6e6


@dataclass
class Ages:
    """Stamp to publish: the last steps for the quantiles, those since the last report for the thresholds."""

    times: StepTimes = field(default_factory=StepTimes)
    _lately: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float) -> None:
        with self._lock:
            self.times.add(seconds)
            self._lately.append(1e3 * seconds)

    def quantiles_ms(self) -> dict[str, float]:
        with self._lock:
            return self.times.quantiles_ms()

    def take_median_ms(self) -> float | None:
        """The median since the last call, None where there was no step."""
        with self._lock:
            lately, self._lately = sorted(self._lately), []
        return lately[len(lately) // 2] if lately else None

    def judge(self, conditions: Health, warn_ms: float, error_ms: float) -> None:
        """Raise or clear the condition ``latency`` by the steps since the last report."""
        median = self.take_median_ms()
        if median is None:
            return
        conditions.clear("latency")
        if abs(median) > OTHER_CLOCK_MS:
            conditions.warn(
                "latency",
                f"Stamps are {abs(median) / OTHER_CLOCK_MS:.3g} h {'behind' if median > 0 else 'ahead of'} this node's "
                "clock: play the bag with --clock "
                "and set use_sim_time, or set the sensor's clock.",
            )
            return
        for limit, level in ((error_ms, ERROR), (warn_ms, WARN)):
            if limit and median > limit:
                say = conditions.error if level == ERROR else conditions.warn
                say("latency", f"From stamp to publish {median:.0f} ms pass, above {limit:g} ms.")
                return


def values_of(snapshot: Snapshot, sources: Iterable[Source], sinks: Mapping[str, Sink], ages: Ages) -> dict[str, str]:
    """The figures of one node as DiagnosticArray shows them."""
    found = {}
    step, age = snapshot.step_ms, ages.quantiles_ms()
    found |= {f"step_{name}_ms": f"{step[name]:.3f}" for name in ("p50", "p95", "p99") if step}
    found |= {f"age_{name}_ms": f"{age[name]:.3f}" for name in ("p50", "p99") if age}
    found |= {name: str(count) for name, count in snapshot.counters.as_dict().items() if name != "first_failure"}
    if snapshot.counters.first_failure:
        found["first_failure"] = snapshot.counters.first_failure
    found["idle"] = str(snapshot.idle)
    found |= snapshot.sentences
    found |= {f"topic {name}": sink.described for name, sink in sinks.items()}
    for source in sources:
        found[f"topic {source.name}"] = source.described
        if not source.internal and not source.loss_known:
            key = f"input {TF if source.name in TF_TOPICS else source.name}"
            found[key] += "; loss before us unknown, since several publish or messages are not numbered"
    return found


def alike(sentence: str) -> str:
    """A sentence without its numbers: what two sentences of the same kind share."""
    return re.sub(r"\d+(\.\d+)?", "#", sentence)


@dataclass
class Announcer:
    """Builds the diagnostics and logs each condition when it begins, or says something else than before."""

    name: str
    warning: Callable[[str], object]
    error: Callable[[str], object]
    _said: dict[str, str] = field(default_factory=dict)

    def report(self, stamp_ns: int, parts: Iterable[Health], state: str, values: Mapping[str, str]) -> Diagnostics:
        """One report of all conditions that hold now."""
        whole = Health()
        for part in parts:
            # The worker changes these at any time; a copy of a dict is atomic.
            whole.conditions |= part.conditions.copy()
            whole.figures |= part.figures.copy()
        for key, (level, sentence) in whole.conditions.items():
            if alike(self._said.get(key, "")) == alike(sentence):
                continue
            # rclpy wants one severity for one line of code.
            if level == ERROR:
                self.error(sentence)
            else:
                self.warning(sentence)
        self._said = whole.snapshot()
        built = summarise(self.name, stamp_ns, whole, {"state": state, **values})
        if whole.conditions or state == "active":
            return built
        return replace(built, statuses=(replace(built.statuses[0], message=state),))
