"""A small data set on disk, made of noise: pictures, COCO's JSON, panoptic PNG files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnest_zoo.data.panoptic import PanopticFiles

CATEGORIES = [{"id": 7, "name": "cube"}, {"id": 2, "name": "ball"}, {"id": 4, "name": "cone"}]


def triangle(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x, y + side]


def annotation(number: int, image_id: Any, **changes: Any) -> dict[str, Any]:
    """A ball of 20 x 20 pixels at (5, 6)."""
    plain = {
        "id": number,
        "image_id": image_id,
        "category_id": 2,
        "bbox": [5.0, 6.0, 20.0, 20.0],
        "segmentation": [triangle(5, 6, 20)],
        "iscrowd": 0,
        "area": 200.0,
    }
    return plain | changes


class SmallSet:
    """Pictures `1.png` ... with ids from 1, of the sizes given, one annotation each.

    Attributes:
        data: the JSON's content. Tests change it before `write`.
    """

    def __init__(self, folder: Path, sizes: list[tuple[int, int]]) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.images.mkdir()
        rng = np.random.default_rng(0)
        rows = []
        for image_id, (height, width) in enumerate(sizes, start=1):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.images / f"{image_id}.png")
            rows.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
        annotations = [annotation(100 + row["id"], row["id"]) for row in rows]
        self.data: dict[str, Any] = {
            "images": rows,
            "annotations": annotations,
            "categories": [dict(row) for row in CATEGORIES],
        }

    def write(self) -> Path:
        file = self.folder / "annotations.json"
        file.write_text(json.dumps(self.data))
        return file

    def write_panoptic(self, data: dict[str, Any] | None = None) -> PanopticFiles:
        """Of each picture: segment 70000 (a ball) on the left half, 3 (grass) on the right, row 0 free."""
        files = PanopticFiles(self.folder / "panoptic.json", self.folder / "panoptic")
        files.folder.mkdir(exist_ok=True)
        for row in self.data["images"]:
            ids = np.full((row["height"], row["width"]), 3)
            ids[:, : row["width"] // 2] = 70000
            ids[0] = 0
            pixels = np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=2).astype(np.uint8)
            Image.fromarray(pixels).save(files.folder / f"{row['id']}.png")
        files.annotations.write_text(json.dumps(data or self.panoptic_data()))
        return files

    def panoptic_data(self) -> dict[str, Any]:
        segments = [{"id": 70000, "category_id": 2}, {"id": 3, "category_id": 91}]
        things = [{**row, "isthing": 1} for row in CATEGORIES]
        stuff = [{"id": 95, "name": "sky", "isthing": 0}, {"id": 91, "name": "grass", "isthing": 0}]
        return {
            "annotations": [
                {"image_id": row["id"], "file_name": f"{row['id']}.png", "segments_info": segments}
                for row in self.data["images"]
            ],
            "categories": things + stuff,
        }
