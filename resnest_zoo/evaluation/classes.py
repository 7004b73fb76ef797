"""Which class of a model each category of annotations is.

Ids alone do not tell: exporters number categories anew, from 0 or 1, by the alphabet or by appearance, and
ids that overlap would then name other classes without an error. So ids and names have to agree, or names
alone decide.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from resnest_zoo.categories import Categories
from resnest_zoo.errors import DataError, some

logger = logging.getLogger(__name__)

_SHOWN = 20
_Name = tuple[str, bool]  # and whether it is a thing


@dataclass(frozen=True)
class ClassMatch:
    """A model's classes in annotations.

    Attributes:
        categories: the model's, with the ids of the annotations; a class that these lack has one of its own.
        scored: the ids of classes that both have.
        left_out: the ids of what the annotations list and the model lacks.
    """

    categories: Categories
    scored: frozenset[int]
    left_out: frozenset[int] = frozenset()


def match_classes(
    own: Categories, found: Categories, used: Collection[int], source: str, *, by_name: bool = False
) -> ClassMatch:
    """Find a model's classes among the categories of annotations.

    Annotations may list some of the classes only. What they list but do not use is passed over. A name that
    several of their categories bear tells nothing of these, so that there ids decide.

    Args:
        own: the model's. Of placeholders, which mean nothing, each is the category of its rank by id.
        found: the annotations', without stuff where only things are measured.
        used: ids of which there are annotations.
        source: the annotations' file, for messages.
        by_name: take classes by name, whatever their ids, and leave out what the model does not know.

    Raises:
        DataError: names differ under one id, annotations are of categories that the model lacks, the two have
            nothing in common, or, by name, names are repeated. A table shows what differs.
    """
    if own.are_placeholders:
        return _by_rank(own, found, source)
    own_known = _names(own if found.stuff else replace(own, stuff=(), stuff_ids=()))
    theirs = _names(found)
    if by_name:
        return _by_name(own, own_known, theirs, used, source)
    differ = [k for k, name in theirs.items() if own_known.get(k, name if k not in used else None) != name]
    shared = _shared(theirs)
    unclear = [k for k in differ if theirs[k] in shared and k in own_known]
    wrong = [k for k in differ if k not in unclear]
    common = own_known.keys() & theirs.keys()
    if wrong or not common:
        lines = _table(wrong or [*theirs, *own_known], theirs, own_known)
        raise DataError(
            f"{source}: categories that are not the model's classes:\n{lines}\n{_advice(theirs, own_known)}"
        )
    if unclear:
        lines = _table(unclear, theirs, own_known)
        logger.warning(
            "%s: has several categories of one name, which are taken by their ids:\n%s", source, lines
        )
    _tell_lacking(source, [name for k, (name, _) in own_known.items() if k not in theirs], len(own_known))
    return ClassMatch(own, frozenset(common), frozenset(theirs.keys() - common))


def _names(categories: Categories) -> dict[int, _Name]:
    """Name and kind of each category by id; class 0 of stuff is none."""
    things = zip(categories.thing_ids, categories.things, strict=True)
    stuff = zip(categories.stuff_ids[1:], categories.stuff[1:], strict=True)
    return {k: (name, False) for k, name in stuff} | {k: (name, True) for k, name in things}


def _shared(names: dict[int, _Name]) -> set[_Name]:
    """The names that several categories bear."""
    return {name for name, count in Counter(names.values()).items() if count > 1}


def _by_rank(own: Categories, found: Categories, source: str) -> ClassMatch:
    counts = (len(own.things), len(own.stuff) if found.stuff else 0)
    if counts != (len(found.things), len(found.stuff)):
        raise DataError(
            f"{source}: lists {len(found.things)} categories{_and_stuff(found)}, but the model, whose "
            f"classes nobody has named, has {counts[0]}{_and_stuff(own) if found.stuff else ''}"
        )
    if own.thing_ids != found.thing_ids:
        logger.warning(
            "%s: the model's classes are not named; they are taken to be the categories by rising id", source
        )
    matched = replace(
        own, thing_ids=found.thing_ids, stuff_ids=found.stuff_ids if found.stuff else own.stuff_ids
    )
    return ClassMatch(matched, frozenset(_names(found)))


def _and_stuff(categories: Categories) -> str:
    return f" and {len(categories.stuff) - 1} of stuff" if categories.stuff else ""


def _by_name(
    own: Categories, mine: dict[int, _Name], theirs: dict[int, _Name], used: Collection[int], source: str
) -> ClassMatch:
    for names, whose in ((mine, "the model"), (theirs, source)):
        if repeated := sorted(_shared(names)):
            raise DataError(
                f"{whose} has several classes called {repeated[0][0]!r}, which names cannot tell apart"
            )
    ids = {name: k for k, name in theirs.items()}
    scored = {ids[name] for name in mine.values() if name in ids}
    if not scored:
        lines = _table([*theirs, *mine], theirs, mine)
        raise DataError(f"{source}: none of its categories has the name of a class of the model:\n{lines}")
    unknown = [name for k, (name, _) in theirs.items() if k in used and k not in scored]
    if unknown:
        logger.warning(
            "%s: the model lacks %d classes, which are left out: %s",
            source,
            len(unknown),
            some(unknown, _SHOWN),
        )
    _tell_lacking(source, [name for name, thing in mine.values() if (name, thing) not in ids], len(mine))
    free = iter(range(max([*mine, *theirs, *used]) + 1, 2**63))
    thing_ids = tuple(ids[name, True] if (name, True) in ids else next(free) for name in own.things)
    stuff_ids = tuple(ids[name, False] if (name, False) in ids else next(free) for name in own.stuff[1:])
    matched = replace(own, thing_ids=thing_ids, stuff_ids=(*own.stuff_ids[:1], *stuff_ids))
    return ClassMatch(matched, frozenset(scored), frozenset(theirs.keys() - scored))


def _tell_lacking(source: str, lacking: Sequence[str], count: int) -> None:
    if lacking:
        logger.warning(
            "%s: lists %d of the model's %d classes, which alone are scored; it lacks %s",
            *(source, count - len(lacking), count, some(lacking, _SHOWN)),
        )


def _table(ids: Sequence[int], theirs: dict[int, _Name], mine: dict[int, _Name]) -> str:
    rows = [("id", "in the file", "of the model")]
    ids = sorted(set(ids))
    for k in ids[:_SHOWN]:
        rows.append((str(k), _shown(theirs.get(k)), _shown(mine.get(k))))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
    return "\n".join(lines) + (f"\n  and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _shown(name: _Name | None) -> str:
    return "none" if name is None else repr(name[0][:60]) + ("" if name[1] else " (stuff)")


def _advice(theirs: dict[int, _Name], mine: dict[int, _Name]) -> str:
    shared = len({*theirs.values()} & {*mine.values()})
    if shared:
        return f"by_name=True (--by-name) goes by the names, of which {shared} are in both, and scores those."
    return "They have no name in common, so that nothing can be measured."
