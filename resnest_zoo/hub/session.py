"""Connections as the user's environment wants them: proxies, certificates, tokens; never out of https."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from resnest_zoo.errors import DownloadError
from resnest_zoo.hub.cache import public_address

if TYPE_CHECKING:
    import requests


def open_session(token: str | None = None) -> requests.Session:
    """A session with the proxies and certificates of the environment.

    Args:
        token: sent to the first host alone, not to where it redirects.
    """
    import requests

    session = requests.Session()
    session.headers.update({"User-Agent": "resnest_zoo", "Accept-Encoding": "identity"})
    _use_certificates(session)
    if token is not None:
        session.auth = _Bearer(token)
    session.hooks["response"].append(_refuse_downgrade)
    return session


class _Bearer:
    """A token as requests wants it, so that it is dropped where a redirect leaves the host."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _use_certificates(session: requests.Session) -> None:
    """Let SSL_CERT_FILE and SSL_CERT_DIR count as elsewhere; the variables of requests itself go first."""
    from requests.adapters import HTTPAdapter

    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not (file or folder):
        return
    session.verify = str(file or folder)

    class Adapter(HTTPAdapter):
        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
            if verify == file and folder:  # requests knows one of the two
                conn.ca_cert_dir = folder

    session.mount("https://", Adapter())


def _refuse_downgrade(response: requests.Response, **_: Any) -> None:
    """Stop a redirect that would leave https: anyone on the way could then change the bytes."""
    from urllib.parse import urljoin

    if response.is_redirect and response.url.lower().startswith("https:"):
        goal = urljoin(response.url, response.headers["Location"])
        if not goal.lower().startswith("https:"):
            response.close()
            raise DownloadError(f"redirects from https to {public_address(goal)}, which is refused")
