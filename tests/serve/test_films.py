"""`POST /predict/video`: a line for each frame, within limits, and nothing left behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("av", reason="the extra `video` is not installed")

from resnest_zoo.serve.limits import Limits
from tests.films import CONSTANT, write_film
from tests.serve.running import Client, running, wait_for

TYPE = {"Content-Type": "video/mp4"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_film(tmp_path_factory.mktemp("film") / "a.mp4").read_bytes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with running(Limits(max_film_bytes=100_000, films=1)) as client:
        yield client


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.iter_lines()]


def test_every_frame_has_its_line(client: Client, film: bytes, folder: Path) -> None:
    answer = client.post("/predict/video?every=5&score_threshold=0.5&masks=none", data=film, headers=TYPE)
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    *frames, end = lines(answer)
    assert [frame["index"] for frame in frames] == [0, 5, 10, 15]
    assert [frame["seconds"] for frame in frames] == [CONSTANT[k] / 1000 for k in (0, 5, 10, 15)]
    assert {(frame["width"], frame["height"], len(frame["predictions"])) for frame in frames} == {(64, 48, 1)}
    assert ["categories" in frame for frame in frames] == [True, False, False, False]
    assert frames[0]["categories"] == end["categories"]
    assert end == {
        "done": True,
        "frames": 4,
        "problems": [],
        "categories": [{"id": 3, "name": "ball"}, {"id": 5, "name": "cube"}],
        "stuff_categories": [{"id": 7, "name": "grass"}],
    }
    # The end of the answer is sent before all is tidied up.
    wait_for(lambda: (client.service.queue.taken, client.service.films) == (0, 0))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "query", "kind", "status", "words"),
    [
        (b"", "", "empty", 400, "the bytes of a film"),
        (b"no film at all", "", "bad_film", 422, "the film: cannot be opened as a film"),
        (b"x" * 100_001, "", "too_large", 413, "--max-film-bytes"),
        (b"x", "?every=0", "bad_parameter", 400, "every: expected a whole number"),
        (b"x", "?every=-1", "bad_parameter", 400, "every"),
    ],
)
def test_what_is_no_film(
    client: Client, folder: Path, content: bytes, query: str, kind: str, status: int, words: str
) -> None:
    answer = client.post(f"/predict/video{query}", data=content, headers=TYPE)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind)
    assert words in answer.json()["error"]["message"]
    assert str(folder) not in answer.text
    assert list(folder.iterdir()) == []
    assert (client.service.queue.taken, client.service.films) == (0, 0)


def test_a_film_of_large_pictures_is_refused(folder: Path, film: bytes) -> None:
    with running(Limits(max_pixels=64 * 48 - 1)) as client:
        answer = client.post("/predict/video", data=film, headers=TYPE)
        assert (answer.status_code, answer.json()["error"]["kind"]) == (413, "too_many_pixels")


def test_what_is_wrong_in_the_middle_is_the_last_line(client: Client, film: bytes) -> None:
    client.stub.breaks, client.stub.spared = ValueError("in /secret/place"), 2
    *frames, last = lines(client.post("/predict/video", data=film, headers=TYPE))
    assert [frame["index"] for frame in frames] == [0, 1]
    assert last["error"]["kind"] == "failed"
    assert "secret" not in json.dumps(last)


def test_a_client_that_goes_ends_its_film(client: Client, film: bytes, folder: Path) -> None:
    client.stub.free.clear()
    client.stub.spared = 1
    with client.session.post(
        f"{client.url}/predict/video", data=film, headers=TYPE, stream=True, timeout=20
    ) as answer:
        assert json.loads(next(answer.iter_lines()))["index"] == 0
        busy = client.post("/predict/video", data=film, headers=TYPE)
        assert (busy.status_code, busy.json()["error"]["kind"]) == (503, "busy")
    wait_for(lambda: client.service.films == 0)
    client.stub.free.set()
    wait_for(lambda: client.service.queue.taken == 0 and not list(folder.iterdir()))
    assert len(client.stub.seen) <= 2
    assert client.post("/predict/video?every=10", data=film, headers=TYPE).status_code == 200


def test_without_pyav_the_extra_is_named(
    client: Client, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    answer = client.post("/predict/video", data=film, headers=TYPE)
    assert answer.status_code == 422
    assert "pip install 'resnest-zoo[video]'" in answer.json()["error"]["message"]
