"""How soon joints are damped after faults in real time: robot, gate and policy as processes over DDS, on loaded cores.

    python -m tests.bench.quadruped_faults_live [--repeats 20] [--checkpoint NAME] [--only FAULT ...] [--out FILE]

A robot walks in real time by a random command (all of the policy's range) for a random 1.5 to 3 s, then a fault of
:mod:`tests.bench.quadruped_faults` begins, or one of two more. A relay in this process between robot and gate, and
between policy and gate, loses, delays or changes messages; ``policy killed`` and ``gate killed`` are SIGKILL. One busy
process for each core runs beside it, and whatever else the machine does (``load_average``).

*Priorities.* Gate and policy have real-time priorities, as ``chrt -r 15`` and ``chrt -r 10`` give them; the simulated
robot and the bench, which stand for hardware and an observer, a higher one; the load has none. ``ordinary_priority``
says how many walks without a fault the gate damps where it and the policy have none either, since it then sees sensors
older than 40 ms.

*Reactions* count from the instant at which the threshold is crossed, in two clocks (see
:mod:`tests.bench.quadruped_faults_judgement`), to the first joint command that damps; where the gate is dead, to the
robot's first physics step that damps, which its torques tell: ``-kd qd`` at every joint to the last bit. A trial is
good when that takes at most 100 ms (20 ms for the emergency stop) in *both* clocks, and from then on every command and
every physics step seen damps. Rows that must not damp: nothing damps and the robot does not fall, for 1.2 s; without
``cmd_vel`` it stands at the end of 2 s. ``said``: trials in which one line of the log, and no second one, says why.

A walk in which joints are damped *before* the fault begins is begun anew and counted by the cause in the gate's log
(``walks_begun_anew``). Nothing that happens once a fault has begun is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from std_srvs.srv import Trigger

from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.grid import SECOND
from ros_attn.hosts.ros_diagnostics import alike
from ros_attn.provenance import provenance
from ros_attn.values import Flag, Twist
from tests.bench.quadruped_faults import MS, Fault, threshold
from tests.bench.quadruped_faults_judgement import LATCHED, LIVE_FAULTS, Verdict, judge
from tests.bench.quadruped_faults_relay import Relay
from tests.bench.quadruped_faults_team import OUTSIDE, PROFILE, RESET, ROOT, Team, go_first, load
from tests.bench.quadruped_walk import wilson
from tests.ros.driver import RELIABLE, Driver

RANGES = np.array([[-0.6, 1.0], [-0.4, 0.4], [-1.0, 1.0]])
"""Forward, left [m/s] and turn [rad/s]."""
WALK_S = 1.5, 3.0
AFTER_S = {True: 0.5, False: 1.2}
"""How long a fault is watched beyond its threshold; without damping, from its beginning on."""
STOPPING_S = 2.0
LINE_S = 1.0
"""How long a line of the log may take to be written."""
CMD_VEL_HZ = 20.0
BEGINNING_MS = 300
"""The gate passes nothing before it has heard all, at the beginning of an episode."""
MOST_ANEW, MOST_IN_A_ROW = 100, 3
"""Walks that may be damped before their fault, in all; and after how many in a row all processes are started anew."""


class Bench:
    """One team of processes, trial after trial."""

    def __init__(self, team: Team, driver: Driver, contract: JointContract, rng: np.random.Generator) -> None:
        self.team, self.driver, self.contract, self.rng = team, driver, contract, rng
        self.relay = Relay(driver)
        self.begun_anew: Counter[str] = Counter()
        """Walks that were damped before their fault, by what the log said, without its numbers."""
        self.restarts = 0
        """Of all processes: what was killed left something behind through which the others are not heard."""
        self.factors: list[float] = []
        """Simulated over wall time of each walk."""
        self._velocity: np.ndarray | None = None
        self._speaker = driver.publisher("/cmd_vel", Twist, RELIABLE)
        self._stop = driver.publisher("/emergency_stop", Flag, RELIABLE)
        driver._clients[RESET] = driver.node.create_client(Trigger, RESET)
        driver.node.create_timer(1 / CMD_VEL_HZ, self._speak)

    def _speak(self) -> None:
        if (velocity := self._velocity) is not None:
            forward, left, turn = velocity
            self._speaker.send(Twist(0, np.array([forward, left, 0.0]), np.array([0.0, 0.0, turn])))

    def _pass_time(self, seconds: float, from_ns: int) -> None:
        """Until the robot's time is so much later; raises where it does not come to that."""
        deadline_s = time.monotonic() + 10 * seconds + 10
        while self.relay.now.ros_ns < from_ns + seconds * SECOND:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the robot's time stands at {self.relay.now.ros_ns / SECOND:.3f} s")
            time.sleep(0.005)

    def _walked(self) -> bool:
        """Walk by a new command for a while; whether all was seen and nothing damped."""
        self._velocity = self.rng.uniform(*RANGES.T)
        start_ns = self.team.begin_episode(self.driver)
        began = self.relay.now
        self._pass_time(float(self.rng.uniform(*WALK_S)), start_ns)
        now = self.relay.now
        self.factors.append((now.ros_ns - began.ros_ns) / (now.wall_ns - began.wall_ns))
        return self.relay.passing(start_ns + BEGINNING_MS * MS, now.ros_ns)

    def walks(self, count: int) -> dict[str, int]:
        """How many walks without a fault the gate damps, of so many."""
        return {"walks": count, "damped": sum(not self._walked() for _ in range(count))}

    def trial(self, name: str, fault: Fault) -> Verdict:
        """One fault in one walk; afterwards all processes run and messages pass."""
        relay = self.relay
        written = self.team.lengths()
        in_a_row = 0
        while not self._walked():
            in_a_row += 1
            cause = causes(self.team.lines(written))
            print(f"begun anew: {cause}", file=sys.stderr, flush=True)
            self.begun_anew[cause] += 1
            if self.begun_anew.total() > MOST_ANEW:
                raise RuntimeError(f"{MOST_ANEW} walks were damped before their fault: free the machine's cores")
            if in_a_row % MOST_IN_A_ROW == 0:
                self.restarts += 1
                self.team.start_all(relay.forget)
            written = self.team.lengths()
        relay.measuring = True
        written = self.team.lengths()
        begun = relay.now
        if fault.topic == "emergency_stop":
            self._stop.send(Flag(0, True))
        elif fault.topic == "/cmd_vel":
            self._velocity = None
        elif fault.kills:
            self.team.kill(fault.kills)
        else:
            relay.begin(fault)
        crossing_ns = begun.ros_ns + (fault.after_ms or fault.cut_ms or 0) * MS
        seconds = STOPPING_S if fault.topic == "/cmd_vel" else AFTER_S[fault.damps]
        self._pass_time(seconds, crossing_ns)
        relay.measuring = False
        at = begun
        if fault.topic in relay.last_good:
            cut_ns = relay.cut_since(begun.ros_ns) if fault.cut_ms else 0
            at = relay.instant(threshold(fault, relay.last_good[fault.topic], relay.first_bad_ns, cut_ns))
        seen = relay.recording(begun, at, self.contract)
        deadline_s = time.monotonic() + LINE_S
        while True:
            seen.log = self.team.lines(written)
            verdict = judge(name, fault, seen)
            if verdict.said or time.monotonic() > deadline_s:
                break
            time.sleep(0.05)
        if verdict.wrong or not verdict.said:
            print(*seen.log, sep="\n", file=sys.stderr)
        self._mend(fault)
        return verdict

    def _mend(self, fault: Fault) -> None:
        self.relay.end()
        if fault.topic == "emergency_stop":
            self._stop.send(Flag(0, False))
        for stage in fault.kills:
            self.team.start(stage)
        for stage in fault.kills:
            self.team.ready(stage)


