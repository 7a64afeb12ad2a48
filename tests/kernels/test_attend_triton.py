"""The Triton kernels of attend against the specification, under Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.attend_triton_numbers import CASES, SLOW

ROOT = Path(__file__).parents[2]
Numbers = dict[str, dict[str, float]]
# Sums of up to 257 terms in fp32; 1000 and more in the slow cases.
FP32 = 2e-6
# Exponents of a few hundred are rounded to some 1e-5.
HUNDREDS = 5e-5
# Times the error of plain PyTorch in fp16.
RATIO = {"out": 2.0, "dq": 3.0, "dk": 3.0, "dv": 3.0, "dbias": 3.0}
# The bound of the polynomial itself, and what it is in the long rows that -log n is for.
POLYNOMIAL = {"all": 3.6e-4, "small": 1.2e-5, "slope": 7.2e-4}


def _numbers(to: Path, *which: str) -> Numbers:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.kernels.attend_triton_numbers", str(to), *which]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    return json.loads(to.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    return _numbers(tmp_path_factory.mktemp("attend_triton") / "numbers.json")


@pytest.fixture(scope="module")
def slow_numbers(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    return _numbers(tmp_path_factory.mktemp("attend_triton") / "slow.json", "slow")


def _bound(name: str, quantity: str) -> float:
    if name in ("empty_calls", "heaviest_tiles_first", "the_same_bits_again"):
        return 0.0
    if name == "scores_of_hundreds":
        return HUNDREDS
    if name == "sigmoid_polynomial":
        return POLYNOMIAL.get(quantity, 0.0)
    if name.endswith("_fp16"):
        return RATIO.get(quantity, 0.0)
    return 1e-3 if quantity.startswith("fp16_") else FP32


def check(name: str, measured: dict[str, float]) -> None:
    for quantity, value in measured.items():
        bound = _bound(name, quantity)
        assert value <= bound, f"{name}: {quantity} is {value:.2e}, {bound:.2e} is allowed"


@pytest.mark.parametrize("name", CASES)
def test_numbers(name: str, numbers: Numbers) -> None:
    check(name, numbers[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_slow_numbers(name: str, slow_numbers: Numbers) -> None:
    for quantity, value in slow_numbers[name].items():
        assert value <= 2 * FP32, f"{name}: {quantity} is off by {value:.2e}"
