"""A whole job: pictures listed, predicted by workers of Ray Data, rows written by this process alone.

One writer is enough: rows of a picture are some kilobytes. It makes every picture's row appear once, whatever
the workers go through: a worker that is cut off can write nothing.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnest_zoo.api import Predictor
from resnest_zoo.errors import ConfigError, WorkerError, cut, shown
from resnest_zoo.integrations.ray.ledger import Ledger
from resnest_zoo.integrations.ray.output import Known, Writer, begin, open_store, sole_writer
from resnest_zoo.integrations.ray.packages import imported
from resnest_zoo.integrations.ray.rows import hash_weights
from resnest_zoo.integrations.ray.sources import Listing, find_pictures, read_shard
from resnest_zoo.integrations.ray.worker import DatasetPredictor

logger = logging.getLogger(__name__)

_CALL = 16  # pictures that a worker is given at once, or four batches
_TASK = 256  # and in one task of Ray, at most: what is done again when a worker dies
_TASKS_EACH = 16  # for each worker at least, as far as there are pictures, so that all end together
_BLOCK = 8 << 20  # bytes that Ray gathers before it hands pictures of shards or rows on
_OBJECTS = 1 << 30  # bytes of shared memory of a cluster that is started here


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Attributes:
        count: processes, each with a model.
        gpus: of each; a fraction lets several share one; 0 for the CPU.
        batch_size: pictures of one padded size that go through the model together; None for 4, on the CPU 1.

    Raises:
        ConfigError: a number makes no sense.
    """

    count: int = 1
    gpus: float = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("count", "batch_size"):
            value = getattr(self, name)
            fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
            if not fits and not (name == "batch_size" and value is None):
                raise ConfigError(f"workers: {name}: expected a whole number above 0, got {shown(value)}")
        if not 0 <= self.gpus <= 64:  # NaN neither
            raise ConfigError(f"workers: gpus: expected a number from 0 on, got {shown(self.gpus)}")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ConfigError(f"workers: gpus: expected a part of one or whole ones, got {shown(self.gpus)}")

    @property
    def call(self) -> int:
        """Pictures that a worker is given at once."""
        return max(_CALL, 4 * (self.batch_size or 1))


@dataclass(frozen=True)
class Done:
    """What a job has done.

    Attributes:
        written: rows of this run.
        failed: those of them with an error.
        before: pictures that had a row already.
        parts: files written.
    """

    written: int
    failed: int
    before: int
    parts: int


@dataclass
class _Plan:
    """What the workers are made of."""

    model: str | Callable[[], Any]
    options: dict[str, Any]
    name: str
    weights: str = ""
    job: dict[str, Any] = field(default_factory=dict)


def predict_dataset(
    source: str | Path,
    output: str | Path,
    model: str | Path | Callable[[], Any],
    options: Mapping[str, Any] | None = None,
    *,
    workers: Workers | int = 1,
    resume: bool = False,
    images: str | Path | None = None,
    part_rows: int = 10_000,
    progress: bool | None = None,
) -> Done:
    """Detect in all pictures of a source, with many processes or machines, into a folder of Parquet files.

    `read_predictions` reads the rows. A picture that fails is a row with its `error`, one that kills its
    process likewise, after three processes. Without a cluster (RAY_ADDRESS, or
    `ray.init` before) one is started on this machine, and stopped at the end.

    Args:
        source: see `find_pictures`.
        output: a folder, or an address that fsspec knows.
        model: what `Predictor` takes, or a function that makes a predictor, which Ray can send to workers.
        options: further arguments of `Predictor`, such as `score_threshold` or `weights`.
        workers: how many, or what `Workers` says.
        resume: go on with what is in `output`.
        images: the pictures' folder of a COCO file.
        part_rows: rows of a file; it is also closed at 64 MiB, and five minutes after its first row.
        progress: show a bar; None shows one if stderr is a terminal.

    Raises:
        ConfigError: an argument is wrong, `output` holds something else, was made otherwise, or the cluster
            is too small.
        ImageError, DataError: the source cannot be read.
        LockedError: another job writes into `output`.
        WorkerError: the workers could not go on. What is written stays, and `resume` goes on with it.
        ZooError: the extra `ray` is not installed, or as `Predictor` does.
    """
    for package in ("ray", "pyarrow", "fsspec"):
        imported(package)
    if isinstance(workers, int):
        workers = Workers(workers)
    source = _absolute(str(source))
    listing = find_pictures(source, None if images is None else _absolute(str(images)))
    plan = _plan(model, dict(options or {}), workers)
    plan.job |= {"source": source, "shards": listing.are_shards}
    store = open_store(output)
    with sole_writer(output, store):
        known = begin(output, store, plan.job, resume=resume)
        before = len(known)
        writer = Writer(store, known, part_rows)
        left = listing if listing.are_shards else _without(listing, known)
        if len(left):
            with _cluster(workers):
                _run(left, known, plan, workers, writer, progress)
        lacking = 0 if listing.are_shards else sum(name not in known for name in listing.ids)
        if lacking:
            raise WorkerError(f"{output}: {lacking} pictures have no row; --resume predicts them")
    return Done(writer.rows, writer.failed, before, writer.parts)


