"""Whole jobs on a cluster of this machine: killed, resumed, and every picture exactly once.

Ray runs in processes of their own, which are stopped by their ids.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="pip install 'resnest-zoo[ray]'")
pytest.importorskip("pyarrow", reason="pip install 'resnest-zoo[ray]'")

import skimage.data
from PIL import Image

from tests.ray_driver import PATIENCE, ROOT, run_killed
from tests.ray_job import Deadly

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")]
COUNT = 600


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """600 of two sizes, in two folders; one is no picture, and one kills."""
    folder = tmp_path / "pictures"
    drawn = [Image.fromarray(skimage.data.coffee()), Image.fromarray(skimage.data.astronaut())]
    for number in range(12):
        picture = drawn[number % 2].rotate(30 * number)
        picture = picture.resize((150, 100) if number % 2 == 0 else (96, 96))
        for copy in range(number, COUNT, 12):
            path = folder / str(copy % 3) / f"{copy:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    (folder / "0" / "300.jpg").write_text("no picture")
    (folder / "1" / "001.jpg").rename(folder / "1" / "001-kills.jpg")
    return folder


def test_a_job_that_is_killed_again_and_again_has_every_picture_once(
    tiny: Path, pictures: Path, tmp_path: Path
) -> None:
    """A worker dies, then the driver; a picture kills its process, another one is none."""
    from resnest_zoo.integrations.ray import read_predictions
    from resnest_zoo.integrations.ray.rows import error_row, row_of

    weights = next(tiny.glob("tiny_mask-*.pth"))
    output = tmp_path / "found"
    words = [str(pictures), str(output), "--config", str(tiny / "mask.yaml"), "--weights", str(weights)]
    words += ["--part-rows", "40", "--workers", "2"]
    watched = run_killed(words, output, tmp_path / "log")
    found = read_predictions(output)
    rows = {row["id"]: row for row in found.rows()}  # which refuses two of one picture
    ids = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.jpg"))
    assert sorted(rows) == ids
    assert len(ids) == COUNT
    assert sorted(name for names in watched.values() for name in names) == ids
    assert found.errors().keys() == {"0/300.jpg", "1/001-kills.jpg"}
    assert "died 2 times" in rows["1/001-kills.jpg"]["error"]
    assert not list(output.glob(".*.tmp"))

    predictor = Deadly(str(tiny / "mask.yaml"), str(weights), [])
    left = [name for name in ids if name != "1/001-kills.jpg"]
    results = predictor.stream([str(pictures / name) for name in left], errors="yield")
    for name, result in zip(left, results, strict=True):
        failed = name == "0/300.jpg"
        expected = error_row(name, result.error) if failed else row_of(name, result.instances)
        row = {key: value for key, value in rows[name].items() if key not in ("model", "weights")}
        assert row == {key: as_plain(value) for key, value in expected.items()}, name


def as_plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_PAGE = """
import sys
import ray
from tests.test_pages import blocks, commands
from resnest_zoo.cli import main
import shlex
here = {"num_cpus": 3, "include_dashboard": False, "log_to_driver": False}
ray.init(address="local", object_store_memory=1 << 28, **here)
names = {}
for block in blocks("docs/many-machines.md", "python", "sh"):
    if block.language == "python":
        exec(compile(block.text, "docs/many-machines.md", "exec"), names)
    else:
        for command in commands(block.text):
            assert main(shlex.split(command)[1:]) == 0, command
assert len(names["found"]) == 12 and not names["found"].errors()
assert names["metrics"].ap > 0.3
assert (names["done"].written, names["again"].before, names["again"].written) == (12, 12, 0)
print("the page is right")
"""


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """Folders, shards, a resumed job and a pipeline of one's own, in one cluster."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", _PAGE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the page is right"
