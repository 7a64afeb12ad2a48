"""The bench of stairs: the policies that it takes, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ros_attn.errors import CheckpointError
from tests.bench import quadruped_stairs as bench


def test_student_and_teacher_of_a_checkpoint_climb_and_rows_are_added(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    common = ["--slopes", "15", "--episodes", "8", "--out", str(out)]
    bench.main(["--teacher", "teacher=stairs_go2", *common])
    bench.main(["--student", "student=stairs_go2", "--depth-noise", "2", *common])
    found = json.loads(out.read_text())["policies"]
    assert {name: (each["kind"], list(each["rows"])) for name, each in found.items()} == {
        "teacher": ("teacher", ["15 deg, noise 1"]), "student": ("student", ["15 deg, noise 2"]),
    }  # fmt: skip
    for policy in found.values():
        (row,) = policy["rows"].values()
        assert row["ends"]["succeeded"] >= 6 and sum(row["ends"].values()) == 8
        assert row["success"][0] == row["ends"]["succeeded"] / 8 and row["treads"] > 9
        # 4.5 m at 0.5 m/s would take 9 s.
        assert 4.0 < row["seconds"] < 15.0


def test_a_walker_has_no_teacher_beside_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no training\.safetensors to go on from"):
        bench.main(["--teacher", "teacher=walk_go2", "--out", str(tmp_path / "results.json")])
