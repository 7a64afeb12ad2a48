"""The table of block sizes, the gate that compiles it, and planted kernels that the gate must refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.configurations import OPERATIONS, Row, configuration, table
from tests.kernels import sass
from tests.kernels.compile_gate import Finding, line, problems, read

ROOT = Path(__file__).parents[2]
OTHER = Path(sys.prefix) / "triton-3.6"
QUICK = ("16-bit", "sm_90")
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def tritons() -> list[object]:
    missing = f"there is no Triton 3.6 at {OTHER}: set-up found no wheel of it"
    return [
        pytest.param(None, id="installed"),
        pytest.param(OTHER, id="3.6", marks=pytest.mark.skipif(not OTHER.is_dir(), reason=missing)),
    ]


@needs_triton
@pytest.mark.parametrize("other", tritons())
def test_rows_for_hopper_compile_to_what_they_are_meant_to_be(other: Path | None, tmp_path: Path) -> None:
    judge([row for row in table() if (row.dtype, row.arch) == QUICK], tmp_path, other)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("other", tritons())
def test_all_other_rows_compile_to_what_they_are_meant_to_be(other: Path | None, tmp_path: Path) -> None:
    judge([row for row in table() if (row.dtype, row.arch) != QUICK], tmp_path, other)


def judge(rows: list[Row], folder: Path, other: Path | None) -> None:
    found = run(rows, folder, other)
    assert len(found) == len(rows) > 0
    bad = [line(each) for each in found if each.problems]
    assert not bad, "\n" + "\n".join(bad)


def run(rows: list[Row], folder: Path, other: Path | None = None) -> list[Finding]:
    """The gate as a program of its own: it replaces Triton's driver, and pytest's path is not that of its processes."""
    of, to = folder / "table.json", folder / "found.json"
    of.write_text(json.dumps({"rows": [asdict(row) for row in rows]}))
    command = [sys.executable, "-m", "tests.kernels.compile_gate", "--table", str(of), "--out", str(to)]
    command += ["--triton", str(other)] if other else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert to.exists(), done.stderr
    found = [Finding(**each | {"row": Row(**each["row"])}) for each in json.loads(to.read_text())]
    assert done.returncode == int(any(each.problems for each in found)), done.stderr
    return found


def planted(tile_q: int, tile_k: int, warps: int, stages: int, *, head_dim: int = 128, op: str = "decode") -> Row:
    return Row(op, "softmax", head_dim, "16-bit", "sm_90", tile_q, tile_k, warps, stages, "planted")


@needs_triton
def test_planted_kernels_are_refused(tmp_path: Path) -> None:
    wrong = {
        "spills": (planted(64, 64, 2, 3), "bytes of stack"),
        "has too few warps for HGMMA": (planted(64, 64, 2, 3), "HMMA and no HGMMA"),
        "does not copy ahead": (planted(16, 64, 4, 1), "no asynchronous copy in the loop"),
        "repeats its products in several warps": (planted(16, 32, 8, 3, head_dim=256), "% of the tiles"),
        "takes too much shared memory": (planted(16, 64, 4, 9), "bytes of shared memory"),
    }
    found = {each.row: each for each in run([*{row for row, _ in wrong.values()}], tmp_path)}
    for what, (row, words) in wrong.items():
        assert any(words in problem for problem in found[row].problems), f"a kernel that {what} passed: {found[row]}"


GOOD = Finding("3.9.0", planted(64, 64, 8, 3), "split_kernel", 200, 0, 100_000, "HGMMA", 8, 1.0, 1.1, 3.0)


def test_a_good_finding_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    "row, finding, words",
    [
        ({}, {"stack": 8}, "8 bytes of stack"),
        ({}, {"shared": 227 * 1024 + 1}, "bytes of shared memory"),
        ({"arch": "sm_80"}, {"matrix": "HMMA", "shared": 99 * 1024 + 1}, "bytes of shared memory"),
        ({}, {"matrix": "HMMA"}, "no HGMMA"),
        ({"tile_q": 16}, {"matrix": "FFMA"}, "no matrix instruction"),
        ({}, {"matrix": ""}, "no loop that multiplies"),
        ({}, {"copies": 0, "copied": 0.0}, "no asynchronous copy"),
        ({"dtype": "fp32"}, {"matrix": "FFMA", "copies": 0, "copied": 0.0}, "no asynchronous copy"),
        ({}, {"copied": 0.5}, "only 50% of the tiles"),
        ({"normaliser": "sigmoid"}, {"mufu": 1.25}, "1.25 MUFU a score"),
    ],
)
def test_each_bound_of_the_gate(row: dict[str, str], finding: dict[str, float], words: str) -> None:
    wrong = problems(replace(GOOD, row=replace(GOOD.row, **row), **finding))
    assert len(wrong) == 1 and words in wrong[0]


@pytest.mark.parametrize(
    "row, finding",
    [
        ({"head_dim": 256}, {"stack": 64}),  # wide heads may spill
        ({"tile_q": 16}, {"matrix": "HMMA"}),  # a tile of 16 rows is none for HGMMA
        ({"arch": "sm_80"}, {"matrix": "HMMA", "shared": 99 * 1024}),
        ({"dtype": "fp32"}, {"matrix": "FFMA", "mufu": 2.0}),
        ({"normaliser": "sigmoid"}, {"mufu": 1.0}),
    ],
)
def test_what_the_gate_allows(row: dict[str, str], finding: dict[str, float]) -> None:
    assert problems(replace(GOOD, row=replace(GOOD.row, **row), **finding)) == []


LISTING = """
	.section	.text.other_kernel,"ax",@progbits
        /*0000*/                   EXIT ;
	.section	.text.split_kernel,"ax",@progbits
