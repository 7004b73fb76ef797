"""Bytes over http: time-outs, retries, resumption.

A transfer goes on where it broke off when the source offers ranges and can tell that its file is still the
same, or when the hash will tell. Whatever looks passing (429, 5xx, resets, stalls, a body cut short) is tried
again after a growing, jittered pause; what looks final (403, 404, a page instead of a file) is not.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub.cache import public_address
from resnest_zoo.hub.part import CHUNK, Origin, Part

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two arrivals of data
_ATTEMPTS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds
_PASSING = {408, 425, 429, 500, 502, 503, 504}
# A source that trickles slower than this for this long is given up like one that stalls.
_TRICKLE_BYTES, _TRICKLE_SECONDS = 100_000, 60.0


class _PassingError(DownloadError):
    """A failure worth another try, after `pause` seconds if the source asked for it."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def receive_http(
    url: str, part: Part, *, hash_known: bool, on_bytes: Callable[[int, int | None], None]
) -> None:
    """Bring the file at `url` into `part`, whole as far as its source announces its length.

    Args:
        url: http(s) address.
        part: may hold bytes already; they are continued if that is safe, else dropped.
        hash_known: the caller can tell a wrong result, so bytes may be continued without the source's word.
        on_bytes: called with the bytes in `part` and the announced total, for a progress bar.

    Raises:
        DownloadError: the source does not deliver. IntegrityError: it delivers something else.
        OSError: the part cannot be written.
    """
    if part.size and part.origin and part.origin.url == url and part.size == part.origin.total:
        return  # whole already: its process died before it could check it
    with _session() as session:
        for attempt in range(_ATTEMPTS):
            try:
                _request(session, url, part, hash_known, on_bytes)
            except _PassingError as error:
                if attempt + 1 == _ATTEMPTS:
                    raise DownloadError(f"{error}; gave up after {_ATTEMPTS} attempts") from error
                pause = _pause(attempt) if error.pause is None else error.pause
                if pause > _LONGEST_PAUSE:
                    raise DownloadError(f"{error}; it asks to wait {pause:.0f} s") from error
                logger.info("%s: %s; trying again in %.1f s", public_address(url), error, pause)
                _sleep(pause)
            else:
                return


def _pause(attempt: int) -> float:
    """Doubling, with jitter, so that many clients do not come back together."""
    pause: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _session() -> requests.Session:
    import requests

    session = requests.Session()  # proxies and certificates as the environment has them
    session.headers.update({"User-Agent": "resnest_zoo", "Accept-Encoding": "identity"})
    session.hooks["response"].append(_refuse_downgrade)
    return session


def _refuse_downgrade(response: requests.Response, **_: Any) -> None:
    """Stop a redirect that would leave https: anyone on the way could then change the bytes."""
    from urllib.parse import urljoin

    if response.is_redirect and response.url.lower().startswith("https:"):
        goal = urljoin(response.url, response.headers["Location"])
        if not goal.lower().startswith("https:"):
            response.close()
            raise DownloadError(f"redirects from https to {public_address(goal)}, which is refused")


def _request(
    session: requests.Session,
    url: str,
    part: Part,
    hash_known: bool,
    on_bytes: Callable[[int, int | None], None],
) -> None:
    """One request: continue `part` or start it anew, and write what comes."""
    headers = _range_headers(url, part, hash_known)
    if not headers:
        part.restart()
    with _passing_errors(), session.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as response:
        if response.status_code == 416 and headers:
            part.restart()  # the file is shorter than what we have: not ours
            raise _PassingError("HTTP 416: the range it was asked for is not in its file", pause=0.0)
        _check_status(response)
        if response.status_code == 206 and not headers:
            raise DownloadError("HTTP 206: it sent a part though the whole was asked for")
        if headers and not _continues(response, part):
            part.restart()
            if response.status_code == 206:
                raise _PassingError("it sent another range than asked for", pause=0.0)
        total = _announced_total(response, part.size)
        part.remember(_origin(url, response, total))
        on_bytes(part.size, total)
        _copy(response, part, total, on_bytes)


def _range_headers(url: str, part: Part, hash_known: bool) -> dict[str, str]:
    """Ask for the rest of `part`; empty when its bytes cannot safely be continued from `url`."""
    origin = part.origin
    if part.size == 0 or origin is None or part.size == origin.total:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    if origin.url == url and origin.validator is not None:
        headers["If-Range"] = origin.validator
    elif not hash_known:
        return {}
    return headers


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206):
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise IntegrityError("expected a checkpoint, got a page of HTML")
        return
    message = f"HTTP {status} {response.reason}"
    if status in _PASSING:
        raise _PassingError(message, _retry_after(response.headers.get("Retry-After", "")))
    raise DownloadError(message)


def _retry_after(value: str) -> float | None:
    """Seconds that a source asks us to wait, written as such or as a date."""
    from email.utils import parsedate_to_datetime

    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _continues(response: requests.Response, part: Part) -> bool:
    """Whether the answer is the rest of the part, from its very next byte."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if response.status_code != 206 or found is None or int(found[1]) != part.size:
        return False
    known = part.origin.total if part.origin else None
    return known is None or found[3] in ("*", str(known))


def _announced_total(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    # A body that is encoded after all has another length than the file.
    return start + int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None


def _origin(url: str, response: requests.Response, total: int | None) -> Origin:
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return Origin(url, strong, response.headers.get("Last-Modified"), total)


def _copy(
    response: requests.Response,
    part: Part,
    total: int | None,
    on_bytes: Callable[[int, int | None], None],
) -> None:
    window_start, window_size = time.monotonic(), part.size
    for chunk in response.iter_content(CHUNK):
        part.write(chunk)
        on_bytes(part.size, total)
        elapsed = time.monotonic() - window_start
        if elapsed >= _TRICKLE_SECONDS:
            if part.size - window_size < _TRICKLE_BYTES:
                raise DownloadError(f"too slow: {part.size - window_size} bytes in {elapsed:.0f} s")
            window_start, window_size = time.monotonic(), part.size
    if total is not None and part.size != total:
        raise _PassingError(f"cut off after {part.size} of {total} bytes")


@contextmanager
def _passing_errors() -> Iterator[None]:
    """Resets and stalls as errors worth another try; wrong addresses and redirect loops as final ones."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        HTTPError,
    ) as error:
        inner = error.args[0] if error.args else error
        cause = getattr(inner, "reason", None) or inner  # without urllib3's wrapping
        raise _PassingError(f"{type(error).__name__}: {public_address(str(cause))}") from error
    except requests.RequestException as error:
        raise DownloadError(f"{type(error).__name__}: {public_address(str(error))}") from error
