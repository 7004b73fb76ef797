"""From a checkpoint into a model: strictly, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from resnest_zoo.checkpoint.class_rows import Names, take_rows
from resnest_zoo.checkpoint.layouts import find_stranger
from resnest_zoo.checkpoint.opened import Checkpoint
from resnest_zoo.errors import CheckpointError, some

logger = logging.getLogger(__name__)

# Constants of the architecture that some versions of detectron2 stored beside the weights.
_STRAY = (".cell_anchors", "pixel_mean", "pixel_std")
_LISTED = 40
# What weights may be; fewer bits come with scales that no detector here has.
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def load_checkpoint(
    model: nn.Module,
    path: str | Path | Checkpoint,
    *,
    replaceable: Iterable[str] = (),
    removable: Iterable[str] = (),
    class_names: Mapping[str, tuple[Names, Names]] | None = None,
) -> tuple[str, ...]:
    """Load a checkpoint into `model`, strictly.

    Args:
        model: its state dict's keys and shapes decide what must be in the file.
        path: a file of any format and layout, or one already opened.
        replaceable: names of layers that keep their fresh values if any of them has another shape in
            the file (the class layers, when a model gets other classes).
        removable: names of modules that the file may hold though the model lacks them (the mask head, when a
            model is to find boxes alone). A warning names those left out.
        class_names: of replaceable layers whose classes differ from the file's in name or order, the names in
            the file and those of the model: each class gets the rows of its name. A warning names the classes
            that the file lacks, whose rows stay fresh.

    Returns:
        The names of the replaceable layers that were not loaded, sorted; empty when all were.

    Raises:
        CheckpointError: keys are missing or unexpected, shapes differ or numbers are not finite: all listed,
            sorted. The model is then unchanged.
    """
    checkpoint = path if isinstance(path, Checkpoint) else Checkpoint.open(path)
    path = checkpoint.path
    state = {k: v for k, v in checkpoint.items() if not k.startswith(_STRAY) and _STRAY[0] not in k}
    own = model.state_dict()
    for module in removable:
        if left_out := {key for key in state if key.startswith(f"{module}.")} - own.keys():
            logger.warning("%s: left out: %s, of which the model has none", path.name, module)
            state = {key: value for key, value in state.items() if key not in left_out}
    layers = sorted(replaceable)
    kept = {key for key in own for layer in layers if key.startswith(f"{layer}.")}
    if not any(key in state and state[key].shape != own[key].shape for key in kept):
        kept, layers = set(), []
    problems, clashes = _differences(own, state, kept)
    if problems:
        stranger = find_stranger(state)
        whose = f", {stranger}, which is not built here" if stranger else ""
        raise CheckpointError(f"{path}: belongs to another model{whose}:\n" + "\n".join(problems), clashes)
    require_finite(path, state)
    # What the file may lack: fresh class layers, and how many batches a norm has seen.
    absent = {key: value if key in kept else torch.zeros_like(value) for key, value in own.items()}
    loaded = {
        key: state[key] for key in own if key in state and key not in kept and fits(state[key], own[key])
    }
    loaded |= _rows_by_name(path, state, own, {} if kept else class_names or {})
    model.load_state_dict(absent | loaded)
    if layers:
        logger.warning("%s: class layers start fresh: %s", path.name, ", ".join(layers))
    return tuple(layers)


def _rows_by_name(
    path: Path,
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    names: Mapping[str, tuple[Names, Names]],
) -> dict[str, Tensor]:
    rows, lacking = take_rows(state, own, names)
    if lacking:
        logger.warning(
            "%s: has other classes: the rows of %d start fresh in the class layers, and the others are taken "
            "by name: %s",
            *(path.name, len(lacking), ", ".join(lacking[:_LISTED])),
        )
    elif rows:
        logger.info("%s: has the classes in another order; their rows are taken by name", path.name)
    return rows


def require_finite(source: Path | str, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite in float32: a detector of such finds nothing and says nothing.

    Raises:
        CheckpointError: some are; all tensors that hold them are named, up to a sensible number.
    """
    floats = {key: value for key, value in state.items() if value.is_floating_point()}
    # Sums are ten times as fast as looking at each number, and finite only if all numbers are. One that
    # overflows decides nothing.
    sums = torch.stack([value.sum(dtype=torch.float32) for value in floats.values()] or [torch.zeros(())])
    suspects = (key for key, finite in zip(floats, sums.isfinite().tolist(), strict=False) if not finite)
    if wrong := sorted(key for key in suspects if not floats[key].float().isfinite().all()):
        raise CheckpointError(
            f"{source}: {len(wrong)} tensors hold numbers that are not finite: {some(wrong)}; the training "
            "that wrote it diverged, or the file is damaged: take an earlier checkpoint"
        )


def fits(tensor: Tensor, own: Tensor) -> bool:
    """Whether a tensor of a file can take the place of a model's: its shape, plain numbers of its kind."""
    alike = tensor.dtype in _FLOATS if own.is_floating_point() else tensor.dtype == own.dtype
    return tensor.shape == own.shape and alike


def _differences(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], kept: set[str]
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """A heading and a sorted list for each kind of difference, and the shapes in the file that clash."""
    # How many batches a norm has seen matters to nobody and is missing beside frozen norms.
    mine = {k for k in own if not k.endswith("num_batches_tracked")} - kept
    theirs = {k for k in state if not k.endswith("num_batches_tracked")} - kept
    clashes = {
        key: tuple(state[key].shape) for key in sorted(mine & theirs) if not fits(state[key], own[key])
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
