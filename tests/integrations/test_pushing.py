"""Pushing to a hub on this machine, with the real client: what is sent, in what order, what is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import resnest_zoo
from resnest_zoo import Measured, ModelCard, from_pretrained, get, push_to_hub
from resnest_zoo.api.origin import find_weights
from resnest_zoo.api.start import find_start
from resnest_zoo.cli import main
from resnest_zoo.errors import CheckpointError, ConfigError, DownloadError, IntegrityError
from resnest_zoo.models import GeneralizedRCNN
from tests.integrations.test_pretrained import assert_equal
from tests.push_server import PushServer, refuse
from tests.servers import Fault, Reply

# huggingface_hub 2.4 itself sends large files in a way that httpx2 2.16 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
REPOSITORY = "org/net"
FILES = [".gitattributes", "README.md", "config.yaml", "model.safetensors"]
CREATE, COMMIT = "/api/repos/create", f"/api/models/{REPOSITORY}/commit/main"
BATCH = f"/{REPOSITORY}.git/info/lfs/objects/batch"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    logging.getLogger("huggingface_hub").setLevel(logging.WARNING)
    with PushServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.fixture
def model(mirror: object, monkeypatch: pytest.MonkeyPatch) -> GeneralizedRCNN:
    model = get("tiny_mask")
    monkeypatch.delenv("RESNEST_ZOO_MIRROR")
    return model


def asked(hub: PushServer) -> list[str]:
    return [re.sub("[0-9a-f]{64}", "SHA256", f"{request.method} {request.path}") for request in hub.requests]


@pytest.mark.parametrize("kind", ["detection", "mask", "cascade", "panoptic"])
def test_what_was_pushed_comes_back_equal_and_finds_the_same(
    hub: PushServer, mirror: object, monkeypatch: pytest.MonkeyPatch, photos: Path, kind: str
) -> None:
    model = get(f"tiny_{kind}", categories=["a", "b"] if kind == "mask" else None)
    monkeypatch.delenv("RESNEST_ZOO_MIRROR")
    address = push_to_hub(model, REPOSITORY)
    assert re.fullmatch(r"hf://org/net@[0-9a-f]{40}", address)
    assert sorted(hub.files(REPOSITORY)) == FILES
    for again in (get(address), get("hf://org/net"), from_pretrained(REPOSITORY)):
        assert_equal(model, again)
    picture = resnest_zoo.Predictor(model, score_threshold=0.0)(photos / "coffee.jpg").image
    one, other = model([picture])[0], again([picture])[0]
    assert len(one) > 0
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.scores, other.scores)
    assert one.names == other.names
    assert_equal(model, get(f"tiny_{kind}", weights=address))
    assert_equal(model, get(f"tiny_{kind}", weights=f"{address}/model.safetensors"))


def test_one_commit_after_the_card_was_accepted_and_large_files_were_sent_by_lfs(
    hub: PushServer, model: GeneralizedRCNN, caplog: pytest.LogCaptureFixture
) -> None:
    push_to_hub(model, REPOSITORY, message="First")
    assert [line for line in asked(hub) if "agent-harnesses" not in line] == [
        f"GET /api/models/{REPOSITORY}",
        f"POST {CREATE}",
        f"GET /api/models/{REPOSITORY}",
        "POST /api/validate-yaml",
        f"POST /api/models/{REPOSITORY}/preupload/main",
        f"POST {BATCH}",
        "PUT /store/SHA256",
        "POST /verify",
        f"POST {COMMIT}",
        f"POST /api/models/{REPOSITORY}/paths-info/{hub.repositories[REPOSITORY].commits[-1][0]}",
    ]
    assert "xet" not in caplog.text.lower()
    assert len(hub.repositories[REPOSITORY].commits) == 2  # the hub makes the first
    weights = hub.files(REPOSITORY)["model.safetensors"]
    assert hub.stored[hashlib.sha256(weights).hexdigest()] == weights


def test_what_has_not_changed_is_not_sent_again(hub: PushServer, model: GeneralizedRCNN) -> None:
    address = push_to_hub(model, REPOSITORY)
    hub.requests.clear()
    assert push_to_hub(model, f"hf://{REPOSITORY}/") == address
    assert not [line for line in asked(hub) if line.startswith("PUT") or "/commit/" in line]
    other = push_to_hub(model, REPOSITORY, ModelCard(summary="New words."))
    assert other != address
    assert not [line for line in asked(hub) if line.startswith("PUT")]
    assert_equal(get(address), get(other))


def test_a_later_push_takes_away_what_is_not_true_any_more_and_leaves_the_rest(
    hub: PushServer, model: GeneralizedRCNN, photos: Path
) -> None:
    measured = Measured.of(model, {"bbox/AP": 12.5}, "COCO", "val2017")
    first = push_to_hub(model, REPOSITORY, ModelCard(picture=photos / "coffee.jpg", measured=(measured,)))
    files = hub.files(REPOSITORY)
    assert ".eval_results/measured.yaml" in files
    assert "example.jpg" in files
    hub.commit(REPOSITORY, {**files, "notes.txt": b"mine"})
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    push_to_hub(model, REPOSITORY)
    assert sorted(hub.files(REPOSITORY)) == [*FILES, "notes.txt"]
    assert not torch.equal(
        next(get(first).parameters()), next(get("hf://org/net").parameters())
    )  # the first push is still there under its address


def test_commands_and_training_take_a_repository(
    hub: PushServer, model: GeneralizedRCNN, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = push_to_hub(model, REPOSITORY)
    capsys.readouterr()
    command = ["predict", str(photos / "coffee.jpg"), "--model"]
    assert main([*command, "hf://org/net", "--output", str(tmp_path / "found")]) == 0
    assert list((tmp_path / "found").glob("coffee*"))
    capsys.readouterr()
    assert main([*command, "hf://org/none"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "there is no such repository, or it is private" in line
    assert model.config is not None
    start = find_start("hf://org/net", model.config)
    assert start is not None
    assert start.path == find_weights(address)
    assert main(["cache", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "revisions.json" not in json.dumps(rows)
    assert start.path.name in json.dumps(rows)


def test_results_stand_in_both_formats_measured_and_reported_apart(
    hub: PushServer, model: GeneralizedRCNN
) -> None:
    card = ModelCard(
        licence="Apache-2.0",
        measured=(Measured.of(model, {"bbox/AP": 12.5}, "COCO", "val2017"),),
        reported=(resnest_zoo.Reported("COCO", "val2017", True, 42.81, 38.14),),
        reported_source="https://host/paper",
    )
    push_to_hub(model, REPOSITORY, card)
    files = hub.files(REPOSITORY)
    measured = yaml.safe_load(files[".eval_results/measured.yaml"])
    reported = yaml.safe_load(files[".eval_results/reported.yaml"])
    assert [row["value"] for row in measured] == [12.5]
    assert [row["value"] for row in reported] == [42.81, 38.14]
    assert measured[0]["source"] == {"url": f"{hub.url}/{REPOSITORY}", "name": "Measured"}
    assert {row["source"]["url"] for row in reported} == {"https://host/paper"}
    head = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert head["license"] == "apache-2.0"
    assert [r["metrics"][0]["value"] for r in head["model-index"][0]["results"]] == [12.5, 42.81, 38.14]
    assert 'from_pretrained("hf://org/net")' in files["README.md"].decode()


def test_a_private_repository_is_made_private_and_needs_the_token(
    hub: PushServer, model: GeneralizedRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(model, REPOSITORY, private=True)
    assert hub.repositories[REPOSITORY].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DownloadError, match="there is no such repository, or it is private: set HF_TOKEN"):
        from_pretrained(REPOSITORY)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert_equal(model, from_pretrained(REPOSITORY, revision="main"))
    push_to_hub(model, REPOSITORY)
    push_to_hub(model, "org/open")
    with pytest.raises(ConfigError, match="is there already and public, but private=True was asked for"):
        push_to_hub(model, "org/open", ModelCard(name="secret"), private=True)
    assert b"secret" not in hub.files("org/open")["README.md"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "no token was sent, or one that the hub does not know: set HF_TOKEN or run `hf auth login`"),
        ("hf_wrong", "no token was sent, or one that the hub does not know: set HF_TOKEN"),
        ("hf_reads", "the token may not write there: it needs the right to"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_token_that_may_not_write_is_one_error(
    hub: PushServer,
    model: GeneralizedRCNN,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    reason: str,
    there: bool,
) -> None:
    hub.readers.add("hf_reads")
    if there:
        push_to_hub(model, REPOSITORY)
    commits = dict(hub.repositories)
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError) as caught:
        push_to_hub(model, REPOSITORY, ModelCard(name="new"))
    assert str(caught.value).startswith(f"hf://{REPOSITORY}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hf_wrong" not in str(caught.value)
    assert hub.repositories == commits


def test_a_repository_of_something_else_is_never_written_over(
    hub: PushServer, model: GeneralizedRCNN
) -> None:
    theirs = {
        "README.md": b"---\nlibrary_name: transformers\n---\n",
        "model.safetensors": b"x",
        "a.json": b"{}",
    }
    hub.create(REPOSITORY, theirs)
    before = dict(hub.files(REPOSITORY))
    with pytest.raises(
        ConfigError, match=r"no repository of this package: it holds a\.json, model\.safetens"
    ):
        push_to_hub(model, REPOSITORY)
    assert hub.files(REPOSITORY) == before
    hub.create("org/new", {"README.md": b"---\nlicense: mit\n---\n"})  # as the site makes them
    push_to_hub(model, "org/new")
    assert sorted(hub.files("org/new")) == FILES


def test_who_pushed_in_between_is_not_undone(hub: PushServer, model: GeneralizedRCNN) -> None:
    push_to_hub(model, REPOSITORY)
    hub.before_commit = lambda: hub.commit(REPOSITORY, {**hub.files(REPOSITORY), "theirs": b"1"})
    with pytest.raises(DownloadError, match="somebody else has pushed in the meantime; nothing of this was"):
        push_to_hub(model, REPOSITORY, ModelCard(name="new"))
    assert "theirs" in hub.files(REPOSITORY)
    assert b"# new" not in hub.files(REPOSITORY)["README.md"]


@pytest.mark.parametrize("step", ["batch", "put", "verify", "commit"])
@pytest.mark.parametrize("how", ["refused", "broken off"])
def test_half_an_upload_is_one_error_and_no_commit(
    hub: PushServer, model: GeneralizedRCNN, monkeypatch: pytest.MonkeyPatch, step: str, how: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its attempts
    path = {"batch": BATCH, "verify": "/verify", "commit": COMMIT}.get(step)
    if path is None:
        push_to_hub(model, "org/other")
        weights = hub.files("org/other")["model.safetensors"]
        digest = hashlib.sha256(weights).hexdigest()
        path = f"/store/{digest}"
        del hub.stored[digest]
    refusal = refuse(403, "", "no more room")
    hub.script[path] = [refusal if how == "refused" else Fault(after=1000) for _ in range(10)]
    with pytest.raises(DownloadError) as caught:
        push_to_hub(model, REPOSITORY)
    assert str(caught.value).startswith(f"hf://{REPOSITORY}: ")
    assert "\n" not in str(caught.value)
    assert ("no more room" in str(caught.value)) == (how == "refused")
    assert len(hub.repositories[REPOSITORY].commits) == 1
    assert sorted(hub.files(REPOSITORY)) == [".gitattributes"]
    with pytest.raises(DownloadError, match=r"is no model of resnest_zoo, .*it has no model\.safetensors"):
        get(f"hf://{REPOSITORY}")
    hub.script.clear()
    assert_equal(model, get(push_to_hub(model, REPOSITORY)))


def test_bytes_that_arrive_as_others_are_noticed(hub: PushServer, model: GeneralizedRCNN) -> None:
    hub.damage = "config.yaml"
    with pytest.raises(
        IntegrityError, match=r"hf://org/net@[0-9a-f]{40}: does not hold what was sent: config"
    ):
        push_to_hub(model, REPOSITORY)


def test_a_card_that_the_hub_does_not_accept_stops_everything(
    hub: PushServer, model: GeneralizedRCNN
) -> None:
    with pytest.raises(ConfigError, match=r'does not accept the card: .*"license" must be one of') as caught:
        push_to_hub(model, REPOSITORY, ModelCard(licence="my-own"))
    assert "\n" not in str(caught.value)
    assert hub.stored.keys() == {hashlib.sha256(b).hexdigest() for b in hub.files(REPOSITORY).values()}
    assert len(hub.repositories[REPOSITORY].commits) == 1


def test_what_is_wrong_here_is_told_before_anything_is_asked(hub: PushServer, model: GeneralizedRCNN) -> None:
    for name in ("net", "org/net@v1", "org/net/x", "../x", "org/a b"):
        with pytest.raises(ConfigError, match=r"expected hf://organisation/repository|Repo id"):
            push_to_hub(model, name)
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    with pytest.raises(CheckpointError, match="the model net: 1 tensors hold numbers that are not finite"):
        push_to_hub(model, REPOSITORY)
    model.config = None
    with pytest.raises(ConfigError, match="put together by hand"):
        push_to_hub(model, REPOSITORY)
    assert hub.requests == []


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("variable", ["RESNEST_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    model = get("mask_rcnn_resnest14_dcn_shapes")
    with pytest.raises(DownloadError, match="hf://org/net: offline by RESNEST_ZOO_OFFLINE or HF_HUB_OFFLINE"):
        push_to_hub(model, REPOSITORY)


def test_nobody_at_the_endpoint_is_one_error(model: GeneralizedRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(DownloadError, match=r"hf://org/net: .*refused"):
        push_to_hub(model, REPOSITORY)


def test_models_that_are_not_ours_are_refused_by_name(hub: PushServer) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    body = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    hub.create("org/theirs", {"model.safetensors": body, "config.json": b"{}"})
    with pytest.raises(CheckpointError, match="hf://org/theirs: does not tell what model it is of"):
        from_pretrained("org/theirs")
    hub.replies["/org/theirs/resolve/main/model.safetensors"] = Reply(status=404, headers={})
    with pytest.raises(DownloadError, match="there is no such repository, or it is private"):
        from_pretrained("org/theirs")


def test_a_disk_without_room_is_one_error_before_anything_is_asked(
    hub: PushServer, model: GeneralizedRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnest_zoo.integrations.pretrained.Path.write_text", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        push_to_hub(model, REPOSITORY)
    assert hub.requests == []
