"""`Predictor.stream`, and what a single call wants: thresholds, classes and a maximum."""

from __future__ import annotations

import gc
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import resnest_zoo
from resnest_zoo.errors import ConfigError, ImageError, NonFiniteError, ZooError
from resnest_zoo.inference import Failure, PicturePredictor, Prediction, pipeline
from tests.models.tiny import FASTER, MASK, PANOPTIC, tiny_model
from tests.models.tiny import picture as noise

Array = np.ndarray[Any, Any]
SIZES = [(50, 70), (70, 50), (50, 70), (33, 90), (50, 70), (70, 50), (50, 70), (64, 64), (50, 70)]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(*MASK)


@pytest.fixture
def predict(model: Any) -> PicturePredictor:
    return PicturePredictor(model, score_threshold=0.3)


@pytest.fixture
def pictures() -> list[torch.Tensor]:
    return [noise(*size, seed=seed) for seed, size in enumerate(SIZES)]


def as_array(image: torch.Tensor) -> Array:
    return image.permute(1, 2, 0).contiguous().numpy()


def assert_same(found: Prediction, expected: Prediction) -> None:
    assert len(found) == len(expected) > 0
    assert found.names == expected.names
    assert torch.equal(found.image, expected.image)
    torch.testing.assert_close(found.boxes, expected.boxes)
    assert found.masks is not None
    assert expected.masks is not None
    assert torch.equal(found.masks, expected.masks)


# --- streams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 2, 5])
def test_a_stream_gives_what_single_calls_give_in_their_order(
    batch_size: int | None, predict: PicturePredictor, pictures: list[torch.Tensor], tmp_path: Path
) -> None:
    sources: list[Any] = [*pictures]
    Image.fromarray(as_array(pictures[0])).save(tmp_path / "a.png")
    sources[0], sources[1], sources[2] = tmp_path / "a.png", as_array(pictures[1]), str(tmp_path / "a.png")
    sources[3] = (tmp_path / "a.png").read_bytes()
    found = list(predict.stream(iter(sources), batch_size=batch_size))
    for one, source in zip(found, sources, strict=True):
        assert_same(one, predict(source))
    assert [one.path for one in found[:4]] == [str(tmp_path / "a.png"), None, str(tmp_path / "a.png"), None]
    assert [one.path for one in predict(sources[:3])] == [one.path for one in found[:3]]
    assert predict(sources[0]).path == str(tmp_path / "a.png")


@pytest.mark.parametrize("kind", [FASTER, PANOPTIC])
def test_streams_of_other_models(kind: tuple[str, ...], pictures: list[torch.Tensor]) -> None:
    predict = PicturePredictor(tiny_model(*kind), score_threshold=0.3)
    for one, source in zip(predict.stream(pictures), pictures, strict=True):
        alone = predict(source)
        assert one.names == alone.names
        if alone.panoptic is not None:
            assert one.panoptic is not None
            assert torch.equal(one.panoptic.segment_map, alone.panoptic.segment_map)


def test_a_stream_with_test_time_augmentation(pictures: list[torch.Tensor]) -> None:
    model = tiny_model(*MASK, "TEST.AUG.MIN_SIZES", "(64, 80)", "TEST.AUG.MAX_SIZE", "96")
    predict = PicturePredictor(model, tta=True, score_threshold=0.3)
    for one, source in zip(predict.stream(pictures[:3], batch_size=3), pictures, strict=False):
        assert_same(one, predict(source))


def test_a_model_that_is_compiled_as_a_whole_is_called_as_a_whole(pictures: list[torch.Tensor]) -> None:
    model = tiny_model(*MASK)
    expected = [PicturePredictor(model, score_threshold=0.3)(image) for image in pictures]
    calls: list[int] = []

    def compiled(images: Any, **options: Any) -> Any:
        calls.append(len(images))
        return model.forward(images, **options)

    model._compiled_call_impl = compiled  # as model.compile() sets it
    predict = PicturePredictor(model, score_threshold=0.3)
    for one, alone in zip(predict.stream(pictures, batch_size=2), expected, strict=True):
        assert_same(one, alone)
    assert sum(calls) == len(pictures)
    assert max(calls) == 2


