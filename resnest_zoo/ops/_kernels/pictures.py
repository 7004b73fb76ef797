"""Resizing of pictures by the kernels, to the bytes that Pillow gives.

Pillow rounds to whole grey levels between its two passes, so their order is part of the result.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from resnest_zoo.ops._kernels.library import kernels
from resnest_zoo.ops._kernels.threads import share

_ROWS_AT_ONCE = 64  # that are worth a thread
_LONGEST = 2**24


def refuse_resize_image(image: Tensor, size: tuple[int, int]) -> str | None:
    """Why a picture cannot be taken."""
    if image.device.type != "cpu":
        return f"it is for the CPU, not for {image.device}"
    if image.numel() == 0 or max(*image.shape, *size) > _LONGEST:
        return f"it resizes sides of 1 to {_LONGEST}, not {tuple(image.shape)} to {size}"
    return _unlike_pillow()


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) uint8 of any strides to (C, height, width)."""
    height, width = size
    # Source: Pillow 13, `ImagingResample`: height first where it shrinks by more than twice what width does.
    if height < image.shape[1] and image.shape[1] - height > 2 * (image.shape[2] - width):
        return _across(_down(image, height), width)
    return _down(_across(image, width), height)


def _across(image: Tensor, width: int) -> Tensor:
    channels, height, old = image.shape
    if old == width:
        return image
    library = kernels().library()
    table = _table(old, width)
    out = torch.empty((channels, height, width), dtype=torch.uint8)
    strides = (ctypes.c_int64 * 3)(*image.stride())
    size = int(image.untyped_storage().nbytes()) - int(image.storage_offset())
    given = (image.data_ptr(), size, strides, channels, height, old, width, table.data_ptr(), table.numel())
    needed: int = library.resample_work(channels, old, width)

    def compute(first: int, last: int) -> None:
        work = torch.empty(needed, dtype=torch.uint8)
        library.resample_across(*given, first, last, out.data_ptr(), out.numel(), work.data_ptr(), needed)

    share(height, _ROWS_AT_ONCE, compute, reading=True)
    return out


def _down(image: Tensor, height: int) -> Tensor:
    channels, old, width = image.shape
    if old == height:
        return image.contiguous()
    library = kernels().library()
    image, table = image.contiguous(), _table(old, height)
    out = torch.empty((channels, height, width), dtype=torch.uint8)
    given = (
        image.data_ptr(), image.numel(), channels, old, width, height, table.data_ptr(), table.numel()
    )  # fmt: skip

    def compute(first: int, last: int) -> None:
        library.resample_down(*given, first, last, out.data_ptr(), out.numel())

    share(height, _ROWS_AT_ONCE, compute, reading=True)
    return out


def _table(old: int, new: int) -> Tensor:
    """What each output reads, and the weights."""
    library = kernels().library()
    table = torch.empty(new * (library.resample_taps(old, new) + 2), dtype=torch.int32)
    library.resample_table(old, new, table.data_ptr(), table.numel())
    return table


@cache
def _unlike_pillow() -> str | None:
    """Whether this release of Pillow gives other bytes, looked at once with small pictures of all kinds."""
    import numpy as np
    from PIL import Image, __version__

    generator = torch.Generator().manual_seed(0)
    for old, new in (
        ((23, 19), (31, 40)),
        ((40, 31), (19, 23)),
        ((37, 17), (11, 29)),
        ((17, 37), (29, 11)),
        ((30, 25), (20, 20)),
        ((31, 25), (20, 20)),
    ):
        image = torch.randint(0, 256, (3, *old), dtype=torch.uint8, generator=generator)
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.array(picture.resize((new[1], new[0]), Image.Resampling.BILINEAR))
        if not torch.equal(torch.from_numpy(theirs).permute(2, 0, 1), resize_image(image, new)):
            return f"Pillow {__version__} resizes {old} to {new} otherwise"
    return None
