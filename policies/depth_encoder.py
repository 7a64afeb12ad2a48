"""What a stair climber sees: tokens of a depth image, and how proprioception asks them.

Each encoder has two halves, since images come at 10 Hz and proprioception at 50 Hz: ``look`` is computed once an image
and its result is held, ``forward`` once a control step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ros_attn.kernels import attend

ROWS, COLUMNS, CELL = 6, 8, 8
"""Tokens of an image and the side of the square of pixels that each stands for: images are 48 x 64."""
LEAST_VALID = 1e-3
"""Added to the valid fraction of a token's cell, so that the logarithm is finite."""
QUERIES = 5
"""One a leg, in the order of the joints, and one for the body."""


class Runs(NamedTuple):
    """Which steps look at which image: ``image`` [P] and ``place`` [P] of each step, ``longest`` run of one image."""

    image: Tensor
    place: Tensor
    longest: int


class DepthTokens(nn.Module):
    """Images [M, 48, 64] to tokens [M, 48, 64]: three convolutions of stride 2, a learned place added, LayerNorm.

    Even kernels, so that a token sees its own cell, whose valid fraction it has, and 3 pixels on each side of it.
    Images are from -0.5 (near) to 0.5 (far), 0 where nothing is known. Source: arXiv 2606.25765, section on the
    student; sizes are ours.
    """

    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 32, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(32, self.width, 2, 2), nn.ReLU(),
        )  # fmt: skip
        for each in self.convolutions:
            if isinstance(each, nn.Conv2d):
                # torch's own start lets a fiftieth of an image's differences through.
                nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
                nn.init.zeros_(each.bias)  # type: ignore[arg-type]
        self.place = nn.Parameter(0.1 * torch.randn(ROWS * COLUMNS, self.width))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, depth: Tensor) -> Tensor:
        """Tokens [M, 48, 64], row by row of the image."""
        image = depth.to(self.place.dtype)[:, None].contiguous(memory_format=torch.channels_last)
        return self.norm(self.convolutions(image).permute(0, 2, 3, 1).flatten(1, 2) + self.place)


class CrossAttention(nn.Module):
    """Each leg and the body ask the image: ``f = elu(W [attend(q, k, v, b), p])``, [P, 128].

    ``p = MLP(proprioception)`` [P, 128]; queries ``q_i = W_q elu(W_p p + o_i)``, ``o_i`` learned, i = four legs and the
    body; keys and values of 4 heads of 16 from the tokens; ``b = log(valid fraction + 0.001)`` of each token's cell, so
    that holes fade. Where no token of an image is valid the answers are 0: f follows from p alone.

    Source: arXiv 2606.25765 (f_p asks f_v); the queries of legs, the key bias and p beside the answers are ours.
    """

    heads, head_width = 4, 16
    held = (ROWS * COLUMNS, 2 * heads * head_width)

    def __init__(self, proprio: int, features: int = 128) -> None:
        super().__init__()
        width = self.heads * self.head_width
        self.tokens = DepthTokens()
        self.key_value = nn.Linear(self.tokens.width, 2 * width)
        self.proprio = nn.Sequential(nn.Linear(proprio, features), nn.ELU(), nn.Linear(features, features), nn.ELU())
        self.asking = nn.Linear(features, width, bias=False)
        self.offsets = nn.Parameter(0.5 * torch.randn(QUERIES, width))
        self.query = nn.Linear(width, width)
        for layer in (self.key_value, self.query):
            nn.init.xavier_uniform_(layer.weight)
        self.out = nn.Linear(QUERIES * width + features, features)

    def look(self, depth: Tensor) -> Tensor:
        """Keys and values [M, 48, 128] of images [M, 48, 64]."""
        return self.key_value(self.tokens(depth))

    def forward(self, proprio: Tensor, held: Tensor, valid: Tensor, runs: Runs | None = None) -> Tensor:
        """Features [P, 128] of normalised proprioception [P, F], ``held`` [M, 48, 128] and valid fractions [M, 6, 8].

        ``runs`` says which step sees which image; None: step i sees image i.
        """
        p = self.proprio(proprio)
        q = self._queries(p)
        if runs is not None:
            # Steps of one image ask together, so that its keys and values are not copied for each.
            slots = runs.image * runs.longest + runs.place
            q = q.new_zeros(held.shape[0] * runs.longest, q.shape[1]).index_copy(0, slots, q)
        keys, values = self._keys_values(held)
        answers = attend(q.view(held.shape[0], -1, self.heads, self.head_width), keys, values, key_bias=_bias(valid))
        # A softmax over nothing but holes would look into them.
        answers = answers.flatten(1) * (valid.flatten(1).amax(1, keepdim=True) > 0)
        answers = answers.view(-1, QUERIES * self.query.out_features)
        if runs is not None:
            answers = answers[slots]
        return nn.functional.elu(self.out(torch.cat([answers, p], dim=1)))

    def attention(self, proprio: Tensor, held: Tensor, valid: Tensor) -> Tensor:
        """How much each query attends to each cell, mean of the heads: [P, 5, 6, 8], sums 1, 0 where all are closed."""
        q = self._queries(self.proprio(proprio)).view(held.shape[0], QUERIES, self.heads, self.head_width)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, self._keys_values(held)[0]) * self.head_width**-0.5
        weights = (scores + _bias(valid)[:, :, None]).softmax(-1).mean(1)
        return (weights * (valid.flatten(1).amax(1) > 0)[:, None, None]).unflatten(2, (ROWS, COLUMNS))

    def _queries(self, p: Tensor) -> Tensor:
        return self.query(nn.functional.elu(self.asking(p)[:, None] + self.offsets)).flatten(1)

    def _keys_values(self, held: Tensor) -> tuple[Tensor, Tensor]:
        both = held.unflatten(2, (2, self.heads, self.head_width))
        return both[:, :, 0], both[:, :, 1]