def test_pictures_of_one_padded_size_share_batches(
    predict: PicturePredictor, pictures: list[torch.Tensor]
) -> None:
    shapes: list[tuple[int, ...]] = []
    hook = predict.model.backbone.register_forward_pre_hook(
        lambda _, args: shapes.append(tuple(args[0].shape))
    )
    list(predict.stream(pictures, batch_size=3))
    first = [shape[0] for shape in shapes]
    shapes.clear()
    predict(pictures)
    hook.remove()
    assert first == [3, 2, 3, 1]  # 64 x 96, 96 x 64, 64 x 96 again, 64 x 64
    assert sorted(shape[0] for shape in shapes) == [1, 2, 2, 4]  # a list is sorted by size first


def test_a_stream_tells_which_pictures_shared_a_batch(
    predict: PicturePredictor, pictures: list[torch.Tensor]
) -> None:
    told: list[tuple[list[int], float]] = []
    results = predict.stream(
        pictures, batch_size=3, on_batch=lambda places, seconds: told.append((list(places), seconds))
    )
    for index, _ in enumerate(results):
        assert any(index in places for places, _ in told)  # before the result is given
    assert [places for places, _ in told] == [[0, 2, 3], [1, 5], [4, 6, 8], [7]]
    assert all(0 < seconds < 60 for _, seconds in told)


@pytest.mark.parametrize("kind", [MASK, PANOPTIC])
def test_masks_as_run_lengths_give_the_same_rows(kind: Any, pictures: list[torch.Tensor]) -> None:
    predict = PicturePredictor(tiny_model(*kind), score_threshold=0.3)
    for found, expected in zip(
        predict.stream(pictures[:3], encoded=True), predict.stream(pictures[:3]), strict=True
    ):
        assert found.masks is None
        assert found.to_coco() == expected.to_coco() != []
        assert found[:1].to_coco_dataset("a.jpg") == expected[:1].to_coco_dataset("a.jpg")
        if expected.panoptic is not None:
            assert found.panoptic is not None
            assert torch.equal(found.panoptic.segment_map, expected.panoptic.segment_map)


def test_a_stream_asks_for_pictures_as_results_are_asked_for(predict: PicturePredictor) -> None:
    asked = 0

    def endless() -> Iterator[torch.Tensor]:
        nonlocal asked
        while True:
            asked += 1
            yield noise(40, 60, asked)

    for batch_size in (1, 2):
        asked = 0
        stream = predict.stream(endless(), batch_size=batch_size)
        assert asked == 0
        for given in range(1, 12):
            next(stream)
            assert given <= asked <= given + 3 * batch_size


