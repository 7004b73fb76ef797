"""What an exported file says of itself.

All of it is text by text keys, which every format can keep: `resnest_zoo.format` is the version of this
layout, and the first thing that is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from resnest_zoo import __version__
from resnest_zoo.categories import Categories
from resnest_zoo.config import Config, parse_config
from resnest_zoo.errors import ConfigError, ExportError, shown
from resnest_zoo.structures import SizeHW

PREFIX = "resnest_zoo."
_FORMAT = "1"


@dataclass(frozen=True)
class Description:
    """The model behind a file, and how the file wants its input.

    Attributes:
        config: YAML; everything that the model was built from.
        categories: what its classes mean.
        size: (height, width) of the only input it takes; None where each side may be any multiple.
        multiple: of which both sides are multiples, pixels.
        least: the shortest side it takes, pixels.
        half: whether its weights are kept in float16.
        name: of the model, as it was given; "" where it was none of the zoo.
        weights_sha256: of the file that the weights came from; "" where that is not known.
        version: of this package, when it was written.
    """

    config: str
    categories: Categories
    size: SizeHW | None
    multiple: int
    least: int
    half: bool = False
    name: str = ""
    weights_sha256: str = ""
    version: str = __version__

    @property
    def task(self) -> str:
        """What the model does: "detection", "instance segmentation" or "panoptic segmentation"."""
        model = self.parsed().model
        if model.meta_architecture == "PanopticFPN":
            return "panoptic segmentation"
        return "instance segmentation" if model.mask_on else "detection"

    def parsed(self) -> Config:
        """The config."""
        return parse_config(self.config, "the file's config")

    def encode(self) -> dict[str, str]:
        """All of it as texts, for a file's metadata."""
        texts = {
            "format": _FORMAT,
            "version": self.version,
            "name": self.name,
            "task": self.task,
            "config": self.config,
            "categories": json.dumps(asdict(self.categories)),
            "size": json.dumps(self.size),
            "multiple": str(self.multiple),
            "least": str(self.least),
            "half": json.dumps(self.half),
            "weights_sha256": self.weights_sha256,
        }
        return {PREFIX + key: text for key, text in texts.items()}

    @classmethod
    def decode(cls, metadata: Mapping[str, str], source: str) -> Description:
        """The inverse of `encode`; other keys do not matter.

        Args:
            metadata: of a file.
            source: the file, for messages.

        Raises:
            ExportError: the metadata are not ours, of a later layout, or damaged.
        """
        if (layout := metadata.get(f"{PREFIX}format")) is None:
            raise ExportError(
                f"{source}: was not written by `resnest-zoo export`: it lacks the metadata that say how to "
                "prepare pictures and what its classes are; export the model again"
            )
        if layout != _FORMAT:
            raise ExportError(
                f"{source}: is of layout {shown(layout)}, and this version of resnest_zoo reads {_FORMAT}; "
                f"it was written by {shown(metadata.get(f'{PREFIX}version'))}"
            )
        texts = {key.removeprefix(PREFIX): text for key, text in metadata.items() if key.startswith(PREFIX)}
        try:
            size = json.loads(texts["size"])
            found = cls(
                config=texts["config"],
                categories=Categories(**json.loads(texts["categories"])),
                size=None if size is None else (int(size[0]), int(size[1])),
                multiple=int(texts["multiple"]),
                least=int(texts["least"]),
                half=bool(json.loads(texts["half"])),
                name=texts["name"],
                weights_sha256=texts["weights_sha256"],
                version=texts["version"],
            )
            found.parsed()
        except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
            raise ExportError(f"{source}: its metadata are damaged: {error}") from error
        return found
