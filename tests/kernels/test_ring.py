"""Ring buffers: a stream that overwrites itself sees what the training mask says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ros_attn.kernels.layout import EMPTY, PAST, memory
from ros_attn.kernels.reference import attend_reference
from ros_attn.kernels.ring import Ring
from ros_attn.kernels.visibility import Visibility

HEADS, SHARED, WIDTH = 4, 2, 8
SIZES = {"heads": SHARED, "width": WIDTH, "dtype": torch.float64}


def attention(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility, normaliser: str = "softmax") -> Tensor:
    return attend_reference(
        q, k, v, None, layout=visibility.layout, frame_q=visibility.frame_q, frame_k=visibility.frame_k, open=None,
        len_q=None, len_k=None, normaliser=normaliser, scale=WIDTH**-0.5,
    )[0]  # fmt: skip


def tokens(batch: int, count: int, *sizes: int) -> Tensor:
    return torch.randn(batch, count, *sizes, dtype=torch.float64)


def moment(t: int) -> Tensor:
    return torch.tensor([[t]], dtype=torch.int32)


@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
def test_a_ring_overwritten_in_place_attends_to_the_last_frames(normaliser: str) -> None:
    torch.manual_seed(0)
    per_frame, frames = 3, 4
    ring = Ring([("recent", per_frame * frames)], batch=2, **SIZES)
    visibility = ring.visibility((("now", 2),), torch.zeros(1, 2, dtype=torch.int32), {("now", "recent"): PAST})
    assert visibility.frame_q is not None
    history: list[tuple[Tensor, Tensor]] = []
    for t in range(11):
        k, v = tokens(2, per_frame, SHARED, WIDTH), tokens(2, per_frame, SHARED, WIDTH)
        history.append((k, v))
        ring.write("recent", k, v, moment(t))
        visibility.frame_q.fill_(t)
        q = tokens(2, 2, HEADS, WIDTH)
        last_k, last_v = (torch.cat(each, 1) for each in zip(*history[-frames:], strict=True))
        everything = Visibility((("now", 2),), (("past", last_k.shape[1]),), {("now", "past"): PAST})
        want = attention(q, last_k, last_v, everything, normaliser)
        got = attention(q, ring.k, ring.v, visibility, normaliser)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-14)


def test_streaming_memory_equals_the_training_mask_token_for_token() -> None:
    """MemoryWAM (2606.20562): anchors, recent frames and gists streamed against one masked call over all frames."""
    torch.manual_seed(1)
    visual, gists, first, recent, frames = 5, 2, 2, 3, 9
    hybrid = memory(recent, first)
    kinds = (("visual", visual * frames), ("gist", gists * frames))
    at = torch.arange(frames, dtype=torch.int32)
    frame = torch.cat([at.repeat_interleave(visual), at.repeat_interleave(gists)])[None]
    train = Visibility(
        kinds, kinds,
        {("visual", "visual"): hybrid, ("gist", "visual"): hybrid, ("visual", "gist"): PAST, ("gist", "gist"): PAST},
        frame, frame,
    )  # fmt: skip
    length = frame.shape[1]
    q = tokens(1, length, HEADS, WIDTH)
    k, v = tokens(1, length, SHARED, WIDTH), tokens(1, length, SHARED, WIDTH)
    want = attention(q, k, v, train)

    ring = Ring(
        [("anchor", first * visual), ("recent", recent * visual), ("gist", gists * frames)], batch=1, **SIZES
    )  # fmt: skip
    rules = {(a, c): PAST for a in ("visual", "gist") for c in ("anchor", "recent", "gist")}
    step = ring.visibility(
        (("visual", visual), ("gist", gists)), torch.zeros(1, visual + gists, dtype=torch.int32), rules
    )
    assert step.frame_q is not None
    size = ring.state_bytes()
    for t in range(frames):
        seen = slice(t * visual, (t + 1) * visual)
        gist = slice(frames * visual + t * gists, frames * visual + (t + 1) * gists)
        # As a captured step would: both writes every time, and the frame decides which of them counts.
        now = moment(t)
        ring.write("anchor", k[:, seen], v[:, seen], torch.where(now < first, now, EMPTY))
        ring.write("recent", k[:, seen], v[:, seen], torch.where(now < first, EMPTY, now))
        ring.write("gist", k[:, gist], v[:, gist], now)
        step.frame_q.fill_(t)
        got = attention(torch.cat([q[:, seen], q[:, gist]], 1), ring.k, ring.v, step)
        torch.testing.assert_close(got, torch.cat([want[:, seen], want[:, gist]], 1), rtol=0, atol=1e-14)
    assert ring.state_bytes() == size
    slots = first * visual + recent * visual + gists * frames
    assert size == 2 * slots * SHARED * WIDTH * 8 + slots * 4 + 3 * 8


def test_prefix_and_window_is_the_same_without_gists() -> None:
    """R-SWA (2606.23050): n(t) = prefix and the last n tokens, in a cache of constant size."""
    torch.manual_seed(2)
    prefix, window, steps = 6, 4, 15
    ring = Ring([("prefix", prefix), ("window", window)], batch=1, **SIZES)
    k, v = tokens(1, prefix + steps, SHARED, WIDTH), tokens(1, prefix + steps, SHARED, WIDTH)
    ring.write("prefix", k[:, :prefix], v[:, :prefix], moment(0))
    visibility = ring.visibility((("token", 1),), None, {("token", "prefix"): PAST, ("token", "window"): PAST})
    for t in range(steps):
        at = prefix + t
        ring.write("window", k[:, at : at + 1], v[:, at : at + 1], moment(0))
        q = tokens(1, 1, HEADS, WIDTH)
        chosen = [*range(prefix), *range(max(prefix, at - window + 1), at + 1)]
        all_of = Visibility((("token", 1),), (("past", len(chosen)),), {("token", "past"): PAST})
        want = attention(q, k[:, chosen], v[:, chosen], all_of)
        torch.testing.assert_close(attention(q, ring.k, ring.v, visibility), want, rtol=0, atol=1e-14)


def test_each_sample_has_its_own_cycle() -> None:
    ring = Ring([("other", 2), ("recent", 4)], batch=2, heads=1, width=1)
    for t in range(3):
        value = torch.full((2, 1, 1, 1), float(t))
        ring.write("recent", value, -value, torch.tensor([[t], [t if t != 1 else EMPTY]], dtype=torch.int32))
    assert ring.frame.tolist() == [[-1, -1, 0, 1, 2, -1], [-1, -1, 0, 2, -1, -1]]
    assert ring.k[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 2, 0], [0, 0, 0, 2, 0, 0]]
    ring.reset(torch.tensor([True, False]))
    three = torch.tensor([[[[7.0]], [[8.0]], [[9.0]]]]).expand(2, 3, 1, 1)
    ring.write("recent", three, -three, torch.tensor([[7, 8, 9]], dtype=torch.int32))
    # The second sample goes on behind its two, and over its oldest.
    assert ring.frame.tolist() == [[-1, -1, 7, 8, 9, -1], [-1, -1, 9, 2, 7, 8]]
    assert ring.v[1, :, 0, 0].tolist() == [0, 0, -9, -2, -7, -8]
    assert ring.v[0, 2:5, 0, 0].tolist() == [-7, -8, -9]


def test_tokens_left_out_among_others_keep_the_order_of_the_rest() -> None:
    ring = Ring([("recent", 5)], batch=1, heads=1, width=1)
    first = torch.arange(1.0, 5.0).view(1, 4, 1, 1)
    ring.write("recent", first, first, torch.tensor([[3, -1, 4, -7]], dtype=torch.int32))
    assert ring.frame.tolist() == [[3, 4, -1, -1, -1]]
    assert ring.k[0, :, 0, 0].tolist() == [1, 3, 0, 0, 0]
    ring.write("recent", first, first, torch.tensor([[5]], dtype=torch.int32))
    assert ring.frame.tolist() == [[5, 4, 5, 5, 5]]
    assert ring.k[0, :, 0, 0].tolist() == [4, 3, 1, 2, 3]


def test_evicted_and_reset_slots_are_empty() -> None:
    ring = Ring([("a", 3), ("b", 3)], batch=2, heads=1, width=1)
    token = torch.ones(2, 3, 1, 1)
    for kind in ("a", "b"):
        ring.write(kind, token, token, torch.tensor([[1, 2, 3]], dtype=torch.int32))
    ring.evict("b", 3)
    assert ring.frame.tolist() == [[1, 2, 3, -1, -1, 3]] * 2
    ring.evict("a", torch.tensor([[0], [2]]))
    assert ring.frame.tolist() == [[1, 2, 3, -1, -1, 3], [-1, 2, 3, -1, -1, 3]]
    ring.reset()
    assert bool((ring.frame == EMPTY).all())


def test_the_visibility_holds_the_rings_own_frames() -> None:
    ring = Ring([("a", 3)], batch=1, heads=1, width=1)
    visibility = ring.visibility((("q", 1),), None, {("q", "a"): PAST})
    assert visibility.frame_k is ring.frame
    assert not bool(visibility.mask().any())
    ring.write("a", torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), moment(0))
    assert visibility.mask().tolist() == [[[True, False, False]]]


def test_buffers_begin_as_zeros_and_take_no_gradients() -> None:
    ring = Ring([("a", 3)], batch=1, heads=2, width=4, width_v=6, dtype=torch.float16)
    assert ring.k.shape == (1, 3, 2, 4) and ring.v.shape == (1, 3, 2, 6)
    assert not bool(ring.k.any()) and not bool(ring.v.any())
    k = torch.ones(1, 1, 2, 4, requires_grad=True)
    ring.write("a", k, torch.ones(1, 1, 2, 6, requires_grad=True), moment(0))
    assert not ring.k.requires_grad and not ring.v.requires_grad


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Ring([("a", 3), ("a", 2)], batch=1, heads=1, width=1), "'a' is named twice or holds no token"),
        (lambda: Ring([("a", 0)], batch=1, heads=1, width=1), "'a' is named twice or holds no token"),
        (lambda: _small().write("b", torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), moment(0)), "no kind 'b'"),
        (lambda: _small().write("a", torch.ones(1, 4, 1, 1), torch.ones(1, 4, 1, 1), moment(0)), "up to 3 tokens"),
        (lambda: _small().write("a", torch.ones(1, 1, 2, 1), torch.ones(1, 1, 1, 1), moment(0)), "but here"),
        (lambda: _small().write("a", torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), moment(0).long()), "int32"),
        (lambda: _small().write("a", torch.ones(1, 3, 1, 1), torch.ones(1, 3, 1, 1), moment(0).expand(3, 1)), "int32"),
    ],
)
def test_misuse_is_told(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def _small() -> Ring:
    return Ring([("a", 3)], batch=1, heads=1, width=1)
