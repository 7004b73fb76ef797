"""Formats of checkpoint files, told apart by their bytes, never by their names.

safetensors, PyTorch's zip files, PyTorch's older stream of pickles (the published detectors, 2020), and
Caffe2-style pickles of numpy arrays (the MSRA backbones). All pickles go through `unpickling`, which runs
nothing; there is no fallback to a plain unpickler.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from resnest_zoo.checkpoint.torch_files import read_stream, read_zip
from resnest_zoo.checkpoint.unpickling import Array, Record, StoredTensor, Unpickler
from resnest_zoo.errors import CheckpointError, cut, shown, some
from resnest_zoo.recognition import HEAD, Format, describe_folder, find_format, find_stranger

logger = logging.getLogger(__name__)

# Tensors that are no plain ones, by the functions of PyTorch that make them, and what to do.
_KINDS = {
    "_rebuild_sparse_tensor": "sparse tensor (save its to_dense())",
    "_rebuild_sparse_csr_tensor": "sparse tensor (save its to_dense())",
    "_rebuild_qtensor": "quantised tensor (save its dequantize())",
    "_rebuild_meta_tensor_no_storage": "meta tensor, which has no numbers",
    "_rebuild_nested_tensor": "nested tensor (save its parts)",
}
# What stands between the top of a file and its tensors, by those who write it so: detectron2, mmdetection,
# many trainers of their own, Detectron. One may stand in another.
_WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict", "blobs")
_DEEPEST = 3
_NOTES = (str, int, float, type(None))  # between tensors, such as __author__ or the epoch: no harm


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        format: told by its bytes.
        tensors: how to read each tensor, under the file's own names.
        metadata: texts in the header of a safetensors file.
        beside: what a pickle holds beside the tensors, such as `meta`, `optimizer` and `iteration`.
    """

    format: Format
    tensors: Mapping[str, Callable[[], Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, object] = field(default_factory=dict)


def read_contents(path: Path) -> Contents:
    """Read what a file holds; of safetensors and zip files not the tensors themselves.

    Raises:
        CheckpointError: the file is missing, empty, truncated or no checkpoint; it holds anything but
            tensors or arrays; or reading it would run code.
    """
    format = _recognise(path)
    try:
        return _READERS[format](path)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it holds something other than plain tensors, or is damaged: {reason(error)}. "
            "If you trust it, convert it to safetensors with the tool that made it"
        ) from error
    except Exception as error:  # a damaged file makes the readers fail in many ways
        raise CheckpointError(f"{path}: damaged or truncated: {reason(error)}") from error


def _recognise(path: Path) -> Format:
    """The format of a file.

    Raises:
        CheckpointError: it cannot be read, or is something else.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise CheckpointError(
                f"{path}: is no checkpoint, but a pipe or device, which is not read: save it as a file"
            )
        with path.open("rb") as file:
            head = file.read(HEAD)
    except IsADirectoryError as error:
        raise CheckpointError(f"{path}: is no checkpoint, but {describe_folder(path)}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if stranger := find_stranger(head, path):
        raise CheckpointError(f"{path}: is no checkpoint, but {stranger}")
    format = find_format(head)
    if format is None:
        raise CheckpointError(
            f"{path}: is no checkpoint: expected safetensors, a PyTorch file or a pickle of numpy arrays, "
            f"got a file that starts with {head[:8]!r}"
        )
    return format


def _read_safetensors(path: Path) -> Contents:
    from safetensors import SafetensorError, safe_open

    file: Any = safe_open(path, framework="pt")

    def read(key: str) -> Tensor:
        try:
            tensor: Tensor = file.get_tensor(key)
        except SafetensorError as error:  # numbers of a kind that PyTorch has not
            raise CheckpointError(f"{path}: entry {shown(key)} cannot be read: {reason(error)}") from error
        return tensor

    tensors = {key: partial(read, key) for key in file.keys()}  # noqa: SIM118 - no mapping
    return Contents(Format.SAFETENSORS, _not_empty(path, tensors), dict(file.metadata() or {}))


def _read_torch_zip(path: Path) -> Contents:
    return _unwrapped(path, Format.TORCH_ZIP, *read_zip(path))


def _read_torch_stream(path: Path) -> Contents:
    return _unwrapped(path, Format.TORCH_STREAM, *read_stream(path))


def _read_numpy_pickle(path: Path) -> Contents:
    with path.open("rb") as file:
        reader = Unpickler(file)
        return _unwrapped(path, Format.PICKLE, reader.load(), reader)


_READERS: Mapping[Format, Callable[[Path], Contents]] = {
    Format.SAFETENSORS: _read_safetensors,
    Format.TORCH_ZIP: _read_torch_zip,
    Format.TORCH_STREAM: _read_torch_stream,
    Format.PICKLE: _read_numpy_pickle,
}


def _unwrapped(path: Path, format: Format, content: object, reader: Unpickler) -> Contents:
    """The tensors of a pickle, and what is beside them."""
    beside: dict[str, object] = {}
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is not None:
            beside |= {str(key): value for key, value in content.items() if key != wrapper}
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: no checkpoint: expected named tensors, got {_kind(content)}; save its state_dict()"
        )
    tensors: dict[str, Callable[[], Tensor]] = {}
    for key, value in content.items():
        readable = isinstance(value, StoredTensor) or (isinstance(value, Array) and value.plain is not None)
        if isinstance(key, str) and readable:
            tensors[key] = value.read
        elif not (isinstance(key, str) and isinstance(value, _NOTES)):
            where = f"; weights are looked for at the top, and below {', '.join(_WRAPPERS)}"
            raise CheckpointError(
                f"{path}: entry {shown(key)} is {_kind(value)}, not a plain tensor"
                f"{where if isinstance(value, Mapping) else ''}"
            )
    if reader.left_out:
        logger.warning("%s: only tensors are read; left out: %s", path, some(reader.left_out))
    return Contents(format, _not_empty(path, tensors), beside=beside)


def _kind(value: object) -> str:
    """What an entry is, for a message."""
    if isinstance(value, Record):
        name = _KINDS.get(value.name.rpartition(".")[2], value.name)
        return f"a {name}" if "tensor" in name.split() else f"an object of {name}"
    if isinstance(value, Mapping):
        return "a dictionary"
    return "an array of no numbers" if isinstance(value, Array) else f"a {type(value).__name__}"


def _not_empty(path: Path, tensors: Mapping[str, Callable[[], Tensor]]) -> Mapping[str, Callable[[], Tensor]]:
    if not tensors:
        raise CheckpointError(f"{path}: no checkpoint: expected named tensors, got none")
    return tensors


def reason(error: BaseException) -> str:
    """The first line that an error says, at a sensible length."""
    return cut(next(iter(str(error).strip().splitlines()), type(error).__name__))
