"""Results read back, and the commands around them; without Ray."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.cli import main
from resnest_zoo.errors import ZooError
from resnest_zoo.integrations.ray.packages import imported


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ray", "pyarrow")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("ray", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_one_line_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict-dataset", str(tmp_path), "-o", str(tmp_path / "out"), "-m", "mask_rcnn_resnest50"]
    assert main(words) == 1
    assert capsys.readouterr().err == "error: ray is not installed: pip install 'resnest-zoo[ray]'\n"
    assert main(["evaluate", "--json", str(tmp_path / "x.json"), "--predictions", str(tmp_path)]) == 1
    assert "pyarrow is not installed: pip install 'resnest-zoo[ray]'" in capsys.readouterr().err
    with pytest.raises(ZooError, match="not installed"):
        imported("ray")


def test_a_wrong_model_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict-dataset", "x", "-o", "y", "-m", "mask_rcnn_resnest55"]) == 1
    assert "mask_rcnn_resnest50" in capsys.readouterr().err


def test_evaluate_wants_a_model_or_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--json", "x.json"]) == 1
    assert "expected --model and --images, or --predictions" in capsys.readouterr().err
    assert main(["evaluate", "--json", "x.json", "--predictions", "x", "--model", "y"]) == 1
    assert "are measured as they are" in capsys.readouterr().err


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from resnest_zoo.data import shapes

    folder = tmp_path_factory.mktemp("shapes") / "shapes"
    shapes.write(folder, count=4, seed=5, split="new")
    return folder


@pytest.fixture(scope="module")
def output(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job writes, without the job."""
    pa = pytest.importorskip("pyarrow", reason="pip install 'resnest-zoo[ray]'")
    from resnest_zoo.integrations.ray.job import Workers, _plan
    from resnest_zoo.integrations.ray.output import Writer, begin, open_store, sole_writer
    from resnest_zoo.integrations.ray.worker import DatasetPredictor

    options = {"score_threshold": 0.05}
    plan = _plan(MODEL, options, Workers())
    folder = tmp_path_factory.mktemp("results") / "found"
    names = sorted(path.name for path in (shapes / "new").iterdir())
    pictures = pa.table({"id": names, "address": [str(shapes / "new" / name) for name in names]})
    worker = DatasetPredictor(MODEL, options, name=plan.name, weights=plan.weights)
    store = open_store(folder)
    with sole_writer(folder, store):
        writer = Writer(store, begin(folder, store, plan.job, resume=False), 3)
        for place in range(len(names)):
            writer.add(worker(pictures.slice(place, 1)))
        writer.flush()
    return folder


MODEL = "mask_rcnn_resnest14_dcn_shapes"


def test_coco_rows_are_those_of_the_predictor(output: Path, shapes: Path, tmp_path: Path) -> None:
    from resnest_zoo.api import Predictor
    from resnest_zoo.evaluation.results import detection_rows
    from resnest_zoo.integrations.ray import read_predictions

    truth = shapes / "annotations" / "instances_new.json"
    found = read_predictions(output)
    predictor = Predictor(MODEL, score_threshold=0.05, device="cpu")
    ids = {image["file_name"]: image["id"] for image in json.loads(truth.read_text())["images"]}
    expected: list[Any] = []
    for name, image_id in sorted(ids.items()):
        expected += detection_rows(predictor(shapes / "new" / name).instances, image_id)
    assert list(found.to_coco(truth)) == expected
    assert len(found) == 4
    assert found.errors() == {}
    written = found.write_coco(tmp_path / "rows.json")
    assert [{**row, "image_id": ids[row["image_id"]]} for row in json.loads(written.read_text())] == expected
    again = dict(found.instances())
    assert found.categories == predictor.model.categories
    assert sum(map(len, again.values())) == len(expected)
    assert found.job["model"] == MODEL
    frame = found.to_pandas()
    assert len(frame) == len(expected)
    assert list(frame["score"]) == [row["score"] for row in expected]


def test_ap_of_results_is_ap_of_the_model(
    output: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = shapes / "annotations" / "instances_new.json"
    assert main(["evaluate", "--json", str(truth), "--predictions", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{truth}: 4 pictures of {output}"
    words = ["evaluate", "-m", MODEL, "-d", "cpu", "--json", str(truth), "--images", str(shapes / "new")]
    assert main([*words, "DATALOADER.NUM_WORKERS", "0"]) == 0
    measured = capsys.readouterr().out.splitlines()
    assert lines[1:] == measured[1:]
    assert float(next(line.split()[1] for line in lines if "segm/AP " in line)) > 30


def test_pictures_without_a_row_are_told(output: Path, shapes: Path, tmp_path: Path) -> None:
    from resnest_zoo.errors import DataError
    from resnest_zoo.integrations.ray import read_predictions

    truth = json.loads((shapes / "annotations" / "instances_new.json").read_text())
    truth["images"].append({**truth["images"][0], "id": 99, "file_name": "more.png"})
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"1 of 5 images of .* have no row \(99\)"):
        read_predictions(output).evaluate(file)
    truth["images"] = truth["images"][1:4]
    file.write_text(json.dumps(truth))
    with pytest.raises(DataError, match="has no image of the name of"):
        read_predictions(output).evaluate(file)
    with pytest.raises(DataError, match=r"no results of `resnest-zoo predict-dataset`"):
        read_predictions(tmp_path)
