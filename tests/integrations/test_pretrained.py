"""Models as folders: what is written, that it comes back equal, and what is refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

import resnest_zoo
from resnest_zoo import ModelCard, from_pretrained, get, save_pretrained
from resnest_zoo.checkpoint import write_safetensors
from resnest_zoo.cli import main
from resnest_zoo.config import parse_config
from resnest_zoo.errors import CheckpointError, ConfigError, ImageError, UnknownModelError
from resnest_zoo.models import GeneralizedRCNN

OWN = ["README.md", "config.yaml", "model.safetensors"]


@pytest.fixture
def model(mirror: object) -> GeneralizedRCNN:
    """A mask model of three classes; two of them share a name with nobody's."""
    torch.manual_seed(0)
    logging.getLogger("resnest_zoo").setLevel(logging.ERROR)
    return get("tiny_mask", categories=["helmet", "vest", "a|b `c`"], pretrained=False)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


def assert_equal(one: GeneralizedRCNN, other: GeneralizedRCNN) -> None:
    states = one.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key].cpu(), states[1][key].cpu()) for key in states[0])
    assert one.categories == other.categories
    assert one.config == other.config


@pytest.mark.parametrize("kind", ["detection", "mask", "cascade", "panoptic"])
@pytest.mark.usefixtures("mirror")
def test_a_model_comes_back_equal_and_finds_the_same(kind: str, tmp_path: Path, photos: Path) -> None:
    model = get(f"tiny_{kind}")
    folder = save_pretrained(model, tmp_path / "kept")
    assert names(folder) == OWN
    again = from_pretrained(folder)
    assert_equal(model, again)
    picture = resnest_zoo.Predictor(model, score_threshold=0.0)(photos / "coffee.jpg").image
    one, other = model([picture])[0], again([picture])[0]
    assert len(one) == 10
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.scores, other.scores)
    assert one.names == other.names
    assert not again.training


