"""Processes that work together: who am I, and small Python objects from one to the others.

`torchrun` starts the processes and tells each its place by environment variables. A process started without
it is a world of one, in which every exchange returns what was put in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from resnest_zoo.errors import ConfigError

T = TypeVar("T")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """All processes of one run, seen from one of them.

    Attributes:
        rank: of this process, from 0; number 0 speaks for all.
        size: number of processes.
        local_rank: of this process on its machine, from 0; its GPU where there are several.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """The `value` of rank 0, in every process; it must be picklable."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes by rank, in process 0; an empty list elsewhere."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def first(self, value: T | None) -> T | None:
        """The value of the lowest rank that has one, in every process: so that all stop for one's problem."""
        return self.broadcast(next((v for v in self.gather(value) if v is not None), None))

    def device(self, name: str) -> str:
        """The device of this process where all are asked for `name`: of several GPUs its own."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.size > 1 else name


@contextmanager
def join(timeout: timedelta = timedelta(hours=12)) -> Iterator[World]:
    """Be part of the processes that `torchrun` started, or a world of one.

    Exchange runs over gloo; tensors on GPUs over nccl.

    Args:
        timeout: how long a process may wait for another before it gives up.

    Raises:
        ConfigError: only some of torchrun's variables are set.
    """
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield World()
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"started as one of several processes, but {', '.join(missing)} not set; start with torchrun"
        )
    local_rank = int(os.environ["LOCAL_RANK"])
    with_gpus = torch.cuda.is_available()
    if with_gpus:
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if with_gpus else "gloo", timeout=timeout)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        dist.destroy_process_group()
