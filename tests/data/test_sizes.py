"""Pictures have the size that their annotations state, after the rotation that EXIF data ask for."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from resnest_zoo.data import sizes
from resnest_zoo.data.sizes import check_sizes, read_sized_picture
from resnest_zoo.errors import DataError

STATED = (20, 30)


def saved(path: Path, size_wh: tuple[int, int] = (30, 20), orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size_wh, (9, 80, 9)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_what_counts_is_the_size_after_rotation(tmp_path: Path, name: str, orientation: int | None) -> None:
    lying = orientation in (6, 8)
    file = saved(tmp_path / name, orientation=orientation)
    shown, other = ((30, 20), (20, 30)) if lying else ((20, 30), (30, 20))
    assert check_sizes([(file, shown)]) is None
    assert tuple(read_sized_picture(file, shown).shape[1:]) == shown
    with pytest.raises(DataError, match=r"has height and width .* but the annotations say .* EXIF"):
        read_sized_picture(file, other)
    assert str(file) in (check_sizes([(file, other)]) or "")


def test_headers_alone_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "read_picture", lambda _: pytest.fail("decoded"))
    files = [saved(tmp_path / f"{k}.jpg", orientation=6) for k in range(3)]
    assert check_sizes([(file, (30, 20)) for file in files]) is None


def test_a_rotation_at_the_end_of_a_png_raises_no_false_alarm(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    whole = saved(tmp_path / "late.png").read_bytes()
    (tmp_path / "late.png").write_bytes(whole[:-12] + chunk + whole[-12:])  # before IEND
    assert read_sized_picture(tmp_path / "late.png", None).shape[1:] == (30, 20)
    assert check_sizes([(tmp_path / "late.png", (30, 20))]) is None


def test_each_picture_is_named_up_to_five(tmp_path: Path) -> None:
    right = [(saved(tmp_path / f"right{k}.png"), STATED) for k in range(3)]
    wrong = [(saved(tmp_path / f"wrong{k}.png", (20, 30)), STATED) for k in range(7)]
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    found = check_sizes([*right, (tmp_path / "broken.jpg", None), *wrong]) or ""
    assert found.startswith("8 of 11 pictures: ")
    assert found.count("EXIF") == 1
    assert "; and 3 more; these count after a rotation" in found
    assert "broken.jpg" in found
    assert [f"wrong{k}.png" in found for k in range(7)] == [True] * 4 + [False] * 3
    assert "right" not in found


def test_nothing_is_expected_where_no_size_is_stated(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png")
    assert check_sizes([(file, None)]) is None
    assert read_sized_picture(file, None).shape == (3, 20, 30)
    assert check_sizes([]) is None
