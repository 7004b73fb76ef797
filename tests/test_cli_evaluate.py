"""The command `evaluate`, on drawn shapes and the packaged models."""

from __future__ import annotations

from pathlib import Path

import pytest

import resnest_zoo
from resnest_zoo.cli import main
from resnest_zoo.data import shapes
from resnest_zoo.data.pictures import read_picture
from resnest_zoo.evaluation.detection import evaluate_detections
from resnest_zoo.evaluation.results import detection_rows

MASK, PANOPTIC = "mask_rcnn_resnest14_dcn_shapes", "panoptic_resnest14_dcn_shapes"
COUNT = 4


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "shapes"
    shapes.write(folder, count=COUNT, seed=5, split="new")
    return folder


def arguments(folder: Path, model: str, *more: object) -> list[str]:
    truth = folder / "annotations" / "instances_new.json"
    return [
        *("evaluate", "--model", model, "--device", "cpu", "--json", str(truth)),
        *("--images", str(folder / "new"), *map(str, more), "DATALOADER.NUM_WORKERS", "0"),
    ]


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.endswith(f"instances_new.json: {COUNT} pictures")
    return dict(line.split() for line in lines)


def test_ap_of_all_and_of_each_class(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(drawn, MASK)) == 0
    found = shown(capsys)
    model = resnest_zoo.get(MASK)
    pictures = sorted((drawn / "new").iterdir())
    rows = [
        row
        for number, file in enumerate(pictures, 1)
        for row in detection_rows(model([read_picture(file)])[0], number)
    ]
    truth = drawn / "annotations" / "instances_new.json"
    for kind in ("bbox", "segm"):
        expected = evaluate_detections(truth, rows, kind)
        assert expected.ap is not None
        assert expected.ap > 0.3
        assert found[f"{kind}/AP"] == f"{100 * expected.ap:.2f}"
        for name, category_id in zip(model.categories.things, model.categories.thing_ids, strict=True):
            ap = expected.per_category[category_id]
            assert found[f"{kind}/AP-{name}"] == ("none" if ap is None else f"{100 * ap:.2f}")
    assert "panoptic_seg/PQ" not in found


def test_panoptic_models_have_pq_too(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = drawn / "annotations"
    segments = ("--panoptic", notes / "panoptic_new.json", notes / "panoptic_new")
    assert main(arguments(drawn, PANOPTIC, *segments)) == 0
    assert float(shown(capsys)["panoptic_seg/PQ"]) > 50


def test_what_is_missing_is_told(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(drawn, MASK)
    words[words.index("--images") + 1] = str(drawn)
    assert main(words) == 1
    assert f"{COUNT} of {COUNT} pictures are missing" in capsys.readouterr().err
