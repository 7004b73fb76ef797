"""ONNX files in onnxruntime, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.errors import ExportError, first_line
from resnest_zoo.extras import load_extra


def open_session(path: Path) -> OnnxSession:
    """Load a file.

    Raises:
        ExportError: onnxruntime is not installed, or refuses the file.
    """
    onnxruntime = load_extra("onnxruntime", "onnx", where=str(path), kind=ExportError)
    try:
        session = load(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # its own have no common base
        raise ExportError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot load it: {first_line(error)}"
        ) from error
    return OnnxSession(session)


def load(content: bytes) -> Any:
    """A session of onnxruntime, which must be installed, on the CPU; what it raises has no common base."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # of errors it would tell twice, and it warns of nodes that it removes
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxSession:
    """A loaded file. Called with pictures and their sizes, it gives its outputs by name."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [node.name for node in session.get_outputs()]

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """Run it.

        Args:
            images: (1, 3, H, W) uint8 RGB, zero-padded.
            image_sizes: (1, 2) int64, height and width of the picture in it.

        Raises:
            ExportError: onnxruntime reports an error.
        """
        feeds = {"images": images.numpy(), "image_sizes": image_sizes.numpy()}
        try:
            answers = self._session.run(None, feeds)
        except Exception as error:  # its own have no common base
            raise ExportError(f"onnxruntime cannot run the file: {first_line(error)}") from error
        return {name: torch.from_numpy(a) for name, a in zip(self._outputs, answers, strict=True)}
