"""A checkpoint file that was opened once and knows what it holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from resnest_zoo.categories import COCO, Categories
from resnest_zoo.checkpoint.formats import Contents, read_contents
from resnest_zoo.checkpoint.layouts import Layout, find_layout, unwrap
from resnest_zoo.errors import CheckpointError, ConfigError, some

# Modules that every detector has and no backbone.
_OF_DETECTORS = ("proposal_generator.", "roi_heads.")


class Checkpoint(Mapping[str, Tensor]):
    """A mapping from our names to the tensors of a file, on the CPU, each read when it is asked for.

    What stands beside the model, such as an optimizer's state, is left out.

    Attributes:
        path: the file.
        format: told by its bytes.
        layout: whose names the file's tensors have.
        metadata: texts in the header of a safetensors file; empty for other formats.
        beside: what a pickle holds beside the model, such as mmdetection's `meta`.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        self.path = path
        self.format = contents.format
        self.metadata = contents.metadata
        self.beside = contents.beside
        names = unwrap(contents.tensors)
        self.layout: Layout = find_layout(names.values())
        ours = {key: self.layout.rename(name) for key, name in names.items()}
        self._tensors = {name: contents.tensors[key] for key, name in ours.items() if name is not None}
        if repeated := [key for key, count in Counter(filter(None, ours.values())).items() if count > 1]:
            raise CheckpointError(f"{path}: holds several tensors for each of: {some(repeated)}")

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Open a file of any format; its bytes tell which.

        Raises:
            CheckpointError: the file is missing, empty, truncated, a web page, or no checkpoint; it holds
                anything but tensors or arrays; or reading it would run code.
        """
        path = Path(path)
        return cls(path, read_contents(path))

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def is_detector(self) -> bool:
        """Whether it holds more than a backbone."""
        return any(key.startswith(_OF_DETECTORS) for key in self)

    @property
    def config(self) -> str | None:
        """The config of the model as YAML, if the file tells it, as those of training here do."""
        return self.metadata.get("config") if "categories" in self.metadata else None

    @property
    def categories(self) -> Categories | None:
        """What the classes of the model mean, if the file tells it, as those of training here and of
        mmdetection do.

        Raises:
            CheckpointError: what it tells is damaged.
        """
        if self.config is None:
            return self._noted_categories()
        try:
            return Categories(**json.loads(self.metadata["categories"]))
        except (ValueError, TypeError, RecursionError, ConfigError) as error:
            raise CheckpointError(f"{self.path}: its metadata are damaged: categories: {error}") from error

    @property
    def meta(self) -> Mapping[object, object]:
        """The notes that mmdetection keeps beside the tensors; empty where there are none."""
        return _mapping(self.beside.get("meta"))

    def _noted_categories(self) -> Categories | None:
        """mmdetection's names of the classes: of 3.x in `dataset_meta`, of 2.x in `CLASSES`."""
        described = _mapping(self.meta.get("dataset_meta"))
        names = described.get("classes") or described.get("CLASSES") or self.meta.get("CLASSES")
        names = (names,) if isinstance(names, str) else names
        if not isinstance(names, tuple | list) or not names or not all(isinstance(n, str) for n in names):
            return None
        if len(set(names)) < len(names):
            return None  # nothing tells them apart
        return COCO if tuple(names) == COCO.things else Categories.named(tuple(names))


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, under our names.

    Raises:
        CheckpointError: as `Checkpoint.open`.
    """
    return dict(Checkpoint.open(path))


def read_safetensors_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for a checkpoint of another format. No tensor is read.

    Raises:
        CheckpointError: as `Checkpoint.open`.
    """
    return dict(Checkpoint.open(path).metadata)
