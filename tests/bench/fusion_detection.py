"""How well people and vehicles are found in the fused picture as haze grows, beside each camera alone and the rivals.

    python -m tests.bench.fusion_detection [--checkpoint NAME=CHECKPOINT ...] [--workers 2]
        [--cache runs/fusion_detection] [--out FILE]

Drives down the simulated street, both cameras in one place (``fusion_detection_scenes``), through even haze. Every
method makes a grey picture of the same two, and two measures take it, fixed for all methods and all haze:

* detection: a HOG and linear SVM detector (``fusion_detection_hog``), trained here on other drives in clear air, on as
  many pictures of the visible camera, the infrared camera, their average and their maximum. Average precision, all
  points, at an intersection over union of 0.5.
* segmentation: GrabCut from a box and a stroke (``fusion_detection_grabcut``), which learns nothing beforehand;
  intersection over union of what it cuts out and the object's pixels, mean over objects. ``box`` and ``stroke`` are the
  scores of these themselves.

Each figure is [value, low, high]: the 95 % interval is from 1000 seeded resamplings of the drives, in which the frames
of a drive stay together. Differences are taken in the same resamplings.

What is found on a drive is kept under ``--cache``, by method and by the code that found it: a run that was stopped goes
on, and one with another checkpoint looks at that one only.

The haze of the infrared camera is the simulator's: 3 % of the visible extinction, which holds for haze and not for
dense fog, so the figures at 0.08 and 0.12 per metre, 49 and 33 m of visibility, are about haze of fine droplets that
thick, not about fog.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import ros_attn
from ros_attn.perception import infrared_visible_fusion
from ros_attn.provenance import provenance
from ros_attn.values import Array
from tests.bench.fusion_detection_grabcut import PROMPTS, cut_out
from tests.bench.fusion_detection_hog import WINDOWS, Detector, Sample, overlaps, train
from tests.bench.fusion_detection_scenes import BETAS, FRAMES, LEAST_HEIGHT, Frame, Thing, frames
from tests.bench.fusion_weather import RULES, Fuse, Method, compact, learned, named
from tests.bench.fusion_weather_pairs import slug

DRIVES = tuple(range(7101, 7113))
TRAINING_DRIVES = tuple(range(7201, 7209))
TAUGHT = ("visible only", "infrared only", "average", "max")
"""The methods whose pictures the detector learns from: nobody's fusion."""
CAMERAS = ("visible only", "infrared only")
WEIGHTS = Path(next(iter(infrared_visible_fusion.__path__))) / "weights"
MATCH = 0.5
KINDS = tuple(WINDOWS)
_DRAWS = 1000


@dataclass
class Tally:
    """One method on one drive in one haze: a class's detections, whether each is right, and GrabCut's IoU by object."""

    scores: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)


Tallies = dict[tuple[float, str, str], Tally]
"""By beta, class and method."""


def picture(fuse: Fuse, frame: Frame, beta: float) -> Array:
    """What a method makes of a frame, in 8 bit."""
    fused = fuse(frame.infrared[beta].astype(np.float32), frame.visible[beta].astype(np.float32))
    return np.clip(np.rint(fused), 0, 255).astype(np.uint8)


def matched(scores: Array, boxes: Array, wanted: Array, ignored: Array) -> tuple[list[float], list[bool]]:
    """Scores of the detections that count, and whether each is right.

    Best first, each takes the free object of ``wanted`` [N, 4] that it overlaps most, by at least :data:`MATCH`. One
    that takes none is wrong, a second one on the same object too; but it does not count where half of it or more lies
    in one of ``ignored`` [N, 4].
    """
    counted, hits, free = [], [], np.ones(len(wanted), bool)
    for index in np.argsort(-scores, kind="stable"):
        box = boxes[index]
        overlap = overlaps(box, wanted) * free
        hit = bool(len(wanted)) and float(overlap.max()) >= MATCH
        if hit:
            free[overlap.argmax()] = False
        else:
            sides = np.minimum(box[2:], ignored[:, 2:]) - np.maximum(box[:2], ignored[:, :2])
            if np.clip(sides, 0, None).prod(axis=1).max(initial=0) >= 0.5 * (box[2:] - box[:2]).prod():
                continue
        counted.append(float(scores[index]))
        hits.append(hit)
    return counted, hits


