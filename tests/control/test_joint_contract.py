"""The robot's contract as the safety gate reads it: what is malformed is refused before anything moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros_attn.control.safety_gate.component import SafetyGate, SafetyGateParams
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.errors import CheckpointError, ParameterError

ROBOT = {
    "joints": ["FL_hip_joint", "FL_thigh_joint", "FL_calf_joint"],
    "default_pose": [0.0, 0.9, -1.8],
    "position_limits": [[-1.0, 1.2], [-0.5, 2.0], [-2.7, -0.8]],
    "velocity_limits": [30.0, 20.0, 10.0],
    "torque_limits": [24.0, 23.0, 36.0],
    "kp": [40.0, 50.0, 60.0],
    "kd": [1.0, 1.5, 2.0],
}


def test_a_contract_is_read_without_weights_and_its_other_parts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text(json.dumps({"robot": {**ROBOT, "action_scale": 0.25}, "rates": {}}))
    made = JointContract.read(tmp_path)
    assert made.joints == tuple(ROBOT["joints"])
    for key in ("position_limits", "velocity_limits", "torque_limits", "kp", "kd"):
        assert np.array_equal(getattr(made, key), ROBOT[key])


@pytest.mark.parametrize("change, sentence", [
    ({"kp": None}, "lacks robot.kp"),
    ({"joints": ["a", "a", "b"]}, "robot.joints is no list of different names"),
    ({"joints": []}, "robot.joints is no list"),
    ({"kd": [1.0, 1.0]}, "robot.kd is no list of a number for each of 3 joints"),
    ({"kd": [1.0, 0.0, 1.0]}, "robot.kd of FL_thigh_joint is 0; it must be above 0"),
    ({"kp": "stiff"}, "robot.kp is no list of a number"),
    ({"torque_limits": [24.0, float("nan"), 1.0]}, "robot.torque_limits holds a number that is not finite"),
    ({"position_limits": [[0, 1], [1, 1], [0, 1]]}, "position_limits of FL_thigh_joint are [1.0, 1.0]"),
    ({"position_limits": [0, 1, 2]}, "robot.position_limits is no list of a pair of numbers"),
])  # fmt: skip
def test_a_malformed_contract_is_refused_in_a_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    robot = {key: value for key, value in {**ROBOT, **change}.items() if value is not None}
    (tmp_path / "contract.json").write_text(json.dumps({"robot": robot}))
    with pytest.raises(CheckpointError) as raised:
        SafetyGate(SafetyGateParams(checkpoint=str(tmp_path))).configure()
    assert sentence in str(raised.value) and str(tmp_path) in str(raised.value)


def test_a_missing_contract_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="checkpoint is empty; name the checkpoint directory"):
        SafetyGate().configure()
    gate = SafetyGate(SafetyGateParams(checkpoint=str(tmp_path)))
    with pytest.raises(CheckpointError, match="cannot be read"):
        gate.configure()
    for text, sentence in (("{", "cannot be read"), ("[]", "has no part 'robot'"), ('{"robot": 3}', "has no part")):
        (tmp_path / "contract.json").write_text(text)
        with pytest.raises(CheckpointError, match=sentence):
            gate.configure()
