"""`resnest-zoo doctor`: what it shows, what it finds wrong, and what its requests move."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.cli import doctor, main
from resnest_zoo.hub import Artifact, cache_dir, fetch, probe
from resnest_zoo.hub.sources import Source
from resnest_zoo.registry import Entry, list_models, register
from tests.hub.samples import BODY, NAME, SHA
from tests.servers import Fault, FileServer, HubServer, Reply

Capture = pytest.CaptureFixture[str]


def report(capsys: Capture, *more: str, code: int = 0) -> dict[str, Any]:
    assert main(["doctor", "--json", *more]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def known(own_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No entries but those of the test."""
    monkeypatch.setattr("resnest_zoo.registry._ENTRIES", {})
    monkeypatch.setattr("resnest_zoo.registry._NAMES", {})


def enter(name: str, *urls: str, **facts: Any) -> None:
    register(Entry(name, "backbone", Artifact(f"{name}.pth", urls, **facts)))


# --- this machine ---------------------------------------------------------------------------------------


def test_it_shows_what_a_report_of_a_bug_needs(capsys: Capture) -> None:
    found = report(capsys)
    assert {"python", "torch", "torchvision", "pillow", "requests"} <= set(found["versions"])
    assert "threads" in found["device"]["cpu"]
    assert {"gpu", "nms", "roi_align", "deform_conv2d"} <= set(found["device"])
    assert found["cache"]["folder"] == str(cache_dir())
    assert found["cache"]["writable"]
    assert found["cache"]["free_bytes"] > 0
    assert found["settings"]["offline"] is False
    assert found["problems"] == []
    assert "sources" not in found
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "nothing wrong was found" in shown
    assert str(cache_dir()) in shown


def test_it_makes_no_request_without_sources(no_sockets: None, capsys: Capture) -> None:
    report(capsys)


