from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import resnest_zoo
from resnest_zoo.errors import ConfigError, ExportError
from resnest_zoo.exporting import exporting, onnx_format, pt2_format
from resnest_zoo.exporting.comparison import compare, make_picture
from resnest_zoo.exporting.graph import FileGraph
from resnest_zoo.exporting.job import Job
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.runtimes import Description, open_file
from tests.models import tiny

SHAPES = "panoptic_resnest14_dcn_shapes"


@pytest.fixture(scope="module")
def model() -> GeneralizedRCNN:
    return tiny.tiny_model(*tiny.MASK).float()


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("m.onnx", {"format": "tflite"}, "format: expected one of onnx, pt2.*, got 'tflite'"),
        ("m.bin", {}, r"m.bin: expected a name that ends in \.onnx or \.pt2"),
        ("m.onnx", {"format": "pt2"}, r"m.onnx: expected a name that ends in \.pt2, by which"),
        ("none/m.pt2", {}, "m.pt2: there is no folder .*none"),
        ("m.pt2", {"size": (64, 96), "dynamic": True}, "give size or dynamic, not both"),
        ("m.pt2", {"size": (64, 100)}, "expected multiples of 32, got 64 x 100; the next are 64 x 128"),
        (
            "m.pt2",
            {"size": (0, 96)},
            r"size: expected \(height, width\) in whole pixels above 0, got \(0, 96\)",
        ),
        ("m.pt2", {"size": 64}, "size: expected .* got 64"),
    ],
)
def test_what_cannot_be_exported_so_is_told_at_once(model, tmp_path, path, options, words):
    with pytest.raises(ExportError, match=words):
        resnest_zoo.export(model, tmp_path / path, **options)
    assert not [file for file in tmp_path.iterdir() if file.name != "home"]


def test_models_that_cannot_be_exported_are_refused(model, tmp_path):
    path = tmp_path / "m.pt2"
    with pytest.raises(ExportError, match=r"the model has no masks"):
        resnest_zoo.export(tiny.tiny_model().float(), path, masks_pasted=True)
    with pytest.raises(ExportError, match=r"on the cpu in float32, got cpu and torch.float64"):
        resnest_zoo.export(tiny.tiny_model(), path)
    with pytest.raises(ExportError, match=r"in training mode; call model.eval"):
        resnest_zoo.export(tiny.tiny_model().float().train(), path)
    with pytest.raises(ExportError, match=r"expected a model as resnest_zoo.get gives it, got Linear"):
        resnest_zoo.export(torch.nn.Linear(1, 1), path)
    with pytest.raises(ExportError, match=r"resizes no picture; give a size, or say dynamic"):
        resnest_zoo.export(tiny.tiny_model("INPUT.MIN_SIZE_TEST", "0").float(), path)
    with pytest.raises(ConfigError, match=r"takes no more arguments of `get`: weights"):
        resnest_zoo.export(model, path, weights="x")
    path.mkdir()
    with pytest.raises(ExportError, match=r"m.pt2: is a folder; name the file in it"):
        resnest_zoo.export(model, path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_a_package_of_onnx_the_extra_is_named(model, tmp_path, monkeypatch, package):
    if package == "onnxruntime":  # the last to be looked for
        monkeypatch.setitem(sys.modules, "onnx", sys)
        monkeypatch.setitem(sys.modules, "onnxscript", sys)
    elif package == "onnxscript":
        monkeypatch.setitem(sys.modules, "onnx", sys)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"{package} is not installed: pip install 'resnest-zoo\[onnx\]'"):
        resnest_zoo.export(model, tmp_path / "m.onnx")


def test_without_onnxruntime_a_file_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ExportError, match=r"onnxruntime is not installed: pip install 'resnest-zoo\["):
        resnest_zoo.Predictor(tmp_path / "m.onnx")


