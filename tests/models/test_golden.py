"""The stored outputs of the reference hold, and the checker sees what is wrong with a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import golden, golden_training
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.preprocess import Preprocessing
from resnest_zoo.models.rcnn import PanopticFPN
from resnest_zoo.structures import ImageBatch, Instances
from tests.models import tiny

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("*.npz"))
QUICK_FLOAT32 = "faster_rcnn_resnest50_dcn.npz"  # split attention, some of it deformable
LONG_FLOAT64 = "mask_cascade_resnet50.tta.npz"  # minutes; `benchmarks.verify --level golden` has it, too
FLOAT32 = (
    QUICK_FLOAT32,
    LONG_FLOAT64,
    "faster_rcnn_resnet50.npz",  # BGR and strided 1x1
    "mask_rcnn_resnest50.npz",
    "mask_cascade_resnest50.npz",
    "panoptic_resnest200_3x.combine.npz",
)


@pytest.mark.slow
@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize("name", [path.name for path in FILES if path.name != LONG_FLOAT64])
def test_the_model_gives_what_the_reference_gave(name):
    outcome = golden.check(FOLDER / name)
    assert outcome.failures == []
    assert outcome.differences


@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == QUICK_FLOAT32 else pytest.mark.slow) for n in FLOAT32]
)
def test_a_float32_run_agrees_within_the_stated_tolerance(name):
    assert golden.check(FOLDER / name, torch.float32).failures == []


THEIRS = sorted([*(FOLDER / "mmdet").glob("*.npz"), *(FOLDER / "mmdet" / "extra").glob("*.npz")])


@pytest.mark.slow
@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize("path", THEIRS, ids=lambda path: path.stem)
def test_a_file_of_mmdetections_gives_what_mmdetection_gave(path):
    """From a checkpoint in its layout, through `get`."""
    outcome = golden.check(path)
    assert outcome.failures == []
    assert {"features", "boxes", "scores", "classes"} <= outcome.differences.keys()
    assert ("mask_area" in outcome.differences) == ("mask" in path.name)


def test_a_golden_of_mmdetection_is_of_its_own_entry(tmp_path):
    assert len(THEIRS) == 8 + 4
    assert [golden.entry_name(path) for path in THEIRS if path.parent.name == "mmdet"] == [
        f"{path.stem}_mmdet" for path in THEIRS if path.parent.name == "mmdet"
    ]
    assert golden.entry_name(tmp_path / "mask_rcnn_resnest50.npz") == "mask_rcnn_resnest50"
    assert golden.entry_name(tmp_path / "mask_rcnn_resnest50_mmdet.npz") == "mask_rcnn_resnest50_mmdet"
    (tmp_path / "keys.json.gz").touch()
    assert golden.entry_name(tmp_path / "mask_rcnn_resnest50.npz") == "mask_rcnn_resnest50_mmdet"


def test_every_kind_of_model_and_result_has_a_golden():
    stems = {path.name.removesuffix(".npz") for path in FILES}
    assert len({stem.partition(".")[0] for stem in stems}) == 21
    assert {
        "panoptic_resnest200_3x.combine",
        "faster_rcnn_resnest50.tta",
        "mask_cascade_resnet50.tta",
        "faster_rcnn_resnet50.losses",
        "faster_rcnn_resnest50_dcn.losses",
        "mask_cascade_resnet50.losses",
        "mask_cascade_resnest50.losses",
        "panoptic_resnest200_3x.losses",
    } <= stems


def test_no_golden_is_large():
    """One of a training step holds a number for each parameter."""
    for path in FILES:
        assert path.stat().st_size < (300_000 if ".losses." in path.name else 50_000), path.name


def test_every_dtype_has_a_tolerance_for_every_kind():
    float64, float32 = golden.TOLERANCES["float64"], golden.TOLERANCES["float32"]
    assert float64.keys() == float32.keys()
    assert all(float64[kind] <= float32[kind] for kind in float64)


# A golden file of a tiny panoptic model, and models that are almost the same.

TINY = (*tiny.PANOPTIC, "INPUT.MIN_SIZE_TEST", "0")


def make(*overrides: str) -> PanopticFPN:
    model = tiny.tiny_model(*TINY, *overrides)
    assert isinstance(model, PanopticFPN)
    return model


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make()` gives, in the format of a golden file."""
    model = make()
    size = np.array([64, 96])
    conditions = {"size": size, "seed": np.array(0), "out_size": np.array([80, 120])}
    rgb = torch.from_numpy(golden.image(64, 96, 0)).flip(0)
    got = golden._run(model, rgb, conditions)
    found = model([rgb], output_sizes=[(80, 120)])[0]
    assert found.panoptic is not None
    segments = [
        {
            "id": s.id,
            "isthing": s.is_thing,
            "category_id": s.class_index,
            **({"instance_id": s.instance} if s.is_thing else {"area": s.area}),
        }
        for s in found.panoptic.segments
    ]
    bits = got["mask_bits"][:16]
    got |= {"mask_bits": np.packbits(bits), "mask_shape": np.array(bits.shape)}
    got |= {"segments": np.array(json.dumps(segments)), "proposals": got["proposals"][:30]}
    got |= {"objectness": got["objectness"][:30]}
    del got["segment_area"]
    path = tmp_path_factory.mktemp("golden") / "tiny.npz"
    np.savez_compressed(path, **conditions, **got)
    return path


