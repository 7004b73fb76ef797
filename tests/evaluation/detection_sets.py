"""Small data sets of boxes and masks with results for them, and two oracles: pycocotools as its own
documentation uses it, and a plain loop."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnest_zoo.evaluation.detection import DetectionMetrics

Row = dict[str, Any]
Array = np.ndarray[Any, Any]

FIGURES = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def encode(mask: Array) -> Row:
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def run_lengths(mask: Array) -> Row:
    """Uncompressed, as COCO writes its crowds."""
    flat = np.concatenate([[0], mask.flatten(order="F"), [2]])
    ends = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def filled(height: int, width: int, box: Sequence[float]) -> Array:
    x, y, w, h = (int(value) for value in box)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


class Builder:
    """A ground truth and rows of results, box by box; masks fill the boxes unless given."""

    def __init__(self, categories: Sequence[int] = (1, 2), size: tuple[int, int] = (120, 160)) -> None:
        self.size = size
        self.rows: list[Row] = []
        self.truth: Row = {
            "images": [],
            "categories": [{"id": k, "name": f"class {k}"} for k in categories],
            "annotations": [],
        }

    def image(self, image_id: int | str) -> None:
        height, width = self.size
        self.truth["images"].append({"id": image_id, "height": height, "width": width})

    def object(
        self, image_id: int | str, category: int, box: Sequence[float], mask: Array | None = None, **also: Any
    ) -> None:
        mask = filled(*self.size, box) if mask is None else mask
        annotation = {
            "id": len(self.truth["annotations"]) + 1,
            "image_id": image_id,
            "category_id": category,
            "bbox": list(box),
            "area": float(mask.sum()),
            "iscrowd": 0,
            "segmentation": encode(mask),
        }
        self.truth["annotations"].append({**annotation, **also})

    def found(
        self,
        image_id: int | str,
        category: int,
        box: Sequence[float],
        score: float = 0.5,
        mask: Array | None = None,
    ) -> None:
        mask = filled(*self.size, box) if mask is None else mask
        row = {"image_id": image_id, "category_id": category, "bbox": list(box), "score": score}
        self.rows.append({**row, "segmentation": encode(mask)})

    def write(self, folder: Path, name: str = "instances.json") -> Path:
        path = folder / name
        path.write_text(json.dumps(self.truth))
        return path


def back(truth: Row) -> list[Row]:
    """The annotations as results of score 1."""
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{**{key: row[key] for key in keys}, "score": 1.0} for row in truth["annotations"]]


def reference(
    truth: Row, rows: list[Row], kind: str, image_ids: Sequence[int] | None = None
) -> dict[str, float | None]:
    """All figures by pycocotools, `category K` for each category, None for its -1."""
    truth, rows = copy.deepcopy(truth), copy.deepcopy(rows)
    for row in rows if kind == "segm" else ():
        del row["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset = truth
        target.createIndex()
        run = COCOeval(target, target.loadRes(rows), kind)
        if image_ids is not None:
            run.params.imgIds = list(image_ids)
        run.evaluate()
        run.accumulate()
        run.summarize()
    figures = dict(zip(FIGURES, run.stats.tolist(), strict=True))
    for index, category in enumerate(run.params.catIds):
        values = run.eval["precision"][:, :, index, 0, -1]
        values = values[values > -1]
        figures[f"category {category}"] = values.mean() if values.size else -1
    return {name: None if value == -1 else float(value) for name, value in figures.items()}


def figures_of(metrics: DetectionMetrics) -> dict[str, float | None]:
    """The same of ours."""
    plain = asdict(metrics)
    categories = {f"category {category}": ap for category, ap in metrics.per_category.items()}
    return {name: plain[name] for name in FIGURES} | categories


def largest_difference(ours: dict[str, float | None], theirs: dict[str, float | None]) -> float:
    """Over all figures; infinite where one side has a figure and the other none."""
    assert ours.keys() == theirs.keys()
    largest = 0.0
    for name, value in ours.items():
        other = theirs[name]
        if value is None or other is None:
            largest = max(largest, 0.0 if value is other else float("inf"))
        else:
            largest = max(largest, abs(value - other))
    return largest


def scattered(images: int, seed: int, categories: int = 6) -> Builder:
    """Objects found more or less well, and false alarms; no two scores are equal."""
    rng = np.random.default_rng(seed)
    build = Builder(categories=range(1, categories + 1))
    empty = np.zeros((1, 1), dtype=np.uint8)
    for image in range(images):
        build.image(image)
        for _ in range(rng.poisson(2)):
            category = 1 + min(int(rng.geometric(0.4)), categories) - 1
            box = rng.uniform(10, 60, 4)
            build.object(image, category, box.tolist(), empty, area=float(box[2] * box[3]))
            if rng.random() < 0.8:
                build.found(image, category, (box + rng.normal(0, 3, 4)).tolist(), rng.beta(4, 3), empty)
        for _ in range(rng.poisson(5)):
            category = int(rng.integers(1, categories + 1))
            build.found(image, category, rng.uniform(10, 90, 4).tolist(), rng.beta(2, 4), empty)
    return build


def hide_hotcoco(monkeypatch: pytest.MonkeyPatch, version: str | None = None) -> None:
    known = metadata.version

    def look_up(name: str) -> str:
        if name != "hotcoco":
            return known(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", look_up)


_SHAPES = ("empty", "pixel", "noise", "full", "ellipse", "box", "holes")


def _random_mask(rng: np.random.Generator, height: int, width: int) -> Array:
    shape = rng.choice(_SHAPES)
    rows, columns = np.mgrid[:height, :width]
    y, x = rng.integers(height), rng.integers(width)
    if shape in ("empty", "full"):
        return np.full((height, width), shape == "full", dtype=np.uint8)
    if shape == "pixel":
        return ((rows == y) & (columns == x)).astype(np.uint8)
    if shape == "noise":
        return (rng.random((height, width)) < rng.random()).astype(np.uint8)
    ry, rx = rng.uniform(1, height / 2), rng.uniform(1, width / 2)
    if shape == "ellipse":
        return (((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 < 1).astype(np.uint8)
    box = (abs(rows - y) < ry) & (abs(columns - x) < rx)
    return (box & ((rng.random((height, width)) < 0.8) | (shape == "box"))).astype(np.uint8)


def _random_object(rng: np.random.Generator, height: int, width: int) -> tuple[Array, Any]:
    """A mask and its segmentation in one of COCO's three spellings."""
    if rng.random() < 0.25:
        polygons = [rng.uniform(-5, max(height, width), 2 * int(rng.integers(3, 8))).tolist()]
        polygons += [rng.uniform(0, width, 6).tolist()] if rng.random() < 0.3 else []
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return np.array(coco_mask.decode(rle)), polygons
    mask = _random_mask(rng, height, width)
    return mask, (run_lengths if rng.random() < 0.3 else encode)(mask)


