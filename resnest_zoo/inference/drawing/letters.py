"""Fonts that have the letters of a text, in the size that suits a picture.

Pillow brings a font of ASCII alone: for "é", "д" or "犬" another one is looked for, by names of files that
systems and packages of fonts are known to have. Where there is none, a warning says so once.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from resnest_zoo.errors import ConfigError, shown

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_OWN = ""  # stands for the font that comes with Pillow
SMALLEST = 10  # pixels; smaller letters cannot be read
# Names that Pillow finds in the system's folders of fonts, those of most scripts first.
_SYSTEM = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansCJKjp-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "Nirmala.ttf",
    "tahoma.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Arial Unicode.ttf",
    "ARIALUNI.TTF",
    "unifont.otf",
)
# Packages that bring fonts, and where in them these lie.
_PACKAGES = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("manimgx_fonts_cjk", "**/*.[ot]t[cf]"),
    ("mplfonts", "fonts/NotoSansCJK*-Regular.otf"),
    ("matplotlib_fontja", "fonts/*.ttf"),
    ("koreanize_matplotlib", "fonts/NanumGothic.ttf"),
)
_warned: set[str] = set()


class Letters:
    """Letters of one size.

    Attributes:
        size: pixels.
    """

    def __init__(self, size: float, font: str | None = None) -> None:
        """Choose a size.

        Args:
            size: pixels, at least `SMALLEST`, or it is made that.
            font: a file to use for everything; by default Pillow's own, or one that has the letters.

        Raises:
            ConfigError: `font` is no file of a font.
        """
        self.size = max(SMALLEST, round(size))
        self._chosen = font
        self._boxes: dict[str, tuple[int, int, int, int]] = {}
        if font is not None and not _opens(font):
            raise ConfigError(f"font: expected a TrueType or OpenType file, got {shown(font)}")

    def scaled(self, factor: float) -> Letters:
        """The same in another size, not below `SMALLEST`."""
        return Letters(self.size * factor, self._chosen)

    def font(self, text: str) -> Font:
        """One that has all letters of `text`, or else most of them."""
        return _sized(_choose(text) if self._chosen is None else self._chosen, self.size)

    def box(self, text: str) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of a text that is drawn at (0, 0); as high as most texts at least."""
        if text not in self._boxes:
            font = self.font(text)
            left, top, right, bottom = font.getbbox(text)
            _, high, _, low = font.getbbox("Hgj")
            edges = (
                math.floor(left),
                math.floor(min(top, high)),
                math.ceil(right),
                math.ceil(max(bottom, low)),
            )
            self._boxes[text] = edges
        return self._boxes[text]

    def width(self, text: str) -> int:
        """Of a text, in pixels."""
        left, _, right, _ = self.box(text)
        return right - left

    def cut(self, text: str, width: int) -> str:
        """What of a text has room in so many pixels, "…" at its end; "" where that says nothing any more."""
        if self.width(text) <= width:
            return text
        low, high = 0, len(text) - 1  # so many letters do, so many are tried at most
        while low < high:
            middle = (low + high + 1) // 2
            if self.width(text[:middle].rstrip() + "…") <= width:
                low = middle
            else:
                high = middle - 1
        return text[:low].rstrip() + "…" if low >= 2 else ""


def _choose(text: str) -> str:
    """The font with the fewest missing letters, the first of these.

    Warns once of letters that no font has.
    """
    best, fewest = _OWN, _missing(_OWN, text)
    if fewest:
        for path in _others():
            missing = _missing(path, text)
            if len(missing) < len(fewest):
                best, fewest = path, missing
            if not fewest:
                break
    if unseen := fewest - _warned:
        _warned.update(unseen)
        logger.warning(
            "no font here has %s: drawn as boxes; install one, such as Noto Sans CJK, or name a file (font=)",
            "".join(sorted(unseen)),
        )
    return best


def _missing(path: str, text: str) -> set[str]:
    return {letter for letter in set(text) if not letter.isspace() and not _has(path, letter)}


@lru_cache(maxsize=10_000)
def _has(path: str, letter: str) -> bool:
    """Whether a font has a letter; it shows all that it lacks by one sign."""
    font = _sized(path, 20)
    mask, unknown = font.getmask(letter), font.getmask("\uffff")
    return mask.size != unknown.size or bytes(mask) != bytes(unknown)


@lru_cache(maxsize=64)
def _sized(path: str, size: int) -> Font:
    if path == _OWN:
        return ImageFont.load_default(size)
    font = ImageFont.truetype(path, size)
    try:
        if b"Regular" in font.get_variation_names():  # or a font of all weights is drawn in its thinnest
            font.set_variation_by_name("Regular")
    except OSError:  # a font of one weight
        pass
    return font


@lru_cache(maxsize=64)
def _opens(path: str) -> bool:
    try:
        ImageFont.truetype(path, SMALLEST)
    except (OSError, ValueError):
        return False
    return True


@lru_cache(maxsize=1)
def _others() -> tuple[str, ...]:
    """Fonts that this machine has, as Pillow opens them."""
    return tuple(path for path in (*_SYSTEM, *_packaged()) if _opens(path))


def _packaged() -> Iterator[str]:
    for package, pattern in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            yield from sorted(map(str, Path(folder).glob(pattern)))
