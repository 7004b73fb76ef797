"""One row for each picture: what was found in it, or what was wrong with it, in columns that never change.

The schema is explicit: a file of rows without a single mask, or without a single error, would else be written
with columns of no type, and readers of the whole folder would refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

import torch

from resnest_zoo.errors import cut
from resnest_zoo.integrations.ray.packages import imported
from resnest_zoo.ops.rle import encode_masks
from resnest_zoo.structures import Instances, PanopticResult

_LONGEST = 1000  # letters of an error


@cache
def schema() -> Any:
    """The `pyarrow.Schema` of all rows.

    `id` names the picture. `boxes` are x0, y0, x1, y1 in pixels, by falling score; `classes` are the model's,
    `category_ids` those of the annotations. Masks, and the segments of panoptic models, are COCO's compressed
    run lengths; both are null where the model has none. Where `error` is not null, nothing was found.
    """
    pa = imported("pyarrow")
    mask = pa.struct([pa.field("size", pa.list_(pa.int32())), pa.field("counts", pa.string())])
    segment = pa.struct(
        [
            pa.field("id", pa.int32()),
            pa.field("category_id", pa.int64()),
            pa.field("name", pa.string()),
            pa.field("isthing", pa.bool_()),
            pa.field("area", pa.int64()),
            pa.field("mask", mask),
        ]
    )
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("boxes", pa.list_(pa.list_(pa.float32())), nullable=False),
            pa.field("scores", pa.list_(pa.float32()), nullable=False),
            pa.field("classes", pa.list_(pa.int32()), nullable=False),
            pa.field("category_ids", pa.list_(pa.int64()), nullable=False),
            pa.field("names", pa.list_(pa.string()), nullable=False),
            pa.field("masks", pa.list_(mask)),
            pa.field("segments", pa.list_(segment)),
            pa.field("error", pa.string()),
            pa.field("model", pa.string(), nullable=False),
            pa.field("weights", pa.string(), nullable=False),
        ]
    )


def row_of(picture_id: str, found: Instances) -> dict[str, Any]:
    """What was found in a picture, without model and weights."""
    height, width = found.image_size
    rles: Sequence[Mapping[str, Any]] | None = found.rles
    if rles is None and found.masks is not None:
        rles = encode_masks(found.masks)
    classes = found.classes.tolist()
    return {
        "id": picture_id,
        "width": width,
        "height": height,
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "classes": classes,
        "category_ids": [found.categories.thing_ids[k] for k in classes],
        "names": found.names,
        "masks": rles,
        "segments": None if found.panoptic is None else _segments(found, found.panoptic),
        "error": None,
    }


def _segments(found: Instances, panoptic: PanopticResult) -> list[dict[str, Any]]:
    categories = found.categories
    ids = torch.tensor([segment.id for segment in panoptic.segments], dtype=panoptic.segment_map.dtype)
    masks = encode_masks(panoptic.segment_map.cpu()[None] == ids[:, None, None])
    rows = []
    for segment, mask in zip(panoptic.segments, masks, strict=True):
        names, category_ids = (
            (categories.things, categories.thing_ids)
            if segment.is_thing
            else (categories.stuff, categories.stuff_ids)
        )
        rows.append(
            {
                "id": segment.id,
                "category_id": category_ids[segment.class_index],
                "name": names[segment.class_index],
                "isthing": segment.is_thing,
                "area": segment.area,
                "mask": mask,
            }
        )
    return rows


def error_row(picture_id: str, error: Exception | str) -> dict[str, Any]:
    """A picture that gave nothing, and why."""
    text = str(error) or type(error).__name__
    empty: dict[str, Any] = {key: [] for key in ("boxes", "scores", "classes", "category_ids", "names")}
    missing = dict.fromkeys(("width", "height", "masks", "segments"))
    return {"id": picture_id, **empty, **missing, "error": cut(text, _LONGEST)}


def to_table(rows: Sequence[Mapping[str, Any]], model: str, weights: str) -> Any:
    """Rows as a `pyarrow.Table` of the schema."""
    whole = [{**row, "model": model, "weights": weights} for row in rows]
    return imported("pyarrow").Table.from_pylist(whole, schema=schema())


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256 of all weights as they lie in a model, whatever file they came from: names, shapes, values."""
    total = sha256()
    for name, value in model.state_dict().items():
        total.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
