"""Gates: what they say, what they refuse, and the exit codes a pipeline goes by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ros_attn.cli import main
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.compare import evaluate_pair
from ros_attn.evaluate.evaluation import Evaluation, Plan, evaluate_run
from ros_attn.evaluate.recorded_run import read_run
from ros_attn.evaluate.thresholds import Gate, GateResult, check_gates, read_thresholds
from tests.evaluate.recordings import drive, replayed

SHIPPED = Path(__file__).parents[2] / "launch" / "config" / "thresholds_fusion.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gates")
    return replayed(drive(folder / "bag", 20, lambda k: 8 <= k < 10), folder / "run")


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return evaluate_run(read_run(run), Plan(every=2))


def gates(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("gate", "value", "verdict"),
    [
        (Gate("Q_min", 0.35, None), 0.35, "pass"),
        (Gate("Q_min", 0.35, None), 0.34999, "fail"),
        (Gate("drops", None, 0), 0, "pass"),
        (Gate("drops", None, 0), 1, "fail"),
        (Gate("MI", 1.0, 2.0), 2.5, "fail"),
        (Gate("MI", 1.0, 2.0), None, "fail"),
    ],
)
def test_limits_are_inclusive_and_what_was_not_measured_fails(gate: Gate, value: float | None, verdict: str) -> None:
    assert GateResult(gate, value).verdict == verdict


def test_sentences() -> None:
    assert GateResult(Gate("Q_min", 0.35, None), 0.31021).sentence == "Q_min is 0.3102, wanted is at least 0.35: fail."
    assert GateResult(Gate("MI", 1, 2.5), 2).sentence == "MI is 2, wanted is at least 1 and at most 2.5: pass."
    assert GateResult(Gate("Q_min", 0.35, None), None).sentence == (
        "Q_min was not measured in this run, wanted is at least 0.35: fail."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "thresholds are a mapping"),
        ("- Q_min", "thresholds are a mapping"),
        ("Q_min: [0.3", "cannot be read as thresholds"),
        ("Q_min: 0.35", "Q_min takes limits such as"),
        ("Q_min: {}", "Q_min takes limits such as"),
        ("Q_min: {mim: 0.35}", r"unknown limit 'mim' \(did you mean 'min'\?\)"),
        ("Q_min: {min: high}", "Q_min.min is 'high', but takes a number"),
        ("Q_min: {min: true}", "Q_min.min is True, but takes a number"),
        ("Q_min: {min: .nan}", "Q_min.min is nan, but takes a number"),
        ("Q_min: {min: 0.5, max: 0.4}", "min 0.5 above max 0.4"),
    ],
)
def test_files_are_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(RosAttnError, match=sentence) as caught:
        read_thresholds(gates(tmp_path, text))
    assert "gates.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Q_mni", "Q_min"),
        ("infrared.droped", "infrared.dropped"),
        ("step_p99", "step_ms_p99"),
        ("Q_min.minus_maximum", "Q_min.minus_max"),
    ],
)
def test_unknown_names_come_with_the_nearest(evaluation: Evaluation, name: str, near: str) -> None:
    with pytest.raises(RosAttnError, match=rf"no figure '{name}'; near are .*\b{near}\b"):
        check_gates([Gate(name, 0.0, None)], evaluation, None, Path("gates.yaml"))


def test_every_figure_can_be_a_gate(evaluation: Evaluation) -> None:
    figures = evaluation.figures()
    results = check_gates([Gate(name, value, value) for name, value in figures.items()], evaluation, None, Path())
    assert all(result.passed for result in results)
    known = ("Q_min", "Q_min_p5", "Q_min.minus_max", "flicker", "step_ms_p99", "infrared.missing", "failed", "scored")
    assert set(known) <= figures.keys()
    assert figures["Q_min_p5"] < figures["Q_min"] < figures["Q_min_p95"]


def test_known_figure_that_this_run_lacks_fails(evaluation: Evaluation) -> None:
    (result,) = check_gates([Gate("age_ms_p99", None, 100.0)], evaluation, None, Path())
    assert result.value is None and result.verdict == "fail"


def test_difference_to_another_run(run: Path, evaluation: Evaluation) -> None:
    gate = [Gate("Q_min.minus_against", -0.01, None)]
    with pytest.raises(RosAttnError, match="name that run with --against RUN"):
        check_gates(gate, evaluation, None, Path("gates.yaml"))
    comparison = evaluate_pair(read_run(run), read_run(run), Plan(every=4))
    (result,) = check_gates(gate, comparison.run, comparison, Path("gates.yaml"))
    assert result.value == 0.0 and result.passed


def test_shipped_gates_fit_a_fusion_run(evaluation: Evaluation) -> None:
    results = check_gates(read_thresholds(SHIPPED), evaluation, None, SHIPPED)
    assert all(result.value is not None for result in results)
    assert {"Q_min", "VIF_min", "excess_gradient", "infrared.dropped"} <= {result.gate.name for result in results}


@pytest.mark.parametrize(
    ("text", "code", "failed"),
    [
        ("Q_min: {min: 0.01}\nsteps: {min: 18, max: 20}", 0, 0),
        ("Q_min: {min: 0.01}\nQ_ir: {min: 0.99}\nvisible.dropped: {max: 1}", 2, 2),
        ("age_ms_p99: {max: 100}", 2, 1),
        ("Q_mni: {min: 0.01}", 1, None),
        ("Q_min: 0.01", 1, None),
    ],
)
def test_exit_codes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, failed: int | None
) -> None:
    report, path = tmp_path / "report.html", gates(tmp_path, text)
    assert main(["evaluate", str(run), "--every", "6", "--thresholds", str(path), "--out", str(report)]) == code
    shown = capsys.readouterr()
    if failed is None:
        assert shown.err.startswith("ros-attn evaluate: ") and not report.exists()
        return
    written = json.loads((run / "evaluation.json").read_text())["gates"]
    assert [gate["verdict"] for gate in written].count("fail") == failed
    words = {
        0: "All 2 gates pass.",
        1: "1 of 1 gate fails: age_ms_p99 was not measured",
        2: "2 of 3 gates fail: Q_ir is",
    }
    assert words[failed] in shown.out
    assert report.is_file()
