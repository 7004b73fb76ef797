"""Writing checkpoints: safetensors, whole or not at all, with what they were built from."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint.formats import reason
from resnest_zoo.errors import CheckpointError


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
        raise CheckpointError(f"{path}: cannot be written: {reason(error)}") from error


def _sort_header(file: IO[bytes]) -> None:
    """Bring the metadata, which are written in random order, into one: equal tensors give equal files."""
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) <= size:  # always, unless the two disagree on how to write a strange letter
        file.seek(8)
        file.write(text.ljust(size))


def model_metadata(config: str, categories: Categories) -> dict[str, str]:
    """Metadata that let a checkpoint be built without anything else.

    Args:
        config: the whole config as YAML, `Config.dump`.
        categories: of the model.
    """
    return {"config": config, "categories": json.dumps(asdict(categories))}
