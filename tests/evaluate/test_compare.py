"""Comparisons: intervals, verdicts, which pictures and runs belong together."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros_attn.cli import main
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.bootstrap import estimate, pooled_estimate
from ros_attn.evaluate.compare import common, evaluate_pair, partners, pooled
from ros_attn.evaluate.evaluation import Plan, difference
from ros_attn.evaluate.recorded_run import RecordedRun, StepLine, read_run
from tests.evaluate.recordings import drive, replayed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives, each through two versions: B fuses a picture whose dark fifth was cut off."""
    folder = tmp_path_factory.mktemp("versions")
    for k in range(3):
        bag = drive(folder / f"drive{k}", 24, counts=True, seed=k)
        replayed(bag, folder / "A" / f"drive{k}")
        replayed(bag, folder / "B" / f"drive{k}", "--agc-low-percent", "30", "--agc-time-s", "0")
    return folder


# ---------------------------------------------------------------- intervals


def test_interval_of_independent_values_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(3).normal(2.0, 0.5, 400)
    found = estimate(values.tolist(), seed=0)
    assert found is not None and found.mean == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.15)
    assert found.low < found.mean < found.high
    assert (found.p5, found.p95) == pytest.approx(tuple(np.percentile(values, (5, 95))))
    assert found == estimate(values.tolist(), seed=0) != estimate(values.tolist(), seed=1)


def test_interval_widens_where_neighbours_are_alike() -> None:
    """Of four frames that are one, only a quarter count: the interval is nearly twice as wide."""
    values = np.random.default_rng(0).normal(0.0, 1.0, 125)
    repeated = np.repeat(values, 4)
    alone = estimate(np.random.default_rng(1).permutation(repeated).tolist(), 0)
    alike = estimate(repeated.tolist(), 0)
    assert alone is not None and alike is not None
    assert 1.5 < (alike.high - alike.low) / (alone.high - alone.low) < 2.1


def test_long_sequences_have_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, 100_003)
    found = estimate(values.tolist(), 0)
    assert found is not None and found.n == 100_003 and found.mean == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(100_003), rel=0.15)


def test_runs_count_alike_and_few_of_them_say_little() -> None:
    rng = np.random.default_rng(0)
    groups = [(level + rng.normal(0, 0.01, count)).tolist() for level, count in ((0.0, 300), (1.0, 10))]
    found = pooled_estimate(groups, 0)
    assert found is not None and found.mean == pytest.approx(0.5, abs=0.01)
    assert found.low == pytest.approx(0.0, abs=0.01) and found.high == pytest.approx(1.0, abs=0.01)
    assert pooled_estimate(groups[:1], 0) == estimate(groups[0], 0)
    assert pooled_estimate([[]], 0) is None and estimate([], 0) is None


@pytest.mark.parametrize(
    ("shift", "better", "verdict"),
    [
        (0.1, "higher", "better"),
        (-0.1, "higher", "worse"),
        (0.1, "lower", "worse"),
        (-0.1, "lower", "better"),
        (0.1, "none", "higher"),
        (-0.1, "none", "lower"),
        (0.0005, "higher", "no difference"),
    ],
)
def test_verdicts(shift: float, better: Any, verdict: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, (2, 50))
    pairs = [(shift + a, b) for a, b in noise.T]
    found = difference(pairs, better, 0)
    assert found is not None and found.verdict == verdict
    assert found.mean == pytest.approx(float(np.mean(noise[0] - noise[1])) + shift)


def test_no_verdict_without_evidence() -> None:
    assert difference([(1.0, 1.0)] * 3, "higher", 0).verdict == "no difference"  # type: ignore[union-attr]
    assert difference([(2.0, 1.0)] * 7, "higher", 0).verdict == "too few to say"  # type: ignore[union-attr]
    assert difference([(2.0, 1.0)] * 8, "higher", 0).verdict == "better"  # type: ignore[union-attr]
    assert difference([], "higher", 0) is None


# ---------------------------------------------------------------- what belongs together


def lines(*stamps: int) -> list[StepLine]:
    return [StepLine("fusion", stamp, stamp, stamp, stamp, 1.0, ("fused",), {}, "") for stamp in stamps]


def test_pictures_are_paired_by_name_where_all_have_one() -> None:
    ours, theirs = lines(10, 20, 30), lines(10, 20, 40)
    names = {10: "b", 20: "c", 30: "a"}, {10: "a", 20: "b", 40: "d"}
    assert common((ours, theirs), (range(3), range(3)), names) == [(0, 1), (2, 0)]


@pytest.mark.parametrize("names", [{}, {10: "a", 20: "a", 30: "b"}, {10: "a", 20: "b"}])
def test_pictures_are_paired_by_stamp_where_names_do_not_tell(names: dict[int, str]) -> None:
    ours, theirs = lines(10, 20, 30), lines(10, 30, 40)
    assert common((ours, theirs), (range(3), range(3)), (names, {10: "x", 30: "y", 40: "z"})) == [(0, 0), (2, 1)]
    assert common((ours, theirs), ([0, 1], range(3)), ({}, {})) == [(0, 0)]


