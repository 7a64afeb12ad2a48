"""The streaming kernel under Triton's interpreter, in numbers: a program, since it must set TRITON_INTERPRET first.

``python -m tests.kernels.decode_numbers OUT.json`` writes ``{name: {quantity: number}}``.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ros_attn.kernels.layout import ALL, EMPTY, PAST, SAME, dense, memory
from ros_attn.kernels.reference import attend_reference
from ros_attn.kernels.ring import Ring
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import random_case

Numbers = dict[str, float]
CASES: dict[str, Callable[[], Numbers]] = {}


def case(function: Callable[[], Numbers]) -> Callable[[], Numbers]:
    CASES[function.__name__] = function
    return function


def call(
    q: Tensor, k: Tensor, v: Tensor, visibility: Visibility | None = None, bias: Tensor | None = None,
    normaliser: str = "softmax", **options: Any,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:  # fmt: skip
    """The kernel's answer, every tensor it allocates being poisoned, and that of the specification in fp64."""
    from ros_attn.kernels import decode_triton

    layout = dense(q.shape[1], k.shape[1]) if visibility is None else visibility.layout
    rest: dict[str, Any] = {"open": None, "len_q": None, "len_k": None, "scale": q.shape[3] ** -0.5, **options}
    rest |= {"layout": layout, "normaliser": normaliser}
    rest |= {"frame_q": None, "frame_k": None}
    if visibility is not None:
        rest |= {"frame_q": visibility.frame_q, "frame_k": visibility.frame_k}
    empty = torch.empty

    def poisoned(*sizes: Any, **options: Any) -> Tensor:
        made = empty(*sizes, **options)
        return made.fill_(math.nan) if made.is_floating_point() else made.fill_(2**30 + 12345)

    with mock.patch.object(torch, "empty", poisoned):
        got = decode_triton.decode(q, k, v, bias, **rest)
    q, k, v = (x.double() for x in (q, k, v))
    return got, attend_reference(q, k, v, None if bias is None else bias.double(), **rest)


