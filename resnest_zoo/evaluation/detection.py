"""Box and mask AP of detections as COCO defines them, and what a sample of images says of them.

pycocotools is the reference. hotcoco computes the same in a fraction of the time: since 1.3 all its figures,
those of each category included, are pycocotools' to the last bit, which the tests check wherever it is
installed. The metrics say which of the two made them.

Legend: N images, D detections of one category, O of them that found an object, W weightings of the images,
T IoU thresholds 0.5, 0.55 ... 0.95, R recall levels 0, 0.01 ... 1, K categories, A areas (all, small, medium,
large), M limits of detections.

Source: https://cocodataset.org/#detection-eval. Numerics of pycocotools 2.0.11, `cocoeval.py`; which rows it
is given as in detectron2, evaluation/coco_evaluation.py, `_evaluate_predictions_on_coco`.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from resnest_zoo.annotations.tables import ImageId
from resnest_zoo.errors import ConfigError, DataError, shown
from resnest_zoo.evaluation.coco_json import (
    DetectionRows,
    DetectionTruth,
    Rows,
    load_truth,
    read_rows,
)

Array = np.ndarray[Any, Any]
Kind = Literal["bbox", "segm"]
Evaluator = Literal["hotcoco", "pycocotools"]

_OLDEST_HOTCOCO = (1, 3)
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_EVERY_AREA = [0.0, 1e10]
_RECALL_LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class DetectionMetrics:
    """COCO's twelve figures and the AP of each category.

    Figures are fractions in [0, 1], and None where the images have no object that counts.

    Attributes:
        kind: what was compared, boxes or masks.
        evaluator: the package that made the figures.
        version: its version.
        images: how many images were evaluated.
        max_detections: how many detections of one category in one image count, those of highest score;
            for all figures but `ar1` and `ar10`.
        ap: mean over categories, IoU thresholds 0.5 ... 0.95 and recall levels.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ap_small: of objects up to 32 x 32 pixels by area.
        ap_medium: between.
        ap_large: from 96 x 96 pixels.
        ar1: mean recall over categories and IoU thresholds with 1 detection per category and image.
        ar10: with 10.
        ar100: with `max_detections`, whose default is 100.
        ar_small: likewise, of small objects.
        ar_medium: of medium ones.
        ar_large: of large ones.
        per_category: AP of each category of the ground truth, by its id.
    """

    kind: Kind
    evaluator: Evaluator
    version: str
    images: int
    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_category: dict[int, float | None]


def evaluate_detections(
    truth: DetectionTruth | str | Path,
    rows: Rows | str | Path,
    kind: Kind,
    *,
    image_ids: Iterable[ImageId] | None = None,
    max_detections: int = 100,
    evaluator: Literal["auto"] | Evaluator = "auto",
) -> DetectionMetrics:
    """Compare detections with the ground truth.

    For masks, areas are those of the masks: a `bbox` beside a `segmentation` is not looked at. Of equal
    scores the earlier row counts first. Standard output is silenced meanwhile, for the whole process.

    Args:
        truth: an instances file, or what `load_truth` made of it, which serves any number of evaluations.
        rows: in COCO's result format, or a JSON file of them; none at all is an AP of 0.
        kind: "bbox" for boxes, "segm" for masks.
        image_ids: the images to evaluate; None for all of `truth`. Rows of its other images are left out.
        max_detections: how many detections of one category in one image count, 10 or more.
        evaluator: "auto" is hotcoco where a version known to agree is installed, else pycocotools.

    Raises:
        DataError: a file or a row is wrong, or is of another data set.
        ConfigError: another argument is wrong, or hotcoco is demanded but not installed.
    """
    if max_detections < 10:
        raise ConfigError(f"max_detections: expected 10 or more, since AR counts 10, got {max_detections}")
    name = _choose(evaluator)
    truth, found = _read(truth, rows, kind, image_ids)
    run = _prepare(truth, found, kind, name)
    run.params.maxDets = [1, 10, max_detections]
    _silently(run.evaluate)
    _silently(run.accumulate)
    precision, recall = run.eval["precision"], run.eval["recall"]  # (T, R, K, A, M), (T, K, A, M)
    return DetectionMetrics(
        kind=kind,
        evaluator=name,
        version=metadata.version(name),
        images=len(truth.image_ids),
        max_detections=max_detections,
        ap=_mean(precision[:, :, :, _ALL, 2]),
        ap50=_mean(precision[0, :, :, _ALL, 2]),
        ap75=_mean(precision[5, :, :, _ALL, 2]),
        ap_small=_mean(precision[:, :, :, _SMALL, 2]),
        ap_medium=_mean(precision[:, :, :, _MEDIUM, 2]),
        ap_large=_mean(precision[:, :, :, _LARGE, 2]),
        ar1=_mean(recall[:, :, _ALL, 0]),
        ar10=_mean(recall[:, :, _ALL, 1]),
        ar100=_mean(recall[:, :, _ALL, 2]),
        ar_small=_mean(recall[:, :, _SMALL, 2]),
        ar_medium=_mean(recall[:, :, _MEDIUM, 2]),
        ar_large=_mean(recall[:, :, _LARGE, 2]),
        per_category={k: _mean(precision[:, :, i, _ALL, 2]) for i, k in enumerate(truth.category_ids)},
    )


def expected_range(
    truth: DetectionTruth | str | Path,
    rows: Rows | str | Path,
    kind: Kind,
    image_ids: Iterable[ImageId],
    *,
    draws: int = 200,
    population: int = 5000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Where the AP over a whole data set may lie, given a random sample of its images.

    AP over few images is higher than over all: where a category has few objects, the one found stands out
    among the false alarms that it is weighed against. With COCO's categories 100 of 5,000 images say 4 to 5
    points too much, 500 still 1 to 2, as simulations have it. So the range reaches lower than higher. Its
    high end is AP as it is, its low end AP where no object vouches for its own detection, and to both is
    added the spread that resampling the images shows, less that of a sample which is part of the whole.

    It holds the sample's AP, narrows as the sample grows and is that AP when the sample is everything. In
    simulations of 20 and 80 categories it held the AP of all images in 95 % of the samples or more, up to
    half of all images; with a handful of categories or images, in 85 to 90 %.

    Args:
        truth: as for `evaluate_detections`.
        rows: likewise.
        kind: likewise.
        image_ids: the sample, 2 or more images drawn at random.
        draws: how many times the images are resampled.
        population: how many images the whole data set has.
        seed: of the resampling; equal seeds give equal ranges.
        level: the share of samples whose range should hold the AP of the whole.

    Returns:
        Its ends, fractions in [0, 1].

    Raises:
        DataError: as `evaluate_detections`; or the images have no object that counts.
        ConfigError: the sample is larger than `population` or smaller than 2 images, there are fewer than 2
            draws, or `level` is not between 0 and 1.
    """
    if draws < 2 or not 0 < level < 1:
        raise ConfigError(f"expected 2 draws or more and 0 < level < 1, got {draws} and {level}")
    truth, found = _read(truth, rows, kind, image_ids)
    size = len(truth.image_ids)
    if not 2 <= size <= population:
        raise ConfigError(f"expected a sample of 2 to {population:,} images (population), got {size:,}")
    run = _prepare(truth, found, kind, _choose("auto"))
    run.params.areaRng, run.params.areaRngLbl = [_EVERY_AREA], ["all"]
    _silently(run.evaluate)
    _silently(run.accumulate)
    ap = _mean(run.eval["precision"][:, :, :, _ALL, -1])
    if ap is None:
        raise DataError(f"{truth.source}: none of the {size:,} images has an object that counts")
    harsh_ap = float(_weighted_ap(run.evalImgs, np.ones((1, size), dtype=np.int64), vouching=False)[0])
    resampled = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=draws)
    unseen = (population - size) / (population - 1)  # the variance of sampling without replacement
    spread = float(np.nanstd(_weighted_ap(run.evalImgs, resampled))) * unseen**0.5
    reach = NormalDist().inv_cdf((1 + level) / 2) * spread
    low = ap - (1 - size / population) * max(ap - harsh_ap, 0.0) - reach
    return max(low, 0.0), min(ap + reach, 1.0)


