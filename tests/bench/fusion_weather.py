"""Fusion in bad weather and with faulty cameras, beside its rivals, on real pairs.

    python -m tests.bench.fusion_weather score --data ../shared/data --cache runs/fusion_weather
        [--checkpoint NAME=CHECKPOINT ...] [--peer NAME=FOLDER ...] [--sets ...] [--conditions ...] [--out FILE]
    python -m tests.bench.fusion_weather export --data ../shared/data --out FOLDER
    python -m tests.bench.fusion_weather show FILE

Every method gets the pair that the condition leaves (``fusion_weather_pairs``) as infrared and visible luma, and its
picture, rounded to 8 bit, is scored against the clean sources. ``export`` writes these pairs for methods that run
elsewhere; ``--peer`` reads what they made of them, FOLDER/SET/CONDITION/NAME.png, a blank in a condition as ``_``.

Rows are kept under ``--cache`` as they are measured, so that a rerun measures only what is new. The first image of
each set and condition is measured again with the rule: a cache from other code is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ros_attn.checkpoint import MODEL
from ros_attn.degrade.degradation import WEATHER
from ros_attn.errors import RosAttnError, listed
from ros_attn.evaluate.fusion_metrics import measure
from ros_attn.evaluate.grey import luma, read_luma
from ros_attn.perception.infrared_visible_fusion import rule
from ros_attn.provenance import provenance
from ros_attn.values import Array
from tests.bench.fusion_weather_pairs import (
    CONDITIONS,
    DEGRADED,
    SETS,
    SEVERITY,
    Pair,
    Source,
    conditions_of,
    export,
    slug,
)
from tests.bench.fusion_weather_verdicts import Rows, published, summary, tables, verdicts

Fuse = Callable[[Array, Array], Array]
"""Infrared and visible luma, [H, W] float32 in grey levels, to the fused picture."""
ON_CLEAN = "rule on the clean pair"


def _rule(infrared: Array, visible: Array) -> Array:
    return rule.fuse(infrared, visible)[0]


def _clahe_rule(infrared: Array, visible: Array) -> Array:
    clahe = cv2.createCLAHE(2.0, (8, 8))
    return _rule(*(clahe.apply(plane.astype(np.uint8)).astype(np.float32) for plane in (infrared, visible)))


RULES: dict[str, Fuse] = {
    "rule": _rule,
    "max": np.maximum,
    "average": lambda infrared, visible: (infrared + visible) / 2,
    "clahe+rule": _clahe_rule,
    "infrared only": lambda infrared, visible: infrared,
    "visible only": lambda infrared, visible: visible,
}


@dataclass
class Method:
    """A way to fuse. ``version`` tells apart two that have the same name: the hash of weights."""

    name: str
    fuse: Fuse
    version: str = ""
    on_clean: bool = False
    """Whether it gets the clean pair, as the mark that a degraded one is measured by."""

    def picture(self, pair: Pair) -> Array:
        """The fused luma in 8 bit."""
        infrared, visible = pair.infrared, luma(pair.visible)
        if self.on_clean:
            infrared, visible = pair.clean_infrared, pair.clean_luma
        fused = self.fuse(infrared.astype(np.float32), visible.astype(np.float32))
        return np.clip(np.rint(fused), 0, 255).astype(np.uint8)


@dataclass
class Cache:
    """Rows of one set and condition, one JSON object a line; a line that a kill cut short is measured again."""

    path: Path
    known: dict[tuple[str, str], dict[str, float]]
    """Figures by image and hash of the fused picture, of other conditions with the same clean sources too: a healthy
    camera's own image, or what is left beside a black one, is measured once."""
    rows: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        for line in text.split("\n")[:-1]:
            if line.endswith("}}"):
                row = json.loads(line)
                self.rows[row["method"], row["image"], row["version"]] = row["figures"]
                self.known[row["image"], row["picture"]] = row["figures"]
        if text and not text.endswith("\n"):
            self._append("")

    def measured(self, method: str, image: str, version: str, pair: Pair, fused: Array) -> dict[str, float]:
        """The figures of a fused picture, on disk before this returns."""
        picture = hashlib.sha256(fused.tobytes()).hexdigest()
        if (image, picture) not in self.known:
            figures = measure(pair.clean_infrared, pair.clean_luma, fused)
            self.known[image, picture] = {key: round(value, 7) for key, value in figures.items()}
        figures = self.rows[method, image, version] = self.known[image, picture]
        row = {"method": method, "image": image, "version": version, "picture": picture, "figures": figures}
        self._append(json.dumps(row))
        return figures

    def _append(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def learned(name: str, checkpoint: Path) -> Method:
    """The method of a checkpoint."""
    from ros_attn.perception.infrared_visible_fusion.learned import LearnedFusion

    network, weights = LearnedFusion(checkpoint), checkpoint / MODEL
    if not weights.is_file():
        raise RosAttnError(f"{checkpoint} has no {MODEL}, by which its rows are told apart; copy the checkpoint again.")
    version = hashlib.sha256(weights.read_bytes()).hexdigest()
    return Method(name, lambda infrared, visible: network.fuse(infrared, visible).fused, version)


def score(
    source: Source, cache: Cache, methods: list[Method], peers: dict[str, Path], where: str
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by method and image of one set under one condition; ``where`` says in messages which."""
    present = {}
    for peer, folder in peers.items():
        missing = [image for image in source.images if not (folder / f"{image}.png").is_file()]
        if missing:
            print(f"{where}: {peer} is left out; {len(missing)} pictures such as {missing[0]}.png are not in {folder}.")
        else:
            present[peer] = folder
    _check(source, cache, where)
    rows: dict[str, dict[str, dict[str, float]]] = {method: {} for method in (*(m.name for m in methods), *present)}
    for image in source.images:
        pair: Pair | None = None
        for name, version, picture in _pictures(methods, present, image):
            if (name, image, version) not in cache.rows:
                pair = pair or source.pair(image)
                cache.measured(name, image, version, pair, picture(pair))
            rows[name][image] = cache.rows[name, image, version]
    return rows


def _pictures(
    methods: list[Method], peers: dict[str, Path], image: str
) -> Iterator[tuple[str, str, Callable[[Pair], Array]]]:
    for method in methods:
        yield method.name, method.version, method.picture
    for peer, folder in peers.items():
        path = folder / f"{image}.png"
        yield peer, hashlib.sha256(path.read_bytes()).hexdigest(), lambda _, path=path: read_luma(path)


def _check(source: Source, cache: Cache, where: str) -> None:
    """Refuse rows that this code would not measure; keeps the row it measured to find out."""
    image, method = source.images[0], Method("rule", _rule)
    pair = source.pair(image)
    kept = cache.rows.get(("rule", image, ""))
    if kept is None:
        cache.measured("rule", image, "", pair, method.picture(pair))
        return
    figures = measure(pair.clean_infrared, pair.clean_luma, method.picture(pair))
    # Another processor may round a pixel or two the other way.
    close = {key: math.isclose(kept[key], value, rel_tol=1e-4, abs_tol=1e-5) for key, value in figures.items()}
    if other := [key for key, same in close.items() if not same]:
        raise RosAttnError(
            f"{where}: {cache.path} has {other[0]} {kept[other[0]]:.6f} of the rule on {image} but it is now "
            f"{figures[other[0]]:.6f}: the metrics, the rule or the degradations changed; name another --cache."
        )


def measured(arguments: argparse.Namespace, methods: list[Method], peers: dict[str, Path]) -> Rows:
    """The figures of methods and peers on the ``--sets`` under the ``--conditions``."""
    reference = Method(ON_CLEAN, _rule, on_clean=True)
    rows: Rows = {}
    for name in arguments.sets:
        known: dict[tuple[str, str], dict[str, float]] = {}
        for condition in conditions_of(name, tuple(arguments.conditions)):
            if name in DEGRADED:
                known = {}  # each condition has sources of its own
            where = f"{name}, {condition}"
            source = Source(arguments.data, name, condition)
            cache = Cache(arguments.cache / name / f"{slug(condition)}.jsonl", known)
            made = {peer: folder / name / slug(condition) for peer, folder in peers.items()}
            asked = [*methods, *([reference] if name in DEGRADED else [])]
            rows.setdefault(name, {})[condition] = score(source, cache, asked, made, where)
            print(f"{where}: {len(source.images)} pairs, {len(rows[name][condition])} methods", flush=True)
    return rows


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All sets and conditions asked for, with their verdicts."""
    checkpoints = [learned(name, path) for name, path in arguments.checkpoint]
    names = [*RULES, *(name for name, _ in (*arguments.checkpoint, *arguments.peer)), ON_CLEAN]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise RosAttnError(f"{listed(doubled)} names two methods; give each --checkpoint and --peer a name of its own.")
    methods = [*(Method(name, fuse) for name, fuse in RULES.items()), *checkpoints]
    rows = measured(arguments, methods, dict(arguments.peer))
    peers_csv = published(arguments.data / "peers" / "fusion_per_image.csv")
    return {
        "severity": SEVERITY,
        "checkpoints": {method.name: method.version for method in checkpoints},
        "columns": ["mean", "sd", "low", "high"],
        "sets": summary({name: each for name, each in rows.items() if name in SETS}),
        "degraded": summary({name: each for name, each in rows.items() if name in DEGRADED}),
        "verdicts": verdicts(rows, [method.name for method in checkpoints], peers_csv, tuple(WEATHER), ON_CLEAN),
        "provenance": provenance(),
    }


def compact(results: dict[str, Any]) -> str:
    """JSON with each list on one line."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[\s[^\[\]{}]*\]", lambda each: json.dumps(json.loads(each[0])), text) + "\n"


def named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, Path(path)


def pairs_arguments(parser: argparse.ArgumentParser) -> None:
    """Which pairs."""
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *DEGRADED], default=[*SETS, *DEGRADED])
    parser.add_argument(
        "--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS,
        help=f"conditions of {listed(SETS)}; {listed(DEGRADED)} have their own",
    )  # fmt: skip


def checkpoints_arguments(parser: argparse.ArgumentParser) -> None:
    """Which checkpoints, and where their figures are kept."""
    parser.add_argument("--cache", type=Path, default=Path("runs/fusion_weather"))
    parser.add_argument("--checkpoint", type=named, nargs="+", action="extend", default=[], metavar="NAME=CHECKPOINT")


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("score", "export"):
        sub = commands.add_parser(command)
        pairs_arguments(sub)
        if command == "export":
            sub.add_argument("--out", type=Path, required=True)
            continue
        checkpoints_arguments(sub)
        sub.add_argument("--peer", type=named, nargs="+", action="extend", default=[], metavar="NAME=FOLDER")
        sub.add_argument("--out", type=Path, default=Path("tests/bench/results/fusion_weather.json"))
    commands.add_parser("show").add_argument("file", type=Path)
    arguments = parser.parse_args(words)
    if arguments.command == "export":
        print(f"{export(arguments.data, arguments.out, arguments.sets, tuple(arguments.conditions))} pairs")
    elif arguments.command == "show":
        print(tables(json.loads(arguments.file.read_text(encoding="utf-8"))))
    else:
        results = run(arguments)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(compact(results), encoding="utf-8")
        print(tables(results))


if __name__ == "__main__":
    try:
        main()
    except RosAttnError as error:
        sys.exit(str(error))
