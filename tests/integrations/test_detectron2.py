"""The zoo's detectors in detectron2: equal to ours, checkpoints both ways, its own training script.

What needs detectron2 runs where it is installed: `python -m pytest -m oracle`.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import resnest_zoo
from benchmarks import golden
from benchmarks.golden_values import image, samples
from resnest_zoo.api import find_config
from resnest_zoo.categories import COCO
from resnest_zoo.checkpoint import model_metadata, write_safetensors
from resnest_zoo.config.loading import resolve_path
from resnest_zoo.data import shapes
from resnest_zoo.errors import CheckpointError, ConfigError, UnknownModelError, ZooError
from resnest_zoo.integrations import detectron2 as theirs
from resnest_zoo.integrations.pretrained import save_pretrained
from resnest_zoo.registry import PUBLISHED, info
from tests.test_pages import blocks

# Warnings are of detectron2's own code.
ORACLE = (pytest.mark.oracle, pytest.mark.filterwarnings("ignore"))
SHIPPED = ("mask_rcnn_resnest14_dcn_shapes", "panoptic_resnest14_dcn_shapes")
ROOT = Path(__file__).parents[2]


def oracle(test: Any) -> Any:
    for mark in ORACLE:
        test = mark(test)
    return test


@pytest.fixture
def detectron2() -> None:
    pytest.importorskip("detectron2", reason="detectron2 is not installed; its source builds in minutes")


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test see a detectron2 of its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    theirs.register.cache_clear()


# ---------------------------------------------------------------------------------- equality


def as_stored(model: Any, cfg: Any, picture: Tensor, conditions: dict[str, Any]) -> dict[str, Any]:
    """What detectron2's model finds, in the form of a golden file."""
    seen: dict[str, Any] = {}
    hooks = [
        model.backbone.register_forward_hook(lambda *call: seen.update(features=call[2])),
        model.proposal_generator.register_forward_hook(lambda *call: seen.update(proposals=call[2][0][0])),
    ]
    height, width = conditions["out_size"].tolist()
    ready = picture.flip(0) if cfg.INPUT.FORMAT == "BGR" else picture
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        # Boxes, their decoding and suppression round to float32 whatever the model's type is, and torchvision
        # then refuses the mixture: here these words mean float64.
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        result = model([{"image": ready, "height": height, "width": width}])[0]
    for hook in hooks:
        hook.remove()
    found, proposals = result["instances"], seen["proposals"]
    stored = conditions | {f"feature_{k}": samples(v.numpy()) for k, v in seen["features"].items()}
    stored |= {
        "proposals": proposals.proposal_boxes.tensor.numpy(),
        "objectness": proposals.objectness_logits.numpy(),
        "boxes": found.pred_boxes.tensor.numpy(),
        "scores": found.scores.numpy(),
        "classes": found.pred_classes.numpy(),
    }
    if found.has("pred_masks"):
        masks = found.pred_masks.numpy()
        stored |= {"mask_area": masks.sum(axis=(1, 2)), "mask_bits": np.packbits(masks)}
        stored["mask_shape"] = np.array(masks.shape)
    if "panoptic_seg" in result:
        segment_map, segments = result["panoptic_seg"]
        stored |= {"sem_seg": result["sem_seg"].argmax(dim=0).numpy(), "panoptic_seg": segment_map.numpy()}
        stored["segments"] = json.dumps(segments)
    return stored


@oracle
@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("name", [*PUBLISHED, *SHIPPED])
def test_detectron2_computes_what_we_compute(name: str) -> None:
    from detectron2.modeling import build_model

    cfg = theirs.get_cfg(name)
    cfg.MODEL.DEVICE = "cpu"
    ours = golden.filled_model(name).double()
    model = build_model(cfg).double().eval()
    loaded = model.load_state_dict(ours.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in loaded.missing_keys)  # of its frozen norms

    conditions = {"size": np.array([96, 128]), "out_size": np.array([120, 160]), "seed": np.array(0)}
    picture = torch.from_numpy(image(96, 128, 0))
    stored = as_stored(model, cfg, picture, conditions)
    got = golden._run(ours, picture, conditions)
    outcome = golden._compare(Path(f"{name}.npz"), stored, got, "float64")
    print(outcome.line())
    assert len(stored["scores"]) > 10
    assert outcome.passed, outcome.failures
    assert "segments" not in stored or json.loads(stored["segments"])


