"""Masks as COCO's annotations and results hold them: polygons, and run-length encodings, compressed or not.

A run-length encoding lists how many pixels in turn are outside and inside a mask, down the columns, from the
left. It is checked here, before any library sees it: pycocotools returns memory it never wrote for an
encoding that is too short, and others read on where one does not end. Legend: H and W height and width,
M masks, T runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from resnest_zoo.errors import DataError

Runs = npt.NDArray[np.int64]
Size = Sequence[int]  # (height, width)
_WHOLE = (int, np.integer)

# Many short texts are decoded together, since each alone costs 40 µs of calls, and 4 µs in a batch. What is
# made of this many characters fits a processor's cache.
_CHARACTERS_AT_ONCE = 1 << 16
# Libraries draw a polygon edge by edge, with room for each pixel of it: one of 10**9 pixels has no end.
_FARTHEST = 1e6


def is_polygon(value: object) -> bool:
    """Whether `value` is a polygon of COCO: a flat list of x, y in turn, of three points or more.

    Its numbers lie between -1,000,000 and 1,000,000 pixels.
    """
    try:
        numbers = np.asarray(value)  # of no type that is asked for: that would take "7" for a number
    except (TypeError, ValueError, OverflowError):
        return False
    if numbers.dtype.kind not in "iuf" or numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2:
        return False
    return bool((np.abs(numbers) <= _FARTHEST).all())  # which NaN is not


def is_rle(value: object, size: Size) -> bool:
    """Whether `value` encodes a mask of `size`, height and width: its runs fill that and no more."""
    return first_unfit([value], [size]) is None


def first_unfit(values: Sequence[object], sizes: Sequence[Size], *, compressed: bool = False) -> int | None:
    """The place of the first of `values` that is no run-length encoding of a mask of its picture.

    Args:
        values: M, as they stand in JSON; counts may also be bytes, as pycocotools has them.
        sizes: height and width of each one's picture.
        compressed: whether a list of numbers is unfit too, as it is in result files.

    Returns:
        None where the runs of each fill its picture and no more.
    """
    texts: list[bytes] = []
    areas: list[int] = []
    places: list[int] = []
    length = 0
    unfit = None
    for place, (value, size) in enumerate(zip(values, sizes, strict=True)):
        counts = _counts_of(value, size)
        area = size[0] * size[1]
        if isinstance(counts, bytes):
            texts.append(counts)
            areas.append(area)
            places.append(place)
            length += len(counts)
        elif compressed or not _are_whole(counts) or sum(counts) != area:
            unfit = place
            break
        if length >= _CHARACTERS_AT_ONCE:
            if (index := _first_unfit_text(texts, areas)) is not None:
                return places[index]
            texts, areas, places, length = [], [], [], 0
    index = _first_unfit_text(texts, areas)
    return unfit if index is None else places[index]


def _counts_of(value: object, size: Size) -> Any:
    """The counts of an encoding of that size, texts as bytes; None where it is none."""
    if not isinstance(value, Mapping):
        return None
    found = value.get("size")
    if not isinstance(found, (list, tuple)) or len(found) != 2 or found[0] != size[0] or found[1] != size[1]:
        return None
    if not isinstance(found[0], _WHOLE) or not isinstance(found[1], _WHOLE):
        return None  # 40.0 is equal to 40, but the libraries refuse it
    counts = value.get("counts")
    return counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts


def _are_whole(counts: object) -> bool:
    return isinstance(counts, (list, tuple)) and all(type(run) is int and 0 <= run < 2**32 for run in counts)


def _first_unfit_text(texts: list[bytes], areas: list[int]) -> int | None:
    """The first whose runs do not fill its area; halves are asked only where something is wrong."""
    if not texts or _fill(texts, areas):
        return None
    if len(texts) == 1:
        return 0
    half = len(texts) // 2
    first = _first_unfit_text(texts[:half], areas[:half])
    if first is not None:
        return first
    return half + (_first_unfit_text(texts[half:], areas[half:]) or 0)


def _fill(texts: list[bytes], areas: list[int]) -> bool:
    try:
        runs, firsts = _decompress(texts)
    except DataError:
        return False
    if runs.min() < 0 or runs.max() > max(areas):
        return False
    return bool((np.add.reduceat(runs, firsts) == areas).all())


def run_lengths(counts: object) -> Runs:
    """The lengths of the runs, outside and inside in turn.

    Args:
        counts: a list of whole numbers, or COCO's compressed text: 6 bits a character from "0" on, of which
            the upper says that the number goes on and the others hold it from its lower end; from the fourth
            run on, what is stored is the difference to the run before the last.

    Returns:
        (T,).

    Raises:
        DataError: `counts` is neither.

    Source: cocodataset/cocoapi, `rleFrString`.
    """
    if isinstance(counts, (str, bytes)):
        text = counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts
        return _decompress([text])[0]
    if _are_whole(counts):
        return np.array(counts, dtype=np.int64)
    raise DataError("run lengths are neither whole numbers nor COCO's compressed text")


def _decompress(texts: Sequence[bytes]) -> tuple[Runs, Runs]:
    """The runs of all texts, one text after the other, and the place of each text's first run.

    Raises:
        DataError: one of them is no compressed text.
    """
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8) - ord("0")  # below "0": large
    lengths = np.array([len(text) for text in texts])
    if lengths.min() == 0 or codes.max() > 0x3F:
        raise DataError("run lengths are not COCO's compressed text")
    text_ends = lengths.cumsum()
    last = codes < 0x20  # the last character of each number
    if not last[text_ends - 1].all():
        raise DataError("run lengths are not COCO's compressed text: a number has no end")
    ends = np.flatnonzero(last)
    more = np.diff(ends, prepend=-1) - 1  # characters before a number's last
    if more.max() > 6:
        raise DataError("a compressed run length has more than 32 bits")
    numbers = codes[ends].astype(np.int64)
    numbers -= (numbers & 0x10) << 1  # the sign
    longer = np.flatnonzero(more)
    for back in range(1, more.max() + 1):
        numbers[longer] = numbers[longer] << 5 | (codes[ends[longer] - back] & 0x1F)
        longer = longer[more[longer] > back]
    amounts = np.diff(np.searchsorted(ends, text_ends), prepend=0)
    return _sum_differences(numbers, amounts), amounts.cumsum() - amounts


def _sum_differences(numbers: Runs, amounts: Runs) -> Runs:
    """Runs from what is stored of each text, of which `amounts` (M,) have so many.

    Each text is laid out in rows of two, so that a column of rows is what adds up; its first number does not.
    """
    if len(amounts) == 1:  # as for each mask that training draws; half the time of what follows
        for parity in (1, 2):
            numbers[parity::2] = numbers[parity::2].cumsum()
        return numbers
    rows = (amounts + 1) // 2
    first_rows = rows.cumsum() - rows
    places = np.arange(len(numbers)) + np.repeat(2 * first_rows - (amounts.cumsum() - amounts), amounts)
    pairs = np.zeros(2 * rows.sum(), dtype=np.int64)
    pairs[places] = numbers
    first = pairs[2 * first_rows]
    pairs[2 * first_rows] = 0
    sums = pairs.reshape(-1, 2).cumsum(axis=0)
    before = np.concatenate((np.zeros((1, 2), dtype=np.int64), sums))[first_rows]
    runs = (sums - np.repeat(before, rows, axis=0)).reshape(-1)
    runs[2 * first_rows] = first
    return np.asarray(runs[places])


def decode_rle(rle: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The mask, (H, W) uint8 of 0 and 1, of an encoding for which `is_rle` holds."""
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    values = (np.arange(len(runs)) % 2).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)  # (H, W)
