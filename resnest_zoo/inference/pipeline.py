"""Pictures through a detector, one after the other, with the work around it beside it.

While the model runs, threads read and resize the next pictures, and another one brings the last detections to
their pictures' pixels. Results come in the pictures' order, and a fixed number of pictures is under way.
Which pictures share a batch follows from the pictures alone, never from how fast a thread was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from resnest_zoo.data.pictures import ChannelOrder, Picture, read_picture
from resnest_zoo.errors import ConfigError, ZooError, shown
from resnest_zoo.inference.prediction import Prediction
from resnest_zoo.inference.tta import TTA
from resnest_zoo.inference.wanted import Wanted
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.preprocess import check_image
from resnest_zoo.structures import Instances, RawResult, SizeHW

# What may be wrong with a single picture: it cannot be read, has no room in memory, or breaks the model.
_OF_ONE_PICTURE = (ZooError, OSError, MemoryError, RuntimeError)
_Result = TypeVar("_Result")
_READERS = 4  # files may lie on a network
# Called after each batch with the places of its pictures in the stream, and the model's seconds.
OnBatch = Callable[[Sequence[int], float], None]


@dataclass(frozen=True, eq=False)
class Failure:
    """A picture of a stream that gave no prediction.

    Attributes:
        index: its place in the stream, from 0.
        error: what went wrong.
        path: of the picture, where it was given by one.
    """

    index: int
    error: Exception
    path: str | None = None

    def __str__(self) -> str:
        start = f"image {self.index}: "
        text = str(self.error) or type(self.error).__name__
        return text if text.startswith(start) else start + text

    def raised(self) -> Exception:
        """The error to raise in the picture's place: of the same kind, and it says which picture it was."""
        if isinstance(self.error, ZooError):
            try:
                error: Exception = type(self.error)(str(self))
            except TypeError:  # a class of its own with other arguments
                return self.error
            error.__cause__ = self.error
            return error
        self.error.add_note(f"image {self.index}")
        return self.error


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A picture on its way.

    Attributes:
        index: in the stream.
        path: of the picture, where it was given by one.
        image: (3, H, W) uint8 RGB.
        resized: likewise, in the model's size; the same for test-time augmentation, which resizes itself.
        padded: what size it enters the model at.
    """

    index: int
    path: str | None
    image: Tensor
    resized: Tensor
    padded: SizeHW

    @property
    def size(self) -> SizeHW:
        return self.image.shape[1], self.image.shape[2]


class Pipeline:
    """One pass of pictures through a model."""

    def __init__(
        self,
        model: GeneralizedRCNN,
        tta: TTA | None,
        wanted: Wanted,
        batch_size: int = 1,
        channel_order: ChannelOrder = "RGB",
        on_batch: OnBatch | None = None,
        encoded: bool = False,
    ) -> None:
        """Wrap a model in evaluation mode.

        Args:
            model: also one that `torch.compile` has wrapped.
            tta: the same model with test-time augmentation, to use instead.
            wanted: what of the detections is kept.
            batch_size: pictures padded to one size that go through the model together, at most; one with
                test-time augmentation, whose views are batches already.
            channel_order: of arrays and tensors.
            on_batch: called with the places of the pictures of a batch and the seconds that the model took.
            encoded: give masks as run lengths; not with test-time augmentation or a compiled whole.
        """
        self.encoded = encoded
        self.on_batch = on_batch
        self.model = model
        self.tta = tta
        self.wanted = wanted
        self.batch_size = batch_size if tta is None else 1
        if channel_order not in ("RGB", "BGR"):  # at once, not with the first picture
            raise ConfigError(f'channel_order: expected "RGB" or "BGR", got {shown(channel_order)}')
        self.channel_order = channel_order
        # What was compiled is a call of the whole; its parts would run as they were written.
        self.whole = hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None
        self.model.accept([])

    def predict(self, source: Picture) -> Prediction:
        """What is found in one picture. Raises what is wrong with it."""
        prepared = self._prepare(0, self._read(source), path_of(source))
        return self._finish(prepared, self._run([prepared])[0])

    def predict_all(self, sources: Iterable[Picture]) -> Generator[Prediction | Failure]:
        """What is found in each picture, in their order, failures in their places.

        Args:
            sources: asked for only as fast as results are, 3 * batch_size + 1 ahead of them at most.
        """
        run = _Run(self, iter(sources), 3 * self.batch_size + 1)
        with ExitStack() as stack:
            run.readers = stack.enter_context(_Pool(min(_READERS, os.cpu_count() or 1)))
            run.finisher = stack.enter_context(_Pool(1))
            yield from run.results()

    def _read(self, source: Picture) -> Tensor:
        return read_picture(source, channel_order=self.channel_order)

    def _prepare(self, index: int, image: Tensor, path: str | None = None) -> _Prepared:
        check_image(image, index)
        if self.tta is not None or self.whole:
            return _Prepared(index, path, image, image, (image.shape[1], image.shape[2]))
        preprocessing = self.model.preprocessing
        resized = preprocessing.resize(image)
        padded = preprocessing.padded_size((resized.shape[1], resized.shape[2]))
        return _Prepared(index, path, image, resized, padded)

    @torch.no_grad()  # `inference_mode` would give tensors that no caller may edit or differentiate
    def _run(self, batch: list[_Prepared]) -> Sequence[RawResult | Instances]:
        if self.tta is not None:
            return [self.tta.run(one.image) for one in batch]
        if self.whole:
            found: Any = self.model([one.image for one in batch], score_threshold=self.wanted.score_threshold)
            return list(found)
        prepared = self.model.preprocessing.batch(
            [one.resized for one in batch], next(self.model.parameters())
        )
        return self.model.run(prepared, [one.size for one in batch])

    def _finish(self, prepared: _Prepared, found: RawResult | Instances) -> Prediction:
        if isinstance(found, RawResult):
            found = self.model.finish(found, self.wanted.score_threshold, encoded=self.encoded)
        return Prediction(prepared.image.cpu(), self.wanted.of(found).cpu(), prepared.path)


class _Run:
    """The pictures under way in one pass."""

    readers: ThreadPoolExecutor
    finisher: ThreadPoolExecutor

    def __init__(self, pipeline: Pipeline, sources: Iterator[Picture], ahead: int) -> None:
        self.pipeline = pipeline
        self.sources: Iterator[Picture] | None = sources
        self.ahead = ahead
        self.asked = self.given = 0
        self.read: list[Future[_Prepared | Failure]] = []  # not yet through the model, in order
        self.found: dict[int, Future[Prediction | Failure]] = {}  # not yet given
        self.problem: Exception | None = None

    def results(self) -> Iterator[Prediction | Failure]:
        while True:
            self._ask()
            if self.read:
                before = set(self.found)
                self._detect(self._next_batch())
                while self.given in before:  # those of this batch are finished while the next one is computed
                    yield self._give()
            elif self.given in self.found:
                yield self._give()
            else:
                break
        if self.problem is not None:
            raise self.problem

    def _ask(self) -> None:
        """Ask for pictures as long as there is room for them."""
        while self.sources is not None and self.asked - self.given < self.ahead:
            try:
                source = next(self.sources)
            except StopIteration:
                self.sources = None
                return
            except Exception as error:  # the caller's own; raised once the results before it are given
                self.sources, self.problem = None, error
                return
            self.read.append(self._begin(self.asked, source))
            self.asked += 1

    def _begin(self, index: int, source: Picture) -> Future[_Prepared | Failure]:
        """Have a picture read; what the caller might change or close meanwhile is read at once."""
        if isinstance(source, str | Path | bytes):
            return self.readers.submit(self._prepare, index, source)
        try:
            image = self.pipeline._read(source)
        except _OF_ONE_PICTURE as error:
            return _done(Failure(index, error))
        return self.readers.submit(self._prepare, index, source, image.clone() if image is source else image)

    def _prepare(self, index: int, source: Picture, image: Tensor | None = None) -> _Prepared | Failure:
        try:
            image = self.pipeline._read(source) if image is None else image
            return self.pipeline._prepare(index, image, path_of(source))
        except _OF_ONE_PICTURE as error:
            return Failure(index, error, path_of(source))

    def _next_batch(self) -> list[_Prepared]:
        """The first picture that waits, and others of its padded size; those that failed are noted."""
        batch: list[_Prepared] = []
        left = []
        for future in self.read:
            one = None if len(batch) == self.pipeline.batch_size else future.result()
            if isinstance(one, Failure):
                self.found[one.index] = _done(one)
            elif one is None or (batch and one.padded != batch[0].padded):
                left.append(future)
            else:
                batch.append(one)
        self.read = left
        return batch

    def _detect(self, batch: list[_Prepared]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        try:
            results: Sequence[RawResult | Instances] | None = self.pipeline._run(batch)
        except _OF_ONE_PICTURE as error:
            if len(batch) == 1:
                self.found[batch[0].index] = _done(Failure(batch[0].index, error, batch[0].path))
                return
            results = None
        if results is None:  # not within `except`, which would keep the batch's memory
            for one in batch:
                self._detect([one])
            return
        if self.pipeline.on_batch is not None:
            self.pipeline.on_batch([one.index for one in batch], time.perf_counter() - started)
        for one, result in zip(batch, results, strict=True):
            # An accelerator's streams belong to the thread; what is left to it is short.
            on_cpu = self.pipeline.model.device.type == "cpu"
            finished = (
                self.finisher.submit(self._finish, one, result)
                if on_cpu
                else _done(self._finish(one, result))
            )
            self.found[one.index] = finished

    def _finish(self, prepared: _Prepared, result: RawResult | Instances) -> Prediction | Failure:
        try:
            return self.pipeline._finish(prepared, result)
        except _OF_ONE_PICTURE as error:
            return Failure(prepared.index, error, prepared.path)

    def _give(self) -> Prediction | Failure:
        self.given += 1
        return self.found.pop(self.given - 1).result()


def path_of(source: object) -> str | None:
    """The path that a picture is given by, if it is."""
    return os.fspath(source) if isinstance(source, str | Path) else None


def _done(result: _Result) -> Future[_Result]:
    future: Future[_Result] = Future()
    future.set_result(result)
    return future


class _Pool(ThreadPoolExecutor):
    """Threads whose waiting work is dropped where the pass ends early."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)
