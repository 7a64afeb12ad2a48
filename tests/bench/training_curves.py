"""The curves of training runs, thinned out, for the cards of their checkpoints.

    python -m tests.bench.training_curves --run NAME=DIR [NAME=DIR ...] --out FILE [--every 500000]

Takes what each run wrote to ``log.jsonl``: means over about the last hundred control steps, rewards a second.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ros_attn.provenance import provenance

CONTROL_HZ = 50


def curve(run: Path, every: int) -> list[dict[str, Any]]:
    """The first row at or after each multiple of ``every`` control steps, and the last one."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    kept, wanted = [], every
    for row in rows:
        if row["steps"] >= wanted or row is rows[-1]:
            kept.append(_thin(row))
            wanted = (row["steps"] // every + 1) * every
    return kept


def _thin(row: dict[str, Any]) -> dict[str, Any]:
    found = {"steps": row["steps"], "seconds": round(row["seconds"])}
    for name, value in row.items():
        kind, _, what = name.partition("/")
        if kind == "reward":
            found[what] = round(CONTROL_HZ * value, 3)
        elif kind == "curriculum" or name in ("falls a minute", "loss/behavior"):
            found[what or name] = round(value, 3)
    return found


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--every", type=int, default=500_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words)
    curves = {}
    for text in arguments.run:
        name, _, path = text.partition("=")
        curves[name] = curve(Path(path), arguments.every)
    results = {"curves": curves, "provenance": provenance()}
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
