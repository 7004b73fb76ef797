"""What a checkpoint of mmdetection is of: told by its tensors, and by the notes beside them.

Its two-stage detectors on ResNet and ResNeSt are built here. What no tensor shows (order of the channels,
mean, standard deviation, where a block strides) stands in the config that mmdetection and mmengine write
beside the weights, as text, of which some values are read and nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from resnest_zoo.categories import COCO, Categories
from resnest_zoo.checkpoint import Checkpoint
from resnest_zoo.config import Config, load_config
from resnest_zoo.errors import CheckpointError
from resnest_zoo.models.resnet import BLOCKS_PER_STAGE

_LAYOUT = "mmdetection's"
_METHODS = {  # whether it is a cascade, whether it has masks: names of configs, method in print
    (False, False): ("faster-rcnn", "Faster R-CNN"),
    (False, True): ("mask-rcnn", "Mask R-CNN"),
    (True, False): ("cascade-rcnn", "Cascade R-CNN"),
    (True, True): ("cascade-mask-rcnn", "Cascade Mask R-CNN"),
}
_PARTS = ("backbone.bottom_up.", "backbone.fpn_", "proposal_generator.rpn_head.", "roi_heads.")
_DEEP_STEM = "backbone.bottom_up.stem.conv1_1.weight"
_CLASSES = "roi_heads.box_predictor.{}cls_score.bias"
_DELTAS = "roi_heads.box_predictor.{}bbox_pred.bias"


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint of mmdetection is taken for.

    Attributes:
        config: of the model.
        categories: of its classes.
        words: what it is, for people.
        told: whether the file itself says where blocks stride and how pictures enter the model.
    """

    config: Config
    categories: Categories
    words: str
    told: bool

    def is_of(self, config: Config) -> bool:
        """Whether the model of `config` computes the same, as far as the file tells."""
        if self.told and _unseen(config) != _unseen(self.config):
            return False
        return _seen(config) == _seen(self.config)


def _unseen(config: Config) -> tuple[object, ...]:
    """What no tensor shows."""
    model = config.model
    return config.input.format, model.pixel_mean, model.pixel_std, model.resnets.stride_in_1x1


def _seen(config: Config) -> tuple[object, ...]:
    """What the tensors show, and how mmdetection computes."""
    model, box, mask = config.model, config.model.roi_box_head, config.model.roi_mask_head
    cascade = model.roi_heads.name == "CascadeROIHeads"
    return (
        (model.meta_architecture, model.mask_on, model.roi_heads.name, model.bbox_reg_clamp),
        (model.resnets.depth, model.resnets.radix, model.resnets.deform_on_per_stage),
        bool(model.fpn.norm),
        (box.num_conv, box.num_fc, bool(box.norm), box.cls_agnostic_bbox_reg),
        model.roi_box_cascade_head if cascade else None,
        (mask.per_stage, mask.num_conv, bool(mask.norm)) if model.mask_on else None,
    )


