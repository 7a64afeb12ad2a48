"""Attention without structure: softmax beside PyTorch's own, sigmoid beside triton-sigmoid, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from torch.nn.attention import SDPBackend

from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench import peers
from ros_attn.kernels.bench.accuracy import Sample
from ros_attn.kernels.bench.contest import OURS, Contest, Context, normal, task
from ros_attn.kernels.bench.peers import Peer
from ros_attn.kernels.bench.rows import Bar, Task

FORWARD = {"softmax": {128: 400.0, 64: 340.0}, "sigmoid": {128: 450.0, 64: 400.0}}
BACKWARD = {"softmax": {128: 270.0, 64: 240.0}, "sigmoid": {128: 320.0, 64: 280.0}}
"""TFLOP/s asked for on an H200, by head dim."""
SDPA = {"SDPA, flash": SDPBackend.FLASH_ATTENTION, "SDPA, cuDNN": SDPBackend.CUDNN_ATTENTION}
FLEX = "FlexAttention"
SIGMOID, ACCURATE = "triton-sigmoid", "triton-sigmoid accurate"


@dataclass(frozen=True)
class Sizes:
    """``tokens`` of all samples and ``channels`` of all heads stay the same, whatever the length and the head dim."""

    tokens: int = 16384
    channels: int = 2048
    dims: tuple[int, ...] = (128, 64)
    lengths: tuple[int, ...] = (8192, 16384)


def tasks(context: Context, sizes: Sizes) -> list[Task]:
    """Forward, then backward, of both normalisers; beside the accurate mode of triton-sigmoid in rows of their own."""
    forward, backward = [], []
    for dim in sizes.dims:
        for length in sizes.lengths:
            for normaliser in ("sigmoid", "softmax"):
                forward.append(_task(context, sizes, normaliser, dim, length, "forward"))
                backward.append(_task(context, sizes, normaliser, dim, length, "backward"))
            forward.append(_task(context, sizes, "sigmoid", dim, length, "forward", accurate=True))
    return forward + backward


def _task(
    context: Context, sizes: Sizes, normaliser: str, dim: int, length: int, way: str, accurate: bool = False
) -> Task:
    peer = ACCURATE if accurate else SIGMOID
    others = (peer,) if normaliser == "sigmoid" else (*SDPA, FLEX)
    if normaliser == "sigmoid" and way == "backward" and length > min(sizes.lengths):
        # Its search among 48 configurations takes minutes to compile for each range of lengths.
        others = ()
    rate = (FORWARD if way == "forward" else BACKWARD)[normaliser].get(dim)
    bars = [] if rate is None else [Bar("TFLOP/s", rate)]
    if accurate:
        bars = [Bar(f"speed-up over {ACCURATE}", 1.15)]
    elif normaliser == "sigmoid" and others:
        bars.append(Bar(f"speed-up over {SIGMOID}", 1.0 if way == "forward" else 0.95))
        if way == "forward":
            bars.append(Bar("error / PyTorch's", 2.0, least=False))
    name = f"{normaliser} {way}" + (", accurate mode" if accurate else "")
    batch, heads = max(1, sizes.tokens // length), sizes.channels // dim
    return task(
        context, name, {"D": dim, "L": length, "B": batch, "H": heads},
        lambda: contest(context, normaliser, (batch, length, heads, dim), way, others), (OURS, *others), tuple(bars),
        # Where the package is missing, a process of its own would only find that out once more.
        seconds=20, environment=peers.ACCURATE if accurate and find_spec("triton_sigmoid") else None,
    )  # fmt: skip


def contest(
    context: Context, normaliser: str, shape: tuple[int, int, int, int], way: str, others: tuple[str, ...]
) -> Contest:
    """``shape``: B, L, H, D of all three tensors."""
    q, k, v, d_out = normal(context.machine, *shape, count=4)
    differentiated = way == "backward"
    for x in (q, k, v):
        x.requires_grad_(differentiated)

    def own() -> Peer:
        return Peer(lambda: attend(q, k, v, normaliser=normaliser, backend=context.machine.backend), [q, k, v])

    peer: dict[str, Callable[[], Peer]] = {
        OURS: own,
        FLEX: lambda: peers.flex_attention(q, k, v),
        SIGMOID: lambda: peers.triton_sigmoid(q, k, v),
        ACCURATE: lambda: peers.triton_sigmoid(q, k, v),
        **{name: (lambda backend=backend: peers.sdpa(q, k, v, backend=backend)) for name, backend in SDPA.items()},
    }
    makers = {
        name: (lambda name=name: peer[name]().backward(d_out) if differentiated else peer[name]().forward)
        for name in (OURS, *others)
    }
    batch, length, heads, dim = shape
    tensors = 8.0 if differentiated else 4.0
    return Contest(
        makers,
        flops=4.0 * batch * heads * length * length * dim * (2.5 if differentiated else 1.0),
        bytes=tensors * q.element_size() * q.numel(),
        sample=lambda: Sample(
            q.detach(), k.detach(), v.detach(), normaliser=normaliser, d_out=d_out if differentiated else None
        ),
    )
