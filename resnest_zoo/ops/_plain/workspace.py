"""Memory that is used again: large tensors come fresh from the system, which fills each page first."""

from __future__ import annotations

import threading
from math import prod

import torch
from torch import Tensor

_LARGEST = 2**24  # numbers kept under one name: 64 MiB of float32


class _Workspace(threading.local):
    """Of one thread, freed with it."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of `shape` on the CPU with any values; it loses them when `name` is taken again."""
        count = prod(shape)
        kept = self.kept.get((name, dtype))
        if kept is None or len(kept) < count:
            with torch.inference_mode(False):  # else it could be written in that mode alone
                kept = torch.empty(count, dtype=dtype)
            if count <= _LARGEST:
                self.kept[name, dtype] = kept
        return kept[:count].view(shape)

    def clear(self) -> None:
        """Give all memory back."""
        self.kept.clear()


WORKSPACE = _Workspace()
