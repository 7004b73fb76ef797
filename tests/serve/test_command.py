"""The command: what it refuses in one line, a real process under signals, and answers equal to `predict`."""

from __future__ import annotations

import errno
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import requests
from PIL import Image

from resnest_zoo.cli import _parser, main
from resnest_zoo.cli.serve import _build
from resnest_zoo.data import shapes
from resnest_zoo.errors import DownloadError
from resnest_zoo.registry import info
from tests.serve.running import wait_for

MODEL = "mask_rcnn_resnest14_dcn_shapes"
PANOPTIC = "panoptic_resnest14_dcn_shapes"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["serve", *words]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert refused(capsys) == "error: uvicorn not installed: pip install 'resnest-zoo[serve]'"


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(capsys, "--port", str(port))
    assert line == (
        f"error: --port {port} is taken by another program; choose another one, or 0 for any that is free"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nix"], "No model is called 'nix'"),
        (["--token", "short"], "--token: expected 16 letters or more"),
        ([MODEL, PANOPTIC, "--weights", "x.pth"], "are of one model: name one"),
        (["--set", "MODEL.MASK_ON=False"], "are of one model: name one"),
    ],
)
def test_wrong_words(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    assert expected in refused(capsys, *words)


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--port", "70000"], ["--queue", "0"], ["--batch", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *words])
        assert ended.value.code == 2
    assert "expected a number from 0 to 65535" in capsys.readouterr().err


def test_a_host_of_another_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert refused(capsys) == (
        "error: --host 127.0.0.1 --port 8000: cannot listen there: Cannot assign requested address"
    )


def test_weights_are_of_the_model_that_is_named(tiny: Path) -> None:
    file = tiny / info("tiny_mask").artifact.filename
    words = ["serve", "Tiny-Mask", "--weights", str(file), "--set", "TEST.DETECTIONS_PER_IMAGE=3"]
    args = _parser("serve").parse_args(words)
    predictor = _build(args, "tiny_mask")
    assert predictor.score_threshold == 0.05
    assert len(predictor(np.zeros((40, 60, 3), np.uint8), score_threshold=0.0)) == 3
    with pytest.raises(DownloadError):  # which that file is not of
        _build(args, "tiny_detection")


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "resnest_zoo", "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("serving on http://127.0.0.1:")
            yield server, line.split()[-1]
        finally:
            server.kill()


@pytest.mark.slow
def test_ctrl_c_ends_it_while_it_still_loads() -> None:
    with process() as (server, _):
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""


@pytest.mark.slow
def test_a_process_answers_as_predict_does_and_ends_by_sigterm(tmp_path: Path) -> None:
    pictures = []
    for number in range(2):
        pictures.append(tmp_path / f"{number}.png")
        Image.fromarray(shapes.draw(0, number).image).save(pictures[-1])
    predict = ["predict", *map(str, pictures), "-m", PANOPTIC, "-o", str(tmp_path / "found"), "-t", "0.05"]
    assert main(predict) == 0
    expected = json.loads((tmp_path / "found" / "predictions.json").read_text())
    with process(PANOPTIC) as (server, url):
        wait_for(lambda: requests.get(f"{url}health", timeout=20).json()["models"], 60)
        files = [("file", (path.name, path.read_bytes(), "image/png")) for path in pictures]
        check_equal(requests.post(f"{url}predict", files=files, timeout=60).json(), expected)
        # A stream without an end is open, and a body is half sent.
        stream = requests.get(f"{url}api/models/faster_rcnn_resnet50/events", stream=True, timeout=20)
        assert b"absent" in next(stream.iter_lines())
        half = socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])), timeout=30)
        half.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nha")
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        assert b" 503 " in half.recv(65536).splitlines()[0]
        assert server.wait(30) == 0
        half.close()
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()


def check_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """To the last digit."""
    ids = [row["id"] for row in expected["images"]]
    rows = [row for one in found["predictions"] for row in one["predictions"]]
    assert [{**row, "image_id": ids[row["image_id"]]} for row in rows] == expected["predictions"]
    segments = [one["panoptic"]["segments_info"] for one in found["predictions"]]
    assert segments == [row["segments_info"] for row in expected["panoptic"]]
    assert found["categories"] == expected["categories"]
    assert found["stuff_categories"] == expected["stuff_categories"]
