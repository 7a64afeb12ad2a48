"""The GPU tests without pytest, in several processes so that they compile side by side.

    python -m tests.gpu.run [--jobs 8] [--only TEXT] [--limit-s 400] [--out FILE]

Ends with 0 if all passed, 1 if one failed or was not reached, or where there is no GPU.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ros_attn.kernels.bench.contest import said
from ros_attn.kernels.bench.parallel import claims, cores, one_cache, spread
from tests.gpu.parameters import SKIPS

HERE = Path(__file__).parent
LONGEST = 150.0
"""Seconds for one test, most of which a kernel or two take to compile."""
Outcome = dict[str, Any]
"""``test, outcome`` (passed, failed, skipped or not reached), ``why, seconds``, and of a failed one ``traceback``."""


def tests() -> dict[str, Callable[[], None]]:
    """Every test of this folder by ``file::function[case]``, cases filled in."""
    found: dict[str, Callable[[], None]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.gpu.{path.stem}")
        for name, test in vars(module).items():
            if not name.startswith("test_"):
                continue
            cases = getattr(test, "cases", None)
            if cases is None:
                found[f"{path.stem}::{name}"] = test
            else:
                for word, values in cases.items():
                    found[f"{path.stem}::{name}[{word}]"] = lambda test=test, values=values: test(*values)
    return found


def outcome(name: str, test: Callable[[], None]) -> Outcome:
    start, kind, why, trace = time.monotonic(), "passed", "", ""
    try:
        test()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except SKIPS as reason:
        kind, why = "skipped", str(reason)
    except Exception as error:  # whatever it raises, the test has failed
        kind, trace = "failed", traceback.format_exc()[-3000:]
        place = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{said(error)} ({Path(place.filename).name}:{place.lineno})"
    found = {"test": name, "outcome": kind, "why": why, "seconds": round(time.monotonic() - start, 2)}
    return found | ({"traceback": trace} if trace else {})


def work(folder: Path) -> None:
    """One of the processes: takes tests until none is left, or until an error has taken its GPU context along."""
    # Whatever the machine's environment says: plain PyTorch in fp32 is what is held against.
    torch.set_float32_matmul_precision("highest")
    known = tests()
    with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as out:
        for name in claims(folder, json.loads((folder / "tests.json").read_text())):
            # Where a kernel hangs, this process ends, and the others go on.
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            found = outcome(name, known[name])
            faulthandler.cancel_dump_traceback_later()
            out.write(json.dumps(found) + "\n")
            out.flush()
            if found["outcome"] == "failed" and torch.cuda.is_available():
                try:
                    torch.cuda.synchronize()
                except RuntimeError:
                    return


def run(names: Sequence[str], jobs: int, limit_s: float) -> list[Outcome]:
    """All outcomes, by test; what took its process along has failed, what the time was too short for is not reached."""
    end, in_time = time.monotonic() + limit_s, True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tests.json").write_text(json.dumps(names), encoding="utf-8")
        taken = -1
        # Again, as long as tests are left by processes that had to end.
        while in_time and taken < len(list(folder.glob("*.taken"))) < len(names) and end - time.monotonic() > 5:
            taken = len(list(folder.glob("*.taken")))
            in_time = spread(
                folder, "tests.gpu.run", ["--work", str(folder)], min(jobs, len(names)), end - time.monotonic()
            )
        lines = [line for path in folder.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
        found = {each["test"]: each for each in map(json.loads, lines)}
        begun = {names[int(path.stem)] for path in folder.glob("*.taken")}
        if not found or (in_time and begun - found.keys()):
            print((folder / "log").read_text(encoding="utf-8", errors="replace")[-4000:], file=sys.stderr)
    fatal = {"outcome": "failed", "why": f"its process ended, or it took longer than {LONGEST:.0f} s", "seconds": 0.0}
    missing = {"outcome": "not reached", "why": f"not within {limit_s:.0f} s", "seconds": 0.0}
    return [
        found.get(each, {"test": each, **(fatal if in_time and each in begun else missing)}) for each in names
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=max(1, min(8, cores() - 1)), help="processes")
    parser.add_argument("--only", default="", metavar="TEXT", help="tests whose name holds this text")
    parser.add_argument("--limit-s", type=float, default=400.0, help="seconds for all of them (400)")
    parser.add_argument("--passed", type=Path, metavar="FILE", help="JSON list of tests to leave out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the outcomes as JSON")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print(f"tests.gpu: PyTorch {torch.__version__} finds no GPU here; nothing is run.", file=sys.stderr)
        return 1
    if asked.work:
        work(asked.work)
        return 0
    one_cache()
    left_out = set(json.loads(asked.passed.read_text(encoding="utf-8"))) if asked.passed else set()
    names = [name for name in tests() if asked.only in name and name not in left_out]
    start = time.monotonic()
    found = run(names, asked.jobs, asked.limit_s)
    for each in found:
        if each["outcome"] != "passed":
            print(f"{each['outcome']}: {each['test']}: {each['why']}")
    kinds = ("passed", "failed", "skipped", "not reached")
    count = {kind: sum(each["outcome"] == kind for each in found) for kind in kinds}
    print(", ".join(f"{number} {kind}" for kind, number in count.items()), f"in {time.monotonic() - start:.0f} s")
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(count["failed"] + count["not reached"] > 0)


if __name__ == "__main__":
    sys.exit(main())
