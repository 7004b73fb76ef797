"""The front of a file, with the model's own graph in the place of a runtime."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

import resnest_zoo
from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, ExportError
from resnest_zoo.exporting.graph import FileGraph, paste_counted
from resnest_zoo.runtimes import Description, is_exported, open_file
from tests.models import tiny
from tests.runtimes.eager import as_file


@pytest.mark.parametrize("kind", [tiny.FASTER, tiny.MASK, tiny.PANOPTIC], ids=["faster", "mask", "panoptic"])
def test_a_file_of_any_size_finds_what_the_model_finds_for_every_caller(kind, tmp_path):
    model = tiny.tiny_model(*kind).float()
    front = as_file(model, tmp_path / "model.onnx")
    pictures = [tiny.picture(64, 90, seed=1), tiny.picture(120, 70, seed=2)]
    for found, expected in zip(front(pictures), model(pictures), strict=True):
        assert len(found) == len(expected) > 0
        assert torch.allclose(found.boxes, expected.boxes, atol=1e-3)
        assert torch.allclose(found.scores, expected.scores, atol=1e-5)
        assert torch.equal(found.classes, expected.classes)
        if expected.masks is not None:
            assert found.masks is not None
            assert (found.masks != expected.masks).float().mean() < 1e-3
        if expected.panoptic is not None:
            assert found.panoptic is not None
            assert torch.equal(found.panoptic.segment_map, expected.panoptic.segment_map)
    predict = resnest_zoo.Predictor(front, score_threshold=0.4)
    results = list(predict.stream(pictures, batch_size=2))
    assert [len(one) for one in results] == [int((one.scores > 0.4).sum()) for one in model(pictures)]
    assert results[0].plot().size == (90, 64)


def test_a_file_of_one_size_gets_every_picture_shrunk_and_padded_to_it(tmp_path):
    model = tiny.tiny_model().float()
    front = as_file(model, tmp_path / "model.onnx", size=(64, 96))
    front([tiny.picture(64, 90), tiny.picture(128, 128), tiny.picture(300, 100)])
    # The last would be 96 x 32 for the model.
    assert front._session.given == [
        (1, 3, 64, 96, 64, 90),
        (1, 3, 64, 96, 64, 64),
        (1, 3, 64, 96, 64, 21),
    ]
    assert all(len(found) for found in front([tiny.picture(300, 100)]))


def test_a_file_of_any_size_has_a_least_one(tmp_path):
    model = tiny.tiny_model("INPUT.MIN_SIZE_TEST", "0").float()
    front = as_file(model, tmp_path / "model.onnx", least=96)
    front([tiny.picture(20, 130)])
    assert front._session.given == [(1, 3, 96, 160, 20, 130)]


@pytest.mark.parametrize("half", [False, True])
@torch.no_grad()
def test_the_graph_pads_and_normalises_as_the_model_does(half):
    model = tiny.tiny_model(*tiny.MASK).float()
    batch = model.preprocessing.batch([tiny.picture(60, 90)], torch.zeros(1))
    expected = FileGraph(model).core(batch.tensor, torch.tensor(batch.image_sizes))
    images = torch.full((1, 3, 64, 96), 77, dtype=torch.uint8)  # what lies outside does not matter
    images[0, :, :60, :90] = tiny.picture(60, 90)
    graph = FileGraph(model, half=half)
    answer = graph(images, torch.tensor([[60, 90]]))
    for key, value in expected.items():
        assert torch.equal(answer[key], value) != half or key in ("classes", "counts")
    kept = {value.dtype for value in graph.state_dict().values() if value.dim() > 1 and value.numel() > 3}
    assert kept == ({torch.float16} if half else {torch.float32})
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@torch.no_grad()
def test_pasted_masks_are_those_of_the_front_in_pixels_of_the_input():
    from resnest_zoo.ops.masks import paste_masks

    model = tiny.tiny_model(*tiny.MASK, "TEST.DETECTIONS_PER_IMAGE", "200").float()
    images = tiny.picture(64, 96)[None]
    answer = FileGraph(model, masks_pasted=True)(images, torch.tensor([[64, 96]]))
    count = int(answer["counts"][0])
    assert 0 < count < 200
    pasted = answer["masks_pasted"][0]
    assert pasted.shape == (200, 64, 96)
    expected = paste_masks(answer["masks"][0, :count], answer["boxes"][0, :count], (64, 96))
    assert expected.any(dim=(1, 2)).sum() > 10
    assert (pasted[:count] != expected).float().mean() < 1e-4
    assert not pasted[count:].any()
    boxes = torch.tensor([[3.0, 3.0, 3.0, 9.0], [-2.0, 1.0, 4.0, 7.0], [0.0, 0.0, 5.0, 5.0]])
    pasted = paste_counted(torch.ones(3, 28, 28), boxes, torch.tensor(2), (10, 10))
    assert pasted.sum(dim=(1, 2)).tolist() == [0, 4 * 6, 0]


def test_a_weight_beyond_float16_is_named():
    model = tiny.tiny_model().float()
    model.backbone.fpn_lateral2.weight.data[0] = 1e6
    with pytest.raises(ExportError, match=r"half: backbone.fpn_lateral2.weight holds 1e\+06, and float16"):
        FileGraph(model, half=True)


def test_a_description_survives_and_refuses_what_is_not_ours():
    model = tiny.tiny_model(*tiny.PANOPTIC)
    given = Description(model.config.dump(), model.categories, (64, 96), 32, 32, True, "x", "ab")
    texts = given.encode()
    assert Description.decode({**texts, "other": "1"}, "f.onnx") == given
    assert texts["resnest_zoo.task"] == "panoptic segmentation"
    assert Categories(**json.loads(texts["resnest_zoo.categories"])) == model.categories
    with pytest.raises(ExportError, match=r"f.onnx: was not written by `resnest-zoo export`"):
        Description.decode({"other": "1"}, "f.onnx")
    with pytest.raises(ExportError, match=r"is of layout '7', and this version of resnest_zoo reads 1"):
        Description.decode({**texts, "resnest_zoo.format": "7"}, "f.onnx")
    for key, text in [("config", "MODEL: {X: 1}"), ("size", "[1]"), ("categories", "{}"), ("least", "a")]:
        with pytest.raises(ExportError, match=r"f.onnx: its metadata are damaged"):
            Description.decode({**texts, f"resnest_zoo.{key}": text}, "f.onnx")


def test_a_file_refuses_what_only_a_model_can(tmp_path):
    front = as_file(tiny.tiny_model().float(), tmp_path / "model.onnx")
    assert front.to("cpu") is front
    with pytest.raises(ConfigError, match="runs on the cpu here, not on meta"):
        front.to("meta")
    with pytest.raises(ConfigError, match="cannot be copied or optimised"):
        copy.deepcopy(front)
    with pytest.raises(ConfigError, match="cannot be copied or optimised"):
        resnest_zoo.optimize(front)
    with pytest.raises(ExportError, match="is an exported file already"):
        resnest_zoo.export(front, tmp_path / "again.pt2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tta": True}, "it takes no tta"),
        ({"exact": True}, "it takes no exact"),
        ({"weights": "w.pth"}, "it takes no weights"),
        ({"device": "meta"}, "runs on the cpu here, not on meta"),
    ],
)
def test_a_predictor_refuses_what_a_file_cannot_do(options, words):
    with pytest.raises(ConfigError, match=f"model.onnx: .*{words}"):
        resnest_zoo.Predictor("model.onnx", **options)


def test_what_is_no_exported_file_is_told_in_one_line(tmp_path):
    assert is_exported("a/b.ONNX")
    assert is_exported(Path("x.pt2"))
    assert not is_exported("faster_rcnn_resnest50")
    assert not is_exported(None)
    with pytest.raises(ExportError, match=r"model.pt2: no such file; `resnest-zoo export` writes one"):
        resnest_zoo.Predictor(tmp_path / "model.pt2")
    with pytest.raises(ExportError, match=r"expected an exported file, which ends in one of \.onnx"):
        open_file(tmp_path / "model.bin")
    path = tmp_path / "text.pt2"
    path.write_text("hello")
    with pytest.raises(ExportError, match=r"text.pt2: is no file of torch.export"):
        open_file(path)
    with ZipFile(path, "w") as archive:
        archive.writestr("model/data.txt", "x")
    with pytest.raises(ExportError, match=r"text.pt2: was not written by `resnest-zoo export`"):
        open_file(path)
