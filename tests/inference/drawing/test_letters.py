"""Letters of every script are drawn where a font has them, and missed aloud, once, where none has."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import ImageFont

from resnest_zoo.errors import ConfigError
from resnest_zoo.inference.drawing import letters as module
from resnest_zoo.inference.drawing.letters import Letters

DEJAVU = Path(__import__("matplotlib").__file__).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The other fonts of this machine: none, or what a test puts there."""
    there: list[str] = []
    monkeypatch.setattr(module, "_others", lambda: tuple(there))
    monkeypatch.setattr(module, "_warned", set())
    return there


def test_ascii_is_drawn_with_pillows_own_font(fonts: list[str]) -> None:
    fonts.append(str(DEJAVU))
    font = Letters(14).font("person 98%")
    assert font.getname() == ImageFont.load_default(14).getname()


@pytest.mark.parametrize("text", ["Äpfel", "café", "собака", "σκύλος", "ł"])
def test_other_letters_are_drawn_with_a_font_that_has_them(
    fonts: list[str], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    fonts.append(str(DEJAVU))
    assert Letters(14).font(text).getname() == ("DejaVu Sans", "Book")
    assert not caplog.records


def test_what_no_font_has_is_warned_of_once(fonts: list[str], caplog: pytest.LogCaptureFixture) -> None:
    fonts.append(str(DEJAVU))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            Letters(14).font("犬 dog")
    (record,) = caplog.records
    assert "犬" in record.getMessage()
    assert "font=" in record.getMessage()
    with caplog.at_level(logging.WARNING):
        Letters(14).font("猫")
    assert len(caplog.records) == 2  # another letter


def test_a_font_of_all_weights_is_drawn_in_the_regular_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(ImageFont.FreeTypeFont, "get_variation_names", lambda _: [b"Thin", b"Regular"])
    monkeypatch.setattr(ImageFont.FreeTypeFont, "set_variation_by_name", lambda _, name: chosen.append(name))
    module._sized.cache_clear()
    Letters(17, str(DEJAVU)).font("dog")
    module._sized.cache_clear()
    assert chosen == ["Regular"]


def test_the_font_with_most_letters_is_taken(fonts: list[str]) -> None:
    fonts.append(str(DEJAVU))
    assert Letters(14).font("é犬").getname() == ("DejaVu Sans", "Book")


def test_fonts_of_packages_are_found() -> None:
    assert str(DEJAVU) in set(module._packaged())


def test_a_file_can_be_named(tmp_path: Path) -> None:
    assert Letters(14, str(DEJAVU)).font("dog").getname() == ("DejaVu Sans", "Book")
    (tmp_path / "no.ttf").write_text("no font")
    for path in (tmp_path / "no.ttf", tmp_path / "missing.ttf", tmp_path):
        with pytest.raises(ConfigError, match="font: expected a TrueType or OpenType file"):
            Letters(14, str(path))


def test_a_text_is_cut_to_a_width() -> None:
    letters = Letters(14)
    for width in range(0, 300, 7):
        text = letters.cut("a name with many letters", width)
        assert text == "" or letters.width(text) <= width
    assert letters.cut("short", 1000) == "short"
    assert letters.cut("a name with many letters", 120).endswith("…")
    assert letters.cut("name", 5) == ""


def test_letters_never_become_too_small() -> None:
    assert Letters(3).size == Letters(12).scaled(0.1).size == 10
