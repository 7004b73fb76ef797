"""From a detector to a file that other runtimes run, compared with it before it is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from resnest_zoo import hub
from resnest_zoo.api import get
from resnest_zoo.api.origin import find_weights
from resnest_zoo.errors import ConfigError, ExportError, UnknownModelError, shown
from resnest_zoo.exporting.comparison import Difference, compare, make_picture
from resnest_zoo.exporting.graph import FileGraph
from resnest_zoo.exporting.job import Job
from resnest_zoo.hub.staging import staged
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.registry import fetch_weights, info
from resnest_zoo.runtimes import FORMATS, Description, FileDetector, files_of, open_session
from resnest_zoo.structures import SizeHW

# Of each format the module of this room that writes it. What `runtimes.FORMATS` lists it can run.
WRITERS = {name: f"{name}_format" for name in FORMATS}
_LEAST_SIDE = 65  # of a file of any size, pixels: the coarsest level of the pyramid then has two cells
_SEEDS = (1, 2)


@dataclass(frozen=True)
class Exported:
    """A file that was written, and compared with its model.

    Attributes:
        path: of the file; of OpenVINO that of the graph, beside which the weights lie.
        format: "onnx", "pt2" or "openvino".
        size: (height, width) of its input; None where it takes any.
        difference: to the model, on two drawn pictures.
    """

    path: Path
    format: str
    size: SizeHW | None
    difference: Difference


def export(
    model: str | Path | GeneralizedRCNN,
    path: str | Path,
    *,
    format: str | None = None,
    size: Sequence[int] | None = None,
    dynamic: bool = False,
    half: bool = False,
    masks_pasted: bool = False,
    opset: int = 20,
    **options: Any,
) -> Exported:
    """Write a detector as a file for another runtime, and compare the two on drawn pictures.

    The file takes a picture (1, 3, H, W) of uint8 RGB and its size, normalises it, and gives boxes, scores,
    classes and masks in pixels of that input; docs/export.md has names and shapes. `Predictor` runs it.
    Takes minutes for the large models.

    Args:
        model: what `get` takes, or a model in evaluation mode on the CPU, in float32.
        path: the file, which ends in .onnx, .pt2 or .xml; to the last belongs a .bin of the same name.
        format: "onnx", "pt2" or "openvino"; by default what the ending says.
        size: (height, width) of the input, multiples of 32; by default what the model's config makes of a
            picture in landscape format, 800 x 1344 of most.
        dynamic: take an input of any size instead.
        half: keep the weights in float16, which halves the file; what is computed stays float32.
        masks_pasted: give masks in pixels of the input, too.
        opset: of ONNX, from 20 on.
        **options: further arguments of `get`, such as `weights` or `overrides`.

    Raises:
        ExportError: the model or the size cannot be exported so, a package or its version is missing, or the
            file does not find what the model finds; then there is no file.
        ZooError: as `get` does.
        OSError: the file cannot be written.
    """
    target = Path(os.path.expanduser(path))
    chosen = _chosen_format(target, format)
    writer = import_module(f"resnest_zoo.exporting.{WRITERS[chosen]}")
    writer.check(opset)
    _check_target(target, chosen)
    if size is not None and dynamic:
        raise ExportError("a file is of one size or dynamic; give size or dynamic, not both")
    name, sha256 = "", ""
    if isinstance(model, str | Path):
        detector = get(model, **options)
        name, sha256 = _name_of(model), _weights_sha256(model, options.get("weights"))
    elif options:
        raise ConfigError(f"a model already built takes no more arguments of `get`: {', '.join(options)}")
    else:
        detector = model
    _check_model(detector, masks_pasted)
    assert detector.config is not None
    multiple = detector.preprocessing.size_divisibility
    description = Description(
        config=detector.config.dump(),
        categories=detector.categories,
        size=None if dynamic else _checked_size(size, detector),
        multiple=multiple,
        least=-(-_LEAST_SIDE // multiple) * multiple if dynamic else multiple,
        half=half,
        name=name,
        weights_sha256=sha256,
    )
    graph = FileGraph(detector, half=half, masks_pasted=masks_pasted).eval()
    job = Job(graph, _pictures(detector, description), description, opset)
    return Exported(target, chosen, description.size, _write(job, writer, target, chosen))


def _write(job: Job, writer: ModuleType, target: Path, chosen: str) -> Difference:
    with torch.no_grad():
        expected = [job.graph(*one) for one in job.inputs]
    job.names = list(expected[0])
    difference = Difference()
    with ExitStack() as stack:
        parts = [stack.enter_context(staged(path)) for path in files_of(target, chosen)]
        writer.write(job, *parts)
        session = open_session(parts[0], chosen, *parts[1:])
        Description.decode(session.metadata, str(target))
        for inputs, answer in zip(job.inputs, expected, strict=True):
            try:
                difference = difference.and_(compare(answer, session(*inputs)))
            except ExportError as error:
                raise ExportError(
                    f"{target}: not written, since the file does not do what the model does: {error}"
                ) from error
    return difference


def _chosen_format(target: Path, given: str | None) -> str:
    endings = {known: FORMATS[known][0] for known in WRITERS}
    if given is not None and given not in WRITERS:
        raise ExportError(f"format: expected one of {', '.join(WRITERS)}, got {shown(given)}")
    told = next((known for known, end in endings.items() if target.name.lower().endswith(end)), None)
    if told is None or given not in (None, told):
        wanted = [endings[given]] if given else list(endings.values())
        raise ExportError(
            f"{target}: expected a name that ends in {' or '.join(wanted)}, by which files are told apart"
        )
    return told


def _check_target(target: Path, chosen: str) -> None:
    """Better now than after minutes."""
    if target.is_dir():
        raise ExportError(f"{target}: is a folder; name the file in it, as {target / f'model.{chosen}'}")
    if not target.absolute().parent.is_dir():
        raise ExportError(f"{target}: there is no folder {target.absolute().parent}")


def _check_model(model: object, masks_pasted: bool) -> None:
    if isinstance(model, FileDetector):
        raise ExportError(f"{model.path} is an exported file already; export the model it was made from")
    if not isinstance(model, GeneralizedRCNN) or model.config is None:
        raise ExportError(f"expected a model as resnest_zoo.get gives it, got {shown(model)}")
    if model.training:
        raise ExportError("the model is in training mode; call model.eval() first")
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        raise ExportError(
            f"expected a model on the cpu in float32, got {parameter.device} and {parameter.dtype}; "
            "call model.cpu().float() first"
        )
    if masks_pasted and model.roi_heads.mask_head is None:
        raise ExportError("masks_pasted: the model has no masks")


def _checked_size(size: Sequence[int] | None, model: GeneralizedRCNN) -> SizeHW:
    """A size the model takes; by default that of large pictures in landscape format."""
    preprocessing = model.preprocessing
    multiple = preprocessing.size_divisibility
    if size is None:
        if not preprocessing.min_size:
            raise ExportError("the model's config resizes no picture; give a size, or say dynamic")
        return preprocessing.padded_size((preprocessing.min_size, preprocessing.max_size))
    sides = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ExportError(f"size: expected (height, width) in whole pixels above 0, got {shown(size)}")
    if any(side % multiple for side in sides):
        height, width = preprocessing.padded_size((sides[0], sides[1]))
        raise ExportError(
            f"size: expected multiples of {multiple}, got {sides[0]} x {sides[1]}; the next are "
            f"{height} x {width}; smaller pictures are padded to it"
        )
    return sides[0], sides[1]


def _pictures(model: GeneralizedRCNN, description: Description) -> list[tuple[Tensor, Tensor]]:
    """Two to compare on, neither of which fills its input; of two sizes where the file takes any."""
    if description.size is not None:
        height, width = description.size
        sizes = [(height - height // 9, width), (height, width - width // 7)]
        paddeds = [description.size, description.size]
    else:
        side = model.preprocessing.min_size or 480
        sizes = [(side, side + side // 3), (side * 3 // 4, side // 2 + 1)]
        least = description.least
        paddeds = [
            (max(height, least), max(width, least))
            for height, width in map(model.preprocessing.padded_size, sizes)
        ]
    return [make_picture(*one) for one in zip(sizes, paddeds, _SEEDS, strict=True)]


def _name_of(name: str | Path) -> str:
    """The entry's name or the address; of a file its name alone."""
    try:
        return info(str(name)).name
    except UnknownModelError:
        return str(name) if "://" in str(name) else Path(name).name


def _weights_sha256(name: str | Path, weights: str | Path | None) -> str:
    """Of the file that the weights came from; "" where there is none."""
    try:
        path = find_weights(weights) if weights is not None else fetch_weights(info(str(name)))
    except UnknownModelError:
        path = find_weights(name)
    return hub.read_content(path).sha256 if path.is_file() else ""
