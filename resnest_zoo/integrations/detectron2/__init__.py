"""The zoo's detectors in an unmodified detectron2, from 0.6 on.

    modules       ResNeSt and the semantic head, which detectron2 lacks, as its registries take them
    weights       checkpoints as the files that it reads
    files         configs and checkpoints under the prefix `resnest-zoo://`, for its PathManager
    registered    importing it calls `register`: one line for scripts such as its `tools/train_net.py`

detectron2 is looked for when something is asked of this module. What can be its own part is: pyramid, RPN,
heads, and plain ResNets too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.config import Config, ResNets
from resnest_zoo.config.differences import OWN
from resnest_zoo.config.schema import KEYS
from resnest_zoo.errors import ConfigError, UnknownModelError, ZooError, some
from resnest_zoo.registry import info

if TYPE_CHECKING:
    import torch
    from torch import nn

PREFIX = "resnest-zoo:"
# In detectron2's registries, under names that no other project has.
BACKBONE = "build_resnest_zoo_backbone"
FPN_BACKBONE = "build_resnest_zoo_fpn_backbone"
SEMANTIC_HEAD = "ResNeStZooSemSegFPNHead"

_ADDED = ("RADIX", "DEEP_STEM", "AVD", "AVG_DOWN", "BOTTLENECK_WIDTH")  # keys that detectron2 lacks
_STOCK_DEPTHS = (50, 101, 152)  # of bottlenecks that detectron2 builds itself
_OLDEST = (0, 6)
_INSTALL = (
    "install it from its source with the torch that is here: pip install --no-build-isolation "
    "git+https://github.com/facebookresearch/detectron2"
)


@cache
def register() -> None:
    """Make detectron2 know the backbones, the semantic head, the config keys and the prefix `resnest-zoo://`.

    Adds to its registries, its default config and its PathManager, and changes nothing that is there. Calling
    it again does nothing.

    Raises:
        ZooError: detectron2 is missing or older than 0.6.
    """
    _require_detectron2()
    from detectron2.config.defaults import _C
    from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY
    from detectron2.utils.file_io import PathManager

    from resnest_zoo.integrations.detectron2 import files, modules

    defaults = ResNets()
    for key in _ADDED:
        if key not in _C.MODEL.RESNETS:
            _C.MODEL.RESNETS[key] = getattr(defaults, key.lower())
    for builder in (modules.build_resnest_zoo_backbone, modules.build_resnest_zoo_fpn_backbone):
        BACKBONE_REGISTRY.register(builder)
    SEM_SEG_HEADS_REGISTRY.register(modules.ResNeStZooSemSegFPNHead)
    PathManager.register_handler(files.ZooHandler())


def get_cfg(
    name: str | Path, *, trained: bool = False, overrides: Sequence[str] | Mapping[str, object] = ()
) -> Any:
    """A model's config as detectron2's `CfgNode`, from which its own `build_model` makes the model.

    Args:
        name: what `resnest_zoo.get` takes.
        trained: let MODEL.WEIGHTS be the model's own checkpoint, else what its training starts from.
        overrides: config keys and values in turn, or a mapping.

    Returns:
        A CfgNode, not frozen. MODEL.DEVICE is "cuda" where there is one, else "cpu".

    Raises:
        ZooError: detectron2 is missing or older than 0.6.
        UnknownModelError, ConfigError, CheckpointError: as `resnest_zoo.get`.
        ConfigError: the model computes what detectron2 cannot, as mmdetection's do, or a config file has no
            checkpoint that `trained` could mean.
    """
    import torch

    from resnest_zoo.api import find_config

    cfg = _translate(find_config(name, overrides), str(name))
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    if trained:
        cfg.MODEL.WEIGHTS = _own_weights(name)
    return cfg


def load(name: str | Path, *, device: torch.device | str | None = None, **options: Any) -> nn.Module:
    """A model of detectron2 with verified weights, in evaluation mode.

    Args:
        name: what `resnest_zoo.get` takes.
        device: where to put the model; the CPU by default.
        **options: further arguments of `resnest_zoo.get`, such as `weights`, `num_classes` or `overrides`.

    Returns:
        What detectron2's `build_model` gives. Its pictures are in the order of INPUT.FORMAT of `get_cfg`.

    Raises:
        ZooError: as `get_cfg`, or as `resnest_zoo.get`.
    """
    _require_detectron2()
    from detectron2.modeling import build_model

    from resnest_zoo.api import get

    ours = get(name, device=device, **options)
    assert ours.config is not None
    cfg = _translate(ours.config, str(name))
    cfg.MODEL.DEVICE = str(next(ours.parameters()).device)
    model: nn.Module = build_model(cfg).eval()
    found = model.load_state_dict(ours.state_dict(), strict=False)
    # Its frozen norms count batches where they were made of others; ours do not.
    missing = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        raise ZooError(
            f"{name}: this detectron2 builds another model: without {some(found.unexpected_keys)}; with "
            f"{some(missing)}; take detectron2's main branch"
        )
    return model


def write_checkpoint(source: str | Path, output: str | Path) -> Path:
    """Write weights as a .pth file that detectron2's `DetectionCheckpointer` loads without this package.

    Args:
        source: name of an entry, backbones included, or what `resnest_zoo.get` takes as `weights`, such as
            "out/best.safetensors" or an address.
        output: the file to write.

    Raises:
        UnknownModelError: `source` is neither.
        DownloadError, CheckpointError: the weights cannot be had or read, or `output` not be written.
    """
    from resnest_zoo.integrations.detectron2.weights import write

    return write(source, Path(os.path.expanduser(output)))


def _require_detectron2() -> None:
    """Make sure that there is a detectron2, and the right one.

    Raises:
        ZooError: it is missing, broken or too old.
    """
    try:
        import detectron2
        import detectron2.modeling
    except ImportError as error:
        what = "is not installed" if error.name == "detectron2" else f"cannot be imported: {error}"
        raise ZooError(f"this needs detectron2 0.6 or later, which {what}; {_INSTALL}") from error
    version = str(getattr(detectron2, "__version__", "without a version"))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        raise ZooError(f"this needs detectron2 0.6 or later, got {version}; {_INSTALL}")


def _translate(config: Config, source: str) -> Any:
    """Our config as detectron2's, with the builders that make the right model of it.

    Raises:
        ConfigError: detectron2 has no such key, and it is not at its default.
    """
    register()
    from detectron2.config import get_cfg as get_defaults

    cfg = get_defaults()
    default = KEYS.accept_tree(Config().to_dict(), "defaults")
    for key, value in KEYS.accept_tree(config.to_dict(), source).items():
        *sections, name = key.split(".")
        section = reduce(getattr, sections, cfg)
        if name in section:
            section[name] = _like(value, section[name])
        elif value != default[key]:
            why = "as mmdetection's models do" if key in OWN else "which this version lacks"
            raise ConfigError(f"{source}: detectron2 cannot compute {key} {value!r}, {why}")
    cfg.MODEL.WEIGHTS = _start(config.model.weights)
    if not _is_stock(config.model.resnets):
        cfg.MODEL.BACKBONE.NAME = FPN_BACKBONE
    if config.model.sem_seg_head.norm not in ("", "GN"):
        cfg.MODEL.SEM_SEG_HEAD.NAME = SEMANTIC_HEAD
    return cfg


def _like(value: object, example: object) -> object:
    """A value with its outermost sequence, list or tuple, as in `example`."""
    return type(example)(value) if isinstance(value, tuple) and isinstance(example, list) else value


def _own_weights(name: str | Path) -> str:
    """The address of a model's own checkpoint."""
    from resnest_zoo.api.origin import find_origin

    origin = find_origin(name)
    if origin.entry is None and origin.checkpoint is None:
        raise ConfigError(
            f"{name}: a config file has no checkpoint; set MODEL.WEIGHTS instead of trained=True"
        )
    return f"{PREFIX}//{name if origin.entry is None else origin.entry.name}"


def _start(weights: str) -> str:
    """Weights of the zoo by their verified file; others as they are."""
    try:
        return f"{PREFIX}//{info(weights).name}" if weights else ""
    except UnknownModelError:
        return weights


def _is_stock(c: ResNets) -> bool:
    """Whether detectron2's own ResNet is this network, on every device: its DCN is for CUDA alone."""
    special = c.radix > 1 or c.deep_stem or c.avd or c.avg_down or any(c.deform_on_per_stage)
    return not special and c.depth in _STOCK_DEPTHS and c.bottleneck_width == ResNets.bottleneck_width
