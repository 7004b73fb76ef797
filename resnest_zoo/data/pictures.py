"""From whatever holds a picture to the RGB uint8 tensor a model takes."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from resnest_zoo.data.file_names import check_file
from resnest_zoo.data.film_names import is_film, is_url
from resnest_zoo.data.video import Frame
from resnest_zoo.errors import ConfigError, ImageError, cut, shown

logger = logging.getLogger(__name__)

Picture = str | Path | bytes | bytearray | BinaryIO | Image.Image | np.ndarray[Any, Any] | Tensor | Frame
ChannelOrder = Literal["RGB", "BGR"]

# What people keep photographs in. Pillow reads 40 more formats, some through programs of their own, such as
# PostScript. MPO, of many phones, is a JPEG; HEIF is there once the user has registered a reader of it.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Below it, 16 bits hold what is meant in 14 or fewer: nearly black once 65535 stands for white.
_DIM = 1 << 14
_TOO_DIM = (
    f"16-bit pixels, all below {_DIM}, would be nearly black, since 65535 is white; were 8 to 14 bits meant? "
    "Scale them to 8 or to the full 16 bits first"
)
# Pages of a TIFF file that repeat another one: a smaller copy of it, or its mask (tag NewSubfileType).
_SUBFILE, _COPIES = 254, 0b101


def read_picture(source: Picture, *, channel_order: ChannelOrder = "RGB") -> Tensor:
    """Read a picture.

    A file's EXIF rotation is applied, an alpha channel is dropped, a palette, greyscale or CMYK picture
    becomes RGB. 16 bits become 8 by their upper half, in grey as in colour, so that 65535 is white (PPM
    files: rounded); the same holds for 32-bit pixels up to 65535. Of an animation or a file of several pages
    the first counts, and the log says so; `read_frames` gives all.

    Args:
        source: a path, an http(s) address (see `resnest_zoo.hub.web.read_url` for its limits), the bytes of a
            file, a file open for reading in binary, a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4) of uint8 or uint16, or an RGB uint8 tensor (3, H, W), which is returned as it is: on its
            own device, unchecked, since the model checks it. Or a frame of a film (`resnest_zoo.data.video`).
        channel_order: of an array or a tensor; "BGR" for what OpenCV reads. Nothing in an array tells:
            in the wrong order detectors find less, and nothing fails.

    Returns:
        (3, H, W) uint8, RGB; on the CPU, unless it was a tensor elsewhere.

    Raises:
        ImageError: the source cannot be read, is empty, no ordinary file, in a format that is not for
            pictures, holds floats, values beyond 16 bits, or 16 bits of which the upper two are never used.
        ConfigError: there is no such order of channels.
    """
    if channel_order not in ("RGB", "BGR"):
        raise ConfigError(f'channel_order: expected "RGB" or "BGR", got {shown(channel_order)}')
    turned = channel_order == "BGR"
    if isinstance(source, Frame):
        return source.image
    if isinstance(source, Tensor):
        return source.flip(-3) if turned and source.dim() == 3 else source
    if isinstance(source, np.ndarray):
        array = _rgb_array(source)
        return _to_tensor(array[:, :, ::-1] if turned else array)
    if isinstance(source, Image.Image):
        return _decode(source, "the PIL image")
    with _opened(source) as (picture, name):
        image = _decode(picture, name)
        if _holds_more(picture):
            logger.warning(
                "%s: holds several pictures, the first is taken; read_frames (--frames all) gives all",
                name,
            )
        return image


def read_frames(source: str | Path | bytes | bytearray | BinaryIO) -> Iterator[Tensor]:
    """Read all pictures of an animation or a file of several pages, one after another.

    Args:
        source: a path, an http(s) address, bytes or an open file, as `read_picture` takes; a file of one
            picture gives that one. Smaller copies of a TIFF's pages, and what phones put behind a picture
            (MPO), are left out.

    Yields:
        (3, H, W) uint8 RGB on the CPU. Pages of a TIFF file may differ in size.

    Raises:
        ImageError: as `read_picture`; of a later picture, once those before it have been yielded.
    """
    with _opened(source) as (picture, name):
        yield _decode(picture, name)
        for number in count(1) if picture.format != "MPO" else ():
            with _named_errors(f"{name}, picture {number + 1}"):
                try:
                    picture.seek(number)
                except EOFError:
                    return
                tags = getattr(picture, "tag_v2", {})
                image = None if tags.get(_SUBFILE, 0) & _COPIES else _decode(picture, name)
            if image is not None:
                yield image


def read_size(source: str | Path | bytes | bytearray | BinaryIO) -> tuple[int, int]:
    """The size that a file's header states, without decoding its pixels: for a limit before `read_picture`.

    Args:
        source: a path, an http(s) address, bytes or an open file, as `read_picture` takes.

    Returns:
        (height, width) as stored, before an EXIF rotation.

    Raises:
        ImageError: the source cannot be read, is empty, or in a format that is not for pictures.
    """
    with _opened(source) as (picture, _):
        return picture.height, picture.width


@contextmanager
def _opened(source: object) -> Iterator[tuple[Image.Image, str]]:
    """The picture in a file, opened but not decoded, and its name for messages."""
    file: Path | io.BytesIO
    if isinstance(source, bytes | bytearray):
        file, name = io.BytesIO(source), f"the {len(source)} bytes given"
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the stream given"))
        with _named_errors(name):
            file = io.BytesIO(source.read())  # whole, since Pillow wants to seek
    elif not isinstance(source, str | Path):
        raise ImageError(
            "expected a path, URL, bytes, open file, PIL image, array or tensor, got "
            f"{type(source).__name__}; for several pictures pass a list, or any iterable to stream"
        )
    elif is_url(source):
        file, name = _fetched(str(source))
    else:
        file, name = check_file(Path(source)), str(source)
    with _named_errors(name), Image.open(file, formats=_formats()) as picture:
        yield picture, name


def _fetched(url: str) -> tuple[io.BytesIO, str]:
    from resnest_zoo.hub.cache import public_address
    from resnest_zoo.hub.web import read_url

    name = cut(public_address(url))
    with _named_errors(name):
        return io.BytesIO(read_url(url)), name


def _holds_more(picture: Image.Image) -> bool:
    """Whether a file holds more pictures than the first, which has been read."""
    try:
        return bool(getattr(picture, "is_animated", False)) and picture.format != "MPO"
    except (OSError, SyntaxError, ValueError):  # there is something behind the first, and it is damaged
        return True


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow reads."""
    Image.init()
    return tuple(form for form in _FORMATS if form in Image.OPEN)