def test_a_folder_is_taken_wherever_a_model_is_named(
    model: GeneralizedRCNN, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_pretrained(model, tmp_path / "kept")
    assert_equal(model, get(folder))
    assert_equal(model, get(str(folder)))
    assert_equal(model, get("tiny_mask", weights=folder))
    assert_equal(model, from_pretrained(str(folder)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    folder.rename(tmp_path / "org" / "net")
    assert_equal(model, from_pretrained("org/net"))  # the folder, not the repository
    command = ["predict", str(photos / "coffee.jpg"), "--model", "org/net", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    with pytest.raises(ConfigError, match="a folder, which has no revision 'v1'"):
        from_pretrained("org/net", revision="v1")
    changed = from_pretrained("org/net", overrides={"TEST.DETECTIONS_PER_IMAGE": 3})
    assert changed.config is not None
    assert changed.config.test.detections_per_image == 3


def test_the_files_say_what_is_in_them(model: GeneralizedRCNN, tmp_path: Path) -> None:
    folder = save_pretrained(model, tmp_path / "kept")
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    assert parse_config(text, "config.yaml") == model.config
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata()["config"] == text
        assert set(file.keys()) == set(model.state_dict())
    if os.name == "posix":
        (tmp_path / "plain").touch()
        modes = {(folder / name).stat().st_mode for name in OWN}
        assert modes == {(tmp_path / "plain").stat().st_mode}


def test_equal_models_give_equal_files(model: GeneralizedRCNN, tmp_path: Path) -> None:
    one, other = (save_pretrained(model, tmp_path / name / "net") for name in ("a", "b"))
    assert [(one / name).read_bytes() for name in OWN] == [(other / name).read_bytes() for name in OWN]


def test_an_edited_copy_of_the_config_changes_nothing_and_that_is_said(
    model: GeneralizedRCNN, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("resnest_zoo").setLevel(logging.WARNING)
    folder = save_pretrained(model, tmp_path / "kept")
    get(folder)
    assert "differs" not in caplog.text
    with (folder / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("# mine\n")
    assert_equal(model, get(folder))
    assert "config.yaml differs from the config in model.safetensors, which alone counts" in caplog.text
    (folder / "config.yaml").unlink()
    assert_equal(model, get(folder))


def test_a_picture_shows_what_is_found_and_nothing_of_its_camera(tmp_path: Path, photos: Path) -> None:
    model = get("mask_rcnn_resnest14_dcn_shapes")
    model.train()
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    folder = save_pretrained(model, tmp_path / "drawn")  # of a model of shapes, one is drawn
    assert [module.training for module in model.modules()] == modes
    card = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert card["widget"] == [{"src": "example.jpg", "example_title": "Example"}]
    found = resnest_zoo.Predictor(model.eval())(folder / "example.jpg")
    assert {"square", "star"} <= set(found.names)
    assert opened(folder / "example_found.jpg").size == opened(folder / "example.jpg").size == (320, 256)
    photo = opened(photos / "coffee.jpg")
    exif = photo.getexif()
    exif[0x010F] = "camera"
    photo.save(tmp_path / "mine.jpg", exif=exif)
    save_pretrained(model, folder, ModelCard(picture=tmp_path / "mine.jpg"))
    assert opened(folder / "example.jpg").size == (150, 100)
    assert not opened(folder / "example.jpg").getexif()


def test_a_later_call_leaves_nothing_of_an_earlier_one_and_everything_else(
    model: GeneralizedRCNN, tmp_path: Path, photos: Path
) -> None:
    measured = resnest_zoo.Measured.of(model, {"bbox/AP": 1.0}, "COCO", "val2017")
    folder = tmp_path / "kept"
    save_pretrained(model, folder, ModelCard(picture=photos / "coffee.jpg", measured=(measured,)))
    assert names(folder) == [
        ".eval_results/measured.yaml",
        *OWN[:2],
        "example.jpg",
        "example_found.jpg",
        OWN[2],
    ]
    (folder / "notes.txt").write_text("mine")
    save_pretrained(model, folder)
    assert names(folder) == [*OWN, "notes.txt"]
    assert not (folder / ".eval_results").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".kept")] == []


@pytest.mark.parametrize("file", ["README.md", "model.safetensors"])
def test_files_of_something_else_are_never_written_over(
    model: GeneralizedRCNN, tmp_path: Path, file: str
) -> None:
    if file == "README.md":
        (tmp_path / file).write_text("# my project\n")
    else:
        write_safetensors({"a": torch.ones(1)}, tmp_path / file, {})
    before = (tmp_path / file).read_bytes()
    there = names(tmp_path)
    with pytest.raises(ConfigError, match=rf"{file}: is there already .*choose another folder"):
        save_pretrained(model, tmp_path)
    assert (tmp_path / file).read_bytes() == before
    assert names(tmp_path) == there


def test_what_fails_leaves_the_folder_as_it_was(
    model: GeneralizedRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_pretrained(model, tmp_path / "kept")
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        save_pretrained(model, folder, ModelCard(name="new", picture=tmp_path / "broken.jpg"))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(CheckpointError, match="the model kept: 1 tensors hold numbers that are not finite"):
        save_pretrained(model, folder, ModelCard(name="new"))
    with torch.no_grad():
        next(model.parameters()).fill_(0.0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnest_zoo.integrations.pretrained.write_safetensors", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left"):
        save_pretrained(model, folder, ModelCard(name="new"))
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_model_put_together_by_hand_and_a_file_in_the_folders_place_are_refused(
    model: GeneralizedRCNN, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; expected a folder"):
        save_pretrained(model, tmp_path / "file")
    model.config = None
    with pytest.raises(ConfigError, match="put together by hand"):
        save_pretrained(model, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.usefixtures("no_sockets")
def test_what_is_neither_a_folder_nor_a_repository_is_said(tmp_path: Path) -> None:
    for source in ("tiny_mask", tmp_path / "none", "a/b/c", "", "http://host/x"):
        with pytest.raises(UnknownModelError, match="expected a folder of save_pretrained, or a repository"):
            from_pretrained(source)
    (tmp_path / "README.md").touch()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors, .*write hf://org/name"):
        from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="names a revision already"):
        from_pretrained("hf://org/net@v1", revision="v2")
    write_safetensors({"backbone.x": torch.ones(1)}, tmp_path / "model.safetensors", {})
    with pytest.raises(CheckpointError, match="does not tell what model it is of"):
        from_pretrained(tmp_path)
