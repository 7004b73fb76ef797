"""Layouts: how each library names the tensors of a detector or a backbone, and what we call them.

Tables, not code. A layout is recognised by its marks, patterns of which each is found in some key; the first
that fits is taken. Its rules are then applied to every key, one after another, as substitutions; a key that
no rule touches keeps its name. Backbones get the names below `backbone.bottom_up`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

Rules = tuple[tuple[str, str], ...]

# What wraps a whole model: torch's DataParallel, torch.compile, trainers such as Lightning's. Taken off where
# every key has it.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
# The classifier of an ImageNet network, which no detector has.
_CLASSIFIER = re.compile(r"^(stem\.|head\.)?(fc\d*|pred|linear)[._]")


@dataclass(frozen=True)
class Layout:
    """One library's names.

    Attributes:
        name: whose, for people.
        marks: patterns, each of which some key of such a file contains.
        rules: patterns and what takes their place, in turn.
        unused: patterns of keys that hold nothing a detector has.
        stride_in_1x1: where its bottlenecks stride; None where files differ.
    """

    name: str
    marks: tuple[str, ...] = ()
    rules: Rules = ()
    unused: tuple[str, ...] = ()
    stride_in_1x1: bool | None = None

    def rename(self, key: str) -> str | None:
        """Our name of a tensor; None for one that is unused."""
        if any(re.search(pattern, key) for pattern in self.unused):
            return None
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        return key


# Stages are counted from 1 by torchvision, after their convolutions by detectron2; a block's norms have names
# of their own there. Split attention keeps its names.
_BLOCKS: Rules = (
    *((rf"\blayer{stage}\.", f"res{stage + 1}.") for stage in (1, 2, 3, 4)),
    (r"\b(res\d\.\d+)\.bn([123])\.", r"\1.conv\2.norm."),
)
# A shortcut is a convolution and a norm, behind an average pooling in ResNet-D and ResNeSt.
_PLAIN_SHORTCUT: Rules = ((r"\bdownsample\.0\.", "shortcut."), (r"\bdownsample\.1\.", "shortcut.norm."))
_POOLED_SHORTCUT: Rules = ((r"\bdownsample\.1\.", "shortcut."), (r"\bdownsample\.2\.", "shortcut.norm."))

_OURS = Layout("detectron2's")

# Caffe's first convolution has a bias of zeros; its norm follows at once.
_CAFFE2 = Layout(
    "Caffe2's",
    marks=(r"^res\d_\d+_branch\d[abc]?_",),
    rules=(
        (r"^(?:res_)?conv1_", "stem.conv1_"),
        (r"^(res\d)_(\d+)_branch1_", r"\1.\2.shortcut_"),
        (r"^(res\d)_(\d+)_branch2a_", r"\1.\2.conv1_"),
        (r"^(res\d)_(\d+)_branch2b_", r"\1.\2.conv2_"),
        (r"^(res\d)_(\d+)_branch2c_", r"\1.\2.conv3_"),
        (r"_bn_s$", ".norm.weight"),
        (r"_bn_b$", ".norm.bias"),
        (r"_bn_rm$", ".norm.running_mean"),
        (r"_bn_riv$", ".norm.running_var"),
        (r"_w$", ".weight"),
        (r"_b$", ".bias"),
    ),
    unused=(r"^conv1_b$", r"_momentum$"),
)

# timm's ResNeSt and ResNet-D, and the files of ResNeSt's authors: a stem of three convolutions.
_TIMM = Layout(
    "timm's",
    marks=(r"^layer1\.0\.conv1\.", r"^conv1\.0\."),
    rules=(
        (r"^conv1\.0\.", "stem.conv1_1."),
        (r"^conv1\.1\.", "stem.conv1_1.norm."),
        (r"^conv1\.3\.", "stem.conv1_2."),
        (r"^conv1\.4\.", "stem.conv1_2.norm."),
        (r"^conv1\.6\.", "stem.conv1_3."),
        (r"^bn1\.", "stem.conv1_3.norm."),
        *_BLOCKS,
        *_POOLED_SHORTCUT,
    ),
)

_TORCHVISION = Layout(
    "torchvision's",
    marks=(r"^layer1\.0\.conv1\.", r"^conv1\.weight$"),
    rules=((r"^conv1\.", "stem.conv1."), (r"^bn1\.", "stem.conv1.norm."), *_BLOCKS, *_PLAIN_SHORTCUT),
    stride_in_1x1=False,
)

# mmdetection's two-stage detectors, of 2.x and 3.x. A cascade numbers its heads by stages.
_MMDETECTION: Rules = (
    (r"^backbone\.", "backbone.bottom_up."),
    *_BLOCKS,
    *((rf"^neck\.lateral_convs\.{k}\.conv\.", f"backbone.fpn_lateral{k + 2}.") for k in range(4)),
    *((rf"^neck\.fpn_convs\.{k}\.conv\.", f"backbone.fpn_output{k + 2}.") for k in range(4)),
    (r"^rpn_head\.rpn_conv\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn_head\.rpn_cls\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn_head\.rpn_reg\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^roi_head\.bbox_head((?:\.\d)?)\.fc_cls\.", r"roi_heads.box_predictor\1.cls_score."),
    (r"^roi_head\.bbox_head((?:\.\d)?)\.fc_reg\.", r"roi_heads.box_predictor\1.bbox_pred."),
    (r"^roi_head\.bbox_head\b", "roi_heads.box_head"),
    (r"^roi_head\.mask_head\b", "roi_heads.mask_head"),
    *((rf"\bshared_convs\.{k}\.", f"conv{k + 1}.") for k in range(8)),
    *((rf"\bshared_fcs\.{k}\.", f"fc{k + 1}.") for k in range(8)),
    *((rf"\bconvs\.{k}\.", f"mask_fcn{k + 1}.") for k in range(8)),
    (r"^(roi_heads\..*\d)\.conv\.", r"\1."),
    (r"^(roi_heads\..*\d)\.bn\.", r"\1.norm."),
    (r"\bupsample\.", "deconv."),
    (r"\bconv_logits\.", "predictor."),
)
# Its averaging of weights keeps the others beside them; those under the plain names are the averaged ones.
_COPIES = (r"^ema_",)
# Of any of its detectors, so that one that is not built here is refused by name.
_OF_MMDETECTION = r"^(?:roi_head|rpn_head|bbox_head|mask_head|panoptic_head|semantic_head)\."

_MMDETECTION_RESNEST = Layout(
    "mmdetection's",
    marks=(_OF_MMDETECTION, r"^backbone\.stem\.0\."),
    rules=(
        *(
            (rf"^backbone\.stem\.{at}\.", f"backbone.stem.{name}.")
            for at, name in (
                (0, "conv1_1"),
                (1, "conv1_1.norm"),
                (3, "conv1_2"),
                (4, "conv1_2.norm"),
                (6, "conv1_3"),
                (7, "conv1_3.norm"),
            )
        ),
        *_POOLED_SHORTCUT,
        *_MMDETECTION,
    ),
    unused=_COPIES,
)
_MMDETECTION_RESNET = Layout(
    "mmdetection's",
    marks=(_OF_MMDETECTION,),
    rules=(
        (r"^backbone\.conv1\.", "backbone.stem.conv1."),
        (r"^backbone\.bn1\.", "backbone.stem.conv1.norm."),
        *_PLAIN_SHORTCUT,
        *_MMDETECTION,
    ),
    unused=_COPIES,
)

# Asked in this order. detectron2's layout, which is ours, has no mark and comes last.
LAYOUTS = (_CAFFE2, _MMDETECTION_RESNEST, _MMDETECTION_RESNET, _TIMM, _TORCHVISION, _OURS)

# Detectors that are not built here, told by patterns of which some key contains one.
_STRANGERS = (
    (r"^backbone\.body\.", "a detector of torchvision"),
    (r"^(?:transformer|class_embed|query_embed)\.", "a DETR"),
)


def find_stranger(keys: Collection[str]) -> str | None:
    """What a detector is that is not built here, by its keys; None for any other."""
    return next((whose for mark, whose in _STRANGERS if any(re.search(mark, key) for key in keys)), None)


def find_layout(keys: Collection[str]) -> Layout:
    """The layout that keys are of, as they are after `unwrap`."""
    return next(
        layout
        for layout in LAYOUTS
        if all(any(re.search(mark, key) for key in keys) for mark in layout.marks)
    )


def unwrap(keys: Collection[str]) -> Mapping[str, str]:
    """Each key without the prefixes that every key has, of those that wrapping a model adds."""
    start = 0
    while keys:
        first = next(iter(keys))
        prefix = next((p for p in _WRAPPERS if first.startswith(p, start)), None)
        if prefix is None or not all(key.startswith(prefix, start) for key in keys):
            break
        start += len(prefix)
    return {key: key[start:] for key in keys}


def is_classifier(key: str) -> bool:
    """Whether a tensor belongs to the classifier of an ImageNet network."""
    return _CLASSIFIER.match(key) is not None
