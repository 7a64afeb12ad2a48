"""The stair climber's policy: proprioception and depth images in, joint actions out, with a memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ros_attn.policies.depth_encoder import CELL, COLUMNS, ENCODERS, ROWS, CrossAttention, runs_of
from ros_attn.policies.spatial_lstm import SpatialLSTM, State

HEAD = (256, 128)
LONGEST_RUN = 6
"""Steps of one image that ask it together: as many as lie between two images, at 10 of 50 a second."""


class StudentState(NamedTuple):
    """What goes from step to step: the memory's h and c [B, H], and what is held of the last image [B, 48, W]."""

    hidden: Tensor
    cell: Tensor
    held: Tensor


class PerceptiveMemory(nn.Module):
    """Encoder and memory: normalised proprioception and images to what the actions are made of, [B, H].

    An image is encoded in the step in which it is ``fresh`` and held until the next one. ``vision`` is ``attention``,
    or ``pooled`` or ``blind`` for comparison; see :mod:`ros_attn.policies.depth_encoder`.
    """

    def __init__(self, proprio: int, vision: str = "attention", gate: bool = True, hidden: int = 256) -> None:
        super().__init__()
        self.encoder = ENCODERS[vision](proprio)
        self.memory = SpatialLSTM(self.encoder.out.out_features, hidden, gate)

    def initial_state(self, batch: int) -> StudentState:
        """Nothing remembered, nothing seen: the first image must be fresh, or its tokens closed."""
        hidden, cell = self.memory.initial_state(batch)
        return StudentState(hidden, cell, hidden.new_zeros(batch, *self.encoder.held))

    def step(
        self, state: StudentState, proprio: Tensor, depth: Tensor, valid: Tensor, fresh: Tensor
    ) -> tuple[Tensor, StudentState]:
        """[B, H] and the next state; proprio [B, F], depth [B, 48, 64], valid [B, 6, 8], fresh [B, 1].

        ``valid`` counts at every step, so that all tokens can be closed at any time.
        """
        hidden, cell = self.memory.step(
            self.encoder(proprio, held := self._held(state.held, depth, fresh), valid), (state.hidden, state.cell)
        )
        return hidden, StudentState(hidden, cell, held)

    def _held(self, held: Tensor, depth: Tensor, fresh: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return torch.where(fresh[:, :, None] > 0.5, self.encoder.look(depth), held)
        rows = (fresh[:, 0] > 0.5).nonzero()[:, 0]
        if len(rows) == len(held):
            return self.encoder.look(depth)
        return held.index_copy(0, rows, self.encoder.look(depth[rows])) if len(rows) else held

    def forward(
        self, state: State, proprio: Tensor, depth: Tensor, valid: Tensor, fresh: Tensor,
        starts: Tensor | None = None, steps: Tensor | None = None,
    ) -> tuple[Tensor, State]:  # fmt: skip
        """[T, B, H] of sequences, and the memory's last state: what T calls of :meth:`step` give.

        Inputs as there with T before B. ``starts`` [T, B] bool marks the first steps of episodes, which are fresh or
        have ``valid`` 0; ``steps`` [T, B] bool the steps that are real: the others come after the real ones, may hold
        anything, and what is returned of them means nothing. ``depth`` must hold the last image where none is fresh: it
        is encoded anew at the first step and where ``valid`` changes, and nowhere else.
        """
        length, batch = proprio.shape[:2]
        begins = fresh[..., 0] > 0.5
        begins[1:] |= (valid[1:] != valid[:-1]).flatten(2).any(2)
        begins[0] = True
        # By sequence, then by time: the steps of an image lie together.
        real = torch.ones_like(begins) if steps is None else steps
        sequence, time = real.T.nonzero().unbind(1)
        begun = begins[time, sequence]
        runs, first = runs_of(begun)
        if runs.longest > LONGEST_RUN:
            # All runs are as long as the longest in memory: a stopped camera's image is rather encoded again.
            runs, first = runs_of(begun | (runs.place % LONGEST_RUN == 0))
        seen = time[first], sequence[first]
        features = self.encoder(proprio[time, sequence], self.encoder.look(depth[seen]), valid[seen], runs)
        padded = features.new_zeros(length * batch, features.shape[1]).index_copy(0, time * batch + sequence, features)
        return self.memory(padded.view(length, batch, -1), state, starts)


class StairStudent(nn.Module):
    """``a = W_n elu(... elu(W_1 m))`` with m the memory [B, H] of ``(o - mean) / (std + 0.01)`` and depth images.

    ``mean`` and ``std`` [F] are buffers and thus part of every checkpoint. Observation o [B, F] as in
    :mod:`ros_attn.control.locomotion`, depth [B, 48, 64] and valid [B, 6, 8] as in
    :mod:`ros_attn.control.depth_image`, fresh [B, 1] (1 where the image is new), actions [B, J].
    Source: arXiv 2606.25765; widths are ours, head and normaliser those of rsl_rl's MLPModel (:meth:`of_training`).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, inputs: int, actions: int, vision: str = "attention", gate: bool = True, hidden: int = 256,
        head: Sequence[int] = HEAD,
    ) -> None:  # fmt: skip
        super().__init__()
        self.params = {"vision": vision, "gate": gate, "hidden": hidden, "head": list(head)}
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.core = PerceptiveMemory(inputs, vision, gate, hidden)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([hidden, *head]):
            layers += [nn.Linear(before, after), nn.ELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(head[-1], actions))

    def initial_state(self, batch: int) -> StudentState:
        """The state before the first step."""
        return self.core.initial_state(batch)

    def step(
        self, state: StudentState, observation: Tensor, depth: Tensor, valid: Tensor, fresh: Tensor
    ) -> tuple[Tensor, StudentState]:
        """Actions [B, J] and the next state; see :meth:`PerceptiveMemory.step`."""
        hidden, following = self.core.step(state, self.normalised(observation), depth, valid, fresh)
        return self.layers(hidden), following

    def forward(
        self, state: State, observation: Tensor, depth: Tensor, valid: Tensor, fresh: Tensor,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, State]:  # fmt: skip
        """Actions [T, B, J] of sequences and the memory's last state; see :meth:`PerceptiveMemory.forward`."""
        hidden, last = self.core(state, self.normalised(observation), depth, valid, fresh, starts)
        return self.layers(hidden), last

    def normalised(self, observation: Tensor) -> Tensor:
        """Observations as the network takes them."""
        return (observation - self.mean) / (self.std + 0.01)

    def attention(self, state: StudentState, observation: Tensor, valid: Tensor) -> Tensor:
        """Maps [B, 5, 6, 8] of the legs and the body over the image held in ``state``: the one after the step.

        ValueError for a student that does not attend.
        """
        encoder = self.core.encoder
        if not isinstance(encoder, CrossAttention):
            raise ValueError(f"A student with vision {self.params['vision']!r} has no attention to show.")
        return encoder.attention(self.normalised(observation), state.held, valid)

    @classmethod
    def of_training(cls, state: Mapping[str, Tensor]) -> StairStudent:
        """The policy in the state of a trained StudentModel: the mean of its distribution."""
        head = {name.removeprefix("mlp."): value for name, value in state.items() if name.startswith("mlp.")}
        core = {name.removeprefix("core."): value for name, value in state.items() if name.startswith("core.")}
        shapes = [value.shape for name, value in head.items() if name.endswith(".weight")]
        vision = "attention" if "encoder.offsets" in core else "pooled" if "encoder.tokens.place" in core else "blind"
        student = cls(
            state["obs_normalizer._mean"].shape[1], shapes[-1][0], vision, "memory.gate.weight" in core,
            core["memory.recurrent.weight"].shape[1], [shape[0] for shape in shapes[:-1]],
        )  # fmt: skip
        student.layers.load_state_dict(head)
        student.core.load_state_dict(core)
        student.mean.copy_(state["obs_normalizer._mean"][0])
        student.std.copy_(state["obs_normalizer._std"][0])
        return student


DEPTH_SHAPE, VALID_SHAPE = (ROWS * CELL, COLUMNS * CELL), (ROWS, COLUMNS)
