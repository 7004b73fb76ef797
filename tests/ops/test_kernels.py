"""What the kernels do beyond the naive loops' cases: the same bytes, several threads, forks, levels."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import ConfigError
from resnest_zoo.ops import choice, resize, rle
from tests.ops.test_implementations import channels_last, random
from tests.ops.test_rle import random_boxes, random_probs

if reason := choice.unavailable("kernels"):
    pytest.skip(reason, allow_module_level=True)

from resnest_zoo.ops import _exact, _kernels
from resnest_zoo.ops._kernels import convolution, threads


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("last", [False, True])
def test_resizing_gives_the_bytes_of_pillow(last: bool):
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        old_h, old_w, height, width = torch.randint(1, 90, (4,), generator=generator).tolist()
        shape = (old_h, old_w, 3) if last else (3, old_h, old_w)
        image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        image = image.permute(2, 0, 1) if last else image
        got = _kernels.resize_image(image, (height, width))
        assert torch.equal(got, _exact.resize_image(image, (height, width))), (old_h, old_w, height, width)
        assert got.is_contiguous()


@pytest.mark.parametrize(("old", "new"), [((40, 30), (36, 28)), ((41, 30), (36, 28)), ((40, 30), (39, 40))])
def test_the_order_of_the_passes_is_pillows_where_it_turns(old, new):
    image = torch.randint(0, 256, (3, *old), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(_kernels.resize_image(image, new), _exact.resize_image(image, new))


def test_another_pillow_is_noticed(monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    from resnest_zoo.ops._kernels import pictures

    whole = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, _: whole(self, size, Image.Resampling.BICUBIC)
    )
    pictures._unlike_pillow.cache_clear()
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    try:
        assert "otherwise" in (_kernels.refuse_resize_image(image, (4, 4)) or "")
        assert choice.choose("resize_image", image, (4, 4)) is _exact
    finally:
        pictures._unlike_pillow.cache_clear()


@pytest.mark.parametrize("size", [(1, 1), (47, 36), (480, 640)])
@pytest.mark.parametrize("side", [1, 14, 28])
def test_run_lengths_are_those_of_numpy(side, size):
    probs, boxes = random_probs(60, side, 1, torch.float32), random_boxes(60, size, 2, torch.float32)
    args = (probs, boxes, size)
    assert _kernels.refuse_encode_pasted_masks(*args) is None
    assert _kernels.encode_pasted_masks(*args) == rle.encode_with_numpy(*args)


def test_run_lengths_in_float64_go_to_numpy():
    probs, boxes = random_probs(3, 28, 1, torch.float64), random_boxes(3, (40, 50), 2, torch.float64)
    assert choice.choose("encode_pasted_masks", probs, boxes, (40, 50)) is _exact
    assert rle.encode_pasted_masks(probs, boxes, (40, 50)) == rle.encode_with_numpy(probs, boxes, (40, 50))


def results() -> list[Tensor]:
    """Of operations that are large enough to be shared out."""
    x = channels_last(random(2, 32, 60, 50))
    weight, bias = random(48, 32, 3, 3, seed=1), random(48, seed=2)
    offset, mask = random(2, 18, 60, 50, seed=3), random(2, 9, 60, 50, seed=4)
    corners = random(100, 4, seed=5).abs() * 40
    rois = torch.cat((torch.zeros(100, 1), corners[:, :2], corners[:, :2] + corners[:, 2:]), dim=1)
    image = torch.arange(3 * 300 * 200).view(3, 300, 200).to(torch.uint8)
    packed = _kernels.pack_conv3x3(weight, 1)
    return [
        _kernels.conv3x3(x, packed, bias, True),
        _kernels.conv3x3(channels_last(random(400, 32, 7, 7)), packed, bias, True),
        _kernels.deform_conv2d(x, offset, mask, weight, bias, False, 1, 1),
        _kernels.roi_align(x, rois, 7, 0.5, 0),
        _kernels.split_attention_gap(x, 2),
        _kernels.split_attention_mix(x, random(2, 2, 16, seed=6)),
        _kernels.resize_image(image, (400, 333)),
    ]


def test_threads_change_no_bit(two_threads: None):
    several = results()
    assert threads._POOL.size == 1  # the caller is the other
    torch.set_num_threads(1)
    for one, two in zip(results(), several, strict=True):
        assert torch.equal(one, two)


def test_own_threads_change_no_bit(two_threads: None, monkeypatch: pytest.MonkeyPatch):
    borrowed = results()
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    for one, two in zip(results(), borrowed, strict=True):
        assert torch.equal(one, two)


@pytest.mark.skipif(
    "-fopenmp" not in torch.__config__.show() and "OpenMP" not in torch.__config__.show(),
    reason="this PyTorch has no OpenMP",
)
@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has GNU's OpenMP on Linux alone")
def test_ranges_run_in_the_threads_of_pytorch(two_threads: None, monkeypatch: pytest.MonkeyPatch):
    seen: set[int] = set()
    both = threading.Barrier(2)

    def compute(first: int, last: int) -> None:
        if threading.get_native_id() not in seen:
            seen.add(threading.get_native_id())
            both.wait(20)

    monkeypatch.setattr(threads, "_POOL", SimpleNamespace(in_child=False))  # no other is asked
    threads.share(8, 1, compute)
    assert len(seen) == 2
    assert threading.get_native_id() in seen


def test_memory_that_is_lent_is_used_again_by_one_at_a_time():
    room = threads.Workspace()
    with torch.inference_mode(), room.lend(10) as first, room.lend(10) as second:
        places = {first.data_ptr(), second.data_ptr()}
        assert len(places) == 2
    with room.lend(7) as again:
        assert again.data_ptr() in places
        again += 1  # though it was made where no tensor can be changed later
    with room.lend(threads.LARGEST + 1), room.lend(20):
        pass
    assert [len(piece) for piece in room.kept] == [10, 20]


def test_a_wide_convolution_works_in_memory_that_is_kept(monkeypatch: pytest.MonkeyPatch):
    from resnest_zoo.ops._kernels import convolution

    lent: list[int] = []
    lend = threads.WORKSPACE.lend
    monkeypatch.setattr(threads.WORKSPACE, "lend", lambda numbers: lent.append(numbers) or lend(numbers))
    x, weight = torch.randn(1, 512, 50, 68), torch.randn(1024, 256, 3, 3)
    convolution.conv3x3(x, convolution.pack_conv3x3(weight, 2), None, False)
    assert 0 < max(lent) <= threads.LARGEST


def test_many_callers_share_the_threads(two_threads: None):
    expected, found = results(), []
    callers = [threading.Thread(target=lambda: found.append(results())) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 3
    for one in found:
        assert all(torch.equal(a, b) for a, b in zip(one, expected, strict=True))


@pytest.mark.parametrize("own", [False, True])
def test_what_a_range_raises_is_raised(two_threads: None, monkeypatch: pytest.MonkeyPatch, own: bool):
    if own:
        monkeypatch.setattr(threads, "_openmp", lambda: None)

    def compute(first: int, last: int) -> None:
        raise ValueError(f"range from {first}")

    with pytest.raises(ValueError, match="range from"):
        threads.share(100, 1, compute)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_leaves_no_thread_and_both_sides_go_on(two_threads: None):
    expected = [int(x.double().sum()) for x in results()[3:]]
    names = {thread.name for thread in threading.enumerate()}
    assert any(name.startswith("resnest-zoo-kernels") for name in names)
    image = torch.arange(3 * 300 * 200).view(3, 300, 200).to(torch.uint8)
    child = os.fork()
    if child == 0:  # where PyTorch's own threads are lost, so that nothing may be large enough to need them
        code = 1
        try:
            signal.alarm(20)
            code = 0 if threads._POOL.executor is None else 2
            if not _kernels.resize_image(image, (400, 333)).numel():
                code = 3
            if threads._POOL.size != 1:
                code = 4
        finally:
            os._exit(code)
    assert threads._POOL.executor is None
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert [int(x.double().sum()) for x in results()[3:]] == expected


def test_filters_take_no_more_memory_than_weights_and_are_copied_and_pickled():
    weight, x = random(32, 16, 3, 3, seed=1), channels_last(random(400, 16, 7, 7))
    packed = _kernels.pack_conv3x3(weight, 1)
    assert packed.taps.numel() == weight.numel()
    before = _kernels.conv3x3(x, packed, None, False)
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(_kernels.conv3x3(x, other, None, False), before)
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
    assert float((before - expected).abs().max()) < 5e-6 * float(expected.abs().max())


@pytest.mark.parametrize("maps", [0, 1, 13])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_stack_is_one_layer_after_the_other(monkeypatch: pytest.MonkeyPatch, count: int, maps: int):
    monkeypatch.setattr(convolution, "_NUMBERS_OF_A_STATE", 5 * 7 * 7 * 40)  # five maps at a time
    x = expected = channels_last(random(maps, 24, 7, 7))
    layers = []
    for index in range(count):
        weight = random(40, expected.shape[1], 3, 3, seed=index) * 0.1
        layers.append((_kernels.pack_conv3x3(weight, 1), random(40, seed=9)))
        expected = _kernels.conv3x3(expected, *layers[-1], True)
    before = x.clone()
    got = _kernels.conv3x3_stack(x, layers)
    assert torch.equal(got, expected)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(_kernels.conv3x3_stack(x, layers), got)
    assert torch.equal(x, before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients(two_threads: None, mode):
    with mode():
        inside = results()
    for one, two in zip(inside, results(), strict=True):
        assert torch.equal(one, two)


def test_what_needs_gradients_or_another_dtype_is_refused():
    x, offset = channels_last(random(1, 8, 5, 5)), random(1, 18, 5, 5)
    weight = random(8, 8, 3, 3).requires_grad_()
    args = (offset, None, weight, None, False, 1, 1)
    assert _kernels.refuse_deform_conv2d(x, *args) == "it computes no gradients"
    with torch.no_grad():
        assert _kernels.refuse_deform_conv2d(x, *args) is None
        assert "float64" in (_kernels.refuse_deform_conv2d(x.double(), *args) or "")


def test_the_choice_can_be_forced(monkeypatch: pytest.MonkeyPatch):
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    assert choice.choose("resize_image", image, (4, 4)) is _kernels
    monkeypatch.setenv(choice.VARIABLE, "resize_image=exact")
    assert choice.choose("resize_image", image, (4, 4)) is _exact
    monkeypatch.setenv(choice.VARIABLE, "resize_image=plain")
    with pytest.raises(ConfigError, match=r"resize_image=kernels\|exact"):
        resize.resize_image(image, (4, 4))
