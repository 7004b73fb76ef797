"""Weights that training starts from, under the names of their makers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.checkpoint import write_safetensors
from resnest_zoo.config import load_config
from resnest_zoo.errors import CheckpointError
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.training.initial import load_backbone, load_initial
from tests.training.small_run import SMALL, small_config

RESNET = {"MODEL.RESNETS.RADIX": 1, "MODEL.RESNETS.DEEP_STEM": False, "MODEL.RESNETS.STEM_OUT_CHANNELS": 8}


def resnet(**changes: object) -> GeneralizedRCNN:
    """A plain ResNet, as MSRA's; its backbone holds random numbers everywhere."""
    plain = {key: value for key, value in SMALL.items() if not key.startswith("MODEL.RESNETS.RADIX")}
    model = build_model(load_config("Base-RCNN-FPN.yaml", {**plain, **RESNET, **changes}))
    with torch.no_grad():
        for value in model.backbone.bottom_up.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    return model


def caffe2_name(key: str) -> str:
    """The inverse of Caffe2's layout, written from the other side."""
    for new, old in (
        ("norm.weight", "bn_s"),
        ("norm.bias", "bn_b"),
        ("norm.running_mean", "bn_rm"),
        ("norm.running_var", "bn_riv"),
        ("weight", "w"),
    ):
        if key.endswith(new):
            key = key.removesuffix(new) + old
            break
    for new, old in (
        ("shortcut", "branch1"),
        ("conv1", "branch2a"),
        ("conv2", "branch2b"),
        ("conv3", "branch2c"),
    ):
        if not key.startswith("stem"):
            key = key.replace(f".{new}.", f".{old}.")
    key = key.replace(".", "_")
    if key.startswith("stem"):
        return key.replace("stem_conv1_bn", "res_conv1_bn").replace("stem_conv1_w", "conv1_w")
    return key


