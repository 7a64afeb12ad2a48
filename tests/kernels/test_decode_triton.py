"""The streaming kernel against the specification, under Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.decode_numbers import CASES

ROOT = Path(__file__).parents[2]
# fp32 sums of up to 1000 terms; fp16 rounds the probabilities before they meet V, and its sigmoid's reciprocal is a
# polynomial.
BOUNDS = {"out": 3e-6, "lse": 3e-6}
FP16 = {"out": 1.5e-3, "lse": 3e-6}
# Exponents of a few hundred are rounded to some 1e-5.
HUNDREDS = {"out": 5e-5, "lse": 1e-4}
EXACTLY = {
    "nothing_to_see": {"out": 0, "lse": 0},
    "no_keys_at_all": {"out": 0, "lse": 0},
    "the_same_bits_again": {"differing": 0},
}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    pytest.importorskip("triton")
    to = tmp_path_factory.mktemp("decode") / "numbers.json"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "tests.kernels.decode_numbers", str(to)], check=True, cwd=ROOT, env=environment
    )
    return json.loads(to.read_text())


def check(name: str, measured: dict[str, float]) -> None:
    by_name = EXACTLY | {"scores_of_hundreds": HUNDREDS}
    bounds = by_name.get(name, FP16 if "fp16" in name else BOUNDS)
    for quantity, value in measured.items():
        if quantity == "tables_made_again":
            assert value == 0, f"{name}: {quantity} is {value}"
        elif quantity.startswith("read"):
            assert value == 1, f"{name}: {quantity} is {value} of what is seen"
        else:
            assert value <= bounds.get(quantity, 0), f"{name}: {quantity} is off by {value:.2e}"


@pytest.mark.parametrize("name", CASES)
def test_numbers(name: str, numbers: dict[str, dict[str, float]]) -> None:
    check(name, numbers[name])
