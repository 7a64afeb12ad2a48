"""The benches that are given a walker: mistakes are sentences, shipped checkpoints have names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import quadruped_faults, quadruped_paired, quadruped_walk
from tests.bench.quadruped_walk import folder, named_folder


def test_a_checkpoint_of_the_package_goes_by_its_name(tmp_path: Path) -> None:
    assert folder("walk_go2").name == "walk_go2"
    assert (folder("walk_go2") / "model.safetensors").is_file()
    assert folder(str(tmp_path)) == tmp_path
    assert named_folder(f"mine={tmp_path}") == ("mine", tmp_path)


@pytest.mark.parametrize(
    ("bench", "words", "said"),
    [
        (quadruped_walk.main, ["--checkpoint", "walk_go2"], "walk_go2 has no name; give NAME=DIR"),
        (quadruped_walk.main, ["--checkpoint", "mine=walk_go"], "no checkpoint walk_go (did you mean 'walk_go2'?)"),
        (quadruped_paired.main, ["--checkpoint", "walk_go"], "no checkpoint walk_go (did you mean 'walk_go2'?)"),
        (quadruped_faults.main, ["--checkpoint", "walk_go"], "no checkpoint walk_go (did you mean 'walk_go2'?)"),
        (
            quadruped_paired.main, ["--checkpoint", "walk_go2", "--menagerie", "nowhere"],
            "there is no nowhere; give the folder unitree_go2 of MuJoCo Menagerie",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(
    bench: Callable[[list[str]], None], words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench([*words, "--out", str(tmp_path / "results.json")])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
