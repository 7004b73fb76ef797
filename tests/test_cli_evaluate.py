"""The command `evaluate`, on drawn shapes and the packaged models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import resnest_zoo
from resnest_zoo.cli import main
from resnest_zoo.cli.common import require_figures
from resnest_zoo.data import shapes
from resnest_zoo.data.pictures import read_picture
from resnest_zoo.errors import DataError
from resnest_zoo.evaluation.detection import evaluate_detections
from resnest_zoo.evaluation.results import detection_rows
from tests.runtimes.eager import as_file

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


def test_an_exported_file_is_measured_as_its_model(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    file = as_file(resnest_zoo.get(MASK, overrides={"DATALOADER.NUM_WORKERS": 0}), path)
    monkeypatch.setattr("resnest_zoo.api.open_file", lambda _: file)
    given = arguments(drawn, str(path))[:-2]
    assert main(given) == 0
    of_file = shown(capsys)
    assert main(arguments(drawn, MASK, "--exact")) == 0
    assert of_file == shown(capsys)
    assert main([*given, "DATALOADER.NUM_WORKERS", "0"]) == 1
    assert "an exported file runs as it was exported; it takes no overrides" in capsys.readouterr().err


def test_panoptic_models_have_pq_too(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = drawn / "annotations"
    segments = ("--panoptic", notes / "panoptic_new.json", notes / "panoptic_new")
    assert main(arguments(drawn, PANOPTIC, *segments)) == 0
    assert float(shown(capsys)["panoptic_seg/PQ"]) > 50


def test_other_names_under_the_same_ids_are_shown_and_by_name_mapped(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an error, detections of one class would be compared with annotations of another."""
    assert main(arguments(drawn, MASK)) == 0
    expected = shown(capsys)
    words = arguments(drawn, MASK)
    place = words.index("--json") + 1
    content = json.loads(Path(words[place]).read_text())
    ids = [row["id"] for row in content["categories"]]
    turned = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    for row in content["categories"]:
        row["id"] = turned[row["id"]]
    for row in content["annotations"]:
        row["category_id"] = turned[row["category_id"]]
    words[place] = str(tmp_path / "instances_new.json")
    Path(words[place]).write_text(json.dumps(content))
    assert main(words) == 1
    assert "of the model\n   1  'cross'      'circle'\n" in capsys.readouterr().err
    assert main([*words[:1], "--by-name", *words[1:]]) == 0
    assert shown(capsys) == expected


def test_what_is_missing_is_told(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(drawn, MASK)
    words[words.index("--images") + 1] = str(drawn)
    assert main(words) == 1
    assert f"{COUNT} of {COUNT} pictures are missing" in capsys.readouterr().err


def changed(folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """The arguments with annotations that were changed."""
    content = json.loads((folder / "annotations" / "instances_new.json").read_text())
    change(content)
    (tmp_path / "changed.json").write_text(json.dumps(content))
    words = arguments(folder, MASK)
    words[words.index("--json") + 1] = str(tmp_path / "changed.json")
    return words


def test_two_classes_of_one_name_have_a_row_each(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = resnest_zoo.get(MASK)
    names = ("circle", *model.categories.things[1:-1], "circle")
    same = replace(model.categories, things=names)
    model.categories = same

    def rename(content: dict[str, Any]) -> None:
        for row in content["categories"]:
            row["name"] = dict(zip(same.thing_ids, names, strict=True))[row["id"]]

    words = changed(drawn, tmp_path, rename)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnest_zoo.api.get", lambda *_, **__: model)
        assert main(words) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "bbox/AP-" in line]
    assert len(rows) == len(set(names)) + 1


@pytest.mark.parametrize("crowds", ["all", "half"])
def test_crowds_are_counted_and_nothing_else_is_a_failure(
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    crowds: str,
) -> None:
    def mark(content: dict[str, Any]) -> None:
        rows = content["annotations"]
        for row in rows if crowds == "all" else rows[::2]:
            row["iscrowd"] = 1

    code = main(changed(drawn, tmp_path, mark))
    assert code == (1 if crowds == "all" else 0)
    assert "annotations are crowds (iscrowd 1)" in caplog.text
    assert ("there is nothing to measure" in capsys.readouterr().err) == (crowds == "all")


def test_figures_of_none_for_every_class_are_a_failure() -> None:
    require_figures({"a": {"bbox/AP": None, "bbox/AP-ball": None, "bbox/AP-cone": 0.0}, "b": None})
    with pytest.raises(DataError, match=r"^b: no class has an object that counts"):
        require_figures({"a": {"bbox/AP-ball": 1.0}, "b": {"panoptic_seg/PQ": 1.0, "bbox/AP-ball": None}})
