"""Drawings by supervision: the real package where it is installed, one line where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from resnest_zoo.categories import COCO
from resnest_zoo.errors import ConfigError, ZooError
from resnest_zoo.inference.visualize import Style, draw
from resnest_zoo.structures import Instances

pytestmark = pytest.mark.filterwarnings(
    "ignore:OpenCV:UserWarning"
)  # supervision's own, where that is missing
GREY = (90, 90, 90)


def picture() -> Image.Image:
    return Image.new("RGB", (240, 160), GREY)


def instances() -> Instances:
    masks = torch.zeros(2, 160, 240, dtype=torch.bool)
    masks[0, 40:80, 30:90] = True
    masks[1, 90:140, 140:200] = True
    boxes = torch.tensor([[30.0, 40.0, 90.0, 80.0], [140.0, 90.0, 200.0, 140.0]])
    return Instances(boxes, torch.tensor([0.9, 0.6]), torch.tensor([0, 2]), (160, 240), COCO, masks)


def test_its_absence_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ZooError, match=r"pip install 'resnest-zoo\[supervision\]'"):
        draw(picture(), instances(), Style(backend="supervision"))


def test_it_draws_boxes_masks_and_labels() -> None:
    pytest.importorskip("supervision")
    whole = np.asarray(draw(picture(), instances(), Style(backend="supervision")))
    assert whole.shape == (160, 240, 3)
    assert (whole[60, 60] != GREY).any()  # a mask
    assert (whole[150, 20] == GREY).all()
    boxes = np.asarray(draw(picture(), instances(), Style(backend="supervision", masks=False, labels=False)))
    assert (boxes[60, 60] == GREY).all()
    assert (boxes[40, 60] != GREY).any()
    nothing = Style(backend="supervision", boxes=False, masks=False, labels=False)
    assert (np.asarray(draw(picture(), instances(), nothing)) == GREY).all()


def test_its_colours_follow_classes_instances_or_ids() -> None:
    pytest.importorskip("supervision")

    def edges(**choices: object) -> list[tuple[int, ...]]:
        style = Style(backend="supervision", masks=False, labels=False, **choices)  # type: ignore[arg-type]
        pixels = np.asarray(draw(picture(), instances(), style))
        return [tuple(pixels[40, 60].tolist()), tuple(pixels[90, 170].tolist())]

    assert edges(ids=[5, 5])[0] == edges(ids=[5, 5])[1]
    assert edges()[0] != edges()[1]
    assert edges(colour_by="instance") == edges(ids=[0, 1])
    assert edges() == edges(ids=[0, 2])
    assert edges(ids=[-1, 3])  # what is not tracked
    with pytest.raises(ConfigError, match="ids"):
        edges(ids=[1])


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    pytest.importorskip("supervision")
    nothing = instances()[[]]
    assert (np.asarray(draw(picture(), nothing, Style(backend="supervision"))) == GREY).all()
