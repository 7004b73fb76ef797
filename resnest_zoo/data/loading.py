"""The training loader: batches of samples, prepared ahead by worker processes."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from resnest_zoo.config import Config
from resnest_zoo.data.dataset import Dataset
from resnest_zoo.data.samples import Sample, make_sample
from resnest_zoo.data.sampling import Draw, TrainingBatches
from resnest_zoo.errors import ConfigError, DataError


class TrainingSamples(TorchDataset[Sample]):
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


def build_training_loader(
    config: Config,
    dataset: Dataset,
    seed: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    first_iteration: int = 0,
) -> DataLoader[list[Sample]]:
    """An endless loader of this process's batches.

    Args:
        config: INPUT, DATALOADER and SOLVER.IMS_PER_BATCH.
        dataset: from `read_dataset`, with masks and panoptic annotations where the model learns from them.
        seed: of the order and of the transforms, at least 0, the same in all processes.
        rank: of this process, from 0.
        world_size: number of processes, which share IMS_PER_BATCH.
        first_iteration: how many batches earlier runs have used up.

    Returns:
        Batches, each a list of samples. At most two batches a worker are kept ready. With CUDA, pictures
        are in pinned memory.

    Raises:
        ConfigError: IMS_PER_BATCH cannot be shared evenly, or config and data set do not fit together.
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
    workers = count_workers(config)
    loader: DataLoader[Any] = DataLoader(
        TrainingSamples(dataset, config, seed),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=outlive_signals,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        # Else the loader would draw from the global generator each time that it starts.
        generator=torch.Generator().manual_seed(seed),
    )
    return loader


def count_workers(config: Config) -> int:
    """DATALOADER.NUM_WORKERS, but no more than there are processors; what workers make is the same."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(config.dataloader.num_workers, allowed)


def outlive_signals(_: int) -> None:
    """Let a worker outlive the signals that end a run, but not the one from its parent.

    Ctrl-C and a scheduler's SIGTERM may reach all processes of a run at once. The main one, which has
    something to save, ends the workers, at the latest with a SIGTERM as it exits. Where the system does not
    tell who sent a signal (macOS), SIGTERM ends a worker whoever sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # not sys.exit, which would end this thread alone


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
