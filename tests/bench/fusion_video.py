"""The fusion component on video: noise of a still scene, a step of the scene's temperature, faults of a camera.

    python -m tests.bench.fusion_video [--data ../shared/data] [--every 5] [--out tests/bench/results/fusion_video.json]

Real pairs stand still for some seconds at 10 Hz, each frame with noise of its own, and go through the component as a
host would call it. Noise: the deviation between consecutive frames, fused beside the noisier input. Step: the infrared
levels times 1.2 at 2 s; the mean of the fused picture before and after, and how far it is from where it settles. Faults
of medium severity from 1 s on: seconds until a condition names the fault (or says "nothing", "repeats", "right"), and
what is named of the first second, in which nothing is wrong.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.degrade.degradation import Degradation
from ros_attn.evaluate.grey import luma
from ros_attn.perception.infrared_visible_fusion.component import FusionParams, InfraredVisibleFusion
from ros_attn.perception.infrared_visible_fusion.train import read_pairs
from ros_attn.provenance import provenance
from ros_attn.values import Array, Image

SETS = {"RoadScene": ("ivf_roadscene", "measured40.txt"), "MSRS": ("ivf_msrs", None), "TNO": ("ivf_tno", None)}
PERIOD_NS = 100_000_000
SETTLED = 5
NOISES = (2.0, 5.0)
# How a condition names each fault: its key without the camera, and the camera.
FAULTS = {
    "frozen": "frozen", "black": "blank", "saturated": "fault", "noise": "fault", "dirt": "fault",
    "misaligned": "registration",
}  # fmt: skip
Pair = tuple[Array, Array]


def pairs_of(data: Path, every: int) -> Iterator[tuple[str, str, Pair]]:
    """Every n-th measured pair of each set: visible [H, W, 3], infrared [H, W]."""
    for name, (folder, chosen) in SETS.items():
        found = read_pairs((data / folder,), ())
        if chosen is not None:
            names = {Path(line).stem for line in (data / folder / chosen).read_text().split()}
            found = {key: pair for key, pair in found.items() if key.rpartition("/")[2] in names}
        for key in sorted(found)[::every]:
            yield name, key.rpartition("/")[2], found[key]


def noisy(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    """An 8-bit frame with white noise."""
    return np.clip(np.rint(image + rng.normal(0, deviation, image.shape)), 0, 255).astype(np.uint8)


def played(
    component: InfraredVisibleFusion, frames: int, camera: Callable[[int], Pair]
) -> Iterator[tuple[int, Array, dict[str, str]]]:
    """Frame, fused luma and conditions, from a component that starts anew."""
    component.health.conditions.clear()
    component.reset()
    for k in range(frames):
        visible, infrared = camera(k)
        stamp_ns = k * PERIOD_NS
        outputs = component.step(
            stamp_ns, Image(stamp_ns, visible, "rgb8", "v"), Image(stamp_ns, infrared, "mono8", "i")
        )
        fused = outputs["fused"]
        assert isinstance(fused, Image)
        yield k, luma(fused.data), component.health.snapshot()


def deviation(frames: list[Array]) -> float:
    """Root mean square of the change from frame to frame, over the square root of two."""
    changes = [np.square(np.subtract(b, a, dtype=np.float32)).mean() for a, b in pairwise(frames)]
    return float(np.sqrt(np.mean(changes) / 2))


def measure_noise(component: InfraredVisibleFusion, pair: Pair, sigma: float) -> dict[str, float]:
    """Deviations of both inputs and of the fused picture once the filter has settled."""
    rng = np.random.default_rng(0)
    seen: list[Pair] = []

    def camera(k: int) -> Pair:
        seen.append((noisy(pair[0], sigma, rng), noisy(pair[1], sigma, rng)))
        return seen[-1]

    fused = [made for _, made, _ in played(component, 4 * SETTLED, camera)][SETTLED:]
    inputs = [[luma(v) for v, _ in seen[SETTLED:]], [i for _, i in seen[SETTLED:]]]
    of_inputs = [deviation(each) for each in inputs]
    return {"inputs": max(of_inputs), "fused": deviation(fused), "ratio": deviation(fused) / max(of_inputs)}


def measure_step(component: InfraredVisibleFusion, pair: Pair) -> list[float]:
    """The mean of the fused picture by frame; the step is at frame 20 of 40."""
    rng = np.random.default_rng(0)

    def camera(k: int) -> Pair:
        infrared = pair[1] * (1.2 if k >= 20 else 1.0)
        return noisy(pair[0], 1.0, rng), noisy(infrared, 1.0, rng)

    return [float(made.mean()) for _, made, _ in played(component, 40, camera)]


def pumping(curve: list[float]) -> dict[str, float]:
    """How far frames after the step are from where the picture settles, and the change it settles to."""
    before, after = float(np.mean(curve[10:20])), float(np.mean(curve[30:]))
    away = [abs(each - after) for each in curve[20:30]]
    beyond = [max(0.0, (each - after) * np.sign(after - before)) for each in curve[20:30]]
    return {"change": after - before, "largest_distance": max(away), "overshoot": float(max(beyond))}


def measure_fault(component: InfraredVisibleFusion, pair: Pair, fault: str, camera_name: str) -> dict[str, Any]:
    """Seconds until the fault is named (None: never in 1 s), and what was named before it began."""
    rng = np.random.default_rng(0)
    change, key = Degradation(fault, "medium", camera_name, seed=7), FAULTS[fault]
    wanted = key if key == "registration" else f"{camera_name}_{key}"

    def camera(k: int) -> Pair:
        visible, infrared = noisy(pair[0], 1.0, rng), noisy(pair[1], 1.0, rng)
        return change(visible, infrared, frame=k) if k >= 10 else (visible, infrared)

    false, named_s = set(), None
    for k, _, conditions in played(component, 21, camera):
        if k < 10:
            false |= set(conditions)
        elif named_s is None and (_says(conditions, camera_name, fault) if key == "fault" else wanted in conditions):
            named_s = (k - 10) * PERIOD_NS / 1e9
    return {"named_s": named_s, "false": sorted(false)}


def _says(conditions: dict[str, str], camera: str, fault: str) -> bool:
    words = {"noise": "is noisy", "saturated": "is saturated", "dirt": "looks dirty"}[fault]
    return any(key.startswith(camera) and words in sentence for key, sentence in conditions.items())


def run(data: Path, every: int, params: FusionParams) -> dict[str, Any]:
    """All three measurements."""
    component = InfraredVisibleFusion(params)
    component.configure()
    noise: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    for set_name, image, pair in pairs_of(data, every):
        where = {"set": set_name, "image": image}
        noise += [where | {"sigma": sigma} | measure_noise(component, pair, sigma) for sigma in NOISES]
        curve = measure_step(component, pair)
        steps.append(where | pumping(curve) | {"curve": [round(each, 2) for each in curve]})
        for fault in FAULTS:
            for camera in ("visible", "infrared") if fault != "misaligned" else ("infrared",):
                faults.append(
                    where | {"fault": fault, "camera": camera} | measure_fault(component, pair, fault, camera)
                )
        print(f"{set_name} {image}: noise {[round(each['ratio'], 2) for each in noise[-len(NOISES) :]]}")
    return {"noise": noise, "steps": steps, "faults": faults, "summary": summary(noise, steps, faults)}


def summary(noise: list[dict], steps: list[dict], faults: list[dict]) -> dict[str, Any]:
    """Largest and mean ratio of noise, largest overshoot, and how many of each fault were named in time."""
    named = {}
    for fault in FAULTS:
        for camera in ("visible", "infrared"):
            rows = [row for row in faults if (row["fault"], row["camera"]) == (fault, camera)]
            in_time = sum(row["named_s"] is not None and row["named_s"] <= 0.5 for row in rows)
            if rows:
                named[f"{camera} {fault}"] = f"{in_time} of {len(rows)}"
    pairs = {(row["set"], row["image"]): row["false"] for row in faults}
    return {
        "noise_ratio_mean": float(np.mean([row["ratio"] for row in noise])),
        "noise_ratio_largest": max(row["ratio"] for row in noise),
        "overshoot_largest": max(row["overshoot"] for row in steps),
        "distance_largest": max(row["largest_distance"] for row in steps),
        "named_within_half_a_second": named,
        "falsely_named": f"{sum(bool(each) for each in pairs.values())} of {len(pairs)}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--model", choices=("fast", "rule"), default="fast")
    parser.add_argument("--weights", default="")
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/fusion_video.json"))
    arguments = parser.parse_args()
    results = run(arguments.data, arguments.every, FusionParams(model=arguments.model, weights=arguments.weights))
    print(json.dumps(results["summary"], indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results | {"provenance": provenance()}, indent=1) + "\n")
