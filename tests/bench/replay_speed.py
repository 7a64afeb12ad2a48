"""What replay costs: beside bare rosbags decoding, and fusion from bag to bag, in one run.

    python -m tests.bench.replay_speed [--pairs 150] [--rounds 5] [--out tests/bench/results/replay_speed.json]

Rounds of the cases follow each other, so that a busy machine slows all of them; medians with the range.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
from rosbags.highlevel import AnyReader

from ros_attn.bag import BagReader, BagWriter
from ros_attn.component import Component, Sync
from ros_attn.graph import Graph, Stage, single
from ros_attn.hosts.replay import Replay
from ros_attn.hosts.run_directory import RunDirectory
from ros_attn.provenance import provenance
from ros_attn.values import Image
from tests.images import scene

MS = 1_000_000
MODELS = ("rule", "fast")


@dataclass
class Nothing(Component):
    """Pairs two cameras and does nothing: what is left is the cost of replay itself."""

    inputs: ClassVar = {"visible": Sync(Image, "visible/image"), "infrared": Sync(Image, "infrared/image")}

    def step(self, now_ns: int, visible: Image, infrared: Image) -> dict[str, Any]:
        return {}


def make_bag(path: Path, pairs: int) -> None:
    """VGA pairs, rgb8 and mono8, at 30 Hz of stamps."""
    pictures = [(scene(0, "rgb8", k, 480, 640), scene(0, "mono8", k, 480, 640)) for k in range(8)]
    with BagWriter(path) as bag:
        for k in range(pairs):
            stamp = 10**18 + k * 33 * MS
            visible, infrared = pictures[k % 8]
            bag.write("/visible/image", Image(stamp, visible.data, "rgb8", "visible"), stamp)
            bag.write("/infrared/image", Image(stamp, infrared.data, "mono8", "infrared"), stamp + MS)


def bare_rosbags(path: Path) -> float:
    """Seconds to read and decode every message with rosbags alone."""
    began = time.perf_counter()
    with AnyReader([path]) as reader:
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)
    return time.perf_counter() - began


def replay_of_nothing(path: Path) -> float:
    """Seconds of a whole replay whose component does nothing."""
    began = time.perf_counter()
    with BagReader(path) as bag:
        for _ in Replay(bag, Graph([Stage(Nothing(), "nothing")])).steps():
            continue
    return time.perf_counter() - began


def bag_to_bag(path: Path, out: Path, model: str) -> tuple[float, float]:
    """Seconds from bag to bag, fused image and trust map written; and the component's own part of them."""
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    own = 0.0
    with BagReader(path) as bag:
        replay = Replay(bag, single("infrared_visible_fusion", {"model": model}))
        recording = RunDirectory(out, replay, {})
        for record in replay.steps():
            recording.add(record)
            own += record.seconds
        recording.finish(time.perf_counter() - began)
    return time.perf_counter() - began, own


def measure(pairs: int, rounds: int) -> dict[str, Any]:
    """All figures of one run."""
    cv2.setNumThreads(2)
    bare, nothing = [], []
    whole: dict[str, list[float]] = {model: [] for model in MODELS}
    own: dict[str, list[float]] = {model: [] for model in MODELS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bag"
        make_bag(path, pairs)
        bare_rosbags(path)
        for _ in range(rounds):
            bare.append(bare_rosbags(path))
            nothing.append(replay_of_nothing(path))
            for model in MODELS:
                seconds, part = bag_to_bag(path, Path(folder) / "run", model)
                whole[model].append(seconds)
                own[model].append(part)
    messages = 2 * pairs
    return {
        "what": f"{pairs} VGA pairs (rgb8 and mono8), {rounds} rounds",
        "bare_rosbags_ms_per_message": spread([1e3 * each / messages for each in bare]),
        "replay_ms_per_message": spread([1e3 * each / messages for each in nothing]),
        "replay_adds_ms_per_message": spread([1e3 * (a - b) / messages for a, b in zip(nothing, bare, strict=True)]),
        **{f"{model}_bag_to_bag_hz": spread([pairs / each for each in whole[model]]) for model in MODELS},
        **{f"{model}_own_ms_per_frame": spread([1e3 * each / pairs for each in own[model]]) for model in MODELS},
        "provenance": provenance(),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/replay_speed.json"))
    arguments = parser.parse_args()
    figures = measure(arguments.pairs, arguments.rounds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
