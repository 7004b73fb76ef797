"""Publishing in a repository: what is sent, checked, left alone, and refused."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

import resnest_zoo
from resnest_zoo.checkpoint import read_safetensors_metadata, read_state_dict
from resnest_zoo.cli import main
from resnest_zoo.config import load_config
from resnest_zoo.errors import ConfigError, DownloadError, IntegrityError
from resnest_zoo.integrations.huggingface import model_card, publish
from resnest_zoo.registry import PUBLISHED, info
from tests.servers import FileServer, HubServer

REPOSITORY = "org/zoo"


class FakeApi:
    """The four calls of HfApi that publishing makes, over a dictionary.

    Attributes:
        damage: file names whose bytes are changed on arrival.
        refusal: raised by every call from `refuse_from` on.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.damage: set[str] = set()
        self.refusal: Exception | None = None
        self.refused_call = "create_repo"

    def _called(self, name: str, *args: Any, **kwargs: Any) -> None:
        inspect.signature(getattr(HfApi, name)).bind(self, *args, **kwargs)  # as the real one has it
        self.calls.append(name)
        if self.refusal and name == self.refused_call:
            raise self.refusal

    def create_repo(self, *args: Any, **kwargs: Any) -> None:
        self._called("create_repo", *args, **kwargs)
        assert kwargs["exist_ok"]

    def upload_file(self, **kwargs: Any) -> None:
        self._called("upload_file", **kwargs)
        name, body = kwargs["path_in_repo"], Path(kwargs["path_or_fileobj"]).read_bytes()
        self.files[name] = body[:-1] + b"!" if name in self.damage else body

    def list_repo_files(self, *args: Any, **kwargs: Any) -> list[str]:
        self._called("list_repo_files", *args, **kwargs)
        return list(self.files)

    def get_paths_info(self, *args: Any, **kwargs: Any) -> list[RepoFile]:
        self._called("get_paths_info", *args, **kwargs)
        return [_stored(name, self.files[name]) for name in args[1] if name in self.files]


def _stored(name: str, body: bytes) -> RepoFile:
    large = not name.endswith((".yaml", ".md"))
    lfs = {"size": len(body), "oid": hashlib.sha256(body).hexdigest(), "pointerSize": 130}
    blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    return RepoFile(path=name, size=len(body), oid=blob, lfs=lfs if large else None)


def http_error(status: int) -> HfHubHTTPError:
    import inspect as look

    module = look.signature(HfHubHTTPError.__init__).parameters["response"].annotation
    assert "Response" in str(module)
    response = type("Response", (), {"status_code": status, "headers": {}, "request": None})()
    return HfHubHTTPError(f"{status} Forbidden: no rights\nmore", response=response)


@pytest.fixture
def api(mirror: FileServer) -> FakeApi:
    return FakeApi()


def send(api: FakeApi, *names: str) -> list[str]:
    return publish([info(name) for name in names], REPOSITORY, api=api)  # type: ignore[arg-type]


def test_original_safetensors_config_and_card_are_sent(api: FakeApi, tiny: Path, tmp_path: Path) -> None:
    entry = info("tiny_mask")
    stem = Path(entry.artifact.filename).stem
    assert send(api, "tiny_mask") == [f"{stem}.pth", f"{stem}.safetensors", f"{stem}.yaml", "README.md"]
    original = (tiny / entry.artifact.filename).read_bytes()
    assert api.files[f"{stem}.pth"] == original
    for name in (f"{stem}.safetensors", f"{stem}.yaml"):
        (tmp_path / name).write_bytes(api.files[name])
    converted = read_state_dict(tmp_path / f"{stem}.safetensors")
    stored = read_state_dict(tiny / entry.artifact.filename)
    assert all(torch.equal(converted[key], stored[key]) for key in converted)
    assert (
        read_safetensors_metadata(tmp_path / f"{stem}.safetensors")["original_sha256"]
        == entry.artifact.sha256
    )
    assert entry.config is not None
    assert load_config(tmp_path / f"{stem}.yaml") == load_config(entry.config)
    card = api.files["README.md"].decode()
    assert "| `tiny_mask` | Faster R-CNN | ResNeSt-14 | COCO val2017 | 1.50 |  |  | not yet |" in card
    assert f"RESNEST_ZOO_MIRROR=hf://{REPOSITORY}" in card


def test_a_second_run_sends_nothing(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(api, "tiny_mask", "tiny_detection")
    api.calls.clear()
    assert send(api, "tiny_mask", "tiny_detection") == []
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "another machine"))
    assert send(api, "tiny_detection") == []
    assert "upload_file" not in api.calls


