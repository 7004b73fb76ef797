"""What `kernels` times: each operation with the sizes it has in a picture of 800 x 1088, and its contenders.

Legend: N images, C channels, H and W, G groups, D deformable groups, R regions, S pooled side.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import ops

from benchmarks.golden import filled_model
from benchmarks.golden_values import image
from resnest_zoo.errors import ZooError
from resnest_zoo.ops import choice
from resnest_zoo.ops.resize import resize_image
from resnest_zoo.ops.rle import encode_pasted_masks

Run = Callable[[], Any]
_OPSET = 20  # DeformConv needs 19


@dataclass(frozen=True)
class Case:
    """One operation.

    Attributes:
        name: of it, with its sizes.
        ours: what makes each of our contenders ready and gives its run; `exact` is one of them.
        module: the operation as a module that exporters take; None where runtimes have no such thing.
        inputs: of the module.
        runtimes: which of other runtimes take part.
    """

    name: str
    ours: Mapping[str, Callable[[], Run]]
    module: nn.Module | None = None
    inputs: tuple[Tensor, ...] = ()
    runtimes: tuple[str, ...] = ("onnxruntime", "openvino")


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Conv3x3(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, groups: int) -> None:
        super().__init__()
        self.weight, self.bias, self.groups = nn.Parameter(weight), nn.Parameter(bias), groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=1, groups=self.groups).relu()


def _conv3x3(name: str, shape: tuple[int, int, int, int], out_channels: int, groups: int = 1) -> Case:
    torch.manual_seed(0)
    x = torch.randn(shape)
    weight = torch.randn(out_channels, shape[1] // groups, 3, 3) / (9 * shape[1] / groups) ** 0.5
    bias = torch.randn(out_channels)
    module = _Conv3x3(weight, bias, groups)

    def ready(implementation: str) -> Run:
        chosen = choice.choose("conv3x3", weight, groups, implementation=implementation)
        packed, rows = chosen.pack_conv3x3(weight, groups), _channels_last(x)
        return lambda: chosen.conv3x3(rows, packed, bias, True)

    ours = {"exact": lambda: lambda: module(x)} | _implementations("conv3x3", ready)
    return Case(name, ours, module, (x,))


def _implementations(operation: str, ready: Callable[[str], Run]) -> dict[str, Callable[[], Run]]:
    """Those of the table but `exact`, which stands for PyTorch as `get` runs it."""
    names = [name for name in choice.TABLE[operation] if name != "exact"]
    return {name: lambda name=name: ready(name) for name in names}  # type: ignore[misc]


class _DeformConvs(nn.Module):
    """The deformable convolutions of ResNeSt-50 one after the other, each on an input of its own."""

    # Of each: input channels, height and width at 800 x 1216; the output has twice the channels.
    LAYERS = (
        (128, 200, 304),
        *[(128, 100, 152)] * 3,
        (256, 100, 152),
        *[(256, 50, 76)] * 5,
        (512, 50, 76),
        *[(512, 25, 38)] * 2,
    )
    GROUPS = 2

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(self._weight(c) for c, _, _ in self.LAYERS)

    def _weight(self, channels: int) -> Tensor:
        taps = 9 * channels // self.GROUPS
        return torch.randn(2 * channels, channels // self.GROUPS, 3, 3) / taps**0.5

    def inputs(self) -> tuple[Tensor, ...]:
        found = []
        for c, h, w in self.LAYERS:
            found += [torch.randn(1, c, h, w), 2 * torch.randn(1, 18 * self.GROUPS, h, w)]
            found.append(torch.rand(1, 9 * self.GROUPS, h, w))
        return tuple(found)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        layers = zip(inputs[::3], inputs[1::3], inputs[2::3], self.weights, strict=True)
        return [ops.deform_conv2d(x, at, weight, None, 1, 1, mask=mask) for x, at, mask, weight in layers]


def _deform_convs() -> Case:
    torch.manual_seed(0)
    module = _DeformConvs()
    inputs = module.inputs()
    layers = list(zip(inputs[::3], inputs[1::3], inputs[2::3], module.weights, strict=True))
    rows = [(_channels_last(x), at, mask, weight.detach()) for x, at, mask, weight in layers]

    def ready(implementation: str) -> Run:
        calls = [(x, at, mask, weight, None, False, 1, 1) for x, at, mask, weight in rows]
        chosen = choice.choose("deform_conv2d", *calls[0], implementation=implementation)
        return lambda: [chosen.deform_conv2d(*call) for call in calls]

    ours = {"exact": lambda: lambda: module(*inputs)} | _implementations("deform_conv2d", ready)
    return Case("deform_convs", ours, module, inputs)


class _RoiAlign(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        return ops.roi_align(features, rois, self.size, 0.25, 0, aligned=True)


def _roi_align(name: str, count: int, size: int) -> Case:
    torch.manual_seed(0)
    features = torch.randn(1, 256, 200, 272)
    sides = 10 ** (1 + 1.3 * torch.rand(count, 2))  # 10 to 200 pixels, as level p2 gets them
    corners = torch.rand(count, 2) * (torch.tensor([1088.0, 800.0]) - sides)
    rois = torch.cat([torch.zeros(count, 1), corners, corners + sides], dim=1)
    module = _RoiAlign(size)

    def ready(implementation: str) -> Run:
        call = (_channels_last(features), rois, size, 0.25, 0)
        chosen = choice.choose("roi_align", *call, implementation=implementation)
        return lambda: chosen.roi_align(*call)

    ours = {"exact": lambda: lambda: module(features, rois)} | _implementations("roi_align", ready)
    return Case(name, ours, module, (features, rois))


def _split_attention() -> Case:
    torch.manual_seed(0)
    x, attention = torch.randn(1, 2 * 128, 100, 136), torch.rand(1, 2, 128)

    def ready(implementation: str) -> Run:
        rows = x if implementation == "exact" else _channels_last(x)
        chosen = choice.choose("split_attention", rows, 2, implementation=implementation)
        return lambda: [chosen.split_attention_gap(rows, 2), chosen.split_attention_mix(rows, attention)]

    ours = {"exact": lambda: ready("exact")} | _implementations("split_attention", ready)
    return Case("split_attention", ours)


def _bottom_up(name: str) -> Case:
    model = filled_model(name)
    batch = model.preprocessing.batch(
        [resize_image(torch.from_numpy(image(480, 640, 0)), (800, 1067))], next(model.parameters())
    )

    def optimized() -> Run:
        from resnest_zoo import optimize

        network = optimize(model).backbone.bottom_up
        return lambda: list(network(batch.tensor).values())

    module = _AsList(model.backbone.bottom_up)
    ours = {"exact": lambda: lambda: module(batch.tensor), "optimized": optimized}
    return Case(f"bottom_up_{name.rpartition('rcnn_')[2]}", ours, module, (batch.tensor,))


class _AsList(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.network(x).values())


def _resize() -> Case:
    picture = torch.from_numpy(image(480, 640, 0))
    return Case("resize", _with_and_without("resize_image", lambda: resize_image(picture, (800, 1067))))


def _run_lengths() -> Case:
    torch.manual_seed(0)
    probs = F.interpolate(torch.randn(100, 1, 7, 7), size=(28, 28), mode="bicubic")[:, 0].sigmoid()
    sides = 20 + 180 * torch.rand(100, 2)
    corners = torch.rand(100, 2) * (torch.tensor([640.0, 480.0]) - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    ours = _with_and_without("encode_pasted_masks", lambda: encode_pasted_masks(probs, boxes, (480, 640)))
    return Case("run_lengths", ours)


def _with_and_without(operation: str, run: Run) -> dict[str, Callable[[], Run]]:
    """The same call by Pillow or numpy, and by the kernels."""

    def ready(implementation: str) -> Run:
        if reason := choice.unavailable(implementation):
            raise ZooError(reason)

        def act() -> Any:
            with patch.dict(os.environ, {choice.VARIABLE: f"{operation}={implementation}"}):
                return run()

        return act

    return {name: lambda name=name: ready(name) for name in ("exact", "kernels")}  # type: ignore[misc]


CASES: dict[str, Callable[[], Case]] = {
    "conv3x3_256": lambda: _conv3x3("conv3x3_256 1 x 256 x 200 x 272", (1, 256, 200, 272), 256),
    "conv3x3_box_head": lambda: _conv3x3("conv3x3_box_head 1000 x 256 x 7 x 7", (1000, 256, 7, 7), 256),
    "conv3x3_mask_head": lambda: _conv3x3("conv3x3_mask_head 100 x 256 x 14 x 14", (100, 256, 14, 14), 256),
    "conv3x3_grouped": lambda: _conv3x3("conv3x3_grouped 1 x 128 x 100 x 136", (1, 128, 100, 136), 256, 2),
    "deform_convs": _deform_convs,
    "roi_align_7": lambda: _roi_align("roi_align_7 1000 x 256 x 7 x 7", 1000, 7),
    "roi_align_14": lambda: _roi_align("roi_align_14 100 x 256 x 14 x 14", 100, 14),
    "split_attention": _split_attention,
    "resize": _resize,
    "run_lengths": _run_lengths,
    "bottom_up_resnest50": lambda: _bottom_up("mask_rcnn_resnest50"),
    "bottom_up_resnest50_dcn": lambda: _bottom_up("faster_rcnn_resnest50_dcn"),
}
LONG = ("deform_convs", "bottom_up_resnest50", "bottom_up_resnest50_dcn")


def build_onnxruntime(case: Case) -> Run:
    """The operation in onnxruntime, exported by torch."""
    import onnxruntime

    assert case.module is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.onnx")
        torch.onnx.export(case.module.eval(), case.inputs, path, opset_version=_OPSET, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    arrays = [x.numpy() for x in case.inputs]
    feeds = {node.name: array for node, array in zip(session.get_inputs(), arrays, strict=True)}
    return lambda: _one_or_list(session.run(None, feeds))


def build_openvino(case: Case) -> Run:
    """The operation in OpenVINO, converted as `resnest-zoo export` does it."""
    import openvino

    from resnest_zoo.exporting.openvino_format import convert

    assert case.module is not None
    exported = torch.onnx.export(case.module.eval(), case.inputs, opset_version=_OPSET, verbose=False)
    assert exported is not None
    converted = convert(exported.model_proto.SerializeToString())
    exact = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", exact)
    arrays = [x.numpy() for x in case.inputs]
    return lambda: _one_or_list(list(compiled(arrays).values()))


def _one_or_list(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else results