def compare(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> Numbers:
    """Largest errors: of the output relative to its largest element, of the LSE absolute, -inf equal to itself."""
    (out, lse), (exact, norm) = got, want
    off = (out.double() - exact).abs().nan_to_num(math.inf)
    errors = {"out": float(off.max() / exact.abs().max().clamp_min(1e-30))}
    if lse.numel():
        off = torch.where(torch.isneginf(norm) & torch.isneginf(lse), 0.0, (lse.double() - norm).abs())
        errors["lse"] = float(off.nan_to_num(math.inf).max())
    return errors


def random(batch: int, length_q: int, length_k: int, heads: int, shared: int, width: int, values: int,
           dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    q, k = torch.randn(batch, length_q, heads, width), torch.randn(batch, length_k, shared, width)
    return q.to(dtype), k.to(dtype), torch.randn(batch, length_k, shared, values).to(dtype)


def frames(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def _dense(name: str, normaliser: str, *sizes: int, dtype: torch.dtype = torch.float32) -> None:
    CASES[name] = lambda: compare(*call(*random(*sizes, dtype=dtype), normaliser=normaliser))


for _normaliser in ("softmax", "sigmoid"):
    _dense(f"{_normaliser}_1_query_1_key", _normaliser, 1, 1, 1, 1, 1, 16, 16)
    _dense(f"{_normaliser}_3_queries_100_keys_grouped", _normaliser, 2, 3, 100, 6, 2, 24, 8)
    _dense(f"{_normaliser}_1_query_1000_keys", _normaliser, 1, 1, 1000, 2, 2, 32, 40)
    _dense(f"{_normaliser}_fp16_32_queries_grouped", _normaliser, 1, 32, 300, 6, 2, 40, 24, dtype=torch.float16)
    _dense(f"{_normaliser}_fp16_3_queries", _normaliser, 1, 3, 1000, 1, 1, 64, 64, dtype=torch.float16)


@case
def wide_heads() -> Numbers:
    return compare(*call(*random(1, 2, 70, 1, 1, 256, 200)))


@case
def permuted_inputs() -> Numbers:
    """[B, H, L, D] as it often comes, one tensor of strides that are no multiples of 8, keys of a longer buffer."""
    q, k, v = random(2, 3, 200, 4, 2, 16, 16)
    q = q.transpose(1, 2).contiguous().transpose(1, 2)
    k = torch.nn.functional.pad(k, (0, 3))[..., :16][:, 20:180]
    v = v.transpose(1, 2).contiguous().transpose(1, 2)[:, 20:180]
    return compare(*call(q, k, v))


def _random_case(seed: int, normaliser: str) -> Callable[[], Numbers]:
    def numbers() -> Numbers:
        drawn = random_case(seed, normaliser)
        q, k, v = (x.float() for x in (drawn.q, drawn.k, drawn.v))
        bias = None if drawn.key_bias is None else drawn.key_bias.float()
        return compare(
            *call(
                q, k, v, drawn.visibility, bias, normaliser, open=drawn.open, len_q=drawn.len_q, len_k=drawn.len_k,
                scale=drawn.scale,
            )
        )  # fmt: skip

    return numbers


for _seed in range(10):
    CASES[f"random_case_{_seed}"] = _random_case(_seed, ("softmax", "sigmoid")[_seed % 2])


def _long(normaliser: str) -> Callable[[], Numbers]:
    """Several kinds, some of whose runs span many blocks, with everything at once."""

    def numbers() -> Numbers:
        kinds_q, kinds_k = (("act", 5), ("see", 3)), (("old", 330), ("new", 70), ("act", 33))
        rule = {("act", "old"): memory(3, 2), ("act", "new"): (1, 4, 0), ("act", "act"): SAME, ("see", "old"): ALL,
                ("see", "new"): (-2, 5, 1)}  # fmt: skip
        seen = Visibility(
            kinds_q, kinds_k, rule, torch.randint(-1, 9, (2, 8), dtype=torch.int32),
            torch.randint(-2, 9, (2, 433), dtype=torch.int32),
            bias_on={("act", "old"): memory(2, 1), ("see", "new"): ALL, ("act", "act"): ALL},
        )  # fmt: skip
        bias = torch.randn(2, 4, 433)
        bias[:, :, ::7] = -math.inf
        q, k, v = random(2, 8, 433, 4, 2, 16, 24)
        opened = torch.tensor([[True, True, False, True], [False, True, True, True]])[:, : len(seen.kinds)]
        ends = {"len_q": torch.tensor([8, 6]), "len_k": torch.tensor([433, 340], dtype=torch.int32)}
        return compare(*call(q, k, v, seen, bias, normaliser, open=opened, **ends))

    return numbers


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_kinds_bias_rule_open_lengths"] = _long(_normaliser)


@case
def ring_overwritten_between_two_calls() -> Numbers:
    """The same call after a write in place answers for the new contents, and no table is made again."""
    from ros_attn.kernels import decode_triton

    ring = Ring([("recent", 400)], batch=1, heads=2, width=16)
    seen = ring.visibility((("now", 2),), frames([0, 0]), {("now", "recent"): memory(3, 0)})
    assert seen.frame_q is not None
    worst: Numbers = {"out": 0.0, "lse": 0.0}
    q = torch.randn(1, 2, 2, 16)
    layouts = 0
    for t in range(6):
        ring.write("recent", torch.randn(1, 90, 2, 16), torch.randn(1, 90, 2, 16), frames([t]))
        seen.frame_q.fill_(t)
        errors = compare(*call(q, ring.k, ring.v, seen))
        worst = {name: max(worst[name], errors[name]) for name in worst}
        if t == 0:
            layouts = decode_triton._table.cache_info().misses
    return worst | {"tables_made_again": decode_triton._table.cache_info().misses - layouts}


@case
def nothing_to_see() -> Numbers:
    """An empty ring, a closed kind, a length of 0, negative query frames: zeros and -inf, from poisoned memory."""
    q, k, v = random(1, 3, 300, 2, 1, 16, 16)
    rule = {("now", "ring"): PAST}
    empty = Visibility((("now", 3),), (("ring", 300),), rule, frames([4, 4, 4]), torch.full((1, 300), EMPTY).int())
    blind = Visibility((("now", 3),), (("ring", 300),), rule, frames([-1, -1, -5]), torch.zeros(1, 300).int())
    full = Visibility((("now", 3),), (("ring", 300),), rule, frames([4, 4, 4]), torch.zeros(1, 300).int())
    largest, finite = 0.0, 0
    for normaliser in ("softmax", "sigmoid"):
        for visibility, options in (
            (empty, {}), (blind, {}), (full, {"open": torch.tensor([[False, True]])}),
            (full, {"len_k": torch.tensor([0])}), (full, {"len_q": torch.tensor([0])}),
        ):  # fmt: skip
            (out, lse), _ = call(q, k, v, visibility, normaliser=normaliser, **options)
            largest = max(largest, float(out.abs().nan_to_num(math.inf).max()))
            finite += int((~torch.isneginf(lse)).sum())
    return {"out": largest, "lse": float(finite)}


@case
def some_queries_see_nothing() -> Numbers:
    """Beside queries of one kind and one frame, for which the list alone says what is seen."""
    seen = Visibility((("now", 4),), (("ring", 300),), {("now", "ring"): PAST}, frames([4, -1, 4, 4]), None)
    worst: Numbers = {}
    for normaliser in ("softmax", "sigmoid"):
        errors = compare(*call(*random(1, 4, 300, 2, 1, 16, 16), seen, None, normaliser, len_q=torch.tensor([3])))
        worst |= {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
    return worst


@case
def no_keys_at_all() -> Numbers:
    (out, lse), _ = call(*random(1, 2, 0, 2, 1, 16, 16))
    return {"out": float(out.abs().nan_to_num(math.inf).max()), "lse": float((~torch.isneginf(lse)).sum())}


def _unseen_nan(normaliser: str) -> Callable[[], Numbers]:
    """NaN in K, V and the bias of empty slots, in blocks that are skipped and between keys that are seen.

    So is a kind that no query sees, of frames between those of the queries.
    """

    def numbers() -> Numbers:
        q, k, v = random(1, 3, 680, 2, 1, 16, 16)
        frame = torch.full((1, 680), EMPTY, dtype=torch.int32)
        frame[:, 70:130:3] = 5
        frame[:, 600:640] = 3
        frame[:, 640:] = 4
        bias = torch.randn(1, 1, 680)
        clean = k.clone(), v.clone(), bias.clone()
        for dirty in (k[0], v[0], bias[0, 0]):
            dirty[frame[0] < 0] = math.nan
            dirty[640:] = math.nan
        worst: Numbers = {}
        kinds = ("ring", 640), ("other", 40)
        for moments in ([5, 5, 5], [5, 3, 4]):
            seen = Visibility((("now", 3),), kinds, {("now", "ring"): PAST}, frames(moments), frame)
            got, _ = call(q, k, v, seen, bias, normaliser)
            _, want = call(q, clean[0], clean[1], seen, clean[2], normaliser)
            worst |= {name: max(error, worst.get(name, 0.0)) for name, error in compare(got, want).items()}
        return worst

    return numbers


for _normaliser in ("softmax", "sigmoid"):
    CASES[f"{_normaliser}_nan_in_empty_slots"] = _unseen_nan(_normaliser)


@case
def reads_only_what_is_seen() -> Numbers:
    """Elements of K and V that are read, over those of the keys that some query sees."""
    from triton.runtime import interpreter

    q, k, v = random(1, 2, 1000, 2, 2, 16, 16)
    frame = torch.full((1, 1000), EMPTY, dtype=torch.int32)
    frame[:, 130:180] = 1
    frame[:, 300:340] = 0
    frame[:, 900:910] = 2
    seen = Visibility((("now", 2),), (("ring", 1000),), {("now", "ring"): memory(1, 0)}, frames([1, 1]), frame)
    plain = interpreter._interpreter.load
    counts = {"k": 0, "v": 0}
    spans = {name: (x.data_ptr(), x.data_ptr() + x.numel() * 4) for name, x in (("k", k), ("v", v))}

    def counted(pointers: Any, mask: Any, *rest: Any) -> Any:
        for name, (start, end) in spans.items():
            counts[name] += int((mask & (pointers >= start) & (pointers < end)).sum())
        return plain(pointers, mask, *rest)

    with mock.patch.object(interpreter._interpreter, "load", counted):
        errors = compare(*call(q, k, v, seen))
    return errors | {f"read_{name}": count / (50 * 2 * 16) for name, count in counts.items()}


@case
def the_same_bits_again() -> Numbers:
    q, k, v = random(1, 3, 700, 2, 1, 16, 16)
    one, two = call(q, k, v)[0], call(q, k, v)[0]
    return {"differing": float((one[0] != two[0]).sum() + (one[1] != two[1]).sum())}


@case
def any_number_of_splits() -> Numbers:
    """From one program to one a block, where the last has nothing or little to do."""
    from ros_attn.kernels import decode_triton

    q, k, v = random(1, 2, 690, 1, 1, 16, 16)
    worst: Numbers = {}
    for normaliser in ("softmax", "sigmoid"):
        for splits in (1, 4, 7, 22):
            with mock.patch.object(decode_triton, "_splits", lambda *_, splits=splits: splits):
                errors = compare(*call(q, k, v, normaliser=normaliser))
            worst |= {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
    return worst


@case
def more_blocks_than_a_program_looks_at_in_one_go() -> Numbers:
    from ros_attn.kernels import decode_triton

    with mock.patch.object(decode_triton, "_splits", return_value=1):
        return compare(*call(*random(1, 1, 1100, 1, 1, 72, 16)))


@case
def scores_of_hundreds() -> Numbers:
    """Their exponentials overflow, or are 0 for all that a row sees; some rows see nothing of their first block.

    More splits than are combined in one go, the highest scores being in the last of them, and of the other head in the
    first.
    """
    from ros_attn.kernels import decode_triton

    q, k, v = random(1, 1, 1100, 1, 1, 72, 16)
    rising = k[:, (k[0, :, 0] @ q[0, 0, 0]).argsort()]
    with mock.patch.object(decode_triton, "_splits", return_value=69):
        found = [compare(*call(torch.cat((80 * q, -80 * q), 2), rising, v))]
    q, k, v = random(1, 2, 700, 1, 1, 16, 16)
    ring = (torch.arange(699, -1, -1) // 70).int()[None]
    seen = Visibility((("now", 2),), (("ring", 700),), {("now", "ring"): PAST}, frames([1, 9]), ring)
    found.append(compare(*call(40 * q.abs(), -1 - k.abs(), v, seen)))
    return {name: max(errors[name] for errors in found) for name in found[0]}


@case
def fp16_heads_8_gigabytes_apart() -> Numbers:
    """Keys and values of 2^32 elements a head, of which few are there: a file of holes.

    Counted in 32 bits, the second head would begin where the first does.
    """
    q, *few = random(1, 1, 40, 4, 2, 16, 16, torch.float16)
    with tempfile.TemporaryDirectory() as folder:
        far = []
        for name, x in zip("kv", few, strict=True):
            file = f"{folder}/{name}"
            whole = torch.from_file(file, shared=True, size=2**32 + 40 * 16, dtype=torch.float16)
            far.append(whole.as_strided((1, 40, 2, 16), (40 * 16, 16, 2**32, 1)).copy_(x))
        return compare(*call(q, *far))


def measure(name: str) -> Numbers:
    """One case; TRITON_INTERPRET must be set."""
    from ros_attn.kernels import decode_triton

    torch.manual_seed(list(CASES).index(name))
    # Few programs, as the interpreter runs one after the other; several splits nevertheless.
    with mock.patch.object(decode_triton, "_multiprocessors", return_value=3):
        return CASES[name]()


def main(to: str) -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    numbers = {}
    for name in CASES:
        try:
            numbers[name] = measure(name)
        except Exception as error:
            numbers[name] = {f"{type(error).__name__}: {error}": math.inf}
    with open(to, "w", encoding="utf-8") as file:
        json.dump(numbers, file)


if __name__ == "__main__":
    main(sys.argv[1])
