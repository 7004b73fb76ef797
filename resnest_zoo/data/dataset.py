"""A data set in memory: its pictures' files and annotations, in little space.

A data set of a million annotations is tens of millions of Python objects, of which each worker process would
end up with its own copy. So pictures are kept as rows of JSON text in one tensor, which processes share, and
become objects one at a time. Legend: N pictures, G annotations of one picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnest_zoo.categories import Categories
from resnest_zoo.data.panoptic import SegmentMap
from resnest_zoo.structures import SizeHW

# Polygons, each x, y in turn, or a run-length encoding.
Segmentation = list[list[float]] | dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One picture and its annotations.

    Attributes:
        file: of the picture.
        image_id: as the annotations write it.
        size: of the picture.
        boxes: G boxes as COCO has them, (x, y, width, height) in pixels.
        classes: G contiguous classes.
        segmentations: of the G annotations; None where masks are not needed.
        segment_map: for data sets with panoptic annotations.
    """

    file: Path
    image_id: int | str
    size: SizeHW
    boxes: list[list[float]]
    classes: list[int]
    segmentations: list[Segmentation] | None = None
    segment_map: SegmentMap | None = None


class Dataset:
    """The records of a data set, by number.

    Attributes:
        categories: what the classes mean.
        sizes: (N, 2) int32, height and width of each picture.
        left_out: problems of pictures that turned out to be unreadable, by file; None where the first such
            picture is an error.
    """

    def __init__(
        self, categories: Categories, records: Iterable[Record], *, skip_unreadable: bool = False
    ) -> None:
        """Take the records one at a time, so that they never stand in memory together."""
        self.categories = categories
        self.left_out: dict[str, str] | None = {} if skip_unreadable else None
        text, ends, sizes = bytearray(), [0], []
        for record in records:
            text += json.dumps(_to_row(record), separators=(",", ":")).encode()
            ends.append(len(text))
            sizes.append(record.size)
        text.append(0)  # since an empty buffer is refused
        # A tensor and not an array: torch shares it with other processes also where these are not forked.
        self._text = torch.frombuffer(text, dtype=torch.uint8)
        self._ends = torch.tensor(ends)
        self.sizes = torch.tensor(sizes, dtype=torch.int32).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        start, end = self._ends[index : index + 2].tolist()
        return _from_row(json.loads(self._text[start:end].numpy().tobytes()))

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))


def _to_row(record: Record) -> list[Any]:
    segment_map = record.segment_map
    return [
        str(record.file),
        record.image_id,
        record.size,
        record.boxes,
        record.classes,
        record.segmentations,
        None if segment_map is None else [str(segment_map.file), segment_map.segments],
    ]


def _from_row(row: list[Any]) -> Record:
    file, image_id, (height, width), boxes, classes, segmentations, segment_map = row
    if segment_map is not None:
        map_file, segments = segment_map
        segment_map = SegmentMap(Path(map_file), tuple((i, k) for i, k in segments))
    return Record(Path(file), image_id, (height, width), boxes, classes, segmentations, segment_map)
