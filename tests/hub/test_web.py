"""A file from any address: what is refused, and that nothing goes where it must not."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from resnest_zoo.errors import DownloadError
from resnest_zoo.hub import web
from resnest_zoo.hub.web import read_url
from tests.servers import Fault, FileServer, Reply


def redirect(goal: str) -> Reply:
    return Reply(status=302, headers={"Location": goal})


def test_what_lies_at_an_address_is_read(server: FileServer) -> None:
    assert server.folder is not None
    (server.folder / "a b.bin").write_bytes(b"content")
    assert read_url(f"{server.url}/a%20b.bin") == b"content"
    server.replies["/packed"] = Reply(gzip.compress(b"content"), headers={"Content-Encoding": "gzip"})
    assert read_url(f"{server.url}/packed") == b"content"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(status=404), "^HTTP 404 Not Found$"),
        (Reply(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}), "is a page of HTML"),
        (Reply(b"x" * 2000), "is longer than 0 MiB, which is the limit"),
        (Reply(b"x" * 2000, length=""), "is longer than 0 MiB, which is the limit"),
        (Reply(gzip.compress(b"x" * 2000), headers={"Content-Encoding": "gzip"}), "is longer than 0 MiB"),
        (redirect("file:///etc/passwd"), "redirects to file:///etc/passwd, which is refused"),
        (redirect("ftp://127.0.0.1/x"), "redirects to ftp://127.0.0.1/x, which is refused"),
        (redirect("/it"), "redirects more than 10 times"),
    ],
)
def test_other_answers_are_one_error(server: FileServer, reply: Reply, message: str) -> None:
    server.replies["/it"] = reply
    with pytest.raises(DownloadError, match=message):
        read_url(f"{server.url}/it", limit=1000)


def test_an_answer_that_is_cut_off_is_an_error(server: FileServer) -> None:
    assert server.folder is not None
    (server.folder / "it").write_bytes(b"x" * 5000)
    server.always = Fault(after=1000)
    with pytest.raises(DownloadError, match=r"IncompleteRead|ConnectionError|ChunkedEncodingError"):
        read_url(f"{server.url}/it")


def test_a_server_that_stalls_or_trickles_ends_in_time(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies["/stall"] = Reply(b"x" * 10, stall_after=5)
    monkeypatch.setattr(web, "_TIMEOUT", (1.0, 0.2))
    with pytest.raises(DownloadError, match="timed out"):
        read_url(f"{server.url}/stall")
    assert server.folder is not None
    (server.folder / "slow").write_bytes(b"x" * 1000)
    server.always = Fault(pace=0.05, block=10)
    monkeypatch.setattr(web, "_CHUNK", 10)
    with pytest.raises(DownloadError, match="did not arrive in time"):
        web.copy_url(f"{server.url}/slow", io.BytesIO(), limit=1000, seconds=0.2)


def test_a_public_host_does_not_lead_to_a_private_one(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_addresses", lambda host: {"8.8.8.8" if host == "localhost" else host})
    public = server.url.replace("127.0.0.1", "localhost")
    server.replies["/out"] = redirect(f"{server.url}/secret")
    server.replies["/within"] = redirect("/secret")
    server.replies["/secret"] = Reply(b"secret")
    with pytest.raises(DownloadError, match="/secret, which is refused: a private address"):
        read_url(f"{public}/out")
    assert server.paths == ["/out"]
    assert read_url(f"{public}/within") == b"secret"
    assert read_url(f"{server.url}/out") == b"secret"  # from a private host, to where the user was already


@pytest.mark.parametrize(
    ("address", "private"),
    [
        *((text, True) for text in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1%eth0")),
        *((text, True) for text in ("0.0.0.0", "100.64.0.1", "::ffff:127.0.0.1", "fd00::1", "224.0.0.1")),
        *((text, False) for text in ("8.8.8.8", "2606:4700::1111")),
    ],
)
def test_which_addresses_are_private(address: str, private: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_addresses", lambda host: {"8.8.4.4", address})
    assert web._is_private("https://host/x") is private


def test_offline_makes_no_request(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match="RESNEST_ZOO_OFFLINE is set"):
        read_url(f"{server.url}/it")
    assert server.paths == []


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://user:secret@127.0.0.1:1/x"])
def test_an_address_that_is_none_is_one_error_without_its_secret(url: str) -> None:
    with pytest.raises(DownloadError) as caught:
        read_url(url)
    assert "secret" not in str(caught.value)
