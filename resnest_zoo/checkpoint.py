"""Checkpoints: read without running code, match strictly, load.

Four formats are told apart by their first bytes, not by their names: safetensors, PyTorch's zip files,
PyTorch's older stream of pickles (the published detectors, 2020), and Caffe2-style pickles of numpy arrays
(the MSRA backbones). PyTorch files go through `weights_only=True`; numpy pickles through an unpickler that
can build arrays and nothing else. There is no fallback to a plain unpickler.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from resnest_zoo.categories import Categories
from resnest_zoo.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)

# First bytes of PyTorch's format before 1.6: protocol 2 and the pickled magic number 0x1950a86a20f9469cfc6c.
_TORCH_STREAM = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP = b"PK\x03\x04"
# Constants of the architecture that some versions of detectron2 stored beside the weights.
_STRAY = (".cell_anchors", "pixel_mean", "pixel_std")
_LISTED = 40
# The dtypes numpy's pickles may hold, as `numpy.dtype` spells them.
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, on the CPU, under the file's own names.

    A detectron2 checkpoint keeps them under `model`, beside `optimizer`, `scheduler` and `iteration`, which
    are left out.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a web page, or no checkpoint; it holds
            anything but tensors or arrays; or reading it would run code.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    reader = _reader_for(path, head)
    try:
        content = reader(path)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it holds something other than plain tensors, or is damaged: {_reason(error)}. "
            "If you trust it, convert it to safetensors with the tool that made it"
        ) from error
    except Exception as error:  # a damaged file makes the readers fail in many ways
        raise CheckpointError(f"{path}: damaged or truncated: {_reason(error)}") from error
    return _tensors(path, content)


def _reader_for(path: Path, head: bytes) -> Callable[[Path], object]:
    if not head:
        raise CheckpointError(f"{path}: the file is empty")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path}: is a web page, not a checkpoint; the download was answered with HTML or XML"
        )
    if head[8:9] == b"{":
        return _read_safetensors
    if head.startswith(_ZIP):
        # mmap: tensors that are not asked for (an optimizer's) are never read.
        return lambda p: torch.load(p, map_location="cpu", weights_only=True, mmap=True)
    if head.startswith(_TORCH_STREAM):
        return lambda p: torch.load(p, map_location="cpu", weights_only=True)
    if head.startswith(b"\x80"):
        return _read_numpy_pickle
    raise CheckpointError(
        f"{path}: no checkpoint: expected safetensors, a PyTorch file or a pickle of numpy arrays, "
        f"got a file that starts with {head[:8]!r}"
    )


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_numpy_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return _NumpyUnpickler(file, encoding="latin1").load()


# What the numpy pickles are made of. Nothing of numpy's own is handed to the unpickler: `numpy.dtype` and
# `numpy.ndarray` trust the state a pickle sets on them (a dtype that denies holding objects is enough to
# turn bytes into pointers), so these stand-ins take the state and check it.


class _Dtype:
    """Stands for a `numpy.dtype`: a plain number of either byte order."""

    __slots__ = ("plain",)

    def __init__(self, code: str) -> None:
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, …); what follows concerns dtypes that are not plain numbers.
        self.plain = self.plain.newbyteorder(state[1])


class _Array:
    """Stands for a `numpy.ndarray`: the tensor that its state describes."""

    __slots__ = ("tensor",)

    def __init__(self) -> None:
        self.tensor = torch.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        data = data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote text
        array = np.ndarray(shape, dtype.plain, bytearray(data), order="F" if by_columns else "C")
        self.tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


class _Callable:
    """A function for the unpickler, without attributes that a pickle could set."""

    __slots__ = ("_function",)
    _function: Callable[..., object]

    def __init__(self, function: Callable[..., object]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"refused to set {name}")


def _make_dtype(code: object, *_: object) -> _Dtype:
    if code not in _NUMBERS:
        raise pickle.UnpicklingError(f"refused arrays of {code!r}")
    return _Dtype(str(code))


def _make_bytes(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as text to be encoded."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused encoding {encoding!r}")
    return text.encode("latin1")


class _NumpyUnpickler(pickle.Unpickler):
    """Builds arrays of numbers, containers, strings and numbers; refuses every other global by name."""

    _ADMITTED: Mapping[tuple[str, str], object] = {
        ("numpy.core.multiarray", "_reconstruct"): _Callable(lambda *_: _Array()),
        ("numpy._core.multiarray", "_reconstruct"): _Callable(lambda *_: _Array()),
        ("numpy", "ndarray"): None,  # only ever an argument of `_reconstruct`
        ("numpy", "dtype"): _Callable(_make_dtype),
        ("_codecs", "encode"): _Callable(_make_bytes),
        ("__builtin__", "bytes"): _Callable(lambda: b""),  # how protocol 2 writes no bytes
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused global {module}.{name}") from None

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError(f"refused persistent object {pid!r}")


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: no checkpoint: expected named tensors, got {type(content).__name__}")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        value = value.tensor if isinstance(value, _Array) else value
        if isinstance(key, str) and isinstance(value, Tensor):
            state[key] = value
        elif not isinstance(value, str):  # a note such as __author__ is no harm
            raise CheckpointError(f"{path}: entry {key!r} is a {type(value).__name__}, not a tensor")
    return state


def _reason(error: BaseException) -> str:
    """The line that says what happened; torch opens with advice to read the file unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Weights only load failed", "(1)", "(2)"))]
    return lines[0][:300] if lines else type(error).__name__


