"""Where a model's architecture comes from: an entry, a config file, or a checkpoint of a training run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from resnest_zoo import hub
from resnest_zoo.api import mmdetection
from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import Checkpoint
from resnest_zoo.config import Config, load_config, parse_config
from resnest_zoo.errors import CheckpointError, UnknownModelError, cut, shown
from resnest_zoo.recognition import ENDINGS, EXPORTED, HEAD, find_format, find_stranger
from resnest_zoo.registry import Entry, info

logger = logging.getLogger(__name__)

_UNTOLD = (
    "; the file does not say so: for the other style name a config, such as MMDetection/"
    "mask-rcnn_r50-caffe_fpn_1x_coco.yaml, and the file as weights"
)
_CONFIGS = (".yaml", ".yml")
# Names that mean a file, also one that is missing.
_ENDINGS = (*_CONFIGS, ".safetensors")
# In a folder or repository of one model: all that it needs, and a copy of its config for readers.
WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
NUM_THINGS = "MODEL.ROI_HEADS.NUM_CLASSES"
NUM_STUFF = "MODEL.SEM_SEG_HEAD.NUM_CLASSES"


@dataclass(frozen=True)
class Origin:
    """Where a model's architecture comes from.

    Attributes:
        source: config file, or checkpoint with a config in it.
        text: that config; "" for a file.
        categories: of the classes; None where nobody named them.
        entry: of the zoo, if it is one.
        checkpoint: if the source is one, opened.
    """

    source: str
    text: str = ""
    categories: Categories | None = None
    entry: Entry | None = None
    checkpoint: Checkpoint | None = None

    def load(self, changes: Mapping[str, object]) -> Config:
        """The config with the numbers of its classes, and changes."""
        changes = {**class_counts(self.categories), **changes}
        if self.text:
            return parse_config(self.text, self.source).override(changes)
        return load_config(self.source, changes)


def find_origin(name: str | Path, progress: bool | None = None) -> Origin:
    """What a name, a config file or a checkpoint of ours stands for.

    Args:
        name: a name of the zoo, else a file, a folder of `save_pretrained`, or the address of a checkpoint or
            of a repository. What a file is its bytes tell.
        progress: show a progress bar on download; None shows one if stderr is a terminal.

    Raises:
        UnknownModelError: it is none of them, or the name of a backbone.
        CheckpointError: it is a checkpoint that does not tell what it was built from.
        RegistryError, DownloadError: it is no clean address, or its file cannot be had.
    """
    if str(name).lower().endswith(tuple(EXPORTED.values())):
        raise UnknownModelError(
            f"{cut(str(name))}: an exported file is no model to be built, loaded or trained; "
            "resnest_zoo.Predictor and `resnest-zoo predict` run it"
        )
    if isinstance(name, Path):
        return _find_file(Path(os.path.expanduser(name)))
    if not isinstance(name, str):
        raise UnknownModelError(f"expected the name of a model or a config file, got {shown(name)}")
    try:
        entry = info(name)
    except UnknownModelError as error:
        if "://" in name:
            return _find_file(hub.fetch_address(name, progress=progress), name)
        path = Path(os.path.expanduser(name))
        if name.lower().endswith(_ENDINGS) or _exists(path):
            return _find_file(path)
        if path.name != name or name.lower().endswith(ENDINGS):
            raise UnknownModelError(f"{error} Nor is there a file {cut(str(path.absolute()))}.") from None
        raise
    if entry.config is None:
        raise UnknownModelError(
            f"{entry.name} is an ImageNet backbone that training starts from, not a detector; "
            f"resnest_zoo.fetch({entry.name!r}) gives its file"
        )
    return Origin(entry.config, categories=entry.categories, entry=entry)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a name
        return False


def find_weights(weights: str | Path, progress: bool | None = None) -> Path:
    """The file that a user names as weights: an address, a path, or a folder of `save_pretrained`.

    Raises:
        RegistryError, DownloadError: it is no clean address, or its file cannot be had.
    """
    if isinstance(weights, str) and "://" in weights:
        return hub.fetch_address(weights, progress=progress)
    return _in_folder(Path(os.path.expanduser(weights)))


def _in_folder(path: Path) -> Path:
    """The checkpoint in a folder that `save_pretrained` wrote; any other path as it is."""
    inside = path / WEIGHTS
    return inside if os.path.isfile(inside) else path  # noqa: PTH113 - False also for what is too long


def _find_file(path: Path, source: str = "") -> Origin:
    folder, path = path, _in_folder(path)
    if not _is_checkpoint(path):
        return Origin(str(path))
    origin = _described_by(Checkpoint.open(path))
    if origin is None:
        raise CheckpointError(
            f"{source or path}: does not tell what model it is of, as checkpoints of `resnest-zoo train` do; "
            "give the model's name, and the file as weights (--model NAME --weights FILE)"
        )
    if path != folder:
        _warn_of_edits(folder / CONFIG, origin)
    return origin


def _warn_of_edits(config: Path, origin: Origin) -> None:
    """Say that an edited copy of the config changes nothing."""
    if (
        config.is_file()
        and config.read_text(encoding="utf-8", errors="replace").strip() != origin.text.strip()
    ):
        logger.warning(
            "%s differs from the config in %s, which alone counts; pass changes as overrides", config, WEIGHTS
        )


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is to be read as a checkpoint, not as a config: by its bytes, else by its name."""
    ending = path.suffix.lower()
    try:
        if not path.is_file():  # missing, a folder or a pipe: the name has to tell what it was meant for
            return ending not in _CONFIGS
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ending not in _CONFIGS
    if b"\0" in head or find_format(head) is not None:
        return True
    return ending in ENDINGS or (ending not in _CONFIGS and find_stranger(head) is not None)


