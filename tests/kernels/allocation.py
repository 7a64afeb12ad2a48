"""Counts large tensors that a piece of code writes to new memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NewStorages(TorchDispatchMode):
    """Within it, ``count`` counts tensors of at least ``numel`` elements in other memory than that of ``known``."""

    def __init__(self, known: list[Tensor], numel: int) -> None:
        super().__init__()
        # Kept alive, so that no later tensor gets an address that was counted.
        self.kept = list(known)
        self.numel = numel
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.numel() >= self.numel:
                known = {y.untyped_storage().data_ptr() for y in self.kept}
                self.count += x.untyped_storage().data_ptr() not in known
                self.kept.append(x)
        return result
