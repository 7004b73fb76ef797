"""Films in `predict`: frame after frame, an annotated film with the sound, and a line for each frame."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.predictions import Named
from resnest_zoo.errors import ImageError

if TYPE_CHECKING:
    from resnest_zoo.cli.batch import Batch
    from resnest_zoo.data.video import Frame, Video
    from resnest_zoo.inference.film import VideoWriter


def predict_film(batch: Batch, item: Named) -> None:
    """Predict the frames of a film that are not done, and draw all.

    What is wrong with a frame is told, and the film goes on. Ctrl-C is the end of a camera's film.

    Raises:
        OSError: a result cannot be written; the message names the file.
    """
    try:
        from resnest_zoo.data.video import Video

        if item.input.is_url:
            print(f"{item.input}: is fetched", file=sys.stderr)
        with Video(item.input.name, every=batch.every, on_problem=batch.tell) as film:
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
