"""The record of a run of `predict`: lines of JSON that survive its end, and the document made of them.

    OUTPUT/predictions.jsonl   first what was run, then a line for each picture, written when it is done
    OUTPUT/predictions.json    the same as one document in COCO's layout, written at the end

Nothing of it is held in memory, so that a run may be as long as the disk is large.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.inputs import Input
from resnest_zoo.errors import ConfigError, DataError, name_file
from resnest_zoo.hub.staging import staged

if TYPE_CHECKING:
    from resnest_zoo.categories import Categories
    from resnest_zoo.inference import PicturePredictor, Prediction

_RECORD = "predictions.jsonl"
_DOCUMENT = "predictions.json"
# Pictures of one file, or of a film, have ids in a row.
_ROW = 1 << 24
# Numbers up to 2^53 survive every reader of JSON; those from names that are no numbers lie above this.
_FIRST_HASH = 1 << 52
_LONGEST_STEM = 220  # bytes: most disks allow 255 for a name


@dataclass(frozen=True)
class Named:
    """A picture and what its results are called.

    Attributes:
        input: where the picture is.
        image_id: in COCO's rows.
        stem: of the drawing's and the panoptic map's names.
        first_id: of the pictures in its file, where there are several.
    """

    input: Input
    image_id: int
    stem: str
    first_id: int = 0

    def frame(self, index: int) -> Named:
        """The picture `index`, from 0, of this file."""
        return Named(
            Input(self.input.name, index), self.first_id + index, f"{self.stem}_{index:06d}", self.first_id
        )

    @property
    def whole(self) -> Named:
        """The file of which this is a picture."""
        return Named(Input(self.input.name), self.first_id, self.stem[: -len("_000000")], self.first_id)

    @property
    def drawing(self) -> str:
        """File name of the drawing."""
        return f"{self.stem}.jpg"

    @property
    def films(self) -> tuple[str, ...]:
        """File names that the annotated film may have, by the kind of its sound."""
        return (f"{self.stem}.mp4", f"{self.stem}.mkv") if self.input.is_film else ()

    @property
    def panoptic(self) -> str:
        """File name of the map of segments."""
        return f"{self.stem}_panoptic.png"


def name_pictures(inputs: Iterable[Input], known: Mapping[str, Named]) -> list[Named]:
    """Name the results of pictures by the pictures' own names, whatever else is in the list.

    A name that is a number, as those of COCO are, gives the id; another one a number from 2^52 on that
    follows from the name. Of pictures with one name the first in the list has it, and the others what
    follows from their paths. Drawings bear the picture's name, numbered where it is taken.

    Args:
        inputs: all different.
        known: pictures of earlier runs by key; they keep what they have.
    """
    ids = {number for named in known.values() for number in (named.image_id, -1 - named.first_id // _ROW)}
    stems = {named.stem.lower() for named in known.values()}  # some disks ignore case
    numbers: dict[str, int] = {}
    found = []
    for item in inputs:
        if (named := known.get(item.key)) is None:
            image_id = next(number for number in _possible_ids(item) if number not in ids)
            first_id = next(first for first in _possible_rows(item) if -1 - first // _ROW not in ids)
            stem = _free_stem(item.file, stems, numbers)
            ids |= {image_id, -1 - first_id // _ROW}
            stems.add(stem.lower())
            named = Named(item, image_id, stem, first_id)
        found.append(named)
    return found


def _possible_ids(item: Input) -> Iterator[int]:
    if item.file.stem.isdecimal() and int(item.file.stem) < _FIRST_HASH:
        yield int(item.file.stem)
    yield _hashed(item.file.name)
    for number in range(sys.maxsize):
        yield _hashed(f"{item.label}/{number}")


def _possible_rows(item: Input) -> Iterator[int]:
    """The first numbers of rows of ids."""
    yield _hashed(f"{item.file.name}/") // _ROW * _ROW
    for number in range(sys.maxsize):
        yield _hashed(f"{item.label}//{number}") // _ROW * _ROW


def _hashed(name: str) -> int:
    digest = sha256(name.encode(errors="surrogateescape")).digest()
    return _FIRST_HASH | int.from_bytes(digest[:8], "little") % _FIRST_HASH


def _free_stem(path: Path, taken: set[str], numbers: dict[str, int]) -> str:
    stem = path.stem
    while len(os.fsencode(stem)) > _LONGEST_STEM:
        stem = stem[:-1]
    name, number = stem, numbers.get(stem.lower(), 1)
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    numbers[stem.lower()] = number
    return name


def describe_run(model: str, predictor: PicturePredictor, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's results depend on beside the pictures, and what their numbers mean.

    Args:
        model: its name.
        predictor: of it.
        options: of the command line, as they go into the record.
    """
    categories: Categories = predictor.model.categories
    head: dict[str, Any] = {
        "model": model,
        "weights": _fingerprint(predictor),
        "score_threshold": predictor.score_threshold,
        **options,
        "categories": _rows(categories.thing_ids, categories.things),
    }
    if categories.stuff:
        head["stuff_categories"] = _rows(categories.stuff_ids[1:], categories.stuff[1:])
    return head