def weights(model: GeneralizedRCNN) -> dict[str, Tensor]:
    state = model.backbone.bottom_up.state_dict()
    return {k: v.clone() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def assert_equal(model: GeneralizedRCNN, expected: dict[str, Tensor]) -> None:
    for key, value in weights(model).items():
        assert torch.equal(value, expected[key]), key


def test_a_pickle_of_msra_loads_with_its_classifier_and_bias_left_out(tmp_path: Path) -> None:
    source, target = resnet(), resnet()
    content = {caffe2_name(key): value.numpy() for key, value in weights(source).items()}
    content |= {"fc1000_w": np.ones((10, 4), np.float32), "fc1000_b": np.ones(10, np.float32)}
    content["conv1_b"] = np.zeros(8, np.float32)
    file = tmp_path / "R-14.pkl"
    file.write_bytes(pickle.dumps({"model": content, "__author__": "test"}, protocol=2))
    load_initial(target, file)
    assert_equal(target, weights(source))


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_resnet_of_torchvision_converted_by_detectron2s_tool_loads(tmp_path: Path, protocol: int) -> None:
    """tools/convert-torchvision-to-d2.py: our names, but whatever is in no stage is put into the stem."""
    source, target = resnet(), resnet()
    content = {key: value.numpy() for key, value in weights(source).items()}
    content |= {"stem.fc.weight": np.ones((10, 4), np.float32), "stem.fc.bias": np.ones(10, np.float32)}
    content["stem.conv1.norm.num_batches_tracked"] = np.array(7)
    file = tmp_path / "r50.pkl"
    whole = {"model": content, "__author__": "torchvision", "matching_heuristics": True}
    file.write_bytes(pickle.dumps(whole, protocol=protocol))
    load_initial(target, file)
    assert_equal(target, weights(source))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wraps_a_backbone_or_a_detector_is_taken_off(tmp_path: Path, prefix: str) -> None:
    source = build_model(small_config())
    file = tmp_path / "wrapped.pth"
    for state in (weights(source), source.state_dict()):
        torch.save({"state_dict": {f"{prefix}{key}": value for key, value in state.items()}}, file)
        target = build_model(small_config())
        load_initial(target, file)
        assert_equal(target, weights(source))
    head = target.roi_heads.box_head.fc1.weight
    assert torch.equal(head, source.roi_heads.box_head.fc1.weight)


def test_a_prefix_that_only_some_keys_have_stays_and_is_named(tmp_path: Path) -> None:
    source = build_model(small_config())
    state = dict(source.state_dict())
    state["module.backbone.fpn_output2.weight"] = state.pop("backbone.fpn_output2.weight")
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected keys:\n +module\.backbone\.fpn_output2\.weight"):
        load_initial(build_model(small_config()), tmp_path / "odd.pth")


def test_norms_whose_statistics_are_merged_keep_mean_0_and_variance_1() -> None:
    source = resnet()
    target = build_model(
        load_config(
            "Base-RCNN-FPN.yaml",
            {
                **SMALL,
                **RESNET,
                "MODEL.RESNETS.RADIX": 1,
                "MODEL.RESNETS.AVD": False,
                "MODEL.RESNETS.AVG_DOWN": False,
            },
        )
    )
    state = {k: v for k, v in weights(source).items() if "running" not in k}
    load_backbone(target, state, "file")
    norm = target.backbone.bottom_up.res3[0].conv1.norm
    assert norm.running_mean.tolist() == [0] * len(norm.running_mean)
    assert norm.running_var.tolist() == [1] * len(norm.running_var)
    assert torch.equal(norm.weight, source.backbone.bottom_up.res3[0].conv1.norm.weight)


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_a_resnest_file_loads_also_into_a_deformable_model(tmp_path: Path, prefix: str) -> None:
    source = build_model(small_config())
    file = tmp_path / "resnest.safetensors"
    state = {f"{prefix}{key}": value for key, value in weights(source).items()}
    write_safetensors({**state, "fc.weight": torch.zeros(2, 2)}, file, {})
    dcn = {
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (False, True, True, True),
        "MODEL.RESNETS.DEFORM_MODULATED": True,
    }
    target = build_model(small_config(dcn))
    load_initial(target, file)
    for key, value in weights(source).items():
        assert torch.equal(target.backbone.bottom_up.state_dict()[key], value)
    assert not target.backbone.bottom_up.res3[0].conv2_offset.weight.any()


def test_what_does_not_fit_is_listed_and_nothing_loaded() -> None:
    model = resnet()
    before = weights(model)
    state = {key: value + 1 for key, value in before.items()}
    state["res3.0.conv1.weight"] = torch.zeros(1)
    state["res9.0.conv1.weight"] = state.pop("res4.0.conv1.weight")
    with pytest.raises(CheckpointError) as caught:
        load_backbone(model, state, "R-50.pkl")
    assert str(caught.value).splitlines() == [
        "R-50.pkl: is not the backbone of this model:",
        "  1 missing: res4.0.conv1.weight",
        "  1 left over: res9.0.conv1.weight",
        "  1 of another shape or kind: res3.0.conv1.weight",
    ]
    assert_equal(model, before)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_no_weights(dtype: torch.dtype) -> None:
    model = resnet()
    before = weights(model)
    state = {key: value + 1 for key, value in before.items()}
    state["res3.0.conv1.weight"] = state["res3.0.conv1.weight"].to(dtype)
    with pytest.raises(CheckpointError, match=r"1 of another shape or kind: res3\.0\.conv1\.weight"):
        load_backbone(model, state, "R-50.pkl")
    assert_equal(model, before)


def test_a_detector_loads_whole_but_for_class_layers_of_other_sizes(tmp_path: Path) -> None:
    source = build_model(small_config())
    file = tmp_path / "detector.safetensors"
    write_safetensors(source.state_dict(), file, {})
    same, other = (
        build_model(small_config()),
        build_model(small_config({"MODEL.ROI_HEADS.NUM_CLASSES": 3}), Categories.named(["a", "b", "c"])),
    )
    for model in (same, other):
        load_initial(model, file)
        assert torch.equal(model.roi_heads.box_head.fc1.weight, source.roi_heads.box_head.fc1.weight)
    assert torch.equal(
        same.roi_heads.box_predictor.cls_score.weight, source.roi_heads.box_predictor.cls_score.weight
    )
