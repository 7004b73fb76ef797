"""Draws the pictures of `shapes`: a ground of textured regions, and shapes upon it.

What the drawing means, its categories, ids and files, is left to `shapes`.

Legend: H and W the picture's height and width, h and w a patch's. Colours are float64 RGB in [0, 1]. Points
are (x, y) in pixels; the centre of the pixel in row i and column j is (j + 0.5, i + 0.5).

Every number comes from whole and uniform random numbers by sums, products, quotients, roots and comparisons
of float64. IEEE 754 fixes the result of each, so a seed means the same picture on every machine; powers,
sines and sums along an axis, whose last digits depend on the library, have no part in it.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from resnest_zoo.categories import SHAPES_PANOPTIC

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Window = tuple[slice, slice]

THINGS = SHAPES_PANOPTIC.things
STUFF = SHAPES_PANOPTIC.stuff[1:]

MIN_VISIBLE = 0.25  # of its pixels: a shape hidden further could not be told from another
_MIN_PIXELS = 20  # visible of a shape
_MIN_DIAMETER = 12.0  # pixels
_MAX_DIAMETER = 0.75  # of the picture's shorter side
_MAX_THINGS = 8
_EMPTY_FRACTION = 0.05  # of the pictures have no thing
_SKY_FRACTION = 0.7  # of the pictures have a sky
_ATTEMPTS = 12  # at a place that hides no other shape too much

# Cosine and sine of whole degrees. Six digits are the same whatever the library's last digit is.
_CIRCLE = [(round(math.cos(math.radians(a)), 6), round(math.sin(math.radians(a)), 6)) for a in range(360)]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture and what is where in it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        owner: (H, W) int16, 0 for the ground, else k + 1 for thing k.
        ground: (H, W) uint8, 0 on the seam between two regions, else 1 + the index in `STUFF`.
        kinds: index in `THINGS` of each thing.
        crowds: whether each thing is a cluster of tiny shapes.
    """

    image: Array
    owner: Array
    ground: Array
    kinds: tuple[int, ...]
    crowds: tuple[bool, ...]


def compose(rng: np.random.Generator, height: int, width: int, crowd_fraction: float) -> Drawing:
    """Draw one picture; `crowd_fraction` is the chance of a crowd in a picture that has things."""
    image, ground = _draw_ground(rng, height, width)
    light = _CIRCLE[rng.integers(360)]
    canvas = _Canvas(image, np.zeros((height, width), dtype=np.int16), light)
    if rng.random() >= _EMPTY_FRACTION:
        if rng.random() < crowd_fraction:
            _place_crowd(rng, canvas)
        for _ in range(rng.integers(1, _MAX_THINGS + 1)):
            _place_thing(rng, canvas)
    finished = _develop(rng, canvas.image, light)
    return Drawing(finished, canvas.owner, ground, tuple(canvas.kinds), tuple(canvas.crowds))


# The ground


def _draw_ground(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Array]:
    """One to three regions beside each other, in most pictures under a sky."""
    first, *others = (int(k) for k in 1 + np.argsort(rng.random(3)))  # the regions of the ground
    image = _TEXTURES[first](rng, height, width)
    ground = np.full((height, width), 1 + first, dtype=np.uint8)
    for kind in others[: rng.integers(3)]:
        at = width * rng.uniform(0.25, 0.75), height * rng.uniform(0.35, 0.85)
        bumps = 0.0 if STUFF[kind] == "brick" else rng.uniform(0, 14)
        distance = _signed_distance(rng, height, width, at, _CIRCLE[rng.integers(360)], bumps)
        _lay(image, ground, distance, kind, _TEXTURES[kind](rng, height, width))
    if rng.random() < _SKY_FRACTION:
        at, bumps = (0.0, height * rng.uniform(0.2, 0.5)), rng.uniform(0, 14)
        distance = _signed_distance(rng, height, width, at, (0.0, -1.0), bumps)
        _lay(image, ground, distance, 0, _TEXTURES[0](rng, height, width))
    return image, ground


