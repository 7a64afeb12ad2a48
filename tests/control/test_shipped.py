from __future__ import annotations

from pathlib import Path

import pytest

from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.control.shipped import checkpoint_folder, shipped
from ros_attn.errors import CheckpointError
from ros_attn.sim.go2_like import GO2_LIKE


@pytest.mark.parametrize("name", ["walk_go2", "stairs_go2"])
def test_policies_come_with_the_package(name: str) -> None:
    folder = checkpoint_folder(name)
    assert folder == shipped()[name]
    assert JointContract.read(folder).joints == GO2_LIKE.joints
    assert (folder / "README.md").is_file()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6


def test_a_directory_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("walk_go2").mkdir()
    assert checkpoint_folder("walk_go2").resolve() == tmp_path / "walk_go2"


def test_a_typo_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint walk_go3.*walk_go2.*one of the package"):
        checkpoint_folder("walk_go3")
    (tmp_path / "mine").mkdir()
    with pytest.raises(CheckpointError, match=r"did you mean .?mine"):
        checkpoint_folder(str(tmp_path / "mime"))
