"""torch.hub entry points: one for each published and each packaged detector, made from the registry.

    model = torch.hub.load("path/to/clone", "faster_rcnn_resnest50", source="local")

`mask_rcnn_resnest14_dcn_shapes` and `panoptic_resnest14_dcn_shapes` find drawn shapes and need no network.
From GitHub, name a release, so that the code cannot change under you, and say that you trust it:

    model = torch.hub.load("org/resnest-zoo:TAG", "faster_rcnn_resnest50", trust_repo=True)

`torch.hub.list("org/resnest-zoo:TAG")` names the entries and `torch.hub.help("org/resnest-zoo:TAG", name)`
describes one; both know GitHub alone. In a clone, `resnest-zoo list` and `resnest-zoo info NAME` say as much.
torch.hub offers every callable of this file whose name has no leading underscore.
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

# torch.hub takes the repository off sys.path once this file is loaded; whatever the package imports later is
# found through the package itself.
import resnest_zoo as _zoo
from resnest_zoo import registry as _registry

dependencies = [
    "PIL",
    "filelock",
    "huggingface_hub",
    "numpy",
    "pycocotools",
    "requests",
    "safetensors",
    "torch",
    "torchvision",
    "tqdm",
    "urllib3",
    "yaml",
]

_HELP = """\
{method} with {backbone}, trained on {data}: {task}.

{published} ({source}):
{results}
{parameters:,} parameters. Checkpoint: {filename}.

Call the model with a list of RGB uint8 tensors (3, H, W) of any sizes. It resizes them (shorter side
{shorter}, longer side at most {longer}) and normalises them itself:
{preprocessing}.

Args:
    pretrained: load the {which} checkpoint, {arrives} verified. False leaves
        the weights random.
    weights: path or URL of another checkpoint of this architecture.
    num_classes: build heads for your own classes; everything but the class layers is loaded.
    device: where the model goes, such as "cuda".
    **options: handed to `resnest_zoo.get`.

Returns:
    The detector in eval mode. For each picture it returns boxes, scores and classes{extras}, in
    that picture's pixels.

Example:
    >>> model = torch.hub.load("path/to/clone", "{name}", source="local")
    >>> picture = Image.open("photo.jpg").convert("RGB")
    >>> (result,) = model([torchvision.transforms.functional.pil_to_tensor(picture)])
    >>> result.boxes, result.scores, result.names
"""
_PREPROCESSING = {
    "ResNet": "BGR order, mean (103.53, 116.28, 123.675), std 1",
    "ResNeSt": "RGB order, mean (123.68, 116.779, 103.939), std (58.393, 57.12, 57.375)",
}
_PUBLISHED = {
    "data": "COCO",
    "published": "Published results",
    "which": "published",
    "arrives": "which is downloaded once and",
    "shorter": "800",
    "longer": "1333",
}
_SHIPPED = {
    "data": "drawn shapes",
    "published": "Measured results",
    "which": "packaged",
    "arrives": "which is at hand, and",
    "shorter": "192",
    "longer": "384",
}
_EXTRAS = {"instance segmentation": ", and masks", "panoptic segmentation": ", masks, and a map of segments"}


def _make_entry_point(entry: _registry.Entry) -> _Callable[..., _Any]:
    def entry_point(
        pretrained: bool = True,
        weights: str | None = None,
        num_classes: int | None = None,
        device: _Any = None,
        **options: _Any,
    ) -> _Any:
        return _zoo.get(
            entry.name,
            pretrained=pretrained,
            weights=weights,
            num_classes=num_classes,
            device=device,
            **options,
        )

    entry_point.__name__ = entry_point.__qualname__ = entry.name
    entry_point.__doc__ = _HELP.format(
        method=entry.method,
        backbone=entry.backbone,
        task=entry.task,
        source=entry.source or "docs/shapes.md",
        results="\n".join(f"    {row}" for row in entry.reported),
        parameters=entry.parameters,
        filename=entry.artifact.filename,
        preprocessing=_PREPROCESSING[entry.backbone.partition("-")[0]],
        extras=_EXTRAS.get(entry.task, ""),
        name=entry.name,
        **(_PUBLISHED if entry.artifact.path is None else _SHIPPED),
    )
    return entry_point


globals().update(
    {
        name: _make_entry_point(_registry.info(name))
        for name in (*_registry.PUBLISHED, *_registry.MMDETECTION, *_registry.SHIPPED)
    }
)