def _plan(model: str | Path | Callable[[], Any], options: dict[str, Any], workers: Workers) -> _Plan:
    """Build the model once, here: what is wrong with it is told before anything starts."""
    if not workers.gpus:
        options = {"device": "cpu", **options}
    name = str(getattr(model, "__name__", model)) if callable(model) else str(model)
    if callable(model):
        plan = _Plan(model, {}, name)
        predictor = model()
    else:
        plan = _Plan(_absolute(name) if os.path.exists(name) else name, options, name)  # noqa: PTH110
        if "weights" in options and options["weights"] is not None:
            options["weights"] = _absolute(str(options["weights"]))
        predictor = Predictor(plan.model, **{**options, "device": "cpu"})  # type: ignore[arg-type]
    if fresh := predictor.model.fresh_layers:
        raise ConfigError(
            f"{name}: what layers that nobody trained find ({', '.join(fresh)}) means nothing: name the "
            "checkpoint's classes, in their order"
        )
    categories = predictor.model.categories
    plan.weights = hash_weights(predictor.model)
    plan.job = {
        "format": 1,
        "model": name,
        "weights": plan.weights,
        "score_threshold": predictor.score_threshold,
        "options": {key: value for key, value in sorted(options.items()) if key not in _OF_A_MACHINE},
        "things": dict(zip(map(str, categories.thing_ids), categories.things, strict=True)),
        "stuff": dict(zip(map(str, categories.stuff_ids), categories.stuff, strict=True)),
    }
    return plan


_OF_A_MACHINE = ("device", "weights", "progress", "score_threshold")  # or told otherwise


def _absolute(name: str) -> str:
    """A path that other processes understand, too."""
    return name if "://" in name else str(Path(os.path.expanduser(name)).absolute())


def _without(listing: Listing, known: Known) -> Listing:
    if not len(known):
        return listing
    left = [place for place, picture_id in enumerate(listing.ids) if picture_id not in known]
    return Listing([listing.ids[place] for place in left], [listing.addresses[place] for place in left])


@contextmanager
def _cluster(workers: Workers) -> Iterator[None]:
    """Ray's cluster: the one there is, else one of this machine's, which has a processor more than workers.

    Without that one reading would wait for workers, and workers for reading.

    Raises:
        ConfigError: it is too small.
    """
    ray = imported("ray")
    if ray.is_initialized():
        _check_room(ray, workers)
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    here = {"num_cpus": workers.count + 1, "include_dashboard": False, "object_store_memory": _OBJECTS}
    ray.init(
        address=address or "local", log_to_driver=False, logging_level="WARNING", **({} if address else here)
    )
    try:
        _check_room(ray, workers)
        yield
    finally:
        ray.shutdown()


def _check_room(ray: Any, workers: Workers) -> None:
    there = ray.cluster_resources()
    wanted = {"CPU": workers.count + 1, "GPU": workers.count * workers.gpus}
    for kind, count in wanted.items():
        if there.get(kind, 0) < count:
            more = " (one of them for reading)" if kind == "CPU" else ""
            raise ConfigError(
                f"workers: expected {count:g} {kind}s in Ray's cluster{more} for {workers.count} workers, "
                f"got {there.get(kind, 0):g}"
            )


