"""An unpickler for arrays of numbers that runs nothing.

What pickles of numpy arrays are made of has a stand-in here; every other global is refused by name.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import torch

# The dtypes numpy's pickles may hold, as `numpy.dtype` spells them.
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")

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


class Array:
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


class NumpyUnpickler(pickle.Unpickler):
    """Builds arrays of numbers, containers, strings and numbers; refuses every other global by name."""

    _ADMITTED: Mapping[tuple[str, str], object] = {
        ("numpy.core.multiarray", "_reconstruct"): _Callable(lambda *_: Array()),
        ("numpy._core.multiarray", "_reconstruct"): _Callable(lambda *_: Array()),
        ("numpy", "ndarray"): None,  # only ever an argument of `_reconstruct`
        ("numpy", "dtype"): _Callable(_make_dtype),
        ("_codecs", "encode"): _Callable(_make_bytes),
        ("__builtin__", "bytes"): _Callable(lambda: b""),  # how protocol 2 writes no bytes
    }

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused global {module}.{name}") from None

    def persistent_load(self, pid: object) -> NoReturn:  # noqa: D102
        raise pickle.UnpicklingError(f"refused persistent object {pid!r}")
