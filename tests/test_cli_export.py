from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

import resnest_zoo
from resnest_zoo.cli import export, main
from resnest_zoo.errors import ConfigError, UnknownModelError
from resnest_zoo.exporting import WRITERS, Difference, Exported
from resnest_zoo.recognition import EXPORTED
from resnest_zoo.runtimes import FORMATS
from tests.runtimes.eager import as_file

NAME = "mask_rcnn_resnest14_dcn_shapes"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple, dict]]:
    """What `export` was called with; it writes six bytes."""
    calls: list[tuple[tuple, dict]] = []

    def stand(name: str, path: Path, **options: object) -> Exported:
        calls.append(((name, path), options))
        path.write_bytes(b"a file")
        size = None if options["dynamic"] else (64, 96)
        return Exported(path, "onnx", size, Difference(0 if options["dynamic"] else 7, 2e-5, 1e-6))

    monkeypatch.setattr("resnest_zoo.exporting.export", stand)
    return calls


def test_options_reach_export_and_it_is_said_what_was_compared(asked, tmp_path, monkeypatch, capsys: Capture):
    monkeypatch.chdir(tmp_path)
    words = [
        "--size",
        "64",
        "96",
        "--half",
        "--with-masks-pasted",
        "--opset",
        "21",
        "-s",
        "TEST.AUG.FLIP=False",
    ]
    assert main(["export", NAME, *words, "--weights", "w.pth", "TEST.AUG.MAX_SIZE", "9"]) == 0
    ((name, path), options) = asked[0]
    assert (name, path) == (NAME, Path(f"{NAME}.onnx"))
    assert options == {
        "format": None,
        "size": [64, 96],
        "dynamic": False,
        "half": True,
        "masks_pasted": True,
        "opset": 21,
        "weights": "w.pth",
        "overrides": ["TEST.AUG.FLIP", "False", "TEST.AUG.MAX_SIZE", "9"],
    }
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"{NAME}.onnx: 0.0 MB, input of 64 x 96",
        "compared with the model on two drawn pictures: 7 detections, boxes within 2e-05 pixels, "
        "scores within 1e-06",
    ]
    assert main(["export", NAME, "--format", "pt2", "--dynamic"]) == 0
    assert asked[1][0] == (NAME, Path(f"{NAME}.pt2"))
    assert "input of any size\ncompared" in (out := capsys.readouterr().out)
    assert "in which neither finds anything" in out


@pytest.mark.parametrize(
    ("name", "stem"),
    [("out/best.safetensors", "best"), ("hf://org/name@v1", "name"), ("folder/", "folder"), (NAME, NAME)],
)
def test_a_file_is_called_after_the_model(name, stem):
    assert export._stem(name) == stem
    with pytest.raises(ConfigError, match="name it by --output"):
        export._stem("/")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--format", "tflite"], "invalid choice: 'tflite'"),
        (["--size", "64", "96", "--dynamic"], "not allowed with argument"),
        (["--size", "64"], "expected 2 arguments"),
        (["--size", "0", "64"], "expected a whole number above 0, got '0'"),
    ],
)
def test_wrong_usage_is_2(words, complaint, capsys: Capture):
    with pytest.raises(SystemExit) as caught:
        main(["export", NAME, *words])
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_unknown_names_and_files_are_one_line(tmp_path, capsys: Capture):
    assert main(["export", "mask_rcnn_resnest1"]) == 1
    assert "did you mean" in capsys.readouterr().err.lower()
    (tmp_path / "m.onnx").write_bytes(b"")
    assert main(["export", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "n.onnx"), "-f", "pt2"]) == 1
    assert "expected a name that ends in .pt2" in capsys.readouterr().err
    for call in (resnest_zoo.get, lambda name: resnest_zoo.export(name, tmp_path / "m.pt2")):
        with pytest.raises(UnknownModelError, match=r"m.onnx: an exported file is no model to be built"):
            call(tmp_path / "m.onnx")
    assert main(["predict", "x.jpg", "--model", "missing.onnx"]) == 1
    assert "missing.onnx: no such file; `resnest-zoo export` writes one" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXPORTED)
def test_every_format_has_a_writer_and_a_runtime(name, tmp_path, capsys: Capture):
    assert find_spec(f"resnest_zoo.exporting.{WRITERS[name]}")
    assert find_spec(f"resnest_zoo.runtimes.{FORMATS[name][1]}")
    assert main(["predict", "x.jpg", "--model", f"missing{EXPORTED[name]}"]) == 1
    assert "no such file; `resnest-zoo export` writes one" in capsys.readouterr().err
    with pytest.raises(UnknownModelError, match="an exported file is no model to be built"):
        resnest_zoo.get(f"missing{EXPORTED[name]}")


def test_predict_runs_a_file(tmp_path, monkeypatch, capsys: Capture):
    from PIL import Image

    from resnest_zoo.data import shapes

    Image.fromarray(shapes.draw(2, 0).image).save(tmp_path / "photo.png")
    file = as_file(resnest_zoo.get(NAME), tmp_path / "m.onnx")
    monkeypatch.setattr("resnest_zoo.api.open_file", lambda path: file)
    words = ["predict", str(tmp_path / "photo.png"), "--json"]
    assert main([*words, "--model", str(tmp_path / "m.onnx")]) == 0
    of_file = json.loads(capsys.readouterr().out)
    assert main([*words, "--model", NAME, "--exact"]) == 0
    of_model = json.loads(capsys.readouterr().out)
    assert len(of_file["predictions"]) == len(of_model["predictions"]) > 0
    assert of_file["categories"] == of_model["categories"]
    assert of_file["weights"] != of_model["weights"]
    assert main([*words, "--model", str(tmp_path / "m.onnx"), "--exact"]) == 1
    assert "an exported file runs as it was exported; it takes no exact" in capsys.readouterr().err
