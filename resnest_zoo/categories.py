"""What the classes of a model mean: names and category ids, of COCO and of users' own data.

No torch here: listing and the command line use it as models and evaluation do. Every layer above names
classes through this one record, so it stands beside `config`, below all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnest_zoo.errors import ConfigError, shown


@dataclass(frozen=True)
class Categories:
    """Names and category ids in the order of a model's contiguous classes.

    Attributes:
        things: name of each countable class; class k of `Instances.classes` is `things[k]`.
        thing_ids: the category id of each, as the data set's annotations write it; COCO's have gaps.
        stuff: names of the semantic classes; class 0 stands for "some thing" and is never a segment.
        stuff_ids: their category ids; that of class 0 is 0. Both are empty without panoptic output.

    Lists are accepted and kept as tuples. Two classes may share a name, as their ids tell them apart.

    Raises:
        ConfigError: names that are no texts, ids that are no whole numbers or repeated, or not as many.
    """

    things: tuple[str, ...]
    thing_ids: tuple[int, ...]
    stuff: tuple[str, ...] = ()
    stuff_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for kind, field in (("thing", "things"), ("stuff", "stuff")):
            names = _tuple_of(str, getattr(self, field), f"{kind} names")
            ids = _tuple_of(int, getattr(self, f"{kind}_ids"), f"{kind} ids, which are whole numbers")
            object.__setattr__(self, field, names)
            object.__setattr__(self, f"{kind}_ids", ids)
            _refuse_repeated(ids, f"{kind} ids")
            if len(names) != len(ids):
                raise ConfigError(f"categories: {len(names)} {kind} names but {len(ids)} {kind} ids")

    @property
    def thing_labels(self) -> tuple[str, ...]:
        """The names of things, with the id where two have one name: each label stands for one class."""
        times = Counter(self.things)
        pairs = zip(self.things, self.thing_ids, strict=True)
        return tuple(name if times[name] == 1 else f"{name} (id {number})" for name, number in pairs)

    @classmethod
    def numbered(cls, num_classes: int) -> Categories:
        """Placeholder names `class_0` ... for a model whose classes nobody has named; ids count from 1."""
        return cls(tuple(f"class_{k}" for k in range(num_classes)), tuple(range(1, num_classes + 1)))

    @property
    def are_placeholders(self) -> bool:
        """Whether the things' names are those of `numbered`, which mean nothing."""
        return self.things == Categories.numbered(len(self.things)).things

    @classmethod
    def named(cls, names: tuple[str, ...] | list[str]) -> Categories:
        """Categories of a user's data set, given only their names; ids count from 1.

        Raises:
            ConfigError: `names` is no list or tuple of texts, or repeats one: nothing else tells them apart.
        """
        names = _tuple_of(str, names, "names")
        _refuse_repeated(names, "names")
        return cls(names, tuple(range(1, len(names) + 1)))


def _tuple_of(kind: type, values: object, what: str) -> tuple[Any, ...]:
    # A bare text would pass as a sequence of its letters, and True as the id 1.
    items = tuple(values) if isinstance(values, (list, tuple)) else (None,)
    if not all(isinstance(item, kind) and not isinstance(item, bool) for item in items):
        raise ConfigError(f"categories: expected a list of {what}, got {shown(values)}")
    return items


def _refuse_repeated(values: Sequence[object], what: str) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ConfigError(f"categories: repeated {what} {shown(repeated)}")


def _parse(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    rows = [row.strip().split(" ", 1) for row in text.replace("\n", " ").split(", ")]
    return tuple(name for _, name in rows), tuple(int(number) for number, _ in rows)


# COCO 2017, in the order of `panoptic_coco_categories.json` (cocodataset/panopticapi).
_COCO_THINGS = """\
1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat, 10 traffic
light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat, 18 dog, 19 horse,
20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack, 28 umbrella, 31 handbag,
32 tie, 33 suitcase, 34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40
baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket, 44 bottle, 46 wine glass, 47 cup, 48
fork, 49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57
carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62 chair, 63 couch, 64 potted plant, 65 bed, 67
dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone, 78
microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors,
88 teddy bear, 89 hair drier, 90 toothbrush"""

_COCO_STUFF = """\
0 things, 92 banner, 93 blanket, 95 bridge, 100 cardboard, 107 counter, 109 curtain, 112 door-stuff,
118 floor-wood, 119 flower, 122 fruit, 125 gravel, 128 house, 130 light, 133 mirror-stuff, 138 net,
141 pillow, 144 platform, 145 playingfield, 147 railroad, 148 river, 149 road, 151 roof, 154 sand,
155 sea, 156 shelf, 159 snow, 161 stairs, 166 tent, 168 towel, 171 wall-brick, 175 wall-stone, 176
wall-tile, 177 wall-wood, 178 water-other, 180 window-blind, 181 window-other, 184 tree-merged, 185
fence-merged, 186 ceiling-merged, 187 sky-other-merged, 188 cabinet-merged, 189 table-merged, 190
floor-other-merged, 191 pavement-merged, 192 mountain-merged, 193 grass-merged, 194 dirt-merged, 195
paper-merged, 196 food-other-merged, 197 building-other-merged, 198 rock-merged, 199
wall-other-merged, 200 rug-merged"""

COCO = Categories(*_parse(_COCO_THINGS))
COCO_PANOPTIC = Categories(COCO.things, COCO.thing_ids, *_parse(_COCO_STUFF))

# The drawn data set `resnest_zoo.data.shapes`. With gaps, as COCO's ids have them: code that takes ids for
# classes fails here too.
SHAPES_PANOPTIC = Categories(
    ("circle", "square", "triangle", "star", "ring", "cross"),
    (1, 2, 4, 5, 7, 9),
    ("things", "sky", "grass", "water", "brick"),
    (0, 101, 102, 104, 107),
)
SHAPES = Categories(SHAPES_PANOPTIC.things, SHAPES_PANOPTIC.thing_ids)
