"""The kernels of attend under Triton's interpreter, in numbers: a program, as it must set TRITON_INTERPRET first.

``python -m tests.kernels.attend_triton_numbers OUT.json [slow]`` writes ``{case: {quantity: number}}``. Errors are the
largest difference to the specification in fp64, over 1 + the largest element.
"""

# pyright: reportArgumentType=false
from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ros_attn.kernels.configurations import Configuration
from ros_attn.kernels.layout import ALL, EMPTY, PAST, SAME, Layout, dense, memory
from ros_attn.kernels.reference import attend_reference
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import random_case

Numbers = dict[str, float]
CASES: dict[str, Callable[[], Numbers]] = {}
SLOW: dict[str, Callable[[], Numbers]] = {}
GRADIENTS = ("dq", "dk", "dv", "dbias")


def case(function: Callable[[], Numbers]) -> Callable[[], Numbers]:
    CASES[function.__name__] = function
    return function


def sizes(tile_q: int, tile_k: int) -> Configuration:
    return Configuration(tile_q, tile_k, warps=4, stages=2, source="")


def run(
    inputs: list[Tensor], d_out: Tensor, d_lse: Tensor | None, layout: Layout, tiles: tuple[int, int], **options: Any
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output, LSE and gradients of the kernels, every tensor that they allocate being poisoned.

    ``tiles``: of the forward kernel; those of dQ and of dK, dV are other ones.
    """
    from ros_attn.kernels import attend_triton

    empty = torch.empty

    def poisoned(*shape: Any, **rest: Any) -> Tensor:
        made = empty(*shape, **rest)
        return made.fill_(math.nan) if made.is_floating_point() else made.fill_(31234)

    q, k, v, *bias = inputs
    key_bias = bias[0] if bias else None
    call = {"layout": layout, "frame_q": None, "frame_k": None, "open": None, "len_q": None, "len_k": None} | options
    a, b = tiles
    with (
        mock.patch.object(torch, "empty", poisoned),
        mock.patch.object(torch, "empty_like", lambda x, **rest: poisoned(x.shape, dtype=x.dtype, **rest)),
    ):
        out, lse = attend_triton.forward(q, k, v, key_bias, sizes=sizes(a, b), **call)
        gradients = attend_triton.backward(
            d_out, d_lse, q, k, v, out, lse, key_bias, sizes=(sizes(b, a), sizes(a, b)),
            key_bias_grad=key_bias is not None, **call,
        )  # fmt: skip
    return out, lse, [x for x in gradients if x is not None]


def wanted(
    inputs: list[Tensor], d_out: Tensor, d_lse: Tensor | None, layout: Layout, dtype: torch.dtype = torch.float64,
    **options: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:  # fmt: skip
    """The same of the specification."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
    call = {"layout": layout, "frame_q": None, "frame_k": None, "open": None, "len_q": None, "len_k": None} | options
    q, k, v, *bias = leaves
    out, lse = attend_reference(q, k, v, bias[0] if bias else None, **call)
    loss = (out * d_out.to(dtype)).sum()
    if d_lse is not None:
        loss = loss + (torch.where(torch.isneginf(lse), 0, lse) * d_lse.to(dtype)).sum()
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return out.detach(), lse.detach(), [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)
    ]  # fmt: skip


