"""What rows will compile is compiled ahead by many processes at once, into the caches on disk that rows then hit."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ros_attn.kernels.bench.contest import said
from ros_attn.kernels.bench.parallel import claims, cores, spread
from ros_attn.kernels.bench.rows import Task

MODULE = "ros_attn.kernels.bench.gpu"
MOST = 14
"""Processes."""
EACH_BYTES = 6 * 2**30
"""Of the GPU's memory that a process may need."""

Outcome = dict[str, Any]
"""``task, part, seconds``, and ``error``, which is empty for most."""


def rehearsed(
    section: str, jobs: Sequence[tuple[str, str]], limit_s: float, environment: Mapping[str, str] | None = None,
    share: float = 1.0,
) -> list[Outcome]:  # fmt: skip
    """Run parts of tasks, named by key and part, once each in processes of their own; those begun within the limit.

    ``share``: of the processes that the machine has room for.
    """
    memory = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else EACH_BYTES
    room = min(MOST, cores() - 1, memory // EACH_BYTES)
    processes = max(1, min(len(jobs), round(share * room)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        spread(folder, MODULE, ["--section", section, "--rehearse", name], processes, limit_s, environment)
        outcomes = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        if not outcomes:
            tail = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            print("  nothing was compiled ahead: " + " | ".join(tail))
    return outcomes


def rehearse(tasks: Iterable[Task], folder: Path) -> None:
    """One of the processes: takes jobs until none is left."""
    known = {task.key: task for task in tasks}
    jobs = {f"{key}\0{part}": (key, part) for key, part in json.loads((folder / "jobs.json").read_text())}
    with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as out:
        for job in claims(folder, jobs):
            key, part = jobs[job]
            start, error = time.monotonic(), ""
            try:
                made = known[key].rehearse
                assert made is not None
                made(part)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
            except Exception as problem:  # of whatever kind: the row itself will say so again
                error = said(problem)
            outcome: Outcome = {"task": key, "part": part, "seconds": time.monotonic() - start, "error": error}
            out.write(json.dumps(outcome) + "\n")
            out.flush()
