"""The detectors as users call them, on models of a few thousand parameters."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.config import load_config
from resnest_zoo.errors import ConfigError, ImageError, NonFiniteError, ShapeError, ZooError
from resnest_zoo.models import build_model, postprocess
from resnest_zoo.ops.masks import paste_masks
from resnest_zoo.ops.rle import encode_masks
from resnest_zoo.structures import ImageBatch, Instances, RawResult
from tests.models.tiny import CASCADE, FASTER, MASK, NOTHING_FOUND, PANOPTIC, RESNEST, picture, tiny_model

KINDS = {
    "faster": FASTER,
    "mask_resnest": (*MASK, *RESNEST),
    "cascade": (*CASCADE, *MASK),
    "panoptic": PANOPTIC,
}
# Both sides of every resized picture fall into one of these padded sizes.
ONE_GROUP = [(50, 70), (52, 70), (64, 90), (40, 58)]
OTHER_SIZES = [(90, 60), (20, 120), (1, 1), (64, 64), (300, 7)]


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return tiny_model(*KINDS[request.param])


def tensors(result: Instances) -> list[Tensor]:
    found = [getattr(result, f.name) for f in fields(result)]
    if result.panoptic is not None:
        found += [result.panoptic.segment_map, result.panoptic.semantic]
    return [value for value in found if isinstance(value, Tensor)]


def test_results_are_in_the_pictures_own_pixels(model):
    for height, width in [*ONE_GROUP, *OTHER_SIZES]:
        (found,) = model([picture(height, width)])
        assert found.image_size == (height, width)
        assert len(found.boxes) == len(found.scores) == len(found.classes) == len(found.names)
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert (found.scores.diff() <= 0).all()
        assert (found.scores > 0.3).all()
        if model.roi_heads.mask_head is not None:
            assert found.masks.shape == (len(found), height, width)
            assert found.masks.dtype == torch.bool
        if found.panoptic is not None:
            assert found.panoptic.segment_map.shape == found.panoptic.semantic.shape == (height, width)


def test_a_tiny_model_finds_something(model):
    """Else the other tests here would compare nothing with nothing."""
    assert all(len(found) > 3 for found in model([picture(*size) for size in ONE_GROUP]))


def test_a_picture_in_a_group_of_its_own_is_bitwise_the_same_in_company(model):
    pictures = [picture(*size) for size in ((50, 70), *OTHER_SIZES)]
    padded = {
        model.preprocessing.padded_size(tuple(model.preprocessing.resize(p).shape[1:])) for p in pictures[:3]
    }
    assert len(padded) == 3
    for image, together in zip(pictures[:3], model(pictures[:3]), strict=True):
        (alone,) = model([image])
        for a, b in zip(tensors(alone), tensors(together), strict=True):
            assert torch.equal(a, b)


def test_a_picture_among_others_of_its_padded_size_is_the_same_up_to_rounding(model):
    pictures = [picture(*size, seed=i) for i, size in enumerate(ONE_GROUP)]
    padded = {
        model.preprocessing.padded_size(tuple(model.preprocessing.resize(p).shape[1:])) for p in pictures
    }
    assert len(padded) == 1
    for image, together in zip(pictures, model(pictures), strict=True):
        (alone,) = model([image])
        for a, b in zip(tensors(alone), tensors(together), strict=True):
            assert torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-9)


def test_results_stand_in_the_order_of_the_pictures(model):
    sizes = [(50, 70), (90, 60), (52, 70), (20, 120), (91, 60)]
    found = model([picture(*size) for size in sizes])
    assert [f.image_size for f in found] == sizes


def test_no_pictures_no_results(model):
    assert model([]) == []


def test_results_can_be_asked_for_at_another_size():
    model = tiny_model(*MASK)
    image = picture(50, 70)
    (own,), (double,) = model([image]), model([image], output_sizes=[(100, 140)])
    assert double.image_size == (100, 140)
    assert double.masks.shape[1:] == (100, 140)
    assert torch.allclose(double.boxes, 2 * own.boxes)
    assert torch.equal(double.scores, own.scores)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found_has_the_right_empty_shapes(kind):
    model = tiny_model(*KINDS[kind], *NOTHING_FOUND)
    (found,) = model([picture(50, 70)])
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.classes.shape == (0,)
    assert found.classes.dtype == torch.int64
    assert found.names == []
    if "mask" in kind or kind in ("cascade", "panoptic"):
        assert found.masks.shape == (0, 50, 70)
        assert found.masks.dtype == torch.bool
    if kind == "panoptic":
        assert not any(s.is_thing for s in found.panoptic.segments)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverged_model_finds_nothing_and_does_not_crash(kind):
    model = tiny_model(*KINDS[kind])
    for name, parameter in model.named_parameters():
        if "bbox_pred" in name or "fc1" in name:
            parameter.data.fill_(float("nan"))
    (found,) = model([picture(50, 70)])
    assert len(found) == 0


DEFORMABLE = ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "(False, True, True, True)")


def test_offsets_that_are_not_finite_name_their_layer_and_never_reach_the_operator(monkeypatch):
    model = tiny_model(*RESNEST, *DEFORMABLE)
    model.backbone.bottom_up.res4[0].conv2_offset.bias.data[3] = float("nan")
    sampled = []

    def stand_in(x, offset, weight, *_, **__):
        sampled.append(offset)
        return x.new_zeros(len(x), len(weight), *offset.shape[2:])

    monkeypatch.setattr("resnest_zoo.ops.operators.deform_conv2d", stand_in)
    with pytest.raises(NonFiniteError, match=r"^backbone\.bottom_up\.res4\.0\.conv2.*: its offsets or masks"):
        model([picture(50, 70)])
    assert sampled
    assert all(offset.isfinite().all() for offset in sampled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_detect_on_the_cpu(dtype):
    (found,) = tiny_model(*RESNEST, *DEFORMABLE, *MASK).to(dtype)([picture(50, 70)])
    assert len(found) > 0
    assert found.boxes.isfinite().all()


def test_training_mode_is_refused():
    model = tiny_model().train()
    with pytest.raises(ZooError, match=r"training mode.*model\.eval\(\)"):
        model([picture(50, 70)])


@pytest.mark.parametrize(
    ("images", "error", "complaint"),
    [
        (picture(50, 70), ShapeError, r"one tensor \(3, H, W\); pass \[image\]"),
        ([picture(50, 70), torch.rand(3, 8, 8)], ImageError, "image 1: expected uint8"),
        ([picture(50, 70)[:1]], ImageError, r"image 0: expected \(3, H, W\)"),
        ([picture(50, 70)[None]], ImageError, r"image 0: .* got shape \(1, 3, 50, 70\)"),
        (torch.rand(2, 3, 8, 8), ImageError, "image 0: expected uint8"),
        ("photo.jpg", ImageError, "image 0: .* got str; for files"),
        ([torch.zeros(3, 0, 0, dtype=torch.uint8)], ImageError, "image 0: has no pixels"),
    ],
)
def test_what_is_no_list_of_pictures_is_refused_by_message(images, error, complaint):
    with pytest.raises(error, match=complaint):
        tiny_model()(images)


def test_a_uint8_tensor_of_equal_pictures_is_a_list_of_them():
    model, image = tiny_model(), picture(50, 70)
    first, second = model(torch.stack((image, image)))
    assert torch.equal(first.boxes, second.boxes)


@pytest.mark.parametrize("sizes", [[], [(5, 5), (6, 6)]])
def test_sizes_and_pictures_must_be_as_many(sizes):
    with pytest.raises(ShapeError, match=f"1 images but {len(sizes)} output sizes"):
        tiny_model()([picture(50, 70)], output_sizes=sizes)


def test_no_gradient_is_recorded():
    (found,) = tiny_model()([picture(50, 70)])
    assert not found.boxes.requires_grad


def test_results_are_ordinary_tensors(model):
    (found,) = model([picture(50, 70)])
    found.boxes.mul_(2)
    (found.scores * torch.ones(len(found), requires_grad=True)).sum().backward()


def test_a_threshold_leaves_out_the_weaker_and_nothing_else_changes(model, monkeypatch):
    (everything,) = model([picture(50, 70)])
    threshold = float(everything.scores[2])
    assert len(everything.above(threshold)) < len(everything)
    pasted = []
    monkeypatch.setattr(
        postprocess,
        "paste_masks",
        lambda probs, *args: pasted.append(len(probs)) or paste_masks(probs, *args),
    )
    (strong,) = model([picture(50, 70)], score_threshold=threshold)
    for a, b in zip(tensors(strong), tensors(everything.above(threshold)), strict=True):
        assert torch.equal(a, b)
    if everything.panoptic is None:
        assert pasted in ([], [len(strong)])
    else:  # weaker instances are in its map, too
        assert strong.panoptic.segments == everything.above(threshold).panoptic.segments
        assert any(s.is_thing and s.instance is None for s in strong.panoptic.segments)


def test_results_are_on_the_models_device_and_say_so():
    model = tiny_model()
    assert model.device == torch.device("cpu")
    (found,) = model([picture(50, 70)])
    assert found.to("meta").boxes.device.type == "meta"


def test_above_keeps_the_strong_instances():
    (found,) = tiny_model(*MASK)([picture(50, 70)])
    threshold = float(found.scores[4])
    strong = found.above(threshold)
    assert len(strong) == 5
    assert torch.equal(strong.boxes, found.boxes[:5])
    assert torch.equal(strong.masks, found.masks[:5])


# The halves of `infer`

HALVES_SIZES = [(50, 70), (64, 90)]


def prepared(model) -> ImageBatch:
    resized = [model.preprocessing.resize(picture(*size, seed=k)) for k, size in enumerate(HALVES_SIZES)]
    return model.preprocessing.batch(resized, next(model.parameters()))


@pytest.fixture
def raws(model) -> list[RawResult]:
    with torch.no_grad():
        return model.run(prepared(model), HALVES_SIZES)


def assert_same(found: Instances, expected: Instances) -> None:
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)
    assert found.rles == expected.rles
    if expected.panoptic is not None:
        assert found.panoptic.segments == expected.panoptic.segments


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_halves_together_are_the_whole(model, raws, share):
    with torch.no_grad():
        everything = model.infer(prepared(model), HALVES_SIZES)
        threshold = share * float(everything[0].scores[1])
        whole = model.infer(prepared(model), HALVES_SIZES, threshold)
    for raw, found, size in zip(raws, whole, HALVES_SIZES, strict=True):
        assert raw.size == size
        assert_same(model.finish(raw, threshold), found)
    for found, all_found in zip(whole, everything, strict=True):
        assert_same(found, all_found.above(threshold))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_encoded_masks_are_those_of_the_pasted_ones(model, raws, share):
    for raw in raws:
        threshold = share * float(raw.detections.scores[1])
        pasted, encoded = model.finish(raw, threshold), model.finish(raw, threshold, encoded=True)
        assert encoded.masks is None
        assert (encoded.rles is None) == (pasted.masks is None)
        if pasted.masks is not None:
            assert list(encoded.rles) == encode_masks(pasted.masks)
        for name in ("boxes", "scores", "classes"):
            assert torch.equal(getattr(encoded, name), getattr(pasted, name))
        if pasted.panoptic is not None:
            assert torch.equal(encoded.panoptic.segment_map, pasted.panoptic.segment_map)
            assert encoded.panoptic.segments == pasted.panoptic.segments


def test_the_panoptic_map_is_the_same_whatever_is_asked_for():
    """Weak instances fill it, too, where only strong ones are wanted."""
    model = tiny_model(*PANOPTIC)
    with torch.no_grad():
        (raw, _) = model.run(prepared(model), HALVES_SIZES)
    scores = raw.detections.scores
    sure = float(scores[len(scores) // 2])
    model.merge_limits = replace(model.merge_limits, instance_score=sure)
    expected = model.finish(raw).panoptic.segment_map
    for encoded in (False, True):
        for threshold in (0.0, float(scores[-2]), sure, float(scores[1]), 1.1):
            found = model.finish(raw, threshold, encoded=encoded)
            assert torch.equal(found.panoptic.segment_map, expected)
            assert torch.equal(found.scores, scores[scores >= threshold])
            for segment in found.panoptic.segments:
                if segment.instance is not None:
                    assert float(found.scores[segment.instance]) == segment.score
                    assert int(found.classes[segment.instance]) == segment.class_index


def test_encoding_never_pastes_what_the_map_does_not_need(model, raws, monkeypatch):
    pasted = []
    monkeypatch.setattr(
        postprocess,
        "paste_masks",
        lambda probs, *args: pasted.append(len(probs)) or paste_masks(probs, *args),
    )
    found = model.finish(raws[0], encoded=True)
    sure = int((found.scores >= model.merge_limits.instance_score).sum()) if found.panoptic else 0
    assert pasted == ([sure] if found.panoptic else [])


def test_a_raw_result_moves_whole(raws):
    moved = raws[0].to("meta")
    assert moved.size == raws[0].size
    assert moved.detections.image_size == raws[0].detections.image_size
    for before, after in ((raws[0].detections, moved.detections), (raws[0], moved)):
        for field in fields(before):
            value = getattr(before, field.name)
            if isinstance(value, Tensor):
                assert getattr(after, field.name).device.type == "meta"
                assert value.device.type == "cpu"
            else:
                assert (getattr(after, field.name) is None) == (value is None)
    assert raws[0].to("cpu").detections.boxes is raws[0].detections.boxes


@pytest.mark.parametrize("kind", KINDS)
def test_halves_of_nothing_found_are_empty(kind):
    model = tiny_model(*KINDS[kind], *NOTHING_FOUND)
    with torch.no_grad():
        raw, _ = model.run(prepared(model), HALVES_SIZES)
    found = model.finish(raw, encoded=True)
    assert len(found) == 0
    assert found.rles == (() if model.roi_heads.mask_head is not None else None)


@pytest.mark.parametrize(
    "overrides",
    [*KINDS.values(), (*MASK, "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"), CASCADE],
)
def test_class_layers_are_those_that_other_classes_reshape(overrides):
    five, six = (
        tiny_model(*overrides, "MODEL.ROI_HEADS.NUM_CLASSES", n, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", n)
        for n in "56"
    )
    shapes = six.state_dict()
    reshaped = {
        key.rpartition(".")[0] for key, value in five.state_dict().items() if value.shape != shapes[key].shape
    }
    assert set(five.class_layers) == reshaped
    assert reshaped


# Building


@pytest.mark.parametrize(
    ("overrides", "things", "stuff"),
    [
        ((), COCO.things, ()),
        (("MODEL.ROI_HEADS.NUM_CLASSES", "3"), ("class_0", "class_1", "class_2"), ()),
        (("MODEL.META_ARCHITECTURE", "PanopticFPN", *MASK), COCO.things, COCO_PANOPTIC.stuff),
        (
            ("MODEL.META_ARCHITECTURE", "PanopticFPN", *MASK, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"),
            COCO.things,
            ("things", "stuff_1", "stuff_2"),
        ),
    ],
)
def test_classes_are_cocos_where_the_numbers_are(overrides, things, stuff):
    with torch.device("meta"):
        model = build_model(load_config("Base-RCNN-FPN.yaml", overrides))
    assert model.categories.things == things
    assert model.categories.stuff == stuff


def test_own_categories_name_the_classes():
    config = load_config("Base-RCNN-FPN.yaml", ["MODEL.ROI_HEADS.NUM_CLASSES", "2"])
    with torch.device("meta"):
        assert build_model(config, Categories.named(["cat", "dog"])).categories.things == ("cat", "dog")
        with pytest.raises(ConfigError, match=r"3 category names for MODEL\.ROI_HEADS\.NUM_CLASSES 2"):
            build_model(config, Categories.named(["a", "b", "c"]))


def test_the_same_seed_gives_the_same_fresh_weights():
    def fresh() -> dict[str, Tensor]:
        torch.manual_seed(3)
        config = load_config(
            "Base-RCNN-FPN.yaml", ["MODEL.RESNETS.DEPTH", "14", "MODEL.FPN.OUT_CHANNELS", "8"]
        )
        return build_model(config).state_dict()

    first, second = fresh(), fresh()
    assert all(torch.equal(first[key], second[key]) for key in first)