# ---------------------------------------------------------------------------------- configs


@oracle
@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("name", [*PUBLISHED, *SHIPPED])
def test_a_config_names_what_builds_the_right_model(name: str) -> None:
    cfg, ours = theirs.get_cfg(name), find_config(name)
    resnest = "resnest" in name
    assert (theirs.FPN_BACKBONE if resnest else "build_resnet_fpn_backbone") == cfg.MODEL.BACKBONE.NAME
    assert (2 if resnest else 1) == cfg.MODEL.RESNETS.RADIX
    assert cfg.MODEL.RESNETS.AVD is cfg.MODEL.RESNETS.AVG_DOWN is cfg.MODEL.RESNETS.DEEP_STEM is resnest
    assert ours.input.format == cfg.INPUT.FORMAT
    assert list(cfg.MODEL.ANCHOR_GENERATOR.SIZES[0]) == list(ours.model.anchor_generator.sizes[0])
    head = theirs.SEMANTIC_HEAD if name == "panoptic_resnest200_3x" else "SemSegFPNHead"
    assert head == cfg.MODEL.SEM_SEG_HEAD.NAME
    assert cfg.MODEL.WEIGHTS.startswith("resnest-zoo://res") or name in SHIPPED
    assert f"resnest-zoo://{name}" == theirs.get_cfg(name, trained=True).MODEL.WEIGHTS


@oracle
@pytest.mark.usefixtures("detectron2")
def test_registering_twice_is_harmless_and_lets_config_files_be_read() -> None:
    from detectron2.config import get_cfg
    from detectron2.modeling import BACKBONE_REGISTRY

    theirs.register()
    theirs.register()
    assert theirs.BACKBONE in BACKBONE_REGISTRY
    cfg = get_cfg()
    assert (cfg.MODEL.RESNETS.RADIX, cfg.MODEL.RESNETS.DEEP_STEM) == (1, False)  # nothing changed for others
    for name in PUBLISHED:
        get_cfg().merge_from_file(str(resolve_path(str(info(name).config))))


@oracle
@pytest.mark.usefixtures("detectron2")
def test_a_config_is_read_by_its_address() -> None:
    from detectron2.config import get_cfg

    theirs.register()
    cfg = get_cfg()
    cfg.merge_from_file("resnest-zoo://panoptic_resnest200_3x.yaml")
    assert cfg.dump() == theirs.get_cfg("panoptic_resnest200_3x").dump()
    with pytest.raises(UnknownModelError, match="panoptic_resnest200_3x"):
        cfg.merge_from_file("resnest-zoo://panoptic_resnest200.yaml")


@oracle
@pytest.mark.usefixtures("detectron2")
def test_overrides_and_classes_reach_the_model() -> None:
    cfg = theirs.get_cfg(SHIPPED[0], overrides=["TEST.DETECTIONS_PER_IMAGE", "7"])
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7
    model = theirs.load(SHIPPED[0], num_classes=3)
    assert model.roi_heads.num_classes == 3
    assert not model.training


@oracle
@pytest.mark.usefixtures("detectron2")
def test_a_trained_model_is_one_that_has_a_checkpoint(tmp_path: Path) -> None:
    own = tmp_path / "my.yaml"
    own.write_text(find_config(SHIPPED[0]).dump())
    assert theirs.get_cfg(own).MODEL.BACKBONE.NAME == theirs.FPN_BACKBONE
    with pytest.raises(ConfigError, match=r"my\.yaml: a config file has no checkpoint"):
        theirs.get_cfg(own, trained=True)
    alias = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x.yaml"
    assert theirs.get_cfg(alias, trained=True).MODEL.WEIGHTS == "resnest-zoo://faster_rcnn_resnest50"
    folder = save_pretrained(resnest_zoo.get(SHIPPED[0]), tmp_path / "folder")
    assert f"resnest-zoo://{folder}" == theirs.get_cfg(folder, trained=True).MODEL.WEIGHTS


@oracle
@pytest.mark.usefixtures("detectron2")
def test_what_detectron2_cannot_compute_is_refused_by_key() -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.BBOX_REG_CLAMP 'both', as mmdetection's models do"):
        theirs.get_cfg("mask_rcnn_resnest50_mmdet")


