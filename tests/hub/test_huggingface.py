"""Mirrors hf://ORGANISATION/REPOSITORY, from a hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import resnest_zoo
from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub import Artifact, cache_dir, fetch, transfer
from resnest_zoo.hub.pins import read_pins
from tests.hub.samples import BODY, NAME, SHA, unfinished_files, visible_files
from tests.servers import Fault, FileServer, HubServer, Reply

REPOSITORY = "me/weights"
ARTIFACT = Artifact(NAME, sha256_prefix=SHA[:8])
PATH = f"/{REPOSITORY}/resolve/main/{NAME}"
GATED = Reply(
    status=401,
    headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model me/weights is restricted."},
)
PRIVATE = Reply(
    status=401, headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(transfer, "_sleep", waited.append)
    return waited


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        server.files[REPOSITORY, "main", NAME] = BODY
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"hf://{REPOSITORY}")
        yield server


def test_a_repository_is_a_mirror(hub: HubServer) -> None:
    path = fetch(ARTIFACT)
    assert path == cache_dir() / NAME
    assert path.read_bytes() == BODY
    assert read_pins(cache_dir())[NAME].source == f"hf://{REPOSITORY}/{NAME}"
    asked = len(hub.requests)
    assert fetch(ARTIFACT) == path
    assert len(hub.requests) == asked
    assert visible_files() == [NAME]
    assert unfinished_files() == []


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1"])
def test_a_revision_is_asked_for(hub: HubServer, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    hub.files[REPOSITORY, revision, NAME] = BODY
    hub.files[REPOSITORY, "main", NAME] = b"\x80other"
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"hf://{REPOSITORY}@{revision}")
    assert fetch(ARTIFACT).read_bytes() == BODY


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("hf://me/nothing", "no such repository, or it is private: set HF_TOKEN or run `hf auth login`"),
        ("hf://me/weights@v9", "the repository has no such revision"),
        ("hf://me/weights", "the repository has no such file"),
    ],
)
def test_what_is_not_there_is_said_and_the_next_source_asked(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mirror: str,
    reason: str,
) -> None:
    name = f"other-{SHA[:8]}.pth"
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"{mirror},{tmp_path}")
    with pytest.raises(DownloadError) as caught:
        fetch(Artifact(name, sha256_prefix=SHA[:8]))
    assert f"  {mirror}/{name}: " in str(caught.value)
    assert reason in str(caught.value)
    assert unfinished_files() == visible_files() == []
    (tmp_path / name).write_bytes(BODY)
    assert fetch(Artifact(name, sha256_prefix=SHA[:8])).read_bytes() == BODY


def test_wrong_bytes_are_refused(hub: HubServer) -> None:
    hub.files[REPOSITORY, "main", NAME] = BODY[:-1] + b"!"
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        fetch(ARTIFACT)
    assert visible_files() == unfinished_files() == []
    hub.files[REPOSITORY, "main", NAME] = BODY
    assert fetch(ARTIFACT).read_bytes() == BODY


def test_a_broken_transfer_goes_on_where_it_broke(hub: HubServer, pauses: list[float]) -> None:
    hub.script[PATH] = [Reply(status=500), Fault(after=1_000_000, how="reset")]
    assert fetch(ARTIFACT).read_bytes() == BODY
    first, second, third = hub.starts(PATH)
    assert first == second == 0 < third <= 1_000_000  # what had not been read yet is lost
    assert unfinished_files() == []


def test_nobody_at_the_endpoint_is_found_out_once_for_all_files(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=f"hf://{REPOSITORY}/{NAME}: .*refused.*gave up after 3"):
        fetch(ARTIFACT)
    assert sum(pauses) < 2
    pauses.clear()
    for _ in range(3):
        with pytest.raises(DownloadError, match=r"nobody answered at 127\.0\.0\.1:9 a moment ago"):
            fetch(ARTIFACT)
    assert pauses == []
    monkeypatch.setattr(transfer, "_clock", lambda: transfer._silent["127.0.0.1:9"] + 1)
    with pytest.raises(DownloadError, match="refused"):
        fetch(ARTIFACT)


def test_a_slash_after_the_endpoint_is_no_part_of_it(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    assert fetch(ARTIFACT).read_bytes() == BODY
    assert hub.paths == [PATH]


def test_there_need_be_room_for_one_copy_only(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_: Path) -> SimpleNamespace:
        used = sum(path.stat().st_size for path in cache_dir().iterdir())
        return SimpleNamespace(free=len(BODY) + 10_000 - used)

    monkeypatch.setattr("shutil.disk_usage", usage)
    hub.script[PATH] = [Fault(after=1_000_000)]
    assert fetch(ARTIFACT).read_bytes() == BODY


@pytest.mark.parametrize(
    ("reply", "token", "advice"),
    [
        (GATED, "", rf"accept its licence at http.*/{REPOSITORY}; set HF_TOKEN or run `hf auth login`"),
        (
            GATED,
            "hf_x",
            rf"accept its licence at http.*/{REPOSITORY}; the token that was sent has no access yet",
        ),
        (PRIVATE, "", "there is no such repository, or it is private: set HF_TOKEN or run `hf auth login`"),
        (PRIVATE, "hf_x", "or it is private: the token that was sent is not valid or does not see it"),
        (Reply(status=451), "", "HTTP 451"),
    ],
)
def test_a_refusal_says_what_the_hub_says_and_what_helps(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, reply: Reply, token: str, advice: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    hub.replies[PATH] = reply
    with pytest.raises(DownloadError, match=advice) as caught:
        fetch(ARTIFACT)
    assert reply.headers.get("X-Error-Message", "") in str(caught.value)
    assert "hf_x" not in str(caught.value)
    assert len(hub.paths) == 1


def test_the_token_is_sent_to_the_hub_and_to_nobody_else(
    hub: HubServer, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files lie elsewhere, and the hub redirects to them."""
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    hub.replies[PATH] = Reply(status=302, headers={"Location": f"{elsewhere}/{NAME}"})
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    netrc = Path.home() / ".netrc"
    netrc.parent.mkdir(parents=True, exist_ok=True)
    netrc.write_text("machine 127.0.0.1\nlogin me\npassword other\n")
    assert fetch(ARTIFACT).read_bytes() == BODY
    assert [request.headers.get("Authorization") for request in hub.requests] == ["Bearer hf_x"]
    assert [request.headers.get("Authorization") for request in server.requests] == [None]


