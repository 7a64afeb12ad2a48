"""Where a figure comes from: version, commit, machine, date."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import ros_attn

# Figures that were just written do not make the code that wrote them another.
FIGURES = ":(top,exclude)tests/bench/results"


def commit() -> str:
    """The commit of the checkout the package runs from, with ``+`` where files differ; empty outside one."""
    folder = Path(ros_attn.__file__).parent
    try:
        top = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5
        )
        if top.returncode != 0:
            return ""
        dirty = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no", "--", ":(top)", FIGURES],
            capture_output=True, text=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return top.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def machine() -> str:
    """The machine in words: cores and processor."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        model = platform.machine()
    return f"{len(os.sched_getaffinity(0))} CPU cores, {model}"


def provenance() -> dict[str, str]:
    """Version, commit, machine, Python and date (UTC), to stand beside every figure."""
    return {
        "version": ros_attn.__version__,
        "commit": commit(),
        "machine": machine(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