def test_no_secret_is_shown(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    monkeypatch.setenv("https_proxy", "http://me:s3cr3t@proxy:80")
    monkeypatch.setenv("all_proxy", "me:s3cr3t@proxy:80")  # as requests takes it too
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cr3t,s3cr3t@proxy:80")
    monkeypatch.setenv("HF_ENDPOINT", "https://host/a?one=s3cr3t,s3cr3t")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", "https://me:s3cr3t@host/a?signature=s3cr3t,https://b/,/folder")
    found = report(capsys)
    assert found["settings"]["hugging_face_token"] is True
    assert found["settings"]["mirrors"] == ["https://host/a?…", "https://b/", "/folder"]
    shown = found["settings"]["environment"]
    assert shown["https_proxy"] == shown["HTTPS_PROXY"] == "http://proxy:80"
    assert shown["all_proxy"] == "proxy:80"
    assert shown["HF_ENDPOINT"] == "https://host/a?…"
    assert shown["RESNEST_ZOO_MIRROR"] == "https://host/a?…,https://b/,/folder"
    assert "s3cr3t" not in json.dumps(found)


def test_a_package_that_is_older_than_it_may_be_is_named(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_floors", lambda: {"pillow": "99.1", "requests": "2.1", "no_such": "1.2"})
    problems = report(capsys, code=1)["problems"]
    assert len(problems) == 2
    assert problems[0].startswith("pillow ")
    assert "is older than 99.1" in problems[0]
    assert problems[1] == "no_such is not installed: pip install 'no_such>=1.2'"


def test_versions_are_compared_as_numbers() -> None:
    assert doctor._numbers("2.10.0+cu130") > doctor._numbers("2.9")
    assert doctor._numbers("2.13.0") >= doctor._numbers("2.13")


def test_a_pytorch_that_cannot_be_loaded_is_a_problem_not_a_traceback(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "PyTorch cannot be loaded: " in report(capsys, code=1)["problems"][0]


@pytest.mark.parametrize("kind", ["a file", "no home"])
def test_a_cache_that_cannot_be_used_is_a_problem(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "a file":
        (tmp_path / "cache").write_bytes(b"a file")
        expected = "cannot be written; RESNEST_ZOO_CACHE chooses another folder"
    else:
        monkeypatch.setenv("RESNEST_ZOO_SETTINGS", str(tmp_path / "none.yaml"))
        expected = "RESNEST_ZOO_SETTINGS"
    assert any(expected in problem for problem in report(capsys, code=1)["problems"])


def test_what_the_cache_holds_is_counted(capsys: Capture, server: FileServer) -> None:
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    fetch(Artifact(NAME, (f"{server.url}/{NAME}",), sha256=SHA))
    found = report(capsys)["cache"]
    assert (found["files"], found["bytes"], found["pinned"], found["locks"]) == (1, len(BODY), 1, "work")


# --- sources --------------------------------------------------------------------------------------------


def test_every_source_of_every_file_is_asked_once_and_no_body_moves(
    known: None, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert server.folder is not None
    (server.folder / "a.pth").write_bytes(BODY)
    server.replies["/old/a.pth"] = Reply(status=403)
    server.always = Fault(headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "b.pth").write_bytes(b"12345")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(tmp_path / "mirror"))
    enter("a", f"{server.url}/old/a.pth", f"{server.url}/a.pth", size=len(BODY))
    enter("b", f"{server.url}/none.pth")
    rows = report(capsys, "--sources")["sources"]
    assert [(row["name"], row["reachable"], row["size"]) for row in rows] == [
        ("a", False, None),  # the mirror's
        ("a", False, None),
        ("a", True, len(BODY)),
        ("b", True, 5),
        ("b", False, None),
    ]
    assert rows[2]["modified"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert rows[3]["modified"].endswith(" GMT")
    assert rows[1]["problem"] == "HTTP 403 Forbidden"
    assert rows[0]["problem"] == "No such file or directory"
    assert {request.method for request in server.requests} == {"HEAD"}
    assert sorted(server.paths) == ["/a.pth", "/none.pth", "/old/a.pth"]
    assert main(["doctor", "--sources"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 5 are there" in shown
    assert "HTTP 403 Forbidden" in shown


FAULTS = {
    "403": (Reply(status=403), "HTTP 403 Forbidden"),
    "404": (Reply(status=404), "HTTP 404 Not Found"),
    "410": (Reply(status=410), "HTTP 410 Gone"),
    "500": (Reply(status=500), "HTTP 500"),
    "429": (Reply(status=429, headers={"Retry-After": "3600"}), "HTTP 429"),
    "no HEAD": (Reply(status=405), "HTTP 405"),
    "HTML": (Reply(b"<html>", headers={"Content-Type": "text/html"}), "got a page of HTML"),
    "empty": (Reply(), "the file there is empty"),
    "wrong size": (Reply(BODY[:-1]), "expected 2,700,000 bytes, the file there has 2,699,999"),
    "redirect loop": (Reply(status=302, headers={"Location": "/m.pth"}), "TooManyRedirects"),
    "redirect to nowhere": (Reply(status=302, headers={"Location": "http://"}), "TooManyRedirects"),
    "reset": (Fault(after=0, how="reset"), None),  # of the body, which nobody asks for
    "no length": (Reply(BODY, length=""), None),
    "a nonsensical length": (Reply(BODY, length="1e9"), None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_is_wrong_with_a_server_is_said(
    known: None, server: FileServer, capsys: Capture, name: str
) -> None:
    assert server.folder is not None
    (server.folder / "m.pth").write_bytes(BODY)
    reply, reason = FAULTS[name]
    server.script["/m.pth"] = [reply] * 9
    enter("m", f"{server.url}/m.pth", size=len(BODY))
    found = report(capsys, "--sources", code=0 if reason is None else 1)
    (row,) = found["sources"]
    assert row["reachable"] is (reason is None)
    assert (reason or "") in (row["problem"] or "")
    assert found["problems"] == ([] if reason is None else ["1 files can be had from nowhere: m"])
    assert len(server.paths) == (6 if name.startswith("redirect") else 1)  # nothing is tried again


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and sends a byte of a header now and then, for ever."""
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    def serve() -> None:
        while not ended.is_set():
            try:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()
            except TimeoutError:
                continue

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        listening.settimeout(0.05)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join(5)


def test_the_whole_is_bounded_in_time_whatever_a_server_does(silent: str, server: FileServer) -> None:
    assert server.folder is not None
    (server.folder / "m.pth").write_bytes(BODY)
    asked = [(Artifact(f"{number}.pth"), Source("http", f"{silent}/m.pth")) for number in range(20)]
    asked.append((Artifact("m.pth"), Source("http", f"{server.url}/m.pth")))
    start = time.monotonic()
    found = probe.probe_all(asked, limit=1.0)
    assert time.monotonic() - start < 5
    assert [answer.problem for answer in found] == ["no answer within 1 s"] * 20 + [None]


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(
    known: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_TIMEOUT", (0.2, 0.2))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        enter("m", f"http://127.0.0.1:{listening.getsockname()[1]}/m.pth")
        (row,) = report(capsys, "--sources", code=1)["sources"]
    assert "timed out" in row["problem"]


def test_sources_are_asked_in_parallel(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(server, "find", lambda _: (both.wait(), None)[1])
    asked = [(Artifact(name), Source("http", f"{server.url}/{name}")) for name in ("a.pth", "b.pth")]
    assert [answer.problem for answer in probe.probe_all(asked)] == ["HTTP 404 Not Found"] * 2


def test_a_host_where_nobody_answers_is_not_asked_for_each_file(known: None, capsys: Capture) -> None:
    for number in range(20):
        enter(f"m{number}", f"http://127.0.0.1:9/{number}.pth")
    rows = report(capsys, "--sources", code=1)["sources"]
    assert sum("refused" in row["problem"] for row in rows) <= 4
    assert sum("nobody answered at 127.0.0.1:9" in row["problem"] for row in rows) >= 16


@pytest.mark.parametrize("variable", ["RESNEST_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nobody_is_asked(
    known: None, no_sockets: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    enter("m", "http://127.0.0.1:9/m.pth", "hf://me/weights/m.pth")
    found = report(capsys, "--sources")
    assert found["sources"] == []
    assert main(["doctor", "--sources"]) == 0
    assert "none was asked: offline" in capsys.readouterr().out


def test_a_file_that_is_cached_is_not_lost(known: None, server: FileServer, capsys: Capture) -> None:
    assert server.folder is not None
    (server.folder / "m.pth").write_bytes(BODY)
    enter("m", f"{server.url}/m.pth", sha256=SHA)
    fetch(Artifact("m.pth", (f"{server.url}/m.pth",), sha256=SHA))
    server.replies["/m.pth"] = Reply(status=403)
    (row,) = report(capsys, "--sources")["sources"]
    assert (row["reachable"], row["cached"]) == (False, True)


def test_gated_repositories_say_what_helps(
    known: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer() as hub:
        hub.files["me/weights", "main", "m.pth"] = BODY
        hub.replies["/me/gated/resolve/main/m.pth"] = Reply(
            status=401, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Restricted."}
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        enter("m", "hf://me/gated/m.pth", "hf://me/weights/m.pth")
        first, second = report(capsys, "--sources")["sources"]
    assert "accept its licence at" in first["problem"]
    assert (second["source"], second["size"]) == ("hf://me/weights/m.pth", len(BODY))


def test_the_files_of_this_zoo_that_lie_elsewhere_are_all_asked_for(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for those that come with the package."""

    def refuse(asked: Any, **_: Any) -> list[probe.Probe]:
        return [probe.Probe(artifact, source, "not asked") for artifact, source in asked]

    monkeypatch.setattr(probe, "probe_all", refuse)
    rows = report(capsys, "--sources", code=1)["sources"]
    names = {row["name"] for row in rows}
    assert names == {name for name in list_models(backbones=True) if not name.endswith("_shapes")}
    assert os.environ.get("HF_ENDPOINT") is None
    assert any(row["source"] == "hf://timm/resnest50d.in1k/model.safetensors" for row in rows)
