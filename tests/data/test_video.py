"""Films are read frame by frame: all of them, upright, with their times, whatever is damaged."""

from __future__ import annotations

import gc
import logging
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnest_zoo.data.film_names import is_film
from resnest_zoo.data.pictures import read_picture
from resnest_zoo.data.video import Frame, Video, open_container
from resnest_zoo.errors import ConfigError, ImageError
from tests.films import CONSTANT, VARIABLE, picture, write_film
from tests.servers import FileServer

pytest.importorskip("av")


def greys(frames: list[Frame]) -> list[int]:
    """The grey at the lower right of each frame, which tells its number."""
    return [int(frame.image[:, -3, -3].float().mean().round()) for frame in frames]


def expected_greys(count: int) -> list[int]:
    return [int(picture(k, (64, 48))[-1, -1, 0]) for k in range(count)]


def assert_all_there(frames: list[Frame], count: int) -> None:
    assert [frame.index for frame in frames] == list(range(count))
    assert np.abs(np.subtract(greys(frames), expected_greys(count))).max() <= 2


@pytest.mark.parametrize("times", [CONSTANT, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("webm", "libvpx")]
)
def test_every_frame_comes_with_its_time(ending: str, codec: str, times: list[int], tmp_path: Path) -> None:
    film = Video(write_film(tmp_path / f"film.{ending}", times, codec=codec))
    frames = list(film)
    assert_all_there(frames, len(times))
    found = [frame.pts * frame.time_base for frame in frames]
    assert [time - found[0] for time in found] == [Fraction(time - times[0], 1000) for time in times]
    assert [frame.time for frame in frames] == pytest.approx([(t - times[0]) / 1000 for t in times], abs=1e-6)
    assert film.problems == []
    image = frames[0].image
    assert image.shape == (3, 48, 64)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert (image[:, 10, 10] - torch.tensor([220, 20, 20])).abs().max() <= 4


@pytest.mark.parametrize(
    ("rotation", "corner"), [(90, (-5, 5)), (180, (-5, -5)), (270, (5, -5)), (0, (5, 5))]
)
def test_frames_are_upright(rotation: int, corner: tuple[int, int], tmp_path: Path) -> None:
    (frame, *_) = Video(write_film(tmp_path / "film.mp4", CONSTANT[:3], rotation=rotation))
    assert frame.image.shape == ((3, 64, 48) if rotation % 180 else (3, 48, 64))
    red = frame.image[:, corner[0], corner[1]]
    assert red[0] > 180
    assert red[1] < 60


def test_each_nth_frame_keeps_its_time(tmp_path: Path) -> None:
    frames = list(Video(write_film(tmp_path / "film.mp4", VARIABLE), every=7))
    assert [frame.index for frame in frames] == [0, 7, 14]
    assert [frame.time for frame in frames] == pytest.approx(
        [(VARIABLE[k] - VARIABLE[0]) / 1000 for k in (0, 7, 14)], abs=1e-6
    )
    with pytest.raises(ConfigError, match="every: expected a whole number above 0, got 0"):
        Video(tmp_path / "film.mp4", every=0)


def test_odd_sizes_and_films_without_times(tmp_path: Path) -> None:
    frames = list(Video(write_film(tmp_path / "odd.mkv", CONSTANT[:4], size=(63, 47))))
    assert [frame.image.shape for frame in frames] == [(3, 47, 63)] * 4
    raw = list(Video(write_film(tmp_path / "raw.h264", CONSTANT)))
    assert_all_there(raw, len(CONSTANT))
    assert np.diff([frame.time for frame in raw]).min() > 0


def test_the_size_may_change_on_the_way(tmp_path: Path) -> None:
    parts = [
        write_film(tmp_path / "a.ts", CONSTANT[:5]),
        write_film(tmp_path / "b.ts", [1000 + time for time in CONSTANT[:5]], size=(32, 80)),
    ]
    whole = tmp_path / "film.ts"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    film = Video(whole)
    assert film.stated_size == (48, 64)
    frames = list(film)
    assert [frame.image.shape for frame in frames] == [(3, 48, 64)] * 5 + [(3, 80, 32)] * 5
    assert np.diff([frame.time for frame in frames]).min() > 0


def test_a_frame_is_a_picture(tmp_path: Path) -> None:
    (frame, *_) = Video(write_film(tmp_path / "film.mp4", CONSTANT[:2]))
    assert read_picture(frame) is frame.image


