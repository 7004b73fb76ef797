from __future__ import annotations

import copy
import logging
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from resnest_zoo.config import Config, load_config
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.data.dataset import Dataset
from resnest_zoo.data.loading import TrainingSamples, build_training_loader
from resnest_zoo.data.samples import Sample, make_sample
from resnest_zoo.data.sampling import Draw, TrainingBatches
from resnest_zoo.errors import ConfigError, DataError
from tests.data.small_set import SmallSet

PLAIN = "COCO-Detection/faster_rcnn_R_50_FPN_syncbn_range-scale_1x.yaml"
SMALL = {
    "INPUT.MIN_SIZE_TRAIN": (20, 40),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
    "INPUT.MAX_SIZE_TRAIN": 50,
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.SIZE": (0.7, 0.7),
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "SOLVER.IMS_PER_BATCH": 2,
    "DATALOADER.NUM_WORKERS": 0,
}
MASKS = {"MODEL.MASK_ON": True}
PANOPTIC = MASKS | {
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "MODEL.SEM_SEG_HEAD.NORM": "",
}


def config_of(**changes: object) -> Config:
    return load_config(PLAIN).override(SMALL | changes)


@pytest.fixture
def dataset(small_set: SmallSet) -> Dataset:
    return read_dataset(small_set.write(), small_set.images, masks=True, panoptic=small_set.write_panoptic())


def plain(batches: list[list[Sample]]) -> list[list[tuple[object, ...]]]:
    """With everything a sample holds as lists, so that they can be compared."""
    return [
        [
            (
                sample.image_id,
                sample.image.tolist(),
                sample.targets.boxes.tolist(),
                sample.targets.classes.tolist(),
                sample.targets.masks,
                None if sample.targets.semantic is None else sample.targets.semantic.tolist(),
            )
            for sample in batch
        ]
        for batch in batches
    ]


def first(count: int, config: Config, dataset: Dataset, **options) -> list[list[tuple[object, ...]]]:
    return plain(list(islice(build_training_loader(config, dataset, 5, **options), count)))


def test_batches_are_the_samples_of_the_draws(dataset):
    config = config_of(**PANOPTIC)
    got = first(6, config, dataset, rank=1, world_size=2)
    expected = []
    for draws in islice(TrainingBatches(dataset.sizes, 1, 5, rank=1, world_size=2), 6):
        generators = [np.random.default_rng((5, draw.epoch, draw.picture)) for draw in draws]
        pairs = zip(draws, generators, strict=True)
        expected.append([make_sample(dataset[draw.picture], config.input, rng, 255) for draw, rng in pairs])
    assert got == plain(expected)


def test_workers_change_nothing_and_a_resumed_run_goes_on(dataset):
    """Two workers and none, from the start and from the fourth batch."""
    config = config_of(**MASKS)
    whole = first(8, config, dataset)
    assert len({str(batch) for batch in whole}) == 8  # the same pictures, drawn anew each epoch
    with_workers = config.override({"DATALOADER.NUM_WORKERS": 2})
    assert first(5, with_workers, dataset, first_iteration=3) == whole[3:]


def test_the_global_generators_are_left_alone(dataset):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first(3, config_of(), dataset)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize(
    ("changes", "masks", "semantic"), [({}, False, False), (MASKS, True, False), (PANOPTIC, True, True)]
)
def test_samples_hold_what_the_model_learns_from(dataset, changes, masks, semantic):
    sample = TrainingSamples(dataset, config_of(**changes), 0)[Draw(0, 1)]
    assert (sample.targets.masks is not None) is masks
    assert (sample.targets.semantic is not None) is semantic