@pytest.fixture
def check(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[GeneralizedRCNN, torch.dtype], golden.Outcome]:
    def run(model: GeneralizedRCNN, dtype: torch.dtype = torch.float64) -> golden.Outcome:
        monkeypatch.setattr(golden, "filled_model", lambda *_: model)
        return golden.check(stored, dtype)

    return run


def test_the_same_model_passes_with_every_kind_of_output(check):
    outcome = check(make())
    assert outcome.passed
    assert set(outcome.differences) == set(golden.TOLERANCES["float64"]) - {"losses", "gradients"}
    assert outcome.line().startswith("pass  tiny.npz")


def swap_channels(model: PanopticFPN) -> None:
    class Swapped(Preprocessing):
        def batch(self, images: list[Tensor], like: Tensor) -> ImageBatch:
            return super().batch([image.flip(0) for image in images], like)

    model.preprocessing = Swapped(**vars(model.preprocessing))


def other_std(model: PanopticFPN) -> None:
    model.preprocessing = replace(model.preprocessing, pixel_std=(58.393, 57.12, 57.375))


def move_stride(model: PanopticFPN) -> None:
    block: Any = model.backbone.bottom_up.get_submodule("res3")[0]  # type: ignore[index]
    block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)


def scale_one_weight(model: PanopticFPN) -> None:
    weight = model.backbone.get_submodule("fpn_output2").weight
    weight.data[0, 0, 1, 1] *= 1.001  # type: ignore[index, union-attr]


def shift_anchors(model: PanopticFPN) -> None:
    model.proposal_generator.anchor_generator.offset = 0.001


def move_rpn_suppression(model: PanopticFPN) -> None:
    model.proposal_generator.limits = replace(model.proposal_generator.limits, nms_thresh=0.5)


def swap_levels(model: PanopticFPN) -> None:
    model.roi_heads.box_pooler.min_level -= 2


def move_semantic_bias(model: PanopticFPN) -> None:
    model.sem_seg_head.predictor.bias.data[3] += 5


