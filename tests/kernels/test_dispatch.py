"""Which backend runs, why, and what the environment may say about it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from ros_attn.kernels import dispatch
from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.dispatch import BACKENDS, Call, choose, verdicts
from ros_attn.kernels.survey import survey

CALL = Call(
    "cuda", torch.bfloat16, (64, 64), rows=4096, normaliser="softmax", structured=True, biased=False, wants_lse=False,
    wants_gradient=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def with_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "NAMED", "")
    monkeypatch.setattr(dispatch, "_no_triton", lambda device: "" if device == "cuda" else "no GPU")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "triton"),
        ({"structured": False}, "sdpa"),
        ({"structured": False, "wants_lse": True}, "triton"),
        ({"structured": False, "biased": True}, "triton"),
        ({"structured": False, "normaliser": "sigmoid"}, "triton"),
        ({"rows": 64, "wants_gradient": False}, "decode"),
        ({"rows": 65, "wants_gradient": False}, "triton"),
        ({"rows": 64}, "triton"),
        ({"dtype": torch.float64}, "reference"),
        ({"head_dims": (512, 512)}, "flex"),
        ({"head_dims": (512, 512), "normaliser": "sigmoid"}, "reference"),
        ({"head_dims": (60, 60)}, "reference"),
        ({"device": "cpu"}, "grouped"),
        ({"device": "cpu", "structured": False}, "sdpa"),
        ({"device": "cpu", "normaliser": "sigmoid", "structured": False}, "grouped"),
    ],
)
def test_the_backend_of_a_call(change: dict[str, object], expected: str) -> None:
    call = replace(CALL, **change)  # type: ignore[arg-type]
    assert choose(call, None) == expected
    judged = verdicts(call)
    assert judged[expected].ok
    assert all(each.reason for name, each in judged.items() if not each.ok)
    for name in BACKENDS:
        if judged[name].ok:
            assert choose(call, name) == name
        else:
            with pytest.raises(BackendError, match=f"backend={name} cannot run this call: "):
                choose(call, name)


def test_without_triton_softmax_goes_to_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_no_triton", lambda device: "Triton is not installed")
    assert choose(CALL, None) == "flex"
    assert choose(replace(CALL, normaliser="sigmoid"), None) == "reference"


def test_the_environment_is_obeyed_or_refused() -> None:
    code = (
        "import torch; from ros_attn.kernels import attend; x = torch.ones(1, 4, 2, 8);"
        "import sys; print(attend(x, x, x, len_k=torch.tensor([2])).sum().item())"
    )

    def run(backend: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ROS_ATTN_BACKEND": backend}
        return subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)

    assert run("reference").stdout.strip() == "64.0"
    refused = run("triton").stderr
    assert "ROS_ATTN_BACKEND=triton cannot run this call" in refused
    assert "there is no backend 'referense' (did you mean 'reference'?)" in run("referense").stderr


def test_the_survey_names_a_backend_for_everything() -> None:
    found = {(each.operation, each.device): each for each in survey()}
    assert found["attend, dense", "cpu"].backend == "sdpa"
    assert found["attend, with visibility", "cpu"].backend == "grouped"
    assert found["gated_delta", "cpu"].backend == "chunked"
    assert all(each.why for each in found.values())
