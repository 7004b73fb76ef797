from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.hub.part import Origin, Part, leftovers, partial_size, url_digest

URL = "https://me:secret@host/m.pth"
ORIGIN = Origin(url_digest(URL), '"v1"', None, 10)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "m é.pth"


def leave(target: Path, body: bytes, origin: Origin | None = ORIGIN) -> Part:
    """A part as an interrupted process leaves it."""
    with Part(target) as part:
        if origin is not None:
            part.remember(origin)
        part.write(body)
    return part


def hidden(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_whole_part_becomes_the_file(target: Path) -> None:
    with Part(target) as part:
        part.remember(ORIGIN)
        part.write(b"01234")
        part.write(b"56789")
        assert not target.exists()
        stamp = part.finish()
    assert target.read_bytes() == b"0123456789"
    assert part.digest.hexdigest() == hashlib.sha256(b"0123456789").hexdigest()
    assert part.head == b"0123456789"
    assert stamp == (10, target.stat().st_mtime_ns)
    assert hidden(target) == [target.name]


def test_an_unfinished_part_is_taken_over(target: Path) -> None:
    first = leave(target, b"01234")
    assert leftovers(target) == [first.path]
    assert partial_size(target) == 5
    with Part(target) as second:
        assert (second.size, second.origin, second.head) == (5, ORIGIN, b"01234")
        assert second.intact
        assert second.joined
        assert second.path != first.path
        assert not first.path.exists()
        second.write(b"56789")
        second.finish()
    assert target.read_bytes() == b"0123456789"
    assert hidden(target) == [target.name]


def test_names_are_unique_to_a_process(target: Path) -> None:
    with Part(target) as first, Part(target) as second:
        assert first.path != second.path


def test_nothing_is_left_of_an_empty_part_or_of_one_nobody_can_continue(target: Path) -> None:
    leave(target, b"")
    leave(target, b"01234", origin=None)
    assert hidden(target) == []


def test_what_a_killed_process_left_is_not_intact(target: Path) -> None:
    part = Part(target)
    part.remember(ORIGIN)
    part.write(b"01234")
    part.file.close()  # killed: no mark was written
    with Part(target) as second:
        assert second.size == 5
        assert not second.intact


class Interrupted:
    """A file or a hash at whose next `method` Ctrl-C comes, just behind it."""

    def __init__(self, inner: Any, method: str) -> None:
        self._inner, self._method = inner, method

    def copy(self) -> Interrupted:
        return Interrupted(self._inner.copy(), self._method)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        def interrupted(*args: Any) -> None:
            found(*args)
            raise KeyboardInterrupt

        return interrupted


@pytest.mark.parametrize(("attribute", "method"), [("file", "write"), ("digest", "update")])
def test_what_came_before_an_interruption_is_intact(target: Path, attribute: str, method: str) -> None:
    def begin() -> None:
        with Part(target) as part:
            part.remember(ORIGIN)
            part.write(b"some")
            setattr(part, attribute, Interrupted(getattr(part, attribute), method))
            part.write(b" more")

    with pytest.raises(KeyboardInterrupt):
        begin()
    with Part(target) as second:
        assert (second.size, second.intact) == (4, True)
        second.write(b" else")
        assert second.digest.hexdigest() == hashlib.sha256(b"some else").hexdigest()
        second.finish()
    assert target.read_bytes() == b"some else"


def test_bytes_that_changed_after_an_orderly_end_are_not_intact(target: Path) -> None:
    leave(target, b"01234").path.write_bytes(b"01!34")
    with Part(target) as part:
        assert not part.intact


@pytest.mark.parametrize(
    "note",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"origin": {}}',
        b'{"origin": {"url": 5}}',
        b'{"origin": {"url": "u", "total": "10"}}',
        b'{"origin": {"url": "u", "etag": "a\\r\\nHost: evil"}}',
        b'{"origin": {"url": "u", "more": 1}}',
    ],
)
def test_bytes_nobody_can_explain_are_dropped(target: Path, note: bytes | None) -> None:
    path = leave(target, b"01234").path.with_suffix(".json")
    path.unlink() if note is None else path.write_bytes(note)
    with Part(target) as part:
        assert (part.size, part.origin) == (0, None)
        assert not part.joined
    assert hidden(target) == []


def test_the_largest_leftover_is_kept_and_strays_are_removed(target: Path) -> None:
    for number, body in enumerate((b"0", b"01234", b"012")):
        left = target.with_name(f".{target.name}.0000000{number}.part")
        left.write_bytes(body)
        left.with_suffix(".json").write_text(json.dumps({"origin": vars(ORIGIN), "mark": None}))
    target.with_name(f".{target.name}.ffffffff.json").write_bytes(b"orphan")
    with Part(target) as part:
        assert part.size == 5
        assert hidden(target) == sorted([part.path.name, part.path.with_suffix(".json").name])


def test_other_files_are_left_alone(target: Path) -> None:
    others = [
        f".{target.name}.lock",
        f".{target.name}.adopted.part",
        f".{target.name}.ABCDEF01.part",
        f"x.{target.name}.0123abcd.part",
        ".n.pth.0123abcd.part",
    ]
    for name in others:
        target.with_name(name).write_bytes(b"x")
    leave(target, b"")
    assert hidden(target) == sorted(others)


def test_a_restart_forgets_bytes_and_origin_on_the_disk_too(target: Path) -> None:
    with Part(target) as part:
        part.remember(ORIGIN)
        part.write(b"01234")
        part.restart()
        assert (part.size, part.head, part.origin) == (0, b"", None)
        assert hidden(target) == [part.path.name]  # no note that could describe the bytes to come
        part.write(b"abc")
        assert part.path.read_bytes() == b"abc"
        assert part.digest.hexdigest() == hashlib.sha256(b"abc").hexdigest()


def test_no_password_stands_on_the_disk(target: Path) -> None:
    note = leave(target, b"01234").path.with_suffix(".json").read_text()
    assert "secret" not in note
    assert ORIGIN.is_of(URL)
    assert not ORIGIN.is_of("https://host/m.pth")


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "none" / "m.pth") == []
    assert partial_size(tmp_path / "none" / "m.pth") == 0
    with pytest.raises(FileNotFoundError):
        Part(tmp_path / "none" / "m.pth")
