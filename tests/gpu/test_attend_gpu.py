"""attend's Triton backends on a GPU against the specification in fp64; see ``checks`` for what is allowed."""

from __future__ import annotations

import torch

from tests.gpu import checks
from tests.gpu.checks import GPU
from tests.gpu.parameters import over
from tests.kernels.oracle import random_case

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
LENGTHS = (1, 63, 100, 257, 1000)
NORMALISERS = ("softmax", "sigmoid")
# The widest first: they compile longest.
WIDTHS = (
    *((width, BF16) for width in (256, 192, 160, 128, 96, 80, 64, 40, 24, 16, 8)),
    *((width, dtype) for dtype in (FP32, FP16) for width in (256, 128, 64, 40, 8)),
)
SEEDS = (*((seed, BF16) for seed in range(40)), *((seed, FP16) for seed in range(40, 60)),
         *((seed, FP32) for seed in range(60, 80)))  # fmt: skip
FEW_ROWS = 64


def few(seed: int) -> bool:
    """Whether a random case has few enough rows to be decoded."""
    case = random_case(seed)
    return case.q.shape[1] * (case.q.shape[2] // case.k.shape[2]) <= FEW_ROWS


@over("width, dtype, normaliser", [(*each, normaliser) for each in WIDTHS for normaliser in NORMALISERS])
def test_lengths(width: int, dtype: torch.dtype, normaliser: str) -> None:
    for length in LENGTHS:
        checks.length_of(length, width, normaliser, dtype, GPU)


@over("width, dtype, normaliser", [(*each, normaliser) for each in WIDTHS for normaliser in NORMALISERS])
def test_decode(width: int, dtype: torch.dtype, normaliser: str) -> None:
    for queries, keys in ((1, 3), (1, 1000), (3, 257), (8, 5000), (32, 1000)):
        checks.decoded(queries, keys, width, normaliser, dtype, GPU)


@over("normaliser, dtype", [(normaliser, dtype) for normaliser in NORMALISERS for dtype in (BF16, FP32)])
def test_16384_keys(normaliser: str, dtype: torch.dtype) -> None:
    checks.long(normaliser, dtype, GPU)


@over("seed, dtype", SEEDS)
def test_random_structure(seed: int, dtype: torch.dtype) -> None:
    checks.structured(seed, dtype, GPU)


@over("seed, dtype", [(seed, dtype) for seed, dtype in SEEDS if few(seed)][::3])
def test_random_structure_decoded(seed: int, dtype: torch.dtype) -> None:
    checks.decoded_case(seed, dtype, GPU)


@over("normaliser", [("softmax",), ("softmax1",), ("sigmoid",)])
def test_kinds_closed_for_some_samples(normaliser: str) -> None:
    checks.closed_kinds(normaliser, GPU)


@over("normaliser", [(each,) for each in NORMALISERS])
def test_every_element_is_written(normaliser: str) -> None:
    with checks.poisoned():
        for length in LENGTHS:
            checks.length_of(length, 64, normaliser, BF16, GPU)
        checks.closed_kinds(normaliser, GPU)
        checks.decoded(3, 1000, 64, normaliser, BF16, GPU)
        for seed in range(6):
            checks.structured(seed, BF16, GPU)


@over("normaliser, dtype", [(normaliser, dtype) for normaliser in NORMALISERS for dtype in (BF16, FP32)])
def test_the_same_bits_in_every_run(normaliser: str, dtype: torch.dtype) -> None:
    checks.bits(checks.causal_case(1000, 64, normaliser, dtype, "cuda"), dtype, GPU)
    checks.bits(checks.kinds_case(normaliser, "cuda"), dtype, GPU)


@over("normaliser, dtype", [(normaliser, dtype) for normaliser in NORMALISERS for dtype in (BF16, FP16)])
def test_a_ring_overwritten_in_place_in_a_cuda_graph(normaliser: str, dtype: torch.dtype) -> None:
    checks.stream(normaliser, dtype, GPU)


def test_frames_that_change_in_place_without_a_synchronisation() -> None:
    checks.frames_in_place(GPU)


@over("normaliser", [("softmax1",), ("sigmoid",)])
def test_compiles_in_one_graph(normaliser: str) -> None:
    checks.compiled(normaliser, GPU, "inductor")


def test_attend_takes_triton_by_itself() -> None:
    """A structured call on CUDA tensors goes to our kernels without being told."""
    case = checks.kinds_case("softmax", "cuda")
    q, k, v, bias = (x.detach() for x in case.leaves(BF16))
    own, asked = (
        checks.attend(q, k, v, key_bias=bias, **case.options(), backend=backend) for backend in (None, "triton")
    )
    assert torch.equal(own, asked)
