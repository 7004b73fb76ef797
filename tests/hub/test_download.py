from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.errors import ConfigError, DownloadError, IntegrityError
from resnest_zoo.hub import Artifact, cache_dir, fetch, transfer
from resnest_zoo.hub import download as module
from resnest_zoo.hub.pins import read_pins
from tests.hub.samples import BODY, NAME, SHA, make_artifact, unfinished_files, unhashed, visible_files
from tests.servers import Fault, FileServer, Reply


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts are recorded, not waited for."""
    pauses: list[float] = []
    monkeypatch.setattr(transfer, "_sleep", pauses.append)
    return pauses


@pytest.fixture
def served(server: FileServer) -> FileServer:
    """A server that has the file."""
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    return server


@pytest.mark.parametrize(
    "known", [{"sha256": SHA, "size": len(BODY)}, {"sha256_prefix": SHA[:8]}, {"size": len(BODY)}]
)
def test_a_file_is_downloaded_once(served: FileServer, known: dict[str, Any]) -> None:
    artifact = make_artifact(served, **known)
    path = fetch(artifact)
    assert path == cache_dir() / NAME
    assert path.read_bytes() == BODY
    assert fetch(artifact) == path
    assert served.paths == [f"/{NAME}"]
    assert visible_files() == [NAME]


def test_a_cached_file_opens_no_connection(served: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(make_artifact(served))

    def refuse(*_: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    fetch(make_artifact(served))


def test_a_cached_file_needs_no_writable_cache(served: FileServer) -> None:
    path = fetch(make_artifact(served))
    for lock in cache_dir().glob(".*"):
        lock.unlink()
    fetch(make_artifact(served))
    assert sorted(cache_dir().iterdir()) == [path, cache_dir() / "pins.json"]


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (Reply(status=403), DownloadError, "HTTP 403 Forbidden"),
        (Reply(status=404), DownloadError, "HTTP 404 Not Found"),
        (Reply(status=500), DownloadError, "HTTP 500"),
        (Reply(BODY, status=206), DownloadError, "HTTP 206"),
        (Reply(BODY[:-1]), IntegrityError, f"expected SHA-256 {SHA[:8]}…, got "),
        (Reply(BODY[:-1], length=""), IntegrityError, "expected SHA-256"),
        (Reply(BODY[:-1] + b"!"), IntegrityError, "expected SHA-256"),
        (Reply(b""), IntegrityError, "empty file"),
        (Reply(b"<html>denied</html>"), IntegrityError, "page of HTML"),
        (
            Reply(b"denied", headers={"Content-Type": "text/html; charset=utf-8"}),
            IntegrityError,
            "page of HTML",
        ),
        (Reply(status=302, headers={"Location": f"/{NAME}"}), DownloadError, "TooManyRedirects"),
        (Reply(status=302, headers={"Location": "ftp://127.0.0.1/x"}), DownloadError, "InvalidSchema"),
    ],
)
def test_a_bad_answer_leaves_no_file_and_says_what_came(
    server: FileServer, reply: Reply, error: type[DownloadError], reason: str
) -> None:
    server.replies[f"/{NAME}"] = reply
    with pytest.raises(DownloadError) as caught:
        fetch(make_artifact(server))
    message = str(caught.value)
    assert type(caught.value) is error
    assert f"  {server.url}/{NAME}: " in message
    assert reason in message
    assert visible_files() == []


def test_the_error_ends_with_the_recipe(server: FileServer) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(make_artifact(server))
    recipe = str(caught.value).partition("by hand:")[2]
    assert f"address  {server.url}/{NAME}" in recipe
    assert f"save as  {cache_dir() / NAME}" in recipe
    assert f"SHA-256  begins with {SHA[:8]}" in recipe
    with pytest.raises(DownloadError, match="SHA-256  not known"):
        fetch(make_artifact(server, size=5))


def test_an_html_page_is_refused_without_a_known_hash(server: FileServer) -> None:
    server.replies[f"/{NAME}"] = Reply(b"\n <!DOCTYPE html>")
    with pytest.raises(IntegrityError, match="page of HTML"):
        fetch(unhashed(server))
    assert visible_files() == []


def test_a_wrong_size_is_refused_before_it_travels(served: FileServer) -> None:
    with pytest.raises(IntegrityError, match=f"expected 7 bytes, got {len(BODY)}"):
        fetch(make_artifact(served, size=7))
    assert visible_files() == unfinished_files() == []


def test_a_body_without_length_is_cut_at_the_known_size(served: FileServer) -> None:
    served.replies[f"/{NAME}"] = Reply(BODY, length="")
    with pytest.raises(IntegrityError, match=r"expected 7 bytes, got \d+"):
        fetch(make_artifact(served, size=7))


def test_a_body_without_length_needs_a_hash_or_a_size(served: FileServer) -> None:
    served.replies[f"/{NAME}"] = Reply(BODY, length="")
    with pytest.raises(DownloadError, match="how long the file is"):
        fetch(unhashed(served))
    assert fetch(make_artifact(served, size=len(BODY))).read_bytes() == BODY


def test_a_compressed_transfer_arrives_unpacked(served: FileServer) -> None:
    import gzip

    served.replies[f"/{NAME}"] = Reply(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    assert fetch(make_artifact(served)).read_bytes() == BODY


def test_redirects_are_followed(served: FileServer) -> None:
    served.replies["/old.pth"] = Reply(status=302, headers={"Location": f"/{NAME}"})
    artifact = Artifact(NAME, (f"{served.url}/old.pth",), sha256=SHA)
    assert fetch(artifact).read_bytes() == BODY


def test_the_next_url_is_asked_when_one_fails(served: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    served.replies["/first.pth"] = Reply(status=403)
    served.replies["/second.pth"] = Reply(b"other bytes")
    urls = tuple(f"{served.url}/{name}" for name in ("first.pth", "second.pth", NAME))
    assert fetch(Artifact(NAME, urls, sha256=SHA)).read_bytes() == BODY
    assert served.paths == ["/first.pth", "/second.pth", f"/{NAME}"]
    assert "403 Forbidden" in caplog.text
    assert "expected SHA-256" in caplog.text


def test_mirrors_come_first_and_in_order(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"my model é-{SHA[:8]}.pth"
    (tmp_path / "empty").mkdir()
    (served.folder / name).write_bytes(BODY)  # type: ignore[operator]
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"{tmp_path / 'empty'}, {served.url}/nothing/ ,{served.url}")
    fetch(Artifact(name, ("http://127.0.0.1:9/never-asked.pth",), sha256=SHA))
    quoted = f"my%20model%20%C3%A9-{SHA[:8]}.pth"
    assert served.paths == [f"/nothing/{quoted}", f"/{quoted}"]


@pytest.mark.parametrize("form", ["path", "uri", "home"])
def test_a_folder_is_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    folder = tmp_path / "my mirror"
    folder.mkdir()
    (folder / NAME).write_bytes(BODY)
    monkeypatch.setenv("HOME", str(tmp_path))
    mirror = {"path": str(folder), "uri": folder.as_uri(), "home": "~/my mirror"}[form]
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", mirror)
    path = fetch(Artifact(NAME, sha256=SHA))
    assert path == cache_dir() / NAME
    assert path.read_bytes() == BODY


def test_a_wrong_file_in_a_folder_mirror_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"other bytes")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(tmp_path))
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        fetch(Artifact(NAME, sha256=SHA))
    assert visible_files() == []


def test_a_mirror_of_unknown_kind_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", "s3://me:secret@bucket")
    with pytest.raises(ConfigError, match="'s3://bucket' cannot be a mirror"):
        fetch(Artifact(NAME))


def test_passwords_stay_out_of_messages(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", server.url.replace("//", "//me:sec@ret@"))
    with pytest.raises(DownloadError) as caught:
        fetch(Artifact(NAME, sha256=SHA))
    assert f"{server.url}/{NAME}" in str(caught.value)
    assert "ret@" not in str(caught.value) + caplog.text


def test_a_damaged_cached_file_is_replaced(served: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    artifact = make_artifact(served)
    path = fetch(artifact)
    path.write_bytes(BODY[:-1])
    assert fetch(artifact).read_bytes() == BODY
    assert len(served.paths) == 2
    assert f"cached file {path}: expected SHA-256" in caplog.text


def test_a_damaged_cached_file_is_never_returned(server: FileServer) -> None:
    path = cache_dir() / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match=r"copy in the cache cannot be used either: expected SHA-256"):
        fetch(make_artifact(server))
    assert path.read_bytes() == b"damaged"


def test_a_known_local_file_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(BODY)
    assert fetch(Artifact("model.pth", path=path, sha256=SHA)) == path
    assert fetch(Artifact("model.pth", path=path)) == path
    assert not cache_dir().exists()
    with pytest.raises(IntegrityError, match=r"model\.pth.* expected SHA-256"):
        fetch(Artifact("model.pth", path=path, sha256="0" * 64))
    with pytest.raises(DownloadError, match="does not exist"):
        fetch(Artifact("none.pth", path=tmp_path / "none.pth"))


@pytest.mark.parametrize("name", ["RESNEST_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_opens_no_socket(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setenv(name, value)
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"{served.url},hf://me/weights")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DownloadError, match=r"offline by RESNEST_ZOO_OFFLINE.*no request was made"):
        fetch(make_artifact(served))
    assert served.paths == []
    assert visible_files() == []


def test_offline_still_uses_cache_and_folders(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", "1")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"{served.url},{served.folder}")
    assert fetch(make_artifact(served)).read_bytes() == BODY
    monkeypatch.delenv("RESNEST_ZOO_MIRROR")
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert served.paths == []


@pytest.mark.parametrize("value", ["", "0", "false", "Off"])
def test_offline_can_be_switched_off(served: FileServer, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", value)
    assert fetch(make_artifact(served)).is_file()


def test_a_file_without_address_says_so() -> None:
    with pytest.raises(DownloadError, match="no address"):
        fetch(Artifact("m.pth", sha256=SHA))


def test_a_file_nobody_can_verify_warns_once(served: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    module._warn_unverified.cache_clear()
    for _ in range(2):
        fetch(make_artifact(served, size=len(BODY)))
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [NAME in record.message and "verify" in record.message for record in warnings] == [True]


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_the_bar_names_the_file(
    served: FileServer, capsys: pytest.CaptureFixture[str], progress: bool | None, shown: bool
) -> None:
    fetch(make_artifact(served), progress=progress)
    captured = capsys.readouterr()
    assert (NAME in captured.err and "2.70M/2.70M" in captured.err) is shown
    assert captured.out == ""


def test_a_function_is_told_the_progress_in_place_of_a_bar(
    served: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[int, int | None]] = []
    fetch(make_artifact(served), progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert (told[0][0], told[-1]) == (0, (len(BODY), len(BODY)))
    assert capsys.readouterr() == ("", "")
    told.clear()
    fetch(make_artifact(served), progress=lambda done, total: told.append((done, total)))
    assert told == []  # it is there


def test_a_cache_that_cannot_be_a_folder_is_explained(
    served: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_dir().parent.mkdir(exist_ok=True)
    cache_dir().write_bytes(b"a file")
    with pytest.raises(DownloadError, match="RESNEST_ZOO_CACHE chooses another folder"):
        fetch(make_artifact(served))
    assert served.paths == []


def test_threads_share_one_transfer(served: FileServer) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(make_artifact(served)).read_bytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BODY] * 4
    assert served.paths == [f"/{NAME}"]


def test_a_pinned_file_is_not_read_again(served: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(make_artifact(served))
    monkeypatch.setattr(module, "read_content", None)
    assert fetch(make_artifact(served)) == path


def test_a_file_replaced_behind_our_back_is_hashed_and_replaced(served: FileServer) -> None:
    path = fetch(make_artifact(served))
    old = path.stat()
    path.write_bytes(BODY[:-1] + b"!")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns - 10**9))  # a clock that went backwards
    assert fetch(make_artifact(served)).read_bytes() == BODY


def test_a_touched_file_is_hashed_once(served: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(make_artifact(served))
    os.utime(path, (0, 0))
    fetch(make_artifact(served))
    monkeypatch.setattr(module, "read_content", None)
    fetch(make_artifact(served))
    assert served.paths == [f"/{NAME}"]


def test_a_vanished_file_is_fetched_again_whatever_its_pin_says(served: FileServer) -> None:
    path = fetch(make_artifact(served))
    pins = read_pins(cache_dir())
    path.unlink()
    from resnest_zoo.hub.pins import write_pin

    write_pin(cache_dir(), NAME, module.replace(pins[NAME], stamp=None))
    assert fetch(make_artifact(served)).read_bytes() == BODY


def test_the_first_arrival_is_pinned(served: FileServer) -> None:
    path = fetch(unhashed(served))
    pin = read_pins(cache_dir())[NAME]
    assert (pin.sha256, pin.size) == (SHA, len(BODY))
    assert pin.source == f"{served.url}/{NAME}"
    assert pin.stamp == (path.stat().st_size, path.stat().st_mtime_ns)


def test_other_bytes_than_the_pinned_are_refused_and_explained(served: FileServer) -> None:
    fetch(unhashed(served)).unlink()
    served.replies[f"/{NAME}"] = Reply(b"\x80other bytes")
    with pytest.raises(IntegrityError) as caught:
        fetch(unhashed(served))
    message = str(caught.value)
    assert f"expected SHA-256 {SHA}, pinned when the file first came" in message
    assert f"resnest-zoo cache clean --pins {NAME}" in message
    assert visible_files() == []


def test_a_pin_gives_way_to_a_newly_published_hash(
    served: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    served.script[f"/{NAME}"] = [Reply(b"\x80forged bytes")]
    fetch(unhashed(served))
    assert fetch(make_artifact(served, sha256=SHA)).read_bytes() == BODY
    assert "its pin contradicts what is published" in caplog.text
    assert read_pins(cache_dir())[NAME].sha256 == SHA


def test_a_right_file_is_served_though_it_cannot_be_pinned(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_pin", full)
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert "could not be pinned" in caplog.text


@pytest.mark.parametrize("pins", [b"", b"{", b"[]", b'{"files": {"m": {}}}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_pin_file_is_put_aside(
    served: FileServer, caplog: pytest.LogCaptureFixture, pins: bytes
) -> None:
    fetch(make_artifact(served))
    (cache_dir() / "pins.json").write_bytes(pins)
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert "hashed and pinned afresh" in caplog.text
    assert (cache_dir() / "pins.json.damaged").read_bytes() == pins
    assert list(read_pins(cache_dir())) == [NAME]
    assert served.paths == [f"/{NAME}"]


@pytest.mark.parametrize("link", [False, True])
def test_a_copy_of_torch_hub_is_adopted(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: bool
) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    stored = tmp_path / "blob" if link else folder / NAME
    stored.write_bytes(BODY)
    if link:
        (folder / NAME).symlink_to(stored)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = fetch(make_artifact(served))
    assert path.stat().st_ino == stored.stat().st_ino
    assert not path.is_symlink()
    assert served.paths == []
    assert unfinished_files() == []


def test_a_wrong_copy_is_left_alone(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "torch" / "hub" / "checkpoints" / NAME
    copy.parent.mkdir(parents=True)
    copy.write_bytes(BODY[:-1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert copy.read_bytes() == BODY[:-1]


def test_a_copy_is_adopted_across_file_systems(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def other_device(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    copy = tmp_path / "fvcore" / NAME
    copy.parent.mkdir()
    copy.write_bytes(BODY)
    monkeypatch.setenv("FVCORE_CACHE", str(copy.parent))
    monkeypatch.setattr(os, "link", other_device)
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert served.paths == []


def test_an_imported_file_is_checked_like_any_source(served: FileServer, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.pth", tmp_path / "wrong.pth"
    right.write_bytes(BODY)
    wrong.write_bytes(BODY[:-1])
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        fetch(make_artifact(served), file=wrong)
    assert visible_files() == []
    assert fetch(make_artifact(served), file=right).read_bytes() == BODY
    assert served.paths == []


def test_a_transfer_the_disk_has_no_room_for_is_not_begun(
    served: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.script[f"/{NAME}"] = [Fault(after=1_000_000)]
    usage = shutil.disk_usage(cache_dir().parent)._replace(free=1_500_000)
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(
            DownloadError, match=r"2,700,000 bytes to come, 1,500,000 bytes free.*RESNEST_ZOO_CACHE"
        ):
            fetch(make_artifact(served))
    assert visible_files() == []
    assert fetch(make_artifact(served)).read_bytes() == BODY


def test_bytes_of_one_mirror_are_continued_from_the_next(served: FileServer) -> None:
    served.script["/first.pth"] = [Fault(after=1_000_000)] * 9
    (served.folder / "first.pth").write_bytes(BODY)  # type: ignore[operator]
    served.script["/first.pth"] = [Fault(after=1_000_000), *[Reply(status=500)] * 9]
    urls = (f"{served.url}/first.pth", f"{served.url}/{NAME}")
    assert fetch(Artifact(NAME, urls, sha256=SHA)).read_bytes() == BODY
    assert served.ranges(f"/{NAME}") == ["bytes=1000000-"]


def test_a_portal_page_does_not_cost_the_bytes_so_far(served: FileServer) -> None:
    portal = Reply(b"<html>Log in</html>", headers={"Content-Type": "text/html"})
    served.script[f"/{NAME}"] = [Fault(after=1_000_000), portal]
    with pytest.raises(IntegrityError, match="page of HTML"):
        fetch(make_artifact(served))
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert served.ranges(f"/{NAME}")[-1] == "bytes=1000000-"


def test_a_folder_without_the_file_does_not_cost_the_bytes_so_far(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served.script[f"/{NAME}"] = [Fault(after=1_000_000), Reply(status=404)]
    with pytest.raises(DownloadError, match="404"):
        fetch(make_artifact(served))
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(tmp_path))
    assert fetch(make_artifact(served)).read_bytes() == BODY
    assert served.ranges(f"/{NAME}")[-1] == "bytes=1000000-"


def test_the_bar_starts_at_the_resumed_bytes(served: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    served.script[f"/{NAME}"] = [Fault(after=1_350_000), Reply(status=404)]
    with pytest.raises(DownloadError, match="404"):
        fetch(make_artifact(served), progress=False)
    fetch(make_artifact(served), progress=True)
    shown = capsys.readouterr().err
    assert "50%" in shown
    assert "1.35M/2.70M" in shown


def test_the_longest_name_is_fetched_and_resumed(served: FileServer) -> None:
    name = "m" * 236 + ".pth"
    (served.folder / name).write_bytes(BODY)  # type: ignore[operator]
    served.script[f"/{name}"] = [Fault(after=1_000_000), Reply(status=404)]
    artifact = Artifact(name, (f"{served.url}/{name}",), sha256=SHA)
    with pytest.raises(DownloadError, match="404"):
        fetch(artifact)
    assert fetch(artifact).read_bytes() == BODY
    assert served.ranges(f"/{name}")[-1] == "bytes=1000000-"


def test_two_artifacts_of_one_name_never_get_each_others_bytes(served: FileServer) -> None:
    """The registry refuses such entries; this is what happens to those who do without it."""
    import hashlib

    other = b"\x80\x02other" * 1000
    (served.folder / "other.pth").write_bytes(other)  # type: ignore[operator]
    second = Artifact(NAME, (f"{served.url}/other.pth",), sha256=hashlib.sha256(other).hexdigest())
    for _ in range(2):
        assert fetch(make_artifact(served, sha256=SHA)).read_bytes() == BODY
        assert fetch(second).read_bytes() == other


@pytest.mark.parametrize("announced", [True, False])
def test_a_source_that_fills_the_disk_does_not_stop_the_next(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    room, write = 3_000_000, module.Part.write

    def fill(self: module.Part, chunk: bytes) -> None:
        if self.size + len(chunk) > room:
            raise OSError(28, "No space left on device")
        write(self, chunk)

    monkeypatch.setattr(module.Part, "write", fill)
    usage = shutil.disk_usage(cache_dir().parent)._replace(free=room)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    served.replies["/big.pth"] = Reply(bytes(4_000_000), length=None if announced else "")
    urls = (f"{served.url}/big.pth", f"{served.url}/{NAME}")
    assert fetch(Artifact(NAME, urls, sha256_prefix=SHA[:8])).read_bytes() == BODY
    assert unfinished_files() == []
    reason = "4,000,000 bytes to come" if announced else "No space left on device"
    with pytest.raises(DownloadError, match=f"{reason}.*The disk or your quota is full: free some space"):
        fetch(Artifact("other.pth", urls[:1], sha256=SHA))
