"""Whatever a user's file holds, reading it succeeds or ends in one of this package's errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from resnest_zoo.checkpoint import Checkpoint, read_safetensors_metadata, read_state_dict
from resnest_zoo.config import load_config, resolve_path
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.evaluation.coco_json import load_truth, read_rows
from resnest_zoo.hub import read_lock, read_pins
from resnest_zoo.integrations.mirror import read_manifest
from resnest_zoo.registry import load_zoo
from resnest_zoo.training.curves import draw_curves
from resnest_zoo.training.recorder import read_metrics
from tests.data.small_set import SmallSet
from tests.evaluation.detection_sets import Builder
from tests.mutations import check_each, mutated_bytes, mutated_json, mutated_trees
from tests.tiny_zoo import isolate_registry

COUNT = 60
RESNEST = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x.yaml"

CONFIG = {
    "_BASE_": "base.yaml",
    "MODEL": {
        "MASK_ON": True,
        "PIXEL_MEAN": [103.5, 116.3, 123.7],
        "RESNETS": {"DEPTH": 50, "NORM": "SyncBN", "WIDTH_PER_GROUP": 64, "RADIX": 2, "NUM_GROUPS": 1},
        "FPN": {"OUT_CHANNELS": 256, "NORM": "SyncBN"},
        "ROI_HEADS": {"NUM_CLASSES": 80, "IOU_THRESHOLDS": [0.5]},
        "ROI_BOX_HEAD": {"NUM_CONV": 4, "NUM_FC": 1, "POOLER_RESOLUTION": 7},
        "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]]},
    },
    "INPUT": {"MIN_SIZE_TRAIN": [640, 800], "MIN_SIZE_TRAIN_SAMPLING": "range", "CROP": {"SIZE": [0.9, 0.9]}},
    "SOLVER": {"STEPS": [60000, 80000], "MAX_ITER": 90000, "BASE_LR": 0.02},
    "SEED": 7,
}


def writer(path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path.write_bytes(content)
        return path

    return write


def test_configs(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"_BASE_: {resolve_path('Base-ResNeSt-FPN.yaml')}")
    write = writer(tmp_path / "mine.yaml")

    def use(content: bytes) -> None:
        load_config(write(content))

    check_each(mutated_json(CONFIG, COUNT, depth=2000), use)  # JSON is YAML
    check_each(mutated_bytes(yaml.safe_dump(CONFIG).encode(), COUNT // 2), use)


def test_zoo_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("MODEL: {}")
    write = writer(tmp_path / "zoo.yaml")
    tree = {
        "mine": {
            "task": "object detection",
            "config": "mine.yaml",
            "weights": ["https://host/best-1a2b3c4d.pth", "https://other/best.pth"],
            "sha256": "1a2b3c4d",
            "filename": "mine.pth",
            "size": 123,
            "classes": ["helmet", "vest"],
            "aliases": ["mine-v1"],
            "parameters": 1000,
            "reported": [{"dataset": "site", "split": "val", "tta": False, "box": 61, "mask": 50.5}],
        },
        "other": {"task": "instance segmentation", "config": "mine.yaml", "weights": "runs/best.pth"},
    }

    def use(content: bytes) -> None:
        with monkeypatch.context() as patch:
            isolate_registry(patch)
            load_zoo(write(content))

    check_each(mutated_json(tree, 2 * COUNT, depth=2000), use)
    check_each(mutated_bytes(yaml.safe_dump(tree).encode(), COUNT), use)


def test_lock_files_and_manifests(tmp_path: Path) -> None:
    rows = {f"model-{k}.pth": {"name": f"m{k}", "sha256": f"{k}a" * 32, "size": 10 * k} for k in (1, 2, 3)}
    write = writer(tmp_path / "manifest.json")

    def use(content: bytes) -> None:
        read_lock.cache_clear()
        read_lock(write(content))

    check_each(mutated_json({"files": rows}, COUNT), use)
    check_each(mutated_json({"files": rows}, COUNT), lambda content: read_manifest(write(content).parent))
    read_lock.cache_clear()


def test_damaged_pins_are_put_aside(tmp_path: Path) -> None:
    row = {
        "sha256": "1a" * 32,
        "size": 10,
        "source": "https://host/x",
        "time": "2020-01-01",
        "stamp": [10, 5],
    }
    write = writer(tmp_path / "pins.json")
    for content in mutated_json({"files": {"a.pth": row, "b.pth": {**row, "stamp": None}}}, COUNT):
        read_pins(write(content).parent)


def test_metrics_of_a_run(tmp_path: Path) -> None:
    write = writer(tmp_path / "metrics.jsonl")
    rows = [
        {"iteration": 20, "loss_cls": 1.5, "loss": 2.5, "lr": 0.01, "seconds": 0.1, "memory_mb": 100.0},
        {"iteration": 20, "bbox/AP": 12.5, "bbox/AP50": None},
        {"iteration": 40, "loss_cls": 1.0, "loss": 2.0, "lr": 0.01, "seconds": 0.1, "memory_mb": 100.0},
        {"iteration": 40, "bbox/AP": 13.5, "bbox/AP50": 20.0},
    ]
    whole = "\n".join(map(json.dumps, rows)).encode()
    files = [*mutated_bytes(whole, COUNT)]
    for damaged in mutated_trees(rows, COUNT):
        files.append("\n".join(map(json.dumps, damaged if isinstance(damaged, list) else [damaged])).encode())
    for line in (b"[" * 20_000, b"7", b"[]", b"null", b'"iteration"', b"\xff", b"9" * 5000, b'{"loss": "a"}'):
        files.append(whole + b"\n" + line)
    for number, content in enumerate(files):
        for row in read_metrics(write(content)):
            assert isinstance(row["iteration"], int), row
            assert all(value is None or isinstance(value, (int, float)) for value in row.values()), row
        if number % (len(files) // 4) == 0:  # the rest of what is drawn follows from these types
            with contextlib.suppress(DataError):
                draw_curves(tmp_path)


def test_checkpoints(tmp_path: Path) -> None:
    from safetensors.torch import save

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)}
    file = tmp_path / "model.pth"
    write = writer(file)
    plain = save(
        tensors, metadata={"config": "MODEL: {}", "categories": '{"things": ["a"], "thing_ids": [1]}'}
    )
    torch.save({"model": tensors, "iteration": 5}, file)
    zipped = file.read_bytes()
    torch.save({"model": tensors}, file, _use_new_zipfile_serialization=False)
    stream = file.read_bytes()
    for whole in (plain, zipped, stream):
        check_each(mutated_bytes(whole, 2 * COUNT), lambda content: read_state_dict(write(content)))
    check_each(mutated_bytes(plain, COUNT), lambda content: read_safetensors_metadata(write(content)))

    def use(content: bytes) -> None:
        checkpoint = Checkpoint.open(write(content))
        assert dict(checkpoint)
        assert (checkpoint.config is None) == (checkpoint.categories is None)

    check_each(mutated_bytes(plain, COUNT, seed=1), use)


def test_what_a_checkpoint_tells_of_its_model(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    categories = {"things": ["a", "b"], "thing_ids": [1, 2], "stuff": ["things", "sky"], "stuff_ids": [0, 9]}

    def use(content: bytes) -> None:
        text = content.decode("utf-8", "replace").replace("\0", " ")
        save_file({"a": torch.zeros(1)}, file, {"config": "MODEL: {}", "categories": text})
        assert Checkpoint.open(file).categories

    check_each(mutated_json(categories, COUNT), use)


@pytest.mark.parametrize(
    "key",
    [
        "MODEL.FPN.OUT_CHANNELS",
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "MODEL.ROI_BOX_HEAD.NUM_CONV",
        "SOLVER.MAX_ITER",
        "SEED",
    ],
)
@pytest.mark.parametrize("value", [2**63, 2**64, 10**30])
def test_an_integer_beyond_what_a_machine_holds_is_refused_with_the_range(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{key}: expected an integer from -?[01] to [0-9]+, got {value}"):
        load_config(RESNEST, {key: value})


def test_the_width_of_a_residual_network_has_bounds() -> None:
    for width, bottleneck in ((1, 1), (2**16, 2**16)):
        changes = {"MODEL.RESNETS.WIDTH_PER_GROUP": width, "MODEL.RESNETS.BOTTLENECK_WIDTH": bottleneck}
        with pytest.raises(ConfigError, match=r"BOTTLENECK_WIDTH / 64, .* from 1 to 65536, got"):
            load_config(RESNEST, changes)


def test_a_base_in_the_home_of_nobody_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("_BASE_: ~nobody-at-all/x.yaml")
    with pytest.raises(ConfigError, match=r"mine\.yaml: _BASE_: no such file: .*~nobody-at-all/x.yaml"):
        load_config(tmp_path / "mine.yaml")


@pytest.mark.parametrize("skip_bad", [False, True])
def test_annotations_for_training(tmp_path: Path, skip_bad: bool) -> None:
    data = SmallSet(tmp_path, [(40, 60), (50, 30)])
    files = data.write_panoptic()
    write, write_panoptic = writer(tmp_path / "annotations.json"), writer(files.annotations)

    def use(content: bytes) -> None:
        read_dataset(write(content), data.images, masks=True, skip_bad=skip_bad)

    check_each(mutated_json(data.data, 2 * COUNT), use)

    def use_panoptic(content: bytes) -> None:
        write_panoptic(content)
        read_dataset(data.write(), data.images, panoptic=files, skip_bad=skip_bad)

    check_each(mutated_json(data.panoptic_data(), COUNT), use_panoptic)


def test_annotations_and_result_rows_for_evaluation(tmp_path: Path) -> None:
    """As far as an evaluator, which gets only what was checked."""
    build = Builder(size=(20, 30))
    for image in (1, 2):
        build.image(image)
        build.object(image, image, [2, 3, 10, 8])
        build.found(image, image, [2, 3, 10, 8])
    write, write_rows = writer(tmp_path / "truth.json"), writer(tmp_path / "rows.json")

    def use(content: bytes) -> None:
        truth = load_truth(write(content))
        truth.check_masks()
        truth.check_objects()

    check_each(mutated_json(build.truth, 2 * COUNT), use)
    good = load_truth(build.write(tmp_path))

    def use_rows(content: bytes) -> None:
        for masks in (False, True):
            read_rows(write_rows(content), good, masks=masks)

    check_each(mutated_json(build.rows, 2 * COUNT), use_rows)
