"""A bounded queue of pictures and the one thread that runs models.

Pictures for one model with one threshold go through `Predictor.stream`, which puts those of one padded size
into a batch, resizes the next ones meanwhile, and goes on as long as pictures come. Others wait their turn.
What is cancelled while it waits is never run.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TYPE_CHECKING

from resnest_zoo.serve.limits import GRACE, Limits
from resnest_zoo.serve.metrics import Metrics
from resnest_zoo.serve.refusals import RefusalError

if TYPE_CHECKING:
    from torch import Tensor

    from resnest_zoo.inference import PicturePredictor, Prediction
    from resnest_zoo.inference.pipeline import Failure

logger = logging.getLogger(__name__)

_MOST = 64  # pictures in a row for one model while others wait


@dataclass(frozen=True, eq=False)
class Found:
    """The answer to one picture.

    Attributes:
        prediction: what was found.
        batch: pictures that went through the model together.
        waited: seconds until the model began.
        model: seconds that it ran, for the whole batch.
    """

    prediction: Prediction
    batch: int
    waited: float
    model: float


@dataclass(eq=False)
class Job:
    """A picture in the queue.

    Attributes:
        predictor: that it waits for.
        image: (3, H, W) uint8 RGB.
        threshold: of the score.
        future: of the answer, or of what went wrong with this picture.
        queued: when it came, by the clock of `time.perf_counter`.
    """

    predictor: PicturePredictor
    image: Tensor
    threshold: float
    future: Future[Found] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)
    batch: int = 0
    waited: float = 0.0
    seconds: float = 0.0

    @property
    def key(self) -> tuple[int, float]:
        """What those that may share a batch have in common."""
        return id(self.predictor), self.threshold


class Queue:
    """Pictures that wait, and the thread that works on them. A context, which ends the thread."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.taken = 0  # places
        self._waiting: OrderedDict[tuple[int, float], deque[Job]] = OrderedDict()
        self._changed = Condition()
        self._closed = False
        self._pace = 0.5  # seconds a picture, a running mean
        self._thread = Thread(target=self._work, name="inference", daemon=True)

    def __enter__(self) -> Queue:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            waiting = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            job.future.cancel()
        self._thread.join(GRACE)

    @contextmanager
    def places(self, count: int = 1) -> Iterator[None]:
        """Hold places in the queue, from before a picture is read until it is answered.

        Raises:
            RefusalError: it is full, or so slow that the answer would come too late.
        """
        with self._changed:
            wait = self.taken * self._pace
            if self.taken + count > self.limits.queue or wait > self.limits.timeout:
                seconds = min(30, max(1, math.ceil(wait)))
                raise RefusalError(
                    503,
                    "busy",
                    f"{self.taken} pictures wait, for {wait:.0f} s; at most {self.limits.queue}, and "
                    f"{self.limits.timeout:g} s, are accepted; try again in {seconds} s",
                    seconds,
                )
            self.taken += count
        try:
            yield
        finally:
            with self._changed:
                self.taken -= count

    def submit(self, predictor: PicturePredictor, image: Tensor, threshold: float) -> Future[Found]:
        """Append a picture; the caller holds a place for it. Cancel the future to take it back."""
        job = Job(predictor, image, threshold)
        with self._changed:
            if self._closed:
                job.future.cancel()
                return job.future
            self._waiting.setdefault(job.key, deque()).append(job)
            self._changed.notify_all()
        return job.future

    def _work(self) -> None:
        while (first := self._next()) is not None:
            try:
                self._serve(first)
            except Exception:  # the thread must live; whose picture it was has been told
                logger.exception("a model failed")

    def _next(self) -> Job | None:
        """Wait for a picture, and a little for those of its batch; None at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            key = next(iter(self._waiting))
            end = time.perf_counter() + self.limits.window
            while len(self._waiting.get(key, ())) < (self.limits.batch or 1) and not self._closed:
                left = end - time.perf_counter()
                if left <= 0:
                    break
                self._changed.wait(left)
            jobs = self._waiting.get(key)
            return jobs[0] if jobs else None

    def take(self, key: tuple[int, float]) -> Job | None:
        """The next picture of a kind whose client is still there."""
        with self._changed:
            while jobs := self._waiting.get(key):
                job = jobs.popleft()
                if not jobs:
                    del self._waiting[key]
                if job.future.set_running_or_notify_cancel():
                    return job
                self.metrics.add("dropped_total")
        return None

    def _serve(self, first: Job) -> None:
        """Work on pictures of one kind until there are none, or others have waited long enough."""
        run = _Run(self, first.key)
        try:
            results = first.predictor.stream(
                run.sources(),
                score_threshold=first.threshold,
                batch_size=self.limits.batch,
                errors="yield",
                on_batch=run.note,
                encoded=True,
            )
            for index, result in enumerate(results):
                run.give(index, result)
        except BaseException as error:
            run.fail(error)
            raise
        with self._changed:
            if first.key in self._waiting:
                self._waiting.move_to_end(first.key)

    def count(self, pictures: int, seconds: float) -> None:
        """Take in that the model has run."""
        self.metrics.add("batches_total")
        self.metrics.add("pictures_total", pictures)
        self.metrics.add("model_seconds_total", seconds)
        self._pace += 0.1 * (seconds / pictures - self._pace)


class _Run:
    """One pass of pictures of one kind through their model."""

    def __init__(self, queue: Queue, key: tuple[int, float]) -> None:
        self.queue = queue
        self.key = key
        self.going: dict[int, Job] = {}

    def sources(self) -> Iterator[Tensor]:
        for index in range(_MOST):
            if (job := self.queue.take(self.key)) is None:
                return
            self.going[index] = job
            yield job.image

    def note(self, places: Sequence[int], seconds: float) -> None:
        began = time.perf_counter() - seconds
        for index in places:
            job = self.going[index]
            job.batch, job.seconds, job.waited = len(places), seconds, began - job.queued
        self.queue.count(len(places), seconds)

    def give(self, index: int, result: Prediction | Failure) -> None:
        from resnest_zoo.inference import Prediction

        job = self.going.pop(index)
        if isinstance(result, Prediction):
            job.future.set_result(Found(result, job.batch, job.waited, job.seconds))
        else:
            job.future.set_exception(result.error)

    def fail(self, error: BaseException) -> None:
        """Tell all who wait for this model, lest it be tried without end."""
        waiting = list(iter(lambda: self.queue.take(self.key), None))
        for job in (*self.going.values(), *waiting):
            job.future.set_exception(error)
