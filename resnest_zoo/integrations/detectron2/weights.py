"""Checkpoints of any format and layout as the files that detectron2's `DetectionCheckpointer` reads.

That loads whatever keys fit and only logs the rest, so names and prefixes must be the model's. Files made
for `resnest-zoo://` lie in the cache, in the folder `detectron2`.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch

from resnest_zoo import hub
from resnest_zoo.api.origin import find_weights
from resnest_zoo.checkpoint import Checkpoint, is_classifier, require_finite
from resnest_zoo.checkpoint.formats import reason
from resnest_zoo.errors import CheckpointError, UnknownModelError, shown
from resnest_zoo.hub.staging import staged
from resnest_zoo.registry import fetch_weights, info

# Of detectors; older versions of detectron2 stored constants beside these.
_PARTS = ("backbone.", "proposal_generator.rpn_head.", "roi_heads.", "sem_seg_head.")
_BOTTOM_UP = "backbone.bottom_up."


def find(source: str | Path) -> Path:
    """The verified file of an entry, else the file, folder or address that `source` names.

    Raises:
        UnknownModelError: it is none of them.
        DownloadError: it cannot be had.
    """
    if isinstance(source, str):
        try:
            return fetch_weights(info(source))
        except UnknownModelError as error:
            path = find_weights(source)
            if not path.is_file():
                raise UnknownModelError(f"{error} Nor is there such a file.") from None
            return path
    path = find_weights(source)
    if not path.is_file():
        raise UnknownModelError(f"{shown(str(source))}: no such file")
    return path


def write(source: str | Path, output: Path) -> Path:
    """Write `source` for detectron2; see `resnest_zoo.integrations.detectron2.write_checkpoint`."""
    path = find(source)
    checkpoint = Checkpoint.open(path)
    if checkpoint.is_detector:
        state = {key: value for key, value in checkpoint.items() if key.startswith(_PARTS)}
    else:
        below = {key.removeprefix("backbone.").removeprefix("bottom_up."): key for key in checkpoint}
        state = {_BOTTOM_UP + name: checkpoint[key] for name, key in below.items() if not is_classifier(name)}
    require_finite(path, state)
    try:
        with staged(output) as part:
            torch.save({"model": state, "__author__": "resnest_zoo"}, part)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
        raise CheckpointError(f"{output}: cannot be written: {reason(error)}") from error
    return output


def convert_cached(source: str) -> Path:
    """`source` as detectron2 reads it, from the cache; written anew when the file behind it has changed."""
    path = find(source).absolute()
    folder = hub.cache_dir() / "detectron2"
    folder.mkdir(parents=True, exist_ok=True)
    place = f"{path.stem}-{_digest(path)}"
    target = folder / f"{place}-{_digest(hub.stamp_of(path))}.pth"
    with hub.locked(folder / place):  # several processes of one training ask at once
        if not target.exists():
            write(path, target)
            for older in folder.glob(f"{place}-*.pth"):
                if older != target:
                    older.unlink()
    return target


def _digest(value: object) -> str:
    return sha256(str(value).encode()).hexdigest()[:8]
