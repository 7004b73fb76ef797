"""Weights that training starts from: a whole detector, or an ImageNet backbone in one of two spellings.

Backbones of detectron2's make bear the names of `backbone.bottom_up`; MSRA's, converted from Caffe2, have
their own, such as `res2_0_branch2a_bn_s`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from resnest_zoo.checkpoint import load_checkpoint, read_state_dict
from resnest_zoo.errors import CheckpointError
from resnest_zoo.models import GeneralizedRCNN

logger = logging.getLogger(__name__)

_OF_DETECTORS = ("proposal_generator.", "roi_heads.")
_PREFIX = re.compile(r"^(module\.)?(backbone\.)?(bottom_up\.)?")
_CLASSIFIER = re.compile(r"^(fc\d*|pred|linear)[._]")

_CAFFE2_LAYER = re.compile(r"^(res\d)_(\d+)_branch(1|2a|2b|2c)_(\w+)$|^(?:res_)?(conv1)_(\w+)$")
_CAFFE2_BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_CAFFE2_TENSORS = {
    "w": "weight",
    "b": "bias",
    "bn_s": "norm.weight",
    "bn_b": "norm.bias",
    "bn_rm": "norm.running_mean",
    "bn_riv": "norm.running_var",
}
# Caffe's first convolution has a bias of zeros; its norm follows at once.
_UNUSED = "stem.conv1.bias"
# What no ImageNet file has: offsets of deformable convolutions, which start at zero.
_OF_DETECTION = ("conv2_offset.weight", "conv2_offset.bias")
_STATISTICS = ("running_mean", "running_var")
_LISTED = 20


def load_initial(model: GeneralizedRCNN, path: Path) -> None:
    """Load what a file holds for `model`: everything of a detector but class layers of other sizes, or the
    backbone alone.

    Raises:
        CheckpointError: the file cannot be read, or does not fit.
    """
    state = read_state_dict(path)
    if any(key.startswith(_OF_DETECTORS) for key in state):
        load_checkpoint(model, path, replaceable=model.class_layers)
        return
    load_backbone(model, state, str(path))


def load_backbone(model: GeneralizedRCNN, state: Mapping[str, Tensor], source: str) -> None:
    """Load the tensors of an ImageNet backbone; its classifier is left out.

    Norms whose statistics the file has merged into weight and bias keep mean 0 and variance 1.

    Args:
        model: unchanged if anything does not fit.
        state: the file's tensors under its own names.
        source: the file, for messages.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape; all are listed.

    Source: detectron2, checkpoint/c2_model_loading.py.
    """
    backbone = model.backbone.bottom_up
    own = backbone.state_dict()
    found = {detectron2_name(key): value for key, value in state.items() if not _CLASSIFIER.match(key)}
    if "stem.conv1.norm.weight" in found:
        found.pop(_UNUSED, None)
    merged = not any(key.endswith(_STATISTICS) for key in found)
    optional = ("num_batches_tracked", *_OF_DETECTION, *(_STATISTICS if merged else ()))
    problems = {
        "missing": sorted(key for key in own if key not in found and not key.endswith(optional)),
        "left over": sorted(key for key in found if key not in own and not key.endswith(optional)),
        "of another shape": sorted(k for k in found if k in own and found[k].shape != own[k].shape),
    }
    if any(problems.values()):
        raise CheckpointError(f"{source}: is not the backbone of this model:" + _listed(problems))
    backbone.load_state_dict({**own, **{key: value for key, value in found.items() if key in own}})
    logger.info("%s: %d tensors of the backbone loaded", source, len(found))


def detectron2_name(key: str) -> str:
    """The name below `backbone.bottom_up` of a tensor of an ImageNet file."""
    match = _CAFFE2_LAYER.match(key)
    if match is None:
        return _PREFIX.sub("", key)
    stage, block, branch, tensor, stem, stem_tensor = match.groups()
    suffix = _CAFFE2_TENSORS.get(tensor or stem_tensor)
    if suffix is None:
        return key
    return f"stem.{stem}.{suffix}" if stem else f"{stage}.{block}.{_CAFFE2_BRANCHES[branch]}.{suffix}"


def _listed(problems: Mapping[str, list[str]]) -> str:
    lines = ""
    for kind, keys in problems.items():
        if keys:
            more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
            lines += f"\n  {len(keys)} {kind}: {', '.join(keys[:_LISTED])}{more}"
    return lines
