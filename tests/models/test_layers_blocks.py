"""Norms, convolutions, split attention, blocks and stems, against plain float64 loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from resnest_zoo.models.layers import (
    Conv2d,
    DeformConv2d,
    FrozenBatchNorm2d,
    at_least_float32,
    build_norm,
    freeze,
    synchronize_norms,
)
from resnest_zoo.models.resnest import SplitAttention
from resnest_zoo.models.resnet import BlockStyle, Bottleneck, DeepStem, Stem
from tests.models import naive


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Float64, evaluation mode, every parameter and running statistic random."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(values.abs() + 0.5 if key.endswith("running_var") else values)
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Convolutions and norms


@pytest.mark.parametrize(("stride", "groups", "kernel"), [(1, 1, 3), (2, 2, 3), (2, 1, 7), (1, 4, 1)])
def test_convolution_equals_a_loop(stride, groups, kernel):
    layer = randomise(Conv2d(4, 8, kernel, stride=stride, groups=groups))
    x = noise(1, 4, 9, 7)
    expected = naive.conv(
        x[0].numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), stride, kernel // 2, groups
    )
    assert np.allclose(layer(x)[0].detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "kind"), [("BN", nn.BatchNorm2d), ("SyncBN", nn.BatchNorm2d)])
def test_a_norm_follows_its_convolution_which_then_has_no_bias(norm, kind):
    layer = randomise(Conv2d(3, 5, 3, norm=norm))
    assert layer.bias is None
    assert isinstance(layer.norm, kind)
    x = noise(2, 3, 6, 6)
    mean, var = layer.norm.running_mean, layer.norm.running_var
    plain = nn.functional.conv2d(x, layer.weight, padding=1)
    normal = (plain - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    expected = normal * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
    assert torch.allclose(layer(x), expected, rtol=1e-12)


def test_no_norm_is_a_bias_unless_told_otherwise():
    assert Conv2d(3, 5, 3).bias is not None
    assert Conv2d(3, 5, 3, bias=False).bias is None
    assert build_norm("", 8) is None


def test_group_norm_has_32_groups():
    norm = build_norm("GN", 64)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 32


def test_a_frozen_norm_equals_the_batch_norm_it_replaces_in_evaluation():
    layer = randomise(Conv2d(3, 5, 3, norm="BN"))
    x = noise(2, 3, 8, 8)
    before, keys = layer(x), set(layer.state_dict())
    assert freeze(layer) is layer
    assert isinstance(layer.norm, FrozenBatchNorm2d)
    assert torch.allclose(layer(x), before, rtol=1e-12)
    assert set(layer.state_dict()) == keys - {"norm.num_batches_tracked"}
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    layer.train()
    assert torch.allclose(layer(x), before, rtol=1e-12)


def test_a_frozen_norm_gives_the_same_with_a_gradient_which_only_its_input_gets():
    norm, x = randomise(FrozenBatchNorm2d(4)), noise(2, 4, 3, 3)
    out = norm(x.requires_grad_())
    assert torch.allclose(out, norm(x.detach()), rtol=1e-12)
    out.sum().backward()
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    assert torch.allclose(x.grad, factor[:, None, None].expand_as(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_frozen_norm_keeps_the_dtype_of_mixed_precision(dtype):
    assert FrozenBatchNorm2d(4)(noise(2, 4, 3, 3).to(dtype)).dtype is dtype


def test_freezing_a_norm_itself_returns_the_frozen_one():
    norm = randomise(nn.BatchNorm2d(4, eps=0.1))
    x = noise(1, 4, 3, 3)
    frozen = freeze(norm)
    assert isinstance(frozen, FrozenBatchNorm2d)
    assert torch.allclose(frozen(x), norm(x), rtol=1e-12)


@pytest.mark.parametrize("learning", [False, True])
def test_frozen_norm_equals_torchvisions_with_its_gradient(learning):
    norm, theirs = randomise(FrozenBatchNorm2d(5)), torchvision.ops.FrozenBatchNorm2d(5).double()
    theirs.load_state_dict(norm.state_dict())
    x, other = noise(2, 5, 7, 3), noise(2, 5, 7, 3)
    out, expected = norm(x.requires_grad_(learning)), theirs(other.requires_grad_(learning))
    torch.testing.assert_close(out, expected)
    if learning:
        (out**2).sum().backward()
        (expected**2).sum().backward()
        torch.testing.assert_close(x.grad, other.grad)


def test_only_norms_called_syncbn_become_synchronous():
    net = nn.Sequential(*(Conv2d(3, 3, 1, norm=name) for name in ("SyncBN", "BN", "FrozenBN", "")))
    frozen = freeze(Conv2d(3, 3, 1, norm="SyncBN"))
    randomise(net.append(frozen).append(nn.Sequential(Conv2d(3, 3, 1, norm="SyncBN"))))
    state, x = {k: v.clone() for k, v in net.state_dict().items()}, noise(2, 3, 4, 4)
    before = net(x)
    assert synchronize_norms(net) is net
    kinds = [type(m.norm) for m in net.modules() if isinstance(m, Conv2d)]
    own = [nn.SyncBatchNorm, nn.BatchNorm2d, FrozenBatchNorm2d, type(None), FrozenBatchNorm2d]
    assert kinds == [*own, nn.SyncBatchNorm]
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(net(x), before)


def test_a_norm_itself_is_replaced():
    assert isinstance(synchronize_norms(build_norm("SyncBN", 4)), nn.SyncBatchNorm)
    plain = build_norm("BN", 4)
    assert synchronize_norms(plain) is plain


@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_losses_are_summed_in_float32_at_least(given, expected):
    assert at_least_float32(torch.ones(2, dtype=given)).dtype == expected


# Deformable convolution


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("deform_groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("modulated", [True, False])
def test_deformable_convolution_equals_a_loop(groups, deform_groups, stride, modulated):
    layer = randomise(DeformConv2d(4, 6, stride=stride, groups=groups))
    x = noise(2, 4, 7, 5)
    height, width = -(-7 // stride), -(-5 // stride)
    # Shifts of up to several pixels: many samples lie on and beyond the border.
    offset = 3 * noise(2, 18 * deform_groups, height, width, seed=2)
    mask = noise(2, 9 * deform_groups, height, width, seed=3).sigmoid() if modulated else None
    got = layer(x, offset, mask).detach().numpy()
    for n in range(2):
        expected = naive.deform_conv(
            x[n].numpy(),
            layer.weight.detach().numpy(),
            offset[n].numpy(),
            None if mask is None else mask[n].numpy(),
            stride,
            groups,
            deform_groups,
        )
        assert np.allclose(got[n], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shift", [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 20.0])
def test_samples_at_the_border_fade_to_zero(shift):
    """A sample between the last pixel and one beyond it is a part of the last; further out it is nothing."""
    layer = DeformConv2d(1, 1).double()
    layer.weight.data = torch.zeros_like(layer.weight.data)
    layer.weight.data[0, 0, 1, 1] = 1.0  # only the tap in the middle
    x = torch.full((1, 1, 4, 4), 8.0, dtype=torch.float64)
    offset = torch.zeros(1, 18, 4, 4, dtype=torch.float64)
    offset[:, 9] = shift  # the middle tap's x
    last_column = layer(x, offset)[0, 0, :, -1]
    assert torch.allclose(last_column, torch.full_like(last_column, 8 * max(0.0, 1 - max(0.0, shift))))


def test_a_deformable_convolution_under_autocast_computes_in_its_weights_type():
    """torchvision's operator knows nothing of autocast on the CPU, and no 16-bit type there."""
    layer = randomise(DeformConv2d(4, 6, groups=2)).float()
    x, offset, mask = noise(2, 4, 7, 9), noise(2, 18, 7, 9), noise(2, 9, 7, 9).sigmoid()
    given = [part.bfloat16().requires_grad_() for part in (x, offset, mask)]
    expected = layer(*(part.detach().float() for part in given))
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(*given)
    got.float().sum().backward()
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected.bfloat16())
    assert all(part.grad is not None and part.grad.isfinite().all() for part in given)


