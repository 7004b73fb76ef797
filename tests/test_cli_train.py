"""The commands `train` and `plot`, and `train_net.py`, from arguments to files."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import resnest_zoo
from resnest_zoo.api import find_config
from resnest_zoo.api.start import Start, find_start
from resnest_zoo.checkpoint import read_safetensors_metadata
from resnest_zoo.cli import main
from resnest_zoo.cli import train_net as script
from resnest_zoo.training.launch import Machines
from tests.training.small_run import PANOPTIC, SMALL, write_pictures

TINY = ("SOLVER.MAX_ITER", "2", "TEST.PRECISE_BN.NUM_ITER", "1", "INPUT.MIN_SIZE_TRAIN", "(64,)", "SEED", "1")
QUIET = ("DATALOADER.NUM_WORKERS", "0")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("resnest_zoo")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def small_yaml(tmp_path: Path) -> Path:
    """The small model as a config file; its classes are the data's."""
    from resnest_zoo.config import load_config

    file = tmp_path / "small.yaml"
    file.write_text(load_config("Base-RCNN-FPN.yaml", SMALL).dump())
    return file


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    given = ["--train-json", str(data / "annotations.json"), "--train-images", str(data)]
    return ["train", *given, "--output", str(output), "--device", "cpu", *more]


def validation(data: Path) -> list[str]:
    return ["--val-json", str(data / "annotations.json"), "--val-images", str(data)]


def weights(folder: Path, name: str) -> str:
    return str(next(folder.glob(f"tiny_{name}-*.pth")))


# --- train --------------------------------------------------------------------------------------------