def load_checkpoint(
    model: nn.Module, path: str | Path, *, replaceable: Iterable[str] = (), removable: Iterable[str] = ()
) -> tuple[str, ...]:
    """Load a checkpoint into `model`, strictly.

    Args:
        model: its state dict's keys and shapes decide what must be in the file.
        path: any format of `read_state_dict`.
        replaceable: names of layers that keep their fresh values if any of them has another shape in
            the file (the class layers, when a model gets other classes).
        removable: names of modules that the file may hold though the model lacks them (the mask head, when a
            model is to find boxes alone). A warning names those left out.

    Returns:
        The names of the replaceable layers that were not loaded, sorted; empty when all were.

    Raises:
        CheckpointError: keys are missing or unexpected or shapes differ: all listed, sorted. The model
            is then unchanged.
    """
    state = {
        k: v for k, v in read_state_dict(path).items() if not k.startswith(_STRAY) and _STRAY[0] not in k
    }
    own = model.state_dict()
    for module in removable:
        if left_out := {key for key in state if key.startswith(f"{module}.")} - own.keys():
            logger.warning("%s: left out: %s, of which the model has none", Path(path).name, module)
            state = {key: value for key, value in state.items() if key not in left_out}
    layers = sorted(replaceable)
    kept = {key for key in own for layer in layers if key.startswith(f"{layer}.")}
    if not any(key in state and state[key].shape != own[key].shape for key in kept):
        kept, layers = set(), []
    problems, clashes = _differences(own, state, kept)
    if problems:
        raise CheckpointError(f"{path}: belongs to another model:\n" + "\n".join(problems), clashes)
    # What the file may lack: fresh class layers, and how many batches a norm has seen.
    absent = {key: value if key in kept else torch.zeros_like(value) for key, value in own.items()}
    model.load_state_dict(absent | {key: state[key] for key in own if key in state and key not in kept})
    if layers:
        logger.warning("%s: class layers start fresh: %s", Path(path).name, ", ".join(layers))
    return tuple(layers)


def _differences(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], kept: set[str]
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """A heading and a sorted list for each kind of difference, and the shapes in the file that clash."""
    # How many batches a norm has seen matters to nobody and is missing beside frozen norms.
    mine = {k for k in own if not k.endswith("num_batches_tracked")} - kept
    theirs = {k for k in state if not k.endswith("num_batches_tracked")} - kept
    clashes = {
        key: tuple(state[key].shape)
        for key in sorted(mine & theirs)
        if own[key].shape != state[key].shape or not state[key].is_floating_point()
    }
    lines: list[str] = []
    for heading, items in (
        ("missing keys", sorted(mine - theirs)),
        ("unexpected keys", sorted(theirs - mine)),
        ("shape clashes", [f"{k}: expected {_kind(own[k])}, got {_kind(state[k])}" for k in clashes]),
    ):
        if items:
            more = [f"    … and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
            lines += [f"  {len(items)} {heading}:", *(f"    {item}" for item in items[:_LISTED]), *more]
    return lines, clashes


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def write_safetensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        try:
            part.touch()
            mode = part.stat().st_mode
            save_file(tensors, part, metadata=dict(metadata))
            part.chmod(mode)  # as the user's other files; safetensors would keep it for the owner alone
            with part.open("r+b") as file:
                _sort_header(file)
                os.fsync(file.fileno())  # else a power cut could leave half a file under the name
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {_reason(error)}") from error


def _sort_header(file: IO[bytes]) -> None:
    """Bring the metadata, which are written in random order, into one: equal tensors give equal files."""
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) <= size:  # always, unless the two disagree on how to write a strange letter
        file.seek(8)
        file.write(text.ljust(size))


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; its tensors are not read.

    Raises:
        CheckpointError: it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: no safetensors file: {_reason(error)}") from error


def model_metadata(config: str, categories: Categories) -> dict[str, str]:
    """Metadata that let a checkpoint be built without anything else.

    Args:
        config: the whole config as YAML, `Config.dump`.
        categories: of the model.
    """
    return {"config": config, "categories": json.dumps(asdict(categories))}


def read_model_metadata(path: Path) -> tuple[str, Categories] | None:
    """What `model_metadata` put into a file: config and categories; None where it did not.

    Raises:
        CheckpointError: it is no safetensors file, or its metadata are damaged.
    """
    metadata = read_safetensors_metadata(path)
    if "config" not in metadata or "categories" not in metadata:
        return None
    try:
        return metadata["config"], Categories(**json.loads(metadata["categories"]))
    except (ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: its metadata are damaged: categories: {error}") from error
