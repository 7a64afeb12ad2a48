"""The rows of the benchmarks on small sizes without a GPU, and the checks that the GPU tests are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ros_attn.kernels import configurations
from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench import contest, decoding, dense, gpu, peers, structure, tuning
from ros_attn.kernels.bench.accuracy import Sample, bit_equal
from ros_attn.kernels.bench.contest import OURS
from ros_attn.kernels.bench.machine import HostTimer, Machine
from ros_attn.kernels.bench.patterns import causal, memory_wam, tactile_wam
from ros_attn.kernels.bench.rows import Row
from ros_attn.kernels.layout import ALL
from ros_attn.kernels.visibility import Visibility
from tests.gpu import checks, run
from tests.kernels.bench_context import Stopwatch, context

ROOT = Path(__file__).parents[2]
HERE = checks.Place("cpu", "grouped", "grouped")


@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_sample_is_the_specification(normaliser: str, way: str) -> None:
    """Outputs and gradients of q, of ragged samples under a visibility with grouped heads, by attend_reference."""
    torch.manual_seed(0)
    kinds = (("a", 180), ("b", 120))
    frame = torch.randint(-1, 5, (2, 300), dtype=torch.int32)
    seen = Visibility(kinds, kinds, {("a", "a"): (1, 3, 1), ("b", "a"): ALL, ("b", "b"): (0, 2, 0)}, frame, frame)
    q, k, v = (torch.randn(2, 300, heads, 8) for heads in (4, 2, 2))
    d_out, lengths = torch.randn(2, 300, 4, 8), torch.tensor([300, 170])
    backward = way == "backward"
    sample = Sample(q, k, v, normaliser=normaliser, visibility=seen, lengths=lengths, d_out=d_out if backward else None)
    x = q.double().requires_grad_()
    exact = attend(
        x, k.double(), v.double(), visibility=seen, normaliser=normaliser, len_q=lengths, len_k=lengths,
        backend="reference",
    )  # fmt: skip
    if backward:
        [exact] = torch.autograd.grad(exact, x, d_out.double())
    assert sample.error(exact) < 1e-14
    assert 1e-9 < sample.plain_error < 1e-5
    assert sample.error(exact * 1.01) == pytest.approx(0.01, rel=1e-6)


def test_bits_are_compared() -> None:
    values = iter([1.0, 1.0, 1.0, 1.0, 1.0, 1.0 + 2**-23])
    assert bit_equal(lambda: [torch.tensor(next(values))])
    assert not bit_equal(lambda: [torch.tensor(next(values))])


def test_causal_is_half_of_the_pairs() -> None:
    """A pattern whose share is known by heart, through what the rows use."""
    where = context()
    visible, computed = structure.shares(where.machine, causal(256).visibility, 64)
    assert visible == pytest.approx(257 / 512)
    assert visible < computed < 0.75


# -- the contests that a GPU runs, on little ----------------------------------------------------------------

SMALL = dense.Sizes(tokens=120, channels=32, dims=(16,), lengths=(60, 120))


def test_dense_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = dense.tasks(context(), SMALL)
    assert len({each.key for each in tasks}) == len(tasks) == 10
    found = {each.key: each.run() for each in tasks if each.parameters["L"] == 60}
    softmax, sigmoid = found["c/softmax forward D=16 L=60 B=2 H=2"], found["c/sigmoid forward D=16 L=60 B=2 H=2"]
    flops = 4 * 2 * 2 * 60 * 60 * 16
    for name, each in found.items():
        factor = 2.5 if "backward" in name else 1.0
        rate = factor * flops / each["times"]["ours"]["median_ms"] / 1e9
        assert each["figures"]["TFLOP/s"] == pytest.approx(rate)
        assert each["errors"]["ours"] < 3e-6
    assert softmax["errors"]["FlexAttention"] < 3e-6
    assert "triton-sigmoid" in sigmoid["absent"]
    assert not any(each.environment for each in tasks)
    monkeypatch.setattr(dense, "find_spec", lambda _: "there")
    accurate = [each for each in dense.tasks(context(), SMALL) if "accurate" in each.name]
    assert len(accurate) == 2 and all(dict(each.environment) == peers.ACCURATE for each in accurate)


def test_bars_of_the_dense_rows() -> None:
    rates = {"sigmoid forward": (450, 400), "sigmoid backward": (320, 280), "softmax forward": (400, 340),
             "softmax backward": (270, 240)}  # fmt: skip
    for each in dense.tasks(context(), dense.Sizes()):
        bars = set(map(str, each.bars))
        short = each.parameters["L"] == 8192
        if each.name == "sigmoid forward, accurate mode":
            assert bars == {"speed-up over triton-sigmoid accurate >= 1.15"}
            continue
        expected = {f"TFLOP/s >= {rates[each.name][each.parameters['D'] == 64]}"}
        if each.name == "sigmoid forward":
            expected |= {"speed-up over triton-sigmoid >= 1", "error / PyTorch's <= 2"}
        if each.name == "sigmoid backward" and short:
            expected |= {"speed-up over triton-sigmoid >= 0.95"}
        assert bars == expected, each.key


def test_ragged_rows_count_visible_pairs() -> None:
    where = context(Stopwatch(3.0, 4.0, 5.0, 6.0))
    others = (structure.ONE_BY_ONE, f"{dense.FLEX}, blocks of 128")
    found = contest.measured(where, structure.ragged(where, "softmax", (4, 50, 2, 16), others))
    ends = (torch.randint(1, 51, (4,), generator=torch.Generator().manual_seed(0))).tolist()
    share = sum(end * end for end in ends) / (4 * 50 * 50)
    assert found["figures"]["visible share"] == pytest.approx(share)
    assert found["figures"]["time / (visible share x own dense)"] == pytest.approx(3.0 / (share * 4.0))
    assert found["figures"]["TFLOP/s"] == pytest.approx(4 * 2 * 16 * sum(end * end for end in ends) / 3.0 / 1e9)
    assert max(found["errors"].values()) < 3e-6 and set(found["errors"]) == {"ours", "PyTorch", *others}


@pytest.mark.parametrize("made", [tactile_wam(256), memory_wam(4)], ids=["Tactile-WAM", "MemoryWAM"])
def test_pattern_rows(made: Any) -> None:
    where = context(Stopwatch(3.0, 4.0, 5.0, 6.0, 7.0, 8.0), green=True)
    found = contest.measured(where, structure.pattern(where, made, 2, 16))
    figures, mask = found["figures"], made.visibility.mask()[0]
    assert figures["visible share"] == pytest.approx(float(mask.double().mean()))
    assert figures["visible / computed pairs"] == pytest.approx(figures["visible share"] / figures["computed share"])
    assert figures["(time - 20 us) / (computed share x own dense)"] == pytest.approx(
        2.98 / (figures["computed share"] * 4.0)
    )
    assert figures["TFLOP/s"] == pytest.approx(4 * 2 * 16 * float(mask.sum()) / 3.0 / 1e9)
    assert figures["speed-up over FlexAttention"] == pytest.approx(5 / 3)
    assert figures["speed-up over masked SDPA"] == pytest.approx(8 / 3)
    assert max(found["errors"].values()) < 3e-6 and len(found["errors"]) == 6


def test_the_learned_bias_row_checks_the_bits() -> None:
    where = context(HostTimer(2))
    found = contest.measured(where, structure.biased(where, memory_wam(2), 2, 16))
    assert found["figures"]["gradients differ between runs"] == 0.0
    # On the CPU FlexAttention has no backward.
    assert set(found["absent"]) == set(structure.FLEX_BLOCKS)


@pytest.mark.parametrize("name", ["interleaved kinds", "MemoryWAM"])
def test_token_order_rows_return_tokens_as_they_came(name: str) -> None:
    where = context(HostTimer(2))
    made = structure.ordered(where, name, 384, 2, 16)
    calls: Any = [made.makers[each]() for each in (OURS, structure.PRODUCED, structure.SORTED)]
    ours, produced, sorted_ = (call() for call in calls)
    torch.testing.assert_close(ours, produced, rtol=0, atol=3e-6)
    if name == "interleaved kinds":
        turn = torch.arange(384) % 4
        q, k, v = contest.normal(where.machine, 1, 384, 2, 16)
        by_hand = peers.sdpa(q, k, v, mask=(turn[:, None] == turn)[None, None]).forward()
        torch.testing.assert_close(ours, by_hand, rtol=0, atol=3e-6)
    assert not torch.allclose(ours, sorted_, atol=1e-2)
    torch.testing.assert_close(ours.sum(1), sorted_.sum(1), rtol=1e-4, atol=1e-4)
    figures = contest.measured(where, made)["figures"]
    assert {f"time / {structure.PRODUCED}", f"time / {structure.SORTED}"} <= set(figures)


@pytest.mark.parametrize("step", [decoding.Step(1, 256), decoding.Step(3, 512, 0.5, 2)], ids=["one", "window"])
@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
def test_decode_rows(step: decoding.Step, normaliser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = 2 * round(step.keys * step.window) * 2 * 16 * 4
    monkeypatch.setattr(Machine, "l2_bytes", 2 * moved)
    others = 0 if normaliser == "sigmoid" else 3
    where = context(Stopwatch(*[5.0] * (1 + others)), copy_tb_s=4.0)
    made = decoding.contest(where, step, 2, 16, normaliser)
    buffers: Any = made.makers[OURS]()
    found = contest.measured(where, made)
    # Two and a half times the L2, in buffers of half of it; 5 ms for 5 calls.
    assert made.bytes == moved and len(buffers) == 5
    assert found["figures"]["us"] == pytest.approx(1000.0)
    assert found["figures"]["us beyond K+V at 2.5 TB/s"] == pytest.approx(1000 - moved / 2.5e6)
    assert found["figures"]["share of the copy bandwidth"] == pytest.approx(moved / 1e9 / 4.0)
    assert max(found["errors"].values()) < 3e-6 and len(found["errors"]) == 2 + others


def test_grouped_heads_become_queries_of_sdpa() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 5, heads, 8) for heads in (6, 2, 2))
    seen = torch.rand(1, 1, 5, 5) < 0.7
    seen[..., 0] = True
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=seen, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(peers.sdpa(q, k, v, mask=seen).forward(), expected)


def test_bars_of_decode_follow_the_bytes() -> None:
    tasks = decoding.tasks(context(), decoding.Sizes())
    for each in tasks:
        large = int(each.parameters["Lk"]) * float(each.parameters["visible"]) * 4096 >= 128e6
        assert str(each.bars[0]) == ("share of the copy bandwidth >= 0.6" if large else
                                     "us beyond K+V at 2.5 TB/s <= 12")  # fmt: skip
        assert 1 <= int(each.parameters["Lq"]) <= 32
    assert {"speed-up over masked SDPA >= 2", "speed-up over FlexAttention >= 1"} <= set(map(str, tasks[0].bars))


def test_every_row_of_section_c_has_a_name_of_its_own_and_parts() -> None:
    tasks = gpu.tasks("c", context())
    assert len({each.key for each in tasks}) == len(tasks) > 50
    assert all(OURS in each.parts and each.once for each in tasks if each.parts)


# -- block sizes --------------------------------------------------------------------------------------------


def of_the_table(op: str, **wanted: Any) -> configurations.Row:
    wanted = {"op": op, "normaliser": "softmax", "head_dim": 64, "dtype": "16-bit", "arch": "sm_90"} | wanted
    return next(each for each in configurations.table() if all(getattr(each, k) == v for k, v in wanted.items()))


def test_a_row_in_another_ones_place() -> None:
    row = of_the_table("forward")
    other = replace(row, tile_k=16, warps=2)

    def sizes() -> tuple[int, int]:
        found = configurations.configuration("forward", "softmax", 64, torch.bfloat16, "sm_90")
        return found.tile_k, found.warps

    before = sizes()
    with tuning.tabled(other):
        assert sizes() == (16, 2)
        assert configurations.configuration("dq", "softmax", 64, torch.bfloat16, "sm_90").tile_k != 16
    assert sizes() == before
    few = configurations.configuration("decode", "softmax", 64, torch.bfloat16, "sm_90", rows=1)
    with tuning.tabled(replace(of_the_table("decode", tile_q=64), warps=1)):
        assert configurations.configuration("decode", "softmax", 64, torch.bfloat16, "sm_90", rows=1) == few
        assert configurations.configuration("decode", "softmax", 64, torch.bfloat16, "sm_90", rows=64).warps == 1
    with pytest.raises(RuntimeError), tuning.tabled(other):
        raise RuntimeError
    assert sizes() == before


def test_candidates_are_at_most_eight_and_keep_the_tile_of_decode() -> None:
    assert all(len(each) <= 8 for by_dim in tuning.CANDIDATES.values() for each in by_dim.values())
    for row in configurations.table():
        if row.dtype == "16-bit" and row.arch == "sm_90":
            found = list(tuning.candidates(row))
            assert found[0] == row and len(set(found)) == len(found) > 3
            assert row.op != "decode" or {each.tile_q for each in found} == {row.tile_q}
            assert all(tuning.same_place(each, row) for each in found)


def test_candidates_are_compared_on_every_shape() -> None:
    shapes = tuning.Shapes(channels=128, dense=((1, 64), (2, 32)), pattern=256, few=(), many=())
    for op in ("forward", "dkv"):
        row = of_the_table(op)
        found = tuning.compared(context(HostTimer(2)), shapes, row, replace(row, warps=2))
        assert len(found["ms"]) == len(found["row_ms"]) == 3 and found["candidate"]["warps"] == 2
        assert found["figures"]["time / row's, worst"] == pytest.approx(
            max(a / b for a, b in zip(found["ms"], found["row_ms"], strict=True))
        )


def test_a_graph_of_several_calls_is_timed_per_call_a_backward_alone() -> None:
    ran = []
    calls: Any = [lambda n=n: ran.append((n, sizes())) for n in range(4)]
    decode, dkv = of_the_table("decode"), of_the_table("dkv")

    def sizes() -> int:
        return configurations.configuration("decode", "softmax", 64, torch.bfloat16, "sm_90", rows=1).stages

    rows = (decode, replace(decode, stages=9))
    assert tuning._timed(context(Stopwatch(8.0, 4.0)), calls, rows) == [2.0, 1.0]
    assert ran == [(n, row.stages) for row in rows for n in range(4)]
    assert tuning._timed(context(Stopwatch(8.0)), calls[:1], (dkv,)) == [8.0]


def test_a_candidate_with_another_output_is_an_error() -> None:
    right = (torch.ones(4), torch.zeros(3))
    tuning._check(right, (torch.ones(4) + 0.01, torch.zeros(3)))
    for wrong in (torch.ones(4) + 0.05, torch.full((4,), torch.nan)):
        with pytest.raises(ArithmeticError, match="differs"):
            tuning._check(right, (wrong, torch.zeros(3)))


def test_the_table_takes_what_is_faster_everywhere() -> None:
    row, decode = of_the_table("forward"), of_the_table("decode", tile_q=64)

    def found(of: configurations.Row, mean: float, worst: float, **sizes: int) -> Row:
        candidate = replace(of, **sizes)
        return {
            "candidate": vars(candidate), "parameters": {"for": of.tile_q},
            "figures": {"time / row's, geometric mean": mean, "time / row's, worst": worst},
            "origin": {"date": "2026-12-01T00:00:00Z", "commit": "abc", "code": "def", "device": "a GPU"},
        }  # fmt: skip

    rows = [
        found(row, 1.0, 1.0), found(row, 0.90, 0.95, warps=1), found(row, 0.80, 1.20, warps=2),
        found(row, 0.95, 1.00, stages=9), found(decode, 1.0, 1.0), found(decode, 0.995, 0.999, stages=9),
        {"error": "it spilled", "candidate": vars(row), "parameters": {"for": row.tile_q}},
    ]  # fmt: skip
    table, lines = tuning.proposed(rows)
    assert len(table) == len(configurations.table())
    changed = [new for new, old in zip(table, configurations.table(), strict=True) if new != old]
    assert changed == [
        replace(row, warps=1, source="measured 2026-12-01, commit abc, a GPU"),
        replace(decode, source="measured 2026-12-01, commit abc, a GPU"),
    ]
    assert len(lines) == 2 and "0.900 of the time" in lines[0] and "stays" in lines[1]
    assert tuning.written(configurations.table()) == (ROOT / "kernels" / "configurations.json").read_text()


# -- the checks that a GPU runs, and their runner -----------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_gpu_checks_pass_where_attend_is_right(seed: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        checks.structured(seed, dtype, HERE)
        checks.decoded_case(seed, dtype, HERE)


def test_the_other_gpu_checks() -> None:
    for normaliser in ("softmax", "sigmoid"):
        checks.length_of(1, 128, normaliser, torch.float32, HERE)
        checks.length_of(63, 16, normaliser, torch.bfloat16, HERE)
        checks.closed_kinds(normaliser, HERE)
        checks.stream(normaliser, torch.float32, HERE)
        checks.long(normaliser, torch.float32, HERE, keys=500, queries=100)
        checks.bits(checks.causal_case(63, 16, normaliser, torch.float32, "cpu"), torch.float32, HERE)
        with checks.poisoned():
            checks.decoded(3, 100, 16, normaliser, torch.float32, HERE)
    checks.frames_in_place(HERE)


def test_what_cancels_is_allowed_the_rounding_of_its_terms() -> None:
    """Over one visible key softmax passes back nothing but dLSE, however large dO v is: tf32 still shows."""
    case = checks.causal_case(1, 64, "softmax", torch.float32, "cpu")
    before = checks.uncancelled(case)
    dp = (case.d_out * case.v).sum(-1).abs().max()
    assert before["d_bias"] == pytest.approx(float(dp))
    assert before["dq"] == pytest.approx(float(dp * case.k.abs().max() / 8))
    exact = checks.answer(case, attend, backend="reference")
    at = checks.names(case).index("dq")
    for off, passes in ((1e-6, True), (5e-4, False)):
        ours = list(exact)
        ours[at] = exact[at] + off * before["dq"]
        if passes:
            checks.hold(checks.names(case), exact, exact, tuple(ours), torch.float32, case)
            continue
        with pytest.raises(AssertionError, match="dq is off by"):
            checks.hold(checks.names(case), exact, exact, tuple(ours), torch.float32, case)


@pytest.mark.parametrize("wrong", ["scaled", "late frames", "unwritten", "gradient"])
def test_the_gpu_checks_see_a_mistake(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
        if options.get("backend") == "reference":
            return attend(q, k, v, **options)
        seen = options["visibility"]
        if wrong == "scaled":
            options["scale"] *= 1.02
        if wrong == "late frames":
            options["visibility"] = replace(seen, frame_k=seen.frame_k + 1)
        if wrong == "gradient":
            k = k.detach() + 0.98 * (k - k.detach())
        out, *lse = found if isinstance(found := attend(q, k, v, **options), tuple) else (found,)
        if wrong == "unwritten":
            out = torch.where(torch.arange(out.shape[1])[:, None, None] == 3, torch.nan, out)
        return (out, *lse) if lse else out

    monkeypatch.setattr(checks, "attend", mistaken)
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(AssertionError, match="is off by"):
            checks.length_of(100, 16, "softmax", dtype, HERE)


def test_the_runner_knows_every_case_and_keeps_its_word() -> None:
    known = run.tests()
    assert "test_attend_gpu::test_lengths[256-bfloat16-softmax]" in known
    assert "test_attend_gpu::test_random_structure[0-bfloat16]" in known
    assert "test_attend_gpu::test_frames_that_change_in_place_without_a_synchronisation" in known
    assert "test_maps_gpu::test_against_the_formula[channel-float16]" in known

    def failing() -> None:
        raise AssertionError("dq is off by 3\nand more")

    def skipping() -> None:
        pytest.skip("no such GPU")

    assert run.outcome("x", lambda: None)["outcome"] == "passed"
    failed, skipped = run.outcome("x", failing), run.outcome("x", skipping)
    assert failed["outcome"] == "failed" and failed["why"].startswith(
        "AssertionError: dq is off by 3 ... and more (test_bench_rows.py:"
    )
    assert "in failing" in failed["traceback"]
    assert skipped["outcome"] == "skipped" and skipped["why"] == "no such GPU"
