"""`Prediction`: a result as people hold it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageShow

from resnest_zoo.categories import COCO
from resnest_zoo.errors import ConfigError, DataError, SelectionError, ShapeError, ZooError
from resnest_zoo.inference import Prediction, prediction
from resnest_zoo.structures import Instances


@pytest.fixture
def found() -> Prediction:
    """A cup and a dining table in a grey picture 40 pixels high and 60 wide."""
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 12:30, 5:20] = True
    masks[1, 2:20, 12:58] = True
    instances = Instances(
        boxes=torch.tensor([[5.0, 12, 20, 30], [12, 2, 58, 20]]),
        scores=torch.tensor([0.75, 0.5]),
        classes=torch.tensor([COCO.things.index("cup"), COCO.things.index("dining table")]),
        image_size=(40, 60),
        categories=COCO,
        masks=masks,
    )
    return Prediction(torch.full((3, 40, 60), 128, dtype=torch.uint8), instances)


def test_the_fields_of_the_instances_are_at_hand(found: Prediction) -> None:
    for field in ("boxes", "scores", "classes", "names", "masks", "panoptic", "categories", "image_size"):
        assert getattr(found, field) is getattr(found.instances, field) or field == "names"
    assert found.names == ["cup", "dining table"]
    assert repr(found) == "2 instances: 1 cup, 1 dining table, 40x60"
    assert found.numpy().scores.tolist() == [0.75, 0.5]


def test_a_prediction_is_indexed_sliced_filtered_and_iterated(found: Prediction) -> None:
    for part in (found[0], found[:1], found[found.scores > 0.6], found[[0]], next(iter(found))):
        assert isinstance(part, Prediction)
        assert part.names == ["cup"]
        assert part.image is found.image
    assert [one.names for one in found] == [["cup"], ["dining table"]]
    assert bool(found)
    assert not found[[]]
    with pytest.raises(SelectionError, match="no instance 2"):
        found[2]


def test_parts_of_a_prediction_make_it_again(found: Prediction) -> None:
    again = Prediction.cat([found[1:], found[:1]])
    assert again.names == ["dining table", "cup"]
    assert again.image is found.image
    other = replace(found, image=found.image + 1)
    with pytest.raises(DataError, match="one picture, got several"):
        Prediction.cat([found, other])
    with pytest.raises(ShapeError, match="got none"):
        Prediction.cat([])


def test_what_is_no_device_is_refused(found: Prediction) -> None:
    for wrong in ("gpu", torch.float16):
        with pytest.raises(ConfigError, match="expected a device, such as 'cpu'"):
            found.to(wrong)  # type: ignore[arg-type]


def test_a_prediction_moves_whole(found: Prediction) -> None:
    moved = found.to("meta")
    assert moved.image.device.type == moved.boxes.device.type == "meta"
    assert found.cpu().image.device.type == "cpu"


@pytest.mark.parametrize("suffix", sorted(prediction._FORMATS))
def test_the_suffix_says_the_format(suffix: str, found: Prediction, tmp_path: Path) -> None:
    path = found.save(str(tmp_path / f"found{suffix.upper()}"))
    with Image.open(path) as picture:
        assert picture.format == prediction._FORMATS[suffix][0]
        assert picture.size == (60, 40)
        saved = picture.convert("RGB")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix in (".png", ".bmp", ".tif"):
        assert saved.tobytes() == found.plot().tobytes()


@pytest.mark.parametrize("name", ["found", "found.json", "found.gif", ".png"])
def test_another_suffix_is_refused_in_a_sentence(name: str, found: Prediction, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a name that ends in one of .*\.png") as caught:
        found.save(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_format_without_room_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    nothing = Instances(
        torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), (1, 70_000), COCO
    )
    wide = Prediction(torch.zeros(3, 1, 70_000, dtype=torch.uint8), nothing)
    with pytest.raises(ZooError, match=r"wide\.jpg: JPEG cannot hold this picture: .*; choose \.png"):
        wide.save(tmp_path / "wide.jpg")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="missing"):
        wide.save(tmp_path / "missing" / "wide.png")


def test_notebooks_show_the_picture(found: Prediction) -> None:
    with Image.open(io.BytesIO(found._repr_png_())) as picture:
        assert picture.tobytes() == found.plot().tobytes()


def test_show_opens_a_viewer(found: Prediction, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Viewer(ImageShow.Viewer):
        def show(self, image: Image.Image, **_: Any) -> int:
            shown.append(image)
            return 1

    monkeypatch.setattr(ImageShow, "_viewers", [Viewer()])
    found.show()
    assert [image.tobytes() for image in shown] == [found.plot().tobytes()]
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(ZooError, match="no program here shows pictures"):
        found.show()
