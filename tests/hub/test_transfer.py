from __future__ import annotations

import gzip
import io
import shutil
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3

from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub import session, transfer
from resnest_zoo.hub.part import Part
from tests.servers import Fault, FileServer, Reply

BODY = bytes(range(256)) * 2000  # 512,000 bytes


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts are recorded, not waited for."""
    waited: list[float] = []
    monkeypatch.setattr(transfer, "_sleep", waited.append)
    return waited


@pytest.fixture
def served(server: FileServer) -> FileServer:
    assert server.folder is not None
    (server.folder / "m").write_bytes(BODY)
    return server


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    with Part(tmp_path / "target") as part:
        yield part


def receive(server: FileServer, part: Part, *, hash_known: bool = False, path: str = "/m") -> bytes:
    transfer.receive_http(
        server.url + path, part, hash_known=hash_known, size_known=False, on_bytes=lambda *_: None
    )
    return part.path.read_bytes()


def test_bytes_arrive_and_are_counted(served: FileServer, part: Part) -> None:
    seen: list[tuple[int, int | None]] = []
    transfer.receive_http(
        f"{served.url}/m",
        part,
        hash_known=True,
        size_known=True,
        on_bytes=lambda *now: seen.append(now),
    )
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert part.path.read_bytes() == BODY


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("hash_known", [False, True])
def test_a_broken_transfer_goes_on_where_it_broke(
    served: FileServer, part: Part, pauses: list[float], how: str, hash_known: bool
) -> None:
    served.script["/m"] = [Fault(after=200_000, how=how), Fault(after=200_000, how=how)]
    assert receive(served, part, hash_known=hash_known) == BODY
    first, second, third = served.starts("/m")
    if how == "close":
        assert (first, second, third) == (0, 200_000, 400_000)
    else:  # what had not been read yet is lost with the connection
        assert first == 0 < second <= 200_000
        assert second < third <= second + 200_000
    etag = served.requests[1].headers["If-Range"]
    assert etag.startswith('"')
    assert part.joined
    assert len(pauses) == 2


def test_progress_earns_new_attempts(served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_PROGRESS", 10_000)
    served.script["/m"] = [Fault(after=40_000)] * 12
    assert receive(served, part) == BODY
    assert len(served.paths) == 13


def test_bytes_that_must_be_sent_again_and_again_are_no_progress(
    served: FileServer, part: Part, pauses: list[float]
) -> None:
    served.replies["/m"] = Reply(BODY[:300_000], length=len(BODY))  # ignores ranges, always breaks off
    with pytest.raises(DownloadError, match=r"300000 bytes read.*gave up after 6"):
        receive(served, part)
    assert len(served.paths) <= transfer._ATTEMPTS + 1


def test_a_source_without_ranges_starts_again(served: FileServer, part: Part) -> None:
    served.script["/m"] = [Fault(after=200_000), Fault(ignore_range=True)]
    assert receive(served, part) == BODY
    assert not part.joined


def test_a_file_that_changed_between_two_attempts_starts_again(served: FileServer, part: Part) -> None:
    served.script["/m"] = [Reply(b"x" * 300_000, headers={"ETag": '"old"'}, length=400_000)]
    assert receive(served, part) == BODY
    assert served.requests[1].headers["If-Range"] == '"old"'


def test_a_range_of_another_version_is_refused_though_the_source_ignores_if_range(
    served: FileServer, part: Part
) -> None:
    served.script["/m"] = [
        Reply(b"x" * 300_000, headers={"ETag": '"old"'}, length=len(BODY)),
        Fault(ignore_if_range=True),
    ]
    assert receive(served, part) == BODY
    assert served.ranges("/m") == [None, "bytes=300000-", None]


@pytest.mark.parametrize("shift", [-1, 1, 1000])
def test_a_range_that_is_off_starts_again(served: FileServer, part: Part, shift: int) -> None:
    served.script["/m"] = [Fault(after=200_000), Fault(shift=shift)]
    assert receive(served, part, hash_known=True) == BODY
    assert served.ranges("/m") == [None, "bytes=200000-", None]


def test_a_range_that_ends_early_is_continued(served: FileServer, part: Part) -> None:
    served.script["/m"] = [Fault(after=200_000), Fault(short=100_000)]
    assert receive(served, part) == BODY
    assert served.ranges("/m") == [None, "bytes=200000-", "bytes=412000-"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": None},
        {"Content-Range": "bytes 200000-511999"},
        {"Content-Range": "bytes 200000-511999/999"},
        {"Content-Range": "items 200000-511999/512000"},
        {"Content-Range": "bytes ²-5/9"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_range_that_does_not_say_what_it_is_starts_again(
    served: FileServer, part: Part, headers: dict[str, str | None]
) -> None:
    served.script["/m"] = [Fault(after=200_000), Fault(headers=headers)]
    assert receive(served, part, hash_known=True) == BODY
    assert served.ranges("/m") == [None, "bytes=200000-", None]


def test_a_range_beyond_the_file_starts_again(served: FileServer, part: Part) -> None:
    served.script["/m"] = [Reply(b"x" * 600_000, length=700_000)]
    assert receive(served, part, hash_known=True) == BODY
    assert served.ranges("/m") == [None, "bytes=600000-", None]


def test_without_hash_nothing_is_continued_that_the_source_does_not_vouch_for(
    served: FileServer, part: Part
) -> None:
    served.script["/m"] = [Fault(after=200_000, headers={"ETag": None})]
    assert receive(served, part, hash_known=False) == BODY
    assert served.ranges("/m") == [None, None]


@pytest.mark.parametrize(
    ("modified", "vouches"),
    [
        ("Thu, 01 Jan 2015 00:00:00 GMT", True),
        ("Fri, 01 Jan 2100 00:00:00 GMT", False),
        ("yesterday", False),
    ],
)
def test_an_old_last_modified_names_a_version(
    served: FileServer, part: Part, modified: str, vouches: bool
) -> None:
    headers: dict[str, str | None] = {"ETag": None, "Last-Modified": modified}
    served.script["/m"] = [Fault(after=200_000, headers=headers), Fault(ignore_if_range=True)]
    assert receive(served, part) == BODY
    assert served.requests[1].headers.get("If-Range") == (modified if vouches else None)


def test_a_weak_etag_names_no_version(served: FileServer, part: Part) -> None:
    served.script["/m"] = [Fault(after=200_000, headers={"ETag": 'W/"1"'})]
    assert receive(served, part) == BODY
    assert served.ranges("/m") == [None, None]


def test_a_whole_part_needs_no_request(served: FileServer, tmp_path: Path) -> None:
    with Part(tmp_path / "m") as first:
        receive(served, first)
    with Part(tmp_path / "m") as second:
        assert receive(served, second) == BODY
    assert len(served.paths) == 1


def test_what_a_killed_process_left_is_continued_only_under_a_known_hash(
    served: FileServer, tmp_path: Path
) -> None:
    for hash_known in (True, False):
        part = Part(tmp_path / "m")
        receive(served, part)
        part.file.truncate(300_000)
        part.file.close()
        with Part(tmp_path / "m") as second:
            assert receive(served, second, hash_known=hash_known) == BODY
            second.discard()
        asked = "bytes=300000-" if hash_known else None
        assert served.ranges("/m")[-1] == asked


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    served: FileServer, part: Part, pauses: list[float], status: int
) -> None:
    served.script["/m"] = [Reply(status=status)] * 3
    assert receive(served, part) == BODY
    assert [0.25 <= pauses[0] <= 0.5, 0.5 <= pauses[1] <= 1, 1 <= pauses[2] <= 2] == [True] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 501])
def test_final_failures_are_not(served: FileServer, part: Part, pauses: list[float], status: int) -> None:
    served.replies["/m"] = Reply(status=status)
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        receive(served, part)
    assert len(served.paths) == 1
    assert pauses == []


def test_patience_ends(served: FileServer, part: Part, pauses: list[float]) -> None:
    served.replies["/m"] = Reply(status=503)
    with pytest.raises(DownloadError, match="HTTP 503 Service Unavailable; gave up after 6 attempts"):
        receive(served, part)
    assert len(pauses) == 5
    assert sum(pauses) < 16


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0 "}, 0.0),
        ({"Retry-After": "Fri, 02 Jan 2026 00:00:09 GMT", "Date": "Fri, 02 Jan 2026 00:00:00 GMT"}, 9.0),
        ({"Retry-After": "Fri, 02 Jan 2026 00:00:09 -0000", "Date": "Fri, 02 Jan 2026 00:00:00 GMT"}, 9.0),
        ({"Retry-After": "Fri, 02 Jan 2026 00:00:00 GMT", "Date": "Fri, 02 Jan 2026 00:00:09 GMT"}, 0.0),
        ({"Retry-After": "Fri, 02 Jan 2015 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "Fri, 99 Jan 99999 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], expected: float | None) -> None:
    assert transfer._retry_after(headers) == expected


def test_retry_after_is_waited_for(served: FileServer, part: Part, pauses: list[float]) -> None:
    served.script["/m"] = [Reply(status=429, headers={"Retry-After": "7"})]
    assert receive(served, part) == BODY
    assert pauses == [7.0]


def test_a_wait_that_is_too_long_is_not_waited_for(
    served: FileServer, part: Part, pauses: list[float]
) -> None:
    served.replies["/m"] = Reply(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(DownloadError, match=r"HTTP 429 .*; it asks to wait 3600 s"):
        receive(served, part)
    assert pauses == []


def test_a_stall_is_tried_again(served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_TIMEOUT", (5.0, 0.5))
    served.script["/m"] = [Fault(after=200_000, how="stall")]
    assert receive(served, part) == BODY
    assert served.ranges("/m") == [None, "bytes=200000-"]


def test_a_source_that_only_stalls_is_given_up(
    served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_TIMEOUT", (1.0, 0.05))
    served.replies["/m"] = Reply(BODY, stall_after=1000)
    with pytest.raises(DownloadError, match=r"timed out.*gave up after 6"):
        receive(served, part)


def test_a_trickle_is_noticed_though_it_never_stalls(
    served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is faked: every look at the clock is 21 seconds after the last."""
    times = iter(range(0, 10**6, 21))
    monkeypatch.setattr(transfer, "_clock", lambda: float(next(times)))
    served.always = Fault(pace=0.02, block=10)
    with pytest.raises(DownloadError, match=r"too slow: \d+ bytes in \d+ s; gave up after 6"):
        receive(served, part)
    assert 0 < part.size < 10_000