def _signed_distance(
    rng: np.random.Generator,
    height: int,
    width: int,
    at: tuple[float, float],
    normal: tuple[float, float],
    bumps: float,
) -> Floats:
    """(H, W), pixels to the line through `at`, positive where `normal` points, with bumps of that height."""
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    straight = (x - at[0]) * normal[0] + (y - at[1]) * normal[1]
    return straight + bumps * (2 * _noise(rng, height, width, 28, 28) - 1)


def _lay(image: Floats, ground: Array, distance: Floats, kind: int, texture: Floats) -> None:
    weight = np.clip(0.5 + distance, 0, 1)[:, :, None]
    image += weight * (texture - image)
    ground[distance > -0.5] = 0
    ground[distance > 0.5] = 1 + kind


def _sky(rng: np.random.Generator, height: int, width: int) -> Floats:
    """From one colour at the top to a paler one, with clouds."""
    top, bottom = _SKIES[rng.integers(len(_SKIES))]
    fall = (np.arange(height) / height)[:, None, None]
    plain = _jitter(rng, top) * (1 - fall) + _jitter(rng, bottom) * fall
    noise = 0.65 * _noise(rng, height, width, 18, 40) + 0.35 * _noise(rng, height, width, 7, 14)
    clouds = np.clip((noise - rng.uniform(0.4, 0.8)) * 3, 0, 0.8)[:, :, None]
    return plain + clouds * (0.96 - plain)


