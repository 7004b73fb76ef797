"""Rows of class layers follow the names of the classes, whatever their order."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import resnest_zoo
from resnest_zoo.categories import SHAPES, Categories
from resnest_zoo.checkpoint import load_checkpoint, model_metadata, write_safetensors
from resnest_zoo.checkpoint.class_rows import take_rows
from resnest_zoo.config import load_config
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.training.initial import load_initial
from tests.training.small_run import PANOPTIC, SMALL

THREE = Categories(("a", "b", "c"), (1, 2, 3), ("things", "sky", "sea"), (0, 11, 12))
ORDERED = Categories(("c", "a", "b"), (1, 2, 3), ("things", "sea", "sky"), (0, 11, 12))
COUNTS = {"MODEL.ROI_HEADS.NUM_CLASSES": 3, "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3}
CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}


def small(categories: Categories, seed: int, **changes: object) -> GeneralizedRCNN:
    torch.manual_seed(seed)
    model = build_model(
        load_config("Base-RCNN-FPN.yaml", {**SMALL, **PANOPTIC, **COUNTS, **changes}), categories
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.uniform_(-1, 1)
    return model


@pytest.mark.parametrize("rows_of_each", [1, 4])
@pytest.mark.parametrize("background", [0, 1])
def test_each_class_gets_the_rows_of_its_name(rows_of_each: int, background: int) -> None:
    loaded = torch.arange(3 * rows_of_each + background).float()[:, None]
    fresh = -1 - loaded
    state, own = {"l.weight": loaded, "m.weight": loaded}, {"l.weight": fresh, "m.weight": fresh}
    rows, lacking = take_rows(state, own, {"l": (("a", "b", "c"), ("c", "new", "a"))})
    k = rows_of_each
    expected = [loaded[2 * k : 3 * k], fresh[k : 2 * k], loaded[:k], loaded[3 * k :]]
    assert list(rows) == ["l.weight"]
    assert torch.equal(rows["l.weight"], torch.cat(expected))
    assert lacking == ["new"]


def test_names_that_repeat_are_taken_in_turn_and_one_class_is_whole() -> None:
    state, own = {"l.bias": torch.arange(4.0)}, {"l.bias": torch.full((4,), -1.0)}
    rows, lacking = take_rows(state, own, {"l": (("a", "b", "a"), ("a", "a", "b"))})
    assert rows["l.bias"].tolist() == [0, 2, 1, 3]
    assert not lacking
    state, own = {"l.bias": torch.arange(2.0)}, {"l.bias": torch.full((2,), -1.0)}
    for before, expected in (("a", [0, 1]), ("b", [-1, -1])):
        rows, lacking = take_rows(state, own, {"l": ((before,), ("a",))})
        assert rows["l.bias"].tolist() == expected
        assert lacking == ["a"] * (before == "b")


def test_nothing_in_common_leaves_the_whole_layer_fresh() -> None:
    state, own = {"l.bias": torch.arange(4.0)}, {"l.bias": torch.full((4,), -1.0)}
    rows, lacking = take_rows(state, own, {"l": (("a", "b", "c"), ("d", "e", "f"))})
    assert rows["l.bias"].tolist() == [-1] * 4
    assert lacking == ["d", "e", "f"]


@pytest.mark.parametrize("changes", [{}, CASCADE])
def test_a_model_of_the_same_classes_in_another_order_finds_the_same(
    changes: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = small(THREE, 1, **changes).eval()
    assert source.config is not None
    write_safetensors(source.state_dict(), tmp_path / "a", model_metadata(source.config.dump(), THREE))
    model = small(ORDERED, 2, **changes).eval()
    names = model.changed_classes(THREE, rename=True)
    assert set(names) == set(model.class_layers)
    with caplog.at_level(logging.INFO):
        load_checkpoint(model, tmp_path / "a", replaceable=model.class_layers, class_names=names)
    assert "in another order; their rows are taken by name" in caplog.text
    predictor = "roi_heads.box_predictor" + (".2" if changes else "")
    own, stored = model.state_dict(), source.state_dict()
    for key in (f"{predictor}.cls_score.weight", f"{predictor}.cls_score.bias"):
        assert torch.equal(own[key], stored[key][[2, 0, 1, 3]])
    assert torch.equal(
        own["roi_heads.mask_head.predictor.bias"], stored["roi_heads.mask_head.predictor.bias"][[2, 0, 1]]
    )
    assert torch.equal(own["sem_seg_head.predictor.bias"], stored["sem_seg_head.predictor.bias"][[0, 2, 1]])
    if not changes:
        boxes = "roi_heads.box_predictor.bbox_pred.weight"
        assert torch.equal(own[boxes].reshape(3, 4, -1), stored[boxes].reshape(3, 4, -1)[[2, 0, 1]])


def test_other_names_start_fresh_with_a_warning_unless_they_are_new_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = small(THREE, 1)
    write_safetensors(source.state_dict(), tmp_path / "a", {})
    other = Categories(("c", "helmet", "vest"), (1, 2, 3), THREE.stuff, THREE.stuff_ids)
    model = small(other, 2)
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.changed_classes(THREE, rename=True) == {}
    names = model.changed_classes(THREE, rename=False)
    load_checkpoint(model, tmp_path / "a", class_names=names)
    assert (
        "the rows of 2 start fresh in the class layers, and the others are taken by name: helmet, vest"
        in (caplog.text)
    )
    key = "roi_heads.box_predictor.cls_score.bias"
    own, stored = model.state_dict()[key], source.state_dict()[key]
    assert torch.equal(own, torch.cat([stored[2:3], fresh[key][1:3], stored[3:]]))
    stuff = "sem_seg_head.predictor.weight"
    assert torch.equal(model.state_dict()[stuff], source.state_dict()[stuff])


@pytest.mark.parametrize("told_by_file", [True, False])
def test_training_starts_from_rows_by_name(told_by_file: bool, tmp_path: Path) -> None:
    source = small(THREE, 1)
    assert source.config is not None
    metadata = model_metadata(source.config.dump(), THREE) if told_by_file else {}
    write_safetensors(source.state_dict(), tmp_path / "a.safetensors", metadata)
    model = small(ORDERED, 2)
    load_initial(model, tmp_path / "a.safetensors", None if told_by_file else THREE)
    key = "roi_heads.box_predictor.cls_score.bias"
    assert torch.equal(model.state_dict()[key], source.state_dict()[key][[2, 0, 1, 3]])


@pytest.mark.parametrize("rename", [True, False])
def test_a_packaged_model_with_its_classes_in_another_order_finds_the_same(rename: bool) -> None:
    name, low = "mask_rcnn_resnest14_dcn_shapes", {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 1e-3}
    turned = Categories((*SHAPES.things[1:], SHAPES.things[0]), SHAPES.thing_ids)
    rng = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8, generator=rng)
    own = resnest_zoo.get(name, overrides=low)
    other = resnest_zoo.get(name, categories=turned, rename=rename, overrides=low)
    (expected,), (found,) = own([picture]), other([picture])
    assert len(found.names) > 0
    assert found.names == expected.names
    assert torch.equal(found.boxes, expected.boxes)


def test_placeholders_say_nothing_about_the_order() -> None:
    numbered = Categories.numbered(3)
    assert small(THREE, 0).changed_classes(numbered, rename=False) == {}
