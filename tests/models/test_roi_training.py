"""Losses of the second stage: boxes, cascade, masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from resnest_zoo.errors import ZooError
from resnest_zoo.models.cascade import CascadeROIHeads
from resnest_zoo.models.mask_targets import crop_masks
from resnest_zoo.models.matching import ProposalSampling, Samples
from resnest_zoo.models.roi_heads import BoxPredictor, DetectionLimits, ROIHeads, ROIPooler
from resnest_zoo.structures import Proposals, Targets
from tests.models import naive
from tests.models.test_cascade import WEIGHTS as STAGE_WEIGHTS
from tests.models.test_cascade import cascade, masked_cascade
from tests.models.test_mask_head import mask_head
from tests.models.test_roi_heads import (
    NAMES,
    SAMPLING,
    SIZE,
    STRIDES,
    heads,
    proposals,
    pyramid,
    random_boxes,
)

K = 4
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def targets(counts: list[int]) -> list[Targets]:
    """Boxes with rectangles of half their height for masks."""
    found = []
    for image, count in enumerate(counts):
        boxes = random_boxes(count, 20 + image)
        polygons = [
            [[x0, y0, x1, y0, x1, (y0 + y1) / 2, x0, (y0 + y1) / 2]] for x0, y0, x1, y1 in boxes.tolist()
        ]
        found.append(Targets(boxes, (torch.arange(count) + image) % K, polygons))
    return found


def near(real: list[Targets], extra: int) -> list[Proposals]:
    """Proposals around each target and some anywhere."""
    found = []
    for image, target in enumerate(real):
        jitter = 1.5 * torch.randn(len(target), 4, generator=torch.Generator().manual_seed(image)).double()
        boxes = clip_boxes_to_image(target.boxes + jitter, SIZE)
        boxes = torch.cat((boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)], random_boxes(extra, 50 + image)))
        found.append(Proposals(boxes, torch.zeros(len(boxes)), SIZE))
    return found


def learning_pyramid(images: int) -> dict[str, Tensor]:
    return {name: level.requires_grad_() for name, level in pyramid(images).items()}


def naive_box_losses(
    logits: Tensor, deltas: Tensor, rows: list[tuple[np.ndarray, np.ndarray | None, int]], beta: float
) -> tuple[float, float]:
    """Mean over all rows of -log p(class), and of the regression loss of those with a target box."""
    cls = box = 0.0
    for row, (start, wanted, k) in enumerate(rows):
        cls -= np.log(naive.softmax(logits[row].detach().numpy())[k])
        if wanted is not None:
            own = deltas[row].detach().numpy()
            own = own if len(own) == 4 else own[4 * k : 4 * k + 4]
            box += naive.smooth_l1(own, naive.encode(wanted, start, WEIGHTS), beta)
    return cls / len(rows), box / len(rows)


# Boxes of one stage


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("counts", [[5, 3], [4, 0], [0, 0]])
def test_box_losses_equal_a_loop(class_agnostic, beta, counts):
    real = targets(counts)
    samples = [SAMPLING(p, t) for p, t in zip(near(real, 12), real, strict=True)]
    rows = []
    for s, target in zip(samples, real, strict=True):
        of_row = dict(zip(s.foreground.tolist(), s.matched.tolist(), strict=True))
        for row, start in enumerate(s.boxes.numpy()):
            t = of_row.get(row)
            wanted = None if t is None else target.boxes[t].numpy()
            rows.append((start, wanted, K if t is None else int(target.classes[t])))
    predictor = BoxPredictor(3, K, class_agnostic, WEIGHTS, beta, 2.5)
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(len(rows), K + 1, generator=generator, dtype=torch.float64, requires_grad=True)
    columns = 4 if class_agnostic else 4 * K
    deltas = torch.randn(len(rows), columns, generator=generator, dtype=torch.float64, requires_grad=True)
    got = predictor.losses(logits, deltas, samples)
    expected = naive_box_losses(logits, deltas, rows, beta)
    assert list(got) == ["loss_cls", "loss_box_reg"]
    assert float(got["loss_cls"].detach()) == pytest.approx(expected[0], rel=1e-12)
    assert float(got["loss_box_reg"].detach()) == pytest.approx(2.5 * expected[1], rel=1e-12)
    sum(got.values()).backward()
    assert logits.grad.abs().sum(1).all()
    learning = [row for row, (_, wanted, _) in enumerate(rows) if wanted is not None]
    assert deltas.grad.abs().sum(1).nonzero().flatten().tolist() == learning
    assert bool(learning) == any(counts)


def test_no_samples_at_all_lose_nothing_but_keep_the_gradient():
    empty = Samples(
        torch.zeros(0, 4),
        *(torch.zeros(0, dtype=torch.int64),) * 2,
        torch.zeros(0, 4),
        torch.zeros(0).long(),
        SIZE,
    )
    x = torch.zeros(0, 3)
    predictor = BoxPredictor(3, K, False, WEIGHTS)
    losses = predictor.losses(*predictor(x), [empty, empty])
    assert [float(loss.detach()) for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in predictor.parameters())


def test_half_precision_is_summed_in_float32():
    real = targets([3])
    samples = [SAMPLING(Proposals(random_boxes(5).float(), torch.zeros(5), SIZE), real[0])]
    rows = len(samples[0].boxes)
    predictor = BoxPredictor(3, K, True, WEIGHTS)
    got = predictor.losses(torch.zeros(rows, K + 1).half(), torch.zeros(rows, 4).half(), samples)
    assert {loss.dtype for loss in got.values()} == {torch.float32}
    assert float(got["loss_cls"]) == pytest.approx(np.log(K + 1))


def test_the_losses_of_a_step_are_those_of_its_samples():
    real, features, roi_heads = targets([5, 3]), learning_pyramid(2), heads()
    given = near(real, 12)
    got = roi_heads.losses(features, given, real)
    samples = [SAMPLING(p, t) for p, t in zip(given, real, strict=True)]
    pooled = roi_heads.box_pooler(features, [s.boxes for s in samples])
    predictor = roi_heads.box_predictor
    expected = predictor.losses(*predictor(roi_heads.box_head(pooled)), samples)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)
    sum(got.values()).backward()
    assert any(level.grad is not None and level.grad.any() for level in features.values())


# Cascade


def learning_cascade() -> CascadeROIHeads:
    heads = cascade()
    for predictor in heads.box_predictor:
        predictor.bbox_pred.weight.data.mul_(1 / 300)  # type: ignore[operator, union-attr]
    return heads


def cascade_by_hand(
    roi_heads: CascadeROIHeads, features: dict[str, Tensor], start: list[Samples], real: list[Targets]
) -> tuple[dict[str, float], list[int]]:
    """Losses of each stage from loops, and how many foreground rows each has."""
    current = [
        [
            (box, int(s.matched[s.foreground.tolist().index(row)]) if row in s.foreground.tolist() else None)
            for row, box in enumerate(s.boxes.numpy())
        ]
        for s in start
    ]
    losses, foreground = {}, []
    for stage, weights in enumerate(STAGE_WEIGHTS):
        boxes = [torch.from_numpy(np.array([b for b, _ in rows]).reshape(-1, 4)) for rows in current]
        pooled = roi_heads.box_pooler(features, boxes)
        logits, deltas = roi_heads.box_predictor[stage](roi_heads.box_head[stage](pooled))
        logits, deltas = logits.detach().numpy(), deltas.detach().numpy()
        cls = box = 0.0
        at, moved = 0, []
        for rows, target in zip(current, real, strict=True):
            kept = []
            for start_box, t in rows:
                k = K if t is None else int(target.classes[t])
                cls -= np.log(naive.softmax(logits[at])[k])
                if t is not None:
                    wanted = naive.encode(target.boxes[t].numpy(), start_box, weights)
                    box += naive.smooth_l1(deltas[at], wanted, 0.0)
                new = naive.clip(naive.decode(deltas[at], start_box, weights), SIZE)
                if new[2] > new[0] and new[3] > new[1]:
                    kept.append(new)
                at += 1
            iou = STAGE_IOUS[min(stage + 1, 2)]
            indices, labels = naive.match(target.boxes.numpy(), np.array(kept), (iou,), (0, 1), False)
            moved.append(
                [(b, i if label else None) for b, i, label in zip(kept, indices, labels, strict=True)]
            )
        foreground.append(sum(t is not None for rows in current for _, t in rows))
        losses[f"loss_cls_stage{stage}"], losses[f"loss_box_reg_stage{stage}"] = cls / at, box / at
        current = moved
    return losses, foreground


STAGE_IOUS = (0.5, 0.6, 0.7)


@pytest.mark.parametrize("counts", [[6, 4], [5, 0]])
def test_every_stage_of_a_cascade_learns_from_the_boxes_of_the_last_matched_anew(counts):
    real, roi_heads, features = targets(counts), learning_cascade(), pyramid(2)
    given = near(real, 10)
    got = roi_heads.losses(features, given, real)
    samples = [roi_heads.sampling(p, t) for p, t in zip(given, real, strict=True)]
    expected, foreground = cascade_by_hand(roi_heads, features, samples, real)
    assert {name: float(loss.detach()) for name, loss in got.items()} == pytest.approx(expected, rel=1e-9)
    assert foreground[0] > foreground[2], "no stage would show its own threshold"
    assert foreground[2] > 0 or counts[1] == 0


def test_features_learn_from_the_mean_of_the_stages_and_heads_from_their_own_loss(monkeypatch):
    real = targets([6, 4])

    def gradients(scaled: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        roi_heads, features = learning_cascade(), learning_pyramid(2)
        if not scaled:
            monkeypatch.setattr(Tensor, "register_hook", lambda *_: None)
        sum(roi_heads.losses(features, near(real, 10), real).values()).backward()
        monkeypatch.undo()
        own = {name: p.grad for name, p in roi_heads.named_parameters()}
        return own, {name: level.grad for name, level in features.items() if level.grad is not None}

    own, features = gradients(True)
    plain_own, plain_features = gradients(False)
    assert all(torch.equal(own[name], plain_own[name]) for name in own)
    assert any(grad.any() for grad in features.values())
    for name, grad in features.items():
        plain = plain_features[name]  # sums in another order: near zero, rounding is relative to the terms
        assert torch.allclose(3 * grad, plain, rtol=1e-12, atol=1e-12 * float(plain.abs().max()))


def test_no_gradient_flows_through_the_boxes_between_stages():
    """The first stage's box regression learns from its own loss alone."""
    real, roi_heads = targets([6]), learning_cascade()
    losses = roi_heads.losses(pyramid(1), near(real, 10), real)
    later = sum(loss for name, loss in losses.items() if not name.endswith("_stage0"))
    (later * 1.0).backward()
    first = [*roi_heads.box_head[0].parameters(), *roi_heads.box_predictor[0].parameters()]
    assert all(p.grad is None for p in first)
    assert all(p.grad is not None for p in roi_heads.box_head[1].parameters())


