"""From an address of mmdetection's to what is drawn into a photograph, with small models."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import resnest_zoo
from resnest_zoo.cli import main
from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub import Artifact
from resnest_zoo.registry import MMDETECTION, info, register
from tests import mmdetection_files
from tests.servers import FileServer
from tests.training.small_run import write_pictures

TINY = (
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "(64,)", "SEED", "1"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "50"),
    *("DATALOADER.NUM_WORKERS", "0"),
)


@pytest.fixture
def served(own_registry: None, server: FileServer, tmp_path: Path) -> FileServer:
    """The eight addresses on this machine, a small model behind each; digits are the files' own."""
    assert server.folder is not None
    states = {}
    for number, name in enumerate(MMDETECTION):
        entry = info(name)
        assert entry.config is not None
        base = entry.config.replace("_s101_", "_s50_")
        if base not in states:
            config = mmdetection_files.small_config(base, tmp_path)
            like = f"{entry.name.removesuffix('_mmdet').replace('101', '50')}"
            states[base] = config, mmdetection_files.their_names(mmdetection_files.filled(config), like)
        config, state = states[base]
        place = server.folder / unquote(urlsplit(entry.artifact.urls[0]).path).lstrip("/")
        place.parent.mkdir(parents=True)
        mmdetection_files.write(place, state, iter=number)
        digits = hashlib.sha256(place.read_bytes()).hexdigest()[:8]
        place = place.rename(place.with_name(f"{place.stem.rpartition('-')[0]}-{digits}.pth"))
        path = place.relative_to(server.folder).as_posix().replace("+", "%2B")
        artifact = Artifact(place.name, (f"{server.url}/{path}",), sha256_prefix=digits)
        register(replace(entry, config=str(config), artifact=artifact, aliases=()), replace=True)
    return server


def test_the_eight_arrive_are_verified_and_draw(
    served: FileServer, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photos / "coffee.jpg"
    for name in MMDETECTION:
        artifact = info(name).artifact
        target = tmp_path / name
        argv = ["predict", str(photo), "--model", name, "--output", str(target), "--device", "cpu"]
        assert main([*argv, "--score-threshold", "0.05"]) == 0
        assert served.paths[-1] == urlsplit(artifact.urls[0]).path
        assert "%2B" in served.paths[-1]
        assert "+" in artifact.filename
        assert (Path(resnest_zoo.fetch(name))).name == artifact.filename
        (drawn,) = [file for file in target.iterdir() if file.suffix in (".jpg", ".png")]
        with Image.open(drawn) as after, Image.open(photo) as before:
            assert after.size == before.size
            assert (np.abs(np.asarray(after, int) - np.asarray(before, int)).max(axis=2) > 60).sum() > 100
        assert "WARNING" not in capsys.readouterr().err
    assert len(served.paths) == len(MMDETECTION), "each is fetched once"


def test_what_arrives_is_what_was_written(served: FileServer) -> None:
    for name in ("mask_cascade_resnest50_mmdet", "faster_rcnn_resnest101_mmdet"):
        config = info(name).config
        assert config is not None
        expected = mmdetection_files.filled(Path(config)).state_dict()
        got = resnest_zoo.get(name).state_dict()
        assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_what_is_converted_is_ours_and_is_preferred(served: FileServer) -> None:
    name = "mask_cascade_resnest50_mmdet"
    expected = resnest_zoo.get(name).state_dict()
    assert main(["convert", name]) == 0
    twin = Path(resnest_zoo.fetch(name)).with_suffix(".safetensors")
    assert "roi_heads.mask_head.2.predictor.weight" in load_file(twin)
    got = resnest_zoo.get(name).state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_other_bytes_are_refused(served: FileServer) -> None:
    assert served.folder is not None
    name = "mask_rcnn_resnest50_mmdet"
    file = served.folder / unquote(urlsplit(info(name).artifact.urls[0]).path).lstrip("/")
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(bytes(body))
    with pytest.raises(IntegrityError, match=file.stem.rpartition("-")[2]):
        resnest_zoo.get(name)


def test_a_checkpoint_that_cannot_be_had_names_its_sibling_elsewhere(
    own_registry: None, server: FileServer
) -> None:
    for name in ("faster_rcnn_resnest50", "faster_rcnn_resnest50_dcn"):
        entry = info(name)
        artifact = replace(entry.artifact, urls=(f"{server.url}/{entry.artifact.filename}",))
        register(replace(entry, artifact=artifact), replace=True)
    hint = r"lies elsewhere: faster_rcnn_resnest50_mmdet \(on download\.openmmlab\.com\)"
    for ask in (resnest_zoo.fetch, resnest_zoo.get):
        with pytest.raises(DownloadError, match=rf"HTTP 404(?s:.*){hint}"):
            ask("faster_rcnn_resnest50")
    with pytest.raises(DownloadError) as caught:
        resnest_zoo.get("faster_rcnn_resnest50_dcn")
    assert "elsewhere" not in str(caught.value), "no other training of it is known"


def test_a_file_that_torch_hub_keeps_under_its_escaped_name_is_adopted(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.folder is not None
    artifact = info("faster_rcnn_resnest50_mmdet").artifact
    path = urlsplit(artifact.urls[0]).path
    kept = tmp_path / "torch" / "hub" / "checkpoints" / path.rpartition("/")[2]
    kept.parent.mkdir(parents=True)
    kept.write_bytes((served.folder / unquote(path).lstrip("/")).read_bytes())
    assert "%2B" in kept.name
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert resnest_zoo.fetch("faster_rcnn_resnest50_mmdet").read_bytes() == kept.read_bytes()
    assert served.paths == []


@pytest.mark.slow
def test_training_starts_from_such_a_checkpoint(tmp_path: Path) -> None:
    """With three mask heads, too: two iterations, own classes, and a checkpoint that tells what it is."""
    base = "MMDetection/cascade-mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco.yaml"
    config = mmdetection_files.small_config(base, tmp_path)
    before = mmdetection_files.filled(config)
    mmdetection_files.write(tmp_path / "theirs.pth", mmdetection_files.their_names(before))
    write_pictures(tmp_path / "data")
    argv = ["--train-json", str(tmp_path / "data" / "annotations.json")]
    argv += ["--train-images", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert (
        main(["train", "--model", str(config), "--weights", str(tmp_path / "theirs.pth"), *argv, *TINY]) == 0
    )
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    losses = {key for line in lines for key in json.loads(line) if key.startswith("loss_mask")}
    assert losses == {f"loss_mask_stage{k}" for k in range(3)}
    after = resnest_zoo.get(tmp_path / "out" / "last.safetensors")
    assert after.categories.things == ("red", "green")
    assert after.config is not None
    assert after.config.model.roi_mask_head.per_stage
    assert after.config.model.bbox_reg_clamp == "both"
    stem = "backbone.bottom_up.stem.conv1_1.weight"  # frozen
    assert torch.equal(after.state_dict()[stem], before.state_dict()[stem])
    (found,) = after([torch.zeros(3, 64, 64, dtype=torch.uint8)])
    assert found.masks is not None
