"""A name becomes verified bytes, the bytes a detector, the detector finds things in a photo."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

import resnest_zoo
from resnest_zoo.api import find_config
from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.errors import (
    CheckpointError,
    ConfigError,
    DownloadError,
    IntegrityError,
    RegistryError,
    UnknownModelError,
)
from resnest_zoo.hub import cache_dir
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.registry import Entry, info, register
from resnest_zoo.structures import Instances
from tests.servers import FileServer, Reply

KINDS = ("detection", "mask", "cascade", "panoptic")
_CLS = "roi_heads.box_predictor.cls_score"


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1).contiguous()


def file_of(kind: str, folder: Path) -> Path:
    return folder / info(f"tiny_{kind}").artifact.filename


def assert_same(a: Instances, b: Instances) -> None:
    assert len(a) > 0
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.scores, b.scores)
    assert a.names == b.names
    if a.masks is not None:
        assert b.masks is not None
        assert torch.equal(a.masks, b.masks)
    if a.panoptic is not None:
        assert b.panoptic is not None
        assert a.panoptic.segments == b.panoptic.segments
        assert torch.equal(a.panoptic.segment_map, b.panoptic.segment_map)


# --- from a name to what is in a photo -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_served_model_finds_what_its_file_finds(
    kind: str, mirror: FileServer, tiny: Path, photo: torch.Tensor
) -> None:
    name, file = f"tiny_{kind}", file_of(kind, tiny)
    model = resnest_zoo.get(name)
    assert mirror.paths == [f"/{file.name}"]
    assert isinstance(model, GeneralizedRCNN)
    assert not model.training
    assert model.device.type == "cpu"
    stored = torch.load(file, weights_only=True)["model"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, stored[key]), key
    (found,) = model([photo])
    (expected,) = resnest_zoo.get(name, weights=file)([photo])
    assert_same(found, expected)
    assert (found.masks is not None) == (kind != "detection")
    assert (found.panoptic is not None) == (kind == "panoptic")


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_call_opens_no_connection(
    kind: str, mirror: FileServer, photo: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    (first,) = resnest_zoo.get(f"tiny_{kind}")([photo])
    assert len(mirror.paths) == 1
    request.getfixturevalue("no_sockets")
    (second,) = resnest_zoo.get(f"tiny_{kind}")([photo])
    assert len(mirror.paths) == 1
    assert_same(first, second)


@pytest.mark.usefixtures("mirror")
def test_fetch_gives_the_verified_file_itself(tiny: Path) -> None:
    path = resnest_zoo.fetch("tiny-detection")
    assert path.read_bytes() == file_of("detection", tiny).read_bytes()
    assert path.name == info("tiny_detection").artifact.filename


def test_wrong_bytes_are_refused(mirror: FileServer, tiny: Path) -> None:
    file = file_of("detection", tiny)
    damaged = bytearray(file.read_bytes())
    damaged[-100] ^= 1
    mirror.replies[f"/{file.name}"] = Reply(bytes(damaged))
    with pytest.raises(IntegrityError, match=r"expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        resnest_zoo.get("tiny_detection")
    assert not [path for path in cache_dir().iterdir() if path.suffix != ".lock"]


def test_a_progress_bar_shows_on_request(mirror: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    resnest_zoo.get("tiny_detection", progress=True)
    shown = capsys.readouterr().err
    assert info("tiny_detection").artifact.filename in shown
    assert "100%" in shown
    resnest_zoo.get("tiny_mask")  # stderr is no terminal here
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("mirror")
def test_a_predictor_takes_the_options_of_get(photo: torch.Tensor) -> None:
    limit = ["TEST.DETECTIONS_PER_IMAGE", "2"]
    predict = resnest_zoo.Predictor("tiny_detection", score_threshold=0, device="cpu", overrides=limit)
    assert len(predict(photo)) == 2


# --- which weights -------------------------------------------------------------------------------------


def test_masks_can_be_switched_off(tiny: Path, photo: torch.Tensor) -> None:
    file = file_of("mask", tiny)
    (whole,) = resnest_zoo.get("tiny_mask", weights=file)([photo])
    (boxes,) = resnest_zoo.get("tiny_mask", weights=file, overrides={"MODEL.MASK_ON": False})([photo])
    assert boxes.masks is None
    assert_same(boxes, replace(whole, masks=None))


def test_a_mask_head_is_left_out_for_nobody_else(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="unexpected keys"):
        resnest_zoo.get("tiny_detection", weights=file_of("mask", tiny))
    with pytest.raises(CheckpointError, match="missing keys"):
        resnest_zoo.get("tiny_mask", weights=file_of("detection", tiny))


@pytest.mark.usefixtures("tiny", "no_sockets")
def test_without_weights_nothing_is_fetched_and_the_model_is_fresh(photo: torch.Tensor) -> None:
    one = resnest_zoo.get("tiny_detection", pretrained=False)
    two = resnest_zoo.get("tiny_detection", pretrained=False)
    assert not one.training
    assert one.categories == COCO
    assert not torch.equal(one.state_dict()[f"{_CLS}.weight"], two.state_dict()[f"{_CLS}.weight"])
    (found,) = one([photo])
    assert found.image_size == (512, 512)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_file_given_as_weights_is_what_is_loaded(tiny: Path, photo: torch.Tensor, pretrained: bool) -> None:
    file = file_of("detection", tiny)
    by_path = resnest_zoo.get("tiny_detection", weights=file, pretrained=pretrained)
    by_text = resnest_zoo.get("tiny_detection", weights=str(file), pretrained=pretrained)
    assert_same(by_path([photo])[0], by_text([photo])[0])


def test_weights_may_be_a_url(tiny: Path, server: FileServer, photo: torch.Tensor) -> None:
    server.folder = tiny
    file = file_of("mask", tiny)
    model = resnest_zoo.get("tiny_mask", weights=f"{server.url}/{file.name}")
    assert server.paths == [f"/{file.name}"]
    assert_same(model([photo])[0], resnest_zoo.get("tiny_mask", weights=file)([photo])[0])


@pytest.mark.usefixtures("tiny")
def test_a_url_that_answers_with_a_page_is_refused(server: FileServer) -> None:
    page = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    for headers in ({}, {"Content-Type": "text/html"}):
        server.replies["/model.pth"] = Reply(page, headers=headers)
        with pytest.raises(IntegrityError, match="got a page of HTML"):
            resnest_zoo.get("tiny_detection", weights=f"{server.url}/model.pth")


@pytest.mark.usefixtures("tiny")
def test_a_url_that_is_not_there_is_refused(server: FileServer) -> None:
    with pytest.raises(DownloadError, match="HTTP 404"):
        resnest_zoo.get("tiny_detection", weights=f"{server.url}/model.pth")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("url", ["s3://bucket/model.pth", "ftp://host/model.pth", "https://host"])
def test_addresses_that_nobody_can_fetch_are_refused_as_such(url: str) -> None:
    with pytest.raises(RegistryError, match=r"is no clean address of a file; expected http\(s\)"):
        resnest_zoo.get("tiny_detection", weights=url)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "but an empty file"),
        (b"<html>gone</html>", "but a page of HTML"),
        (b"what is this", "no checkpoint: expected safetensors"),
        (b"PK\x03\x04 and no more", "damaged or truncated"),
    ],
)
def test_files_that_are_no_checkpoints_are_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.pth: .*{message}"):
        resnest_zoo.get("tiny_detection", weights=path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(part: float, tiny: Path, tmp_path: Path) -> None:
    whole = file_of("detection", tiny).read_bytes()
    path = tmp_path / "half.pth"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match=r"half\.pth: "):
        resnest_zoo.get("tiny_detection", weights=path)


def test_a_checkpoint_of_another_architecture_is_refused_with_its_differences(tiny: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resnest_zoo.get("tiny_detection", weights=file_of("cascade", tiny))
    text = str(caught.value)
    assert "belongs to another model" in text
    assert "missing keys:" in text
    assert "unexpected keys:" in text
    assert "roi_heads.box_predictor.0.bbox_pred.bias" in text
    assert "num_classes" not in text  # which would not help


# --- other classes -------------------------------------------------------------------------------------


def save_own(tmp_path: Path, model: GeneralizedRCNN) -> Path:
    path = tmp_path / "own.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


def test_other_classes_keep_everything_but_the_class_layers(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_of("mask", tiny)
    with caplog.at_level(logging.WARNING):
        model = resnest_zoo.get("tiny_mask", weights=file, num_classes=2)
    warnings = [record.getMessage() for record in caplog.records]
    fresh = [f"{_CLS}", "roi_heads.box_predictor.bbox_pred", "roi_heads.mask_head.predictor"]
    assert len(warnings) == 1
    assert all(layer in warnings[0] for layer in fresh)
    stored = torch.load(file, weights_only=True)["model"]
    for key, value in model.state_dict().items():
        if not key.startswith(tuple(fresh)):
            assert torch.equal(value, stored[key]), key
    assert model.state_dict()[f"{_CLS}.weight"].shape[0] == 3
    assert model.categories == Categories.numbered(2)


def test_one_class_needs_no_new_layers_where_heads_are_class_agnostic(
    tiny: Path, caplog: pytest.LogCaptureFixture, photo: torch.Tensor
) -> None:
    model = resnest_zoo.get("tiny_cascade", weights=file_of("cascade", tiny), num_classes=1)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "bbox_pred" not in message
    for stage in range(3):
        assert f"roi_heads.box_predictor.{stage}.cls_score" in message
    (found,) = model([photo])
    assert set(found.classes.tolist()) <= {0}


def test_the_published_number_of_classes_loads_everything(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = resnest_zoo.get("tiny_mask", weights=file_of("mask", tiny), num_classes=80)
    assert not caplog.records
    assert model.categories == COCO


def test_a_model_of_own_classes_comes_back_with_its_names(
    tiny: Path, tmp_path: Path, photo: torch.Tensor
) -> None:
    names = ["helmet", "vest"]
    trained = resnest_zoo.get("tiny_mask", weights=file_of("mask", tiny), categories=names)
    assert trained.categories == Categories.named(names)
    with torch.no_grad():
        trained.state_dict()[f"{_CLS}.bias"].copy_(torch.tensor([1.0, 2.0, 0.0]))
    path = save_own(tmp_path, trained)
    again = resnest_zoo.get("tiny_mask", weights=path, categories=tuple(names))
    (expected,), (found,) = trained([photo]), again([photo])
    assert_same(expected, found)
    assert set(found.names) <= set(names)
    rows = resnest_zoo.Predictor(again, score_threshold=0)(photo).to_coco()
    assert {row["category_id"] for row in rows} <= {1, 2}


def test_a_file_of_other_classes_is_refused_and_the_message_says_what_to_pass(
    tiny: Path, tmp_path: Path
) -> None:
    own = save_own(tmp_path, resnest_zoo.get("tiny_detection", pretrained=False, num_classes=2))
    with pytest.raises(CheckpointError) as caught:
        resnest_zoo.get("tiny_detection", weights=own)
    text = str(caught.value)
    assert "shape clashes" in text
    assert f"{_CLS}.bias: expected (81,)" in text
    assert "num_classes" in text


def test_categories_keep_ids_of_their_own(tiny: Path) -> None:
    own = Categories(("helmet", "vest"), (7, 30))
    model = resnest_zoo.get("tiny_detection", weights=file_of("detection", tiny), categories=own)
    assert model.categories is own


@pytest.mark.parametrize("options", [{"categories": ["a", "b"]}, {"num_classes": 2}])
def test_a_panoptic_model_keeps_its_stuff(options: dict[str, Any], tiny: Path, photo: torch.Tensor) -> None:
    model = resnest_zoo.get("tiny_panoptic", weights=file_of("panoptic", tiny), **options)
    assert model.categories.stuff == COCO_PANOPTIC.stuff
    assert len(model.categories.things) == 2
    prediction = resnest_zoo.Predictor(model)(photo)
    prediction.to_coco_panoptic()
    prediction.plot()


_STUFF = Categories(
    COCO.things, COCO.thing_ids, ("things", *(f"floor {k}" for k in range(1, 10))), tuple(range(10))
)


@pytest.mark.parametrize(
    "options",
    [{"overrides": ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "10"]}, {"categories": _STUFF}],
)
def test_other_stuff_keeps_everything_but_its_layer(
    options: dict[str, Any], tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, photo: torch.Tensor
) -> None:
    file = file_of("panoptic", tiny)
    model = resnest_zoo.get("tiny_panoptic", weights=file, **options)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith("class layers start fresh: sem_seg_head.predictor")
    stored = torch.load(file, weights_only=True)["model"]
    for key, value in model.state_dict().items():
        if not key.startswith("sem_seg_head.predictor."):
            assert torch.equal(value, stored[key]), key
    assert model.categories.things == COCO.things
    if "categories" in options:
        assert model.categories == _STUFF
    else:
        assert model.categories.stuff == ("things", *(f"stuff_{k}" for k in range(1, 10)))
    caplog.clear()
    again = resnest_zoo.get("tiny_panoptic", weights=save_own(tmp_path, model), **options)
    assert not caplog.records
    assert_same(model([photo])[0], again([photo])[0])


@pytest.mark.usefixtures("no_sockets")
def test_an_entry_may_have_stuff_of_its_own(tiny: Path) -> None:
    register(replace(info("tiny_panoptic"), categories=_STUFF), replace=True)
    assert resnest_zoo.get("tiny_panoptic", pretrained=False).categories == _STUFF


def test_other_things_keep_the_layer_of_the_stuff(tiny: Path) -> None:
    file = file_of("panoptic", tiny)
    model = resnest_zoo.get("tiny_panoptic", weights=file, num_classes=2)
    stored = torch.load(file, weights_only=True)["model"]
    key = "sem_seg_head.predictor.weight"
    assert torch.equal(model.state_dict()[key], stored[key])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 3, "categories": ["a", "b"]}, "num_classes is 3, but 2 categories are named"),
        ({"num_classes": 0}, "NUM_CLASSES"),
        ({"num_classes": -1}, "NUM_CLASSES"),
        ({"num_classes": 2.5}, "NUM_CLASSES"),
        ({"num_classes": True}, "NUM_CLASSES"),
        ({"categories": []}, "NUM_CLASSES"),
        ({"categories": "person"}, "categories: expected a list of names, got the text 'person'"),
        ({"overrides": ["MODEL.ROI_HEADS.NUM_CLASES", "2"]}, "MODEL.ROI_HEADS.NUM_CLASSES"),
        ({"overrides": ["TEST.DETECTIONS_PER_IMAGE"]}, "KEY"),
        ({"overrides": ["TEST.DETECTIONS_PER_IMAGE", "many"]}, "TEST.DETECTIONS_PER_IMAGE"),
        ({"overrides": {"TEST.DETECTIONS_PER_IMAGE": "many"}}, "TEST.DETECTIONS_PER_IMAGE"),
        ({"overrides": "TEST.DETECTIONS_PER_IMAGE 3"}, "overrides: expected .* a mapping .* got 'TEST"),
        ({"overrides": 3}, "overrides: expected .* a mapping .* got 3"),
        ({"overrides": [["TEST.DETECTIONS_PER_IMAGE", "3"], ["A", "B"]]}, "overrides: unknown key"),
        ({"overrides": ["MODEL.WEIGHTS", "a.pth"]}, "overrides: MODEL.WEIGHTS: use weights="),
        ({"overrides": {"MODEL.DEVICE": "cuda"}}, "overrides: MODEL.DEVICE: use device="),
        ({"device": 1.5}, "device '1.5' cannot be used here: "),
        ({"device": "toaster"}, "device 'toaster' cannot be used here: "),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here: "),
    ],
)
def test_wrong_options_are_refused_before_anything_is_fetched(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resnest_zoo.get("tiny_detection", **options)  # no mirror has it


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("overrides", [["TEST.DETECTIONS_PER_IMAGE", "3"], {"TEST.DETECTIONS_PER_IMAGE": 3}])
def test_overrides_change_the_model(overrides: Any, photo: torch.Tensor) -> None:
    model = resnest_zoo.get("tiny_detection", overrides=overrides)
    assert len(model([photo])[0]) == 3
    assert model.config is not None
    assert model.config.test.detections_per_image == 3


def test_an_entry_without_categories_takes_the_number_of_its_config(tiny: Path, photo: torch.Tensor) -> None:
    entry: Entry = info("tiny_detection")
    file = file_of("detection", tiny)
    register(replace(entry, categories=None), replace=True)
    model = resnest_zoo.get("tiny_detection", weights=file)
    assert model.categories == COCO  # 80 classes are COCO's unless someone says otherwise


@pytest.mark.usefixtures("tiny", "no_sockets")
def test_a_zoo_files_entry_has_the_classes_it_states(tiny: Path, tmp_path: Path) -> None:
    names = ["helmet", "vest"]
    save_own(tmp_path, resnest_zoo.get("tiny_detection", pretrained=False, categories=names))
    (tmp_path / "zoo.yaml").write_text(
        f"site:\n  task: object detection\n  config: {info('tiny_detection').config}\n"
        f"  weights: own.pth\n  classes: [helmet, vest]\n"
    )
    resnest_zoo.load_zoo(tmp_path / "zoo.yaml")
    model = resnest_zoo.get("site")
    assert model.categories == Categories.named(names)


# --- config files ------------------------------------------------------------------------------------


# --- checkpoints of training runs ---------------------------------------------------------------------

_OWN = Categories(("cube", "ball"), (7, 2))


@pytest.fixture
def trained(tiny: Path, tmp_path: Path) -> Path:
    """What a run on two classes leaves, with a config of its own."""
    from resnest_zoo.checkpoint import model_metadata, write_safetensors

    model = resnest_zoo.get(
        "tiny_mask", pretrained=False, categories=_OWN, overrides=["TEST.DETECTIONS_PER_IMAGE", "7"]
    )
    assert model.config is not None
    path = tmp_path / "best.safetensors"
    metadata = {"format": "pt", **model_metadata(model.config.dump(), model.categories)}
    write_safetensors(model.state_dict(), path, metadata)
    return path


def test_a_trained_checkpoint_needs_nothing_else(trained: Path, photo: torch.Tensor) -> None:
    for name in (trained, str(trained)):
        model = resnest_zoo.get(name)
        assert model.categories == _OWN
        assert model.config is not None
        assert model.config.test.detections_per_image == 7
        (found,) = model([photo])
        assert found.categories == _OWN
    assert resnest_zoo.Predictor(trained, device="cpu").model.categories == _OWN
    assert find_config(trained) == model.config


def test_a_trained_checkpoint_as_weights_decides_config_and_classes(
    trained: Path, photo: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    model = resnest_zoo.get("tiny_mask", weights=trained)
    assert model.categories == _OWN
    assert not caplog.text
    assert_same_weights(model, resnest_zoo.get(trained))
    assert resnest_zoo.Predictor("tiny_mask", weights=str(trained), device="cpu").model.categories == _OWN


def test_a_trained_checkpoint_of_another_model_is_built_as_it_is_and_the_name_corrected(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = resnest_zoo.get("tiny_cascade", weights=trained)
    assert_same_weights(model, resnest_zoo.get(trained))
    assert "best.safetensors: is not of" in caplog.text


@pytest.mark.parametrize("ending", ["bin", "pth", "yaml", ""])
def test_a_trained_checkpoint_is_known_by_its_bytes_whatever_it_is_called(
    trained: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = trained.rename(trained.with_name(f"renamed.{ending}".rstrip(".")))
    monkeypatch.chdir(renamed.parent)
    for name in (renamed, str(renamed), renamed.name):
        model = resnest_zoo.get(name)
        assert model.categories == _OWN
        assert model.config is not None
        assert model.config.test.detections_per_image == 7
    assert_same_weights(resnest_zoo.get("tiny_cascade", weights=renamed.name), model)


def test_a_trained_checkpoint_comes_from_an_address(trained: Path, server: FileServer) -> None:
    assert server.folder is not None
    (server.folder / "mine").write_bytes(trained.read_bytes())
    expected = resnest_zoo.get(trained)
    for model in (
        resnest_zoo.get(f"{server.url}/mine"),
        resnest_zoo.get("tiny_cascade", weights=f"{server.url}/mine"),
        resnest_zoo.Predictor(f"{server.url}/mine", device="cpu").model,
    ):
        assert model.categories == _OWN
        assert_same_weights(model, expected)
    assert find_config(f"{server.url}/mine") == expected.config
    assert server.paths == ["/mine"]


def test_a_config_is_known_by_its_bytes_too(tiny: Path, tmp_path: Path) -> None:
    own = tmp_path / "config.txt"
    own.write_text(Path(info("tiny_mask").config or "").read_text(encoding="utf-8"), encoding="utf-8")
    model = resnest_zoo.get(own, weights=file_of("mask", tiny))
    assert_same_weights(model, resnest_zoo.get("tiny_mask", weights=file_of("mask", tiny)))


def test_a_trained_checkpoint_starts_a_model_of_other_classes(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = resnest_zoo.get(trained, categories=["a", "b", "c"])
    assert model.categories.things == ("a", "b", "c")
    assert "class layers start fresh" in caplog.text
    before = resnest_zoo.get(trained)
    assert torch.equal(model.roi_heads.box_head.fc1.weight, before.roi_heads.box_head.fc1.weight)


def test_overrides_go_over_the_config_of_a_trained_checkpoint(trained: Path) -> None:
    model = resnest_zoo.get(trained, overrides={"TEST.DETECTIONS_PER_IMAGE": 3})
    assert model.config is not None
    assert model.config.test.detections_per_image == 3


def test_a_checkpoint_that_does_not_tell_its_model_is_refused_as_a_name(tiny: Path, tmp_path: Path) -> None:
    from resnest_zoo.checkpoint import write_safetensors

    path = tmp_path / "bare.safetensors"
    model = resnest_zoo.get("tiny_mask", pretrained=False)
    write_safetensors(model.state_dict(), path, {})
    with pytest.raises(CheckpointError, match="does not tell what model it is of"):
        resnest_zoo.get(path)
    assert_same_weights(resnest_zoo.get("tiny_mask", weights=path), model)
    with pytest.raises(CheckpointError, match=r"none\.safetensors: cannot be read: No such file"):
        resnest_zoo.get(tmp_path / "none.safetensors")


def assert_same_weights(one: GeneralizedRCNN, other: GeneralizedRCNN) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


@pytest.mark.usefixtures("no_sockets")
def test_a_config_file_takes_the_place_of_a_name(
    tiny: Path, tmp_path: Path, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "my own.yaml"
    own.write_text(Path(info("tiny_mask").config or "").read_text(encoding="utf-8"), encoding="utf-8")
    file = file_of("mask", tiny)
    (expected,) = resnest_zoo.get("tiny_mask", weights=file)([photo])
    monkeypatch.chdir(tmp_path)
    for name in (own, str(own), "my own.yaml"):
        assert_same(resnest_zoo.get(name, weights=file)([photo])[0], expected)
    assert len(resnest_zoo.Predictor(own, weights=file, device="cpu")(photo)) > 0
    two = resnest_zoo.get(own, weights=file, categories=["helmet", "vest"])
    assert two.categories == Categories.named(["helmet", "vest"])
    three = resnest_zoo.get(own, pretrained=False, overrides={"MODEL.ROI_HEADS.NUM_CLASSES": 3})
    assert three.categories == Categories.numbered(3)


def test_a_config_file_names_no_weights(tiny: Path) -> None:
    config = info("tiny_mask").config
    assert config is not None
    with pytest.raises(ConfigError, match=r"mask\.yaml: .* pass weights= .*or pretrained=False"):
        resnest_zoo.get(config)
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        resnest_zoo.get("gone.yaml", pretrained=False)


def test_an_alias_that_looks_like_a_file_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alias,) = info("faster_rcnn_resnet50").aliases[:1]
    (tmp_path / f"{alias}.yaml").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    assert resnest_zoo.get(f"{alias}.yaml", pretrained=False).categories == COCO


# --- names ---------------------------------------------------------------------------------------------


def test_a_backbone_is_no_detector() -> None:
    with pytest.raises(
        UnknownModelError, match=r"ImageNet backbone .* resnest_zoo\.fetch\('resnet50_msra'\)"
    ):
        resnest_zoo.get("resnet50_msra")


@pytest.mark.parametrize("name", [None, 5, ["faster_rcnn_resnest50"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(UnknownModelError, match="expected the name of a model or a config file, got "):
        resnest_zoo.get(name)


def test_an_unknown_name_suggests_a_known_one() -> None:
    for call in (resnest_zoo.get, resnest_zoo.fetch, resnest_zoo.Predictor):
        with pytest.raises(UnknownModelError, match="Did you mean 'faster_rcnn_resnest50'"):
            call("faster_rcnn_resnst50")


@pytest.mark.gpu
@pytest.mark.usefixtures("mirror")
def test_a_predictor_takes_the_gpu_if_there_is_one(photo: torch.Tensor) -> None:
    assert resnest_zoo.Predictor("tiny_detection").model.device.type == "cuda"
    assert resnest_zoo.get("tiny_detection").device.type == "cpu"


def test_a_photo_is_what_these_tests_say(photo: torch.Tensor) -> None:
    assert photo.dtype == torch.uint8
    assert np.unique(photo.numpy()).size > 200
