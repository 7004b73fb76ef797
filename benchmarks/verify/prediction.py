"""A detector over all pictures of a data set: sharded over processes, resumable, last digit reproducible.

A batch holds pictures that enter the model at one size, and is a function of the data set alone. Processes
share whole batches, and a batch counts as done when all its pictures are on the disk: so neither the number
of processes nor an interruption changes what a picture shared its batch with, which rounding could show.

Workers read and resize the next pictures while the model computes, and a thread encodes masks and compares
segments of the last ones. What is found goes to the disk picture after picture.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.verify.datasets import DataSet, Picture
from resnest_zoo.annotations.tables import read_tables
from resnest_zoo.data.sizes import read_sized_picture
from resnest_zoo.data.workers import read_ahead
from resnest_zoo.distributed import World
from resnest_zoo.errors import ZooError, name_file, shown
from resnest_zoo.evaluation.panoptic import encode_ids, match_segments, read_segment_map
from resnest_zoo.evaluation.results import detection_rows, segment_rows
from resnest_zoo.evaluation.segments import SegmentMap
from resnest_zoo.evaluation.semantic import count_confusion, semantic_truth
from resnest_zoo.hub.staging import write_staged
from resnest_zoo.inference import TTA
from resnest_zoo.inference.visualize import encode_picture
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.preprocess import Preprocessing
from resnest_zoo.structures import PanopticResult, RawResult

logger = logging.getLogger(__name__)

_PENDING = 2  # batches whose masks are being encoded while the next one is computed

Batch = tuple[Picture, ...]


def plan_batches(pictures: Sequence[Picture], preprocessing: Preprocessing, batch_size: int) -> list[Batch]:
    """Batches of pictures that are padded to the same size, in a fixed order."""

    def padded(picture: Picture) -> tuple[int, int]:
        return preprocessing.padded_size(preprocessing.input_size(picture.size))

    groups: dict[tuple[int, int], list[Picture]] = {}
    for picture in sorted(pictures, key=lambda picture: picture.id):
        groups.setdefault(padded(picture), []).append(picture)
    return [
        tuple(group[start : start + batch_size])
        for _, group in sorted(groups.items())
        for start in range(0, len(group), batch_size)
    ]


class _Reader:
    """Reads the pictures of a batch by its number."""

    def __init__(self, batches: Sequence[Batch], resize: Callable[[Tensor], Tensor]) -> None:
        self.batches = batches
        self.resize = resize

    def __call__(self, index: int) -> tuple[Batch, list[Tensor]]:
        batch = self.batches[index]
        return batch, [self.resize(read_sized_picture(p.path, p.size)) for p in batch]


class Records:
    """What was found, one line of JSON for each picture, in a folder that survives an interruption.

    Each process appends to a file of its own. A line that is damaged, or cut off by a kill, does not count:
    its picture is detected again.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self._file = folder / f"pictures.{rank}.jsonl"

    def read(self) -> dict[int, str]:
        """The line of each finished picture, from all processes of this machine, by image id."""
        lines = {}
        for file in sorted(self.folder.glob("pictures.*.jsonl")):
            # Only "\n" ends a line: the JSON of others' tools may hold U+2028.
            for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
                image_id, _, content = line.decode("utf-8", "replace").partition(" ")
                if _is_record(image_id, content):
                    lines[int(image_id)] = content
                else:
                    logger.warning("%s: line %d is damaged and left out: %s", file, number, shown(line))
        return lines

    def cut_unfinished(self) -> None:
        """Remove what a kill left of a line, so that the next one starts on its own."""
        if self._file.exists():
            with self._file.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def append(self, rows: list[dict[str, Any]]) -> int:
        """Write the records of one batch together; returns their number."""
        text = "".join(f"{row['image_id']} {json.dumps(row, separators=(',', ':'))}\n" for row in rows)
        with name_file(self._file), self._file.open("ab") as file:
            file.write(text.encode())
        return len(rows)


def _is_record(image_id: str, content: str) -> bool:
    """Whether this is a line of `Records.append`, as far as its parts go."""
    try:
        row, own = json.loads(content), int(image_id)
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict) or row.get("image_id") != own or not isinstance(row.get("detections"), list):
        return False
    return all(isinstance(row.get(part, {}), dict) for part in ("panoptic", "matches", "confusion"))


