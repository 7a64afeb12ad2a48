"""Work shared between processes of one machine: each takes the next job that nobody has taken."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path


def cores() -> int:
    return len(os.sched_getaffinity(0))


def one_cache() -> None:
    """Keep Triton's cache where it is, for this process and those that it starts.

    PyTorch's compiler moves it the first time it compiles, and what other processes had compiled would not be found.
    """
    home = Path(os.environ.get("TRITON_HOME", Path.home()))
    os.environ.setdefault("TRITON_CACHE_DIR", str(home / ".triton" / "cache"))


def claims(folder: Path, jobs: Iterable[str]) -> Iterator[str]:
    """The jobs that are this process's: a file in ``folder``, made by the first who comes, says that one is taken."""
    for number, job in enumerate(jobs):
        try:
            os.close(os.open(folder / f"{number}.taken", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield job


def spread(
    folder: Path, module: str, arguments: Sequence[str], processes: int, limit_s: float,
    environment: Mapping[str, str] | None = None,
) -> bool:  # fmt: skip
    """``python -m module arguments`` in several processes at once; False if some had to be ended at the limit.

    Compilers get one thread each. How a process ends is not looked at: what it has done lies in its files, what it
    printed in ``folder/log``.
    """
    # Beside these processes no further ones that compile.
    own = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1", **(environment or {})}
    command = [sys.executable, "-m", module, *arguments]
    with (folder / "log").open("ab") as log:
        running = [
            subprocess.Popen(command, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            for _ in range(processes)
        ]
    end, in_time = time.monotonic() + limit_s, True
    try:
        for each in running:
            try:
                each.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                in_time = False
    finally:
        for each in running:
            if each.poll() is None:
                each.kill()
                each.wait()
    return in_time
