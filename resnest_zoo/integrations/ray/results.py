"""Results read back: as rows, as COCO's, as a frame of pandas, as instances, and measured.

Nothing here needs Ray, only pyarrow; parts are read one after the other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from resnest_zoo.annotations.tables import ImageId, read_tables
from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, DataError, some
from resnest_zoo.evaluation.coco_json import TABLES, make_truth
from resnest_zoo.evaluation.detection import DetectionMetrics, evaluate_detections
from resnest_zoo.hub.staging import staged
from resnest_zoo.integrations.ray.output import open_store, parts, read_job, read_part
from resnest_zoo.integrations.ray.packages import imported
from resnest_zoo.structures import Instances

logger = logging.getLogger(__name__)

_LOW = 0.05  # the threshold of models themselves, which AP is measured at
Row = dict[str, Any]


class Predictions:
    """A folder of results; `read_predictions` opens one.

    Attributes:
        job: what was run: `model`, `weights`, `score_threshold`, `options`, `source`, `things`, `stuff`.
        categories: of the model.
    """

    def __init__(self, output: str | Path) -> None:
        """Open a folder, or an address.

        Raises:
            DataError: it holds no results, or damaged ones.
        """
        self._output = output
        self._store = open_store(output)
        self.job = read_job(output, self._store)
        things, stuff = self.job["things"], self.job["stuff"]
        self.categories = Categories(
            tuple(things.values()), tuple(map(int, things)), tuple(stuff.values()), tuple(map(int, stuff))
        )

    def tables(self, columns: list[str] | None = None) -> Iterator[Any]:
        """Each part as a `pyarrow.Table`, with these columns or all.

        Raises:
            DataError: one is damaged.
        """
        for name in parts(self._store):
            yield read_part(self._store, name, columns)

    def rows(self) -> Iterator[Row]:
        """Each picture's row as a dictionary.

        Raises:
            DataError: a picture has two, or a part is damaged.
        """
        seen: set[str] = set()
        for table in self.tables():
            for batch in table.to_batches(max_chunksize=256):
                for row in batch.to_pylist():
                    if row["id"] in seen:
                        raise DataError(f"{self._output}: {row['id']} has more than one row")
                    seen.add(row["id"])
                    yield row

    def __len__(self) -> int:
        return sum(table.num_rows for table in self.tables(["id"]))

    def kinds(self) -> list[Literal["bbox", "segm"]]:
        """What can be measured: boxes, and masks where the model gives them."""
        for table in self.tables(["masks"]):
            if table.column("masks").null_count < table.num_rows:
                return ["segm", "bbox"]
        return ["bbox"]

    def errors(self) -> dict[str, str]:
        """What was wrong with the pictures that failed, by id."""
        found: dict[str, str] = {}
        for table in self.tables(["id", "error"]):
            failed = table.filter(table.column("error").is_valid())
            found |= dict(zip(failed["id"].to_pylist(), failed["error"].to_pylist(), strict=True))
        return found

    def instances(self) -> Iterator[tuple[str, Instances]]:
        """Id and instances of each picture that did not fail; masks as run lengths, no panoptic map."""
        for row in self.rows():
            if row["error"] is None:
                masks = row["masks"]
                yield (
                    row["id"],
                    Instances(
                        torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 4),
                        torch.tensor(row["scores"], dtype=torch.float32),
                        torch.tensor(row["classes"], dtype=torch.int64),
                        (row["height"], row["width"]),
                        self.categories,
                        rles=None if masks is None else tuple(masks),
                    ),
                )

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each instance.

        Columns: `id`, `name`, `score`, `x0`, `y0`, `x1`, `y1` in pixels, `class_index`, `category_id`.

        Raises:
            ZooError: pandas is not installed.
        """
        pandas = imported("pandas")
        columns: dict[str, list[Any]] = {
            key: [] for key in ("id", "name", "score", "x0", "y0", "x1", "y1", "class_index", "category_id")
        }
        for row in self.rows():
            columns["id"] += [row["id"]] * len(row["scores"])
            columns["name"] += row["names"]
            columns["score"] += row["scores"]
            columns["class_index"] += row["classes"]
            columns["category_id"] += row["category_ids"]
            for place, key in enumerate(("x0", "y0", "x1", "y1")):
                columns[key] += [box[place] for box in row["boxes"]]
        return pandas.DataFrame(columns)

    def to_coco(self, annotations: str | Path | None = None) -> Iterator[Row]:
        """The instances as rows of COCO's result format, as `detection_rows` gives them.

        Args:
            annotations: the file whose image ids stand in the rows; its pictures are found by their names.
                Without one `image_id` is the id here, a text.

        Raises:
            DataError: a picture here is not in `annotations`, or the file is none.
        """
        ids = None if annotations is None else _ids_by_name(annotations)
        for row in self.rows():
            image_id: ImageId = row["id"] if ids is None else _found(ids, row["id"], annotations)
            masks = row["masks"] or [None] * len(row["scores"])
            for box, score, category_id, mask in zip(
                row["boxes"], row["scores"], row["category_ids"], masks, strict=True
            ):
                x0, y0, x1, y1 = box
                found = {"image_id": image_id, "category_id": category_id, "bbox": [x0, y0, x1 - x0, y1 - y0]}
                yield {**found, "score": score, **({} if mask is None else {"segmentation": mask})}

    def write_coco(self, target: str | Path, annotations: str | Path | None = None) -> Path:
        """Write the rows of `to_coco` as a JSON file, whole or not at all."""
        with staged(Path(target)) as part, part.open("w", encoding="utf-8") as file:
            before = "["
            for row in self.to_coco(annotations):
                file.write(before + json.dumps(row))
                before = ",\n"
            file.write("[]" if before == "[" else "]")
        return Path(target)

    def evaluate(self, annotations: str | Path, kind: Literal["bbox", "segm"] = "bbox") -> DetectionMetrics:
        """COCO's figures of what was found; see `evaluate_detections`.

        A picture that failed counts as one in which nothing was found.

        Raises:
            DataError: a picture of `annotations` has no row here, or one here is not there; or the file is
                none.
            ConfigError: masks of a model without any.
        """
        data = read_tables(Path(annotations), *TABLES)
        truth = make_truth(data, str(annotations))
        ids = _ids_by_name(annotations, data["images"])
        done = {
            _found(ids, name, annotations)
            for table in self.tables(["id"])
            for name in table["id"].to_pylist()
        }
        lacking = [image_id for image_id in truth.image_ids if image_id not in done]
        if lacking:
            raise DataError(
                f"{self._output}: {len(lacking)} of {len(truth.image_ids)} images of {annotations} have no "
                f"row ({some(lacking)}): go on with the job by --resume, or measure on its own pictures"
            )
        rows = list(self.to_coco(annotations))
        if kind == "segm" and rows and "segmentation" not in rows[0]:
            raise ConfigError(f"{self._output}: {self.job['model']} gives no masks")
        self._warn(len(self.errors()))
        return evaluate_detections(truth, rows, kind)

    def _warn(self, failed: int) -> None:
        if self.job["score_threshold"] > _LOW:
            logger.warning(
                "%s: predicted with a score threshold of %g; AP is measured at %g, below which "
                "models give nothing",
                *(self._output, self.job["score_threshold"], _LOW),
            )
        if failed:
            logger.warning("%s: %d pictures failed and count as without a detection", self._output, failed)


def read_predictions(output: str | Path) -> Predictions:
    """Open a folder of results, or its address.

    Raises:
        DataError: it holds none.
        ZooError: pyarrow is not installed.
    """
    imported("pyarrow")
    return Predictions(output)


def _ids_by_name(annotations: str | Path, images: list[Row] | None = None) -> dict[str, ImageId | None]:
    """Image ids by `file_name`, and by its last part where no other picture has that."""
    if images is None:
        images = read_tables(Path(annotations), "images")["images"]
    found: dict[str, ImageId | None] = {}
    for image in images:
        last = str(image.get("file_name")).replace("\\", "/").rpartition("/")[2]
        found[last] = None if last in found else image.get("id")
    return found | {str(image.get("file_name")): image.get("id") for image in images}


def _found(ids: Mapping[str, ImageId | None], name: str, annotations: str | Path | None) -> ImageId:
    """The image id of a picture here, by its whole id or by the last part of it."""
    for key in (name, name.rpartition("#")[2], name.rpartition("#")[2].rpartition("/")[2]):
        if (image_id := ids.get(key)) is not None:
            return image_id
    raise DataError(f"{annotations}: has no image of the name of {name}, or several")
