"""Who may ask: hosts, origins, the token; and the headers of every answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from resnest_zoo.errors import ConfigError
from resnest_zoo.serve.guard import POLICY
from resnest_zoo.serve.server import address_of, choose_token
from tests.serve.running import Client, picture, running

TOKEN = "0123456789abcdefXYZ_-"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running() as client:
        yield client


@pytest.fixture(scope="module")
def open_to_others() -> Iterator[Client]:
    """As with --host 0.0.0.0."""
    with running(host="0.0.0.0", token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:99", "localhost."]
)
def test_own_names_are_let_in(client: Client, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "192.168.0.1", "localhost.evil.example", "", "[::1", "a@b"]
)
def test_other_names_are_refused(client: Client, host: str) -> None:
    """A page's own name may lead to this machine."""
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == 400
    if host:  # else h11 refuses it itself
        assert answer.json()["error"]["kind"] == "wrong_host"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/video", "/api/models/x/load"])
def test_other_sites_can_start_nothing(client: Client, path: str, headers: dict[str, str]) -> None:
    answer = client.post(path, data=picture(), headers={"Content-Type": "text/plain", **headers})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (403, "other_site")
    assert client.stub.seen == []


def test_the_own_page_and_programs_can(client: Client) -> None:
    own = {"Origin": client.url, "Sec-Fetch-Site": "same-origin", "Content-Type": "image/png"}
    for headers in (own, {"Content-Type": "image/png"}):
        assert client.post("/predict", data=picture(), headers=headers).status_code == 200
    client.stub.seen.clear()


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/predict", "/static/x.js", "/openapi.json"])
def test_every_answer_has_the_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == ("no-cache" if "static" in path else "no-store")
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert "server" not in headers


def test_no_preflight_is_allowed(client: Client) -> None:
    answer = client.session.options(
        f"{client.url}/predict", headers={"Origin": "http://evil.example"}, timeout=20
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/../../etc/passwd",
        "/static/",
    ],
)
def test_no_other_file_is_read(client: Client, path: str) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(client.url.rpartition(":")[2]), timeout=20)
    connection.request("GET", path)  # as it is; requests would tidy it up
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404
    assert b"import" not in body
    assert b"root:" not in body


def test_a_token_is_needed(open_to_others: Client) -> None:
    for path in ("/health", "/", "/api/models", "/metrics", "/?token=wrong", f"/health?token={TOKEN}"):
        answer = open_to_others.get(path)
        assert (answer.status_code, answer.json()["error"]["kind"]) == (401, "no_token")
    wrong = {"Authorization": f"Bearer {TOKEN}x"}
    assert open_to_others.get("/health", headers=wrong).status_code == 401
    page = open_to_others.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 401
    assert "open the address that the command has printed" in page.text


def test_the_token_as_a_header(open_to_others: Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert open_to_others.get("/health", headers=headers).status_code == 200
    named = {**headers, "Host": "192.168.7.7:8000"}
    assert open_to_others.get("/health", headers=named).status_code == 200  # an address is nobody's name
    foreign = {**headers, "Host": "evil.example"}
    assert open_to_others.get("/health", headers=foreign).status_code == 400


def test_the_token_in_the_address_becomes_a_cookie(open_to_others: Client) -> None:
    answer = open_to_others.get(f"/?token={TOKEN}", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert open_to_others.get("/health").status_code == 200  # the session keeps it
    open_to_others.session.cookies.clear()


def test_a_token_is_made_up_beyond_this_machine() -> None:
    assert choose_token("127.0.0.1", None) is None
    assert choose_token("localhost", TOKEN) == TOKEN
    first, second = choose_token("0.0.0.0", None), choose_token("192.168.0.4", None)
    assert first is not None
    assert len(first) > 30
    assert first != second
    for wrong in ("short", "with a blank in it here", "ümlaute-sind-nicht-gut"):
        with pytest.raises(ConfigError, match="--token: expected 16 letters"):
            choose_token("localhost", wrong)


def test_the_address_that_is_printed() -> None:
    assert address_of("127.0.0.1", 80, None) == "http://127.0.0.1:80/"
    assert address_of("::1", 80, None) == "http://[::1]:80/"
    assert address_of("host.example", 80, TOKEN) == f"http://host.example:80/?token={TOKEN}"
    assert "0.0.0.0" not in address_of("0.0.0.0", 80, TOKEN)
