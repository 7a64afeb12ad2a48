"""Checkpoints of the stair climber: the same student comes back, and ONNX acts as it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ros_attn.control.quadruped_stairs import policy as checkpoints
from ros_attn.errors import CheckpointError
from ros_attn.policies.stair_student import StairStudent

JOINTS = [f"joint_{k}" for k in range(12)]
ROBOT: dict[str, Any] = {
    "joints": JOINTS, "default_pose": [0.1] * 12, "position_limits": [[-1.0, 1.0]] * 12, "frames": 2,
    "action_scale": 0.25,
}  # fmt: skip
CONTRACT = checkpoints.contract(ROBOT, {"forward": [0.0, 0.8]}, {"near_m": 0.1, "far_m": 2.0})
OBSERVATION = 2 * 45

pytestmark = pytest.mark.filterwarnings("ignore")


def student(vision: str = "attention", gate: bool = True) -> StairStudent:
    torch.manual_seed(0)
    made = StairStudent(OBSERVATION, 12, vision, gate, hidden=64, head=(32, 16))
    made.mean.normal_()
    made.std.uniform_(0.2, 2.0)
    with torch.no_grad():
        # As large as after training.
        made.layers[-1].weight.mul_(20)  # type: ignore[operator]
    return made.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stairs") / "checkpoint"
    checkpoints.save(student(), path, CONTRACT, {"seed": 0})
    return path


def test_the_same_student_comes_back(saved: Path) -> None:
    read, contract = checkpoints.load(saved)
    expected = student().state_dict()
    assert read.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read.state_dict().items())
    assert read.params == student().params and not read.training
    assert contract == json.loads(json.dumps(CONTRACT))
    assert contract["depth"]["image"] == [48, 64] and contract["depth"]["far_m"] == 2.0


@pytest.mark.parametrize("robots", [1, 4])
def test_onnx_acts_as_the_student_for_an_episode(saved: Path, robots: int) -> None:
    session = onnxruntime.InferenceSession(str(saved / "model.onnx"), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["contract"]) == json.loads(json.dumps(CONTRACT))
    assert [each.name for each in session.get_inputs()] == list(checkpoints.INPUTS)
    made = student()
    at = torch.Generator().manual_seed(1)
    state = made.initial_state(robots)
    theirs = [tensor.numpy() for tensor in state]
    acted = []
    for step in range(50):
        fresh = ((torch.arange(robots)[:, None] + step) % 5 == 0) | torch.tensor(step == 0)
        inputs = (
            torch.randn(robots, OBSERVATION, generator=at), torch.rand(robots, 48, 64, generator=at) - 0.5,
            torch.rand(robots, 6, 8, generator=at) * (step % 9 > 1), fresh.float(),
        )  # fmt: skip
        with torch.inference_mode():
            action, state = made.step(state, *inputs)
        given = [*theirs, *(tensor.numpy() for tensor in inputs)]
        answer, *theirs = session.run(None, dict(zip(checkpoints.INPUTS, given, strict=True)))
        assert np.abs(answer - action.numpy()).max() < 1e-5
        assert all(np.abs(a - b.numpy()).max() < 1e-5 for a, b in zip(theirs, state, strict=True))
        acted.append(answer)
    assert 0.2 < np.std(acted) < 5


def test_a_student_for_comparison_is_saved_too(tmp_path: Path) -> None:
    checkpoints.save(student("blind", gate=False), tmp_path / "made", CONTRACT, {})
    read, _ = checkpoints.load(tmp_path / "made")
    assert read.params["vision"] == "blind" and read.params["gate"] is False


def test_a_network_that_acts_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_difference", lambda *_: float("nan"))
    with pytest.raises(CheckpointError, match="actions differ by nan"):
        checkpoints.save(student("blind"), tmp_path / "made", CONTRACT, {})
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("contract.json", lambda x: x["robot"].update(frames=3), "does not fit its contract .*mean"),
        ("config.json", lambda x: x["params"].update(vision="radar"), "does not know .*radar"),
        ("config.json", lambda x: x["params"].update(ears=2), "does not know .*ears"),
        ("config.json", lambda x: x["params"].update(gate=False), "does not fit its contract .*gate"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(saved: Path, tmp_path: Path, file: str, change: Any, sentence: str) -> None:
    for name in ("config.json", "contract.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    content = json.loads((tmp_path / file).read_text())
    change(content)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=sentence):
        checkpoints.load(tmp_path)
