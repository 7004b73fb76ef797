"""Files of repositories that users name: which commit a branch is, what is kept, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from resnest_zoo.errors import DownloadError, IntegrityError, RegistryError
from resnest_zoo.hub import cache_dir, fetch_address, transfer
from resnest_zoo.hub.pins import read_pins
from resnest_zoo.hub.repositories import parse_address
from tests.hub.samples import BODY
from tests.push_server import PushServer
from tests.servers import FileServer, Reply

OTHER = BODY[::-1].replace(BODY[-1:], b"\x80", 1)
NAME = "model.safetensors"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    with PushServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.create("org/net", {NAME: BODY, "notes.pth": BODY, "small.txt": b"\x80plain"})
        yield server


def unpinned() -> list[str]:
    return [path.name for path in cache_dir().iterdir() if path.name[0] != "." and path.suffix != ".json"]


@pytest.mark.parametrize(
    ("address", "repository", "revision", "filename"),
    [
        ("hf://org/net", "org/net", "main", NAME),
        ("hf://org/net/", "org/net", "main", NAME),
        ("hf://org/net@v1.0", "org/net", "v1.0", NAME),
        ("hf://org/net@a%2Fb", "org/net", "a/b", NAME),
        ("hf://org/net@refs/pr/3", "org/net", "refs/pr/3", NAME),
        ("hf://org/net@refs/pr/3/x/y.pth", "org/net", "refs/pr/3", "x/y.pth"),
        ("hf://org/net.d@v1/x.pth", "org/net.d", "v1", "x.pth"),
    ],
)
def test_an_address_has_these_parts(address: str, repository: str, revision: str, filename: str) -> None:
    found = parse_address(address)
    assert (found.repository, found.revision, found.filename) == (repository, revision, filename)


@pytest.mark.parametrize(
    "address",
    [
        "hf://net",
        "hf://",
        "hf://org/",
        "hf://org/net@",
        "hf://datasets/org/net",
        "hf://org/net/../x.pth",
        "hf://org/net?x",
        "hf://org/my net",
        "ftp://org/net",
    ],
)
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(RegistryError, match="expected h"):
        fetch_address(address)


def test_a_branch_is_the_commit_that_it_is_now(hub: PushServer) -> None:
    first = fetch_address("hf://org/net")
    assert first.read_bytes() == BODY
    commit = hub.commit("org/net", {NAME: OTHER})
    second = fetch_address("hf://org/net")
    assert second.read_bytes() == OTHER
    assert first != second
    assert read_pins(cache_dir())[second.name].source == f"hf://org/net@{commit}/{NAME}"
    assert json.loads((cache_dir() / "revisions.json").read_text())["revisions"] == {"org/net@main": commit}
    assert len(unpinned()) == 2


def test_a_full_commit_hash_makes_no_request_when_its_file_is_here(hub: PushServer) -> None:
    commit = hub.repositories["org/net"].commits[0][0]
    path = fetch_address(f"hf://org/net@{commit}")
    asked = len(hub.requests)
    assert asked == 3  # what it is, the file, and where that lies
    assert fetch_address(f"hf://org/net@{commit}") == path
    assert len(hub.requests) == asked
    assert not (cache_dir() / "revisions.json").exists()
    assert fetch_address("hf://org/net") == path
    assert len(hub.requests) == asked + 1


def test_the_hash_that_the_hub_states_is_checked(hub: PushServer, caplog: pytest.LogCaptureFixture) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    hub.stored[digest] = BODY[:-1] + b"!"
    with pytest.raises(IntegrityError, match=f"expected SHA-256 {digest}, which the source states, got"):
        fetch_address("hf://org/net")
    assert unpinned() == []
    hub.stored[digest] = BODY
    caplog.clear()
    fetch_address("hf://org/net")
    assert "nobody can verify" not in caplog.text


def test_a_small_file_that_the_hub_keeps_in_git_has_no_such_hash_and_is_pinned(hub: PushServer) -> None:
    path = fetch_address("hf://org/net/small.txt")
    assert read_pins(cache_dir())[path.name].sha256 == hashlib.sha256(b"\x80plain").hexdigest()


@pytest.mark.parametrize("setting", ["RESNEST_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_a_branch_is_what_it_was_when_it_was_seen_last(
    hub: PushServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    path = fetch_address("hf://org/net")
    commit = hub.commit("org/net", {NAME: OTHER})
    monkeypatch.setenv(setting, "1")
    asked = len(hub.requests)
    assert fetch_address("hf://org/net") == path
    assert "which was seen last" in caplog.text
    for address in ("hf://org/net@v2", "hf://org/other", "hf://org/net/notes.pth"):
        with pytest.raises(DownloadError, match=r"no request is made, since .*and it is not in the cache"):
            fetch_address(address)
    with pytest.raises(DownloadError, match="OFFLINE"):
        fetch_address(f"hf://org/net@{commit}")
    assert len(hub.requests) == asked


def test_so_is_it_where_nobody_answers(
    hub: PushServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch_address("hf://org/net")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch_address("hf://org/net") == path
    assert "refused" in caplog.text
    transfer._silent.clear()
    with pytest.raises(DownloadError, match=r"hf://org/net@v2/model\.safetensors: .*not in the cache"):
        fetch_address("hf://org/net@v2")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("hf://org/none", "no such repository, or it is private: set HF_TOKEN or run `hf auth login`"),
        ("hf://org/secret", "no such repository, or it is private: set HF_TOKEN or run `hf auth login`"),
        ("hf://org/gated", "the repository is gated: accept its licence at"),
        ("hf://org/net@v9", "the repository has no such revision"),
        ("hf://org/net/none.pth", "the repository has no such file"),
        (
            "hf://org/empty",
            "is no model of resnest_zoo, as push_to_hub writes them: it has no model.safetens",
        ),
    ],
)
def test_what_cannot_be_had_is_one_error_that_says_why(hub: PushServer, address: str, reason: str) -> None:
    hub.create("org/secret", {NAME: BODY}, private=True)
    hub.create("org/gated", {NAME: BODY}, gated=True)
    hub.create("org/empty", {"pytorch_model.bin": BODY})
    with pytest.raises(DownloadError) as caught:
        fetch_address(address)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(hub.requests) == 1
    assert not cache_dir().exists()


def test_a_wrong_token_is_said_and_a_right_one_lets_in(
    hub: PushServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create("org/secret", {NAME: BODY}, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(
        DownloadError, match="the token that was sent is not valid or does not see it"
    ) as caught:
        fetch_address("hf://org/secret")
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fetch_address("hf://org/secret").read_bytes() == BODY


def test_the_token_is_not_sent_to_where_the_hub_redirects(
    hub: PushServer, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fetch_address("hf://org/net").read_bytes() == BODY
    store = [r for r in hub.requests if r.path.startswith("/store/")]
    assert [r.headers.get("Authorization") for r in store] == [None]
    assert all("Authorization" in r.headers for r in hub.requests if "/resolve/" in r.path)


def test_a_renamed_repository_is_followed_on_the_hub_alone(hub: PushServer, server: FileServer) -> None:
    moved = Reply(status=307, headers={"Location": f"/org/net/resolve/main/{NAME}"})
    hub.create("org/old")
    hub.replies[f"/org/old/resolve/main/{NAME}"] = moved
    commit = hub.repositories["org/net"].commits[0][0]
    hub.replies[f"/org/old/resolve/{commit}/{NAME}"] = Reply(
        status=307, headers={"Location": f"/org/net/resolve/{commit}/{NAME}"}
    )
    assert fetch_address("hf://org/old").read_bytes() == BODY
    hub.replies[f"/org/old/resolve/main/{NAME}"] = Reply(
        status=302, headers={"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/x"}
    )
    with pytest.raises(DownloadError, match="the hub does not say which commit this is"):
        fetch_address("hf://org/old")
    assert server.requests == []


def test_a_damaged_memory_of_commits_is_written_afresh(
    hub: PushServer, caplog: pytest.LogCaptureFixture
) -> None:
    cache_dir().mkdir()
    (cache_dir() / "revisions.json").write_text('{"revisions": [')
    fetch_address("hf://org/net")
    assert "revisions.json cannot be read" in caplog.text
    assert "org/net@main" in (cache_dir() / "revisions.json").read_text()