@oracle
@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("RADIX", 0, "RADIX: expected an integer from 1"),
        ("DEPTH", 34, "DEPTH: expected 14 or 50"),
        ("RES5_DILATION", 2, "RES5_DILATION: expected 1"),
        ("NORM", "LN", "NORM: expected"),
        (
            "OUT_FEATURES",
            ["res4"],
            "some of res2, res3, res4, res5, the last among them, got res4",
        ),
        ("OUT_FEATURES", ["stem", "res5"], "OUT_FEATURES: expected some of"),
    ],
)
def test_a_backbone_that_is_not_built_here_is_refused(key: str, value: object, complaint: str) -> None:
    from detectron2.modeling import build_backbone

    cfg = theirs.get_cfg(SHIPPED[0])
    cfg.MODEL.RESNETS[key] = value
    with pytest.raises(ConfigError, match=complaint):
        build_backbone(cfg)


@oracle
@pytest.mark.usefixtures("detectron2")
def test_the_bottom_up_network_alone_is_a_backbone_too() -> None:
    from detectron2.modeling import build_backbone

    cfg = theirs.get_cfg(SHIPPED[0])
    cfg.MODEL.BACKBONE.NAME = theirs.BACKBONE
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res5"]
    cfg.MODEL.RESNETS.OTHER_PROJECTS_KEY = 1
    backbone = build_backbone(cfg).eval()
    maps = backbone(torch.zeros(1, 3, 64, 96))
    said = {k: (s.channels, 64 // s.stride, 96 // s.stride) for k, s in backbone.output_shape().items()}
    assert {k: tuple(v.shape[1:]) for k, v in maps.items()} == said
    copied = copy.deepcopy(backbone)
    torch.nn.init.zeros_(copied.res5[0].conv3.norm.weight)
    picture = torch.ones(1, 3, 64, 96)
    assert not torch.equal(copied(picture)["res5"], backbone(picture)["res5"])


@oracle
@pytest.mark.usefixtures("detectron2")
def test_frozen_stages_and_shared_norms_are_as_detectron2_wants_them() -> None:
    from detectron2.modeling import build_backbone

    cfg = theirs.get_cfg("faster_rcnn_resnest50")
    cfg.MODEL.RESNETS.DEPTH = 14
    backbone = build_backbone(cfg)
    network = backbone.bottom_up
    assert not any(p.requires_grad for stage in (network.stem, network.res2) for p in stage.parameters())
    assert all(p.requires_grad for p in network.res3.parameters())
    assert isinstance(network.res3[0].conv1.norm, torch.nn.SyncBatchNorm)
    assert isinstance(network.res3[0].conv2.bn0, torch.nn.SyncBatchNorm)


# ------------------------------------------------------------------------------- predictions


@oracle
@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("name", SHIPPED)
def test_its_predictor_finds_what_ours_finds_deformable_on_the_cpu(name: str) -> None:
    from detectron2.engine import DefaultPredictor

    picture = shapes.draw(2, 0).image  # RGB
    found = resnest_zoo.Predictor(name, score_threshold=0.05)(picture)
    cfg = theirs.get_cfg(name, trained=True)
    cfg.MODEL.DEVICE = "cpu"
    got = DefaultPredictor(cfg)(picture[:, :, ::-1])
    instances = got["instances"]
    assert len(found) > 3
    assert torch.allclose(instances.pred_boxes.tensor, found.boxes, rtol=0, atol=1e-3)
    assert torch.allclose(instances.scores, found.scores, rtol=0, atol=2e-5)
    assert torch.equal(instances.pred_classes, found.classes)
    assert (instances.pred_masks != found.masks).sum() <= 4
    if found.panoptic is not None:
        assert (got["panoptic_seg"][0] != found.panoptic.segment_map).sum() <= 4


# ------------------------------------------------------------------------------- checkpoints


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@oracle
@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("name", SHIPPED)
def test_what_detectron2_saves_loads_here(name: str, tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.solver import build_optimizer

    model = theirs.load(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    optimizer = build_optimizer(theirs.get_cfg(name), model)
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model_final", iteration=7)
    ours = resnest_zoo.get(name, weights=tmp_path / "model_final.pth")
    assert same(state_of(ours), state_of(model))
    assert not same(state_of(ours), state_of(resnest_zoo.get(name)))


@oracle
@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("way", ["name", "file", "absolute", "folder", "written"])
def test_our_checkpoints_load_in_detectron2(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    name = SHIPPED[0]
    cfg = theirs.get_cfg(name)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    ours = resnest_zoo.get(name)
    monkeypatch.chdir(tmp_path)
    best = Path("out", "best.safetensors")
    best.parent.mkdir()
    write_safetensors(ours.state_dict(), best, model_metadata(ours.config.dump(), ours.categories))
    path = {
        "name": f"resnest-zoo://{name}",
        "file": f"resnest-zoo://{best}",
        "absolute": f"resnest-zoo://{best.absolute()}",
        "folder": f"resnest-zoo://{save_pretrained(ours, tmp_path / 'folder')}",
    }.get(way) or str(theirs.write_checkpoint(best, "out/best.pth"))
    with caplog.at_level("WARNING"):
        DetectionCheckpointer(model).load(path)
    assert not caplog.records  # of keys left out or not found
    assert same(state_of(model), state_of(ours))


@oracle
@pytest.mark.usefixtures("detectron2")
def test_a_converted_file_serves_until_its_source_changes(tmp_path: Path) -> None:
    from detectron2.utils.file_io import PathManager

    theirs.register()
    source = tmp_path / "best.safetensors"
    model = resnest_zoo.get(SHIPPED[0])
    write_safetensors(model.state_dict(), source, {})
    first = Path(PathManager.get_local_path(f"resnest-zoo://{source}"))
    stamp = first.stat().st_mtime_ns
    assert PathManager.get_local_path(f"resnest-zoo://{source}") == str(first)
    assert first.stat().st_mtime_ns == stamp
    state = model.state_dict()
    state["backbone.fpn_lateral2.weight"] += 1
    write_safetensors(state, source, {})
    second = Path(PathManager.get_local_path(f"resnest-zoo://{source}"))
    assert second != first
    assert not first.exists()
    assert torch.equal(
        torch.load(second, weights_only=True)["model"]["backbone.fpn_lateral2.weight"],
        state["backbone.fpn_lateral2.weight"],
    )


@oracle
@pytest.mark.usefixtures("detectron2")
def test_nothing_is_written_behind_the_prefix() -> None:
    from detectron2.utils.file_io import PathManager

    theirs.register()
    with pytest.raises(ConfigError, match="read only"):
        PathManager.open(f"resnest-zoo://{SHIPPED[0]}", "wb")
    with pytest.raises(UnknownModelError, match="no_such"):
        PathManager.get_local_path("resnest-zoo://no_such.safetensors")


def test_a_checkpoint_is_written_for_it_without_it(tmp_path: Path) -> None:
    path = theirs.write_checkpoint(SHIPPED[1], tmp_path / "shapes.pth")
    content = torch.load(path, weights_only=True)
    assert same(content["model"], resnest_zoo.get(SHIPPED[1]).state_dict())
    with pytest.raises(UnknownModelError, match=SHIPPED[1]):
        theirs.write_checkpoint(SHIPPED[1] + "s", tmp_path / "other.pth")
    with pytest.raises(UnknownModelError, match="no such file"):
        theirs.write_checkpoint(tmp_path / "none.pth", tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="cannot be written"):
        theirs.write_checkpoint(SHIPPED[1], tmp_path / "no" / "folder.pth")
    assert sorted(tmp_path.glob("*.pth")) == [path]


@pytest.mark.parametrize("prefix", ["", "bottom_up.", "backbone.bottom_up."])
def test_a_backbone_is_written_below_its_place(prefix: str, tmp_path: Path) -> None:
    network = resnest_zoo.get(SHIPPED[0]).backbone.bottom_up
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(state | {"fc.weight": torch.zeros(10, 4)}, tmp_path / "backbone.pth")
    path = theirs.write_checkpoint(tmp_path / "backbone.pth", tmp_path / "written.pth")
    written = torch.load(path, weights_only=True)["model"]
    below = "backbone.bottom_up."
    assert all(key.startswith(below) for key in written)
    assert same({key.removeprefix(below): value for key, value in written.items()}, network.state_dict())


# ---------------------------------------------------------------------------------- training


def write_coco(folder: Path) -> None:
    """Two pictures under the names of COCO's own splits, as detectron2 knows them."""
    categories = [{"id": i, "name": n} for i, n in zip(COCO.thing_ids, COCO.things, strict=True)]
    (folder / "coco" / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (folder / "coco" / split).mkdir()
        images, annotations = [], []
        for number in (1, 2):
            scene = shapes.draw(number, 0)
            height, width = scene.image.shape[:2]
            Image.fromarray(scene.image).save(folder / "coco" / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
            for place, category in ((10, 1), (40, 3)):
                box = [place, place, 30, 20]
                corners = [place, place, place + 30, place, place + 30, place + 20, place, place + 20]
                row = {"image_id": number, "category_id": category, "bbox": box, "area": 600, "iscrowd": 0}
                annotations.append({**row, "id": len(annotations) + 1, "segmentation": [corners]})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "coco" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@oracle
@pytest.mark.usefixtures("detectron2")
def test_its_own_training_script_works_by_one_line(tmp_path: Path) -> None:
    import detectron2

    pytest.importorskip("tensorboard", reason="its trainer writes for TensorBoard, which is not installed")
    script = Path(str(detectron2.__file__)).parents[1] / "tools" / "train_net.py"
    if not script.is_file():
        pytest.skip("detectron2 was installed without its tools")
    line = "import resnest_zoo.integrations.detectron2.registered\n"
    assert line.strip() in (ROOT / "docs" / "detectron2.md").read_text(encoding="utf-8")
    own = tmp_path / "train_net.py"
    source = script.read_text(encoding="utf-8")
    own.write_text(source.replace("import logging\n", f"{line}import logging\n", 1), encoding="utf-8")
    assert line in own.read_text(encoding="utf-8")
    write_coco(tmp_path / "sets")
    name, out = SHIPPED[0], tmp_path / "out"
    command = [sys.executable, str(own), "--num-gpus", "0", "--config-file", f"resnest-zoo://{name}.yaml"]
    options = {
        "MODEL.WEIGHTS": f"resnest-zoo://{name}",
        "MODEL.DEVICE": "cpu",
        "SOLVER.MAX_ITER": "2",
        "SOLVER.STEPS": "()",
        "SOLVER.IMS_PER_BATCH": "2",
        "DATALOADER.NUM_WORKERS": "0",
        "DATASETS.TRAIN": "('coco_2017_train',)",
        "DATASETS.TEST": "('coco_2017_val',)",
        "TEST.PRECISE_BN.ENABLED": "False",
        "OUTPUT_DIR": str(out),
    }
    environment = os.environ | {"DETECTRON2_DATASETS": str(tmp_path / "sets"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, *(word for pair in options.items() for word in pair)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(row) for row in (out / "metrics.json").read_text().splitlines()]
    assert np.isfinite(rows[0]["total_loss"])
    trained = resnest_zoo.get(name, weights=out / "model_final.pth")
    start, end = state_of(resnest_zoo.get(name)), state_of(trained)
    key = "backbone.bottom_up.res5.0.conv1.weight"
    assert not torch.equal(start[key], end[key])


@oracle
@pytest.mark.usefixtures("detectron2")
def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("docs/detectron2.md", "python"):
        exec(compile(block.text, "docs/detectron2.md", "exec"), names)
    assert len(names["instances"]) > 3
    assert same(state_of(names["ours"]), state_of(names["model"]))


# ------------------------------------------------------------------------------------ errors


def fake(monkeypatch: pytest.MonkeyPatch, version: str, **modules: ModuleType | None) -> None:
    package = ModuleType("detectron2")
    package.__version__ = version  # type: ignore[attr-defined]
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "detectron2", package)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"detectron2.{name}", module)


CALLS = [
    theirs.register,
    lambda: theirs.get_cfg(SHIPPED[0]),
    lambda: theirs.load(SHIPPED[0]),
    lambda: __import__("resnest_zoo.integrations.detectron2.registered"),
]


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("call", CALLS)
def test_an_absent_detectron2_is_one_clear_error(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(ZooError, match=r"needs detectron2 0\.6 or later, which is not installed; install it"):
        call()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("version", ["0.5", "0.1.1", "main"])
def test_an_older_detectron2_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, version, modeling=ModuleType("detectron2.modeling"))
    with pytest.raises(ZooError, match=f"0.6 or later, got {version}; install it"):
        theirs.register()


@pytest.mark.usefixtures("forgotten")
def test_a_broken_detectron2_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "0.6", modeling=None)
    with pytest.raises(ZooError, match=r"cannot be imported: .*detectron2\.modeling.*; install it"):
        theirs.load(SHIPPED[0])