def test_the_same_picture_is_drawn_anew_in_each_epoch_and_with_each_seed(dataset):
    config = config_of()

    def sizes(seed: int, picture: int) -> list[torch.Size]:
        return [TrainingSamples(dataset, config, seed)[Draw(k, picture)].image.shape for k in range(8)]

    assert len(set(sizes(0, 0))) > 3
    assert sizes(0, 0) != sizes(1, 0)
    assert sizes(0, 0) == sizes(0, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_names_the_picture_in_one_line(dataset, small_set, workers):
    config = config_of(**{"DATALOADER.NUM_WORKERS": workers, "SOLVER.IMS_PER_BATCH": 1})
    (small_set.images / "3.png").write_bytes(b"no picture")
    expected = (
        r"^picture 3 \(.*3\.png\), epoch 0: ImageError: .*not a picture.*; replace it, or .* --skip-bad$"
    )
    with pytest.raises(DataError, match=expected) as caught:
        first(4, config, dataset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_do_not_decode_are_left_out_where_that_is_wanted_and_counted_once(
    small_set, caplog, workers
):
    files = (small_set.write(), small_set.images)
    dataset = read_dataset(*files, skip_bad=True)
    whole = (small_set.images / "2.png").read_bytes()
    (small_set.images / "2.png").write_bytes(whole[: len(whole) // 2])  # its size can still be read
    (small_set.images / "3.png").write_bytes(b"no picture")
    config = config_of(**{"DATALOADER.NUM_WORKERS": workers})
    with caplog.at_level(logging.WARNING):
        batches = list(islice(build_training_loader(config, dataset, 5), 8))
    assert [len(batch) for batch in batches] == [2] * 8
    assert {sample.image_id for batch in batches for sample in batch} == {1, 4}
    counts = [r.getMessage().partition(":")[0] for r in caplog.records if "left out, " in r.getMessage()]
    assert counts == ["left out, 1 so far of 4 pictures", "left out, 2 so far of 4 pictures"]
    assert sorted(Path(file).name for file in dataset.left_out) == ["2.png", "3.png"]
    again = list(islice(build_training_loader(config_of(), read_dataset(*files, skip_bad=True), 5), 8))
    assert plain(again) == plain(batches), "what stands in follows from the draw alone"


def test_when_no_picture_can_be_read_there_is_an_end(small_set):
    dataset = read_dataset(small_set.write(), small_set.images, skip_bad=True)
    for file in small_set.images.glob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"100 pictures in a row cannot be read, the last: .*not a picture"):
        next(build_training_loader(config_of(), dataset, 5))


def test_whatever_goes_wrong_names_the_picture(dataset, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr("resnest_zoo.data.loading.make_sample", fail)
    with pytest.raises(DataError, match=r"picture 2 \(.*2\.png\), epoch 7: ZeroDivisionError: by accident"):
        TrainingSamples(dataset, config_of(), 0)[Draw(7, 1)]


@pytest.mark.parametrize(
    ("changes", "world_size", "complaint"),
    [
        ({"SOLVER.IMS_PER_BATCH": 3}, 2, "IMS_PER_BATCH: 3 pictures cannot be shared by 2 processes"),
        ({"MODEL.ROI_HEADS.NUM_CLASSES": 80}, 1, "NUM_CLASSES: is 80, but the data set has 3"),
        (PANOPTIC | {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 54}, 1, "NUM_CLASSES: is 54, but the data set has 3"),
        (PANOPTIC | {"MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 256}, 1, "IGNORE_VALUE"),
    ],
)
def test_a_config_that_does_not_fit_the_data(dataset, changes, world_size, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build_training_loader(config_of(**changes), dataset, 0, world_size=world_size)


def test_data_read_without_masks_or_panoptic_annotations_are_refused(small_set):
    dataset = read_dataset(small_set.write(), small_set.images)
    with pytest.raises(ConfigError, match=r"read it with masks=True\n.*PanopticFPN needs"):
        build_training_loader(config_of(**PANOPTIC), dataset, 0)


def test_workers_that_are_spawned_get_an_equal_data_set(dataset):
    for other in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert list(other) == list(dataset)
        assert torch.equal(other.sizes, dataset.sizes)