def test_old_opsets_are_refused():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match=r"opset 18: expected 20 to .*: older ones lack the operators"):
        onnx_format.check(18)
    with pytest.raises(ExportError, match=r"opset 999: expected 20 to"):
        onnx_format.check(999)
    onnx_format.check(20)
    onnx_format.check(21)


def test_an_opset_that_the_runtime_lacks_is_refused_before_the_work(monkeypatch):
    """onnxruntime 1.32 has RoiAlign up to opset 21, and the rest up to 26."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no RoiAlign(22)\nand more")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(
        ExportError, match=r"opset 22: onnxruntime .* \(no RoiAlign\(22\)\); take .* 20 or 21$"
    ):
        onnx_format.check(22)


def test_onnxruntime_s_refusal_of_a_file_is_one_line(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "m.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(ExportError, match=r"^[^\n]*m.onnx: onnxruntime [\d.]+ cannot load it: [^\n]+$"):
        open_file(path)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [onnx.helper.make_empty_tensor_value_info("y")])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    with pytest.raises(ExportError, match=r"m.onnx: was not written by `resnest-zoo export`"):
        open_file(path)


class Stand:
    """A writer and a session that need no exporter; `changed` is done to what the graph answers."""

    def __init__(self, changed) -> None:
        self.changed = changed
        self.job: Job | None = None

    def check(self, opset: int) -> None:
        pass

    def write(self, job: Job, path: Path) -> None:
        self.job = job
        path.write_bytes(b"a file")

    def open_session(self, path: Path, file_format: str) -> Stand:
        return self

    @property
    def metadata(self) -> dict[str, str]:
        assert self.job is not None
        return self.job.description.encode()

    @torch.no_grad()
    def __call__(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        assert self.job is not None
        answer = {key: value.clone() for key, value in self.job.graph(images, image_sizes).items()}
        return self.changed(answer) or answer


def stand_in(monkeypatch, changed=lambda answer: None) -> Stand:
    stand = Stand(changed)
    monkeypatch.setitem(sys.modules, "resnest_zoo.exporting.pt2_format", stand)
    monkeypatch.setattr(exporting, "open_session", stand.open_session)
    return stand


def test_a_file_that_agrees_is_done_and_described(monkeypatch, tmp_path):
    stand = stand_in(monkeypatch)
    found = resnest_zoo.export(
        SHAPES, tmp_path / "m.pt2", size=(128, 160), overrides={"TEST.AUG.FLIP": False}
    )
    assert found.path.read_bytes() == b"a file"
    assert (found.format, found.size) == ("pt2", (128, 160))
    assert found.difference.detections > 5
    assert found.difference == replace(found.difference, boxes=0, scores=0, masks=0, semantic=0)
    texts = stand.metadata
    assert texts["resnest_zoo.name"] == SHAPES
    assert json.loads(texts["resnest_zoo.size"]) == [128, 160]
    assert len(texts["resnest_zoo.weights_sha256"]) == 64
    assert stand.job.names == ["boxes", "scores", "classes", "counts", "masks", "semantic"]


def test_the_default_size_is_that_of_the_config_and_dynamic_files_are_compared_at_two(monkeypatch, tmp_path):
    model = tiny.tiny_model().float()
    stand = stand_in(monkeypatch)
    assert resnest_zoo.export(model, tmp_path / "m.pt2").size == (64, 96)
    assert resnest_zoo.export(model, tmp_path / "m.pt2", dynamic=True).size is None
    assert [tuple(images.shape[2:]) for images, _ in stand.job.inputs] == [(96, 96), (96, 96)]
    larger = tiny.tiny_model("INPUT.MIN_SIZE_TEST", "160").float()
    resnest_zoo.export(larger, tmp_path / "m.pt2", dynamic=True)
    assert [tuple(images.shape[2:]) for images, _ in stand.job.inputs] == [(160, 224), (128, 96)]


def moved(answer):
    answer["boxes"][0, 0] += 5


def surer(answer):
    answer["scores"][0, 0] += 2e-4


def fewer(answer):
    answer["counts"][0] -= 1


def other_class(answer):
    answer["classes"][0, 0] += 1


def other_mask(answer):
    answer["masks"][0, 0] *= 0.5


def not_numbers(answer):
    answer["masks"][0, 0] = torch.nan


def without_masks(answer):
    del answer["masks"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (moved, r"the model finds class \d at \[.*\] with score 0\.\d+, and the file does not"),
        (surer, "scores differ from the model's by 0.0002, and 0.0001 is allowed"),
        (fewer, "the model finds class .*, and the file does not"),
        (other_class, "the model finds class .*, and the file does not"),
        (other_mask, r"masks differ from the model's by 0\.\d+, and 0.01 is allowed"),
        (not_numbers, "masks differ from the model's by nan"),
        (without_masks, "the file lacks the outputs masks"),
    ],
)
def test_a_file_that_differs_is_not_written(model, monkeypatch, tmp_path, change, words):
    stand_in(monkeypatch, change)
    target = tmp_path / "m.pt2"
    target.write_bytes(b"an older one")
    with pytest.raises(ExportError, match=rf"m.pt2: not written, .*: {words}"):
        resnest_zoo.export(model, target)
    assert target.read_bytes() == b"an older one"
    assert sorted(file.name for file in tmp_path.iterdir() if file.name != "home") == ["m.pt2"]


@torch.no_grad()
def test_what_the_file_finds_alone_counts_too_but_not_what_hardly_differs(model):
    answer = FileGraph(model)(*make_picture((64, 96), (64, 96), 1))
    fewer_found = {key: value.clone() for key, value in answer.items()}
    fewer_found["counts"][0] -= 1
    with pytest.raises(ExportError, match=r"the file finds class .*, and the model does not"):
        compare(fewer_found, answer)
    weak = {key: value.clone() for key, value in fewer_found.items()}
    count = int(weak["counts"][0])
    weak["scores"][0, count - 1] = 0.30001
    got = {key: value.clone() for key, value in weak.items()}
    got["scores"][0, count - 1] = 0.29995
    assert compare(weak, got).detections == count


@torch.no_grad()
def test_the_surest_are_compared_where_none_is_sure(model):
    answer = FileGraph(model)(*make_picture((64, 96), (64, 96), 1))
    count = int(answer["counts"][0])
    answer["scores"][0, :count] = torch.linspace(0.2, 0.1, count)
    assert compare(answer, answer).detections == min(count, 20) - 1  # the last may be at the model's limit
    got = {key: value.clone() for key, value in answer.items()}
    got["classes"][0, 0] += 1
    with pytest.raises(ExportError, match=r"the model finds class .* with score 0.2000, and"):
        compare(answer, got)


@torch.no_grad()
def test_pictures_without_a_detection_compare():
    model = tiny.tiny_model(*tiny.MASK, *tiny.NOTHING_FOUND).float()
    answer = FileGraph(model)(*make_picture((64, 96), (64, 96), 1))
    assert compare(answer, answer).detections == 0


class Doubled(torch.nn.Module):
    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor]:
        secret = images * 2  # a word that is nobody's business
        return (secret + sizes.sum(),)


def test_a_program_tells_nothing_of_the_machine_that_wrote_it(model: GeneralizedRCNN, tmp_path: Path) -> None:
    description = Description(model.config.dump(), model.categories, (64, 64), 32, 32)
    job = Job(Doubled(), [(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))], description, 20)
    pt2_format.write(job, tmp_path / "m.pt2")
    with zipfile.ZipFile(tmp_path / "m.pt2") as file:
        texts = [file.read(name) for name in file.namelist()]
    assert any(b"aten.mul" in text for text in texts)
    assert not any(word in text for text in texts for word in (b"nobody", b".py", str(tmp_path).encode()))
