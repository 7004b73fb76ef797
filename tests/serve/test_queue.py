"""Many at once: batches, the bound, cancelling, time."""

from __future__ import annotations

import gc
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from resnest_zoo.serve import bodies, server
from resnest_zoo.serve.limits import Limits
from tests.serve.running import Client, picture, running, wait_for


def send_and_leave(client: Client, content: bytes) -> socket.socket:
    """A request whose answer is not waited for."""
    connection = socket.create_connection(("127.0.0.1", int(client.url.rpartition(":")[2])), timeout=10)
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def whole_answer(connection: socket.socket) -> bytes:
    """Head and body, which come in two pieces or in one."""
    content = b""
    while not (found := re.search(rb"content-length: (\d+)\r\n.*?\r\n\r\n(.*)", content, re.DOTALL)) or len(
        found[2]
    ) < int(found[1]):
        piece = connection.recv(65536)
        assert piece
        content += piece
    return content


def test_pictures_that_wait_together_share_a_batch() -> None:
    with running(Limits(batch=4)) as client, ThreadPoolExecutor(9) as pool:
        client.stub.free.clear()
        first = pool.submit(client.predict, picture())
        wait_for(lambda: client.stub.waiting)
        others = [pool.submit(client.predict, picture()) for _ in range(8)]
        wait_for(lambda: sum(map(len, client.service.queue._waiting.values())) == 8)
        client.stub.free.set()
        assert first.result().json()["batch"] == 1
        assert [answer.result().json()["batch"] for answer in others] == [4] * 8
        metrics = client.get("/metrics").text
        assert "resnest_zoo_batches_total 3\n" in metrics
        assert "resnest_zoo_pictures_total 9\n" in metrics


def test_one_that_comes_alone_waits_no_longer_than_the_window() -> None:
    with running(Limits(batch=4, window=0.05)) as client:
        start = time.perf_counter()
        assert client.predict(picture()).json()["batch"] == 1
        assert time.perf_counter() - start < 5


def test_others_are_told_to_come_back_when_the_queue_is_full() -> None:
    with running(Limits(queue=3)) as client, ThreadPoolExecutor(3) as pool:
        client.stub.free.clear()
        answers = [pool.submit(client.predict, picture()) for _ in range(3)]
        wait_for(lambda: client.service.queue.taken == 3)
        refused = client.predict(picture())
        assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "busy")
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        # What needs no model is answered meanwhile.
        assert client.get("/health").json()["status"] == "ok"
        assert "resnest_zoo_queue_pictures 3\n" in client.get("/metrics").text
        client.stub.free.set()
        assert [answer.result().status_code for answer in answers] == [200] * 3
        assert client.service.queue.taken == 0
        assert client.predict(picture()).status_code == 200


def test_several_pictures_of_one_request_count_each() -> None:
    with running(Limits(queue=3)) as client:
        files = [("file", (f"{k}.png", picture())) for k in range(4)]
        assert client.post("/predict", files=files).status_code == 503
        assert client.post("/predict", files=files[:3]).status_code == 200


def test_what_waits_is_dropped_when_its_client_goes() -> None:
    with running() as client, ThreadPoolExecutor(1) as pool:
        client.stub.free.clear()
        first = pool.submit(client.predict, picture(40))
        wait_for(lambda: client.stub.waiting)
        gone = send_and_leave(client, picture(41))
        wait_for(lambda: client.service.queue.taken == 2)
        gone.close()
        wait_for(lambda: client.service.queue.taken == 1)
        client.stub.free.set()
        assert first.result().status_code == 200
        assert client.predict(picture(42)).status_code == 200
        assert [width for _, width in client.stub.seen] == [40, 42]
        assert client.service.metrics.get("dropped_total") == 1


