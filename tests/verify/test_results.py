"""What `--record` keeps, and the pages made of it. No test touches the real folder or pages."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks import chart, records, report, speed
from benchmarks.verify import results
from benchmarks.verify.outcome import Comparison, Finding, ModelOutcome, Status
from resnest_zoo.registry import MMDETECTION, PUBLISHED, SHIPPED, Reported, info
from tests.verify.golden_files import read_golden, write_golden
from tests.verify.runs import Verify, claim, claimed_as_measured

TORCH = torch.__version__.partition("+")[0]
TODAY = datetime.now(UTC).date().isoformat()
VERSIONS = {"torch": torch.__version__, "pillow": "1.2"}
DTYPES = {"golden": "float64", "coco": "float32"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of results, empty."""
    folder = tmp_path / "recorded"
    monkeypatch.setattr(results, "FOLDER", folder)
    monkeypatch.setattr(records, "FOLDER", folder)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def coco_outcome(name: str, *numbers: tuple[str, Status, float, float | None]) -> ModelOutcome:
    comparisons = tuple(
        Comparison(metric, "COCO val2017", reported, 0.05, status, value)
        for metric, status, reported, value in numbers
    )
    statuses = [status for _, status, _, _ in numbers]
    worst = Status.FAIL if Status.FAIL in statuses else statuses[0]
    return ModelOutcome(name, {"coco": Finding(worst, comparisons=comparisons)})


def record(*outcomes: ModelOutcome) -> None:
    results.record(outcomes, "cpu", DTYPES, VERSIONS)


