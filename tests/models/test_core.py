from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo import config as dynamo_config
from torch._dynamo.utils import counters

import resnest_zoo
from resnest_zoo.models.core import DetectorCore
from resnest_zoo.models.rcnn import GeneralizedRCNN
from resnest_zoo.structures import ImageBatch
from tests.models import tiny

_EXPORTED_NMS = "ignore:`create_unbacked_symint` is deprecated:FutureWarning"  # torchvision's


def prepared(model: GeneralizedRCNN, *sizes: tuple[int, int], seed: int = 0) -> ImageBatch:
    """Smooth pictures, in the model's input size."""
    generator = torch.Generator().manual_seed(seed)
    pictures = []
    for height, width in sizes:
        coarse = 255 * torch.rand(1, 3, height // 16 + 1, width // 16 + 1, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
        pictures.append(smooth.to(torch.uint8))
    return model.preprocessing.batch(pictures, next(model.parameters()))


def inputs(batch: ImageBatch) -> tuple[Tensor, Tensor]:
    return batch.tensor, torch.tensor(batch.image_sizes)


def check_counted(answer: dict[str, Tensor], model: GeneralizedRCNN, batch: ImageBatch) -> list[int]:
    """The rows that count are the front's; those behind are zero."""
    raw = model.run(batch, list(batch.image_sizes))
    for row, expected in enumerate(raw):
        found, n = expected.detections, int(answer["counts"][row])
        assert n == len(found.boxes)
        # The number of rows decides in which order a matrix product is summed.
        close = {"rtol": 1e-5, "atol": 1e-4} if found.boxes.dtype == torch.float32 else {"rtol": 1e-10}
        assert torch.allclose(answer["boxes"][row, :n], found.boxes, **close)
        assert torch.allclose(answer["scores"][row, :n], found.scores, **close)
        assert torch.equal(answer["classes"][row, :n], found.classes)
        assert not answer["boxes"][row, n:].any()
        assert not answer["scores"][row, n:].any()
        if found.mask_probs is not None:
            assert torch.allclose(answer["masks"][row, :n], found.mask_probs, **close)
    return answer["counts"].tolist()


@pytest.mark.parametrize(
    "kind",
    [tiny.FASTER, tiny.MASK, (*tiny.CASCADE, *tiny.MASK), tiny.PANOPTIC, tiny.NOTHING_FOUND],
    ids=["faster", "mask", "cascade", "panoptic", "nothing"],
)
@torch.no_grad()
def test_the_core_says_what_the_front_says_in_rows_of_a_fixed_number(kind):
    model = tiny.tiny_model(*kind).eval()
    batch = prepared(model, (64, 90), (60, 96))
    answer = DetectorCore(model)(*inputs(batch))
    assert answer["boxes"].shape == (2, 20, 4)
    assert ("masks" in answer) == (model.roi_heads.mask_head is not None)
    assert ("semantic" in answer) == (kind == tiny.PANOPTIC)
    assert any(check_counted(answer, model, batch)) == (kind != tiny.NOTHING_FOUND)


def drawn(model: GeneralizedRCNN, square: bool) -> ImageBatch:
    """A plain picture, and on it a red square or nothing."""
    picture = torch.full((3, 128, 128), 200, dtype=torch.uint8)
    if square:
        picture[:, 40:80, 40:90] = torch.tensor([220, 30, 30], dtype=torch.uint8)[:, None, None]
    return model.preprocessing.batch([picture], next(model.parameters()))


@pytest.mark.slow
@pytest.mark.filterwarnings(_EXPORTED_NMS)
@torch.no_grad()
def test_an_exported_core_equals_the_core_bit_for_bit_also_with_one_detection_and_none():
    model = resnest_zoo.get("panoptic_resnest14_dcn_shapes")
    core = DetectorCore(model).eval()
    run = torch.export.export(core, inputs(prepared(model, (100, 120)))).module()
    others = [prepared(model, size, seed=seed) for seed, size in enumerate([(97, 101), (128, 99)], start=1)]
    counts = []
    for batch in (*others, drawn(model, square=True), drawn(model, square=False)):
        answer, expected = run(*inputs(batch)), core(*inputs(batch))
        assert (
            answer.keys() == expected.keys() == {"boxes", "scores", "classes", "counts", "masks", "semantic"}
        )
        assert all(torch.equal(answer[key], expected[key]) for key in expected)
        counts += check_counted(answer, model, batch)
    assert counts[0] > 1
    assert counts[1] > 1
    assert counts[2:] == [1, 0]


@pytest.mark.slow
@pytest.mark.filterwarnings(_EXPORTED_NMS)
@torch.no_grad()
def test_a_compiled_core_is_one_graph_and_serves_every_picture_of_its_padded_size():
    model = tiny.tiny_model(*tiny.MASK).eval()
    core = DetectorCore(model).eval()
    batches = [prepared(model, size, seed=seed) for seed, size in enumerate([(64, 90), (60, 96), (33, 65)])]
    torch.compiler.reset()
    counters.clear()
    with dynamo_config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(core, backend="eager", fullgraph=True)
        answers = [compiled(*inputs(batch)) for batch in batches]
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    for answer, batch in zip(answers, batches, strict=True):
        expected = core(*inputs(batch))
        assert answer.keys() == expected.keys()
        assert all(torch.equal(answer[key], expected[key]) for key in expected)
    torch.compiler.reset()
