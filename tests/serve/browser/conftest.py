"""A real Chromium, the real server in a process of its own, and pages that may speak to it alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

ROOT = Path(__file__).parents[3]
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 20_000  # milliseconds for anything that is awaited; the machine may be busy


class Served:
    """The server, which can be stopped and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = "0"
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        command = [sys.executable, "-m", "tests.serve.browser.served", str(folder), self.port]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("serving on "):
                self.url = line.split()[-1].rstrip("/")
                self.port = self.url.rpartition(":")[2]
                return
        raise AssertionError("".join(said))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def ask(self, path: str, body: bytes | None = None, **query: str) -> Any:
        """The API's answer, asked for without the page."""
        request = urllib.request.Request(f"{self.url}{path}?{urlencode(query)}", data=body)
        if body is not None:
            request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    pytest.importorskip("uvicorn", reason="needs the extra `serve`")
    given = os.environ.get("RESNEST_ZOO_CHROMIUM")
    executable = given or next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip("needs Chromium: install it, or say in RESNEST_ZOO_CHROMIUM where it is")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    api.expect.set_options(timeout=_PATIENCE)
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"] if root else []
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def served(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Open pages, each in a profile of its own unless `beside` another one.

    At the end no page has asked any other host for anything, and none has had an error.
    """
    if served.process is None:  # a test that stopped it has failed
        served.start()
    contexts: list[Any] = []
    strayed: list[str] = []
    errors: list[str] = []

    def note_console(message: Any) -> None:
        # A refused request is also logged by the browser itself; that is no error of the page.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            errors.append(message.text)

    def open_one(path: str = "/", *, beside: Any = None, **options: Any) -> Any:
        if beside is None:
            contexts.append(browser.new_context(accept_downloads=True, **options))
        page = (contexts[-1] if beside is None else beside.context).new_page()
        page.set_default_timeout(_PATIENCE)
        page.on("console", note_console)
        page.on("pageerror", lambda error: errors.append(str(error)))
        own = (f"{served.url}/", "blob:", "data:")
        page.on("request", lambda one: None if one.url.startswith(own) else strayed.append(one.url))
        page.goto(served.url + path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not strayed
    assert not errors


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three pictures of shapes, in which several are found."""
    from PIL import Image

    from resnest_zoo.data import shapes

    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / f"shapes{index}.png" for index in (1, 2, 3)]
    for index, file in enumerate(files, start=1):
        Image.fromarray(shapes.draw(1, index, size=(192, 256)).image).save(file)
    return files


def drop(page: Any, *files: Path) -> None:
    """Drop files on the page, as a hand with a pointer does: by the browser's own events."""
    box = page.locator("main").bounding_box()
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 120}
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **point, "data": data})
    session.detach()


def options(page: Any, index: int = 0) -> list[str]:
    """Texts of what is listed by one of the models, once all of them are done with what is looked at."""
    from playwright.sync_api import expect

    # Not by the panes alone: one that is hidden, or not drawn anew yet, still stands as it was.
    looked_at = page.locator("#strip > li", has=page.locator("[aria-current=true]"))
    expect(looked_at).to_have_attribute("data-state", re.compile("done|failed"))
    page.evaluate("() => new Promise(requestAnimationFrame)")
    for pane in page.locator(".pane").all():
        expect(pane).to_have_attribute("aria-busy", "false")
    page.wait_for_timeout(100)  # what is drawn is drawn in the next frame
    texts: list[str] = page.get_by_role("listbox").nth(index).get_by_role("option").all_inner_texts()
    return texts


def pixels(page: Any, index: int = 0) -> dict[str, Any]:
    """Of a model's canvas: its size, how many pixels are painted, and a number that all of them change."""
    found: dict[str, Any] = (
        page.locator("canvas")
        .nth(index)
        .evaluate(
            """canvas => {
          const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let [painted, sum] = [0, 0];
          for (let i = 0; i < data.length; i += 4) {
            if (!data[i + 3]) continue;
            painted += 1;
            sum = (sum * 31 + data[i] + 3 * data[i + 1] + 5 * data[i + 2] + 7 * data[i + 3] + i) % 1e9;
          }
          return {width: canvas.width, height: canvas.height, painted, sum};
        }"""
        )
    )
    return found
