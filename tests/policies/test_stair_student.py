"""The stair climber's student: sequences against steps, held images, closed eyes, and what gradients reach."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ros_attn.policies.depth_encoder import ENCODERS, CrossAttention, NoDepth
from ros_attn.policies.stair_student import StairStudent, StudentState

T, B, F, J = 17, 6, 90, 12


def made(vision: str = "attention", gate: bool = True) -> StairStudent:
    torch.manual_seed(0)
    student = StairStudent(F, J, vision, gate)
    student.mean.normal_()
    student.std.uniform_(0.2, 2.0)
    return student.eval()


class Episode:
    """T steps of B robots whose images come every fifth step, each robot's at another one, and are shown until then."""

    def __init__(self, seed: int = 0) -> None:
        at = torch.Generator().manual_seed(seed)
        self.observation = torch.randn(T, B, F, generator=at)
        new = (torch.arange(T)[:, None] + torch.arange(B)) % 5 == 0
        new[0] = True
        self.fresh = new[..., None].float()
        shown = torch.cummax(torch.where(new, torch.arange(T)[:, None], 0), 0).values
        self.depth = (torch.rand(T, B, 48, 64, generator=at) - 0.5)[shown, torch.arange(B)]
        self.valid = torch.rand(T, B, 6, 8, generator=at)[shown, torch.arange(B)]

    def step(self, t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.observation[t], self.depth[t], self.valid[t], self.fresh[t]

    def whole(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.observation, self.depth, self.valid, self.fresh


def stepped(student: StairStudent, episode: Episode, starts: Tensor | None = None) -> tuple[Tensor, StudentState]:
    state, actions = student.initial_state(B), []
    for t in range(T):
        if starts is not None:
            state = StudentState(*(torch.where(starts[t].view(-1, *[1] * (x.dim() - 1)), 0, x) for x in state))
        action, state = student.step(state, *episode.step(t))
        actions.append(action)
    return torch.stack(actions), state


@pytest.mark.parametrize("vision", list(ENCODERS))
@pytest.mark.parametrize("gate", [True, False])
def test_sequence_is_its_steps(vision: str, gate: bool) -> None:
    student, episode = made(vision, gate), Episode()
    # A camera that fails between two images, and comes back with the old one.
    episode.valid[6:9, 2] = 0
    with torch.no_grad():
        expected, state = stepped(student, episode)
        actions, (hidden, cell) = student(student.core.memory.initial_state(B), *episode.whole())
    assert torch.allclose(actions, expected, atol=1e-6)
    assert torch.allclose(hidden, state.hidden, atol=1e-6) and torch.allclose(cell, state.cell, atol=1e-6)
    assert actions.std(0).min() > 1e-3


def test_sequence_goes_on_from_a_state_between_two_images() -> None:
    student, episode = made(), Episode()
    with torch.no_grad():
        expected, _ = student(student.core.memory.initial_state(B), *episode.whole())
        _, state = student(student.core.memory.initial_state(B), *(x[:7] for x in episode.whole()))
        rest, _ = student(state, *(x[7:] for x in episode.whole()))
    assert torch.allclose(rest, expected[7:], atol=1e-6)


def test_episodes_of_a_sequence_know_nothing_of_each_other() -> None:
    student, episode = made(), Episode()
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[8, 1] = starts[3, 4] = starts[9, 4] = True
    for t, b in starts.nonzero().tolist():
        # An episode begins before its first image has come.
        until = t + 1 + int(episode.fresh[t + 1 :, b, 0].argmax())
        episode.fresh[t, b] = 0
        episode.valid[t:until, b] = 0
    episode.observation.requires_grad_(True)
    episode.depth.requires_grad_(True)
    actions, _ = student(student.core.memory.initial_state(B), *episode.whole(), starts)
    expected, _ = stepped(student, episode, starts)
    assert torch.allclose(actions, expected, atol=1e-6)
    gradients = torch.autograd.grad(actions[8:, 1].square().sum(), [episode.observation, episode.depth])
    for gradient in gradients:
        assert (gradient[:8] == 0).all() and gradient[8:, 1].abs().max() > 0


def test_images_are_encoded_once() -> None:
    student, episode = made(), Episode()
    counted: list[int] = []
    encoder = student.core.encoder
    assert isinstance(encoder, CrossAttention)
    encoder.tokens.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    with torch.no_grad():
        student(student.core.memory.initial_state(B), *episode.whole())
        assert counted == [int(episode.fresh.sum())]
        counted.clear()
        stepped(student, episode)
    assert counted == [int(n) for n in episode.fresh.sum((1, 2)).tolist() if n]


def test_only_fresh_images_are_looked_at() -> None:
    student, episode = made(), Episode()
    expected, _ = stepped(student, episode)
    episode.depth[episode.fresh[..., 0] == 0] = 0.3
    actions, _ = stepped(student, episode)
    assert torch.equal(actions, expected)
    state = student.initial_state(B)
    _, state = student.step(state, *episode.step(0))
    other = episode.observation[0], episode.depth[0] + 0.2, episode.valid[0]
    stale = student.step(state, *other, torch.zeros(B, 1))[1].held
    new = student.step(state, *other, torch.ones(B, 1))[1]
    assert torch.equal(stale, state.held) and (new.held - state.held).abs().amax((1, 2)).min() > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(student.initial_state(2), student.initial_state(2), strict=True))


def test_eyes_can_be_closed_at_any_time() -> None:
    student, episode = made(), Episode()
    _, state = student.step(student.initial_state(B), *episode.step(0))
    observation, depth, valid, _ = episode.step(1)
    held = torch.zeros(B, 1)
    with torch.no_grad():
        closed = student.step(state, observation, depth, 0 * valid, held)[0]
        other = student.step(state._replace(held=state.held + 1), observation, depth, 0 * valid, held)[0]
        opened = student.step(state, observation, depth, valid, held)[0]
    assert torch.equal(closed, other) and torch.isfinite(closed).all()
    assert (closed - opened).abs().max() > 1e-3


def test_steps_that_are_not_real_change_nothing() -> None:
    student, episode = made(), Episode()
    steps = torch.arange(T)[:, None] < torch.tensor([T, 3, 9, T, 1, 12])
    with torch.no_grad():
        initial = student.core.memory.initial_state(B)
        normalised = student.normalised(episode.observation)
        expected, _ = student.core(initial, normalised, *episode.whole()[1:])
        for x in (normalised, episode.depth, episode.valid):
            x[~steps] = torch.nan
        out, _ = student.core(initial, normalised, *episode.whole()[1:], steps=steps)
    assert torch.allclose(out[steps], expected[steps], atol=1e-6)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("vision", list(ENCODERS))
def test_last_action_teaches_every_part(vision: str) -> None:
    student, episode = made(vision), Episode()
    episode.depth.requires_grad_(True)
    actions, _ = student(student.core.memory.initial_state(B), *episode.whole())
    actions[-1].square().sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-7, name
    if not isinstance(student.core.encoder, NoDepth):
        assert episode.depth.grad is not None
        seen = episode.depth.grad.abs().amax((2, 3)) > 0
        # The first images, and those that the memory was fed since, but none that is only shown again.
        assert torch.equal(seen, episode.fresh[..., 0] > 0)


def test_attention_over_the_held_image() -> None:
    student, episode = made(), Episode()
    _, state = student.step(student.initial_state(B), *episode.step(0))
    maps = student.attention(state, episode.observation[0], episode.valid[0])
    assert maps.shape == (B, 5, 6, 8)
    assert torch.allclose(maps.sum((2, 3)), torch.ones(B, 5), atol=1e-5)
    with pytest.raises(ValueError, match="'pooled' has no attention"):
        made("pooled").attention(state, episode.observation[0], episode.valid[0])


def test_a_batch_is_its_robots() -> None:
    student, episode = made(), Episode()
    expected, _ = stepped(student, episode)
    for b in range(B):
        state = student.initial_state(1)
        for t in range(T):
            action, state = student.step(state, *(x[b : b + 1] for x in episode.step(t)))
            assert torch.allclose(action[0], expected[t, b], atol=1e-6)
