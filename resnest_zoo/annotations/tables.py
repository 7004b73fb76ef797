"""COCO's JSON files and the plain values in them, read by one rule for training, evaluation and verification.

Ids are whole numbers, of pictures also texts; tools that go through tables of floats write 7.0, which is 7.
A flag is 0, 1, true or false. What is anything else is no id and no flag: nothing is guessed from a text.

Source: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_zoo.errors import DataError, shown, some

logger = logging.getLogger(__name__)

ImageId = int | str
Row = dict[str, Any]

_IDS = ("id", "image_id", "category_id")
_EXACT = 2**53  # up to here every whole number is a float of its own
_LARGEST_SIDE = 2**31


@dataclass(frozen=True)
class SegmentInfo:
    """An entry of `segments_info` in panoptic annotations: what an id of a segment map stands for.

    Attributes:
        id: of its pixels, from 1 to 2**24 - 1.
        category_id: as in the file's categories.
        is_crowd: a region of many objects nobody told apart; it is neither to be found nor a mistake.
    """

    id: int
    category_id: int
    is_crowd: bool = False


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise DataError(f"{file}: is not JSON of annotations: nested too deep") from error
    except ValueError as error:
        raise DataError(f"{file}: is not JSON: {error}") from error


def read_tables(file: Path, *names: str) -> Row:
    """A file in COCO's layout, its whole ids as `int`.

    Args:
        file: the JSON.
        names: which lists of objects it must hold, such as "images".

    Raises:
        DataError: it cannot be read, is not JSON, or lacks one of the lists.
    """
    data = read_json(file)
    for name in names:
        rows = data.get(name) if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            got = outline(data) if rows is None else f"{outline(rows)} there"
            raise DataError(
                f"{file}: is not in COCO's layout: expected a list of objects under {name!r}, got {got}"
            )
        _make_ids_whole(rows)
    layout: Row = data
    return layout


def _make_ids_whole(rows: list[Row]) -> None:
    for row in rows:
        for key in _IDS:
            if type(row.get(key)) is float:
                whole = whole_number(row[key])
                row[key] = row[key] if whole is None else whole


def whole_number(value: object) -> int | None:
    """`value` as an `int` where it is a whole number, also one written as 7.0; None where it is none."""
    if type(value) is float and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value if type(value) is int else None


def image_id_of(value: object) -> ImageId | None:
    """`value` as a picture's id, a whole number or a text; None where it is neither."""
    return value if isinstance(value, str) else whole_number(value)


def flag(value: object) -> bool | None:
    """0, 1, true or false, such as `iscrowd`; None for anything else."""
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def picture_size(row: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a row of `images`, which some tools write as 480.0; 0 for what is none."""
    return _side(row.get("height")), _side(row.get("width"))


def _side(value: object) -> int:
    side = whole_number(value)
    return side if side is not None and 1 <= side < _LARGEST_SIDE else 0


def category_names(rows: Sequence[Row], source: object) -> dict[int, str]:
    """The names of a file's categories, by rising id; two may have one name.

    Args:
        rows: of `read_tables`.
        source: the file, for messages.

    Raises:
        DataError: a category has no whole number as id or no text as name, or ids are repeated.
    """
    names: dict[int, str] = {}
    for row in rows:
        number, name = row.get("id"), row.get("name")
        if type(number) is not int or not isinstance(name, str):
            raise DataError(
                f"{source}: categories need a whole number as 'id' and a text as 'name', got {shown(row)}"
            )
        if number in names:
            raise DataError(f"{source}: categories {names[number]!r} and {name!r} have the same id {number}")
        names[number] = name
    return dict(sorted(names.items()))


def read_segments(annotation: Mapping[str, Any]) -> list[SegmentInfo] | None:
    """The `segments_info` of a panoptic annotation; None where it is no list of ids, categories and flags."""
    rows = annotation.get("segments_info")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    found = []
    for row in rows:
        number, category_id = whole_number(row.get("id")), whole_number(row.get("category_id"))
        crowd = flag(row.get("iscrowd", 0))
        if number is None or category_id is None or crowd is None:
            return None
        found.append(SegmentInfo(number, category_id, crowd))
    return found


def number_anew(annotations: Sequence[Row]) -> int:
    """Give annotations their place in the file, from 1, as id where ids repeat: nothing else is lost by that.

    Many tools begin anew with each picture, or write one id for all.

    Returns:
        How many had an id that an earlier one has; 0 leaves all as they are.
    """
    ids = [row["id"] for row in annotations if isinstance(row.get("id"), (int, str))]
    repeated = len(ids) - len(set(ids))
    if repeated:
        for place, row in enumerate(annotations, start=1):
            row["id"] = place
    return repeated


def kinds_of_ids(unknown: Sequence[object], known: Sequence[ImageId]) -> str:
    """What is wrong where an id is known as a text and given as a number, or the other way round; else ""."""
    by_text = {str(name): name for name in known}
    for name in unknown:
        other = (
            by_text.get(str(name)) if isinstance(name, (int, str)) and not isinstance(name, bool) else None
        )
        if other is not None:
            there, here = ("a text", "a number") if isinstance(other, str) else ("a number", "a text")
            return f"there {shown(other)} is {there}, and here {shown(name)} {here}, which is another id"
    return ""


def report_strays(
    source: str, strays: Sequence[object], annotations: int, image_ids: Sequence[ImageId]
) -> None:
    """Log how many of a file's annotations are of pictures that it does not list: it may be cut down to some.

    Args:
        source: the file.
        strays: the `image_id` of these.
        annotations: how many the file has in all.
        image_ids: of the file's pictures.

    Raises:
        DataError: all are, so that the ids are written in two ways or are of another data set.
    """
    if not strays:
        return
    said = (
        f"{source}: {len(strays)} of {annotations} annotations belong to no picture of the file: their "
        f"image_id is such as {shown(strays[0])}, the ids of its {len(image_ids)} pictures are such "
        f"as {shown(next(iter(image_ids), None))}"
    )
    if len(strays) == annotations:
        raise DataError(f"{said}. A text and a number are different ids")
    reason = kinds_of_ids(strays, image_ids)
    logger.warning("%s%s; these are left out", said, f"; {reason}" if reason else "")


def outline(value: object) -> str:
    """What a value of JSON is, in a few words for a message."""
    if isinstance(value, Mapping):
        return f"an object with {some(list(value)) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list) else shown(value)
