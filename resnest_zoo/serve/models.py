"""The models that are served, and those that can be: listed without torch, loaded one after the other.

absent       not in memory; its file may be in the cache
downloading  bytes arrive, hashed as they do
verifying    the file is there and is hashed or compared with its pin
loading      weights go into the model
ready, failed
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from resnest_zoo import hub
from resnest_zoo.errors import UnknownModelError, ZooError, cut
from resnest_zoo.registry import Entry, fetch_weights, info, list_models
from resnest_zoo.serve.limits import Limits
from resnest_zoo.serve.refusals import RefusalError, without_paths

if TYPE_CHECKING:
    from resnest_zoo.inference import PicturePredictor

logger = logging.getLogger(__name__)

State = Literal["absent", "downloading", "verifying", "loading", "ready", "failed"]
_BUSY = ("downloading", "verifying", "loading")
_TASKS = {"object detection": "boxes", "instance segmentation": "masks", "panoptic segmentation": "panoptic"}
_METRICS = ("box_ap", "mask_ap", "pq")
_PACES = 15  # the latest, of which the median counts
# Builds the predictor of what a name or path stands for.
Build = Callable[[str], "PicturePredictor"]


class Event(NamedTuple):
    """A state of a model.

    Attributes:
        state: see above.
        done: bytes that are there, while it is downloaded.
        total: bytes of all.
        message: what went wrong.
    """

    state: State
    done: int | None = None
    total: int | None = None
    message: str | None = None


@dataclass(eq=False)
class Shelved:
    """A model that is served, or can be.

    Attributes:
        name: in addresses and answers.
        source: what a `Predictor` is built from.
        entry: of the zoo, if its weights are; None for a checkpoint of one's own.
        events: every state it went through, the latest last; whoever looks too seldom misses none.
        predictor: once it is ready.
        paces: seconds that it took for a picture, the latest last.
    """

    name: str
    source: str
    entry: Entry | None
    events: list[Event] = field(default_factory=lambda: [Event("absent")])
    predictor: PicturePredictor | None = None
    paces: deque[float] = field(default_factory=lambda: deque(maxlen=_PACES))

    @property
    def event(self) -> Event:
        """The latest."""
        return self.events[-1]

    @property
    def state(self) -> State:
        """The present one."""
        return self.event.state

    def set(self, state: State, message: str | None = None) -> None:
        """Go to another state."""
        self.events.append(Event(state, message=message))

    def note(self, done: int, total: int | None) -> None:
        """Take in the progress of a download."""
        event = Event("verifying" if done == total else "downloading", done, total)
        if event.state == self.state:
            self.events[-1] = event
        else:
            self.events.append(event)


class Models:
    """All of them, and the thread that loads. A context, which starts it."""

    def __init__(
        self,
        names: Iterable[str],
        build: Build,
        limits: Limits,
        *,
        only: bool = False,
        own_weights: bool = False,
        others: Iterable[str] | None = None,
    ) -> None:
        """Say what is served.

        Args:
            names: of the zoo, or checkpoints of one's own; the first is the default.
            build: makes a predictor of what `Shelved.source` is.
            limits: how many may be loaded.
            only: no others can be loaded.
            own_weights: what is built of the first name has other weights than the zoo's, which are not
                fetched, and of which nothing was reported.
            others: that can be loaded; by default the whole zoo.

        Raises:
            UnknownModelError: a name is neither of the zoo nor a file.
        """
        self.limits = limits
        self.only = only
        self._build = build
        self._all: dict[str, Shelved] = {}
        self._first = [self._put(name, known=not own_weights).name for name in names]
        self.default = self._first[0]
        if not only:
            for name in list_models() if others is None else others:
                self._put(name)
        self._orders: SimpleQueue[Shelved | None] = SimpleQueue()
        self._lock = Lock()
        self._thread = Thread(target=self._work, name="loading", daemon=True)

    def __enter__(self) -> Models:
        self._thread.start()
        for name in self._first:
            self.load(name)
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.put(None)  # a download goes on until the process ends; what is there is resumed

    def _put(self, name: str, *, known: bool = True) -> Shelved:
        try:
            entry: Entry | None = info(name) if known else None
            called = source = info(name).name
        except UnknownModelError:
            if not Path(name).exists() and "://" not in name:
                raise
            entry, source = None, name
            called = cut(Path(name.rstrip("/").partition("@")[0]).stem, 100)
            number = 1
            while called in self._all:
                number += 1
                called = f"{called.removesuffix(f'-{number - 1}')}-{number}"
        return self._all.setdefault(called, Shelved(called, source, entry))

    def find(self, name: str | None) -> Shelved:
        """A model by name; None for the default.

        Raises:
            RefusalError: there is none.
        """
        model = self._all.get(self.default if name is None else name)
        if model is None:
            raise RefusalError(
                404, "unknown_model", "no model is called so here; GET /api/models lists those there are"
            )
        return model

    def get(self, name: str | None) -> tuple[str, PicturePredictor]:
        """Name and predictor of a model that can be used.

        Raises:
            RefusalError: there is none, or it is not ready.
        """
        model = self.find(name)
        if model.predictor is not None:
            return model.name, model.predictor
        if model.state in _BUSY:
            raise RefusalError(503, "not_ready", f"{model.name} is {model.state}; try again in 2 s", 2)
        if model.state == "failed":
            raise RefusalError(503, "failed", f"{model.name} could not be loaded: {model.event.message}", 30)
        raise RefusalError(
            404, "not_loaded", f"{model.name} is not loaded; POST /api/models/{model.name}/load does it"
        )

    def load(self, name: str) -> Shelved:
        """Have a model loaded, if it is not already.

        Raises:
            RefusalError: there is none, or there are too many.
        """
        model = self.find(name)
        with self._lock:
            if model.state in ("absent", "failed"):
                there = sum(one.state in (*_BUSY, "ready") for one in self._all.values())
                if there >= max(self.limits.models, len(self._first)):
                    raise RefusalError(
                        429,
                        "too_many_models",
                        f"{there} models are loaded, as many as may be; start the server with those you "
                        "need, or with --max-models",
                    )
                cached = model.entry is None or _is_cached(model.entry)
                model.set("verifying" if cached else "downloading")
                self._orders.put(model)
        return model

    def _work(self) -> None:
        while (model := self._orders.get()) is not None:
            try:
                if model.entry is not None and not _has_twin(model.entry):
                    fetch_weights(model.entry, progress=model.note)
                model.set("loading")
                model.predictor = self._build(model.source)
            except (ZooError, OSError, RuntimeError, MemoryError) as error:
                logger.error("%s: %s", model.name, error)
                reason = without_paths(str(error) or type(error).__name__)
                model.set("failed", f"{reason} The server's log says more.")
            except Exception as error:
                logger.exception("%s could not be loaded", model.name)
                model.set("failed", f"it failed ({type(error).__name__}); the server's log says more")
            else:
                model.set("ready")

    @property
    def ready(self) -> list[str]:
        """Names of those that can be used."""
        return [model.name for model in self._all.values() if model.predictor is not None]

    @property
    def is_starting(self) -> bool:
        """Whether one that the command named is still on its way."""
        return any(self._all[name].state in _BUSY for name in self._first)

    def rows(self) -> list[dict[str, Any]]:
        """What `GET /api/models` lists."""
        folder = hub.cache_dir()
        files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return [_row(model, files) for model in self._all.values()]


def _files_of(entry: Entry) -> set[str]:
    """What its weights are called in the cache, as they were published and as they were converted."""
    name = entry.artifact.filename
    return {name, f"{Path(name).stem}.safetensors"}


def _is_cached(entry: Entry) -> bool:
    folder = hub.cache_dir()
    return entry.artifact.path is not None or any((folder / name).is_file() for name in _files_of(entry))


def _has_twin(entry: Entry) -> bool:
    """Whether it was converted to safetensors, which is then loaded in place of the original."""
    if entry.artifact.path is not None:
        return False
    return hub.is_pinned(hub.cache_dir() / f"{Path(entry.artifact.filename).stem}.safetensors")


def _row(model: Shelved, files: set[str]) -> dict[str, Any]:
    entry, predictor = model.entry, model.predictor
    reported = dict.fromkeys(_METRICS)
    task, size, parameters, packaged = "boxes", None, None, False
    if entry is not None:
        task, size, parameters = _TASKS[entry.task], entry.artifact.size, entry.parameters
        packaged = entry.artifact.path is not None
        # Without test-time augmentation, where there are several rows: what the page computes.
        best = min(entry.reported, key=lambda row: bool(row.tta), default=None)
        if best is not None:
            reported = dict(zip(_METRICS, (best.box, best.mask, best.pq), strict=True))
    if predictor is not None:
        categories = predictor.model.categories
        task = _task_of(predictor)
        parameters = parameters or sum(one.numel() for one in predictor.model.parameters())
    return {
        "name": model.name,
        "task": task,
        "served": predictor is not None,
        "state": model.state,
        "message": model.event.message,
        "bytes": size,
        "parameters": parameters,
        "reported": reported,
        "seconds": round(median(paces), 6) if (paces := list(model.paces)) else None,
        "packaged": packaged,
        "cached": entry is None or packaged or bool(files & _files_of(entry)),
        "method": entry.method if entry else None,
        "backbone": entry.backbone if entry else None,
        "dataset": entry.reported[0].dataset if entry and entry.reported else None,
        "licence": entry.licence if entry else None,
        "classes": None if predictor is None else [*categories.things, *categories.stuff],
    }


def _task_of(predictor: PicturePredictor) -> str:
    if predictor.model.categories.stuff:
        return "panoptic"
    heads = getattr(predictor.model, "roi_heads", None)
    return "boxes" if getattr(heads, "mask_head", None) is None else "masks"