def test_a_model_of_the_zoo_learns_the_classes_of_the_file(
    tiny: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the checkpoint alone is enough to predict with."""
    output = tmp_path / "out"
    start = ["--model", "tiny_mask", "--weights", weights(tiny, "mask"), *validation(data)]
    assert main(arguments(data, output, *start, *TINY, *QUIET)) == 0
    out = capsys.readouterr().out
    assert "classes        2: red, green" in out
    assert "iterations     2, which is 1.0 times each picture" in out
    model = resnest_zoo.get(output / "best.safetensors")
    assert model.categories == resnest_zoo.Categories(("red", "green"), (3, 8))
    assert model.config is not None
    assert model.config.solver.max_iter == 2
    assert read_safetensors_metadata(output / "best.safetensors")["started_from"] == weights(tiny, "mask")
    picture = str(data / "1.png")
    for given in (
        ["--model", str(output / "best.safetensors")],
        ["--model", "tiny_mask", "--weights", str(output / "best.safetensors")],
    ):
        assert main(["predict", picture, *given, "--json", "--score-threshold", "0", "--device", "cpu"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["categories"] == [{"id": 3, "name": "red"}, {"id": 8, "name": "green"}]


def test_class_layers_alone_start_fresh(
    tiny: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = ["--model", "tiny_detection", "--weights", weights(tiny, "detection")]
    frozen = ("SOLVER.BASE_LR", "0.0")
    assert main(arguments(data, tmp_path / "out", *start, *TINY, *frozen, *QUIET)) == 0
    assert "class layers start fresh: roi_heads.box_predictor.bbox_pred" in caplog.text
    before = resnest_zoo.get("tiny_detection", weights=weights(tiny, "detection"))
    after = resnest_zoo.get(tmp_path / "out" / "last.safetensors")
    assert torch.equal(before.roi_heads.box_head.fc1.weight, after.roi_heads.box_head.fc1.weight)
    assert len(after.roi_heads.box_predictor.cls_score.weight) == 3


def test_a_model_with_masks_learns_boxes_alone_when_told_so(
    tiny: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    annotations = json.loads((data / "annotations.json").read_text())
    for row in annotations["annotations"]:
        del row["segmentation"]
    (data / "annotations.json").write_text(json.dumps(annotations))
    start = ["--model", "tiny_mask", "--weights", weights(tiny, "mask"), *validation(data)]
    assert main(arguments(data, tmp_path / "out", *start, *TINY, *QUIET)) == 1
    assert "MODEL.MASK_ON False" in capsys.readouterr().err
    boxes_alone = ("MODEL.MASK_ON", "False")
    assert main(arguments(data, tmp_path / "out", *start, *TINY, *QUIET, *boxes_alone)) == 0
    assert "left out: roi_heads.mask_head, of which the model has none" in caplog.text
    assert resnest_zoo.get(tmp_path / "out" / "best.safetensors").roi_heads.mask_head is None


def test_a_config_file_starts_from_scratch_and_a_finished_run_is_trained_further(
    data: Path, tmp_path: Path, small_yaml: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(arguments(data, first, "--model", str(small_yaml), "--from-scratch", *TINY)) == 0
    assert main(arguments(data, second, "--model", str(first / "last.safetensors"), *TINY)) == 0
    assert (second / "last.safetensors").is_file()


def test_a_run_is_resumed_and_never_overwritten(
    data: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(data, tmp_path / "out", "--model", str(small_yaml), "--from-scratch")
    assert main([*given, *TINY]) == 0
    capsys.readouterr()
    assert main([*given, *TINY]) == 1
    assert "holds a run already: --resume goes on with it" in capsys.readouterr().err
    longer = [*given, "--resume", "SOLVER.MAX_ITER", "3", *TINY[2:]]
    assert main(longer) == 0
    assert read_safetensors_metadata(tmp_path / "out" / "last.safetensors")["iteration"] == "3"


def test_the_plan_follows_the_arguments(
    data: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys at the end win over everything."""
    plan = ["--iterations", "3", "--batch-size", "4", "--lr", "0.5", "SOLVER.BASE_LR", "0.001", "SEED", "2"]
    assert main(arguments(data, tmp_path / "out", "--model", str(small_yaml), "--from-scratch", *plan)) == 0
    out = capsys.readouterr().out
    assert "batch          4 pictures" in out
    assert "iterations     3, which is 3.0 times each picture" in out
    assert "learning rate  0.001, warm-up 0, lower from (2,)" in out
    assert "evaluation     every 1 iterations and at the end" in out


def test_the_plan_tells_a_cosine_and_a_single_evaluation(
    data: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "TEST.EVAL_PERIOD", "0"]
    start = ["--model", str(small_yaml), "--from-scratch", "--iterations", "1", "--lr", "0.5"]
    assert main(arguments(data, tmp_path / "out", *start, *keys, *QUIET)) == 0
    out = capsys.readouterr().out
    assert "learning rate  0.5, warm-up 0, along a cosine to 0\n" in out
    assert "evaluation     at the end\n" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--val-json", "x.json"], "--val-json and --val-images are given together"),
        (["--ema", "1.5"], "--ema: expected a number from 0 to below 1, got 1.5"),
        (["SOLVER.NO", "1"], "unknown key SOLVER.NO"),
        (["SOLVER.STEPS", "oops"], "SOLVER.STEPS: expected a list"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_read(
    data: Path,
    tmp_path: Path,
    small_yaml: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    (data / "annotations.json").write_text("not read")
    given = arguments(data, tmp_path / "out", "--model", str(small_yaml), "--from-scratch", *more)
    assert main(given) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_key_without_a_value_is_wrong_usage(data: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments(data, tmp_path / "out", "--model", "m", "SOLVER.BASE_LR"))
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("usage: resnest-zoo train ")
    assert "expected KEY VALUE pairs at the end, got an odd number of words: 'SOLVER.BASE_LR'" in shown


def test_missing_data_is_one_message_before_anything_else(
    data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnest_zoo.distributed.join", lambda: pytest.fail("a process joined a run"))
    gone = str(tmp_path / "gone")
    given = arguments(data, tmp_path / "out", "--model", "m", "--val-json", gone, "--val-images", gone)
    assert main(given) == 1
    files = f"{gone}: there is no such file; {gone}: there is no such folder; pictures are looked for there"
    assert capsys.readouterr().err == f"error: {files}\n"


def test_data_that_is_wrong_is_told_whole(
    data: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "annotations.json").read_text())
    content["annotations"][0]["bbox"][2] = 0
    (data / "annotations.json").write_text(json.dumps(content))
    given = arguments(data, tmp_path / "out", "--model", str(small_yaml), "--from-scratch", *TINY)
    assert main(given) == 1
    err = capsys.readouterr().err
    assert "boxes without width or height: 10 (picture 1)" in err
    assert "go on with --skip-bad" in err
    assert main([*given, "--skip-bad"]) == 0


def test_an_unknown_model_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, tmp_path / "out", "--model", "mask_rcnn_resnet5")) == 1
    assert "mask_rcnn_resnet50" in capsys.readouterr().err


# --- plot ---------------------------------------------------------------------------------------------


def test_plot_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(tmp_path)]) == 1
    assert "no run is recorded there" in capsys.readouterr().err


