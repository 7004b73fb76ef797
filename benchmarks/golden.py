"""Golden outputs: stored results of the reference on weights and pictures that a name and a seed define.

A golden file `NAME[.WORD].npz` says its own conditions, so any folder of such files can be checked:

    size, seed          the picture: `image(*size, seed)`, in the channel order of the reference's config
                        (`configs.json` beside the file, else the model's own), not resized
    out_size            the size results are asked for
    opts                JSON list KEY, VALUE, … of config overrides, where there are any
    min_sizes, max_size present when the file holds test-time augmentation
    sizes               present when it holds a training step (see `golden_training`)

and holds what it checks: `feature_p2` … (`samples` of each level), `proposals`, `objectness`, `boxes`,
`scores`, `classes`, `mask_area`, `mask_bits` with `mask_shape`, `sem_seg`, `panoptic_seg`, `segments`.
The stored numbers were computed by detectron2 in float64 on the CPU, those of `golden_mmdetection` by
mmdetection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import golden_mmdetection, golden_training
from benchmarks.golden_values import Array, fill, image, samples
from resnest_zoo.config import load_config
from resnest_zoo.errors import UnknownModelError
from resnest_zoo.inference.tta import TTA
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.optimization import optimize
from resnest_zoo.registry import info
from resnest_zoo.structures import Instances

# Largest difference of each kind between two correct implementations. Features and logits are relative to
# the larger of the value and its map's standard deviation, boxes in pixels, masks in pixels of each mask.
# Losses are relative to the value, norms of gradients to the value or to `_SMALL_NORM`.
TOLERANCES = {
    "float64": {
        "features": 1e-6,
        "proposals": 1e-4,
        "objectness": 1e-6,
        "boxes": 1e-4,
        "scores": 1e-7,
        "classes": 0,
        "mask_area": 2,
        "mask_bits": 2,
        "sem_seg": 0,
        "panoptic_seg": 0,
        "segments": 0,
        "segment_area": 0,
        "losses": 1e-6,
        "gradients": 1e-5,
    },
    # On the CPU. About ten times the largest difference seen in all goldens: rounding, 1.2e-7, grows
    # through the layers to 2e-6 of a feature; a box of 300 pixels moves by 1e-4 of one.
    "float32": {
        "features": 2e-5,
        "proposals": 1e-3,
        "objectness": 2e-5,
        "boxes": 1e-3,
        "scores": 2e-5,
        "classes": 0,
        "mask_area": 4,
        "mask_bits": 4,
        "sem_seg": 4,
        "panoptic_seg": 4,
        "segments": 0,
        "segment_area": 4,
        # Shown, not judged, unless they are not finite: anchors that lie alike in a target tie for the best
        # by the last bit, so that in float32 other ones are positive.
        "losses": math.inf,
        "gradients": math.inf,
    },
}

# A bias in front of a batch norm has no gradient but what rounding makes of it: below 1e-9 in float64.
_SMALL_NORM = 1e-4

# Scores nearer than this to each other, as saturated ones are, have no order.
_TIE = 1e-12

# Of these only the first rows are stored.
_FIRST_ROWS = ("proposals", "objectness", "mask_bits")

_KINDS = (("feature_", "features"), ("loss/", "losses"), ("grad/", "gradients"))


@dataclass(frozen=True)
class Outcome:
    """What one golden file showed.

    Attributes:
        file: its path.
        differences: the largest difference of each kind that the file holds.
        failures: a sentence for each kind beyond its tolerance, or for what could not be compared.
    """

    file: Path
    differences: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def line(self) -> str:
        shown = "  ".join(f"{kind} {value:.1e}" for kind, value in self.differences.items())
        return f"{'pass' if self.passed else 'FAIL'}  {self.file.name:<44} {shown}".rstrip()


def check(
    path: Path, dtype: torch.dtype = torch.float64, device: str = "cpu", *, optimized: bool = False
) -> Outcome:
    """Run the model of a golden file, or its optimised copy, under the file's conditions and compare every
    output it holds.
    """
    # numpy leaves a damaged file open when it opens the file itself.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        golden = {key: stored[key] for key in stored.files}
    opts = json.loads(str(golden["opts"])) if "opts" in golden else []
    opts += golden_training.OPTS if "sizes" in golden else ()
    # Measured, not documented: with these weights the differences are 1e-14, with the others 1e-7.
    weights = torch.float64 if "min_sizes" in golden else torch.float32
    theirs = golden_mmdetection.is_theirs(path)
    model = golden_mmdetection.load_model(path, opts) if theirs else filled_model(_stem(path), opts, weights)
    model = model.to(device, dtype)
    model = optimize(model, share=True) if optimized else model
    sizes = golden["sizes"].tolist() if "sizes" in golden else [golden["size"].tolist()]
    pictures = [torch.from_numpy(image(*size, int(golden["seed"]) + k)) for k, size in enumerate(sizes)]
    # The stored pictures are in the order the reference's model wants; callers hand in RGB.
    order = "RGB" if theirs else _reference_order(path) or model.preprocessing.channel_order
    rgb = [p.flip(0) if order == "BGR" else p for p in pictures]
    if "sizes" in golden:
        got = golden_training.run(model, rgb)
    elif "min_sizes" in golden:
        got = _instances(TTA(model, golden["min_sizes"].tolist(), int(golden["max_size"]))(rgb)[0])
    else:
        got = _run(model, rgb[0], golden)
    return _compare(path, golden, got, str(dtype).removeprefix("torch."))


def entry_name(path: Path) -> str:
    """The name of the entry that a golden file is of.

    Raises:
        UnknownModelError: there is none.
    """
    return info(
        golden_mmdetection.entry_name(path) if golden_mmdetection.is_theirs(path) else _stem(path)
    ).name


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _reference_order(path: Path) -> str | None:
    """The channel order in the reference's config, which `configs.json` beside a golden file may hold.

    A model with the wrong order would turn the picture and turn it back: the numbers alone show nothing.
    """
    file = path.with_name("configs.json")
    if not file.exists():
        return None
    facts = json.loads(file.read_bytes())
    model = facts["models"].get(info(_stem(path)).config)
    return None if model is None else str(model.get("INPUT.FORMAT", facts["defaults"]["INPUT.FORMAT"]))


def filled_model(name: str, opts: Sequence[str] = (), dtype: torch.dtype = torch.float32) -> GeneralizedRCNN:
    """An entry's model without resizing, its weights defined by their names and rounded to `dtype`."""
    config = info(name).config
    if config is None:
        raise UnknownModelError(f"{name} is a backbone, not a detector")
    with torch.device("meta"):
        model = build_model(load_config(config, ["INPUT.MIN_SIZE_TEST", "0", *opts]))
    model = model.to(dtype).to_empty(device="cpu")
    fill(model)
    return model


