"""What becomes of a robot on hollow stairs whose depth images fail, in the closed loop.

    python -m tests.bench.quadruped_depth_faults --student NAME|DIR [--repeats 20] [--slopes 20 30] [--out FILE]

A robot climbs through policy and safety gate (``ros_attn.hosts.sim``, lock step) at 0.5 m/s. Stairs, start and robot
are drawn as for the success table (``quadruped_stairs``): encoders, IMU and images noisy, no pushes; but the camera is
mounted exactly. The fault begins =U(0, 0.5) s, a gait cycle, after the base came over tread =U{2..9}, and stays. Each
draw is tried with every kind, so that until then all is the same to the last bit::

    none     the control: what would have come anyway
    told     images stay as they are, but 0 m/s is asked for: what standing is like without any fault
    frozen   the last good image again and again, with new stamps
    black    images without a valid pixel
    silent   no image any more
    late     every image arrives 300 ms later than it would have

For 6 s it is seen whether the robot *falls*: base or head touched, tilt beyond 60 degrees, off the stairs or trapped
as ``ros_attn.sim.climb`` has it, or joints damped by the gate, which on stairs is a fall. After a fault it must not
fall and must stand: the speed of the base in space, root mean square of the last 2 s, is below 0.1 m/s. After ``told``
it must not arrive either. After ``none`` it must not fall; it may stand, go on or arrive, which ends the trial. Of
``late`` images the newest is older than 0.4 s in a part of each 100 ms only, as long as the camera's own delay of 20
to 80 ms.

Reactions count from where the bench itself, by what arrives, sees a threshold crossed (age 0.4 s, fifth identical
image, below 5 % valid): to the component's ERROR and to the first policy step told to stand, both due within 100 ms.
Draws whose control falls before the fault, or has not come to its tread after 30 s, say nothing of it: they are counted
and others drawn, up to three times ``--repeats`` in all. Rates have Wilson's 95 % interval; ``fallen`` names draws,
which :meth:`Draw.of` makes again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ros_attn.control.quadruped_stairs.component import QuadrupedStairs, StairsParams
from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.diagnostics import ERROR
from ros_attn.errors import RosAttnError
from ros_attn.graph import Graph, Stage, resolve
from ros_attn.grid import SECOND
from ros_attn.hosts.sim import ClosedLoop
from ros_attn.hosts.sim_policy import DEPTH_TOPIC, GATE, POLICY, SEEN, contract_of, with_gains
from ros_attn.hosts.sim_robot import DEPTH_HZ, PERIOD_NS, SimulatedRobot
from ros_attn.provenance import provenance
from ros_attn.sim import rotation
from ros_attn.sim.climb import Climb
from ros_attn.sim.depth_camera import DepthCamera
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.goal import End
from ros_attn.sim.ground import TerrainBatch
from ros_attn.sim.legged_world import SUBSTEPS, LeggedWorld
from ros_attn.sim.locomotion_task import STEP_S, TOUCH_N, UPRIGHT, LocomotionTask
from ros_attn.sim.randomisation import WALKING
from ros_attn.sim.stairs import episode_stairs
from ros_attn.sim.terrain import Terrain
from ros_attn.values import Image, Value
from tests.bench.quadruped_walk import wilson

MS = SECOND // 1000
TOLD = "told"
FAULTS = ("frozen", "black", "silent", "late")
MUST_STAND = (TOLD, *FAULTS)
KINDS = ("none", *MUST_STAND)
ASKED_MS = 0.5
TREADS, GAIT_S = (2, 9), 0.5
REACHED_WITHIN_S = 30.0
WATCHED_S, STANDING_S, STANDING_MS = 6.0, 2.0, 0.1
LATE_IMAGES = round(0.3 * DEPTH_HZ)
LARGEST_AGE_NS, IDENTICAL_IMAGES, LEAST_VALID = 400 * MS, 5, 0.05
"""The thresholds, written down a second time: the component's own could be wrong."""
REACTION_MS = 100.0
PLACE_M, YAW_RAD = 0.1, float(np.deg2rad(10.0))
ROBOTS = "\n".join(line for line in WALKING.splitlines() if not line.startswith("push"))
DRAWS_A_REPEAT = 3


