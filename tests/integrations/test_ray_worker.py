"""Pictures in, rows out: without Ray, whose part is played by a list."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pip install 'resnest-zoo[ray]'")

import pyarrow as pa
from PIL import Image

from resnest_zoo.api import Predictor
from resnest_zoo.errors import ConfigError, WorkerError
from resnest_zoo.evaluation.results import detection_rows, segment_rows
from resnest_zoo.integrations.ray import DatasetPredictor, Workers, schema
from resnest_zoo.integrations.ray.job import _check_room, _told
from resnest_zoo.integrations.ray.ledger import STARTS, Ledger
from resnest_zoo.integrations.ray.rows import hash_weights


class Died(BaseException):
    """In place of the end of a process."""


class Stub:
    """Finds what `Quick` does, but fails or dies at pictures of some names."""

    def __init__(self) -> None:
        from tests.ray_job import Quick

        self.quick = Quick()
        self.model = self.quick.model

    def stream(self, pictures: Any, **_: Any) -> Any:
        for picture in pictures:
            if "wrong" in str(picture):
                raise TypeError("not a picture that I like")
            if "cuda" in str(picture):
                raise RuntimeError("CUDA error: device-side assert triggered")
            if "kills" in str(picture):
                raise Died
            yield from self.quick.stream([picture])


class Here(DatasetPredictor):
    """Asks its ledger without Ray."""

    def _told(self, what: str, *arguments: Any) -> Any:
        return getattr(self._ledger, what)(*arguments)


def table(*names: str) -> Any:
    return pa.table({"id": [f"id of {name}" for name in names], "address": list(names)})


@pytest.mark.parametrize("kind", ["detection", "mask", "panoptic"])
def test_rows_hold_what_the_predictor_finds(kind: str, mirror: Any, photos: Path) -> None:
    worker = DatasetPredictor(f"tiny_{kind}", {"score_threshold": 0.1, "device": "cpu"})
    names = ["coffee.jpg", "notes.txt", "astronaut.PNG"]
    pictures = pa.table({"id": names, "address": [str(photos / name) for name in names]})
    rows = worker(pictures)
    assert rows.schema == schema()
    assert rows["id"].to_pylist() == names
    predictor = Predictor(f"tiny_{kind}", score_threshold=0.1, device="cpu")
    for row in rows.to_pylist():
        assert (row["model"], row["weights"]) == (f"tiny_{kind}", hash_weights(predictor.model))
        if row["id"] == "notes.txt":
            assert "not a picture in a format read here" in row["error"]
            assert row["boxes"] == []
            assert row["masks"] is None
            continue
        found = predictor(photos / row["id"])
        assert row["error"] is None
        assert (row["height"], row["width"]) == found.image_size
        assert row["boxes"] == found.boxes.tolist()
        assert row["scores"] == found.scores.tolist()
        assert row["classes"] == found.classes.tolist()
        assert row["names"] == found.names
        expected = detection_rows(found.instances, 0)
        assert len(expected) > 0
        assert row["category_ids"] == [one["category_id"] for one in expected]
        assert row["masks"] == (None if kind == "detection" else [one["segmentation"] for one in expected])
        if kind != "panoptic":
            assert row["segments"] is None
            continue
        assert found.panoptic is not None
        segments = segment_rows(found.panoptic, found.categories)
        keys = ("id", "category_id", "area", "isthing")
        assert [{key: one[key] for key in keys} for one in row["segments"]] == segments
        from resnest_zoo.annotations.masks import decode_rle

        for one in row["segments"]:
            assert (decode_rle(one["mask"]) == (found.panoptic.segment_map == one["id"]).numpy()).all()


def test_pictures_come_as_bytes_and_by_any_address(mirror: Any, photos: Path) -> None:
    import fsspec

    content = (photos / "coffee.jpg").read_bytes()
    worker = DatasetPredictor("tiny_detection", {"device": "cpu"}, name="mine")
    shard = pa.table({"id": ["a", "b"], "content": [content, None], "error": [None, "too long"]})
    first, second = worker(shard).to_pylist()
    assert first["error"] is None
    assert second["error"] == "too long"
    assert first["model"] == "mine"
    store = fsspec.filesystem("memory")
    store.pipe_file("/of_a_worker/x.jpg", content)
    try:
        addresses = [
            f"file://{photos}/coffee.jpg",
            "memory://of_a_worker/none.jpg",
            "memory://of_a_worker/x.jpg",
        ]
        rows = worker(pa.table({"id": ["f", "n", "m"], "address": addresses})).to_pylist()
    finally:
        store.rm("/of_a_worker", recursive=True)
    assert rows[0]["boxes"] == rows[2]["boxes"] == first["boxes"]
    assert "none.jpg: cannot be read" in rows[1]["error"]


def test_pictures_over_http_are_read(mirror: Any, photos: Path) -> None:
    content = io.BytesIO()
    Image.open(photos / "coffee.jpg").save(content, "PNG")
    (mirror.folder / "x.png").write_bytes(content.getvalue())
    worker = DatasetPredictor("tiny_detection", {"device": "cpu"})
    found, missing = worker(table(f"{mirror.url}/x.png", f"{mirror.url}/y.png")).to_pylist()
    (mirror.folder / "x.png").unlink()
    assert found["error"] is None
    assert "404" in missing["error"]


def test_any_error_of_one_picture_is_its_row_alone() -> None:
    rows = DatasetPredictor(Stub)(table("1.jpg", "wrong.jpg", "3.jpg")).to_pylist()
    assert [row["error"] for row in rows] == [None, "TypeError: not a picture that I like", None]
    assert len(rows[2]["scores"]) == 20


def test_a_spoilt_process_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After such an error of CUDA's nothing more can be computed, and every picture would fail."""
    ends: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *how: ends.append(how))
    DatasetPredictor(Stub)(table("cuda.jpg"))
    assert ends == [(os.getpid(), signal.SIGKILL)]