def _weighted_ap(cells: Iterable[Any], weights: Array, *, vouching: bool = True) -> Array:
    """AP as if each image stood in the data set `weight` times.

    Args:
        cells: what was matched in each image and category, `evalImgs` for all areas.
        weights: (W, N) whole numbers.
        vouching: whether an object counts among the hits at the score of its own detection.

    Returns:
        (W,), NaN where no object has weight. With weights of 1 that is the ordinary AP.
    """
    by_category = defaultdict(list)
    for cell in cells:
        if cell is not None:
            by_category[cell["category_id"]].append(cell)
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for own in by_category.values():
        objects = np.zeros(weights.shape[1])
        for cell in own:
            objects[cell["image_id"] - 1] = np.count_nonzero(np.logical_not(cell["gtIgnore"]))
        drawn = weights @ objects
        if objects.any():
            total += _category_ap(own, weights, drawn, vouching)
            counted += drawn > 0
    with np.errstate(invalid="ignore"):
        return np.asarray(total / counted)


def _category_ap(cells: list[Any], weights: Array, objects: Array, vouching: bool) -> Array:
    """AP of one category, (W,), from its cells by rising image.

    `objects` (W,) is how many it has; where it has none the result is 0.
    """
    scores = np.concatenate([cell["dtScores"] for cell in cells])
    if not len(scores):
        return np.zeros(len(weights))
    order = np.argsort(-scores, kind="stable")  # of equal scores the earlier image's comes first
    images = np.concatenate([np.full(len(cell["dtScores"]), cell["image_id"] - 1) for cell in cells])
    copies = weights[:, images[order]]  # (W, D)
    matched, ignored = (
        np.concatenate([np.array(cell[key], dtype=bool).reshape(10, -1) for cell in cells], axis=1)[:, order]
        for key in ("dtMatches", "dtIgnore")
    )  # (T, D)
    divisor = np.maximum(objects, 1)[:, None]
    total = np.zeros(len(weights))
    for hits, kept in zip(matched & ~ignored, ~ignored, strict=True):
        at = np.flatnonzero(hits)
        alarms = (copies * (kept & ~hits)).cumsum(axis=1)[:, at]  # (W, O)
        found = copies[:, at].cumsum(axis=1)
        held = found if vouching else found - copies[:, at]
        precision = held / np.maximum(held + alarms, 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(_RECALL_LEVELS, found / divisor, side="right")
        total += (np.diff(reached, axis=1, prepend=0) * precision).sum(axis=1)
    return total / (len(matched) * len(_RECALL_LEVELS))


def _mean(values: Array) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def _choose(evaluator: str) -> Evaluator:
    if evaluator == "pycocotools":
        return "pycocotools"
    if evaluator not in ("auto", "hotcoco"):
        raise ConfigError(f"evaluator: expected auto, hotcoco or pycocotools, got {shown(evaluator)}")
    try:
        version = metadata.version("hotcoco")
    except metadata.PackageNotFoundError:
        version = "none"
    else:
        if tuple(int(part) for part in version.split(".")[:2]) >= _OLDEST_HOTCOCO:
            return "hotcoco"
    if evaluator == "hotcoco":
        raise ConfigError(
            f"evaluator: hotcoco 1.3 or later is needed (pip install 'resnest-zoo[verify]'), found {version}"
        )
    return "pycocotools"


def _read(
    truth: DetectionTruth | str | Path,
    rows: Rows | str | Path,
    kind: str,
    image_ids: Iterable[ImageId] | None,
) -> tuple[DetectionTruth, DetectionRows]:
    if kind not in ("bbox", "segm"):
        raise ConfigError(f"kind: expected bbox or segm, got {shown(kind)}")
    if not isinstance(truth, DetectionTruth):
        truth = load_truth(truth)
    if kind == "segm":
        truth.check_masks()
    else:
        truth.check_boxes()
    found = read_rows(rows, truth, masks=kind == "segm")
    if image_ids is None:
        return truth, found
    positions = truth.positions(image_ids)
    return truth.at(positions), found.at(positions, len(truth.image_ids))


def _silently(step: Callable[[], Any]) -> Any:
    with redirect_stdout(io.StringIO()):
        return step()


def _prepare(truth: DetectionTruth, found: DetectionRows, kind: Kind, name: Evaluator) -> Any:
    """A `COCOeval` of either package.

    Ids in it are positions, from 1: pycocotools takes an annotation whose id is 0 for unmatched.
    """
    prepare = _prepare_hotcoco if name == "hotcoco" else _prepare_pycocotools
    return _silently(lambda: prepare(truth, found, kind))


def _images_and_categories(truth: DetectionTruth) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(truth.sizes.tolist(), 1)]
    return images, [{"id": i, "name": str(k)} for i, k in enumerate(truth.category_ids, 1)]


