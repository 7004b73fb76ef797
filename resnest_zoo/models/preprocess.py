"""From pictures to the model's input: resize, channel order, normalisation, padding.

The numbers belong to a zoo entry. ResNet baselines want BGR with standard deviation 1, ResNeSt wants RGB
with 58.393, 57.12, 57.375; no tensor's shape shows a mix-up, so callers always hand in RGB and the
model does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resnest_zoo.errors import ImageError
from resnest_zoo.ops.resize import resize_image, shortest_edge_size
from resnest_zoo.structures import ImageBatch, SizeHW


@dataclass(frozen=True)
class Preprocessing:
    """What one model wants to see.

    Attributes:
        channel_order: "RGB" or "BGR".
        pixel_mean: subtracted, in `channel_order`, 0-255.
        pixel_std: divided by, in `channel_order`.
        min_size: the shorter side is resized to this, pixels; 0 leaves pictures as they are.
        max_size: unless the longer side would pass this.
        size_divisibility: the padded sides are multiples of this.
    """

    channel_order: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    min_size: int
    max_size: int
    size_divisibility: int

    def resize(self, image: Tensor) -> Tensor:
        """An RGB uint8 picture (3, H, W) in the size the model works at."""
        return resize_image(image, self.input_size((image.shape[1], image.shape[2])))

    def input_size(self, size: SizeHW) -> SizeHW:
        """The size that a picture of `size` is resized to."""
        return shortest_edge_size(size, self.min_size, self.max_size)

    def padded_size(self, input_size: SizeHW) -> SizeHW:
        """The size a resized picture is padded to: the next multiples, whatever else is in its batch."""
        d = self.size_divisibility
        return -(-input_size[0] // d) * d, -(-input_size[1] // d) * d

    def batch(self, images: list[Tensor], like: Tensor) -> ImageBatch:
        """Normalise resized RGB uint8 pictures and zero-pad them to the largest `padded_size` among them.

        Args:
            images: (3, H, W) uint8 each.
            like: a parameter of the model: its device and dtype are the batch's.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        height, width = (max(sides) for sides in zip(*map(self.padded_size, sizes), strict=True))
        # The models were trained with constants rounded to float32; a float64 run keeps to these.
        mean = torch.tensor(self.pixel_mean).to(like)[:, None, None]
        std = torch.tensor(self.pixel_std).to(like)[:, None, None]
        tensor = like.new_zeros((len(images), 3, height, width))
        for row, image in zip(tensor, images, strict=True):
            pixels = image.to(like.device).to(like.dtype)
            pixels = pixels.flip(0) if self.channel_order == "BGR" else pixels
            row[:, : image.shape[1], : image.shape[2]] = (pixels - mean) / std
        return ImageBatch(tensor, tuple(sizes))


def check_image(image: object, index: int) -> Tensor:
    """The picture itself, when a model can take it.

    Raises:
        ImageError: it is not an RGB uint8 tensor (3, H, W) with at least one pixel.
    """
    where = f"image {index}"
    if not isinstance(image, Tensor):
        raise ImageError(
            f"{where}: expected an RGB uint8 tensor (3, H, W), got {type(image).__name__}; "
            "for files, PIL images and arrays use resnest_zoo.Predictor"
        )
    if image.dtype != torch.uint8:
        raise ImageError(
            f"{where}: expected uint8 pixels 0-255, got {image.dtype}; "
            "a float picture in 0-1 becomes one by (image * 255).round().to(torch.uint8)"
        )
    if image.dim() != 3 or image.shape[0] != 3:
        raise ImageError(f"{where}: expected (3, H, W) in RGB order, got shape {tuple(image.shape)}")
    if image.numel() == 0:
        raise ImageError(f"{where}: has no pixels, shape {tuple(image.shape)}")
    return image