def test_what_would_be_late_is_told_at_once() -> None:
    with running(Limits(timeout=10.0)) as client, ThreadPoolExecutor(1) as pool:
        client.service.queue._pace = 11.0
        client.stub.free.clear()
        first = pool.submit(client.predict, picture())  # nothing is before it
        wait_for(lambda: client.service.queue.taken == 1)
        refused = client.predict(picture())
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "11")
        client.stub.free.set()
        assert first.result().status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with running(Limits(timeout=0.2)) as client:
        client.stub.free.clear()
        late = client.predict(picture())
        assert (late.status_code, late.json()["error"]["kind"]) == (503, "timeout")
        assert "Retry-After" in late.headers
        assert client.service.queue.taken == 0
        client.service.limits = Limits()
        client.stub.free.set()
        assert client.predict(picture()).status_code == 200
    gc.collect()
    assert caplog.text == ""  # no result that nobody took


def test_a_body_that_comes_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    with running() as client:
        connection = send_and_leave(client, b"")
        connection.close()
        connection = socket.create_connection(("127.0.0.1", int(client.url.rpartition(":")[2])), timeout=10)
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        answer = whole_answer(connection)
        assert b" 408 " in answer.splitlines()[0]
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["kind"] == "too_slow"
        connection.close()
        assert client.service.queue.taken == 0


def test_only_so_many_pixels_are_decoded_at_once() -> None:
    """A second large picture is not decoded before the first one is answered; small ones need little room."""
    with running(Limits(max_pixels=1000)) as client, ThreadPoolExecutor(4) as pool:
        client.stub.free.clear()
        first = pool.submit(post, client, [picture(40, 25)] * 4)
        wait_for(lambda: client.service.pixels == 4000)
        second = pool.submit(post, client, [picture(10, 10)])
        wait_for(lambda: client.service.queue.taken == 5)
        time.sleep(0.1)
        assert client.service.pixels == 4000
        client.stub.free.set()
        assert (first.result(), second.result()) == (200, 200)
        assert post(client, [picture(40, 25)] * 4 + [picture(10, 10)]) == 413
        assert post(client, [picture(40, 26)]) == 413
        wait_for(lambda: client.service.pixels == client.service.queue.taken == 0)


def post(client: Client, contents: list[bytes]) -> int:
    files = [("file", ("a.png", content)) for content in contents]
    return requests.post(f"{client.url}/predict", files=files, timeout=20).status_code


def test_connections_that_ask_nothing_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with running() as client:
        port = int(client.url.rpartition(":")[2])
        silent = socket.create_connection(("127.0.0.1", port), timeout=10)
        slow = socket.create_connection(("127.0.0.1", port), timeout=10)
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        again = socket.create_connection(("127.0.0.1", port), timeout=10)
        again.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in whole_answer(again)
        again.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        client.stub.free.clear()
        worked_on = send_and_leave(client, picture())
        assert [one.recv(65536) for one in (silent, slow, again)] == [b""] * 3
        time.sleep(0.7)
        client.stub.free.set()
        assert b" 200 " in whole_answer(worked_on)
        for one in (silent, slow, again, worked_on):
            one.close()


def test_thresholds_do_not_share_a_run_and_none_starves() -> None:
    with running(Limits(batch=4, window=0.2)) as client, ThreadPoolExecutor(4) as pool:
        queries = ["?score_threshold=0.5", "?score_threshold=0.1"] * 2
        answers = list(pool.map(lambda query: client.predict(picture(), query), queries))
        found = [len(answer.json()["predictions"][0]["predictions"]) for answer in answers]
        assert found == [1, 2, 1, 2]
        assert sum(client.stub.batches) == 4
        assert len(client.stub.batches) >= 2


def test_the_server_ends_while_pictures_wait() -> None:
    """They are told, and nothing hangs; `running` checks that it ends."""
    answers: list[int] = []

    def ask(client: Client) -> None:
        answers.append(client.predict(picture()).status_code)

    with running() as client:
        client.stub.free.clear()
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: client.service.queue.taken == 3)
    for thread in threads:
        thread.join(20)
    assert set(answers) <= {200, 503}
    assert len(answers) == 3
