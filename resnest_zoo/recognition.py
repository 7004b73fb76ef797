"""What a file is, told by its bytes: a checkpoint of some format, or what came in its place.

The one place that knows, for downloads, imports and weights a user names. No torch here: the hub looks at
every arrival.
"""

from __future__ import annotations

import re
import zipfile
from enum import Enum
from pathlib import Path

HEAD = 512  # first bytes that tell
# What people call checkpoints; only for what no bytes tell.
ENDINGS = (".safetensors", ".pth", ".pt", ".pkl", ".bin", ".ckpt")
# Of each format that models are exported in, by which alone its files are told.
EXPORTED = {"onnx": ".onnx", "pt2": ".pt2", "openvino": ".xml"}


class Format(Enum):
    """Formats of checkpoints; the values are for people."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "a PyTorch file"
    TORCH_STREAM = "a PyTorch file of before 1.6"
    PICKLE = "a pickle of arrays"


# First bytes of PyTorch's format before 1.6: protocol 2 and the pickled magic number 0x1950a86a20f9469cfc6c.
_TORCH_STREAM = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP = b"PK\x03\x04"

_UNPACK = "unpack it and give the file inside"
# Texts; they hold no NUL, which each checkpoint has in its first bytes.
_TEXTS = (
    (
        rb"(\xef\xbb\xbf)?\s*<",
        "a page of HTML or XML: the host shows an error or wants a login; fetch the file with a browser",
    ),
    (
        rb"version https://git-lfs",
        "a Git LFS pointer, which stands for the file: run `git lfs pull` where it came from",
    ),
    (
        rb'(?s)\s*\{.*"weight_map"',
        "the index of a checkpoint in several files: join them into one safetensors file with the library "
        "that wrote them",
    ),
    (rb"\s*[{\[]", "JSON, which hosts send to tell an error: look into it"),
)
_MAGIC = (
    (b"\x1f\x8b", f"a gzip archive: {_UNPACK}"),
    (b"BZh", f"a bzip2 archive: {_UNPACK}"),
    (b"\xfd7zXZ\0", f"an xz archive: {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"a zstd archive: {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (b"Rar!", f"a RAR archive: {_UNPACK}"),
    (b"\x93NUMPY", "a single numpy array: save the weights by name, as safetensors"),
    (b"\x89HDF", "an HDF5 file, as Keras writes: its models are none of these"),
    (b"GGUF", "a GGUF file, which holds language models"),
)
_TAR = slice(257, 262), b"ustar"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")  # as Hugging Face's libraries name them


def find_format(head: bytes) -> Format | None:
    """The format of a checkpoint that begins with `head`; None if none does."""
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return Format.SAFETENSORS
    if head.startswith(_ZIP):
        return Format.TORCH_ZIP
    if head.startswith(_TORCH_STREAM):
        return Format.TORCH_STREAM
    return Format.PICKLE if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5") else None


def find_stranger(head: bytes, path: Path | None = None) -> str | None:
    """What a file is instead of a whole checkpoint, and what to do.

    Args:
        head: its first bytes, `HEAD` of them unless it is shorter.
        path: the file, to look further into archives.

    Returns:
        Such as "a gzip archive: unpack it and give the file inside"; None if it may be a checkpoint.
    """
    known = _name_by_head(head)
    if known is not None or path is None:
        return known
    shard = _SHARD.search(path.name)
    if shard is not None and int(shard[2]) > 1:
        return (
            f"part {int(shard[1])} of {int(shard[2])} of a checkpoint: join them into one safetensors file "
            "with the library that wrote them"
        )
    return _find_stranger_in_zip(path) if head.startswith(_ZIP) else None


def _name_by_head(head: bytes) -> str | None:
    if not head:
        return "an empty file"
    if b"\0" not in head:
        for pattern, name in _TEXTS:
            if re.match(pattern, head):
                return name
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return f"a tar archive: {_UNPACK}" if head[_TAR[0]] == _TAR[1] else None


def _find_stranger_in_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # damaged, which its reader says
    inside = {name.partition("/")[2] for name in names}
    if any(name == "constants.pkl" or name.startswith("code/") for name in inside):
        return (
            "a TorchScript archive, a program with its weights: save the weights alone, with "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if "data.pkl" in inside:
        return None
    if any(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays: save the weights by name, as safetensors"
    if "archive_format" in inside | set(names):
        return "an exported program (.pt2): save the weights alone, with torch.save(model.state_dict(), NEW)"
    listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a zip archive of {listed or 'nothing'}: {_UNPACK}"


def describe_folder(path: Path) -> str:
    """What to say of a folder in a file's place."""
    names = sorted(file.name for file in path.iterdir() if file.name.lower().endswith(ENDINGS))
    inside = f", of {', '.join(names[:5])} in it" if names else ""
    return f"a folder: name the file itself{inside}"
