"""Training in several processes, as ``torchrun`` starts them: each with robots of its own, gradients averaged."""

from __future__ import annotations

import os

import torch


def rank() -> int:
    """Which process this is; 0 alone writes."""
    return int(os.environ.get("RANK", "0"))


def processes() -> dict[str, int] | None:
    """What rsl_rl calls its multi-GPU configuration, None for one process; joins the others on the first call.

    Over gloo without GPUs, over nccl with them.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return None
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return {"global_rank": rank(), "local_rank": int(os.environ.get("LOCAL_RANK", "0")), "world_size": count}
