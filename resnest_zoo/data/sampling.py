"""Which pictures stand in which batch: without end, shuffled, and the same in every run of a seed.

A batch is a function of the seed, the process and the batch's number alone, so that a resumed run goes on
with the very batches that an unbroken one would have had. To start late, the earlier batches are formed
and thrown away, which takes no picture.

Source: detectron2, data/samplers/distributed_sampler.py, `TrainingSampler`, whose order for a seed is the
same; data/common.py, `AspectRatioGroupedDataset`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from resnest_zoo.errors import ConfigError


class Draw(NamedTuple):
    """A picture's turn.

    Attributes:
        epoch: from 0. Each picture has one turn in each epoch.
        picture: its number in the data set.
    """

    epoch: int
    picture: int


class TrainingBatches:
    """An endless iterable of batches, each a list of `Draw`.

    The shuffled epochs follow each other in one stream, of which each process takes every `world_size`-th
    draw. Together the processes see each picture once in an epoch; a batch may reach into the next one.
    """

    def __init__(
        self,
        sizes: Tensor,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        grouped: bool = True,
        first: int = 0,
    ) -> None:
        """State what to draw.

        Args:
            sizes: (N, 2), height and width of each picture.
            batch_size: of this process.
            seed: of the shuffling, at least 0 and the same in all processes.
            rank: of this process, from 0.
            world_size: number of processes.
            grouped: whether pictures wider than high and the others never share a batch, which saves padding,
                ASPECT_RATIO_GROUPING.
            first: number of the batch to start from: how many this process has used before.

        Raises:
            ConfigError: a number is out of its range.
        """
        if not (len(sizes) and batch_size > 0 and seed >= 0 and 0 <= rank < world_size and first >= 0):
            raise ConfigError(
                "batches need pictures, a batch size above 0, seed and first batch not below 0, and a rank "
                f"below the number of processes; got {len(sizes)} pictures, batch size {batch_size}, "
                f"seed {seed}, first batch {first}, rank {rank} of {world_size}"
            )
        self.count = len(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.first = first
        self.is_wide = (sizes[:, 1] > sizes[:, 0]).tolist() if grouped else [False] * len(sizes)

    def __iter__(self) -> Iterator[list[Draw]]:
        return islice(self._batches(), self.first, None)

    def _batches(self) -> Iterator[list[Draw]]:
        waiting: dict[bool, list[Draw]] = {False: [], True: []}
        for draw in islice(self._stream(), self.rank, None, self.world_size):
            wide = self.is_wide[draw.picture]
            waiting[wide].append(draw)
            if len(waiting[wide]) == self.batch_size:
                yield waiting[wide]
                waiting[wide] = []

    def _stream(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(self.seed)
        epoch = 0
        while True:
            for picture in torch.randperm(self.count, generator=generator).tolist():
                yield Draw(epoch, picture)
            epoch += 1