def run_to_the_end(ledger: Ledger, pictures: Any) -> tuple[list[dict[str, Any]], int]:
    """As Ray does: the same pictures to a new worker, as often as one dies."""
    for deaths in range(20):
        try:
            return Here(Stub, ledger=ledger)(pictures).to_pylist(), deaths
        except Died:
            continue
    raise AssertionError("it never ends")


def test_a_picture_that_kills_its_process_is_found_and_left_out() -> None:
    rows, deaths = run_to_the_end(Ledger(), table("1.jpg", "kills.jpg", "3.jpg", "wrong.jpg"))
    assert deaths == 3  # together, and twice alone
    assert [row["error"] for row in rows] == [
        None,
        "the process that had it in work, and nothing else, died 2 times",
        None,
        "TypeError: not a picture that I like",
    ]


def test_many_such_pictures_are_found() -> None:
    rows, deaths = run_to_the_end(Ledger(), table("kills-1", "2", "kills-3", "kills-4"))
    assert deaths == 7
    assert [row["error"] is None for row in rows] == [False, True, False, False]


def test_a_worker_killed_from_outside_costs_no_picture() -> None:
    ledger = Ledger()
    assert ledger.begin(["id of 1.jpg", "id of 2.jpg"])
    rows, deaths = run_to_the_end(ledger, table("1.jpg", "2.jpg"))  # the next one after the death
    assert deaths == 0
    assert [row["error"] for row in rows] == [None, None]
    assert ledger.begin(["id of 1.jpg"])  # nothing is left behind


def test_workers_that_only_start_and_die_end_the_job() -> None:
    ledger = Ledger(workers=2)
    for _ in range(STARTS + 2):
        Here(Stub, ledger=ledger)
    with pytest.raises(WorkerError, match="one worker after the other died"):
        Here(Stub, ledger=ledger)
    ledger.end([])
    Here(Stub, ledger=ledger)


def test_what_ends_a_job_is_told_in_one_line() -> None:
    """Ray's own errors hold pages, of which the last line is the worker's."""
    cause = RuntimeError("")
    error = RuntimeError("a page\n  File x\nresnest_zoo.errors.ConfigError: m: the weights are others")
    error.__cause__ = cause
    end = "; --resume goes on with what is written"
    assert str(_told(error)) == f"the workers could not go on: m: the weights are others{end}"
    bare = RuntimeError()
    bare.__cause__ = ValueError("a\nb")
    assert str(_told(bare)) == f"the workers could not go on: b{end}"
    assert str(_told(OSError())) == f"the workers could not go on: OSError{end}"


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"count": True}, {"batch_size": 0}, {"gpus": -1}, {"gpus": float("nan")}, {"gpus": 1.5}],
)
def test_numbers_of_workers_make_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"workers: {next(iter(wrong))}: expected"):
        Workers(**wrong)


def test_the_room_of_a_cluster_is_checked_before_a_job_waits_for_it() -> None:
    class Cluster:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return {"CPU": 4.0, "GPU": 1.0}

    _check_room(Cluster, Workers(3))
    _check_room(Cluster, Workers(2, 0.5))
    with pytest.raises(
        ConfigError, match=r"expected 5 CPUs in Ray's cluster \(one of them for reading\) for 4"
    ):
        _check_room(Cluster, Workers(4))
    with pytest.raises(ConfigError, match="expected 2 GPUs in Ray's cluster for 2 workers, got 1"):
        _check_room(Cluster, Workers(2, 1))


def test_other_weights_than_the_jobs_are_refused() -> None:
    with pytest.raises(ConfigError, match="the weights on this machine"):
        DatasetPredictor(Stub, weights="0" * 64)


def test_the_hash_is_of_the_weights_however_they_compute(mirror: Any) -> None:
    """A driver on the CPU and workers on GPUs have to agree."""
    import resnest_zoo

    model = resnest_zoo.get("tiny_mask")
    assert hash_weights(resnest_zoo.get("tiny_mask", optimize=True)) == hash_weights(model)
    next(model.parameters()).data.add_(1e-3)
    assert hash_weights(model) != hash_weights(resnest_zoo.get("tiny_mask"))
