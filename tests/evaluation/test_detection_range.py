"""The range of AP that a sample of images leaves open, against draws one by one and against whole sets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.evaluation.coco_json import load_truth
from resnest_zoo.evaluation.detection import evaluate_detections, expected_range
from tests.evaluation.detection_sets import Builder, hide_hotcoco, naive_ap, scattered


def copied(build: Builder, times: list[int]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data set with each image as often as said."""
    images = [image for image, count in enumerate(times) for _ in range(count)]
    annotations, rows = (
        [
            {**row, "image_id": new}
            for new, old in enumerate(images)
            for row in whole
            if row["image_id"] == old
        ]
        for whole in (build.truth["annotations"], build.rows)
    )
    named = [{"id": new, "height": 120, "width": 160} for new in range(len(images))]
    return {**build.truth, "images": named, "annotations": annotations}, rows


@pytest.mark.parametrize("hidden", [False, True])
def test_the_range_is_that_of_images_drawn_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """Every draw as a data set of its own, with copies under new names, by the plain loop."""
    if hidden:
        hide_hotcoco(monkeypatch)
    build = scattered(12, seed=6)
    drawn = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=7)
    spread = np.std([naive_ap(*copied(build, times)) for times in drawn.tolist()])
    ap, harsh = naive_ap(build.truth, build.rows), naive_ap(build.truth, build.rows, vouching=False)
    reach = (
        1.6448536269514722 * spread * math.sqrt((60 - 12) / 59)
    )  # the normal distribution's 95th percentile
    low, high = expected_range(
        build.write(tmp_path), build.rows, "bbox", range(12), draws=7, population=60, seed=3, level=0.9
    )
    assert 0.05 < harsh < ap
    assert (low, high) == pytest.approx((ap - (1 - 12 / 60) * (ap - harsh) - reach, ap + reach), abs=1e-12)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_spread_heeds_crowds_and_equal_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """Scores are equal in different images only: copies of one image may stand in any order otherwise."""
    if hidden:
        hide_hotcoco(monkeypatch)
    build = scattered(20, seed=12, categories=2)
    for annotation in build.truth["annotations"][::3]:
        annotation["iscrowd"] = 1
    rounded = {(row["image_id"], row["category_id"], round(row["score"], 1)): row for row in build.rows}
    build.rows = [{**row, "score": score} for (_, _, score), row in rounded.items()]
    aps = []
    for times in np.random.default_rng(4).multinomial(20, np.full(20, 1 / 20), size=6).tolist():
        part = Builder()
        part.truth, rows = copied(build, times)
        aps.append(evaluate_detections(part.write(tmp_path), rows, "bbox").ap)
    path = build.write(tmp_path)
    ap = evaluate_detections(path, build.rows, "bbox").ap
    _, high = expected_range(
        path, build.rows, "bbox", range(20), draws=6, population=10**9, seed=4, level=0.9
    )
    assert ap is not None
    assert high == pytest.approx(ap + 1.6448536269514722 * np.std(aps), abs=1e-8)
    assert np.std(aps) > 0.01


def test_the_range_holds_the_ap_narrows_and_collapses(tmp_path: Path) -> None:
    build = scattered(200, seed=7)
    truth = load_truth(build.write(tmp_path))
    widths = []
    for size in (25, 50, 100, 200):
        ap = evaluate_detections(truth, build.rows, "bbox", image_ids=range(size)).ap
        low, high = expected_range(truth, build.rows, "bbox", range(size), draws=100, population=400)
        assert ap is not None
        assert 0 <= low < ap < high <= 1
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 3
    assert expected_range(truth, build.rows, "bbox", range(200), population=200) == (ap, ap)


def test_the_range_is_the_seeds_and_widens_with_the_level(tmp_path: Path) -> None:
    build = scattered(30, seed=8)
    truth = load_truth(build.write(tmp_path))

    def span(**how: Any) -> tuple[float, float]:
        return expected_range(truth, build.rows, "bbox", range(30), **{"draws": 50, **how})

    assert span() == span(seed=0) != span(seed=1)
    low, high = span(level=0.5)
    assert span()[0] < low < high < span()[1]


@pytest.mark.slow
def test_the_range_of_samples_holds_the_ap_of_the_whole(tmp_path: Path) -> None:
    """The AP of samples alone, with the same spread around it, does much worse."""
    build = scattered(300, seed=9, categories=20)
    truth = load_truth(build.write(tmp_path))
    whole = evaluate_detections(truth, build.rows, "bbox").ap
    assert whole is not None
    held = around = 0
    for seed in range(25):
        ids = np.random.default_rng(seed).choice(300, 40, replace=False).tolist()
        low, high = expected_range(truth, build.rows, "bbox", ids, draws=40, population=300)
        ap = evaluate_detections(truth, build.rows, "bbox", image_ids=ids).ap
        assert ap is not None
        held += low <= whole <= high
        around += abs(whole - ap) <= high - ap
    assert held >= 24
    assert around <= 21


def test_a_range_needs_a_sample_of_the_population(tmp_path: Path) -> None:
    build = scattered(4, seed=10)
    build.image(4)
    build.image(5)
    path = build.write(tmp_path)
    for ids, population in ((range(4), 3), ([1, 1], 5000)):
        with pytest.raises(ConfigError, match=f"a sample of 2 to {population:,} images"):
            expected_range(path, build.rows, "bbox", ids, population=population)
    for how in ({"draws": 1}, {"level": 1.0}, {"level": 0.0}):
        with pytest.raises(ConfigError, match="2 draws or more and 0 < level < 1"):
            expected_range(path, build.rows, "bbox", range(4), **how)
    with pytest.raises(DataError, match="none of the 2 images has an object that counts"):
        expected_range(path, build.rows, "bbox", [4, 5])
