"""The gated delta rule by the Triton kernels of the package flash-linear-attention (``fla``), where it is installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

# The oldest release whose call was read.
_OLDEST = (0, 2)
_WIDEST = 256
# exp(-100) is 0 beside 1 in float32; -inf would be NaN in fla, which subtracts cumulative sums of log_gamma.
_FORGOTTEN = -100.0


def usable(q: Tensor, v: Tensor) -> tuple[bool, str]:
    """Whether ``run`` can take such q [B, N, H, D] and v [B, N, H, Dv], and why (not), as a clause."""
    if not q.is_cuda:
        return False, f"the tensors are on {q.device.type!r} and its kernels run on CUDA"
    if q.dtype not in (torch.float16, torch.bfloat16):
        # Its releases refuse float32 (0.2.0, 0.3.0) or multiply it in TF32, of 10 bits (0.6.0).
        return False, f"it is exact enough for float16 and bfloat16, not for {str(q.dtype).removeprefix('torch.')}"
    if q.shape[-1] > _WIDEST:
        return False, f"keys of {q.shape[-1]} values are longer than its {_WIDEST}"
    if q.numel() == 0 or v.numel() == 0:
        return False, "there is nothing to compute"
    found = _version()
    if found is None:
        return False, "the package flash-linear-attention is not installed (pip install flash-linear-attention)"
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < _OLDEST:
        return False, f"flash-linear-attention {found} is older than {'.'.join(map(str, _OLDEST))}"
    return True, f"flash-linear-attention {found} on {q.device.type}"


def run(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, state: Tensor, *, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """``gated_delta`` from its prepared inputs (float32, keys of unit norm); out in ``dtype``, state in float32.

    ``chunk_gated_delta_rule`` (read in 0.2.0 to 0.6.0) takes [B, N, H, D], the logarithm of gamma, a scale and a state
    [B, H, D, Dv], the transpose of ours. Its own L2 norm stays off: it would take q too and has another epsilon.
    ``log_gamma`` below -100 counts as -100, with gradient 0.
    """
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    out, last = chunk_gated_delta_rule(
        q=q.to(dtype).contiguous(),
        k=k.to(dtype).contiguous(),
        v=v.to(dtype).contiguous(),
        g=log_gamma.clamp_min(_FORGOTTEN).contiguous(),
        beta=beta.contiguous(),
        scale=scale,
        initial_state=state.transpose(-1, -2).contiguous(),
        output_final_state=True,
    )
    return out.to(dtype), last.transpose(-1, -2).float()


def _version() -> str | None:
    for package in ("flash-linear-attention", "fla-core"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
