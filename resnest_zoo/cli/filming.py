"""Films in `predict`: frame after frame, an annotated film with the sound, and a line for each frame."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.predictions import Named
from resnest_zoo.errors import DownloadError, ImageError

if TYPE_CHECKING:
    from resnest_zoo.cli.batch import Batch
    from resnest_zoo.cli.inputs import Input
    from resnest_zoo.data.video import Frame, Video
    from resnest_zoo.inference.film import VideoWriter

_MOST_BYTES = 1 << 34  # of a film that comes from an address
_MOST_SECONDS = 4 * 3600.0  # for its transfer


def predict_film(batch: Batch, item: Named) -> None:
    """Predict the frames of a film that are not done, and draw all.

    What is wrong with a frame is told, and the film goes on. Ctrl-C is the end of a camera's film.

    Raises:
        OSError: a result cannot be written; the message names the file.
    """
    try:
        with _opened(item.input, batch) as film:
            _predict_frames(batch, item, film)
    except ImageError as error:
        batch.tell(str(error))


def _predict_frames(batch: Batch, item: Named, film: Video) -> None:
    from resnest_zoo.inference.film import VideoWriter, ending_for

    output, count = batch.record.output, 0
    target = None if output is None else output / f"{item.stem}{ending_for(film)}"
    with ExitStack() as stack:
        writer = None if target is None else stack.enter_context(VideoWriter(target, film))
        bar = stack.enter_context(_bar(item, film))
        try:
            for frame in film:
                _predict_frame(batch, item, frame, writer)
                count += 1
                bar.update(max(0.0, round(frame.time - bar.n, 3)))
        except KeyboardInterrupt:
            if not film.is_live:
                raise
    batch.record.add_film(item, count, None if target is None else target.name)


def _predict_frame(batch: Batch, item: Named, frame: Frame, writer: VideoWriter | None) -> None:
    named = item.frame(frame.index)
    prediction = batch.predict(named, frame)
    if prediction is None:
        if writer is not None:
            writer.write(frame, frame)  # as it is
        return
    if named.input.key not in batch.record.done:
        batch.say(f"{item.input}, {frame.time:.2f} s", prediction)
        batch.keep_map(named, prediction)
        batch.record.add(named, prediction, time=frame.time)
    if writer is not None:
        writer.write(batch.draw(prediction), frame)


def _bar(item: Named, film: Video) -> Any:
    """How many seconds of the film are done; with the time that is left where its length is known."""
    from tqdm import tqdm

    total = None if film.duration is None else round(film.duration, 1)
    return tqdm(total=total, desc=item.input.file.name, unit="s", unit_scale=True, leave=False, disable=None)


@contextmanager
def _opened(item: Input, batch: Batch) -> Iterator[Video]:
    """The film of an input; one at an address is copied to a temporary file first.

    Raises:
        ImageError: it cannot be had or opened.
    """
    from resnest_zoo.data.video import Video

    with ExitStack() as stack:
        source: str | Path = item.name
        if item.is_url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            source = folder / item.file.name
            print(f"{item}: is fetched", file=sys.stderr)
            _fetch(item, source)
        with Video(source, every=batch.every, on_problem=batch.tell) as film:
            film.name = str(item)
            yield film


def _fetch(item: Input, path: Path) -> None:
    from resnest_zoo.hub.web import copy_url

    try:
        with path.open("wb") as file:
            copy_url(item.name, file, limit=_MOST_BYTES, seconds=_MOST_SECONDS)
    except DownloadError as error:
        raise ImageError(f"{item}: cannot be read: {error}") from error
