"""What a word means as pictures of a job, and the ids they have."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from pathlib import Path

import pytest

from resnest_zoo.errors import ConfigError, DataError, ImageError
from resnest_zoo.integrations.ray.sources import Listing, find_pictures, read_shard


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def pack(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def test_a_folder_means_its_pictures_by_their_paths_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.PNG", "a/1.webp", ".hidden.jpg", "a/.x/3.jpg", "notes.txt", "a b#ü.jpg")
    found = find_pictures(str(tmp_path))
    assert found.ids == ["a b#ü.jpg", "b.jpg", "a/1.webp", "a/2.PNG"]
    assert [Path(name).read_bytes().decode() for name in found.addresses] == found.ids
    assert not found.are_shards


def test_a_list_means_its_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/1.jpg")
    lines = [
        "a/1.jpg",
        "# a note",
        "https://me:secret@host/x.jpg?size=2",
        "s3://bucket/y.jpg",
        "/far/z.jpg",
        "a/1.jpg",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        found = find_pictures(str(tmp_path / "list.txt"))
    assert found.ids[:2] == ["a/1.jpg", "https://host/x.jpg?size=2"]
    assert found.ids[2:] == ["s3://bucket/y.jpg", "/far/z.jpg"] or found.ids[2].startswith("s3:")
    assert found.addresses[1] == "https://me:secret@host/x.jpg?size=2"
    assert "1 names repeat and are taken once" in caplog.text


def test_a_coco_file_means_its_images(tmp_path: Path) -> None:
    file = tmp_path / "coco.json"
    file.write_text(
        json.dumps({"images": [{"id": 7, "file_name": "a/7.jpg"}, {"id": 9, "file_name": "9.jpg"}]})
    )
    assert find_pictures(str(file)).addresses == [str(tmp_path / "a/7.jpg"), str(tmp_path / "9.jpg")]
    far = find_pictures(str(file), "s3://bucket/val/")
    assert far.ids == ["a/7.jpg", "9.jpg"]
    assert far.addresses == ["s3://bucket/val/a/7.jpg", "s3://bucket/val/9.jpg"]
    file.write_text(json.dumps({"images": [{"id": 7}]}))
    with pytest.raises(DataError, match="expected a file_name for every image"):
        find_pictures(str(file))


def test_a_pattern_means_files(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.jpg", "x/2.jpg", "y/1.jpg")
    assert find_pictures(f"{tmp_path}/*/1.jpg").ids == ["x/1.jpg", "y/1.jpg"]
    assert find_pictures(f"{tmp_path}/x/2.jpg").ids == ["2.jpg"]


def test_shards_are_told_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "s-000.tar", "s-001.tar")
    for source in (str(tmp_path), f"{tmp_path}/s-*.tar", f"{tmp_path}/s-{{000..001}}.tar"):
        found = find_pictures(source)
        assert found.are_shards
        assert found.ids == ["s-000.tar", "s-001.tar"]
    assert find_pictures("s3://b/{a,b}-{8..10}.tar").addresses[:4] == [
        "s3://b/a-8.tar",
        "s3://b/a-9.tar",
        "s3://b/a-10.tar",
        "s3://b/b-8.tar",
    ]
    assert find_pictures("https://host/x.tar").are_shards


def test_an_object_store_is_listed() -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in ("b.jpg", "a/1.png", "notes.txt"):
        store.pipe_file(f"/pictures/{name}", b"x")
    try:
        found = find_pictures("memory://pictures")
        assert found.ids == ["a/1.png", "b.jpg"]
        assert [fsspec.open(name, "rb").open().read() for name in found.addresses] == [b"x", b"x"]
        assert find_pictures("memory://pictures/*.jpg").ids == ["b.jpg"]
        with pytest.raises(ImageError, match="no pictures and no shards"):
            find_pictures("memory://nothing")
    finally:
        store.rm("/pictures", recursive=True)


def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures and no shards"):
        find_pictures(str(tmp_path))
    touch(tmp_path, "a.jpg", "b.tar")
    with pytest.raises(ImageError, match=r"holds pictures \(a.jpg\) and shards \(b.tar\)"):
        find_pictures(str(tmp_path))
    with pytest.raises(ConfigError, match="belongs to a COCO file"):
        find_pictures(str(tmp_path), "elsewhere")
    with pytest.raises(ConfigError, match="runs backwards"):
        find_pictures("x-{3..1}.tar")
    with pytest.raises(ConfigError, match="braces do not close"):
        find_pictures("x-{a{b}}.tar")
    with pytest.raises(ImageError, match="http tells no names of files"):
        find_pictures("https://host/folder")
    with pytest.raises(ImageError, match="cannot be listed"):
        find_pictures("nosuchscheme://a/b")


def test_the_pictures_of_a_shard_come_in_order_and_each_has_its_id(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    path = pack(tmp_path / "s.tar", "1.jpg", "1.json", "1.cls", "a/2.png", "1.jpg")
    rows = list(read_shard("s.tar", str(path)))
    assert [row["id"] for row in rows] == ["s.tar#1.jpg", "s.tar#a/2.png", "s.tar#1.jpg~2"]
    assert [row["content"] for row in rows] == [b"1.jpg", b"a/2.png", b"1.jpg"]


def test_a_shard_that_ends_early_says_so_after_what_it_has(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    path = pack(tmp_path / "s.tar", "1.jpg", "2.jpg")
    path.write_bytes(path.read_bytes()[:1026])  # in the second picture's name
    first, last = read_shard("s.tar", str(path))
    assert first["id"] == "s.tar#1.jpg"
    assert last["id"] == "s.tar"
    assert last["error"].startswith("s.tar: the shard cannot be read further")
    path = pack(tmp_path / "s.tar", "1.jpg", "2.jpg")
    path.write_bytes(path.read_bytes()[:1538])  # in its content
    assert [row["error"] is None for row in read_shard("s.tar", str(path))] == [True, False]
    (missing,) = read_shard("t.tar", str(tmp_path / "t.tar"))
    assert missing["error"] is not None


def test_a_listing_has_a_length() -> None:
    assert len(Listing(["a"], ["b"])) == 1
