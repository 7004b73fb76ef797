"""Exported files, run behind the front of a model.

    description   what a file says of itself, in any format
    detector      the front: `open_file` gives a detector that is called as any other
    onnx_file     onnxruntime
    openvino_file OpenVINO
    pt2_file      torch, of what `torch.export` has saved

A format is a module with `open_session(path)`, listed in `FORMATS`.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from resnest_zoo.errors import ExportError
from resnest_zoo.recognition import EXPORTED
from resnest_zoo.runtimes.description import Description
from resnest_zoo.runtimes.detector import FileDetector, PanopticFileDetector, Session

# Of each format the ending of its files and the module of this room that opens them.
FORMATS = {name: (ending, f"{name}_file") for name, ending in EXPORTED.items()}
_BESIDE = {"openvino": (".bin",)}  # endings of what a format keeps beside its file

__all__ = [
    "FORMATS",
    "Description",
    "FileDetector",
    "Session",
    "files_of",
    "is_exported",
    "open_file",
    "open_session",
]


def is_exported(name: object) -> bool:
    """Whether a name means an exported file, there or not: its ending says so."""
    return isinstance(name, str | Path) and _format_of(name) is not None


def _format_of(name: str | Path) -> str | None:
    text = str(name).lower()
    return next((known for known, (ending, _) in FORMATS.items() if text.endswith(ending)), None)


def files_of(path: Path, file_format: str) -> list[Path]:
    """All files of an exported model, `path` first."""
    return [path, *(path.with_suffix(ending) for ending in _BESIDE.get(file_format, ()))]


def open_session(path: Path, file_format: str, *beside: Path) -> Session:
    """Load a file by its format's runtime; what lies `beside` it may have other names than `files_of` says.

    Raises:
        ExportError: the runtime is not installed, or refuses the file.
        OSError: it cannot be read.
    """
    module = import_module(f"resnest_zoo.runtimes.{FORMATS[file_format][1]}")
    session: Session = module.open_session(path, *beside)
    return session


def open_file(name: str | Path) -> FileDetector:
    """A detector that runs an exported file.

    Args:
        name: a path with the ending of a known format.

    Raises:
        ExportError: there is no such file, it is not ours, or no runtime takes it.
    """
    path = Path(os.path.expanduser(name))
    known = _format_of(path)
    if known is None:
        endings = ", ".join(ending for ending, _ in FORMATS.values())
        raise ExportError(f"{path}: expected an exported file, which ends in one of {endings}")
    if not path.is_file():
        raise ExportError(f"{path}: no such file; `resnest-zoo export` writes one")
    session = open_session(path, known)
    description = Description.decode(session.metadata, str(path))
    panoptic = description.parsed().model.meta_architecture == "PanopticFPN"
    return (PanopticFileDetector if panoptic else FileDetector)(path, session, description)
