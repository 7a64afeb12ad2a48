"""Fusion of real pairs, from bag to bag, beside pixelwise maximum, averaging and the peers' published outputs.

    python -m tests.bench.fusion_sets [--data ../shared/data] [--out tests/bench/results/fusion_sets.json]

Each set is converted to a bag, replayed through ``infrared_visible_fusion``, the learned model and the rule, and scored
on the luma of the fused picture as a subscriber gets it (8-bit colour), so clipping of colours counts. The filter over
time is off: the pairs have nothing to do with each other. ``max`` and ``average`` are scored in
the same run on the same sources; the peers' means come from ``peers/fusion_per_image.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.bag import BagReader
from ros_attn.convert.image_pairs import pairs_to_bag
from ros_attn.evaluate.fusion_metrics import METRICS, measure
from ros_attn.evaluate.grey import luma
from ros_attn.graph import single
from ros_attn.hosts.replay import Replay, StepRecord
from ros_attn.provenance import provenance
from ros_attn.values import Array, Image

MODELS = ("fast", "rule")
SETS = {
    "RoadScene": ("ivf_roadscene", "measured40.txt"),
    "MSRS": ("ivf_msrs", None),
    "TNO": ("ivf_tno", None),
    "M3FD": ("ivf_m3fd", None),
    "LLVIP": ("ivf_llvip", None),
}
KEYS = [key for key, metric in METRICS.items() if metric.per == "frame"]


def grey(image: Image) -> Array:
    """The luma a metric sees."""
    return image.data if image.data.ndim == 2 else luma(image.data)


def score_set(folder: Path, names: Path | None) -> dict[str, Any]:
    """Means with standard deviations over the pairs of one set, for both models and both trivial rules."""
    rows: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    made: dict[str, list[StepRecord]] = {}
    replay_hz: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        bag = Path(scratch) / "bag"
        pairs_to_bag(folder, bag, names_file=names)
        with BagReader(bag) as reader:
            for model in MODELS:
                began = time.perf_counter()
                replay = Replay(reader, single("infrared_visible_fusion", {"model": model, "denoise": "off"}))
                made[model] = list(replay.steps())
                replay_hz[model] = round(len(made[model]) / (time.perf_counter() - began), 1)
            sources: dict[int, dict[str, Array]] = defaultdict(dict)
            for message in reader.messages(["/visible/image", "/infrared/image"]):
                image = reader.decode(message)
                assert isinstance(image, Image)
                sources[image.stamp_ns][message.topic] = grey(image)
    for records in zip(*made.values(), strict=True):
        both = sources[records[0].now_ns]
        infrared, visible = both["/infrared/image"], both["/visible/image"]
        mean = np.rint((infrared.astype(np.float64) + visible) / 2)
        pictures = {"max": np.maximum(infrared, visible), "average": mean}
        for model, record in zip(made, records, strict=True):
            fused = record.outputs["fused"]
            assert isinstance(fused, Image)
            pictures[model] = grey(fused)
        for method, picture in pictures.items():
            rows[method].append(measure(infrared, visible, picture))
    return {
        "pairs": len(made["rule"]),
        "replay_hz": replay_hz,
        "methods": {method: aggregate(each) for method, each in rows.items()},
    }


def aggregate(rows: list[Mapping[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation by metric."""
    return {
        key: [float(np.mean([row[key] for row in rows])), float(np.std([row[key] for row in rows]))] for key in KEYS
    }


def peers(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Means of the published outputs by set and method."""
    sums: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    with path.open() as file:
        for row in csv.DictReader(file):
            figures = {key: float(value) for key, value in row.items() if key not in ("set", "image", "method")}
            sums[row["set"]][row["method"]].append(figures)
    return {
        name: {
            method: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {"pairs": len(rows)}
            for method, rows in methods.items()
        }
        for name, methods in sums.items()
    }


def run(data: Path) -> dict[str, Any]:
    """All sets."""
    found: dict[str, Any] = {"sets": {}, "peers": peers(data / "peers" / "fusion_per_image.csv")}
    for name, (folder, names) in SETS.items():
        found["sets"][name] = score_set(data / folder, data / folder / names if names else None)
        for model in MODELS:
            means = {key: figure[0] for key, figure in found["sets"][name]["methods"][model].items()}
            print(f"{name}, {model}: Q_min {means['Q_min']:.3f}, VIF_min {means['VIF_min']:.3f}")
    return found | {"provenance": provenance()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/fusion_sets.json"))
    arguments = parser.parse_args()
    results = run(arguments.data)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
