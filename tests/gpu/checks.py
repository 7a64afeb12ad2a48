"""attend held against the specification in fp64, on any device: what the GPU tests are made of.

The allowed error is relative to what plain PyTorch loses in the same type: twice that for outputs, three times for
gradients, and what any rounding may be off by: half a unit in the last place of the largest output, a whole one of the
largest gradient, which is rounded twice on its way.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ros_attn.kernels.attention import attend
from ros_attn.kernels.intervals import pair_mask
from ros_attn.kernels.layout import ALL, PAST, SAME, dense, memory
from ros_attn.kernels.ring import Ring
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import Answer, Case, answer, random_case

FP32_FLOOR = 2e-6
"""Of the largest value, of gradients of the largest before they cancel: fp32 sums in another order."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where attend runs, and by which of its backends."""

    device: str
    backend: str
    decode: str


GPU = Place("cuda", "triton", "decode")


def moved(case: Case, dtype: torch.dtype, device: str) -> Case:
    """The case with inputs that the type can hold, in fp64 on the device."""
    made = copy.copy(case)
    for name in ("q", "k", "v", "key_bias", "d_out"):
        x = getattr(case, name)
        setattr(made, name, None if x is None else x.to(dtype).double().to(device))
    made.d_lse = case.d_lse.to(device)
    made.visibility = case.visibility.to(device)
    for name in ("open", "len_q", "len_k"):
        x = getattr(case, name)
        setattr(made, name, None if x is None else x.to(device))
    return made


def plain(
    q: Tensor, k: Tensor, v: Tensor, *, key_bias: Tensor | None, return_lse: bool, scale: float,
    visibility: Visibility | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None, normaliser: str,
) -> Any:  # fmt: skip
    """PyTorch as one writes it: products in the type, the normaliser in fp32."""
    layout = dense(q.shape[1], k.shape[1]) if visibility is None else visibility.layout
    frames = (None, None) if visibility is None else (visibility.frame_q, visibility.frame_k)
    seen = pair_mask(layout, *frames, open, len_q, len_k, device=q.device)[:, None]
    groups = q.shape[2] // k.shape[2]
    keys, values = k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2)
    s = (torch.einsum("bihd,bjhd->bhij", q, keys) * scale).float()
    if key_bias is not None:
        on = pair_mask(layout, *frames, bias=True, device=q.device)[:, None]
        s = s + torch.where(on, key_bias.float()[:, :, None], 0)
    s = s.masked_fill(~seen, -torch.inf)
    dead = torch.isneginf(s).all(-1, keepdim=True)
    s = s.masked_fill(dead, 0)
    lse = torch.logsumexp(s, -1, keepdim=True)
    if normaliser == "softmax":
        p = torch.exp(s - lse)
    elif normaliser == "softmax1":
        p = torch.exp(s - torch.logaddexp(lse, torch.zeros_like(lse)))
    else:
        p = torch.sigmoid(s - torch.log(seen.sum(-1, keepdim=True).clamp_min(1)))
    p = p.masked_fill(dead, 0)
    out = torch.einsum("bhij,bjhd->bihd", p.to(q.dtype), values)
    return (out, lse.masked_fill(dead, -torch.inf)[..., 0].transpose(1, 2)) if return_lse else out


def names(case: Case) -> list[str]:
    norms = [] if case.normaliser == "sigmoid" else ["lse"]
    return ["out", *norms, "dq", "dk", "dv", *([] if case.key_bias is None else ["d_bias"])]


