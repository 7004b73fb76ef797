"""One training step of whole models of a few thousand parameters."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import resnest_zoo
from resnest_zoo.data import shapes
from resnest_zoo.errors import ImageError, ShapeError, ZooError
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.layers import FrozenBatchNorm2d
from resnest_zoo.models.semantic import SemSegFPNHead
from resnest_zoo.models.targets import read_targets
from resnest_zoo.ops.boxes import pairwise_iou
from resnest_zoo.structures import Targets
from tests.models.tiny import CASCADE, FASTER, MASK, MMDETECTION, PANOPTIC, RESNEST, picture, tiny_model

KINDS = {
    "faster": FASTER,
    "mask_resnest": (*MASK, *RESNEST, "MODEL.RESNETS.NORM", "SyncBN", "MODEL.FPN.NORM", "SyncBN"),
    "cascade": (*CASCADE, *MASK),
    "panoptic": (*PANOPTIC, *CASCADE),
    "mmdetection": (*CASCADE, *MASK, *MMDETECTION),
}
RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}
STAGES = {f"loss_{part}_stage{k}" for part in ("cls", "box_reg") for k in range(3)}
NAMES = {
    "faster": RPN_LOSSES | {"loss_cls", "loss_box_reg"},
    "mask_resnest": RPN_LOSSES | {"loss_cls", "loss_box_reg", "loss_mask"},
    "cascade": RPN_LOSSES | STAGES | {"loss_mask"},
    "panoptic": RPN_LOSSES | STAGES | {"loss_mask", "loss_sem_seg"},
    "mmdetection": RPN_LOSSES | STAGES | {f"loss_mask_stage{k}" for k in range(3)},
}
# So that nothing is left to chance.
ALL = ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "20000", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "2000")
SIZES = ((64, 96), (50, 70))
PICTURES = [picture(*size, seed=k) for k, size in enumerate(SIZES)]


def targets(size: tuple[int, int], count: int = 2, bitmask: bool = False) -> Targets:
    """Right-angled triangles, and a map of two semantic classes under an ignored strip."""
    height, width = size
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.4, 0.5, 0.95, 0.9]])[:count]
    boxes = boxes * torch.tensor([width, height, width, height])
    polygons = [[[x0, y0, x1, y0, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    bitmasks = [
        (x > x0) & (y > y0) & ((x - x0) / (x1 - x0) + (y - y0) / (y1 - y0) < 1)
        for x0, y0, x1, y1 in boxes.tolist()
    ]
    semantic = (x > width / 2).long() + 2
    semantic[:5] = 255
    masks = torch.stack(bitmasks) if bitmask else polygons
    return Targets(boxes, torch.tensor([1, 3])[:count], masks, semantic)


TARGETS = [targets(size) for size in SIZES]


def training_model(kind: str, *overrides: str) -> GeneralizedRCNN:
    return tiny_model(*KINDS[kind], *overrides).train()


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in losses.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_torchvisions_dicts_give_the_same_losses(kind):
    model = training_model(kind)
    ids = torch.tensor(model.categories.thing_ids)
    ours = [targets(size, bitmask=True) for size in SIZES]
    theirs = [
        {"boxes": t.boxes, "labels": ids[t.classes], "masks": t.masks.byte(), "semantic": t.semantic}
        for t in ours
    ]
    expected, found = (
        values(model(PICTURES, some, generator=torch.Generator().manual_seed(0))) for some in (ours, theirs)
    )
    assert found == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_what_torchvision_reads_of_a_coco_file_is_learned_from(tmp_path):
    from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
    from torchvision.transforms import v2

    shapes.write(tmp_path, count=3, seed=3, split="train", crowd_fraction=1.0)
    transforms = v2.Compose([v2.ToImage(), v2.Resize((128, 160))])
    (file,) = tmp_path.rglob("instances_train.json")
    data = CocoDetection(tmp_path / "train", file, transforms=transforms)
    data = wrap_dataset_for_transforms_v2(data, target_keys="all")
    images, targets = zip(*(data[index] for index in range(3)), strict=True)
    model = resnest_zoo.get("mask_rcnn_resnest14_dcn_shapes").train()
    assert sorted({int(label) for target in targets for label in target["labels"]}) > [0]
    crowds = [sum(target["iscrowd"]) for target in targets]
    read = read_targets(targets, model.categories)
    assert [len(r) for r in read] == [len(t["labels"]) - c for t, c in zip(targets, crowds, strict=True)]
    assert sum(crowds) > 0
    losses = model(images, targets)
    assert all(0 < value < 2 for value in values(losses).values())  # that of a model that knows these shapes


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_gives_every_loss_and_reaches_every_parameter_that_learns(kind):
    model = training_model(kind)
    losses = model(PICTURES, TARGETS, generator=torch.Generator().manual_seed(0))
    assert losses.keys() == NAMES[kind]
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    # The boxes of an untrained cascade leave their targets.
    assert all(value > 0 for name, value in values(losses).items() if name[-7:] not in ("_stage1", "_stage2"))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("backbone.bottom_up.stem", "backbone.bottom_up.res2"))
        assert (parameter.grad is None) == frozen, name
        assert frozen or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_pictures_without_instances_give_finite_losses_and_gradients(kind, counts):
    model = training_model(kind)
    given = [targets(size, count) for size, count in zip(SIZES, counts, strict=True)]
    losses = model(PICTURES, given)
    assert losses.keys() == NAMES[kind]
    if not any(counts):
        assert all(v == 0 for k, v in values(losses).items() if "box_reg" in k or "loc" in k or "mask" in k)
    sum(losses.values()).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("kind", KINDS)
def test_no_proposal_that_is_good_enough_gives_finite_losses(kind):
    overrides = ["MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False", "MODEL.ROI_HEADS.IOU_THRESHOLDS", "(1.0,)"]
    if "CascadeROIHeads" in KINDS[kind]:
        overrides += ["MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "(1.0, 1.0, 1.0)"]
    losses = training_model(kind, *overrides)(PICTURES, TARGETS)
    assert all(v == 0 for k, v in values(losses).items() if "box_reg" in k or "mask" in k)
    sum(losses.values()).backward()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["detection", "mask", "cascade", "panoptic"])
def test_the_models_of_the_tiny_zoo_train_in_float32(kind):
    """Deformable blocks, norms that see the batch, and all 80 classes."""
    model = resnest_zoo.get(f"tiny_{kind}", pretrained=False).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.002)
    history = []
    for _ in range(4):
        losses = model(PICTURES, TARGETS, generator=torch.Generator().manual_seed(0))
        assert all(loss.isfinite() for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append(sum(values(losses).values()))
    assert history[-1] < history[0]


@pytest.mark.slow
def test_two_pictures_can_be_learnt():
    """The objects are found with their classes, boxes and masks, and so are the semantic classes."""
    torch.manual_seed(0)
    model = tiny_model(*KINDS["panoptic"], "MODEL.RPN.POST_NMS_TOPK_TRAIN", "60").float().train()
    outputs = ("cls_score", "bbox_pred", "objectness_logits", "anchor_deltas", "predictor")
    for name, parameter in model.named_parameters():
        if name.endswith(tuple(f"{output}.weight" for output in outputs)):
            parameter.data.normal_(std=0.01)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.003)
    for step in range(200):
        losses = model(PICTURES, TARGETS, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    model.eval()
    for image, size in zip(PICTURES, SIZES, strict=True):
        model.preprocessing = replace(model.preprocessing, min_size=0)
        (found,) = model([image])
        real = targets(size, bitmask=True)
        for box, k, mask in zip(real.boxes, real.classes, real.masks, strict=True):
            same = (found.classes == k).nonzero().flatten()
            best = same[pairwise_iou(box[None], found.boxes[same])[0].argmax()]
            assert pairwise_iou(box[None], found.boxes[best][None]) > 0.75
            assert (mask & found.masks[best]).sum() / (mask | found.masks[best]).sum() > 0.7
            assert found.scores[best] > 0.7
        counts = real.semantic != 255
        assert (found.panoptic.semantic == real.semantic)[counts].float().mean() > 0.97


def test_bitmasks_do_as_well_as_polygons():
    model = training_model("cascade", *ALL)
    polygons = values(model(PICTURES, TARGETS))
    bitmasks = values(model(PICTURES, [targets(size, bitmask=True) for size in SIZES]))
    assert bitmasks["loss_mask"] == pytest.approx(polygons["loss_mask"], rel=0.05)
    assert {name for name in polygons if polygons[name] != bitmasks[name]} == {"loss_mask"}


def test_the_generator_decides_every_random_choice():
    model = training_model("faster", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "6")

    def losses(seed: int) -> dict[str, float]:
        return values(model(PICTURES, TARGETS, generator=torch.Generator().manual_seed(seed)))

    assert losses(1) == losses(1)
    differ = {name for name, value in losses(1).items() if value != losses(2)[name]}
    assert differ >= {"loss_rpn_cls", "loss_cls"}


def test_a_step_sees_pictures_as_they_are_normalised_and_padded_together():
    model = training_model("faster", *ALL)
    seen: list[Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(PICTURES, TARGETS)
    batch = model.preprocessing.batch(PICTURES, next(model.parameters()))
    assert torch.equal(seen[0], batch.tensor)
    assert seen[0].shape == (2, 3, 64, 96)
    direct = values(model.losses(batch, TARGETS))
    assert direct == values(model(PICTURES, TARGETS))


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("MODEL.RPN.LOSS_WEIGHT", {"loss_rpn_cls", "loss_rpn_loc"}),
        ("MODEL.RPN.BBOX_REG_LOSS_WEIGHT", {"loss_rpn_loc"}),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", {f"loss_box_reg_stage{k}" for k in range(3)}),
        ("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", STAGES | {"loss_mask"}),
        ("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", {"loss_sem_seg"}),
    ],
)
def test_weights_of_the_config_scale_their_losses(key, names):
    plain = values(training_model("panoptic", *ALL)(PICTURES, TARGETS))
    weighted = values(training_model("panoptic", *ALL, key, "3.0")(PICTURES, TARGETS))
    expected = {name: value * (3 if name in names else 1) for name, value in plain.items()}
    assert weighted == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (("MODEL.RPN.SMOOTH_L1_BETA", "2.0"), {"loss_rpn_loc"}),
        (("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "2.0"), {"loss_box_reg"}),
        (("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False"), {"loss_cls", "loss_box_reg", "loss_mask"}),
        (("MODEL.ROI_HEADS.IOU_THRESHOLDS", "(0.2,)"), {"loss_cls", "loss_box_reg", "loss_mask"}),
        (("MODEL.RPN.IOU_THRESHOLDS", "(0.1, 0.2)"), {"loss_rpn_cls", "loss_rpn_loc"}),
        (("MODEL.RPN.POST_NMS_TOPK_TRAIN", "5"), {"loss_cls", "loss_box_reg", "loss_mask"}),
        (("MODEL.RPN.POST_NMS_TOPK_TEST", "5"), set()),
        (("MODEL.RPN.PRE_NMS_TOPK_TEST", "5"), set()),
        (("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "5"), {"loss_cls", "loss_box_reg", "loss_mask"}),
        (("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(5.0, 5.0, 2.5, 2.5)"), {"loss_box_reg"}),
        (("MODEL.RPN.BBOX_REG_WEIGHTS", "(2.0, 2.0, 2.0, 2.0)"), {"loss_rpn_loc", "*"}),
    ],
)
def test_settings_of_the_config_reach_the_losses(changes, names):
    plain = values(training_model("mask_resnest", *ALL)(PICTURES, TARGETS))
    changed = values(training_model("mask_resnest", *ALL, *changes)(PICTURES, TARGETS))
    differ = {name for name in plain if changed[name] != plain[name]}
    assert differ >= names - {"*"}
    assert "*" in names or differ == names


def test_mixed_precision_gives_nearly_the_same_losses_in_float32():
    model = tiny_model(*KINDS["panoptic"], *ALL).float().train()
    exact = values(model(PICTURES, TARGETS))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(PICTURES, TARGETS)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert values(losses) == pytest.approx(exact, rel=0.1, abs=0.01)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_class_agnostic_model_trains():
    agnostic = (
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
        "True",
        "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK",
        "True",
    )
    model = training_model("mask_resnest", *agnostic)
    losses = model(PICTURES, TARGETS)
    assert losses.keys() == NAMES["mask_resnest"]
    sum(losses.values()).backward()
    assert model.roi_heads.mask_head.predictor.weight.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_leaves_what_is_frozen_and_evaluation_as_they_were(kind):
    model = training_model(kind)
    fixed = copy.deepcopy(model.state_dict())
    (before,) = model.eval()([PICTURES[0]])
    sum(model.train()(PICTURES, TARGETS).values()).backward()
    moving = ("running_mean", "running_var", "num_batches_tracked")
    for key, value in model.state_dict().items():
        norm = model.get_submodule(key.rpartition(".")[0])
        learns = key.endswith(moving) and not isinstance(norm, FrozenBatchNorm2d)
        assert torch.equal(value, fixed[key]) != learns, key
    model.load_state_dict(fixed)
    (after,) = model.eval()([PICTURES[0]])
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.scores, after.scores)


# Semantic classes


def semantic_head() -> tuple[SemSegFPNHead, dict[str, Tensor]]:
    torch.manual_seed(0)
    head = SemSegFPNHead(("p2", "p3"), (4, 8), 6, 8, 4, 7, "").double()
    features = {"p2": torch.randn(2, 6, 8, 12).double(), "p3": torch.randn(2, 6, 4, 6).double()}
    return head, {name: level.requires_grad_() for name, level in features.items()}


def test_the_semantic_loss_is_the_mean_over_the_pixels_that_count():
    head, features = semantic_head()
    classes = torch.randint(0, 7, (2, 32, 48), generator=torch.Generator().manual_seed(1))
    classes[0, :10] = 255  # so that a mean of the pictures' means would differ
    loss = head.loss(features, classes, 255)
    log_p = head(features).log_softmax(dim=1).detach()
    picked = [
        float(log_p[n, classes[n, y, x], y, x])
        for n in range(2)
        for y in range(32)
        for x in range(48)
        if classes[n, y, x] != 255
    ]
    assert len(picked) == 2 * 32 * 48 - 480
    assert float(loss.detach()) == pytest.approx(-sum(picked) / len(picked), rel=1e-12)
    loss.backward()
    got = {name: p.grad.clone() for name, p in head.named_parameters()} | {
        name: level.grad.clone() for name, level in features.items()
    }
    head.zero_grad()
    for level in features.values():
        level.grad = None
    F.cross_entropy(head(features), classes, ignore_index=255).backward()
    for name, p in [*head.named_parameters(), *features.items()]:
        assert torch.allclose(got[name], p.grad, rtol=1e-9, atol=1e-15)


def test_nothing_but_ignored_pixels_is_a_loss_of_zero_with_a_gradient():
    head, features = semantic_head()
    loss = head.loss(features, torch.full((2, 32, 48), 255), 255)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


# What is refused


def test_targets_are_for_training_mode():
    with pytest.raises(ZooError, match=r"targets are for training.*call model\.train\(\)"):
        tiny_model()(PICTURES, TARGETS)


@pytest.mark.parametrize(
    ("pictures", "given", "error", "complaint"),
    [
        ([], [], ShapeError, "at least one image"),
        (PICTURES, TARGETS[:1], ShapeError, "2 images but 1 targets"),
        ([PICTURES[0].float()], TARGETS[:1], ImageError, "image 0: expected uint8"),
        (PICTURES[0], TARGETS[:1], ShapeError, r"pass \[image\]"),
        (PICTURES, [TARGETS[0], replace(TARGETS[1], masks=None)], ZooError, "image 1: .*learns masks"),
        (PICTURES, [replace(TARGETS[0], semantic=None), TARGETS[1]], ZooError, "image 0: .*semantic"),
        (PICTURES, [replace(TARGETS[0], classes=torch.tensor([0, 5])), TARGETS[1]], ZooError, "0 … 4, got 5"),
    ],
)
def test_a_wrong_step_is_refused_by_message(pictures, given, error, complaint):
    with pytest.raises(error, match=complaint):
        training_model("panoptic")(pictures, given)


def test_one_picture_is_too_few_for_the_batch_norms_of_split_attention():
    model = resnest_zoo.get("mask_rcnn_resnest14_dcn_shapes", device="cpu").train()
    with pytest.raises(ShapeError, match=r"two images or more, got 1: .*RESNETS\.NORM FrozenBN"):
        model(PICTURES[:1], TARGETS[:1])
    overrides = {"MODEL.RESNETS.NORM": "FrozenBN"}
    fixed = resnest_zoo.get("mask_rcnn_resnest14_dcn_shapes", device="cpu", overrides=overrides).train()
    dict_of_it = {"boxes": TARGETS[0].boxes, "labels": torch.tensor(fixed.categories.thing_ids[:2])}
    masks = torch.zeros(2, *SIZES[0], dtype=torch.bool)
    masks[:, 4:20, 4:20] = True
    assert all(loss.isfinite() for loss in fixed(PICTURES[:1], [dict_of_it | {"masks": masks}]).values())


def test_a_diverged_model_stops_with_a_reason():
    model = training_model("faster")
    model.proposal_generator.rpn_head.anchor_deltas.bias.data.fill_(float("nan"))
    with pytest.raises(ZooError, match="training has diverged"):
        model(PICTURES, TARGETS)