def move_overlap(model: PanopticFPN) -> None:
    model.merge_limits = replace(model.merge_limits, overlap_thresh=0.2)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (swap_channels, "feature_p2"),
        (other_std, "feature_p2"),
        (move_stride, "feature_p3"),
        (scale_one_weight, "feature_p2"),
        (shift_anchors, "proposals"),
        (move_rpn_suppression, "proposals"),
        (swap_levels, "scores"),
        (move_semantic_bias, "sem_seg"),
        (move_overlap, "panoptic_seg"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_fault_in_the_model_is_caught(check, fault, kind, dtype):
    model = make()
    fault(model)
    outcome = check(model, dtype)
    assert not outcome.passed
    assert any(failure.startswith(kind) for failure in outcome.failures), outcome.failures
    assert outcome.line().startswith("FAIL")


def _with_row(tensor: Tensor, row: int, value: Tensor | float) -> Tensor:
    tensor = tensor.clone()
    tensor[row] = value
    return tensor


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda r: replace(r, boxes=_with_row(r.boxes, 3, r.boxes[3] + 2e-4)), "boxes: differs by 2.0"),
        (lambda r: replace(r, scores=_with_row(r.scores, 0, r.scores[0] - 1e-6)), "scores: differs by 1.0"),
        (lambda r: replace(r, scores=_with_row(r.scores, 0, float("nan"))), "scores: differs by nan"),
        (lambda r: replace(r, classes=_with_row(r.classes, 5, 0)), "classes: differs by 1.0"),
        (lambda r: replace(r, masks=_with_row(r.masks, 0, ~r.masks[0])), "mask_bits: differs by"),
        (lambda r: replace(r, masks=r.masks.roll(1, dims=2)), "mask_bits: differs by"),
        (
            lambda r: replace(
                r, boxes=r.boxes[:-1], scores=r.scores[:-1], classes=r.classes[:-1], masks=r.masks[:-1]
            ),
            "boxes: expected shape (20, 4), got (19, 4)",
        ),
    ],
)
def test_a_fault_in_the_result_is_caught(check, edit: Callable[[Instances], Instances], complaint):
    model = make()
    original = model.infer
    model.infer = lambda *args: [edit(result) for result in original(*args)]
    assert any(failure.startswith(complaint) for failure in check(model).failures)


# A training step of a tiny panoptic cascade.

STEP = (
    *(*TINY, *tiny.CASCADE, *golden_training.OPTS),
    *("MODEL.ROI_HEADS.NUM_CLASSES", "45", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "54"),
)


