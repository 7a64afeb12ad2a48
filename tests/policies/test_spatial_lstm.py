"""The memory: against torch's LSTM, against its formula, step by step, and what an episode's start forgets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ros_attn.policies.spatial_lstm import SpatialLSTM

T, B, F, H = 12, 5, 9, 16


def made(gate: bool = True) -> SpatialLSTM:
    torch.manual_seed(0)
    return SpatialLSTM(F, H, gate)


def torch_s(memory: SpatialLSTM) -> nn.LSTM:
    lstm = nn.LSTM(F, H)
    lstm.load_state_dict({
        "weight_ih_l0": memory.input.weight, "weight_hh_l0": memory.recurrent.weight,
        "bias_ih_l0": memory.input.bias, "bias_hh_l0": torch.zeros(4 * H),
    })  # fmt: skip
    return lstm


def state(seed: int = 1) -> tuple[Tensor, Tensor]:
    at = torch.Generator().manual_seed(seed)
    return torch.randn(B, H, generator=at).tanh(), torch.randn(B, H, generator=at)


def features() -> Tensor:
    return torch.randn(T, B, F, generator=torch.Generator().manual_seed(2))


def test_without_its_gate_it_is_torch_s_lstm() -> None:
    memory = made(gate=False)
    lstm = torch_s(memory)
    h, c = state()
    ours, (h_last, c_last) = memory(features(), (h, c))
    theirs, (h_theirs, c_theirs) = lstm(features(), (h[None], c[None]))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(h_last, h_theirs[0], atol=1e-6) and torch.allclose(c_last, c_theirs[0], atol=1e-6)
    weights = [memory.recurrent.weight, memory.input.weight]
    for mine, its in zip(
        torch.autograd.grad(ours.square().sum(), weights),
        torch.autograd.grad(
            theirs.square().sum(), [dict(lstm.named_parameters())[f"weight_{k}_l0"] for k in ("hh", "ih")]
        ),
        strict=True,
    ):
        assert torch.allclose(mine, its, atol=1e-5)


def test_gate_scales_both_states_before_each_step() -> None:
    memory = made()
    assert memory.gate is not None
    nn.init.normal_(memory.gate.bias)
    lstm = torch_s(memory)
    h, c = state()
    ours, (_, last) = memory(features(), (h, c))
    with torch.no_grad():
        for f, out in zip(features(), ours, strict=True):
            s = torch.sigmoid(f @ memory.gate.weight.T + memory.gate.bias)
            _, (h3, c3) = lstm(f[None], ((s * h)[None], (s * c)[None]))
            h, c = h3[0], c3[0]
            assert torch.allclose(out, h, atol=1e-6)
    assert torch.allclose(last, c, atol=1e-6)


@pytest.mark.parametrize("gate", [True, False])
def test_sequence_is_its_steps(gate: bool) -> None:
    memory = made(gate)
    out, last = memory(features(), state())
    h, c = state()
    for f, expected in zip(features(), out, strict=True):
        h, c = memory.step(f, (h, c))
        assert torch.allclose(h, expected, atol=1e-6)
    assert torch.allclose(c, last[1], atol=1e-6)


@pytest.mark.parametrize("gate", [True, False])
def test_a_start_forgets_what_came_before(gate: bool) -> None:
    memory = made(gate)
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[5, 1] = starts[0, 3] = True
    given = features().requires_grad_(True)
    out, _ = memory(given, state(), starts)
    plain, _ = memory(given, state())
    untouched = [0, 2, 4]
    assert torch.allclose(out[:, untouched], plain[:, untouched], atol=1e-6)
    assert torch.allclose(out[:5, 1], plain[:5, 1], atol=1e-6)
    anew, _ = memory(given, memory.initial_state(B))
    assert torch.allclose(out[:, 3], anew[:, 3], atol=1e-6)
    later, _ = memory(given[5:], memory.initial_state(B))
    assert torch.allclose(out[5:, 1], later[:, 1], atol=1e-6)
    [gradient] = torch.autograd.grad(out[5:, 1].square().sum(), given)
    assert (gradient[:5] == 0).all() and (gradient[5:, 1] != 0).any(dim=1).all()


def test_memory_is_kept_at_the_start_of_training() -> None:
    """A trace of the cell is there after ten steps (a fifth of a second): (0.88 * 0.73) ** 10 = 1 %."""
    memory = made()
    _, (_, kept) = memory(torch.zeros(10, B, F), (torch.zeros(B, H), 10 * torch.ones(B, H)))
    _, (_, none) = memory(torch.zeros(10, B, F), memory.initial_state(B))
    assert 0.05 < (kept - none).mean() < 0.5
