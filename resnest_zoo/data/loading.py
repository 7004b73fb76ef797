"""The training loader: batches of samples, prepared ahead by worker processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from resnest_zoo.config import Config
from resnest_zoo.data.dataset import Dataset
from resnest_zoo.data.samples import Sample, make_sample
from resnest_zoo.data.sampling import Draw, TrainingBatches
from resnest_zoo.data.workers import read_ahead
from resnest_zoo.errors import ConfigError, DataError, ImageError

logger = logging.getLogger(__name__)

_TRIES = 100  # pictures in a row that cannot be read: then it is not single pictures that are broken


class TrainingSamples:
    """The sample of each draw.

    What a sample's transform draws follows from the seed, the epoch and the picture: not from the worker
    that makes it, the number of workers or the samples before it.
    """

    def __init__(self, dataset: Dataset, config: Config, seed: int) -> None:
        self.dataset = dataset
        self.settings = config.input
        self.masks = config.model.mask_on
        self.panoptic = _is_panoptic(config)
        self.ignore_value = config.model.sem_seg_head.ignore_value
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample:
        """Raises DataError, with the picture's name, whatever goes wrong."""
        record = self.dataset[draw.picture]
        if not self.masks:
            record = replace(record, segmentations=None)
        if not self.panoptic:
            record = replace(record, segment_map=None)
        try:
            rng = np.random.default_rng((self.seed, draw.epoch, draw.picture))
            return make_sample(record, self.settings, rng, self.ignore_value)
        # From a worker process an error arrives as text, which must tell what to look at.
        except Exception as error:
            where = f"picture {record.image_id} ({record.file}), epoch {draw.epoch}"
            raise DataError(f"{where}: {type(error).__name__}: {error}") from error

    def batch(self, draws: list[Draw]) -> tuple[list[Sample], dict[str, str]]:
        """The samples of a batch, and the problems of pictures that others stand in for, by file."""
        problems: dict[str, str] = {}
        return [self._readable(draw, problems) for draw in draws], problems

    def _readable(self, draw: Draw, problems: dict[str, str]) -> Sample:
        """The sample of a draw or, where the data set allows, of the next picture that can be read."""
        for _ in range(_TRIES):
            try:
                return self[draw]
            except DataError as error:
                if not isinstance(error.__cause__, ImageError):
                    raise
                if self.dataset.left_out is None:
                    raise DataError(
                        f"{error}; replace it, or leave such pictures out by --skip-bad"
                    ) from error
                problems[str(self.dataset[draw.picture].file)] = str(error.__cause__)
            draw = draw._replace(picture=(draw.picture + 1) % len(self.dataset))
        raise DataError(f"{_TRIES} pictures in a row cannot be read, the last: {[*problems.values()][-1]}")


def build_training_loader(
    config: Config,
    dataset: Dataset,
    seed: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    first_iteration: int = 0,
) -> Iterator[list[Sample]]:
    """This process's batches, without end.

    Args:
        config: INPUT, DATALOADER and SOLVER.IMS_PER_BATCH.
        dataset: from `read_dataset`, with masks and panoptic annotations where the model learns from them.
        seed: of the order and of the transforms, at least 0, the same in all processes.
        rank: of this process, from 0.
        world_size: number of processes, which share IMS_PER_BATCH.
        first_iteration: how many batches earlier runs have used up.

    Returns:
        Batches, each a list of samples. At most two batches a worker are kept ready. With CUDA, pictures
        that workers read are in pinned memory. Where the data set says so, another picture takes the place
        of one that cannot be read, and a warning counts them.

    Raises:
        ConfigError: IMS_PER_BATCH cannot be shared evenly, or config and data set do not fit together.
        DataError: from the iterator, a picture cannot be used.
        WorkerError: from the iterator, the system ended a process that reads.
    """
    _check(config, dataset, world_size)
    batches = TrainingBatches(
        dataset.sizes,
        config.solver.ims_per_batch // world_size,
        seed,
        rank=rank,
        world_size=world_size,
        grouped=config.dataloader.aspect_ratio_grouping,
        first=first_iteration,
    )
    return _read(TrainingSamples(dataset, config, seed), batches, config.dataloader.num_workers)


def _read(samples: TrainingSamples, batches: TrainingBatches, workers: int) -> Iterator[list[Sample]]:
    pin = torch.cuda.is_available()
    known = samples.dataset.left_out
    for batch, problems in read_ahead(samples.batch, batches, workers, seed=samples.seed, pin=pin):
        for file, problem in problems.items():
            if known is not None and file not in known:
                known[file] = problem
                logger.warning(
                    "left out, %d so far of %d pictures: %s", len(known), len(samples.dataset), problem
                )
        yield batch


def _is_panoptic(config: Config) -> bool:
    return config.model.meta_architecture == "PanopticFPN"


def _check(config: Config, dataset: Dataset, world_size: int) -> None:
    model, things, stuff = config.model, dataset.categories.things, dataset.categories.stuff
    record = dataset[0]
    panoptic = _is_panoptic(config)
    problems = []
    if world_size < 1 or config.solver.ims_per_batch % world_size:
        problems.append(
            f"SOLVER.IMS_PER_BATCH: {config.solver.ims_per_batch} pictures cannot be shared by {world_size} "
            "processes evenly"
        )
    if len(things) != model.roi_heads.num_classes:
        problems.append(
            f"MODEL.ROI_HEADS.NUM_CLASSES: is {model.roi_heads.num_classes}, "
            f"but the data set has {len(things)}"
        )
    if model.mask_on and record.segmentations is None:
        problems.append("MODEL.MASK_ON: the data set was read without masks; read it with masks=True")
    if panoptic and record.segment_map is None:
        problems.append("MODEL.META_ARCHITECTURE: PanopticFPN needs a data set with panoptic annotations")
    elif panoptic and len(stuff) != model.sem_seg_head.num_classes:
        problems.append(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES: is {model.sem_seg_head.num_classes}, "
            f"but the data set has {len(stuff)}"
        )
    if panoptic and model.sem_seg_head.ignore_value > 255:
        problems.append("MODEL.SEM_SEG_HEAD.IGNORE_VALUE: semantic maps hold values up to 255")
    if problems:
        raise ConfigError("config and data set do not fit:\n  " + "\n  ".join(problems))
