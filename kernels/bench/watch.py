"""Rows measured in a process that may hang or crash, watched by one that says what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

AGAIN = 75
"""Exit status of a process that has lost its CUDA context: the next one goes on with the rows that are left."""
GRACE = 15.0
"""Seconds that the last row may take beyond the end."""
LEAST = 20.0
"""With less left, no further process is started."""


class Begun(NamedTuple):
    key: str
    until: float
    """By ``time.monotonic``, which all processes share."""
    seconds: float


class Journal:
    """Which rows are to be measured, and which were begun and ended, in files of a folder."""

    def __init__(self, folder: Path, keys: Sequence[str] | None = None) -> None:
        self.folder = folder
        self._lines = folder / "journal.jsonl"
        if keys is not None:
            (folder / "keys.json").write_text(json.dumps(list(keys)), encoding="utf-8")

    def begin(self, key: str, seconds: float) -> None:
        """``seconds``: how long it may take."""
        self._write({"key": key, "until": time.monotonic() + seconds, "seconds": seconds})

    def end(self, key: str) -> None:
        self._write({"ended": key})

    def left(self) -> list[str]:
        """What has not been begun."""
        begun = {line["key"] for line in self._read() if "key" in line}
        return [key for key in json.loads((self.folder / "keys.json").read_text(encoding="utf-8")) if key not in begun]

    def now(self) -> Begun | None:
        """What has been begun and not ended."""
        lines = self._read()
        return Begun(**lines[-1]) if lines and "key" in lines[-1] else None

    def _write(self, line: dict[str, str | float]) -> None:
        with self._lines.open("a", encoding="utf-8") as to:
            to.write(json.dumps(line) + "\n")

    def _read(self) -> list[dict]:
        if not self._lines.is_file():
            return []
        # A line that is being written has no end yet.
        return [json.loads(line) for line in self._lines.read_text(encoding="utf-8").split("\n")[:-1]]


def watched(
    command: Callable[[float], Sequence[str]], journal: Journal, end: float, lost: Callable[[str, str, str], None]
) -> int:
    """Run ``command(seconds left)``, again after every row that took it along, until none is left or the end has come.

    ``lost(key, why, what it wrote to its standard error)`` is called for each such row. Returns 0, or the exit status
    of a process that ended between two rows.
    """
    idle = 0
    while True:
        left = len(journal.left())
        status, late, words = _run(command(end - time.monotonic()), journal, end + GRACE)
        if words.strip():
            print("\n".join(words.strip().splitlines()[-20:]), file=sys.stderr, flush=True)
        row = journal.now()
        if row is not None:
            journal.end(row.key)
            if time.monotonic() >= end + GRACE:
                print(f"the time was over while {row.key!r} ran; run the section again for it", flush=True)
                return 0
            why = f"its process took longer than {row.seconds:.0f} s" if late else f"its process {_ended(status)}"
            lost(row.key, f"{why}: {_last(words)}" if words.strip() else why, words)
        elif late:
            return 0
        elif status >= 0 and status != AGAIN:
            return status
        if not journal.left() or end - time.monotonic() < LEAST:
            return 0
        idle = idle + 1 if len(journal.left()) == left else 0
        if idle == 2:
            return 1


def _run(command: Sequence[str], journal: Journal, end: float) -> tuple[int, bool, str]:
    """Exit status, whether it had to be ended, and its standard error."""
    path = journal.folder / "errors"
    late = False
    with path.open("wb") as errors:
        # A group of its own, so that what it has started ends with it.
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors, process_group=0)
        try:
            while running.poll() is None and not late:
                time.sleep(0.2)
                row = journal.now()
                late = time.monotonic() > (end if row is None else min(end, row.until))
            if late and running.poll() is None:
                # It writes where it is, see ``faulthandler.register``.
                running.send_signal(signal.SIGUSR1)
                time.sleep(1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    return running.returncode, late, path.read_text(encoding="utf-8", errors="replace")


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def _last(words: str) -> str:
    """The last line that it wrote before the dump of its traceback, and the innermost line of that."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    dump = next(
        (n for n, line in enumerate(lines) if line.startswith(("Fatal Python", "Current thread", "Thread 0x"))), None
    )
    before = lines[:dump]
    inner = [line for line in lines[len(before) :] if line.startswith("File ")]
    return "; ".join(each[:250] for each in [*before[-1:], *inner[:1]])
