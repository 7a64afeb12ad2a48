"""The promise of the policies: the same bytes however the topics interleave, skew up to a second.

And its complement: a policy that makes no promise (Hold) does depend on the interleaving, so that the test is
known to be able to fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ros_attn.component import Every, Hold, Input, Static, Sync, Transform, Trigger, Window, Wiring
from ros_attn.runtime import Runtime
from ros_attn.values import FloatArray, Transforms, field_bytes
from ros_attn.values import Transform as TransformValue
from tests.test_runtime import Recorder

MS = 1_000_000
SKEW_NS = 1000 * MS
INTERLEAVINGS = 500

SYNC: dict[str, Input] = {"a": Sync(FloatArray, "a", 0.03)}
PAIR: dict[str, Input] = {**SYNC, "b": Sync(FloatArray, "b", 0.03)}
TRIPLE: dict[str, Input] = {**PAIR, "c": Sync(FloatArray, "c", 0.05)}
WINDOW: dict[str, Input] = {"w": Window(FloatArray, "w")}
STATIC: dict[str, Input] = {"s": Static(FloatArray, "s")}
TRANSFORM: dict[str, Input] = {"T": Transform("odom", "base", wait_s=100.0)}
EVERY = Every(20, by="w")

PROMISING: dict[str, tuple[Mapping[str, Input], Trigger | None]] = {
    "sync2": (PAIR, None),
    "sync3": (TRIPLE, None),
    "sync+window": (SYNC | WINDOW, None),
    "sync+static": (SYNC | STATIC, None),
    "sync+transform": (SYNC | TRANSFORM, None),
    "sync2+window": (PAIR | WINDOW, None),
    "sync2+window+static": (PAIR | WINDOW | STATIC, None),
    "sync2+window+static+transform": (PAIR | WINDOW | STATIC | TRANSFORM, None),
    "sync3+window2+transform": (TRIPLE | WINDOW | {"v": Window(FloatArray, "v")} | TRANSFORM, None),
    "every+window": (WINDOW, EVERY),
    "every+window+static": (WINDOW | STATIC, EVERY),
    "every+window+transform": (WINDOW | TRANSFORM, EVERY),
    "every+window2+static+transform": (WINDOW | {"v": Window(FloatArray, "v")} | STATIC | TRANSFORM, EVERY),
}
PERIOD_MS = {"a": 110, "b": 90, "c": 70, "w": 31, "v": 57, "tf": 43}


def streams(names: list[str], rng: np.random.Generator) -> dict[str, list[Any]]:
    """Per topic 3 s of messages in stamp order, with jitter, gaps and equal stamps."""
    made: dict[str, list[Any]] = {}
    for name in names:
        if name == "s":
            made[name] = [FloatArray(int(stamp), rng.random(2)) for stamp in sorted(rng.integers(0, 500 * MS, 2))]
            continue
        period = PERIOD_MS[name] * MS
        stamps = np.arange(0, 3000 * MS, period) + rng.integers(0, period // 2, len(range(0, 3000 * MS, period)))
        stamps = stamps[rng.random(len(stamps)) > 0.1]
        stamps[1] = stamps[0]
        if name == "tf":
            stamps[0] = 0  # known from the start, or the first triggers would wait in vain
            made[name] = [
                Transforms(int(t), (TransformValue(int(t), rng.random(3), np.array([0, 0, 0, 1.0]), "odom", "base"),))
                for t in stamps
            ]
        else:
            made[name] = [FloatArray(int(t), rng.random(3)) for t in stamps]
    return made


def interleaved(made: dict[str, list[Any]], rng: np.random.Generator) -> list[tuple[str, Any]]:
    """All messages, each topic in its own order, topics against each other skewed by at most a second."""
    delay = {name: int(rng.integers(0, SKEW_NS)) for name in made}
    keyed = []
    for name, messages in made.items():
        arrival = 0
        for message in messages:
            jitter = int(rng.integers(0, max(1, SKEW_NS - delay[name])))
            arrival = max(arrival + 1, min(message.stamp_ns + delay[name] + jitter, message.stamp_ns + SKEW_NS))
            keyed.append((arrival, rng.random(), name, message))
    keyed.sort(key=lambda item: item[:2])
    return [(name, message) for _, _, name, message in keyed]


def digest(wiring: Wiring, order: list[tuple[str, Any]]) -> tuple[str, int, int]:
    """SHA over everything the component was given, the number of steps, and of overflows."""
    made = Runtime(Recorder(wired=wiring))
    for position, (name, message) in enumerate(order):
        made.push(name, message, position * MS)
        while (work := made.take()) is not None:
            made.run(work)
    overflow = sum(queue.counters.overflow for queue in made.queues.values())
    seen = made.component.seen  # type: ignore[attr-defined]
    total = hashlib.sha256(field_bytes(tuple((now, tuple(inputs.items())) for now, inputs in seen)).encode())
    return total.hexdigest(), len(seen), overflow


def names_of(inputs: Mapping[str, Input]) -> list[str]:
    return ["tf" if isinstance(policy, Transform) else name for name, policy in inputs.items()]


@pytest.mark.parametrize("combination", PROMISING, ids=str)
def test_every_interleaving_gives_the_same_bytes(combination: str) -> None:
    inputs, trigger = PROMISING[combination]
    wiring = Wiring(inputs, trigger)
    rng = np.random.default_rng(sorted(PROMISING).index(combination))
    steps = 0
    for _ in range(10):
        made = streams(names_of(inputs), rng)
        expected, count, overflow = digest(wiring, interleaved(made, rng))
        steps += count
        assert overflow == 0
        for _ in range(INTERLEAVINGS // 10):
            assert digest(wiring, interleaved(made, rng)) == (expected, count, 0)
    assert steps > 50, "hardly a step was taken: the test would prove nothing"


def test_hold_makes_no_such_promise() -> None:
    wiring = Wiring(SYNC | {"w": Hold(FloatArray, "w")})
    rng = np.random.default_rng(0)
    made = streams(["a", "w"], rng)
    assert len({digest(wiring, interleaved(made, rng))[0] for _ in range(20)}) > 1