def test_a_cascade_works_over_features_that_do_not_learn():
    real, roi_heads = targets([3]), learning_cascade()
    for parameter in roi_heads.parameters():
        parameter.requires_grad = False
    losses = roi_heads.losses(pyramid(1), near(real, 4), real)
    assert not any(loss.requires_grad for loss in losses.values())


def test_boxes_that_a_stage_makes_empty_are_left_out():
    real, roi_heads = targets([3]), learning_cascade()
    roi_heads.box_predictor[0].bbox_pred.bias.data[0] = 1e4  # all boxes leave the picture
    losses = roi_heads.losses(learning_pyramid(1), near(real, 4), real)
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    assert values["loss_cls_stage0"] > 0
    assert all(value == 0.0 for name, value in values.items() if not name.endswith("_stage0"))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in roi_heads.parameters())


def test_a_stage_that_diverged_stops_the_step():
    real, roi_heads = targets([3]), learning_cascade()
    roi_heads.box_predictor[1].bbox_pred.bias.data[2] = float("nan")
    with pytest.raises(ZooError, match="the boxes of cascade stage 1 hold NaN"):
        roi_heads.losses(pyramid(1), near(real, 4), real)


# Masks


def masked_heads(class_agnostic: bool = False, sampling: ProposalSampling = SAMPLING) -> ROIHeads:
    plain = heads()
    branch = (ROIPooler(NAMES, STRIDES, 7, 0), mask_head(class_agnostic))
    limits = DetectionLimits(0.2, 0.5, 10)
    return ROIHeads(plain.box_pooler, plain.box_head, plain.box_predictor, limits, sampling, branch)


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_mask_loss_equals_a_loop(class_agnostic):
    head = mask_head(class_agnostic)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, 3, 2, 2, generator=generator, dtype=torch.float64)
    masks = torch.rand(4, 4, 4, generator=generator) > 0.5
    classes = torch.tensor([5, 0, 3, 3])
    logits = head.logits(x).detach()
    expected = np.mean(
        [
            naive.binary_cross_entropy(
                float(logits[r, 0 if class_agnostic else classes[r], i, j]), bool(masks[r, i, j])
            )
            for r in range(4)
            for i in range(4)
            for j in range(4)
        ]
    )
    assert float(head.loss(x, classes, masks).detach()) == pytest.approx(expected, rel=1e-12)


