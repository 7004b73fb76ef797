"""The folder of results: what was run, and parts that appear whole under their names or not at all.

    OUTPUT/_job.json             model, weights, threshold and all else that rows depend on
    OUTPUT/part-000000.parquet   rows

One process writes, the one that began the job. In a folder it holds a lock, and a part is renamed into place.
At an address of fsspec there are no locks: a part is written under a temporary name, then moved, which object
stores do by a copy that appears whole.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from resnest_zoo.errors import ConfigError, DataError, some
from resnest_zoo.hub.locks import locked
from resnest_zoo.hub.staging import remove_staged, write_staged
from resnest_zoo.integrations.ray.packages import imported
from resnest_zoo.integrations.ray.rows import schema

logger = logging.getLogger(__name__)

JOB = "_job.json"
_LOCK = ".run.lock"
_TEMPORARY = ".tmp"
_ENDING = ".parquet"
_DIGEST = 16  # bytes of an id that are kept
_BYTES, _SECONDS = 64 << 20, 300.0  # a part is closed at this size and age


class Store(Protocol):
    """A folder, wherever it is. Names have no folders in them."""

    def names(self) -> list[str]:
        """What is there, sorted."""

    def open(self, name: str) -> BinaryIO:
        """A file to read from, any part of it."""

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def clean(self) -> None:
        """Remove what a killed process has left half written."""


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.path)) if self.path.is_dir() else []

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")

    def write(self, name: str, content: bytes) -> None:
        write_staged(self.path / name, content)

    def remove(self, name: str) -> None:
        (self.path / name).unlink()

    def clean(self) -> None:
        remove_staged(self.path)


class _Address:
    def __init__(self, address: str) -> None:
        self.fs, self.root = imported("fsspec").core.url_to_fs(address.rstrip("/"))

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        if not self.fs.exists(self.root):
            return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in self.fs.ls(self.root, detail=False))

    def open(self, name: str) -> BinaryIO:
        file: BinaryIO = self.fs.open(f"{self.root}/{name}", "rb")
        return file

    def write(self, name: str, content: bytes) -> None:
        self.fs.makedirs(self.root, exist_ok=True)
        part = f"{self.root}/.{name}.{os.urandom(4).hex()}{_TEMPORARY}"
        self.fs.pipe_file(part, content)
        self.fs.mv(part, f"{self.root}/{name}")

    def remove(self, name: str) -> None:
        self.fs.rm_file(f"{self.root}/{name}")

    def clean(self) -> None:
        for name in self.names():
            if name.startswith(".") and name.endswith(_TEMPORARY):
                self.remove(name)


def open_store(output: str | Path) -> Store:
    """A folder of results, there or not.

    Raises:
        ConfigError: it is a file.
        ZooError: it is an address, and fsspec is not installed.
    """
    if "://" in str(output):
        return _Address(str(output))
    path = Path(os.path.expanduser(output))
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--output {output}: is a file; results are several files: name a folder for them")
    return _Folder(path)


class Known:
    """Ids, 16 bytes of each, so that a million take 16 MB."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=f"S{_DIGEST}")
        self._new: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)

    def __contains__(self, picture_id: str) -> bool:
        digest = _digest(picture_id)
        if digest in self._new:
            return True
        place = int(np.searchsorted(self._sorted, np.array([digest], dtype=self._sorted.dtype))[0])
        return place < len(self._sorted) and _padded(self._sorted[place]) == digest

    def add(self, picture_id: str) -> bool:
        """Whether it is new."""
        if picture_id in self:
            return False
        self._new.add(_digest(picture_id))
        return True

    def settle(self) -> None:
        """Keep what is new as the rest is kept, which takes less room."""
        new = np.array(sorted(self._new), dtype=self._sorted.dtype)
        self._sorted = np.sort(np.concatenate([self._sorted, new]))
        self._new = set()


def _digest(picture_id: str) -> bytes:
    return blake2b(picture_id.encode(errors="surrogateescape"), digest_size=_DIGEST).digest()


def _padded(digest: bytes) -> bytes:
    return bytes(digest).ljust(_DIGEST, b"\0")  # NumPy drops zeros at the end


@contextmanager
def sole_writer(output: str | Path, store: Store) -> Iterator[None]:
    """Be the only job that writes into a folder, which is made if it is missing.

    Raises:
        LockedError: another one is at work there.
        OSError: the folder cannot be made.
    """
    with ExitStack() as stack:
        if isinstance(store, _Folder):
            store.path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(store.path / "run", wait=False))
        else:
            logger.warning("%s: has no locks; let no other job write there meanwhile", output)
        yield


