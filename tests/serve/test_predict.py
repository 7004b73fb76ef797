"""What `POST /predict` answers, and what it refuses."""

from __future__ import annotations

import base64
import gc
import io
import statistics
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from resnest_zoo.serve.limits import Limits
from tests.serve.running import NAME, Client, picture, running

LIMITS = Limits(max_bytes=20_000, max_pixels=10_000, max_files=3)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running(LIMITS) as client:
        yield client


def test_a_picture_as_the_body(client: Client) -> None:
    answer = client.predict(picture(), "?score_threshold=0.5")
    assert answer.status_code == 200
    found = answer.json()
    (one,) = found.pop("predictions")
    png = base64.b64decode(one.pop("panoptic_png"))
    assert one == {
        "width": 40,
        "height": 30,
        "predictions": [
            {
                "image_id": 0,
                "category_id": 3,
                "bbox": [0.0, 0.0, 2.0, 2.0],
                "score": pytest.approx(0.9),
                "segmentation": {"size": [30, 40], "counts": one["predictions"][0]["segmentation"]["counts"]},
            }
        ],
        "panoptic": {
            "image_id": 0,
            "segments_info": [
                {"id": 1, "category_id": 3, "area": 4, "isthing": 1},
                {"id": 2, "category_id": 7, "area": 1196, "isthing": 0},
            ],
        },
    }
    ids = np.asarray(Image.open(io.BytesIO(png)))[:, :, 0]
    assert (ids[:2, :2] == 1).all()
    assert (ids[2:] == 2).all()
    seconds = found.pop("seconds")
    assert set(seconds) == {"queue", "decode", "model", "total"}
    assert found == {
        "model": NAME,
        "categories": [{"id": 3, "name": "ball"}, {"id": 5, "name": "cube"}],
        "stuff_categories": [{"id": 7, "name": "grass"}],
        "batch": 1,
    }


def test_the_listing_says_how_long_a_picture_took(client: Client) -> None:
    def listed() -> float | None:
        rows = client.get("/api/models").json()["models"]
        seconds: float | None = next(row["seconds"] for row in rows if row["name"] == NAME)
        return seconds

    files = [("file", (f"{k}.png", picture(40 + k), "image/png")) for k in range(2)]
    took = [client.post("/predict", files=files).json()["seconds"]["model"] / 2 for _ in range(15)]
    assert listed() == pytest.approx(statistics.median(took), abs=2e-6)


def test_several_pictures_are_answered_in_their_order(client: Client) -> None:
    files = [("file", (f"{k}.png", picture(40 + k), "image/png")) for k in range(3)]
    found = client.post("/predict", files=files).json()
    assert [one["width"] for one in found["predictions"]] == [40, 41, 42]
    assert [one["predictions"][0]["image_id"] for one in found["predictions"]] == [0, 1, 2]


def test_without_masks(client: Client) -> None:
    (one,) = client.predict(picture(), "?masks=none").json()["predictions"]
    assert [set(row) for row in one["predictions"]] == [{"image_id", "category_id", "bbox", "score"}] * 2


def test_coco_has_the_names_of_files_without_their_folders(client: Client) -> None:
    files = [("file", ("../..\\x/b\x07oat.png", picture(), "image/png")), ("file", ("..", picture()))]
    found = client.post("/predict?format=coco&score_threshold=0.5", files=files).json()
    assert [row["file_name"] for row in found["images"]] == ["boat.png", "picture-2"]
    assert [row["category_id"] for row in found["annotations"]] == [3, 3]
    assert [row["id"] for row in found["categories"]] == [3, 5]


def test_the_size_is_that_of_the_upright_picture(client: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (one,) = client.predict(picture(40, 30, "JPEG", exif=exif)).json()["predictions"]
    assert (one["width"], one["height"]) == (30, 40)


@pytest.mark.parametrize(
    ("query", "kind", "words"),
    [
        ("?score_threshold=2", "bad_parameter", "a number from 0 to 1, got '2'"),
        ("?score_threshold=nan", "bad_parameter", "a number from 0 to 1"),
        ("?masks=polygons", "bad_parameter", "masks: expected rle or none, got 'polygons'"),
        ("?threshold=0.5", "bad_parameter", "unknown parameters 'threshold'; known: model, score_threshold"),
        ("?model=a&model=b", "bad_parameter", "given twice"),
        ("?model=nix", "unknown_model", "GET /api/models"),
        ("?model=faster_rcnn_resnet50", "not_loaded", "POST /api/models/faster_rcnn_resnet50/load"),
    ],
)
def test_wrong_parameters(client: Client, query: str, kind: str, words: str) -> None:
    answer = client.predict(picture(), query)
    assert answer.status_code == (404 if "model" in kind or kind == "not_loaded" else 400)
    assert answer.json()["error"]["kind"] == kind
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"", 400, "empty"),
        (b"no picture", 422, "bad_picture"),
        (picture()[:60], 422, "bad_picture"),
        (picture(101, 100), 413, "too_many_pixels"),
        (b"x" * 20_001, 413, "too_large"),
        (picture(13, 13), 422, "bad_picture"),
    ],
)
def test_wrong_bodies(client: Client, content: bytes, status: int, kind: str) -> None:
    answer = client.predict(content)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind)
    assert "/etc" not in answer.text
    assert client.service.queue.taken == 0


def test_a_body_without_an_end_is_cut_off(client: Client) -> None:
    """Its length is not announced."""
    chunks = (b"x" * 5000 for _ in range(10))
    answer = client.post("/predict", data=chunks, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (413, "too_large")


def test_what_is_no_picture_by_its_type(client: Client) -> None:
    answer = client.post("/predict", data={"file": "a text"})
    assert answer.status_code == 415
    assert "got 'application/x-www-form-urlencoded'" in answer.json()["error"]["message"]


def test_wrong_multipart_bodies(client: Client) -> None:
    text = client.post("/predict", files=[("file", (None, "a text named file"))])
    assert (text.status_code, text.json()["error"]["kind"]) == (400, "no_file")
    many = client.post("/predict", files=[("file", (f"{k}.png", picture())) for k in range(4)])
    assert (many.status_code, many.json()["error"]["kind"]) == (413, "too_many_files")
    headers = {"Content-Type": "multipart/form-data"}
    broken = client.post("/predict", data=b"x", headers=headers)
    assert (broken.status_code, broken.json()["error"]["kind"]) == (400, "bad_multipart")


def test_a_model_that_breaks_is_told_and_lives_on(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.stub.breaks = RuntimeError("in /secret/place")
    answer = client.predict(picture())
    client.stub.breaks = None
    assert (answer.status_code, answer.json()["error"]["kind"]) == (500, "failed")
    assert "secret" not in answer.text
    assert "in /secret/place" in caplog.text
    assert client.predict(picture()).status_code == 200
    gc.collect()
    assert "never retrieved" not in caplog.text  # told once