def test_only_the_masks_of_own_classes_learn():
    head = mask_head()
    head.loss(torch.randn(2, 3, 2, 2).double(), torch.tensor([5, 3]), torch.ones(2, 4, 4).bool()).backward()
    assert head.predictor.bias.grad.nonzero().flatten().tolist() == [3, 5]


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_mask_head_learns_from_the_proposals_of_the_foreground(class_agnostic):
    real, roi_heads, features = targets([4, 3]), masked_heads(class_agnostic), pyramid(2)
    given = near(real, 8)
    got = roi_heads.losses(features, given, real)["loss_mask"]
    samples = [SAMPLING(p, t) for p, t in zip(given, real, strict=True)]
    total, pixels = 0.0, 0
    for image, (s, target) in enumerate(zip(samples, real, strict=True)):
        alone = {name: level[image : image + 1] for name, level in features.items()}
        for row, t in zip(s.foreground.tolist(), s.matched.tolist(), strict=True):
            box = s.boxes[row : row + 1]
            logits = roi_heads.mask_head.logits(roi_heads.mask_pooler(alone, [box]))[0].detach()
            wanted = crop_masks(target.masks, torch.tensor([t]), box, 14)[0]
            own = logits[0 if class_agnostic else int(target.classes[t])]
            for logit, pixel in zip(own.flatten().tolist(), wanted.flatten().tolist(), strict=True):
                total += naive.binary_cross_entropy(logit, pixel)
                pixels += 1
    assert pixels >= 7 * 14 * 14
    assert float(got.detach()) == pytest.approx(total / pixels, rel=1e-9)


