"""OpenVINO: the ONNX model, read by OpenVINO's own front end and kept as its pair of files.

Legend: N images, C channels, H and W, G groups.
"""

from __future__ import annotations

import io
import json
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from resnest_zoo.errors import ExportError
from resnest_zoo.exporting import onnx_format
from resnest_zoo.exporting.job import Job
from resnest_zoo.extras import load_extra
from resnest_zoo.runtimes.openvino_file import METADATA, WEIGHTS, last_line


def check(opset: int) -> None:
    """What can be known before the work begins.

    Raises:
        ExportError: a package is missing, or the opset is too old or none that the exporter writes.
    """
    for package in ("openvino", "onnx", "onnxscript"):
        load_extra(package, "openvino", where="openvino", kind=ExportError)
    onnx_format.check_opset(opset)


def write(job: Job, path: Path, weights: Path) -> None:
    """Write the graph, and the numbers into a file of their own.

    Raises:
        ExportError: the exporter or OpenVINO refuses the model.
        OSError: they cannot be written.
    """
    import openvino

    model = convert(onnx_format.build(job).SerializeToString())
    # It insists on names that end in .xml and .bin.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        graph, numbers = Path(folder, "model.xml"), Path(folder, "model.bin")
        try:
            openvino.serialize(model, str(graph), str(numbers))
            metadata = job.description.encode() | {WEIGHTS: sha256(numbers.read_bytes()).hexdigest()}
            # One text, in which attributes of XML keep their line breaks.
            model.set_rt_info(json.dumps(metadata), [METADATA])
            openvino.serialize(model, str(graph), str(numbers))
        except RuntimeError as error:
            raise OSError(f"{path}: openvino cannot write it: {last_line(error)}") from error
        graph.replace(path)
        numbers.replace(weights)


def convert(model: bytes) -> Any:
    """OpenVINO's own model of an ONNX one, given as its bytes.

    Raises:
        ExportError: OpenVINO cannot read it.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.onnx import ConversionExtension

    front_end = FrontEndManager().load_by_framework("onnx")
    front_end.add_extension(ConversionExtension("DeformConv", _deform_conv))
    try:
        return front_end.convert(front_end.load(io.BytesIO(model)))
    except RuntimeError as error:
        raise ExportError(f"openvino cannot read the model: {last_line(error)}") from error


def _deform_conv(node: Any) -> Any:
    """The rule that OpenVINO's reader of ONNX lacks.

    Its operation computes one group fast, and several by a reference a hundred times as slow: each group gets
    an operation of its own.
    """
    from openvino import opset8

    groups, offset_groups = node.get_attribute("group"), node.get_attribute("offset_group")
    if groups != offset_groups:
        raise ExportError(
            f"openvino: a deformable convolution of {groups} groups and {offset_groups} of offsets"
        )
    x, weight, offset, bias, mask = (node.get_input(index) for index in range(5))
    pads = list(node.get_attribute("pads"))  # top, left, bottom, right
    strides, dilations = list(node.get_attribute("strides")), list(node.get_attribute("dilations"))
    # Along C of x (N, C, H, W), of the offsets and of the mask; along the outputs of the filters.
    pieces = zip(
        *(
            opset8.split(whole, axis, groups).outputs()
            for whole, axis in ((x, 1), (offset, 1), (mask, 1), (weight, 0))
        ),
        strict=True,
    )
    parts = [
        opset8.deformable_convolution(
            own,
            at,
            filters,
            strides,
            pads[:2],
            pads[2:],
            dilations,
            mask=weights,
            bilinear_interpolation_pad=True,
        ).output(0)
        for own, at, weights, filters in pieces
    ]
    whole = opset8.concat(parts, 1)  # (N, C', H', W')
    bias = opset8.unsqueeze(bias, opset8.constant([0, 2, 3]))  # (1, C', 1, 1)
    return opset8.add(whole, bias).outputs()
