"""What processes that were killed left in Fast DDS's shared memory.

A process holds a lock (flock) on ``<name>_el`` or ``<name>_sl`` for each segment and port ``fastrtps_<name>`` it uses.
Ports that nobody holds any more can keep a process that starts later from hearing anything, while discovery finds it
(Fast DDS issues 5053 and 5469); segments take room.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

PORT = "fastrtps_port"


def leftovers(room: Path) -> list[Path]:
    """Ports (:data:`PORT` and a number) and segments in ``room`` that nobody holds.

    Files of other users, whose locks cannot be tried, are left out.
    """
    found = []
    for path in sorted(room.glob("fastrtps_*")):
        if path.name.endswith(("_el", "_sl")):
            continue
        try:
            if not any(_held(Path(f"{path}{lock}")) for lock in ("_el", "_sl")):
                found.append(path)
        except OSError:
            continue
    return found


def _held(lock: Path) -> bool:
    """Whether a process has the lock. Raises OSError where that cannot be told."""
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
