"""Detectors out of PyTorch: files that other runtimes run.

    graph        what a file computes
    exporting    `export`: check, trace, write, compare
    job          what a writer gets
    onnx_format, pt2_format, openvino_format   the writers; each has `check(opset)` and `write(job, *paths)`
    comparison   whether a file finds what the model finds

`resnest_zoo.runtimes` runs the files.
"""

from resnest_zoo.exporting.comparison import Difference
from resnest_zoo.exporting.exporting import WRITERS, Exported, export

__all__ = ["WRITERS", "Difference", "Exported", "export"]