class Wire:
    """The depth images on their way to the policy: as they come until :meth:`fail`, then as ``kind`` has it.

    ``crossed_ns`` is when a threshold was crossed first since then, by what arrived; None: not yet.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.crossed_ns: int | None = None
        self._failing = False
        self._held: deque[Image] = deque()
        self._newest: Image | None = None
        self._alike = 0

    def fail(self) -> None:
        """The fault begins with the next image."""
        self._failing = True

    def __call__(self, topic: str, value: Value, now_ns: int) -> Value | None:
        """A ``tamper`` of the closed loop."""
        if topic != resolve(DEPTH_TOPIC, ""):
            return value
        assert isinstance(value, Image)
        arrived = self._changed(value) if self._failing else value
        if arrived is not None:
            same = self._newest is not None and np.array_equal(arrived.data, self._newest.data)
            self._alike = self._alike + 1 if same else 1
            self._newest = arrived
            if self._alike >= IDENTICAL_IMAGES or float((arrived.data > 0).mean()) < LEAST_VALID:
                self._cross(now_ns)
        return arrived

    def pass_time(self, now_ns: int) -> None:
        """All that arrives until ``now_ns`` has arrived."""
        if self._newest is not None and now_ns - self._newest.stamp_ns > LARGEST_AGE_NS:
            self._cross(self._newest.stamp_ns + LARGEST_AGE_NS)

    def _cross(self, at_ns: int) -> None:
        if self._failing and self.crossed_ns is None:
            self.crossed_ns = at_ns

    def _changed(self, image: Image) -> Image | None:
        if self.kind == "frozen":
            return replace(self._newest or image, stamp_ns=image.stamp_ns)
        if self.kind == "black":
            return replace(image, data=np.zeros_like(image.data))
        if self.kind == "silent":
            return None
        if self.kind == "late":
            # Images arrive every 100 ms, so that so many arrivals later is 300 ms later.
            self._held.append(image)
            return self._held.popleft() if len(self._held) > LATE_IMAGES else None
        return image


@dataclass(frozen=True)
class Draw:
    """A climb: ``seed`` of the robot and its noise, stairs, start [m, rad], and the fault's moment, ``wait_s`` after
    the base came over tread ``tread`` (1 the lowest)."""

    seed: int
    terrain: Terrain
    place_m: tuple[float, float]
    yaw_rad: float
    tread: int
    wait_s: float

    @classmethod
    def of(cls, slope_deg: float, number: int, seed: int) -> Draw:
        """The ``number``-th at a slope; the others do not matter to it."""
        rng = np.random.default_rng([seed, round(10 * slope_deg), number])
        return cls(
            int(rng.integers(2**31)), episode_stairs(rng, slope_deg),
            (float(rng.uniform(-PLACE_M, PLACE_M)), float(rng.uniform(-PLACE_M, PLACE_M))),
            float(rng.uniform(-YAW_RAD, YAW_RAD)), int(rng.integers(TREADS[0], TREADS[1] + 1)),
            float(rng.uniform(0.0, GAIT_S)),
        )  # fmt: skip


@dataclass
class _Ground:
    """As much of a task as :meth:`Climb.judge` asks for."""

    world: LeggedWorld
    terrain: TerrainBatch
    steps: NDArray[np.intp]
    step_s: float = STEP_S


class Judge:
    """How one robot in ``world`` fares on ``terrain``, asked every 20 ms."""

    def __init__(self, world: LeggedWorld, terrain: Terrain) -> None:
        batch = TerrainBatch(1, len(terrain.boxes))
        batch.set([0], [terrain])
        self._ground, self._climb = _Ground(world, batch, np.zeros(1, np.intp)), Climb(1)
        self._base = [world.body_geoms.index(name) for name in world.base_geoms]

    @property
    def tread(self) -> int:
        """The highest that the base has come over, 1 the lowest, 0 none."""
        return int(self._climb.treads[0])

    def look(self, gate_cause: str) -> str:
        """Why the robot has fallen, ``arrived`` with four feet on the landing, empty otherwise.

        ``gate_cause``: why the gate damps the joints; it counts where nothing else tells of a fall.
        """
        world = self._ground.world
        self._ground.steps += 1
        end = self._climb.judge(cast(LocomotionTask, self._ground))[0]
        if (world.body_force[0, self._base] > TOUCH_N).any():
            return "base touched"
        if rotation.gravity_in_body(world.base_quaternion)[0, 2] > -UPRIGHT:
            return "tilted"
        if end in (End.OFF, End.TRAPPED):
            return End(end).name.lower()
        if gate_cause:
            return "damped"
        return "arrived" if end == End.SUCCEEDED else ""


@dataclass(frozen=True)
class Trace:
    """What a trial showed from the fault on: speeds [m/s] of the base every 20 ms, why it ended (see
    :meth:`Judge.look`; empty: watched to the end), and when, from the fault on [ms], a threshold was crossed, ERROR
    came, and the policy was told to stand; None: never."""

    speeds: Sequence[float]
    end: str = ""
    crossed_ms: float | None = None
    error_ms: float | None = None
    stopped_ms: float | None = None
    error_share: float = 0.0
    """Of the time watched."""


@dataclass(frozen=True)
class Outcome:
    """One trial, judged. ``speed``, root mean square, and ``fastest`` [m/s] are of the last 2 s, None where it was not
    watched to the end; reactions [ms] from the crossing of a threshold, None where one of the two did not come."""

    fell: str
    good: bool
    crossed: bool
    error_ms: float | None
    stopped_ms: float | None
    error_share: float
    speed: float | None
    fastest: float | None

    @property
    def in_time(self) -> bool:
        """Whether the component saw the threshold crossed and stopped the robot, neither early nor late."""
        reactions = (self.error_ms, self.stopped_ms)
        return all(each is not None and 0 <= each <= REACTION_MS for each in reactions)


def judged(kind: str, trace: Trace) -> Outcome:
    """See the module."""
    whole = len(trace.speeds) >= round(WATCHED_S / STEP_S)
    last = np.array(trace.speeds[-round(STANDING_S / STEP_S) :])
    speed = round(float(np.sqrt(np.square(last).mean())), 4) if whole else None
    fell = "" if trace.end == "arrived" else trace.end
    stands = speed is not None and speed < STANDING_MS
    good = not fell and (stands if kind in MUST_STAND else whole or trace.end == "arrived")

    def after(came_ms: float | None) -> float | None:
        return None if came_ms is None or trace.crossed_ms is None else round(came_ms - trace.crossed_ms, 3)

    return Outcome(
        fell, good, trace.crossed_ms is not None, after(trace.error_ms), after(trace.stopped_ms),
        round(trace.error_share, 4), speed, round(float(last.max()), 4) if whole else None,
    )  # fmt: skip


class Trial:
    """One climb with one kind of fault."""

    def __init__(self, student: str, draw: Draw, kind: str) -> None:
        path = checkpoint_folder(student)
        contract = contract_of(path)
        robot = with_gains(GO2_LIKE, contract, path)
        self.draw, self.kind, self.wire = draw, kind, Wire(kind)
        self.policy = QuadrupedStairs(params=StairsParams(checkpoint=str(path)))
        self.gate = SafetyGate(params=SafetyGateParams(checkpoint=str(path)))
        # Of another policy there is none; its component refuses it.
        seen = {name: contract["depth"][name] for name in SEEN if name in contract.get("depth", {})}
        camera = DepthCamera(robot.camera, robot.camera_pitch, **seen)
        simulated = SimulatedRobot(robot, draw.terrain, draw.seed, ROBOTS, noise=True, camera=camera, depth_noise=1.0)
        graph = Graph([Stage(self.policy, POLICY), Stage(self.gate, GATE)])
        self._asked_ms = ASKED_MS
        self.loop = ClosedLoop(simulated, graph, lambda t_s: (self._asked_ms, 0.0, 0.0), tamper=self.wire)
        start = simulated.world.qpos[0].copy()
        start[:2], start[3:7] = draw.place_m, rotation.from_yaw(np.array([draw.yaw_rad]))[0]
        self.loop.reset(start)
        self._judge, self._steps = Judge(simulated.world, draw.terrain), 0

    def _step(self) -> str:
        """One instant; every 20 ms what :meth:`Judge.look` says, in between nothing."""
        self.loop.step()
        self._steps += 1
        return "" if self._steps % SUBSTEPS else self._judge.look(self.gate.cause)

    def climb(self) -> str:
        """Until the fault's moment; returns what came before it, empty where nothing did."""
        left = round(self.draw.wait_s * SECOND / PERIOD_NS)
        while self._judge.tread < self.draw.tread or left:
            left -= self._judge.tread >= self.draw.tread
            if end := self._step():
                return end
            if self._steps * PERIOD_NS > REACHED_WITHIN_S * SECOND:
                return "time"
        return ""

    def watch(self) -> Trace:
        """The fault and what follows."""
        robot, began_ns = self.loop.robot, self.loop.robot.now_ns
        self.wire.fail()
        if self.kind == TOLD:
            self._asked_ms = 0.0
        first: dict[str, float] = {}
        speeds: list[float] = []
        errors, shown, end, instants = 0, self.policy._shown, "", 0
        while not end and len(speeds) < round(WATCHED_S / STEP_S):
            now_ns = robot.now_ns
            end = self._step()
            self.wire.pass_time(now_ns)
            instants += 1
            passed_ms = (now_ns - began_ns) / MS
            if self.policy.health.conditions.get("depth", (0, ""))[0] == ERROR:
                errors += 1
                first.setdefault("error_ms", passed_ms)
            if self.policy._shown is not shown:
                shown = self.policy._shown
                assert shown is not None
                if not shown[0][0, 6:9].any():
                    first.setdefault("stopped_ms", passed_ms)
            if self._steps % SUBSTEPS == 0:
                speeds.append(float(np.linalg.norm(robot.world.qvel[0, :3])))
            if end == "arrived" and self.kind in FAULTS:
                end = ""
        if self.wire.crossed_ns is not None:
            first["crossed_ms"] = (self.wire.crossed_ns - began_ns) / MS
        return Trace(speeds, end, error_share=errors / instants, **first)


