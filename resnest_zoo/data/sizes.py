"""Pictures of the size that their annotations state: boxes and masks mean nothing on others.

The usual causes are copies at another size, swapped sides, and boxes drawn before a rotation that the file's
EXIF data ask for, which readers honour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import ExifTags, Image
from torch import Tensor

from resnest_zoo.data.file_names import check_file
from resnest_zoo.data.pictures import _formats, _named_errors, read_picture
from resnest_zoo.errors import DataError, ZooError
from resnest_zoo.structures import SizeHW

_THREADS = 8  # a network disk's answers take longer than the work
_SHOWN = 5
_AFTER_ROTATION = "; these count after a rotation that the file's EXIF data ask for"
_LYING = range(5, 9)  # EXIF orientations that swap the sides


def read_sized_picture(file: Path, size: SizeHW | None) -> Tensor:
    """Read an annotated picture, (3, H, W) uint8, RGB.

    Args:
        file: of the picture.
        size: height and width as the annotations state them; None where they do not.

    Raises:
        ImageError: the picture cannot be read.
        DataError: it has another size.
    """
    image = read_picture(file)
    found = (image.shape[1], image.shape[2])
    if size is not None and found != size:
        raise DataError(
            f"{file}: has height and width {found}, but the annotations say {size}{_AFTER_ROTATION}"
        )
    return image


def check_sizes(pictures: Iterable[tuple[Path, SizeHW | None]]) -> str | None:
    """Look at the headers of pictures, at 10,000 a second or so on a local disk.

    Args:
        pictures: files, and what `read_sized_picture` will expect of each.

    Returns:
        What is wrong: how many pictures have another size or cannot be read, and the first five; None if
        nothing is. What only decoding shows is not found.
    """
    items = list(pictures)
    with ThreadPoolExecutor(_THREADS) as pool:
        fits = list(pool.map(_fits, items))
    suspects = [item for item, fine in zip(items, fits, strict=True) if not fine]
    problems = _confirm(suspects)
    if not problems:
        return None
    said = "; ".join(text.removesuffix(_AFTER_ROTATION) for text in problems)
    more = f"; and {len(suspects) - _SHOWN} more" if len(suspects) > _SHOWN else ""
    hint = _AFTER_ROTATION if any(text.endswith(_AFTER_ROTATION) for text in problems) else ""
    return f"{len(suspects)} of {len(items)} pictures: {said}{more}{hint}"


def _fits(item: tuple[Path, SizeHW | None]) -> bool:
    file, size = item
    try:
        with _named_errors(str(file)), Image.open(check_file(file), formats=_formats()) as picture:
            width, height = picture.size
            # A PNG's EXIF data may stand at its end, where Pillow would decode all to find them.
            seen = picture.format != "PNG" or "exif" in picture.info
            if seen and picture.getexif().get(ExifTags.Base.Orientation) in _LYING:
                width, height = height, width
            return size in (None, (height, width))
    except ZooError:
        return False


def _confirm(suspects: Sequence[tuple[Path, SizeHW | None]]) -> list[str]:
    """The problems of the first suspects, decoded: a header does not tell everything."""
    problems = []
    for file, size in suspects[:_SHOWN]:
        try:
            read_sized_picture(file, size)
        except ZooError as error:
            problems.append(str(error))
    return problems
