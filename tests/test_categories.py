from __future__ import annotations

import pytest

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.errors import ConfigError


def test_labels_tell_classes_of_one_name_apart():
    assert Categories(("circle", "ball", "circle"), (1, 2, 4)).thing_labels == (
        "circle (id 1)",
        "ball",
        "circle (id 4)",
    )


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


def test_lists_become_tuples_and_the_record_stays_hashable():
    categories = Categories(["cat"], [7], ["things", "sky"], [0, 9])
    assert categories == Categories(("cat",), (7,), ("things", "sky"), (0, 9))
    assert len({categories, Categories(("cat",), (7,), ("things", "sky"), (0, 9))}) == 1


def test_ids_tell_equal_names_apart_but_names_alone_cannot():
    assert Categories(("person", "person"), (1, 5)).thing_ids == (1, 5)
    with pytest.raises(ConfigError, match=r"categories: repeated names \['cat'\]"):
        Categories.named(["cat", "dog", "cat"])


@pytest.mark.parametrize("names", ["abc", b"abc", None, 3, {"a", "b"}, [1, 2], ["a", None]])
def test_names_are_a_list_or_tuple_of_texts(names):
    with pytest.raises(ConfigError, match=r"^categories: expected a list of (thing )?names, got "):
        Categories.named(names)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("a", (1,)), "a list of thing names, got 'a'"),
        (((), (), (), "1"), "a list of stuff ids, which are whole numbers, got '1'"),
        ((("a",), ("1",)), r"a list of thing ids, which are whole numbers, got \('1',\)"),
        ((("a",), (True,)), "a list of thing ids, which are whole numbers"),
        ((("a",), 1), "a list of thing ids, which are whole numbers, got 1"),
        ((("a", "b"), (1, 1)), r"repeated thing ids \[1\]"),
        ((("a",), (1,), ("things", "sky"), (0, 0)), r"repeated stuff ids \[0\]"),
    ],
)
def test_ids_and_names_of_the_wrong_kind_are_refused(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Categories(*arguments)


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
