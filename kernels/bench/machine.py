"""What a benchmark runs on: the device, our backends there, and how time is taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ros_attn.kernels.bench.timing import Timed, in_turns

Call = Callable[[], object]

AHEAD_BYTES = 2**31
"""Written before every timed call: some 0.7 ms on an H200, in which the host queues the call, and many times its L2."""
MOST = 100
"""Rounds."""


class Timer(Protocol):
    def calls(self, functions: Sequence[Call]) -> list[Timed]:
        """Functions in turns, each from cold caches and without the host's share."""
        ...

    def stream(self, calls: Sequence[Call]) -> Call:
        """One function that makes these calls one after the other, with nothing between them on the device."""
        ...


class HostTimer:
    """By the host's clock, for devices that compute while the host waits."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    def calls(self, functions: Sequence[Call]) -> list[Timed]:
        return in_turns(functions, self._rounds)

    def stream(self, calls: Sequence[Call]) -> Call:
        return lambda: [each() for each in calls]


class EventTimer:
    """By events of a CUDA device; before a call the L2 is emptied, and the device kept busy while the host queues.

    A stream of calls is a CUDA graph. ``measured_ms``: of the slowest function over all rounds, of which there are at
    least ``fewest``.
    """

    def __init__(self, device: torch.device, measured_ms: float = 400.0, fewest: int = 12) -> None:
        self._ahead = torch.empty(AHEAD_BYTES // 4, dtype=torch.int32, device=device)
        self._measured_ms, self._fewest = measured_ms, fewest

    def calls(self, functions: Sequence[Call]) -> list[Timed]:
        for each in functions:
            each()
        torch.cuda.synchronize()
        slowest = max(self._rounds(functions, 3), key=lambda timed: timed.median).median
        return self._rounds(functions, round(min(MOST, max(self._fewest, self._measured_ms / max(slowest, 1e-3)))))

    def stream(self, calls: Sequence[Call]) -> Call:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for each in calls:
                each()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for each in calls:
                each()
        return graph.replay

    def _rounds(self, functions: Sequence[Call], rounds: int) -> list[Timed]:
        marks: list[list[tuple[torch.cuda.Event, torch.cuda.Event]]] = [[] for _ in functions]
        for _ in range(rounds):
            for each, found in zip(functions, marks, strict=True):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                self._ahead.zero_()
                start.record()
                each()
                end.record()
                found.append((start, end))
        torch.cuda.synchronize()
        return [Timed(tuple(start.elapsed_time(end) for start, end in found)) for found in marks]


@dataclass(frozen=True)
class Machine:
    """Where the rows are measured. ``backend`` and ``decode`` are those of ``attend``, ``dtype`` is of all tensors."""

    device: torch.device
    backend: str
    decode: str
    dtype: torch.dtype
    timer: Timer

    @property
    def l2_bytes(self) -> int:
        """The GPU's L2; of others that of an H200."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).L2_cache_size
        return 60 * 2**20


def host_us(function: Call, calls: int = 200) -> float:
    """Microseconds that the host is busy with a call whose result nobody waits for, the median of 5 runs of calls."""
    found = []
    for _ in range(5):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls // 5):
            function()
        found.append(1e6 * (time.perf_counter() - start) / (calls // 5))
    return statistics.median(found)
