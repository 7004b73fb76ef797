"""An unpickler that runs nothing: it gives tensors, arrays and containers, and inert records for the rest.

A pickle is a program that names classes and functions and calls them. Here no name leads to what it names:
the few that make up tensors, arrays and dictionaries lead to stand-ins of this file, every other to a
`Record`, a class that can be called, filled and given a state, and does nothing and keeps nothing. So nothing
is imported, nothing of the process is called, and what libraries store beside the weights (loggers, configs,
argument parsers) does not stand in the way of reading them.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

from resnest_zoo.errors import shown

# The dtypes numpy's pickles may hold, as `numpy.dtype` spells them.
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
# How PyTorch names the class of a storage, without "Storage".
_STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
    # Of quantised tensors, which are not read; the stream has to be read past them.
    "QInt8": torch.int8,
    "QUInt8": torch.uint8,
    "QInt32": torch.int32,
}
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_MOST = 2**48  # elements that a tensor may have or step over; PyTorch counts in 64 bits
# Harmless containers of Python's that nobody needs to be told of.
_QUIET = {"set", "frozenset", "complex", "bytearray", "slice", "range", "object"}


class _Inert(type):
    """The class of record classes: a pickle can set nothing on them."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"refused to set {name}")


class Record(metaclass=_Inert):
    """Stands for an object of a class that is not read.

    Attributes:
        name: the class, or the function that would have made the object.
    """

    __slots__ = ()
    name: ClassVar[str] = ""

    def __new__(cls, *_: object, **__: object) -> Record:  # noqa: D102 - a false alarm
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object) -> Record:  # noqa: D102
        return self

    # Static, as pickles may take the class itself for an object.
    @staticmethod
    def _ignore(*_: object) -> None:
        pass

    __setstate__ = append = extend = add = _ignore

    def __setitem__(self, key: object, value: object) -> None:
        pass


def record_class(name: str) -> type[Record]:
    """The class of records of a name."""
    made: Any = _Inert("Record", (Record,), {"__slots__": (), "name": name})
    return made  # type: ignore[no-any-return]


# What numpy pickles are made of. Nothing of numpy's own is handed to the unpickler: `numpy.dtype` and
# `numpy.ndarray` trust the state a pickle sets on them (a dtype that denies holding objects is enough to
# turn bytes into pointers), so these stand-ins take the state and check it.


class _Dtype:
    """Stands for a `numpy.dtype`: a plain number of either byte order, or None for what is none."""

    __slots__ = ("plain",)

    def __init__(self, code: object) -> None:
        self.plain = np.dtype(str(code)) if code in _NUMBERS else None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, …); what follows concerns dtypes that are not plain numbers.
        if self.plain is not None:
            self.plain = self.plain.newbyteorder(state[1])


class Array:
    """Stands for a `numpy.ndarray` or a scalar.

    Attributes:
        plain: the numbers, not yet copied; None for an array of anything else.
    """

    __slots__ = ("plain",)

    def __init__(self, plain: np.ndarray[Any, Any] | None = None) -> None:
        self.plain = plain

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        self.plain = _view(data, dtype, shape, "F" if by_columns else "C")

    def read(self) -> Tensor:
        """The tensor."""
        assert self.plain is not None
        # Not `ascontiguousarray`, which gives a scalar a dimension.
        return torch.from_numpy(self.plain.astype(self.plain.dtype.newbyteorder("="), order="C", copy=True))


def _view(data: object, dtype: object, shape: Any, order: Any) -> np.ndarray[Any, Any] | None:
    """The numbers in bytes, none of them copied."""
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("refused an array whose dtype is none")
    if dtype.plain is None:
        return None
    if isinstance(data, str):  # Python 2 wrote text
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise pickle.UnpicklingError("refused an array without bytes")
    view: np.ndarray[Any, Any] = np.ndarray(shape, dtype.plain, data, order=order)
    return view


def _array_of_buffer(data: object, dtype: object, shape: Any, order: object, axes: object = None) -> Array:
    """How protocol 5 writes an array; numpy, `_core/numeric.py`, `_frombuffer`."""
    if axes is not None:
        raise pickle.UnpicklingError("refused an array with its axes in another order")
    return Array(_view(data, dtype, shape, "F" if order == "F" else "C"))


def _scalar(dtype: object, data: object = b"") -> Array:
    return Array(_view(data, dtype, (), "C"))


# What PyTorch files are made of.


class Storage:
    """Stands for a storage.

    Attributes:
        key: its name in the file.
        dtype: of its elements.
        numel: their number.
        read: gives them as a tensor of one dimension; set by who knows where the bytes are.
    """

    __slots__ = ("dtype", "key", "numel", "read")
    read: Callable[[], Tensor]

    def __init__(self, key: str, dtype: torch.dtype, numel: int) -> None:
        self.key, self.dtype, self.numel = key, dtype, numel

    @property
    def nbytes(self) -> int:
        """Size of all elements."""
        return self.numel * self.dtype.itemsize

    def __setstate__(self, state: object) -> None:
        pass


