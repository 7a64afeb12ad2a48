"""The kernels over maps on a GPU: channel attention and neighbourhood attention, against their formulas in fp64."""

from __future__ import annotations

import torch

from tests.gpu.parameters import over
from tests.kernels import channel_numbers, neighbourhood_numbers

DTYPES = ("float32", "float16", "bfloat16")
NUMBERS = {"channel": channel_numbers, "neighbourhood": neighbourhood_numbers}


@over("kernel, dtype", [(kernel, dtype) for kernel in NUMBERS for dtype in DTYPES])
def test_against_the_formula(kernel: str, dtype: str) -> None:
    """In half precision within twice the plain formula's error in that type, of gradients within three times."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # new memory then holds NaN
    try:
        found = NUMBERS[kernel].numbers("cuda", [dtype])
    finally:
        torch.use_deterministic_algorithms(False)
    for case, measured in found.items():
        for quantity in NUMBERS[kernel].QUANTITIES:
            error, theirs = measured[quantity], measured.get(f"plain {quantity}")
            bound = 3e-6 if theirs is None else max(1e-6, (2 if quantity == "out" else 3) * theirs)
            assert error <= bound, f"{case}: {quantity} is off by {error:.2e}, more than {bound:.2e}"
        assert measured.get("differing", 0) == 0, f"{case}: not the same bits twice"