split_kernel:
.text.split_kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   LDGSTS.E.BYPASS.128 [R45], desc[UR20][R28.64], P1 ;
        /*0020*/              @!P0 BRA `(.L_x_9) ;
.L_x_1:
        /*0030*/                   MUFU.EX2 R1, R1 ;
.L_x_2:
        /*0040*/                   HGMMA.64x32x16.F32.BF16 R56, gdesc[UR8], RZ, !UPT ;
        /*0050*/                   LDGSTS.E.BYPASS.128 [R45], desc[UR20][R28.64], P1 ;
        /*0060*/                   LDGSTS.E.64 [R45], desc[UR20][R28.64], P1 ;
        /*0070*/               @P1 BRA `(.L_x_3) ;
        /*0080*/                   MUFU.EX2 R2, R2 ;
        /*0090*/                   BRA `(.L_x_4) ;
.L_x_3:
        /*00a0*/                   LDGSTS.E [R45], desc[UR20][R28.64], P1 ;
.L_x_4:
        /*00b0*/               @P2 BRA `(.L_x_2) ;
        /*00c0*/              @!P3 EXIT ;
        /*00d0*/               @P0 BRA `(.L_x_1) ;
.L_x_9:
        /*00e0*/                   MUFU.RCP R3, R3 ;
        /*00f0*/                   EXIT ;
.L_x_7:
        /*0100*/                   BRA `(.L_x_7);