def _prepare_hotcoco(truth: DetectionTruth, found: DetectionRows, kind: Kind) -> Any:
    import hotcoco

    masks = truth.masks if kind == "segm" else None
    target = hotcoco.COCO.from_arrays(
        *_images_and_categories(truth),
        truth.images + 1,
        truth.categories + 1,
        np.nan_to_num(truth.boxes),  # of masks, boxes may be missing
        area=truth.areas,
        iscrowd=truth.crowd,
        segmentation=masks,
    )
    table = np.column_stack([found.images + 1, found.boxes, found.scores, found.categories + 1])
    result = target.load_res(table, segmentation=found.masks)
    if found.masks:
        areas = np.asarray(hotcoco.mask.area(found.masks), dtype=np.float64)
        result.update_anns(ids=np.arange(1, len(areas) + 1), area=areas)
    return hotcoco.COCOeval(target, result, kind)


def _prepare_pycocotools(truth: DetectionTruth, found: DetectionRows, kind: Kind) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def indexed(annotations: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {"info": {}, "annotations": annotations}
        coco.dataset["images"], coco.dataset["categories"] = _images_and_categories(truth)
        coco.createIndex()
        return coco

    annotated = {
        "image_id": (truth.images + 1).tolist(),
        "category_id": (truth.categories + 1).tolist(),
        "bbox": np.nan_to_num(truth.boxes).tolist(),
        "area": truth.areas.tolist(),
        "iscrowd": truth.crowd.astype(int).tolist(),
        "segmentation": truth.masks,
    }
    detected = {
        "image_id": (found.images + 1).tolist(),
        "category_id": (found.categories + 1).tolist(),
        "score": found.scores.tolist(),
    }
    if found.masks is None:
        detected["bbox"] = found.boxes.tolist()
    else:  # without a box, from which the area would be taken
        detected["segmentation"] = found.masks
    target = indexed([{"id": i, **row} for i, row in enumerate(_rows_of(annotated), 1)])
    rows = _rows_of(detected)
    return COCOeval(target, target.loadRes(rows) if rows else indexed([]), kind)


def _rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    names = tuple(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
