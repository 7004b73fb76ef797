"""The optimised copy finds what the original finds, whatever has happened to either."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import resnest_zoo
from benchmarks.golden import fill
from resnest_zoo.errors import ConfigError, ZooError
from resnest_zoo.inference import TTA
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.core import DetectorCore
from resnest_zoo.models.layers import Conv2d
from resnest_zoo.ops import choice
from resnest_zoo.optimization import layers, optimize
from resnest_zoo.structures import Instances
from tests.models import tiny

DCN = (
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "(False, True, True, True)"),
    *("MODEL.RESNETS.DEFORM_MODULATED", "True"),
)
KINDS = {
    "faster": (),
    "mask": tiny.MASK,
    "resnest": (*tiny.RESNEST, *tiny.MASK),
    "deep stem": (*tiny.RESNEST, "MODEL.RESNETS.DEEP_STEM", "True", "MODEL.RESNETS.AVD", "True"),
    "average shortcut": (*tiny.RESNEST, "MODEL.RESNETS.AVG_DOWN", "True"),
    "dcn": DCN,
    "dcn 1": (*DCN[:2], "MODEL.RESNETS.DEFORM_MODULATED", "False"),
    "resnest dcn": (*tiny.RESNEST, *DCN, "MODEL.RESNETS.DEFORM_NUM_GROUPS", "2"),
    "cascade": (*tiny.CASCADE, *tiny.MASK),
    "mmdetection": (*tiny.CASCADE, *tiny.MASK, *tiny.MMDETECTION),
    "panoptic": tiny.PANOPTIC,
    "group norm": (
        *(*tiny.PANOPTIC, "MODEL.SEM_SEG_HEAD.NORM", "GN", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "32"),
        *("MODEL.ROI_BOX_HEAD.NUM_CONV", "2", "MODEL.ROI_BOX_HEAD.CONV_DIM", "32"),
        *("MODEL.ROI_BOX_HEAD.NORM", "GN", "MODEL.ROI_MASK_HEAD.NORM", "GN"),
        *("MODEL.ROI_MASK_HEAD.CONV_DIM", "32"),
    ),
    "norms in heads": (
        *(*tiny.MASK, "MODEL.FPN.NORM", "BN", "MODEL.ROI_BOX_HEAD.NORM", "BN"),
        *("MODEL.ROI_BOX_HEAD.NUM_CONV", "2", "MODEL.ROI_BOX_HEAD.CONV_DIM", "8"),
    ),
    "class-agnostic masks": (*tiny.MASK, "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"),
    "frozen": (*tiny.MASK, "MODEL.BACKBONE.FREEZE_AT", "5"),
    "wide": (*tiny.MASK, "MODEL.FPN.OUT_CHANNELS", "128", "MODEL.ROI_MASK_HEAD.CONV_DIM", "128"),
}
PICTURES = [tiny.picture(64, 90), tiny.picture(50, 64, seed=1)]


def model(kind: str = "resnest") -> GeneralizedRCNN:
    """In float32, and with statistics that folding could get wrong."""
    made = tiny.tiny_model(*KINDS[kind]).float()
    generator = torch.Generator().manual_seed(7)
    for module in made.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean += 0.1 * torch.randn(module.running_mean.shape, generator=generator)
            module.running_var *= 1 + 0.5 * torch.rand(module.running_var.shape, generator=generator)
    return made


def assert_same(found: list[Instances], expected: list[Instances]) -> None:
    """One to one within the error that `optimize` states."""
    assert sum(len(e) for e in expected) > 3
    for f, e in zip(found, expected, strict=True):
        assert len(f) == len(e)
        for k in range(len(e)):  # near-ties may change places
            distance = (f.boxes - e.boxes[k]).abs().amax(dim=1) + 1e9 * (f.classes != e.classes[k])
            at = int(distance.argmin())
            assert distance[at] < 1e-3
            assert abs(float(f.scores[at] - e.scores[k])) < 1e-4
            if e.masks is not None:
                assert f.masks is not None
                assert int((f.masks[at] != e.masks[k]).sum()) <= 2
        if e.panoptic is not None:
            assert f.panoptic is not None
            assert int((f.panoptic.semantic != e.panoptic.semantic).sum()) <= 4
            assert [s.class_index for s in f.panoptic.segments] == [
                s.class_index for s in e.panoptic.segments
            ]


def is_fast(optimised: GeneralizedRCNN) -> bool:
    """Whether it has made what the fast way computes with."""
    made = [m._made is not None for m in optimised.modules() if isinstance(m, layers.OptimizedConv2d)]
    return any(made)


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_finds_the_same(kind: str):
    exact = model(kind)
    fast = optimize(exact)
    assert_same(fast(PICTURES), exact(PICTURES))
    assert is_fast(fast)
    assert type(fast) is type(exact)
    assert fast.categories is exact.categories or fast.categories == exact.categories
    assert fast.config == exact.config
    assert fast.device == exact.device


@pytest.mark.parametrize("setting", ["exact", "plain", "conv2d=exact,conv3x3=exact", "roi_align=exact"])
@pytest.mark.parametrize("kind", ["resnest dcn", "wide"])
def test_with_every_implementation_it_finds_the_same(monkeypatch, kind: str, setting: str):
    exact = model(kind)
    fast = optimize(exact)
    assert_same(fast(PICTURES), exact(PICTURES))
    monkeypatch.setenv(choice.VARIABLE, setting)
    assert_same(fast(PICTURES), exact(PICTURES))


def test_its_state_dict_is_the_checkpoints():
    exact = model("dcn")
    fast = optimize(exact)
    fast(PICTURES)
    before, after = exact.state_dict(), fast.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def other(kind: str = "resnest") -> GeneralizedRCNN:
    made = model(kind)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    return made


CHANGES: dict[str, Callable[[GeneralizedRCNN, GeneralizedRCNN], object]] = {
    "load_state_dict": lambda fast, new: fast.load_state_dict(new.state_dict()),
    "assign": lambda fast, new: fast.load_state_dict(copy.deepcopy(new.state_dict()), assign=True),
    "in place": lambda fast, new: [
        own.copy_(value) for own, value in zip(fast.parameters(), new.parameters(), strict=True)
    ],
    "data": lambda fast, new: (
        [own.data.copy_(value) for own, value in zip(fast.parameters(), new.parameters(), strict=True)],
        fast.eval(),
    ),
    "part": lambda fast, new: [
        fast.get_submodule(name).load_state_dict(new.get_submodule(name).state_dict())
        for name, _ in fast.named_children()
    ],
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_changed_parameters_are_seen(change: str):
    fast, new = optimize(model()), other()
    fast(PICTURES)
    CHANGES[change](fast, new)
    assert_same(fast(PICTURES), new(PICTURES))


def test_the_original_is_left_alone():
    exact = model()
    expected = exact(PICTURES)
    fast = optimize(exact)
    fast.load_state_dict(other().state_dict())
    fast(PICTURES)
    for found, before in zip(exact(PICTURES), expected, strict=True):
        assert torch.equal(found.boxes, before.boxes)
        assert torch.equal(found.scores, before.scores)


def test_shared_tensors_are_the_originals_own_and_follow_it():
    exact, new = model(), other()
    fast = optimize(exact, share=True)
    fast(PICTURES)
    for own, theirs in zip(fast.state_dict().values(), exact.state_dict().values(), strict=True):
        assert own.data_ptr() == theirs.data_ptr()
    exact.load_state_dict(new.state_dict())
    assert_same(fast(PICTURES), new(PICTURES))
    exact.double()
    assert next(fast.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), copy.copy, optimize]
)
def test_copies_of_the_copy_work(through: Callable[[GeneralizedRCNN], GeneralizedRCNN]):
    exact = model()
    fast = optimize(exact)
    before = len(pickle.dumps(fast))
    fast(PICTURES)
    assert len(pickle.dumps(fast)) == before  # what is made is not stored
    again = through(fast)
    assert_same(again(PICTURES), exact(PICTURES))
    assert is_fast(again)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.double(), "not for torch.float64 on cpu"),
        (lambda m: m.bfloat16(), "not for torch.bfloat16 on cpu"),
    ],
)
def test_what_it_is_not_for_is_computed_as_by_the_original_and_said_once(monkeypatch, caplog, change, reason):
    monkeypatch.setattr(choice, "_told", set())
    exact = model()
    fast = optimize(exact)
    fast(PICTURES)
    change(fast), change(exact)
    with caplog.at_level(logging.INFO):
        found = fast(PICTURES)
        first = len(caplog.records)
        fast(PICTURES)
    for f, e in zip(found, exact(PICTURES), strict=True):
        assert torch.equal(f.boxes, e.boxes)
    assert reason in caplog.text
    assert len(caplog.records) == first


def test_after_float64_and_back_nothing_stale_is_used():
    exact = model()
    fast = optimize(exact)
    fast(PICTURES)
    fast.half().float(), exact.half().float()
    assert_same(fast(PICTURES), exact(PICTURES))


def test_gradients_are_those_of_the_original():
    exact = model("faster")
    fast = optimize(exact)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for m in (exact, fast):
        sum(feature.sum() for feature in m.backbone(x).values()).backward()
    assert all(
        torch.allclose(
            a.grad, b.grad, rtol=1e-4, atol=1e-4 * float(a.grad.abs().max())
        )  # frozen parts are fast
        for a, b in zip(exact.backbone.parameters(), fast.backbone.parameters(), strict=True)
        if b.grad is not None
    )
    assert any(b.grad is not None for b in fast.parameters())


def test_a_training_step_is_the_originals():
    exact = model("mask")
    fast = optimize(exact)
    fast(PICTURES)
    boxes = torch.tensor([[5.0, 5.0, 40.0, 50.0]])
    targets = [
        resnest_zoo.structures.Targets(
            boxes, torch.tensor([1]), masks=torch.ones(1, *p.shape[1:], dtype=torch.bool)
        )
        for p in PICTURES
    ]
    losses = []
    for m in (exact, fast):
        m.train()
        losses.append(m(PICTURES, targets, generator=torch.Generator().manual_seed(0)))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][key], losses[1][key]) for key in losses[0])
    with pytest.raises(ZooError, match="training mode"):
        fast(PICTURES)


def test_hooks_see_what_they_wait_for():
    exact = model()
    fast = optimize(exact)
    seen: list[Tensor] = []
    fast.backbone.bottom_up.res3[0].conv1.register_forward_hook(lambda *call: seen.append(call[2]))
    assert_same(fast(PICTURES), exact(PICTURES))
    assert seen


def test_a_part_that_is_exchanged_is_used():
    exact = model()
    fast = optimize(exact)

    class Zero(Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0

    for m in (exact, fast):
        old = m.backbone.bottom_up.res3[0].conv3
        new = Zero(old.in_channels, old.out_channels, 1, norm="BN").eval()
        m.backbone.bottom_up.res3[0].conv3 = new
        fill(new)
    assert_same(fast(PICTURES), exact(PICTURES))


@torch.no_grad()
def test_no_returned_feature_is_written_to():
    """Though blocks add into what the one before them handed on."""
    fast = optimize(model("mask"))
    bottom_up = fast.backbone.bottom_up
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    stem = bottom_up.stem(x)
    kept, blocks = stem.clone(), []
    for _ in range(2):
        blocks.append(bottom_up.res2(stem))
    assert torch.equal(stem, kept)
    assert torch.equal(*blocks)
    features = bottom_up(x)
    expected = {name: feature.clone() for name, feature in features.items()}
    bottom_up(x + 1)
    assert all(torch.equal(features[name], expected[name]) for name in expected)
    assert len({feature.data_ptr() for feature in features.values()}) == len(features)


def test_the_tensor_core_and_augmentation_take_it():
    exact = model("mask")
    fast = optimize(exact)
    like = next(exact.parameters())
    batch = exact.preprocessing.batch([exact.preprocessing.resize(PICTURES[0])], like)
    sizes = torch.tensor(batch.image_sizes)
    with torch.no_grad():
        a, b = DetectorCore(exact)(batch.tensor, sizes), DetectorCore(fast)(batch.tensor, sizes)
    assert a.keys() == b.keys()
    assert torch.equal(a["counts"], b["counts"])
    assert torch.allclose(a["boxes"], b["boxes"], atol=1e-3)
    assert torch.allclose(a["masks"], b["masks"], atol=1e-4)
    views = {"min_sizes": (48, 64), "max_size": 96, "flip": True}
    assert_same(TTA(fast, **views)(PICTURES), TTA(exact, **views)(PICTURES))


def test_no_pictures_no_boxes_and_few_boxes():
    fast = optimize(tiny.tiny_model(*tiny.MASK, *tiny.NOTHING_FOUND).float())
    assert fast([]) == []
    assert [len(found) for found in fast(PICTURES)] == [0, 0]
    one = optimize(tiny.tiny_model(*tiny.MASK, "TEST.DETECTIONS_PER_IMAGE", "1").float())
    assert [len(found) for found in one(PICTURES)] == [1, 1]


def test_what_cannot_be_optimised_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"expected a detector, such as resnest_zoo.get gives, got Linear"):
        optimize(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"call model.eval\(\) first"):
        optimize(model().train())
    with pytest.raises(ConfigError, match='"meta" has no values'):
        optimize(model().to("meta"))
    monkeypatch.setenv(choice.VARIABLE, "quick")
    with pytest.raises(ConfigError, match=r"RESNEST_ZOO_KERNELS: expected one of .*got 'quick'"):
        optimize(model())


def test_implementations_asked_for_that_cannot_run_are_an_error(monkeypatch):
    fast = optimize(model()).double()
    monkeypatch.setenv(choice.VARIABLE, "plain")
    with pytest.raises(ZooError, match=r"RESNEST_ZOO_KERNELS=plain cannot be used: .* torch.float64"):
        fast(PICTURES)