class PooledDepth(nn.Module):
    """The encoder without attention, for comparison: ``f = elu(W [mean of the tokens by validity, p])``, [P, 128]."""

    held = (ROWS * COLUMNS, DepthTokens.width)

    def __init__(self, proprio: int, features: int = 128) -> None:
        super().__init__()
        self.tokens = DepthTokens()
        self.proprio = nn.Sequential(nn.Linear(proprio, features), nn.ELU(), nn.Linear(features, features), nn.ELU())
        self.out = nn.Linear(self.tokens.width + features, features)

    def look(self, depth: Tensor) -> Tensor:
        """Tokens [M, 48, 64] of images [M, 48, 64]."""
        return self.tokens(depth)

    def forward(self, proprio: Tensor, held: Tensor, valid: Tensor, runs: Runs | None = None) -> Tensor:
        """Features [P, 128]; see :meth:`CrossAttention.forward`."""
        weights = valid.flatten(1)[:, :, None]
        mean = (weights * held).sum(1) / weights.sum(1).clamp_min(LEAST_VALID)
        if runs is not None:
            mean = mean[runs.image]
        return nn.functional.elu(self.out(torch.cat([mean, self.proprio(proprio)], dim=1)))


class NoDepth(nn.Module):
    """The encoder without eyes, for comparison: ``f = elu(W p)``, [P, 128]; ``held`` [M, 1, 1] is 0."""

    held = (1, 1)

    def __init__(self, proprio: int, features: int = 128) -> None:
        super().__init__()
        self.proprio = nn.Sequential(nn.Linear(proprio, features), nn.ELU(), nn.Linear(features, features), nn.ELU())
        self.out = nn.Linear(features, features)

    def look(self, depth: Tensor) -> Tensor:
        """Nothing."""
        return self.out.weight.new_zeros(depth.shape[0], *self.held)

    def forward(self, proprio: Tensor, held: Tensor, valid: Tensor, runs: Runs | None = None) -> Tensor:
        """Features [P, 128]; see :meth:`CrossAttention.forward`."""
        return nn.functional.elu(self.out(self.proprio(proprio)))


ENCODERS: dict[str, type[CrossAttention] | type[PooledDepth] | type[NoDepth]] = {
    "attention": CrossAttention, "pooled": PooledDepth, "blind": NoDepth,
}  # fmt: skip


def _bias(valid: Tensor) -> Tensor:
    return torch.log(valid.flatten(1) + LEAST_VALID)[:, None]


def runs_of(begins: Tensor) -> tuple[Runs, Tensor]:
    """Runs of steps [P], of which those with ``begins`` look at a new image, and the first step of each [M].

    The first step must begin a run.
    """
    image = begins.cumsum(0) - 1
    first = begins.nonzero()[:, 0]
    place = torch.arange(len(begins), device=begins.device) - first[image]
    return Runs(image, place, int(place.max()) + 1), first