def test_an_entrys_own_addresses_may_lie_there_and_are_asked_in_turn(
    hub: HubServer, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESNEST_ZOO_MIRROR")
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    hub.files["you/nets", "v1.0", "sub/model.safetensors"] = BODY
    urls = (
        f"hf://{REPOSITORY}/none.pth",
        f"{server.url}/none.pth",
        "hf://you/nets@v1.0/sub/model.safetensors",
    )
    assert fetch(Artifact(NAME, urls, sha256=SHA)).read_bytes() == BODY
    assert hub.paths == [
        f"/{REPOSITORY}/resolve/main/none.pth",
        "/you/nets/resolve/v1.0/sub/model.safetensors",
    ]
    assert server.paths == ["/none.pth"]
    with pytest.raises(DownloadError, match=f"address  {hub.url}/{REPOSITORY}/resolve/main/none.pth"):
        fetch(Artifact("other.pth", urls[:2]))


def test_timms_backbones_are_had_by_the_names_timm_gives_them(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESNEST_ZOO_MIRROR")
    hub.files["timm/resnest50d.in1k", "main", "model.safetensors"] = BODY
    path = resnest_zoo.fetch("timm/resnest50d.in1k")
    assert path == cache_dir() / "timm-resnest50d.in1k.safetensors"
    assert path.read_bytes() == BODY


def test_what_the_hub_states_of_a_file_is_held_against_what_comes_from_elsewhere(
    hub: HubServer, server: FileServer, pauses: list[float]
) -> None:
    """Also where nothing else is known of it."""
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY[:-1] + b"!")
    location = {"Location": f"{server.url}/{NAME}", "X-Linked-Etag": f'"{SHA}"'}
    hub.replies[PATH] = Reply(status=302, headers=location)
    with pytest.raises(IntegrityError, match=f"expected SHA-256 {SHA}, which the source states, got"):
        fetch(Artifact(NAME))
    assert visible_files() == []
    (server.folder / NAME).write_bytes(BODY)
    assert fetch(Artifact(NAME)).read_bytes() == BODY
