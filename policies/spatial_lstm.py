"""A recurrent memory whose state is gated by what is seen before each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


class SpatialLSTM(nn.Module):
    """``s_t = sigmoid(W_s f_t + b_s)``; ``h_t, c_t = LSTM(f_t, s_t * h_{t-1}, s_t * c_{t-1})``.

    Features f [..., F], h and c [..., H]; the LSTM has torch's gates, in its order (input, forget, cell, output), and
    one bias. ``gate=False`` is the LSTM alone (s = 1), for comparison. Source: arXiv 2606.25765, after the spatially
    enhanced recurrent unit of Yang et al. (2025). Ours: at the start b_s is 2 and the forget gate's bias 1, as a state
    that is halved at each step could not learn to be kept.
    """

    def __init__(self, features: int, hidden: int = 256, gate: bool = True) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(features, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.gate = nn.Linear(features, hidden) if gate else None
        for weight in (self.input.weight, self.recurrent.weight):
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)
        nn.init.zeros_(self.input.bias)
        nn.init.ones_(self.input.bias[hidden : 2 * hidden])
        if self.gate is not None:
            nn.init.constant_(self.gate.bias, 2.0)

    def initial_state(self, batch: int) -> State:
        """Zeros, h and c [B, H]."""
        zeros = self.input.weight.new_zeros(batch, self.hidden)
        return zeros, zeros.clone()

    def step(self, features: Tensor, state: State) -> State:
        """The next h and c [B, H] of features [B, F]."""
        return self._next(self.input(features), self._gates(features), *state)

    def forward(self, features: Tensor, state: State, starts: Tensor | None = None) -> tuple[Tensor, State]:
        """h [T, B, H] of a sequence [T, B, F], and the last state.

        ``starts`` [T, B] bool: an episode begins with that step; what came before is forgotten.
        """
        gates = self._gates(features)
        if starts is not None:
            kept = (~starts)[..., None].to(features.dtype)
            # A closed gate is a forgotten state.
            gates = kept.expand(-1, -1, self.hidden) if gates is None else gates * kept
        inputs = self.input(features).unbind(0)
        by_step = [None] * len(inputs) if gates is None else gates.unbind(0)
        h, c = state
        out = []
        for x, s in zip(inputs, by_step, strict=True):
            h, c = self._next(x, s, h, c)
            out.append(h)
        return torch.stack(out), (h, c)

    def _gates(self, features: Tensor) -> Tensor | None:
        return None if self.gate is None else torch.sigmoid(self.gate(features))

    def _next(self, x: Tensor, s: Tensor | None, h: Tensor, c: Tensor) -> State:
        if s is not None:
            h, c = s * h, s * c
        put, keep, new, out = (x + self.recurrent(h)).chunk(4, dim=-1)
        c = torch.sigmoid(keep) * c + torch.sigmoid(put) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(c), c
