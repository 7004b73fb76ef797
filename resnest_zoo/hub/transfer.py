"""Bytes over http: time-outs, retries, resumption.

A transfer goes on where it broke off when the source can tell that its file is still the same, or when the
hash of the whole will tell. Whatever looks passing (429, 5xx, resets, stalls, a trickle, a body cut short) is
tried again after a growing, jittered pause; what looks final (403, 404, a page instead of a file, a
certificate that does not hold) is not.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub.cache import public_address
from resnest_zoo.hub.packing import Unpacker
from resnest_zoo.hub.part import CHUNK, Origin, Part, url_digest
from resnest_zoo.hub.session import open_session

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two arrivals of data
_ATTEMPTS = 6  # in a row without progress
_CONNECT_ATTEMPTS = 3  # of them, when nobody answers at all: other sources may be waiting
_PROGRESS = 100_000  # bytes beyond the best attempt so far that count as progress
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds
_PASSING = {408, 425, 429, 500, 502, 503, 504}
# A source that trickles slower than this for this long is treated like one that stalls.
_TRICKLE_BYTES, _TRICKLE_SECONDS = 100_000, 60.0
_SILENCE = 60.0  # seconds for which a host where nobody answers is not asked again
_RENAMES = 5  # of a repository, one after the other
_silent: dict[str, float] = {}  # such hosts, and when they may be asked again
_CLOCK_STEP = 60.0  # seconds a Last-Modified must be old to name one version, RFC 7232, section 2.2.2

OnBytes = Callable[[int, "int | None"], None]


class RefusedError(DownloadError):
    """The source answers and will not give the file.

    Attributes:
        status: of its answer.
        code, said: its reason as a Hugging Face hub states it, a word and a sentence; empty elsewhere.
    """

    def __init__(self, message: str, status: int, code: str, said: str) -> None:
        super().__init__(message)
        self.status, self.code, self.said = status, code, said


class _PassingError(DownloadError):
    """A failure worth another try, after `pause` seconds if the source asked for it.

    Attributes:
        attempts: how many in a row are made.
        nobody: nobody answered at all.
    """

    def __init__(
        self, message: str, pause: float | None = None, attempts: int = _ATTEMPTS, *, nobody: bool = False
    ) -> None:
        super().__init__(message)
        self.pause, self.attempts, self.nobody = pause, attempts, nobody


def receive_http(
    url: str,
    part: Part,
    *,
    hash_known: bool,
    size_known: bool,
    on_bytes: OnBytes,
    token: str | None = None,
) -> None:
    """Bring the file at `url` into `part`, whole as far as its source announces its length.

    Args:
        url: http(s) address.
        part: may hold bytes already; they are continued if that is safe, else dropped.
        hash_known: the caller can tell wrong bytes, so bytes may be continued without the source's word.
        size_known: the caller can tell a file cut short.
        on_bytes: called with the bytes in `part` and the announced total, for a progress bar.
        token: sent to the host of `url` alone, not to where it redirects.

    Raises:
        RefusedError: the source answers and refuses. DownloadError: it does not deliver.
        IntegrityError: it delivers something else.
        OSError: the part cannot be written.
    """
    if _is_whole(url, part, hash_known):
        return
    _check_host(url)
    with open_session(token) as session:
        failures, best = 0, part.size
        while True:
            try:
                _request(session, url, part, hash_known, size_known, on_bytes)
            except _PassingError as error:
                failures = 1 if part.size >= best + _PROGRESS else failures + 1
                best = max(best, part.size)
                if error.nobody and failures >= error.attempts:
                    _silent[_host(url)] = _clock() + _SILENCE
                _wait(url, error, failures)
            else:
                return


def ask_head(
    url: str, token: str | None = None, *, timeout: tuple[float, float], redirects: int
) -> Mapping[str, str]:
    """The headers a file would come with; no body moves, and nothing is tried again.

    Raises:
        RefusedError: the source answers and refuses.
        DownloadError: it does not answer, or with something else.
    """
    _check_host(url)
    try:
        with open_session(token) as session, _network_errors():
            session.max_redirects = redirects
            response = session.head(url, allow_redirects=True, timeout=timeout)
        _check_status(response)
    except _PassingError as error:
        if error.nobody:
            _silent[_host(url)] = _clock() + _SILENCE
        raise
    return response.headers


def ask_hub(url: str, token: str | None, *, timeout: tuple[float, float] = (5.0, 10.0)) -> dict[str, str]:
    """The headers with which a Hugging Face hub answers for a file, before it redirects to where that lies.

    They name the commit and state a large file's SHA-256; renamed repositories are followed on the hub.

    Raises:
        RefusedError: the hub answers and refuses. DownloadError: it does not answer.
    """
    from urllib.parse import urljoin

    _check_host(url)
    start = _host(url)
    try:
        with open_session(token) as session, _network_errors():
            for _ in range(_RENAMES):
                response = session.head(url, allow_redirects=False, timeout=timeout)
                goal = urljoin(url, response.headers.get("Location", url))
                if not response.is_redirect:
                    _check_status(response)
                if not response.is_redirect or _host(goal) != start or "X-Repo-Commit" in response.headers:
                    return dict(response.headers.items())
                url = goal
    except _PassingError as error:
        if error.nobody:
            _silent[start] = _clock() + _SILENCE
        raise
    raise DownloadError(f"redirects more than {_RENAMES} times")


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(public_address(url)).netloc


def _check_host(url: str) -> None:
    """Spare every further file the wait for a host where nobody answered a moment ago."""
    if _clock() < _silent.get(_host(url), 0.0):
        raise DownloadError(f"nobody answered at {_host(url)} a moment ago; it is asked again in a minute")


def _is_whole(url: str, part: Part, hash_known: bool) -> bool:
    """Whether nothing is missing: the process that received it died before it could check it."""
    origin = part.origin
    return (
        part.size > 0
        and origin is not None
        and origin.is_of(url)
        and part.size == origin.total
        and (hash_known or part.intact)
    )


def _wait(url: str, error: _PassingError, failures: int) -> None:
    """Pause before the next try, or raise for good."""
    if failures >= error.attempts:
        raise DownloadError(f"{error}; gave up after {failures} attempts") from error
    pause = _pause(failures - 1) if error.pause is None else error.pause
    if pause > _LONGEST_PAUSE:
        raise DownloadError(f"{error}; it asks to wait {pause:.0f} s") from error
    logger.info("%s: %s; trying again in %.1f s", public_address(url), error, pause)
    _sleep(pause)


def _pause(failures: int) -> float:
    """Doubling, with jitter, so that many clients do not come back together."""
    pause: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**failures)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _clock() -> float:
    return time.monotonic()


def _request(
    session: requests.Session, url: str, part: Part, hash_known: bool, size_known: bool, on_bytes: OnBytes
) -> None:
    """One request: continue `part` or start it anew, and write what comes."""
    headers = _range_headers(url, part, hash_known)
    with _open(session, url, headers) as response:
        if response.status_code == 416 and headers:
            part.restart()  # the file is shorter than what we have: not ours
            raise _PassingError("HTTP 416: the range it was asked for is not in its file", pause=0.0)
        _check_status(response)
        continued = response.status_code == 206
        if continued and not headers:
            raise DownloadError("HTTP 206: it sent a part though the whole was asked for")
        if continued and not _continues(response, url, part, hash_known):
            part.restart()
            raise _PassingError("it sent another range than asked for", pause=0.0)
        if continued:
            part.joined = True
        else:
            part.restart()
        total = _announced_total(response, part)
        if not (hash_known or size_known or _marks_its_end(response)):
            raise DownloadError(
                "it does not say how long the file is, and no hash or size is known: "
                "nobody could tell a file cut short"
            )
        part.promised = _promised(response)
        part.remember(_origin(url, response, total))
        on_bytes(part.size, total)
        _copy(response, part, total, on_bytes)


@contextmanager
def _open(session: requests.Session, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    with _network_errors():
        response = session.get(url, stream=True, timeout=_TIMEOUT, headers=headers)
    try:
        yield response
    finally:
        response.close()


def _range_headers(url: str, part: Part, hash_known: bool) -> dict[str, str]:
    """Ask for the rest of `part`; empty when its bytes cannot safely be continued from `url`."""
    origin = part.origin
    if part.size == 0 or origin is None or part.size == origin.total:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    if origin.is_of(url) and origin.validator is not None and (hash_known or part.intact):
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
    message = f"HTTP {status} {response.reason or ''}".rstrip()
    if status in _PASSING:
        raise _PassingError(message, _retry_after(response.headers))
    code, said = (response.headers.get(f"X-Error-{name}", "")[:300] for name in ("Code", "Message"))
    raise RefusedError(message, status, code, said)


def _retry_after(headers: Any) -> float | None:
    """Seconds that a source asks us to wait, written as such or as a date by its own clock."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", value):
        return float(value)
    until = _parse_date(value)
    if until is None:
        return None
    now = _parse_date(headers.get("Date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def _parse_date(value: str) -> float | None:
    """Seconds since 1970 of a date in a header."""
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _content_range(response: requests.Response) -> tuple[int, int | None] | None:
    """First byte and total of a range; None for anything that is not one."""
    value = response.headers.get("Content-Range", "").strip()
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", value)
    return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def _continues(response: requests.Response, url: str, part: Part, hash_known: bool) -> bool:
    """Whether the answer is the rest of the part, from its very next byte, of the same version."""
    found = _content_range(response)
    if found is None or found[0] != part.size or _is_encoded(response) or part.origin is None:
        return False
    known, announced = part.origin.total, found[1]
    if None not in (known, announced) and known != announced:
        return False
    if hash_known:
        return True
    etag = response.headers.get("ETag")
    return announced is not None and (part.origin.etag is None or etag in (None, part.origin.etag))


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", "")


def _announced_total(response: requests.Response, part: Part) -> int | None:
    """Bytes of the whole file, as far as the source says."""
    if _is_encoded(response):
        return None  # the body has another length than the file
    if response.status_code == 206 and (found := _content_range(response)):
        return found[1] if found[1] is not None or part.origin is None else part.origin.total
    length = response.headers.get("Content-Length", "").strip()
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _marks_its_end(response: requests.Response) -> bool:
    """Whether a body that ends early looks different from one that ends."""
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return chunked or "Content-Length" in response.headers


def _origin(url: str, response: requests.Response, total: int | None) -> Origin:
    if _is_encoded(response):
        return Origin(url_digest(url))  # its ranges count other bytes than ours
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    modified = response.headers.get("Last-Modified")
    changed, now = _parse_date(modified or ""), _parse_date(response.headers.get("Date", ""))
    if changed is None or now is None or now - changed < _CLOCK_STEP:
        modified = None
    return Origin(url_digest(url), strong, modified, total)


def _promised(response: requests.Response) -> str | None:
    """The SHA-256 that a Hugging Face hub states of a large file before it redirects to where that lies."""
    for answer in (*response.history, response):
        digits = answer.headers.get("X-Linked-Etag", "").strip('"')
        if re.fullmatch("[0-9a-f]{64}", digits):
            return digits
    return None


def _copy(response: requests.Response, part: Part, total: int | None, on_bytes: OnBytes) -> None:
    window_start, window_size = _clock(), part.size
    for chunk in _plain_body(response):
        part.write(chunk)
        on_bytes(part.size, total)
        elapsed = _clock() - window_start
        if elapsed >= _TRICKLE_SECONDS:
            if part.size - window_size < _TRICKLE_BYTES:
                raise _PassingError(f"too slow: {part.size - window_size} bytes in {elapsed:.0f} s")
            window_start, window_size = _clock(), part.size
    if total is not None and part.size != total:
        raise _PassingError(f"cut off after {part.size} of {total} bytes")


def _plain_body(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives, unpacked where the source packed it all the same."""
    if not _is_encoded(response):
        yield from _body(response)
        return
    # Not left to urllib3, which takes a packed body that ends too early for a whole one.
    try:
        unpacker = Unpacker(response.headers["Content-Encoding"].strip().lower())
    except ValueError as error:
        raise DownloadError(str(error)) from error
    for chunk in _body(response):
        try:
            yield from unpacker.feed(chunk)
        except ValueError as error:
            raise _PassingError(str(error)) from error
    if not unpacker.is_whole:
        raise _PassingError("its packed body is cut off")


def _body(response: requests.Response) -> Iterator[bytes]:
    while True:
        with _network_errors():
            # What has arrived, without waiting for a full chunk: else a trickle would never be noticed.
            chunk = response.raw.read1(CHUNK, decode_content=False)
        if not chunk:
            return
        yield chunk


@contextmanager
def _network_errors() -> Iterator[None]:
    """Resets and stalls as errors worth another try; wrong addresses and redirect loops as final ones."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        yield
    except DownloadError:
        raise
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        HTTPError,
    ) as error:
        raise _connection_error(error) from error
    except (requests.RequestException, OSError) as error:
        raise DownloadError(f"{type(error).__name__}: {public_address(str(error))}") from error


def _connection_error(error: Exception) -> DownloadError:
    from ssl import SSLCertVerificationError

    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

    inner = error.args[0] if error.args else error
    cause = getattr(inner, "reason", None) or inner  # without urllib3's wrapping
    message = f"{type(error).__name__}: {public_address(str(cause))}"
    if isinstance(cause, Exception) and any(isinstance(arg, SSLCertVerificationError) for arg in cause.args):
        return DownloadError(message)
    if isinstance(cause, (NewConnectionError, ProxyError)):
        return _PassingError(message, attempts=_CONNECT_ATTEMPTS, nobody=True)
    if isinstance(cause, ConnectTimeoutError):  # the system has knocked several times by then
        return _PassingError(message, attempts=1, nobody=True)
    return _PassingError(message)