def test_a_broken_run_is_continued(api: FakeApi) -> None:
    """Killed before the card was written: the next run writes it."""
    send(api, "tiny_mask")
    del api.files["README.md"]
    assert send(api, "tiny_mask") == ["README.md"]


def test_the_card_lists_what_the_repository_holds(api: FakeApi) -> None:
    send(api, "tiny_mask")
    assert "README.md" in send(api, "tiny_detection")
    card = api.files["README.md"].decode()
    assert "`tiny_mask`" in card
    assert "`tiny_detection`" in card
    assert "faster_rcnn_resnest50" not in card


def test_a_damaged_file_in_the_repository_is_sent_again(api: FakeApi) -> None:
    name = info("tiny_mask").artifact.filename
    send(api, "tiny_mask")
    api.files[name] = b"\x80" + api.files[name][1:-1] + b"!"
    assert send(api, "tiny_mask") == [name]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".yaml"])
def test_a_repository_that_holds_other_bytes_than_were_sent_is_refused(api: FakeApi, suffix: str) -> None:
    name = Path(info("tiny_mask").artifact.filename).with_suffix(suffix).name
    api.damage = {name}
    with pytest.raises(IntegrityError, match=rf"hf://org/zoo/{name}: the repository does not hold"):
        send(api, "tiny_mask")


@pytest.mark.parametrize(
    "name",
    ["", "zoo", "a/b/c", "/zoo", "org/", "org/zoo@v1", "../zoo", "org/a b", "org/-zoo", "org/a..b", "org/ö"],
)
def test_a_malformed_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    with pytest.raises(ConfigError, match="hf://"):
        publish([], name)


@pytest.mark.parametrize("call", ["create_repo", "get_paths_info", "upload_file", "list_repo_files"])
@pytest.mark.parametrize(
    "refusal", [http_error(403), ConnectionError("reset"), OSError(), ValueError("no token")], ids=repr
)
def test_what_a_repository_refuses_is_a_failed_transfer(api: FakeApi, call: str, refusal: Exception) -> None:
    api.refusal, api.refused_call = refusal, call
    with pytest.raises(DownloadError, match="hf://org/zoo: ") as caught:
        send(api, "tiny_mask")
    assert "\n" not in str(caught.value)


def test_nobody_at_the_endpoint_is_a_failed_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(DownloadError, match=f"hf://{REPOSITORY}: "):
        publish([], REPOSITORY)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("variable", ["RESNEST_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(DownloadError, match="offline"):
        publish([info("resnet50_msra")], REPOSITORY)


def test_the_card_of_the_whole_zoo_has_every_reported_number() -> None:
    card = model_card(REPOSITORY, [info(name) for name in PUBLISHED])
    rows = [line for line in card.splitlines() if line.startswith("| `")]
    assert len(rows) == 22  # one model has two
    assert all(line.endswith("| not yet |") for line in rows)
    assert (
        "| `faster_rcnn_resnest50` | Faster R-CNN | ResNeSt-50 | COCO val2017 | 42.33 |  |  | not yet |"
        in rows
    )
    assert any("test-dev2019, TTA | 53.30 | 47.10 |" in line for line in rows)
    assert any("TTA not stated | 51.00 | 43.68 | 47.90 |" in line for line in rows)
    assert "none is stated for the weights themselves" in card


def test_what_was_published_serves_as_a_mirror(
    api: FakeApi, mirror: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda **_: api)
    assert main(["mirror", f"hf://{REPOSITORY}", "tiny_mask", "tiny_panoptic", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["tiny_mask", "tiny_panoptic", "model card"]
    assert rows[-1]["uploaded"] == ["README.md"]
    with HubServer() as hub:
        hub.files.update({(REPOSITORY, "main", name): body for name, body in api.files.items()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"hf://{REPOSITORY}")
        monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "another machine"))
        assert resnest_zoo.get("tiny_mask").state_dict()


def test_one_failure_does_not_keep_the_others_back(
    api: FakeApi, mirror: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", lambda **_: api)
    api.damage = {info("tiny_mask").artifact.filename}
    assert main(["mirror", f"hf://{REPOSITORY}", "tiny_mask", "tiny_detection"]) == 1
    shown = capsys.readouterr()
    assert "error: tiny_mask: hf://org/zoo/" in shown.err
    assert info("tiny_detection").artifact.filename in api.files
    assert main(["mirror", "hf://nonsense", "tiny_mask", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["ok"] is False
