from __future__ import annotations

import pytest

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.errors import ConfigError


def test_coco_has_80_things_with_sparse_ids():
    assert len(COCO.things) == len(set(COCO.things)) == 80
    assert (COCO.things[0], COCO.thing_ids[0]) == ("person", 1)
    assert (COCO.things[11], COCO.thing_ids[11]) == ("stop sign", 13)
    assert (COCO.things[79], COCO.thing_ids[79]) == ("toothbrush", 90)
    assert list(COCO.thing_ids) == sorted(set(COCO.thing_ids))
    assert COCO.stuff == COCO.stuff_ids == ()


def test_coco_panoptic_has_53_stuff_classes_behind_things():
    assert (COCO_PANOPTIC.things, COCO_PANOPTIC.thing_ids) == (COCO.things, COCO.thing_ids)
    assert len(COCO_PANOPTIC.stuff) == len(set(COCO_PANOPTIC.stuff)) == 54
    assert (COCO_PANOPTIC.stuff[0], COCO_PANOPTIC.stuff_ids[0]) == ("things", 0)
    assert (COCO_PANOPTIC.stuff[1], COCO_PANOPTIC.stuff_ids[1]) == ("banner", 92)
    assert (COCO_PANOPTIC.stuff[53], COCO_PANOPTIC.stuff_ids[53]) == ("rug-merged", 200)
    assert not set(COCO_PANOPTIC.stuff_ids) & set(COCO.thing_ids)


def test_own_classes_count_from_1():
    assert Categories.named(["cat", "dog"]) == Categories(("cat", "dog"), (1, 2))
    assert Categories.numbered(2) == Categories(("class_0", "class_1"), (1, 2))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((("a",), (1, 2)), "1 thing names but 2 thing ids"),
        (((), (), ("s",), ()), "1 stuff names but 0 stuff ids"),
    ],
)
def test_names_and_ids_must_be_as_many(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Categories(*arguments)
