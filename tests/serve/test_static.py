"""The page's files: nothing from elsewhere, nothing that its policy forbids, each of a readable size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "resnest_zoo" / "serve" / "static"
FILES = sorted(path.name for path in STATIC.iterdir())
_DRAWINGS = "http://www.w3.org/2000/svg"  # a name, which nobody fetches


def _text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_a_file_stands_for_itself(name: str) -> None:
    text = _text(name)
    assert not re.findall(r"\bhttps?://[^\s\"'`]+", text.replace(_DRAWINGS, ""))
    assert len(text.splitlines()) <= 450
    assert not re.search(r"@import|url\(|\beval\(|\bFunction\(|innerHTML", text)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_imports_lead_to_files(name: str) -> None:
    for target in re.findall(r'(?:from|import) "([^"]+)"', _text(name)):
        assert (STATIC / target).resolve().parent == STATIC.resolve(), target
        assert (STATIC / target).is_file(), target


def test_the_markup_is_what_the_policy_allows() -> None:
    text = _text("index.html")
    for target in re.findall(r'(?:href|src)="/static/([^"]+)"', text):
        assert target in FILES, target
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", text)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    wanted = {one for name in FILES for one in re.findall(r'byId\("([^"]+)"\)', _text(name))}
    assert wanted <= set(ids)