def _described_by(checkpoint: Checkpoint) -> Origin | None:
    """What a checkpoint itself tells of its model, as those of training here and of mmdetection do."""
    if mmdetection.is_theirs(checkpoint):
        found = mmdetection.recognise(checkpoint)
        logger.warning("%s: taken for %s%s", checkpoint.path, found.words, "" if found.told else _UNTOLD)
        return Origin(str(checkpoint.path), found.config.dump(), found.categories, checkpoint=checkpoint)
    if checkpoint.config is None:
        return None
    return Origin(str(checkpoint.path), checkpoint.config, checkpoint.categories, checkpoint=checkpoint)


def trained_as(checkpoint: Checkpoint, named: Origin) -> Origin | None:
    """What the checkpoint of a training run was built from; None for any other.

    One of mmdetection's is built as the config that was named, where that fits it but for its depth.
    """
    if mmdetection.is_theirs(checkpoint):
        found = mmdetection.recognise(checkpoint)
        if found.is_of(named.load({})):
            return replace(named, categories=found.categories, checkpoint=checkpoint)
        deeper = named.load({"MODEL.RESNETS.DEPTH": found.config.model.resnets.depth})
        if found.is_of(deeper):
            return Origin(named.source, deeper.dump(), found.categories, checkpoint=checkpoint)
        return _described_by(checkpoint)
    origin = _described_by(checkpoint)
    if origin is not None and _kind(origin.load({})) != _kind(named.load({})):
        logger.warning("%s: is not of %s; it is built as its own config says", origin.source, named.source)
    return origin


def _kind(config: Config) -> tuple[object, ...]:
    """What makes it another model, whatever was tuned for a run."""
    model = config.model
    return model.meta_architecture, model.mask_on, model.roi_heads.name, model.resnets


def class_counts(categories: Categories | None) -> dict[str, object]:
    """The config keys that the numbers of classes decide."""
    if categories is None:
        return {}
    stuff = {NUM_STUFF: len(categories.stuff)} if categories.stuff else {}
    return {NUM_THINGS: len(categories.things), **stuff}
