"""Mirrors hf://ORGANISATION/REPOSITORY, through the real huggingface_hub and a hub on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub import Artifact, cache_dir, fetch
from resnest_zoo.hub.pins import read_pins
from tests.hub.samples import BODY, NAME, SHA, unfinished_files, visible_files
from tests.servers import Fault, HubServer, Reply

REPOSITORY = "me/weights"
ARTIFACT = Artifact(NAME, sha256_prefix=SHA[:8])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    pytest.importorskip("huggingface_hub")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
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
        ("hf://me/nothing", "RepositoryNotFoundError"),
        ("hf://me/weights@v9", "RevisionNotFoundError"),
        ("hf://me/weights", "EntryNotFoundError"),
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


@pytest.mark.parametrize("step", [Reply(status=403), Fault(after=1_000_000, how="reset")])
def test_a_failure_of_the_transfer_is_survived(hub: HubServer, step: Reply | Fault) -> None:
    path = f"/{REPOSITORY}/resolve/{hub.COMMIT}/{NAME}"
    head = f"/{REPOSITORY}/resolve/main/{NAME}"
    hub.script[head] = [Fault(), step]
    hub.script[path] = [step]
    try:
        assert fetch(ARTIFACT).read_bytes() == BODY
    except DownloadError as error:
        assert f"hf://{REPOSITORY}/{NAME}" in str(error)  # noqa: PT017 - either is right
        assert visible_files() == []
    hub.script.clear()
    assert fetch(ARTIFACT).read_bytes() == BODY
    assert unfinished_files() == []


def test_nobody_at_the_endpoint_is_a_failed_source(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # it tries again, with growing pauses
    with pytest.raises(DownloadError, match=f"hf://{REPOSITORY}/{NAME}: "):
        fetch(ARTIFACT)


@pytest.mark.parametrize("progress", [False, None, True])
def test_bars_are_as_they_were_afterwards(
    hub: HubServer, capsys: pytest.CaptureFixture[str], progress: bool | None
) -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    fetch(ARTIFACT, progress=progress)
    assert are_progress_bars_disabled() is before
    if progress is False:
        assert capsys.readouterr().err == ""
