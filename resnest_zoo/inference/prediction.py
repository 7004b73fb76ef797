"""A picture with what was found in it: to look at, to take apart, to hand on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageShow
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, DataError, ZooError, shown
from resnest_zoo.evaluation.panoptic import encode_ids
from resnest_zoo.evaluation.results import detection_rows, segment_rows
from resnest_zoo.hub.staging import write_staged
from resnest_zoo.inference import exports
from resnest_zoo.inference.visualize import JPEG, Style, draw, encode_picture
from resnest_zoo.structures import InstanceArrays, Instances, PanopticResult, Selection, SizeHW

_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".avif": ("AVIF", {"quality": 85}),
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", JPEG),
    ".jpg": ("JPEG", JPEG),
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
    ".webp": ("WEBP", {"quality": 92}),
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """One picture and what was found in it; the fields of the instances are its own, too.

    It is indexed, sliced, filtered and iterated as `Instances` are: `found[0]`, `found[found.scores > 0.9]`,
    each a `Prediction` of the same picture.

    Attributes:
        image: (3, H, W) uint8 RGB on the CPU, upright.
        instances: in its pixels, on the CPU.
        path: of the picture, where it was given by one.
    """

    image: Tensor
    instances: Instances
    path: str | None = None

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        return repr(self.instances)

    def __getitem__(self, selection: Selection) -> Prediction:
        """As `Instances.__getitem__`. Raises `SelectionError` (an `IndexError`) likewise."""
        return replace(self, instances=self.instances[selection])

    def __iter__(self) -> Iterator[Prediction]:
        return (replace(self, instances=one) for one in self.instances)

    @classmethod
    def cat(cls, parts: Sequence[Prediction]) -> Prediction:
        """The instances of several predictions for one picture, part after part; see `Instances.cat`.

        The picture and its path are the first's.

        Raises:
            DataError: the pictures differ, or as `Instances.cat` does.
            ShapeError: as `Instances.cat` does.
        """
        instances = Instances.cat([part.instances for part in parts])
        first = parts[0]
        if not all(part.image is first.image or torch.equal(part.image, first.image) for part in parts):
            raise DataError("Prediction.cat: expected predictions for one picture, got several pictures")
        return replace(first, instances=instances)

    @property
    def boxes(self) -> Tensor:
        """(N, 4) xyxy, pixels."""
        return self.instances.boxes

    @property
    def scores(self) -> Tensor:
        """(N,) in [0, 1], falling."""
        return self.instances.scores

    @property
    def classes(self) -> Tensor:
        """(N,) int64 in 0 … K-1."""
        return self.instances.classes

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return self.instances.names

    @property
    def masks(self) -> Tensor | None:
        """(N, H, W) bool; None for models without a mask head."""
        return self.instances.masks

    @property
    def panoptic(self) -> PanopticResult | None:
        """Every pixel's segment; None for other models than panoptic ones."""
        return self.instances.panoptic

    @property
    def categories(self) -> Categories:
        """Names and category ids of the model's classes."""
        return self.instances.categories

    @property
    def image_size(self) -> SizeHW:
        """(height, width) of the picture."""
        return self.instances.image_size

    def to(self, device: torch.device | str) -> Prediction:
        """The same with every tensor, the picture's too, on `device`. Raises what `Instances.to` raises."""
        instances = self.instances.to(device)  # which checks the device
        return replace(self, image=self.image.to(device), instances=instances)

    def cpu(self) -> Prediction:
        """The same on the CPU."""
        return self.to("cpu")

    def numpy(self) -> InstanceArrays:
        """Boxes, scores, classes and masks as arrays."""
        return self.instances.numpy()

    def plot(
        self,
        *,
        boxes: bool = True,
        masks: bool = True,
        labels: bool = True,
        scores: bool = True,
        colour_by: str = "class",
        ids: Sequence[int] | None = None,
        font: str | None = None,
        panoptic: bool = True,
        backend: str = "pillow",
    ) -> Image.Image:
        """The picture with boxes, masks and labels, or with its panoptic segments, drawn in.

        Labels never lie on each other: they stand above, in, below or beside their boxes, or further away
        with a line to them; how many found no room is told in a corner.

        Args:
            boxes: draw boxes; a panoptic drawing has none.
            masks: draw masks, as an outline and a light fill.
            labels: write class names.
            scores: write scores beside them.
            colour_by: "class", or "instance" for a colour of its own for each.
            ids: a number for each instance, such as a tracker's, that decides its colour and is written down.
            font: a file for the labels; by default one that has the letters is looked for.
            panoptic: draw the segments, where there are any, instead of the instances.
            backend: "supervision" has the instances drawn by that package's annotators.

        Raises:
            ConfigError: a choice is none of those there are, the font is no file of one, or there are not as
                many ids as instances.
            ZooError: `backend` is not installed.
        """
        style = Style(boxes, masks, labels, scores, colour_by, ids, font, panoptic, backend)
        picture = Image.fromarray(self.image.cpu().permute(1, 2, 0).contiguous().numpy())
        return draw(picture, self.instances.cpu(), style)

    def show(self, **drawing: Any) -> None:
        """Open what `plot` draws, with its arguments, in this system's viewer, or in the notebook.

        Raises:
            ZooError: nothing here shows pictures.
        """
        if not ImageShow.show(self.plot(**drawing)):
            raise ZooError("no program here shows pictures; write one by .save('found.png')")

    def save(self, path: str | Path, **drawing: Any) -> Path:
        """Write what `plot` draws, with its arguments, to a file whose suffix says the format.

        The file appears whole or not at all.

        Returns:
            The path.

        Raises:
            ConfigError: no picture is written under such a suffix.
            ZooError: the format has no room for a picture of this size.
            OSError: the file cannot be written; the message names it.
        """
        path = Path(os.path.expanduser(path))
        form, options = _format_of(path)
        picture = self.plot(**drawing)
        try:
            content = encode_picture(picture, form, **options)
        except (OSError, ValueError) as error:
            raise ZooError(f"{path}: {form} cannot hold this picture: {error}; choose .png") from error
        write_staged(path, content)
        return path

    def _repr_png_(self) -> bytes:
        """What notebooks show."""
        return encode_picture(self.plot(), "PNG")

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """The instances in COCO's result format; see `resnest_zoo.evaluation.results.detection_rows`."""
        return detection_rows(self.instances, image_id)

    def to_coco_dataset(self, file_name: str | None = None) -> dict[str, Any]:
        """The instances as a data set of this one picture; see `exports.to_coco_dataset`, which takes many.

        Args:
            file_name: of the picture; by default the name of the file it was read from.

        Raises:
            ConfigError: it was read from no file, and no name is given.
        """
        return exports.to_coco_dataset([(self._file_name(file_name), self.instances)])

    def to_labelme(self, file_name: str | None = None) -> dict[str, Any]:
        """What labelme keeps beside the picture; see `exports.to_labelme`.

        Raises:
            ConfigError: it was read from no file, and no `file_name` is given.
        """
        return exports.to_labelme(self.instances, self._file_name(file_name))

    def to_pandas(self) -> Any:
        """A frame with a row for each instance; see `exports.to_pandas`."""
        return exports.to_pandas(self.instances)

    def to_torchvision(self) -> dict[str, Tensor]:
        """The dict of torchvision's detectors, labels being category ids; see `exports.to_torchvision`."""
        return exports.to_torchvision(self.instances)

    def to_supervision(self) -> Any:
        """`supervision.Detections`; see `exports.to_supervision`."""
        return exports.to_supervision(self.instances)

    def to_fiftyone(self) -> Any:
        """`fiftyone.Detections`; see `exports.to_fiftyone`."""
        return exports.to_fiftyone(self.instances)

    def to_geojson(self) -> dict[str, Any]:
        """A GeoJSON feature collection of outlines in pixels; see `exports.to_geojson`."""
        return exports.to_geojson(self.instances)

    def _file_name(self, given: str | None) -> str:
        if given is None and self.path is None:
            raise ConfigError("the picture was read from no file: pass file_name=, its name")
        return given or re.split(r"[/\\]", self.path or "")[-1]

    def to_coco_panoptic(self, image_id: int = 0) -> tuple[dict[str, Any], Image.Image]:
        """The panoptic result in COCO's format.

        Returns:
            The annotation with `image_id` and `segments_info`, and the picture whose pixels hold segment ids
            as R + 256 * G + 65536 * B.

        Raises:
            ZooError: the model is not panoptic, or it ran with test-time augmentation.
        """
        panoptic, categories = self.instances.panoptic, self.instances.categories
        if panoptic is None:
            raise ZooError(
                "this prediction has no panoptic result; use a panoptic model without augmentation"
            )
        annotation = {"image_id": image_id, "segments_info": segment_rows(panoptic, categories)}
        return annotation, Image.fromarray(encode_ids(panoptic.segment_map.numpy()))


def _format_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Pillow's name of the format and its options.

    Raises:
        ConfigError: no picture is written under such a suffix.
    """
    if found := _FORMATS.get(path.suffix.lower()):
        return found
    suffixes = ", ".join(_FORMATS)
    raise ConfigError(f"{path}: expected a name that ends in one of {suffixes}, got {shown(path.suffix)}")
