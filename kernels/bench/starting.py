"""What a user waits for besides the device: the first call of a process, and the host's part of every call."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import torch
from torch.nn.functional import scaled_dot_product_attention

from ros_attn.kernels.attention import attend
from ros_attn.kernels.bench.contest import Context, normal
from ros_attn.kernels.bench.machine import host_us
from ros_attn.kernels.bench.patterns import memory_wam
from ros_attn.kernels.bench.rows import Bar, Row, Task

_FIRST = """
import sys, time, torch
from ros_attn.kernels import attend
from ros_attn.kernels.bench.patterns import memory_wam
device, backend, dtype, way = sys.argv[1:]
seen = memory_wam(8).visibility.to(device)
q, k, v = torch.randn(3, 1, seen.length_q, 4, 128, device=device, dtype=getattr(torch, dtype)).unbind()
q.requires_grad_(way == "backward")
wait = torch.cuda.synchronize if device == "cuda" else lambda: None
wait()
start = time.perf_counter()
out = attend(q, k, v, visibility=seen, backend=backend)
if way == "backward":
    out.backward(torch.ones_like(out))
wait()
print(time.perf_counter() - start)
"""


def tasks(context: Context) -> list[Task]:
    machine = context.machine

    def first(way: str) -> Row:
        """Seconds in a process of its own that finds nothing compiled."""
        with tempfile.TemporaryDirectory() as cache:
            found = subprocess.run(
                [sys.executable, "-c", _FIRST, machine.device.type, machine.backend,
                 str(machine.dtype).removeprefix("torch."), way],
                check=True, capture_output=True, text=True, timeout=120, env=os.environ | {"TRITON_CACHE_DIR": cache},
            )  # fmt: skip
        return {"figures": {"s": float(found.stdout.split()[-1])}}

    def host() -> Row:
        """Microseconds before the host is free again, plans being there."""
        seen = memory_wam(16).visibility.to(machine.device)
        q, k, v = normal(machine, 1, seen.length_q, 4, 64)
        few = q[:, :1]
        a, b, c = (each.transpose(1, 2) for each in (q, k, v))
        with torch.no_grad():
            return {
                "figures": {
                    "attend, us": host_us(lambda: attend(q, k, v, backend=machine.backend)),
                    "attend with a visibility, us": host_us(
                        lambda: attend(q, k, v, visibility=seen, backend=machine.backend)
                    ),
                    "decode, us": host_us(lambda: attend(few, k, v, backend=machine.decode)),
                    "SDPA, us": host_us(lambda: scaled_dot_product_attention(a, b, c)),
                }
            }

    # The bar is for a forward: the backward compiles three kernels more.
    return [
        Task("c", "first call", {"way": "forward"}, lambda: first("forward"), (Bar("s", 3.0, least=False),), 30),
        Task("c", "first call", {"way": "backward"}, lambda: first("backward"), (), 60),
        Task("c", "host time of a call", {}, host, (), 10),
    ]
