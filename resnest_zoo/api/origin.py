"""Where a model's architecture comes from: an entry, a config file, or a checkpoint of a training run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import Checkpoint
from resnest_zoo.config import Config, load_config, parse_config
from resnest_zoo.errors import CheckpointError, UnknownModelError, shown
from resnest_zoo.registry import Entry, info

logger = logging.getLogger(__name__)

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


def find_origin(name: str | Path) -> Origin:
    """What a name, a config file or a checkpoint of ours stands for.

    Raises:
        UnknownModelError: it is none of them, or the name of a backbone.
        CheckpointError: it is a checkpoint that does not tell what it was built from.
    """
    if isinstance(name, Path):
        return _find_file(name.expanduser())
    if not isinstance(name, str):
        raise UnknownModelError(f"expected the name of a model or a config file, got {shown(name)}")
    try:
        entry = info(name)
    except UnknownModelError:
        if not name.lower().endswith((".yaml", ".yml", ".safetensors")):
            raise
        return _find_file(Path(name).expanduser())
    if entry.config is None:
        raise UnknownModelError(
            f"{entry.name} is an ImageNet backbone that training starts from, not a detector; "
            f"resnest_zoo.fetch({entry.name!r}) gives its file"
        )
    return Origin(entry.config, categories=entry.categories, entry=entry)


def _find_file(path: Path) -> Origin:
    if path.suffix.lower() != ".safetensors":
        return Origin(str(path))
    checkpoint = Checkpoint.open(path)
    origin = _described_by(checkpoint)
    if origin is None:
        raise CheckpointError(
            f"{path}: does not tell what model it is of, as checkpoints of `resnest-zoo train` do; give the "
            "model's name, and the file as weights"
        )
    return origin


def _described_by(checkpoint: Checkpoint) -> Origin | None:
    """What a checkpoint itself tells of its model, as those of training here do."""
    if checkpoint.config is None:
        return None
    return Origin(str(checkpoint.path), checkpoint.config, checkpoint.categories, checkpoint=checkpoint)


def trained_as(checkpoint: Checkpoint, named: Origin) -> Origin | None:
    """What the checkpoint of a training run was built from; None for any other."""
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