def is_theirs(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is in mmdetection's layout."""
    return checkpoint.layout.name == _LAYOUT


def recognise(checkpoint: Checkpoint) -> Recognised:
    """The model of a checkpoint in mmdetection's layout.

    Raises:
        CheckpointError: no such model is built here; the message names what it has.
    """
    _refuse(checkpoint, meta := checkpoint.meta)
    shapes = {key: tuple(checkpoint[key].shape) for key in checkpoint if key.endswith((".weight", ".bias"))}
    depth = _depth(checkpoint)
    resnest = _DEEP_STEM in shapes
    cascade = _CLASSES.format("0.") in shapes
    masks = any(key.startswith("roi_heads.mask_head.") for key in shapes)
    name, method = _METHODS[cascade, masks]
    text = next((notes for key in ("cfg", "config") if isinstance(notes := meta.get(key), str)), "")
    style = _style(text)
    count = shapes[_CLASSES.format("0." if cascade else "")][0] - 1
    changes = {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.ROI_HEADS.NUM_CLASSES": count,
        **_head_changes(shapes, cascade, masks, count),
        **_input_changes(text),
    }
    words = f"mmdetection's {method} on {'ResNeSt' if resnest else 'ResNet'}-{depth}"
    if resnest:
        stem = f"{name}_s50_fpn_syncbn-backbone+head_{'ms-1x' if masks else 'ms-range-1x'}_coco"
    else:
        stem = f"{name}_r50{'-caffe' if style == 'caffe' else ''}_fpn_1x_coco"
        words += f' in "{style or "pytorch"}" style'
    config = load_config(f"MMDetection/{stem}.yaml", changes)
    categories = checkpoint.categories or (COCO if count == len(COCO.things) else None)
    if categories is None or len(categories.things) != count:
        categories = Categories.numbered(count)
    return Recognised(config, categories, words, told=resnest or bool(style))


def _refuse(checkpoint: Checkpoint, meta: Mapping[object, object]) -> None:
    """Name what is not built here.

    Raises:
        CheckpointError: the checkpoint has it.
    """
    version = str(meta.get("mmdet_version", ""))
    if version.startswith("1."):
        raise CheckpointError(
            f"{checkpoint.path}: was written by mmdetection {version}, which counts the background as the "
            "first class; expected 2.x or 3.x, into which mmdetection's tools/model_converters turn it"
        )
    strange = sorted(key for key in checkpoint if not key.startswith(_PARTS) or "conv_offset" in key)
    for key, theirs in ((_CLASSES, "fc_cls"), (_DELTAS, "fc_reg")):
        if not strange and not any(key.format(stage) in checkpoint for stage in ("", "0.")):
            strange = [f"no roi_head.bbox_head.{theirs}"]
    if strange:
        raise CheckpointError(
            f"{checkpoint.path}: is of a detector of mmdetection that is not built here, with "
            f"{', '.join(strange[:3])}{' …' if len(strange) > 3 else ''}; expected Faster, Mask or Cascade "
            "R-CNN with an FPN, on ResNet or ResNeSt"
        )


def _depth(checkpoint: Checkpoint) -> int:
    stages = [f"backbone.bottom_up.res{stage}." for stage in (2, 3, 4, 5)]
    blocks = tuple(len({key.split(".")[3] for key in checkpoint if key.startswith(s)}) for s in stages)
    for depth, counts in BLOCKS_PER_STAGE.items():
        if counts == blocks:
            return depth
    raise CheckpointError(
        f"{checkpoint.path}: its backbone has {blocks} blocks in its stages; expected those of a ResNet or "
        f"ResNeSt of depth {', '.join(map(str, BLOCKS_PER_STAGE))}"
    )


def _head_changes(
    shapes: Mapping[str, tuple[int, ...]], cascade: bool, masks: bool, count: int
) -> dict[str, object]:
    """How the heads are made, from the shapes of their tensors."""
    stage = "0." if cascade else ""
    head = f"roi_heads.box_head.{stage}"
    convs = [k for k in range(1, 9) if f"{head}conv{k}.weight" in shapes]
    fcs = [k for k in range(1, 9) if f"{head}fc{k}.weight" in shapes]
    changes: dict[str, object] = {
        "MODEL.ROI_BOX_HEAD.NUM_CONV": len(convs),
        "MODEL.ROI_BOX_HEAD.NUM_FC": len(fcs),
        "MODEL.ROI_BOX_HEAD.NORM": "SyncBN" if f"{head}conv1.norm.weight" in shapes else "",
    }
    if fcs:
        changes["MODEL.ROI_BOX_HEAD.FC_DIM"] = shapes[f"{head}fc1.weight"][0]
    if not cascade:
        columns = shapes[_DELTAS.format("")][0]
        changes["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"] = columns == 4 and count > 1
    if masks:
        per_stage = "roi_heads.mask_head.0.predictor.weight" in shapes
        head = f"roi_heads.mask_head.{'0.' if per_stage else ''}"
        changes["MODEL.ROI_MASK_HEAD.PER_STAGE"] = per_stage
        changes["MODEL.ROI_MASK_HEAD.NORM"] = "SyncBN" if f"{head}mask_fcn1.norm.weight" in shapes else ""
        changes["MODEL.ROI_MASK_HEAD.NUM_CONV"] = sum(
            f"{head}mask_fcn{k}.weight" in shapes for k in range(1, 9)
        )
    return changes


def _style(text: str) -> str:
    """ "pytorch" or "caffe", as the config says; "" where it does not."""
    found = re.search(r"\bstyle\s*=\s*['\"](pytorch|caffe)['\"]", text)
    return found[1] if found else ""


def _input_changes(text: str) -> dict[str, object]:
    """Mean, standard deviation and order of the channels, as far as the config says them."""
    changes: dict[str, object] = {}
    for key, name in (("MODEL.PIXEL_MEAN", "mean"), ("MODEL.PIXEL_STD", "std")):
        found = re.search(rf"\b{name}\s*=\s*[\[(]([\d.,\s]+)[\])]", text)
        numbers = re.findall(r"\d+(?:\.\d*)?", found[1]) if found else []
        if len(numbers) == 3:
            changes[key] = [float(number) for number in numbers]
    order = re.search(r"\b(?:bgr_)?to_rgb\s*=\s*(True|False)", text)
    if order:
        changes["INPUT.FORMAT"] = "RGB" if order[1] == "True" else "BGR"
    return changes