def _grass(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Upright blades over patches of drier and fresher green."""
    fresh, dry = _jitter(rng, (0.20, 0.46, 0.14)), _jitter(rng, (0.50, 0.56, 0.22))
    patches = _noise(rng, height, width, 30, 30)[:, :, None]
    blades = _noise(rng, height, width, 5, 1.6) + 0.6 * _noise(rng, height, width, 2.5, 1.2)
    return (fresh + patches * (dry - fresh)) * (0.55 + 0.55 * blades)[:, :, None]


def _water(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Level ripples of varying length, glinting at the crests."""
    deep = _jitter(rng, ((0.08, 0.30, 0.46), (0.10, 0.42, 0.46), (0.16, 0.24, 0.40))[rng.integers(3)])
    rows = (np.arange(height) / rng.uniform(6, 11))[:, None]
    crests = _wave(rows + 2.2 * _noise(rng, height, width, 9, 26)) * _noise(rng, height, width, 6, 16)
    glints = np.clip(crests - 0.55, 0, 1)
    return deep * (1 + 0.45 * crests)[:, :, None] + 1.1 * glints[:, :, None]


def _brick(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Rows of bricks, each with its own tone, between lines of mortar."""
    colour = _jitter(rng, _BRICKS[rng.integers(len(_BRICKS))])
    mortar = _jitter(rng, (0.72, 0.68, 0.62))
    tall = rng.uniform(7, 12)
    rows = (np.arange(height) + rng.uniform(0, tall))[:, None] / tall
    columns = np.arange(width) / (2.3 * tall) + 0.5 * (np.floor(rows) % 2)
    tones = rng.uniform(0.75, 1.2, (int(rows.max()) + 1, int(columns.max()) + 1))
    tone = tones[np.floor(rows).astype(int), np.floor(columns).astype(int)]
    across = np.minimum(rows % 1, 1 - rows % 1) * tall  # pixels to the next joint
    along = np.minimum(columns % 1, 1 - columns % 1) * 2.3 * tall
    joint = np.clip(1.3 - np.minimum(across, along), 0, 1)[:, :, None]
    rough = 0.85 + 0.3 * _noise(rng, height, width, 2, 2)
    bricks: Floats = colour * (tone * rough)[:, :, None]
    bricks += joint * (mortar - bricks)
    return bricks


_TEXTURES = (_sky, _grass, _water, _brick)  # in the order of STUFF
_SKIES = (
    ((0.28, 0.52, 0.86), (0.74, 0.86, 0.96)),  # noon
    ((0.36, 0.34, 0.60), (0.98, 0.70, 0.48)),  # dusk
    ((0.56, 0.60, 0.66), (0.82, 0.83, 0.85)),  # overcast
    ((0.12, 0.16, 0.36), (0.36, 0.38, 0.58)),  # night
)
_BRICKS = ((0.62, 0.26, 0.18), (0.56, 0.40, 0.28), (0.46, 0.46, 0.48), (0.74, 0.58, 0.40))


# Shapes


@dataclass(frozen=True, eq=False)
class _Shape:
    """One shape in the picture, clipped to it.

    Attributes:
        window: rows and columns of the patch.
        coverage: (h, w) in [0, 1], the part of each pixel that lies inside.
        mask: (h, w) bool, whether the pixel's centre lies inside.
        centre: (x, y).
        radius: pixels.
    """

    window: Window
    coverage: Floats
    mask: Array
    centre: tuple[float, float]
    radius: float


@dataclass(eq=False)
class _Canvas:
    """The picture while it is drawn; `kinds`, `crowds` and `areas` (unhidden pixels) have a row per thing."""

    image: Floats
    owner: Array
    light: tuple[float, float]
    kinds: list[int] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)

    def place(self, rng: np.random.Generator, kind: int, shapes: list[_Shape], crowd: bool = False) -> bool:
        """Draw the shapes as one thing above the others; False, and no change, if that hides too much."""
        number = len(self.kinds) + 1
        owner = self.owner.copy()
        for shape in shapes:
            owner[shape.window][shape.mask] = number
        *visible, area = np.bincount(owner.ravel(), minlength=number + 1)[1:].tolist()
        least = [max(MIN_VISIBLE * whole, _MIN_PIXELS) for whole in (*self.areas, area)]
        if any(seen < needed for seen, needed in zip((*visible, area), least, strict=True)):
            return False
        self.owner = owner
        self.kinds.append(kind)
        self.crowds.append(crowd)
        self.areas.append(area)
        for shape in shapes:
            _shade(self.image, shape, self.light)
            _paint(rng, self.image, shape, self.light)
        return True


def _place_thing(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Place one shape of a random class, unless there is no room for it."""
    height, width = canvas.owner.shape
    kind = int(rng.integers(len(THINGS)))
    for _ in range(_ATTEMPTS):
        largest = _MAX_DIAMETER * min(height, width)
        part = rng.random()
        part *= 0.5 + 0.5 * part  # small ones more often
        radius = 0.5 * (_MIN_DIAMETER + part * (largest - _MIN_DIAMETER))
        inset = 0.4 * radius  # up to some 30% may lie beyond the border
        centre = rng.uniform(inset, width - inset), rng.uniform(inset, height - inset)
        if canvas.place(rng, kind, [_make_shape(rng, kind, centre, radius, (height, width))]):
            return


def _place_crowd(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Place a cluster of tiny shapes of one class, too many and too small to be told apart."""
    height, width = canvas.owner.shape
    kind = int(rng.integers(len(THINGS)))
    reach = rng.uniform(0.17, 0.28) * min(height, width)
    middle = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach)
    shapes = []
    for _ in range(rng.integers(14, 30)):
        far = reach * math.sqrt(rng.random())  # as many to an area everywhere
        towards = _CIRCLE[rng.integers(360)]
        centre = middle[0] + far * towards[0], middle[1] + far * towards[1]
        shapes.append(_make_shape(rng, kind, centre, rng.uniform(3, 5), (height, width)))
    canvas.place(rng, kind, shapes, crowd=True)


def _make_shape(
    rng: np.random.Generator,
    kind: int,
    centre: tuple[float, float],
    radius: float,
    size_hw: tuple[int, int],
) -> _Shape:
    """Turn, stretch, move and rasterise a shape; `radius` is that of the circle around it, unstretched."""
    cos, sin = _CIRCLE[rng.integers(360)]
    narrow = rng.uniform(0.82, 1.0)
    loops = []
    for x, y in _outline(rng, kind):
        x, y = radius * narrow * x, radius * y
        loops.append((centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y))
    window, inside = _rasterise(loops, size_hw)
    samples = inside.view(np.uint8)
    rows = samples[0::3] + samples[1::3] + samples[2::3]
    coverage = (rows[:, 0::3] + rows[:, 1::3] + rows[:, 2::3]) / 9
    return _Shape(window, coverage, inside[1::3, 1::3], centre, radius)


def _outline(rng: np.random.Generator, kind: int) -> list[tuple[Floats, Floats]]:
    """Closed loops of vertices (x, y) in the unit circle; what an odd number of them encloses is inside."""
    name = THINGS[kind]
    if name == "circle":
        points = _CIRCLE[::8]
    elif name == "ring":
        hole = rng.uniform(0.5, 0.68)
        points = _CIRCLE[::8]
        return [_loop(points), _loop([(hole * x, hole * y) for x, y in points])]
    elif name == "square":
        points = _CIRCLE[45::90]
    elif name == "triangle":
        points = _CIRCLE[30::120]
    elif name == "star":
        notch = rng.uniform(0.38, 0.5)
        points = [(x * r, y * r) for (x, y), r in zip(_CIRCLE[::36], (1, notch) * 5, strict=True)]
    else:
        arm = rng.uniform(0.24, 0.34)
        corner = [(1, -arm), (1, arm), (arm, arm)]
        points = [p for c, s in _CIRCLE[::90] for p in ((c * x - s * y, s * x + c * y) for x, y in corner)]
    return [_loop(points)]


def _loop(points: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    return np.array([x for x, _ in points]), np.array([y for _, y in points])


def _rasterise(loops: list[tuple[Floats, Floats]], size_hw: tuple[int, int]) -> tuple[Window, Array]:
    """Sample the inside of the loops, by the even-odd rule, at three by three points of each pixel.

    Returns:
        The window of the loops inside the picture and (3h, 3w) bool; the middle one of a pixel's nine
        samples is its centre.
    """
    left, right = _bounds([x for x, _ in loops], size_hw[1])
    top, bottom = _bounds([y for _, y in loops], size_hw[0])
    xs = left + (np.arange(3 * (right - left)) + 0.5) / 3
    ys = top + (np.arange(3 * (bottom - top)) + 0.5) / 3
    inside = np.zeros((len(ys), len(xs)), dtype=bool)
    for x, y in loops:
        rows = np.searchsorted(ys, y).tolist()  # of samples, from which on they lie below each vertex
        corners = list(zip(x.tolist(), y.tolist(), rows, strict=True))
        for (x1, y1, row1), (x2, y2, row2) in zip(corners, corners[1:] + corners[:1], strict=True):
            if row1 != row2:
                crossed = slice(min(row1, row2), max(row1, row2))
                crossing = x1 + (ys[crossed] - y1) * ((x2 - x1) / (y2 - y1))
                inside[crossed] ^= xs > crossing[:, None]
    return (slice(top, bottom), slice(left, right)), inside


def _bounds(values: list[Floats], limit: int) -> tuple[int, int]:
    """First and end of the pixels that the values touch, inside 0 … limit."""
    joined = np.concatenate(values)
    first = min(max(math.floor(joined.min()), 0), limit)
    return first, min(max(math.floor(joined.max()) + 1, first), limit)


# Light and paint


def _shade(image: Floats, shape: _Shape, light: tuple[float, float]) -> None:
    """Darken what lies in the shape's shadow, which falls where `light` points."""
    height, width, _ = image.shape
    length = 1.5 + 0.09 * shape.radius
    columns, rows = (round(length * part) for part in light)
    top, left = shape.window[0].start + rows, shape.window[1].start + columns
    h, w = shape.mask.shape
    cut = (slice(max(-top, 0), max(height - top, 0)), slice(max(-left, 0), max(width - left, 0)))
    patch = image[max(top, 0) : max(top + h, 0), max(left, 0) : max(left + w, 0)]
    patch *= 1 - 0.42 * shape.coverage[cut][:, :, None]


def _paint(rng: np.random.Generator, image: Floats, shape: _Shape, light: tuple[float, float]) -> None:
    """Fill the shape with a plain colour or a pattern of two, brighter towards the light."""
    patch = image[shape.window]
    h, w = shape.mask.shape
    x = (np.arange(w) + 0.5 + shape.window[1].start - shape.centre[0]) / shape.radius
    y = ((np.arange(h) + 0.5 + shape.window[0].start - shape.centre[1]) / shape.radius)[:, None]
    beneath = patch[h // 2, w // 2]
    one = max((_bright(rng) for _ in range(3)), key=lambda colour: _difference(colour, beneath))
    two = _bright(rng) if rng.random() < 0.5 else one * rng.uniform(0.35, 0.75)
    cos, sin = _CIRCLE[rng.integers(360)]
    share = _pattern(rng, cos * x + sin * y, cos * y - sin * x, shape.radius)[:, :, None]
    fill = one + share * (two - one)
    fill *= (1 - 0.18 * (x * light[0] + y * light[1]))[:, :, None]
    if shape.radius > 9 and rng.random() < 0.35:
        fill *= (0.35 + 0.65 * _eroded(shape.coverage, 1 + round(shape.radius / 30)))[:, :, None]
    patch += shape.coverage[:, :, None] * (fill - patch)


def _pattern(rng: np.random.Generator, u: Floats, v: Floats, radius: float) -> Floats:
    """(h, w) in [0, 1], the share of the second colour; u and v run from -1 to 1 across the shape."""
    often = min(rng.uniform(1, 3), radius / 5)  # periods to a radius: each at least five pixels
    sharp = radius / often / 5  # a step of the wave is about as wide as a pixel
    kind = rng.integers(7)
    if kind <= 1:  # plain
        return np.zeros(u.shape)
    if kind == 2:  # from one colour to the other
        return np.clip(0.5 + 0.5 * u, 0, 1)
    if kind == 3:  # stripes
        return np.clip(0.5 + sharp * _wave(often * u), 0, 1)
    if kind == 4:  # checks
        return np.clip(0.5 + 2 * sharp * _wave(often * u) * _wave(often * v), 0, 1)
    if kind == 5:  # dots
        return np.clip(0.5 + sharp * (_wave(often * u) + _wave(often * v) - 0.9), 0, 1)
    (h, w), pitch = u.shape, 0.4 * radius + 1
    return np.clip(2.5 * _noise(rng, h, w, pitch, pitch) - 0.75, 0, 1)  # marble


def _eroded(coverage: Floats, steps: int) -> Floats:
    """The coverage without a rim of that many pixels; the picture's border is no rim."""
    for _ in range(steps):
        padded = np.pad(coverage, 1, mode="edge")
        upright = np.minimum(padded[:-2, 1:-1], padded[2:, 1:-1])
        level = np.minimum(padded[1:-1, :-2], padded[1:-1, 2:])
        coverage = np.minimum(np.minimum(upright, level), coverage)
    return coverage


def _develop(rng: np.random.Generator, image: Floats, light: tuple[float, float]) -> Array:
    """Light that falls off across the picture, grain, and uint8."""
    height, width, _ = image.shape
    strength = rng.uniform(0, 0.4)
    x, y = np.arange(width) / width - 0.5, np.arange(height)[:, None] / height - 0.5
    across = x * light[0] + y * light[1]
    grain = rng.integers(0, int(rng.integers(1, 11)), (2, height, width, 3), dtype=np.uint8).astype(np.int16)
    levels: Floats = image * (255 * (1 - strength * across))[:, :, None] + (grain[0] - grain[1])
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int, tall: float, wide: float) -> Floats:
    """(height, width) in [0, 1]: random values on a grid of that pitch in pixels, joined smoothly."""
    grid = rng.random((int(height / tall) + 2, int(width / wide) + 2))
    rows, columns = np.arange(height) / tall, np.arange(width) / wide
    i, j = rows.astype(int), columns.astype(int)
    s, t = _smooth(rows - i)[:, None], _smooth(columns - j)
    lines: Floats = grid[i] + s * (grid[i + 1] - grid[i])
    return lines[:, j] + t * (lines[:, j + 1] - lines[:, j])


def _smooth(t: Floats) -> Floats:
    return t * t * (3 - 2 * t)


def _wave(x: Floats) -> Floats:
    """A smooth wave of period 1 between -1 and 1, of two parabolas."""
    u = 2 * (x - np.floor(x)) - 1
    wave: Floats = 4 * u * (np.abs(u) - 1)
    return wave


def _bright(rng: np.random.Generator) -> Floats:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 1), rng.uniform(0.45, 1)))


def _jitter(rng: np.random.Generator, colour: tuple[float, float, float]) -> Floats:
    return np.array(colour) * rng.uniform(0.8, 1.2) + rng.uniform(-0.05, 0.05, 3)


def _difference(one: Floats, two: Floats) -> float:
    red, green, blue = (abs(float(part)) for part in one - two)
    return red + green + blue
