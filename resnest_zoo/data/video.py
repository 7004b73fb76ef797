"""Films and cameras, frame after frame, through PyAV: upright, with their times, in constant memory.

PyAV is an extra: `pip install "resnest-zoo[video]"`. Writing is in `resnest_zoo.inference.film`.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from resnest_zoo.data.file_names import check_file
from resnest_zoo.data.film_names import is_live, is_url
from resnest_zoo.errors import ConfigError, DownloadError, ImageError, cut, shown
from resnest_zoo.extras import load_extra

if TYPE_CHECKING:
    import av.container
    import av.video.frame
    import av.video.stream

logger = logging.getLogger(__name__)

_CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
    "win32": ("dshow", "video={}"),
}
_TIMEOUT = (10.0, 30.0)  # seconds: to open a stream, and between two arrivals of data
_MOST_BYTES, _MOST_SECONDS = 1 << 34, 4 * 3600.0  # of a film that is fetched
_RATE = Fraction(25)  # of a film that tells neither times nor a rate
_SLACK = 0.5  # seconds that a film may end before the end that its header promises


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a film; `read_picture`, and with it a `Predictor`, takes it as a picture.

    Attributes:
        image: (3, H, W) uint8 RGB on the CPU, upright. The size may change within a film.
        index: of the frame in the film, from 0; all that could be decoded count.
        pts: its time in units of `time_base`, which is what a container stores.
        time_base: seconds.
        time: seconds since the film's beginning.
    """

    image: Tensor
    index: int
    pts: int
    time_base: Fraction
    time: float


class Video:
    """A film or a camera; iterate it for its frames, in order. A context, or closed at its end.

    >>> with Video("street.mp4", every=5) as film:
    ...     for frame in film:
    ...         print(frame.time, predict(frame.image))

    Frames are decoded when they are asked for. It can be iterated once.

    Attributes:
        name: for messages.
        is_live: whether it has no end of its own, as a camera.
        duration: in seconds, as far as the file says; a damaged file may end before.
        rate: frames in a second on average, as far as the file says.
        sound: names of the codecs of its sound, empty where it has none.
        pixel_aspect: width of a pixel divided by its height, known from the first frame on; nearly always 1.
            Pictures keep the pixels as they are stored.
        problems: what was wrong on the way, one sentence each.
    """

    def __init__(
        self, source: str | Path, *, every: int = 1, on_problem: Callable[[str], None] | None = None
    ) -> None:
        """Open a film.

        Args:
            source: a path; an http(s) address, whose film is fetched into a temporary file first; "camera:0"
                for the first camera ("camera:NAME" on Windows); or the address of a stream (rtsp, rtmp, srt
                or udp).
            every: yield each Nth frame alone, beginning with the first.
            on_problem: called with what is wrong, which does not end the film: a frame that cannot be
                decoded, an end before its time. By default it is logged as a warning.

        Raises:
            ImageError: PyAV is not installed, there is no such file or camera, or it holds no film.
            ConfigError: `every` is below 1.
        """
        if every < 1:
            raise ConfigError(f"every: expected a whole number above 0, got {shown(every)}")
        self.name = cut(re.sub(r"(?<=://)[^/\s]*@", "", str(source)))
        self._remove: Callable[[], object] = lambda: None
        if is_url(source):
            folder = tempfile.mkdtemp()
            # At the latest when nobody has the film any more.
            self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            source = _fetch(str(source), Path(folder), self.name)
        self.source = source
        self.every = every
        self.problems: list[str] = []
        self.pixel_aspect = Fraction(1)
        self._on_problem = on_problem or logger.warning
        self.is_live = is_live(str(source))
        self._container = open_container(source, self.name)
        if not self._container.streams.video:
            self._container.close()
            raise ImageError(f"{self.name}: holds no film")
        self._stream: av.video.stream.VideoStream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.duration = None if self.is_live else _duration(self._container, self._stream)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or _RATE)
        self.sound = [
            str(audio.codec_context.codec.canonical_name) for audio in self._container.streams.audio
        ]

    @property
    def stated_size(self) -> tuple[int, int]:
        """(height, width) of its pictures as the file says, before a rotation; frames may differ."""
        return self._stream.height, self._stream.width

    @property
    def sound_streams(self) -> list[Any]:
        """The streams of its sound, as PyAV has them."""
        return list(self._container.streams.audio)

    def __iter__(self) -> Iterator[Frame]:
        start = _Start(self._container, self._stream, self.is_live, 1 / self.rate)
        index, end, gap = -1, 0.0, 0.0
        for index, decoded in enumerate(self._decode()):
            if index == 0:
                aspect = Fraction(self._stream.sample_aspect_ratio or 1)
                self.pixel_aspect = 1 / aspect if round(decoded.rotation / 90) % 2 else aspect
            pts, time_base, time = start.time_of(decoded, index)
            gap = max(gap, time - end) if index else 0.0
            end = time + float((decoded.duration or 0) * time_base)
            if index % self.every == 0:
                yield Frame(_upright(decoded), index, pts, time_base, time)
        if index < 0:
            self._tell("no frame could be decoded")
        elif self.duration is not None and self.duration - end > _SLACK + gap:
            self._tell(f"ends after {end:.1f} s of {self.duration:.1f} s: it is cut off or damaged")
        self.close()

    def _decode(self) -> Iterator[av.video.frame.VideoFrame]:
        """The frames that can be decoded, in the order they are shown."""
        import av

        packets = self._container.demux(self._stream)
        seen = 0
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self._tell(f"after frame {seen}: {_reason(error)}; it is left out")
                if len(self.problems) > _MOST_PROBLEMS:
                    self._tell("too much is broken: given up")
                    return
                continue
            for frame in frames:
                seen += 1
                if frame.is_corrupt:
                    self._tell(f"frame {seen - 1} is damaged, and used as far as it could be decoded")
                yield frame

    def _tell(self, problem: str) -> None:
        self.problems.append(problem)
        self._on_problem(f"{self.name}: {problem}")

    def close(self) -> None:
        """Let go of the file; it can be done twice."""
        self._container.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._remove()  # not before: a film that is written has still sound to copy


