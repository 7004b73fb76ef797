"""From whatever holds a picture to the RGB uint8 tensor a model takes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from resnest_zoo.errors import ImageError

Picture = str | Path | bytes | bytearray | BinaryIO | Image.Image | np.ndarray[Any, Any] | Tensor


def read_picture(source: Picture) -> Tensor:
    """Read a picture.

    A file's EXIF rotation is applied, an alpha channel is dropped, a palette, greyscale or CMYK picture
    becomes RGB, 16 bits become 8. Of an animation the first frame counts.

    Args:
        source: a path, the bytes of a file, a file open for reading in binary, a PIL image, an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16 in RGB order, or an RGB uint8 tensor
            (3, H, W), which is returned as it is: on its own device, unchecked, since the model checks it.

    Returns:
        (3, H, W) uint8, RGB; on the CPU, unless it was a tensor elsewhere.

    Raises:
        ImageError: the source cannot be read, is empty, or holds floats.
    """
    if isinstance(source, Tensor):
        return source
    if isinstance(source, np.ndarray):
        return _to_tensor(_rgb_array(source))
    if isinstance(source, Image.Image):
        return _decode(source, "the PIL image")
    if isinstance(source, bytes | bytearray):
        return _open(io.BytesIO(source), f"the {len(source)} bytes given")
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the stream given"))
        with _named_errors(name):
            content = io.BytesIO(source.read())  # whole, since Pillow wants to seek
        return _open(content, name)
    if not isinstance(source, str | Path):
        raise ImageError(
            f"expected a path, bytes, open file, PIL image, array or tensor, got {type(source).__name__}; "
            "for several pictures pass a list"
        )
    if str(source).lower().startswith(("http://", "https://")):
        raise ImageError(f"{source}: pictures are not fetched from the net; download it and pass the file")
    return _open(Path(source), str(source))


def _open(file: Path | io.BytesIO, name: str) -> Tensor:
    with _named_errors(name):
        if isinstance(file, Path):
            file = file.expanduser()
            if file.is_dir():
                raise ImageError(f"{name}: is a folder, not a picture")
        with Image.open(file) as picture:
            return _decode(picture, name)


def _decode(picture: Image.Image, name: str) -> Tensor:
    with _named_errors(name):
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":
            raise ImageError(
                f"{name}: holds floating-point pixels, whose range nobody states; save it as 8 bits"
            )
        if picture.mode.startswith("I"):
            array = np.asarray(picture)
            if array.min(initial=0) < 0 or array.max(initial=0) > 0xFFFF:
                raise ImageError(f"{name}: holds 32-bit pixels beyond 0-65535; save it as 8 or 16 bits")
            return _to_tensor(_rgb_array(array.astype(np.uint16)))
        if "transparency" in picture.info:  # of a palette; Pillow warns of a direct way to RGB
            picture = picture.convert("RGBA")
        return _to_tensor(np.asarray(picture.convert("RGB")))


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turn whatever goes wrong into an ImageError that names the picture."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in a format Pillow knows, or empty") from error
    # Damaged files end in nearly any exception, pictures of a billion pixels in one of their own.
    except Exception as error:
        raise ImageError(f"{name}: cannot be read: {str(error) or type(error).__name__}") from error


def _rgb_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8 of what an array shows."""
    if np.issubdtype(array.dtype, np.uint16):  # of either byte order
        # 65535 / 255 is 257 exactly.
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype != np.uint8:
        hint = ""
        if array.dtype.kind == "f":
            hint = "; a float picture in 0-1 becomes one by (255 * a).round().astype('uint8')"
        raise ImageError(f"expected an array of uint8 or uint16, got {array.dtype}{hint}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(f"expected an array (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[:, :, :3]


def _to_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.size == 0:
        raise ImageError(f"the picture has no pixels: (H, W) is {array.shape[:2]}")
    return torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous()  # (3, H, W)
