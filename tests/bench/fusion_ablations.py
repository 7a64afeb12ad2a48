"""What the parts of the fusion network and its training in weather are worth.

    python -m tests.bench.fusion_ablations --checkpoint full=DIR "without mask"=DIR ... [--data] [--cache] [--sets]

The first checkpoint is the whole model, the others the same training without a part. Each image's figure is its mean
over the conditions of a group (clear, weather, faults); a variant stands beside the whole model as the mean of the
differences image by image, with the 95 % interval over images. One seed of the training: the interval says nothing of
what another seed would give, for which see the table of seeds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.degrade.degradation import WEATHER
from ros_attn.errors import RosAttnError
from ros_attn.provenance import provenance
from tests.bench.fusion_weather import checkpoints_arguments, compact, learned, measured, pairs_arguments
from tests.bench.fusion_weather_pairs import CLEAR, FAULTS, SETS
from tests.bench.fusion_weather_verdicts import WORSE_SERVED, Rows, statistics

GROUPS = {"clear": (CLEAR,), "weather": tuple(WEATHER), "faults": FAULTS}


def column(rows: Rows, method: str, group: str, key: str) -> NDArray[np.float64]:
    """A metric by image, all sets one after the other, each the mean over the group's conditions."""
    values = []
    for conditions in rows.values():
        asked = [conditions[condition][method] for condition in GROUPS[group] if condition in conditions]
        values += [np.mean([figures[image][key] for figures in asked]) for image in (asked[0] if asked else ())]
    return np.array(values)


def ablations(rows: Rows, names: list[str]) -> dict[str, Any]:
    """By group and metric: the whole model's mean, and each variant's mean and difference from it."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        for key in WORSE_SERVED:
            whole = column(rows, names[0], group, key)
            if not len(whole):
                continue
            found.setdefault(group, {})[key] = {
                name: {
                    "mean": statistics(column(rows, name, group, key))[0],
                    "difference": statistics(column(rows, name, group, key) - whole),
                }
                for name in names
            }
    return found


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pairs_arguments(parser)
    checkpoints_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/fusion_ablations.json"))
    arguments = parser.parse_args(words)
    if other := [name for name in arguments.sets if name not in SETS]:
        arguments.sets = [name for name in arguments.sets if name not in other]
    names = [name for name, _ in arguments.checkpoint]
    if len(set(names)) < max(len(names), 2):
        raise RosAttnError("Name the whole model and at least one variant, each with a name of its own: --checkpoint.")
    rows = measured(arguments, [learned(name, path) for name, path in arguments.checkpoint], {})
    results = {
        "whole": names[0],
        "pairs": {name: len(next(iter(conditions.values()))[names[0]]) for name, conditions in rows.items()},
        "columns": ["mean", "sd", "low", "high"],
        "groups": ablations(rows, names),
        "provenance": provenance(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(compact(results), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except RosAttnError as error:
        sys.exit(str(error))
