"""The benchmark of exported files: what it measures, what it skips, and what the page says of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import exports, exports_page, records
from resnest_zoo.registry import PUBLISHED, info

NAMES = ("mask_rcnn_resnest50", "faster_rcnn_resnet50")


def test_small_models_come_first_and_those_of_any_size_last() -> None:
    tasks = exports.plan(NAMES, ["onnx"], (64, 96), ["faster_rcnn_resnet50"], 3)
    assert [task.model for task in tasks] == [NAMES[1], NAMES[0], NAMES[1]]
    assert [task.shape for task in tasks] == ["64 x 96", "64 x 96", "any, 64 x 96"]


def test_what_is_recorded_of_the_same_versions_is_not_measured_again() -> None:
    tasks = exports.plan(NAMES, ["onnx", "pt2"], (64, 96), [], 3)
    cells = [
        exports.Cell(NAMES[0], "onnx", "64 x 96", "equal", versions=exports._versions("onnx")),
        exports.Cell(NAMES[0], "pt2", "64 x 96", "equal", versions="torch 1.0"),
        exports.Cell(NAMES[1], "onnx", "any, 64 x 96", "equal", versions=exports._versions("onnx")),
    ]
    rows = [{name: str(value) for name, value in asdict(cell).items()} for cell in cells]
    left = [(task.model, task.formats) for task in exports.without_known(tasks, rows)]
    assert left == [(NAMES[1], ("onnx", "pt2")), (NAMES[0], ("pt2",))]


def test_the_four_of_any_size_are_published_and_of_all_kinds() -> None:
    assert set(exports.DYNAMIC) <= set(PUBLISHED)
    assert len({info(name).method for name in exports.DYNAMIC}) == 4


def test_the_page_has_a_row_for_each_model_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    assert exports_page.tables() == "Nothing is recorded."
    numbers = {"detections": 7, "box_pixels": "3.1e-05", "score": "1.2e-06"}
    times = {"ratio": "1.13", "ratio_optimized": "0.72", "versions": "torch 2", "date": "2026-11-28"}
    cells = [
        exports.Cell(NAMES[0], "onnx", "64 x 96", "equal", **numbers, **times),
        exports.Cell(NAMES[0], "openvino", "64 x 96", "a | reason", versions="torch 2", date="2026-11-29"),
        exports.Cell(NAMES[1], "pt2", "any, 64 x 96", "equal", **numbers, **times),
    ]
    path = records.record(exports.TASK, cells[:2], exports._KEY)
    assert records.record(exports.TASK, cells[2:], exports._KEY) == path == records.path_of(exports.TASK)
    page = exports_page.tables()
    one = "7 equal, 3.1e-05 px, 1.2e-06; x 1.13, 0.72"
    assert f"| `{NAMES[0]}` | {one} | not measured | a \\| reason |" in page
    assert f"| `{NAMES[1]}` | not measured | {one} | not measured |" in page
    assert page.count("\n| `") == len(PUBLISHED) + 1
    assert page.endswith("torch 2; 2026-11-28 to 2026-11-29.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--formats", "tflite"], "--formats: expected some of onnx, pt2, openvino, got tflite"),
        (["mask_rcnn_resnest14_dcn_shapes"], "no published model is called mask_rcnn_resnest14_dcn_shapes"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        exports.main(words)
    assert message in capsys.readouterr().err
