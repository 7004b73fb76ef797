"""What `torch.export` has saved, run by torch, on the CPU."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
import torchvision  # noqa: F401 - whose operators the programs call
from torch import Tensor

from resnest_zoo.errors import ExportError, first_line
from resnest_zoo.runtimes.description import Description

METADATA = "resnest_zoo.json"  # among the file's extra files


def open_session(path: Path) -> ProgramSession:
    """Load a file. torch's loader unpickles: what is in the file can run code.

    Raises:
        ExportError: it is no file of `torch.export`, not ours, or of a torch that this one cannot read.
    """
    metadata = _read_metadata(path)
    Description.decode(metadata, str(path))  # before anything of it is unpickled
    logger = logging.getLogger("torch.export")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)  # it tells of an error at length, and raises it then
        with path.open("rb") as file:
            module = torch.export.load(file).module()
    except OSError:
        raise
    except Exception as error:  # of whatever kind; torch names none
        raise ExportError(f"{path}: torch {torch.__version__} cannot load it: {first_line(error)}") from error
    finally:
        logger.setLevel(level)
    return ProgramSession(module, metadata)


def _read_metadata(path: Path) -> dict[str, str]:
    """The metadata, before anything of the file is unpickled; empty where there are none."""
    try:
        with ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA}")]
            found = json.loads(archive.read(names[0])) if names else {}
    except (BadZipFile, ValueError) as error:
        raise ExportError(f"{path}: is no file of torch.export: {error}") from error
    return {str(key): str(value) for key, value in found.items()}


class ProgramSession:
    """A loaded program. Called with pictures and their sizes, it gives its outputs by name."""

    def __init__(
        self, module: Callable[[Tensor, Tensor], dict[str, Tensor]], metadata: dict[str, str]
    ) -> None:
        self._module = module
        self.metadata = metadata

    @torch.no_grad()
    def __call__(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """Run it.

        Args:
            images: (1, 3, H, W) uint8 RGB, zero-padded.
            image_sizes: (1, 2) int64, height and width of the picture in it.

        Raises:
            ExportError: the program does not take these.
        """
        try:
            return self._module(images, image_sizes)
        except AssertionError as error:  # torch's own checks of what the program takes
            raise ExportError(f"the program does not take this input: {error}") from error