def test_a_film_in_a_pictures_place_says_how_to_read_it(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", CONSTANT[:2])
    with pytest.raises(ImageError, match=r"film\.mp4: a film, no picture: iterate resnest_zoo\.Video\('"):
        read_picture(path)


def test_a_film_comes_from_an_address_and_leaves_no_file(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert server.folder is not None
    write_film(server.folder / "film.mp4", CONSTANT[:4])
    with Video(f"{server.url}/film.mp4") as film:
        assert_all_there(list(film), 4)
        assert film.name == f"{server.url}/film.mp4"
    with pytest.raises(ImageError, match=r"^http://127\.0\.0\.1:\d+/gone\.mp4: cannot be read: HTTP 404"):
        Video(f"{server.url.replace('://', '://user:secret@')}/gone.mp4")
    gc.collect()
    assert not list(folder.iterdir())


def test_a_film_tells_of_itself(tmp_path: Path) -> None:
    with Video(write_film(tmp_path / "film.mp4", sound="aac")) as film:
        assert film.duration == pytest.approx(0.8, abs=0.05)
        assert film.sound == ["aac"]
        assert not film.is_live
    with Video(write_film(tmp_path / "film.mkv")) as film:
        assert film.duration == pytest.approx(0.8, abs=0.05)
        assert film.sound == []


# --- damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_film_that_is_cut_off_says_so_at_its_end(
    ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"movflags": "+faststart"} if ending == "mp4" else {}
    path = write_film(tmp_path / f"film.{ending}", [100 * k for k in range(40)], options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    film = Video(path)
    frames = list(film)
    assert 5 < len(frames) < 35
    assert_all_there(frames, len(frames))
    assert film.problems[-1].startswith("ends after ")
    assert film.problems[-1].endswith(f" of {film.duration:.1f} s: it is cut off or damaged")
    assert f"{path}: ends after" in caplog.text


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("seed", range(3))
def test_damage_in_the_midst_ends_nothing(
    ending: str, seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"movflags": "+faststart"} if ending == "mp4" else {}
    path = write_film(tmp_path / f"film.{ending}", options=options)
    content = bytearray(path.read_bytes())
    at = len(content) * 2 // 3
    content[at : at + 60] = np.random.default_rng(seed).bytes(60)
    path.write_bytes(content)
    film = Video(path)
    frames = list(film)
    assert len(frames) >= 5
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert len(caplog.records) == len(film.problems)


def test_packets_that_cannot_be_decoded_are_told_and_left_out(tmp_path: Path, monkeypatch: Any) -> None:
    import av

    path = write_film(tmp_path / "film.mkv", codec="mjpeg")
    told: list[str] = []
    film = Video(path, on_problem=told.append)
    decode = film._container.demux

    class Broken:
        def decode(self) -> Any:
            raise av.error.InvalidDataError(1, "Invalid data found when processing input")

    def demux(stream: Any) -> Any:
        for number, packet in enumerate(decode(stream)):
            yield Broken() if number in (3, 4) else packet

    film._container = type("Container", (), {"demux": staticmethod(demux), "start_time": 0, "close": print})
    frames = list(film)
    assert len(frames) == len(CONSTANT) - 2
    assert told == [f"{path}: after frame 3: Invalid data found when processing input; it is left out"] * 2


def test_what_is_no_film_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    broken = write_film(tmp_path / "broken.mp4")
    broken.write_bytes(broken.read_bytes()[:-1500])  # without its index
    for name, message in {
        "text.mp4": "cannot be opened as a film: Invalid data",
        "broken.mp4": "cannot be opened as a film: Invalid data",
        "gone.mp4": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(ImageError, match=f"{tmp_path / name}: {message}"):
            Video(tmp_path / name)
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        voice: Any = container.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        silence.sample_rate = 16000
        container.mux(voice.encode(silence))
        container.mux(voice.encode())
    with pytest.raises(ImageError, match=r"sound\.mp4: holds no film"):
        Video(tmp_path / "sound.mp4")


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_path_is_never_an_address(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4").rename(tmp_path / "tcp:a.mp4")
    assert len(list(Video("tcp:a.mp4"))) == len(CONSTANT)
    assert server.folder is not None
    write_film(server.folder / "a.ts")
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n"
    (tmp_path / "list.mp4").write_text(f"{head}{server.url}/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ImageError, match=r"list\.mp4"):
        list(Video("list.mp4"))
    assert server.paths == []


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "film.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r"film\.mp4: PyAV is not .*pip install 'resnest-zoo\[video\]'"):
        Video(path)


# --- cameras -------------------------------------------------------------------------------------------


def test_a_cameras_clock_begins_at_0(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """FFmpeg's own source of test pictures stands for a camera."""
    source = "testsrc=size=32x24:rate=10:duration=1,setpts=PTS+1000/TB"
    monkeypatch.setattr("resnest_zoo.data.video._CAMERAS", {"linux": ("lavfi", source + "{}")})
    monkeypatch.setattr("sys.platform", "linux")
    film = Video("camera:")
    assert film.is_live
    assert film.duration is None
    frames = list(film)
    assert [frame.time for frame in frames] == pytest.approx([k / 10 for k in range(10)])
    assert frames[0].pts == 0
    assert film.problems == []
    monkeypatch.undo()
    with pytest.raises(ImageError, match=r"^camera:9: cannot be opened as a film: "):
        open_container("camera:9", "camera:9")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(
            (name, True)
            for name in ("a.MP4", "x/b.mkv", "camera:0", "rtsp://host/x", "https://host/a.mov?x=1.jpg")
        ),
        *((name, False) for name in ("a.gif", "mp4", "camera.png", "https://host/a.jpg", "a.txt")),
    ],
)
def test_names_tell_films(name: str, expected: bool) -> None:
    assert is_film(name) is expected


def test_no_password_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ImageError) as caught:
        Video("rtsp://user:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value) + caplog.text