_MOST_PROBLEMS = 100  # of one film; a reader that fails without end is given up


class _Start:
    """The times of frames, of which some films have none."""

    def __init__(self, container: Any, stream: Any, is_live: bool, step: Fraction) -> None:
        self._step = step
        self._offset = 0  # in units of the frames' time base
        self._is_live = is_live
        microseconds = Fraction(container.start_time or 0, 1_000_000)
        begins = stream.start_time * stream.time_base if stream.start_time is not None else microseconds
        self._zero = min(microseconds, begins) if not is_live else Fraction(0)

    def time_of(self, frame: Any, index: int) -> tuple[int, Fraction, float]:
        """Time stamp, time base, and seconds since the beginning."""
        pts, time_base = frame.pts, frame.time_base
        if pts is None or not time_base:
            return index, self._step, float(index * self._step)
        if self._is_live and index == 0:
            self._offset = pts  # the clock of a camera began long ago
        pts -= self._offset
        return pts, Fraction(time_base), float(pts * time_base - self._zero)


def _fetch(url: str, folder: Path, name: str) -> Path:
    """Copy the film at an address into a folder.

    Raises:
        ImageError: it cannot be had.
    """
    from resnest_zoo.hub.web import copy_url

    path = folder / "film"
    try:
        with path.open("wb") as file:
            copy_url(url, file, limit=_MOST_BYTES, seconds=_MOST_SECONDS)
    except DownloadError as error:
        raise ImageError(f"{name}: cannot be read: {error}") from error
    return path


def check_installed(name: str) -> None:
    """Raise an `ImageError` that begins with `name`, a film's, and names the extra, where PyAV is missing."""
    load_extra("av", "video", where=name, called="PyAV", kind=ImageError)


def open_container(source: str | Path, name: str) -> av.container.InputContainer:
    """A file, camera or stream, opened by PyAV.

    Raises:
        ImageError: PyAV is not installed, or it cannot be opened. The message begins with `name`.
    """
    check_installed(name)
    import av

    address, options = _address(source)
    try:
        opened: av.container.InputContainer = av.open(address, **options)
        return opened
    except av.error.FFmpegError as error:
        raise ImageError(f"{name}: cannot be opened as a film: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: cannot be opened as a film: {error}") from error


def _address(source: str | Path) -> tuple[str, dict[str, Any]]:
    """What PyAV opens for a source, and how."""
    text = str(source)
    if text.lower().startswith("camera:"):
        form, pattern = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
        return pattern.format(text.partition(":")[2]), {"format": form, "timeout": _TIMEOUT}
    if is_live(text):
        return text, {"timeout": _TIMEOUT}
    # A path is no address, whatever colons are in it; and from a file FFmpeg follows a list to files alone.
    return f"file:{check_file(Path(source))}", {}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _duration(container: Any, stream: Any) -> float | None:
    """Seconds of a film as its file says, of the pictures if it tells, else of the longest of its streams."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    with suppress(ValueError):
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")  # Matroska
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None if container.duration is None else container.duration / 1e6


def _upright(frame: Any) -> Tensor:
    """(3, H, W) uint8 RGB."""
    array = frame.to_ndarray(format="rgb24")  # (H, W, 3); by the frame's own colour space and range
    turns = round(frame.rotation / 90)  # counter-clockwise; what decodes never turns
    array = np.ascontiguousarray(np.rot90(array, turns).transpose(2, 0, 1))  # (3, H, W)
    return torch.from_numpy(array)