def begin(output: str | Path, store: Store, job: Mapping[str, Any], *, resume: bool) -> Known:
    """Begin a job, or go on with it. The caller is the sole writer.

    Args:
        output: for messages.
        store: of it.
        job: what its rows depend on, as JSON has it.
        resume: go on with what is there.

    Returns:
        The ids that are done.

    Raises:
        ConfigError: something is there that is not to be resumed, or was run otherwise.
        DataError: a picture has two rows there.
    """
    there = [name for name in store.names() if name != _LOCK and not name.endswith(_TEMPORARY)]
    before = read_job(output, store) if JOB in there else None
    if there and (before is None or not resume):
        way = "--resume goes on with it; else" if before is not None else f"it holds no {JOB} of a job:"
        raise ConfigError(
            f"--output {output}: is not empty ({some(there, 2)}): {way} choose another folder, or "
            "remove this one"
        )
    store.clean()
    if before is None:
        store.write(JOB, json.dumps(job, indent=1).encode())
        return Known()
    _refuse_changes(output, before, job)
    return _read_ids(output, store)


def read_job(output: str | Path, store: Store) -> dict[str, Any]:
    """What was run.

    Raises:
        DataError: nothing was, or the record of it is damaged.
    """
    if JOB not in store.names():
        raise DataError(f"{output}: no results of `resnest-zoo predict-dataset` ({JOB} is missing)")
    try:
        with store.open(JOB) as file:
            return dict(json.load(file))
    except (ValueError, TypeError) as error:
        raise DataError(f"{output}: {JOB} is damaged: {error}") from error


def _refuse_changes(output: str | Path, before: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    job = json.loads(json.dumps(job))
    changed = [key for key in dict.fromkeys([*before, *job]) if before.get(key) != job.get(key)]
    if changed:
        old, new = ({key: of.get(key) for key in changed} for of in (before, job))
        raise ConfigError(
            f"--resume: the results in {output} were made otherwise: {', '.join(changed)}: expected "
            f"{str(old)[:300]}, got {str(new)[:300]}; choose another folder for these"
        )


def _read_ids(output: str | Path, store: Store) -> Known:
    """Of all parts; those that cannot be read are removed, and their pictures predicted again."""
    known = Known()
    for name in parts(store):
        try:
            ids = read_part(store, name, ["id"]).column("id").to_pylist()
        except DataError as error:
            logger.warning("%s; it is removed, and its pictures are predicted again", error)
            store.remove(name)
            continue
        for picture_id in ids:
            if not known.add(picture_id):
                raise DataError(f"{output}: {picture_id} has more than one row; the second is in {name}")
        known.settle()
    return known


def parts(store: Store) -> list[str]:
    """The names of all parts."""
    return [name for name in store.names() if name.endswith(_ENDING) and not name.startswith((".", "_"))]


def read_part(store: Store, name: str, columns: list[str] | None = None) -> Any:
    """A part as a `pyarrow.Table`.

    Raises:
        DataError: it is damaged, or has other columns.
    """
    pa, parquet = imported("pyarrow"), imported("pyarrow.parquet")
    try:
        with store.open(name) as content:
            # No threads of Arrow's: as the interpreter ends, they let go of the file, and abort it.
            file = parquet.ParquetFile(content, pre_buffer=False)
            if file.schema_arrow.remove_metadata() != schema():
                raise DataError(f"{name}: has other columns than a part")
            return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: cannot be read: {error}") from error


class Writer:
    """Gathers rows and writes them as parts."""

    def __init__(self, store: Store, known: Known, rows: int) -> None:
        """Take where rows go.

        Args:
            store: begun.
            known: ids that have a row already; it grows.
            rows: of a part, at most as many and those that come with them.
        """
        self.rows = self.failed = self.parts = 0
        self._store = store
        self._known = known
        self._most = rows
        self._tables: list[Any] = []
        self._since = 0.0
        numbers = [name[len("part-") : -len(_ENDING)] for name in parts(store)]
        self._next = 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)

    def add(self, table: Any) -> None:
        """Take rows; those of pictures that have one are dropped."""
        new = [self._known.add(picture_id) for picture_id in table.column("id").to_pylist()]
        if not all(new):
            logger.warning("%d rows came a second time and are dropped", new.count(False))
            table = table.filter(imported("pyarrow").array(new))
        if not table.num_rows:
            return
        if not self._tables:
            self._since = time.monotonic()
        self._tables.append(table)
        self.rows += table.num_rows
        self.failed += table.num_rows - table.column("error").null_count
        gathered = sum(one.num_rows for one in self._tables)
        size = sum(one.nbytes for one in self._tables)
        if gathered >= self._most or size >= _BYTES or time.monotonic() - self._since >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered as a part.

        Raises:
            OSError: it cannot be written.
        """
        if not self._tables:
            return
        pa, parquet = imported("pyarrow"), imported("pyarrow.parquet")
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.concat_tables(self._tables), sink, compression="zstd")
        self._store.write(f"part-{self._next:06d}{_ENDING}", sink.getvalue().to_pybytes())
        self._next += 1
        self.parts += 1
        self._tables = []
        self._known.settle()
