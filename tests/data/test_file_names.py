"""Which files there are, and what a missing one was meant to be."""

from __future__ import annotations

import pytest

from resnest_zoo.data.file_names import FileNames


def test_folders_are_listed_once(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.png").write_text("")
    (tmp_path / "a.png").write_text("")
    names = FileNames(tmp_path)
    assert "a.png" in names
    assert "sub/b.png" in names
    assert str(tmp_path / "a.png") in names
    (tmp_path / "a.png").unlink()
    assert "a.png" in names
    assert "b.png" not in names
    assert "nowhere/b.png" not in names


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("my%20photo.png", "my photo.png"),
        ("sub\\b c.png", "sub/b c.png"),
        ("./sub/B%20c.png", "sub/b c.png"),
        ("train\\my photo.png", "my photo.png"),
        ("C:\\data\\my photo.png", "my photo.png"),
        ("/data/train/my photo.png", "my photo.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("odd/c.png", "odd\\c.png"),
    ],
)
def test_a_missing_name_is_told_from_one_that_is_written_otherwise(tmp_path, asked, there):
    (tmp_path / "sub").mkdir()
    for name in ("my photo.png", "sub/b c.png", "caf\u00e9.png", "odd\\c.png"):
        (tmp_path / name).write_text("")
    names = FileNames(tmp_path)
    if asked in names or "odd" in names:
        pytest.skip("this file system takes both for one name")
    assert names.hint(asked) == f"; there is {there!r}"


@pytest.mark.parametrize(
    "asked", ["", ".", "../a.png", "gone.png", "sub/gone.png", "a.png/b.png", "a" * 5000]
)
def test_what_is_nowhere_has_no_hint(tmp_path, asked):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").write_text("")
    assert FileNames(tmp_path).hint(asked) == ""
