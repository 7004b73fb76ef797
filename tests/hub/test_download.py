from __future__ import annotations

import errno
import hashlib
import io
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from resnest_zoo.errors import ConfigError, DownloadError, IntegrityError
from resnest_zoo.hub import Artifact, cache_dir, fetch
from resnest_zoo.hub import download as module
from resnest_zoo.hub import transfer
from tests.servers import FileServer, Reply

BODY = b"\x80\x02weights" * 300_000  # 2.7 MB: some chunks
SHA = hashlib.sha256(BODY).hexdigest()
NAME = f"model-{SHA[:8]}.pth"


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


def make_artifact(server: FileServer, **known: Any) -> Artifact:
    return Artifact(NAME, (f"{server.url}/{NAME}",), **(known or {"sha256_prefix": SHA[:8]}))


def visible_files() -> list[str]:
    return [path.name for path in cache_dir().iterdir() if not path.name.endswith(".lock")]


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
    assert list(cache_dir().iterdir()) == [path]


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (Reply(status=403), DownloadError, "HTTP 403 Forbidden"),
        (Reply(status=404), DownloadError, "HTTP 404 Not Found"),
        (Reply(status=500), DownloadError, "HTTP 500"),
        (Reply(BODY, status=206), DownloadError, "HTTP 206"),
        (Reply(BODY[:-1], length=len(BODY)), DownloadError, "bytes"),
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


@pytest.mark.parametrize("length", [None, ""])
def test_an_html_page_is_refused_without_a_known_hash(server: FileServer, length: str | None) -> None:
    server.replies[f"/{NAME}"] = Reply(b"\n <!DOCTYPE html>", length=length)
    with pytest.raises(IntegrityError, match="page of HTML"):
        fetch(make_artifact(server, size=None))
    assert visible_files() == []


@pytest.mark.parametrize("length", [None, ""])
def test_a_wrong_size_is_refused(served: FileServer, length: str | None) -> None:
    served.replies[f"/{NAME}"] = Reply(BODY, length=length)
    with pytest.raises(IntegrityError, match=f"expected 7 bytes, got {len(BODY)}"):
        fetch(make_artifact(served, size=7))


def test_a_compressed_transfer_arrives_unpacked(served: FileServer) -> None:
    import gzip

    served.replies[f"/{NAME}"] = Reply(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    assert fetch(make_artifact(served)).read_bytes() == BODY


def test_redirects_are_followed(served: FileServer) -> None:
    served.replies["/old.pth"] = Reply(status=302, headers={"Location": f"/{NAME}"})
    artifact = Artifact(NAME, (f"{served.url}/old.pth",), sha256=SHA)
    assert fetch(artifact).read_bytes() == BODY


def test_a_redirect_out_of_https_is_refused() -> None:
    response = requests.Response()
    response.url, response.status_code = "https://host/model.pth", 302
    response.headers["Location"] = "http://host/model.pth"
    response.raw = io.BytesIO()
    with pytest.raises(DownloadError, match=r"from https to http://host/model\.pth"):
        module._refuse_downgrade(response)
    response.headers["Location"] = "//other/model.pth"
    module._refuse_downgrade(response)


def test_a_stalled_server_ends_in_an_error(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", (1.0, 0.1))
    server.replies[f"/{NAME}"] = Reply(BODY, stall_after=1000)
    with pytest.raises(DownloadError, match="timed out"):
        fetch(make_artifact(server))
    assert visible_files() == []


def test_a_refused_connection_ends_in_an_error() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match=r"ConnectionError: .*refused"):
        fetch(Artifact("m.pth", (f"http://127.0.0.1:{port}/m.pth",), size=1))


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
    with pytest.raises(ConfigError, match="RESNEST_ZOO_MIRROR: 's3://bucket'"):
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


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_makes_no_request(served: FileServer, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", value)
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", served.url)
    with pytest.raises(DownloadError, match="RESNEST_ZOO_OFFLINE is set: no request was made"):
        fetch(make_artifact(served))
    assert served.paths == []
    assert not cache_dir().exists()


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


def test_interruption_leaves_nothing(served: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def update(self, _: bytes) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(hashlib, "sha256", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(make_artifact(served))
    assert visible_files() == []
    monkeypatch.undo()


def test_a_full_disk_is_not_blamed_on_the_source(served: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_receive", full)
    with pytest.raises(DownloadError, match=r"cannot be written: .*No space left.*RESNEST_ZOO_CACHE"):
        fetch(make_artifact(served))


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