def test_without_shift_a_deformable_convolution_is_a_convolution_and_its_norm_comes_last():
    layer = randomise(DeformConv2d(4, 6, groups=2, norm="BN"))
    x = noise(1, 4, 5, 5)
    plain = nn.functional.conv2d(x, layer.weight, padding=1, groups=2)
    got = layer(x, torch.zeros(1, 18, 5, 5, dtype=torch.float64))
    assert torch.allclose(got, layer.norm(plain), rtol=1e-10)


# Split attention


def naive_split_attention(layer: SplitAttention, x: np.ndarray) -> np.ndarray:
    """One image, from section 3 of the paper, in the radix-major layout of its reference."""
    radix, cardinality = layer.radix, layer.groups
    p = {key: value.numpy() for key, value in layer.state_dict().items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        shape = (-1, 1, 1)
        normal = (x - p[f"{name}.running_mean"].reshape(shape)) / np.sqrt(
            p[f"{name}.running_var"].reshape(shape) + 1e-5
        )
        return normal * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(shape)

    stride = layer.conv.stride[0]  # type: ignore[index, union-attr]
    u = np.maximum(norm(naive.conv(x, p["conv.weight"], None, stride, 1, cardinality * radix), "bn0"), 0)
    channels = len(u) // radix
    splits = [u[r * channels : (r + 1) * channels] for r in range(radix)]
    pooled = sum(splits).mean(axis=(1, 2), keepdims=True)
    hidden = naive.conv(pooled, p["fc1.weight"], p["fc1.bias"], 1, 0, cardinality)
    hidden = np.maximum(norm(hidden, "bn1"), 0)
    logits = naive.conv(hidden, p["fc2.weight"], p["fc2.bias"], 1, 0, cardinality).reshape(-1)
    out = np.zeros_like(splits[0])
    per_group = channels // cardinality
    for c in range(channels):
        k, inside = divmod(c, per_group)
        # Each cardinal group's logits: one block of channels for each split.
        own = [logits[k * radix * per_group + r * per_group + inside] for r in range(radix)]
        attention = naive.softmax(np.array(own))
        out[c] = sum(attention[r] * splits[r][c] for r in range(radix))
    return out


@pytest.mark.parametrize(
    ("radix", "cardinality", "stride"), [(2, 1, 1), (2, 2, 1), (3, 2, 1), (4, 1, 1), (2, 1, 2)]
)
def test_split_attention_equals_a_loop_written_from_the_paper(radix, cardinality, stride):
    channels = 2 * radix * cardinality
    layer = SplitAttention(channels, radix, stride=stride, groups=cardinality, deformable=False, norm="BN")
    randomise(layer)
    x = noise(2, channels, 5, 7)
    got = layer(x).detach().numpy()
    for n in range(2):
        expected = naive_split_attention(layer, x[n].numpy())
        assert np.allclose(got[n], expected, rtol=1e-10, atol=1e-11)


def test_the_attention_of_the_splits_sums_to_one():
    """With equal splits the result is the split itself, whatever the attention."""
    layer = SplitAttention(4, 2, stride=1, groups=1, deformable=False, norm="BN")
    randomise(layer)
    for key, tensor in layer.state_dict().items():
        if key.startswith(("conv", "bn0")) and tensor.dim():
            tensor[4:] = tensor[:4]
    # One group for each split: with channels 4 and radix 2 the splits see different inputs; make them equal.
    x = noise(1, 2, 6, 6).repeat(1, 2, 1, 1)
    split = torch.relu(layer.bn0(layer.conv(x)))[:, :4]
    assert torch.allclose(layer(x), split, rtol=1e-12)


def test_the_bottleneck_of_the_attention_has_at_least_32_channels():
    narrow = SplitAttention(4, 2, stride=1, groups=1, deformable=False, norm="BN")
    wide = SplitAttention(128, 2, stride=1, groups=1, deformable=False, norm="BN")
    assert (narrow.fc1.out_channels, wide.fc1.out_channels) == (32, 64)


def test_deformable_split_attention_without_shifts_is_the_rigid_one():
    rigid = SplitAttention(4, 2, stride=1, groups=1, deformable=False, norm="BN")
    randomise(rigid)
    deformable = SplitAttention(4, 2, stride=1, groups=1, deformable=True, norm="BN").double().eval()
    deformable.load_state_dict(rigid.state_dict())
    x = noise(1, 4, 5, 6)
    offset, mask = torch.zeros(1, 36, 5, 6).double(), torch.ones(1, 18, 5, 6).double()
    assert torch.allclose(deformable(x, offset, mask), rigid(x), rtol=1e-10)


# Blocks and stems

RESNET = BlockStyle("BN", stride_in_1x1=True)
RESNEST = BlockStyle("BN", radix=2, avg_before_stride=True, avg_shortcut=True)
DCN_V1 = BlockStyle("BN", deform_groups=2)
DCN_V2 = BlockStyle("BN", radix=2, avg_before_stride=True, avg_shortcut=True, deform_groups=2, modulated=True)


@pytest.mark.parametrize("style", [RESNET, BlockStyle("BN"), RESNEST, DCN_V1, DCN_V2])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (1, 1), (13, 2)])
def test_a_strided_block_halves_and_rounds_up(style, height, width):
    block = randomise(Bottleneck(4, 16, 8, 2, style))
    out = block(noise(2, 4, height, width))
    assert out.shape == (2, 16, (height + 1) // 2, (width + 1) // 2)
    assert out.isfinite().all()
    assert (out >= 0).all()


@pytest.mark.parametrize("style", [RESNET, RESNEST, DCN_V1, DCN_V2])
def test_an_inner_block_adds_its_input_itself(style):
    block = randomise(Bottleneck(16, 16, 8, 1, style))
    assert block.shortcut is None
    assert block.avd_layer is None
    block.conv3.norm.weight.data.zero_()
    block.conv3.norm.bias.data.zero_()
    x = noise(1, 16, 5, 5)
    assert torch.equal(block(x), x.relu())


def test_a_resnet_block_with_the_stride_in_its_1x1_sees_every_second_pixel_only():
    block = randomise(Bottleneck(4, 16, 8, 2, RESNET))
    x = noise(1, 4, 8, 8)
    other = x.clone()
    other[:, :, 1::2] += 1
    other[:, :, :, 1::2] += 1
    assert torch.equal(block(x), block(other))
    in_3x3 = randomise(Bottleneck(4, 16, 8, 2, BlockStyle("BN")))
    assert not torch.allclose(in_3x3(x), in_3x3(other))


def test_a_resnest_block_is_what_its_parts_make():
    block = randomise(Bottleneck(4, 16, 8, 2, RESNEST))
    x = noise(1, 4, 7, 9)
    inner = block.conv2(block.conv1(x).relu())
    assert inner.shape[-2:] == (7, 9)
    pooled = nn.functional.avg_pool2d(inner, 3, 2, 1)
    # The shortcut's last windows hold fewer pixels and average only those.
    shortcut = nn.functional.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
    expected = (block.conv3(pooled) + block.shortcut(shortcut)).relu()
    assert torch.allclose(block(x), expected, rtol=1e-12)


def test_offsets_and_masks_come_from_the_blocks_own_convolution():
    block = randomise(Bottleneck(4, 16, 8, 1, DCN_V2))
    x = noise(1, 4, 6, 5)
    inner = block.conv1(x).relu()
    both = block.conv2_offset(inner)
    assert both.shape[1] == 27 * 2
    spatial = block.conv2(inner, both[:, :36], both[:, 36:].sigmoid())
    expected = (block.conv3(spatial) + block.shortcut(block.shortcut_avgpool(x))).relu()
    assert torch.allclose(block(x), expected, rtol=1e-12)


def test_a_new_deformable_block_starts_rigid():
    block = Bottleneck(4, 16, 8, 1, DCN_V2)
    assert not block.conv2_offset.weight.any()
    assert not block.conv2_offset.bias.any()


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 31), (1, 1)])
def test_both_stems_have_stride_4(height, width):
    x = noise(2, 3, height, width)
    deep, plain = randomise(DeepStem(8, "BN")), randomise(Stem(8, "BN"))
    sides = (-(-height // 4), -(-width // 4))
    assert deep(x).shape == (2, 16, *sides)
    assert plain(x).shape == (2, 8, *sides)
    assert (deep.out_channels, plain.out_channels) == (16, 8)
    assert deep.conv1_1.stride == (2, 2)
    assert deep.conv1_2.stride == deep.conv1_3.stride == (1, 1)
