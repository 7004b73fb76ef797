"""Every implementation of an operation gives what the naive loops of `oracle` give."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops import choice
from resnest_zoo.ops.convolution import conv2d, conv3x3_stack, prepare_conv2d
from tests.ops import oracle

# Of float32, relative to the largest value: rounding is 1.2e-7, sums are of some hundred terms, and what
# Winograd's transforms cancel costs one digit.
_TOLERANCE = 5e-6
# A place at 1e3 pixels is rounded by 3e-5 of one, as torchvision's kernels round it.
_SAMPLING_TOLERANCE = 1e-5


def implementations(operation: str) -> list[str]:
    return list(choice.TABLE[operation])


def loaded(name: str, operation: str, *args: object) -> ModuleType:
    """The module, or a skipped test where it cannot be used here; what is here must take the arguments."""
    if reason := choice.unavailable(name):
        pytest.skip(reason)
    assert choice.refusal(name, operation, *args) is None
    return choice.load(name)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def assert_close(got: Tensor, expected: Any, tolerance: float = _TOLERANCE) -> None:
    wanted = torch.from_numpy(expected)
    assert got.shape == wanted.shape
    if got.dim() == 4 and got.numel():
        assert got.is_contiguous(memory_format=torch.channels_last) or got.is_contiguous()
    largest = max(float(wanted.abs().max()), 1e-3) if wanted.numel() else 1.0
    assert float((got.double() - wanted).abs().max() if got.numel() else 0.0) <= tolerance * largest


@pytest.mark.parametrize("name", implementations("conv3x3"))
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("images", "in_channels", "out_channels", "height", "width", "groups"),
    [
        (1, 32, 32, 4, 4, 1),
        (2, 32, 32, 7, 13, 1),
        (1, 64, 96, 5, 3, 2),
        (1, 32, 64, 1, 9, 1),
        (1, 32, 32, 11, 2, 1),
        (1, 128, 32, 9, 8, 4),
        (0, 32, 32, 5, 7, 1),
        (5, 32, 32, 7, 7, 1),
        (3, 32, 32, 14, 14, 1),
    ],
)
def test_conv3x3(name, relu, with_bias, images, in_channels, out_channels, height, width, groups):
    x = channels_last(random(images, in_channels, height, width))
    weight = random(out_channels, in_channels // groups, 3, 3, seed=1)
    bias = random(out_channels, seed=2) if with_bias else None
    module = loaded(name, "conv3x3", weight, groups)
    got = module.conv3x3(x, module.pack_conv3x3(weight, groups), bias, relu)
    expected = oracle.conv3x3(x.numpy(), weight.numpy(), bias if bias is None else bias.numpy(), groups, relu)
    assert_close(got, expected)


@pytest.mark.parametrize("name", implementations("conv2d"))
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("images", "in_channels", "out_channels", "height", "width", "kernel", "stride", "groups"),
    [
        (1, 16, 24, 5, 7, 1, 1, 1),
        (2, 16, 24, 5, 7, 1, 2, 1),
        (1, 3, 16, 11, 13, 3, 2, 1),
        (1, 3, 16, 11, 13, 7, 2, 1),
        (2, 16, 32, 7, 5, 3, 1, 2),
        (2, 16, 32, 7, 5, 1, 1, 2),
        (0, 16, 24, 5, 7, 1, 1, 1),
    ],
)
def test_conv2d(
    name, relu, adds, memory_format, images, in_channels, out_channels, height, width, kernel, stride, groups
):
    x = random(images, in_channels, height, width).contiguous(memory_format=memory_format)
    weight = random(out_channels, in_channels // groups, kernel, kernel, seed=1)
    bias, padding = random(out_channels, seed=2), kernel // 2
    expected = torch.nn.functional.conv2d(
        x.double(), weight.double(), bias.double(), stride, padding, 1, groups
    )
    add = channels_last(random(*expected.shape, seed=3)) if adds else None
    before = None if add is None else add.clone()
    expected = expected if before is None else expected + before
    module = loaded(name, "conv2d", weight, groups, stride, padding)
    packed = module.pack_conv2d(weight, bias, groups, stride, padding)
    got = module.conv2d(x, packed, relu, add)
    assert_close(got, (expected.relu() if relu else expected).numpy())


def sampling_case(
    images: int, channels: int, height: int, width: int, deform_groups: int, stride: int, spread: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, offset and mask of a 3x3 with padding 1."""
    out_h, out_w = (height - 1) // stride + 1, (width - 1) // stride + 1
    offset = random(images, 2 * deform_groups * 9, out_h, out_w, seed=3) * spread
    offset[:, ::5] = offset[:, ::5].round()  # whole pixels, too
    mask = random(images, deform_groups * 9, out_h, out_w, seed=4).sigmoid()
    return channels_last(random(images, channels, height, width)), offset, mask


