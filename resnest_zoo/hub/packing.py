"""Bodies that a server packs though it was asked not to: gzip and deflate, and whether they are whole."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's `wbits`
_RAW = -15  # what some servers mean by deflate
_BLOCK = 1 << 20  # bytes unpacked at once: a few packed ones may hold very many


class Unpacker:
    """Unpack one body. Bytes go in with `feed`; `is_whole` tells whether the body has come to its own end."""

    def __init__(self, encoding: str) -> None:
        """Start with a Content-Encoding.

        Raises:
            ValueError: it is none that Python unpacks by itself.
        """
        if encoding not in _WINDOWS:
            raise ValueError(f"the body is packed as {encoding!r}, though asked not to be")
        self._may_be_raw = encoding == "deflate"
        self._window = _WINDOWS[encoding]
        self._engine = zlib.decompressobj(self._window)

    @property
    def is_whole(self) -> bool:
        """Whether everything that was packed has come out, its checksum included."""
        return self._engine.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` unpacks to, in blocks.

        Raises:
            ValueError: it is damaged.
        """
        while data:
            if self._engine.eof:
                data = data.lstrip(b"\0")  # padding
                if not data:
                    return
                self._engine = zlib.decompressobj(self._window)  # gzip's next member
            block, data = self._unpack(data)
            if block:
                yield block

    def _unpack(self, data: bytes) -> tuple[bytes, bytes]:
        """One block, and what is left to unpack."""
        try:
            block = self._engine.decompress(data, _BLOCK)
        except zlib.error as error:
            if not self._may_be_raw:
                raise ValueError(f"its packed body is damaged: {error}") from error
            self._window, self._engine = _RAW, zlib.decompressobj(_RAW)
            block = b""
        else:
            data = self._engine.unconsumed_tail or self._engine.unused_data
        self._may_be_raw = False
        return block, data
