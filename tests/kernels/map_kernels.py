"""What the tests of the kernels over maps share: their numbers from Triton's interpreter, and the bounds on them.

The numbers of a kernel come from a program of its own (``channel_numbers``, ``neighbourhood_numbers``), since
TRITON_INTERPRET must be set before Triton is imported: ``{"case, dtype": {quantity: error}}``, beside which ``plain``
quantities are the errors of the plain formula in that dtype.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
INTERPRETED = ("float32", "float16")
"""The interpreter computes bfloat16 wrongly."""

Numbers = dict[str, dict[str, float]]


def check(name: str, measured: dict[str, float], quantities: tuple[str, ...], least: float = 1e-6) -> None:
    """Fail where a quantity is off by more than its bound, which is ``least`` at least where it follows ``plain``."""
    for quantity in quantities:
        error, plain = measured[quantity], measured.get(f"plain {quantity}")
        # Half precision is held against the plain formula in that precision: twice its error, of gradients three times.
        bound = 3e-6 if plain is None else max(least, (2 if quantity == "out" else 3) * plain)
        assert error <= bound, f"{name}: {quantity} is off by {error:.2e}, more than {bound:.2e}"
    assert measured.get("differing", 0) == 0, f"{name}: not the same bits twice"


def interpreted(program: str, folder: Path) -> Numbers:
    """What the program ``tests.kernels.<program>`` measures under the interpreter; skips where there is no Triton."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    to = folder / "numbers.json"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", f"tests.kernels.{program}", str(to)], check=True, cwd=ROOT, env=environment)
    return json.loads(to.read_text())


Case = Callable[[str, torch.dtype, str], dict[str, float]]


def measure(case: Case, name: str) -> dict[str, float]:
    """One case and dtype, ``several, float32`` for example, on the CPU; TRITON_INTERPRET must be set."""
    # New memory is then filled with NaN: what a kernel forgets to write shows.
    torch.use_deterministic_algorithms(True)
    what, _, dtype = name.rpartition(", ")
    return case(what, DTYPES[dtype], "cpu")


def write(case: Case, cases: Iterable[str]) -> None:
    """The end of a program: its numbers to the file that its command line names."""
    names = [f"{name}, {dtype}" for name in cases for dtype in INTERPRETED]
    Path(sys.argv[1]).write_text(json.dumps({name: measure(case, name) for name in names}))
