"""From a user's checkpoint, of any format and layout, to one of ours that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from resnest_zoo import hub
from resnest_zoo.api import get
from resnest_zoo.checkpoint import Checkpoint, model_metadata, write_safetensors
from resnest_zoo.errors import CheckpointError, ConfigError

_ORIGINAL = "original_sha256"  # in the metadata of what is written here


def convert_file(file: Path, name: str | Path | None = None, output: Path | None = None) -> Path:
    """Write a checkpoint as safetensors under our names, with its config and classes.

    Args:
        file: of any format and layout that `get` takes as `weights`.
        name: what the file is of, as `get` takes it; None for a file that tells its model.
        output: the file to write; by default beside `file`, with the ending .safetensors.

    Returns:
        The file written, which `get` builds without anything else.

    Raises:
        UnknownModelError: no such model.
        CheckpointError: the file cannot be read or is of another model, or `output` cannot be written.
        ConfigError: `output` is there already, and was not converted from the same bytes.
    """
    target = output or file.with_suffix(".safetensors")
    model = get(file) if name is None else get(name, weights=file)
    original = hub.read_content(file).sha256
    _check_target(target, original)
    assert model.config is not None
    described = model_metadata(model.config.dump(), model.categories)
    metadata = {"format": "pt", **described, "source": file.name, _ORIGINAL: original}
    write_safetensors(model.state_dict(), target, metadata)
    return target


def _check_target(target: Path, original: str) -> None:
    """Never write over a file of the user's."""
    if not target.exists():
        return
    try:
        older = Checkpoint.open(target).metadata.get(_ORIGINAL) == original
    except CheckpointError:
        older = False
    if not older:
        raise ConfigError(f"{target} is there already, and not made of this file; choose another output")