def tally(seed: int, detector: Detector, methods: Mapping[str, Fuse]) -> Tallies:
    """All methods and haze on one drive; the prompts come with the first camera."""
    cv2.setNumThreads(1)
    names = [*methods, *(PROMPTS if CAMERAS[0] in methods else ())]
    found: Tallies = {(beta, kind, name): Tally() for beta in BETAS for kind in KINDS for name in names}
    for frame in frames(seed):
        counted = [thing for thing in frame.things if thing.counted]
        for beta in BETAS:
            for name, fuse in methods.items():
                image = picture(fuse, frame, beta)
                for kind, (scores, boxes) in detector.detect(image).items():
                    scores, hits = matched(scores, boxes, *_boxes(frame.things, kind))
                    row = found[beta, kind, name]
                    row.scores += scores
                    row.hits += hits
                for thing in counted:
                    ious = cut_out(image, thing)
                    found[beta, thing.kind, name].ious.append(ious["cut"])
                    if name == CAMERAS[0]:
                        for prompt in PROMPTS:
                            found[beta, thing.kind, prompt].ious.append(ious[prompt])
    return found


def _boxes(things: list[Thing], kind: str) -> tuple[Array, Array]:
    of_kind = [thing for thing in things if thing.kind == kind]
    return tuple(
        np.array([thing.box for thing in of_kind if thing.counted is counted], float).reshape(-1, 4)
        for counted in (True, False)
    )  # pyright: ignore[reportReturnType]


def samples(seed: int) -> list[Sample]:
    """A training drive's pictures in clear air."""
    made = []
    for frame in frames(seed, (0.0,)):
        wanted, unwanted = (
            {kind: [t.box for t in frame.things if t.kind == kind and t.counted is counted] for kind in KINDS}
            for counted in (True, False)
        )
        made += [Sample(picture(RULES[name], frame, 0.0), wanted, unwanted) for name in TAUGHT]
    return made


