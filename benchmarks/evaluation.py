"""Speed of evaluation against the tools everybody has, side by side on this machine, one thread each;
hotcoco, where it is installed, takes the threads it wants.

    python -m benchmarks.evaluation            # a table
    python -m benchmarks.evaluation --check    # exit status 1 if a floor is missed

    bbox, segm   AP of 100 detections in each image, as `evaluate_detections` and as pycocotools do it
    masks HxW    `encode_pasted_masks` of 100 instances against `paste_masks` and pycocotools' `encode`
    panoptic     `match_segments` of 500 pictures against the loop over pairs of segments that the tests use

Both sides give the same results, or there is no row. How times and ratios are taken: `benchmarks/ratios.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from benchmarks.detection_set import detection_set
from benchmarks.ratios import Row, add_options, report, turns
from resnest_zoo.annotations.tables import SegmentInfo
from resnest_zoo.categories import COCO_PANOPTIC
from resnest_zoo.evaluation.coco_json import load_truth
from resnest_zoo.evaluation.detection import Kind, evaluate_detections
from resnest_zoo.evaluation.panoptic import PanopticRecord, match_segments
from resnest_zoo.evaluation.segments import SegmentMap
from resnest_zoo.ops.masks import paste_masks
from resnest_zoo.ops.rle import RLE, encode_pasted_masks
from tests.evaluation.naive_panoptic import Matches, naive_matches


def instances(count: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mask probabilities (count, 28, 28), blobs with soft edges, and boxes (count, 4) inside the picture.

    The roots of the boxes' areas are log-normal; of a picture of 480 x 640, 41 % of the areas lie below 32**2
    pixels and 24 % above 96**2, the shares of small and large objects that COCO names. They grow with the
    picture.
    """
    height, width = size
    rng = np.random.Generator(np.random.PCG64(seed))
    side = np.exp(rng.normal(3.734, 1.176, count)) * (height * width / (480 * 640)) ** 0.5
    aspect = np.exp(rng.normal(0, 0.5, count))
    wh = np.minimum(np.stack((side * aspect**0.5, side / aspect**0.5), axis=1), (width, height))
    corners = rng.uniform(0, 1, (count, 2)) * ((width, height) - wh)
    boxes = torch.from_numpy(np.concatenate((corners, corners + wh), axis=1)).float()

    waves = torch.from_numpy(rng.normal(0, 3, (count, 1, 5, 5))).float()
    waves = F.interpolate(waves, size=(28, 28), mode="bicubic")[:, 0]
    at = torch.linspace(-1, 1, 28)
    return (waves + 4 * (0.9 - at[:, None] ** 2 - at**2)).sigmoid(), boxes


def measure_masks(size: tuple[int, int], floor: float, rounds: int) -> Row:
    probs, boxes = instances(100, size)

    def ours() -> list[RLE]:
        return encode_pasted_masks(probs, boxes, size)

    def theirs() -> list[RLE]:
        rles: list[RLE] = []
        # One by one: the whole stack brought into the order of columns takes longer.
        for mask in paste_masks(probs, boxes, size).numpy().view(np.uint8):
            rle = coco_mask.encode(np.asfortranarray(mask))
            rles.append({"size": rle["size"], "counts": rle["counts"].decode("ascii")})
        return rles

    assert ours() == theirs()
    return Row(f"masks {size[0]}x{size[1]}", *turns(rounds, ours, theirs), floor)


def drawn_map(rng: np.random.Generator, image_id: int, points: np.ndarray) -> SegmentMap:
    """480 x 640 pixels, each of the segment of its nearest point; every tenth segment is void."""
    rows, columns = np.mgrid[:480, :640].astype(np.float32)
    nearest = np.stack([(rows - y) ** 2 + (columns - x) ** 2 for y, x in points]).argmin(axis=0)
    ids = rng.choice(2**24 - 1, len(points), replace=False).astype(np.int32) + 1
    ids[::10] = 0
    segments = [SegmentInfo(int(ids[k]), (1, 3, 44, 149, 187)[k % 5]) for k in np.unique(nearest) if ids[k]]
    return SegmentMap(image_id, ids[nearest], tuple(segments))


def measure_panoptic(floor: float, rounds: int) -> Row:
    rng = np.random.Generator(np.random.PCG64(0))
    pairs = []
    for image_id in range(50):  # each compared ten times: 500 pictures of their own would take 1.2 GB
        points = rng.uniform(0, (480, 640), (22, 2))
        moved = points + rng.normal(0, 10, points.shape)
        pairs.append((drawn_map(rng, image_id, points), drawn_map(rng, image_id, moved)))

    def ours() -> list[PanopticRecord]:
        return [match_segments(truth, found, COCO_PANOPTIC) for truth, found in pairs * 10]

    def naive() -> list[Matches]:
        return [naive_matches(truth, found) for truth, found in pairs * 10]

    counted = [{m["category_id"]: (m["ious"], m["fp"], m["fn"]) for m in r["categories"]} for r in ours()]
    assert counted == naive()
    return Row("panoptic 500 pictures", *turns(rounds, ours, naive), floor)


def measure_detections(images: int, kind: Kind, floor: float, rounds: int) -> Row:
    truth, rows = detection_set(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "truth.json")
        path.write_text(json.dumps(truth), encoding="utf-8")

        def ours() -> list[float | None]:
            m = evaluate_detections(load_truth(path), rows, kind)
            return [m.ap, m.ap50, m.ap75, m.ap_small, m.ap_medium, m.ap_large]

        def theirs() -> list[float]:
            # As detectron2 does: with boxes in the rows, masks would take their areas from these.
            kept = [{k: v for k, v in row.items() if kind == "bbox" or k != "bbox"} for row in rows]
            with contextlib.redirect_stdout(io.StringIO()):
                target = COCO(str(path))
                run = COCOeval(target, target.loadRes(kept), kind)
                run.evaluate()
                run.accumulate()
                run.summarize()
            return [float(value) for value in run.stats[:6]]

        assert np.allclose(np.array(ours(), float), theirs(), rtol=0, atol=1e-9)
        return Row(f"{kind} AP {images} images", *turns(rounds, ours, theirs), floor)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add_options(parser)
    parser.add_argument("--images", type=int, default=500, help="of the AP rows; default 500")
    args = parser.parse_args()
    torch.set_num_threads(1)
    heavy = max(1, args.rounds // 4)
    rows = [
        measure_detections(args.images, "bbox", 30.0, heavy),
        measure_detections(args.images, "segm", 30.0, heavy),
        measure_masks((480, 640), 2.0, args.rounds),
        measure_masks((1080, 1920), 5.0, args.rounds),
        measure_panoptic(5.0, args.rounds),
    ]
    return report(rows, args)


if __name__ == "__main__":
    sys.exit(main())