def test_a_steady_source_is_no_trickle_however_long_it_takes(
    served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(0, 10**6, 70))
    monkeypatch.setattr(transfer, "_clock", lambda: float(next(times)))
    monkeypatch.setattr(transfer, "_TRICKLE_BYTES", 1000)
    served.always = Fault(pace=0.001, block=50_000)
    assert receive(served, part) == BODY


def test_nobody_at_the_address_is_found_out_soon(part: Part, pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match=r"refused.*gave up after 3"):
        transfer.receive_http(
            f"http://127.0.0.1:{port}/m", part, hash_known=True, size_known=True, on_bytes=lambda *_: None
        )
    assert len(pauses) == 2


def test_a_host_that_takes_no_connection_is_knocked_at_once_for_all_files(
    part: Part, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time-out of a connection is that of several knocks, and as long as a person waits."""
    asked = []

    def wait(*_: object, **__: object) -> None:
        asked.append(1)
        raise requests.ConnectTimeout(urllib3.exceptions.ConnectTimeoutError("timed out"))

    monkeypatch.setattr(requests.Session, "get", wait)
    for reason in ("timed out; gave up after 1", "nobody answered at 127.0.0.1:9 a moment ago"):
        with pytest.raises(DownloadError, match=reason):
            transfer.receive_http(
                "http://127.0.0.1:9/m", part, hash_known=True, size_known=True, on_bytes=lambda *_: None
            )
    assert (asked, pauses) == ([1], [])


def test_a_redirect_loop_is_final(served: FileServer, part: Part, pauses: list[float]) -> None:
    served.replies["/m"] = Reply(status=302, headers={"Location": "/m"})
    with pytest.raises(DownloadError, match="TooManyRedirects"):
        receive(served, part)
    assert pauses == []


def test_a_redirect_is_asked_for_the_rest_too(served: FileServer, part: Part) -> None:
    served.replies["/old"] = Reply(status=307, headers={"Location": "/m"})
    served.script["/m"] = [Fault(after=200_000)]
    assert receive(served, part, path="/old") == BODY
    assert served.ranges("/m") == [None, "bytes=200000-"]


def test_a_compressed_answer_is_unpacked_and_never_continued(served: FileServer, part: Part) -> None:
    packed = gzip.compress(BODY + b"more")
    headers = {"Content-Encoding": "gzip", "ETag": '"packed"'}
    served.script["/m"] = [Reply(packed[:1000], headers=headers, length=len(packed))]
    assert receive(served, part) == BODY
    assert served.ranges("/m") == [None, None]


@pytest.mark.parametrize("type", ["text/html", "Text/HTML; charset=utf-8"])
def test_a_page_is_refused_before_it_is_read(served: FileServer, part: Part, type: str) -> None:
    served.replies["/m"] = Reply(b"Denied", headers={"Content-Type": type})
    with pytest.raises(IntegrityError, match="page of HTML"):
        receive(served, part)


@pytest.mark.parametrize("length", ["²", "-1", "1e9"])
def test_a_nonsensical_length_is_no_length(served: FileServer, part: Part, length: str) -> None:
    served.replies["/m"] = Reply(BODY, length=length)
    assert receive(served, part, hash_known=True) == BODY


def test_an_error_of_the_disk_is_not_blamed_on_the_source(
    served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        receive(served, part)
    assert not isinstance(caught.value, DownloadError)


def test_a_missing_certificate_bundle_is_blamed_on_the_source(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    with pytest.raises(DownloadError, match="certificate bundle"):
        transfer.receive_http(
            "https://127.0.0.1:9/m", part, hash_known=True, size_known=True, on_bytes=lambda *_: None
        )


def test_a_redirect_out_of_https_is_refused() -> None:
    response = requests.Response()
    response.url, response.status_code = "https://host/model.pth", 302
    response.headers["Location"] = "http://host/model.pth"
    response.raw = io.BytesIO()
    with pytest.raises(DownloadError, match=r"from https to http://host/model\.pth"):
        session._refuse_downgrade(response)
    response.headers["Location"] = "//other/model.pth"
    session._refuse_downgrade(response)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, path = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def secured(served: FileServer, certificate: Path) -> FileServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure = FileServer(served.folder)
    secure._server.socket = context.wrap_socket(secure._server.socket, server_side=True)
    secure.url = secure.url.replace("http:", "https:")
    secure._server.handle_error = lambda *_: None  # type: ignore[method-assign] - clients that hang up
    return secure


def test_https_is_checked_and_never_left(
    served: FileServer, part: Part, pauses: list[float], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(served, certificate) as secure:
        with pytest.raises(DownloadError, match="certificate verify failed"):
            receive(secure, part)
        assert pauses == []  # nothing passing about it
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        secure.replies["/away"] = Reply(status=302, headers={"Location": f"{served.url}/m"})
        with pytest.raises(DownloadError, match=r"redirects from https to http://.*, which is refused"):
            receive(secure, part, path="/away")
        assert receive(secure, part) == BODY
    assert served.paths == []


@pytest.fixture
def secure(served: FileServer, certificate: Path) -> Iterator[FileServer]:
    """The same over https."""
    with secured(served, certificate) as server:
        yield server


@pytest.mark.parametrize("variables", ["file", "folder", "both", "both, the folder's"])
def test_certificates_are_those_that_other_programs_use(
    secure: FileServer, part: Part, certificate: Path, variables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = certificate.with_name("certificates")
    folder.mkdir()
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificate], capture_output=True, text=True, check=True
    ).stdout.strip()
    if variables != "file":
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    if variables != "both":
        (folder / f"{digest}.0").write_bytes(certificate.read_bytes())
    if variables != "folder":
        others = requests.certs.where()
        monkeypatch.setenv("SSL_CERT_FILE", others if variables == "both, the folder's" else str(certificate))
    assert receive(secure, part) == BODY


def test_the_variables_of_requests_go_first(
    secure: FileServer, part: Part, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    with pytest.raises(DownloadError, match="certificate verify failed"):
        receive(secure, part)


def test_a_proxy_is_used(served: FileServer, part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    served.replies["http://nowhere.invalid/m"] = Reply(BODY)
    monkeypatch.setenv("http_proxy", served.url)
    transfer.receive_http(
        "http://nowhere.invalid/m", part, hash_known=True, size_known=True, on_bytes=lambda *_: None
    )
    assert part.path.read_bytes() == BODY


def test_threads_have_sessions_of_their_own(served: FileServer, tmp_path: Path) -> None:
    found: list[bytes] = []

    def one(number: int) -> None:
        with Part(tmp_path / str(number)) as part:
            found.append(receive(served, part))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BODY] * 4


PACKED = gzip.compress(BODY)
_RAW = zlib.compressobj(wbits=-15)
BODIES = {
    "gzip": PACKED,
    "gzip of two members": gzip.compress(BODY[:300_000]) + gzip.compress(BODY[300_000:]),
    "gzip and padding": PACKED + bytes(10),
    "deflate": zlib.compress(BODY),
    "deflate without a frame": _RAW.compress(BODY) + _RAW.flush(),
}


@pytest.mark.parametrize("name", [*BODIES, "X-GZIP"])
def test_a_packed_body_is_unpacked(served: FileServer, part: Part, name: str) -> None:
    headers = {"Content-Encoding": name.split()[0]}
    served.replies["/m"] = Reply(BODIES.get(name, PACKED), headers=headers)
    assert receive(served, part) == BODY


@pytest.mark.parametrize("cut", [-1, -9, 1000, 5, 0])
@pytest.mark.parametrize("name", ["gzip", "deflate without a frame"])
def test_a_packed_body_that_is_cut_inside_is_not_taken(
    served: FileServer, part: Part, name: str, cut: int
) -> None:
    """The announced length is that of what was sent, so that nothing else tells."""
    served.replies["/m"] = Reply(BODIES[name][:cut], headers={"Content-Encoding": name.split()[0]})
    with pytest.raises(DownloadError, match="its packed body is cut off; gave up after 6"):
        receive(served, part)
    served.script["/m"] = [served.replies.pop("/m")]
    assert receive(served, part) == BODY


def test_a_packed_body_that_is_damaged_is_not_taken(served: FileServer, part: Part) -> None:
    body = bytearray(PACKED)
    body[-6] ^= 1  # in its checksum
    served.replies["/m"] = Reply(bytes(body), headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match="packed body is damaged"):
        receive(served, part)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_a_body_packed_in_another_way_is_refused_at_once(
    served: FileServer, part: Part, pauses: list[float], encoding: str
) -> None:
    served.replies["/m"] = Reply(PACKED, headers={"Content-Encoding": encoding})
    with pytest.raises(DownloadError, match=f"packed as '{encoding}', though asked not to be"):
        receive(served, part)
    assert pauses == []
