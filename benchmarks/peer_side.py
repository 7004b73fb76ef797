"""One contender of `peers`: a process that detects in one picture when its parent tells it to.

    python -m benchmarks.peer_side detectron2 mask_rcnn_resnet50 --detections 100 --answer found.npz

What it says and hears stands in `sides`; a run goes from a resized picture, 3 x 800 x 1067, to boxes and
pasted masks at 480 x 640. All contenders but torchvision's have the same weights, defined by their names
(`golden`), and leave what they found in the file `--answer`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.golden import filled_model
from benchmarks.golden_values import fill, image
from benchmarks.sides import Stopwatch
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.core import DetectorCore
from resnest_zoo.ops.resize import resize_image
from resnest_zoo.structures import Detections, RawResult

SIZE = (480, 640)
INPUT_SIZE = (800, 1067)
_SEED = 0

Found = dict[str, np.ndarray[Any, Any]]
Detector = Callable[[Tensor], Found | None]  # of an RGB uint8 picture (3, H, W)


def _exact(name: str, detections: int) -> Detector:
    return _as_detector(_filled(name, detections))


def _optimized(name: str, detections: int) -> Detector:
    from resnest_zoo import optimize

    return _as_detector(optimize(_filled(name, detections), share=True))


def _filled(name: str, detections: int) -> GeneralizedRCNN:
    return filled_model(name, ["TEST.DETECTIONS_PER_IMAGE", str(detections)])


def _as_detector(model: GeneralizedRCNN) -> Detector:
    def detect(picture: Tensor) -> Found:
        (found,) = model([picture], output_sizes=[SIZE])
        return _arrays(found.boxes, found.scores, found.classes)

    return detect


def _detectron2(name: str, detections: int) -> Detector:
    """detectron2's own model; of ResNeSt, which it lacks, the bottom-up network is ours."""
    from detectron2.modeling import build_model

    from resnest_zoo.integrations.detectron2 import get_cfg

    cfg = get_cfg(name, overrides={"TEST.DETECTIONS_PER_IMAGE": detections})
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    fill(model)
    flip = cfg.INPUT.FORMAT == "BGR"

    def detect(picture: Tensor) -> Found:
        ready = {"image": picture.flip(0) if flip else picture, "height": SIZE[0], "width": SIZE[1]}
        with torch.no_grad():
            found = model([ready])[0]["instances"]
        return _arrays(found.pred_boxes.tensor, found.scores, found.pred_classes)

    return detect


def _torchvision(name: str, detections: int) -> Detector:
    """torchvision's Mask R-CNN on ResNet-50, untrained: as much work, other numbers."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    if name != "mask_rcnn_resnet50":
        raise SystemExit(f"torchvision has no {name}")
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=INPUT_SIZE[0],
        box_score_thresh=0.0,
        box_detections_per_img=detections,
    ).eval()

    def detect(picture: Tensor) -> None:
        with torch.no_grad():
            model([picture.float() / 255])

    return detect


def _onnxruntime(name: str, detections: int) -> Detector:
    """The tensor core as torch exports it, in onnxruntime; pasting by us."""
    import onnxruntime

    model = _filled(name, detections)
    picture = _picture()
    batch = model.preprocessing.batch([picture], next(model.parameters()))
    inputs = (batch.tensor, torch.tensor(batch.image_sizes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "core.onnx")
        core = DetectorCore(model).eval()
        with torch.no_grad():
            names = list(core(*inputs))
        torch.onnx.export(core, inputs, path, opset_version=20, output_names=names, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def detect(picture: Tensor) -> Found:
        batch = model.preprocessing.batch([picture], inputs[0])
        feeds = zip(session.get_inputs(), (batch.tensor.numpy(), inputs[1].numpy()), strict=True)
        answers = session.run(None, {node.name: value for node, value in feeds})
        got = dict(zip(names, map(torch.from_numpy, answers), strict=True))
        count = int(got["counts"][0])
        rows = (got[key][0, :count] for key in ("boxes", "scores", "classes"))
        masks = got["masks"][0, :count] if "masks" in got else None
        found = model.finish(RawResult(Detections(*rows, batch.image_sizes[0], masks), SIZE))
        return _arrays(found.boxes, found.scores, found.classes)

    return detect


CONTENDERS: dict[str, Callable[[str, int], Detector]] = {
    "exact": _exact,
    "optimized": _optimized,
    "detectron2": _detectron2,
    "torchvision": _torchvision,
    "onnxruntime": _onnxruntime,
}


def _arrays(boxes: Tensor, scores: Tensor, classes: Tensor) -> Found:
    return {"boxes": boxes.numpy(), "scores": scores.numpy(), "classes": classes.numpy()}


def _picture() -> Tensor:
    return resize_image(torch.from_numpy(image(*SIZE, _SEED)), INPUT_SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("model")
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answer", type=Path, required=True, help="file for what was found")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    watch, picture, found = Stopwatch(), _picture(), None
    detect = CONTENDERS[args.contender](args.model, args.detections)
    for _ in watch.runs():
        found = detect(picture)
    if found is not None:
        np.savez(args.answer, **found)


if __name__ == "__main__":
    main()
