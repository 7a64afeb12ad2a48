"""The bench of stairs: the policies that it takes, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import quadruped_stairs as bench


def test_student_and_teacher_of_a_checkpoint_climb_and_rows_are_added(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    common = ["--slopes", "15", "--episodes", "8", "--out", str(out)]
    bench.main(["--teacher", "teacher=stairs_go2", *common])
    bench.main(["--student", "student=stairs_go2", "--depth-noise", "2", "--widths", "0.9", *common])
    found = json.loads(out.read_text())["policies"]
    assert {name: (each["kind"], list(each["rows"])) for name, each in found.items()} == {
        "teacher": ("teacher", ["15 deg, noise 1, width 1 m"]),
        "student": ("student", ["15 deg, noise 2, width 0.9 m"]),
    }  # fmt: skip
    for policy in found.values():
        (row,) = policy["rows"].values()
        assert row["ends"]["succeeded"] >= 6 and sum(row["ends"].values()) == 8
        assert row["success"][0] == row["ends"]["succeeded"] / 8 and row["treads"] > 9
        # 4.5 m at 0.5 m/s would take 9 s.
        assert 4.0 < row["seconds"] < 15.0


@pytest.mark.parametrize("words, sentence", [
    (["--teacher", "teacher=walk_go2"], "has no training.safetensors to go on from"),
    (["--student", "mine=stairs_go3"], "There is no checkpoint stairs_go3 (did you mean 'stairs_go2'?)"),
    (["--student", "stairs_go2"], "--student stairs_go2 has no name; give NAME=DIR"),
    (["--student", "mine=stairs_go2", "--slopes", "12"], "stairs of 12.0 degrees are not defined"),
    (["--student", "mine=stairs_go2", "--widths", "-1"], "stairs cannot be -1.0 m wide; give a width above 0"),
])  # fmt: skip
def test_mistakes_are_said_in_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.main([*words, "--out", str(tmp_path / "results.json")])
    assert sentence in capsys.readouterr().err and not (tmp_path / "results.json").exists()
