"""Robot, gate and policy as processes in real time, with a relay's topics between them, and a load on every core."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from ros_attn.grid import SECOND
from ros_attn.hosts.sim_policy import GATE, POLICY
from tests.bench.quadruped_faults import POLICY_COMMANDS
from tests.bench.quadruped_faults_relay import UNTAMPERED
from tests.ros.driver import Driver
from tests.shared_memory import mapped

ROOT = Path(__file__).parents[2]
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
DEADLINE_S = 60.0
PATIENCE_S = 20.0
RAMP_S = 0.3
ROBOT = "robot"
OUTSIDE, PRIORITIES = 20, {GATE: 15, POLICY: 10}
"""The simulated robot stands for hardware and the bench for an observer, neither of which shares a computer with gate
and policy: they go first. A policy that dies, and frees its memory for a while, must not hold up the gate."""
RESET = "/robot/reset"
SHARED = "/dev/shm/fastrtps_"
_EPISODE = re.compile(r"An episode begins at (\S+) s")


@contextmanager
def load() -> Iterator[int]:
    """One busy process for each core, nice 0; how many."""
    count = len(os.sched_getaffinity(0))
    busy = [started(["-c", "while True: pass"]) for _ in range(count)]
    try:
        yield count
    finally:
        for process in busy:
            process.kill()
            process.wait()


def go_first(pid: int, priority: int) -> bool:
    """Real-time priority (SCHED_RR; 0: none) for a process's threads and what they begin; whether it is allowed."""
    policy = os.SCHED_RR if priority else os.SCHED_OTHER
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(task.name), policy, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def started(words: Sequence[str], priority: int = 0, **others: Any) -> subprocess.Popen[Any]:
    """A Python process in a session of its own, as from a terminal of its own: Linux shares cores between sessions."""
    process = subprocess.Popen([sys.executable, *words], start_new_session=True, cwd=ROOT, **others)
    go_first(process.pid, priority)
    return process


class Team:
    """The processes and their logs, in a domain of their own. Context manager: at the end all processes have ended."""

    def __init__(self, folder: Path, checkpoint: str) -> None:
        self.folder = folder
        self.domain_id = 1 + os.getpid() % 100
        os.environ.setdefault(PROFILE, str(ROOT / "launch" / "config" / "fastdds.xml"))
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        self._left_behind: set[Path] = set()
        self._priority = {ROBOT: OUTSIDE, GATE: 0, POLICY: 0}
        given = [word for each in (f"checkpoint:={checkpoint}", "use_sim_time:=true") for word in ("-p", each)]
        asked = POLICY_COMMANDS.lstrip("/")
        untampered = ["-r", f"{asked}:={UNTAMPERED}{POLICY_COMMANDS}"]
        sensors = [word for topic in ("imu", "joint_states") for word in ("-r", f"{topic}:={UNTAMPERED}/{topic}")]
        self._commands = {
            GATE: ["node", "safety_gate", "--torch-threads", "1", "--ros-args", *given],
            POLICY: ["node", "quadruped_walk", "--torch-threads", "1", "--ros-args", *given, "-p", f"ramp_s:={RAMP_S}",
                     *untampered],
            ROBOT: ["robot", "--step", "real", "--ros-args", *sensors, *untampered],
        }  # fmt: skip

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        for path in self._left_behind:
            if path.exists() and not mapped(path):
                path.unlink(missing_ok=True)

    # -- processes --------------------------------------------------------------------------------------

    def start(self, stage: str) -> None:
        """Start one process; its log goes on where the one before ended."""
        with self._log(stage).open("a") as stream:
            self._processes[stage] = started(
                ["-P", "-m", "ros_attn", *self._commands[stage]], self._priority[stage], stdout=stream, stderr=stream,
                env=os.environ | {"ROS_DOMAIN_ID": str(self.domain_id), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def start_all(self, ended: Callable[[], None]) -> None:
        """Start all, or all anew, and wait for the first episode; ``ended`` is called where nobody runs."""
        self._end()
        ended()
        written = len(self._text(ROBOT))
        for stage in self._commands:
            self.start(stage)
        self._await_line(ROBOT, _EPISODE.pattern, written)

    def _end(self) -> None:
        processes = list(self._processes.values())
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def go_first(self) -> bool:
        """Real-time priority for gate and policy from now on; whether the machine allows it."""
        self._priority |= PRIORITIES
        return all([go_first(self._processes[stage].pid, priority) for stage, priority in PRIORITIES.items()])

    def ready(self, stage: str) -> None:
        """Wait until a process that was just started says that it is ready."""
        killed = self._text(stage).rfind(_KILLED)
        self._await_line(stage, r" ready: ", max(killed, 0))

    def kill(self, stages: Sequence[str]) -> None:
        """SIGKILL, all at once. It leaves shared memory behind, which is removed at the end."""
        processes = [self._processes[stage] for stage in stages]
        for process in processes:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            self._left_behind |= {Path(word) for word in maps.split() if word.startswith(SHARED)}
        for process in processes:
            process.kill()
        for stage, process in zip(stages, processes, strict=True):
            process.wait()
            with self._log(stage).open("a") as stream:
                stream.write(_KILLED)

    def begin_episode(self, driver: Driver) -> int:
        """Have robot, gate and policy begin anew; where the episode begins [ns]."""
        written = len(self._text(ROBOT))
        driver.trigger(RESET)
        return round(SECOND * float(self._await_line(ROBOT, _EPISODE.pattern, written)[1]))

    # -- logs -------------------------------------------------------------------------------------------

    def lengths(self) -> dict[str, int]:
        """How long each log is now."""
        return {stage: len(self._text(stage)) for stage in self._commands}

    def lines(self, since: dict[str, int]) -> list[str]:
        """What was written since then."""
        return [line for stage, begin in since.items() for line in self._text(stage)[begin:].splitlines()]

    def _log(self, stage: str) -> Path:
        return self.folder / f"{stage}.log"

    def _text(self, stage: str) -> str:
        path = self._log(stage)
        return path.read_text() if path.exists() else ""

    def _await_line(self, stage: str, pattern: str, begin: int) -> re.Match[str]:
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            if found := re.search(pattern, self._text(stage)[begin:]):
                return found
            time.sleep(0.01)
        raise RuntimeError(f"{stage} did not say {pattern!r} within {DEADLINE_S:g} s: {self._text(stage)[-2000:]}")


_KILLED = "SIGKILL\n"
