from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resnest_zoo.annotations.masks import decode_rle, first_unfit, is_polygon, is_rle, run_lengths
from resnest_zoo.errors import DataError

SIZES = [(1, 1), (1, 9), (9, 1), (7, 11), (40, 23), (300, 500)]


def random_mask(size: tuple[int, int], share: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(size) < share).astype(np.uint8)


def runs_of(mask: np.ndarray) -> list[int]:
    """Counted pixel by pixel, down the columns."""
    runs, value = [0], 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_encodings_are_read_as_pycocotools_wrote_them(size, share):
    mask = random_mask(size, share)
    compressed = coco_mask.encode(np.asfortranarray(mask))
    text = {"size": list(size), "counts": compressed["counts"].decode()}
    plain = {"size": list(size), "counts": runs_of(mask)}
    assert run_lengths(compressed["counts"]).tolist() == runs_of(mask)
    for rle in (compressed, text, plain):
        assert is_rle(rle, size)
        assert np.array_equal(decode_rle(rle), mask)


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "T",
        "a~",
        "é",
        "T3T3",
        "T3\ud800",
        "oooooooooo0",
        [50, 49],
        [50, 51],
        [-1, 101],
        [1.5, 98.5],
        ["100"],
        None,
        100,
        [],
    ],
)
def test_an_encoding_that_does_not_fill_its_picture_is_none(counts):
    assert is_rle({"size": [10, 10], "counts": [100]}, (10, 10))
    assert not is_rle({"size": [10, 10], "counts": counts}, (10, 10))


@pytest.mark.parametrize("size", [[10, 11], [11, 10], [100], None, "10x10", [10.0, 10.0], [10, [10]]])
def test_an_encoding_of_another_size_is_none(size):
    assert not is_rle({"size": size, "counts": [100]}, (10, 10))


def compress(runs: list[int]) -> str:
    """COCO's text, number by number; it can also hold what no mask has."""
    text = ""
    for place, run in enumerate(runs):
        rest = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits, rest = rest & 0x1F, rest >> 5
            more = rest != (-1 if bits & 0x10 else 0)
            text += chr(48 + bits + 0x20 * more)
    return text


def test_a_negative_run_is_no_mask_even_where_the_sum_is_right():
    (packed,) = coco_mask.frPyObjects([{"size": [10, 10], "counts": [60, 9, 20, 11]}], 10, 10)
    assert compress([60, 9, 20, 11]) == packed["counts"].decode()
    assert is_rle({"size": [10, 10], "counts": compress([60, 9, 20, 11])}, (10, 10))
    assert run_lengths(compress([120, -40, 20])).tolist() == [120, -40, 20]
    assert not is_rle({"size": [10, 10], "counts": compress([120, -40, 20])}, (10, 10))
    assert not is_rle({"size": [10, 10], "counts": compress([100 + 2**40, -(2**40)])}, (10, 10))


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ([0, 0, 1, 0, 0, 1], True),
        ([0.5, 0, 1, 0, 0, 1, 2, 2], True),
        ([0, 0, 1, 0], False),
        ([0, 0, 1, 0, 0, 1, 2], False),
        ([], False),
        (3.5, False),
        ([[0, 0], [1, 0], [0, 1]], False),
        ([0, 0, 1, 0, 0, None], False),
        ([0, 0, 1, 0, 0, float("nan")], False),
        ([0, 0, 1, 0, 0, float("inf")], False),
        ([0, 0, 1, 0, 0, 10**400], False),
        (["a"] * 6, False),
        (["0", "0", "1", "0", "0", "1"], False),
        ([True, False, True, True, False, True], False),
        ([0, 0, 1, 0, 0, 1e7], False),
        (float("nan"), False),
        (None, False),
    ],
)
def test_what_is_a_polygon(value, good):
    assert is_polygon(value) is good


def test_run_lengths_that_are_no_text_of_coco_are_an_error():
    for counts in ("", "T", "é", "\ud800", [1.5], None):
        with pytest.raises(DataError, match=r"run lengths? "):
            run_lengths(counts)


def encoded(size: tuple[int, int], share: float, seed: int) -> dict[str, object]:
    rle = coco_mask.encode(np.asfortranarray(random_mask(size, share, seed)))
    return {"size": list(size), "counts": rle["counts"].decode()}


@pytest.mark.parametrize("at_once", [1, 300, 1 << 16])
def test_many_encodings_are_judged_as_each_alone(monkeypatch, at_once):
    """Wherever the wrong one stands, and however many texts are decoded together."""
    monkeypatch.setattr("resnest_zoo.annotations.masks._CHARACTERS_AT_ONCE", at_once)
    sizes = [SIZES[k % 5] for k in range(40)]
    masks = [encoded(size, k / 40, seed=k) for k, size in enumerate(sizes)]
    for k in (3, 11):
        masks[k] = {"size": list(sizes[k]), "counts": [sizes[k][0] * sizes[k][1]]}
    assert first_unfit(masks, sizes) is None
    assert first_unfit(masks, sizes, compressed=True) == 3
    assert first_unfit([], []) is None
    for place in (0, 2, 17, 39):
        area = sizes[place][0] * sizes[place][1]
        texts = (compress([area + 1]), compress([area, 1]), "", "~")
        for counts in (*texts, None, [area - 1]):
            wrong = [*masks[:place], {**masks[place], "counts": counts}, *masks[place + 1 :]]
            assert first_unfit(wrong, sizes) == place
            assert first_unfit([*wrong, None], [*sizes, (1, 1)]) == place


def test_runs_of_many_texts_are_those_of_each(monkeypatch):
    """A text whose runs are wrong is not made good by its neighbour's."""
    good, long, short = compress([60, 9, 20, 11]), compress([60, 9, 20, 12]), compress([60, 9, 20, 10])
    masks = [{"size": [10, 10], "counts": counts} for counts in (good, long, short)]
    assert first_unfit(masks, [(10, 10)] * 3) == 1
    assert first_unfit(masks[::2], [(10, 10)] * 2) == 1
