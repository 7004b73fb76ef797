"""OpenVINO's files: what they find, what is refused, and that there are both or none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import deform_conv2d

import resnest_zoo
from resnest_zoo.errors import ExportError
from resnest_zoo.exporting import exporting, openvino_format
from resnest_zoo.exporting.job import Job
from resnest_zoo.runtimes import files_of, openvino_file
from tests.exporting.test_exporting import Stand, moved

NAME = "mask_rcnn_resnest14_dcn_shapes"
_REASON = "resnest-zoo[openvino] is not installed"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("absent")
def test_without_the_package_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    expected = r"openvino is not installed: pip install 'resnest-zoo\[openvino\]'"
    with pytest.raises(ExportError, match=expected):
        resnest_zoo.export(NAME, tmp_path / "model.xml", size=(64, 64))
    assert not list(tmp_path.iterdir())
    (tmp_path / "model.xml").touch()
    with pytest.raises(ExportError, match=expected):
        resnest_zoo.Predictor(tmp_path / "model.xml")


def test_a_model_is_a_graph_and_its_weights() -> None:
    assert files_of(Path("a/model.xml"), "openvino") == [Path("a/model.xml"), Path("a/model.bin")]
    assert files_of(Path("a/model.onnx"), "onnx") == [Path("a/model.onnx")]


def test_a_graph_without_its_weights_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason=_REASON)
    (tmp_path / "model.xml").write_text("<net/>", encoding="utf-8")
    with pytest.raises(ExportError, match=r"lacks its weights, model\.bin, which belong beside it"):
        openvino_file.open_session(tmp_path / "model.xml")
    (tmp_path / "model.bin").touch()
    with pytest.raises(ExportError, match=r"model\.xml: openvino .* cannot load it: "):
        openvino_file.open_session(tmp_path / "model.xml")


class _DeformConv(nn.Module):
    def __init__(self, groups: int, stride: int, biased: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(groups)
        self.weight = nn.Parameter(torch.randn(8, 4 // groups, 3, 3, generator=generator))
        self.bias = nn.Parameter(torch.randn(8, generator=generator)) if biased else None
        self.stride = stride

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, 1, mask=mask)


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "stride", "biased"), [(1, 1, True), (2, 1, False), (2, 2, True)])
def test_a_deformable_convolution_is_torchvisions(groups: int, stride: int, biased: bool) -> None:
    openvino = pytest.importorskip("openvino", reason=_REASON)
    pytest.importorskip("onnxscript", reason=_REASON)
    generator = torch.Generator().manual_seed(stride)
    height, width = 7 // stride + 7 % stride, 10 // stride
    x = torch.randn(1, 4, 7, 10, generator=generator)
    offset = 3 * torch.randn(1, 18 * groups, height, width, generator=generator)
    mask = torch.rand(1, 9 * groups, height, width, generator=generator)
    module = _DeformConv(groups, stride, biased).eval()
    with torch.no_grad():
        exported = torch.onnx.export(module, (x, offset, mask), opset_version=20, verbose=False)
        expected = module(x, offset, mask).numpy()
    converted = openvino_format.convert(exported.model_proto.SerializeToString())
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (got,) = compiled([x.numpy(), offset.numpy(), mask.numpy()]).values()
    assert np.abs(got - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.slow
def test_a_predictor_of_both_files_finds_what_the_model_finds(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason=_REASON)
    done = resnest_zoo.export(NAME, tmp_path / "model.xml", size=(128, 160))
    assert done.format == "openvino"
    assert done.difference.detections > 0
    assert done.difference.boxes < 1e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    picture = np.full((128, 160, 3), 200, np.uint8)
    picture[40:80, 40:90] = (220, 30, 30)
    found = resnest_zoo.Predictor(tmp_path / "model.xml")(picture)
    assert len(found) == 1
    assert (found.boxes[0] - torch.tensor([40.0, 40, 90, 80])).abs().max() < 5
    weights = tmp_path / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ExportError, match=r"model\.bin beside it is of another export"):
        resnest_zoo.Predictor(tmp_path / "model.xml")


class Pair(Stand):
    """A writer of two files that needs no exporter."""

    def write(self, job: Job, path: Path, *beside: Path) -> None:
        super().write(job, path)
        beside[0].write_bytes(b"its weights")

    def open_session(self, path: Path, file_format: str, *beside: Path) -> Stand:
        assert [part.read_bytes() for part in (path, *beside)] == [b"a file", b"its weights"]
        return self


@pytest.mark.parametrize("agrees", [True, False])
def test_both_files_are_there_or_none(agrees: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair((lambda answer: None) if agrees else moved)
    monkeypatch.setitem(sys.modules, "resnest_zoo.exporting.openvino_format", pair)
    monkeypatch.setattr(exporting, "open_session", pair.open_session)
    folder = tmp_path / "out"
    folder.mkdir()
    if agrees:
        resnest_zoo.export(NAME, folder / "model.xml", size=(128, 160))
    else:
        with pytest.raises(ExportError, match=r"model\.xml: not written, since the file does not do"):
            resnest_zoo.export(NAME, folder / "model.xml", size=(128, 160))
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "model.xml"] * agrees


def test_openvinos_models_of_others_are_refused(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason=_REASON)
    from openvino import opset8

    x = opset8.parameter([1], np.float32)
    openvino.serialize(
        openvino.Model([opset8.relu(x)], [x]), str(tmp_path / "m.xml"), str(tmp_path / "m.bin")
    )
    with pytest.raises(ExportError, match=r"m\.xml: was not written by `resnest-zoo export`"):
        resnest_zoo.Predictor(tmp_path / "m.xml")
