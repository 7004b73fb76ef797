"""Golden files of the tiny models, their outputs taken from the model by other code than the checker's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import golden


def write_golden(folder: Path, name: str, **changes: Any) -> Path:
    """Write `NAME.npz`, which the model of that name passes; `changes` take the place of what it holds."""
    model = golden.filled_model(name).double()
    seen: dict[str, Any] = {}
    model.backbone.register_forward_hook(lambda *call: seen.update(call[2]))
    model.proposal_generator.register_forward_hook(lambda *call: seen.update(proposals=call[2][0]))
    picture = torch.from_numpy(golden.image(64, 96, 0))
    rgb = picture.flip(0) if model.preprocessing.channel_order == "BGR" else picture
    with torch.inference_mode():
        (found,) = model([rgb], output_sizes=[(80, 120)])
    stored: dict[str, Any] = {"size": [64, 96], "seed": 0, "out_size": [80, 120]}
    for level in ("p2", "p6"):
        flat = seen[level].flatten().numpy()
        chosen = [flat[k * (flat.size - 1) // 63] for k in range(64)]
        stored[f"feature_{level}"] = np.array([*chosen, flat.mean(), flat.std()])
    stored["proposals"] = seen["proposals"].boxes[:20].numpy()
    stored["objectness"] = seen["proposals"].objectness_logits[:20].numpy()
    stored |= {"boxes": found.boxes.numpy(), "scores": found.scores.numpy(), "classes": found.classes.numpy()}
    if found.masks is not None:
        first = found.masks[:4].numpy()
        stored |= {"mask_area": found.masks.sum((1, 2)).numpy(), "mask_bits": np.packbits(first)}
        stored["mask_shape"] = first.shape
    if found.panoptic is not None:
        stored |= {
            "sem_seg": found.panoptic.semantic.numpy(),
            "panoptic_seg": found.panoptic.segment_map.numpy(),
        }
        rows = []
        for s in found.panoptic.segments:
            row: dict[str, Any] = {"id": s.id, "isthing": s.is_thing, "category_id": s.class_index}
            rows.append(row | ({"instance_id": s.instance} if s.is_thing else {"area": s.area}))
        stored["segments"] = json.dumps(rows)
    path = folder / f"{name}.npz"
    np.savez(path, **(stored | changes))
    return path


def read_golden(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return dict(stored)