def test_reading_and_finishing_go_on_beside_the_model(
    predict: PicturePredictor, pictures: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model waits, as long as it takes, for the next picture to be read; alone it would wait for ever."""
    read, run, finished = threading.Semaphore(0), predict.model.run, threading.Event()
    read_picture, finish = pipeline.read_picture, predict.model.finish
    calls = 0

    def watched_read(source: Any, **options: Any) -> torch.Tensor:
        image = read_picture(source, **options)
        read.release()
        return image

    def patient_run(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        assert read.acquire(timeout=20)  # its own
        if calls == 1:
            assert read.acquire(timeout=20)  # the next one
            read.release()
        if calls == 2:
            assert finished.wait(timeout=20)  # the last one
        return run(*args)

    def watched_finish(*args: Any, **options: Any) -> Any:
        result = finish(*args, **options)
        finished.set()
        return result

    monkeypatch.setattr(pipeline, "read_picture", watched_read)
    monkeypatch.setattr(predict.model, "run", patient_run)
    monkeypatch.setattr(predict.model, "finish", watched_finish)
    paths = []
    for index, image in enumerate(pictures[:3]):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(as_array(image)).save(paths[-1])
    monkeypatch.setattr(pipeline, "_READERS", 1)
    assert len(list(predict.stream(paths))) == 3


def test_a_buffer_that_is_filled_again_or_closed_does_no_harm(
    predict: PicturePredictor, pictures: Any
) -> None:
    same = [image for image in pictures if image.shape == pictures[0].shape]

    def arrays() -> Iterator[Array]:
        buffer = np.empty_like(as_array(same[0]))
        for image in same:
            buffer[:] = as_array(image)
            yield buffer

    def tensors() -> Iterator[torch.Tensor]:
        buffer = torch.empty_like(same[0])
        for image in same:
            yield buffer.copy_(image)

    def files() -> Iterator[io.BytesIO]:
        for image in same:
            with io.BytesIO() as file:
                Image.fromarray(as_array(image)).save(file, "PNG")
                file.seek(0)
                yield file

    for sources in (arrays(), tensors(), files()):
        for found, image in zip(predict.stream(sources), same, strict=True):  # type: ignore[arg-type]
            assert torch.equal(found.image, image)


def test_no_thread_is_left_when_a_stream_ends_or_is_left(predict: PicturePredictor, pictures: Any) -> None:
    gc.collect()
    before = threading.active_count()
    list(predict.stream(pictures))
    assert threading.active_count() == before
    stream = predict.stream(pictures)
    next(stream)
    assert threading.active_count() > before
    del stream
    gc.collect()
    assert threading.active_count() == before


# --- what is wrong with a picture ----------------------------------------------------------------------


def test_a_broken_picture_is_an_error_in_its_place(
    predict: PicturePredictor, pictures: list[torch.Tensor], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    sources = [pictures[0], pictures[1], tmp_path / "broken.jpg", pictures[2]]
    stream = predict.stream(sources)
    assert [len(next(stream)) > 0, len(next(stream)) > 0] == [True, True]
    with pytest.raises(ImageError, match=r"^image 2: .*broken\.jpg: not a picture"):
        next(stream)
    assert list(stream) == []


def test_a_broken_picture_is_given_in_its_place_where_that_is_asked_for(
    predict: PicturePredictor, pictures: list[torch.Tensor], tmp_path: Path
) -> None:
    sources: list[Any] = [*pictures]
    sources[1] = tmp_path / "missing.jpg"
    sources[2] = np.zeros((4, 5, 7), dtype=np.uint8)
    sources[4] = torch.zeros(3, 4, 5)
    found = list(predict.stream(sources, errors="yield", batch_size=2))
    assert [isinstance(one, Failure) for one in found] == [k in (1, 2, 4) for k in range(9)]
    failures = [one for one in found if isinstance(one, Failure)]
    assert [failure.index for failure in failures] == [1, 2, 4]
    assert [failure.path for failure in failures] == [str(tmp_path / "missing.jpg"), None, None]
    assert str(failures[0]).startswith(f"image 1: {tmp_path / 'missing.jpg'}: ")
    assert str(failures[1]) == "image 2: expected an array (H, W), (H, W, 3) or (H, W, 4), got (4, 5, 7)"
    assert str(failures[2]).startswith("image 4: expected uint8 pixels 0-255, got torch.float32")
    for one, source in zip(found, sources, strict=True):
        if isinstance(one, Prediction):
            assert_same(one, predict(source))


def test_a_picture_that_breaks_the_model_takes_no_other_with_it(
    predict: PicturePredictor, pictures: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = predict.model.run

    def fail_at_white(batch: Any, sizes: Any) -> Any:
        if bool((batch.tensor[:, :, :4, :4].flatten(2).std(dim=2) == 0).any()):
            raise NonFiniteError("offsets are not finite")
        return run(batch, sizes)

    monkeypatch.setattr(predict.model, "run", fail_at_white)
    same = [image for image in pictures if image.shape == pictures[0].shape]
    same[1] = torch.full_like(same[0], 255)
    found = list(predict.stream(same, batch_size=4, errors="yield"))
    assert [isinstance(one, Failure) for one in found] == [False, True, False, False, False]
    with pytest.raises(NonFiniteError, match=r"^image 1: offsets are not finite"):
        list(predict.stream(same, batch_size=4))
    with pytest.raises(NonFiniteError, match=r"^image 1: "):
        predict(same)


def test_what_goes_wrong_after_the_model_is_of_its_picture_too(
    predict: PicturePredictor, pictures: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = predict.model.finish

    def fail_at_upright(raw: Any, *args: Any, **options: Any) -> Any:
        if raw.size == (70, 50):
            raise MemoryError
        return finish(raw, *args, **options)

    monkeypatch.setattr(predict.model, "finish", fail_at_upright)
    found = list(predict.stream(pictures, errors="yield"))
    assert [str(one) for one in found if isinstance(one, Failure)] == [
        "image 1: MemoryError",
        "image 5: MemoryError",
    ]
    with pytest.raises(MemoryError) as caught:
        list(predict.stream(pictures))
    assert caught.value.__notes__ == ["image 1"]


@pytest.mark.parametrize("errors", ["raise", "yield"])
def test_an_error_of_the_source_comes_after_the_results_before_it(
    errors: Any, predict: PicturePredictor, pictures: list[torch.Tensor]
) -> None:
    def broken() -> Iterator[torch.Tensor]:
        yield from pictures[:2]
        raise KeyError("the camera is gone")

    stream = predict.stream(broken(), errors=errors)
    assert [len(next(stream)) > 0, len(next(stream)) > 0] == [True, True]
    with pytest.raises(KeyError, match="camera"):
        next(stream)


@pytest.mark.parametrize(
    ("pictures", "options", "message"),
    [
        (np.zeros((4, 5, 3), dtype=np.uint8), {}, "got a single one; call predict with it"),
        (b"a file's bytes", {}, "got a single one"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), {}, "got a single one"),
        ([], {"errors": "ignore"}, 'errors: expected "raise" or "yield", got \'ignore\''),
        ([], {"batch_size": 0}, "batch_size: expected a whole number above 0, got 0"),
        ([], {"batch_size": True}, "batch_size: expected a whole number above 0, got True"),
        ([], {"channel_order": "BRG"}, 'channel_order: expected "RGB" or "BGR", got'),
        ([], {"score_threshold": 2}, "score_threshold: expected a number from 0 to 1, got 2"),
    ],
)
def test_wrong_arguments_of_a_stream_are_told_at_once(
    pictures: Any, options: dict[str, Any], message: str, predict: PicturePredictor
) -> None:
    with pytest.raises(ConfigError, match=message):
        predict.stream(pictures, **options)


def test_a_model_in_training_mode_is_refused_at_once(pictures: list[torch.Tensor]) -> None:
    predict = PicturePredictor(tiny_model().train())
    for call in (predict, predict.stream):
        with pytest.raises(ZooError, match="training mode"):
            call(pictures)  # type: ignore[operator]


def test_a_stack_of_pictures_is_a_stream(predict: PicturePredictor, pictures: list[torch.Tensor]) -> None:
    stack = np.stack([as_array(pictures[0]), as_array(pictures[2])])
    for one, image in zip(predict.stream(stack), (pictures[0], pictures[2]), strict=True):
        assert torch.equal(one.image, image)


def test_arrays_of_opencv_are_taken_in_their_order(
    predict: PicturePredictor, pictures: Any, tmp_path: Path
) -> None:
    Image.fromarray(as_array(pictures[0])).save(tmp_path / "a.png")  # files are not turned
    turned = [as_array(pictures[0])[:, :, ::-1], pictures[0].flip(0), tmp_path / "a.png"]
    one = predict(turned[0], channel_order="BGR")
    several = predict(turned, channel_order="BGR")
    for found in (one, *several, *predict.stream(turned, channel_order="BGR")):
        assert_same(found, predict(pictures[0]))
    assert not torch.equal(predict(turned[0]).image, pictures[0])
    with pytest.raises(ConfigError, match='channel_order: expected "RGB" or "BGR"'):
        predict(pictures[0], channel_order="BRG")  # type: ignore[call-overload]


# --- what a call wants ---------------------------------------------------------------------------------


@pytest.fixture
def photo() -> Array:
    return skimage.data.coffee()[:300, :500]


@pytest.mark.usefixtures("mirror")
def test_a_call_may_want_something_else_than_the_predictor(photo: Array) -> None:
    predict = resnest_zoo.Predictor("tiny_detection", score_threshold=0, device="cpu")
    everything = predict(photo)
    threshold, names = float(everything.scores[4]), everything.names
    assert len(everything) == 10
    assert len(predict(photo, score_threshold=threshold)) == 5
    assert predict(photo, max_detections=3).names == names[:3]
    rarest = min(names, key=names.count)
    (only,) = predict([photo], classes=[rarest])
    assert only.names == [name for name in names if name == rarest]
    some = predict(photo, classes=[rarest, names[0]], max_detections=2, score_threshold=threshold)
    assert some.names == [name for name in names[:5] if name in (rarest, names[0])][:2]
    assert next(predict.stream([photo], max_detections=1)).names == names[:1]
    assert len(predict(photo)) == 10  # which no call has changed
    own = resnest_zoo.Predictor(predict.model, score_threshold=0, classes=[names[0]], max_detections=1)
    assert own(photo).names == names[:1]
    assert own(photo, max_detections=10).names == [name for name in names if name == names[0]]
    assert own.score_threshold == 0


@pytest.mark.usefixtures("mirror")
def test_a_panoptic_map_does_not_depend_on_what_is_wanted(photo: Array) -> None:
    predict = resnest_zoo.Predictor("tiny_panoptic", score_threshold=0, device="cpu")
    everything = predict(photo)
    best = predict(photo, max_detections=1)
    assert everything.panoptic is not None
    assert best.panoptic is not None
    assert torch.equal(best.panoptic.segment_map, everything.panoptic.segment_map)
    assert {segment.instance for segment in best.panoptic.segments} <= {0, None}


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"classes": ["persn"]}, "classes: the model has no 'persn'; did you mean person"),
        ({"classes": ["Person"]}, "did you mean person"),
        ({"classes": ["qqqq"]}, "the model has no 'qqqq'; it knows person, bicycle, "),
        ({"classes": ["sky-other-merged"]}, "is stuff, of which there are no instances"),
        ({"classes": "person"}, "classes: expected a list of class names, got 'person'"),
        ({"classes": [0]}, r"expected a list of class names, got \[0\]"),
        ({"classes": []}, "expected one name or more, or None"),
        ({"max_detections": 0}, "max_detections: expected a whole number above 0, got 0"),
        ({"max_detections": 1.5}, "max_detections: expected a whole number above 0, got 1.5"),
        ({"max_detections": True}, "max_detections: expected a whole number above 0, got True"),
        ({"score_threshold": "0.5"}, "score_threshold: expected a number from 0 to 1, got '0.5'"),
        ({"score_threshold": float("nan")}, "score_threshold: expected a number from 0 to 1, got nan"),
    ],
)
def test_what_cannot_be_wanted_is_told(wanted: dict[str, Any], message: str, photo: Array) -> None:
    model = resnest_zoo.get("tiny_panoptic", pretrained=False)
    for call in (
        lambda: resnest_zoo.Predictor(model, **wanted),
        lambda: resnest_zoo.Predictor(model)(photo, **wanted),
        lambda: resnest_zoo.Predictor(model).stream([photo], **wanted),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_classes_of_one_name_are_told_apart_by_their_labels() -> None:
    twins = resnest_zoo.Categories(("ball", "ball", "cube", "cone", "ring"), (1, 4, 5, 6, 7))
    model = tiny_model()
    model.categories = twins
    predict = PicturePredictor(model, score_threshold=0)
    assert predict.wanted.but(twins, classes=["ball"]).classes == (0, 1)
    assert predict.wanted.but(twins, classes=["ball (id 4)", "cube"]).classes == (1, 2)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two pictures, a hidden one, and one in a folder below."""
    for name in ("b.png", "a.png", ".hidden.png", "deeper/c.png"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(path)
    return tmp_path / "album"


def test_a_stream_goes_through_folders_patterns_lists_and_single_files(
    predict: PicturePredictor, album: Path
) -> None:
    (album / "list.txt").write_text("# mine\ndeeper/c.png\na.png\n", encoding="utf-8")

    def names(source: str | Path, **options: bool) -> list[str]:
        return [Path(str(found.path)).name for found in predict.stream(source, **options)]

    assert names(album) == names(str(album)) == ["a.png", "b.png"]
    assert names(album, recursive=True) == ["a.png", "b.png", "c.png"]
    assert names(f"{album}/[b-z]*.png") == ["b.png"]
    assert names(album / "list.txt") == ["c.png", "a.png"]
    assert names(album / "b.png") == ["b.png"]


def test_a_folder_or_pattern_without_pictures_is_told_at_once(predict: PicturePredictor, album: Path) -> None:
    (album / "empty").mkdir()
    with pytest.raises(ImageError, match="empty: no pictures in this folder"):
        predict.stream(album / "empty")
    with pytest.raises(ImageError, match=r"no file matches"):
        predict.stream(f"{album}/*.tif")
