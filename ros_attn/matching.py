"""Pairing of messages by stamp: which messages are of one moment, and which sensor is missing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from ros_attn.component import Sync
from ros_attn.grid import to_ns
from ros_attn.queues import Entry, Queue
from ros_attn.values import Value


@dataclass(frozen=True)
class Moment:
    """A trigger: its stamp, its arrival and the synchronised values (None: that sensor is missing)."""

    stamp_ns: int
    arrival_ns: int
    values: dict[str, Value | None]


class Verdict(Enum):
    """What became of the search for a partner."""

    WAIT = auto()
    BEYOND = auto()
    MISSING = auto()


@dataclass
class Synchroniser:
    """Carries out the ``Sync`` policy over the queues of one component.

    ``|stamp - reference| <= slop_s``, nearest first, of two equally near the older, each used once. A
    partner is decided once its input showed an unused stamp >= the reference's, so the pairs do not depend on how
    topics interleave, unless ``missing_after_s`` struck.
    """

    queues: Sequence[Queue]
    reference: Queue | None = field(init=False)
    others: Sequence[Queue] = field(init=False)

    def __post_init__(self) -> None:
        self.reference = self.queues[0] if self.queues else None
        self.others = self.queues[1:]

    def decide(self, now_ns: int) -> Iterator[Moment]:
        """Every moment that can be decided at ``now_ns`` on the arrival clock, in stamp order."""
        if self.reference is None:
            return
        waiting: deque[Entry] = self.reference.entries
        while waiting:
            first = waiting[0]
            found = {queue.name: self._partner(queue, first, now_ns) for queue in self.others}
            if Verdict.WAIT in found.values():
                return
            if Verdict.BEYOND in found.values():
                waiting.popleft()
                self.reference.counters.dropped += 1
                for queue in self.others:
                    queue.pass_by(first.stamp_ns)
                continue
            self.reference.consume(first)
            yield self._moment(first, {self.reference.name: first.value}, found, self.others)
        yield from self._without_reference(now_ns)

    @staticmethod
    def _moment(
        trigger: Entry,
        values: dict[str, Value | None],
        found: dict[str, Entry | Verdict],
        queues: Sequence[Queue],
    ) -> Moment:
        for queue in queues:
            partner = found[queue.name]
            if isinstance(partner, Entry):
                queue.consume(partner)
                values[queue.name] = partner.value
            else:
                queue.counters.missing += 1
                values[queue.name] = None
        return Moment(trigger.stamp_ns, trigger.arrival_ns, values)

    @staticmethod
    def _partner(queue: Queue, trigger: Entry, now_ns: int) -> Entry | Verdict:
        policy = queue.policy
        assert isinstance(policy, Sync)
        nearest = queue.nearest(trigger.stamp_ns)
        difference_ns = None if nearest is None else abs(nearest.stamp_ns - trigger.stamp_ns)
        within = difference_ns is not None and difference_ns <= to_ns(policy.slop_s)
        # A message that was already taken decides nothing: the next one could be nearer than any that is left.
        if queue.entries and queue.entries[-1].stamp_ns >= trigger.stamp_ns:
            if within:
                return nearest  # type: ignore[return-value]
            if difference_ns is not None:
                queue.counters.near(difference_ns * 1e-9)
            return Verdict.BEYOND
        if policy.missing_after_s is None or now_ns < trigger.arrival_ns + to_ns(policy.missing_after_s):
            return Verdict.WAIT
        if within:
            return nearest  # type: ignore[return-value]
        return Verdict.BEYOND if queue.shown(trigger.stamp_ns) else Verdict.MISSING

    def _without_reference(self, now_ns: int) -> Iterator[Moment]:
        """Moments of the other sensors while the reference, declared as possibly missing, is silent."""
        reference = self.reference
        assert reference is not None and isinstance(reference.policy, Sync)
        if reference.policy.missing_after_s is None:
            return
        patience_ns = to_ns(reference.policy.missing_after_s)
        while lead := next((queue for queue in self.others if queue.entries), None):
            first = lead.entries[0]
            if reference.shown(first.stamp_ns):
                # The reference is past this one: it is no moment of its own.
                lead.entries.popleft()
                lead.counters.dropped += 1
                lead.counters.near((reference.newest_ns - first.stamp_ns) * 1e-9)  # type: ignore[operator]
                continue
            if now_ns < first.arrival_ns + patience_ns:
                return
            rest = [queue for queue in self.others if queue is not lead]
            found = {queue.name: self._partner(queue, first, now_ns) for queue in rest}
            if Verdict.WAIT in found.values():
                return
            lead.consume(first)
            reference.counters.missing += 1
            reference.floor_ns = first.stamp_ns
            values: dict[str, Value | None] = {reference.name: None, lead.name: first.value}
            yield self._moment(first, values, found, rest)
