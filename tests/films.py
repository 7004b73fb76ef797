"""Films that tests make and take apart, through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

MILLI = Fraction(1, 1000)
CONSTANT = [40 * k for k in range(20)]
VARIABLE = np.cumsum([10 + 37 * k % 90 for k in range(20)]).tolist()
SAMPLES = 16000  # a second, of the sound


def picture(index: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """(H, W, 3) whose grey tells the frame, with a red corner at the upper left, and noise below it."""
    width, height = size
    array = np.full((height, width, 3), 40 + 8 * index % 200, np.uint8)
    array[: height // 2, : width // 2] = (220, 20, 20)
    noise = array[height // 2 :, : width // 2]
    noise[:] = np.random.default_rng(index).integers(0, 255, (*noise.shape[:2], 1), dtype=np.uint8)
    return array


def write_film(
    path: Path,
    times: Sequence[int | None] = CONSTANT,
    *,
    size: tuple[int, int] = (64, 48),
    rotation: int = 0,
    sound: str = "",
    codec: str = "libx264",
    first: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A film with a frame at each time, in milliseconds; `sound` is a codec."""
    import av

    form = "yuv420p" if not (size[0] % 2 or size[1] % 2) else "yuv444p"  # which takes odd sizes
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else form
        stream.codec_context.time_base = stream.time_base = MILLI
        if rotation:
            stream.set_display_rotation(rotation)
        voice: Any = container.add_stream(sound, rate=SAMPLES, layout="mono") if sound else None
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(first + index, size), format="rgb24")
            frame.pts, frame.time_base = time, MILLI
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            _add_sound(container, voice, (times[-1] or 0) * SAMPLES // 1000)
    return path


def _add_sound(container: Any, voice: Any, length: int) -> None:
    import av

    wave = (np.sin(np.arange(length) * 0.05) * 8000).astype(np.int16)[None]
    for start in range(0, length, 1024):
        frame = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLES, start, Fraction(1, SAMPLES)
        container.mux(voice.encode(frame))
    container.mux(voice.encode())


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    """Time and bytes of each packet of the sound."""
    import av

    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.pts is not None and p.time_base]


def times_of(path: Path) -> list[Fraction]:
    """Times of the frames in seconds."""
    import av

    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]
