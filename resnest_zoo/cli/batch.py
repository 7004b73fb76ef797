"""The work of `predict`: picture after picture is read, predicted, drawn and recorded, whatever fails."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.common import memory_problem, report
from resnest_zoo.cli.filming import predict_film
from resnest_zoo.cli.inputs import STDIN, Input
from resnest_zoo.cli.predictions import Named, Record
from resnest_zoo.errors import ImageError
from resnest_zoo.hub.staging import write_staged

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from resnest_zoo.inference import PicturePredictor, Prediction

_JPEG_SIDE = 65500  # as Pillow writes it
_BAD_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)  # what the output's disk cannot call a file


class Batch:
    """Predicts, draws and records; `failed` counts what went wrong and was told."""

    def __init__(
        self,
        predictor: PicturePredictor,
        record: Record,
        *,
        quiet: bool = False,
        all_frames: bool = False,
        every: int = 1,
        drawing: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what all pictures share.

        Args:
            predictor: of the model.
            record: begun, where results are kept.
            quiet: print no line for each picture.
            all_frames: take all pictures of an animation or a file of several pages.
            every: of films and of these, take each Nth picture alone.
            drawing: arguments of `Prediction.plot`.
        """
        self.predictor = predictor
        self.record = record
        self.quiet = quiet
        self.all_frames = all_frames
        self.every = every
        self.drawing = drawing or {}
        self.failed = 0
        self._bar: Any = None

    def run(self, work: list[Named]) -> None:
        """Do what is left to do, in order.

        Raises:
            OSError: a result cannot be written; the message names the file.
        """
        from tqdm import tqdm

        # Without a terminal the bar stays away, and the lines below tell how far it is.
        self._bar = tqdm(work, desc="predict", unit="image", disable=None if len(work) > 1 else True)
        for item in self._bar:
            if item.input.is_film:
                predict_film(self, item)
                continue
            pictures = self._pictures_of(item)
            while True:
                try:
                    picture, content = next(pictures)
                except StopIteration:
                    break
                except ImageError as error:
                    self.tell(str(error))
                    break
                self._do(picture, content)

    def _pictures_of(self, item: Named) -> Iterator[tuple[Named, Any]]:
        """The pictures in a file that are not done, and what the predictor takes for them."""
        content = _content(item.input)
        if not self.all_frames:
            yield item, content
            return
        for index, image, is_single in _frames(content):
            picture = item if is_single else item.frame(index)
            if index % self.every == 0 and picture.input.key not in self.record.done:
                yield picture, image

    def _do(self, picture: Named, content: Any) -> None:
        prediction = self.predict(picture, content)
        if prediction is None:
            return
        self.say(str(picture.input), prediction)
        try:
            self._keep(picture, prediction)
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            self.tell(f"{picture.input}: not kept: {error}")

    def predict(self, picture: Named, content: Any) -> Prediction | None:
        """What is found; None where the picture cannot be read or the memory ran out, which is told."""
        try:
            prediction: Prediction = self.predictor(content)
            return prediction
        except ImageError as error:
            self.tell(str(error))
        except (MemoryError, RuntimeError) as error:
            if not (problem := memory_problem(error)):
                raise
            self.tell(f"{picture.input}: {problem}")
        return None

    def _keep(self, picture: Named, prediction: Prediction) -> None:
        """Write what was found, its line in the record last; what cannot be drawn is told.

        Raises:
            OSError: a file cannot be written; the message names it.
        """
        output = self.record.output
        if output is not None:
            from resnest_zoo.inference.visualize import JPEG, encode_picture

            self.keep_map(picture, prediction)
            if max(prediction.instances.image_size) > _JPEG_SIDE:
                self.tell(f"{picture.input}: not drawn: a JPEG has at most {_JPEG_SIDE} pixels a side")
            else:
                drawing = encode_picture(self.draw(prediction), "JPEG", **JPEG)
                write_staged(output / picture.drawing, drawing)
        self.record.add(picture, prediction)

    def draw(self, prediction: Prediction) -> Image.Image:
        """The picture with what was found, as the user wants it drawn."""
        return prediction.plot(**self.drawing)

    def keep_map(self, picture: Named, prediction: Prediction) -> None:
        """Write the map of segments, if there is one and somewhere to write it.

        Raises:
            OSError: it cannot be written; the message names the file.
        """
        if self.record.output is not None and prediction.instances.panoptic is not None:
            from resnest_zoo.inference.visualize import encode_picture

            _, ids = prediction.to_coco_panoptic(picture.image_id)
            write_staged(self.record.output / picture.panoptic, encode_picture(ids, "PNG"))

    def say(self, name: str, prediction: Prediction) -> None:
        """Print what was found, beside the bar."""
        if not self.quiet:
            with self._bar.external_write_mode(sys.stdout):
                print(f"{name}: {summary(prediction)}", flush=True)

    def tell(self, problem: str) -> None:
        """Report a failure beside the bar."""
        with self._bar.external_write_mode(sys.stderr):
            self.failed += report(problem)


def _content(item: Input) -> Path | str | bytes:
    """What stands for an input where pictures are read."""
    if item.name == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise ImageError("-: standard input is a terminal; send it the bytes of a picture")
        return sys.stdin.buffer.read()
    return item.name if item.is_url else Path(item.name)


def _frames(content: Path | str | bytes) -> Iterator[tuple[int, Tensor, bool]]:
    """Index and pixels of each picture of a file, and whether it is the only one."""
    from resnest_zoo.data.pictures import read_frames

    images = read_frames(content)
    image, problem = next(images), None
    for index in count():
        try:
            following = next(images, None)
        except ImageError as error:  # told once this picture is done
            following, problem = None, error
        yield index, image, index == 0 and following is None and problem is None
        if following is None:
            break
        image = following
    if problem is not None:
        raise problem


def summary(prediction: Prediction) -> str:
    """What was found, most frequent first: "3 person, 1 dog"; of a panoptic map the segments."""
    from collections import Counter

    instances = prediction.instances
    names = instances.names
    if instances.panoptic is not None:
        categories = instances.categories
        names = [
            (categories.things if s.is_thing else categories.stuff)[s.class_index]
            for s in instances.panoptic.segments
        ]
    found = Counter(names).most_common()
    return ", ".join(f"{count} {name}" for name, count in found) or "nothing found"