def _decode(picture: Image.Image, name: str) -> Tensor:
    with _named_errors(name):
        deep, rounded = _has_deep_colours(picture), picture.format == "PPM"
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":
            raise ImageError(
                f"{name}: holds floating-point pixels, whose range nobody states; save it as 8 bits"
            )
        if picture.mode.startswith("I"):
            array = np.asarray(picture)
            if array.min(initial=0) < 0 or array.max(initial=0) > 0xFFFF:
                raise ImageError(f"{name}: holds 32-bit pixels beyond 0-65535; save it as 8 or 16 bits")
            if rounded:  # as Pillow reads the colours of this format
                array = (array + 128) // 257 * 257
            return _to_tensor(_rgb_array(array.astype(np.uint16), f"{name}: "))
        if "transparency" in picture.info:  # of a palette; Pillow warns of a direct way to RGB
            picture = picture.convert("RGBA")
        array = np.asarray(picture.convert("RGB"))
        if deep and array.max(initial=0) < _DIM >> 8:  # Pillow has taken the upper halves itself
            raise ImageError(f"{name}: {_TOO_DIM}")
        return _to_tensor(array)


def _has_deep_colours(picture: Image.Image) -> bool:
    """Whether the file that was opened has colours of 16 bits, which Pillow makes 8 as it reads them."""
    for tile in getattr(picture, "tile", ()):
        raw, *more = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if str(raw).endswith((";16B", ";16L", ";16N")) or (tile[0] == "ppm" and max(more) > 0xFF):
            return not picture.mode.startswith("I")
    return False


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turn whatever goes wrong into an ImageError that names the picture."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if is_film(name):
            raise ImageError(f"{name}: a film, no picture: iterate resnest_zoo.Video({name!r})") from error
        formats = ", ".join(_formats())
        raise ImageError(f"{name}: not a picture in a format read here ({formats}), or empty") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    # Damaged files end in nearly any exception, pictures of a billion pixels in one of their own.
    except Exception as error:
        raise ImageError(f"{name}: cannot be read: {str(error) or type(error).__name__}") from error


def _rgb_array(array: np.ndarray[Any, Any], start: str = "") -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8 of what an array shows; `start` is that of messages."""
    if np.issubdtype(array.dtype, np.uint16):  # of either byte order
        if 0 < array.max(initial=0) < _DIM:
            raise ImageError(f"{start}{_TOO_DIM}")
        array = (array >> 8).astype(np.uint8)
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
