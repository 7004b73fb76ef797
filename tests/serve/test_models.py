"""Models are listed, loaded with their progress and their verification, and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from resnest_zoo import hub
from resnest_zoo.api import Predictor
from resnest_zoo.errors import CheckpointError, UnknownModelError
from resnest_zoo.registry import info, list_models
from resnest_zoo.serve import app
from resnest_zoo.serve.limits import Limits
from resnest_zoo.serve.models import Models
from resnest_zoo.serve.refusals import without_paths
from tests.serve.running import NAME, Client, StubPredictor, picture, running, wait_for
from tests.servers import Fault, FileServer, Reply


def events(client: Client, name: str) -> Iterator[dict[str, Any]]:
    """What the stream tells until it ends by itself."""
    with client.get(f"/api/models/{name}/events", stream=True) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def rows(client: Client) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.get("/api/models").json()["models"]}


def test_all_models_are_listed_with_what_is_known_of_them() -> None:
    with running() as client:
        assert client.get("/api/models").json()["default"] == NAME
        found = rows(client)
        assert set(found) == set(list_models())
        assert client.get("/health").json() == {"status": "ok", "models": [NAME]}
    own, other = found[NAME], found["mask_rcnn_resnest50"]
    assert (own["served"], own["state"], own["packaged"], own["cached"]) == (True, "ready", True, True)
    assert own["classes"] == ["ball", "cube", "things", "grass"]
    assert (other["served"], other["state"], other["packaged"]) == (False, "absent", False)
    assert (other["task"], other["classes"], other["seconds"]) == ("masks", None, None)
    entry = info("mask_rcnn_resnest50")
    assert other["parameters"] == entry.parameters
    assert other["reported"] == {
        "box_ap": entry.reported[0].box,
        "mask_ap": entry.reported[0].mask,
        "pq": None,
    }


def test_a_model_is_fetched_verified_loaded_and_used(mirror: FileServer) -> None:
    mirror.always = Fault(metered=True, block=1 << 17)
    with running(build=lambda name: StubPredictor() if name == NAME else real(name)) as client:
        began = client.post("/api/models/tiny_mask/load")
        assert began.status_code == 202
        assert began.json()["state"] in ("downloading", "verifying")
        busy = client.predict(picture(), "?model=tiny_mask")
        assert (busy.status_code, busy.json()["error"]["kind"]) == (503, "not_ready")
        told = []
        for event in events(client, "tiny_mask"):
            told.append(event)
            mirror.permits.release(1 if len(told) < 4 else 1000)
        assert told[-1] == {"state": "ready", "done": None, "total": None, "message": None}
        downloading = [event for event in told if event["state"] == "downloading" and event["done"]]
        assert len(downloading) >= 2
        assert {event["total"] for event in downloading} == {info("tiny_mask").artifact.size}
        counts = [event["done"] for event in downloading]
        assert counts == sorted(counts)
        assert [event["state"] for event in told][-2:] == ["loading", "ready"]
        assert rows(client)["tiny_mask"]["classes"][0] == "person"
        assert client.predict(picture(80, 60), "?model=tiny_mask").json()["model"] == "tiny_mask"
        # Asked again, nothing is done again.
        assert client.post("/api/models/tiny_mask/load").json()["state"] == "ready"
        assert len(mirror.requests) == 1


def test_no_state_is_missed_however_seldom_one_looks(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_EVENT_STEP", 0.7)
    mirror.always = Fault(metered=True)
    with running(build=lambda name: StubPredictor()) as client:
        client.post("/api/models/tiny_mask/load")
        told = []
        for event in events(client, "tiny_mask"):
            told.append(event["state"])
            mirror.permits.release(1000)
    assert list(dict.fromkeys(told)) == ["downloading", "verifying", "loading", "ready"]


def real(name: str) -> Predictor:
    return Predictor(name, score_threshold=0.05, progress=False)


def test_wrong_bytes_fail_in_words_without_paths_and_can_be_tried_again(mirror: FileServer) -> None:
    name = f"/{info('tiny_detection').artifact.filename}"
    mirror.script[name] = [Reply(b"not the right bytes")]
    with running(build=lambda name: StubPredictor()) as client:
        client.post("/api/models/tiny_detection/load")
        *_, told = events(client, "tiny_detection")
        assert told["state"] == "failed"
        assert "could not be fetched" in told["message"]
        assert str(hub.cache_dir()) not in told["message"]
        refused = client.predict(picture(), "?model=tiny_detection")
        assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "failed")
        client.post("/api/models/tiny_detection/load")
        assert [*events(client, "tiny_detection")][-1]["state"] == "ready"
        assert client.predict(picture(), "?model=tiny_detection").status_code == 200


def test_a_model_that_cannot_be_built_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def build(source: str) -> StubPredictor:
        raise CheckpointError("/home/somebody/best.safetensors: is of another model")

    with running(build=build) as client:
        assert rows(client)[NAME]["message"] == (
            "best.safetensors: is of another model The server's log says more."
        )
        assert client.get("/health").json() == {"status": "ok", "models": []}
    assert "/home/somebody" in caplog.text


@pytest.mark.usefixtures("tiny")
def test_where_weights_are_ones_own_the_zoo_s_are_not_fetched() -> None:
    """Nobody has them here; and what was reported of them says nothing."""
    with running(names=["tiny_detection"], own_weights=True) as client:
        row = rows(client)["tiny_detection"]
        assert (row["state"], row["bytes"]) == ("ready", None)
        assert row["reported"] == {"box_ap": None, "mask_ap": None, "pq": None}
        assert client.predict(picture()).json()["model"] == "tiny_detection"


def test_others_are_not_there_with_only() -> None:
    with running(only=True) as client:
        assert set(rows(client)) == {NAME}
        assert client.post("/api/models/mask_rcnn_resnest50/load").status_code == 404
        assert client.get("/api/models/mask_rcnn_resnest50/events").status_code == 404


def test_not_more_models_than_fit() -> None:
    with running(Limits(models=1)) as client:
        refused = client.post("/api/models/panoptic_resnest14_dcn_shapes/load")
        assert (refused.status_code, refused.json()["error"]["kind"]) == (429, "too_many_models")


def test_files_have_names_without_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "best.safetensors").touch()
    names = [NAME.upper(), str(tmp_path / "a" / "best.safetensors"), str(tmp_path / "b" / "best.safetensors")]
    models = Models(names, lambda _: pytest.fail("not asked"), Limits(), only=True)
    assert [row["name"] for row in models.rows()] == [NAME, "best", "best-2"]
    with pytest.raises(UnknownModelError, match="No model is called"):
        Models(["nix"], lambda _: pytest.fail("not asked"), Limits())


def test_a_stream_of_events_ends_with_the_server() -> None:
    with running() as client:
        answer = requests.get(f"{client.url}/api/models/mask_rcnn_resnest50/events", stream=True, timeout=20)
        lines = answer.iter_lines()
        assert b"absent" in next(lines)
        client.service.closing = True
        assert [line for line in lines if line] == []
    wait_for(lambda: client.service.closing)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/root/.cache/x/file.pth: no such file", "file.pth: no such file"),
        ("cannot write '/a/b c/d.txt'", "cannot write 'b c/d.txt'"),
        ("C:\\Users\\me\\x.pth is damaged", "x.pth is damaged"),
        ("https://host.example/a/b.pth: 404", "https://host.example/a/b.pth: 404"),
        ("10/20 pictures, a/b of them", "10/20 pictures, a/b of them"),
        ("first line\n/second/line", "first line"),
        ("", "it failed"),
    ],
)
def test_messages_keep_names_and_lose_folders(text: str, expected: str) -> None:
    assert without_paths(text) == expected
