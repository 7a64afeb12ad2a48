"""Channel attention's Triton kernels: under the interpreter everywhere, compiled where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.kernels import map_kernels
from tests.kernels.channel_numbers import CASES, QUANTITIES, numbers
from tests.kernels.map_kernels import DTYPES, INTERPRETED, Numbers


def check(name: str, measured: dict[str, float]) -> None:
    map_kernels.check(name, measured, QUANTITIES)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    return map_kernels.interpreted("channel_numbers", tmp_path_factory.mktemp("channel"))


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


def test_places_are_counted_in_64_bits_where_32_do_not_reach() -> None:
    """By the strides of a head's map, heads first and channels last; not for maps that 32 bits can count."""
    tl = pytest.importorskip("triton.language")
    from ros_attn.kernels.channel_triton import _index

    near = torch.empty(1, 2, 64, 2**20, device="meta")
    assert _index(near, near) is tl.int32
    for far in (torch.empty(1, 2, 128, 2**24, device="meta"), torch.empty(1, 1, 2**24, 128, device="meta").mT):
        assert _index(far, near) is _index(near, far) is tl.int64