def causes(log: list[str]) -> str:
    """What a log says of damping, without numbers."""
    found = [line.partition("]: ")[2] for line in log if LATCHED in line or "Joints are damped, waiting" in line]
    return " ".join(dict.fromkeys(alike(each) for each in found)) or "no damping: its commands were not seen yet"


def figures(reactions: list[float | None]) -> list[float] | None:
    """Median, smallest and largest, of those that are there."""
    found = [each for each in reactions if each is not None]
    return [round(float(value), 2) for value in (np.median(found), min(found), max(found))] if found else None


def summary(verdicts: list[Verdict]) -> dict[str, Any]:
    """Counts with Wilson's 95 % interval, and reactions."""
    good, said = sum(not each.wrong for each in verdicts), sum(each.said for each in verdicts)
    return {
        "good": wilson(good, len(verdicts)), "count": f"{good} of {len(verdicts)}",
        "said": wilson(said, len(verdicts)), "said_count": f"{said} of {len(verdicts)}",
        "stamp_ms": figures([each.stamp_ms for each in verdicts]),
        "arrival_ms": figures([each.arrival_ms for each in verdicts]),
        "step_ms": figures([each.step_ms for each in verdicts]),
    }  # fmt: skip


def row(fault: Fault, verdicts: list[Verdict]) -> dict[str, Any]:
    """The line of one fault."""
    must = f"damp within {fault.within_ms} ms" if fault.damps else "go on"
    return {"must": must, **summary(verdicts), "trials": [asdict(each) for each in verdicts]}


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 99 % and largest."""
    found = dict(zip(("p50", "p99", "worst"), np.percentile(values, (50, 99, 100)), strict=True))
    return {name: round(float(value), 3) for name, value in found.items()}


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="walk_go2")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--walks", type=int, default=10, help="walks without a fault, gate and policy without priority")
    parser.add_argument("--only", nargs="+", choices=list(LIVE_FAULTS), default=list(LIVE_FAULTS), metavar="FAULT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/bench/results/quadruped_faults_live.json")
    arguments = parser.parse_args(words)
    rng = np.random.default_rng(arguments.seed)
    contract = JointContract.read(checkpoint_folder(arguments.checkpoint))
    found: dict[str, list[Verdict]] = {name: [] for name in arguments.only}
    loads = [os.getloadavg()[0]]
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    first = go_first(os.getpid(), OUTSIDE)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        team = stack.enter_context(Team(folder, arguments.checkpoint))
        driver = Driver(team.domain_id, "bench")
        stack.callback(driver.close)
        bench = Bench(team, driver, contract, rng)
        team.start_all(bench.relay.forget)
        busy = stack.enter_context(load())
        ordinary = bench.walks(arguments.walks)
        print(f"ordinary priority: {ordinary}", file=sys.stderr, flush=True)
        first &= team.go_first()
        bench.factors.clear()
        for repeat in range(arguments.repeats):
            for name in rng.permutation(arguments.only):
                verdict = bench.trial(str(name), LIVE_FAULTS[str(name)])
                found[str(name)].append(verdict)
                said = "" if verdict.said else "; the log does not say why, once"
                times = [None if each is None else round(each, 1) for each in
                         (verdict.stamp_ms, verdict.arrival_ms, verdict.step_ms)]  # fmt: skip
                print(f"{repeat + 1} {name}: {verdict.wrong or 'good'}{said} {times}", file=sys.stderr, flush=True)
            loads.append(os.getloadavg()[0])
            rows = {name: row(LIVE_FAULTS[name], verdicts) for name, verdicts in found.items()}
            damping = [each for name, verdicts in found.items() if LIVE_FAULTS[name].damps for each in verdicts]
            results = {
                "what": "robot, gate and policy as processes over DDS in real time; reactions: median, least, most",
                "checkpoint": arguments.checkpoint, "repeats": repeat + 1, "seed": arguments.seed,
                "all_that_must_damp": summary(damping) if damping else None,
                "rows": rows,
                "walks_begun_anew": dict(bench.begun_anew), "restarts": bench.restarts,
                "real_time_priorities": first, "ordinary_priority": ordinary,
                "profile": Path(os.environ[PROFILE]).name,
                "busy_processes": busy, "cores": len(os.sched_getaffinity(0)),
                "load_average": [round(each, 2) for each in loads],
                "real_time_factor": [round(float(each), 3) for each in np.percentile(bench.factors, (50, 0))],
                "relay_ms": quantiles(list(bench.relay.delays_ms)),
                "wall_s": round(time.monotonic() - began_s), "provenance": provenance(),
            }  # fmt: skip
            arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
