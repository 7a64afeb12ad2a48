"""Checkpoints: whole or not at all, never unpickled, and the contract in one message."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros_attn import checkpoint
from ros_attn.checkpoint import Checkpoint, differences, load, save
from ros_attn.errors import CheckpointError

pytest.importorskip("safetensors")

CONTRACT = {
    "rate_hz": 50,
    "joints": {"order": ["FL_hip", "FL_thigh", "FR_hip"], "kp": [20.0, 20.0, 20.0], "default_pose": [0.1, 0.8, -0.1]},
    "observations": [{"name": "gravity", "shape": [3], "unit": "1", "frame": "base"}],
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors = {"layer.weight": rng.random((3, 4), np.float32), "normaliser.mean": rng.random(3)}
    config = {"class": "Walker", "params": {"hidden": 4}, "training": {"data": "own simulation", "terms": "Apache-2.0"}}
    save(Checkpoint(config, tensors, CONTRACT), tmp_path / "walker")
    return tmp_path / "walker"


def test_round_trip(saved: Path) -> None:
    found = load(saved, "Walker", CONTRACT)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(found.tensors["layer.weight"], rng.random((3, 4), np.float32))
    np.testing.assert_array_equal(found.tensors["normaliser.mean"], rng.random(3))
    assert found.config["params"] == {"hidden": 4} and found.config["provenance"]["version"]
    assert sorted(each.name for each in saved.parent.iterdir()) == ["walker"]


def test_all_differences_in_one_message(saved: Path) -> None:
    robot = {
        "rate_hz": 100,
        "joints": {"order": ["FR_hip", "FL_thigh", "FL_hip"], "kp": [20.0, 25.0, 20.0], "default_pose": [0.1, 0.8]},
        "observations": [{"name": "gravity", "shape": [3], "unit": "m/s^2", "frame": "base"}],
        "estop": "/estop",
    }
    with pytest.raises(CheckpointError) as raised:
        load(saved, "Walker", robot)
    text = str(raised.value)
    assert "6 differences" in text
    for part in (
        "rate_hz: 50 in the checkpoint, 100 here",
        "joints.order: the same names in another order, first at 0: FL_hip in the checkpoint, FR_hip here",
        "joints.kp[1]: 20.0 in the checkpoint, 25.0 here",
        "joints.default_pose: 3 entries in the checkpoint, 2 here",
        'observations[0].unit: "1" in the checkpoint, "m/s^2" here',
        'estop: "/estop" here, unknown to the checkpoint',
    ):
        assert part in text


def test_numbers_may_differ_by_rounding_only() -> None:
    assert differences({"kp": 20.0}, {"kp": 20}) == []
    assert differences({"kp": 20.0}, {"kp": 20.000001}) == []
    assert differences({"kp": 20.0}, {"kp": 20.01}) == ["kp: 20.0 in the checkpoint, 20.01 here"]
    assert differences({"names": ["a", "b"]}, {"names": ["a", "c"]}) == ["names: lacking here: b; only here: c"]


@pytest.mark.parametrize("victim", [checkpoint.CONFIG, checkpoint.MODEL, checkpoint.CONTRACT])
def test_missing_and_damaged_parts_are_named(saved: Path, victim: str) -> None:
    whole = (saved / victim).read_bytes()
    (saved / victim).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=f"{victim} is damaged"):
        load(saved, "Walker", CONTRACT)
    (saved / victim).unlink()
    with pytest.raises(CheckpointError, match=f"{victim} missing"):
        load(saved, "Walker", CONTRACT)


class Bomb:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('unpickled')",))


def test_pickles_are_never_opened(saved: Path, tmp_path: Path) -> None:
    for protocol in (2, 4, 5):
        (tmp_path / "model.pt").write_bytes(pickle.dumps(Bomb(), protocol))
        with pytest.raises(CheckpointError, match="pickled or zipped"):
            load(tmp_path / "model.pt", "Walker")
        (saved / checkpoint.MODEL).write_bytes(pickle.dumps(Bomb(), protocol))
        with pytest.raises(CheckpointError, match="pickled in spite of its name"):
            load(saved, "Walker", CONTRACT)


def test_other_class_newer_format_and_absence(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a 'Walker', not a 'Climber'"):
        load(saved, "Climber")
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load(tmp_path / "nowhere", "Walker")
    text = (saved / checkpoint.CONFIG).read_text().replace('"format": 1', '"format": 99')
    (saved / checkpoint.CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match="format 99, newer"):
        load(saved, "Walker")


def test_nothing_is_overwritten_or_half_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(saved, "Walker")
    with pytest.raises(CheckpointError, match="exists already"):
        save(whole, saved)
    with pytest.raises(CheckpointError, match="'layer' is not finite"):
        save(replace(whole, tensors={"layer": np.array([np.nan])}), saved, overwrite=True)
    with pytest.raises(CheckpointError, match="lacks 'training'"):
        save(replace(whole, config={"class": "W", "params": {}}), saved.parent / "other")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(whole, saved.parent / "other")
    assert [each.name for each in saved.parent.iterdir()] == ["walker"]
    assert load(saved, "Walker").contract == CONTRACT
