"""What detectron2 lacks, as its registries take it: ResNeSt, and the semantic head of the published weights.

The network is ours, module for module, so that deformable convolutions run on the CPU too and the keys are
those of the checkpoints. Legend: N images, C channels, H and W height and width.
"""

from __future__ import annotations

from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor

from resnest_zoo.config import Config
from resnest_zoo.config import keys as flat_keys
from resnest_zoo.config.schema import KEYS
from resnest_zoo.errors import ConfigError
from resnest_zoo.models.build import build_bottom_up
from resnest_zoo.models.layers import DeformConv2d, synchronize_norms
from resnest_zoo.models.resnet import ResNet

_SECTION = "MODEL.RESNETS"


class BottomUp(Backbone):  # type: ignore[misc]
    """Our ResNet or ResNeSt as a backbone of detectron2.

    Attributes:
        out_features: names of the stages whose maps it gives.
    """

    def __init__(self, network: ResNet, out_features: tuple[str, ...]) -> None:
        super().__init__()
        self.stem = network.stem
        self.out_features = out_features
        self._stages = network.out_features
        for name in self._stages:
            self.add_module(name, network.get_submodule(name))
        self._shapes = {
            name: ShapeSpec(channels=network.out_channels[name], stride=network.out_strides[name])
            for name in out_features
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to one feature map for each name of `out_features`."""
        x = self.stem(x)
        features = {}
        for name in self._stages:
            x = self.get_submodule(name)(x)
            features[name] = x
        return {name: features[name] for name in self.out_features}

    def output_shape(self) -> dict[str, Any]:
        """Channels and stride of each map."""
        return dict(self._shapes)


def build_resnest_zoo_backbone(cfg: Any, input_shape: Any) -> BottomUp:
    """The bottom-up network that MODEL.RESNETS describes, ResNet (RADIX 1) or ResNeSt (RADIX 2).

    Args:
        cfg: detectron2's config.
        input_shape: of the picture; it must have three channels.

    Raises:
        ConfigError: a key or the number of channels is none that is built here.
    """
    if input_shape.channels != 3:
        raise ConfigError(f"MODEL.PIXEL_MEAN: expected three channels, got {input_shape.channels}")
    config = _resnet_config(cfg)
    network = build_bottom_up(config)
    out_features = config.model.resnets.out_features
    unknown = [name for name in out_features if name not in network.out_features]
    if unknown or network.out_features[-1] not in out_features:
        raise ConfigError(
            f"{_SECTION}.OUT_FEATURES: expected some of {', '.join(network.out_features)}, the last "
            f"among them, got {', '.join(out_features)}"
        )
    for name, module in network.named_modules():
        if isinstance(module, DeformConv2d):
            module.name = f"backbone.bottom_up.{name}"
    return BottomUp(synchronize_norms(network), out_features)  # type: ignore[arg-type]


def build_resnest_zoo_fpn_backbone(cfg: Any, input_shape: Any) -> Any:
    """detectron2's FPN over `build_resnest_zoo_backbone`; arguments and errors as there."""
    return FPN(
        bottom_up=build_resnest_zoo_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _resnet_config(cfg: Any) -> Config:
    """What the bottom-up network is built from; keys that other projects have added are left out."""
    known = {**KEYS.typed, **KEYS.fixed}
    resnets = {key: value for key, value in cfg.MODEL.RESNETS.items() if f"{_SECTION}.{key}" in known}
    tree = {"MODEL": {"RESNETS": resnets, "BACKBONE": {"FREEZE_AT": cfg.MODEL.BACKBONE.FREEZE_AT}}}
    return flat_keys.apply(Config(), KEYS.accept_tree(tree, "detectron2's config"))


class ResNeStZooSemSegFPNHead(SemSegFPNHead):  # type: ignore[misc]
    """detectron2's semantic head as the code had it that trained the published weights.

    That code knew "GN" as MODEL.SEM_SEG_HEAD.NORM and, for any other name, built convolutions with neither
    norm nor bias.
    """

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        """Arguments of the constructor."""
        arguments: dict[str, Any] = super().from_config(cfg, input_shape)
        if arguments["norm"] not in ("", "GN"):
            arguments["norm"] = _no_norm
        return arguments


def _no_norm(_channels: int) -> None:
    """A norm that is none: a convolution has a bias exactly where no norm is named."""