@cache
def draws(drives: int) -> Array:
    """How often each drive is drawn, [1 + draws, drives]; the first row is the drives as they are."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(drives, np.full(drives, 1 / drives), size=_DRAWS)
    return np.vstack([np.ones((1, drives)), drawn])


def average_precision(drives: Sequence[Tally], weights: Array) -> Array:
    """Area below precision over recall, precision made not to rise with recall; [draws] of weights [draws, drives].

    A drive counts as often as its weight says. All points, no interpolation at fixed recalls (Everingham et al., IJCV
    2015, section 2.2.3, as in VOC since 2010). Of equal scores all are taken at once.
    """
    scores = np.concatenate([each.scores for each in drives])
    hits = np.concatenate([np.array(each.hits, bool) for each in drives])
    of_drive = np.repeat(np.arange(len(drives)), [len(each.scores) for each in drives])
    objects = weights @ np.array([len(each.ious) for each in drives])
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(order)])
    each = weights[:, of_drive[order]]
    right = np.cumsum(each * hits[order], axis=1)[:, last]
    precision = right / np.maximum(np.cumsum(each, axis=1)[:, last], 1e-12)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(right, axis=1, prepend=0) * precision).sum(axis=1) / objects


def mean_iou(drives: Sequence[Tally], weights: Array) -> Array:
    """Mean over the objects of the drives drawn, [draws]."""
    total, count = (np.array([function(each.ious) for each in drives], float) for function in (sum, len))
    return weights @ total / (weights @ count)


def figure(drawn: Array) -> list[float]:
    """Value, low and high end, of a figure [1 + draws] of which the first is the value."""
    return [round(float(value), 4) for value in (drawn[0], *np.quantile(drawn[1:], (0.025, 0.975)))]


MEASURES = {"average precision": average_precision, "IoU of GrabCut": mean_iou}


def scored(drives: Sequence[Tallies], names: Sequence[str]) -> dict[str, Any]:
    """By measure, class and beta: each method's figure, and how each of ``names`` differs from the better camera alone
    and from the rule."""
    methods = list(dict.fromkeys(key[2] for key in drives[0]))
    weights = draws(len(drives))
    results: dict[str, Any] = {}
    for measure, function in MEASURES.items():
        for kind in KINDS:
            for beta in BETAS:
                drawn = {
                    name: function([each[beta, kind, name] for each in drives], weights)
                    for name in methods
                    if name not in PROMPTS or function is mean_iou
                }
                camera = max(CAMERAS, key=lambda name: drawn[name][0])
                less = {
                    name: {
                        "better camera": figure(drawn[name] - drawn[camera]),
                        "rule": figure(drawn[name] - drawn["rule"]),
                    }
                    for name in names
                }
                results.setdefault(measure, {}).setdefault(kind, {})[str(beta)] = {
                    "methods": {name: figure(each) for name, each in drawn.items()},
                    "better camera": camera,
                    "less": less,
                }
    return results


def code() -> str:
    """A hash of what decides what is found on a drive, weights aside."""
    here, package = Path(__file__).parent, Path(ros_attn.__file__).parent
    files = [*here.glob("fusion_detection*.py"), *(package / "sim").glob("*.py"), WEIGHTS.parent / "rule.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:12]


def kept(path: Path, make: Callable[[], Tallies]) -> Tallies:
    """The tallies in a file, or what ``make`` makes, then in the file."""
    if not path.is_file():
        rows, part = [[*key, asdict(row)] for key, row in make().items()], path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(rows), encoding="utf-8")
        part.rename(path)
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {(beta, kind, name): Tally(**row) for beta, kind, name, row in rows}


def one_drive(seed: int, detector: Detector, checkpoints: Sequence[tuple[str, Path]], cache: Path) -> Tallies:
    """What all methods find on a drive; only what is not kept is looked for."""
    methods = [Method(name, fuse) for name, fuse in RULES.items()]
    methods += [learned(name, path) for name, path in checkpoints]
    paths = [cache / f"{seed}-{slug(method.name)}-{method.version[:12]}.json" for method in methods]
    missing = {method.name: method.fuse for method, path in zip(methods, paths, strict=True) if not path.is_file()}
    found = tally(seed, detector, missing) if missing else {}
    rows: Tallies = {}
    for method, path in zip(methods, paths, strict=True):
        own = (method.name, *(PROMPTS if method.name == CAMERAS[0] else ()))
        rows |= kept(path, lambda own=own: {key: row for key, row in found.items() if key[2] in own})
    return rows


def run(checkpoints: Sequence[tuple[str, Path]], workers: int, cache: Path) -> dict[str, Any]:
    """Train the detector, look at all drives, score."""
    began, cache = time.perf_counter(), cache / code()
    # Not forked: a GL context belongs to the process that made it.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        taught = [sample for drive in pool.map(samples, TRAINING_DRIVES) for sample in drive]
        detector = train(taught)
        print(f"detector trained on {len(taught)} pictures, {time.perf_counter() - began:.0f} s", flush=True)
        drives: list[Tallies] = []
        alike = (repeat(detector), repeat(checkpoints), repeat(cache))
        for seed, one in zip(DRIVES, pool.map(one_drive, DRIVES, *alike), strict=True):
            drives.append(one)
            print(f"drive {seed}, {time.perf_counter() - began:.0f} s", flush=True)
    objects = {kind: sum(len(drive[0.0, kind, "rule"].ious) for drive in drives) for kind in KINDS}
    return {
        "drives": list(DRIVES),
        "training_drives": list(TRAINING_DRIVES),
        "frames": FRAMES * len(DRIVES),
        "objects": objects,
        "training_objects": {kind: sum(len(s.wanted[kind]) for s in taught) // len(TAUGHT) for kind in KINDS},
        "least_height_px": LEAST_HEIGHT,
        "visibility_m": {str(beta): round(3.912 / beta, 1) if beta else None for beta in BETAS},
        "checkpoints": {name: learned(name, path).version for name, path in checkpoints},
        "columns": ["value", "low", "high"],
        "measures": scored(drives, [name for name, _ in checkpoints]),
        "seconds": round(time.perf_counter() - began),
        "provenance": provenance(),
    }


def tables(results: dict[str, Any]) -> str:
    """The figures as text: a row a method, a column a haze."""
    seen = [f"{metres} m" if metres else "clear" for metres in results["visibility_m"].values()]
    lines = [f"{results['frames']} frames of {len(results['drives'])} drives; objects: {results['objects']}"]
    for measure, kinds in results["measures"].items():
        for kind, by_beta in kinds.items():
            columns = list(by_beta.values())
            lines += ["", f"{measure}, {kind}, [95 % interval over drives]; visibility (beta, 1/m):"]
            heads = [f"{metres} ({beta})" for metres, beta in zip(seen, by_beta, strict=True)]
            lines.append(" " * 22 + "".join(f"{head:>22}" for head in heads))
            for name in columns[0]["methods"]:
                lines.append(f"{name:22}" + "".join(_cell(each["methods"][name]) for each in columns))
            for name in columns[0]["less"]:
                for other in ("better camera", "rule"):
                    cells = "".join(_cell(each["less"][name][other], "+") for each in columns)
                    lines.append(f"{f'{name} - {other}':22}" + cells)
            lines.append(
                f"{'better camera':22}" + "".join(f"{each['better camera'].split()[0]:>22}" for each in columns)
            )
    return "\n".join(lines)


def _cell(values: list[float], sign: str = "") -> str:
    value, low, high = values
    return f"{f'{value:{sign}.3f} [{low:{sign}.2f}, {high:{sign}.2f}]':>22}"


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=named, nargs="+", action="extend", metavar="NAME=CHECKPOINT")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("runs/fusion_detection"))
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/fusion_detection.json"))
    arguments = parser.parse_args(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has a core
    results = run(arguments.checkpoint or [("fast", WEIGHTS / "fast")], arguments.workers, arguments.cache)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(compact(results), encoding="utf-8")
    print(tables(results))


if __name__ == "__main__":
    main()