def _bent(rng: np.random.Generator, box: list[float]) -> list[float]:
    """Now and then a side of a box becomes 0 or negative."""
    factor = float(rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 0, -1]))
    side = int(rng.integers(2, 4))
    return [value * factor if index == side else value for index, value in enumerate(box)]


def _random_score(rng: np.random.Generator) -> float:
    ties = float(np.round(rng.random(), 1))
    return float(rng.choice([ties, ties, ties, rng.random(), rng.random(), 0.0, -0.0, 1.0, -rng.random()]))


def random_set(seed: int) -> tuple[Row, list[Row]]:
    """Everything at once that a data set can hold: crowds, empty images and masks, ids from 0 with gaps,
    categories without objects, equal scores, flat and negative boxes, areas on the limits, and for some seeds
    more detections in an image than count."""
    rng = np.random.default_rng(seed)
    images, classes, per_image = [(5, 3, 12), (2, 1, 150), (10, 20, 25), (4, 4, 20)][seed % 4]
    start = int(rng.choice([0, 1, 1000]))
    ids = rng.permutation(np.arange(start, start + 4 * images))[:images].tolist()
    categories = rng.permutation(np.arange(start % 2, 3 * classes + 1))[:classes].tolist()
    sizes = rng.integers(8, 130, (images, 2)).tolist()
    truth: Row = {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in zip(ids, sizes, strict=True)],
        "categories": [{"id": k, "name": str(k)} for k in categories],
        "annotations": [],
    }
    rows = []
    for image_id, (height, width) in zip(ids, sizes, strict=True):
        objects = []
        for _ in range(rng.poisson(5) * int(rng.random() < 0.85) + (image_id == ids[0])):
            mask, segmentation = _random_object(rng, height, width)
            box = _bent(rng, coco_mask.toBbox(encode(mask)).tolist())
            objects.append((int(rng.choice(categories[: 1 + classes // 2])), mask, box))
            annotation = {"id": len(truth["annotations"]) + 1, "image_id": image_id, "bbox": box}
            annotation |= {"category_id": objects[-1][0], "segmentation": segmentation}
            area = float(rng.choice([mask.sum(), mask.sum(), mask.sum(), 1024, 9216, 1023.999]))
            annotation |= {
                "area": area,
                "iscrowd": int(rng.random() < 0.12),
                "ignore": int(rng.random() < 0.1),
            }
            truth["annotations"].append(annotation)
        for _ in range(rng.poisson(per_image) * int(rng.random() < 0.85) + (image_id == ids[0])):
            category, mask = int(rng.choice(categories)), _random_mask(rng, height, width)
            box = rng.integers(0, 60, 4).astype(float).tolist()
            if objects and rng.random() < 0.7:
                category, mask, box = objects[rng.integers(len(objects))]
                mask = np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1)) if rng.random() < 0.7 else mask
                box = [value + float(rng.integers(-2, 3)) for value in box] if rng.random() < 0.7 else box
            row = {"image_id": image_id, "category_id": category, "bbox": _bent(rng, box)}
            rows.append({**row, "score": _random_score(rng), "segmentation": encode(mask)})
    return truth, [rows[index] for index in rng.permutation(len(rows))]


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _naive_hits(objects: list[Row], rows: list[Row], threshold: float) -> Iterator[bool]:
    taken: set[int] = set()
    for row in sorted(rows, key=lambda row: -row["score"]):
        best, place = threshold, None
        for index, annotation in enumerate(objects):
            if annotation["image_id"] == row["image_id"] and index not in taken:
                iou = _iou(row["bbox"], annotation["bbox"])
                if iou >= best:
                    best, place = iou, index
        if place is not None:
            taken.add(place)
        yield place is not None


def naive_ap(truth: Row, rows: list[Row], vouching: bool = True) -> float:
    """Box AP by the definition, of sets without crowds; without `vouching` no hit counts for itself."""
    means = []
    for category in truth["categories"]:
        objects = [row for row in truth["annotations"] if row["category_id"] == category["id"]]
        own = [row for row in rows if row["category_id"] == category["id"]]
        for threshold in THRESHOLDS if objects else ():
            hits = alarms = 0
            curve = []  # recall and precision at each hit
            for hit in _naive_hits(objects, own, threshold):
                hits, alarms = hits + hit, alarms + (not hit)
                if hit:
                    held = hits if vouching else hits - 1
                    curve.append((hits / len(objects), held / max(held + alarms, 1)))
            levels = [max((p for r, p in curve if r >= level), default=0) for level in np.linspace(0, 1, 101)]
            means.append(sum(levels) / 101)
    return sum(means) / len(means)
