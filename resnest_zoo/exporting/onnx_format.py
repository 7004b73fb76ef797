"""ONNX: one file, checked by onnx's own checker."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from resnest_zoo.errors import ExportError, first_line
from resnest_zoo.exporting.graph import INPUTS
from resnest_zoo.exporting.job import Job
from resnest_zoo.extras import load_extra
from resnest_zoo.runtimes.onnx_file import load

LEAST_OPSET = 20  # what DeformConv of opset 19 and GridSample of 20 need
# The operator that runtimes follow to a newer opset last, as one cell of one box.
_PROBE = """<ir_version: 10, opset_import: ["" : {opset}]>
probe (float[1, 1, 1, 1] x, float[1, 4] boxes, int64[1] pictures) => (float[1, 1, 1, 1] y) {{
    y = RoiAlign(x, boxes, pictures)
}}"""
_LARGEST = 2**31  # bytes; protobuf's own limit of one file


def check(opset: int) -> None:
    """What can be known before the work begins.

    Raises:
        ExportError: a package is missing, or the opset is too old, not known to the exporter, or not to the
            runtime at hand.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        load_extra(package, "onnx", where="onnx", kind=ExportError)
    check_opset(opset)
    import onnx
    import onnxruntime

    probe = onnx.parser.parse_model(_PROBE.format(opset=opset)).SerializeToString()
    try:
        load(probe)
    except Exception as error:  # its own have no common base
        raise ExportError(
            f"opset {opset}: onnxruntime {onnxruntime.__version__} lacks operators of it "
            f"({first_line(error)}); take an older one, as {LEAST_OPSET} or {LEAST_OPSET + 1}"
        ) from error


def check_opset(opset: int) -> None:
    """Raise ExportError where it is too old, or none that this exporter writes."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not LEAST_OPSET <= opset <= newest:
        raise ExportError(
            f"opset {opset}: expected {LEAST_OPSET} to {newest}: older ones lack the operators of these "
            f"models, and onnx {onnx.__version__} knows no newer ones"
        )


def write(job: Job, path: Path) -> None:
    """Write the file.

    Raises:
        ExportError: the exporter or the checker refuses the model.
        OSError: it cannot be written.
    """
    path.write_bytes(build(job).SerializeToString())


def build(job: Job) -> Any:
    """The `onnx.ModelProto` of a job, made once.

    Raises:
        ExportError: the exporter or the checker refuses the model.
    """
    if job.onnx_model is None:
        job.onnx_model = _build(job)
    return job.onnx_model


def _build(job: Job) -> Any:
    import onnx

    program = job.program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and onnxscript about each other
        exported = torch.onnx.export(
            program,
            input_names=list(INPUTS),
            output_names=job.names,
            opset_version=job.opset,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it came from, paths of this machine included
    if model.ByteSize() >= _LARGEST:
        raise ExportError(f"the model takes {model.ByteSize()} bytes, and one ONNX file {_LARGEST}")
    onnx.helper.set_model_props(model, job.description.encode())
    model.producer_name, model.producer_version = "resnest_zoo", job.description.version
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx's checker refuses the file: {first_line(error)}") from error
    return model
