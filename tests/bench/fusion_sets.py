"""The rule on real pairs, from bag to bag, beside pixelwise maximum, averaging and the peers' published outputs.

    python -m tests.bench.fusion_sets [--data ../shared/data] [--out tests/bench/results/fusion_sets.json]

Each set is converted to a bag, replayed through ``infrared_visible_fusion`` and scored on the luma of the fused
picture as a subscriber gets it (8-bit colour), so clipping of colours counts. ``max`` and ``average`` are scored in
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
from ros_attn.hosts.replay import Replay
from ros_attn.provenance import provenance
from ros_attn.values import Array, Image

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
    """Means with standard deviations over the pairs of one set, for the rule and both trivial rules."""
    rows: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        bag = Path(scratch) / "bag"
        pairs_to_bag(folder, bag, names_file=names)
        began = time.perf_counter()
        with BagReader(bag) as reader:
            replay = Replay(reader, single("infrared_visible_fusion"))
            records = list(replay.steps())
            wall_s = time.perf_counter() - began
            sources: dict[int, dict[str, Array]] = defaultdict(dict)
            for message in reader.messages(["/visible/image", "/infrared/image"]):
                image = reader.decode(message)
                assert isinstance(image, Image)
                sources[image.stamp_ns][message.topic] = grey(image)
    for record in records:
        infrared, visible = sources[record.now_ns]["/infrared/image"], sources[record.now_ns]["/visible/image"]
        fused = record.outputs["fused"]
        assert isinstance(fused, Image)
        mean = np.rint((infrared.astype(np.float64) + visible) / 2)
        for method, picture in (("rule", grey(fused)), ("max", np.maximum(infrared, visible)), ("average", mean)):
            rows[method].append(measure(infrared, visible, picture))
    return {
        "pairs": len(records),
        "replay_hz": round(len(records) / wall_s, 1),
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
        rule = {key: figure[0] for key, figure in found["sets"][name]["methods"]["rule"].items()}
        print(f"{name}: {found['sets'][name]['pairs']} pairs, Q_min {rule['Q_min']:.3f}, VIF_min {rule['VIF_min']:.3f}")
    return found | {"provenance": provenance()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/fusion_sets.json"))
    arguments = parser.parse_args()
    results = run(arguments.data)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
