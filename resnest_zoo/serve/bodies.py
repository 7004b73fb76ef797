"""What a request carries, within its limits.

Nothing is read beyond them, decoded before its size is known, or named on this machine as a client calls it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from resnest_zoo.errors import ImageError, cut, shown
from resnest_zoo.serve.limits import BODY_RATE, BODY_SECONDS, ENVELOPE, ROOM, Limits
from resnest_zoo.serve.refusals import RefusalError, without_paths

if TYPE_CHECKING:
    from torch import Tensor

_PICTURE = re.compile(r"image/[\w.+-]+|application/octet-stream")
_FILM = re.compile(r"video/[\w.+-]+|image/gif|application/octet-stream")


@dataclass(frozen=True)
class Upload:
    """A file of a request.

    Attributes:
        content: its bytes.
        name: for the eye alone; never a path.
    """

    content: bytes
    name: str


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The files of a request: its body, or the parts named `file` of a multipart one.

    Raises:
        RefusalError: no file, too many or too large ones, another type, too slow, or a broken body.
        ClientDisconnect: the client went.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = await _read_parts(request, limits)
    elif _PICTURE.fullmatch(kind):
        chunks = [chunk async for chunk in _chunks(request, limits.max_bytes, "--max-bytes")]
        uploads = [Upload(b"".join(chunks), "picture-1")]
    else:
        raise RefusalError(
            415,
            "wrong_type",
            f"expected a picture as the body, with a Content-Type such as image/jpeg or "
            f"application/octet-stream, or multipart/form-data; got {shown(kind)}",
        )
    if any(not upload.content for upload in uploads):
        raise RefusalError(400, "empty", "expected the bytes of a picture, got an empty file")
    return uploads


async def _read_parts(request: Request, limits: Limits) -> list[Upload]:
    stream = _chunks(request, limits.max_bytes + ENVELOPE, "--max-bytes")
    parser = MultiPartParser(request.headers, stream, max_files=limits.max_files, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise RefusalError(
                413,
                "too_many_files",
                f"expected up to {limits.max_files} files in a request, got more; send several requests",
            ) from error
        raise RefusalError(
            400, "bad_multipart", f"the multipart body is not well formed: {cut(error.message)}"
        ) from error
    try:
        files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
        if not files:
            raise RefusalError(400, "no_file", "expected one part or more named `file` with a file name")
        return [
            Upload(await file.read(), clean_name(file.filename, f"picture-{number}"))
            for number, file in enumerate(files, start=1)
        ]
    finally:
        await form.close()


def clean_name(name: str | None, default: str) -> str:
    """The last part of a name that a client gave, without what cannot be printed."""
    last = re.split(r"[/\\]", name or "")[-1]
    printed = "".join(letter for letter in last if letter.isprintable()).strip(" .")
    return cut(printed, 200) or default


async def receive_film(request: Request, path: Path, limits: Limits) -> None:
    """Write a film's bytes to a file of ours.

    Raises:
        RefusalError: too large, too slow, empty, or another type.
        ClientDisconnect: the client went.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if not _FILM.fullmatch(kind):
        raise RefusalError(
            415,
            "wrong_type",
            "expected a film as the body, with a Content-Type such as video/mp4 or application/octet-stream; "
            f"got {shown(kind)}",
        )
    size = 0
    with path.open("wb") as file:
        async for chunk in _chunks(request, limits.max_film_bytes, "--max-film-bytes"):
            size += len(chunk)
            await asyncio.to_thread(file.write, chunk)
    if not size:
        raise RefusalError(400, "empty", "expected the bytes of a film, got an empty body")


async def _chunks(request: Request, limit: int, option: str) -> AsyncGenerator[bytes, None]:
    """The body as it arrives.

    Raises:
        RefusalError: it is longer than `limit`, as announced or as it comes, or slower than it may be.
        ClientDisconnect: the client went.
    """
    too_large = RefusalError(
        413,
        "too_large",
        f"expected up to {limit:,} bytes, got more; send a smaller file, or start the server with {option}",
    )
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced[:20]) > limit:
        raise too_large
    stream = request.stream().__aiter__()
    start, size = time.monotonic(), 0
    while True:
        left = start + BODY_SECONDS + size / BODY_RATE - time.monotonic()
        try:
            chunk = await asyncio.wait_for(stream.__anext__(), max(0.0, left))
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise RefusalError(
                408,
                "too_slow",
                f"the body did not arrive: expected all of it in {BODY_SECONDS:.0f} s, or "
                f"{BODY_RATE:,} bytes a second, got {size:,} bytes",
            ) from error
        size += len(chunk)
        if size > limit:
            raise too_large
        if chunk:
            yield chunk


def count_pixels(uploads: Sequence[Upload], limits: Limits) -> int:
    """Of all pictures, by their headers.

    Raises:
        RefusalError: one, or all together, have too many, or one is no picture.
    """
    from resnest_zoo.data.pictures import read_size

    total = 0
    for upload in uploads:
        with _as_refusal():
            height, width = size = read_size(upload.content)
        check_pixels(size, limits)
        total += height * width
    if total > ROOM * limits.max_pixels:
        raise RefusalError(
            413,
            "too_many_pixels",
            f"expected up to {ROOM * limits.max_pixels:,} pixels in a request, got {total:,}; send several "
            "requests",
        )
    return total


def decode_picture(content: bytes) -> Tensor:
    """(3, H, W) uint8 RGB, upright.

    Raises:
        RefusalError: it is no picture that can be read.
    """
    from resnest_zoo.data.pictures import read_picture

    with _as_refusal():
        return read_picture(content)


@contextmanager
def _as_refusal() -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise RefusalError(422, "bad_picture", without_paths(str(error))) from error


def check_pixels(size: tuple[int, int], limits: Limits) -> None:
    """Refuse what is too large to decode.

    Raises:
        RefusalError: (height, width) are too many pixels.
    """
    height, width = size
    if height * width > limits.max_pixels:
        raise RefusalError(
            413,
            "too_many_pixels",
            f"expected up to {limits.max_pixels:,} pixels, got {width} x {height}; send a smaller picture, "
            "or start the server with --max-pixels",
        )


@asynccontextmanager
async def watched(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client of a request, whose body has been read, goes."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(wait())
    try:
        yield task
    finally:
        task.cancel()