@pytest.mark.parametrize("name", implementations("deform_conv2d"))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("images", "channels", "height", "width", "groups", "deform_groups", "stride", "spread", "relu"),
    [
        (1, 8, 5, 7, 1, 1, 1, 1.0, False),
        (2, 8, 5, 7, 2, 2, 1, 2.0, True),
        (1, 8, 11, 3, 2, 1, 2, 3.0, False),
        (1, 16, 6, 5, 1, 2, 1, 30.0, True),
        (1, 8, 1, 1, 1, 1, 1, 1.0, False),
        (1, 8, 7, 4, 2, 2, 2, 1e4, False),
        (1, 8, 5, 3, 1, 1, 1, 3e38, False),
        (0, 8, 5, 7, 2, 2, 1, 1.0, False),
    ],
)
def test_deform_conv2d(
    name, masked, images, channels, height, width, groups, deform_groups, stride, spread, relu
):
    x, offset, mask = sampling_case(images, channels, height, width, deform_groups, stride, spread)
    offset = offset.clamp(-3.4e38, 3.4e38)
    weight, bias = random(12, channels // groups, 3, 3, seed=1), random(12, seed=2)
    used = mask if masked else None
    args = (x, offset, used, weight, bias, relu, stride, 1)
    got = loaded(name, "deform_conv2d", *args).deform_conv2d(*args)
    arrays = [a.numpy() if isinstance(a, Tensor) else a for a in args]
    assert_close(got, oracle.deform_conv2d(*arrays), _SAMPLING_TOLERANCE)


@pytest.mark.parametrize("name", implementations("deform_conv2d"))
def test_deform_conv2d_without_padding_and_bias(name):
    x, _, _ = sampling_case(1, 8, 7, 9, 1, 1, 1.0)
    offset, weight = random(1, 18, 5, 7, seed=3), random(4, 8, 3, 3, seed=1)
    args = (x, offset, None, weight, None, False, 1, 0)
    got = loaded(name, "deform_conv2d", *args).deform_conv2d(*args)
    arrays = [a.numpy() if isinstance(a, Tensor) else a for a in args]
    assert_close(got, oracle.deform_conv2d(*arrays), _SAMPLING_TOLERANCE)


ROIS = torch.tensor(
    [
        [0, 3.0, 5.0, 40.0, 33.0],
        [1, 0.0, 0.0, 0.5, 0.5],
        [1, -50.0, -20.0, 90.0, 71.0],
        [0, 10.0, 10.0, 10.0, 10.0],
        [0, 200.0, 200.0, 300.0, 280.0],
        [1, 30.0, 20.0, 12.0, 9.0],
        [0, -0.7, 3.0, 61.3, 4.0],
        [1, 12.0, -1e4, 30.0, 1e4],
    ]
)


@pytest.mark.parametrize("name", implementations("roi_align"))
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("size", [7, 14])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_roi_align(name, sampling_ratio, size, count):
    features = channels_last(random(2, 8, 13, 17))
    args = (features, ROIS[:count], size, 0.25, sampling_ratio)
    got = loaded(name, "roi_align", *args).roi_align(*args)
    assert_close(
        got,
        oracle.roi_align(features.numpy(), ROIS[:count].numpy(), size, 0.25, sampling_ratio),
        _SAMPLING_TOLERANCE,
    )


@pytest.mark.parametrize("name", implementations("roi_align"))
def test_roi_align_of_a_region_far_longer_than_the_picture(name):
    features = channels_last(random(2, 8, 13, 17))
    args = (features, ROIS[7:], 3, 0.25, 0)
    got = loaded(name, "roi_align", *args).roi_align(*args)
    expected = oracle.roi_align(features.numpy(), ROIS[7:].numpy(), 3, 0.25, 0)
    # Places at 2500 pixels are rounded by 2e-4 of one.
    assert_close(got, expected, 1e-3)


@pytest.mark.parametrize("name", implementations("split_attention"))
@pytest.mark.parametrize("radix", [2, 3, 4])
@pytest.mark.parametrize(
    ("images", "channels", "height", "width"), [(1, 8, 5, 7), (2, 16, 13, 3), (0, 8, 5, 7), (1, 24, 1, 1)]
)
def test_split_attention(name, radix, images, channels, height, width):
    x = channels_last(random(images, radix * channels, height, width))
    attention = random(images, radix, channels, seed=1)
    module = loaded(name, "split_attention", x, radix)
    assert_close(module.split_attention_gap(x, radix), oracle.split_attention_gap(x.numpy(), radix))
    assert_close(
        module.split_attention_mix(x, attention),
        oracle.split_attention_mix(x.numpy(), attention.numpy()),
    )


@pytest.mark.parametrize("name", implementations("conv3x3"))
@pytest.mark.parametrize("side", [1, 3, 5, 6, 7, 14])
@pytest.mark.parametrize("maps", [0, 1, 5])
def test_a_stack_of_convolutions_on_small_maps(monkeypatch, name, side, maps):
    """Each implementation's own way, or one convolution after another."""
    monkeypatch.setenv(choice.VARIABLE, f"conv3x3={name}")
    weights = [random(32, 32, 3, 3, seed=1) * 0.1, random(48, 32, 3, 3, seed=2) * 0.1]
    bias = random(48, seed=3)
    loaded(name, "conv3x3", weights[0], 1)
    layers = [prepare_conv2d(w, b, padding=1) for w, b in zip(weights, (None, bias), strict=True)]
    x = channels_last(random(maps, 32, side, side))
    got = conv3x3_stack(x, layers)
    expected = x.double()
    for weight, b in zip(weights, (None, bias.double()), strict=True):
        expected = torch.nn.functional.conv2d(expected, weight.double(), b, padding=1).relu()
    assert_close(got, expected.numpy())


def test_maps_of_other_channels_than_the_filters_are_refused():
    layer = prepare_conv2d(random(8, 4, 3, 3), None, padding=1)
    with pytest.raises(ShapeError, match=r"expected \(N, 4, H, W\) for these filters, got \(1, 5, 3, 3\)"):
        conv2d(random(1, 5, 3, 3), layer)
    with pytest.raises(ShapeError, match="expected"):
        conv3x3_stack(random(1, 5, 3, 3), [layer])


def test_pixels_beyond_the_working_memory_of_one_step_change_nothing(monkeypatch):
    """Bands of rows, chunks of places and groups of regions meet without a seam."""
    x, weight = channels_last(random(1, 32, 45, 13)), random(32, 32, 3, 3, seed=1)
    plain = choice.load("plain")
    packed = plain.pack_conv3x3(weight, 1)
    whole = plain.conv3x3(x, packed, None, False)
    monkeypatch.setattr("resnest_zoo.ops._plain.winograd._NUMBERS_AT_ONCE", 1)
    assert torch.allclose(plain.conv3x3(x, packed, None, False), whole, atol=1e-3)

    picture, offset, mask = sampling_case(1, 8, 9, 11, 2, 1, 3.0)
    args = (picture, offset, mask, random(4, 4, 3, 3), None, False, 1, 1)
    whole = plain.deform_conv2d(*args)
    monkeypatch.setattr("resnest_zoo.ops._plain.sampling._NUMBERS_AT_ONCE", 1)
    assert torch.allclose(plain.deform_conv2d(*args), whole, atol=1e-5)

    args = (channels_last(random(2, 8, 13, 17)), ROIS, 7, 0.25, 0)
    whole = plain.roi_align(*args)
    monkeypatch.setattr("resnest_zoo.ops._plain.sampling._INDICES_AT_ONCE", 1)
    assert torch.equal(plain.roi_align(*args), whole)

    maps, layers = channels_last(random(7, 32, 7, 7)), [(packed, None)]
    whole = plain.conv3x3_stack(maps, layers)
    monkeypatch.setattr("resnest_zoo.ops._plain.small_maps._NUMBERS_AT_ONCE", 1)
    assert torch.allclose(plain.conv3x3_stack(maps, layers), whole, atol=1e-3)


def test_the_working_memory_is_kept_between_calls_and_bounded():
    workspace = choice.load("plain").winograd.WORKSPACE
    first = workspace.take("a test", 10, 10)
    assert workspace.take("a test", 5).data_ptr() == first.data_ptr()
    large = workspace.take("a large test", 2**24 + 1)
    assert large.numel() == 2**24 + 1
    assert sum(len(kept) for (name, _), kept in workspace.kept.items() if "test" in name) == 100
    workspace.clear()
    assert not workspace.kept


def test_working_memory_made_in_inference_mode_can_be_written_without_it():
    plain = choice.load("plain")
    plain.winograd.WORKSPACE.clear()
    x, packed = channels_last(random(1, 32, 5, 5)), plain.pack_conv3x3(random(32, 32, 3, 3), 1)
    with torch.inference_mode():
        plain.conv3x3(x, packed, None, False)
    plain.conv3x3(x, packed, None, False)


def test_large_filters_of_1x1_are_matrix_products():
    """So that nobody waits for oneDNN, which computes these at a third of their speed."""
    names = {}
    for shape in ((1024, 512, 1, 1), (1024, 256, 1, 1), (1024, 512, 3, 3)):
        names[shape] = choice.choose("conv2d", torch.zeros(shape), 1, 1, 0).__name__.rpartition(".")[2]
    assert names[1024, 512, 1, 1] == "_exact"
    if choice.unavailable("onednn") is None:
        assert names[1024, 256, 1, 1] == names[1024, 512, 3, 3] == "_onednn"
