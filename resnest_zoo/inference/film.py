"""Annotated films: pictures with times in, an H.264 film with the source's sound out."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from resnest_zoo.data.pictures import Picture, read_picture
from resnest_zoo.data.video import Frame, Video, check_installed, open_container
from resnest_zoo.errors import ConfigError, ImageError, shown
from resnest_zoo.hub.staging import staged

if TYPE_CHECKING:
    import av.container

logger = logging.getLogger(__name__)

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_QUALITY = {"crf": "20", "preset": "veryfast"}


def fits(sound: Any, form: str) -> bool:
    """Whether a container takes a stream of sound as it is, which its own writer alone knows.

    Args:
        sound: a stream of an opened film.
        form: of the container, as FFmpeg calls it.
    """
    import av

    try:
        with av.open(io.BytesIO(), "w", format=form) as trial:
            trial.add_stream_from_template(sound)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def ending_for(source: Video) -> str:
    """The ending of a film that has room for the source's sound: .mp4, which plays everywhere, else .mkv."""
    return ".mp4" if all(fits(sound, "mp4") for sound in source.sound_streams) else ".mkv"


class VideoWriter:
    """Writes a film, frame after frame; use it as a context. It appears when it is whole, or not at all.

    >>> with Video("a.mp4") as film, VideoWriter("found.mp4", film) as written:
    ...     for frame in film:
    ...         written.write(predict(frame).plot(), frame)

    Frames keep their times, whatever the rate; the sound's packets are copied as they are. All frames have
    the size of the first, even by a row or column that repeats the last; others are fitted into it. Colours
    are stored by BT.709 in limited range (ITU-T H.273), and the film says so.
    """

    def __init__(self, path: str | Path, source: Video | None = None, *, rate: float = 25.0) -> None:
        """Begin a film.

        Args:
            path: of a .mp4, .mov or .mkv file.
            source: whose sound it gets; None for none.
            rate: frames in a second, of pictures that are written without a frame.

        Raises:
            ConfigError: the path has another ending, or the rate is not above 0.
        """
        self.path = Path(path)
        self._form = _FORMATS.get(self.path.suffix.lower())
        if self._form is None:
            raise ConfigError(
                f"{path}: a film is written as .mp4, .mov or .mkv, not {shown(self.path.suffix)}"
            )
        if not rate > 0:
            raise ConfigError(f"rate: expected a number above 0, got {shown(rate)}")
        self._step = 1 / Fraction(rate).limit_denominator(100_000)
        self._source = source
        self._count, self._last = 0, -1
        self._stack = ExitStack()
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._time_base = self._step
        self._sound: Iterator[Any] = iter(())
        self._waiting: Any | None = None

    def __enter__(self) -> VideoWriter:
        """Begin to write. Raises an `ImageError` where PyAV is not installed."""
        check_installed(str(self.path))
        self._part = self._stack.enter_context(staged(self.path))
        return self

    def write(self, picture: Picture, frame: Frame | None = None) -> None:
        """Add a picture.

        Args:
            picture: see `read_picture`.
            frame: whose time it has; without one, the time that follows by the rate.

        Raises:
            ImageError: the picture cannot be used, or the encoder is not there.
            OSError: the file cannot be written.
        """
        import av

        image = read_picture(picture).cpu()
        array = image.permute(1, 2, 0).numpy()  # (H, W, 3)
        pts, time_base = (self._count, self._step) if frame is None else (frame.pts, frame.time_base)
        if self._container is None:
            with self._named_errors():
                self._open(array.shape[0], array.shape[1], time_base)
        assert self._container is not None
        if time_base != self._time_base:
            pts, time_base = round(pts * time_base / self._time_base), self._time_base
        pts = max(pts, self._last + 1) if self._count else pts  # players want times that grow
        coloured = av.VideoFrame.from_ndarray(self._fitted(array), format="rgb24")
        rule = self._stream.codec_context
        encoded = coloured.reformat(
            format=rule.pix_fmt, dst_colorspace=rule.colorspace, dst_color_range=rule.color_range
        )
        encoded.pts, encoded.time_base = pts, time_base
        with self._named_errors():
            self._copy_sound(float(pts * time_base))
            for packet in self._stream.encode(encoded):
                self._container.mux(packet)
        self._count, self._last = self._count + 1, pts

    def _open(self, height: int, width: int, time_base: Fraction) -> None:
        """Open the file once the first picture tells its size."""
        import av
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

        file = str(self._part)
        container = av.open(file, "w", format=self._form)
        self._stack.callback(container.close)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream: Any = container.add_stream(codec, rate=self._source.rate if self._source else 1 / self._step)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.codec_context.time_base = stream.time_base = time_base
        # Players guess the rule of a film that does not tell it, by its size.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        if self._source is not None:
            stream.codec_context.sample_aspect_ratio = self._source.pixel_aspect
        if codec == "libx264":
            stream.options = _QUALITY
        self._container, self._stream, self._time_base = container, stream, time_base
        if self._source is not None and self._source.sound and not self._source.is_live:
            self._sound = self._open_sound(container, self._source)
            self._waiting = next(self._sound, None)

    def _open_sound(self, container: Any, source: Video) -> Iterator[Any]:
        """The packets of the source's sound, each set to go into its stream of this film."""
        import av

        reader = self._stack.enter_context(open_container(source.source, source.name))
        streams: dict[int, Any] = {}
        for audio in reader.streams.audio:
            if fits(audio, str(self._form)):
                streams[audio.index] = container.add_stream_from_template(audio)
            else:
                logger.warning(
                    "%s: its sound (%s) does not fit into %s and is left out; write an .mkv",
                    *(source.name, audio.codec_context.codec.canonical_name, self.path.suffix),
                )

        def packets() -> Iterator[Any]:
            try:
                for packet in reader.demux([reader.streams[index] for index in streams]):
                    if packet.dts is not None:  # the last ones are empty
                        packet.stream = streams[packet.stream.index]
                        yield packet
            except av.error.FFmpegError as error:
                logger.warning("%s: its sound ends early: %s", source.name, error.strerror or error)

        return packets() if streams else iter(())

    def _copy_sound(self, until: float) -> None:
        """Write the sound up to a time in seconds, so that both lie beside each other in the file."""
        assert self._container is not None
        while (packet := self._waiting) is not None and float(packet.dts * packet.time_base) <= until:
            self._container.mux(packet)
            self._waiting = next(self._sound, None)

    def _fitted(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The picture in the size of the film, whose height and width are even."""
        height, width = self._stream.height, self._stream.width
        missing = height - array.shape[0], width - array.shape[1]
        if min(missing) >= 0 and max(missing) <= 1:
            return np.pad(array, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        scale = min(height / array.shape[0], width / array.shape[1])
        size = max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale))
        canvas = Image.new("RGB", (width, height))
        small = Image.fromarray(array).resize(size, Image.Resampling.BILINEAR)
        canvas.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
        return np.asarray(canvas)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack, self._named_errors():
            self._finish()

    def _finish(self) -> None:
        if self._container is None:
            raise ImageError(f"{self.path}: not written, since there was no picture")
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._copy_sound(float("inf"))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turn what goes wrong in the encoder or on the disk into an error that names the film."""
        import av

        try:
            yield
        except av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error
