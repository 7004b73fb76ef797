"""Films that are written: every frame with its time, the sound as it was, whole or not at all."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnest_zoo
from resnest_zoo.data.video import Video
from resnest_zoo.errors import ConfigError, ImageError
from resnest_zoo.inference.film import VideoWriter
from tests.films import CONSTANT, VARIABLE, picture, sound_of, times_of, write_film

pytest.importorskip("av")

ROOT = Path(__file__).parents[2]


def copy(source: Path, target: Path, every: int = 1) -> None:
    with Video(source, every=every) as film, VideoWriter(target, film) as written:
        for frame in film:
            written.write(frame, frame)
    assert film.problems == []


def assert_same_pictures(source: Path, target: Path) -> None:
    for before, after in zip(Video(source), Video(target), strict=True):
        height, width = before.image.shape[1:]
        difference = (before.image.float() - after.image[:, :height, :width].float()).abs()
        assert difference.mean() < 6  # noise in a quarter, through two lossy encoders
        assert after.image.shape[1:] == (height + height % 2, width + width % 2)


@pytest.mark.parametrize("times", [CONSTANT, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize(
    ("rotation", "size"), [(0, (64, 48)), (90, (63, 47)), (180, (64, 47)), (270, (64, 48)), (0, (63, 48))]
)
def test_every_frame_comes_through_with_its_time_and_the_sound_with_its_bytes(
    times: list[int], rotation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    source = write_film(tmp_path / "a.mp4", times, size=size, rotation=rotation, sound="aac")
    target = tmp_path / "b.mp4"
    copy(source, target)
    assert times_of(target) == times_of(source) == [Fraction(time, 1000) for time in times]
    assert sound_of(target) == sound_of(source)
    assert len(sound_of(target)) > 5
    assert_same_pictures(source, target)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_film_says_by_which_rule_its_colours_are_stored(
    codec: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a film that does not, players take BT.709 if it is large, and BT.601 if it is small."""
    import av

    monkeypatch.setattr(av, "codecs_available", {codec})
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = (220, 20, 20)
    path = tmp_path / f"a.{ending}"
    with VideoWriter(path) as written:
        written.write(red)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = (frame.colorspace, frame.color_primaries, frame.color_trc)
        stored = [bytes(plane)[plane.line_size * 4 + 8] for plane in frame.planes]
    assert tags == (1, 1, 1)  # BT.709, by its number in ITU-T H.273
    # MPEG-4 has no place for the range, nor has QuickTime, where none means limited.
    assert frame.color_range == (0 if (codec, ending) == ("mpeg4", "mov") else 1)
    # Y = 0.2126 R + 0.7152 G + 0.0722 B, in 16 to 235; its differences to blue and red in 16 to 240.
    assert stored == pytest.approx([70, 108, 216], abs=2)


@pytest.mark.parametrize("target", ["b.mp4", "b.mov", "b.mkv"])
@pytest.mark.parametrize(
    ("source", "codec", "sound"),
    [
        ("a.mkv", "libx264", "aac"),
        ("a.ts", "libx264", "aac"),
        ("a.avi", "mpeg4", ""),
        ("a.mkv", "ffv1", "libmp3lame"),
    ],
)
def test_films_of_other_containers_keep_times_and_sound(
    source: str, codec: str, sound: str, target: str, tmp_path: Path
) -> None:
    path = write_film(tmp_path / source, CONSTANT, codec=codec, sound=sound)
    copy(path, tmp_path / target)
    before, after = times_of(path), times_of(tmp_path / target)
    assert [float(time) for time in after] == pytest.approx([float(time) for time in before], abs=6e-5)
    if sound:
        head = 7 if source.endswith(".ts") else 0  # bytes that say in each packet what is said once elsewhere
        expected = [data[head:] for _, data in sound_of(path)]
        assert [data for _, data in sound_of(tmp_path / target)] == expected
    assert_same_pictures(path, tmp_path / target)


def test_sound_and_pictures_lie_beside_each_other(tmp_path: Path) -> None:
    import av

    source = write_film(tmp_path / "a.mp4", [100 * k for k in range(60)], sound="aac")
    with Video(source) as film, VideoWriter(tmp_path / "b.mp4", film) as written:
        for frame in film:
            written.write(frame, frame)
            following = written._waiting  # what is behind it has not been read
            if frame.index < 55:
                assert following is not None
                assert frame.time < following.pts * following.time_base < frame.time + 0.1
    with av.open(str(tmp_path / "b.mp4")) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.dts is not None]
    half = len(kinds) // 2
    assert 0.2 < kinds[:half].count("audio") / kinds.count("audio") < 0.8


