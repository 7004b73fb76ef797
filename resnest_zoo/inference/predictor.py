"""Photographs in, predictions out: one, a list, or a stream of any length."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, overload

import numpy as np
from PIL import Image
from torch import Tensor

from resnest_zoo.data.film_names import is_film
from resnest_zoo.data.pictures import ChannelOrder, Picture, read_picture
from resnest_zoo.data.sources import find_sources
from resnest_zoo.data.video import Video
from resnest_zoo.errors import ConfigError, shown
from resnest_zoo.inference.pipeline import Failure, OnBatch, Pipeline, path_of
from resnest_zoo.inference.prediction import Prediction
from resnest_zoo.inference.tta import TTA, check_model
from resnest_zoo.inference.wanted import Wanted
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import SizeHW

# Pictures that go through the model together at most. On the model's device their features, the masks kept of
# them, H * W bytes each, and the logits of semantic maps are held at the same time; results of earlier ones
# lie on the CPU.
_AT_ONCE = 4


class PicturePredictor:
    """A detector that reads pictures from wherever they are.

    >>> predict("photo.jpg", score_threshold=0.9, classes=["cat"], max_detections=20)
    >>> for found in predict.stream(Path("holiday").glob("*.jpg")):
    ...     print(found.path, found)
    """

    def __init__(
        self,
        model: GeneralizedRCNN,
        *,
        score_threshold: float = 0.5,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        tta: bool = False,
    ) -> None:
        """Wrap a model.

        Args:
            model: in evaluation mode, on the device it shall run on.
            score_threshold: detections below it are left out, 0-1. The model itself leaves out what is below
                `MODEL.ROI_HEADS.SCORE_THRESH_TEST`, 0.05 by default.
            classes: names of the classes whose detections are kept; None for all. A panoptic map stays whole.
            max_detections: no more detections of a picture than so many, the best; None for as many as the
                model gives, `TEST.DETECTIONS_PER_IMAGE`, 100 by default.
            tta: use the test-time augmentation of the model's config.

        Raises:
            ConfigError: `model` is none, the threshold is outside 0-1, the model has no such class, or the
                maximum is below 1.
        """
        check_model(model)
        self.model = model
        self.wanted = Wanted().but(model.categories, score_threshold, classes, max_detections)
        self._tta = TTA(model) if tta else None

    @property
    def score_threshold(self) -> float:
        """Detections below it are left out, unless a call says otherwise."""
        return self.wanted.score_threshold

    @overload
    def __call__(  # type: ignore[overload-overlap]  # str: one picture
        self,
        pictures: Picture,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "RGB",
    ) -> Prediction: ...
    @overload
    def __call__(
        self,
        pictures: Sequence[Picture],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "RGB",
    ) -> list[Prediction]: ...

    def __call__(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "RGB",
    ) -> Prediction | list[Prediction]:
        """Detect in one picture, or in each of a list or tuple.

        All pictures of a list are read before the first is worked on, and all results are held at once; for
        many, use `stream`.

        Args:
            pictures: see `read_picture` for what a picture may be.
            score_threshold: for this call, as for the predictor; None for the predictor's own.
            classes: likewise.
            max_detections: likewise.
            channel_order: arrays and tensors are taken as RGB; say "BGR" for those of OpenCV. Nothing in
                an array tells: in the wrong order less is found, and nothing fails.

        Raises:
            ImageError: a picture cannot be used.
            ConfigError: as for the predictor.
        """
        wanted = self._wanted(score_threshold, classes, max_detections)
        if not isinstance(pictures, Sequence) or isinstance(pictures, str | bytes | bytearray):
            return Pipeline(self.model, self._tta, wanted, channel_order=channel_order).predict(pictures)
        pipeline = Pipeline(self.model, self._tta, wanted, _AT_ONCE)
        # All, so that a message counts in the whole list.
        images = self.model.accept(_read_all(pictures, channel_order))
        order = sorted(range(len(images)), key=lambda index: (self._padded_size(images[index]), index))
        results: dict[int, Prediction] = {}
        for index, result in zip(order, pipeline.predict_all(images[k] for k in order), strict=True):
            if isinstance(result, Failure):
                raise replace(result, index=index).raised()
            results[index] = replace(result, path=path_of(pictures[index]))
        return [results[index] for index in range(len(images))]

    @overload
    def stream(
        self,
        pictures: Iterable[Picture] | str | Path,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "RGB",
        batch_size: int | None = None,
        on_batch: OnBatch | None = None,
        encoded: bool = False,
        recursive: bool = False,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Prediction]: ...
    @overload
    def stream(
        self,
        pictures: Iterable[Picture] | str | Path,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "RGB",
        batch_size: int | None = None,
        on_batch: OnBatch | None = None,
        encoded: bool = False,
        recursive: bool = False,
        errors: Literal["yield"],
    ) -> Iterator[Prediction | Failure]: ...

    def stream(
        self,
        pictures: Iterable[Picture] | str | Path,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: ChannelOrder = "RGB",
        batch_size: int | None = None,
        on_batch: OnBatch | None = None,
        encoded: bool = False,
        recursive: bool = False,
        errors: Literal["raise", "yield"] = "raise",
    ) -> Iterator[Prediction] | Iterator[Prediction | Failure]:
        """Detect in picture after picture of any number, in their order and in constant memory.

        Threads read and resize the next pictures while the model runs. Pictures are asked for as results are:
        at most 3 * batch_size + 1 ahead of them.

        Args:
            pictures: any iterable of pictures, a generator too; or a path: of a folder, whose pictures are
                meant, sorted and without hidden ones, of a list of pictures (.txt), of a film, or with wild
                cards ("holiday/*.jpg").
            score_threshold: for this stream, as for the predictor; None for the predictor's own.
            classes: likewise.
            max_detections: likewise.
            channel_order: arrays and tensors are taken as RGB; say "BGR" for those of OpenCV.
            batch_size: pictures that are padded to one size and go through the model together, at most. By
                default 4, on the CPU, which gains nothing by it, 1.
            on_batch: called after each batch with the places of its pictures in the stream, from 0, and the
                seconds that the model took for it.
            encoded: give masks as run lengths, `instances.rles`, which take less memory and time than
                H * W bytes each, and give the same exports; not with test-time augmentation.
            errors: "raise" raises what is wrong with a picture in its place, and the stream ends; "yield"
                gives a `Failure` in its place, and goes on.
            recursive: of a folder, the folders in it too.

        Raises:
            ConfigError: an argument is wrong; at once, not with the first picture.
            ImageError: a folder or a pattern holds no picture; at once.
            ZooError: in a picture's place, what is wrong with it; the message counts from image 0.
        """
        if isinstance(pictures, str | Path):
            pictures = _of_path(str(pictures), recursive)
        if isinstance(pictures, bytes | bytearray | Image.Image) or (
            isinstance(pictures, Tensor | np.ndarray) and pictures.ndim != 4
        ):
            raise ConfigError(
                "stream: expected pictures one after the other, got a single one; call predict with it"
            )
        if errors not in ("raise", "yield"):
            raise ConfigError(f'errors: expected "raise" or "yield", got {shown(errors)}')
        if batch_size is None:
            batch_size = 1 if self.model.device.type == "cpu" else _AT_ONCE
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size: expected a whole number above 0, got {shown(batch_size)}")
        wanted = self._wanted(score_threshold, classes, max_detections)
        pipeline = Pipeline(self.model, self._tta, wanted, batch_size, channel_order, on_batch, encoded)
        results = pipeline.predict_all(pictures)
        return results if errors == "yield" else _raise_failures(results)

    def _padded_size(self, image: Tensor) -> SizeHW:
        preprocessing = self.model.preprocessing
        return preprocessing.padded_size(preprocessing.input_size((image.shape[1], image.shape[2])))

    def _wanted(
        self, score_threshold: float | None, classes: Sequence[str] | None, max_detections: int | None
    ) -> Wanted:
        return self.wanted.but(self.model.categories, score_threshold, classes, max_detections)


def _of_path(path: str, recursive: bool) -> Iterable[Picture]:
    """The pictures of a film, a folder, a list or a pattern."""
    names = find_sources(path, recursive=recursive)
    return Video(path) if names == [path] and is_film(path) else names


def _read_all(pictures: Sequence[Picture], channel_order: ChannelOrder) -> list[Tensor]:
    with ThreadPoolExecutor() as readers:
        return list(readers.map(partial(read_picture, channel_order=channel_order), pictures))


def _raise_failures(results: Generator[Prediction | Failure]) -> Iterator[Prediction]:
    with closing(results):
        for result in results:
            if isinstance(result, Failure):
                raise result.raised()
            yield result
