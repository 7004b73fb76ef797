"""`Predictor`: any picture in, results in that picture's pixels and in COCO's formats out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import resnest_zoo
from resnest_zoo.categories import COCO, COCO_PANOPTIC
from resnest_zoo.errors import ConfigError, ImageError, ZooError
from resnest_zoo.inference import Prediction
from resnest_zoo.inference import predictor as predictor_module
from resnest_zoo.models import GeneralizedRCNN, postprocess
from resnest_zoo.optimization.layers import Optimized
from resnest_zoo.structures import Instances, PanopticResult, Segment


@pytest.fixture
def photo() -> np.ndarray[Any, Any]:
    """A real photo, wider than high."""
    return skimage.data.coffee()[:300, :500]


def instances(masks: torch.Tensor | None = None, **more: Any) -> Instances:
    """A cup and a dining table in a picture 4 pixels high and 6 wide."""
    return Instances(
        boxes=torch.tensor([[0.0, 1.0, 2.5, 4.0], [1.0, 0.0, 6.0, 2.0]]),
        scores=torch.tensor([0.75, 0.5]),
        classes=torch.tensor([COCO.things.index("cup"), COCO.things.index("dining table")]),
        image_size=(4, 6),
        categories=COCO,
        masks=masks,
        **more,
    )


def prediction(found: Instances) -> Prediction:
    return Prediction(torch.zeros((3, *found.image_size), dtype=torch.uint8), found)


# --- running -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mirror")
def test_results_are_in_the_pixels_of_the_picture(photo: np.ndarray[Any, Any]) -> None:
    predict = resnest_zoo.Predictor("tiny_mask", device="cpu")
    found = predict(photo).instances
    assert found.image_size == (300, 500)
    assert found.masks is not None
    assert found.masks.shape == (len(found), 300, 500)
    assert found.boxes[:, 2].max() > 400  # the model saw 64 x 96 pixels
    assert bool((found.boxes[:, 2] <= 500).all())
    assert bool((found.boxes[:, 3] <= 300).all())


@pytest.mark.usefixtures("mirror")
def test_a_picture_is_kept_upright_with_its_result(photo: np.ndarray[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "held.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(photo)).save(path, exif=exif)
    predict = resnest_zoo.Predictor("tiny_detection", device="cpu")
    got, expected = predict(path), predict(photo)
    assert np.array_equal(got.image.permute(1, 2, 0).numpy(), photo)
    assert torch.equal(got.instances.boxes, expected.instances.boxes)
    assert got.plot().size == (500, 300)


@pytest.mark.usefixtures("mirror")
def test_a_list_gives_a_list_and_one_picture_one_result(photo: np.ndarray[Any, Any]) -> None:
    predict = resnest_zoo.Predictor("tiny_detection", device="cpu")
    one, two = predict([photo, photo[:200]])
    assert predict([]) == []
    assert [p.instances.image_size for p in predict((photo, photo[:200]))] == [(300, 500), (200, 500)]
    assert len(predict([photo])) == 1
    alone = predict(photo)
    assert isinstance(alone, Prediction)
    assert alone.instances.names == one.instances.names
    assert torch.allclose(alone.instances.boxes, one.instances.boxes, atol=1e-3)
    assert two.instances.image_size == (200, 500)


@pytest.mark.usefixtures("mirror")
def test_the_types_of_a_call_are_known(tmp_path: Path, photo: np.ndarray[Any, Any]) -> None:
    """For mypy as much as for pytest."""
    predict = resnest_zoo.Predictor("tiny_detection", device="cpu")
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    texts: list[str] = [str(path)]
    paths: list[Path] = [path]
    results: list[Prediction] = [*predict(texts), *predict(paths), *predict((path, photo))]
    with path.open("rb") as file:
        one: Prediction = predict(file)
    assert {result.instances.image_size for result in (*results, one)} == {(300, 500)}
    assert isinstance(predict(str(path)), Prediction)
    assert isinstance(predict(bytearray(path.read_bytes())), Prediction)


@pytest.mark.usefixtures("mirror")
def test_masks_are_pasted_for_what_is_kept_alone(
    photo: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pasted: list[int] = []
    paste = postprocess.paste_masks

    def watched(masks: torch.Tensor, *args: Any) -> torch.Tensor:
        pasted.append(len(masks))
        return paste(masks, *args)

    monkeypatch.setattr(postprocess, "paste_masks", watched)
    for tta in (False, True):
        everything = resnest_zoo.Predictor("tiny_cascade", score_threshold=0, tta=tta, device="cpu")(photo)
        best = float(everything.instances.scores[0])
        found = resnest_zoo.Predictor("tiny_cascade", score_threshold=best, tta=tta, device="cpu")(photo)
        assert pasted[-2:] == [len(everything), len(found)]
        assert len(everything) > len(found) > 0


@pytest.mark.usefixtures("mirror")
def test_a_long_list_runs_a_few_pictures_at_a_time(
    photo: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = resnest_zoo.Predictor("tiny_detection", device="cpu")
    batches: list[int] = []
    predict.model.backbone.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    monkeypatch.setattr(predictor_module, "_AT_ONCE", 2)
    found = predict([photo] * 5)
    assert batches == [2, 2, 1]
    bad = torch.zeros(3, 4, 5)
    with pytest.raises(ImageError, match="image 4: expected uint8"):  # counted in the whole list
        predict([photo, photo, photo, photo, bad])
    assert batches == [2, 2, 1]
    assert len({len(p) for p in found}) == 1


@pytest.mark.usefixtures("mirror")
def test_the_threshold_leaves_out_weaker_detections(photo: np.ndarray[Any, Any]) -> None:
    everything = resnest_zoo.Predictor("tiny_detection", score_threshold=0, device="cpu")(photo)
    threshold = float(everything.instances.scores[4])
    best = resnest_zoo.Predictor("tiny_detection", score_threshold=threshold, device="cpu")(photo)
    assert len(everything) == 10
    assert best.instances.scores.tolist() == everything.instances.scores[:5].tolist()  # itself included


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_outside_0_to_1_is_refused_before_anything_is_fetched(threshold: float) -> None:
    with pytest.raises(ConfigError, match="score_threshold: expected a number from 0 to 1, got"):
        resnest_zoo.Predictor("faster_rcnn_resnet50", score_threshold=threshold)


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("kind", ["detection", "mask", "cascade", "panoptic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (500, 1)])
def test_tiny_pictures_are_no_problem(kind: str, size: tuple[int, int]) -> None:
    predict = resnest_zoo.Predictor(f"tiny_{kind}", score_threshold=0, device="cpu")
    result = predict(np.full((*size, 3), 99, dtype=np.uint8))
    assert result.instances.image_size == size
    assert result.plot().size == (size[1], size[0])
    result.to_coco()


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("kind", ["mask", "panoptic"])
def test_finding_nothing_is_an_empty_result(kind: str, photo: np.ndarray[Any, Any]) -> None:
    predict = resnest_zoo.Predictor(f"tiny_{kind}", score_threshold=1, device="cpu")
    result = predict(photo)
    assert len(result) == 0
    assert result.instances.boxes.shape == (0, 4)
    assert result.instances.masks is not None
    assert result.instances.masks.shape == (0, 300, 500)
    assert result.to_coco(3) == []
    assert result.plot().size == (500, 300)


@pytest.mark.usefixtures("mirror")
def test_test_time_augmentation_follows_the_config(photo: np.ndarray[Any, Any]) -> None:
    predict = resnest_zoo.Predictor("tiny_panoptic", tta=True, score_threshold=0, device="cpu")
    sizes: list[tuple[int, ...]] = []
    predict.model.backbone.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0].shape)))
    result = predict(photo)
    assert {shape[0] for shape in sizes} <= {1, 3}  # two sizes and their mirror images, three at a time
    assert result.instances.masks is not None
    with pytest.raises(ZooError, match="no panoptic result; use a panoptic model without augmentation"):
        result.to_coco_panoptic()


def is_optimized(model: GeneralizedRCNN) -> bool:
    return any(isinstance(module, Optimized) for module in model.modules())


@pytest.mark.usefixtures("mirror")
def test_a_model_by_name_is_optimised_on_the_cpu_unless_exact_is_asked_for(photo):
    fast, exact = (resnest_zoo.Predictor("tiny_detection", device="cpu", exact=e) for e in (False, True))
    assert is_optimized(fast.model)
    assert not is_optimized(exact.model)
    found, expected = fast(photo), exact(photo)
    assert len(found) == len(expected) > 0
    assert torch.allclose(found.instances.boxes, expected.instances.boxes, atol=1e-3)
    assert is_optimized(resnest_zoo.get("tiny_detection", optimize=True))
    assert not is_optimized(resnest_zoo.get("tiny_detection"))


@pytest.mark.usefixtures("mirror")
def test_a_model_already_built_is_taken_as_it_is(photo: np.ndarray[Any, Any]) -> None:
    model = resnest_zoo.get("tiny_detection")
    predict = resnest_zoo.Predictor(model)
    assert predict.model is model
    assert not is_optimized(predict.model)
    assert len(predict(photo)) > 0
    with pytest.raises(ConfigError, match=r"expected a model, got None; resnest_zoo\.get"):
        resnest_zoo.Predictor(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"already built .* weights, device"):
        resnest_zoo.Predictor(model, weights="other.pth", device="cpu")


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3, 4, 5), "uint8"),
        (torch.zeros(4, 5, dtype=torch.uint8), r"got shape \(4, 5\)"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"got shape \(4, 5, 3\)"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "no pixels"),
    ],
)
@pytest.mark.parametrize("tta", [False, True])
def test_tensors_that_are_no_pictures_are_refused(tensor: torch.Tensor, message: str, tta: bool) -> None:
    with pytest.raises(ImageError, match=message):
        resnest_zoo.Predictor("tiny_detection", tta=tta, device="cpu")(tensor)


# --- COCO's formats ------------------------------------------------------------------------------------


def test_coco_rows_hold_sparse_ids_and_widths() -> None:
    rows = prediction(instances()).to_coco(17)
    assert rows == [
        {"image_id": 17, "category_id": 47, "bbox": [0.0, 1.0, 2.5, 3.0], "score": 0.75},
        {"image_id": 17, "category_id": 67, "bbox": [1.0, 0.0, 5.0, 2.0], "score": 0.5},
    ]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_coco_masks_decode_to_the_masks() -> None:
    masks = torch.from_numpy(np.random.default_rng(0).random((2, 4, 6)) < 0.5)
    rows = prediction(instances(masks)).to_coco()
    for row, mask in zip(rows, masks, strict=True):
        assert row["segmentation"]["size"] == [4, 6]
        assert isinstance(row["segmentation"]["counts"], str)  # JSON has no bytes
        assert np.array_equal(coco_mask.decode(row["segmentation"]), mask.numpy())


def test_the_panoptic_map_survives_its_picture() -> None:
    ids = torch.tensor([[0, 1, 1], [300, 300, 70_000]], dtype=torch.int32)
    cup, wall = COCO.things.index("cup"), COCO_PANOPTIC.stuff.index("wall-brick")
    segments = (
        Segment(1, True, cup, 2, 0.9, 0),
        Segment(300, False, wall, 2),
        Segment(70_000, False, wall + 1, 1),
    )
    found = Instances(
        torch.zeros(0, 4),
        torch.zeros(0),
        torch.zeros(0, dtype=torch.int64),
        (2, 3),
        COCO_PANOPTIC,
        torch.zeros(0, 2, 3, dtype=torch.bool),
        PanopticResult(ids, segments, torch.zeros(2, 3, dtype=torch.int64)),
    )
    annotation, picture = prediction(found).to_coco_panoptic(5)
    assert annotation == {
        "image_id": 5,
        "segments_info": [
            {"id": 1, "category_id": 47, "area": 2, "isthing": 1},
            {"id": 300, "category_id": 171, "area": 2, "isthing": 0},
            {"id": 70_000, "category_id": 175, "area": 1, "isthing": 0},
        ],
    }
    assert picture.mode == "RGB"
    decoded = np.asarray(picture).astype(int) @ [1, 256, 65536]
    assert decoded.tolist() == ids.tolist()


@pytest.mark.gpu
@pytest.mark.usefixtures("mirror")
def test_on_a_gpu_results_come_back_to_the_cpu(photo: np.ndarray[Any, Any]) -> None:
    predict = resnest_zoo.Predictor("tiny_panoptic", score_threshold=0)
    assert predict.model.device.type == "cuda"
    on_gpu = predict(torch.from_numpy(photo).permute(2, 0, 1).cuda())
    on_cpu = resnest_zoo.Predictor("tiny_panoptic", score_threshold=0, device="cpu")(photo)
    assert on_gpu.image.device.type == on_gpu.instances.boxes.device.type == "cpu"
    assert torch.allclose(on_gpu.instances.scores, on_cpu.instances.scores, atol=1e-3)
    assert on_gpu.plot().size == (500, 300)
