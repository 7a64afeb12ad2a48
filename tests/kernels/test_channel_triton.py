"""Channel attention's Triton kernels: under the interpreter everywhere, compiled where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.kernels.channel_numbers import CASES, QUANTITIES, Numbers, numbers

ROOT = Path(__file__).parents[2]


def check(name: str, measured: dict[str, float]) -> None:
    for quantity in QUANTITIES:
        error, plain = measured[quantity], measured.get(f"plain {quantity}")
        # Half precision is held against the plain formula in that precision: twice its error, of gradients three times.
        bound = 3e-6 if plain is None else max(1e-6, (2 if quantity == "out" else 3) * plain)
        assert error <= bound, f"{name}: {quantity} is off by {error:.2e}, more than {bound:.2e}"
    assert measured.get("differing", 0) == 0, f"{name}: not the same bits twice"


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    to = tmp_path_factory.mktemp("channel") / "numbers.json"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "tests.kernels.channel_numbers", str(to)]
    subprocess.run(program, check=True, cwd=ROOT, env=environment)
    return json.loads(to.read_text())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_interpreted(name: str, dtype: str, interpreted: Numbers) -> None:
    check(name, interpreted[f"{name}, {dtype}"])


@pytest.mark.gpu
def test_compiled() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    for name, measured in numbers("cuda", ["float32", "float16", "bfloat16"]).items():
        check(name, measured)