def _run(model: GeneralizedRCNN, rgb: Tensor, golden: dict[str, Array]) -> dict[str, Array]:
    seen: dict[str, Any] = {}
    hooks = [
        model.backbone.register_forward_hook(lambda *call: seen.update(features=call[2])),
        model.proposal_generator.register_forward_hook(lambda *call: seen.update(proposals=call[2][0])),
    ]
    instances = model([rgb], output_sizes=[tuple(golden["out_size"].tolist())])[0]
    for hook in hooks:
        hook.remove()
    got = {f"feature_{level}": samples(_numpy(fmap)) for level, fmap in seen["features"].items()}
    got["proposals"] = _numpy(seen["proposals"].boxes)
    got["objectness"] = _numpy(seen["proposals"].objectness_logits)
    return got | _instances(instances)


def _instances(found: Instances) -> dict[str, Array]:
    got = {"boxes": _numpy(found.boxes), "scores": _numpy(found.scores), "classes": _numpy(found.classes)}
    if found.masks is not None:
        got["mask_area"] = _numpy(found.masks.sum(dim=(1, 2)))
        got["mask_bits"] = _numpy(found.masks)
    if found.panoptic is not None:
        got["sem_seg"] = _numpy(found.panoptic.semantic)
        got["panoptic_seg"] = _numpy(found.panoptic.segment_map)
        got |= _segment_table([vars(s) for s in found.panoptic.segments])
    return got


def _segment_table(segments: list[dict[str, Any]]) -> dict[str, Array]:
    """Numbers of the segments, ours or stored ones; areas of things are not stored."""
    rows = [
        [s["id"], s["is_thing"], s["class_index"], -1 if s["instance"] is None else s["instance"]]
        for s in segments
    ]
    areas = [0 if s["is_thing"] else s["area"] for s in segments]
    return {"segments": np.array(rows), "segment_area": np.array(areas)}


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()