class StoredTensor:
    """Stands for a plain tensor: dense, strided, with its numbers in a storage."""

    __slots__ = ("dtype", "offset", "size", "storage", "stride")

    def __init__(
        self,
        storage: Storage,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        self.storage, self.offset, self.size, self.stride, self.dtype = storage, offset, size, stride, dtype

    def __setstate__(self, state: object) -> None:
        pass

    def read(self) -> Tensor:
        """The tensor; of a file in memory, not yet copied."""
        return self.storage.read().view(self.dtype).as_strided(self.size, self.stride, self.offset)


def _tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> object:
    """torch/_utils.py, `_rebuild_tensor` and `_rebuild_tensor_v2`."""
    if not isinstance(storage, Storage):
        return _record_instead(storage)
    metadata = rest[2] if len(rest) > 2 else None
    if metadata:
        return record_class("tensor that is to be conjugated or negated")()
    return _tensor_of(storage, offset, size, stride, storage.dtype)


def _tensor_v3(storage: object, offset: object, size: object, stride: object, *rest: object) -> object:
    """torch/_utils.py, `_rebuild_tensor_v3`: the storage holds bytes, the dtype comes last."""
    dtype = rest[2] if len(rest) > 2 else None
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        return _record_instead(storage)
    return _tensor_of(storage, offset, size, stride, dtype)


def _tensor_of(storage: Storage, start: Any, size: Any, stride: Any, dtype: torch.dtype) -> StoredTensor:
    size, stride = _tuple(size), _tuple(stride)
    if not all(type(number) is int and 0 <= number < _MOST for number in (start, *size, *stride)):
        _refuse_tensor()
    last = start + sum((count - 1) * step for count, step in zip(size, stride, strict=False))
    if len(size) != len(stride) or (0 not in size and last >= storage.nbytes // dtype.itemsize):
        _refuse_tensor()
    return StoredTensor(storage, start, size, stride, dtype)


def _tuple(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (None,)


def _size(numbers: object = ()) -> tuple[Any, ...]:
    return _tuple(numbers)


def _record_instead(part: object) -> Record:
    """A record of a tensor that is made of one."""
    if isinstance(part, Record):
        return part
    if not isinstance(part, _Inert):
        _refuse_tensor()
    made: Record = part()
    return made


def _refuse_tensor() -> NoReturn:
    raise pickle.UnpicklingError("refused a tensor that does not fit its storage")


def _parameter(data: object, *_: object) -> object:
    return data


def _of_type(function: object, kind: object, args: object, *_: object) -> object:
    """torch/_tensor.py, `_rebuild_from_type_v2`: a tensor with attributes, or of a class of its own."""
    if kind is not _PLAIN:
        return record_class(f"tensor of {getattr(kind, 'name', 'another class')}")()
    if not isinstance(function, _Callable):
        return _record_instead(function)
    return function(*_tuple(args))


# What both are made of.


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


class _Dict(dict[Any, Any]):
    """Stands for any dictionary; attributes, such as a state dict's versions, are left out."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def _make_dict(*args: object) -> _Dict:
    return _Dict(args[0]) if args and isinstance(args[0], dict | list) else _Dict()


def _make_bytes(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as text to be encoded."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused encoding {shown(encoding)}")
    return text.encode("latin1")


_PLAIN = object()  # stands for the class of plain tensors
_ADMITTED: Mapping[tuple[str, str], object] = {
    ("_codecs", "encode"): _Callable(_make_bytes),
    ("collections", "OrderedDict"): _Callable(_make_dict),
    ("collections", "defaultdict"): _Callable(_make_dict),
    ("collections", "Counter"): _Callable(_make_dict),
    **{(builtins, "bytes"): _Callable(lambda *_: b"") for builtins in ("__builtin__", "builtins")},
    **{
        (f"{core}.{module}", name): made
        for core in ("numpy.core", "numpy._core")
        for module, name, made in (
            ("multiarray", "_reconstruct", _Callable(lambda *_: Array())),
            ("multiarray", "scalar", _Callable(_scalar)),
            ("numeric", "_frombuffer", _Callable(_array_of_buffer)),
        )
    },
    ("numpy", "ndarray"): None,  # only ever an argument of `_reconstruct`
    ("numpy", "dtype"): _Callable(lambda code, *_: _Dtype(code)),
    ("torch", "Size"): _Callable(_size),
    ("torch", "Tensor"): _PLAIN,
    ("torch.nn.parameter", "Parameter"): _PLAIN,
    ("torch._utils", "_rebuild_tensor"): _Callable(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Callable(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Callable(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Callable(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Callable(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): _Callable(_of_type),
    **{
        (module, f"{name}Storage"): dtype
        for module in ("torch", "torch.cuda", "torch.storage")
        for name, dtype in _STORAGES.items()
    },
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class Unpickler(pickle._Unpickler):
    """Reads one pickle of a checkpoint.

    The one that Python writes in Python, as its parts can be replaced; the one in C takes functions that the
    process registered by numbers as they are, and memory for any place in the memo that a pickle names.

    Attributes:
        storages: those the pickle names, by their keys, of a PyTorch file.
        left_out: what records stand for, in the order met.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Storage] = {}
        self.left_out: dict[str, type[Record]] = {}

    def get_extension(self, code: int) -> NoReturn:
        """What the process registered by a number, found without any name."""
        raise pickle.UnpicklingError(f"refused extension {code}, a name that only its writer knows")

    def _load_bytearray(self: Any) -> None:
        """As the overridden, which makes room for bytes before it looks whether they follow."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a class or function; nothing is imported."""
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        full = f"{module}.{name}"
        if module in ("builtins", "__builtin__") and name in _QUIET:
            return record_class(full)
        return self.left_out.setdefault(full, record_class(full))

    def persistent_load(self, pid: Any) -> object:
        """What a PyTorch file names so: ("storage", class, key, device, number of elements, …)."""
        match pid:
            case ("module", kind, *_):  # with its source
                return kind
            case ("storage", Record() | type(), *_) | ("storage", _, _, "meta", *_):
                return record_class("tensor without numbers of a plain kind")()
            case ("storage", torch.dtype() as dtype, str() as key, _, int() as numel, *view):
                if numel >= 0 and view in ([], [None]):
                    return self.storages.setdefault(key, Storage(key, dtype, numel))
        raise pickle.UnpicklingError(f"refused persistent object {shown(pid)}")
