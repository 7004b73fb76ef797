"""What a worker does: pictures in, rows out, whatever one picture does to it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from resnest_zoo.api import Predictor
from resnest_zoo.data.film_names import is_url
from resnest_zoo.errors import ConfigError, ImageError, WorkerError
from resnest_zoo.inference import Failure, Prediction
from resnest_zoo.integrations.ray.ledger import TRIES
from resnest_zoo.integrations.ray.packages import imported
from resnest_zoo.integrations.ray.rows import error_row, hash_weights, row_of, to_table

logger = logging.getLogger(__name__)

_READERS = 4  # object stores answer slowly, and many at once
Row = dict[str, Any]


class DatasetPredictor:
    """The callable class for `ray.data.Dataset.map_batches(…, batch_format="pyarrow")`.

    >>> pictures.map_batches(
    ...     DatasetPredictor,
    ...     fn_constructor_kwargs={"model": "mask_rcnn_resnest50", "options": {"score_threshold": 0.05}},
    ...     batch_format="pyarrow",
    ...     batch_size=16,
    ...     compute=ray.data.ActorPoolStrategy(size=8),
    ...     num_gpus=1,
    ... )

    `pictures` has a column `id`, and `address` (a path, or an address of http(s) or of what fsspec knows) or
    `content` (the bytes of a file). It may have `error`: what went wrong before. Rows come in the pictures'
    order, in the schema of `rows.schema`.
    """

    def __init__(
        self,
        model: str | Path | Callable[[], Any],
        options: Mapping[str, Any] | None = None,
        *,
        batch_size: int | None = None,
        name: str = "",
        weights: str = "",
        ledger: Any = None,
    ) -> None:
        """Load the model, once for each worker, from the cache of its machine.

        Args:
            model: what `Predictor` takes, or a function that makes a predictor.
            options: further arguments of `Predictor`.
            batch_size: pictures of one padded size that go through the model together; by default 4, on
                the CPU 1.
            name: of the model, for the rows; by default `model`.
            weights: what the hash of the weights has to be; "" for any.
            ledger: the actor of a `Ledger`; without one, a picture that kills the worker does so again.

        Raises:
            ConfigError: the weights on this machine are others.
            WorkerError: one worker after the other has died before it ended a picture.
            ZooError: as `Predictor` does.
        """
        self._ledger = ledger
        if ledger is not None and not self._told("start"):
            raise WorkerError(
                "one worker after the other died before it had done a picture: is there enough memory for "
                "a model in each?"
            )
        make = model if callable(model) else partial(Predictor, model, **(options or {}))
        self._predictor = make()
        self._batch_size = batch_size
        self._name = name or str(model)
        self._weights = hash_weights(self._predictor.model)
        if weights not in ("", self._weights):
            raise ConfigError(
                f"{self._name}: the weights on this machine ({self._weights[:12]}…) are not those that "
                f"the job began with ({weights[:12]}…)"
            )

    def __call__(self, batch: Any) -> Any:
        """Rows of a `pyarrow.Table` of pictures, as another."""
        pictures: list[Row] = batch.to_pylist()
        ids = [picture["id"] for picture in pictures]
        if self._ledger is None:
            rows = self._predict(pictures)
        elif self._told("begin", ids):
            rows = self._predict(pictures)
            self._told("end", ids)
        else:
            rows = self._predict_alone(pictures)
        return to_table(rows, self._name, self._weights)

    def _told(self, what: str, *arguments: Any) -> Any:
        return imported("ray").get(getattr(self._ledger, what).remote(*arguments))

    def _predict_alone(self, pictures: list[Row]) -> list[Row]:
        """One by one, since a process has died with one of them."""
        rows: list[Row] = []
        ended = None
        for picture in pictures:
            picture_id = picture["id"]
            if self._told("begin_alone", picture_id, ended):
                rows += self._predict([picture])
                ended = picture_id
            else:
                rows.append(
                    error_row(
                        picture_id, f"the process that had it in work, and nothing else, died {TRIES} times"
                    )
                )
                ended = None
        if ended is not None:
            self._told("end", [ended])
        return rows

    def _predict(self, pictures: list[Row]) -> list[Row]:
        rows: dict[int, Row] = {}
        try:
            rows = dict(self._stream(pictures))
        except Exception as error:  # not of the kinds that the stream tells apart; it stands in a row
            _end_if_spoilt(error)
            if len(pictures) == 1:
                return [error_row(pictures[0]["id"], f"{type(error).__name__}: {error}")]
            logger.info("predicting one by one after %r", error)
            return [row for picture in pictures for row in self._predict([picture])]
        return [rows[place] for place in range(len(pictures))]

    def _stream(self, pictures: list[Row]) -> Iterator[tuple[int, Row]]:
        """Places and rows; those that cannot be read come as their place is passed."""
        unread: list[tuple[int, Row]] = []
        given: list[int] = []

        def sources() -> Iterator[str | bytes]:
            with ThreadPoolExecutor(_READERS) as readers:
                for place, source in enumerate(readers.map(_source_of, pictures)):
                    if isinstance(source, Exception):
                        unread.append((place, error_row(pictures[place]["id"], source)))
                    else:
                        given.append(place)
                        yield source

        results = self._predictor.stream(sources(), batch_size=self._batch_size, encoded=True, errors="yield")
        for number, result in enumerate(results):
            place = given[number]
            yield place, _row(pictures[place]["id"], result)
        yield from unread


def _row(picture_id: str, result: Prediction | Failure) -> Row:
    if isinstance(result, Failure):
        _end_if_spoilt(result.error)
        return error_row(picture_id, result.error)
    return row_of(picture_id, result.instances)


def _end_if_spoilt(error: Exception) -> None:
    """End the process after an error of CUDA's that leaves it unable to compute anything more.

    The ledger then treats the picture as one that kills its process.
    """
    if "CUDA error" in str(error) and hasattr(signal, "SIGKILL"):
        logger.error("this process cannot go on: %s", error)
        os.kill(os.getpid(), signal.SIGKILL)


def _source_of(picture: Row) -> str | bytes | Exception:
    """What the predictor takes, or what is wrong."""
    if picture.get("error") is not None:
        return ImageError(picture["error"])
    content: bytes | None = picture.get("content")
    if content is not None:
        return content
    address: str = picture["address"]
    if "://" not in address or is_url(address):
        return address
    try:
        with imported("fsspec").open(address, "rb") as file:
            read: bytes = file.read()
            return read
    except Exception as error:  # every file system has its own
        return ImageError(f"{address}: cannot be read: {str(error) or type(error).__name__}")
