"""One process or several under ``torchrun``: where a batch's part is computed, and gradients that are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ros_attn.errors import RosAttnError


@dataclass(frozen=True)
class Processes:
    """This process among ``count``, and its share of ``batch`` samples a step."""

    rank: int
    count: int
    device: torch.device
    batch: int

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def part(self, step: int) -> range:
        """The indices of this process's samples at a step; all parts together are those of a single process."""
        share = self.batch // self.count
        start = step * self.batch + self.rank * share
        return range(start, start + share)

    def shared(self, model: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes."""
        # Ablations leave weights unused.
        return model if self.count == 1 else DistributedDataParallel(model, find_unused_parameters=True)


@contextmanager
def processes(batch: int) -> Iterator[Processes]:
    """The group that ``torchrun`` started, or this process alone; on a GPU each where there are any.

    Raises RosAttnError where the batch cannot be shared equally.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if batch % count:
        raise RosAttnError(f"A batch of {batch} cannot be shared by {count} processes; choose a multiple of {count}.")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(rank, count, device, batch)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank, count, device, batch)
    finally:
        distributed.destroy_process_group()
