"""By which names films, cameras, streams and addresses are told; nothing heavy is loaded to ask."""

from __future__ import annotations

import re
from pathlib import Path

# What names of cameras and of streams without an end begin with.
LIVE = ("camera:", "rtsp://", "rtsps://", "rtmp://", "rtmps://", "srt://", "udp://")
_SUFFIXES = re.compile(r"\.(3gp|avi|flv|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)", re.IGNORECASE)


def is_live(name: str) -> bool:
    """Whether a name is that of a camera or a stream."""
    return name.lower().startswith(LIVE)


def is_url(name: object) -> bool:
    """Whether a text is an address that pictures and films are fetched from."""
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))


def is_film(name: str) -> bool:
    """Whether a name is that of a film, a camera or a stream, by its ending or its beginning."""
    path = re.sub(r"[?#].*", "", name) if "://" in name else name
    return is_live(name) or _SUFFIXES.fullmatch(Path(path).suffix) is not None
