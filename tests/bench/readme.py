"""Fills the tables of README.md and of docs/ from the JSON that the benchmarks wrote.

python -m tests.bench.readme [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.kernel_tables import (
    kernels_a,
    kernels_cpu,
    kernels_decode,
    kernels_dense,
    kernels_start,
    kernels_structure,
    kernels_tanh,
)
from tests.bench.quadruped_tables import (
    quadruped_depth_faults,
    quadruped_faults,
    quadruped_paired,
    quadruped_stairs,
    quadruped_stairs_curve,
    quadruped_stairs_noise,
    quadruped_stairs_width,
    quadruped_walk,
    quadruped_walk_curve,
    simulation_speed,
)
from tests.bench.weather_tables import (
    fusion_ablations,
    fusion_clear,
    fusion_detection,
    fusion_faults,
    fusion_panel,
    fusion_peers_in_faults,
    fusion_seeds,
    fusion_video,
    fusion_weather,
)

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
COLUMNS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM", "Q_min", "VIF_min", "excess_gradient")
HEADS = (*COLUMNS[:-1], "excess ∇")


def _load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _origin(results: dict[str, Any]) -> str:
    origin = results["provenance"]
    return f"*{origin['machine']}; {origin['date'][:10]}; commit {origin['commit']}; no random number is drawn.*"


IN_README = ("fast", "rule", "max", "average", "SeAFusion", "SAGE")


def fusion_sets(methods: tuple[str, ...] | None = IN_README) -> str:
    """Rows of the rule, both trivial rules and the peers, a block a set; ``methods`` None: all of them."""
    results = _load("fusion_sets")
    lines = ["| set (pairs) | method | " + " | ".join(HEADS) + " |", "|---|---|" + "---|" * len(HEADS)]
    for name, measured in results["sets"].items():
        rows = {method: {key: each[0] for key, each in row.items()} for method, row in measured["methods"].items()}
        pairs = dict.fromkeys(rows, measured["pairs"])
        for method, row in sorted(results["peers"].get(name, {}).items()):
            if method not in rows:
                rows[method], pairs[method] = row, round(row["pairs"])
        for method, row in rows.items():
            if methods is None or method in methods:
                label = f"**{method}**" if method in ("fast", "rule") else method
                cells = " | ".join(f"{row[key]:.3f}" if key in row else "" for key in COLUMNS)
                lines.append(f"| {name} ({pairs[method]}) | {label} | {cells} |")
    return "\n".join([*lines, "", _origin(results)])


def all_fusion_sets() -> str:
    """The same with every peer."""
    return fusion_sets(None)


def speed() -> str:
    """What replay and the node cost."""
    results = _load("replay_speed")

    def cell(key: str, unit: str) -> str:
        each = results[key]
        return f"{each['median']:.3g} {unit} ({each['low']:.3g} to {each['high']:.3g})"

    rows = [
        ("rosbags alone, read and decode", cell("bare_rosbags_ms_per_message", "ms a VGA message")),
        ("replay adds", cell("replay_adds_ms_per_message", "ms a VGA message")),
        ("the rule at 640x480, bag in, bag out", cell("rule_bag_to_bag_hz", "Hz")),
        ("of that the component itself", cell("rule_own_ms_per_frame", "ms a frame")),
        ("the learned model `fast` at 640x480, bag in, bag out", cell("fast_bag_to_bag_hz", "Hz")),
        ("of that the component itself", cell("fast_own_ms_per_frame", "ms a frame")),
    ]
    if (RESULTS / "ros_latency.json").is_file():
        rows += ros_rows(_load("ros_latency"))
    lines = ["| what | median (range) |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
    return "\n".join([*lines, "", _origin(results)])


def ros_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Stamp to publish over DDS."""

    def cell(case: str, key: str) -> str:
        each = results[case][key]
        return f"p50 {each['p50_ms']:.1f} ms, p99 {each['p99_ms']:.1f} ms"

    return [
        ("over DDS, stamp to publish: a bare rclpy relay of a VGA image", cell("same_image", "relay")),
        ("the same image through a node that does nothing", cell("same_image", "node")),
        ("infrared_visible_fusion as a node, relay beside it", cell("infrared_visible_fusion", "node")),
        ("of that the component itself", cell("infrared_visible_fusion", "node_step")),
    ]


Tables = dict[str, Callable[[], str]]
PAGES: dict[str, Tables] = {
    "README.md": {"fusion_sets": fusion_sets, "speed": speed, "kernels_cpu": kernels_cpu},
    "docs/results.md": {"all_fusion_sets": all_fusion_sets},
    "docs/fusion.md": {
        table.__name__: table
        for table in (
            fusion_weather,
            fusion_seeds,
            fusion_clear,
            fusion_panel,
            fusion_faults,
            fusion_peers_in_faults,
            fusion_ablations,
            fusion_video,
            fusion_detection,
        )
    },
    "ros_attn/perception/infrared_visible_fusion/weights/fast/README.md": {"fusion_weather": fusion_weather},
    "docs/quadruped.md": {
        table.__name__: table
        for table in (
            quadruped_walk,
            quadruped_paired,
            quadruped_faults,
            simulation_speed,
            quadruped_stairs,
            quadruped_stairs_noise,
            quadruped_stairs_width,
            quadruped_depth_faults,
        )
    },
    "ros_attn/control/quadruped_stairs/weights/stairs_go2/README.md": {
        table.__name__: table for table in (quadruped_stairs, quadruped_stairs_curve)
    },
    "ros_attn/control/quadruped_walk/weights/walk_go2/README.md": {
        table.__name__: table for table in (quadruped_walk, quadruped_walk_curve)
    },
    "docs/kernels.md": {
        table.__name__: table
        for table in (
            kernels_cpu,
            kernels_a,
            kernels_tanh,
            kernels_dense,
            kernels_structure,
            kernels_decode,
            kernels_start,
        )
    },
}


def filled(text: str, tables: Tables) -> str:
    """A page with every table replaced."""
    places = set(re.findall(r"<!-- table: (\w+) -->", text))
    assert places == set(tables), f"nothing fills table {', '.join(places ^ set(tables))}"
    for name, make in tables.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        table = make()
        text, count = pattern.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)
        assert count == 1, f"there are {count} places for table {name}"
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a table differs")
    check = parser.parse_args().check
    for name, tables in PAGES.items():
        page = (ROOT / name).read_text()
        new = filled(page, tables)
        if check and new != page:
            sys.exit(f"{name} differs from the figures; run python -m tests.bench.readme")
        (ROOT / name).write_text(new)
