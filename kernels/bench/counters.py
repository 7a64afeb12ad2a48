"""What the profiler counts in the two rows that are furthest from their bars."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from glob import glob

from ros_attn.kernels.bench.rows import Row, Task

WORST = 2
LONGEST = 220
"""Seconds for one row: both fit a section."""
PLACES = ("/usr/local/cuda/bin", *sorted(glob("/opt/nvidia/nsight-compute/*"), reverse=True))
"""Where Nsight Compute is installed without being on the PATH."""
SECTIONS = (
    "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "LaunchStats", "Occupancy",
    "SchedulerStats", "WarpStateStats",
)  # fmt: skip


def tasks(compared: Iterable[Row], options: Iterable[str] = ()) -> list[Task]:
    """Section d, of rows that section c has measured; ``options`` reach the process that is profiled."""
    options = tuple(options)
    return [
        Task(
            "d", row["name"], row["parameters"], lambda row=row: {"kernels": counted(row["key"], options)}, seconds=60,
            longest=LONGEST + 10,
        )
        for row in worst(compared)
    ]  # fmt: skip


def worst(rows: Iterable[Row]) -> list[Row]:
    """The rows of kernels with the smallest share of a bar."""
    judged = [(distance(row), row) for row in rows if "times" in row]
    some = [(far, row) for far, row in judged if far is not None]
    return [row for _, row in sorted(some, key=lambda each: each[0])[:WORST]]


def distance(row: Row) -> float | None:
    """The least of value / bound, or of bound / value where the bound is from above; None without a bar on a time."""
    shares = [
        bar["value"] / bar["bound"] if bar["least"] else bar["bound"] / max(bar["value"], 1e-9)
        for bar in row["bars"]
        if bar["value"] is not None and bar["bound"] > 0 and not bar["figure"].startswith(("visible /", "error /"))
    ]
    return min(shares, default=None)


def counted(key: str, options: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """By kernel, in order of their launch, what Nsight Compute says of one call of the row's own function."""
    ncu = shutil.which("ncu", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
    if ncu is None:
        raise FileNotFoundError("Nsight Compute (ncu) is not on the PATH; install it with the CUDA toolkit")
    command = [
        ncu, "--profile-from-start", "off", "--clock-control", "none", "--csv", "--page", "details",
        *(f"--section={name}" for name in SECTIONS),
        sys.executable, "-m", "ros_attn.kernels.bench.gpu", "--section", "c", "--profile", key, *options,
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    kernels = parsed(found.stdout)
    if not kernels:
        said = [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("==") or "Error" in line]
        raise RuntimeError(f"ncu counted nothing: {' '.join(said[-3:])[:400]}")
    return kernels


def parsed(text: str) -> dict[str, dict[str, str]]:
    """The metrics of each kernel from ncu's CSV, in which other lines stand too."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), None)
    kernels: dict[str, dict[str, str]] = {}
    if start is None:
        return kernels
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if row.get("Metric Name"):
            kernel = kernels.setdefault(f"{row['ID']} {row['Kernel Name']}", {})
            kernel[row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return kernels