def test_each_mask_head_of_a_cascade_learns_from_the_foreground_of_its_own_stage():
    real, features = targets([6, 4]), pyramid(2)
    roi_heads = masked_cascade()
    for predictor in roi_heads.box_predictor:
        predictor.bbox_pred.weight.data.mul_(1 / 300)
    given = near(real, 10)
    got = roi_heads.losses(features, given, real)
    assert [name for name in got if "mask" in name] == [f"loss_mask_stage{k}" for k in range(3)]
    samples = [roi_heads.sampling(p, t) for p, t in zip(given, real, strict=True)]
    boxes_only, of_stages = roi_heads._stage_losses(features, samples, real)
    assert all(torch.equal(got[name], loss) for name, loss in boxes_only.items())
    counts = []
    for stage, (head, samples) in enumerate(zip(roi_heads.mask_head, of_stages, strict=True)):
        wanted = [
            crop_masks(t.masks, s.matched, s.boxes[s.foreground], 14)
            for s, t in zip(samples, real, strict=True)
        ]
        pooled = roi_heads.mask_pooler(features, [s.boxes[s.foreground] for s in samples])
        classes = torch.cat([s.target_classes for s in samples])
        expected = head.loss(pooled, classes, torch.cat(wanted))
        assert float(got[f"loss_mask_stage{stage}"].detach()) == pytest.approx(float(expected.detach()))
        counts.append(len(classes))
    assert counts[0] > counts[2] > 0, "no stage would show its own foreground"


@pytest.mark.parametrize("counts", [[0], [0, 0]])
def test_without_foreground_the_mask_loss_is_zero_and_has_a_gradient(counts):
    real, roi_heads = targets(counts), masked_heads()
    losses = roi_heads.losses(pyramid(len(counts)), proposals([6] * len(counts)), real)
    assert float(losses["loss_mask"].detach()) == 0.0
    assert float(losses["loss_box_reg"].detach()) == 0.0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in roi_heads.parameters())
    assert all(not p.grad.any() for p in roi_heads.mask_head.parameters())


def test_bitmasks_and_polygons_teach_nearly_the_same():
    real = targets([4])
    bitmasks = torch.zeros(4, *SIZE, dtype=torch.bool)
    for mask, box in zip(bitmasks, real[0].boxes.tolist(), strict=True):
        x0, y0, x1, middle = (round(v) for v in (*box[:3], (box[1] + box[3]) / 2))
        mask[y0:middle, x0:x1] = True
    given, features = near(real, 8), pyramid(1)
    by_kind = [
        float(masked_heads().losses(features, given, [target])["loss_mask"].detach())
        for target in (real[0], replace(real[0], masks=bitmasks))
    ]
    assert by_kind[0] == pytest.approx(by_kind[1], rel=0.1)
    assert by_kind[0] != by_kind[1]
