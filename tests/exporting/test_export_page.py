"""docs/export.md from top to bottom, and its two files on photographs and on pictures with little in them."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from resnest_zoo import Predictor, get
from resnest_zoo.cli import main
from resnest_zoo.errors import ExportError
from resnest_zoo.exporting.comparison import compare
from resnest_zoo.exporting.graph import FileGraph
from resnest_zoo.inference import Prediction
from resnest_zoo.runtimes import FileDetector
from tests.test_pages import blocks, commands

NAME = "panoptic_resnest14_dcn_shapes"


def run_page() -> dict[str, object]:
    names: dict[str, object] = {}
    for block in blocks("docs/export.md", "python", "sh"):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, "docs/export.md", "exec"), names)
            continue
        for command in commands(block.text):
            assert main(shlex.split(command)[1:]) == 0, command
    return names


def check_equal(found: Prediction, expected: Prediction) -> int:
    """The results of a file and of the model are the same; how many there are."""
    assert len(found) == len(expected)
    assert torch.equal(found.classes, expected.classes)
    assert torch.allclose(found.scores, expected.scores, atol=1e-4)
    assert torch.allclose(found.boxes, expected.boxes, atol=1e-2)
    assert (found.masks != expected.masks).sum() <= 1e-4 * expected.masks.numel()
    assert (found.panoptic.segment_map != expected.panoptic.segment_map).float().mean() < 1e-3
    return len(found)


def drawn(square: bool) -> np.ndarray:
    """A plain picture, and on it a red square or nothing."""
    picture = np.full((192, 192, 3), 200, np.uint8)
    if square:
        picture[60:120, 60:135] = (220, 30, 30)
    return picture


@torch.no_grad()
def check_graph(file: FileDetector, graph: FileGraph, *sizes: tuple[int, int]) -> None:
    """The file alone against the model on the same input, beyond what results show."""
    photograph = torch.from_numpy(data.astronaut()[::2, ::2].copy()).permute(2, 0, 1)
    for height, width in sizes:
        images = photograph[None, :, :height, :width].contiguous()
        inputs = (images, torch.tensor([[height - 7, width - 20]]))
        answer, expected = file._session(*inputs), graph(*inputs)
        assert compare(expected, answer).detections > 1
        count = int(expected["counts"][0])
        assert (answer["masks_pasted"] != expected["masks_pasted"])[0, :count].float().mean() < 1e-4
        assert not answer["masks_pasted"][0, count:].any()


def check_alone() -> None:
    """In a process where nothing else is loaded the file runs, by us and by torch with torchvision."""
    inputs = "torch.zeros((1, 3, 192, 256), dtype=torch.uint8), torch.tensor([[60, 60]])"
    ours = (
        f"import torch; from resnest_zoo import runtimes; runtimes.open_file('shapes.pt2')._session({inputs})"
    )
    theirs = f"import torch, torchvision; torch.export.load('shapes.pt2').module()({inputs})"
    folder = str(Path(__file__).parents[2])
    for code in (ours, theirs):
        code = f"import sys; sys.path.insert(0, {folder!r}); {code}"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_the_page_runs_and_its_files_find_what_the_model_finds(tmp_path: Path, monkeypatch, capsys) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    # torch tells pytest's handler of every step of a trace.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
    names = run_page()
    out = capsys.readouterr().out
    assert "shapes.onnx: " in out
    assert "detections, boxes within" in out
    assert sorted(path.name for path in tmp_path.glob("shapes*")) == ["shapes.onnx", "shapes.pt2"]
    # What the page computes with NumPy is what the front finds.
    counted = [k for k in range(names["counts"][0]) if names["scores"][0, k] >= 0.5]
    assert len(counted) == len(names["found"]) > 1
    assert np.allclose(names["boxes"][0, counted] / names["scale"], names["found"].boxes, atol=0.5)

    model = Predictor(NAME, exact=True, score_threshold=0.3)
    file = Predictor("shapes.onnx", score_threshold=0.3)
    assert all(check_equal(file(one), model(one)) > 3 for one in (data.astronaut(), data.coffee()))
    counts = [check_equal(file(drawn(square)), model(drawn(square))) for square in (True, False)]
    assert counts == [1, 0]
    check_graph(file.model, FileGraph(get(NAME), masks_pasted=True), (192, 256), (256, 192))

    program = Predictor("shapes.pt2", score_threshold=0.3)
    part = np.ascontiguousarray(data.coffee()[:192, 100:356])  # padded on neither side
    assert check_equal(program(part), model(part)) > 0
    for one in (file, program):
        with pytest.raises(ExportError, match="the"):
            one.model._session(torch.zeros((1, 3, 100, 101), dtype=torch.uint8), torch.tensor([[60, 60]]))
    check_alone()
