"""A data set in COCO's layout, with COCO's categories, small enough for every test.

Models whose weights follow from their names find nothing that is in a picture. So every fourth picture is
annotated with the shapes drawn in it, which nobody finds, and the others with what `tiny_mask` and
`tiny_panoptic` see there, moved or cut: metrics are then neither 0 nor 1. One picture has no objects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.measure import approximate_polygon, find_contours

import resnest_zoo
from benchmarks import golden
from benchmarks.verify.grading import THRESHOLDS
from resnest_zoo.categories import COCO_PANOPTIC
from resnest_zoo.data import shapes
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import Instances

Array = np.ndarray[Any, Any]
Rows = list[dict[str, Any]]
Region = tuple[int, Array, bool]  # category id, mask (H, W), whether it is crowd

SIZES = {"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": 160}  # in place of 800 and 1333
# Enter the models at four padded sizes: 8; 1 and 5; 3, 4 and 6; 2 and 7.
_PICTURES = ((96, 128), (128, 96), (80, 120), (90, 128), (96, 118), (70, 150), (120, 96), (64, 160))
_UNANNOTATED = 4
_SEED = 5
_THINGS = (37, 84, 13, 38, 60, 87)  # a category for each kind of shape
_STUFF = (187, 193, 178, 171)  # sky, grass, water, brick
_SHIFT = (1, 1)  # of the annotations that are a model's
_CUT = 0.2  # of the height: above, segments are those drawn
_CONFIDENT = 0.6  # score of a detection that becomes an annotation
_TEST_DEV = 3


@dataclass(frozen=True)
class MiniCoco:
    """Where it is, and how much: pictures and annotations of val2017."""

    root: Path
    counts: tuple[int, int]


def write_mini_coco(root: Path) -> MiniCoco:
    """Draw the pictures and annotate them; `tiny_mask` and `tiny_panoptic` are registered."""
    mask, panoptic = _filled("tiny_mask"), _filled("tiny_panoptic")
    val, annotations = root / "val2017", root / "annotations"
    maps = annotations / "panoptic_val2017"
    for folder in (val, maps, root / "test2017"):
        folder.mkdir(parents=True)
    images, instances, segments = [], Rows(), Rows()
    for index, size in enumerate(_PICTURES):
        image_id = 1000 * (index + 1) + index * index % 7
        scene = shapes.draw(_SEED, index, size=size, crowd_fraction=1)
        row = _write_picture(val, image_id, scene)
        images.append(row)
        if index == _UNANNOTATED:
            drawn: list[Region] = []
        else:
            drawn = _drawn_objects(scene) if index % 4 == 0 else _found_objects(_see(mask, val, row))
        for category, region, crowd in drawn:
            instances += _instance(len(instances) + 1, image_id, category, region, crowd)
        found = None if index % 4 == 0 else _see(panoptic, val, row)
        segments.append(_segments(maps, image_id, scene, found))
    _write_json(annotations / "instances_val2017.json", images, annotations=instances)
    _write_json(annotations / "panoptic_val2017.json", images, annotations=segments)
    _write_test_dev(root)
    return MiniCoco(root, (len(images), len(instances)))


def _filled(name: str) -> GeneralizedRCNN:
    model = resnest_zoo.get(name, pretrained=False, overrides={**THRESHOLDS, **SIZES}).eval()
    golden.fill(model)
    return model


def _write_picture(folder: Path, image_id: int, scene: shapes.Scene) -> dict[str, Any]:
    name = f"{image_id:012d}.jpg"
    Image.fromarray(scene.image).save(folder / name, quality=92)
    height, width, _ = scene.image.shape
    return {"id": image_id, "file_name": name, "height": height, "width": width}


def _see(model: GeneralizedRCNN, folder: Path, row: dict[str, Any]) -> Instances:
    pixels = np.asarray(Image.open(folder / row["file_name"]))
    (found,) = model([torch.from_numpy(pixels.copy()).permute(2, 0, 1)])
    return found


def _drawn_objects(scene: shapes.Scene) -> list[Region]:
    """Category, mask and crowd of each shape."""
    pairs = zip(scene.things, scene.masks, strict=True)
    return [(_THINGS[thing.class_index], mask, thing.is_crowd) for thing, mask in pairs]


def _found_objects(found: Instances) -> list[Region]:
    """The same of what a model is sure of, moved; the large ones."""
    assert found.masks is not None
    objects = []
    for mask, score, k in zip(found.masks, found.scores.tolist(), found.classes.tolist(), strict=True):
        region = _moved(mask.numpy())
        if score > _CONFIDENT and region.sum() > 100:
            objects.append((COCO_PANOPTIC.thing_ids[k], region, False))
    return objects


def _moved(pixels: Array) -> Array:
    return np.roll(pixels, _SHIFT, (0, 1))


def _instance(annotation_id: int, image_id: int, category: int, region: Array, crowd: bool) -> Rows:
    """One annotation: polygons, or uncompressed run lengths of a crowd, as COCO has them."""
    size = list(region.shape)
    segmentation: Any = {"size": size, "counts": _run_lengths(region)} if crowd else _polygons(region)
    if not segmentation:
        return []
    rle = coco_mask.frPyObjects(segmentation, *size)
    rle = rle if crowd else coco_mask.merge(rle)
    return [
        {
            "id": annotation_id,
            "image_id": image_id,
            "category_id": category,
            "segmentation": segmentation,
            "area": float(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "iscrowd": int(crowd),
        }
    ]


def _polygons(region: Array) -> list[list[float]]:
    """x, y of the outlines."""
    contours = find_contours(np.pad(region, 1).astype(float), 0.5)
    corners = [approximate_polygon(contour, 0.6) for contour in contours]
    return [(points[:, ::-1] - 0.5).ravel().tolist() for points in corners if len(points) > 4]


def _run_lengths(region: Array) -> list[int]:
    flat = region.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(changes, prepend=0, append=flat.size).tolist()
    return [0, *lengths] if flat[0] else lengths


def _segments(folder: Path, image_id: int, scene: shapes.Scene, found: Instances | None) -> dict[str, Any]:
    """The panoptic annotation of a picture, and its PNG."""
    regions = _drawn_regions(scene)
    if found is not None:
        upper = np.arange(len(scene.segment_map))[:, None] < _CUT * len(scene.segment_map)
        ground = [(category, region & upper, crowd) for category, region, crowd in regions[:1]]
        mine = [(category, region & ~upper, crowd) for category, region, crowd in _found_regions(found)]
        regions = ground + mine
    ids = np.zeros(scene.segment_map.shape, dtype=np.int32)
    infos = []
    for k, (category, region, crowd) in enumerate(regions):
        if not region.any():
            continue
        segment_id = 300 * (k + 1) + 7  # needs two bytes
        ids[region] = segment_id
        infos.append({"id": segment_id, "category_id": category, "iscrowd": int(crowd)})
    for info in infos:
        ys, xs = np.nonzero(ids == info["id"])
        box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
        info |= {"area": len(ys), "bbox": box}
    name = f"{image_id:012d}.png"
    pixels = np.stack((ids & 255, ids >> 8 & 255, ids >> 16), axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return {"image_id": image_id, "file_name": name, "segments_info": infos}


def _drawn_regions(scene: shapes.Scene) -> list[Region]:
    stuff = [
        (_STUFF[segment.class_index - 1], scene.segment_map == k, False)
        for k, segment in enumerate(scene.segments, start=1)
        if not segment.is_thing
    ]
    return [*stuff, *_drawn_objects(scene)]


def _found_regions(found: Instances) -> list[Region]:
    assert found.panoptic is not None
    ids, regions = found.panoptic.segment_map.numpy(), []
    for s in found.panoptic.segments:
        known = COCO_PANOPTIC.thing_ids if s.is_thing else COCO_PANOPTIC.stuff_ids
        if s.area > 60:  # smaller ones stay void
            regions.append((known[s.class_index], ids == s.id, False))
    return regions


def _write_json(path: Path, images: Rows, **lists: Sequence[Any]) -> None:
    things = zip(COCO_PANOPTIC.thing_ids, COCO_PANOPTIC.things, strict=True)
    categories = [{"id": id, "name": name, "isthing": 1} for id, name in things]
    if path.name.startswith("panoptic"):
        stuff = zip(COCO_PANOPTIC.stuff_ids[1:], COCO_PANOPTIC.stuff[1:], strict=True)
        categories += [{"id": id, "name": name, "isthing": 0} for id, name in stuff]
    content = {"info": {"year": 2017}, "images": images, "categories": categories, **lists}
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_test_dev(root: Path) -> None:
    images = Rows()
    for index, size in enumerate(_PICTURES[:_TEST_DEV]):
        scene = shapes.draw(_SEED + 1, index, size=size)
        images.append(_write_picture(root / "test2017", 77 + index, scene))
    _write_json(root / "annotations" / "image_info_test-dev2017.json", images)
