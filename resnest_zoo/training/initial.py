"""Weights that training starts from: a whole detector, or an ImageNet backbone, in any layout that
`resnest_zoo.checkpoint` knows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import Checkpoint, fits, is_classifier, load_checkpoint, require_finite
from resnest_zoo.errors import CheckpointError, ConfigError
from resnest_zoo.models import GeneralizedRCNN

logger = logging.getLogger(__name__)

# What backbones are part of, in a detector.
_PREFIXES = ("backbone.", "bottom_up.")
# What no ImageNet file has: offsets of deformable convolutions, which start at zero.
_OF_DETECTION = ("conv2_offset.weight", "conv2_offset.bias")
_STATISTICS = ("running_mean", "running_var")
_LISTED = 20


def load_initial(model: GeneralizedRCNN, path: Path, categories: Categories | None = None) -> None:
    """Load what a file holds for `model`: everything of a detector but class layers of other sizes, or the
    backbone alone.

    Args:
        model: to be trained.
        path: the file.
        categories: its classes where it does not tell them. Rows of class layers are taken by name, and those
            of other names start fresh.

    Raises:
        CheckpointError: the file cannot be read, or does not fit.
        ConfigError: bottlenecks of its layout stride elsewhere than the model's, which no shape tells.
    """
    checkpoint = Checkpoint.open(path)
    strides = checkpoint.layout.stride_in_1x1
    if model.config is not None and strides not in (None, model.config.model.resnets.stride_in_1x1):
        raise ConfigError(
            f"MODEL.RESNETS.STRIDE_IN_1X1: {path} has {checkpoint.layout.name} names, whose bottlenecks were "
            f"trained with {strides}, but the config says {not strides}"
        )
    if checkpoint.is_detector:
        known = checkpoint.categories or categories
        names = {} if known is None else model.changed_classes(known, rename=False)
        load_checkpoint(model, checkpoint, replaceable=model.class_layers, class_names=names)
    else:
        load_backbone(model, checkpoint, str(path))


def load_backbone(model: GeneralizedRCNN, state: Mapping[str, Tensor], source: str) -> None:
    """Load the tensors of an ImageNet backbone; its classifier is left out.

    Norms whose statistics the file has merged into weight and bias keep mean 0 and variance 1.

    Args:
        model: unchanged if anything does not fit.
        state: the file's tensors under our names, those of `backbone.bottom_up` or below it.
        source: the file, for messages.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape or not finite; all are listed.

    Source: detectron2, checkpoint/c2_model_loading.py.
    """
    backbone = model.backbone.bottom_up
    own = backbone.state_dict()
    found = _below_backbone({key: value for key, value in state.items() if not is_classifier(key)})
    merged = not any(key.endswith(_STATISTICS) for key in found)
    optional = ("num_batches_tracked", *_OF_DETECTION, *(_STATISTICS if merged else ()))
    problems = {
        "missing": sorted(key for key in own if key not in found and not key.endswith(optional)),
        "left over": sorted(key for key in found if key not in own and not key.endswith(optional)),
        "of another shape or kind": sorted(k for k in found if k in own and not fits(found[k], own[k])),
    }
    if any(problems.values()):
        raise CheckpointError(f"{source}: is not the backbone of this model:" + _listed(problems))
    require_finite(source, found)
    backbone.load_state_dict({**own, **{key: value for key, value in found.items() if key in own}})
    logger.info("%s: %d tensors of the backbone loaded", source, len(found))


def _below_backbone(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by their names below `backbone.bottom_up`, of which a file may write any part."""
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _listed(problems: Mapping[str, list[str]]) -> str:
    lines = ""
    for kind, keys in problems.items():
        if keys:
            more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
            lines += f"\n  {len(keys)} {kind}: {', '.join(keys[:_LISTED])}{more}"
    return lines
