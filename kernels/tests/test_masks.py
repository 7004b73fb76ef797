"""Run lengths of masks over boxes against masks that are pasted pixel by pixel, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Array, Buffer, address, random

BOXES = np.array(
    [
        [3.2, 5.1, 30.7, 22.9],
        [-10.3, -7.7, 12.2, 60.4],
        [0, 0, 37, 29],
        [20.1, 3.3, 20.4, 3.6],
        [100, 100, 140, 130],
        [30, 2, 36.9, 9],
        [5.5, 5.5, 5.5, 20],
        [4.7, 8.3, 25, 8.3],
    ],
    np.float32,
)
H, W = 29, 37


def pasted(mask: Array, box: Array) -> Array:
    """(side, side) stretched over the box: (H, W) bool."""
    side = len(mask)
    padded = np.zeros((side + 2, side + 2))
    padded[1:-1, 1:-1] = mask
    places = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for low, high, count in ((box[1], box[3], H), (box[0], box[2], W)):
            relative = (np.arange(count, dtype=np.float32) + np.float32(0.5) - low) / (high - low) * 2 - 1
            place = (relative.astype(float) + 1) * side / 2 + 0.5
            places.append(np.clip(np.nan_to_num(place, nan=-1), -1, side + 2))
    out = np.zeros((H, W), bool)
    for i, j in np.ndindex(H, W):
        y, x = places[0][i], places[1][j]
        if 0 <= y < side + 1 and 0 <= x < side + 1:
            a, b = int(y), int(x)
            above = padded[a, b] * (1 - x + b) + padded[a, b + 1] * (x - b)
            below = padded[a + 1, b] * (1 - x + b) + padded[a + 1, b + 1] * (x - b)
            out[i, j] = above * (1 - y + a) + below * (y - a) >= 0.5
    return out


def text_of(mask: Array) -> str:
    """COCO's text of (H, W) bool."""
    flat = mask.T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flat)))).tolist()
    runs = np.diff([0, *edges, flat.size]).tolist()
    if len(runs) > 1 and runs[-1] == 0:
        runs.pop()
    letters = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            five, value = value & 31, value >> 5
            more = value != -1 if five & 16 else value != 0
            letters.append(chr((five | 32 if more else five) + 48))
            if not more:
                break
    return "".join(letters)


def encode(masks: Array, boxes: Array, doubt: float, look: list[Array]) -> list[str]:
    """`look`: the pasted masks, for columns that the kernel leaves open."""
    library = kernels.library()
    n, side = masks.shape[:2]
    bounds, starts = Buffer(n + 1, dtype=np.int64), Buffer(n, dtype=np.int64)
    library.mask_columns(address(boxes), n, H, W, bounds.address, starts.address)
    columns = int(bounds.array[-1])
    counts, rows = Buffer(columns, dtype=np.int32), Buffer(columns, side + 1, dtype=np.int32)
    work = Buffer(side + 2, dtype=np.float64)
    library.mask_crossings(
        address(masks), masks.size, address(boxes), n, side, H, W, doubt, bounds.address, starts.address,
        counts.address, rows.address, rows.size, work.address, work.size,
    )  # fmt: skip
    more_counts, more_rows = [], []
    for column in np.flatnonzero(counts.array < 0):
        who = int(np.searchsorted(bounds.array, column, side="right")) - 1
        inside = look[who][:, starts.array[who] + column - bounds.array[who]].astype(int)
        changes = np.flatnonzero(np.diff(np.concatenate(([0], inside, [0]))))
        more_counts.append(len(changes))
        more_rows += changes.tolist()
    more, more_r = np.array(more_counts, np.int32), np.array(more_rows, np.int32)
    places, text, lengths = (
        Buffer(4096, dtype=np.int64),
        Buffer(20000, dtype=np.uint8),
        Buffer(n, dtype=np.int64),
    )
    library.mask_runs(
        n, H, W, bounds.address, starts.address, counts.address, side, rows.address, rows.size, address(more),
        len(more), address(more_r), len(more_r), places.address, places.size, text.address, text.size,
        lengths.address,
    )  # fmt: skip
    for buffer in (bounds, starts, counts, rows, work, places, text, lengths):
        buffer.check()
    ends = np.cumsum(lengths.array).tolist()
    whole = bytes(text.array[: ends[-1]]).decode() if ends else ""
    return [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("side", [1, 3, 14, 28])
@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.parametrize("doubt", [1e-9, 1e-2])
def test_runs_are_those_of_the_pasted_masks(doubt, count, side):
    masks = (1 / (1 + np.exp(-2 * random(8, side, side)))).astype(np.float32)[:count]
    look = [pasted(mask, box) for mask, box in zip(masks, BOXES, strict=False)]
    assert encode(masks, BOXES[:count], doubt, look) == [text_of(mask) for mask in look]


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, np.nan])
def test_masks_of_one_value(value):
    masks = np.full((8, 5, 5), value, np.float32)
    look = [pasted(mask, box) for mask, box in zip(masks, BOXES, strict=True)]
    assert encode(masks, BOXES, 1e-6, look) == [text_of(mask) for mask in look]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_boxes_that_are_not_finite_are_refused(value):
    boxes, bounds, starts = BOXES.copy(), Buffer(9, dtype=np.int64), Buffer(8, dtype=np.int64)
    boxes[3, 2] = value
    with pytest.raises(kernels.KernelError, match="not finite"):
        kernels.library().mask_columns(address(boxes), 8, H, W, bounds.address, starts.address)


def test_windows_and_rows_that_cannot_be_are_refused():
    library = kernels.library()
    bounds, starts = np.array([0, 2], np.int64), np.array([0], np.int64)
    counts, rows = np.array([2, 0], np.int32), np.array([[1, 3, 0], [0, 0, 0]], np.int32)
    places, text, lengths = Buffer(8, dtype=np.int64), Buffer(100, dtype=np.uint8), Buffer(1, dtype=np.int64)

    def call(b: Array, s: Array, c: Array, r: Array, rows_size: int = 6, text_size: int = 100) -> None:
        library.mask_runs(
            1, H, W, address(b), address(s), address(c), 2, address(r), rows_size, None, 0, None, 0,
            places.address, places.size, text.address, text_size, lengths.address,
        )  # fmt: skip

    call(bounds, starts, counts, rows)
    expected = np.zeros((H, W), bool)
    expected[1:3, 0] = True
    assert bytes(text.array[: lengths.array[0]]).decode() == text_of(expected)
    bad = [
        (bounds + 1, starts, counts, rows),
        (np.array([0, -1], np.int64), starts, counts, rows),
        (np.array([0, W + 1], np.int64), starts, counts, rows),
        (bounds, starts + W - 1, counts, rows),
        (bounds, starts - 1, counts, rows),
        (bounds, starts, np.array([4, 0], np.int32), rows),
        (bounds, starts, np.array([-1, 0], np.int32), rows),
        (bounds, starts, counts, rows + H),
        (bounds, starts, counts, rows[:, ::-1].copy() - 1),
        (bounds, starts, counts, rows, 5),
        (bounds, starts, counts, rows, 6, 1),
    ]
    for arguments in bad:
        with pytest.raises(kernels.KernelError):
            call(*arguments)