def _run(
    listing: Listing, known: Known, plan: _Plan, workers: Workers, writer: Writer, progress: bool | None
) -> None:
    """All rows of the pictures left, into the writer; on any error, too, what has come is written."""
    from tqdm import tqdm

    ray = imported("ray")
    total = None if listing.are_shards else len(listing)
    bar = tqdm(total=total, desc="predict", unit="image", disable=None if progress is None else not progress)
    try:
        with bar, _settings():
            for table in _rows(listing, known, plan, workers):
                writer.add(table)
                bar.update(table.num_rows)
    except ray.exceptions.RayError as error:
        raise _told(error) from error
    finally:
        writer.flush()


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Data's own for the job: no bars beside ours, and small blocks, of which fewer are done again."""
    context = imported("ray.data").DataContext.get_current()
    log = logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.target_max_block_size, log.level
    context.enable_progress_bars, context.target_max_block_size = False, _BLOCK
    log.setLevel(logging.CRITICAL)  # what ends the job is told by an error
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before[:2]
        log.setLevel(before[2])


def _rows(listing: Listing, known: Known, plan: _Plan, workers: Workers) -> Iterator[Any]:
    """The rows as they come, in any order, as `pyarrow.Table`s."""
    ray, data = imported("ray"), imported("ray.data")
    here = imported("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote(workers.count)
    rows = read_pictures(listing, workers, known).map_batches(
        DatasetPredictor,
        fn_constructor_kwargs={
            "model": plan.model,
            "options": plan.options,
            "batch_size": workers.batch_size,
            "name": plan.name,
            "weights": plan.weights,
            "ledger": ledger,
        },
        batch_size=workers.call,  # without a number, reading becomes a part of the workers
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=workers.count),
        num_cpus=1,
        num_gpus=workers.gpus or None,
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def read_pictures(source: str | Listing, workers: Workers | int = 1, known: Known | None = None) -> Any:
    """A `ray.data.Dataset` of pictures, for `map_batches` with `DatasetPredictor`.

    Args:
        source: see `find_pictures`, or what it returned.
        workers: that will work on them: they decide how many pictures a task has.
        known: pictures to leave out, of shards.

    Returns:
        Columns `id` and `address`; of shards `id`, `content` and `error`.

    Raises:
        ZooError: as `find_pictures`.
    """
    pa, data = imported("pyarrow"), imported("ray.data")
    listing = source if isinstance(source, Listing) else find_pictures(_absolute(source))
    workers = Workers(workers) if isinstance(workers, int) else workers
    table = pa.table({"id": listing.ids, "address": listing.addresses})
    if listing.are_shards:
        blocks = [table.slice(place, 1) for place in range(len(listing))]
        settled = imported("ray").put(known or Known())
        return data.from_arrow(blocks).map_batches(
            _read_shards,
            fn_kwargs={"known": settled, "rows": workers.call},
            batch_format="pyarrow",
            num_cpus=1,
        )
    each = max(workers.call, min(_TASK, len(listing) // (workers.count * _TASKS_EACH)))
    each -= each % workers.call
    return data.from_arrow(
        [table.slice(place, each).combine_chunks() for place in range(0, len(listing), each)]
    )


def _read_shards(shards: Any, known: Any, rows: int) -> Iterator[Any]:
    """The pictures of shards that are not known, some at a time."""
    pa, ray = imported("pyarrow"), imported("ray")
    done: Known = ray.get(known) if isinstance(known, ray.ObjectRef) else known
    columns = pa.schema([("id", pa.string()), ("content", pa.binary()), ("error", pa.string())])
    for shard in shards.to_pylist():
        gathered: list[dict[str, Any]] = []
        for picture in read_shard(shard["id"], shard["address"]):
            if picture["id"] not in done:
                gathered.append(picture)
            if len(gathered) == rows:
                yield pa.Table.from_pylist(gathered, schema=columns)
                gathered = []
        yield pa.Table.from_pylist(gathered, schema=columns)


def _told(error: Exception) -> WorkerError:
    """What ended the job, in one line: the last of what Ray says of a worker, which is its error."""
    chain: list[BaseException] = [error]
    for _ in range(10):
        cause = getattr(chain[-1], "cause", None) or chain[-1].__cause__
        if not isinstance(cause, BaseException):
            break
        chain.append(cause)
    lines = [line.strip() for one in chain for line in str(one).splitlines()[-1:] if line.strip()]
    text = re.sub(r"^resnest_zoo\.errors\.\w+: ", "", lines[0] if lines else type(error).__name__)
    return WorkerError(
        f"the workers could not go on: {cut(text, 500)}; --resume goes on with what is written"
    )