@pytest.mark.usefixtures("mirror")
def test_recorded_runs_are_rows_and_a_second_run_replaces_its_own(
    verify: Verify, coco: Path, folder: Path, tmp_path: Path
) -> None:
    for name in ("tiny_mask", "tiny_detection"):
        write_golden(tmp_path, name)
    claimed_as_measured(verify, coco, "tiny_mask")
    options = ("--golden-dir", tmp_path, "--coco", coco, "--resume", "--record")
    measured = verify("tiny_mask", "tiny_detection", *options).measured("tiny_mask")
    names = [f"coco-cpu-float32-torch{TORCH}.csv", f"golden-cpu-float64-torch{TORCH}.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    coco_rows, golden_rows = (read(folder / name) for name in names)
    detection, *mask = coco_rows  # by name
    assert (detection["name"], detection["status"], detection["reported"]) == (
        "tiny_detection",
        "fail",
        "1.50",
    )
    assert [row["metric"] for row in mask] == ["box AP", "mask AP"]
    for row in mask:
        assert (row["name"], row["status"], row["on"]) == ("tiny_mask", "pass", "COCO val2017")
        value = measured[f"{row['metric']}, COCO val2017"]
        assert row["measured"] == f"{value:.4f}"
        assert row["reported"] == f"{value:.2f}"
        assert (row["tolerance"], row["date"]) == ("0.05", TODAY)
        assert "torchvision" in row["versions"]
        assert "torch 2" not in row["versions"]  # the file's name has it
    kinds = {row["metric"] for row in golden_rows if row["name"] == "tiny_mask"}
    assert kinds >= {"features", "boxes", "scores", "mask_bits"}
    assert {row["status"] for row in golden_rows} == {"pass"}

    claim("tiny_mask", Reported("COCO", "val2017", False, 99.0))
    verify("tiny_mask", *options)
    again, golden_again = (read(folder / name) for name in names)
    assert again[0] == detection
    assert [(row["name"], row["reported"], row["status"]) for row in again[1:]] == [
        ("tiny_mask", "99.00", "fail")
    ]
    assert golden_again == golden_rows


@pytest.mark.usefixtures("mirror")
def test_without_a_verdict_nothing_is_recorded(verify: Verify, coco: Path, folder: Path) -> None:
    verify("tiny_detection", "--coco", coco, "--limit", "2", "--record")
    assert not folder.exists()


@pytest.mark.usefixtures("mirror")
def test_without_record_nothing_is_recorded(verify: Verify, coco: Path, folder: Path) -> None:
    verify("tiny_detection", "--coco", coco)
    assert not folder.exists()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("change", [{"boxes": np.zeros((3, 4))}, {"sem_seg": np.zeros((4, 4))}])
def test_outputs_that_cannot_be_compared_are_no_pass(
    change: dict[str, Any], verify: Verify, folder: Path, tmp_path: Path
) -> None:
    """A wrong shape has no difference to show, and the other kinds agree."""
    np.savez(path := write_golden(tmp_path, "tiny_mask"), **(read_golden(path) | change))
    assert verify("tiny_mask", "--level", "golden", "--golden-dir", tmp_path, "--record").code == 1
    rows = read(folder / f"golden-cpu-float64-torch{TORCH}.csv")
    assert "fail" in {row["status"] for row in rows}
    assert report._passed().get("tiny_mask", {}) == {}


def test_a_claim_that_the_model_cannot_answer_is_no_pass() -> None:
    record(coco_outcome("one", ("box AP", Status.PASS, 40.0, 40.0), ("mask AP", Status.FAIL, 35.0, None)))
    assert report._passed() == {}
    assert report._measured() == {("one", "COCO val2017"): [f"box AP 40.00 ({TODAY})"]}


def test_a_number_that_another_one_excuses_is_left_out(folder: Path) -> None:
    record(
        coco_outcome("one", ("box AP", Status.PASS, 40.0, 40.0), ("PQ", Status.NOT_VERIFIABLE, 41.0, 30.0))
    )
    (row,) = read(folder / f"coco-cpu-float32-torch{TORCH}.csv")
    assert row["metric"] == "box AP"
    assert report._passed() == {"one": {"coco": TODAY}}


def test_a_device_is_named_as_files_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert results.device_slug("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200 (80 GB)")
    assert results.device_slug("cuda:1") == "nvidia-h200-80-gb"


# The pages


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another root for the pages."""
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    begin, end = "<!-- models: generated by benchmarks/report.py -->", "<!-- /models -->"
    (root / "README.md").write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(report, "ROOT", root)
    return root


def test_the_page_shows_what_was_measured_when_and_on_which_level(pages: Path) -> None:
    right, wrong = "mask_rcnn_resnest50", "faster_rcnn_resnet50"
    record(
        coco_outcome(
            right, ("box AP", Status.PASS, 42.81, 42.8123), ("mask AP", Status.PASS, 38.14, 38.1399)
        ),
        coco_outcome(wrong, ("box AP", Status.FAIL, 39.25, 31.0)),
    )
    assert report.main([]) == 0
    text = (pages / "MODEL_ZOO.md").read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert set(rows) == {*PUBLISHED, *MMDETECTION, *SHIPPED}
    assert f"| box AP 42.81 ({TODAY}), mask AP 38.14 ({TODAY}) | coco {TODAY} |" in rows[right]
    assert f"| box AP 31.00 ({TODAY}) |  |" in rows[wrong]  # measured, not passed
    assert TODAY not in rows["mask_rcnn_resnet50"]
    conditions = f"- [coco-cpu-float32-torch{TORCH}](benchmarks/results/coco-cpu-float32-torch{TORCH}.csv)"
    assert f"{conditions}: 2 models; pillow 1.2" in text


def test_levels_passed_have_their_dates(pages: Path) -> None:
    figures = {"a.npz": {"boxes": 1e-9}, "b.npz": {"boxes": 3e-6}, "c.npz": {"boxes": 1e-8, "scores": 1e-10}}
    golden = Finding(Status.PASS, figures=figures)
    both = coco_outcome("mask_rcnn_resnest50", ("box AP", Status.PASS, 42.81, 42.81))
    record(ModelOutcome(both.name, {"golden": golden, **both.findings}))
    rows = results.read_results("golden")[f"golden-cpu-float64-torch{TORCH}"]
    assert [(row.metric, row.measured, row.tolerance) for row in rows] == [
        ("boxes", "3.0e-06", "0.0001"),
        ("scores", "1.0e-10", "1e-07"),
    ]
    report.main([])
    assert f"| golden {TODAY}, coco {TODAY} |" in (pages / "MODEL_ZOO.md").read_text()


def test_of_several_runs_the_latest_counts(folder: Path, pages: Path) -> None:
    outcome = coco_outcome("mask_rcnn_resnest50", ("box AP", Status.PASS, 42.81, 42.81))
    record(outcome)
    results.record([outcome], "cpu", {"coco": "float64"}, VERSIONS)  # its file comes later
    late = folder / f"coco-cpu-float64-torch{TORCH}.csv"
    late.write_text(late.read_text().replace(TODAY, "2020-01-01"))
    assert report._passed() == {outcome.name: {"coco": TODAY}}


def test_the_panoptic_row_shows_both_ways(pages: Path) -> None:
    (row,) = info("panoptic_resnest200_3x").reported
    plain, augmented = (
        Comparison("box AP", f"COCO val2017{tta}", row.box or 0, 0.05, Status.PASS, row.box)
        for tta in ("", ", TTA")
    )
    record(
        ModelOutcome("panoptic_resnest200_3x", {"coco": Finding(Status.PASS, comparisons=(plain, augmented))})
    )
    report.main([])
    assert f"box AP 51.00 ({TODAY}); box AP 51.00 ({TODAY}) with TTA" in (pages / "MODEL_ZOO.md").read_text()


def test_check_says_what_is_stale_and_writes_nothing(pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in pages.rglob("*") if path.is_file()}
    assert report.main(["--check"]) == 1
    assert {path: path.read_bytes() for path in pages.rglob("*") if path.is_file()} == before
    of_docs = [
        str(Path("docs", name)) for name in ("export.md", "models.svg", "sources.md", "speed.md", "speed.svg")
    ]
    names = ["MODEL_ZOO.md", *of_docs, "README.md"]
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"stale: {name}" for name in names)
    assert report.main([]) == 0
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == ["written"] * len(names)
    assert report.main(["--check"]) == 0
    readme = (pages / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("\nafter\n")
    assert "old" not in readme
    assert readme.count("`panoptic_resnest200_3x`") == 1


# Times


def speeds(*ratios: tuple[str, float]) -> list[speed.Speed]:
    return [speed.Speed(name, ratio, ratio, 1.0, 10, 1, TODAY, "torchvision 0") for name, ratio in ratios]


def test_times_are_read_as_they_were_written(folder: Path) -> None:
    written = speeds(("faster_rcnn_resnet50", 1.0), ("mask_rcnn_resnest50", 1.75))
    speed.record(written[:1])
    path = speed.record(written[1:])
    assert path == folder / f"speed-cpu-float32-torch{TORCH}.csv"
    assert speed.read_speeds() == {f"speed-cpu-float32-torch{TORCH}": written}


def test_the_chart_has_a_second_diagram_where_times_are(pages: Path, folder: Path) -> None:
    report.main([])
    without = (pages / "docs" / "models.svg").read_text()
    ElementTree.fromstring(without)
    assert without.count("<circle") == 21 + 5  # and the legend
    assert "time for one picture" not in without
    late = ("mask_cascade_resnest200_dcn_3x", 4.9)  # of 5: its label would reach into the legend
    measured = speeds(("faster_rcnn_resnet50", 1.0), ("panoptic_resnest200_3x", 4.2), late)
    speed.record(measured)
    report.main([])
    with_times = (pages / "docs" / "models.svg").read_text()
    drawing = ElementTree.fromstring(with_times)
    assert with_times.count("<circle") == 21 + 3 + 5
    assert with_times.count('text-anchor="end" font-size="10"') == 1 + 2
    assert "time for one picture, faster_rcnn_resnet50 = 1" in with_times
    _, _, width, height = map(float, drawing.attrib["viewBox"].split())
    for element in drawing.iter():
        assert 0 <= float(element.get("cx") or element.get("x") or 0) <= width
        assert 0 <= float(element.get("cy") or element.get("y") or 0) <= height
    assert f"speed-cpu-float32-torch{TORCH}.csv): 3 models; 1 threads" in (pages / "MODEL_ZOO.md").read_text()


def test_a_chart_places_a_model_by_its_numbers() -> None:
    entries = {name: info(name) for name in PUBLISHED}
    entries["mask_rcnn_resnest50"] = replace(
        entries["mask_rcnn_resnest50"],
        parameters=90_000_000,
        reported=(Reported("COCO", "val2017", False, 45.0),),
    )
    drawing = ElementTree.fromstring(chart.chart(list(entries.values()), {}))
    places = {
        str(title.text): (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
        for circle in drawing.iter("{http://www.w3.org/2000/svg}circle")
        for title in circle
    }
    # Half of the way from 40 M to 140 M, and from 38 AP to 52.
    assert places["mask_rcnn_resnest50: 45.00"] == (56 + 674 / 2, (56 + 422) / 2)
