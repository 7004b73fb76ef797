"""A server in a thread on a free port of 127.0.0.1, and a model that finds two things when it is let."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import requests
import torch
from PIL import Image

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ImageError
from resnest_zoo.inference import Prediction
from resnest_zoo.inference.pipeline import Failure
from resnest_zoo.serve.app import Service
from resnest_zoo.serve.limits import Limits
from resnest_zoo.serve.models import Models
from resnest_zoo.serve.server import bind, build_server
from resnest_zoo.structures import Instances, PanopticResult, Segment

CATEGORIES = Categories(("ball", "cube"), (3, 5), ("things", "grass"), (0, 7))
NAME = "mask_rcnn_resnest14_dcn_shapes"


class StubPredictor:
    """Called as `Predictor.stream` is.

    Attributes:
        free: cleared, it holds the model before its next batch.
        batches: sizes of the batches so far.
        seen: (height, width) of the pictures so far.
        breaks: what it raises.
        spared: how many pictures come through before it is held or breaks.
        waiting: a batch has begun, and is held.
    """

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.model.categories = CATEGORIES  # type: ignore[assignment]
        self.free = threading.Event()
        self.free.set()
        self.batches: list[int] = []
        self.seen: list[tuple[int, int]] = []
        self.breaks: Exception | None = None
        self.spared = 0
        self.waiting = False

    def stream(
        self,
        pictures: Iterable[torch.Tensor],
        *,
        score_threshold: float,
        batch_size: int | None,
        errors: str,
        on_batch: Callable[[list[int], float], None],
        encoded: bool,
    ) -> Iterator[Prediction | Failure]:
        assert errors == "yield"
        assert encoded
        source, index = iter(pictures), 0
        while batch := list(islice(source, batch_size or 1)):
            if len(self.seen) >= self.spared:
                self.waiting = not self.free.is_set()
                assert self.free.wait(20)
                self.waiting = False
                if self.breaks is not None:
                    raise self.breaks
            self.batches.append(len(batch))
            on_batch(list(range(index, index + len(batch))), 0.001)
            for image in batch:
                size = (image.shape[1], image.shape[2])
                self.seen.append(size)
                if size == (13, 13):
                    yield Failure(index, ImageError("thirteen is no size; see /etc/secret/list.txt"))
                else:
                    yield Prediction(image, found_in(size, score_threshold))
                index += 1


def found_in(size: tuple[int, int], threshold: float) -> Instances:
    """Two things with masks, of which the threshold may leave out one, and a panoptic map."""
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, :2, :2] = masks[1, 1:, 1:] = True
    ids = torch.full(size, 2, dtype=torch.int32)
    ids[:2, :2] = 1
    segments = (Segment(1, True, 0, 4, 0.9, 0), Segment(2, False, 1, int((ids == 2).sum())))
    found = Instances(
        torch.tensor([[0.0, 0, 2, 2], [1, 1, 4, 4]]),
        torch.tensor([0.9, 0.3]),
        torch.tensor([0, 1]),
        size,
        CATEGORIES,
        masks=masks,
        panoptic=PanopticResult(ids, segments, (ids == 2).long()),
    )
    return found.above(threshold)


class Client:
    """What asks a running server."""

    def __init__(self, url: str, service: Service, stub: StubPredictor) -> None:
        self.url, self.service, self.stub = url, service, stub
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=20, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=20, **options)

    def predict(self, content: bytes, query: str = "") -> requests.Response:
        headers = {"Content-Type": "application/octet-stream"}
        # Sessions are not for several threads.
        return requests.post(f"{self.url}/predict{query}", data=content, headers=headers, timeout=20)


@contextmanager
def running(
    limits: Limits | None = None, *, token: str | None = None, host: str = "127.0.0.1", **options: Any
) -> Iterator[Client]:
    """A server of a stub, until the end of the context; it must then end in time."""
    stub = StubPredictor()
    limits = limits or Limits()
    options.setdefault("names", [NAME])
    options.setdefault("build", lambda _: stub)
    service = Service(Models(limits=limits, **options), limits)
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = build_server(service, host=host, port=port, token=token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started and not service.models.is_starting)
            yield Client(f"http://127.0.0.1:{port}", service, stub)
        finally:
            stub.free.set()
            service.closing = server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def picture(width: int = 40, height: int = 30, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 60)).save(buffer, form, **options)
    return buffer.getvalue()