def test_each_nth_frame_is_shown_at_its_time_with_the_whole_sound(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mp4", VARIABLE, sound="aac")
    copy(source, tmp_path / "b.mp4", every=6)
    assert times_of(tmp_path / "b.mp4") == [Fraction(time, 1000) for time in VARIABLE[::6]]
    assert sound_of(tmp_path / "b.mp4") == sound_of(source)


@pytest.mark.parametrize(("target", "fits"), [("b.mp4", True), ("b.mkv", True), ("b.mov", False)])
def test_sound_that_does_not_fit_is_left_out_and_said(
    target: str, fits: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_film(tmp_path / "a.webm", sound="libopus", codec="libvpx")
    copy(source, tmp_path / target)
    assert len(times_of(tmp_path / target)) == len(CONSTANT)
    said = "its sound (opus) does not fit into .mov and is left out; write an .mkv" in caplog.text
    assert said is not fits
    if fits:
        assert [data for _, data in sound_of(tmp_path / target)] == [data for _, data in sound_of(source)]


def test_frames_of_another_size_are_fitted_in(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "b.mp4") as film:
        film.write(picture(0, (64, 48)))
        film.write(picture(1, (32, 96)))
        film.write(Image.new("RGB", (640, 100), "white"))
    frames = [frame.image for frame in Video(tmp_path / "b.mp4")]
    assert [frame.shape for frame in frames] == [(3, 48, 64)] * 3
    assert frames[1][:, :, :20].max() < 20  # black beside the narrow picture
    assert frames[1][0, 2, 26] > 180
    assert frames[2][:, 24, 30].min() > 200
    assert frames[2][:, 5].max() < 40


def test_pictures_without_frames_follow_the_rate(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "b.mp4", rate=12.5) as film:
        for index in range(10):
            film.write(picture(index, (64, 48)))
    assert times_of(tmp_path / "b.mp4") == [Fraction(8 * k, 100) for k in range(10)]


def test_times_that_go_back_do_not_end_the_film(tmp_path: Path) -> None:
    source = write_film(tmp_path / "a.mkv", CONSTANT)
    with Video(source) as film, VideoWriter(tmp_path / "b.mp4") as written:
        frames = list(film)
        for frame in (*frames[:5], frames[2], *frames[5:]):
            written.write(frame, frame)
    times = times_of(tmp_path / "b.mp4")
    assert len(times) == len(CONSTANT) + 1
    assert (np.diff([float(time) for time in times]) > 0).all()


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    """The film may be closed by then: PyAV 19 answers no question about a closed one."""
    import av

    source = write_film(tmp_path / "a.mkv", CONSTANT[:3])
    with Video(source) as film:
        frames = list(film)
        film.pixel_aspect = Fraction(4, 3)
        with VideoWriter(tmp_path / "b.mp4", film) as written:
            for frame in frames:
                written.write(frame, frame)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def begin_and_fail(target: Path) -> None:
    with VideoWriter(target) as film:
        film.write(picture(0, (64, 48)))
        film.write(None)  # type: ignore[arg-type]


def test_a_film_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.write_bytes(b"before")
    with pytest.raises(ImageError, match="expected a path"):
        begin_and_fail(target)
    with pytest.raises(ImageError, match=r"b\.mp4: not written, since there was no"), VideoWriter(target):
        pass
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]


@pytest.mark.slow
def test_a_killed_writer_leaves_no_film(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom resnest_zoo.inference.film import VideoWriter\n"
        "from tests.films import picture\n"
        "with VideoWriter(sys.argv[1]) as film:\n"
        "    for k in range(200): film.write(picture(k, (64, 48)))\n"
        "    os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "b.mp4")], cwd=ROOT)
    assert done.returncode != 0
    assert not (tmp_path / "b.mp4").exists()


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    for name in ("b.avi", "b", "b.webm"):
        with pytest.raises(ConfigError, match=r"a film is written as \.mp4, \.mov or \.mkv"):
            VideoWriter(tmp_path / name)
    with pytest.raises(ConfigError, match="rate: expected a number above 0"):
        VideoWriter(tmp_path / "b.mp4", rate=0)
    with pytest.raises(OSError, match="gone"), VideoWriter(tmp_path / "gone" / "b.mp4") as film:
        film.write(picture(0, (64, 48)))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    """The smallest growth of any 50 frames: what else the process allocates is not in all of them."""
    source = write_film(tmp_path / "a.mp4", [40 * k for k in range(300)], sound="aac")
    held = []
    with Video(source) as film, VideoWriter(tmp_path / "b.mp4", film) as written:
        tracemalloc.start()
        try:
            for frame in film:
                written.write(frame, frame)
                if frame.index % 50 == 49:
                    gc.collect()
                    held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert min(np.diff(held[1:])) < 50 * 100  # bytes


def test_a_film_is_a_stream_of_pictures(tmp_path: Path) -> None:
    predict = resnest_zoo.Predictor("mask_rcnn_resnest14_dcn_shapes", device="cpu")
    source = write_film(tmp_path / "a.mp4", VARIABLE[:5], sound="aac")
    found = list(predict.stream(resnest_zoo.Video(source)))
    assert len(list(predict.stream(source))) == len(found)  # by its name, too
    assert len(found) == 5
    film = resnest_zoo.Video(source)
    with resnest_zoo.VideoWriter(tmp_path / "b.mp4", film) as written:
        for frame, streamed in zip(film, found, strict=True):
            assert frame.image.equal(streamed.image)
            assert predict(frame).instances.boxes.equal(streamed.instances.boxes)
            written.write(streamed.plot(), frame)
    assert times_of(tmp_path / "b.mp4") == times_of(source)


def test_a_writer_without_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r"a\.mp4: PyAV is not installed.*resnest-zoo\[video\]"):
        VideoWriter(tmp_path / "a.mp4").__enter__()
    assert not list(tmp_path.iterdir())
