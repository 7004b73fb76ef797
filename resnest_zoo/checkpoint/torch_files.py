"""PyTorch's two formats: a zip file with a pickle and raw storages, and the older stream of pickles.

Tensors are views of the file in memory: what is not asked for, such as an optimizer's state, is never read.
"""

from __future__ import annotations

import mmap
import pickle
import re
import struct
import zipfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from resnest_zoo.checkpoint.unpickling import Storage, Unpickler

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field; APPNOTE 4.3.7
_STREAM_PICKLES = 3  # before the content: magic number, protocol version, system


def read_zip(path: Path) -> tuple[object, Unpickler]:
    """The content of a zip file that torch.save wrote, and who read it.

    Raises:
        pickle.UnpicklingError: it is malformed. OSError, ValueError, zipfile.BadZipFile and others: damaged.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = {info.filename: info for info in archive.infolist()}
        (root,) = (name.removesuffix("data.pkl") for name in entries if re.fullmatch("[^/]+/data.pkl", name))
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise pickle.UnpicklingError("another program compressed it; save it again with torch.save")
        with archive.open(f"{root}data.pkl") as content_file:
            reader = Unpickler(content_file)
            content = reader.load()
        swapped = f"{root}byteorder" in entries and archive.read(f"{root}byteorder") == b"big"
        memory = _in_memory(file.fileno())
        for storage in reader.storages.values():
            info = entries[f"{root}data/{storage.key}"]
            signature, name, extra = _LOCAL_HEADER.unpack_from(memory, info.header_offset)
            if signature != b"PK\3\4" or info.file_size < storage.nbytes:
                raise pickle.UnpicklingError(f"storage {storage.key} is damaged")
            _place(storage, memory, info.header_offset + 30 + name + extra, swapped)
    return content, reader


def read_stream(path: Path) -> tuple[object, Unpickler]:
    """The content of a file that torch.save wrote before 1.6, and who read it; raises as `read_zip`."""
    with path.open("rb") as file:
        *_, system = (Unpickler(file).load() for _ in range(_STREAM_PICKLES))
        reader = Unpickler(file)
        content = reader.load()
        keys = Unpickler(file).load()
        if not isinstance(system, dict) or not isinstance(keys, list):
            raise pickle.UnpicklingError("its header is damaged")
        memory, start = _in_memory(file.fileno()), file.tell()
        for key in keys:
            storage = reader.storages.get(key)
            if storage is None:
                raise pickle.UnpicklingError("it holds tensors of an unknown kind")
            (numel,) = struct.unpack_from("<q", memory, start)
            if numel != storage.numel:
                raise pickle.UnpicklingError(f"storage {key} is damaged")
            _place(storage, memory, start + 8, system.get("little_endian") is False)
            start += 8 + storage.nbytes
        if missing := reader.storages.keys() - set(keys):
            raise pickle.UnpicklingError(f"storage {min(missing)} is missing")
    return content, reader


def _in_memory(file: int) -> mmap.mmap:
    """The file, read where it is looked at; what is written stays in memory."""
    return mmap.mmap(file, 0, access=mmap.ACCESS_COPY)


def _place(storage: Storage, memory: mmap.mmap, start: int, swapped: bool) -> None:
    if start + storage.nbytes > len(memory):
        raise pickle.UnpicklingError(f"storage {storage.key} is cut off")
    storage.read = partial(_read, memory, start, storage.numel, storage.dtype, swapped)


def _read(memory: mmap.mmap, start: int, numel: int, dtype: torch.dtype, swapped: bool) -> Tensor:
    if numel == 0:
        return torch.empty(0, dtype=dtype)
    if start % dtype.itemsize:  # the stream aligns nothing
        data = torch.frombuffer(bytearray(memory[start : start + numel * dtype.itemsize]), dtype=dtype)
    else:
        data = torch.frombuffer(memory, dtype=dtype, count=numel, offset=start)
    if swapped:
        data = data.view(torch.uint8).view(-1, dtype.itemsize).flip(1).flatten().view(dtype)
    return data
