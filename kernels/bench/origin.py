"""Where a figure of the kernels comes from: commit, sources, device, driver, versions, date."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch

SOURCES = Path(__file__).parents[1]
"""The folder of the kernels; a benchmark more or less does not change their figures."""


@lru_cache(maxsize=1)
def code() -> str:
    """12 digits of a hash of the kernels' sources and of their table of block sizes, this folder left out.

    Figures of one code belong together: a commit says less of a checkout with changes, and a copy of the files without
    its history has none.
    """
    found = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.py"), *SOURCES.glob("*.json")]):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit of the checkout, with ``+`` where files differ; what ``ROS_ATTN_COMMIT`` says, where there is none."""
    figures = ":(top,exclude)tests/bench/results"
    try:
        head = _output("git", "-C", str(SOURCES), "rev-parse", "--short=12", "HEAD")
        changed = _output(
            "git", "-C", str(SOURCES), "status", "--porcelain", "--untracked-files=no", "--", ":(top)", figures
        )
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("ROS_ATTN_COMMIT", "")
    return head + ("+" if changed else "")


def device_name(device: torch.device) -> str:
    """The GPU in words, or the processor's cores and model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        return model
    return f"{len(os.sched_getaffinity(0))} CPU cores, {model}"


def origin(device: torch.device) -> dict[str, str]:
    """What stands beside every row."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"commit": commit(), "code": code(), "device": device_name(device), **_versions(device.type), "date": stamp}


@lru_cache(maxsize=4)
def _versions(kind: str) -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if find_spec("triton") is not None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found["triton"] = version("triton")
        except PackageNotFoundError:
            found["triton"] = "of unknown version"
    if kind == "cuda":
        found["driver"] = f"of unknown version, CUDA {torch.version.cuda}"
        with suppress(OSError, subprocess.SubprocessError):
            said = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
            found["driver"] = said[0] if said else found["driver"]
    return found


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
