"""From a detector to its copy for inference."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from resnest_zoo.errors import ConfigError, shown
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.fpn import FPN
from resnest_zoo.models.layers import Conv2d, DeformConv2d
from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.resnest import SplitAttention
from resnest_zoo.models.resnet import Bottleneck, DeepStem, ResNet, Stem
from resnest_zoo.models.roi_heads import BoxHead, ROIPooler
from resnest_zoo.models.rpn import RPNHead
from resnest_zoo.ops import choice
from resnest_zoo.optimization import backbone, heads, layers

# Of exactly these classes; what a user has derived from them keeps its own ways.
_OPTIMIZED: dict[type[nn.Module], type[nn.Module]] = {
    Conv2d: layers.OptimizedConv2d,
    DeformConv2d: layers.OptimizedDeformConv2d,
    Stem: backbone.OptimizedStem,
    DeepStem: backbone.OptimizedDeepStem,
    SplitAttention: backbone.OptimizedSplitAttention,
    Bottleneck: backbone.OptimizedBottleneck,
    ResNet: backbone.OptimizedResNet,
    FPN: backbone.OptimizedFPN,
    RPNHead: heads.OptimizedRPNHead,
    BoxHead: heads.OptimizedBoxHead,
    MaskHead: heads.OptimizedMaskHead,
}


def optimize(model: GeneralizedRCNN, *, share: bool = False) -> GeneralizedRCNN:
    """A copy of a detector that finds the same in less time on the CPU.

    The copy is of the same class, has the same parameters under the same names, and is called in the same
    ways. On the CPU, in float32 and without gradients, it computes with batch norms folded, channels last,
    and with the fastest operations that `resnest_zoo.ops.choice` knows; boxes then differ from the original's
    by less than 1e-3 pixels, scores by less than 1e-4.

    On another device, in another dtype, in training mode, under autocast, in a graph, or where gradients or
    hooks want what lies between, it computes as the original does, and logs the reason once.

    What it computes with is made at its first call, and again after `load_state_dict`, `.to`, `.train`,
    `.eval` and whatever else writes to a parameter; only after writing to `parameter.data` call `.eval`.

    Args:
        model: a detector in evaluation mode. It stays as it is.
        share: let the copy have the very tensors of `model`, which saves their memory: what is then loaded
            into one is in the other, too, until one of them is moved.

    Raises:
        ConfigError: `model` is no detector of this package, is in training mode, or is on the device "meta".
        ConfigError: `RESNEST_ZOO_KERNELS` names no implementation.
    """
    if not isinstance(model, GeneralizedRCNN):
        raise ConfigError(
            f"optimize: expected a detector, such as resnest_zoo.get gives, got {shown(model)}; one that was "
            "compiled or wrapped is optimised before that"
        )
    if any(module.training for module in model.modules()):
        raise ConfigError(
            "optimize: the model is in training mode, and an optimised copy is for inference; call "
            "model.eval() first"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ConfigError(
            'optimize: a model on the device "meta" has no values; expected one on cpu, cuda or another'
        )
    choice.forced("conv2d")  # a wrong variable is told now
    memo: dict[int, Any] = {}
    if share:
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        for buffer in model.buffers():
            memo[id(buffer)] = buffer.detach()
    return _with_classes(copy.deepcopy(model, memo))


def _with_classes(model: GeneralizedRCNN) -> GeneralizedRCNN:
    """The model itself, with the classes of its modules exchanged."""
    for module in model.modules():
        if type(module) in _OPTIMIZED:
            module.__class__ = _OPTIMIZED[type(module)]
        for value in vars(module).values():
            if type(value) is ROIPooler:
                value.__class__ = heads.OptimizedPooler
    return model
