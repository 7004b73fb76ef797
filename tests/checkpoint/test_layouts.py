"""Names of tensors, from every library's spelling to ours."""

from __future__ import annotations

import pytest

from resnest_zoo.checkpoint.layouts import find_layout, is_classifier, unwrap
from tests.mmdetection_files import GOLDEN, stored_keys


@pytest.mark.parametrize(
    ("layout", "theirs", "ours"),
    [
        ("Caffe2's", "conv1_w", "stem.conv1.weight"),
        ("Caffe2's", "conv1_b", None),  # zeros, in front of a norm
        ("Caffe2's", "res_conv1_bn_s", "stem.conv1.norm.weight"),
        ("Caffe2's", "res2_0_branch1_w", "res2.0.shortcut.weight"),
        ("Caffe2's", "res4_22_branch2a_bn_b", "res4.22.conv1.norm.bias"),
        ("Caffe2's", "res5_2_branch2c_bn_riv", "res5.2.conv3.norm.running_var"),
        ("timm's", "conv1.0.weight", "stem.conv1_1.weight"),
        ("timm's", "conv1.4.running_mean", "stem.conv1_2.norm.running_mean"),
        ("timm's", "bn1.bias", "stem.conv1_3.norm.bias"),
        ("timm's", "layer1.0.bn3.weight", "res2.0.conv3.norm.weight"),
        ("timm's", "layer2.0.conv2.bn1.weight", "res3.0.conv2.bn1.weight"),
        ("timm's", "layer4.0.downsample.1.weight", "res5.0.shortcut.weight"),
        ("timm's", "layer4.0.downsample.2.bias", "res5.0.shortcut.norm.bias"),
        ("torchvision's", "conv1.weight", "stem.conv1.weight"),
        ("torchvision's", "bn1.running_var", "stem.conv1.norm.running_var"),
        ("torchvision's", "layer3.22.bn2.weight", "res4.22.conv2.norm.weight"),
        ("torchvision's", "layer1.0.downsample.0.weight", "res2.0.shortcut.weight"),
        ("torchvision's", "layer1.0.downsample.1.weight", "res2.0.shortcut.norm.weight"),
        ("detectron2's", "res3.0.conv2.weight", "res3.0.conv2.weight"),
        ("detectron2's", "backbone.bottom_up.stem.conv1_1.weight", "backbone.bottom_up.stem.conv1_1.weight"),
    ],
)
def test_names_are_translated(layout: str, theirs: str, ours: str | None) -> None:
    marks = {
        "Caffe2's": {"res2_0_branch2a_w"},
        "timm's": {"layer1.0.conv1.weight", "conv1.0.weight"},
        "torchvision's": {"layer1.0.conv1.weight", "conv1.weight"},
        "detectron2's": set(),
    }
    found = find_layout({theirs} | marks[layout])
    assert found.name == layout
    assert found.rename(theirs) == ours


def test_what_wraps_a_model_is_taken_off_where_every_key_has_it() -> None:
    assert unwrap(["module._orig_mod.a", "module._orig_mod.b"]) == {
        "module._orig_mod.a": "a",
        "module._orig_mod.b": "b",
    }
    assert unwrap(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}
    assert unwrap([]) == {}


@pytest.mark.parametrize("key", ["fc.weight", "fc1000.bias", "stem.fc.weight", "pred_w", "head.fc.bias"])
def test_classifiers_are_known_by_their_names(key: str) -> None:
    assert is_classifier(key)
    assert not is_classifier(f"roi_heads.{key}")


MMDETECTION = {
    **dict.fromkeys(stored_keys(), GOLDEN),
    **dict.fromkeys(stored_keys(GOLDEN / "extra"), GOLDEN / "extra"),
}


@pytest.mark.parametrize("name", MMDETECTION)
def test_every_key_of_mmdetections_models_has_its_name_here(name: str) -> None:
    keys = stored_keys(MMDETECTION[name])[name]
    layout = find_layout(unwrap(keys).values())
    assert layout.name == "mmdetection's"
    assert {key: layout.rename(key) for key in keys} == {key: ours for key, (_, ours) in keys.items()}