@dataclass(frozen=True)
class Detector:
    """A model at work on a data set.

    Attributes:
        model: in evaluation mode on its device.
        data: the pictures and their truth.
        tta: use test-time augmentation; no panoptic map then.
        maps: the folder for panoptic PNG files, made when the first is written.
    """

    model: GeneralizedRCNN
    data: DataSet
    tta: bool
    maps: Path

    def predict(
        self, batches: Sequence[Batch], records: Records, workers: int, advance: Callable[[int], None]
    ) -> None:
        """Detect in the pictures of all batches and record what was found.

        Args:
            batches: pictures that go through the model together.
            records: where the results go.
            workers: processes that read pictures, no more than there are processors; 0 reads between the
                batches.
            advance: called with the number of pictures done.

        Raises:
            ImageError: a picture cannot be read.
            DataError: a picture has another size than the annotations say.
            WorkerError: the system ended a process that reads pictures.
        """
        resize = _unchanged if self.tta else self.model.preprocessing.resize
        loader = read_ahead(_Reader(batches, resize), range(len(batches)), workers)
        truth = self._panoptic_truth()
        records.cut_unfinished()
        pending: deque[Future[list[dict[str, Any]]]] = deque()
        with ThreadPoolExecutor(1) as pool:
            try:
                for batch, pictures in loader:
                    raw = self._run(batch, pictures)
                    pending.append(pool.submit(self._finish_all, batch, raw, truth))
                    while len(pending) > _PENDING:
                        advance(records.append(pending.popleft().result()))
            finally:  # also of a run that is interrupted or fails: what was computed is kept
                while pending:
                    advance(records.append(pending.popleft().result()))

    @torch.no_grad()
    def _run(self, batch: Batch, pictures: list[Tensor]) -> list[RawResult]:
        if self.tta:
            augmented = TTA(self.model)
            return [augmented.run(picture) for picture in pictures]
        prepared = self.model.preprocessing.batch(pictures, next(self.model.parameters()))
        return self.model.run(prepared, [picture.size for picture in batch])

    def _finish_all(self, batch: Batch, raw: list[RawResult], truth: dict[int, Any]) -> list[dict[str, Any]]:
        return [self._finish(p, r.to("cpu"), truth) for p, r in zip(batch, raw, strict=True)]

    def _finish(self, picture: Picture, raw: RawResult, truth: dict[int, Any]) -> dict[str, Any]:
        """The record of one picture: its rows of COCO's results, and its part in the panoptic metrics."""
        found = self.model.finish(raw, encoded=True)
        record: dict[str, Any] = {"image_id": picture.id, "detections": detection_rows(found, picture.id)}
        if found.panoptic is None:
            return record
        name = f"{picture.id:012d}.png"
        self.maps.mkdir(exist_ok=True)
        ids = Image.fromarray(encode_ids(found.panoptic.segment_map.numpy()))
        write_staged(self.maps / name, encode_picture(ids, "PNG"))
        segments = segment_rows(found.panoptic, found.categories)
        record["panoptic"] = {"image_id": picture.id, "file_name": name, "segments_info": segments}
        if picture.id in truth:
            record |= self._compare(picture, found.panoptic, truth[picture.id])
        return record

    def _compare(self, picture: Picture, found: PanopticResult, annotation: Any) -> dict[str, Any]:
        assert self.data.panoptic_maps is not None
        categories = self.model.categories
        ids = read_segment_map(self.data.panoptic_maps / annotation["file_name"], picture.size)
        true = SegmentMap.from_coco(ids, annotation)
        mine = SegmentMap.from_result(picture.id, found, categories)
        labels = semantic_truth(true, categories)
        return {
            "matches": match_segments(true, mine, categories),
            "confusion": count_confusion(picture.id, labels, found.semantic.numpy(), categories),
        }

    def _panoptic_truth(self) -> dict[int, Any]:
        """The panoptic annotation of each picture, by image id."""
        if self.data.panoptic is None or self.tta:
            return {}
        content = read_tables(self.data.panoptic, "annotations")
        return {row["image_id"]: row for row in content["annotations"]}


def _unchanged(picture: Tensor) -> Tensor:
    return picture


def predict_all(
    detector: Detector,
    pictures: Sequence[Picture],
    folder: Path,
    world: World,
    *,
    batch_size: int,
    workers: int,
    advance: Callable[[int], None],
) -> dict[int, str]:
    """Detect in all `pictures` that `folder` has no record of, each process its share of them.

    Returns:
        In process 0 the record of every picture, JSON by image id; nothing elsewhere.

    Raises:
        ZooError: in every process, when a picture cannot be read in one.
    """
    records = Records(folder, world.rank)
    batches = plan_batches(pictures, detector.model.preprocessing, 1 if detector.tta else batch_size)
    everywhere = world.gather(set(records.read()))
    done = world.broadcast(set().union(*everywhere))
    left = [batch for batch in batches if not done.issuperset(picture.id for picture in batch)]
    advance(sum(map(len, batches)) - sum(map(len, left)))
    share = left[world.rank :: world.size]
    problem = None
    try:
        detector.predict(share, records, workers, lambda count: advance(count * world.size))
    except (ZooError, torch.OutOfMemoryError) as error:
        problem = str(error)
    if problem := world.first(problem):  # else the others would wait for this process
        raise ZooError(problem)
    wanted = {picture.id for picture in pictures}
    mine = {image_id: line for image_id, line in records.read().items() if image_id in wanted}
    found: dict[int, str] = {}
    for part in world.gather(mine):
        found |= part
    return dict(sorted(found.items()))
