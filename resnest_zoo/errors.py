"""Exceptions of resnest_zoo. Everything this package raises on purpose derives from `ZooError`.

    ZooError
    ├── UnknownModelError        (LookupError)   no entry of that name
    ├── RegistryError            (ValueError)    an entry or a zoo file is malformed, or a name is taken
    ├── ConfigError              (ValueError)    a YAML config or an override is wrong
    ├── DownloadError            (OSError)       no source delivered a file
    │   └── IntegrityError                       a file's bytes are not the expected ones
    ├── CheckpointError          (ValueError)    a checkpoint is unreadable, unsafe or of another model
    ├── ExportError              (ValueError)    a model cannot be exported, or an exported file not be run
    ├── DataError                (ValueError)    a data set or one of its annotation files is wrong
    ├── ImageError               (ValueError)    an input picture cannot be used
    ├── ShapeError               (ValueError)    a tensor has the wrong shape or dtype
    ├── SelectionError           (IndexError)    instances that are not there were asked for
    ├── NonFiniteError           (ArithmeticError) a model computed NaN or infinite values
    ├── WorkerError              (RuntimeError)  a process that reads pictures has died
    ├── TrainingError            (RuntimeError)  training cannot go on
    └── LockedError              (RuntimeError)  another process is at work in the same place

Each is also the built-in exception named beside it, so `except ValueError` keeps working in code
that does not know this package.

What a user wrote is quoted in messages by `shown` and `some` alone: a value of a file may be megabytes long,
or one of which Python refuses to write the digits.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 200  # letters of one quoted value


class ZooError(Exception):
    """Base of every exception this package raises on purpose."""


class UnknownModelError(ZooError, LookupError):
    """No entry of that name. The message suggests the closest names."""


class RegistryError(ZooError, ValueError):
    """An entry or a zoo file is malformed, or its name is already taken."""


class ConfigError(ZooError, ValueError):
    """A config file or an override is wrong. The message names file, key and the nearest known key."""


class DownloadError(ZooError, OSError):
    """No source delivered the file. The message lists every source with its reason."""


class IntegrityError(DownloadError):
    """The bytes of a file are not those the registry expects."""


class CheckpointError(ZooError, ValueError):
    """A checkpoint is unreadable, unsafe to read, or belongs to another model.

    Attributes:
        clashes: for a checkpoint of another model, the shapes in the file that are not the model's, by key.
    """

    def __init__(self, message: str, clashes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        super().__init__(message)
        self.clashes = clashes or {}


class ExportError(ZooError, ValueError):
    """A model cannot be exported as asked, or a file of another runtime cannot be run or is not ours."""


class DataError(ZooError, ValueError):
    """A data set or one of its annotation files is wrong. The message lists every problem found."""


class ImageError(ZooError, ValueError):
    """An input picture cannot be read or used."""


class ShapeError(ZooError, ValueError):
    """A tensor has the wrong shape or dtype."""


class SelectionError(ZooError, IndexError):
    """A result was indexed by a place that is not there, a mask of another length, or no index at all."""


class NonFiniteError(ZooError, ArithmeticError):
    """A model computed NaN or infinite values where it cannot go on with them. The message says where."""


class WorkerError(ZooError, RuntimeError):
    """A process that reads pictures has died. The message names it and says how."""


class TrainingError(ZooError, RuntimeError):
    """Training cannot go on. The message names the iteration, the losses and the pictures."""


class LockedError(ZooError, RuntimeError):
    """Another process is at work in the same place. The message says which."""


class _Outline(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write a number of some 4300 digits or more.
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"<a number of {x.bit_length()} bits>"


_OUTLINE = _Outline()


def shown(value: object) -> str:
    """A value that a user wrote, for a message: as Python writes it, on one line, the middle left out."""
    return cut(_OUTLINE.repr(value))


def cut(text: str, longest: int = _LONGEST) -> str:
    """A text for a message, of `longest` letters at most."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def first_line(error: BaseException) -> str:
    """What another library's error says, for a message: its first line, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def some(values: Iterable[object], count: int = 5) -> str:
    """The first few of many values, as text, for a message."""
    values = list(values)
    texts = [cut(value, 100) if isinstance(value, str) else shown(value) for value in values[:count]]
    return ", ".join(texts) + (f" and {len(values) - count} more" if len(values) > count else "")


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Let the errors of writing a file name it: where a disk is full, the system itself does not say which.

    Raises:
        OSError: one was raised that named no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
