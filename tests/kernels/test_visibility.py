"""The rule, its interval form, and what a Visibility refuses."""

from __future__ import annotations

import math

import pytest
import torch

from ros_attn.kernels.intervals import intervals, kind_of, pair_mask
from ros_attn.kernels.layout import ALL, INFINITE, NEVER, PAST, SAME, Layout, memory
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import random_case, sees


def test_the_rules_in_words() -> None:
    """Which of the frames 0..7 a query of frame 4 sees."""
    frames = torch.arange(8, dtype=torch.int32)[None]

    def seen(rule: tuple[float, float, float]) -> list[int]:
        query = torch.tensor([[4]], dtype=torch.int32)
        mask = Visibility((("q", 1),), (("k", 8),), {("q", "k"): rule}, query, frames).mask()
        return torch.nonzero(mask[0, 0]).flatten().tolist()

    assert seen(ALL) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert seen(NEVER) == []
    assert seen(SAME) == [4]
    assert seen(PAST) == [0, 1, 2, 3, 4]
    assert seen(memory(recent=2, first=1)) == [0, 3, 4]
    assert seen((1, 2, 0)) == [3, 4, 5]
    assert seen((-1, math.inf, 0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_mask_and_intervals_say_what_the_rule_says(seed: int, bias: bool) -> None:
    vis = random_case(seed).visibility
    layout = vis.layout
    kinds_q, kinds_k = (kind_of(runs).tolist() for runs in (layout.runs_q, layout.runs_k))
    mask = pair_mask(layout, vis.frame_q, vis.frame_k, bias=bias)
    lo, hi = intervals(layout, vis.frame_k, bias=bias)
    assert int((lo > hi).sum()) == 0
    for b in range(mask.shape[0]):
        t = [0] * vis.length_q if vis.frame_q is None else vis.frame_q[b % vis.frame_q.shape[0]].tolist()
        f = [0] * vis.length_k if vis.frame_k is None else vis.frame_k[b % vis.frame_k.shape[0]].tolist()
        for i, a in enumerate(kinds_q):
            row = layout.query_kinds.index(a)
            for j, c in enumerate(kinds_k):
                rule = layout.bias_rule(a, c) if bias else layout.rule(a, c)
                expected = sees(rule, t[i], f[j])
                assert bool(mask[b, i, j]) == expected
                within = int(lo[b % lo.shape[0], row, j]) <= t[i] < int(hi[b % hi.shape[0], row, j])
                assert within == expected


def test_frames_as_large_as_they_may_be() -> None:
    top = 2**29 - 1
    frame_k = torch.tensor([[0, 5, top]], dtype=torch.int32)
    frame_q = torch.tensor([[0, top]], dtype=torch.int32)
    for rule, expected in ((ALL, [[1, 1, 1], [1, 1, 1]]), (PAST, [[1, 0, 0], [1, 1, 1]])):
        vis = Visibility((("q", 2),), (("k", 3),), {("q", "k"): rule}, frame_q, frame_k)
        lo, hi = intervals(vis.layout, frame_k)
        within = (lo <= frame_q.T) & (hi > frame_q.T)
        assert within[0].int().tolist() == expected == vis.mask()[0].int().tolist()
    assert top < INFINITE


def test_a_layout_survives_its_encoding() -> None:
    for seed in range(20):
        layout = random_case(seed).visibility.layout
        assert Layout.decode(layout.encode()) == layout
        assert hash(Layout.decode(layout.encode())) == hash(layout)


def test_order_lays_kinds_together() -> None:
    order = Visibility.order(["touch", "video", "touch", "action", "video"])
    assert order.kinds == (("touch", 2), ("video", 2), ("action", 1))
    assert order.index.tolist() == [0, 2, 1, 4, 3]
    x = torch.arange(5)
    assert torch.equal(x[order.index][order.inverse], x)
    assert Visibility.order(torch.tensor([1, 0, 1]), names=["a", "b"]).kinds == (("b", 2), ("a", 1))


def test_columns_of_open_are_the_keys_kinds_first() -> None:
    vis = Visibility((("action", 2), ("video", 3)), (("video", 3), ("touch", 1)), {("action", "touch"): ALL})
    assert vis.kinds == ("video", "touch", "action")
    closed = torch.tensor([[True, False, True]])
    assert vis.mask().sum() == 2
    assert vis.mask(open=closed).sum() == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((("a", 2), ("b", 1), ("a", 2)), (("a", 5),), {}), "kinds_q: kind 'a' has two runs; lay its tokens together"),
        (((("a", 2),), (("a", 2),), {("a", "tuch"): ALL}), "rule['a', 'tuch']: there is no kind 'tuch'; kinds are a"),
        (((("a", 2),), (("a", 2),), {("a", "a"): (0, -1, 0)}), "rule['a', 'a'] is (0, -1, 0), but takes"),
        (((("a", 2),), (("a", -2),), {}), "kinds_k: a kind has a negative number of tokens"),
        (((("a", 2),), (("a", 2),), {}, torch.zeros(1, 3, dtype=torch.int32)), "frame_q is torch.int32 [1, 3], but"),
        (((("a", 2),), (("a", 2),), {}, None, torch.zeros(1, 2)), "frame_k is torch.float32 [1, 2], but takes int32"),
        ((tuple((str(k), 1) for k in range(33)), (("a", 1),), {}), "a Visibility takes 1 to 32 kinds, not 34"),
    ],
)
def test_mistakes_get_a_sentence(arguments: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        Visibility(*arguments)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
