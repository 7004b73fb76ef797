"""One file from any http(s) address a user names, into memory: no cache, no hash, no second try.

Checkpoints come by `resnest_zoo.hub.fetch`, which knows what their bytes have to be.
"""

from __future__ import annotations

import time
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit

from resnest_zoo.errors import DownloadError
from resnest_zoo.hub.cache import public_address
from resnest_zoo.hub.session import open_session
from resnest_zoo.hub.settings import read_settings

if TYPE_CHECKING:
    import requests

_TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two arrivals of data
_LONGEST = 300.0  # seconds for the whole
_REDIRECTS = 10
_CHUNK = 1 << 16


def read_url(url: str, *, limit: int = 1 << 28) -> bytes:
    """What lies at an address, as `copy_url` gets it.

    Args:
        url: http or https.
        limit: bytes, 256 MiB by default.
    """
    content = BytesIO()
    copy_url(url, content, limit=limit)
    return content.getvalue()


def copy_url(url: str, target: BinaryIO, *, limit: int, seconds: float = _LONGEST) -> None:
    """Copy what lies at an address into a file.

    Redirects are followed, but never to another scheme than http and https, from https to http, or from a
    public host to a private address, such as one of this machine: whoever runs the host could else make the
    user ask for what only the user can reach. Addresses are looked up before each request; behind a proxy,
    which looks them up itself, only those written as numbers are known.

    Args:
        url: http or https.
        target: open for writing; of a transfer that fails it holds a part.
        limit: bytes.
        seconds: for the whole.

    Raises:
        DownloadError: no request is to be made (RESNEST_ZOO_OFFLINE), nobody answers in time, the answer is
            an error, a page of HTML, longer than `limit` or cut short, or redirects to where it must not. The
            message does not name `url`.
    """
    import requests
    from urllib3.exceptions import HTTPError

    if read_settings().offline:
        raise DownloadError("no request is made, since RESNEST_ZOO_OFFLINE is set")
    deadline = time.monotonic() + seconds
    try:
        with open_session() as session, _follow(session, url) as response:
            _check(response)
            _copy(response, target, limit, deadline)
    except (requests.RequestException, HTTPError, ValueError) as error:
        cause = getattr(error.args[0] if error.args else error, "reason", None) or error
        raise DownloadError(f"{type(error).__name__}: {public_address(str(cause))}") from error


def _follow(session: requests.Session, url: str) -> requests.Response:
    """The first answer that is no redirect."""
    started_public = not _is_private(url)
    for _ in range(_REDIRECTS):
        response = session.get(url, stream=True, timeout=_TIMEOUT, allow_redirects=False)
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(response.url, response.headers["Location"])
        goal = public_address(url)
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"redirects to {goal}, which is refused: it is not http or https")
        if started_public and _is_private(url):
            raise DownloadError(f"redirects to {goal}, which is refused: a private address")
    raise DownloadError(f"redirects more than {_REDIRECTS} times")


def _is_private(url: str) -> bool:
    """Whether the host of an address has any network address that is not for all the world."""
    from ipaddress import ip_address

    found = (ip_address(address.partition("%")[0]) for address in _addresses(urlsplit(url).hostname or ""))
    return any(not address.is_global or address.is_multicast for address in found)


def _addresses(host: str) -> set[str]:
    """The network addresses of a host; none where it is not known here."""
    import socket

    if not host:
        return set()
    try:
        return {str(row[4][0]) for row in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


def _check(response: requests.Response) -> None:
    if response.status_code != 200:
        raise DownloadError(f"HTTP {response.status_code} {response.reason or ''}".rstrip())
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise DownloadError("is a page of HTML; give the address of the file itself")


def _copy(response: requests.Response, target: BinaryIO, limit: int, deadline: float) -> None:
    too_long = f"is longer than {limit / (1 << 20):.0f} MiB, which is the limit"
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise DownloadError(too_long)
    size = 0
    for chunk in response.iter_content(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise DownloadError(too_long)
        if time.monotonic() > deadline:
            raise DownloadError("did not arrive in time")
        target.write(chunk)
