"""What a benchmark runs on: the device, our backends there, and how time is taken."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ros_attn.kernels.bench.timing import Timed, in_turns

Call = Callable[[], object]

AHEAD_BYTES = 2**31
"""Written before every timed call, many times the L2; some 0.5 ms on an H200, in which the host queues the call."""
MOST = 100
"""Rounds."""
MOST_AHEAD = 16
"""How often that much is written before a call that takes the host long."""


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

    How long that must be is measured for each function: a backward through autograd takes the host longer than one
    write of the L2, and what it waits for would count as the kernels' time. A stream of calls is a CUDA graph.
    ``measured_ms``: of the slowest function over all rounds, of which there are at least ``fewest``.
    """

    def __init__(self, device: torch.device, measured_ms: float = 400.0, fewest: int = 12) -> None:
        self._ahead = torch.empty(AHEAD_BYTES // 4, dtype=torch.int32, device=device)
        self._measured_ms, self._fewest = measured_ms, fewest
        self._ahead.zero_()
        [written] = self._rounds([self._ahead.zero_], [1], 3)
        self._write_ms = max(written.median, 0.05)

    def calls(self, functions: Sequence[Call]) -> list[Timed]:
        for each in functions:
            each()
        ahead = [self._writes(each) for each in functions]
        slowest = max(self._rounds(functions, ahead, 3), key=lambda timed: timed.median).median
        rounds = round(min(MOST, max(self._fewest, self._measured_ms / max(slowest, 1e-3))))
        return self._rounds(functions, ahead, rounds)

    def stream(self, calls: Sequence[Call]) -> Call:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # The second time, what the first has left to be looked at later is done with: nothing is asked of the
            # device while the graph is captured.
            for _ in range(2):
                for each in calls:
                    each()
                torch.cuda.synchronize()
        torch.cuda.current_stream().wait_stream(side)
        # Nothing of an earlier graph is to be freed while this one is captured.
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for each in calls:
                each()
        return graph.replay

    def _writes(self, function: Call) -> int:
        """How often to write before a call, for the host to have queued it by then, half as much to spare."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        host_ms = 1e3 * (time.perf_counter() - start)
        torch.cuda.synchronize()
        return min(MOST_AHEAD, max(1, math.ceil(1.5 * host_ms / self._write_ms)))

    def _rounds(self, functions: Sequence[Call], ahead: Sequence[int], rounds: int) -> list[Timed]:
        marks: list[list[tuple[torch.cuda.Event, torch.cuda.Event]]] = [[] for _ in functions]
        for _ in range(rounds):
            for each, writes, found in zip(functions, ahead, marks, strict=True):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                for _ in range(writes):
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
