"""A run small enough for tests: pictures of plain rectangles, and a detector of 20,000 parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnest_zoo.config import Config, load_config
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.data.dataset import Dataset
from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.distributed import World
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.training.trainer import Options, Outcome, train
from resnest_zoo.training.validation import ValidationSet, read_validation_set

SIZE = (64, 96)
CATEGORIES = [{"id": 3, "name": "red"}, {"id": 8, "name": "green"}]
STUFF = [{"id": 20, "name": "ground"}]
_COLOURS = ((220, 30, 30), (30, 200, 30))

SMALL: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.PIXEL_STD": (58.0, 57.0, 57.0),
    "MODEL.BACKBONE.FREEZE_AT": 1,
    "MODEL.RESNETS.DEPTH": 14,
    "MODEL.RESNETS.RADIX": 2,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.FPN.NORM": "SyncBN",
    "MODEL.ANCHOR_GENERATOR.SIZES": ((16,), (24,), (32,), (48,), (64,)),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 60,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 60,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 8,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_BOX_HEAD.NORM": "SyncBN",
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.MAX_ITER": 6,
    "SOLVER.STEPS": (4,),
    "SEED": 5,
}
MASKS = {"MODEL.MASK_ON": True, "MODEL.ROI_MASK_HEAD.CONV_DIM": 8, "MODEL.ROI_MASK_HEAD.NUM_CONV": 1}
PANOPTIC = {
    **MASKS,
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.NORM": "SyncBN",
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 10,
}
# Every anchor and proposal takes part, so that nothing in a step is random, and in each picture as many.
NOT_RANDOM = {
    "INPUT.RANDOM_FLIP": "none",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 4_000,
    "MODEL.RPN.NMS_THRESH": 1.0,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 500,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0,
}


def write_pictures(folder: Path, count: int = 4, seed: int = 0) -> None:
    """Write `count` pictures with two rectangles each, `annotations.json` and panoptic annotations.

    Ids count from 1 whatever the seed.
    """
    rng = np.random.default_rng(seed)
    height, width = SIZE
    (folder / "segments").mkdir(parents=True)
    images, annotations, panoptic = [], [], []
    for image_id in range(1, count + 1):
        pixels = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
        ids = np.zeros((height, width, 3), dtype=np.uint8)
        ids[..., 0] = 3
        for k, left in enumerate((4, 52)):
            x, y = left + int(rng.integers(0, 8)), int(rng.integers(4, 20))
            w, h = (int(side) for side in rng.integers(20, 32, 2))
            pixels[y : y + h, x : x + w] = _COLOURS[k]
            ids[y : y + h, x : x + w, 0] = k + 1
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            row = {"id": 10 * image_id + k, "image_id": image_id, "category_id": CATEGORIES[k]["id"]}
            shape = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "segmentation": [corners]}
            annotations.append({**row, **shape})
        name = f"{image_id}.png"
        Image.fromarray(pixels).save(folder / name)
        Image.fromarray(ids).save(folder / "segments" / name)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        segments = [{"id": k + 1, "category_id": CATEGORIES[k]["id"]} for k in range(2)]
        segments.append({"id": 3, "category_id": 20})
        panoptic.append({"image_id": image_id, "file_name": name, "segments_info": segments})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "annotations.json").write_text(json.dumps(content))
    categories = [*({**row, "isthing": 1} for row in CATEGORIES), *({**row, "isthing": 0} for row in STUFF)]
    content = {"images": images, "annotations": panoptic, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(content))


def panoptic_files(folder: Path) -> PanopticFiles:
    return PanopticFiles(folder / "panoptic.json", folder / "segments")


def small_config(changes: dict[str, Any] | None = None) -> Config:
    return load_config("Base-RCNN-FPN.yaml", {**SMALL, **(changes or {})})


def small_data(folder: Path, config: Config) -> Dataset:
    if not folder.exists():
        write_pictures(folder)
    panoptic = panoptic_files(folder) if config.model.meta_architecture == "PanopticFPN" else None
    file = folder / "annotations.json"
    return read_dataset(file, folder, masks=config.model.mask_on, panoptic=panoptic)


def small_model(config: Config, data: Dataset) -> GeneralizedRCNN:
    torch.manual_seed(0)
    return build_model(config, data.categories)


def small_validation(folder: Path, model: GeneralizedRCNN) -> ValidationSet:
    return read_validation_set(folder / "annotations.json", folder, model, panoptic_files(folder))


def run(
    folder: Path, output: Path, config: Config, *, validate: bool = False, **options: Any
) -> tuple[GeneralizedRCNN, Outcome]:
    """Train on the pictures in `folder`, in one process."""
    data = small_data(folder, config)
    model = small_model(config, data)
    output.mkdir(parents=True, exist_ok=True)
    validation = {"val": small_validation(folder, model)} if validate else {}
    return model, train(model, data, validation, Options(output, **options), World())
