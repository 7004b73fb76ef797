"""Films: one place in the queue for a whole film, one line of JSON for each frame."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from resnest_zoo.errors import ImageError, ZooError
from resnest_zoo.serve.answers import describe, describe_categories
from resnest_zoo.serve.bodies import check_pixels
from resnest_zoo.serve.inference import Found, Queue
from resnest_zoo.serve.limits import Limits
from resnest_zoo.serve.refusals import RefusalError, without_paths

if TYPE_CHECKING:
    from resnest_zoo.data.video import Frame
    from resnest_zoo.inference import PicturePredictor

logger = logging.getLogger(__name__)


class Film:
    """A film that a client has sent, in a temporary folder until it is closed."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="resnest-zoo-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name) / "film"
        self._frames: Any = None
        self._video: Any = None
        self._lock = Lock()  # what is decoded in a thread must not be closed meanwhile

    def open(self, every: int) -> None:
        """Open what was received.

        Raises:
            RefusalError: it is no film, too large, or PyAV is not installed.
        """
        from resnest_zoo.data.video import Video

        try:
            self._video = Video(self.path, every=every, on_problem=_ignore)
            check_pixels(self._video.stated_size, self.limits)
        except ImageError as error:
            raise RefusalError(422, "bad_film", self._public(error)) from error
        self._frames = iter(self._video)

    def next(self) -> Frame | None:
        """The next frame; None at the end.

        Raises:
            RefusalError: it is too large or cannot be decoded.
        """
        try:
            with self._lock:
                frame: Frame | None = None if self._frames is None else next(self._frames, None)
        except ImageError as error:
            raise RefusalError(422, "bad_film", self._public(error)) from error
        if frame is not None:
            check_pixels((frame.image.shape[1], frame.image.shape[2]), self.limits)
        return frame

    @property
    def problems(self) -> list[str]:
        """What was wrong on the way, and did not end it."""
        return list(self._video.problems)

    def close(self) -> None:
        """Let go of the file, and remove it."""
        with self._lock:
            self._frames = None
            if self._video is not None:
                self._video.close()
        self._folder.cleanup()

    def _public(self, error: Exception) -> str:
        return without_paths(str(error).replace(str(self.path), "the film"))


def _ignore(_: str) -> None:
    """Problems are told in the last line."""


class FilmResponse(StreamingResponse):
    """Lines of JSON; whatever becomes of the client, `close` is called."""

    def __init__(self, lines: AsyncIterator[str], close: Callable[[], None]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def film_lines(
    film: Film, queue: Queue, predictor: PicturePredictor, threshold: float, *, masks: bool
) -> AsyncIterator[str]:
    """A line for each frame, and one at the end: `done`, or the error. First and last name the classes.

    Args:
        film: opened; the caller holds a place in the queue for it.
        queue: that its frames go through.
        predictor: that finds.
        threshold: of the score.
        masks: with run lengths.
    """
    count = 0
    try:
        while (frame := await run_sync(film.next)) is not None:
            future = queue.submit(predictor, frame.image, threshold)
            try:
                found = await asyncio.wait_for(asyncio.wrap_future(future), queue.limits.timeout)
            finally:
                future.cancel()
            # Who draws them while they come needs the names from the beginning.
            names = {} if count else describe_categories(predictor.model.categories)
            yield await run_sync(_line, frame, found, masks, names)
            count += 1
        end = {"done": True, "frames": count, "problems": film.problems}
        yield json.dumps({**end, **describe_categories(predictor.model.categories)}) + "\n"
    except RefusalError as refusal:
        yield json.dumps(refusal.document) + "\n"
    except TimeoutError:
        late = RefusalError(503, "timeout", f"no answer to frame {count} in time")
        yield json.dumps(late.document) + "\n"
    except ZooError as error:
        yield json.dumps(RefusalError(422, "bad_film", without_paths(str(error))).document) + "\n"
    except Exception:  # the answer has begun: its last line is the only place left to say so
        logger.exception("a film failed at frame %s", count)
        broken = RefusalError(500, "failed", f"the model failed at frame {count}; the server's log says why")
        yield json.dumps(broken.document) + "\n"


def _line(frame: Frame, found: Found, masks: bool, names: dict[str, Any]) -> str:
    one = describe(found.prediction, frame.index, masks=masks)
    return json.dumps({"index": frame.index, "seconds": round(frame.time, 6), **one, **names}) + "\n"