def stand_in(name: str, bag: str) -> RecordedRun:
    return RecordedRun(Path(name), {"bag": bag}, {}, [])


def test_runs_are_paired_by_their_bag() -> None:
    runs = [stand_in("a", "/x/one"), stand_in("b", "/x/two")]
    others = [stand_in("c", "/y/two"), stand_in("d", "/x/one")]
    assert [other and other.name for other in partners(runs, others)] == ["d", "c"]
    assert partners(runs, []) == [None, None]
    assert partners(runs[:1], others[:1]) == others[:1]
    with pytest.raises(RosAttnError, match=r"b is of the bag /x/two, of which none .* is left \(they are of three\)"):
        partners(runs, [others[1], stand_in("e", "/x/three")])
    with pytest.raises(RosAttnError, match=r"No run is of the bag /x/three, as e of --against is"):
        partners(runs, [*others, stand_in("e", "/x/three")])


# ---------------------------------------------------------------- whole runs


def test_run_against_itself_differs_in_nothing(folder: Path) -> None:
    run = read_run(folder / "A" / "drive0")
    comparison = evaluate_pair(run, run, Plan(every=2))
    assert len(comparison.pairs) == 12
    assert all(each.mean == each.low == each.high == 0.0 for each in comparison.metrics.values())
    assert {each.verdict for each in comparison.metrics.values()} == {"no difference"}
    assert comparison.step_ms["infrared_visible_fusion"].mean == 0.0


def test_version_that_cuts_off_is_worse_for_infrared(folder: Path) -> None:
    pairs = [
        evaluate_pair(read_run(folder / "B" / f"drive{k}"), read_run(folder / "A" / f"drive{k}"), Plan(every=2))
        for k in range(3)
    ]
    for each in pairs:
        ours, theirs = zip(*each.values("Q_ir"), strict=True)
        assert each.metrics["Q_ir"].mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    together = pooled(pairs, 0)
    assert together["Q_ir"].mean == pytest.approx(np.mean([each.metrics["Q_ir"].mean for each in pairs]))
    assert together["Q_ir"].n == 36
    assert together["SD"].verdict in ("higher", "lower", "no difference")


def test_only_pictures_that_both_have_are_compared(folder: Path, tmp_path: Path) -> None:
    """At 0.25 s a step and 10 Hz the deployed run skips most pictures; the others are compared one to one."""
    deployed = replayed(folder / "drive0", tmp_path / "run", "--mode", "as-deployed", "--latency", "0.25")
    run = read_run(deployed)
    comparison = evaluate_pair(run, read_run(folder / "A" / "drive0"), Plan(every=1))
    assert len(comparison.pairs) == len(run.lines) == 11
    assert all(ours.stamp_ns == theirs.stamp_ns for ours, theirs in comparison.pairs)
    assert comparison.counters["skipped_backlog"][0] > 10 and comparison.counters["skipped_backlog"][1] == 0


def test_nothing_in_common_is_said(folder: Path, tmp_path: Path) -> None:
    other = replayed(drive(tmp_path / "bag", 6, names=lambda k: f"pair {k}"), tmp_path / "run")
    run = read_run(folder / "A" / "drive0")
    late = dataclasses.replace(run, lines=[dataclasses.replace(each, now_ns=each.now_ns + 17) for each in run.lines])
    with pytest.raises(RosAttnError, match="no picture in common, neither by pair name nor by stamp"):
        evaluate_pair(read_run(other), late, Plan())


def test_many_runs_make_one_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three bags through two versions: a row for each, totals over all, figures in every folder."""
    ours, theirs = ([str(folder / version / f"drive{k}") for k in range(3)] for version in "BA")
    report = tmp_path / "report.html"
    assert main(["evaluate", *ours, "--against", *reversed(theirs), "--every", "2", "--out", str(report)]) == 0
    text = report.read_text()
    assert text.count("<details id=") == 3 and text.count('<a href="#drive') == 3
    assert "All runs together" in text and "3 runs, 72 steps over" in text
    for k in range(3):
        document = json.loads((folder / "B" / f"drive{k}" / "evaluation.json").read_text())
        assert document["against"]["run"] == str(folder / "A" / f"drive{k}")
        assert document["against"]["pairs"] == 12
        assert not (folder / "A" / f"drive{k}" / "evaluation.json").exists()
    assert "Beside A/drive2 on 12 common pictures" in capsys.readouterr().out


def test_default_place_of_a_report_of_many(folder: Path) -> None:
    assert main(["evaluate", *(str(folder / "A" / f"drive{k}") for k in range(2)), "--every", "12"]) == 0
    assert (folder / "A" / "report.html").is_file()
    for k in range(2):
        (folder / "A" / f"drive{k}" / "evaluation.json").unlink()