def _compare(path: Path, golden: dict[str, Array], got: dict[str, Array], dtype: str) -> Outcome:
    limits = TOLERANCES[dtype]
    outcome = Outcome(path)
    stored = _comparable(golden)
    if dtype != "float64" or _has_ties(stored):
        got = _in_stored_order(got, stored)
    if "sizes" in golden:  # of an inference only samples are stored, of a training step everything
        outcome.failures.extend(
            f"{key}: the reference has none" for key in sorted(got.keys() - stored.keys())
        )
    for key in stored:
        kind = next((kind for prefix, kind in _KINDS if key.startswith(prefix)), key)
        if key not in got:
            outcome.failures.append(f"{key}: stored, but the model has no such output")
            continue
        a, b = got[key], stored[key]
        a = a[: len(b)] if key in _FIRST_ROWS else a
        if a.shape != b.shape:
            outcome.failures.append(f"{key}: expected shape {b.shape}, got {a.shape}")
            continue
        difference = _difference(kind, a, b)
        outcome.differences[kind] = max(difference, outcome.differences.get(kind, 0.0))
        if not difference <= limits[kind] or math.isinf(difference):  # also catches NaN
            outcome.failures.append(f"{key}: differs by {difference:.3e}, tolerance {limits[kind]:.0e}")
    if not stored:
        outcome.failures.append("holds nothing that this level checks")
    return outcome


def _comparable(golden: dict[str, Array]) -> dict[str, Array]:
    """The stored outputs in the form `_run` and `_instances` give them."""
    conditions = ("size", "sizes", "out_size", "seed", "opts", "min_sizes", "max_size", "mask_shape")
    stored = {key: value for key, value in golden.items() if key not in conditions}
    if "mask_bits" in stored:
        shape = golden["mask_shape"]
        bits = np.unpackbits(stored["mask_bits"], count=int(np.prod(shape)))
        stored["mask_bits"] = bits.reshape(shape).astype(bool)
    if "segments" in stored:
        rows = [
            {
                "id": s["id"],
                "is_thing": s["isthing"],
                "class_index": s["category_id"],
                "area": s.get("area"),
                "instance": s.get("instance_id"),
            }
            for s in json.loads(str(stored["segments"]))
        ]
        stored |= _segment_table(rows)
    return stored


def _has_ties(stored: dict[str, Array]) -> bool:
    """Whether the order of the stored boxes follows from scores that differ by rounding alone."""
    scores = stored.get("scores", np.empty(0))
    return bool((np.abs(np.diff(scores)) < _TIE).any())


def _in_stored_order(got: dict[str, Array], stored: dict[str, Array]) -> dict[str, Array]:
    """`got` with each stored row's nearest box in its place: near-ties change places by rounding.

    Nothing moves where two stored rows have the same nearest box; the comparison then fails as it should.
    `objectness` stays, since its values fall in any order of the boxes.
    """
    got = dict(got)
    for boxes, others in (("proposals", ()), ("boxes", ("scores", "classes", "mask_area", "mask_bits"))):
        if not (boxes in stored and len(stored[boxes]) and len(got[boxes])):
            continue
        distance = np.abs(stored[boxes][:, None] - got[boxes]).max(axis=2)  # (stored, got)
        if others:
            distance += 1e9 * (stored["classes"][:, None] != got["classes"])
        nearest = distance.argmin(axis=1)
        if len(set(nearest.tolist())) == len(nearest):
            order = [*nearest, *np.setdiff1d(np.arange(len(got[boxes])), nearest)]
            got |= {key: got[key][order] for key in (boxes, *others) if key in got}
    return got


def _difference(kind: str, a: Array, b: Array) -> float:
    """The largest difference of one kind, in the unit `TOLERANCES` states."""
    if a.size == 0:
        return 0.0
    if kind in ("features", "objectness"):
        return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), b.std())))
    if kind in ("losses", "gradients"):
        return float(np.abs(a - b) / np.maximum(np.abs(b), _SMALL_NORM if kind == "gradients" else 0.0))
    if kind == "mask_bits":
        return float((a != b).sum(axis=(1, 2)).max())
    if kind in ("classes", "sem_seg", "panoptic_seg"):
        return float((a != b).sum())
    return float(np.max(np.abs(a.astype(float) - b)))
