"""Classes of a model among the categories of annotations: by id and name, or by name alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from resnest_zoo.categories import Categories
from resnest_zoo.errors import DataError
from resnest_zoo.evaluation.classes import match_classes

OWN = Categories(("cat", "dog", "cow"), (1, 3, 4), ("things", "sky", "sea"), (0, 11, 12))
THINGS = replace(OWN, stuff=(), stuff_ids=())
ALL = (1, 3, 4, 11, 12)


def things(**ids: int) -> Categories:
    return Categories(tuple(ids), tuple(ids.values()))


def test_the_same_ids_and_names_are_the_same_classes(caplog: pytest.LogCaptureFixture) -> None:
    match = match_classes(OWN, OWN, ALL, "val.json")
    assert (match.categories, match.scored) == (OWN, frozenset(ALL))
    match = match_classes(OWN, things(cow=4, dog=3, cat=1), ALL, "val.json")
    assert (match.categories, match.scored) == (OWN, frozenset({1, 3, 4}))
    assert not caplog.records


@pytest.mark.parametrize(
    "found",
    [things(dog=1, cow=3, cat=4), things(cat=0, dog=1, cow=2), things(cat=2, dog=3, cow=4)],
    ids=["permuted", "counted from 0", "partly shifted"],
)
def test_names_under_other_ids_are_an_error_with_a_table_and_by_name_a_mapping(found: Categories) -> None:
    used = found.thing_ids
    table = r"(?s)val\.json: .*\n +id +in the file +of the model\n.*'cat'.*--by-name"
    with pytest.raises(DataError, match=table) as e:
        match_classes(THINGS, found, used, "val.json")
    for k, name in zip(found.thing_ids, found.things, strict=True):
        own = dict(zip(THINGS.thing_ids, THINGS.things, strict=True)).get(k)
        if own != name:
            assert f"{k}  {name!r}" in str(e.value)
    match = match_classes(THINGS, found, used, "val.json", by_name=True)
    assert match.scored == set(used)
    ids = dict(zip(found.things, found.thing_ids, strict=True))
    assert match.categories == replace(THINGS, thing_ids=tuple(ids[name] for name in THINGS.things))


def test_a_name_that_several_categories_bear_tells_nothing_so_that_ids_decide(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Categories(("cat", "cat", "cow"), (1, 3, 4))
    match = match_classes(THINGS, found, (1, 3, 4), "val.json")
    assert (match.categories, match.scored) == (THINGS, frozenset({1, 3, 4}))
    assert re.search(r"several categories of one name.*\n.*\n +3 +'cat' +'dog'$", caplog.text.rstrip())
    with pytest.raises(DataError, match=r"5 +.cat. +none"):  # 5 is none of the model's classes
        match_classes(THINGS, Categories(("dog", "cat", "cat"), (3, 4, 5)), (3, 4, 5), "val.json")


def test_stuff_is_compared_too() -> None:
    found = replace(OWN, stuff=("things", "sea", "sky"))
    with pytest.raises(DataError, match=r"11 +'sea' \(stuff\) +'sky' \(stuff\)\n +12 +'sky'"):
        match_classes(OWN, found, ALL, "val.json")
    match = match_classes(OWN, found, ALL, "val.json", by_name=True)
    assert match.categories == replace(OWN, stuff_ids=(0, 12, 11))
    with pytest.raises(DataError, match=r"4 +'cow' \(stuff\) +'cow'\n"):
        match_classes(OWN, Categories(("cat",), (1,), ("things", "cow"), (0, 4)), (1, 4), "val.json")


@pytest.mark.parametrize("by_name", [False, True])
def test_some_of_the_classes_are_scored_and_the_others_named(
    by_name: bool, caplog: pytest.LogCaptureFixture
) -> None:
    match = match_classes(THINGS, things(cat=1, cow=4), (1,), "val.json", by_name=by_name)
    assert match.scored == {1, 4}
    assert match.categories.things == THINGS.things
    assert match.categories.thing_ids[::2] == (1, 4)
    assert match.categories.thing_ids[1] not in (1, 4)
    assert "lists 2 of the model's 3 classes, which alone are scored; it lacks dog" in caplog.text


def test_classes_that_the_model_lacks_are_an_error_unless_they_are_not_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = things(cat=1, dog=3, cow=4, animals=0)
    assert match_classes(THINGS, found, (1, 3, 4), "val.json").scored == {1, 3, 4}
    with pytest.raises(DataError, match=r"0 +'animals' +none\n.* 3 are in both"):
        match_classes(THINGS, found, (0, 1), "val.json")
    match = match_classes(THINGS, found, (0, 1), "val.json", by_name=True)
    assert match.scored == {1, 3, 4}
    assert "the model lacks 1 classes, which are left out: animals" in caplog.text


@pytest.mark.parametrize("by_name", [False, True])
def test_nothing_in_common_is_an_error(by_name: bool) -> None:
    with pytest.raises(DataError, match=r"(?m)'horse' +none$"):
        match_classes(THINGS, things(horse=7), (), "val.json", by_name=by_name)


def test_repeated_names_tell_nothing_by_name_but_are_fine_by_id() -> None:
    twice = Categories(("cat", "cat"), (1, 2))
    assert match_classes(twice, twice, (1, 2), "val.json").scored == {1, 2}
    with pytest.raises(DataError, match=r"the model has several classes called 'cat'"):
        match_classes(twice, THINGS, (1,), "val.json", by_name=True)
    with pytest.raises(DataError, match=r"val\.json has several classes called 'cat'"):
        match_classes(THINGS, twice, (1,), "val.json", by_name=True)


def test_a_model_without_names_takes_the_categories_by_rising_id(caplog: pytest.LogCaptureFixture) -> None:
    found = Categories(("a", "b"), (0, 5))
    match = match_classes(Categories.numbered(2), found, (0,), "val.json")
    assert match.categories == replace(Categories.numbered(2), thing_ids=(0, 5))
    assert match.scored == {0, 5}
    assert "by rising id" in caplog.text
    with pytest.raises(DataError, match=r"lists 2 categories, but the model, .*, has 3"):
        match_classes(Categories.numbered(3), found, (0,), "val.json")


def test_long_tables_are_cut() -> None:
    many = Categories(tuple(f"n{k}" for k in range(50)), tuple(range(50)))
    turned = replace(many, things=(*many.things[1:], many.things[0]))
    with pytest.raises(DataError, match="and 30 more\n") as e:
        match_classes(many, turned, (), "val.json")
    assert len(str(e.value).splitlines()) == 24
