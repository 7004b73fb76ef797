"""The routes: the page's files, and the API that it uses as any other program does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnest_zoo.errors import ZooError, shown, some
from resnest_zoo.serve.answers import describe, describe_as_coco, describe_categories
from resnest_zoo.serve.bodies import (
    Upload,
    count_pixels,
    decode_picture,
    read_uploads,
    receive_film,
    watched,
)
from resnest_zoo.serve.films import Film, FilmResponse, film_lines
from resnest_zoo.serve.inference import Found, Queue
from resnest_zoo.serve.limits import ROOM, Limits
from resnest_zoo.serve.metrics import Metrics
from resnest_zoo.serve.models import Models
from resnest_zoo.serve.openapi import describe_api
from resnest_zoo.serve.refusals import RefusalError, refusal_of, without_paths

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
_EVENT_STEP, _EVENT_BEAT = 0.1, 10.0  # seconds between looks, and between signs of life
_ROOM_STEP = 0.02  # likewise
_CHOICES = {"masks": ("rle", "none"), "format": ("native", "coco")}


@dataclass(eq=False)
class Service:
    """What the routes share; a context while it runs.

    Attributes:
        models: that are served.
        limits: of what is accepted.
        metrics: counted.
        queue: of pictures.
        closing: whether streams without an end are to end.
        films: under way.
        pixels: of pictures that are decoded, all requests together.
        decoders: how many threads decode.
    """

    models: Models
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)
    queue: Queue = field(init=False)
    closing: bool = False
    films: int = 0
    pixels: int = 0
    decoders: CapacityLimiter | None = None

    def __post_init__(self) -> None:
        self.queue = Queue(self.limits, self.metrics)

    def release(self, pixels: int) -> None:
        """Give back what `_make_room` took."""
        self.pixels -= pixels


def build_app(service: Service) -> Starlette:
    """The application, without what guards it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with service.queue, service.models:
            service.decoders = CapacityLimiter(os.cpu_count() or 1)
            yield
            service.closing = True

    app = Starlette(
        lifespan=lifespan,
        routes=[
            *(Route(path, page) for path in ("/", "/models", "/docs")),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/models", list_models),
            Route("/api/models/{name}/load", load_model, methods=["POST"]),
            Route("/api/models/{name}/events", model_events),
            Route("/predict", predict, methods=["POST"]),
            Route("/predict/video", predict_video, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
        ],
        exception_handlers={
            RefusalError: _refused,
            HTTPException: _not_found,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )
    app.state.service = service
    return app


class Counted:
    """Wrap an application to count its answers by route and status, and to end late ones with the server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer."""

        begun = False

        async def send_counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                route = getattr(scope.get("endpoint"), "__name__", "none")
                self.service.metrics.add("requests_total", route=route, status=message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        except asyncio.CancelledError:
            if not self.service.closing or scope["type"] != "http":
                raise
            if not begun:  # the server has waited long enough
                await _refused_at_the_end(scope, receive, send_counted)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


_refused_at_the_end = JSONResponse(
    RefusalError(503, "ending", "the server ends").document, 503, {"Retry-After": "5", "Connection": "close"}
)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return JSONResponse(error.document, error.status, error.headers)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _refused(request, refusal_of(error.status_code))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _failed(request: Request, _: Exception) -> Response:
    """What is a defect here; the server writes the traceback to its log."""
    return await _refused(
        request, RefusalError(500, "internal", "the server failed at this request; its log says why")
    )


async def page(_: Request) -> Response:
    """The one document of the page, which shows its views by their addresses."""
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


def _options(request: Request, known: Sequence[str]) -> dict[str, str]:
    """The parameters of the address.

    Raises:
        RefusalError: one is unknown, given twice, or none of its choices.
    """
    given = request.query_params.multi_items()
    found = dict(given)
    if wrong := [name for name in found if name not in known]:
        raise RefusalError(
            400, "bad_parameter", f"unknown parameters {some(map(shown, wrong))}; known: {', '.join(known)}"
        )
    if len(found) < len(given):
        raise RefusalError(400, "bad_parameter", "a parameter is given twice")
    for name, choices in _CHOICES.items():
        if name in found and found[name] not in choices:
            raise RefusalError(
                400, "bad_parameter", f"{name}: expected {' or '.join(choices)}, got {shown(found[name])}"
            )
    return found


def _threshold(options: Mapping[str, str]) -> float:
    text = options.get("score_threshold", "0.05")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN neither
        raise RefusalError(
            400, "bad_parameter", f"score_threshold: expected a number from 0 to 1, got {shown(text)}"
        )
    return value


async def list_models(request: Request) -> Response:
    """Every model there is."""
    models = _service(request).models
    rows = await run_sync(models.rows)  # looks at the disk
    return JSONResponse({"models": rows, "default": models.default})


async def load_model(request: Request) -> Response:
    """Begin to load a model."""
    model = _service(request).models.load(request.path_params["name"])
    return JSONResponse({"name": model.name, **model.event._asdict()}, 202)


async def model_events(request: Request) -> Response:
    """The states of a model as they change, until it is ready or failed."""
    service = _service(request)
    model = service.models.find(request.path_params["name"])

    async def events() -> AsyncIterator[str]:
        place, last, told = len(model.events) - 1, None, 0.0
        while not service.closing:
            # The one that was told last, which may have got on, and all that came after it.
            events = model.events[place:]
            place += len(events) - 1
            for event in events:
                if event != last:
                    last, told = event, time.monotonic()
                    yield f"data: {json.dumps(event._asdict())}\n\n"
            if events[-1].state in ("ready", "failed"):
                return
            if time.monotonic() - told > _EVENT_BEAT:
                told = time.monotonic()
                yield ": still there\n\n"
            await asyncio.sleep(_EVENT_STEP)

    return StreamingResponse(events(), media_type="text/event-stream")


async def predict(request: Request) -> Response:
    """What is found in a picture, or in several."""
    service, started = _service(request), time.perf_counter()
    options = _options(request, ("model", "score_threshold", "masks", "format"))
    threshold = _threshold(options)
    name, predictor = service.models.get(options.get("model"))
    with ExitStack() as stack:
        stack.enter_context(service.queue.places())
        uploads = await read_uploads(request, service.limits)
        if len(uploads) > 1:
            stack.enter_context(service.queue.places(len(uploads) - 1))
        pixels = await run_sync(count_pixels, uploads, service.limits)
        await _make_room(service, pixels)
        stack.callback(service.release, pixels)
        began = time.perf_counter()
        images = [await run_sync(decode_picture, one.content, limiter=service.decoders) for one in uploads]
        decoded = time.perf_counter()
        futures = [service.queue.submit(predictor, image, threshold) for image in images]
        del images
        try:
            await _wait(request, futures, service.limits.timeout)
            found = _checked(futures)
        finally:
            for future in futures:
                future.cancel()
        seconds = {
            "queue": max(one.waited for one in found),
            "decode": decoded - began,
            "model": sum(one.model / one.batch for one in found),
        }
        service.models.find(name).paces.append(seconds["model"] / len(found))
        content = await run_sync(_written, name, found, uploads, options, seconds, started)
    service.metrics.observe(time.perf_counter() - started)
    return Response(content, media_type="application/json")


async def _make_room(service: Service, pixels: int) -> None:
    """Wait until so many pixels may be decoded; the caller releases them.

    Raises:
        RefusalError: the time is over.
    """
    end = time.monotonic() + service.limits.timeout
    while service.pixels and service.pixels + pixels > ROOM * service.limits.max_pixels:
        if time.monotonic() > end:
            raise _late(service.limits.timeout)
        await asyncio.sleep(_ROOM_STEP)
    service.pixels += pixels


def _late(timeout: float) -> RefusalError:
    return RefusalError(503, "timeout", f"no answer in {timeout:g} s, the server's --timeout; try again", 5)


async def _wait(request: Request, futures: Sequence[Future[Found]], timeout: float) -> None:
    """Wait for all answers, unless the client goes or the time is over.

    Raises:
        ClientDisconnect: it went.
        RefusalError: it is over.
    """
    wrapped = [asyncio.wrap_future(one) for one in futures]
    for one in wrapped:
        one.add_done_callback(_take_error)
    all_there = asyncio.create_task(asyncio.wait(wrapped))
    try:
        async with watched(request) as gone:
            both: set[asyncio.Task[Any]] = {all_there, gone}
            done, _ = await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        all_there.cancel()
    if gone in done and all_there not in done:
        raise ClientDisconnect
    if not done:
        raise _late(timeout)


def _take_error(wrapped: asyncio.Future[Found]) -> None:
    """Keep asyncio from telling it again: `_checked` tells what went wrong with the future it wraps."""
    if not wrapped.cancelled():
        wrapped.exception()


def _checked(futures: Sequence[Future[Found]]) -> list[Found]:
    """The answers, if all are some.

    Raises:
        RefusalError: a picture broke the model, or the server ends.
    """
    for number, future in enumerate(futures, start=1):
        if future.cancelled():
            raise RefusalError(503, "ending", "the server ends", 5)
        error = future.exception()
        if isinstance(error, ZooError):
            raise RefusalError(422, "bad_picture", f"picture {number}: {without_paths(str(error))}")
        if error is not None:
            logger.error("a picture failed", exc_info=error)
            raise RefusalError(500, "failed", f"picture {number}: the model failed at it; the log says why")
    return [future.result() for future in futures]


def _written(
    name: str,
    found: Sequence[Found],
    uploads: Sequence[Upload],
    options: Mapping[str, str],
    seconds: dict[str, float],
    started: float,
) -> bytes:
    """The answer's bytes."""
    predictions = [one.prediction for one in found]
    if options.get("format") == "coco":
        return json.dumps(describe_as_coco(predictions, [upload.name for upload in uploads])).encode()
    masks = options.get("masks") != "none"
    document: dict[str, Any] = {
        "model": name,
        "predictions": [describe(one, k, masks=masks) for k, one in enumerate(predictions)],
        **describe_categories(predictions[0].categories),
        "batch": max(one.batch for one in found),
    }
    seconds["total"] = time.perf_counter() - started
    document["seconds"] = {key: round(value, 6) for key, value in seconds.items()}
    return json.dumps(document).encode()


async def predict_video(request: Request) -> Response:
    """What is found in a film, frame after frame."""
    service = _service(request)
    options = _options(request, ("model", "score_threshold", "masks", "every"))
    threshold, every = _threshold(options), options.get("every", "1")
    if not every.isdecimal() or not 0 < len(every) < 7 or int(every) == 0:
        raise RefusalError(
            400, "bad_parameter", f"every: expected a whole number from 1 to 999999, got {shown(every)}"
        )
    _, predictor = service.models.get(options.get("model"))
    if service.films >= service.limits.films:
        raise RefusalError(
            503, "busy", f"{service.films} films are worked on, as many as may be; try again in 10 s", 10
        )
    stack = ExitStack()
    with stack:
        stack.enter_context(service.queue.places())
        film = Film(service.limits)
        stack.callback(film.close)
        service.films += 1
        stack.callback(_less, service)
        await receive_film(request, film.path, service.limits)
        await run_sync(film.open, int(every))
        lines = film_lines(film, service.queue, predictor, threshold, masks=options.get("masks") != "none")
        return FilmResponse(lines, stack.pop_all().close)


def _less(service: Service) -> None:
    service.films -= 1


async def health(request: Request) -> Response:
    """Whether it can be used."""
    models = _service(request).models
    return JSONResponse({"status": "starting" if models.is_starting else "ok", "models": models.ready})


async def metrics(request: Request) -> Response:
    """Numbers for monitoring."""
    service = _service(request)
    gauges: dict[str, float] = {
        "queue_pictures": service.queue.taken,
        "queue_limit": service.limits.queue,
        "models_ready": len(service.models.ready),
    }
    return PlainTextResponse(
        service.metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


async def openapi(request: Request) -> Response:
    """The description of the API."""
    return JSONResponse(describe_api(_service(request).limits))
