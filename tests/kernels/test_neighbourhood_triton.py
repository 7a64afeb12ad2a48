"""Neighbourhood cross-attention's Triton kernels: under the interpreter everywhere, compiled where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.kernels import map_kernels
from tests.kernels.map_kernels import DTYPES, INTERPRETED, Numbers
from tests.kernels.neighbourhood_numbers import CASES, QUANTITIES, numbers


def check(name: str, measured: dict[str, float]) -> None:
    # A score of hundreds is rounded by 2e-5, and with it its weight; how lucky the plain formula is hangs on the CPU.
    map_kernels.check(name, measured, QUANTITIES, 5e-5 if "hundreds" in name else 1e-6)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    return map_kernels.interpreted("neighbourhood_numbers", tmp_path_factory.mktemp("neighbourhood"))


@pytest.mark.parametrize("dtype", INTERPRETED)
@pytest.mark.parametrize("name", CASES)
def test_interpreted(name: str, dtype: str, interpreted: Numbers) -> None:
    check(name, interpreted[f"{name}, {dtype}"])


@pytest.mark.gpu
def test_compiled() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    for name, measured in numbers("cuda", list(DTYPES)).items():
        check(name, measured)