@pytest.fixture(scope="module")
def stored_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one step of `make(*STEP)` gives, in the format of a golden file."""
    sizes = [(64, 96), (50, 70)]
    pictures = [torch.from_numpy(golden.image(*size, 3 + k)).flip(0) for k, size in enumerate(sizes)]
    model = make(*STEP).train()
    losses = model(pictures, [golden_training.targets(size, k) for k, size in enumerate(sizes)])
    learning = {key: p for key, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(sum(losses.values()), list(learning.values()))
    content = {f"loss/{name}": loss.detach().numpy() for name, loss in losses.items()}
    norms = (float(gradient.square().sum()) ** 0.5 for gradient in gradients)
    content |= dict(zip((f"grad/{key}" for key in learning), norms, strict=True))
    path = tmp_path_factory.mktemp("golden") / "tiny.losses.npz"
    np.savez_compressed(path, sizes=np.array(sizes), seed=np.array(3), **content)
    return path


@pytest.fixture
def check_step(
    stored_step: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[GeneralizedRCNN], golden.Outcome]:
    def run(model: GeneralizedRCNN) -> golden.Outcome:
        monkeypatch.setattr(golden, "filled_model", lambda *_: model)
        return golden.check(stored_step)

    return run


def test_the_same_step_passes(check_step):
    outcome = check_step(make(*STEP))
    assert outcome.failures == []
    assert set(outcome.differences) == {"losses", "gradients"}


def thaw_res2(model: PanopticFPN) -> None:
    for parameter in model.backbone.bottom_up.get_submodule("res2").parameters():
        parameter.requires_grad = True


def freeze_box_head(model: PanopticFPN) -> None:
    for parameter in model.roi_heads.box_head.parameters():
        parameter.requires_grad = False


class Flipping(Preprocessing):
    def batch(self, images: list[Tensor], like: Tensor) -> ImageBatch:
        return super().batch([image.flip(2) for image in images], like)


def flip_pictures(model: PanopticFPN) -> None:
    model.preprocessing = Flipping(**vars(model.preprocessing))


def other_matching(model: PanopticFPN) -> None:
    rpn = model.proposal_generator
    rpn.in_training = replace(rpn.in_training, matcher=replace(rpn.in_training.matcher, low_quality=False))


def no_own_boxes(model: PanopticFPN) -> None:
    model.roi_heads.sampling = replace(model.roi_heads.sampling, append_targets=False)


def unscaled_stages(model: PanopticFPN) -> None:
    pooler = model.roi_heads.box_pooler
    model.roi_heads.box_pooler = lambda *args: _tripled(pooler(*args))


def _tripled(pooled: Tensor) -> Tensor:
    pooled.register_hook(lambda gradient: 3 * gradient)
    return pooled


def weigh_semantics(model: PanopticFPN) -> None:
    model.semantic_loss_weight = 1.0001


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (thaw_res2, "grad/backbone.bottom_up.res2.0.conv1.weight: the reference has none"),
        (freeze_box_head, "grad/roi_heads.box_head.0.fc1.weight: stored, but"),
        (flip_pictures, "loss/loss_cls_stage0: differs"),
        (other_matching, "loss/loss_rpn_loc: differs"),
        (no_own_boxes, "loss/loss_mask: differs"),
        (unscaled_stages, "grad/backbone.fpn_output2.weight: differs"),
        (weigh_semantics, "loss/loss_sem_seg: differs by 1.0"),
    ],
)
def test_a_fault_in_the_training_step_is_caught(check_step, fault, complaint):
    model = make(*STEP)
    fault(model)
    outcome = check_step(model)
    assert any(failure.startswith(complaint) for failure in outcome.failures), outcome.failures[:5]


def test_the_targets_of_a_step_are_those_of_the_reference():
    target = golden_training.targets((128, 160), 1)
    assert target.boxes[0].tolist() == pytest.approx([16.0, 12.8, 80.0, 76.8])
    assert target.boxes[2].tolist() == pytest.approx([8.0, 70.4, 48.0, 121.6])
    assert target.classes.tolist() == [2, 18, 43]
    assert target.masks[1][0] == pytest.approx([64.0, 38.4, 152.0, 44.8, 96.0, 115.2])
    assert target.semantic.shape == (128, 160)
    assert (target.semantic[:16] == 255).all()
    assert int(target.semantic[16, 0]) == 0
    assert int(target.semantic[127, 159]) == (3 * 7 + 4 * 3) % 54
    assert int(target.semantic[40, 100]) == 7 + 3 * 3


def test_an_output_that_the_model_lacks_is_a_failure(check):
    model = tiny.tiny_model("INPUT.MIN_SIZE_TEST", "0", *tiny.MASK)
    failures = check(model).failures
    assert "sem_seg: stored, but the model has no such output" in failures


def test_a_file_with_nothing_to_check_is_a_failure():
    outcome = golden._compare(Path("x.npz"), {"size": np.array([1, 1])}, {}, "float64")
    assert outcome.failures == ["holds nothing that this level checks"]


def test_saturated_scores_have_no_order(stored):
    with np.load(stored) as file:
        conditions = {key: file[key] for key in file.files}
    conditions["scores"] = np.ones_like(conditions["scores"])
    rows = golden._comparable(conditions)
    order = np.arange(len(rows["boxes"]))[::-1]
    got = rows | {key: rows[key][order] for key in ("boxes", "scores", "classes", "mask_area")}
    got["mask_bits"] = np.concatenate((np.zeros_like(rows["mask_bits"][:4]), rows["mask_bits"][::-1]))
    assert golden._compare(stored, conditions, got, "float64").passed


def test_below_float64_near_ties_may_change_places(stored):
    with np.load(stored) as file:
        conditions = {key: file[key] for key in file.files}
    rows = golden._comparable(conditions)
    order = np.arange(len(rows["boxes"]))
    order[[2, 3]] = order[[3, 2]]
    got = dict(rows)
    for key in ("boxes", "scores", "classes", "mask_area"):
        got[key] = rows[key][order]
    got["mask_bits"] = np.concatenate((rows["mask_bits"][order[:16]], rows["mask_bits"][:4]))
    got["proposals"] = rows["proposals"][::-1]
    assert not golden._compare(stored, conditions, got, "float64").passed
    assert golden._compare(stored, conditions, got, "float32").passed
    wrong = rows["classes"].copy()
    wrong[2] += 1
    assert not golden._compare(stored, conditions | {"classes": wrong}, got, "float32").passed