def error(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape:
        return math.inf
    if got.numel() == 0:
        return 0.0
    got, want = got.double(), want.double()
    # -inf is equal to itself and to nothing else; NaN to nothing.
    difference = torch.where(got == want, 0, got - want).abs().nan_to_num(math.inf)
    return float(difference.max()) / (1 + float(torch.where(torch.isinf(want), 0, want).abs().max()))


def gradient_errors(got: list[Tensor], want: list[Tensor]) -> Numbers:
    return {name: error(*each) for name, *each in zip(GRADIENTS[: len(got)], got, want, strict=True)}


def compare(
    inputs: list[Tensor], layout: Layout, *, tiles: tuple[int, int] = (16, 32), use_lse: bool = True, **options: Any
) -> Numbers:
    """Errors of output, LSE and every gradient against the specification in fp64."""
    q, _, v, *_ = inputs
    d_out = torch.randn(*q.shape[:3], v.shape[3], dtype=q.dtype)
    d_lse = torch.randn(q.shape[:3]) if use_lse and options["normaliser"] == "softmax" else None
    got = run(inputs, d_out, d_lse, layout, tiles, **options)
    want = wanted(inputs, d_out, d_lse, layout, **options)
    numbers = {"out": error(got[0], want[0])}
    if options["normaliser"] == "softmax":
        numbers["lse"] = error(got[1], want[1])
    return numbers | gradient_errors(got[2], want[2])


def random(batch: int, length_q: int, length_k: int, heads: int, shared: int, d: int, dv: int) -> list[Tensor]:
    q = torch.randn(batch, length_q, heads, d)
    return [q, torch.randn(batch, length_k, shared, d), torch.randn(batch, length_k, shared, dv)]


def _random_case(seed: int, normaliser: str) -> Numbers:
    """Kinds whose boundary lies within a tile, frames out of order, empty slots, closed kinds, ragged lengths."""
    drawn = random_case(seed, normaliser)
    seen = drawn.visibility
    return compare(
        [x.detach() for x in drawn.leaves(torch.float32)], seen.layout, tiles=((16, 16), (32, 16), (16, 32))[seed % 3],
        frame_q=seen.frame_q, frame_k=seen.frame_k, open=drawn.open, len_q=drawn.len_q, len_k=drawn.len_k,
        normaliser=normaliser, scale=drawn.scale,
    )  # fmt: skip


# Chosen so that together they have bias rules, biases of one and of all heads, closed kinds, ragged lengths and groups.
for _seed in (0, 4, 5, 7, 11, 19):
    CASES[f"random_case_{_seed}"] = partial(_random_case, _seed, "softmax" if _seed in (0, 5, 11) else "sigmoid")
for _seed in range(100, 140):
    SLOW[f"random_case_{_seed}"] = partial(_random_case, _seed, ("softmax", "sigmoid")[_seed % 2])


def _shapes(sizes: tuple[int, ...], normaliser: str, tiles: tuple[int, int] = (32, 32)) -> Numbers:
    """Dense, of one kind, with a bias a head."""
    batch, _, length_k, heads, *_ = sizes
    bias = torch.randn(batch, heads, length_k)
    return compare(
        [*random(*sizes), bias], dense(*sizes[1:3]), tiles=tiles, normaliser=normaliser, scale=sizes[5] ** -0.5
    )


for _normaliser in ("softmax", "sigmoid"):
    for _sizes in (
        (1, 1, 257, 1, 1, 8, 8), (1, 257, 63, 1, 1, 40, 24), (2, 100, 100, 2, 1, 64, 64), (1, 63, 1, 4, 2, 72, 40),
        (1, 63, 100, 1, 1, 128, 128), (1, 17, 33, 1, 1, 256, 200),
    ):  # fmt: skip
        _name = "{}_{}x{}_heads_{}_of_{}_d_{}_{}".format(_normaliser, *_sizes[1:])
        CASES[_name] = partial(_shapes, _sizes, _normaliser)
    SLOW[f"{_normaliser}_1000x1000"] = partial(_shapes, (1, 1000, 1000, 2, 1, 64, 64), _normaliser, (64, 64))


def _memory(normaliser: str, batch: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """A policy's layout with everything at once; lengths are no multiples of a tile, nor are the runs of a kind."""
    kinds_q, kinds_k = (("video", 37), ("act", 21)), (("old", 70), ("video", 37), ("touch", 25))
    rule = {("video", "old"): memory(3, 2), ("video", "video"): PAST, ("act", "old"): memory(2, 0),
            ("act", "video"): (1, 4, 0), ("act", "touch"): SAME}  # fmt: skip
    on = {("act", "touch"): SAME, ("video", "old"): memory(2, 1), ("video", "video"): ALL}
    now = torch.cat((torch.arange(37) // 6, torch.arange(21) // 5)).int()
    then = torch.cat((torch.arange(70) // 12, torch.arange(37) // 6, torch.arange(25) // 6)).int()
    then[3:9] = EMPTY
    seen = Visibility(kinds_q, kinds_k, rule, now[None], then[None], bias_on=on)
    q, k, v = random(batch, seen.length_q, seen.length_k, 2, 1, 16, 24)
    return {
        "inputs": [x.to(dtype) for x in (q, k, v)], "layout": seen.layout, "frame_q": seen.frame_q,
        "frame_k": seen.frame_k, "normaliser": normaliser, "scale": 0.3,
    }  # fmt: skip


def _everything(normaliser: str) -> Numbers:
    call = _memory(normaliser)
    bias = torch.randn(2, 1, 132)
    bias[:, :, ::7] = -math.inf
    opened = torch.tensor([[True, True, True, True], [True, True, False, True]])
    ends = {"len_q": torch.tensor([58, 40]), "len_k": torch.tensor([132, 100])}
    return compare([*call.pop("inputs"), bias], call.pop("layout"), open=opened, **ends, **call)


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_kinds_frames_bias_rule_open_lengths"] = partial(_everything, _normaliser)


def _whole_tiles(normaliser: str) -> Numbers:
    """Tiles without a predicate, in some of which the bias counts for every pair and in some for none."""
    kinds_q, kinds_k = (("a", 32), ("b", 20)), (("x", 64), ("y", 64))
    rule = {(i, j): ALL for i in "ab" for j in "xy"}
    seen = Visibility(kinds_q, kinds_k, rule, bias_on={("a", "x"): ALL, ("b", "y"): ALL})
    inputs = [*random(1, 52, 128, 2, 1, 16, 16), torch.randn(1, 2, 128)]
    return compare(inputs, seen.layout, normaliser=normaliser, scale=0.3)


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_whole_tiles_with_and_without_bias"] = partial(_whole_tiles, _normaliser)


@case
def rules_without_a_bias() -> Numbers:
    """A layout with bias rules and no bias: entries of the lists then bear no bit for it."""
    call = _memory("softmax", batch=1)
    return compare(call.pop("inputs"), call.pop("layout"), use_lse=False, **call)


def _nothing(normaliser: str) -> Numbers:
    """Samples without keys, without queries, of which one row sees nothing, or all of whose biases are -inf."""
    layout = dense(40, 40)
    bias = torch.randn(4, 2, 40)
    bias[2] = -math.inf
    frames = torch.zeros(4, 40, dtype=torch.int32)
    frames[3, 5:30] = -1
    return compare(
        [*random(4, 40, 40, 2, 1, 16, 16), bias], layout, tiles=(16, 16), frame_q=frames, normaliser=normaliser,
        scale=0.25, len_q=torch.tensor([40, 0, 40, 33]), len_k=torch.tensor([0, 40, 17, 40]),
    )  # fmt: skip


def _unseen_nan(normaliser: str) -> Numbers:
    """NaN in K, V and bias of empty slots, of a closed kind and beyond a length; gradients there are 0."""
    runs = ((("now", 20),), (("ring", 50), ("sensor", 20)))
    slots = torch.zeros(1, 70, dtype=torch.int32)
    slots[:, 10:37:3] = EMPTY
    seen = Visibility(*runs, {("now", "ring"): PAST, ("now", "sensor"): ALL}, torch.zeros(1, 20).int(), slots)
    q, k, v = random(2, 20, 70, 2, 1, 16, 16)
    bias = torch.randn(2, 1, 70)
    opened, ends = torch.tensor([[True, False, True], [True, True, True]]), torch.tensor([70, 61])
    dead = (slots < 0).repeat(2, 1)
    dead[0, 50:] = True
    dead[1, 61:] = True
    for dirty in (k, v):
        dirty[dead] = math.nan
    bias[:, 0][dead] = math.nan
    options = {"normaliser": normaliser, "scale": 0.3, "open": opened, "len_k": ends}
    options |= {"frame_q": seen.frame_q, "frame_k": seen.frame_k}
    numbers = {}
    d_out = torch.randn(2, 20, 2, 16)
    got = run([q, k, v, bias], d_out, None, seen.layout, (16, 16), **options)
    want = wanted([q, k.nan_to_num(0), v.nan_to_num(0), bias.nan_to_num(0)], d_out, None, seen.layout, **options)
    numbers["out"] = error(got[0], want[0])
    return numbers | gradient_errors(got[2], want[2])


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_nothing_to_see"] = partial(_nothing, _normaliser)
    CASES[f"{_normaliser}_nan_where_nothing_is_seen"] = partial(_unseen_nan, _normaliser)


@case
def permuted_inputs() -> Numbers:
    """[B, H, L, D] as it often comes, one tensor of K and V, strides that are no multiples of 8, dO expanded."""
    q = torch.randn(2, 2, 40, 16).transpose(1, 2)
    packed = torch.randn(2, 50, 2, 36)
    k, v = packed[..., 2:18], packed[..., 20:36]
    options = {"normaliser": "softmax", "scale": -0.4}
    d_out = torch.randn(1, 1, 1, 16).expand(2, 40, 2, 16)
    d_lse = torch.randn(2, 2, 40).transpose(1, 2)
    layout = dense(40, 50)
    got = run([q, k, v], d_out, d_lse, layout, (16, 16), **options)
    want = wanted([q, k, v], d_out, d_lse, layout, **options)
    numbers = {"out": error(got[0], want[0]), "lse": error(got[1], want[1])}
    return numbers | gradient_errors(got[2], want[2])


@case
def last_dimension_not_contiguous() -> Numbers:
    """Of q and v so that the other strides are multiples of 8."""
    q, v = (torch.randn(1, 20, 2, 16, 2)[..., 0] for _ in range(2))
    k = torch.randn(1, 20, 16, 2).transpose(2, 3)
    return compare([q, k, v], dense(20, 20), tiles=(16, 16), normaliser="sigmoid", scale=0.3)


def _amid_nan(x: Tensor, rows: int = 64) -> Tensor:
    """``x`` as a part of a larger tensor of NaN: rows before and after, and elements after each head's."""
    around = x.new_full((x.shape[0], x.shape[1] + 2 * rows, x.shape[2], x.shape[3] + 8), math.nan)
    inside = around[:, rows : rows + x.shape[1], :, : x.shape[3]]
    return inside.copy_(x)


def _nothing_beyond(normaliser: str) -> Numbers:
    """Nothing is read beyond the queries, the keys or a head's elements, also where there is less than a tile."""
    numbers: Numbers = {}
    for runs in ((("a", 5),), (("a", 20), ("b", 21))):
        layout = Visibility(runs, (("c", 33),), {(name, "c"): ALL for name, _ in runs}).layout
        inputs, d_out = random(1, layout.length_q, 33, 2, 1, 24, 40), torch.randn(1, layout.length_q, 2, 40)
        options = {"normaliser": normaliser, "scale": 0.3}
        got = run([_amid_nan(x) for x in inputs], _amid_nan(d_out), None, layout, (16, 16), **options)
        want = wanted(inputs, d_out, None, layout, **options)
        errors = {"out": error(got[0], want[0])} | gradient_errors(got[2], want[2])
        numbers |= {f"{name}_of_{layout.length_q}": value for name, value in errors.items()}
    return numbers


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_nan_around_the_inputs"] = partial(_nothing_beyond, _normaliser)


@case
def scores_of_hundreds() -> Numbers:
    """Their exponentials overflow, or are 0 for all that a row sees; some rows see nothing of their first tile."""
    q, k, v = random(1, 40, 50, 1, 1, 16, 16)
    # So that the first query's scores fall from tile to tile.
    k = k[:, (k[0, :, 0] @ q[0, 0, 0]).argsort()]
    both = compare([80 * q, k, v], dense(40, 50), tiles=(16, 16), normaliser="softmax", scale=-0.25)
    latest_first = (torch.arange(49, -1, -1) // 4).int()[None]
    rule = {("a", "b"): PAST}
    seen = Visibility((("a", 40),), (("b", 50),), rule, (torch.arange(40) // 3).int()[None], latest_first)
    below = compare(
        [40 * q.abs(), -1 - k.abs(), v], seen.layout, tiles=(16, 16), frame_q=seen.frame_q, frame_k=seen.frame_k,
        normaliser="softmax", scale=0.25,
    )  # fmt: skip
    return both | {f"{name}_below": value for name, value in below.items()}


@case
def empty_calls() -> Numbers:
    """No queries, no keys, no samples."""
    numbers: Numbers = {}
    for name, (batch, length_q, length_k) in {"queries": (1, 0, 5), "keys": (1, 5, 0), "samples": (0, 5, 5)}.items():
        inputs = [*random(batch, length_q, length_k, 2, 1, 16, 16), torch.randn(batch, 1, length_k)]
        d_out, d_lse = torch.randn(batch, length_q, 2, 16), torch.randn(batch, length_q, 2)
        layout = dense(length_q, length_k)
        out, lse, gradients = run(inputs, d_out, d_lse, layout, (16, 16), normaliser="softmax", scale=1.0)
        shapes = [list(x.shape) for x in gradients] != [list(x.shape) for x in inputs]
        numbers[name] = float(shapes) + sum(float(x.abs().sum()) for x in (out, *gradients))
        numbers[name] += float((lse != -math.inf).sum())
    return numbers


def _half(normaliser: str) -> Numbers:
    """The kernels' errors in fp16 over those of plain PyTorch in fp16."""
    call = _memory(normaliser, batch=1, dtype=torch.float16)
    inputs, layout = call.pop("inputs"), call.pop("layout")
    inputs.append(torch.randn(1, 1, 132).half())
    d_out = torch.randn(1, 58, 2, 24).half()
    want = wanted(inputs, d_out, None, layout, **call)
    got = run(inputs, d_out, None, layout, (16, 32), **call)
    # The specification computes in fp32; here everything is rounded to fp16.
    with mock.patch.object(torch, "float32", torch.float16):
        plain = wanted(inputs, d_out, None, layout, torch.float16, **call)
    numbers = {"out": error(got[0], want[0]) / error(plain[0], want[0])}
    ours, plains = gradient_errors(got[2], want[2]), gradient_errors(plain[2], want[2])
    numbers["other_types"] = float(sum(x.dtype != torch.float16 for x in (got[0], *got[2])))
    return numbers | {name: ours[name] / plains[name] for name in ours}


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_fp16"] = partial(_half, _normaliser)


@case
def sigmoid_of_16384_keys() -> Numbers:
    """With -log n: in fp32, and what fp16 and the polynomial add (``fp16_...``)."""
    numbers: Numbers = {}
    inputs = random(1, 16, 16384, 1, 1, 16, 16)
    d_out = torch.randn(1, 16, 1, 16)
    layout = dense(16, 16384)
    call = {"normaliser": "sigmoid", "scale": 1.0}
    for prefix, dtype in (("", torch.float32), ("fp16_", torch.float16)):
        rounded = [x.to(dtype) for x in inputs]
        got = run(rounded, d_out.to(dtype), None, layout, (256, 256), **call)
        want = wanted(rounded, d_out.to(dtype), None, layout, **call)
        pairs = zip(("out", "dq", "dk", "dv"), (got[0], *got[2]), (want[0], *want[2]), strict=True)
        numbers |= {f"{prefix}{name}": float((a - b).norm() / b.norm()) for name, a, b in pairs}
    return numbers


@case
def heaviest_tiles_first() -> Numbers:
    """How often a program has more to do than the one before it, where the last tile of each kernel has most to do."""
    from triton.runtime import interpreter

    frames = torch.arange(80).int()[None]
    seen = Visibility((("a", 80),), (("b", 80),), {("a", "b"): PAST}, frames, frames.flip(1))
    q, k, v = random(1, 80, 80, 1, 1, 16, 16)
    stored: list[int] = []
    plain = interpreter._interpreter.store

    def noted(pointers: Any, *rest: Any) -> Any:
        stored.append(int(pointers.min()))
        return plain(pointers, *rest)

    options = {"frame_q": seen.frame_q, "frame_k": seen.frame_k, "normaliser": "softmax", "scale": 0.3}
    with mock.patch.object(interpreter._interpreter, "store", noted):
        out, _, (dq, dk, _) = run([q, k, v], torch.randn_like(v), None, seen.layout, (16, 16), **options)
    numbers: Numbers = {}
    for name, x in {"out": out, "dq": dq, "dk": dk}.items():
        starts = [each for each in stored if x.data_ptr() <= each < x.data_ptr() + x.numel() * 4]
        numbers[name] = float(sum(a <= b for a, b in pairwise(starts)) + abs(len(starts) - 5))
    return numbers


@case
def the_same_bits_again() -> Numbers:
    call = _memory("softmax", batch=1)
    inputs, layout = call.pop("inputs"), call.pop("layout")
    inputs.append(torch.randn(1, 1, 132))
    d_out, d_lse = torch.randn(1, 58, 2, 24), torch.randn(1, 58, 2)
    one, two = (run(inputs, d_out, d_lse, layout, (64, 64), **call) for _ in range(2))
    pairs = zip((*one[:2], *one[2]), (*two[:2], *two[2]), strict=True)
    return {"differing": float(sum(int((a != b).sum()) for a, b in pairs))}


@case
def sigmoid_polynomial() -> Numbers:
    """Relative errors of the weight and of its slope, over all x and where 2^x < 1e-3, as with -log n."""
    # The interpreter looks names up in the module.
    global sigmoid_parts, tl
    import triton
    import triton.language as tl

    from ros_attn.kernels.scores_triton import sigmoid_parts

    @triton.jit
    def kernel(x_ptr, p_ptr, slope_ptr, N: tl.constexpr):
        at = tl.arange(0, N)
        x = tl.load(x_ptr + at)
        e, r = sigmoid_parts(x, False)
        tl.store(p_ptr + at, tl.where(x > 0, r, e * r))
        tl.store(slope_ptr + at, e * r * r)

    x = torch.linspace(-60, 60, 1 << 15)
    p, slope = torch.empty_like(x), torch.empty_like(x)
    kernel[(1,)](x, p, slope, N=1 << 15)
    want = torch.sigmoid(x.double() * math.log(2))
    numbers = {"all": float((p / want - 1).abs().max())}
    numbers["small"] = float((p / want - 1)[x < math.log2(1e-3)].abs().max())
    return numbers | {"slope": float((slope / (want * torch.sigmoid(-x.double() * math.log(2))) - 1).abs().max())}


def _many_queries() -> Numbers:
    """More than 32767 queries: ranks of 32 bits."""
    frames = (torch.arange(33000) // 3000).int()[None]
    seen = Visibility((("a", 33000),), (("a", 40),), {("a", "a"): PAST}, frames, frames[:, ::825])
    inputs = random(1, 33000, 40, 1, 1, 16, 16)
    return compare(
        inputs, seen.layout, tiles=(256, 32), frame_q=frames, frame_k=seen.frame_k, normaliser="softmax", scale=0.3
    )


SLOW["more_than_32767_queries"] = _many_queries


def measure(name: str) -> Numbers:
    """One case; TRITON_INTERPRET must be set."""
    torch.manual_seed(len(name))
    return (CASES | SLOW)[name]()


def main(to: str, *which: str) -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    numbers = {}
    for name in SLOW if which else CASES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                numbers[name] = measure(name)
        except Exception as error:
            numbers[name] = {f"{type(error).__name__}: {error}": math.inf}
    with open(to, "w", encoding="utf-8") as file:
        json.dump(numbers, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
