"""The queue of one input: order of stamps, offset, rate limit, bound, and the count of what was let go."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from ros_attn.component import Hold, Queued
from ros_attn.diagnostics import InputCounters
from ros_attn.grid import SECOND, to_ns
from ros_attn.values import Value

JUMP_NS = SECOND


@dataclass(frozen=True)
class InputOptions:
    """What a user may set for any input, whatever its policy.

    ``time_offset_s`` is added to every stamp (thermal and visible cameras rarely share a clock);
    ``max_rate_hz`` > 0 thins by stamp; ``queue_s`` bounds the queue in seconds of stamps.
    """

    time_offset_s: float = 0.0
    max_rate_hz: float = 0.0
    queue_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A queued message with both of its times."""

    stamp_ns: int
    arrival_ns: int
    value: Value


class Admission(Enum):
    """What :meth:`Queue.admit` did with a message."""

    QUEUED = auto()
    LET_GO = auto()
    JUMPED = auto()


@dataclass
class Queue:
    """Messages of one input that wait for a trigger, in stamp order."""

    name: str
    policy: Queued
    options: InputOptions = field(default_factory=InputOptions)
    counters: InputCounters = field(default_factory=InputCounters)
    entries: deque[Entry] = field(default_factory=deque)
    newest_ns: int | None = None
    floor_ns: int | None = None
    _kept_ns: int | None = None
    _handed: Entry | None = None
    _standing: Entry | None = None
    """What a reset has left of a Hold that goes through it."""

    def admit(self, value: Value, arrival_ns: int) -> Admission:
        """Queue a message, or let it go and count why.

        A stamp less than 1 s behind the newest (or at or before ``floor_ns``, a moment already decided) is
        late; 1 s or more behind is a jump, which the caller turns into a reset where the input paces steps.
        """
        self.counters.received += 1
        stamp_ns = value.stamp_ns
        if self.options.time_offset_s:
            stamp_ns += to_ns(self.options.time_offset_s)
            value = dataclasses.replace(value, stamp_ns=stamp_ns)
        if self.newest_ns is not None and stamp_ns <= self.newest_ns - JUMP_NS:
            return Admission.JUMPED
        if (self.newest_ns is not None and stamp_ns < self.newest_ns) or (
            self.floor_ns is not None and stamp_ns <= self.floor_ns
        ):
            self.counters.late += 1
            return Admission.LET_GO
        if self._too_soon(stamp_ns):
            self.newest_ns = stamp_ns
            self.counters.thinned += 1
            return Admission.LET_GO
        self.newest_ns = self._kept_ns = stamp_ns
        self.entries.append(Entry(stamp_ns, arrival_ns, value))
        return Admission.QUEUED

    def _too_soon(self, stamp_ns: int) -> bool:
        if self.options.max_rate_hz <= 0 or self._kept_ns is None:
            return False
        # A tenth of a period of tolerance: a 30 Hz camera with jitter passes a 30 Hz limit whole.
        return stamp_ns - self._kept_ns < 0.9 * SECOND / self.options.max_rate_hz

    def bound(self, seconds: float) -> int:
        """Let go of what is more than ``seconds`` of stamps behind the newest; returns how many."""
        gone = 0
        if self.newest_ns is not None:
            oldest = self.newest_ns - to_ns(seconds)
            while self.entries and self.entries[0].stamp_ns < oldest:
                self.entries.popleft()
                gone += 1
        self.counters.overflow += gone
        return gone

    def nearest(self, stamp_ns: int) -> Entry | None:
        """The entry nearest in stamp; of two equally near the older."""
        best = None
        for entry in self.entries:
            if best is None or abs(entry.stamp_ns - stamp_ns) < abs(best.stamp_ns - stamp_ns):
                best = entry
            if entry.stamp_ns >= stamp_ns:
                break
        return best

    def pass_by(self, stamp_ns: int) -> None:
        """A moment at ``stamp_ns`` was decided: let go of what no later one can be nearest to."""
        while len(self.entries) > 1 and self.entries[1].stamp_ns <= stamp_ns:
            self.entries.popleft()
            self.counters.dropped += 1

    def consume(self, entry: Entry) -> None:
        """Remove ``entry`` as matched; older ones, which nothing can take any more, as dropped."""
        while self.entries:
            first = self.entries.popleft()
            if first is entry:
                self.counters.matched += 1
                return
            self.counters.dropped += 1

    def take_until(self, stamp_ns: int) -> tuple[Value, ...]:
        """Remove and return everything with a stamp <= ``stamp_ns``; what comes later with one is late."""
        self.floor_ns = stamp_ns
        taken = []
        while self.entries and self.entries[0].stamp_ns <= stamp_ns:
            taken.append(self.entries.popleft().value)
        self.counters.matched += len(taken)
        return tuple(taken)

    def held(self, stamp_ns: int, max_age_s: float) -> Value | None:
        """The newest message with a stamp <= ``stamp_ns``, which stays; None where it is older than that."""
        while len(self.entries) > 1 and self.entries[1].stamp_ns <= stamp_ns:
            if self.entries.popleft() is not self._handed:
                self.counters.superseded += 1
        first = self.entries[0] if self.entries else None
        if first is not None and first.stamp_ns <= stamp_ns:
            self._stand(None)
        if self._standing is not None:
            first = self._standing
        elif first is None or not 0 <= stamp_ns - first.stamp_ns <= max_age_s * SECOND:
            self.counters.missing += 1
            return None
        if first is not self._handed:
            self.counters.matched += 1
            self._handed = first
        return first.value

    def shown(self, stamp_ns: int) -> bool:
        """Whether this input has shown a stamp >= ``stamp_ns``, so that nothing nearer can come."""
        return self.newest_ns is not None and self.newest_ns >= stamp_ns

    def clear(self) -> None:
        """Forget everything but the counts, and the newest message of a Hold that goes through resets."""
        if self.entries and isinstance(self.policy, Hold) and self.policy.through_reset:
            self._stand(self.entries.pop())
        self.counters.dropped += len(self.entries)
        self.entries.clear()
        self.newest_ns = self.floor_ns = self._kept_ns = None

    def _stand(self, entry: Entry | None) -> None:
        """Let ``entry`` stand where another one did, which no step may have held."""
        if self._standing is not None and self._standing is not self._handed:
            self.counters.superseded += 1
        self._standing = entry
