"""Every published detector builds, and is the one that was published.

Its keys and shapes are the checkpoint's. What no shape shows (channel order, standard deviation, where a
block strides) is held to a table written out here, and checked on built modules and on numbers.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnest_zoo import registry
from resnest_zoo.config import load_config
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.models.rcnn import PanopticFPN

NAMES = registry.PUBLISHED
_STORED = Path(__file__).parents[1] / "golden" / "state_dicts.json.gz"

# (value of the picture's red, green, blue; what the first three channels of the input must be)
_COLOURS = (10, 100, 200)
_RESNET_INPUT = (200 - 103.53, 100 - 116.28, 10 - 123.675)
_RESNEST_INPUT = ((10 - 123.68) / 58.393, (100 - 116.779) / 57.12, (200 - 103.939) / 57.375)


@cache
def stored() -> dict[str, Any]:
    return json.loads(gzip.decompress(_STORED.read_bytes()))


@cache
def built(name: str) -> GeneralizedRCNN:
    config = registry.info(name).config
    assert config is not None
    with torch.device("meta"):
        return build_model(load_config(config))


def test_all_21_are_checked():
    assert len(NAMES) == 21
    assert sorted(NAMES) == sorted(stored()["state_dicts"])


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_are_the_checkpoints(name):
    got = {key: list(tensor.shape) for key, tensor in built(name).state_dict().items()}
    assert got == stored()["state_dicts"][name]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_published(name):
    parameters = list(built(name).parameters())
    count = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    assert {"params": count, "trainable": trainable} == stored()["params"][name]
    assert count == registry.info(name).parameters


@pytest.mark.parametrize("name", NAMES)
def test_stem_and_res2_are_frozen_and_nothing_else(name):
    frozen = {key for key, p in built(name).named_parameters() if not p.requires_grad}
    assert frozen
    body = "backbone.bottom_up."
    expected = {
        key for key, _ in built(name).named_parameters() if key.startswith((f"{body}stem", f"{body}res2"))
    }
    assert frozen == expected
    for part in (built(name).backbone.bottom_up.stem, built(name).backbone.bottom_up.get_submodule("res2")):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in part.modules())


@pytest.mark.parametrize("name", NAMES)
def test_a_new_model_is_in_evaluation_mode_and_names_its_classes(name):
    model = built(name)
    assert not any(module.training for module in model.modules())
    assert model.categories.things[0] == "person"
    assert len(model.categories.things) == 80
    assert isinstance(model, PanopticFPN) == name.startswith("panoptic")
    assert len(model.categories.stuff) == (54 if name.startswith("panoptic") else 0)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_reach_the_model_in_its_own_order_and_scale(name):
    """Fails for a channel swap, a mean of the other order and the other family's standard deviation."""
    image = torch.tensor(_COLOURS, dtype=torch.uint8)[:, None, None].expand(3, 5, 7)
    batch = built(name).preprocessing.batch([image], torch.empty(0, dtype=torch.float64))
    expected = _RESNEST_INPUT if "resnest" in name else _RESNET_INPUT
    assert batch.tensor.shape == (1, 3, 32, 32)
    assert batch.image_sizes == ((5, 7),)
    for channel, value in zip(batch.tensor[0], expected, strict=True):
        assert torch.allclose(channel[:5, :7], torch.tensor(value, dtype=torch.float64), rtol=0, atol=1e-5)
        assert not channel[5:].any()
        assert not channel[:, 7:].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_resized_to_800_unless_that_passes_1333(name):
    preprocessing = built(name).preprocessing
    assert (preprocessing.min_size, preprocessing.max_size) == (800, 1333)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stage", ["res3", "res4", "res5"])
def test_a_stage_strides_where_its_family_does(name, stage):
    block: Any = built(name).backbone.bottom_up.get_submodule(stage)[0]  # type: ignore[index]
    if "resnest" in name:
        # Neither convolution strides: a 3x3 pooling behind the second one does; the shortcut pools 2x2.
        assert block.conv1.stride == (1, 1)
        assert block.conv2.conv.stride == (1, 1)
        assert (block.avd_layer.kernel_size, block.avd_layer.stride, block.avd_layer.padding) == (3, 2, 1)
        assert (block.shortcut_avgpool.kernel_size, block.shortcut_avgpool.stride) == (2, 2)
        assert block.shortcut.stride == (1, 1)
    else:
        assert block.conv1.stride == (2, 2)
        assert block.conv2.stride == (1, 1)
        assert block.avd_layer is None
        assert block.shortcut_avgpool is None
        assert block.shortcut.stride == (2, 2)
    if block.conv2_offset is not None:
        assert block.conv2_offset.stride == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_dcn_models_deform_res3_to_res5_in_two_groups(name):
    bottom_up = built(name).backbone.bottom_up
    for stage in bottom_up.out_features:
        for block in bottom_up.get_submodule(stage):  # type: ignore[union-attr]
            deforms = "dcn" in name and stage != "res2"
            assert (block.conv2_offset is not None) == deforms
            if deforms:
                assert block.modulated
                assert block.offset_channels == 2 * 9 * 2


def test_the_check_of_the_input_sees_a_mix_up():
    """The table above would not be worth much if both families gave the same numbers."""
    differences = [abs(a - b) for a, b in zip(_RESNET_INPUT, _RESNEST_INPUT, strict=True)]
    assert min(differences) > 10
    first: Tensor = torch.tensor(_RESNET_INPUT)
    assert not torch.allclose(first, first.flip(0))
