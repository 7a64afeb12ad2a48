"""What the tests of the benchmarks measure with: this machine, and times that they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ros_attn.kernels.bench.contest import Context
from ros_attn.kernels.bench.machine import Call, HostTimer, Machine
from ros_attn.kernels.bench.rows import Row, key
from ros_attn.kernels.bench.timing import Timed


class Stopwatch:
    """Runs every function once, and says it took as many milliseconds as it is told."""

    def __init__(self, *medians: float) -> None:
        self._medians = medians

    def calls(self, functions: Sequence[Call]) -> list[Timed]:
        for each in functions:
            each()
        return [Timed((ms, ms, ms)) for ms in self._medians]

    def stream(self, calls: Sequence[Call]) -> Call:
        return lambda: [each() for each in calls]


def context(timer: Any = None, **options: Any) -> Context:
    machine = Machine(torch.device("cpu"), "grouped", "grouped", torch.float32, timer or HostTimer(2))
    return Context(machine, **options)


def row(name: str, code: str = "one", device: str = "GPU", **found: Any) -> Row:
    """A row of section c as its file has it."""
    task = key("c", name, {"L": 8})
    return {"key": task, "name": name, "origin": {"code": code, "device": device, "commit": ""}, **found}