"""


def test_loops_are_found_in_a_listing() -> None:
    found = sorted(sass.loops(LISTING), key=len)
    inner = ["HGMMA", "LDGSTS", "LDGSTS", "BRA", "MUFU", "BRA", "LDGSTS", "BRA"]
    # The branch to itself behind the end is reached by nobody.
    assert [[each.name for each in body] for body in found] == [inner, ["MUFU", *inner, "EXIT", "BRA"]]
    [body] = sass.innermost(found, "HGMMA", "HMMA")
    assert [each.name for each in body] == inner
    assert sass.innermost(found, "HMMA") == []
    assert sass.copied_bytes(body) == 16  # copies of 8 and 4 bytes are of vectors, or of tiles gone wrong
    assert sass.products(body, warps=8) == 2 * 64 * 32 * 16


def test_what_the_gate_reads_is_of_the_loop_alone() -> None:
    row = planted(64, 32, 4, 3, head_dim=16)
    numbers = read(row, LISTING)
    # 64x32x16 products are half a step of 64x32 scores at head dim 16; operands are two tiles of 32x16 16-bit numbers.
    scores, operands = 64 * 32 / 2, 2 * 32 * 16 * 2 / 2
    assert numbers["matrix"] == "HGMMA" and numbers["copies"] == 3
    assert numbers["copied"] == pytest.approx(16 * 128 / operands)
    assert numbers["mufu"] == pytest.approx(128 / scores)


def test_a_listing_without_a_loop_has_nothing() -> None:
    straight = LISTING.replace("(.L_x_2)", "(.L_x_9)").replace("(.L_x_1)", "(.L_x_9)")
    numbers = read(planted(64, 32, 4, 3), straight)
    assert numbers == {"matrix": "", "copies": 0, "copied": 0.0, "mufu": 0.0}
    assert "no loop that multiplies" in problems(replace(GOOD, **numbers))[0]


def test_the_table_has_every_kernel_once_for_each_size() -> None:
    keys = [(row.op, row.normaliser, row.head_dim, row.dtype, row.arch, row.tile_q) for row in table()]
    assert len(set(keys)) == len(keys)
    for op in OPERATIONS:
        for normaliser in ("softmax", "sigmoid"):
            for arch in ("sm_80", "sm_90"):
                for dtype in (torch.float32, torch.float16, torch.bfloat16):
                    for head_dim in (8, 64, 72, 128, 200, 256):
                        sizes = configuration(op, normaliser, head_dim, dtype, arch)
                        assert sizes.tile_q >= 16 and sizes.tile_k >= 16
                        assert sizes.source


def test_the_nearest_head_dim_that_holds_it_counts() -> None:
    rows = {row.head_dim: row for row in table() if (row.op, row.normaliser, row.dtype, row.arch, row.tile_q) ==
            ("decode", "softmax", "16-bit", "sm_90", 64)}  # fmt: skip
    for head_dim, of in ((8, 64), (64, 64), (72, 128), (128, 128), (136, 256), (256, 256)):
        sizes = configuration("decode", "softmax", head_dim, torch.bfloat16, "sm_90", rows=40)
        row = rows[of]
        assert (sizes.tile_q, sizes.tile_k, sizes.warps, sizes.stages) == (64, row.tile_k, row.warps, row.stages)


def test_rows_choose_the_smallest_tile_that_holds_them() -> None:
    tiles = [
        configuration("decode", "softmax", 128, torch.bfloat16, "sm_90", rows=rows).tile_q for rows in (1, 16, 17, 999)
    ]
    assert tiles == [16, 16, 64, 64]


def test_an_architecture_without_rows_takes_anothers_and_says_so() -> None:
    for arch, of in (("sm_100", "sm_90"), ("sm_103", "sm_90"), ("sm_110", "sm_90"), ("sm_86", "sm_80"),
                     ("sm_87", "sm_80"), ("sm_120", "sm_80")):  # fmt: skip
        own, borrowed = (configuration("forward", "softmax", 128, torch.float16, each) for each in (of, arch))
        assert borrowed == own
        assert borrowed.source == f"the row of {of}, as there is none for {arch}; {own.source}"
        assert "as there is none" not in own.source


@pytest.mark.parametrize(
    "call, error, words",
    [
        (("forward", "softmax", 264, torch.float16, "sm_90"), BackendError, "for forward with softmax, head dim 264"),
        (("forward", "softmax", 64, torch.float16, "sm_75"), BackendError, "16-bit on sm_75"),
        (("forward", "softmax", 64, torch.float64, "sm_90"), BackendError, "fp64 on sm_90"),
        (("forwards", "softmax", 64, torch.float16, "sm_90"), ValueError, "did you mean 'forward'"),
    ],
)  # fmt: skip
def test_what_has_no_row_is_told(call: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        configuration(*call)