def test_plot_draws_into_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "loss": 1.0, "lr": 0.1}\n')
    assert main(["plot", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


# --- train_net.py -------------------------------------------------------------------------------------


def own(data: Path) -> list[str]:
    return ["--train-json", str(data / "annotations.json"), "--train-images", str(data)]


def test_train_net_trains_and_evaluates_own_data(
    data: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    given = ["--config-file", str(small_yaml), *own(data), *validation(data)]
    assert script.main([*given, "OUTPUT_DIR", str(output), *TINY]) == 0
    assert (output / "config.yaml").is_file()
    written = json.loads(read_safetensors_metadata(output / "best.safetensors")["metrics"])
    given = ["--config-file", str(small_yaml), *validation(data), "--eval-only"]
    assert script.main([*given, "MODEL.WEIGHTS", str(output / "best.safetensors")]) == 0
    out = capsys.readouterr().out
    assert f"bbox/AP        {written['bbox/AP']:6.2f}" in out


def test_train_net_reads_detectron2s_data_sets_by_name(
    data: Path, tmp_path: Path, small_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco = tmp_path / "sets" / "coco"
    (coco / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (coco / split).symlink_to(data)
        (coco / "annotations" / f"instances_{split}.json").symlink_to(data / "annotations.json")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    sets = ["DATASETS.TRAIN", "('coco_2017_train', 'coco_2017_val')", "DATASETS.TEST", "('coco_2017_val',)"]
    given = ["--config-file", str(small_yaml), "OUTPUT_DIR", str(tmp_path / "out"), *sets, *TINY]
    assert script.main(given) == 0
    assert (tmp_path / "out" / "best.safetensors").is_file()


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Other pictures than `data`, under the same ids."""
    write_pictures(tmp_path / "other", count=3, seed=1)
    return tmp_path / "other"


def test_train_net_takes_several_sets_and_measures_each(
    data: Path, other: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [*own(data), *own(other), *validation(other), *validation(data)]
    given = ["--config-file", str(small_yaml), "OUTPUT_DIR", str(tmp_path / "out"), *TINY]
    assert script.main([*sets, *given]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    (measured,) = (row for row in rows if "loss" not in row)
    first, second = (f"{folder / 'annotations.json'}/" for folder in (other, data))
    assert [name for name in measured if name.endswith("bbox/AP")] == [f"{first}bbox/AP", f"{second}bbox/AP"]
    progress = read_safetensors_metadata(tmp_path / "out" / "best.safetensors")
    assert json.loads(progress["metrics"]).items() <= measured.items()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out" / "best.safetensors")]
    assert script.main([*validation(other), *validation(data), *given[:2], "--eval-only", *weights]) == 0
    out = capsys.readouterr().out
    assert out.index(first[:-1]) < out.index(second[:-1])
    for start in (first, second):
        assert f"bbox/AP        {measured[f'{start}bbox/AP']:6.2f}" in out


def test_train_net_reads_every_test_set_before_it_measures_the_first(
    data: Path, other: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config-file", str(small_yaml), "OUTPUT_DIR", str(tmp_path / "out"), *TINY]
    assert script.main([*own(data), *given]) == 0
    (other / "2.png").unlink()
    sets = [*validation(data), *validation(other)]
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out" / "last.safetensors")]
    assert script.main([*sets, *given[:2], "--eval-only", *weights]) == 1
    out, err = capsys.readouterr()
    assert "bbox/AP" not in out
    assert "1 of 3 pictures are missing" in err


def test_train_net_shows_classes_under_other_ids_and_takes_them_by_name(
    data: Path, other: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config-file", str(small_yaml), "OUTPUT_DIR", str(tmp_path / "out"), *TINY]
    assert script.main([*own(data), *given]) == 0
    measure = [*given[:2], "--eval-only", "MODEL.WEIGHTS", str(tmp_path / "out" / "last.safetensors")]
    assert script.main([*validation(other), *measure]) == 0
    expected = capsys.readouterr().out.splitlines()[-20:]
    content = json.loads((other / "annotations.json").read_text())
    turned = {3: 8, 8: 3}
    for row in content["categories"]:
        row["id"] = turned[row["id"]]
    for row in content["annotations"]:
        row["category_id"] = turned[row["category_id"]]
    (other / "annotations.json").write_text(json.dumps(content))
    assert script.main([*validation(other), *measure]) == 1
    assert "3  'green'      'red'" in capsys.readouterr().err
    assert script.main([*validation(other), "--by-name", *measure]) == 0
    assert capsys.readouterr().out.splitlines()[-8:] == expected[-8:]


def test_train_net_refuses_training_sets_of_other_categories(
    data: Path, other: Path, small_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((other / "annotations.json").read_text())
    content["categories"] = [{"id": 3, "name": "blue"}, {"id": 8, "name": "green"}, {"id": 9, "name": "new"}]
    (other / "annotations.json").write_text(json.dumps(content))
    given = ["--config-file", str(small_yaml), "OUTPUT_DIR", str(tmp_path / "out"), *TINY]
    assert script.main([*own(data), *own(other), *given]) == 1
    err = capsys.readouterr().err
    assert f"only in {data / 'annotations.json'}: 3 'red'; " in err
    assert f"only in {other / 'annotations.json'}: 3 'blue', 9 'new'" in err


def test_train_net_learns_own_panoptic_data(data: Path, tmp_path: Path) -> None:
    from resnest_zoo.config import load_config

    file = tmp_path / "panoptic.yaml"
    file.write_text(load_config("Base-RCNN-FPN.yaml", SMALL | PANOPTIC).dump())
    segments = [str(data / "panoptic.json"), str(data / "segments")]
    sets = [*own(data), "--train-panoptic", *segments, *validation(data), "--val-panoptic", *segments]
    assert script.main([*sets, "--config-file", str(file), "OUTPUT_DIR", str(tmp_path / "out"), *TINY]) == 0
    progress = read_safetensors_metadata(tmp_path / "out" / "last.safetensors")
    assert "panoptic_seg/PQ" in json.loads(progress["metrics"])


def test_train_net_names_everything_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert script.main(["--config-file", "faster_rcnn_resnest50"]) == 1
    err = capsys.readouterr().err
    for name in ("instances_train2017.json", "train2017", "instances_val2017.json", "val2017"):
        assert f"{tmp_path / 'coco'}" in err
        assert name in err


def test_train_net_scales_only_when_asked_and_says_what(
    data: Path, tmp_path: Path, small_yaml: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made_for = ("SOLVER.REFERENCE_WORLD_SIZE", "2", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "1")
    given = ["--config-file", str(small_yaml), *own(data)]
    assert script.main([*given, "OUTPUT_DIR", str(tmp_path / "plain"), *made_for]) == 0
    assert "--scale-lr would fit the schedule" in caplog.text
    assert script.main([*given, "--scale-lr", "OUTPUT_DIR", str(tmp_path / "scaled"), *made_for]) == 0
    assert "--scale-lr: SOLVER.BASE_LR 0.01" in caplog.text
    assert "--scale-lr: SOLVER.IMS_PER_BATCH 2" in caplog.text
    assert read_safetensors_metadata(tmp_path / "scaled" / "last.safetensors")["iteration"] == "2"


def test_train_net_starts_as_many_processes_as_it_is_told(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    launched: list[Any] = []
    monkeypatch.setattr(script, "launch", lambda *given: launched.append(given) or 143)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--num-gpus", "3"])
    more = ["--num-machines", "2", "--machine-rank", "1", "--dist-url", "tcp://a:1"]
    with caplog.at_level(logging.INFO):
        given = ["--config-file", "faster_rcnn_resnest50", *own(data), "--num-gpus", "3", *more]
        assert script.main(given) == 143
    assert launched == [([sys.executable, "train_net.py", "--num-gpus", "3"], Machines(3, 2, 1, "tcp://a:1"))]
    assert "no GPU here: 3 processes on the CPU, over gloo" in caplog.text


def test_train_net_names_what_is_missing_before_it_starts_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr(script, "launch", lambda *_: pytest.fail("processes were started"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main(["--config-file", "faster_rcnn_resnest50", "--num-gpus", "3"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("error: ") == 1
    assert "instances_train2017.json" in shown


def test_train_net_without_gpus_runs_on_the_cpu(
    data: Path, tmp_path: Path, small_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # it would be used
    given = ["--config-file", str(small_yaml), *own(data), "--num-gpus", "0", "--set", "MODEL.DEVICE=cuda"]
    assert script.main([*given, "OUTPUT_DIR", str(tmp_path / "out"), *TINY]) == 0
    assert (tmp_path / "out" / "last.safetensors").exists()


def test_train_net_refuses_more_gpus_than_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert script.main(["--config-file", "x", "--num-gpus", "2"]) == 1
    assert "--num-gpus 2: this machine has 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--eval-only", "DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["--train-json", "x.json"], "--train-json and --train-images are given together"),
        (["--val-panoptic", "x.json", "x"], "--val-panoptic is given for each --val-json or for none"),
        (["DATASETS.TRAIN", "('lvis',)"], "lvis: no data set of that name"),
        (["--scale-lr"], "REFERENCE_WORLD_SIZE is 0"),
    ],
)
def test_train_net_refuses_what_cannot_work(
    small_yaml: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert script.main(["--config-file", str(small_yaml), *more]) == 1
    assert message in capsys.readouterr().err


def test_weights_of_train_net_are_paths_names_or_addresses(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, config = Path(weights(tiny, "mask")), find_config("tiny_mask")
    assert find_start("", config) is None
    assert find_start(str(file), config) == Start(file)
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(tiny))
    found = find_start("tiny_mask", config)
    assert found is not None
    assert found.entry == resnest_zoo.info("tiny_mask")
    assert found.path.read_bytes() == file.read_bytes()
    with pytest.raises(
        resnest_zoo.ZooError, match=r"MODEL\.WEIGHTS: 'no/such\.pth': no such file, and No model"
    ):
        find_start("no/such.pth", config)


def test_train_net_refuses_weights_that_are_no_whole_detector_for_evaluation(
    data: Path, tmp_path: Path, small_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is ever measured with layers left at random."""
    file = tmp_path / "part.pth"
    torch.save({"model": {"backbone.bottom_up.stem.conv1_1.weight": torch.zeros(32, 3, 3, 3)}}, file)
    given = ["--config-file", str(small_yaml), *validation(data), "--eval-only", "MODEL.WEIGHTS", str(file)]
    assert script.main(given) == 1
    assert "missing keys" in capsys.readouterr().err