def _rows(ids: Iterable[int], names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in zip(ids, names, strict=True)]


def _fingerprint(predictor: PicturePredictor) -> str:
    """CRC-32 of all weights as they lie in the model, whatever file they came from."""
    import torch

    total = 0
    for value in predictor.model.state_dict().values():
        total = zlib.crc32(value.detach().cpu().reshape(-1).view(torch.uint8).numpy(), total)
    return f"crc32:{total:08x}"


class Record:
    """What the runs in one folder have found; use it as a context, which writes the document at the end.

    Attributes:
        done: pictures found in earlier runs, by the key of their input.
        known: these, and the files of which some pictures are done.
    """

    def __init__(self, output: Path | None, *, resume: bool = False) -> None:
        """Open the record of a folder. The caller holds the folder's lock.

        Args:
            output: the folder; None keeps the record in a temporary file that no one else sees.
            resume: go on with what is there.

        Raises:
            ConfigError: there is one already, and it is not to be resumed.
            DataError: what is there is damaged.
        """
        self.output = output
        self._path = None if output is None else output / _RECORD
        self.done: dict[str, Named] = {}
        self.known: dict[str, Named] = {}
        self._has_films = False
        self._head: dict[str, Any] | None = None
        self._file: io.FileIO | None = None
        if output is None or self._path is None:
            return
        existing = [name for name in (_RECORD, _DOCUMENT) if (output / name).exists()]
        if existing and (not resume or existing == [_DOCUMENT]):
            way = f"without {_RECORD} nothing goes on;"
            if _RECORD in existing:
                way = "--resume goes on with it; else"
            raise ConfigError(
                f"--output {output}: holds the results of another run ({existing[0]}): {way} choose another "
                "folder, or remove this one"
            )
        if existing:
            self._file = self._path.open("r+b", buffering=0)
            try:
                self._read(self._path)
            except BaseException:
                self._file.close()
                raise

    def _read(self, path: Path) -> None:
        """Take in what is there, and cut off what a kill has left of a line."""
        assert self._file is not None
        end = 0
        for number, line in enumerate(self._lines(), start=1):
            try:
                row = json.loads(line)
                if number == 1:
                    self._head = dict(row)
                elif "video" in row:
                    film = row["video"]
                    item = Input(film["file_name"])
                    self.done[item.key] = Named(item, row["image_id"], row["stem"], film["id"])
                    self._has_films = True
                else:
                    image = row["image"]
                    item = Input(image["file_name"], image.get("frame"))
                    named = Named(item, image["id"], row["stem"], row.get("first_id", 0))
                    self.done[item.key] = named
                    if item.frame is not None and Input(item.name).key not in self.known:
                        self.known[Input(item.name).key] = named.whole
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number}: damaged: {error!r}; remove the line to predict its picture "
                    "again, or choose another folder"
                ) from error
            end += len(line)
        self.known |= self.done
        self._file.truncate(end)

    @property
    def is_new(self) -> bool:
        """Whether no run has begun it."""
        return self._head is None

    def begin(self, head: dict[str, Any]) -> None:
        """Say what is run.

        Raises:
            ConfigError: what is there was run otherwise.
        """
        if self._head is None:
            if self._file is None:  # not before, as a run that ends without a model leaves nothing
                self._file = _temporary() if self._path is None else self._path.open("x+b", buffering=0)
            self._append(head)
        elif changed := [k for k in dict.fromkeys([*head, *self._head]) if head.get(k) != self._head.get(k)]:
            before, now = ({key: of.get(key) for key in changed} for of in (self._head, head))
            raise ConfigError(
                f"--resume: the results in {self.output} were made otherwise: {', '.join(changed)}: expected "
                f"{str(before)[:300]}, got {str(now)[:300]}; choose another folder for these"
            )
        self._head = head

    def add(self, picture: Named, prediction: Prediction, *, time: float | None = None) -> None:
        """Append what was found in a picture. When this returns, the disk has it.

        Args:
            picture: what it is called.
            prediction: what was found.
            time: of a frame of a film, in seconds.

        Raises:
            OSError: it cannot be written; the message names the file.
        """
        height, width = prediction.instances.image_size
        item = picture.input
        image = {"id": picture.image_id, "file_name": item.label, "width": width, "height": height}
        row: dict[str, Any] = {"image": image, "stem": picture.stem}
        if item.frame is not None:
            image["frame"] = item.frame
            row["first_id"] = picture.first_id
        if time is not None:
            image["time"] = round(time, 6)
        row["predictions"] = prediction.to_coco(picture.image_id)
        if prediction.instances.panoptic is not None:
            annotation, _ = prediction.to_coco_panoptic(picture.image_id)
            row["panoptic"] = {**annotation, "file_name": picture.panoptic}
        self._append(row)

    def add_film(self, film: Named, frames: int, drawing: str | None) -> None:
        """Append that a film is done.

        Args:
            film: what it is called.
            frames: that were predicted.
            drawing: the name of the annotated film, if one was written.

        Raises:
            OSError: it cannot be written; the message names the file.
        """
        row = {"id": film.first_id, "file_name": film.input.label, "frames": frames, "drawing": drawing}
        self._append({"video": row, "stem": film.stem, "image_id": film.image_id})
        self._has_films = True

    def _append(self, row: dict[str, Any]) -> None:
        assert self._file is not None
        rest = memoryview(json.dumps(row).encode() + b"\n")
        with name_file(self._path or Path(tempfile.gettempdir())):
            self._file.seek(0, os.SEEK_END)
            # An unbuffered file may take less than all; a buffer would keep what a full disk refused.
            while rest:
                rest = rest[self._file.write(rest) :]
            if self._path is not None:
                os.fsync(self._file.fileno())

    def document(self) -> Iterator[str]:
        """The whole as one JSON document, piece by piece."""
        assert self._head is not None
        yield json.dumps(self._head)[:-1]
        kinds = {"images": "image", "predictions": "predictions", "panoptic": "panoptic"}
        if self._has_films:
            kinds["videos"] = "video"
        if "stuff_categories" not in self._head:
            del kinds["panoptic"]
        for name, key in kinds.items():
            yield f', "{name}": ['
            before = ""
            for line in islice(self._lines(), 1, None):  # after the head
                found = json.loads(line).get(key, [])
                for item in found if isinstance(found, list) else [found]:
                    yield before + json.dumps(item)
                    before = ", "
            yield "]"
        yield "}"

    def _lines(self) -> Iterator[bytes]:
        """All whole lines."""
        assert self._file is not None
        self._file.seek(0)
        reader = io.BufferedReader(self._file)
        try:
            yield from takewhile(lambda line: line.endswith(b"\n"), reader)
        finally:
            reader.detach()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A disk that took no line would not take the document either; the lines are there.
        refused = kind is not None and issubclass(kind, OSError)
        try:
            if self.output is not None and self._head is not None and not refused:
                with staged(self.output / _DOCUMENT) as part, part.open("w", encoding="utf-8") as file:
                    file.writelines(self.document())
        finally:
            if self._file is not None:
                self._file.close()


def _temporary() -> io.FileIO:
    file: io.FileIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the record
    return file
