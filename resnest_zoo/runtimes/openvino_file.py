"""OpenVINO's pairs of files, `model.xml` and `model.bin`, in its runtime, on the CPU."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.errors import ExportError
from resnest_zoo.extras import load_extra

METADATA = "resnest_zoo"  # in the model's rt_info: a JSON object of texts
WEIGHTS = f"{METADATA}.bin_sha256"  # among them, of the file beside it


def open_session(path: Path, weights: Path | None = None) -> OpenvinoSession:
    """Load a pair of files.

    Args:
        path: of the graph.
        weights: of the other; by default the file of the same name that ends in .bin.

    Raises:
        ExportError: openvino is not installed, or refuses the files, or they are no pair.
        OSError: one of them cannot be read.
    """
    openvino = load_extra("openvino", "openvino", where=str(path), kind=ExportError)
    weights = path.with_suffix(".bin") if weights is None else weights
    if not weights.is_file():
        raise ExportError(f"{path}: lacks its weights, {weights.name}, which belong beside it")
    graph, numbers = path.read_bytes(), weights.read_bytes()
    exact = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        core = openvino.Core()
        model = core.read_model(graph, numbers)
        metadata = _metadata(model)
        if metadata.get(WEIGHTS, sha256(numbers).hexdigest()) != sha256(numbers).hexdigest():
            raise ExportError(f"{path}: {weights.name} beside it is of another export; copy both again")
        compiled = core.compile_model(model, "CPU", exact)
    except (RuntimeError, ValueError) as error:  # its own are the first
        if isinstance(error, ExportError):
            raise
        raise ExportError(
            f"{path}: openvino {openvino.__version__} cannot load it: {last_line(error)}"
        ) from error
    return OpenvinoSession(compiled, metadata)


def _metadata(model: Any) -> dict[str, str]:
    if not model.has_rt_info([METADATA]):
        return {}
    found = json.loads(model.get_rt_info([METADATA]).value)
    return {str(key): str(value) for key, value in found.items()}


class OpenvinoSession:
    """A loaded model. Called with pictures and their sizes, it gives its outputs by name."""

    def __init__(self, compiled: Any, metadata: dict[str, str]) -> None:
        self._compiled = compiled
        self._outputs = [output.get_any_name() for output in compiled.outputs]
        self.metadata = metadata

    def __call__(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """Run it.

        Args:
            images: (1, 3, H, W) uint8 RGB, zero-padded.
            image_sizes: (1, 2) int64, height and width of the picture in it.

        Raises:
            ExportError: OpenVINO reports an error.
        """
        feeds = {"images": images.numpy(), "image_sizes": image_sizes.numpy()}
        try:
            answers = self._compiled(feeds)
        except RuntimeError as error:
            raise ExportError(f"openvino cannot run the file: {last_line(error)}") from error
        return {name: torch.from_numpy(answers[at]) for at, name in enumerate(self._outputs)}


def last_line(error: Exception) -> str:
    """What an error of OpenVINO says, behind the lines of its source that it names first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