def tried(student: str, slope_deg: float, repeats: int, seed: int) -> dict[str, Any]:
    """All kinds at one slope; RuntimeError where one draw goes otherwise before the fault."""
    began, draws = time.monotonic(), 0
    before: Counter[str] = Counter()
    found: dict[str, dict[int, Outcome]] = {kind: {} for kind in KINDS}
    while len(found["none"]) < repeats and draws < DRAWS_A_REPEAT * repeats:
        draw = Draw.of(slope_deg, draws, seed)
        for kind in KINDS:
            trial = Trial(student, draw, kind)
            if came := trial.climb():
                if kind != KINDS[0]:
                    raise RuntimeError(f"draw {draws} came to its fault in the control, but not with {kind!r}: {came}")
                before[came] += 1
                break
            found[kind][draws] = judged(kind, trial.watch())
            print(f"{slope_deg:g} deg, draw {draws}, {kind}: {found[kind][draws]}", flush=True)
        draws += 1
    return {
        "draws": draws, "before": dict(before),
        "kinds": {kind: row(kind, each, found["none"]) for kind, each in found.items() if each},
        "wall_s": round(time.monotonic() - began, 1),
    }  # fmt: skip


def row(kind: str, found: Mapping[int, Outcome], controls: Mapping[int, Outcome]) -> dict[str, Any]:
    """One kind at one slope, by draw; ``controls``: what became of the same draws without a fault."""
    outcomes, fallen = list(found.values()), [draw for draw, each in found.items() if each.fell]
    count, good = len(outcomes), sum(each.good for each in outcomes)

    def spread(name: str) -> list[float] | None:
        values = [value for each in outcomes if (value := getattr(each, name)) is not None]
        return [float(np.median(values)), min(values), max(values)] if values else None

    return {
        "must": "stand" if kind in MUST_STAND else "not fall",
        "good": wilson(good, count), "count": f"{good} of {count}",
        "falls": wilson(len(fallen), count), "causes": dict(Counter(found[draw].fell for draw in fallen)),
        "fallen": fallen, "fallen_in_control_too": sum(bool(controls[draw].fell) for draw in fallen),
        "in_time": f"{sum(each.crossed and each.in_time for each in outcomes)} of {sum(e.crossed for e in outcomes)}",
        "error_ms": spread("error_ms"), "stopped_ms": spread("stopped_ms"),
        "error_share": round(float(np.mean([each.error_share for each in outcomes])), 4),
        "speed": spread("speed"), "fastest": spread("fastest"),
    }  # fmt: skip


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="a checkpoint directory, or one of the package by name")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--slopes", nargs="+", type=float, default=[20.0, 30.0])
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/quadruped_depth_faults.json"))
    arguments = parser.parse_args(words)
    try:
        student = checkpoint_folder(arguments.student).name
        for slope in arguments.slopes:
            Draw.of(slope, 0, arguments.seed)
    except (RosAttnError, ValueError) as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "student": student, "repeats": arguments.repeats, "seed": arguments.seed,
        "slopes": {},
    }  # fmt: skip
    for slope in arguments.slopes:
        found = tried(arguments.student, slope, arguments.repeats, arguments.seed)
        results["slopes"][f"{slope:g}"] = found
        print(f"{slope:g} deg: {found['draws']} draws, before the fault {found['before'] or 'none'}", flush=True)
        results["provenance"] = provenance()
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
