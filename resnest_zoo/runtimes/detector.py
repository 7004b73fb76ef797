"""A file behind the front of a model: the same calls, results and drawings.

Legend: H and W of the padded input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import file_digest
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from resnest_zoo.errors import ConfigError
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.models.postprocess import rescale_semantic
from resnest_zoo.models.preprocess import Preprocessing
from resnest_zoo.models.rcnn import PanopticFPN
from resnest_zoo.runtimes.description import Description
from resnest_zoo.structures import Detections, ImageBatch, RawResult, SizeHW


class Session(Protocol):
    """A file that a runtime has loaded."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself; see `Description`."""

    def __call__(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """The outputs by name, of a (1, 3, H, W) uint8 picture and its (1, 2) int64 size."""


@dataclass(frozen=True)
class FilePreprocessing(Preprocessing):
    """What an exported file wants to see: pictures as they are, resized and padded; it normalises itself.

    Attributes:
        file_size: the only padded size that the file takes; None where it takes any.
        least: the shortest padded side it takes, pixels.
    """

    file_size: SizeHW | None = None
    least: int = 0

    @classmethod
    def of(cls, model: Preprocessing, description: Description) -> FilePreprocessing:
        """That of a model, as far as the file leaves it open."""
        known = {field.name: getattr(model, field.name) for field in fields(Preprocessing)}
        return cls(**known, file_size=description.size, least=description.least)

    def input_size(self, size: SizeHW) -> SizeHW:
        """As the model resizes it, but no larger than the file takes."""
        height, width = super().input_size(size)
        if self.file_size is None:
            return height, width
        factor = min(1.0, self.file_size[0] / height, self.file_size[1] / width)
        sides = (round(height * factor), round(width * factor))
        return max(1, min(sides[0], self.file_size[0])), max(1, min(sides[1], self.file_size[1]))

    def padded_size(self, input_size: SizeHW) -> SizeHW:
        """The file's own size, or the next multiples that it takes."""
        if self.file_size is not None:
            return self.file_size
        height, width = super().padded_size(input_size)
        return max(height, self.least), max(width, self.least)

    def batch(self, images: list[Tensor], like: Tensor) -> ImageBatch:
        """Pad resized RGB uint8 pictures with zeros; `ImageBatch.tensor` is uint8 here.

        Args:
            images: (3, H, W) uint8 each.
            like: does not matter.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        height, width = (max(sides) for sides in zip(*map(self.padded_size, sizes), strict=True))
        tensor = torch.zeros((len(images), 3, height, width), dtype=torch.uint8)
        for row, image in zip(tensor, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        return ImageBatch(tensor, tuple(sizes))


class FileDetector(GeneralizedRCNN):
    """A detector whose arithmetic is a file's; on the CPU.

    Attributes:
        path: of the file.
        description: what it says of itself.
    """

    def __init__(self, path: Path, session: Session, description: Description) -> None:
        nn.Module.__init__(self)
        with torch.device("meta"):  # for what belongs to no layer
            model = build_model(description.parsed(), description.categories)
        self.path = path
        self.description = description
        self.config = model.config
        self.categories = model.categories
        self.preprocessing = FilePreprocessing.of(model.preprocessing, description)
        self._session = session
        self._adopt(model)
        # Where it is, and by which file results can be told from those of another.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").digest()
        self.register_buffer("sha256", torch.tensor(list(digest), dtype=torch.uint8))
        self.eval()

    @property
    def has_masks(self) -> bool:
        """Whether it predicts the masks of what it finds."""
        assert self.config is not None
        return self.config.model.mask_on

    def _adopt(self, model: GeneralizedRCNN) -> None:
        """Take what else the results need of the model that the file is of."""

    def run(self, batch: ImageBatch, sizes: list[SizeHW]) -> list[RawResult]:
        """What the file says about pictures, one after the other."""
        pairs = zip(batch.tensor.split(1), batch.image_sizes, sizes, strict=True)
        return [self._run_one(image, image_size, size) for image, image_size, size in pairs]

    def _run_one(self, image: Tensor, image_size: SizeHW, size: SizeHW) -> RawResult:
        answer = self._session(image, torch.tensor([image_size]))
        count = int(answer["counts"][0])
        boxes, scores, classes = (answer[key][0, :count] for key in ("boxes", "scores", "classes"))
        masks = answer["masks"][0, :count] if "masks" in answer else None
        found = Detections(boxes, scores, classes.long(), image_size, masks)
        semantic = rescale_semantic(answer["semantic"][0], image_size, size) if "semantic" in answer else None
        return RawResult(found, size, semantic)

    def losses(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ConfigError: a file learns nothing."""
        raise ConfigError(f"{self.path}: an exported file cannot be trained; train what it was made from")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FileDetector:
        """Stay as it is; refuse another device."""
        if (device := fn(torch.empty(0)).device).type != "cpu":
            raise ConfigError(f"{self.path}: an exported file runs on the cpu here, not on {device}")
        return self

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise ConfigError(f"{self.path}: an exported file cannot be copied or optimised; open it again")


class PanopticFileDetector(FileDetector, PanopticFPN):
    """Likewise, of a panoptic model, whose maps are merged here."""

    def _adopt(self, model: GeneralizedRCNN) -> None:
        assert isinstance(model, PanopticFPN)
        self.merge_limits = model.merge_limits
