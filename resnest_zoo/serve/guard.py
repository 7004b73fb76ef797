"""Who may ask, before anything else is looked at, and the headers of every answer.

A page elsewhere on the web can make a reader's browser send requests here. What keeps it out: the Host header
must be a name of this server, else a name of that page's own could lead here (DNS rebinding); what changes or
costs something must come from this server's own pages (Sec-Fetch-Site, Origin); no answer may be read by
others, since there is no CORS. Programs that are no browsers send neither header. Beyond localhost all need
the token, as a header or as the cookie that `/?token=…` sets.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnest_zoo.serve.refusals import RefusalError

LOCAL = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::", "")  # noqa: S104 - told from others, not bound to
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_WITHOUT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>resnest-zoo</title>
<p>This server needs its token: open the address that the command has printed.</p></html>
"""


class Guard:
    """Wrap an application; nothing reaches it that is not allowed."""

    def __init__(
        self, app: ASGIApp, *, host: str, names: Iterable[str] = (), token: str | None = None, port: int = 0
    ) -> None:
        """Say what is allowed.

        Args:
            app: what is guarded.
            host: that the server is bound to.
            names: further names that it has.
            token: that clients must know; None for none.
            port: for the cookie's name, since cookies are not kept apart by ports.
        """
        self.app = app
        self.token = token
        self.cookie = f"resnest_zoo_{port}"
        self._any = host in _ANY
        self._names = {name.lower().rstrip(".") for name in (*LOCAL, *names, host) if name}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                kept = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if kept else "no-store")
            await send(message)

        answer = self._refuse(scope)
        await (answer or self.app)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        """What is answered instead, if anything."""
        headers = Headers(scope=scope)
        try:
            host = self._check_host(headers)
            if scope["method"] not in ("GET", "HEAD"):
                _check_origin(headers, host)
            if self.token is not None and not self._knows_token(headers):
                return self._let_in(scope, headers)
        except RefusalError as refusal:
            return JSONResponse(refusal.document, refusal.status, refusal.headers)
        return None

    def _check_host(self, headers: Headers) -> str:
        """The Host header, if it names this server.

        Raises:
            RefusalError: there is none, there are several, or it is another's name.
        """
        given = headers.getlist("host")
        name = None
        if len(given) == 1:
            with suppress(ValueError):  # no address
                name = urlsplit(f"//{given[0]}").hostname
        if name is not None:
            name = name.rstrip(".")
            if name in self._names or (self._any and _is_address(name)):
                return given[0].lower()
        raise RefusalError(
            400,
            "wrong_host",
            "the Host header is not a name of this server; expected localhost or what --host and "
            "--allow-host name",
        )

    def _knows_token(self, headers: Headers) -> bool:
        assert self.token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self.token):
            return True
        with suppress(CookieError):
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
            return cookie is not None and _same(cookie.value, self.token)
        return False

    def _let_in(self, scope: Scope, headers: Headers) -> Response:
        """A client without the token: perhaps it stands in the address."""
        assert self.token is not None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and _same(given, self.token):
            answer: Response = RedirectResponse("/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
            return answer
        if "text/html" in headers.get("accept", ""):
            return HTMLResponse(_WITHOUT, 401)
        raise RefusalError(
            401,
            "no_token",
            "this server needs its token, which the command has printed: send it as "
            "`Authorization: Bearer TOKEN`",
        )


def _check_origin(headers: Headers, host: str) -> None:
    """Refuse what a page of another site sends.

    Raises:
        RefusalError: it is.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
    if site not in (None, "same-origin", "none") or not own:
        raise RefusalError(
            403, "other_site", "requests from pages of other sites are refused; use this server's own page"
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