def uncancelled(case: Case) -> dict[str, float]:
    """How large gradients can be before dO v^T and rowsum(dO O) cancel: over one visible key only rounding is left."""
    values = case.v.repeat_interleave(case.q.shape[2] // case.v.shape[2], 2)
    most = float(torch.einsum("bihd,bjhd->bhij", case.d_out, values).abs().max())
    sides = {"dq": case.k, "dk": case.q}
    return {"d_bias": most} | {name: abs(case.scale) * most * float(x.abs().max()) for name, x in sides.items()}


def hold(
    names: list[str], exact: Answer, theirs: Answer, ours: Answer, dtype: torch.dtype, case: Case | None = None
) -> None:
    """The rule of the module, tensor by tensor, of gradients with their case; an LSE of -inf stands as -1e9."""
    before = {} if case is None or dtype != torch.float32 else uncancelled(case)
    for name, a, b, c in zip(names, exact, theirs, ours, strict=True):
        if not a.numel():
            continue
        output = name in ("out", "lse")
        finite = a.abs() < 1e8
        largest = max(float(torch.where(finite, a, 0).abs().max()), before.get(name, 0.0))
        half = dtype != torch.float32 and name != "lse"
        floor = (0.5 if output else 1.0) * torch.finfo(dtype).eps if half else FP32_FLOOR
        theirs_off = float((b.double() - a).abs().max())
        off = float((c.double() - a).abs().nan_to_num(math.inf).max())
        allowed = (2 if output else 3) * theirs_off + floor * largest
        assert off <= allowed, f"{name} is off by {off:.3g}, plain PyTorch by {theirs_off:.3g}, allowed {allowed:.3g}"


def hold_all(case: Case, dtype: torch.dtype, place: Place) -> None:
    """Outputs and gradients of a case."""
    exact, theirs = answer(case, attend, backend="reference"), answer(case, plain, dtype)
    hold(names(case), exact, theirs, answer(case, attend, dtype, backend=place.backend), dtype, case)


def structured(seed: int, dtype: torch.dtype, place: Place) -> None:
    """A random case of the oracle: kinds, frames, bias rules, closed kinds, lengths, grouped heads; with gradients."""
    case = moved(random_case(seed), dtype, place.device)
    hold_all(case, dtype, place)


def causal_case(length: int, width: int, normaliser: str, dtype: torch.dtype, device: str) -> Case:
    """Frames of 7 tokens that see the past, two query heads on a key head, a learned bias."""
    torch.manual_seed(length)
    frame = (torch.arange(length, dtype=torch.int32) // 7)[None]
    kinds = (("a", length),)
    q, k, v = (torch.randn(2, length, heads, width, dtype=torch.float64) for heads in (2, 1, 1))
    case = Case(
        q, k, v, Visibility(kinds, kinds, {("a", "a"): PAST}, frame, frame),
        torch.randn(2, 1, length, dtype=torch.float64), normaliser, width**-0.5,
    )  # fmt: skip
    return moved(case, dtype, device)


def length_of(length: int, width: int, normaliser: str, dtype: torch.dtype, place: Place) -> None:
    case = causal_case(length, width, normaliser, dtype, place.device)
    hold_all(case, dtype, place)


def kinds_case(normaliser: str, device: str) -> Case:
    """Three samples with other kinds closed in each, a kind boundary within a tile, and a bias rule."""
    torch.manual_seed(3)
    kinds = (("see", 150), ("touch", 50), ("act", 57))
    rule = {(a, c): ALL for a in ("see", "act") for c in ("see", "touch", "act")} | {("touch", "touch"): SAME}
    length = sum(count for _, count in kinds)
    visibility = Visibility(kinds, kinds, rule, bias_on={("act", "touch"): ALL, ("see", "see"): ALL})
    q, k, v = (torch.randn(3, length, heads, 64, dtype=torch.float64) for heads in (4, 2, 2))
    opened = torch.tensor([[True, False, True], [False, True, True], [False, False, False]])
    case = Case(
        q, k, v, visibility, torch.randn(3, 4, length, dtype=torch.float64), normaliser, 0.125, open=opened
    )  # fmt: skip
    return moved(case, torch.bfloat16, device)


def closed_kinds(normaliser: str, place: Place) -> None:
    dtype = torch.float32 if place.device == "cpu" else torch.bfloat16
    case = kinds_case(normaliser, place.device)
    hold_all(case, dtype, place)


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """New memory holds NaN, or the largest integer: what a kernel forgets to write shows."""
    before = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


def bits(case: Case, dtype: torch.dtype, place: Place, runs: int = 3) -> None:
    """Outputs and gradients are the same bits in every run."""
    first = answer(case, attend, dtype, backend=place.backend)
    for _ in range(runs - 1):
        again = answer(case, attend, dtype, backend=place.backend)
        for name, a, b in zip(names(case), first, again, strict=True):
            assert torch.equal(a, b), f"{name} differs in {int((a != b).sum())} of {a.numel()} elements"


def decoded(
    queries: int, keys: int, width: int, normaliser: str, dtype: torch.dtype, place: Place, group: int = 2
) -> None:
    """Few queries over two kinds of ring slots, of which some are empty; out and LSE."""
    torch.manual_seed(keys)
    kinds_q, kinds_k = (("now", queries),), (("recent", keys - keys // 3), ("gist", keys // 3))
    frame_k = torch.randint(-1, 9, (2, keys), dtype=torch.int32)
    visibility = Visibility(
        kinds_q, kinds_k, {("now", "recent"): memory(4, 1), ("now", "gist"): PAST},
        torch.full((1, queries), 8, dtype=torch.int32), frame_k,
    )  # fmt: skip
    q = torch.randn(2, queries, 2 * group, width, dtype=torch.float64)
    k, v = torch.randn(2, 2, keys, 2, width, dtype=torch.float64)
    case = moved(Case(q, k, v, visibility, None, normaliser, width**-0.5), dtype, place.device)
    hold_forward(case, dtype, place.decode)


def decoded_case(seed: int, dtype: torch.dtype, place: Place) -> None:
    """A random case of the oracle by the streaming backend."""
    hold_forward(moved(random_case(seed), dtype, place.device), dtype, place.decode)


def hold_forward(case: Case, dtype: torch.dtype, backend: str) -> None:
    def of(attention: Any, dtype: torch.dtype, **options: Any) -> Answer:
        q, k, v, *bias = (x.detach() for x in case.leaves(dtype))
        wants = case.normaliser != "sigmoid"
        found = attention(
            q, k, v, key_bias=bias[0] if bias else None, return_lse=wants, **case.options(), **options
        )  # fmt: skip
        return (found[0], torch.where(torch.isneginf(found[1]), -1e9, found[1])) if wants else (found,)

    exact = of(attend, torch.float64, backend="reference")
    hold(names(case)[: len(exact)], exact, of(plain, dtype), of(attend, dtype, backend=backend), dtype)


def stream(normaliser: str, dtype: torch.dtype, place: Place, steps: int = 9) -> None:
    """A ring overwritten in place step by step: on a GPU one captured CUDA graph of write and attention, replayed."""
    torch.manual_seed(0)
    heads, width, per_step, device = 2, 64, 3, place.device
    ring = Ring([("recent", 4 * per_step)], batch=2, heads=heads, width=width, dtype=dtype, device=device)
    now = torch.zeros(1, 2, dtype=torch.int32, device=device)
    seen = ring.visibility((("now", 2),), now, {("now", "recent"): PAST})
    q = torch.zeros(2, 2, 2 * heads, width, dtype=dtype, device=device)
    k, v = (torch.zeros(2, per_step, heads, width, dtype=dtype, device=device) for _ in range(2))
    moment = torch.zeros(1, 1, dtype=torch.int32, device=device)

    def step() -> Tensor:
        ring.write("recent", k, v, moment)
        return attend(q, ring.k, ring.v, visibility=seen, normaliser=normaliser, backend=place.decode)

    run = captured(step) if device == "cuda" else step
    ring.reset()
    history: list[tuple[Tensor, Tensor]] = []
    for t in range(steps):
        for x in (q, k, v):
            x.copy_(torch.randn(x.shape).to(x))
        moment.fill_(t)
        now.fill_(t)
        found = run()
        history.append((k.clone(), v.clone()))
        last_k, last_v = (torch.cat(each, 1) for each in zip(*history[-4:], strict=True))
        options: dict[str, Any] = {"normaliser": normaliser, "backend": "reference"}
        exact = attend(q.double(), last_k.double(), last_v.double(), **options)
        theirs = plain(
            q, last_k, last_v, key_bias=None, return_lse=False, scale=width**-0.5, visibility=None, open=None,
            len_q=None, len_k=None, normaliser=normaliser,
        )  # fmt: skip
        hold(["out"], (exact,), (theirs,), (found,), dtype)


def captured(step: Any) -> Any:
    """The step as a CUDA graph; what it returns is overwritten by the next replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def frames_in_place(place: Place) -> None:
    """Frames that change in place are seen by the next call, on a GPU without a synchronisation."""
    torch.manual_seed(0)
    dtype = torch.float32 if place.device == "cpu" else torch.bfloat16
    kinds = (("a", 300),)
    frame = (torch.arange(300, dtype=torch.int32, device=place.device) // 50)[None]
    seen = Visibility(kinds, kinds, {("a", "a"): memory(2, 1)}, frame, frame.clone())
    assert seen.frame_q is not None
    q, k, v = (torch.randn(1, 300, 2, 64).to(place.device, dtype) for _ in range(3))
    attend(q, k, v, visibility=seen, backend=place.backend)
    outs = []
    with unsynchronised(place.device):
        for shift in (0, 1, 2):
            seen.frame_q.add_(shift)
            outs.append(attend(q, k, v, visibility=seen, backend=place.backend))
    frame = seen.frame_q.clone()
    for shift, found in zip((3, 2, 0), outs, strict=True):
        then = Visibility(kinds, kinds, {("a", "a"): memory(2, 1)}, frame - shift, seen.frame_k)
        exact = attend(q.double(), k.double(), v.double(), visibility=then, backend="reference")
        case = Case(q, k, v, then, None, "softmax", 0.125)
        theirs = plain(q, k, v, key_bias=None, return_lse=False, **case.options())
        hold(["out"], (exact,), (theirs,), (found,), dtype)


@contextlib.contextmanager
def unsynchronised(device: str) -> Iterator[None]:
    """Within it a wait of the host for the GPU is an error."""
    if device != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def long(normaliser: str, dtype: torch.dtype, place: Place, keys: int = 16384, queries: int = 2048) -> None:
    """One head over many keys, with gradients: where an error of a weight of 1/n would add up."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, length, 1, 64, dtype=torch.float64) for length in (queries, keys, keys))
    seen = Visibility((("a", queries),), (("a", keys),), {("a", "a"): ALL})
    case = moved(Case(q, k, v, seen, None, normaliser, 0.125), dtype, place.device)
    hold_all(case, dtype, place)


def compiled(normaliser: str, place: Place, backend: str) -> None:
    """torch.compile of a layer around attend, in one graph, forward and backward, with the same numbers."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    frame = (torch.arange(200, dtype=torch.int32, device=place.device) // 6)[None]
    kinds = (("a", 150), ("b", 50))
    seen = Visibility(kinds, kinds, {("a", "a"): SAME, ("b", "a"): PAST, ("b", "b"): ALL}, frame, frame)
    inputs = [torch.randn(2, 200, 2, 32, device=place.device).requires_grad_() for _ in range(3)]
    inputs.append(torch.randn(2, 1, 200, device=place.device).requires_grad_())

    def layer(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return attend(
            2 * q, k, v, visibility=seen, key_bias=bias, normaliser=normaliser, backend=place.backend
        ).sin()  # fmt: skip

    whole = torch.compile(layer, fullgraph=True, backend=backend)
    one, other = (torch.autograd.grad(f(*inputs).square().sum(), inputs) for f in (layer, whole))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
